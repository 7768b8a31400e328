"""One number of a format taken apart: the fields of its code, the value they spell, how it was rounded.

    value = (-1)^sign x 2^(exponent field - bias) x (1 + fraction field / 2^fraction bits)

An exponent field of zero means 2^(1 - bias) and 0 in place of 1 (a subnormal number). Rounding is one cut
through the float32's significand: what stays, what falls out, and whether that was more than half a step.

Does: take a code or a float32 apart. Does not: round (`minidsv3.numerics.formats`), draw.

    >>> from minidsv3.numerics import BF16
    >>> part = anatomy(BF16.encode(2.5), BF16)
    >>> part.sign, part.exponent, part.fraction, part.equation
    ('0', '10000000', '0100000', '+2^(128 - 127) x (1 + 32/128)')
    >>> rounding = round_apart(0.3, BF16)
    >>> rounding.kept, rounding.dropped, rounding.verdict
    ('1.0011001', '1001100110011010', 'more than half a step falls out: up')

Next: minidsv3.show.bits
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from minidsv3.numerics.formats import NumberFormat
from minidsv3.show.numbers import number

__all__ = ["Anatomy", "Rounding", "anatomy", "round_apart", "what_became"]

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
        """Plain values for JSON."""
        return asdict(self) | {"hexadecimal": self.hexadecimal}


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
        """Plain values for JSON."""
        return asdict(self)


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
    verdict = _verdict(float(value), fmt, kept, dropped, rounding, rounded)
    middle = (below + above) / 2
    return Rounding(
        float(value), code, rounded, below, above, low, high, middle, exponent, kept, dropped, verdict
    )


def _cut(x: float, fmt: NumberFormat) -> tuple[int, str, str]:
    """The exponent that rounding happens at, and the significand's digits that stay and that fall out."""
    bits = int(np.float32(x).view(np.uint32))
    field, significand = bits >> FLOAT32_FRACTION, bits & ((1 << FLOAT32_FRACTION) - 1)
    own = max(field, 1) - FLOAT32_BIAS
    if not (field or fmt.fraction_bits):  # powers of two go on where float32 has subnormals
        own = significand.bit_length() - FLOAT32_FRACTION - FLOAT32_BIAS
        return own, "1", f"{significand:b}"[1:]
    exponent = max(own, 1 - fmt.bias) if fmt.fraction_bits else own
    places = FLOAT32_FRACTION + exponent - own
    digits = f"{significand | (field > 0) << FLOAT32_FRACTION:0{places + 1}b}"
    kept = digits[0] + ("." + digits[1 : 1 + fmt.fraction_bits] if fmt.fraction_bits else "")
    return exponent, kept, digits[1 + fmt.fraction_bits :]


def _verdict(x: float, fmt: NumberFormat, kept: str, dropped: str, rounding: str, rounded: float) -> str:
    if x < 0 and not fmt.signed:
        return f"below zero, in a format without a sign: becomes {what_became(rounded)}"
    if abs(x) < fmt.smallest and not fmt.signed:
        return f"below the smallest value, {number(fmt.smallest)}: becomes it"
    x, beyond = abs(x), f"beyond the largest value, {number(fmt.largest)}"
    if x > fmt.largest and rounding == "nearest-even" and _stays(x, fmt):
        share = int(dropped, 2) / (1 << len(dropped))
        part = "half a step, a tie" if share == 0.5 else "less than half a step"
        return f"{beyond}, by {part}: down to it"
    if x > fmt.largest:
        return f"{beyond}: becomes {what_became(rounded)}"
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


def _stays(x: float, fmt: NumberFormat) -> bool:
    """Whether rounding to nearest takes what is beyond the largest value back to it, in either convention."""
    middle = (fmt.largest + fmt.overflow_threshold) / 2
    return x < middle or (x == middle and fmt.signed and fmt.top % 2 == 0)


def what_became(value: float) -> str:
    """What a value beyond the largest was turned into, in words."""
    return "NaN" if math.isnan(value) else "infinity" if math.isinf(value) else "the largest value"
