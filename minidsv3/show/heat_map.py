"""A matrix as numbers if it is small, as a heat map if it is not, with labels of rows and columns.

Up to 16 x 16 every number is printed, times a power of ten that stands above them, if two parts below each
other have room for that. Larger ones become a cell a value, or a cell a block of values whose largest in
magnitude is shown. With colour and many rows half blocks show two rows in one line; otherwise a character
says what the colour says.

Does: lay out one matrix. Does not: pick one from an array of more axes (`minidsv3.show.value`).

    >>> from minidsv3.show.svg import plain_text
    >>> print(plain_text(HeatMap(np.array([[0.5, -1.25], [2.0, 0.0]]), "W"), width=60, ascii_only=True))
    W  2x2
               0      1
    row 0   0.50  -1.25
    row 1   2.00      0

Next: minidsv3.show.vector_strip
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.show.cells import Scale, coloured, cut, largest, plain_label, short
from minidsv3.show.forms import shown
from minidsv3.show.numbers import shape

__all__ = ["Axis", "HeatMap", "demo"]

FEW, MOST_ROWS, MOST_SAID = 16, 24, 12  # printed as numbers; lines of a map; rows told in words
WIDEST, PARTS = 128, 2  # columns of a map; parts below each other that a table of numbers may take


@dataclass(frozen=True)
class Axis:
    """What the rows or the columns of a matrix are, and what each is called; numbers if nothing is said."""

    name: str = "row"
    labels: Sequence[str] = ()

    def label(self, i: int, digits: int = 0, plain: bool = False) -> str:
        """What stands beside one.  digits: room for the number  plain: in ASCII"""
        name = f"{self.name} {i:>{digits}}"
        return f"{name} {plain_label(self.labels[i], plain)}" if i < len(self.labels) else name


@dataclass(frozen=True)
class HeatMap:
    """One matrix.  values: [R, C]  numbers: print them even so, or never; if it is small where None."""

    values: ArrayLike
    title: str = ""
    rows: Axis = field(default_factory=Axis)
    columns: Axis = field(default_factory=lambda: Axis("column"))
    numbers: bool | None = None

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The values as float64.  [R, C]"""
        return np.atleast_2d(np.asarray(self.values, dtype=np.float64))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        few = self.numbers
        if few is None:
            few = max(self.matrix.shape) <= FEW and self._beside(options) * PARTS >= self.matrix.shape[1]
        yield from self._numbers(options) if few else self._map(console, options)

    def _head(self, note: str = "") -> Text:
        head = Text(no_wrap=True, overflow="crop").append(self.title, "bold")
        return head.append(("  " if self.title else "") + shape(self.matrix.shape) + note)

    # ---- numbers ------------------------------------------------------------------------------------------

    def _numbers(self, options: ConsoleOptions) -> Iterator[Text]:
        """Every number, in parts below each other if their columns do not fit beside each other."""
        power, texts = printed(self.matrix)
        yield self._head(f"  times 10^{power}" if power else "")
        names, wide = self._names(len(texts), options), _widest(texts)
        parts = -(-self.matrix.shape[1] // self._beside(options))
        top = np.abs(np.nan_to_num(self.matrix)).max(initial=0.0)
        for start, stop in cut(self.matrix.shape[1], parts):
            labels = [self._column(c, wide - 1, options.ascii_only) for c in range(start, stop)]
            heads = "".join(f"{label:>{wide}}" for label in labels)
            yield Text(" " * len(names[0]) + heads, "dim", no_wrap=True, overflow="crop")
            for i, row in enumerate(texts):
                line = Text(no_wrap=True, overflow="crop").append(names[i], "dim")
                for j in range(start, stop):
                    big = top and abs(self.matrix[i, j]) == top
                    line.append(f"{row[j]:>{wide}}", "bold cyan" if big else "")
                yield line

    def _beside(self, options: ConsoleOptions) -> int:
        """How many columns of numbers fit beside each other."""
        _, texts = printed(self.matrix)
        return max((options.max_width - len(self._names(len(texts), options)[0])) // _widest(texts), 1)

    def _column(self, c: int, room: int, plain: bool) -> str:
        label = self.columns.labels[c] if c < len(self.columns.labels) else str(c)
        return plain_label(label, plain)[:room]

    def _names(self, n: int, options: ConsoleOptions) -> list[str]:
        """Labels of the rows, equally wide."""
        names = [self.rows.label(i, len(str(n - 1)), options.ascii_only) for i in range(n)]
        wide = min(max(map(len, names), default=0), max(options.max_width // 3, 6))
        return [f"{name[:wide]:{wide}}" for name in names] or [""]

    # ---- map ----------------------------------------------------------------------------------------------

    def _map(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        R, C = self.matrix.shape
        halves = coloured(console) and not options.ascii_only and R > MOST_ROWS
        lines = min(R, MOST_ROWS * (2 if halves else 1))
        names = self._names(R, options)
        room = max(min(options.max_width - len(names[0]) - 12, WIDEST), 1)
        cells = largest(self.matrix, lines, room)
        scale, (r, c) = Scale.of(cells), cells.shape
        yield self._head()
        yield Text(" " * (len(names[0]) + 1) + self._ruler(c), "dim", no_wrap=True, overflow="crop")
        firsts = [a for a, _ in cut(R, r)]
        for i in range(0, r, 2 if halves else 1):
            line = Text(no_wrap=True, overflow="crop").append(f"{names[firsts[i]]} ", "dim")
            below = cells[i + 1] if halves and i + 1 < r else None
            _cells(line, cells[i], below, scale, halves, console)
            top = cells[i : i + (2 if halves else 1)].ravel()
            most = float(top[np.where(np.isnan(top), np.inf, np.abs(top)).argmax()])
            yield line.append(f" {short(most):>9}", "dim")
        yield scale.legend(console)
        yield Text(self._legend((R, C), (r, c), halves))

    def _ruler(self, cells: int) -> str:
        first, last = f"{self.columns.name} 0", str(self.matrix.shape[1] - 1)
        return f"{first}{last:>{cells - len(first)}}" if cells > len(first) + len(last) else first

    def _legend(self, of: tuple[int, int], cells: tuple[int, int], halves: bool) -> str:
        block = (-(-of[0] // cells[0]), -(-of[1] // cells[1]))
        shown = "a cell is a value" if block == (1, 1) else f"a cell: the largest of {shape(block)} values"
        two = "; two rows a line" if halves else ""
        return f"{shown}{two}; right: a line's largest"

    def describe(self) -> str:
        """The matrix in words: where its rows are highest and lowest."""
        m = self.matrix
        said = [f"{self.title or 'a matrix'}: {shape(m.shape)}"]
        for i in range(min(len(m), MOST_SAID) if m.size else 0):
            high, low = int(np.nanargmax(_known(m[i]))), int(np.nanargmin(_known(m[i])))
            name = self.columns.name
            said.append(
                f"{self.rows.label(i)}: highest at {name} {high}, {short(m[i, high])}; "
                f"lowest at {name} {low}, {short(m[i, low])}"
            )
        if len(m) > MOST_SAID:
            said.append(f"and {len(m) - MOST_SAID} more rows")
        if lost := int((~np.isfinite(m)).sum()):
            said.append(f"{lost} are no finite numbers")
        return "\n".join(said)


def _cells(
    line: Text,
    upper: NDArray[np.float64],
    lower: NDArray[np.float64] | None,
    scale: Scale,
    halves: bool,
    console: Console,
) -> None:
    """Characters of a row, or of two rows as halves of blocks."""
    for j, value in enumerate(upper):
        if halves:
            under = f" on {scale.colour(lower[j], console)}" if lower is not None else ""
            line.append("▀", f"{scale.colour(value, console)}{under}")
        else:
            line.append(scale.glyph(value), scale.style(value, console))


def _known(row: NDArray[np.float64]) -> NDArray[np.float64]:
    """A row in which something is a number."""
    return row if not np.isnan(row).all() else np.zeros_like(row)


def printed(values: NDArray[np.float64]) -> tuple[int, list[list[str]]]:
    """A power of ten, and the values over it with as many digits as their largest needs.

    >>> printed(np.array([[0.0001, -0.00025]]))
    (-4, [['1.00', '-2.50']])
    """
    finite = np.abs(values[np.isfinite(values)])
    most = float(finite.max(initial=0.0))
    power = int(np.floor(np.log10(most))) if most else 0
    power = 0 if -1 <= power < 4 else power
    half = power // 2
    scaled = values / 10.0**half / 10.0 ** (power - half)  # in two steps, for 10 ** -324 is 0
    digits = max(2 - int(np.floor(np.log10(most / 10.0**half / 10.0 ** (power - half)))), 0) if most else 0
    return power, [[_digits(float(v), digits) for v in row] for row in scaled]


def _widest(texts: Sequence[Sequence[str]]) -> int:
    """Columns of the screen that a number takes, with those between two."""
    return max([len(text) for row in texts for text in row], default=1) + 2


def _digits(value: float, digits: int) -> str:
    return "0" if value == 0 else short(value) if not np.isfinite(value) else f"{value:.{digits}f}"


def demo() -> HeatMap:
    """The gate's matrix of a fresh nano model."""
    from minidsv3.config import ModelConfig
    from minidsv3.interpreter import Model

    model = Model.initialise(ModelConfig.preset("nano"), seed=0)
    e = model.parameters["model.layers.1.mlp.gate.weight"]
    return HeatMap(e, "e, the experts' centroids, layer 1", Axis("expert"), Axis("D"))


if __name__ == "__main__":
    shown(demo())
