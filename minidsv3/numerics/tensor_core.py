"""The tensor core, bit by bit: what one instruction after the other leaves in an FP32 accumulator.

One fused step takes `terms` products and the accumulator C. Each product keeps its exact significand and
the sum of its operands' exponents, unnormalised; all terms, C too, are aligned to the largest exponent, cut
toward zero `fraction_bits` below it, added exactly, and the sum is cut to the output. Two observations make
arrays of that quick. The largest ea + eb is a matrix product: where the sum of 2^(w (ea + eb)) has its
leading bit. And a float whose unit is the last kept bit is cut by `trunc` and adds exactly.

Does: FP8, BF16, FP16, TF32 and block-scaled FP8/FP6/FP4, every row of `data/tensor_cores.toml`. Does not:
vouch for silicon: it agrees with the published results the rows name, and has not been run by us on a GPU.
FP8 on Hopper with C != 0 has no published result to recheck; what zeros do is contested (`ZEROS`).

    >>> from minidsv3.hardware import load_hardware
    >>> from minidsv3.numerics import E4M3
    >>> a, b = np.zeros((1, 32), np.uint8), np.full((32, 1), E4M3.encode(1.0))
    >>> a[0, :3] = E4M3.encode([256.0, 0.015625, -0.03125])    # 2^8; 2^-6, below 2^(8 - 13); 2^-5, just not
    >>> mma(a, b, None, load_hardware("h800").tensor_core["fp8"]).item()
    255.96875

Next: minidsv3.numerics.accumulator
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidsv3.hardware import TensorCore
from minidsv3.numerics.formats import FORMATS, NumberFormat

__all__ = ["ZEROS", "mma"]

Array = NDArray[Any]
Values = NDArray[np.float32]

# What a zero does to the largest exponent; no published result tells these apart. They differ where C is tiny
# beside zero operands (FP8: below 2^(8 - 126)), for BF16 and TF32 also at zero times something huge.
ZEROS = (
    "zero-operand",  # a zero operand, and C = 0, has exponent -126 and takes part (MMA-Sim, c785138)
    "zero-product",  # a zero product, and C = 0, has exponent -126 (later versions of MMA-Sim)
    "dropped",  # zero products and C = 0 take no part; the largest exponent has a floor (Khattak & Mikaitis)
)

# Work goes through panels of K and blocks of the result, so that beside operands and result a product of any
# size takes at most some 35 MB: PANEL's operands decoded, at 12 to 16 bytes each, and a few arrays of a block.
PANEL = (512, 512, 2048)  # along K, M, N
BLOCK = (
    1 << 13,
    512,
)  # elements and columns of the result that stay in the cache; OpenBLAS gives them one thread
CHUNK = 1 << 16  # products at once
_NAN = np.uint32(0x7FFF_FFFF).view(np.float32)
_NOTHING = -20_000  # exponent where there is no product at all


# ---- what is the same for all steps of a unit --------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """A unit with its operand formats and its zeros, worked out."""

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
def _plan(unit: TensorCore, a: NumberFormat, b: NumberFormat, zeros: str) -> _Plan:
    floor = -300 if unit.exponent_floor is None else unit.exponent_floor  # -300: below all products
    lowest = floor if zeros == "dropped" else -126
    (low_a, high_a), (low_b, high_b) = _exponents(a), _exponents(b)
    low = low_a + low_b
    if zeros == "zero-operand":
        low = -252 if unit.scale_block else -126  # what is lower, C's exponent covers
    span = high_a + high_b - low + 1
    terms = next(n for n in range(unit.terms, 0, -1) if n.bit_length() * span <= 2040)
    width = terms.bit_length()
    most = (unit.terms + 1) << (unit.fraction_bits + 2)
    bits = a.fraction_bits + b.fraction_bits + 2
    inside = high_a + high_b < 120 and low_a + low_b - bits > -120 and bits <= 24
    narrow = inside and most <= 1 << 24 and not unit.scale_block and unit.rounding == "toward-zero"
    centre = width * (high_a + high_b + max(low, lowest)) // 4
    return _Plan(unit, a, b, zeros, lowest, narrow, terms, width, centre)


class _Operand(NamedTuple):
    """One matrix's part of a panel, K first."""

    values: Array  # [K, X] without NaN and inf
    weights: Array  # [K, X] 2^(w e - centre), 0 for a zero that takes no part
    classes: Array | None  # [K, X] sign, inf or NaN, if there is any inf or NaN
    scales: Array | None  # [K / scale_block, X] values of the scales

    def part(self, k: slice, x: slice, scale_block: int) -> "_Operand":
        """Some of K, some of X."""
        classes = None if self.classes is None else self.classes[k, x]
        scales = None if self.scales is None else self.scales[_blocks(k, scale_block), x]
        return _Operand(self.values[k, x], self.weights[k, x], classes, scales)


