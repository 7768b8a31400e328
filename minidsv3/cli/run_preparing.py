"""`minidsv3 run` up to its first step: options to a plan, text to a run folder; or a run taken up again.

A run folder is complete before training starts, so that a kill at any later moment costs at most the steps
since the last checkpoint. `--minutes` times a few steps on a trainer that is thrown away and fixes the
number of steps: what is resumed later has a plan, not a clock.

Does: configure, read, tokenise, calibrate, evaluate the untrained model. Does not: train.

    >>> settings = Settings(Path("runs/x"), [], steps=30, changes=("dim=64", "learning_rate=0.001"))
    >>> config, plan = configure(settings)
    >>> config.dim, plan.steps, plan.learning_rate
    (64, 30, 0.001)

Next: minidsv3.cli.run_training
"""

import json
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
from rich.console import Console

from minidsv3 import __version__
from minidsv3.config import ModelConfig, TrainConfig, near
from minidsv3.machine import Machine, load_precision
from minidsv3.machine.parallel import workers
from minidsv3.show.numbers import count, counted, size
from minidsv3.tokenizer import Tokenizer
from minidsv3.training import (
    Prepared,
    RunFolder,
    SplitText,
    Trainer,
    check_new,
    evaluate,
    made_text,
    max_violation,
    plan_for_steps,
    prepare,
    read_text,
    train_tokenizer,
)
from minidsv3.training.run_folder import checkpoint_step

__all__ = [
    "Settings", "begin", "check_laptop_size", "configure", "plain_value", "reopen", "report_plan",
]  # fmt: skip

CALIBRATION_STEPS = 4
# what the end of a run wants to know of its start
FACTS = (
    "preset", "seed", "source", "note", "held_out_bytes", "untrained_bits_per_byte",
    "untrained_max_violation", "prepare_seconds",
)  # fmt: skip
MOST_PARAMETERS = 500_000_000  # five copies in memory: weights, gradient, two moments, average
MOST_TOKENS = 1_000_000  # a step


@dataclass(frozen=True)
class Settings:
    """What the user asked for."""

    out: Path
    text: list[str]
    preset: str = "nano"
    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    changes: tuple[str, ...] = ()  # field=value


def begin(settings: Settings, talk: Console) -> tuple[RunFolder, Trainer]:
    """Prepare a new run, up to its folder."""
    start = time.perf_counter()
    check_new(settings.out)
    config, plan = configure(settings)
    split = made_text(plan) if plan.synthetic else read_text(settings.text, settings.seed)
    kept = f"{size(split.training_bytes)} in {counted(len(split.training), 'file')}"
    held_out = f"{size(split.held_out_bytes)} in {counted(len(split.held_out), 'file')}"
    talk.print(f"text: {split.source}: {kept}; held out: {held_out}")
    if split.note:
        talk.print(f"  {split.note}")
    tokenizer = train_tokenizer(split, config.vocab_size)
    if tokenizer.vocab_size != config.vocab_size:
        talk.print(
            f"  the text gives {tokenizer.vocab_size} tokens, not {config.vocab_size}; so many has the model"
        )
        config = replace(config, vocab_size=tokenizer.vocab_size)
    if settings.minutes is not None:
        plan = calibrated(config, plan, split, tokenizer, settings.minutes, talk)
    data = prepare(split, tokenizer, plan)
    trainer = Trainer(config, plan, data.stream)
    report_plan(trainer, data.documents, talk)
    facts = {
        "preset": settings.preset,
        "seed": settings.seed,
        "source": split.source,
        "note": split.note,
        **untrained(trainer, data, split.held_out_bytes),
        "prepare_seconds": time.perf_counter() - start,
        "workers": workers(),
        "made_with": {"minidsv3": __version__, "python": python_version(), "numpy": np.__version__},
    }
    return RunFolder.create(settings.out, config, plan, tokenizer, data, facts), trainer


def untrained(trainer: Trainer, data: Prepared, text_bytes: int) -> dict[str, Any]:
    """Bits per byte and expert loads on the held-out text before the first step.

    Every token counts once, with less context than in the final evaluation: random weights need none.
    """
    T = trainer.plan.seq_len
    windows = [ids[i : i + T + 1] for ids in data.held_out for i in range(0, len(ids) - 1, T)]
    result = evaluate(trainer.parameters, windows, text_bytes, T)
    violation = max_violation(result.loads).tolist() if result.loads.size else []
    return {
        "held_out_bytes": text_bytes,
        "untrained_bits_per_byte": result.bits_per_byte,
        "untrained_max_violation": violation,
    }


