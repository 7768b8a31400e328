"""Experiments on drawn numbers: what an accumulator loses along K, and what a scale for each tile saves.

A sum over K is wrong in a way that depends on its operands. Positive ones only ever lose, and in proportion
to the sum. Signed ones cancel: their relative error has no bound, so the error is also given over the sum of
the products' magnitudes, which has one. DeepSeek's "nearly 2 %" at K = 4096 names neither operands nor metric
(report, section 3.3.2); no figure here is meant to meet it.

Does: draw operands, sum them as a tensor core would, measure. Does not: print, draw pictures.

    >>> import numpy as np
    >>> x = np.float32([[1.0, 2.0, 1000.0]])
    >>> error = tile_error(x, np.float32([[1.0, 0.0, 1000.0]]))
    >>> round(error.relative_rms, 6), error.flushed, error.amax
    (0.002, 1, 1000.0)

Next: minidsv3.machine
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.config import near
from minidsv3.hardware import TensorCore
from minidsv3.numerics.accumulator import Step, mma_trace
from minidsv3.numerics.formats import BF16, E4M3, E5M2, E5M6, FORMATS, NumberFormat
from minidsv3.numerics.logfmt import LogFMT
from minidsv3.numerics.scaling import tile_round
from minidsv3.numerics.tensor_core import mma

__all__ = [
    "CODECS",
    "OPERANDS",
    "Codec",
    "DotTrace",
    "SumError",
    "TileError",
    "accumulation_errors",
    "codec_errors",
    "dot_trace",
    "draw",
    "outlier_errors",
    "rounded_operands",
    "tile_error",
    "with_fraction_bits",
]

Values = NDArray[np.float32]
Codec = Callable[[Values], Values]


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


def draw(kind: str, shape: tuple[int, int], rng: np.random.Generator, growth: float = 100_000.0) -> Values:
    """A matrix [R, C] to quantise.

    kind: "gaussian"; "outliers", in which one channel of 256 is `growth` times the others, as activations
    have them; or a name of OPERANDS.
    """
    if kind in OPERANDS:
        return OPERANDS[kind](rng, shape)
    if kind not in ("gaussian", "outliers"):
        known = ["gaussian", "outliers", *OPERANDS]
        raise ValueError(f"expected a kind of random values, got {kind!r}: {near(kind, known)}")
    x = rng.standard_normal(shape, np.float32)
    if kind == "outliers":
        channels = rng.choice(shape[1], max(shape[1] // 256, 1), replace=False)
        x[:, channels] *= np.float32(growth)
    return x


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

    A unit whose output is cut to its own fraction bits, as FP8 on Hopper, keeps doing so.
    """
    if not 1 <= bits <= 35:
        raise ValueError(f"expected 1 .. 35 fraction bits, got {bits}")
    cut = unit.output_fraction_bits == unit.fraction_bits
    out = min(bits, 23) if cut else min(unit.output_fraction_bits, bits)
    return replace(unit, fraction_bits=bits, output_fraction_bits=out)


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
    stops = sorted(set(lengths) | set(range(0, max(lengths), interval or max(lengths))))
    total = np.zeros((len(a), len(b)), np.float32)  # in FP32
    running: Values | None = None  # in the tensor core
    found, start = {}, 0
    for stop in stops[1:] if stops[0] == 0 else stops:
        running = mma(a[:, start:stop], b[:, start:stop].T, running, unit, pad=True)
        found[stop] = total + running if interval else running
        if interval and stop % interval == 0:
            total, running = total + running, None
        start = stop
    return [found[k] for k in lengths]


def _measure(
    sums: Values, exact: NDArray[np.float64], magnitude: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Median and worst relative error, worst over the sum of magnitudes, share of sums that came out low."""
    wrong = np.abs(sums - exact)
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


# ---- tiles ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TileError:
    """What a codec did to a matrix."""

    relative_rms: float  # sqrt(sum of squared errors / sum of squares)
    median: (
        float  # of |error| / |value|, over values that are not zero: a few large ones do not hide the rest
    )
    worst_tile: float  # the relative RMS error of the worst 1x128 tile
    flushed: int  # values that were not zero and came back as zero
    amax: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def tile_error(x: Values, back: Values, tile: int = 128) -> TileError:
    """Compare a matrix with what came back of it.  x, back: [R, C]."""
    wrong = (x.astype(np.float64) - back) ** 2  # [R, C]
    square = x.astype(np.float64) ** 2
    starts = np.arange(0, x.shape[1], tile)
    tile_wrong, tile_square = (np.add.reduceat(values, starts, axis=1) for values in (wrong, square))
    ratio = np.divide(tile_wrong, tile_square, out=np.zeros_like(tile_wrong), where=tile_square > 0)
    lost, whole, some = float(wrong.sum()), float(square.sum()), x != 0  # NaN stays NaN
    share = np.sqrt(wrong[some] / square[some])
    return TileError(
        float(np.sqrt(lost / whole)) if whole else lost,
        float(np.median(share)) if share.size else lost,
        float(np.sqrt(ratio.max(initial=0))),
        int(np.count_nonzero((x != 0) & (back == 0))),
        float(np.abs(x).max(initial=0)),
    )


CODECS: Mapping[str, Codec] = {
    "E5M2": lambda x: tile_round(x, (1, 128), E5M2),
    "E4M3": lambda x: tile_round(x, (1, 128), E4M3),
    "LogFMT-8": lambda x: LogFMT(bits=8).round(x),
    "LogFMT-10": lambda x: LogFMT(bits=10).round(x),
    "E5M6": lambda x: tile_round(x, (1, 128), E5M6, scale="power-of-two"),
    "BF16": lambda x: BF16.round(x),
}
"""How a 1x128 tile may be sent: E5M2, E4M3 with a float32 scale, E5M6 with a power of two, BF16 with none."""


def codec_errors(x: Values, codecs: Mapping[str, Codec] = CODECS) -> dict[str, TileError]:
    """Error of each codec on a matrix of activations.  x: [R, C]."""
    return {name: tile_error(x, codec(x)) for name, codec in codecs.items()}


@dataclass(frozen=True)
class OutlierError:
    """Error on the values that are no outliers, once these are `growth` times as large."""

    growth: float
    scaling: str
    relative_rms: float
    flushed_share: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def outlier_errors(
    growths: Sequence[float],
    shape: tuple[int, int] = (128, 1024),
    fmt: NumberFormat = E4M3,
    share: float = 1 / 4096,
    seed: int = 0,
) -> list[OutlierError]:
    """A Gaussian matrix in which a share of the values grows: one scale for all, for 128x128, for 1x128.

    The error is that of the other values, relative to them: what the outliers cost their neighbours.
    """
    rng = np.random.default_rng(seed)
    body = rng.standard_normal(shape, np.float32)  # [R, C]
    at = rng.random(shape) < share
    blocks = {"one scale": shape, "128x128": (128, 128), "1x128": (1, 128)}
    found = []
    for growth in growths:
        x = np.where(at, body * np.float32(growth), body)
        for name, block in blocks.items():
            back = tile_round(x, block, fmt)
            rest, returned = np.where(at, 0, x), np.where(at, 0, back)
            error = tile_error(rest.astype(np.float32), returned.astype(np.float32))
            flushed = error.flushed / max(int(np.count_nonzero(rest)), 1)
            found.append(OutlierError(growth, name, error.relative_rms, flushed))
    return found
