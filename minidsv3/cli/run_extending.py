"""`minidsv3 run --extend RUN`: YaRN on, training in phases at growing length, and what that was good for.

The extended run is a run folder: `start/` holds the model as it was, `phase-1/`, `phase-2/`, … a run for
each phase, and `model/` in the end the result. Text and tokenizer are those of the run that is extended; a
model folder without a run brings its tokenizer, and needs `--text`. Each phase begins from the averaged
weights of the one before; a kill costs at most the steps since its last checkpoint.

Does: begin, resume, train phase after phase. Does not: measure (`run_extended`).

    >>> recipe_for(ExtendSettings(Path("x"), Path("y"), preset="v3", steps=10), "nano").phases[1].steps
    10

Next: minidsv3.cli.run_extended
"""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
from rich.console import Console

from minidsv3 import __version__
from minidsv3.cli.models import find_model, find_tokenizer
from minidsv3.cli.run_preparing import check_laptop_size, plain_value, report_plan
from minidsv3.cli.run_training import summary, train
from minidsv3.config import ExtensionConfig, ModelConfig, TrainConfig, near
from minidsv3.interpreter import Model
from minidsv3.machine.parallel import workers
from minidsv3.model.parameters import Parameters
from minidsv3.tokenizer import Tokenizer
from minidsv3.training import (
    Prepared,
    RunFolder,
    check_new,
    extended_config,
    made_text,
    phase_plan,
    prepare,
    read_text,
    token_sizes,
)

__all__ = [
    "ExtendSettings",
    "Extension",
    "begin_extension",
    "recipe_for",
    "reopen_extension",
    "the_extension",
]


@dataclass(frozen=True)
class ExtendSettings:
    """What the user asked for."""

    base: Path
    out: Path
    text: tuple[str, ...] = ()
    preset: str | None = None
    seed: int | None = None
    steps: int | None = None  # of each phase
    changes: tuple[str, ...] = ()  # field=value


@dataclass(frozen=True)
class Base:
    """The model that is extended, and what is known of its training."""

    folder: Path
    config: ModelConfig
    plan: TrainConfig
    seq_len: int  # it was trained at
    tokenizer: Tokenizer
    preset: str
    run: RunFolder | None


@dataclass(frozen=True)
class Extension:
    """An extended run.  run: the folder of the whole, with the final config and the last phase's plan."""

    run: RunFolder
    recipe: ExtensionConfig
    seq_len: int  # trained before

    @property
    def names(self) -> list[str]:
        """What the model is called as it was, with YaRN alone, and after each phase."""
        lengths = [phase.seq_len for phase in self.recipe.phases]
        return ["as trained", "YaRN, untrained", *(f"after phase {i + 1}" for i in range(len(lengths)))]

    @property
    def learned(self) -> list[int]:
        """The longest text that the weights of each learned from."""
        return [self.seq_len, self.seq_len, *(phase.seq_len for phase in self.recipe.phases)]

    def folder(self, number: int) -> Path:
        """Where phase `number` is, from 0."""
        return self.run.path / f"phase-{number + 1}"

    def models(self) -> Iterator[Parameters]:
        """The weights of each of `names`, under the config they are measured with, one after the other."""
        start = self.run.weights("start")
        plain = replace(self.run.config, rope_scaling=None)
        yield Parameters(plain, start.buffer)
        yield start
        for i in range(len(self.recipe.phases)):
            yield RunFolder.open(self.folder(i)).weights("model")

    def train(self, talk: Console) -> bool:
        """Run what is not finished yet; False after Ctrl-C."""
        for i, phase in enumerate(self.recipe.phases):
            if (self.folder(i) / "model" / "config.json").is_file():
                continue
            talk.print(f"phase {i + 1} of {len(self.recipe.phases)}: {phase.seq_len} tokens")
            run = self._phase(i)
            trainer = run.trainer()
            if trainer.steps_done:
                talk.print(f"  from step {trainer.steps_done} of {run.plan.steps}")
            else:
                report_plan(trainer, run.facts["documents"], talk)
            if not train(run, trainer, talk):
                return False
            talk.print(summary(run))
            run.write_model(trainer.optimizer.average)
        return True

    def _phase(self, number: int) -> RunFolder:
        """The run of a phase, begun if it is not."""
        path = self.folder(number)
        if (path / "run.json").is_file():
            return RunFolder.open(path)
        shutil.rmtree(path, ignore_errors=True)  # what a kill left of a start
        before = (
            RunFolder.open(self.folder(number - 1)).weights("model") if number else self.run.weights("start")
        )
        plan, tokenizer = phase_plan(self.run.plan, self.recipe, number), self.run.tokenizer()
        data = phase_data(self.run, plan, tokenizer)
        facts = self.run.facts | {"phase": number + 1, "documents": data.documents}
        facts["held_out_bytes"] = held_out_bytes(data, tokenizer, self.run.config)
        return RunFolder.create(path, self.run.config, plan, tokenizer, data, facts, before)


def phase_data(run: RunFolder, plan: TrainConfig, tokenizer: Tokenizer) -> Prepared:
    """The text of a phase: the run's own, or made at the phase's length."""
    if plan.synthetic:
        return prepare(made_text(plan), tokenizer, plan)
    return Prepared(run.stream(), run.held_out(), run.facts["held_out_names"], run.facts["documents"])


def held_out_bytes(data: Prepared, tokenizer: Tokenizer, config: ModelConfig) -> int:
    """Bytes of the held-out text."""
    sizes = token_sizes(tokenizer, config.vocab_size)
    return int(sum(sizes[ids].sum() for ids in data.held_out))


