"""A matrix in tiles: where it lost how much, what its scales are, and the same matrix under other recipes.

A cell of the map is a few neighbouring values of a row; its height is their error relative to their own size,
on a logarithmic ladder that the legend spells out. Bars stand between tiles; the scale stands behind its row.
A short list of values is laid out one by one instead.

Does: draw a `Quantized` beside what it was made of. Does not: quantise (`minidsv3.numerics.scaling`).

    >>> from minidsv3.numerics.scaling import quantize
    >>> from minidsv3.show.svg import plain_text
    >>> x = np.float32([[1.0, 0.1, 300.0, 0.001]])
    >>> print(plain_text(ElementTable(x, quantize(x, (1, 4))), width=60, ascii_only=True))
        x       x / s  code       back    error
    -------------------------------------------
        1     1.49333  0x3C    1.00446  +0.45 %
      0.1    0.149333  0x22   0.104632   +4.6 %
      300         448  0x7E        300    exact
    0.001  0.00149333  0x01  0.0013079  +30.8 %

Next: minidsv3.show.logfmt_tile
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from minidsv3.numerics.scaling import Quantized
from minidsv3.show.forms import shown
from minidsv3.show.numbers import counted, number, percent, shape, signed_percent
from minidsv3.show.tables import in_parts, plain_table

__all__ = ["ElementTable", "QuantisationMap", "QuantisePage", "RecipeRow", "RecipeTable"]

Values = NDArray[np.float32]
STEPS = (0.0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.2, 0.5)  # a cell of height i lost more than this share
HEIGHTS, PLAIN_HEIGHTS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
COLOURS = ("default", "blue", "cyan", "cyan", "green", "yellow", "yellow", "red", "bold red")
MOST_ROWS, MOST_VALUES = 24, 4096  # of the map; of the matrix in JSON
NARROW = 58  # columns below which the table of recipes is taken apart


@dataclass(frozen=True)
class QuantisationMap:
    """The error of every value.  x: [R, C] and its codes."""

    x: Values
    quantized: Quantized

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plain, (rows, columns) = options.ascii_only, self.x.shape
        tiles = self.quantized.scale.shape[1]
        margin = 8 * tiles + 1 if tiles <= 4 and options.max_width >= 60 + 8 * (tiles - 1) else 0
        room = options.max_width - 8 - margin
        cells = max(min((room - tiles - 1) // tiles, self.quantized.block[1]), 0)  # of a tile
        bars = cells >= 2
        cuts = self._cuts(columns, cells if bars else room, tiles if bars else 1)
        yield self._head(margin, len(cuts) + tiles * bars, tiles)
        each = -(-rows // MOST_ROWS)
        for row in range(0, rows, each):
            line = Text(no_wrap=True, overflow="crop").append(f"row {row:<3} ", "dim")
            self._cells(line, slice(row, row + each), cuts, bars, plain)
            if margin:
                self._scales(line, row, each)
            yield line
        yield self._legend(plain)

    def _cuts(self, columns: int, cells: int, tiles: int) -> list[tuple[int, int]]:
        """First and last column of each cell; none crosses from a tile into the next."""
        width = self.quantized.block[1] if tiles > 1 else columns
        edges = []
        for tile in range(tiles):
            start, stop = tile * width, min((tile + 1) * width, columns)
            n = max(min(cells, stop - start), 1)
            edges += [
                (start + (stop - start) * i // n, start + (stop - start) * (i + 1) // n) for i in range(n)
            ]
        return edges

    def _cells(
        self, line: Text, rows: slice, cuts: Sequence[tuple[int, int]], bars: bool, plain: bool
    ) -> None:
        heights, width = PLAIN_HEIGHTS if plain else HEIGHTS, self.quantized.block[1]
        back = self.quantized.dequantize()[rows]
        for start, stop in cuts:
            if bars and start % width == 0:
                line.append("|" if plain else "│", "dim")
            level = error_level(self.x[rows, start:stop], back[:, start:stop])
            line.append(heights[level], COLOURS[level])
        line.append("|" if plain else "│", "dim")

    def _scales(self, line: Text, row: int, each: int) -> None:
        height = self.quantized.block[0]
        if row % height < each:  # the first row of a block
            for s in self.quantized.scale[row // height]:
                line.append(f"{_short(float(s)):>8}")

    def _head(self, margin: int, width: int, tiles: int) -> Text:
        shown = counted(tiles, "tile") + " in a row, " + shape(self.quantized.block)
        head = Text(" " * 8, "dim").append(shown)
        return head.append(" " * max(width - len(shown) + 2, 1) + "scales") if margin else head

    def _legend(self, plain: bool) -> Text:
        heights = PLAIN_HEIGHTS if plain else HEIGHTS
        line = Text("error of a cell, of its size; blank: none\n")
        for i, step in enumerate(STEPS):
            line.append(heights[i + 1], COLOURS[i + 1]).append(f" >{step:.3g}  ".replace("0.", "."))
        line.rstrip()
        return line

    def describe(self) -> str:
        """The map in words: the worst row of tiles."""
        back = self.quantized.dequantize()
        rows = [relative_rms(self.x[i], back[i]) for i in range(len(self.x))]
        worst = int(np.argmax(rows))
        return f"{shape(self.x.shape)} values; row {worst} lost most, {percent(rows[worst])} of its size"


def relative_rms(x: Values, back: Values) -> float:
    """sqrt(sum of squared errors / sum of squares); 0 of zeros."""
    square = float(np.sum(x.astype(np.float64) ** 2))
    return float(np.sqrt(np.sum((x.astype(np.float64) - back) ** 2) / square)) if square else 0.0


def error_level(x: Values, back: Values) -> int:
    """The height of a cell, 0 .. 8."""
    share = relative_rms(x, back)
    if not np.isfinite(share):
        return len(STEPS)
    return sum(share > step for step in STEPS)


def _short(scale: float) -> str:
    mantissa, exponent = np.frexp(scale)
    if mantissa == 0.5:
        return f"2^{int(exponent) - 1}"
    return f"{scale:.2g}" if scale < 0.001 else f"{scale:.4f}"[:6]


@dataclass(frozen=True)
class ElementTable:
    """Every value with its code.  x: [1, C] and its codes."""

    x: Values
    quantized: Quantized

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = plain_table()
        for name in ("x", "x / s", "code", "back", "error"):
            table.add_column(name, justify="left" if name == "code" else "right", no_wrap=True)
        for cells in self._cells():
            table.add_row(*cells)
        yield table

    def describe(self) -> str:
        """A line for each value."""
        return "\n".join(
            f"{x}: over its scale {scaled}, code {code}, back {back}, {error}"
            for x, scaled, code, back, error in self._cells()
        )

    def _cells(self) -> Iterator[tuple[str, ...]]:
        """Value, scaled value, code, value that comes back, error; in words."""
        digits = -(-self.quantized.fmt.bits // 4)
        for x, code, back, s in self._rows():
            with np.errstate(all="ignore"):  # 0 / 0 and NaN are what some recipes come to
                parts = (float(np.float64(x) / s), back)
            scaled, returned = (number(float(f"{v:.6g}")) for v in parts)
            error = "exact" if x == back else "flushed" if back == 0 else "lost"
            if np.isfinite(back) and x != back != 0:
                error = signed_percent(back / x - 1)
            yield number(float(f"{x:.6g}")), scaled, f"0x{code:0{digits}X}", returned, error

    def _rows(self) -> list[tuple[float, int, float, float]]:
        q = self.quantized
        scales = np.repeat(q.scale[0], q.block[1])[: self.x.shape[1]]
        arrays = (self.x[0], q.codes[0], q.dequantize()[0], scales)
        return [(float(x), int(c), float(b), float(s)) for x, c, b, s in zip(*arrays, strict=True)]


# ---- recipes side by side ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecipeRow:
    """One way to quantise the matrix, and what it did."""

    name: str
    block: tuple[int, int]
    scale: str
    relative_rms: float
    median: float
    flushed: int
    top: int  # values at the format's largest
    differing: int | None  # codes that are not those of the map; None where the tiles are others


@dataclass(frozen=True)
class RecipeTable:
    """The recipes, a row each.  values: how many there are in all."""

    rows: Sequence[RecipeRow]
    values: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide, table = options.max_width >= 80, plain_table()
        if options.max_width < NARROW:
            rows = [_texts(row) for row in self.rows]
            yield from in_parts(rows, options, list(rows[0])[2:])
            return
        for name in (
            "recipe",
            "tile",
            "rel. RMS",
            *(("median",) if wide else ()),
            "to zero",
            "codes differ",
        ):
            table.add_column(name, justify="left" if name in ("recipe", "tile") else "right", no_wrap=True)
        for row in self.rows:
            zeros = (
                f"{row.flushed} ({percent(row.flushed / self.values)})"
                if row.flushed and wide
                else row.flushed
            )
            differing = "-" if row.differing is None else str(row.differing)
            errors = [_error(row.relative_rms), *([_error(row.median)] if wide else [])]
            table.add_row(row.name, shape(row.block), *errors, str(zeros), differing)
        yield table

    def describe(self) -> str:
        """A line for each recipe."""
        rows = map(_texts, self.rows)
        return "\n".join(", ".join(f"{name} {text}" for name, text in row.items()) for row in rows)


def _texts(row: RecipeRow) -> dict[str, str]:
    differing = "-" if row.differing is None else str(row.differing)
    return {
        "recipe": row.name,
        "tile": shape(row.block),
        "rel. RMS": _error(row.relative_rms),
        "to zero": str(row.flushed),
        "codes differ": differing,
    }


def _error(share: float) -> str:
    return percent(share) if np.isfinite(share) else "NaN"


@dataclass(frozen=True)
class QuantisePage:
    """Title, map or elements, table of recipes."""

    title: str
    picture: QuantisationMap | ElementTable
    rows: Sequence[RecipeRow]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.title, "bold")
        yield Text(self.about)
        yield Text()
        yield self.picture
        yield Text()
        yield Text("the same values in other tiles and by other recipes", "bold cyan")
        yield RecipeTable(self.rows, self.picture.x.size)

    def describe(self) -> str:
        """The page in words."""
        said = [self.title, self.about]
        if isinstance(self.picture, QuantisationMap):
            said.append(self.picture.describe())
        for row in self.rows:
            said.append(
                f"{row.name}, {shape(row.block)}: error {_error(row.relative_rms)}, {row.flushed} to zero"
            )
        return "\n".join(said)

    @property
    def about(self) -> str:
        """Largest magnitude and scales."""
        amax, scale = float(np.abs(self.picture.x).max()), self.picture.quantized.scale
        ends = dict.fromkeys((f"{scale.min():.4g}", f"{scale.max():.4g}"))
        span = " .. ".join(ends)
        return f"amax {number(float(f'{amax:.6g}'))}; {counted(scale.size, 'scale')}, {span}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the matrix itself if it is not too large."""
        q, x = self.picture.quantized, self.picture.x
        rows = [row.__dict__ | {"block": list(row.block)} for row in self.rows]
        values = {"x": x.tolist(), "codes": q.codes.tolist()} if x.size <= MOST_VALUES else {}
        about: dict[str, Any] = {"title": self.title, "format": q.fmt.name.upper(), "block": list(q.block)}
        about |= {"amax": float(np.abs(x).max()), "scale": q.scale.tolist()}
        return about | {"recipes": rows} | values


def demo() -> RenderableType:
    """Gaussian values with an outlier channel in tiles, and one row of them value by value."""
    from minidsv3.numerics.scaling import quantize
    from minidsv3.numerics.tile_errors import draw

    x = draw("outliers", (8, 512), np.random.default_rng(0), 1e5)
    few = np.ascontiguousarray(x[:1, :8])
    return Group(QuantisationMap(x, quantize(x, (1, 128))), Text(), ElementTable(few, quantize(few, (1, 8))))


if __name__ == "__main__":
    shown(demo())
