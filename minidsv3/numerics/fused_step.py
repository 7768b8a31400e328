"""One fused step of a tensor core for a whole block of results, and what it needs of its operands.

Two observations make it quick. The largest of the exponents ea + eb is a matrix product: the sum over the
terms of 2^(w (ea + eb)), with w bits enough to count them, has its leading bit where w times the largest is.
And a float whose unit is the last bit kept is cut by `trunc` and adds whole numbers exactly: in float32 for
FP8 with 13 fraction bits, in float64 for the rest.

Does: alignment, cutting, the sum and its rounding, NaN and infinity, scales, exact groups. Does not: go along
K, check what comes in (`minidsv3.numerics.tensor_core` does), explain itself (`mma_trace` does).

    >>> from minidsv3.hardware import tensor_core
    >>> plan = plan_of(tensor_core("hopper-wgmma", "fp8"), FORMATS["e4m3"], FORMATS["e4m3"], "zero-operand")
    >>> a, b = (operand(np.full((32, 1), code), None, FORMATS["e4m3"], plan) for code in (0x38, 0x3C))
    >>> fused_step(np.float32([[100]]), a, b, plan)           # 32 times 1 x 1.5, and 100
    array([[148.]], dtype=float32)

Next: minidsv3.numerics.accumulator
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.hardware import TensorCore
from minidsv3.numerics.formats import FORMATS, FP16, FP32, NumberFormat

__all__ = ["ZEROS", "Operand", "Plan", "fused_step", "operand", "plan_of", "scales_of"]

Array = NDArray[Any]
Values = NDArray[np.float32]
Exponents = NDArray[np.int32]

# What a zero does to the largest exponent; no published result tells these apart. They differ where C is tiny
# beside zero operands (FP8: below 2^(8 - 126)), for BF16 and TF32 also at zero times something huge.
ZEROS = (
    "zero-operand",  # a zero operand, and C = 0, has exponent -126 and takes part (MMA-Sim, c785138)
    "zero-product",  # a zero product, and C = 0, has exponent -126 (later versions of MMA-Sim)
    "dropped",  # zero products and C = 0 take no part; the largest exponent has a floor (Khattak & Mikaitis)
)

CHUNK = 1 << 16  # products at once
ABSENT = -126  # exponent of what is zero, where it takes part
_NAN = np.uint32(0x7FFF_FFFF).view(np.float32)
_NOTHING = -20_000  # exponent where there is no product at all


@dataclass(frozen=True)
class Plan:
    """A unit with its operand formats and its zeros, worked out: the same for all steps."""

    unit: TensorCore
    a: NumberFormat
    b: NumberFormat
    zeros: str
    lowest: int  # bound on the largest exponent, and exponent of C = 0
    narrow: bool  # float32 holds every product and every sum exactly
    terms: int  # of which the largest exponent is found by one matrix product
    width: int  # w: bits an exponent takes there
    centre: int  # subtracted from w e of each operand, to stay inside float64

    @cached_property
    def of_leading(self) -> Array:
        """The exponent that a float64's exponent field stands for."""
        exponents = (np.arange(2048) - 1023 + 2 * self.centre) // self.width
        exponents[0] = _NOTHING
        return exponents.astype(np.int32)


def _exponents(fmt: NumberFormat) -> tuple[int, int]:
    """Lowest and highest exponent of a format's numbers, subnormals at that of the smallest normal."""
    return 1 - fmt.bias, (fmt.top >> fmt.fraction_bits) - fmt.bias


