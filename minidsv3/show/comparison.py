"""Runs of one plan in several precisions, side by side: both loss curves, and how far they part.

The numbers come as the plain values of comparison.json, the curves as the loss of every step.

Does: lay out. Does not: compare.

    >>> from minidsv3.show.svg import plain_text
    >>> run = {"last_loss": 2.0, "relative_loss": 0.001, "largest_relative_loss": -0.002,
    ...        "held_out_bits_per_byte": 1.9, "relative_held_out": 0.0, "seconds_a_step": 0.5}
    >>> table = {"runs": {"fp8": run}, "reference": "bf16", "decay": 0.9}
    >>> print(plain_text(comparison_table(table), width=100, ascii_only=True))
    precision  last loss  against bf16  furthest  held out, bits/byte  against bf16  a step
    ---------------------------------------------------------------------------------------
    fp8           2.0000       +0.100%   -0.200%               1.9000       +0.000%  500 ms

Next: minidsv3.show.recipe_table
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from minidsv3.show.curve import Curve
from minidsv3.show.forms import shown
from minidsv3.show.numbers import duration
from minidsv3.show.tables import plain_table

__all__ = ["comparison_page", "comparison_table"]


def comparison_table(table: Mapping[str, Any]) -> Table:
    """A row a precision."""
    against, drawn = f"against {table['reference']}", plain_table()
    for name in ("precision", "last loss", against, "furthest", "held out, bits/byte", against, "a step"):
        drawn.add_column(name, justify="left" if name == "precision" else "right")
    for name, run in table["runs"].items():
        drawn.add_row(
            name,
            f"{run['last_loss']:.4f}",
            f"{run['relative_loss']:+.3%}",
            f"{run['largest_relative_loss']:+.3%}",
            f"{run['held_out_bits_per_byte']:.4f}",
            f"{run['relative_held_out']:+.3%}",
            duration(run["seconds_a_step"]),
        )
    return drawn


def comparison_page(
    table: Mapping[str, Any], losses: Mapping[str, Sequence[float]], relative: Mapping[str, Sequence[float]]
) -> RenderableType:
    """Curves, table, and what V3's report says.  losses, relative: a value a step, by precision."""
    said = table["published"]
    furthest = max((abs(value) for values in relative.values() for value in values), default=0.0)
    factor, unit = (1e2, "%") if furthest >= 1e-3 else (1e5, "thousandths of a %")
    scaled = {name: [factor * value for value in values] for name, values in relative.items()}
    return Group(
        Text("training loss, main head", style="bold cyan"),
        Curve(losses, unit="nats a token"),
        Text("\nsmoothed loss against the reference", style="bold cyan"),
        Curve(scaled, unit=f"{unit} above {table['reference']}"),
        Text(),
        comparison_table(table),
        Text(
            f"losses averaged with a decay of {table['decay']:g} a step; furthest: in the second half\n"
            f"published: below {said['relative_loss_error']:.2%} ({said['source']}: 16B and 230B parameters, "
            "about 1T tokens); so short a run of so small a model is noisier",
            style="dim",
        ),
    )


def demo() -> RenderableType:
    """Two rehearsals, in float32 and in BF16."""
    from minidsv3.machine import load_precision
    from minidsv3.show.rehearsal import rehearsed

    losses = {name: [row["losses"]["main"] for row in rehearsed(name).rows] for name in ("fp32", "bf16")}
    relative = {
        name: [a / b - 1 for a, b in zip(losses[name], losses["fp32"], strict=True)] for name in losses
    }
    runs = {
        name: {
            "last_loss": losses[name][-1],
            "relative_loss": relative[name][-1],
            "largest_relative_loss": max(relative[name], key=abs),
            "held_out_bits_per_byte": losses[name][-1] / math.log(2),
            "relative_held_out": relative[name][-1],
            "seconds_a_step": rehearsed(name).rows[-1]["seconds"],
        }
        for name in losses
    }
    recipe = load_precision("fp8")
    said = {"source": recipe.source, **recipe.tables["published"]}
    table = {"reference": "fp32", "runs": runs, "decay": 0.0, "published": said}
    return comparison_page(table, losses, {"bf16": relative["bf16"]})


if __name__ == "__main__":
    shown(demo())
