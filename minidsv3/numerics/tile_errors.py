"""Experiments on tiles: the error of a codec on a matrix, and what outliers cost their neighbours.

One number hides a lot: the relative RMS error is that of the large values, the median that of the many, and
what is flushed to zero is counted. Codecs are compared as they would be used: tiles of 128 along a row.

Does: draw matrices, measure codecs. Does not: print, draw pictures.

    >>> x = np.float32([[1.0, 2.0, 1000.0]])
    >>> error = tile_error(x, np.float32([[1.0, 0.0, 1000.0]]))
    >>> round(error.relative_rms, 6), error.flushed, error.amax
    (0.002, 1, 1000.0)

Next: minidsv3.machine
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.config import near
from minidsv3.numerics.experiments import OPERANDS
from minidsv3.numerics.formats import BF16, E4M3, E5M2, E5M6, NumberFormat
from minidsv3.numerics.logfmt import LogFMT
from minidsv3.numerics.scaling import tile_round

__all__ = [
    "CODECS",
    "Codec",
    "OutlierError",
    "TileError",
    "codec_errors",
    "draw",
    "outlier_errors",
    "tile_error",
]

Values = NDArray[np.float32]
Codec = Callable[[Values], Values]


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
