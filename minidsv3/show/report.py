"""The report of a run: how well it predicts, how its experts share the work, what it writes, what it costs.

The numbers come as the plain values of report.json, the prices as two bills, the curve as rows of
metrics.jsonl. `report_picture` is the part of it that fits on one image.

Does: lay out. Does not: measure anything.

    >>> from minidsv3.show.svg import plain_text
    >>> table = bits_table({"main head": 2.0, "gzip -9": 4.0})
    >>> print(plain_text(table, width=60, ascii_only=True))
    predictor  bits/byte
    ----------------------------------------------
    main head      2.000  ############
    gzip -9        4.000  ########################

Next: minidsv3.show.needle
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from minidsv3.cost import Bill
from minidsv3.show.chart import Bar, Strip
from minidsv3.show.curve import Curve
from minidsv3.show.dashboard import loss_series
from minidsv3.show.forms import shown
from minidsv3.show.needle import NeedleMaps
from minidsv3.show.numbers import count, counted, duration, size
from minidsv3.show.tables import BillTable, RollUp, bill_summary, facts_table, plain_table

__all__ = ["bits_table", "report_page", "report_picture"]

WRITTEN = "<|>"  # stands where what the model wrote begins, and where it ends in front of a suffix
TAIL = 6  # lines of a prompt, or of what follows a hole, that are shown
MOST_LINES = 24  # of what the model writes
LOADS = "expert load: MaxVio = max / mean - 1; worst and last: means of 20 training steps"
VIOLATIONS = {"start": "untrained", "highest": "worst", "last": "last", "end": "held out"}


def report_page(
    report: Mapping[str, Any], rows: Sequence[dict[str, Any]], bills: Sequence[Bill]
) -> RenderableType:
    """Everything.  bills: of a training step, of a decode step."""
    training, decode = bills
    page: list[RenderableType] = [report_picture(report, rows)]
    for name, sample in report["samples"].items():
        page += [_heading(f"written text: {name}"), _sample(sample)]
    step = report["bill"]["training_tokens"]
    page += [_heading(f"the bill: one training step of {step} tokens"), bill_summary(training)]
    page += [BillTable(training), RollUp(training)]
    page += [_heading(f"the bill: one decode step behind {report['bill']['decode_cached']} cached tokens")]
    page += [bill_summary(decode), BillTable(decode, rows=8), RollUp(decode)]
    page += [_heading("cache and clock"), facts_table(_closing(report))]
    return Group(*page)


def report_picture(report: Mapping[str, Any], rows: Sequence[dict[str, Any]]) -> RenderableType:
    """Curve, bits per byte, expert loads."""
    held_out = report["held_out"]
    parts: list[RenderableType] = [
        facts_table(_opening(report)),
        _heading("training loss"),
        Curve(loss_series(rows), unit="nats a token"),
        _heading(f"held-out text: {size(held_out['bytes'])} in {counted(held_out['files'], 'file')}"),
        bits_table(report["bits_per_byte"]),
    ]
    if report["loads"]:
        parts += [_heading(LOADS), _load_table(report["max_violation"], report["loads"])]
    if report.get("needle"):
        parts += [_heading("needle in a haystack"), NeedleMaps.from_dict(report["needle"])]
    return Group(*parts)


def _heading(text: str) -> RenderableType:
    return Text(f"\n{text}", style="bold cyan")


def _opening(report: Mapping[str, Any]) -> dict[str, str]:
    counts, training = report["parameters"], report["training"]
    total = counts["total"] + counts["mtp"]
    return {
        "run": f"preset {report['preset']}, seed {report['seed']}",
        "text": f"{report['source']}" + (f" ({report['note']})" if report["note"] else ""),
        "model": f"{count(total)} parameters with MTP, {count(counts['active'])} active a token",
        "training": f"{training['steps']} steps, {count(training['tokens'])} tokens" + _precision(training),
    }


def _precision(training: Mapping[str, Any]) -> str:
    name, how = Path(training.get("precision", "fp32")).stem, training.get("accumulate", "ideal")
    return "" if name == "fp32" else f", in {name}" + (f", sums {how}" if how != "ideal" else "")


def bits_table(bits: Mapping[str, float]) -> Table:
    """Bits per byte of each predictor, as numbers and bars."""
    table, most = plain_table(), max(bits.values())
    for name, right in (("predictor", False), ("bits/byte", True), ("", False)):
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for name, value in bits.items():
        table.add_row(name, f"{value:.3f}", Bar(value / most, width=24))
    return table


def _load_table(violation: Mapping[str, Sequence[float]], loads: Sequence[Sequence[int]]) -> Table:
    """Held-out text before and after training, and the training batches between."""
    table = plain_table()
    for name in ("layer", *VIOLATIONS.values(), "experts at the end"):
        table.add_column(name, justify="right" if name in VIOLATIONS.values() else "left", no_wrap=True)
    for i, (layer, load) in enumerate(zip(violation["layers"], loads, strict=True)):
        table.add_row(str(layer), *(f"{violation[name][i]:.2f}" for name in VIOLATIONS), Strip(load))
    return table


def _sample(sample: Mapping[str, Any]) -> RenderableType:
    shown = Text("".join(sample["prompt"].splitlines(keepends=True)[-TAIL:]), style="dim")
    shown.append(WRITTEN, "bold")  # a mark, since colour alone says nothing in a file
    shown.append(_first_lines(sample["text"], MOST_LINES), "bold green")
    if "suffix" in sample:
        shown.append(WRITTEN, "bold")
        shown.append(_first_lines(sample["suffix"], TAIL), "dim")
    shown.rstrip()
    facts = {"new tokens": str(sample["new_tokens"])}
    if "expected" in sample:
        facts |= {"written": repr(sample["text"]), "in the file": repr(sample["expected"])}
    if sample["drafted"] is not None:
        rate = sample["accepted"] / max(sample["drafted"], 1)
        facts["MTP drafts"] = f"{sample['drafted']} drafted, {sample['accepted']} accepted ({rate:.0%})"
        same = "the same text both ways" if sample["same_text"] else "TWO DIFFERENT TEXTS"
        speed = sample["wall"]["tokens_per_second"]
        facts["tokens/s"] = f"{speed['plain']:.0f} plain, {speed['speculative']:.0f} with drafts; {same}"
    return Group(Padding(shown, (0, 0, 0, 2), expand=False), Text(), facts_table(facts))


def _first_lines(text: str, count: int) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(lines[:count]) + (f"({len(lines) - count} more lines)\n" if len(lines) > count else "")


def _closing(report: Mapping[str, Any]) -> dict[str, str]:
    cache, wall = report["kv_bytes_per_token"], report["wall"]
    return {
        "KV cache": f"{size(cache['MLA'])} a token in BF16; MHA of the same heads {size(cache['MHA'])}",
        "priced as": report["bill"]["rule"],
        "time": ", ".join(f"{name} {duration(seconds)}" for name, seconds in wall["stages"].items()),
    }


def demo() -> RenderableType:
    """A rehearsal as if it were a run."""
    from minidsv3.show.rehearsal import CONFIG, PLAN, rehearsed

    run = rehearsed()
    first, last = (run.rows[i] for i in (0, -1))
    bits = {
        name: row["losses"]["main"] / math.log(2) for name, row in (("step 1", first), ("last step", last))
    }
    told = (first, max(run.rows, key=lambda row: sum(row["max_violation"])), last, last)
    violation = {
        "layers": list(range(len(last["loads"]))),
        **{name: row["max_violation"] for name, row in zip(VIOLATIONS, told, strict=True)},
    }
    report = {
        "preset": "needle, made smaller",
        "seed": PLAN.seed,
        "source": "needles in haystacks",
        "note": "",
        "parameters": CONFIG.parameter_counts(),
        "training": {"steps": len(run.rows), "tokens": sum(row["tokens"] for row in run.rows)},
        "held_out": {"bytes": len(run.held_out), "files": 1},
        "bits_per_byte": bits,
        "loads": last["loads"],
        "max_violation": violation,
    }
    return report_picture(report, run.rows)


if __name__ == "__main__":
    shown(demo())
