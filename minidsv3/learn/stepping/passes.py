"""What can be stepped through: a forward pass, a loss with its gradients, a training step, decoding.

A `Pass` knows its model, its tokens and its machine, and can be run any number of times with the same result:
nothing that it computes with changes, for a training step updates a copy. Two passes that differ in one thing
(precision, attention, hardware) are what a comparison compares.

Does: build the machine, run, name the stages (the prompt, each new token). Does not: stop.

    >>> from minidsv3.config import ModelConfig
    >>> model = Model.initialise(ModelConfig.preset("nano"), seed=0)
    >>> plain = Pass(model, (1, 2, 3))
    >>> plain.run().shape, plain.against("fp8").label, plain.against("b200").label
    ((1, 3, 2048), 'fp8', 'b200')
    >>> plain.against("absorbd")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: expected a precision, an attention or hardware to compare with, got 'absorbd': ...

Next: minidsv3.learn.stepping.history
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minidsv3.config import TrainConfig, near
from minidsv3.hardware import Hardware, hardware_names, load_hardware
from minidsv3.inference import Generation
from minidsv3.inference.decode import ATTENTION
from minidsv3.interpreter import Model
from minidsv3.machine import Machine, Row, Watch, precision_names
from minidsv3.machine.rounding import ACCUMULATE
from minidsv3.training import StepReport, Trainer

__all__ = ["KINDS", "Pass"]

KINDS = ("forward", "backward", "train", "decode", "speculative")
Say = Callable[[str], object]
"""Is told which stage begins."""


@dataclass(frozen=True)
class Pass:
    """One thing to run.

    ids: of the prompt  kind: one of `KINDS`  new: tokens to decode  drafts: to draft a step, one for each MTP
    module if None.  ValueError where they do not fit together.
    """

    model: Model
    ids: tuple[int, ...]
    kind: str = "forward"
    hardware: str | Hardware = "h800"
    precision: str = "fp32"
    accumulate: str = "ideal"
    attention: str = "absorbed"
    new: int = 2
    drafts: int | None = None
    label: str = ""  # in a comparison

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"expected a kind of pass, got {self.kind!r}: {near(self.kind, list(KINDS))}")
        if self.kind == "train" and self.model.mapped is not None:
            raise ValueError("expected a model within its memory to train, got a mapped one")

    def run(self, watch: Watch | None = None, say: Say = lambda _: None) -> Any:
        """Run it: logits, losses, a step's report or a generation, as the kind says."""
        machine = Machine(self.hardware, self.precision, accumulate=self.accumulate, watch=watch)
        if self.kind == "forward":
            say("prompt")
            return self.model.logits(np.array([self.ids]), machine)
        if self.kind == "backward":
            say("loss")
            return self.model.loss_and_gradients(np.array([self.ids]), machine=machine)[0]
        return self._train(machine, say) if self.kind == "train" else self._decode(machine, say)

    def _train(self, machine: Machine, say: Say) -> StepReport:
        """A step of the recipe's optimiser on a copy of the weights; the prompt is its one sequence."""
        say("step")
        plan = TrainConfig(
            steps=1, seq_len=len(self.ids) - 1, batch_sequences=1, ramp_steps=0, warmup_steps=0,
            precision=self.precision, accumulate=self.accumulate,
        )  # fmt: skip
        trainer = Trainer(self.model.config, plan, np.array(self.ids, np.int32))
        trainer.begin_from(self.model.parameters)
        try:
            return trainer.step(machine)
        finally:
            trainer.close()

    def _decode(self, machine: Machine, say: Say) -> Generation:
        say("prompt")
        tokens: list[int] = []

        def on_token(token: int) -> None:
            tokens.append(token)
            say(f"token {len(tokens) + 1}")

        return self.model.generate(
            list(self.ids), self.new, attention=self.attention, speculative=self.kind == "speculative",
            drafts=self.drafts, machine=machine, on_token=on_token,
        )  # fmt: skip

    def stage(self, said: str, row: Row) -> str:
        """Where in the pass a row ran: what was said last, and of a speculation which half."""
        if self.kind != "speculative":
            return said
        of_modules = row.op.startswith(("mtp.", "head.mtp")) or (row.layer or 0) >= self.model.config.n_layers
        if said == "prompt":
            return "prompt, MTP modules" if of_modules else said
        return f"{said}, {'drafting' if of_modules else 'verifying'}"

    @property
    def changes_weights(self) -> bool:
        """Whether weights are other numbers at its end."""
        return self.kind == "train"

    def against(self, words: str) -> "Pass":
        """The same pass on another machine: `fp8`, `naive`, `b200`, or several with `+` between."""
        other = self
        for word in words.split("+"):
            other = other._with(word.strip())
        return replace(other, label=words)

    def _with(self, word: str) -> "Pass":
        if word in ATTENTION:
            if self.kind not in ("decode", "speculative"):
                raise ValueError(f"expected decoding steps to compare with {word} attention: ask for some")
            return replace(self, attention=word)
        if word in ACCUMULATE:
            return replace(self, accumulate=word)
        if word in precision_names():
            accumulate = self.accumulate if "fp8" in word else "ideal"
            return replace(self, precision=word, accumulate=accumulate)
        known = [*precision_names(), *ATTENTION, *ACCUMULATE, *hardware_names()]
        if word not in known and not word.endswith(".toml"):
            expected = "expected a precision, an attention or hardware to compare with"
            raise ValueError(f"{expected}, got {word!r}: {near(word, known)}")
        return replace(self, hardware=load_hardware(word))
