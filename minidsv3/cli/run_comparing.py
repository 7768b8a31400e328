"""`minidsv3 run --compare bf16,fp8`: the same run in several precisions, and how far their losses part.

Each precision is a run of its own below one folder, with the same text, seed, tokenizer, order and plan. The
first is the reference. Losses of single steps are noisy, so both curves are averaged with a decay (0.9, ours)
before one is divided by the other; held-out text is measured once at the end. V3's report puts the relative
loss error of FP8 against BF16 below 0.25 %, for 16B and 230B parameters over about 1T tokens (section B.1).

Does: begin, resume, compare. Does not: draw (`minidsv3.show.comparison`).

    >>> smooth([4.0, 2.0, 2.0], 0.5)
    [4.0, 2.6666666666666665, 2.2857142857142856]

Next: minidsv3.cli.run_extending
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from minidsv3.cli.run_preparing import Settings, begin, reopen
from minidsv3.cli.run_results import finish
from minidsv3.cli.run_training import summary, train
from minidsv3.hardware import Hardware
from minidsv3.machine import load_precision
from minidsv3.training import check_new
from minidsv3.training.run_folder import write_json

__all__ = ["Comparison", "Curves", "begin_comparison", "finish_comparison", "reopen_comparison", "smooth"]

FILE, SCHEMA = "comparison.json", "minidsv3.comparison/1"
DECAY = 0.9  # of the running mean of the losses


@dataclass(frozen=True)
class Comparison:
    """Runs of the same plan in several precisions, each in a folder named like it."""

    path: Path
    settings: Settings
    precisions: tuple[str, ...]

    def folder(self, precision: str) -> Path:
        """The run's folder."""
        return self.path / Path(precision).stem

    def train(self, hardware: Hardware, talk: Console) -> bool:
        """Run what is not finished yet; False after Ctrl-C."""
        for precision in self.precisions:
            folder = self.folder(precision)
            if (folder / "report.json").is_file():
                continue
            talk.print(f"precision {precision}: {load_precision(precision).title}")
            if (folder / "run.json").is_file():
                run, trainer = reopen(folder, talk)
            else:
                shutil.rmtree(folder, ignore_errors=True)  # what a kill left of a start
                changes = (*self.settings.changes, f"precision={precision}")
                run, trainer = begin(replace(self.settings, out=folder, changes=changes), talk)
            if not train(run, trainer, talk):
                return False
            talk.print(summary(run))
            finish(run, trainer, hardware, talk)
        return True


def begin_comparison(path: Path, settings: Settings, precisions: Sequence[str]) -> Comparison:
    """A new comparison; ValueError for fewer than two precisions, one that is unknown, or one given twice."""
    if settings.minutes is not None:
        raise ValueError("expected --steps with --compare (timed runs would differ in length), got --minutes")
    names = [name.strip() for name in precisions]
    if len(names) < 2 or len({Path(name).stem for name in names}) < len(names):
        raise ValueError(f"expected two or more different precisions A,B, got {','.join(precisions)!r}")
    for name in names:
        load_precision(name)
    check_new(path)
    path.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(path, settings, tuple(names))
    _write(comparison, {})
    return comparison


def reopen_comparison(path: Path) -> Comparison:
    """A comparison that was interrupted, or one that is to be shown again."""
    table = json.loads((path / FILE).read_text(encoding="utf-8"))
    if table.get("schema") != SCHEMA:
        raise ValueError(f"{path / FILE}: expected schema {SCHEMA!r}, got {table.get('schema')!r}")
    given = dict(table["settings"])
    given |= {"out": path, "changes": tuple(given["changes"])}
    return Comparison(path, Settings(**given), tuple(table["precisions"]))


def _write(comparison: Comparison, results: dict[str, Any]) -> dict[str, Any]:
    settings = asdict(comparison.settings) | {"out": str(comparison.path)}
    table = {"schema": SCHEMA, "precisions": list(comparison.precisions), "settings": settings, **results}
    write_json(comparison.path / FILE, table)
    return table


@dataclass(frozen=True)
class Curves:
    """A value a step, by precision."""

    losses: dict[str, list[float]]
    relative: dict[str, list[float]]  # smoothed, against the reference, minus 1


def finish_comparison(comparison: Comparison) -> tuple[dict[str, Any], Curves]:
    """Plain values for JSON, and what is drawn."""
    names = [Path(precision).stem for precision in comparison.precisions]  # a recipe's file by its name
    losses = {name: _losses(comparison.path / name) for name in names}
    held_out = {name: _held_out(comparison.path / name) for name in names}
    reference = names[0]
    errors = {name: relative(losses[name], losses[reference]) for name in names}
    runs = {
        name: {
            "last_loss": smooth(losses[name], DECAY)[-1],
            "held_out_bits_per_byte": held_out[name],
            "seconds_a_step": _seconds(comparison.path / name),
            "relative_loss": errors[name][-1],
            "largest_relative_loss": max(errors[name][len(errors[name]) // 2 :], key=abs),
            "relative_held_out": held_out[name] / held_out[reference] - 1,
        }
        for name in names
    }
    published = dict(load_precision("fp8").tables["published"]) | {"source": "DeepSeek-V3 report, B.1"}
    results = {"reference": reference, "decay": DECAY, "runs": runs, "published": published}
    return _write(comparison, results), Curves(losses, {name: errors[name] for name in names[1:]})


def relative(losses: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Smoothed losses over the reference's, minus 1, at every step."""
    pairs = zip(smooth(losses, DECAY), smooth(reference, DECAY), strict=True)
    return [a / b - 1 for a, b in pairs]


def smooth(values: Sequence[float], decay: float) -> list[float]:
    """Running mean with a decay a step, without a start-up bias."""
    total, weight, means = 0.0, 0.0, []
    for value in values:
        total, weight = decay * total + value, decay * weight + 1
        means.append(total / weight)
    return means


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def _losses(folder: Path) -> list[float]:
    return [row["losses"]["main"] for row in _rows(folder)]


def _seconds(folder: Path) -> float:
    """Median of the second half, when the batch is full."""
    times = sorted(row["seconds"] for row in _rows(folder)[len(_rows(folder)) // 2 :])
    return float(times[len(times) // 2])


def _held_out(folder: Path) -> float:
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return float(report["bits_per_byte"]["main head"])
