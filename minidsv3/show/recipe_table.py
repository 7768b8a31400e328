"""A precision recipe as tables: every product with weights in its three directions, and everything else.

The formats come from the same functions that a trace takes them from, so the table shows what a machine of
that precision does.

Does: lay out. Does not: decide.

    >>> from minidsv3.machine import load_precision
    >>> rows = product_rows(load_precision("fp8"), 128)
    >>> rows["mla.kv_down"]["wgrad"], rows["gate.logits"]["fprop"]
    ('e4m3 128x1, e4m3 128x1 -> fp32', 'fp32, fp32 -> fp32')

Next: minidsv3.show.models
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.machine import Precision, catalogue
from minidsv3.machine.catalogue import primitives
from minidsv3.machine.operands import backward_operands, forward_operands
from minidsv3.show.forms import shown
from minidsv3.show.tables import facts_table, formats, in_parts

__all__ = ["RecipeTable", "product_rows", "recipe_facts", "recipe_json"]

DTYPES = ["float32"] * 3
SHORT = {"float32": "float32", "power-of-two": "2^n"}


def product_rows(recipe: Precision, width: int) -> dict[str, dict[str, str]]:
    """Of each product with weights: Fprop, Dgrad, Wgrad in formats; scales of activation and gradient."""
    rows: dict[str, dict[str, str]] = {}
    for op in catalogue().values():
        if op.primitive not in ("linear", "grouped_linear") or op.id.startswith("gqa."):
            continue
        forward = forward_operands(recipe, width, op, DTYPES)
        backward = (
            backward_operands(recipe, width, op, row, DTYPES) for row in primitives()["linear"].backward
        )
        said = [formats(map(str, stored)) for stored in (forward, *backward)]
        kinds = (recipe.scale(op.id), recipe.scale(op.id, "gradient"))
        scales = ", ".join(SHORT[kind] for kind in kinds) if recipe.product(op.id) == "fp8" else ""
        rows[op.id] = dict(zip(("fprop", "dgrad", "wgrad"), said, strict=True)) | {"scales": scales}
    return rows


def recipe_facts(recipe: Precision) -> dict[str, str]:
    """What is not a product: kept copies, what travels, moments, source."""
    facts = {"recipe": f"{recipe.name}: {recipe.title}", "source": recipe.source}
    if not recipe.rounds:
        return facts
    kept = {op: recipe.kept(op) for op in catalogue() if recipe.kept(op)}
    if kept:
        facts["kept for the backward"] = ", ".join(f"{op} {name}" for op, name in kept.items())
    facts["dispatch, combine"] = f"{recipe.dispatch}, {recipe.combine}"
    facts["AdamW's moments"] = f"{recipe.moments}; master weights and gradients fp32"
    higher = [op for op in catalogue() if recipe.result(op) == "fp32" and catalogue()[op].phase == "forward"]
    facts["written in fp32"] = ", ".join(higher)
    return facts


@dataclass(frozen=True)
class RecipeTable:
    """The whole recipe.  width: of tiles and blocks."""

    recipe: Precision
    width: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield facts_table(recipe_facts(self.recipe))
        yield Text()
        rows = product_rows(self.recipe, self.width)
        yield from in_parts([{"op": op} | row for op, row in rows.items()], options)
        if any(row["scales"] for row in rows.values()):
            yield Text("scales: of the activation, of its gradient; 2^n: rounded up to a power of two", "dim")

    def describe(self) -> str:
        """The table in words."""
        rows = product_rows(self.recipe, self.width)
        said = [
            f"{op}: forward {row['fprop']}, input gradient {row['dgrad']}, weight gradient {row['wgrad']}"
            for op, row in rows.items()
        ]
        facts = [f"{name}: {value}" for name, value in recipe_facts(self.recipe).items()]
        return ". ".join([*facts, *said])


def recipe_json(recipe: Precision, width: int) -> Mapping[str, Any]:
    """Plain values."""
    return {
        "name": recipe.name,
        "title": recipe.title,
        "source": recipe.source,
        "block": width,
        "tables": {name: dict(table) for name, table in recipe.tables.items()},
        "products": product_rows(recipe, width),
    }


def demo() -> RecipeTable:
    """V3's own recipe."""
    from minidsv3.machine import load_precision

    recipe = load_precision("fp8")
    return RecipeTable(recipe, recipe.fp8("block"))


if __name__ == "__main__":
    shown(demo())
