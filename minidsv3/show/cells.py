"""A value as one cell of a map: a character that says how large it is, and a colour that says it again.

Where nothing is below zero, 1 .. 9 are ninths of the largest value and a dot is nearly nothing. Otherwise
letters stand on both sides of zero: A .. D above, a .. d below. So a map without colour can be read, and one
with colour can be read faster.

Does: choose characters and colours, pool cells. Does not: lay out maps (`heat_map`, `attention_map`, …).

    >>> "".join(Scale.of([0.5, 0.0, 1.0]).glyph(v) for v in (0.5, 0.0, 1.0, float("nan")))
    '4.9?'
    >>> scale = Scale.of([0.5, -1.0])
    >>> "".join(scale.glyph(v) for v in (0.5, -1.0, 0.01))
    'Bd.'

Next: minidsv3.show.heat_map
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.style import Style
from rich.text import Text

from minidsv3.show.forms import DIVERGING, SEQUENTIAL
from minidsv3.show.numbers import number

__all__ = ["LOST", "Scale", "coloured", "cut", "digit", "entropy", "largest", "plain_label", "short", "tint"]

LEVELS = 9
LOST = "bold white on red"  # what is no number


def coloured(console: Console) -> bool:
    """Whether colour is seen on this console."""
    return console.color_system is not None and not console.no_color


def digit(level: int) -> str:
    """The character of a level, 0 .. 9."""
    return str(level) if level else "."


def tint(level: int, console: Console) -> Style | str:
    """The colours of a level, 1 .. 9; none for 0, and where none are seen."""
    return SEQUENTIAL.fill((level - 1) / (LEVELS - 1), console) if level and coloured(console) else ""


@dataclass(frozen=True)
class Scale:
    """Values up to `most` in magnitude.  signed: some are below zero."""

    most: float
    signed: bool = False

    @classmethod
    def of(cls, values: ArrayLike) -> Self:
        """The scale that the finite ones of these values fill."""
        array = np.asarray(values, dtype=np.float64)
        finite = array[np.isfinite(array)]
        return cls(float(np.abs(finite).max(initial=0.0)), bool((finite < 0).any()))

    def share(self, value: float) -> float:
        """How far along the palette a value lies: 0 .. 1, the middle being zero where values have signs."""
        part = value / self.most if self.most else 0.0
        return min(max((part + 1) / 2 if self.signed else part, 0.0), 1.0)

    def glyph(self, value: float) -> str:
        """The character of a value."""
        if not math.isfinite(value):
            return "?" if math.isnan(value) else "!"
        if self.signed:
            return DIVERGING.glyph(self.share(value), plain=True)
        return digit(int(self.share(value) * LEVELS))

    def colour(self, value: float, console: Console) -> str:
        """The bare colour of a value, for half a block."""
        if not math.isfinite(value):
            return "red"
        return (DIVERGING if self.signed else SEQUENTIAL).colour(self.share(value), console)

    def style(self, value: float, console: Console) -> Style | str:
        """The colours of a value's cell; none where none are seen."""
        if not coloured(console):
            return ""
        if not math.isfinite(value):
            return LOST
        if self.signed:
            return DIVERGING.fill(self.share(value), console)
        return tint(int(self.share(value) * LEVELS), console)

    def legend(self, console: Console) -> Text:
        """The scale in words, its characters in their colours."""
        most, line = number(float(f"{self.most:.3g}")), Text()
        steps = [i / 4 for i in range(-4, 5)] if self.signed else [i / LEVELS for i in range(LEVELS + 1)]
        for step in steps:
            value = step * self.most
            line.append(self.glyph(value) if self.most else ".", self.style(value, console))
        return line.append(f" from -{most} over 0 to {most}" if self.signed else f" from 0 to {most}")


def largest(values: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float64]:
    """Of each block of a matrix the value largest in magnitude; at most `rows` by `columns` blocks.

    values: [R, C]; what is no number stands above all.
    """
    return _largest(_largest(values, rows).T, columns).T


def _largest(values: NDArray[np.float64], parts: int) -> NDArray[np.float64]:
    size = np.where(np.isnan(values), np.inf, np.abs(values))
    picked = [
        np.take_along_axis(values[a:b], size[a:b].argmax(axis=0)[None], axis=0)[0]
        for a, b in cut(len(values), min(parts, len(values)))
    ]
    return np.stack(picked) if picked else values


def cut(length: int, parts: int) -> list[tuple[int, int]]:
    """First and last of `parts` equal stretches.

    >>> cut(5, 2)
    [(0, 2), (2, 5)]
    """
    return [(length * i // parts, length * (i + 1) // parts) for i in range(parts)]


def plain_label(text: str, ascii_only: bool) -> str:
    """A label in characters that can be written, in one line, the spaces at its ends made visible.

    >>> plain_label(" f\\n", ascii_only=True)
    '_f\\\\n'
    """
    inner, space = text.strip(" "), "_" if ascii_only else "·"
    front = len(text) - len(text.lstrip(" ")) if inner else len(text)
    text = space * front + inner + space * (len(text) - front - len(inner))
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return shown.encode("ascii", "backslashreplace").decode() if ascii_only else shown


def short(value: float, digits: int = 3) -> str:
    """A number in few characters.

    >>> short(0.12345), short(-1234567.0), short(2e-9), short(3.0)
    ('0.123', '-1.23e+06', '2e-09', '3')
    """
    return "NaN" if math.isnan(value) else f"{value + 0.0:.{digits}g}"


def entropy(shares: ArrayLike) -> float:
    """Bits of a distribution: 0 if one has it all, log2(n) if n share it alike.

    >>> entropy([1.0, 0.0]), entropy([0.25] * 4)
    (0.0, 2.0)
    """
    p = np.asarray(shares, dtype=np.float64)
    p = p[p > 0]
    with np.errstate(all="ignore"):  # of what is no distribution
        return abs(float((p * np.log2(p)).sum()))
