"""One number as a picture: the cells of its code with their weights, its neighbours, the cut that rounded it.

Does: lay out an `Anatomy` and a `Rounding`, in full or several formats side by side. Does not: round.

    >>> from minidsv3.numerics import E2M1
    >>> from minidsv3.show.svg import plain_text
    >>> print(plain_text(layout(anatomy(E2M1.encode(3.0), E2M1), 60, plain=True)))
    sign e       f
    +---+---+---+---+
    | 0 | 1 | 0 | 1 |
    +---+---+---+---+
      +-  2   1   /2

Next: minidsv3.show.number_line
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.numerics.formats import NumberFormat
from minidsv3.show.anatomy import Anatomy, Rounding, anatomy, round_apart, what_became
from minidsv3.show.forms import shown
from minidsv3.show.numbers import number, signed_percent
from minidsv3.show.tables import in_parts, plain_table

__all__ = ["BitCard", "BitPage", "SideBySide", "layout"]

SIGN, EXPONENT, FRACTION = "bold magenta", "bold cyan", "bold yellow"
STYLES = (SIGN, EXPONENT, FRACTION)
DROPPED = "red"
NARROW = 54  # columns below which several formats are told apart by their codes alone


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


# ---- one number --------------------------------------------------------------------------------------------


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
    cut = r.dropped if len(r.dropped) <= max(room, 0) else r.dropped[: max(room - 2, 0)] + ".."
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
        if options.max_width < NARROW:
            facts = [(p.format, p.hexadecimal, number(p.value), _error(self.x, p.value)) for p in self.parts]
            heads = (*names[:2], *names[3:])
            yield from in_parts([dict(zip(heads, row, strict=True)) for row in facts], options, heads[2:])
            return
        for name in names if wide else (names[0], *names[2:4]):
            table.add_column(name, no_wrap=True, justify="right" if name in ("value", "error") else "left")
        for part in self.parts:
            code, error = ([part.hexadecimal], [_error(self.x, part.value)]) if wide else ([], [])
            table.add_row(part.format, *code, spaced(part), number(part.value), *error)
        yield table

    def describe(self) -> str:
        """The table in words."""
        return " ".join(f"{p.format}: {p.hexadecimal}, {number(p.value)}." for p in self.parts)


def _note(x: float, value: float, part: Anatomy) -> str:
    """What rounding has nothing to say about.  x: as asked for; value: its float32."""
    if math.isnan(value):
        return "" if part.kind == "NaN" else f"a format without NaN: it becomes {what_became(part.value)}"
    if math.isinf(value):
        first = "" if math.isinf(x) else "too large for a float32, there infinity; "
        return f"{first}infinity becomes {what_became(part.value)}"
    first = "too small for a float32, there zero; " if value == 0 != x else ""
    if value == 0 != part.value:
        return f"{first}a format without zero: it becomes {number(part.value)}"
    return first.removesuffix("; ")


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
        draws = {"rng": np.random.default_rng(0)} if rounding == "stochastic" else {}
        codes = [fmt.encode(value, rounding=rounding, overflow=overflow, **draws) for fmt in formats]
        parts = [anatomy(code, fmt) for code, fmt in zip(codes, formats, strict=True)]
        apart = round_apart(float(value), formats[0], parts[0].code, rounding)
        beside = SideBySide(float(value), parts) if len(parts) > 1 else None
        return cls(BitCard(parts[0], apart, asked, _note(x, float(value), parts[0])), beside)

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


def demo() -> BitPage:
    """0.3 in six formats."""
    from minidsv3.numerics import FORMATS

    names = ("e4m3", "e5m2", "e5m6", "bf16", "fp16", "fp32")
    return BitPage.of_value(0.3, "0.3", [FORMATS[name] for name in names])


if __name__ == "__main__":
    shown(demo())
