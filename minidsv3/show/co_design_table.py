"""The co-design table: challenge, method, what it saves, the wish, what that would save.

Five columns of prose and numbers fit beside each other only on wide screens. Elsewhere a row is a small block
of its own, every figure on a line.

Does: lay out. Does not: calculate (`minidsv3.cost.co_design`).

    >>> from minidsv3.cost.co_design import Line
    >>> from minidsv3.cost.scenarios import scenario_named
    >>> from minidsv3.cost.what_if import Effect
    >>> saved = (Effect("cache of a token", "B", 3_997_696, 70_272),)
    >>> line = Line("the cache fills memory", "MLA", "", saved, "", scenario_named("stacked-dram"), (), {})
    >>> CoDesignTable([line], "v3", "h800").describe().splitlines()[1]
    'The cache fills memory. MLA: cache of a token: 4.00 MB -> 70.3 kB, / 56.9. Wish: 3D-stacked DRAM: ...'

Next: minidsv3.show.contender_table
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from minidsv3.cost.co_design import Line
from minidsv3.cost.what_if import Effect
from minidsv3.show.forms import shown
from minidsv3.show.tables import plain_table
from minidsv3.show.what_if_table import change, moved

__all__ = ["CoDesignTable", "co_design_json"]

WIDE = 116  # columns from which on it is one table
HEADS = ("challenge", "method", "what it saves", "wish", "what that would save")


@dataclass(frozen=True)
class CoDesignTable:
    """The table of a model on a machine."""

    lines: Sequence[Line]
    model: str
    hardware: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.title(), "bold cyan")
        yield from self._table() if options.max_width >= WIDE else self._blocks()
        yield Text(LEGEND, "dim")

    def title(self) -> str:
        """Whose."""
        return f"co-design of {self.model} on {self.hardware}"

    def _table(self) -> Iterator[RenderableType]:
        table = plain_table()
        for head, share in zip(HEADS, (3, 3, 5, 4, 5), strict=True):
            table.add_column(head, ratio=share, overflow="fold")
        table.expand = True
        for line in self.lines:
            table.add_row(*map(Text, _cells(line)))
            table.add_row()
        yield table

    def _blocks(self) -> Iterator[RenderableType]:
        for line in self.lines:
            challenge, method, saves, wish, would = _cells(line)
            yield Text(f"\n{challenge}", "bold")
            yield Text(method)
            yield Text(_indented(saves))
            yield Text(f"wish: {wish}")
            yield Text(_indented(would))

    def describe(self) -> str:
        """A paragraph for each row."""
        return "\n".join([f"{self.title()}.", *map(_words, self.lines)])


LEGEND = (
    "\nbefore -> after: of what it saves, without the method and with it; of the wish, today and then\n"
    "in brackets the what-if by name: `minidsv3 show what-ifs NAME`; every figure is calculated"
)


def _cells(line: Line) -> tuple[str, ...]:
    saves = "\n".join(map(_figure, line.saves)) or line.unpriced
    wish = f"{line.scenario.wish} [{line.scenario.name}]"
    return line.challenge, line.method, saves, wish, "\n".join(map(_figure, line.would_save))


def _figure(effect: Effect) -> str:
    return f"{effect.name}: {moved(effect)}, {change(effect)}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _words(line: Line) -> str:
    said = f"{line.challenge[:1].upper()}{line.challenge[1:]}. {line.method}: "
    said += _listed(line.saves) or f"{line.unpriced}. "
    would = _listed(line.would_save)
    return f"{said}Wish: {line.scenario.wish}: {would}".strip()


def _listed(effects: Iterable[Effect]) -> str:
    figures = "; ".join(map(_figure, effects))
    return f"{figures}. " if figures else ""


def co_design_json(table: CoDesignTable) -> dict[str, Any]:
    """Plain values."""
    return {
        "model": table.model,
        "hardware": table.hardware,
        "rows": [line.to_dict() for line in table.lines],
    }


def demo() -> CoDesignTable:
    """V3 on the H800."""
    from minidsv3.config import ModelConfig
    from minidsv3.cost.co_design import co_design
    from minidsv3.hardware import load_hardware

    hardware = load_hardware("h800")
    return CoDesignTable(co_design(ModelConfig.preset("v3"), hardware), "V3", hardware.name)


if __name__ == "__main__":
    shown(demo())
