"""Experiments on sums: what an accumulator loses along K, over many results, and one sum step by step.

A sum over K is wrong in a way that depends on its operands. Positive ones only ever lose, and in proportion
to the sum. Signed ones cancel: their relative error has no bound, so the error is also given over the sum of
the products' magnitudes, which has one. DeepSeek's "nearly 2 %" at K = 4096 names neither operands nor metric
(report, section 3.3.2); no figure here is meant to meet it.

Does: draw operands, sum them as a tensor core would, measure. Does not: print, draw pictures.

    >>> from minidsv3.hardware import load_hardware
    >>> fp8 = load_hardware("h800").tensor_core["fp8"]
    >>> alone, promoted = accumulation_errors(fp8, [4096], ["uniform [0, 1)"], [None, 128], side=4)
    >>> f"{alone.median:.1%} {promoted.median:.2%}", alone.low               # every sum came out too small
    ('7.5% 0.05%', 1.0)

Next: minidsv3.numerics.tile_errors
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.hardware import TensorCore
from minidsv3.numerics.accumulator import Step, mma_trace
from minidsv3.numerics.formats import FORMATS, NumberFormat
from minidsv3.numerics.tensor_core import mma

__all__ = [
    "OPERANDS",
    "DotTrace",
    "SumError",
    "accumulation_errors",
    "dot_trace",
    "rounded_operands",
    "with_fraction_bits",
]

Values = NDArray[np.float32]


# ---- operands ---------------------------------------------------------------------------------------------


def _uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> Values:
    return rng.random(shape, np.float32)


def _absolute_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Values:
    return np.abs(rng.standard_normal(shape, np.float32))


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Values:
    return rng.standard_normal(shape, np.float32)


OPERANDS: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], Values]] = {
    "uniform [0, 1)": _uniform,
    "absolute normal": _absolute_normal,
    "normal": _normal,
}
"""Positive, positive with a long tail, signed."""


# ---- sums along K -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SumError:
    """How wrong the sums over K products are, over many results."""

    operands: str
    k: int
    interval: int | None  # products between additions in FP32; None: one accumulator all along
    fraction_bits: int
    median: float  # of |sum - exact| / |exact|
    worst: float  # the largest of these; means little where sums cross zero
    normwise: float  # the largest |sum - exact| / sum of |products|
    low: float  # share of the results whose magnitude came out too small

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def with_fraction_bits(unit: TensorCore, bits: int) -> TensorCore:
    """The unit with another accumulator: so many fraction bits in the alignment, and in the output if fewer.

    A unit whose output is cut to its own fraction bits, as FP8 on Hopper, keeps doing so. What was measured
    of the unit is no evidence for the other one.
    """
    if not 1 <= bits <= 35:
        raise ValueError(f"expected 1 .. 35 fraction bits, got {bits}")
    cut = unit.output_fraction_bits == unit.fraction_bits
    out = min(bits, 23) if cut else min(unit.output_fraction_bits, bits)
    if (bits, out) == (unit.fraction_bits, unit.output_fraction_bits):
        return unit
    return replace(unit, fraction_bits=bits, output_fraction_bits=out, silicon="", status="assumed")


def accumulation_errors(
    unit: TensorCore,
    lengths: Sequence[int],
    operands: Sequence[str] = tuple(OPERANDS),
    intervals: Sequence[int | None] = (None, 128),
    side: int = 32,
    seed: int = 0,
) -> list[SumError]:
    """The error of sums over each K of `lengths`, for side x side results of drawn operands.

    Operands are rounded to the unit's format first, with one scale for a matrix where the format has eight
    bits; what is measured is the sum alone, against the exact sum of the rounded operands' products.
    interval: after so many products the accumulator is added to an FP32 sum and begins again at zero.
    """
    if not lengths or min(lengths) < 1:
        raise ValueError(f"expected lengths of at least 1, got {list(lengths)}")
    for interval in intervals:
        if interval is not None and (interval < 1 or interval % unit.depth):
            raise ValueError(
                f"expected an interval of whole instructions of K = {unit.depth}, got {interval}"
            )
    found = []
    fmt = FORMATS[unit.operands[0]]
    for kind in operands:
        rng = np.random.default_rng(seed)
        a, b = (rounded_operands(kind, (side, max(lengths)), fmt, rng) for _ in range(2))  # [side, K]
        exact, magnitude = _exact(a, b, fmt, lengths)
        for interval in intervals:
            sums = _sums(a, b, unit, lengths, interval)
            for i, k in enumerate(lengths):
                measured = _measure(sums[i], exact[i], magnitude[i])
                found.append(SumError(kind, k, interval, unit.fraction_bits, *measured))
    return found


def rounded_operands(
    kind: str, shape: tuple[int, int], fmt: NumberFormat, rng: np.random.Generator
) -> NDArray[Any]:
    """Codes of drawn operands, a name of OPERANDS; one scale for a matrix in formats of eight bits."""
    return _codes(OPERANDS[kind](rng, shape), fmt)


def _codes(x: Values, fmt: NumberFormat) -> NDArray[Any]:
    scale = np.abs(x).max() / np.float32(fmt.largest) if fmt.bits <= 8 else np.float32(1)
    return fmt.encode(x / scale)


def _exact(
    a: NDArray[Any], b: NDArray[Any], fmt: NumberFormat, lengths: Sequence[int]
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Sums of products, and of their magnitudes, in float64: exact for 8-bit operands.  [side, side] each."""
    x, y = fmt.decode(a).astype(np.float64), fmt.decode(b).astype(np.float64)  # [side, K]
    sums = [x[:, :k] @ y[:, :k].T for k in lengths]
    return sums, [np.abs(x[:, :k]) @ np.abs(y[:, :k]).T for k in lengths]


