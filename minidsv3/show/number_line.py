"""All values of a format on a line: how many there are in each octave, and where they lie.

The profile has a column for an octave, [2^k, 2^(k+1)): as high as the octave's values have bits of fraction,
with the number below. A normal octave has them all; below the smallest normal number each octave has one
less, down to the single smallest value. The linear line has a tick for every value.

Does: count values by their codes, which are in the order of the magnitudes, and draw. Does not: round.

    >>> from minidsv3.numerics import FP16
    >>> [int(n) for n in values_by_octave(FP16, [-24, -23, -14, 0, 15, 16])]
    [1, 2, 1024, 1024, 1024, 0]
    >>> from minidsv3.show.svg import plain_text
    >>> print(plain_text(Profile([FP16], -24, -9), width=60, ascii_only=True))
             2^-24       2^-20       2^-16       2^-12
             |           |           |           |
    FP16     ...___---===+++***###@@@@@@@@@@@@@@@@@@@@@@@@@@@>
             0  1  2  3  4  5  6  7  8  9  a  a  a  a  a  a

Next: minidsv3.show.format_table
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.numerics.formats import NumberFormat
from minidsv3.show.forms import shown
from minidsv3.show.numbers import number

__all__ = ["LinePage", "LinearLine", "Profile", "octaves_of", "values_between", "values_by_octave"]

LABEL = 8  # characters in front of a line
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"  # of bits of fraction
HEIGHTS, PLAIN_HEIGHTS = "▁▂▃▄▅▆▇█", "._-=+*#@"
COLOURS = ("cyan", "magenta", "green", "yellow", "blue")
NARROW = 5  # bits of exponent: wider formats go on beyond the picture
Counts = NDArray[np.int64]


# ---- counting ---------------------------------------------------------------------------------------------


def values_up_to(fmt: NumberFormat, x: ArrayLike) -> Counts:
    """How many values above zero are at most x.  x: float32 >= 0, any shape."""
    magnitude = np.minimum(np.asarray(x, np.float32), np.float32(fmt.largest))
    codes = fmt.encode(magnitude, rounding="toward-zero").astype(np.int64)
    first = 0 if float(fmt.decode(0)) == 0 else 1  # a format without a zero counts from its smallest value
    count: Counts = np.where(magnitude >= np.float32(fmt.smallest), codes + first, 0)
    return count


def values_by_octave(fmt: NumberFormat, exponents: Sequence[int]) -> Counts:
    """How many values lie in [2^k, 2^(k+1)) for each k."""
    k = np.asarray(exponents)
    low, high = (_below(np.ldexp(1.0, k + more)) for more in (0, 1))
    return values_up_to(fmt, high) - values_up_to(fmt, low)


def _below(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """The float32 under each power of two; 0 under the smallest."""
    with np.errstate(over="ignore"):
        return np.nextafter(x.astype(np.float32), np.float32(0))


def values_between(fmt: NumberFormat, edges: NDArray[np.float32]) -> Counts:
    """How many values lie in [edge, next edge), of either sign, zero included.  edges: [n + 1] -> [n]."""
    signed = float(fmt.decode(0)) == 0
    above = values_up_to(fmt, np.nextafter(np.maximum(edges, 0), np.float32(0))) + (edges > 0) * signed
    below = values_up_to(fmt, np.maximum(-edges, 0)) * signed
    count: Counts = np.diff(np.where(edges > 0, above, -below))
    return count


def octaves_of(fmt: NumberFormat) -> tuple[int, int]:
    """Exponents of the smallest and of the largest value."""
    return int(np.floor(np.log2(fmt.smallest))), int(np.floor(np.log2(fmt.largest)))


# ---- by octave --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Profile:
    """Bits of fraction in each octave from 2^first to 2^last, a format under the other."""

    formats: Sequence[NumberFormat]
    first: int
    last: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        octaves = range(self.first, self.last + 1)
        room = options.max_width - LABEL - 2
        each, wide = max(-(-len(octaves) // room), 1), max(room // len(octaves), 1)
        shown = octaves[::each]  # so many octaves share a column of this width
        yield from self._axis(shown, wide, options.ascii_only)
        for i, fmt in enumerate(self.formats):
            counts = values_by_octave(fmt, shown)
            yield self._heights(fmt, counts, wide, options.ascii_only, COLOURS[i % len(COLOURS)])
            bits = ["" if not n else DIGITS[round(float(np.log2(n)))] for n in counts]
            yield Text(" " * (LABEL + 1) + "".join(bit.ljust(wide) for bit in bits).rstrip(), "dim")

    def _heights(self, fmt: NumberFormat, counts: Counts, wide: int, plain: bool, colour: str) -> Text:
        """One format's line, with marks where it goes on beyond the picture."""
        glyphs = PLAIN_HEIGHTS if plain else HEIGHTS
        low, high = octaves_of(fmt)
        bars = "".join(
            (glyphs[min(round(float(np.log2(n))), len(glyphs) - 1)] if n else " ") * wide for n in counts
        )
        line = (
            Text()
            .append(fmt.name.upper().ljust(LABEL), "bold")
            .append("<" if low < self.first else " ", "dim")
        )
        line.append(bars, colour).append(">" if high > self.last else "", "dim")
        line.rstrip()
        return line

    def _axis(self, shown: Sequence[int], wide: int, plain: bool) -> list[Text]:
        names, ticks = [" "] * (len(shown) * wide + 8), [" "] * (len(shown) * wide)
        step = next(s for s in (1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 64) if s * wide >= 8 or s == 64)
        every = -(-8 // wide)  # columns apart; of octaves that share columns, those that come
        together = len(shown) > 1 and shown[1] - shown[0] > 1
        for i, k in enumerate(shown):
            if i % every == 0 if together else k % step == 0:
                ticks[i * wide] = "|" if plain else "╷"
                names[i * wide : i * wide + len(f"2^{k}")] = f"2^{k}"
        pad = " " * (LABEL + 1)
        return [Text(pad + "".join(names).rstrip(), "dim"), Text(pad + "".join(ticks).rstrip(), "dim")]

    def uneven(self) -> list[str]:
        """Octaves whose number of values is no power of two: where codes of NaN cut the last one short."""
        octaves, said = range(self.first, self.last + 1), []
        for fmt in self.formats:
            for k, n in zip(octaves, values_by_octave(fmt, octaves).tolist(), strict=True):
                if n & (n - 1):
                    up = 1 << n.bit_length()
                    said.append(f"{fmt.name.upper()}: {n} values from 2^{k} on, not {up}")
        return said

    def describe(self) -> str:
        """The profile in words."""
        said = []
        for fmt in self.formats:
            low, _ = octaves_of(fmt)
            normal = number(fmt.smallest_normal)
            said.append(
                f"{fmt.name.upper()}: {1 << fmt.fraction_bits} values an octave from {normal} to "
                f"{number(fmt.largest)}, fewer below, down to 2^{low}."
            )
        return " ".join([*said, *self.uneven()])


# ---- linear -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinearLine:
    """Every value between two bounds as a tick.  value: one to mark, and what each format rounds it to."""

    formats: Sequence[NumberFormat]
    start: float
    stop: float
    value: float | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plain, columns = options.ascii_only, options.max_width - LABEL - 2
        step = (self.stop - self.start) / (columns - 1)
        if self.value is not None:
            at = round((self.value - self.start) / step)
            yield Text(" " * (LABEL + 1 + at) + ("v" if plain else "▼"), "bold green")
        for i, fmt in enumerate(self.formats):
            yield self._ticks(fmt, columns, step, plain, COLOURS[i % len(COLOURS)])
        yield from self._axis(columns, plain)

    def _ticks(self, fmt: NumberFormat, columns: int, step: float, plain: bool, colour: str) -> Text:
        centres = self.start + step * np.arange(columns)  # [columns]
        edges = np.append(centres - step / 2, self.stop + step / 2).astype(np.float32)
        counts, zero = values_between(fmt, edges), round(-self.start / step)
        line = Text().append(fmt.name.upper().ljust(LABEL + 1), "bold")
        rounded = self.rounded().get(fmt.name.upper())
        marked = -1 if rounded is None else round((rounded - self.start) / step)
        for i, n in enumerate(counts):
            normal = abs(centres[i]) + step / 2 >= fmt.smallest_normal
            mark = _tick(int(n), normal, i == zero and float(fmt.decode(0)) == 0, plain)
            line.append(("^" if plain else "◆"), "bold green") if i == marked else line.append(mark, colour)
        line.rstrip()
        return line

    def _axis(self, columns: int, plain: bool) -> list[Text]:
        flat, tick = ("-", "+") if plain else ("─", "┴")
        parts = 4 if columns >= 60 else 2
        places = [round(i * (columns - 1) / parts) for i in range(parts + 1)]
        rule, names = [flat] * columns, [" "] * (columns + 12)
        for i, place in enumerate(places):
            rule[place] = tick
            name = f"{self.start + (self.stop - self.start) * i / parts:.4g}"
            left = min(max(place - len(name) // 2, 0), columns - len(name))
            names[left : left + len(name)] = name
        pad = " " * (LABEL + 1)
        return [Text(pad + "".join(rule), "dim"), Text(pad + "".join(names).rstrip())]

    def counts(self) -> dict[str, int]:
        """How many values of each format lie from start to stop, both included."""
        ends = np.array([self.start, self.stop], np.float32)
        ends[1] = np.nextafter(ends[1], np.float32(np.inf))
        return {fmt.name.upper(): int(values_between(fmt, ends)[0]) for fmt in self.formats}

    def rounded(self) -> dict[str, float]:
        """What each format rounds the marked value to; nothing where none is marked."""
        if self.value is None:
            return {}
        return {fmt.name.upper(): float(fmt.round(np.float32(self.value))) for fmt in self.formats}

    def describe(self) -> str:
        """The line in words."""
        said = [f"{name}: {n:,} values" for name, n in self.counts().items()]
        marked = "; ".join(f"{name} {number(value)}" for name, value in self.rounded().items())
        marked = f". {number(self.value)} is rounded to {marked}" if self.value is not None else ""
        return f"from {number(self.start)} to {number(self.stop)}: " + "; ".join(said) + marked


def _tick(count: int, normal: bool, zero: bool, plain: bool) -> str:
    """Zero, one value, one subnormal value, two values, more."""
    if zero and count:
        return "0"
    marks = " |2#" if plain else " │║█"
    if count == 1 and not normal:
        return "'" if plain else "╵"
    return marks[min(count, 3)]


# ---- both -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinePage:
    """The profile above, the linear line below."""

    profile: Profile
    line: LinearLine

    @classmethod
    def of(
        cls, formats: Sequence[NumberFormat], start: float, stop: float, value: float | None = None
    ) -> Self:
        """Both pictures; the profile spans the formats of up to five exponent bits, or all if none is.

        ValueError for bounds that are no stretch of the line, or a value outside of it.
        """
        if not (math.isfinite(start) and math.isfinite(stop) and start < stop):
            raise ValueError(f"expected --from below --to, got {start:g} and {stop:g}")
        if max(abs(start), abs(stop)) > float(np.finfo(np.float32).max):
            raise ValueError(f"expected bounds that a float32 can hold, got {start:g} and {stop:g}")
        if value is not None and not start <= value <= stop:
            raise ValueError(f"expected --value between {start:g} and {stop:g}, got {value:g}")
        narrow = [fmt for fmt in formats if fmt.exponent_bits <= NARROW] or formats
        ranges = [octaves_of(fmt) for fmt in narrow]
        first, last = min(low for low, _ in ranges), max(high for _, high in ranges)
        return cls(Profile(formats, first, last), LinearLine(formats, start, stop, value))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plain = options.ascii_only
        yield Text("bits of fraction in each octave (3: it has 2^3 values)", "bold cyan")
        yield self.profile
        yield from (Text(line, "dim") for line in self.profile.uneven())
        yield Text()
        bounds = f"from {number(self.line.start)} to {number(self.line.stop)}"
        yield Text(f"every value {bounds}", "bold cyan")
        yield self.line
        tick, low, two, more = ("|", "'", "2", "#") if plain else ("│", "╵", "║", "█")
        yield Text(f"{tick} a value  {low} a subnormal one  {two} two in a column  {more} more", "dim")
        yield Text("; ".join(f"{name} {n:,}" for name, n in self.line.counts().items()) + " values", "dim")
        if self.line.value is not None:
            rounded = "; ".join(f"{name} {number(value)}" for name, value in self.line.rounded().items())
            yield Text(f"{number(self.line.value)} is rounded to {rounded}", "dim")

    def describe(self) -> str:
        """Both in words."""
        return self.profile.describe() + "\n" + self.line.describe()

    def to_dict(self) -> dict[str, Any]:
        """Counts by octave and between the bounds, for JSON."""
        octaves = range(self.profile.first, self.profile.last + 1)
        by_octave = {}
        for fmt in self.profile.formats:
            counts = values_by_octave(fmt, octaves).tolist()
            by_octave[fmt.name.upper()] = {str(k): n for k, n in zip(octaves, counts, strict=True)}
        line: dict[str, Any] = {"from": self.line.start, "to": self.line.stop, "values": self.line.counts()}
        if self.line.value is not None:
            line |= {"value": self.line.value, "rounded": self.line.rounded()}
        return {"values_by_octave": by_octave, "line": line}


def demo() -> LinePage:
    """Five formats from 0 to 2."""
    from minidsv3.numerics import FORMATS

    names = ("e4m3", "e5m2", "e5m6", "fp16", "bf16")
    return LinePage.of([FORMATS[name] for name in names], 0.0, 2.0, 0.3)


if __name__ == "__main__":
    shown(demo())
