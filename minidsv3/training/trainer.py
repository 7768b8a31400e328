"""The loop: batches in, steps out, and a state that a kill cannot spoil.

A step takes its sequences from the stream by their running number, computes losses and gradients, clips, lets
AdamW and the sign rule move the parameters, and reports. The state is the parameters, both moments, their
average, and the number of steps done; batches and schedules are functions of that number, so a resumed run
continues bit for bit.

Does: steps, checks for NaN, saving and loading the state. Does not: print, decide when to save.

    >>> from minidsv3.config import ModelConfig
    >>> plan = TrainConfig(steps=2, seq_len=8, batch_sequences=2, warmup_steps=1)
    >>> trainer = Trainer(ModelConfig.preset("nano"), plan, np.arange(64, dtype=np.int32))
    >>> report = trainer.step()
    >>> trainer.steps_done, report.tokens, round(report.losses["main"])
    (1, 16, 8)

Next: minidsv3.training.evaluation
"""

import json
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from minidsv3.checkpoint import read_safetensors, replacing, write_folder, write_safetensors
from minidsv3.config import ModelConfig, TrainConfig
from minidsv3.corpus import Batches
from minidsv3.machine import Machine
from minidsv3.model.parameters import Parameters
from minidsv3.model.transformer import LossOptions
from minidsv3.training.gradients import Shards, shared
from minidsv3.training.optimizer import Optimizer, max_violation, move_biases
from minidsv3.training.schedule import Schedule

__all__ = ["Diverged", "StepReport", "Trainer"]


class Diverged(ValueError):
    """A loss or a gradient is not a number; nothing was updated with it."""


