"""What a tensor core computes, one number at a time in exact integers, and how it can be misread.

Written from the published descriptions, without a look at the emulator: it decodes codes by itself, keeps
every product as an integer and an exponent, and never meets a float until the end. `readings` are deliberate
mistakes, each a way in which the descriptions have been or could be misunderstood.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

# name -> exponent bits, fraction bits, bias, how the highest exponent field is used
FORMATS = {
    "e4m3": (4, 3, 7, "one nan"),
    "e5m2": (5, 2, 15, "ieee"),
    "e3m2": (3, 2, 3, "numbers"),
    "e2m3": (2, 3, 1, "numbers"),
    "e2m1": (2, 1, 1, "numbers"),
    "fp16": (5, 10, 15, "ieee"),
    "bf16": (8, 7, 127, "ieee"),
    "tf32": (8, 10, 127, "ieee"),
    "fp32": (8, 23, 127, "ieee"),
}
NAN, INF = "nan", "inf"

READINGS = {
    "floor": "terms shifted with sign fill, as the V3 report's wording says",
    "one bit less": "one fraction bit fewer kept of each term (12 for FP8)",
    "one bit more": "one fraction bit more kept of each term (14 for FP8)",
    "normalised products": "a product of 2 or more aligns one exponent higher",
    "normalised subnormals": "subnormal operands get the exponent of their leading bit",
    "uncut result": "the sum keeps 23 fraction bits",
    "nearest result": "the sum is rounded to nearest even",
    "half the terms": "the products in two groups, one after the other",
    "twice the terms": "two groups at once",
    "C left out": "the accumulator has no say in the largest exponent",
    "zero product lifts": "a zero operand counts with the exponent of a subnormal",
}


class Number(NamedTuple):
    """(-1)^negative x significand x 2^(exponent - fraction bits), or a special one."""

    negative: bool
    significand: int
    exponent: int
    fraction_bits: int
    special: str = ""

    @property
    def zero(self) -> bool:
        return not self.special and self.significand == 0

    @property
    def value(self) -> Fraction:
        magnitude = self.significand * Fraction(2) ** (self.exponent - self.fraction_bits)
        return -magnitude if self.negative else magnitude


class Term(NamedTuple):
    """significand x 2^last, signed; `exponent` is the one it has in the alignment, None for no say in it."""

    significand: int
    last: int
    exponent: int | None


def decode(code: int, name: str) -> Number:
    """A code's number; subnormals and zero at the exponent of the smallest normal number."""
    exponent_bits, fraction_bits, bias, top = FORMATS[name]
    negative = bool(code >> (exponent_bits + fraction_bits))
    field = (code >> fraction_bits) & ((1 << exponent_bits) - 1)
    fraction = code & ((1 << fraction_bits) - 1)
    if field == (1 << exponent_bits) - 1:
        if top == "ieee":
            return Number(negative, 0, 0, 0, NAN if fraction else INF)
        if top == "one nan" and fraction == (1 << fraction_bits) - 1:
            return Number(negative, 0, 0, 0, NAN)
    hidden = 1 if field else 0
    return Number(negative, fraction + (hidden << fraction_bits), max(field, 1) - bias, fraction_bits)


@dataclass(frozen=True)
class Rules:
    """A unit as the oracle wants it."""

    terms: int
    fraction_bits: int
    output_fraction_bits: int = 23
    nearest: bool = False
    half: bool = False  # FP16 accumulator and result
    added: bool = False  # C by one FP32 addition afterwards
    group: int = 1
    scale_block: int = 0
    zeros: str = "zero-operand"
    floor: int | None = None
    reading: str = ""

    def read_as(self, reading: str) -> Rules:
        """The same unit, misread."""
        changes: dict[str, object] = {"reading": reading}
        if reading == "one bit less":
            changes["fraction_bits"] = self.fraction_bits - 1
        if reading == "one bit more":
            changes["fraction_bits"] = self.fraction_bits + 1
        if reading == "uncut result":
            changes["output_fraction_bits"] = 23
        if reading == "nearest result":
            changes["nearest"] = True
        if reading == "half the terms":
            changes["terms"] = self.terms // 2
        if reading == "twice the terms":
            changes["terms"] = self.terms * 2
        return replace(self, **changes)  # type: ignore[arg-type]


# both operands' scales, per block
Scales = list[tuple[Number, Number]] | None