def _blocks(k: slice, scale_block: int) -> slice:
    """The scales that belong to some of K."""
    return slice(k.start // scale_block, -(-k.stop // scale_block))


def _operand(codes: Array, scales: Array | None, fmt: NumberFormat, plan: _Plan) -> _Operand:
    """Decode codes [K, X]."""
    values = fmt.decode(codes)  # [K, X]
    classes = None
    finite = np.isfinite(values)
    if not finite.all():
        classes = np.where(finite, np.sign(values), values)  # [K, X]
        values = np.where(finite, values, np.float32(0))
    exponents = _exponent(values, 1 - fmt.bias).astype(np.int64)  # [K, X]
    zero = values == 0
    exponents[zero] = -126
    weights = ((plan.width * exponents - plan.centre + 1023) << 52).view(np.float64)  # [K, X]
    if plan.zeros != "zero-operand":
        weights[zero] = 0
    return _Operand(values if plan.narrow else values.astype(np.float64), weights, classes, scales)


def _exponent(x: Values, lowest: int) -> NDArray[np.int32]:
    """Exponents of float32 values, not below the lowest."""
    fields = (x.view(np.int32) >> np.int32(23)) & np.int32(255)
    fields -= np.int32(127)
    np.maximum(fields, np.int32(lowest), out=fields)
    return fields


def _power(exponents: NDArray[np.int32], dtype: Any) -> Array:
    """2^e in float32 or float64; e of normal numbers."""
    if dtype == np.float32:
        return ((exponents + np.int32(127)) << np.int32(23)).view(np.float32)
    return ((exponents.astype(np.int64) + 1023) << 52).view(np.float64)


# ---- one fused step ----------------------------------------------------------------------------------------


def _step(c: Values, a: _Operand, b: _Operand, plan: _Plan) -> Values:
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
    scale = _power(unit.fraction_bits - exponents, dtype)  # [M, N] makes the last kept bit 1
    total = finite * scale  # [M, N]
    np.trunc(total, out=total)
    if products is None:
        scale = scale if shift is None else scale * _power(shift, dtype)
        _add_products(total, a.values, b.values, scale)
    else:
        total += np.trunc(products * scale).sum(axis=0)
    result = _rounded(total, exponents, unit)
    if special:
        result = _with_specials(result, start, a, b)
    return _added(result, c) if unit.accumulator == "added" else result


def _largest(
    a: _Operand, b: _Operand, plan: _Plan
) -> tuple[NDArray[np.int32], NDArray[np.int32] | None, Array | None]:
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


def _exact_groups(a: _Operand, b: _Operand, unit: TensorCore) -> tuple[NDArray[np.int32], None, Array]:
    """Each group's sum is exact; its scales' significands join the sum, their exponents the alignment."""
    left = a.values.reshape(unit.terms, unit.group, -1)  # [T, G, M]
    right = b.values.reshape(unit.terms, unit.group, -1)  # [T, G, N]
    repeats = unit.scale_block // unit.group
    scale_a = np.repeat(a.scales, repeats, axis=0)  # type: ignore[arg-type]  # [T, M]
    scale_b = np.repeat(b.scales, repeats, axis=0)  # type: ignore[arg-type]  # [T, N]
    products = np.matmul(left.swapaxes(1, 2), right)  # [T, M, N]
    lowest = 1 - FORMATS[unit.scale_format].bias if unit.scale_format == "e4m3" else -127
    exponents = _exponent(scale_a, lowest)[:, :, None] + _exponent(scale_b, lowest)[:, None]  # [T, M, N]
    exponents[products == 0] = _NOTHING
    products *= scale_a.astype(np.float64)[:, :, None]
    products *= scale_b.astype(np.float64)[:, None]
    return exponents.max(axis=0), None, products


def _of_accumulator(c: Values, plan: _Plan) -> NDArray[np.int32]:
    """The accumulator's own exponent, 128 for inf and NaN."""
    smallest = -14 if plan.unit.output == "fp16" else -126
    exponents = _exponent(c, smallest)  # [M, N]
    if plan.lowest != smallest:
        exponents[c == 0] = plan.lowest
    return exponents


def _room(exponents: NDArray[np.int32], c: Values, plan: _Plan) -> Any:
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


def _rounded(total: Array, exponents: NDArray[np.int32], unit: TensorCore) -> Values:
    """The sum, in units of the last kept bit, as the unit puts it out.  [M, N] -> [M, N]."""
    total += 0.0  # a sum of zero is +0
    total *= _power(exponents - np.int32(unit.fraction_bits), total.dtype)  # exact
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


def _with_specials(result: Values, c: Values, a: _Operand, b: _Operand) -> Values:
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


# ---- the product -------------------------------------------------------------------------------------------


def mma(
    a_codes: ArrayLike, b_codes: ArrayLike, c: ArrayLike | None, unit: TensorCore, *,
    a_format: NumberFormat | None = None, b_format: NumberFormat | None = None,
    a_scale: ArrayLike | None = None, b_scale: ArrayLike | None = None,
    zeros: str = "zero-operand", pad: bool = False,
) -> Values:  # fmt: skip
    """A B + C as a tensor core computes it: one accumulator carried along K, instruction after instruction.

    a_codes: [M, K] and b_codes: [K, N], codes of a_format and b_format; None: the first of the unit's.
    c: float32 [M, N], or None for +0 (with FP16 output: values of FP16).
    a_scale: [M, K / scale_block], b_scale: [K / scale_block, N]: codes of the unit's scales, if it has any
    (UE8M0; E4M3 for nvf4).  zeros: one of ZEROS.
    pad: fill K up to whole instructions with zeros; without, K must be a multiple of the unit's depth.
    Returns float32 [M, N]; NaN is 0x7FFFFFFF, as hardware writes it. ValueError for codes, shapes, formats
    or scales that do not fit. Beside the result memory is bounded (see PANEL).
    """
    if zeros not in ZEROS:
        raise ValueError(f"expected zeros one of {ZEROS}, got {zeros!r}")
    a_format, b_format = operand_format(a_format, unit, "a"), operand_format(b_format, unit, "b")
    a, b = codes_of(a_codes, a_format, "a_codes [M, K]"), codes_of(b_codes, b_format, "b_codes [K, N]")
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"expected a [M, K] and b [K, N] with one K, got {a.shape} and {b.shape}")
    result = _start(c, (a.shape[0], b.shape[1]), unit)  # [M, N]
    scale_a = _scales(a_scale, (a.shape[0], a.shape[1]), unit, "a_scale [M, K / block]")
    scale_b = _scales(b_scale, (b.shape[1], a.shape[1]), unit, "b_scale [K / block, N]", turned=True)
    if a.shape[1] % unit.depth:
        if not pad:
            raise ValueError(
                f"expected K a multiple of the depth {unit.depth}, got {a.shape[1]} (or pad=True)"
            )
        more = -a.shape[1] % unit.depth
        a, b = np.pad(a, ((0, 0), (0, more))), np.pad(b, ((0, more), (0, 0)))
    plan = _plan(unit, a_format, b_format, zeros)
    with np.errstate(all="ignore"):
        if result.shape[1] < min(
            result.shape[0], 64
        ):  # few columns: long rows are quicker, and turning is free
            turned = np.ascontiguousarray(result.T)
            _product(turned, b, a.T, scale_b, scale_a, _plan(unit, b_format, a_format, zeros))
            return np.ascontiguousarray(turned.T)
        _product(result, a.T, b, scale_a, scale_b, plan)
    return result


