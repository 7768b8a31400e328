"""Models beside each other: what they are, what training them took, on what.

Each number has beside it how many times the first model's it is. What is not on record is a dash.

Does: lay out. Does not: count (`minidsv3.cost.compare`).

    >>> from minidsv3.cost.compare import contenders
    >>> from minidsv3.show.svg import plain_text
    >>> table = ContenderTable(contenders(["v3", "qwen2.5-72b"]))
    >>> print(plain_text(table, width=60, ascii_only=True).splitlines()[7])
    cache of a token          70.3 kB     328 kB x 4.66

Next: minidsv3.show.checkpoint_table
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.cost.compare import Contender
from minidsv3.show.forms import shown
from minidsv3.show.tables import in_parts
from minidsv3.show.what_if_table import amount

__all__ = ["ContenderTable", "contenders_json"]

PARTS = {"model": "the model", "run": "its training", "cluster": "its cluster"}


@dataclass(frozen=True)
class ContenderTable:
    """A column a model, the first of which the others are measured by."""

    contenders: Sequence[Contender]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part, head in PARTS.items():
            rows = list(self._rows(part))
            if rows:
                yield Text(head, "bold cyan")
                yield from in_parts(rows, options, right=[one.name for one in self.contenders])
                yield Text()
        for line in self.remarks():
            yield Text(line, "dim")

    def _rows(self, part: str) -> Iterator[dict[str, str]]:
        names = dict.fromkeys(name for one in self.contenders for name in _facts(one, part))
        for name in names:
            yield {"": name} | {one.name: self._cell(one, part, name) for one in self.contenders}

    def _cell(self, one: Contender, part: str, name: str) -> str:
        """The fact, and how many times the first model's it is."""
        facts, first = _facts(one, part), _facts(self.contenders[0], part)
        if name not in facts:
            return "-"
        value, unit = facts[name]
        if one is self.contenders[0] or name not in first or unit == "share":
            return amount(value, unit)
        return f"{amount(value, unit)} x {value / first[name][0]:.3g}"

    def remarks(self) -> list[str]:
        """What the columns are, and by which rules they are counted."""
        said = [
            f"{one.name}: {one.attention}{f'; trained on {one.machine}' if one.machine else ''}"
            for one in self.contenders
        ]
        return [*said, f"x: so many times {self.contenders[0].name}'s", *RULES]

    def describe(self) -> str:
        """A paragraph for each model."""
        said = []
        for one in self.contenders:
            facts = [f"{name} {self._cell(one, part, name)}" for part in PARTS for name in _facts(one, part)]
            said.append(f"{one.title}: {'; '.join(facts)}.")
        return "\n".join([*said, *(f"{line}." for line in self.remarks())])


RULES = (
    "cache in BF16; FLOPs of forward and backward at 4,096 tokens, without embedding and router",
    "with the whole square: scores counted as Megatron does; otherwise their lower triangle",
    "met by a token: with embedding and head; at V3's price: every GPU hour at what V3's report pays",
)


def _facts(one: Contender, part: str) -> Mapping[str, tuple[float, str]]:
    facts: Mapping[str, tuple[float, str]] = getattr(one, part)
    return facts


def contenders_json(table: ContenderTable) -> dict[str, Any]:
    """Plain values."""
    return {"models": [one.to_dict() for one in table.contenders]}


def demo() -> ContenderTable:
    """Those of the report's table."""
    from minidsv3.cost.compare import CONTENDERS, contenders

    return ContenderTable(contenders(CONTENDERS))


if __name__ == "__main__":
    shown(demo())