def _sums(
    a: NDArray[Any], b: NDArray[Any], unit: TensorCore, lengths: Sequence[int], interval: int | None
) -> list[Values]:
    """The tensor core's sums over the first K products for each K, in one walk along K."""
    whole = [k - k % unit.depth for k in lengths]  # the last instruction may be filled up with zeros
    total = np.zeros((len(a), len(b)), np.float32)  # in FP32
    running: Values | None = None  # in the tensor core
    found, start = {}, 0
    for stop in sorted({0, *whole, *range(0, max(lengths), interval or max(lengths))}):
        if stop > start:
            running = mma(a[:, start:stop], b[:, start:stop].T, running, unit)
        if running is not None and interval and stop % interval == 0:
            total, running = total + running, None
        for k in (k for k, at in zip(lengths, whole, strict=True) if at == stop):
            rest = a[:, stop:k], b[:, stop:k].T
            last = running if k == stop else mma(*rest, running, unit, pad=True)
            found[k] = total if last is None else total + last
        start = stop
    return [found[k] for k in lengths]


def _measure(
    sums: Values, exact: NDArray[np.float64], magnitude: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Median and worst relative error, worst over the sum of magnitudes, share of sums that came out low."""
    wrong = np.abs(sums - exact)
    with np.errstate(over="ignore"):  # a sum of zero that is missed is infinitely far off
        relative = wrong / np.maximum(np.abs(exact), np.finfo(np.float64).tiny)
    low = float(np.mean(np.abs(sums) < np.abs(exact)))
    normwise = wrong / np.maximum(magnitude, np.finfo(np.float64).tiny)
    return float(np.median(relative)), float(relative.max()), float(normwise.max()), low


@dataclass(frozen=True)
class DotTrace:
    """One dot product, every step of it.  totals: the FP32 sum after a step, None where nothing was added."""

    k: int
    interval: int | None
    steps: Sequence[Step]
    totals: Sequence[float | None]
    result: float
    exact: float
    magnitude: float  # sum of |products|

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def dot_trace(a: NDArray[Any], b: NDArray[Any], unit: TensorCore, interval: int | None = 128) -> DotTrace:
    """Sum codes a [K] times b [K], promoting to FP32 after each interval, and keep every step."""
    steps: list[Step] = []
    totals: list[float | None] = []
    total = np.float32(0)
    for start in range(0, len(a), interval or len(a)):
        here = slice(start, start + (interval or len(a)))
        part = mma_trace(a[here], b[here], 0.0, unit)
        steps += [replace(step, first=step.first + start) for step in part]
        total = total + np.float32(part[-1].result)
        totals += [None] * (len(part) - 1) + [float(total) if interval else None]
    fmt = FORMATS[unit.operands[0]]
    products = fmt.decode(a).astype(np.float64) * fmt.decode(b)  # [K]
    result = float(total)
    return DotTrace(
        len(a), interval, steps, totals, result, float(products.sum()), float(np.abs(products).sum())
    )
