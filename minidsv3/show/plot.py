"""Points on two logarithmic axes: how an error grows with a length.

Each series has a mark of its own; lines of dots between its points guide the eye. Where
two series meet in a cell, the first one's mark is seen.

Does: draw and describe. Does not: fit anything.

    >>> from minidsv3.show.svg import plain_text
    >>> plot = LogPlot({"sum": [(128, 0.001), (256, 0.01), (512, 0.1)]}, "K", height=3)
    >>> print(plain_text(plot, width=40, ascii_only=True))
      10.0 % |                     .......o
             |        ......o......
     0.100 % |o.......
             +-----------------------------
              128          256          512
      o sum   K -->

Next: minidsv3.show.measurements
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.show.forms import shown
from minidsv3.show.numbers import percent

__all__ = ["LogPlot"]

MARKS, PLAIN_MARKS = "●×▲◆■○", "ox^*#@"
COLOURS = ("cyan", "magenta", "green", "yellow", "red", "blue")
LABEL = 13  # characters of a label on the vertical axis
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class LogPlot:
    """Series of (x, share), shares shown in per cent; points at zero are left out."""

    series: Mapping[str, Points]
    axis: str
    height: int = 12

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not any(y > 0 for points in self.series.values() for _, y in points):
            yield Text(f"  {', '.join(self.series)}: 0 everywhere, which a logarithm does not show", "dim")
            return
        plain, columns = options.ascii_only, max(min(options.max_width, 100) - LABEL + 2, 16)
        marks = PLAIN_MARKS if plain else MARKS
        bottom, top = self._span()
        cells = self._cells(columns, bottom, top)
        for row in range(self.height):
            yield self._row(row, columns, cells, bottom, top, marks, plain)
        rule = "+" + "-" * columns if plain else "└" + "─" * columns
        yield Text(" " * (LABEL - 4) + rule, "dim")
        yield Text(" " * (LABEL - 3) + self._ticks(columns))
        legend = Text("  ")
        for mark, colour, name in zip(marks, COLOURS, self.series, strict=False):
            legend.append(mark, colour).append(f" {name}   ")
        yield legend.append(f"{self.axis} {'-->' if plain else '→'}", "dim")

    def _span(self) -> tuple[float, float]:
        """Logarithms of the lowest and the highest value, widened to whole decades where these are near."""
        logs = [math.log10(y) for points in self.series.values() for _, y in points if y > 0] or [0.0]
        low, high = min(logs), max(logs)
        return (low, high) if high - low > 1e-9 else (low - 0.5, high + 0.5)

    def _columns(self) -> tuple[float, float]:
        xs = [math.log2(x) for points in self.series.values() for x, _ in points] or [0.0]
        return min(xs), max(max(xs), min(xs) + 1e-9)

    def _cells(self, columns: int, bottom: float, top: float) -> dict[tuple[int, int], tuple[int, bool]]:
        """(row, column) -> series and whether a point of it is there."""
        left, right = self._columns()
        cells: dict[tuple[int, int], tuple[int, bool]] = {}
        for which, points in enumerate(list(self.series.values())[: len(MARKS)]):
            placed = [
                (
                    round((math.log2(x) - left) / (right - left) * (columns - 1)),
                    (top - math.log10(y)) / (top - bottom) * (self.height - 1),
                )
                for x, y in points
                if y > 0
            ]
            for column, row in placed:
                if not cells.get((round(row), column), (0, False))[1]:
                    cells[round(row), column] = (which, True)
            for (a, p), (b, q) in pairwise(placed):
                for column in range(a + 1, b):
                    row = round(p + (q - p) * (column - a) / (b - a))
                    cells.setdefault((row, column), (which, False))
        return cells

    def _row(
        self,
        row: int,
        columns: int,
        cells: Mapping[tuple[int, int], tuple[int, bool]],
        bottom: float,
        top: float,
        marks: str,
        plain: bool,
    ) -> Text:
        value = 10 ** (top - (top - bottom) * row / max(self.height - 1, 1))
        named = row in (0, self.height - 1) or (row % 3 == 0 and self.height - 1 - row > 2)
        line = Text(no_wrap=True).append(f"{percent(value) if named else '':>{LABEL - 5}} ")
        line.append("|" if plain else "│", "dim")
        for column in range(columns):
            which, point = cells.get((row, column), (-1, False))
            if which < 0:
                line.append(" ")
            else:
                line.append(marks[which] if point else "." if plain else "·", COLOURS[which])
        line.rstrip()
        return line

    def _ticks(self, columns: int) -> str:
        """The x of the points, as many as fit."""
        left, right = self._columns()
        xs = sorted({x for points in self.series.values() for x, _ in points})
        xs, line = [x for x in xs if x == int(x)] or xs, [" "] * (columns + 6)
        free = 0
        for x in xs:
            name, at = f"{x:g}", round((math.log2(x) - left) / (right - left) * (columns - 1))
            at = min(max(at - len(name) // 2, 0), columns - len(name))
            if at >= free:
                line[at : at + len(name)] = name
                free = at + len(name) + 1
        return "".join(line).rstrip()

    def describe(self) -> str:
        """First and last point of each series."""
        said = []
        for name, points in self.series.items():
            (x, y), (z, w) = points[0], points[-1]
            said.append(f"{name}: {percent(y)} at {self.axis} = {x:g}, {percent(w)} at {z:g}")
        return "; ".join(said)


def demo() -> LogPlot:
    """What outliers cost the other values, by how much they grow."""
    from minidsv3.numerics import E4M3
    from minidsv3.numerics.tile_errors import outlier_errors

    errors = outlier_errors((1.0, 1e2, 1e4), (16, 512), E4M3, 1 / 512, seed=0)
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in errors:
        lines.setdefault(row.scaling, []).append((row.growth, row.relative_rms))
    return LogPlot(lines, "growth")


if __name__ == "__main__":
    shown(demo())
