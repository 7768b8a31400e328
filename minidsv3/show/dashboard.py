"""Training as it happens: a dashboard for a terminal, a line of text for everything else.

Both are functions of a `View`: rows of metrics.jsonl, how far the run is, and how fast. Bits per byte is an
estimate from the training loss and the held-out text's bytes a token.

Does: draw a view. Does not: refresh, read files, measure.

    >>> row = {"step": 2, "losses": {"main": 5.0, "total": 5.0}, "gradient_norm": 1.5, "learning_rate": 0.001,
    ...        "mtp_weight": 0.3, "sequences": 4, "tokens": 512, "seconds": 0.5, "max_violation": [1.0, 2.0]}
    >>> plain_line(View([row], steps=10, tokens_left=4096, bytes_per_token=3.0, bias_speed=0.01))
    'step 2/10  main 5.000  bits/byte ~2.404  lr 1.0e-03  norm 1.50  MaxVio 1.50  1,024 tokens/s  left 4 s'

Next: minidsv3.show.report
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from minidsv3.show.chart import Bar, Sparkline, Strip
from minidsv3.show.curve import Curve
from minidsv3.show.forms import shown
from minidsv3.show.numbers import count, duration

__all__ = ["View", "dashboard", "loss_series", "plain_line"]

RECENT = 20  # steps over which speed is averaged


@dataclass(frozen=True)
class View:
    """A run at a moment.  rows: of metrics.jsonl, at least one."""

    rows: Sequence[dict[str, Any]]
    steps: int
    tokens_left: int
    bytes_per_token: float
    bias_speed: float
    name: str = ""

    @property
    def last(self) -> dict[str, Any]:
        """The newest row."""
        return self.rows[-1]

    @property
    def tokens_per_second(self) -> float:
        """Over the last steps."""
        recent = self.rows[-RECENT:]
        return float(sum(row["tokens"] for row in recent) / max(sum(row["seconds"] for row in recent), 1e-9))

    @property
    def seconds_left(self) -> float:
        """At the recent speed."""
        return self.tokens_left / max(self.tokens_per_second, 1e-9)

    @property
    def bits_per_byte(self) -> float:
        """Estimated from the main loss of the last steps."""
        recent = self.rows[-RECENT:]
        nats = sum(row["losses"]["main"] for row in recent) / len(recent)
        return float(nats / math.log(2) / self.bytes_per_token)


def plain_line(view: View) -> str:
    """The view in one line."""
    row, violation = view.last, view.last["max_violation"]
    parts = [f"step {row['step']}/{view.steps}", f"main {row['losses']['main']:.3f}"]
    parts += [f"{name} {row['losses'][name + '_mean']:.3f}" for name in _depths(row)]
    parts += [
        f"bits/byte ~{view.bits_per_byte:.3f}",
        f"lr {row['learning_rate']:.1e}",
        f"norm {row['gradient_norm']:.2f}",
    ]
    if violation:
        parts.append(f"MaxVio {sum(violation) / len(violation):.2f}")
    parts += [
        f"{count(round(view.tokens_per_second))} tokens/s",
        f"left {duration(round(view.seconds_left))}",
    ]
    return "  ".join(parts)


def _depths(row: dict[str, Any]) -> list[str]:
    return [name.removesuffix("_mean") for name in row["losses"] if name.endswith("_mean")]


def loss_series(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Main loss and the mean loss of each MTP depth, by name."""
    series = {"main": [row["losses"]["main"] for row in rows]}
    for name in _depths(rows[-1]) if rows else []:
        series[name.replace("_", " ").upper()] = [row["losses"].get(f"{name}_mean", math.nan) for row in rows]
    return {name: values for name, values in series.items() if all(map(math.isfinite, values))}


def dashboard(view: View, height: int = 8) -> RenderableType:
    """The view for a terminal."""
    return Group(
        _progress(view), Curve(loss_series(view.rows), height, "nats a token"), _numbers(view), _experts(view)
    )


def _progress(view: View) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    done = view.last["step"]
    table.add_row(
        Text(view.name, style="bold", overflow="ellipsis", no_wrap=True),
        Bar(done / view.steps, width=24, style="green"),
        Text(f"step {done}/{view.steps}", no_wrap=True),
        Text(f"left {duration(round(view.seconds_left))}", style="dim", no_wrap=True),
    )
    return table


def _numbers(view: View) -> RenderableType:
    row = view.last
    facts = [
        ("bits/byte ~", f"{view.bits_per_byte:.3f}"),
        ("tokens/s ", count(round(view.tokens_per_second))),
        ("batch ", f"{row['sequences']} sequences"),
        ("learning rate ", f"{row['learning_rate']:.2e}"),
        ("gradient norm ", f"{row['gradient_norm']:.2f}"),
        ("gamma ", f"{view.bias_speed:g}"),
        ("lambda ", f"{row['mtp_weight']:g}"),
    ]
    return Columns([Text(name, style="dim").append(value, "bold") for name, value in facts], padding=(0, 2))


def _experts(view: View) -> RenderableType:
    """A line for each MoE layer: its MaxVio now and over time, its experts' loads if the rows have them."""
    table = Table.grid(padding=(0, 1))
    loads = view.last.get("loads") or []
    for i, violation in enumerate(view.last["max_violation"]):
        history = Sparkline([row["max_violation"][i] for row in view.rows], width=24, style="yellow")
        strip: RenderableType = Strip(loads[i]) if i < len(loads) else ""
        table.add_row(
            Text(f"experts {i + 1}", style="dim", no_wrap=True), f"MaxVio {violation:5.2f}", history, strip
        )
    return table


def demo() -> RenderableType:
    """A short run at its last step."""
    from minidsv3.show.rehearsal import PLAN, STEPS, rehearsed

    return dashboard(View(rehearsed().rows, STEPS, 0, 3.0, PLAN.bias_speed, "a rehearsal"))


if __name__ == "__main__":
    shown(demo())
