"""Experiments as tables: one row for what was measured, one column for each way, a bar beside the smallest.

Does: lay out the results of `numerics.experiments` and `training.experiments`. Does not: measure.

    >>> from minidsv3.show.svg import plain_text
    >>> table = Comparison("op", {"mla.out": {"E4M3": 0.0257, "BF16": 0.00166}})
    >>> print(plain_text(table, width=60, ascii_only=True))
    op         E4M3     BF16
    ------------------------
    mla.out  2.57 %  0.166 %

Next: minidsv3.show.rehearsal
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from minidsv3.show.chart import Bar
from minidsv3.show.forms import shown
from minidsv3.show.numbers import percent
from minidsv3.show.tables import in_parts, plain_table

__all__ = ["Bars", "Comparison", "Page"]

NARROW = 56  # columns below which bars are left out


@dataclass(frozen=True)
class Comparison:
    """Errors by what was measured and by way; ways in rows where there is no room for their columns."""

    head: str
    rows: Mapping[str, Mapping[str, float]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ways = list(next(iter(self.rows.values()), {}))
        first = max([len(self.head), *map(len, self.rows)])
        if first + sum(max(len(way), 7) + 2 for way in ways) > options.max_width:
            yield from self._in_parts(ways, options.max_width - first)
            return
        yield self._table(ways)

    def _in_parts(self, ways: Sequence[str], room: int) -> RenderResult:
        """As many ways beside each other as fit, the rest below."""
        fit = max(room // (max(max(map(len, ways)), 7) + 2), 1)
        each = -(-len(ways) // -(-len(ways) // fit))  # as evenly as they can be
        for start in range(0, len(ways), each):
            if start:
                yield Text()
            yield self._table(ways[start : start + each])

    def _table(self, ways: Sequence[str]) -> RenderableType:
        table = plain_table()
        table.add_column(self.head, no_wrap=True)
        for way in ways:
            table.add_column(way, justify="right", no_wrap=True)
        for name, errors in self.rows.items():
            table.add_row(name, *(percent(errors[way]) for way in ways))
        return table

    def describe(self) -> str:
        """A sentence for each row."""
        return "\n".join(
            f"{name}: " + ", ".join(f"{way} {percent(error)}" for way, error in errors.items())
            for name, errors in self.rows.items()
        )


@dataclass(frozen=True)
class Bars:
    """One number for each way, as text and as a bar beside it; more columns as they come."""

    head: str
    measure: str
    values: Mapping[str, float]
    beside: Mapping[str, Mapping[str, str]] | None = None  # title -> way -> text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        most, table = max(self.values.values(), default=0.0), plain_table()
        wide = options.max_width >= 80
        others = self.beside or {}
        if options.max_width < NARROW:
            rows = [{self.head: way, self.measure: percent(v)} for way, v in self.values.items()]
            rows = [row | {name: texts[row[self.head]] for name, texts in others.items()} for row in rows]
            yield from in_parts(rows, options, right=(self.measure, *others))
            return
        for name in (self.head, self.measure):
            table.add_column(name, justify="left" if name == self.head else "right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for title in others:
            table.add_column(title, justify="right", no_wrap=True)
        for way, value in self.values.items():
            bar = Bar(value / most if most else 0.0, width=24 if wide else 10)
            table.add_row(way, percent(value), bar, *(texts[way] for texts in others.values()))
        yield table

    def describe(self) -> str:
        """One sentence."""
        return f"{self.measure}: " + ", ".join(f"{way} {percent(v)}" for way, v in self.values.items())


@dataclass(frozen=True)
class Page:
    """A title, headed parts, closing remarks."""

    title: str
    parts: Mapping[str, RenderableType]
    remarks: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.title, "bold")
        for head, part in self.parts.items():
            yield Text(f"\n{head}", "bold cyan")
            yield part
        if self.remarks:
            yield Text()
        yield from (Text(remark, "dim") for remark in self.remarks)

    def describe(self) -> str:
        """The parts that can say themselves in words."""
        said = [part.describe() for part in self.parts.values() if hasattr(part, "describe")]
        return "\n".join([self.title, *said, *self.remarks])


def demo() -> Page:
    """Errors of three formats on two kinds of values."""
    import numpy as np

    from minidsv3.numerics import FORMATS
    from minidsv3.numerics.tile_errors import draw, tile_error

    names, rows = ("e5m2", "e4m3", "bf16"), dict[str, dict[str, float]]()
    for kind in ("gaussian", "outliers"):
        x = draw(kind, (16, 256), np.random.default_rng(0), 1e5)
        rows[kind] = {name: tile_error(x, FORMATS[name].round(x)).relative_rms for name in names}
    parts: dict[str, RenderableType] = {
        "errors": Comparison("values", rows),
        "Gaussian": Bars("format", "rel. RMS", rows["gaussian"]),
    }
    return Page("rounding without scales", parts, ["relative RMS errors of 4096 values"])


if __name__ == "__main__":
    shown(demo())