def _product(
    result: Values, a: Array, b: Array, scale_a: Array | None, scale_b: Array | None, plan: _Plan
) -> None:
    """Panel by panel, block by block.  result: [M, N]  a: codes [K, M]  b: codes [K, N]."""
    depth, block = plan.unit.depth, plan.unit.scale_block
    long = max(1, PANEL[0] // depth) * depth
    for k in _slices(a.shape[0], long):
        for n in _slices(b.shape[1], PANEL[2]):
            right = _operand(b[k, n], _some(scale_b, k, n, block), plan.b, plan)
            for m in _slices(a.shape[1], PANEL[1]):
                left = _operand(a[k, m], _some(scale_a, k, m, block), plan.a, plan)
                _blocks_of(result[m, n], left, right, plan)


def _blocks_of(result: Values, a: _Operand, b: _Operand, plan: _Plan) -> None:
    """All steps along K, for one block of the panel after the other."""
    step, block = plan.unit.terms * plan.unit.group, plan.unit.scale_block
    columns = min(BLOCK[1], result.shape[1])
    for n in _slices(result.shape[1], columns):
        for m in _slices(result.shape[0], max(1, BLOCK[0] // columns)):
            c = np.ascontiguousarray(result[m, n])  # [M, N] of the block
            for k in _slices(len(a.values), step):
                c = _step(c, a.part(k, m, block), b.part(k, n, block), plan)
            result[m, n] = c


def _slices(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def _some(scales: Array | None, k: slice, x: slice, block: int) -> Array | None:
    return None if scales is None else scales[_blocks(k, block), x]


# ---- what may come in --------------------------------------------------------------------------------------


def operand_format(fmt: NumberFormat | None, unit: TensorCore, which: str) -> NumberFormat:
    """The format of operand `which` ("a" or "b"): the unit's first if None; ValueError if not the unit's."""
    if not unit.operands:
        raise ValueError(f"expected a unit with operand formats, got format {unit.format!r}")
    fmt = FORMATS[unit.operands[0]] if fmt is None else fmt
    if fmt.name not in unit.operands:
        raise ValueError(f"expected {which}_format one of {', '.join(unit.operands)}, got {fmt.name}")
    return fmt


def codes_of(codes: ArrayLike, fmt: NumberFormat, what: str) -> Array:
    """Codes of a format, in two axes; ValueError for other integers, other types, other axes."""
    codes = np.asarray(codes)
    if codes.ndim != 2:
        raise ValueError(f"expected {what}, got shape {codes.shape}")
    if codes.dtype.kind not in "ui":
        raise ValueError(f"expected {what} as integer codes of {fmt.name}, got {codes.dtype}")
    if codes.size and not (codes.min() >= 0 and codes.max() < 1 << fmt.bits):
        found = f"{codes.min()} .. {codes.max()}"
        raise ValueError(f"expected {what} codes of {fmt.name}, 0 .. {(1 << fmt.bits) - 1}, got {found}")
    return codes.astype(fmt.dtype, copy=False)


def _start(c: ArrayLike | None, shape: tuple[int, int], unit: TensorCore) -> Values:
    """The accumulator at the beginning, a new array."""
    if c is None:
        return np.zeros(shape, np.float32)
    c = np.asarray(c)
    if c.dtype != np.float32 or c.shape != shape:
        raise ValueError(f"expected c float32 {shape}, got {c.dtype} {c.shape}")
    if unit.output == "fp16":
        with np.errstate(over="ignore"):
            fits = np.array_equal(c, c.astype(np.float16), equal_nan=True)
        if not fits:
            raise ValueError("expected c of FP16 values for a unit with FP16 output, got others")
    return c.copy()


def _scales(
    scale: ArrayLike | None, shape: tuple[int, int], unit: TensorCore, what: str, turned: bool = False
) -> Array | None:
    """Scales as values [K / block, X].  shape: (X, K)."""
    if (scale is None) != (unit.scale_block == 0):
        wants = f"{what} in {unit.scale_format}" if unit.scale_block else f"no {what}"
        raise ValueError(f"expected {wants} for {unit.format}, got {'none' if scale is None else 'one'}")
    if scale is None:
        return None
    blocks = -(-shape[1] // unit.depth) * (unit.depth // unit.scale_block)
    codes = codes_of(scale, FORMATS[unit.scale_format], what)
    codes = codes if turned else codes.T
    if codes.shape != (blocks, shape[0]):
        expected = (blocks, shape[0]) if turned else (shape[0], blocks)
        raise ValueError(f"expected {what} {expected}, got {np.shape(scale)}")
    values = FORMATS[unit.scale_format].decode(codes)  # [K / block, X]
    if not (values > 0).all():
        raise ValueError(f"expected {what} above zero, got {values[~(values > 0)][0]}")
    return values