@lru_cache(maxsize=64)
def plan_of(unit: TensorCore, a: NumberFormat, b: NumberFormat, zeros: str) -> Plan:
    """Work a unit out for formats of a and b and one of ZEROS."""
    floor = -300 if unit.exponent_floor is None else unit.exponent_floor  # -300: below all products
    lowest = floor if zeros == "dropped" else ABSENT
    (low_a, high_a), (low_b, high_b) = _exponents(a), _exponents(b)
    low, high = low_a + low_b, high_a + high_b
    if zeros == "zero-operand":
        low = 2 * ABSENT
    if not unit.scale_block:  # what is lower does not count
        low = max(low, lowest)
    terms = next(n for n in range(unit.terms, 0, -1) if n.bit_length() * (high - low + 1) <= 2040)
    width = terms.bit_length()
    bits = a.fraction_bits + b.fraction_bits + 2  # of a product
    inside = high < 120 and low_a + low_b - bits > -120 and bits <= 24
    exact = unit.fraction_bits > 1 and (unit.terms + 1) << (unit.fraction_bits + 2) <= 1 << 24
    narrow = inside and exact and not unit.scale_block and unit.rounding == "toward-zero"
    return Plan(unit, a, b, zeros, lowest, narrow, terms, width, width * (high + low) // 4)


class Operand(NamedTuple):
    """One matrix's part of a panel, K first."""

    values: Array  # [K, X] without NaN and inf
    weights: Array  # [K, X] 2^(w e - centre), 0 for a zero that takes no part
    classes: Array | None  # [K, X] sign, inf or NaN, if there is any inf or NaN
    scales: Array | None  # [K / scale_block, X] values of the scales

    def part(self, k: slice, x: slice, scale_block: int) -> "Operand":
        """Some of K, some of X."""
        classes = None if self.classes is None else self.classes[k, x]
        scales = None if self.scales is None else self.scales[scales_of(k, scale_block), x]
        return Operand(self.values[k, x], self.weights[k, x], classes, scales)


def scales_of(k: slice, scale_block: int) -> slice:
    """The scales that belong to some of K."""
    return slice(k.start // scale_block, -(-k.stop // scale_block))


def operand(codes: Array, scales: Array | None, fmt: NumberFormat, plan: Plan) -> Operand:
    """Decode codes.  codes: [K, X]  scales: [K / scale_block, X] or None."""
    values = fmt.decode(codes)  # [K, X]
    classes = None
    finite = np.isfinite(values)
    if not finite.all():
        classes = np.where(finite, np.sign(values), values)  # [K, X]
        values = np.where(finite, values, np.float32(0))
    exponents = _exponent(values, 1 - fmt.bias).astype(np.int64)  # [K, X]
    zero = values == 0
    exponents[zero] = ABSENT
    weights = ((plan.width * exponents - plan.centre + 1023) << 52).view(np.float64)  # [K, X]
    if plan.zeros != "zero-operand":
        weights[zero] = 0
    return Operand(values if plan.narrow else values.astype(np.float64), weights, classes, scales)


def _exponent(x: Values, lowest: int) -> Exponents:
    """Exponents of float32 values, not below the lowest."""
    fields = (x.view(np.int32) >> np.int32(23)) & np.int32(255)
    fields -= np.int32(127)
    np.maximum(fields, np.int32(lowest), out=fields)
    return fields


def _two_to(exponents: Exponents, dtype: Any) -> Array:
    """2^e in float32 or float64; e of normal numbers."""
    if dtype == np.float32:
        return ((exponents + np.int32(127)) << np.int32(23)).view(np.float32)
    return ((exponents.astype(np.int64) + 1023) << 52).view(np.float64)


# ---- one fused step ----------------------------------------------------------------------------------------


def fused_step(c: Values, a: Operand, b: Operand, plan: Plan) -> Values:
    """One fused step.  c: [M, N]  a: [terms, M]  b: [terms, N]  ->  the new accumulator [M, N]."""
    unit = plan.unit
    start = np.zeros_like(c) if unit.accumulator == "added" else c  # [M, N]
    exponents, shift, products = _largest(a, b, plan)  # [M, N], [M, N], [T, M, N]; the last two if needed
    np.maximum(exponents, _of_accumulator(start, plan), out=exponents)
    special = a.classes is not None or b.classes is not None
    finite = start
    if exponents.max(initial=0) >= 128 and not np.isfinite(start).all():
        special, finite = True, np.where(np.isfinite(start), start, np.float32(0))
    dtype = _room(exponents, finite, plan)
    scale = _two_to(unit.fraction_bits - exponents, dtype)  # [M, N] makes the last kept bit 1
    total = finite * scale  # [M, N]
    np.trunc(total, out=total)
    if products is None:
        scale = scale if shift is None else scale * _two_to(shift, dtype)
        _add_products(total, a.values, b.values, scale)
    else:
        total += np.trunc(products * scale).sum(axis=0)
    result = _rounded(total, exponents, unit)
    if special:
        result = _with_specials(result, start, a, b)
    return _added(result, c) if unit.accumulator == "added" else result


def _largest(a: Operand, b: Operand, plan: Plan) -> tuple[Exponents, Exponents | None, Array | None]:
    """Largest exponent of the products, scales included; the scales' alone; the products if made already."""
    if a.scales is not None and b.scales is not None and plan.unit.group > 1:
        return _exact_groups(a, b, plan.unit)
    leading: Any = 0.0
    for k in range(0, plan.unit.terms, plan.terms):
        some = slice(k, k + plan.terms)
        leading = np.maximum(leading, a.weights[some].T @ b.weights[some])  # [M, N]
    exponents = plan.of_leading.take(leading.view(np.int64) >> 52)  # [M, N]
    if a.scales is None or b.scales is None:
        return exponents, None, None
    shift = _exponent(a.scales, -127).T + _exponent(b.scales, -127)  # [M, N]
    return exponents + shift, shift, None


def _exact_groups(a: Operand, b: Operand, unit: TensorCore) -> tuple[Exponents, None, Array]:
    """Each group's sum is exact; its scales' significands join the sum, their exponents the alignment."""
    left = a.values.reshape(unit.terms, unit.group, -1)  # [T, G, M]
    right = b.values.reshape(unit.terms, unit.group, -1)  # [T, G, N]
    repeats = unit.scale_block // unit.group
    scale_a = np.repeat(a.scales, repeats, axis=0)  # type: ignore[arg-type]  # [T, M]
    scale_b = np.repeat(b.scales, repeats, axis=0)  # type: ignore[arg-type]  # [T, N]
    products = np.matmul(left.swapaxes(1, 2), right)  # [T, M, N]
    fmt = FORMATS[unit.scale_format]
    lowest = 1 - fmt.bias if fmt.signed else -fmt.bias
    exponents = _exponent(scale_a, lowest)[:, :, None] + _exponent(scale_b, lowest)[:, None]  # [T, M, N]
    exponents[products == 0] = _NOTHING
    products *= scale_a.astype(np.float64)[:, :, None]
    products *= scale_b.astype(np.float64)[:, None]
    return exponents.max(axis=0), None, products


def _of_accumulator(c: Values, plan: Plan) -> Exponents:
    """The accumulator's own exponent, 128 for inf and NaN."""
    smallest = 1 - (FP16 if plan.unit.output == "fp16" else FP32).bias
    exponents = _exponent(c, smallest)  # [M, N]
    if plan.lowest != smallest:
        exponents[c == 0] = plan.lowest
    return exponents


def _room(exponents: Exponents, c: Values, plan: Plan) -> Any:
    """float32 where it is enough; there, exponents too low for it are lifted where nothing but zeros is."""
    lowest = np.int32(plan.unit.fraction_bits - 126)
    if not plan.narrow:
        return np.float64
    if exponents.min(initial=0) < lowest:  # all products are zero: narrow formats do not reach down there
        if c[exponents < lowest].any():
            return np.float64
        np.maximum(exponents, lowest, out=exponents)
    return np.float32


def _add_products(total: Array, a: Array, b: Array, scale: Array) -> None:
    """Add to total [M, N] the products of a [T, M] and b [T, N], each cut toward zero after scaling."""
    (terms, M), N = a.shape, b.shape[1]
    rows = max(1, CHUNK // max(1, terms * N))
    for m in range(0, M, rows):
        some = slice(m, min(m + rows, M))
        products = np.multiply(a[:, some, None], b[:, None], dtype=total.dtype)  # [T, rows, N]
        products *= scale[some]
        np.trunc(products, out=products)
        total[some] += np.add.reduce(products, axis=0)  # whole numbers: exact


def _rounded(total: Array, exponents: Exponents, unit: TensorCore) -> Values:
    """The sum, in units of the last kept bit, as the unit puts it out.  [M, N] -> [M, N]."""
    total += 0.0  # a sum of zero is +0
    total *= _two_to(exponents - np.int32(unit.fraction_bits), total.dtype)  # exact
    if total.dtype == np.float32:
        total.view(np.int32)[...] &= np.int32(-1 << (23 - unit.output_fraction_bits))
        return total
    if unit.output == "fp16":
        return total.astype(np.float16).astype(np.float32)  # to nearest even
    return _float32(total, unit, int(exponents.min(initial=0)))


def _float32(x: Array, unit: TensorCore, exponent: int) -> Values:
    """Round float64 to the output's fraction bits, at the exponents of FP32.  exponent: the smallest of x."""
    cut = np.int64(52 - unit.output_fraction_bits)
    small = None
    if exponent - unit.fraction_bits < -126:  # some may be subnormal: then the last bit is at a fixed place
        small = np.abs(x) < 2.0**-126
        last = 2.0 ** (-126 - unit.output_fraction_bits)
        fixed = np.rint(x / last) if unit.rounding == "nearest-even" else np.trunc(x / last)
    bits = x.view(np.int64)
    if unit.rounding == "nearest-even":
        bits += (np.int64(1) << (cut - 1)) - 1 + ((bits >> cut) & 1)
    bits &= np.int64(-1) << cut
    if small is not None:
        np.copyto(x, fixed * last, where=small)
    return x.astype(np.float32)  # exact, or beyond the largest: inf


def _with_specials(result: Values, c: Values, a: Operand, b: Operand) -> Values:
    """NaN, inf x 0 and inf - inf give NaN, any other inf that inf: IEEE's own rules, on signs."""
    signs_a = np.sign(a.values) if a.classes is None else a.classes
    signs_b = np.sign(b.values) if b.classes is None else b.classes
    verdict = signs_a.T @ signs_b + np.where(np.isfinite(c), 0, c)  # [M, N]
    verdict[np.isnan(verdict)] = _NAN
    return np.where(np.isfinite(verdict), result, verdict).astype(np.float32)


def _added(result: Values, c: Values) -> Values:
    """One FP32 addition, to nearest even."""
    result = result + c
    result[np.isnan(result)] = _NAN
    return result
