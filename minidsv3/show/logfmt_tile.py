"""One tile in LogFMT: its levels octave by octave beside the float formats', its codes, its errors.

LogFMT spreads its levels evenly over the octaves that the tile spans, few or many; a float format has the
same number in each until it runs out of exponents. An octave is counted down from the tile's largest value.

Does: count levels, lay out codes. Does not: encode (`minidsv3.numerics.logfmt`).

    >>> tile = np.float32([[8.0, 4.0, 1.0, 0.5]])
    >>> levels_by_octave(levels_of(LogFMT(bits=4), tile), 8.0, 4)          # and 0.5, where the fifth begins
    [2, 1, 2, 1]
    >>> levels_by_octave(float_levels(E4M3, 8.0), 8.0, 4)
    [8, 8, 8, 8]

Next: minidsv3.show.accumulator
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from minidsv3.numerics.formats import E4M3, E5M2, NumberFormat
from minidsv3.numerics.logfmt import LogFMT
from minidsv3.numerics.tile_errors import TileError
from minidsv3.show.forms import shown
from minidsv3.show.measurements import Bars
from minidsv3.show.numbers import number, signed_percent
from minidsv3.show.tables import facts_table, in_parts

__all__ = ["LogFMTPage", "float_levels", "levels_by_octave", "levels_of"]

Values = NDArray[np.float32]
MOST_OCTAVES, MOST_ELEMENTS = 12, 12
OPEN = {
    "paper": "the paper leaves open what zeros do: here they do not count for the smallest magnitude",
    "deepep": "DeepEP's published encoder, n = 10 there: a zero counts as the smallest, ends travel in BF16",
}


def levels_of(fmt: LogFMT, tile: Values) -> NDArray[np.float64]:
    """The magnitudes that the tile's codes stand for, the lowest first.  tile: [1, C]."""
    encoded = fmt.encode(tile)
    low, step = float(encoded.log_min[0, 0]), float(encoded.step[0, 0])
    return np.unique(np.exp2(low + step * np.arange(fmt.top)))


def float_levels(fmt: NumberFormat, amax: float) -> NDArray[np.float64]:
    """The magnitudes of a format scaled so that its largest is amax."""
    values = fmt.decode(np.arange(1, fmt.top + 1).astype(fmt.dtype)).astype(np.float64)
    return values * (amax / fmt.largest)


def levels_by_octave(levels: NDArray[np.float64], amax: float, octaves: int) -> list[int]:
    """How many levels lie in (amax/2, amax], in the octave below, and so on."""
    down = np.floor(-np.log2(levels / amax) + 1e-6).astype(int)  # levels meant for amax may be off by an ulp
    return [int(np.count_nonzero(down == i)) for i in range(octaves)]


