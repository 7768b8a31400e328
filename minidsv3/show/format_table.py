"""The table of number formats, and one format in full.

Everything in it follows from a format's row of `data/formats.toml`: the extreme values from the codes, the
codes of infinity and NaN from where finite values end. What DeepSeek did not publish is marked so.

Does: lay out formats. Does not: hold a number of its own.

    >>> from minidsv3.numerics import BF16
    >>> facts = format_facts(BF16)
    >>> facts["S/E/M"], facts["max"], facts["min norm"], facts["NaN"]
    ('1/8/7', '3.39e+38', '2^-126', '0x7F81..0x7FFF')

Next: minidsv3.show.quantisation_map
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.numerics.block_formats import BlockFormat
from minidsv3.numerics.formats import NumberFormat
from minidsv3.numerics.integers import IntegerFormat
from minidsv3.show.forms import shown
from minidsv3.show.numbers import count, number
from minidsv3.show.tables import facts_table, in_parts, plain_table

__all__ = [
    "CodeMap",
    "FormatPage",
    "FormatTable",
    "FormatsPage",
    "SharedScales",
    "format_facts",
    "format_row",
]

FIRST = ("bits", "S/E/M", "bias", "max", "min norm", "min sub")
SECOND = ("inf", "NaN")
THIRD = ("overflow", "status")
NARROW, TWO_TABLES, ONE_TABLE = 56, 72, 118  # columns
RIGHT = ("bits", "bias", "max", "min norm", "min sub")


def format_row(fmt: NumberFormat) -> dict[str, Any]:
    """The facts as plain values, for JSON: codes as integers, values as numbers, None where there is none."""
    finite, highest = fmt.top, (1 << (fmt.bits - fmt.signed)) - 1
    infinity = fmt.infinity
    nan = [finite + 1 + (infinity is not None), highest]
    return {
        "format": fmt.name.upper(),
        "bits": fmt.bits,
        "sign_bits": int(fmt.signed),
        "exponent_bits": fmt.exponent_bits,
        "fraction_bits": fmt.fraction_bits,
        "bias": fmt.bias,
        "largest": fmt.largest,
        "smallest_normal": fmt.smallest_normal,
        "smallest_subnormal": fmt.smallest if fmt.smallest < fmt.smallest_normal else None,
        "finite_codes": (finite + 1) * (1 + fmt.signed),
        "infinity_code": infinity,
        "nan_codes": nan if nan[0] <= nan[1] else None,
        "overflow": fmt.overflow,
        "status": fmt.status,
        "source": fmt.source,
    }


def format_facts(fmt: NumberFormat) -> dict[str, str]:
    """The facts as text, in the order of the table."""
    row, digits = format_row(fmt), -(-fmt.bits // 4)
    nan, subnormal = row["nan_codes"], row["smallest_subnormal"]
    return {
        "format": fmt.name.upper(),
        "bits": str(fmt.bits),
        "S/E/M": f"{row['sign_bits']}/{fmt.exponent_bits}/{fmt.fraction_bits}",
        "bias": str(fmt.bias),
        "max": _power(fmt.largest),
        "min norm": _power(fmt.smallest_normal),
        "min sub": "-" if subnormal is None else _power(subnormal),
        "inf": "-" if row["infinity_code"] is None else f"0x{row['infinity_code']:0{digits}X}",
        "NaN": "-" if nan is None else "..".join(f"0x{code:0{digits}X}" for code in sorted(set(nan))),
        "overflow": fmt.overflow,
        "status": fmt.status,
    }


def _power(value: float) -> str:
    """2^k for a power of two, else the number."""
    mantissa, exponent = math.frexp(value)
    return f"2^{exponent - 1}" if mantissa == 0.5 else number(value) if value < 1e6 else f"{value:.3g}"


@dataclass(frozen=True)
class FormatTable:
    """A row for each format; two tables, one under the other, where one is too wide."""

    formats: Sequence[NumberFormat]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = [format_facts(fmt) for fmt in self.formats]
        parts: tuple[tuple[str, ...], ...] = (FIRST, SECOND, THIRD)
        if options.max_width >= TWO_TABLES:
            one = options.max_width >= ONE_TABLE
            parts = (FIRST + SECOND + THIRD,) if one else (FIRST, SECOND + THIRD)
        if options.max_width < NARROW:
            yield from in_parts(rows, options, RIGHT)
            yield Text()
            parts = ()
        for names in (("format", *part) for part in parts):
            table = plain_table()
            for name in names:
                table.add_column(name, no_wrap=True, justify="right" if name in RIGHT else "left")
            for row in rows:
                table.add_row(*(Text(row[name], _style(name, row)) for name in names))
            yield table
            yield Text()
        yield Text("codes are those of plus infinity and of positive NaNs", "dim")
        if any(fmt.status != "published" for fmt in self.formats):
            yield Text("assumed: the name is published, the layout is not: here a shortened float16", "dim")

    def describe(self) -> str:
        """The table in words."""
        return "\n".join(
            "; ".join(f"{name} {value}" for name, value in format_facts(fmt).items()) for fmt in self.formats
        )


def _style(name: str, row: dict[str, str]) -> str:
    if name == "format":
        return "bold"
    return "yellow" if name == "status" and row["status"] != "published" else ""


@dataclass(frozen=True)
class SharedScales:
    """Formats whose values share a scale, and integers, which need one: a row each."""

    blocks: Sequence[BlockFormat]
    integers: Sequence[IntegerFormat]

    def rows(self) -> list[dict[str, Any]]:
        """Plain values, for JSON and for the table."""
        names = ("format", "values", "scale", "of", "bits")
        mixed = (
            (
                f.name.upper(),
                f.element.name.upper(),
                f.scale.name.upper(),
                str(f.block),
                8 * f.bytes_per_value,
            )
            for f in self.blocks
        )
        whole = (
            (f.name.upper(), f"{f.low} .. {f.high}", f"FP32, by {f.scale}", "a row", 8 / f.per_byte)
            for f in self.integers
        )
        return [dict(zip(names, row, strict=True)) for row in (*mixed, *whole)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = [
            {name: f"{cell:g}" if isinstance(cell, float) else cell for name, cell in row.items()}
            for row in self.rows()
        ]
        yield from in_parts(rows, options, ("of", "bits"))

    def describe(self) -> str:
        """The table in words."""
        return "\n".join("{format}: {values}, scale {scale} of {of}".format_map(row) for row in self.rows())


@dataclass(frozen=True)
class FormatsPage:
    """Both tables."""

    floats: FormatTable
    shared: SharedScales

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.floats
        yield Text("\nvalues that share a scale: of so many, bits a value with it", "bold cyan")
        yield self.shared

    def describe(self) -> str:
        """Both in words."""
        return f"{self.floats.describe()}\n{self.shared.describe()}"


@dataclass(frozen=True)
class FormatPage:
    """One format in full, and its codes if they fit a page."""

    fmt: NumberFormat

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        finite = count(format_row(self.fmt)["finite_codes"])
        yield facts_table(format_facts(self.fmt) | {"finite codes": finite, "source": self.fmt.source})
        if self.fmt.bits <= 8:
            yield Text()
            yield CodeMap(self.fmt)

    def describe(self) -> str:
        """The format in words."""
        return FormatTable([self.fmt]).describe()


@dataclass(frozen=True)
class CodeMap:
    """Every code from zero up with its value: for formats of at most 8 bits."""

    fmt: NumberFormat

    def describe(self) -> str:
        """A line for each code."""
        return "\n".join(f"0x{code:02X}: {value}" for code, value in enumerate(self._values()))

    def _values(self) -> list[str]:
        """What the codes without a sign stand for."""
        codes = np.arange(1 << (self.fmt.bits - self.fmt.signed))
        return [number(float(value)) for value in self.fmt.decode(codes.astype(self.fmt.dtype))]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        values = self._values()
        cell = max(map(len, values)) + 2
        columns = next(n for n in (16, 8, 4, 2, 1) if n * cell + 6 <= options.max_width or n == 1)
        for start in range(0, len(values), columns):
            row = "".join(value.rjust(cell) for value in values[start : start + columns])
            yield Text().append(f"0x{start:02X}", "dim").append(row)


def demo() -> FormatsPage:
    """All formats."""
    from minidsv3.numerics import BLOCK_FORMATS, FORMATS
    from minidsv3.numerics.integers import INTEGERS

    shared = SharedScales(list(BLOCK_FORMATS.values()), list(INTEGERS.values()))
    return FormatsPage(FormatTable(list(FORMATS.values())), shared)


if __name__ == "__main__":
    shown(demo())
