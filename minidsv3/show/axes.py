"""Axes in characters: two logarithmic ones with lines in braille dots and marks, or a linear ruler.

A cell of braille has four dots above each other and two beside each other, so that a slope looks like one
and roofs a factor of two apart stay apart. Where only ASCII can be written a line is made of - . and /.

Does: place, draw, label, ticks at round numbers. Does not: know what it draws (`roofline`, `kv_growth`).

    >>> chart = Chart(LogScale(1, 100), LogScale(1, 100), columns=20, rows=3, plain=True)
    >>> chart.line([(1, 1), (10, 100), (100, 100)])
    >>> chart.mark(3, 9, "A", "bold"), chart.mark(3, 9, "B", "bold")
    ((1, 5), (2, 5))
    >>> for row in chart.drawn(str, str):
    ...     print(row.plain)
    100 |        /..---------
     10 |   /.A..
      1 |...  B
        +----------+--------+
         1         10     100

Next: minidsv3.show.legend
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rich.text import Text

__all__ = ["Chart", "LogScale", "ruler", "shortened", "ticks"]

BRAILLE = 0x2800  # the empty cell
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a cell: [4 rows][2 columns]
# where a mark goes if its cell is taken: rows and columns away, the nearest first, rather down than up
FIRST = ((1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (2, 0), (0, 2), (0, -2), (2, 1), (2, -1), (3, 0), (-1, 0))
NEARBY = (
    *FIRST,
    *sorted(
        ((down, right) for down in range(-4, 5) for right in range(-8, 9) if (down, right) not in FIRST),
        key=lambda at: (4 * at[0] ** 2 + at[1] ** 2, -at[0]),
    ),
)
Point = tuple[float, float]


@dataclass(frozen=True)
class LogScale:
    """Values from `low` to `high`, both above zero, on a logarithmic axis."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """How far along the axis a value lies: 0 at `low`, 1 at `high`, beyond them where it is beyond."""
        return math.log(value / self.low) / math.log(self.high / self.low)

    def decades(self) -> list[float]:
        """Powers of ten on the axis."""
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return [10.0**power for power in range(first, last + 1)]

    @property
    def length(self) -> float:
        """In decades."""
        return math.log10(self.high / self.low)


@dataclass
class Chart:
    """A grid of cells with axes left and below.  columns, rows: of the grid.  plain: in ASCII."""

    across: LogScale
    up: LogScale
    columns: int
    rows: int
    plain: bool
    _cells: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)
    _dots: dict[tuple[int, int], int] = field(default_factory=dict)
    _lines: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of the cell that a point falls into."""
        row = round((1 - self.up.share(y)) * (self.rows - 1))
        column = round(self.across.share(x) * (self.columns - 1))
        return min(max(row, 0), self.rows - 1), min(max(column, 0), self.columns - 1)

    def line(self, points: Sequence[Point], style: str = "") -> None:
        """Straight pieces from point to point, from left to right; what is outside is not drawn."""
        for (x, y), (z, w) in pairwise(points):
            start = (self.across.share(x), self.up.share(y))
            self._plain(start, (self.across.share(z), self.up.share(w)), style)
            self._braille(start, (self.across.share(z), self.up.share(w)), style)

    def _plain(self, start: Point, end: Point, style: str) -> None:
        before: int | None = None
        for column, height in _along(start, end, self.columns):
            row = round((1 - height) * (self.rows - 1))
            after = before is not None and row != before
            before = row
            if 0 <= row < self.rows:
                flat = math.isclose(start[1], end[1])
                self._lines.setdefault((row, column), ("-" if flat else "/" if after else ".", style))

    def _braille(self, start: Point, end: Point, style: str) -> None:
        tall, before = 4 * self.rows, None
        for column, height in _along(start, end, 2 * self.columns):
            # the middle of a cell's four dots is where a mark of the same value stands
            dot = round((1 - height) * (tall - 4) + 1.5)
            for y in range(dot, dot + 1) if before is None else _between(before, dot):
                if 0 <= y < tall:
                    at = (y // 4, column // 2)
                    self._dots[at] = self._dots.get(at, 0) | DOTS[y % 4][column % 2]
                    self._lines.setdefault(at, ("", style))
            before = dot

    def mark(self, x: float, y: float, letter: str, style: str, exactly: bool = False) -> tuple[int, int]:
        """Put a letter at a point, or into the nearest cell that is free; returns row and column.

        exactly: there or nowhere.
        """
        row, column = self.cell(x, y)
        for down, right in ((0, 0), *(() if exactly else NEARBY)):
            at = (row + down, column + right)
            if at not in self._cells and 0 <= at[0] < self.rows and 0 <= at[1] < self.columns:
                self._cells[at] = (letter, style)
                return at
        return row, column

    def dot(self, x: float, y: float, style: str) -> None:
        """Put a small dot at a point, unless something is there."""
        self._cells.setdefault(self.cell(x, y), ("+" if self.plain else "•", style))

    def drawn(
        self,
        value: Callable[[float], str],
        place: Callable[[float], str],
        rows: Sequence[float] = (),
        columns: Sequence[float] = (),
        margin: Sequence[tuple[float, str, str]] = (),
    ) -> list[Text]:
        """The rows, top first, the axis and its labels.

        value, place: label of a tick upwards, across. rows, columns: the ticks, else powers of ten.
        margin: (value, text, style) of labels behind the right end, one a row.
        """
        named = {self.cell(self.across.low, y)[0]: value(_whole(y)) for y in rows or self.up.decades()}
        beside = {self.cell(self.across.low, y)[0]: (text, style) for y, text, style in margin}
        for y, _, _ in margin:  # a row with a value of its own has no round one near it
            row = self.cell(self.across.low, y)[0]
            named = {at: name for at, name in named.items() if at != row or name == value(_whole(_round(y)))}
        wide = max(map(len, named.values()), default=0)
        lines = []
        for row in range(self.rows):
            line = Text(f"{named.get(row, ''):>{wide}} ", no_wrap=True, overflow="crop")
            line.append("|" if self.plain else "┤" if row in named else "│", "dim")
            for column in range(self.columns):
                line.append(*self._character(row, column))
            if row in beside:
                line.append(f" {beside[row][0]}", beside[row][1])
            line.rstrip()
            lines.append(line)
        ticks = {self.cell(x, self.up.low)[1]: place(_whole(x)) for x in columns or self.across.decades()}
        return [*lines, *self._axis(ticks, wide)]

    def _character(self, row: int, column: int) -> tuple[str, str]:
        at = (row, column)
        if at in self._cells:
            return self._cells[at]
        plain, style = self._lines.get(at, (" ", ""))
        if not self.plain:
            return (chr(BRAILLE + self._dots[at]), style) if at in self._dots else (" ", "")
        return (plain or " ", style)

    def _axis(self, ticks: dict[int, str], wide: int) -> list[Text]:
        corner, rule, tick = ("+", "-", "+") if self.plain else ("└", "─", "┴")
        line = "".join(tick if column in ticks and column else rule for column in range(self.columns))
        labels = [" "] * (self.columns + 1)
        free = 0
        for column, name in sorted(ticks.items()):
            first = min(max(column - (len(name) - 1) // 2, 0), self.columns - len(name))
            if first >= free:
                labels[first : first + len(name)] = name
                free = first + len(name) + 1
        indent = " " * (wide + 1)
        axis = Text(f"{indent}{corner}{line}", "dim", no_wrap=True, overflow="crop")
        return [axis, Text(f"{indent} {''.join(labels).rstrip()}", no_wrap=True, overflow="crop")]


def ticks(whole: float, most: int) -> list[float]:
    """Round amounts from nothing to `whole`, at most so many above nothing: steps of 1, 2 or 5.

    >>> ticks(0.34, most=4), ticks(7.0, most=8)
    ([0.0, 0.1, 0.2, 0.3], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    """
    power = math.floor(math.log10(whole)) - 1
    for digit, exponent in ((digit, power + more) for more in range(3) for digit in (1, 2, 5)):
        count = int(whole / float(f"{digit}e{exponent}") + 1e-9)
        if count <= most:
            break
    return [float(f"{digit * i}e{exponent}") for i in range(count + 1)]


def ruler(
    whole: float, columns: int, written: Callable[[float], str], plain: bool, room: int = 0
) -> tuple[str, str]:
    """A linear scale from nothing to `whole`: a line of labels, a line with the ticks below them.

    room: columns behind the scale into which a label may go on.
    """
    labels, rule, free = [" "] * (columns + room), ["-" if plain else "─"] * columns, 0
    for amount in ticks(whole, most=max(columns // 12, 2)):
        name, column = written(amount), round(amount / whole * columns)
        first = max(column - len(name) // 2, 0)
        if column < columns:
            rule[column] = "+" if plain else "┬"
        if first >= free and first + len(name) <= len(labels):
            labels[first : first + len(name)] = name
            free = first + len(name) + 1
    return "".join(labels).rstrip(), "".join(rule)


def shortened(text: str) -> str:
    """A round number with its unit, without zeros behind the point.

    >>> shortened("1.00 GB"), shortened("10.0 T"), shortened("2.50 GB"), shortened("100 MB")
    ('1 GB', '10 T', '2.5 GB', '100 MB')
    """
    number, space, unit = text.partition(" ")
    return (number.rstrip("0").rstrip(".") if "." in number else number) + space + unit


def _along(start: Point, end: Point, columns: int) -> list[tuple[int, float]]:
    """Columns of a piece that are on the grid, and how high it is in each."""
    first, last = round(start[0] * (columns - 1)), round(end[0] * (columns - 1))
    rise = (end[1] - start[1]) / max(end[0] - start[0], 1e-12)
    return [
        (column, start[1] + rise * (min(max(column / (columns - 1), start[0]), end[0]) - start[0]))
        for column in range(max(first, 0), min(last, columns - 1) + 1)
    ]


def _between(before: int, after: int) -> range:
    """Dots from the one behind `before` to `after`, both directions, so that a steep piece has no gaps."""
    if abs(after - before) <= 1:
        return range(after, after + 1)
    return range(before + 1, after + 1) if after > before else range(after, before)


def _round(value: float) -> float:
    """The power of ten that a value is, within a thirtieth; the value if it is none."""
    near = 10.0 ** round(math.log10(value))
    return near if abs(value / near - 1) < 1 / 30 else value


def _whole(value: float) -> float:
    """1000.0 as 1000, for labels."""
    return int(value) if value == int(value) else value