# ---- a new one --------------------------------------------------------------------------------------------


def begin_extension(settings: ExtendSettings, talk: Console) -> Extension:
    """Check everything, prepare the text, make the folder."""
    start = time.perf_counter()
    check_new(settings.out)
    base = open_base(settings)
    recipe = recipe_for(settings, base.preset)
    config = extended_config(base.config, recipe, base.seq_len)
    plans = [phase_plan(base.plan, recipe, i) for i in range(len(recipe.phases))]
    for plan in plans:
        check_laptop_size(config, plan)
    data, facts = base_data(base, plans, settings)
    _check_lengths(data, plans[-1].seq_len)
    model = Model.load(base.folder)
    words = f"trained at {base.seq_len} tokens, to {plans[-1].seq_len} by YaRN with factor {recipe.factor:g}"
    talk.print(f"extending {base.folder}, {words}")
    facts |= {
        "preset": base.preset,
        "seed": base.plan.seed,
        "held_out_bytes": held_out_bytes(data, base.tokenizer, config),
        "documents": data.documents,
        "prepare_seconds": time.perf_counter() - start,
        "workers": workers(),
        "made_with": {"minidsv3": __version__, "python": python_version(), "numpy": np.__version__},
        "extension": {"of": str(settings.base), "recipe": recipe.to_dict(), "seq_len": base.seq_len},
    }
    weights = Parameters(base.config, np.asarray(model.parameters.buffer))
    run = RunFolder.create(settings.out, config, plans[-1], base.tokenizer, data, facts, weights)
    return Extension(run, recipe, base.seq_len)


def open_base(settings: ExtendSettings) -> Base:
    """What is to be extended; ValueError if it is no finished model or was extended before."""
    folder = find_model(settings.base)
    tokenizer = Tokenizer.load(find_tokenizer(folder))
    changes: dict[str, Any] = {} if settings.seed is None else {"seed": settings.seed}
    changes |= {"synthetic": ""} if settings.text else {}
    if (folder.parent / "run.json").is_file() and folder.name == "model":
        run = RunFolder.open(folder.parent)
        if "extension" in run.facts:
            raise ValueError(f"expected a run that is not extended yet, got {run.path}, which is")
        plan = replace(run.plan, **changes)
        preset = settings.preset or run.facts["preset"]
        return Base(folder, run.config, plan, plan.seq_len, tokenizer, preset, run)
    config = Model.load(folder).config
    preset = settings.preset or "nano"
    plan = TrainConfig.preset(preset, **changes)
    return Base(folder, config, plan, config.max_seq_len, tokenizer, preset, None)


def recipe_for(settings: ExtendSettings, preset: str) -> ExtensionConfig:
    """The preset's recipe with the user's changes."""
    known, changes = sorted(field.name for field in fields(ExtensionConfig)), dict[str, Any]()
    for change in settings.changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"expected --set FIELD=VALUE, got {change!r}")
        if name not in known:
            raise ValueError(f"--set with --extend: unknown field {name!r}: {near(name, known)}")
        changes[name] = plain_value(text)
    recipe = ExtensionConfig.preset(settings.preset or preset, **changes)
    if settings.steps is None:
        return recipe
    if settings.steps < 1:
        raise ValueError(f"expected --steps >= 1, got {settings.steps}")
    return replace(recipe, phases=tuple(replace(phase, steps=settings.steps) for phase in recipe.phases))


def base_data(
    base: Base, plans: list[TrainConfig], settings: ExtendSettings
) -> tuple[Prepared, dict[str, Any]]:
    """The text to learn from and to measure on, and where it came from."""
    longest = plans[-1]
    if settings.text:
        split = read_text(settings.text, longest.seed)
        thirstiest = max(plans, key=lambda plan: plan.steps * plan.batch_sequences * plan.seq_len)
        data = prepare(split, base.tokenizer, thirstiest)
        return data, {"source": split.source, "note": split.note}
    if base.run is None:
        raise ValueError(
            f"expected --text with --extend {base.folder}, a model without a run's text, got none"
        )
    facts = {name: base.run.facts[name] for name in ("source", "note")}
    if longest.synthetic:
        return prepare(made_text(longest), base.tokenizer, longest), facts
    documents = int(np.count_nonzero(base.run.stream() == base.tokenizer.eos))
    names = base.run.facts["held_out_names"]
    return Prepared(base.run.stream(), base.run.held_out(), names, documents), facts


def _check_lengths(data: Prepared, seq_len: int) -> None:
    """The text must fill one sequence of the last phase, learned from and held out."""
    held_out = sum(map(len, data.held_out))
    for what, tokens in (("to learn from", data.stream.size), ("held out", held_out)):
        if tokens <= seq_len:
            raise ValueError(
                f"expected more than {seq_len} tokens of text {what}, the last phase's length, got {tokens}: "
                "give more by --text, or shorter phases by --set phases=..."
            )


# ---- one that is there ------------------------------------------------------------------------------------


def the_extension(path: Path) -> Path | None:
    """The folder of the extended run that a path is, or is a phase of; None if it is neither."""
    if not (path / "run.json").is_file():
        return None
    run = RunFolder.open(path)
    return run.whole if "extension" in run.facts else None


def reopen_extension(path: Path) -> Extension:
    """Go on with an extended run, or look at one."""
    run = RunFolder.open(path)
    try:
        said = run.facts["extension"]
        recipe, seq_len = ExtensionConfig.from_dict(said["recipe"]), int(said["seq_len"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path / 'run.json'}: expected the facts of an extension, got {error}") from error
    return Extension(run, recipe, seq_len)