def dot(a: list[Number], b: list[Number], c: int, rules: Rules, scales: Scales = None) -> int:
    """One element of the result.  c and result: bits of a float32, or of an FP16."""
    step = rules.terms * rules.group
    for k in range(0, len(a), step):
        here = scales and scales[k // rules.scale_block : -(-(k + step) // rules.scale_block)]
        c = fused(a[k : k + step], b[k : k + step], c, rules, here)
    return c


def fused(a: list[Number], b: list[Number], c: int, rules: Rules, scales: Scales) -> int:
    """One step: products and accumulator together."""
    joined = Number(False, 0, -126, 0) if rules.added else decode(c, "fp16" if rules.half else "fp32")
    verdict = special(a, b, joined)
    if verdict is not None:
        bits = special_bits(verdict, rules)
    else:
        terms = (groups if rules.group > 1 else products)(a, b, rules, scales)
        bits = finite([*terms, accumulator(joined, rules)], rules)
    return add(bits, c) if rules.added else bits


def special(a: list[Number], b: list[Number], c: Number) -> str | None:
    """What NaN and infinity make of the whole step, if there is any."""
    if not (c.special or any(x.special for x in a) or any(x.special for x in b)):
        return None
    infinities = {c.negative} if c.special == INF else set()
    for x, y in zip(a, b, strict=True):
        if NAN in (x.special, y.special) or (INF in (x.special, y.special) and (x.zero or y.zero)):
            return NAN
        if INF in (x.special, y.special):
            infinities.add(x.negative != y.negative)
    if c.special == NAN or len(infinities) == 2:
        return NAN
    return {(): None, (False,): INF, (True,): "-" + INF}[tuple(infinities)]


def special_bits(verdict: str, rules: Rules) -> int:
    """0x7FFFFFFF for NaN."""
    wide = {NAN: 0x7FFFFFFF, INF: 0x7F800000, "-" + INF: 0xFF800000}
    half = {NAN: 0x7FFF, INF: 0x7C00, "-" + INF: 0xFC00}
    return (half if rules.half else wide)[verdict]


def accumulator(c: Number, rules: Rules) -> Term:
    """C beside the products."""
    exponent: int | None = c.exponent
    if c.zero:
        exponent = None if rules.zeros == "dropped" else -126
    if rules.reading == "C left out":
        exponent = None
    return Term(-c.significand if c.negative else c.significand, c.exponent - c.fraction_bits, exponent)


def products(a: list[Number], b: list[Number], rules: Rules, scales: Scales) -> list[Term]:
    """The products with the exponents ea + eb, scales included."""
    shift = sum(scale.exponent for scale in scales[0]) if scales else 0
    found = []
    for x, y in zip(a, b, strict=True):
        significand = x.significand * y.significand
        bits = x.fraction_bits + y.fraction_bits
        exponent: int | None = x.exponent + y.exponent
        assert exponent is not None
        last = exponent + shift - bits
        if not significand and rules.reading != "zero product lifts":
            exponent = zero_product(x, y, rules)
        elif rules.reading == "normalised subnormals":
            exponent += x.significand.bit_length() + y.significand.bit_length() - bits - 2
        elif rules.reading == "normalised products":
            exponent += significand >> (bits + 1) != 0
        if exponent is not None and (significand or rules.zeros == "zero-operand"):
            exponent += shift
        found.append(Term(-significand if x.negative != y.negative else significand, last, exponent))
    return found


def zero_product(x: Number, y: Number, rules: Rules) -> int | None:
    """The exponent of a product that is zero, by convention."""
    if rules.zeros == "dropped":
        return None
    if rules.zeros == "zero-product":
        return -126
    return (-126 if x.zero else x.exponent) + (-126 if y.zero else y.exponent)


def groups(a: list[Number], b: list[Number], rules: Rules, scales: Scales) -> list[Term]:
    """Sums of a few products, exact, times the product of their scales; the scales' exponents align."""
    assert scales
    found = []
    for k in range(0, len(a), rules.group):
        pairs = zip(a[k : k + rules.group], b[k : k + rules.group], strict=True)
        value = sum((x.value * y.value for x, y in pairs), Fraction(0))
        p, q = scales[k // rules.scale_block]
        whole = value * 2**8  # operands here have few fraction bits
        assert whole.denominator == 1
        exponent = p.exponent + q.exponent
        significand = whole.numerator * p.significand * q.significand
        last = exponent - p.fraction_bits - q.fraction_bits - 8
        found.append(Term(significand, last, exponent if value else None))
    return found


def finite(terms: list[Term], rules: Rules) -> int:
    """Align, cut, add, put out."""
    exponents = [term.exponent for term in terms if term.exponent is not None]
    if rules.zeros == "dropped" and rules.floor is not None:
        exponents.append(rules.floor)
    if not exponents:
        return 0
    last = max(exponents) - rules.fraction_bits  # of the last bit that is kept
    return encode(sum(cut(term.significand, term.last - last, rules) for term in terms), last, rules)


def cut(significand: int, shift: int, rules: Rules) -> int:
    """Shift left, or right toward zero."""
    if shift >= 0:
        return significand << shift
    if significand < 0 and rules.reading != "floor":
        return -(-significand >> -shift)
    return significand >> -shift


def encode(x: int, last: int, rules: Rules) -> int:
    """Bits of the output for x 2^last."""
    if x == 0:
        return 0
    exponent_bits, fraction_bits, bias, _ = FORMATS["fp16" if rules.half else "fp32"]
    kept = min(fraction_bits, rules.output_fraction_bits)
    exponent = max(abs(x).bit_length() - 1 + last, 1 - bias)
    drop = exponent - kept - last  # bits of x below the last of the output
    whole = abs(x) >> drop if drop > 0 else abs(x) << -drop
    rest = 2 * (abs(x) - (whole << drop)) if drop > 0 else 0  # against one unit of the output's last bit
    unit = 1 << max(drop, 0)
    if (rules.nearest or rules.half) and (rest > unit or (rest == unit and whole % 2)):
        whole += 1
    # the hidden bit of a normal number, and any carry, add one to the exponent field
    magnitude = ((exponent + bias - 1) << fraction_bits) + (whole << (fraction_bits - kept))
    infinity = ((1 << exponent_bits) - 1) << fraction_bits
    return min(magnitude, infinity) | ((x < 0) << (exponent_bits + fraction_bits))


def add(x: int, y: int) -> int:
    """One FP32 addition of bits, to nearest even, by the definition."""
    p, q = decode(x, "fp32"), decode(y, "fp32")
    rules = Rules(1, 23, nearest=True)
    verdict = special([p], [Number(False, 1, 0, 0)], q)
    if verdict is not None:
        return special_bits(verdict, rules)
    total = int((p.value + q.value) * 2**149)
    both = p.negative and q.negative
    return encode(total, -149, rules) if total else both << 31