@dataclass(frozen=True)
class StepReport:
    """What a step did."""

    step: int  # from 1
    losses: dict[str, float]  # nats a token
    gradient_norm: float  # before clipping
    learning_rate: float
    mtp_weight: float
    sequences: int
    tokens: int
    seconds: float
    max_violation: list[float]  # of each MoE layer, on this batch
    loads: list[list[int]]  # tokens each expert got, of each MoE layer, the MTP modules' last
    bias_range: list[float]  # lowest and highest router bias

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a line of metrics.jsonl."""
        return asdict(self)


class Trainer:
    """A training run in memory.

    stream: [S] int32 token ids, packed; cut into sequences of seq_len + 1.
    """

    def __init__(self, config: ModelConfig, plan: TrainConfig, stream: NDArray[np.int32]) -> None:
        _check_fit(config, plan, stream)
        self.config, self.plan, self.schedule = config, plan, Schedule(plan)
        self.batches = Batches(stream, plan.seq_len, 0, plan.seed)
        self.parameters = shared(Parameters.initialise(config, np.random.default_rng((plan.seed, 1))))
        self.machine = partial(Machine, precision=plan.precision, accumulate=plan.accumulate)
        self.shards = Shards(self.parameters, self.machine)
        self.gradients = self.shards.gradients
        self.optimizer = Optimizer(self.parameters, plan)
        self.steps_done = 0

    def begin_from(self, parameters: Parameters) -> None:
        """Start from these weights, which are copied, in place of random ones; before the first step."""
        self.parameters.buffer[...] = parameters.buffer
        self.optimizer.average.buffer[...] = parameters.buffer

    @property
    def finished(self) -> bool:
        """Whether the plan's steps are done."""
        return self.steps_done >= self.plan.steps

    def options(self, step: int) -> LossOptions:
        """Weights of the losses at a step."""
        weight = self.schedule.mtp_weight(step) if self.config.n_mtp_layers else 0.0
        return LossOptions(weight, self.plan.mtp_divisor, self.plan.balance_weight, self.plan.balance_counts)

    def batch(self, step: int) -> NDArray[np.intp]:
        """Token rows of a step.  -> [sequences, T + 1]."""
        first, count = int(self.schedule.consumed[step]), int(self.schedule.sequences[step])
        return self.batches.sequences(first, count).astype(np.intp)

    def close(self) -> None:
        """Let the worker processes go; another step would start others."""
        self.shards.close()

    def step(self, machine: Machine | None = None) -> StepReport:
        """One optimiser step; `Diverged`, with nothing changed, if its loss or gradient is not finite."""
        now, start = self.steps_done, time.perf_counter()
        ids, options, schedule = self.batch(now), self.options(now), self.schedule
        losses, loads = self.shards.accumulate(ids, options, machine)
        norm = self.optimizer.norm(self.gradients)
        if not (np.isfinite(losses["total"]) and np.isfinite(norm)):
            raise Diverged(self._what_diverged(losses["total"], norm))
        move_biases(self.parameters, loads, schedule.bias_speed(now))
        self.optimizer.step(self.gradients, norm, now + 1, schedule.learning_rate(now), machine, self.machine)
        self.steps_done += 1
        biases = self.parameters.buffer[self.parameters.trained :]
        return StepReport(
            step=self.steps_done,
            losses=losses,
            gradient_norm=norm,
            learning_rate=schedule.learning_rate(now),
            mtp_weight=options.mtp_weight,
            sequences=len(ids),
            tokens=len(ids) * self.plan.seq_len,
            seconds=time.perf_counter() - start,
            max_violation=[float(x) for x in max_violation(loads)] if loads.size else [],
            loads=loads.tolist(),
            bias_range=[float(biases.min()), float(biases.max())] if biases.size else [],
        )

    def _what_diverged(self, loss: float, norm: float) -> str:
        """Name the first tensor, in the order of the layers, that is not finite."""
        for what, holder in (("weight", self.parameters), ("gradient", self.gradients)):
            for name in self.config.tensor_shapes():
                if not np.isfinite(holder[name]).all():
                    at = f"step {self.steps_done + 1}: loss {loss}, norm {norm}"
                    return f"{at}: first not finite: {what} of {name}"
        return f"step {self.steps_done + 1}: loss {loss}, gradient norm {norm} (it overflows float32)"

    # ---- the state on disk ----

    def save(self, folder: Path) -> None:
        """Write the state into a folder that does not exist yet: whole or not at all."""
        partial = folder.with_name(f".{folder.name}.partial")
        _remove(partial)
        partial.mkdir(parents=True)
        try:
            write_folder(partial, self.config, dict(self.parameters))
            write_safetensors(partial / "average.safetensors", dict(self.optimizer.average))
            moments = {"m": self.optimizer.m.buffer, "v": self.optimizer.v.buffer}
            write_safetensors(partial / "optimiser.safetensors", moments)
            state = {"schema": "minidsv3.state/1", "steps_done": self.steps_done, "plan": self.plan.to_dict()}
            state["position"] = self.batches.state(self._consumed())
            with replacing(partial / "state.json") as file:
                file.write(json.dumps(state, indent=1).encode())
            _remove(folder)
            partial.replace(folder)
        except BaseException:
            _remove(partial)
            raise

    def _consumed(self) -> int:
        done = self.steps_done
        return self.schedule.total_sequences if self.finished else int(self.schedule.consumed[done])

    @classmethod
    def load(cls, folder: Path, config: ModelConfig, plan: TrainConfig, stream: NDArray[np.int32]) -> Self:
        """Continue from a saved state; ValueError if it belongs to another plan or other text."""
        self = cls(config, plan, stream)
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        self.steps_done = int(state["steps_done"])
        if TrainConfig.from_dict(state["plan"]) != plan or not 0 <= self.steps_done <= plan.steps:
            raise ValueError(f"{folder}: expected the state of this run's plan, got another plan's")
        self.batches.resume(state["position"])
        for file, holder in (("model", self.parameters), ("average", self.optimizer.average)):
            tensors = read_safetensors(folder / f"{file}.safetensors")
            for name, view in holder.items():
                view[...] = tensors[name]
        moments = read_safetensors(folder / "optimiser.safetensors")
        self.optimizer.m.buffer[...], self.optimizer.v.buffer[...] = moments["m"], moments["v"]
        return self


def _check_fit(config: ModelConfig, plan: TrainConfig, stream: NDArray[np.int32]) -> None:
    if plan.seq_len > config.max_seq_len:
        raise ValueError(f"expected seq_len <= max_seq_len={config.max_seq_len}, got {plan.seq_len}")
    if plan.seq_len <= config.n_mtp_layers:
        raise ValueError(f"expected seq_len > {config.n_mtp_layers} for the MTP modules, got {plan.seq_len}")
    if stream.size and not 0 <= int(stream.min()) <= int(stream.max()) < config.vocab_size:
        raise ValueError(
            f"expected token ids 0 .. {config.vocab_size - 1}, got {stream.min()} .. {stream.max()}"
        )


def _remove(folder: Path) -> None:
    import shutil

    if folder.exists():
        shutil.rmtree(folder)