@dataclass(frozen=True)
class LogFMTPage:
    """A tile and what codecs made of it.  errors: by codec."""

    said: str
    tile: Values  # [1, C]
    fmt: LogFMT
    errors: Mapping[str, TileError]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.title, "bold")
        yield facts_table(self.facts())
        sent = not self.fmt.encode(self.tile).plain.any()
        if sent and (columns := self._columns()):
            yield Text("\nlevels in each octave below the largest value", "bold cyan")
            yield from _octave_table(columns, options)
        if sent:
            yield Text(f"\nthe first {min(self.tile.size, MOST_ELEMENTS)} values", "bold cyan")
            yield from in_parts(self._elements(), options, ("x", "level", "back", "error"))
        yield Text("\nthe tile's error", "bold cyan")
        yield self._bars()
        yield Text(f"\n{OPEN[self.fmt.convention]}", "dim")

    @property
    def title(self) -> str:
        """Which codec, by whose rule, of what."""
        return f"LogFMT-{self.fmt.bits}, {self.fmt.convention} convention, of {self.said}"

    def facts(self) -> dict[str, str]:
        """What is sent with the tile, and what follows from it."""
        encoded = self.fmt.encode(self.tile)
        low, step = float(encoded.log_min[0, 0]), float(encoded.step[0, 0])
        if encoded.plain.any():
            return {"sent as": "BF16: not every tile of the chunk is below 1 with two magnitudes"}
        if not step:
            return {"sent as": "no step: zeros have code 0, the one magnitude has the top code"}
        spaced = f"{number(step)} of an octave: levels {2**step - 1:.2%} apart".replace("%", " %")
        return {
            "log2 of the lowest level": number(low),
            "step": spaced,
            "levels": f"{self.fmt.top} of each sign, and zero",
            "bits a value": f"{self.fmt.bits_per_value:g}, the tile's two numbers included",
        }

    def _columns(self) -> dict[str, list[int]]:
        amax = float(np.abs(self.tile).max())
        if not amax:
            return {}
        smallest = float(np.abs(self.tile)[self.tile != 0].min())
        octaves = min(int(np.floor(np.log2(amax / smallest) + 1e-6)) + 1, MOST_OCTAVES)
        magnitudes = np.abs(self.tile[self.tile != 0]).astype(np.float64)
        columns = {"values": levels_by_octave(magnitudes, amax, octaves)}
        for bits in dict.fromkeys((self.fmt.bits, 8, 10)):
            other = self.fmt if bits == self.fmt.bits else replace(self.fmt, bits=bits)
            columns[f"LogFMT-{bits}"] = levels_by_octave(levels_of(other, self.tile), amax, octaves)
        for fmt in (E4M3, E5M2):
            columns[fmt.name.upper()] = levels_by_octave(float_levels(fmt, amax), amax, octaves)
        return columns

    def _elements(self) -> list[dict[str, str]]:
        encoded, rows = self.fmt.encode(self.tile), []
        back = self.fmt.decode(encoded)[0]
        for x, code, y in list(zip(self.tile[0], encoded.codes[0], back, strict=True))[:MOST_ELEMENTS]:
            bits = f"{int(code):0{self.fmt.bits}b}"
            level = str(int(code) & self.fmt.top)
            row = {"x": f"{x:.5g}", "sign.code": f"{bits[0]}.{bits[1:]}", "level": level}
            error = "exact" if x == y else "flushed" if y == 0 else signed_percent(float(y / x - 1))
            rows.append(row | {"back": f"{y:.5g}", "error": error})
        return rows

    def _bars(self) -> Bars:
        shares = {name: error.relative_rms for name, error in self.errors.items()}
        return Bars("codec", "rel. RMS", shares)

    def describe(self) -> str:
        """The page in words."""
        facts = "; ".join(f"{name}: {value}" for name, value in self.facts().items())
        return f"{self.title}\n{facts}\n{self._bars().describe()}\n{OPEN[self.fmt.convention]}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        encoded = self.fmt.encode(self.tile)
        return {
            "bits": self.fmt.bits,
            "convention": self.fmt.convention,
            "bits_per_value": self.fmt.bits_per_value,
            "x": self.tile[0].tolist(),
            "codes": encoded.codes[0].tolist(),
            "log_min": float(encoded.log_min[0, 0]),
            "step": float(encoded.step[0, 0]),
            "back": self.fmt.decode(encoded)[0].tolist(),
            "levels_by_octave": self._columns(),
            "errors": {name: error.to_dict() for name, error in self.errors.items()},
        }


def _octave_table(columns: Mapping[str, list[int]], options: ConsoleOptions) -> Iterator[RenderableType]:
    """A row for each octave, the highest first."""
    rows = []
    for i in range(len(columns["values"])):
        octave = f"max/2^{i + 1} .. " + (f"max/2^{i}" if i else "max")
        rows.append({"octave": octave} | {name: str(counts[i]) for name, counts in columns.items()})
    return in_parts(rows, options, list(columns))


def demo() -> LogFMTPage:
    """A Gaussian tile in LogFMT-8."""
    from minidsv3.numerics.tile_errors import tile_error

    tile, fmt = np.random.default_rng(0).standard_normal((1, 128), np.float32), LogFMT(bits=8)
    return LogFMTPage("a Gaussian tile", tile, fmt, {"LogFMT-8": tile_error(tile, fmt.round(tile))})


if __name__ == "__main__":
    shown(demo())
