"""One number in one format: the fields of its code, the value they spell, the neighbours, the rounding.

    value = (-1)^sign x 2^(exponent field - bias) x (1 + fraction field / 2^fraction bits)

An exponent field of zero means 2^(1 - bias) and 0 in place of 1 (a subnormal number). Rounding is one cut
through the float32's significand: what stays, what falls out, and whether that was more than half a step.

Does: take a code or a float32 apart and lay the parts out. Does not: round (`minidsv3.numerics.formats`).

    >>> from minidsv3.numerics import BF16
    >>> from minidsv3.show.svg import plain_text
    >>> part = anatomy(BF16.encode(2.5), BF16)
    >>> part.sign, part.exponent, part.fraction, part.equation
    ('0', '10000000', '0100000', '+2^(128 - 127) x (1 + 32/128)')
    >>> rounding = round_apart(0.3, BF16)
    >>> rounding.kept, rounding.dropped, rounding.verdict
    ('1.0011001', '1001100110011010', 'more than half a step falls out: up')

Next: minidsv3.show.number_line
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.numerics.formats import NumberFormat
from minidsv3.show.numbers import number, signed_percent
from minidsv3.show.tables import plain_table

__all__ = ["Anatomy", "BitCard", "BitPage", "Rounding", "SideBySide", "anatomy", "layout", "round_apart"]

SIGN, EXPONENT, FRACTION = "bold magenta", "bold cyan", "bold yellow"
STYLES = (SIGN, EXPONENT, FRACTION)
DROPPED = "red"
FLOAT32_FRACTION, FLOAT32_BIAS = 23, 127


# ---- a code -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Anatomy:
    """A code taken apart; sign, exponent and fraction are strings of bits."""

    format: str
    code: int
    sign: str
    exponent: str
    fraction: str
    bias: int
    kind: str  # zero, subnormal, normal, infinity, NaN
    value: float
    equation: str

    @property
    def hexadecimal(self) -> str:
        """The code as the format's width of hexadecimal digits."""
        width = -(-len(self.sign + self.exponent + self.fraction) // 4)
        return f"0x{self.code:0{width}X}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a value that is not finite as a word."""
        value = self.value if np.isfinite(self.value) else str(self.value)
        return asdict(self) | {"value": value, "hexadecimal": self.hexadecimal}


def anatomy(code: Any, fmt: NumberFormat) -> Anatomy:
    """The fields of a code.  code: one integer of the format."""
    value, code = float(fmt.decode(code)), int(code)
    bits = f"{code:0{fmt.bits}b}"
    start = fmt.bits - fmt.exponent_bits - fmt.fraction_bits  # 1, or 0 where there is no sign
    sign, exponent = bits[:start], bits[start : start + fmt.exponent_bits]
    fraction = bits[start + fmt.exponent_bits :]
    kind = _kind(value, exponent, fmt)
    equation = _equation(sign, exponent, fraction, kind, fmt.bias)
    return Anatomy(fmt.name.upper(), code, sign, exponent, fraction, fmt.bias, kind, value, equation)


def _kind(value: float, exponent: str, fmt: NumberFormat) -> str:
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "infinity"
    if value == 0:
        return "zero"
    return "subnormal" if fmt.fraction_bits and "1" not in exponent else "normal"


def _equation(sign: str, exponent: str, fraction: str, kind: str, bias: int) -> str:
    before = {"0": "+", "1": "-", "": ""}[sign]
    if kind in ("NaN", "infinity"):
        return f"{before if kind == 'infinity' else ''}{kind}, by definition"
    field, steps = int(exponent, 2), 1 << len(fraction)
    power = f"2^(1 - {bias})" if fraction and not field else f"2^({field} - {bias})"
    if not fraction:
        return f"{before}{power}"
    return f"{before}{power} x ({int(field > 0)} + {int(fraction, 2)}/{steps})"


def layout(part: Anatomy, width: int, plain: bool = False) -> Text:
    """The code's bits as cells with their fields named and their weights below, as wide as there is room."""
    fields = [(part.sign, SIGN), (part.exponent, EXPONENT), (part.fraction, FRACTION)]
    bits = [(bit, style) for field, style in fields for bit in field]
    cell = next((cell for cell in (3, 1) if (cell + 1) * len(bits) + 1 <= width), 0)
    if not cell:
        letters = (letter * len(field) for letter, (field, _) in zip("sef", fields, strict=True) if field)
        return spaced(part).append("\n" + " ".join(letters), "dim")
    return Text("\n").join(_boxed(part, bits, cell, plain))


def _boxed(part: Anatomy, bits: Sequence[tuple[str, str]], cell: int, plain: bool) -> list[Text]:
    above, below, flat, up = ("+++", "+++", "-", "|") if plain else ("┌┬┐", "└┴┘", "─", "│")
    cells = [flat * cell for _ in bits]
    top, bottom = (Text(ends[0] + ends[1].join(cells) + ends[2], "dim") for ends in (above, below))
    row = Text().append(up, "dim")
    for bit, style in bits:
        row.append(bit.center(cell), style).append(up, "dim")
    return [_names(part, cell), top, row, bottom, *([_weights(part)] if cell == 3 else [])]


def _names(part: Anatomy, cell: int) -> Text:
    """sign, exponent, fraction over their bits; their first letters where there is no more room."""
    line, names = Text(), ("sign", "exponent", "fraction")
    fields = (part.sign, part.exponent, part.fraction)
    for i, (name, field) in enumerate(zip(names, fields, strict=True)):
        room = (cell + 1) * len(field)
        room += not i  # the frame's left edge
        line.append((name if len(name) < room else name[: bool(field)]).ljust(room), STYLES[i])
    line.rstrip()
    return line


def _weights(part: Anatomy) -> Text:
    """What each bit counts: the exponent's powers of two, the fraction's parts of one."""
    line = Text(" ")
    line.append(" +- " if part.sign else "", SIGN)
    for i in range(len(part.exponent)):
        line.append(f"{1 << (len(part.exponent) - 1 - i)}".center(3) + " ", EXPONENT)
    for i in range(1, len(part.fraction) + 1):
        share = f"/{1 << i}"
        line.append((share if len(share) <= 3 else ".").center(3) + " ", FRACTION)
    line.rstrip()
    return line


def spaced(part: Anatomy) -> Text:
    """The fields with a space between them."""
    line = Text()
    for field, style in zip((part.sign, part.exponent, part.fraction), STYLES, strict=True):
        if field:
            line.append(" " if line else "").append(field, style)
    return line


# ---- rounding ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rounding:
    """A float32 and what became of it. Magnitudes; the sign plays no part in rounding to nearest."""

    x: float  # the float32
    code: int
    rounded: float
    below: float  # the nearest values of the format on both sides of |x|; equal if it is one itself
    above: float
    below_code: int
    above_code: int
    midpoint: float
    exponent: int  # kept and dropped stand before 2^exponent
    kept: str
    dropped: str
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; values that are not finite as words."""
        return {
            name: value if not isinstance(value, float) or np.isfinite(value) else str(value)
            for name, value in asdict(self).items()
        }


def round_apart(
    x: float, fmt: NumberFormat, code: int | None = None, rounding: str = "nearest-even"
) -> Rounding | None:
    """Take the rounding of a float32 apart; None for zero, infinity and NaN, of which nothing falls out.

    code: what it was rounded to, if not to the nearest even.
    """
    value = np.float32(x)
    if not np.isfinite(value) or value == 0:
        return None
    code = int(fmt.encode(value)) if code is None else code
    top = int(fmt.encode(np.float32(fmt.largest)))
    low = min(int(fmt.encode(abs(value), rounding="toward-zero")), top)
    below = float(fmt.decode(low))
    high = low if below >= abs(value) else min(low + 1, top)  # x may be a value itself, or beyond them all
    above, rounded = float(fmt.decode(high)), float(fmt.decode(code))
    exponent, kept, dropped = _cut(abs(float(value)), fmt)
    verdict = _verdict(abs(float(value)), fmt, kept, dropped, rounding, rounded)
    middle = (below + above) / 2
    return Rounding(
        float(value), code, rounded, below, above, low, high, middle, exponent, kept, dropped, verdict
    )


def _cut(x: float, fmt: NumberFormat) -> tuple[int, str, str]:
    """The exponent that rounding happens at, and the significand's digits that stay and that fall out."""
    bits = int(np.float32(x).view(np.uint32))
    field, significand = bits >> FLOAT32_FRACTION, bits & ((1 << FLOAT32_FRACTION) - 1)
    own = max(field, 1) - FLOAT32_BIAS
    exponent = max(own, 1 - fmt.bias) if fmt.fraction_bits else own
    places = FLOAT32_FRACTION + exponent - own
    digits = f"{significand | (field > 0) << FLOAT32_FRACTION:0{places + 1}b}"
    kept = digits[0] + ("." + digits[1 : 1 + fmt.fraction_bits] if fmt.fraction_bits else "")
    return exponent, kept, digits[1 + fmt.fraction_bits :]


def _verdict(x: float, fmt: NumberFormat, kept: str, dropped: str, rounding: str, rounded: float) -> str:
    if x > fmt.largest:
        return f"beyond the largest value, {number(fmt.largest)}: becomes {_what(rounded)}"
    if "1" not in dropped:
        return "nothing falls out: exact"
    if rounding == "toward-zero":
        return "whatever falls out is lost: toward zero"
    share = int(dropped, 2) / (1 << len(dropped))
    if rounding == "stochastic":
        return f"{share:.3g} of a step falls out: up with that probability"
    if share == 0.5:
        way = "down" if kept[-1] == "0" else "up"
        return f"half a step falls out, a tie: {way}, to even"
    more = share > 0.5
    return f"{'more' if more else 'less'} than half a step falls out: {'up' if more else 'down'}"


def _what(value: float) -> str:
    return "NaN" if math.isnan(value) else "infinity" if math.isinf(value) else "the largest value"


# ---- pictures ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BitCard:
    """One code in full, and, if it came from a value, its rounding.  asked: the value as it was written."""

    part: Anatomy
    rounding: Rounding | None = None
    asked: str = ""
    note: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plain, width = options.ascii_only, options.max_width
        name = f"{self.asked} in {self.part.format}" if self.asked else self.part.format
        yield Text().append(name, "bold").append(f"   code {self.part.hexadecimal}, {self.part.kind}")
        yield Text()
        yield layout(self.part, width, plain)
        value = f" = {number(self.part.value)}" if math.isfinite(self.part.value) else ""
        yield _line(f"= {self.part.equation}{value}", plain)
        if self.note:
            yield Text(self.note)
        if self.rounding is not None:
            yield Text()
            yield from _rounding_lines(self.rounding, len(self.part.hexadecimal) - 2, width, plain)

    def describe(self) -> str:
        """The card in words."""
        p, r = self.part, self.rounding
        said = f"{p.format} code {p.hexadecimal}: sign {p.sign or 'none'}, exponent {p.exponent}, fraction "
        said += f"{p.fraction or 'none'}; {p.kind}; {p.equation} = {number(p.value)}."
        if r is not None:
            said += f" {number(r.x)} lies between {number(r.below)} and {number(r.above)}; {r.verdict}."
        return f"{said} {self.note}".strip()


def _line(text: str, plain: bool) -> Text:
    return Text(text if plain else text.replace(" x ", " × "))


def _rounding_lines(r: Rounding, digits: int, width: int, plain: bool) -> list[Text]:
    lines = [Text(f"what rounding did to the float32 {r.x:.9g}", "bold cyan")]
    power = f" x 2^{r.exponent}"
    x = Text("  x        ").append(r.kept, FRACTION).append("|" if plain else "│", "dim")
    room = width - len(r.kept) - 13 - len(power)
    cut = r.dropped if len(r.dropped) <= room else r.dropped[: room - 2] + ".."
    lines.append(x.append(cut, DROPPED).append_text(_line(power, plain)))
    if r.dropped:
        names = Text("           ").append("kept".ljust(len(r.kept)), FRACTION)
        lines.append(names.append(" dropped", DROPPED))
    lines.append(Text(f"  {r.verdict}"))
    if r.above > r.below:
        lines += [Text(), *_between(r, digits, width, plain)]
    return lines


def _between(r: Rounding, digits: int, width: int, plain: bool) -> list[Text]:
    """Both neighbours, the middle, and where x lies between them."""
    span = (min(width - 2, 66) - 2) | 1  # odd: it has a middle
    at = round((abs(r.x) - r.below) / (r.above - r.below) * (span - 1))
    at = min(max(at, 0), span - 1)
    left, flat, middle, right, mark = ("|", "-", "+", "|", "x") if plain else ("├", "─", "┼", "┤", "●")
    axis = [left, *flat * (span - 2), right]
    axis[span // 2] = middle
    line = Text("  ").append("".join(axis[:at])).append(mark, "bold green").append("".join(axis[at + 1 :]))
    ends = [number(r.below), f"midpoint {number(r.midpoint)}", number(r.above)]
    codes = [f"0x{r.below_code:0{digits}X}", "", f"0x{r.above_code:0{digits}X}"]
    return [
        Text("  " + _spread(codes, span), "dim"),
        line,
        Text("  " + _spread(ends, span)),
        Text(f"  {mark} |x| = {number(abs(r.x))}, off by {number(abs(r.rounded) - abs(r.x), sign=True)}"),
    ]


def _spread(words: Sequence[str], width: int) -> str:
    """Three words: left, in the middle, right."""
    left, middle, right = words
    before = max((width - len(middle)) // 2, len(left) + 1)
    return (left.ljust(before) + middle).ljust(max(width - len(right), before + len(middle) + 1)) + right


@dataclass(frozen=True)
class SideBySide:
    """One value in several formats."""

    x: float
    parts: Sequence[Anatomy]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table, wide = plain_table(), options.max_width >= 80
        names = ("format", "code", "sign, exponent, fraction", "value", "error")
        for name in names if wide else (names[0], *names[2:4]):
            table.add_column(name, no_wrap=True, justify="right" if name in ("value", "error") else "left")
        for part in self.parts:
            code, error = ([part.hexadecimal], [_error(self.x, part.value)]) if wide else ([], [])
            table.add_row(part.format, *code, spaced(part), number(part.value), *error)
        yield table

    def describe(self) -> str:
        """The table in words."""
        return " ".join(f"{p.format}: {p.hexadecimal}, {number(p.value)}." for p in self.parts)


def _error(x: float, value: float) -> str:
    if not np.isfinite(x) or x == 0 or not np.isfinite(value):
        return "" if str(x) == str(value) or x == value else "-"
    return "exact" if value == x else signed_percent(value / x - 1)


@dataclass(frozen=True)
class BitPage:
    """The first format in full; below it all of them, if there are several."""

    card: BitCard
    beside: SideBySide | None

    @classmethod
    def of_value(
        cls,
        x: float,
        asked: str,
        formats: Sequence[NumberFormat],
        rounding: str = "nearest-even",
        overflow: str | None = None,
    ) -> Self:
        """A value, rounded from float32.  asked: as it was written."""
        with np.errstate(over="ignore"):
            value = np.float32(x)
        rng = np.random.default_rng(0)
        codes = [fmt.encode(value, rounding=rounding, overflow=overflow, rng=rng) for fmt in formats]
        parts = [anatomy(code, fmt) for code, fmt in zip(codes, formats, strict=True)]
        apart = round_apart(float(value), formats[0], parts[0].code, rounding)
        beside = SideBySide(float(value), parts) if len(parts) > 1 else None
        note = "" if not math.isinf(value) else f"infinity becomes {_what(parts[0].value)}"
        return cls(BitCard(parts[0], apart, asked, note), beside)

    @classmethod
    def of_code(cls, code: int, formats: Sequence[NumberFormat]) -> Self:
        """A code, which each format reads in its own way; ValueError if one has no such code."""
        for fmt in formats:
            if code >> fmt.bits:
                most = f"0x{(1 << fmt.bits) - 1:X}"
                raise ValueError(f"expected a code of {fmt.name}, 0x0 .. {most}, got 0x{code:X}")
        parts = [anatomy(code, fmt) for fmt in formats]
        return cls(BitCard(parts[0]), SideBySide(math.nan, parts) if len(parts) > 1 else None)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.card
        if self.beside is not None:
            yield Text()
            yield self.beside

    def describe(self) -> str:
        """The page in words."""
        return self.card.describe() + (f"\n{self.beside.describe()}" if self.beside else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rounding = self.card.rounding
        parts = self.beside.parts if self.beside else [self.card.part]
        return {
            "asked": self.card.asked,
            "codes": [part.to_dict() for part in parts],
            "rounding": rounding.to_dict() if rounding else None,
        }