def configure(settings: Settings) -> tuple[ModelConfig, TrainConfig]:
    """The preset's model and plan with the user's changes."""
    names = {cls: {field.name for field in fields(cls)} for cls in (ModelConfig, TrainConfig)}
    model: dict[str, Any] = {}
    training: dict[str, Any] = {"seed": settings.seed} | ({"synthetic": ""} if settings.text else {})
    for change in settings.changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"expected --set FIELD=VALUE, got {change!r}")
        if name not in names[ModelConfig] | names[TrainConfig]:
            known = sorted(names[ModelConfig] | names[TrainConfig])
            raise ValueError(f"--set: unknown field {name!r}: {near(name, known)}")
        (model if name in names[ModelConfig] else training)[name] = plain_value(text)
    if settings.minutes is not None and not 0 < settings.minutes < 10_000:
        raise ValueError(f"expected --minutes above 0 and below 10000, got {settings.minutes:g}")
    if (named := Path(str(training.get("precision", "")))).suffix == ".toml":
        training["precision"] = str(named.resolve())  # a run may be resumed from elsewhere
    config = ModelConfig.preset(settings.preset, **model)
    plan = TrainConfig.preset(settings.preset, **training)
    if settings.steps is not None:
        given = {name: training[name] for name in ("warmup_steps", "ramp_steps") if name in training}
        plan = replace(plan_for_steps(plan, settings.steps), **given)
    check_laptop_size(config, plan)
    Machine(precision=plan.precision, accumulate=plan.accumulate)  # what cannot be is told before any work
    return config, plan


def plain_value(text: str) -> Any:
    """What a user wrote behind FIELD=: JSON if it is that, else text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def check_laptop_size(config: ModelConfig, plan: TrainConfig) -> None:
    """ValueError for a model or a batch that takes more memory than a laptop has."""
    counts, tokens = config.parameter_counts(), plan.batch_sequences * plan.seq_len
    total = counts["total"] + counts["mtp"]
    if total > MOST_PARAMETERS or tokens > MOST_TOKENS:
        raise ValueError(
            f"expected a model and a batch that a laptop can train, at most {count(MOST_PARAMETERS)} "
            f"parameters and {count(MOST_TOKENS)} tokens a step, got {count(total)} and {count(tokens)}"
        )


def calibrated(
    config: ModelConfig,
    plan: TrainConfig,
    split: SplitText,
    tokenizer: Tokenizer,
    minutes: float,
    talk: Console,
) -> TrainConfig:
    """Time a few steps of the full batch on a trainer that is thrown away; fix the number of steps."""
    trial = replace(plan, steps=1 + CALIBRATION_STEPS, ramp_steps=0)
    trainer = Trainer(config, trial, prepare(split, tokenizer, trial).stream)
    trainer.step()  # the first is slow: memory is new
    reports = [trainer.step() for _ in range(CALIBRATION_STEPS)]
    trainer.close()
    per_token = sum(report.seconds for report in reports) / sum(report.tokens for report in reports)
    whole = Trainer(config, plan, trainer.batches.stream).schedule.total_sequences * plan.seq_len * per_token
    fixed = plan_for_steps(plan, max(1, round(plan.steps * minutes * 60 / whole)))
    talk.print(f"--minutes {minutes:g}: {count(round(1 / per_token))} tokens/s here, so {fixed.steps} steps")
    return fixed


def report_plan(trainer: Trainer, documents: int, talk: Console) -> None:
    """Say what is going to happen."""
    counts, plan = trainer.config.parameter_counts(), trainer.plan
    tokens = trainer.schedule.total_sequences * plan.seq_len
    stream = trainer.batches.stream.size
    talk.print(
        f"model: {count(counts['total'] + counts['mtp'])} parameters, {count(counts['active'])} a token"
    )
    if plan.precision != "fp32":
        talk.print(f"precision: {plan.precision}: {load_precision(plan.precision).title}")
    talk.print(
        f"plan: {plan.steps} steps, {count(tokens)} tokens; "
        f"stream: {count(stream)} tokens of {counted(documents, 'document')}"
        + (f", {tokens / stream:.1f} epochs" if tokens > stream else "")
    )


def reopen(path: Path, talk: Console) -> tuple[RunFolder, Trainer]:
    """Go on with a run, at its newest checkpoint."""
    run = RunFolder.open(path)
    if missing := [name for name in FACTS if name not in run.facts]:
        raise ValueError(
            f"{path / 'run.json'}: expected facts {', '.join(FACTS)}, got none of {missing[0]!r}"
        )
    trainer = run.trainer()
    talk.print(f"resuming {path} at step {trainer.steps_done} of {run.plan.steps}")
    for folder in run.checkpoints():
        if checkpoint_step(folder) > trainer.steps_done:
            talk.print(f"  {folder.name} cannot be read; its steps run again")
    if (then := run.facts.get("workers")) not in (None, workers()):
        talk.print(
            f"  it began on {then} cores and goes on with {workers()}: sums round differently in last bits"
        )
    return run, trainer
