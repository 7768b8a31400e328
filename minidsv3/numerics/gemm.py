"""FP8 matrix products: exact sums, sums promoted to FP32, or what the tensor core makes of them.

V3 multiplies E4M3 codes on the tensor core, 128 of K at a time, and adds each partial sum, times the scales
of its tiles, to an FP32 accumulator outside of it. So the accumulator that keeps 13 fraction bits never runs
longer than four instructions, and scales may change along K. The order of that last step differs between
published kernels, and shows with FP32 scales; with powers of two all orders agree.

Does: Fprop, Dgrad and Wgrad alike (blocks are arguments); ragged K, as if padded with zeros. Does not: choose
which operand is quantised how (`minidsv3.machine` does); write other than FP32 and BF16.

    >>> x, w = np.random.default_rng(0).random((2, 8, 4096), np.float32)    # uniform in [0, 1)
    >>> whole = {"block_x": (8, 4096), "block_w": (8, 4096)}
    >>> ideal = gemm_fp8(x, w, "ideal", **whole)
    >>> for interval in (None, 128):              # one accumulator along all of K; promotion every 128
    ...     y = gemm_fp8(x, w, "hardware", interval=interval, **whole)
    ...     print(f"median error {np.median(y / ideal - 1):+.2%}")
    median error -7.46%
    median error -0.06%

Next: minidsv3.numerics.experiments
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.hardware import TensorCore, load_hardware
from minidsv3.numerics.formats import BF16
from minidsv3.numerics.scaling import Quantized, quantize
from minidsv3.numerics.tensor_core import mma

__all__ = ["ACCUMULATE", "ORDERS", "gemm_fp8"]

Values = NDArray[np.float32]
Block = tuple[int, int]

ACCUMULATE = ("ideal", "promoted", "hardware")
# How a partial sum joins the FP32 accumulator; every product and sum is rounded to nearest.
ORDERS = (
    "deepgemm",  # final += (sa sb) partial, left to right, as DeepGEMM writes it
    "deepgemm-fma",  # the same with multiplication and addition fused, as nvcc compiles it by default
    "triton",  # final += (partial sa) sb, as DeepSeek's kernel.py writes it
)
ROWS = 1024  # of the result at once, so that partial sums and products of scales stay small


def gemm_fp8(
    x: Values | Quantized, w: Values | Quantized, accumulate: str = "promoted", *,
    block_x: Block = (1, 128), block_w: Block = (128, 128), interval: int | None = 128,
    order: str = "deepgemm", unit: TensorCore | None = None, output: str = "fp32",
    scale: str = "float32", amax_floor: float = 1e-4,
) -> Values:  # fmt: skip
    """x w^T in FP8.  x: [M, K]  w: [N, K]  ->  float32 [M, N] (values of BF16 if output is "bf16").

    x, w: float32, quantised here (E4M3, block_x, block_w, scale, amax_floor as for `quantize`), or Quantized.
    accumulate: "ideal" multiplies the dequantised operands in float32; "promoted" sums each interval of the
    codes' values in float32; "hardware" has `unit` (the H800's, if None) sum it, bit for bit, from +0.
    interval: elements of K between promotions; 128 are four instructions of Hopper. It must divide the blocks
    along K; blocks shorter than it are the interval, since a partial sum has one scale. None: no promotion,
    one accumulator along all of K, for which both operands need one block along K.
    An interval that is no whole number of instructions, or ends with K, is filled with zeros inside, so a
    block of 16 costs the hardware an instruction of 32.  order: one of ORDERS.
    ValueError for what does not fit.
    """
    _one_of("accumulate", accumulate, ACCUMULATE)
    _one_of("order", order, ORDERS)
    _one_of("output", output, ("fp32", "bf16"))
    x = (
        x
        if isinstance(x, Quantized)
        else quantize(_matrix(x, "x [M, K]"), block_x, scale=scale, amax_floor=amax_floor)
    )
    w = (
        w
        if isinstance(w, Quantized)
        else quantize(_matrix(w, "w [N, K]"), block_w, scale=scale, amax_floor=amax_floor)
    )
    if x.codes.ndim != 2 or w.codes.ndim != 2 or x.codes.shape[1] != w.codes.shape[1]:
        raise ValueError(
            f"expected x [M, K] and w [N, K] with one K, got {x.codes.shape} and {w.codes.shape}"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN, as on a GPU
        if accumulate == "ideal":
            result: Values = x.dequantize() @ w.dequantize().T  # [M, N]
        else:
            stride = _stride(x, w, interval)
            unit = load_hardware("h800").tensor_core["fp8"] if unit is None else unit
            result = np.zeros((len(x.codes), len(w.codes)), np.float32)  # [M, N]
            for m in _slices(len(result), ROWS):
                _accumulate(result[m], m, x, w, stride, order, unit if accumulate == "hardware" else None)
    return BF16.round(result) if output == "bf16" else result


def _one_of(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise ValueError(f"expected {what} one of {', '.join(names)}, got {name!r}")


def _matrix(x: Any, what: str) -> Values:
    """Float32 in two axes."""
    if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.ndim != 2:
        found = f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        raise ValueError(f"expected {what} float32 or Quantized, got {found}")
    return x


def _stride(x: Quantized, w: Quantized, interval: Any) -> int:
    """Elements of K in one partial sum."""
    K: int = x.codes.shape[1]
    block_x, block_w = x.block[1], w.block[1]
    if interval is None:
        if min(block_x, block_w) < K:
            raise ValueError(
                f"expected one block along K = {K} without promotion, got {block_x} and {block_w}"
            )
        return max(K, 1)
    if block_x != block_w and min(block_x, block_w) < K:
        raise ValueError(f"expected equal blocks along K, got {block_x} for x and {block_w} for w")
    block = min(block_x, block_w)
    whole = isinstance(interval, int | np.integer) and interval > 0
    if not whole or (interval < block < K and block % interval):
        raise ValueError(f"expected an interval that divides the block of {block} along K, got {interval}")
    return int(min(interval, block))


def _accumulate(
    result: Values, m: slice, x: Quantized, w: Quantized, stride: int, order: str, unit: TensorCore | None
) -> None:
    """Add the partial sums of some rows, one interval of K after the other.  result: [m, N]."""
    for k in _slices(x.codes.shape[1], stride):
        codes_x, codes_w = x.codes[m, k], w.codes[:, k]  # [m, k], [N, k]
        if unit is None:
            partial = x.fmt.decode(codes_x) @ w.fmt.decode(codes_w).T  # [m, N]
        else:
            partial = mma(codes_x, codes_w.T, None, unit, a_format=x.fmt, b_format=w.fmt, pad=True)
        scale_x = _along(x, k.start)[m]  # [m]
        scale_w = _along(w, k.start)  # [N]
        _join(result, partial, scale_x[:, None], scale_w[None], order)


def _along(q: Quantized, k: int) -> Values:
    """The scale of each row at place k of K.  -> [rows]."""
    return np.repeat(q.scale[:, k // q.block[1]], q.block[0])[: len(q.codes)]


def _join(result: Values, partial: Values, scale_x: Values, scale_w: Values, order: str) -> None:
    """Add a partial sum, times its scales.  All [m, N], scales as rows and columns."""
    if order == "triton":
        partial *= scale_x
        partial *= scale_w
        result += partial
    elif order == "deepgemm":
        partial *= scale_x * scale_w
        result += partial
    else:
        result[...] = _fused(scale_x * scale_w, partial, result)


def _fused(x: Values, y: Values, z: Values) -> Values:
    """x y + z with one rounding, to nearest even.  float32 in, float32 out."""
    product = x.astype(np.float64) * y  # exact: 48 bits
    total = product + z
    # what the sum in float64 lost (Knuth's two-sum); a last bit made odd keeps the second rounding honest
    high = total - product
    lost = (product - (total - high)) + (z - high)
    bits = total.view(np.int64)
    even = (bits & 1 == 0) & (lost != 0)
    bits += np.where(even, np.where((lost > 0) == (total > 0), 1, -1), 0)
    return total.astype(np.float32)


def _slices(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
