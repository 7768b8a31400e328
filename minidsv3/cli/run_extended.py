"""The end of `minidsv3 run --extend`: the model before, with YaRN alone and after each phase, side by side.

Held-out text at the new length, in bits per byte by position; for a run that learned from needles, their
heat maps too. Left in the run's folder: `model/`, the joined metrics.jsonl, report.txt, report.svg and
report.json, whose values are the same each time apart from what is under "wall".

Does: measure, write. Does not: train (`run_extending`).

    >>> SCHEMA
    'minidsv3.extension/1'

Next: minidsv3.cli.predict
"""

import json
import time
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console

from minidsv3.cli.needles import Haystacks, counting, needle_lengths, needle_maps
from minidsv3.cli.run_extending import Extension
from minidsv3.show import plain_text, svg_text
from minidsv3.show.context import context_page, context_picture
from minidsv3.show.needle import NeedleMaps
from minidsv3.training import RunFolder, bits_by_position, token_sizes
from minidsv3.training.run_folder import write_json

__all__ = ["finish_extension", "joined_metrics"]

SCHEMA = "minidsv3.extension/1"


def finish_extension(extension: Extension, talk: Console) -> dict[str, Any]:
    """Measure, write the model and the reports, give report.json back."""
    run, start = extension.run, time.perf_counter()
    last = RunFolder.open(extension.folder(len(extension.recipe.phases) - 1))
    run.write_model(last.weights("model"))
    rows = joined_metrics(extension)
    run.write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    report = {"schema": SCHEMA, **about(extension), "phases": phases(extension)}
    report["positions"] = positions(extension, talk)
    report["needle"] = needles(extension, talk).to_dict() if run.plan.synthetic else None
    report["wall"] = {"train": sum(row["seconds"] for row in rows), "measure": time.perf_counter() - start}
    run.write("report.txt", (plain_text(context_page(report, rows), width=120) + "\n").encode())
    picture = svg_text(context_picture(report), title="minidsv3 run --extend", width=90)
    run.write("report.svg", picture.encode())
    write_json(run.path / "report.json", report)
    return report


def about(extension: Extension) -> dict[str, Any]:
    """What was extended, and how."""
    run, scaling = extension.run, extension.run.config.rope_scaling
    before = 1 / np.sqrt(run.config.qk_head_dim)
    return {
        "extended": run.facts["extension"]["of"],
        "preset": run.facts["preset"],
        "seed": run.facts["seed"],
        "source": run.facts["source"],
        "note": run.facts["note"],
        "parameters": run.config.parameter_counts(),
        "trained_seq_len": extension.seq_len,
        "recipe": extension.recipe.to_dict(),
        "rope_scaling": asdict(scaling) if scaling else None,
        "softmax_scale": {"before": float(before), "after": float(run.config.softmax_scale)},
    }


def phases(extension: Extension) -> list[dict[str, Any]]:
    """What each phase did."""
    found = []
    for i, phase in enumerate(extension.recipe.phases):
        run = RunFolder.open(extension.folder(i))
        rows = run.metrics()
        table = asdict(phase) | {"tokens": sum(row["tokens"] for row in rows)}
        table |= {"learning_rate": run.plan.learning_rate, "warmup_steps": run.plan.warmup_steps}
        table |= {"first_losses": rows[0]["losses"], "last_losses": rows[-1]["losses"]}
        found.append(table | {"wall": {"seconds": sum(row["seconds"] for row in rows)}})
    return found


def joined_metrics(extension: Extension) -> list[dict[str, Any]]:
    """The rows of all phases, steps counted on, each with its phase."""
    rows: list[dict[str, Any]] = []
    for i in range(len(extension.recipe.phases)):
        done = len(rows)
        for row in RunFolder.open(extension.folder(i)).metrics():
            rows.append(row | {"step": done + row["step"], "phase": i + 1})
    return rows


def positions(extension: Extension, talk: Console) -> dict[str, Any]:
    """Bits per byte of held-out text, by position, of each model."""
    run, T = extension.run, extension.recipe.phases[-1].seq_len
    stream, table = np.concatenate(run.held_out()), dict[str, Any]()
    sizes = token_sizes(run.tokenizer(), run.config.vocab_size)
    found, overall = dict[str, list[float]](), dict[str, float]()
    for name, parameters in zip(extension.names, extension.models(), strict=True):
        with counting(f"held-out text, {name}", None, talk) as tell:
            measured = bits_by_position(parameters, stream, sizes, T, extension.seq_len, tell)
        found[name], overall[name] = measured.bits_per_byte, measured.overall
        table = {"edges": measured.edges, "bytes": measured.sizes}
    return table | {"bits_per_byte": found, "overall": overall}


# ---- needles ----------------------------------------------------------------------------------------------


def needles(extension: Extension, talk: Console) -> NeedleMaps:
    """The heat maps of every model of an extension."""
    lengths = needle_lengths(extension.seq_len, extension.recipe.phases[-1].seq_len)
    models = zip(extension.names, extension.learned, extension.models(), strict=True)
    return needle_maps(models, extension.run.tokenizer(), Haystacks(lengths), talk)
