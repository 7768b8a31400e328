"""The tensor core, bit by bit: what one instruction after the other leaves in an FP32 accumulator.

One fused step takes `terms` products and the accumulator C. Each product keeps its exact significand and
the sum of its operands' exponents, unnormalised; all terms, C too, are aligned to the largest exponent, cut
toward zero `fraction_bits` below it, added exactly, and the sum is cut to the output. An instruction is one
such step or a few, and a product of matrices is many instructions with one accumulator.

Does: FP8, BF16, FP16, TF32 and block-scaled FP8/FP6/FP4, every row of `data/tensor_cores.toml`. Does not:
vouch for silicon: it agrees with the published results the rows name, and has not been run by us on a GPU.
FP8 on Hopper with C != 0 has no published result to recheck; what zeros do is contested (`ZEROS`).

    >>> from minidsv3.hardware import load_hardware
    >>> from minidsv3.numerics import E4M3
    >>> a, b = np.zeros((1, 32), np.uint8), np.full((32, 1), E4M3.encode(1.0))
    >>> a[0, :3] = E4M3.encode([256.0, 0.015625, -0.03125])    # 2^8; 2^-6, below 2^(8 - 13); 2^-5, just not
    >>> mma(a, b, None, load_hardware("h800").tensor_core["fp8"]).item()
    255.96875

Next: minidsv3.numerics.fused_step
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidsv3.hardware import TensorCore
from minidsv3.numerics.formats import FORMATS, NumberFormat
from minidsv3.numerics.fused_step import ZEROS, Operand, Plan, fused_step, operand, plan_of, scales_of

__all__ = ["ZEROS", "codes_of", "mma", "operand_format"]

Array = NDArray[Any]
Values = NDArray[np.float32]

# Work goes through panels of K and blocks of the result, so that beside operands and result a product of any
# size takes some 35 MB at most: operands decoded, at 12 to 16 bytes each, and a few arrays of a block.
PANEL = (512, 512, 2048)  # along K, M, N
BLOCK = (1 << 13, 512)  # elements and columns at once: they stay in the cache, and OpenBLAS takes one thread


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
    plan = plan_of(unit, a_format, b_format, zeros)
    with np.errstate(all="ignore"):
        if result.shape[1] < min(len(result), 64):  # few columns: long rows are quicker
            turned = np.ascontiguousarray(result.T)
            _product(turned, b, a.T, scale_b, scale_a, plan_of(unit, b_format, a_format, zeros))
            return np.ascontiguousarray(turned.T)
        _product(result, a.T, b, scale_a, scale_b, plan)
    return result


def _product(
    result: Values, a: Array, b: Array, scale_a: Array | None, scale_b: Array | None, plan: Plan
) -> None:
    """Panel by panel, block by block.  result: [M, N]  a: codes [K, M]  b: codes [K, N]."""
    depth, block = plan.unit.depth, plan.unit.scale_block
    long = max(1, PANEL[0] // depth) * depth
    for k in _slices(a.shape[0], long):
        for n in _slices(b.shape[1], PANEL[2]):
            right = operand(b[k, n], _some(scale_b, k, n, block), plan.b, plan)
            for m in _slices(a.shape[1], PANEL[1]):
                left = operand(a[k, m], _some(scale_a, k, m, block), plan.a, plan)
                _blocks_of(result[m, n], left, right, plan)


def _blocks_of(result: Values, a: Operand, b: Operand, plan: Plan) -> None:
    """All steps along K, for one block of the panel after the other."""
    step, block = plan.unit.terms * plan.unit.group, plan.unit.scale_block
    columns = min(BLOCK[1], result.shape[1])
    for n in _slices(result.shape[1], columns):
        for m in _slices(result.shape[0], max(1, BLOCK[0] // columns)):
            c = np.ascontiguousarray(result[m, n])  # [M, N] of the block
            for k in _slices(len(a.values), step):
                c = fused_step(c, a.part(k, m, block), b.part(k, n, block), plan)
            result[m, n] = c


def _slices(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def _some(scales: Array | None, k: slice, x: slice, block: int) -> Array | None:
    return None if scales is None else scales[scales_of(k, block), x]


# ---- what may come in --------------------------------------------------------------------------------------


def operand_format(fmt: Any, unit: Any, which: str) -> NumberFormat:
    """The format of operand `which` ("a" or "b"): the unit's first if None; ValueError if not the unit's."""
    if not isinstance(unit, TensorCore):
        raise ValueError(f"expected a unit, as load_hardware(...).tensor_core[...], got {unit!r:.60}")
    if not unit.operands:
        raise ValueError(f"expected a unit with operand formats, got format {unit.format!r}")
    if not set(unit.operands) <= set(FORMATS):
        raise ValueError(f"expected operands among {', '.join(FORMATS)}, got {', '.join(unit.operands)}")
    if fmt is None:
        return FORMATS[unit.operands[0]]
    if not isinstance(fmt, NumberFormat) or fmt.name not in unit.operands:
        found = getattr(fmt, "name", repr(fmt))
        raise ValueError(f"expected {which}_format one of {', '.join(unit.operands)}, got {found}")
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
