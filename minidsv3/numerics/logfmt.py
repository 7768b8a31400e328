"""LogFMT-n: n bits a value, whose magnitudes stand at equal distances in the logarithm, tile by tile.

A tile of 128 values sends its smallest and largest magnitude; the 2^(n-1) - 1 codes above zero divide the way
between their logarithms into equal steps. So a tile with a narrow range has fine steps, which E4M3 has not.
Encoding picks the level nearest in linear space, ties up: picking by the logarithm would round up too rarely.

DeepSeek described the rule ("Insights into DeepSeek-V3", section 3.2: "paper" here) and later published
another one in its communication library (DeepEP `use_logfmt`, n = 10: "deepep" here). `LogFMT` says how they
differ. The base of the logarithm is not stated in the paper; 2 here, and codes do not depend on it.

Does: any n from 3 to 16, ragged last tiles, packing. Does not: infinity and NaN; they are refused.

    >>> import numpy as np
    >>> fmt = LogFMT(bits=4, tile=4)
    >>> encoded = fmt.encode(np.float32([[1.0, -64.0, 0.0, 5.0]]))       # levels 1, 2, 4, … 64
    >>> encoded.codes.tolist(), encoded.log_min.item(), encoded.step.item()
    ([[1, 15, 0, 3]], 0.0, 1.0)
    >>> fmt.decode(encoded).tolist(), fmt.bits_per_value
    ([[1.0, -64.0, 0.0, 4.0]], 20.0)

Next: minidsv3.numerics.tensor_core
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidsv3.numerics.formats import BF16, as_float32
from minidsv3.numerics.tiles import cells, patches

__all__ = ["CONVENTIONS", "Encoded", "LogFMT", "decode_one", "encode_one", "sides_of"]

Values = NDArray[np.float32]
Codes = NDArray[np.unsignedinteger[Any]]
Index = tuple[slice, slice]
CONVENTIONS = ("paper", "deepep")
PIECE = 1 << 14  # values worked on together, most of the work in float64
SPAN = 32.0  # octaves between the largest magnitude and the lowest level: min is held at max - log(2^32)
GROUP = 16  # values packed together
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Encoded:
    """What travels: codes of all values, two numbers a tile."""

    codes: Codes  # [..., C]: sign in bit n-1, then the level, 0 for zero; BF16's code where `plain`
    log_min: Values  # base-2 logarithm of the lowest level  [..., ceil(C / tile)]
    step: Values  # from level to level; 0 in a tile with a single magnitude  [..., ceil(C / tile)]
    plain: NDArray[np.bool_]  # tiles that went as BF16, in "deepep" alone  [..., ceil(C / tile)]


@dataclass(frozen=True)
class LogFMT:
    """The codec for one n and tile, in one of two conventions.

    "paper": log_min and step are float32. Zeros do not count for the smallest magnitude (unstated; one zero
    would stretch the steps over all 32 octaves). Below the lowest level the nearer of it and zero.
    "deepep": largest and smallest magnitude, zeros included, travel in BF16; log_min and step come
    from those. Below the lowest level zero, unless the value is nearer to it than to a level one step lower.
    Where not every tile of a chunk has its largest magnitude below 1 and above its smallest, the chunk goes
    as BF16. (A chunk is what a warp holds: 8 tiles if they divide the row, otherwise 4.) The float32
    intermediates and approximate logarithm of the published code are not imitated.

    Both: the smallest magnitude counts as at least the largest / 2^32; -0 keeps its sign; a tile of zeros is
    all codes 0; in a tile of one magnitude that has the top code, and comes back as exactly as a float32
    logarithm can say it.
    """

    bits: int = 8
    tile: int = 128
    convention: str = "paper"
    rounding: str = "linear"  # or "log", nearest in the logarithm, to compare with
    chunk: int = 8  # tiles of a row that "deepep" decides on together

    def __post_init__(self) -> None:
        if not all(isinstance(n, int | np.integer) for n in (self.bits, self.tile, self.chunk)):
            found = f"{self.bits!r}, {self.tile!r} and {self.chunk!r}"
            raise ValueError(f"expected bits, tile and chunk as whole numbers, got {found}")
        if not 3 <= self.bits <= 16:
            raise ValueError(
                f"expected LogFMT bits 3 .. 16 (2^(n-1) - 2 steps, at least one), got {self.bits}"
            )
        if self.tile < 1 or self.chunk < 1:
            raise ValueError(f"expected tile and chunk at least 1, got {self.tile} and {self.chunk}")
        if self.convention not in CONVENTIONS:
            raise ValueError(f"expected convention one of {CONVENTIONS}, got {self.convention!r}")
        if self.rounding not in ("linear", "log"):
            raise ValueError(f"expected rounding 'linear' or 'log', got {self.rounding!r}")

    @property
    def top(self) -> int:
        """Code of the highest level; there are top - 1 steps."""
        return (1 << (self.bits - 1)) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Unsigned integers that hold a code, and BF16's in "deepep"."""
        return np.dtype(np.uint8 if self.bits <= 8 and self.convention == "paper" else np.uint16)

    @property
    def bits_per_value(self) -> float:
        """Bits that travel for a value, its share of the tile's two numbers included (16 where BF16 goes)."""
        return self.bits + (64 if self.convention == "paper" else 32) / self.tile

    def encode(self, x: ArrayLike) -> Encoded:
        """Codes of float32 values, in tiles along the last axis.  [..., C] -> Encoded.

        ValueError for infinity and NaN, whatever the tile.
        """
        rows, shape = self._rows(x)
        tiles = cells(rows.shape, (1, self.tile))
        log_min, step = np.empty(tiles, np.float32), np.empty(tiles, np.float32)
        plain = np.zeros(tiles, np.bool_)
        codes = np.empty(rows.shape, self.dtype)
        for here, where, _ in self._pieces(rows):
            log_min[where], step[where], plain[where] = self._sides(np.abs(here))
        if self.convention == "deepep":
            self._by_chunks(plain)
        for here, where, values in self._pieces(rows):
            coded = self._codes(here, log_min[where][..., None], step[where][..., None])
            if plain[where].any():
                coded = np.where(plain[where][..., None], BF16.encode(here), coded)
            codes[values] = coded.reshape(len(here), -1)
        sides = (*shape[:-1], tiles[1])
        return Encoded(
            codes.reshape(shape), log_min.reshape(sides), step.reshape(sides), plain.reshape(sides)
        )

    def _pieces(self, rows: NDArray[Any]) -> Iterator[tuple[NDArray[Any], Index, Index]]:
        """[R, C] as pieces [r, t, w], with where their tiles and their values stand."""
        R, C = rows.shape
        for patch in patches(1, R, C, (1, self.tile), PIECE):
            values = patch.values[1:]
            here = rows[values]  # [r, t * w]
            yield here.reshape(len(here), -1, patch.width), patch.tiles[1:], values

    def _rows(self, x: ArrayLike) -> tuple[Values, tuple[int, ...]]:
        """x as [R, C], and the shape it came in."""
        values = as_float32(x)
        if values.ndim < 1:
            raise ValueError("expected values [..., C], got a single number")
        return values.reshape(math.prod(values.shape[:-1]), values.shape[-1]), values.shape

    def _sides(self, a: Values) -> tuple[Values, Values, NDArray[np.bool_]]:
        """log_min, step, and whether "deepep" refuses the tile.  Magnitudes [r, t, w] -> [r, t] each."""
        largest = a.max(axis=-1)
        if not bool(np.all(largest < np.inf)):
            raise ValueError("expected finite values for LogFMT, got infinity or NaN")
        if self.convention == "deepep":
            smallest, largest = (BF16.round(end, overflow="saturate") for end in (a.min(axis=-1), largest))
        else:
            smallest = np.where(a == 0, np.inf, a).min(axis=-1)
        flat = largest == 0  # a tile of zeros: log_min 0, step 0
        high, low = _log2(np.where(flat, 1, largest)), _log2(np.where(flat, 1, smallest))
        log_min = np.maximum(low, high - SPAN).astype(np.float32)
        step = np.maximum((high - log_min) / (self.top - 1), 0).astype(np.float32)
        step[high <= low] = 0  # whatever was left over from rounding log_min
        plain = (largest >= 1) | (smallest >= largest) if self.convention == "deepep" else np.zeros_like(flat)
        return log_min, step, plain

    def _by_chunks(self, plain: NDArray[np.bool_]) -> None:
        """One tile that goes as BF16 takes its chunk with it.  [R, tiles], in place."""
        for first in range(0, plain.shape[1], self.chunk):
            group = plain[:, first : first + self.chunk]
            group |= group.any(axis=1, keepdims=True)

    def _codes(self, x: Values, log_min: Values, step: Values) -> Codes:
        """Codes of x [r, t, w] under log_min, step [r, t, 1]."""
        a, flat = np.abs(x), step == 0
        wide = np.where(flat, 1, step).astype(np.float64)
        per_octave = 1 / wide
        level = _log2(a)  # -inf for 0
        level *= per_octave
        level += 2 - self._threshold(wide) - log_min * per_octave
        np.floor(level, out=level)
        np.maximum(level, 1 if self.convention == "paper" else 0, out=level)
        np.minimum(level, self.top, out=level)
        codes = level.astype(self.dtype)  # [r, t, w]
        if self.convention == "paper":
            codes *= a >= np.exp2(log_min.astype(np.float64) - 1)
        if flat.any():
            codes = np.where(flat, (a > 0) * codes.dtype.type(self.top), codes)
        codes |= np.signbit(x).astype(self.dtype) << (self.bits - 1)
        return codes

    def _threshold(self, step: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where between two levels rounding turns up, in steps: log2((1 + 2^step) / 2) / step."""
        if self.rounding == "log":
            return np.full_like(step, 0.5)
        turn: NDArray[np.float64] = np.log1p(np.expm1(step * math.log(2)) / 2) / (step * math.log(2))
        return turn

    def decode(self, encoded: Encoded) -> Values:
        """Values of what `encode` gave: 2^(log_min + step (level - 1)) in float32, or zero; the sign kept.

        ValueError for codes of another n, for sides of other tiles, and for sides that no encoder makes.
        """
        self._check(encoded)
        shape = encoded.codes.shape
        codes = encoded.codes.reshape(math.prod(shape[:-1]), shape[-1])
        tiles = cells(codes.shape, (1, self.tile))
        log_min, step = encoded.log_min.reshape(tiles), encoded.step.reshape(tiles)
        plain = encoded.plain.reshape(tiles)
        values = np.empty(codes.shape, np.float32)
        for here, where, piece in self._pieces(codes):
            if ((here >> self.bits != 0) & ~plain[where][..., None]).any():
                raise ValueError(
                    f"expected LogFMT-{self.bits} codes, 0 .. {2 * self.top + 1}, got {here.max()}"
                )
            there = self._values(here, log_min[where][..., None], step[where][..., None])
            if plain[where].any():
                there = np.where(plain[where][..., None], BF16.decode(here), there)
            values[piece] = there.reshape(len(here), -1)
        return values.reshape(shape)

    def _check(self, encoded: Encoded) -> None:
        """Types and shapes of what came, and its sides; codes are checked where they are decoded."""
        codes, sides = encoded.codes, (encoded.log_min, encoded.step, encoded.plain)
        if codes.dtype != self.dtype or codes.ndim < 1:
            raise ValueError(f"expected codes {self.dtype} [..., C], got {codes.dtype} {codes.shape}")
        tiles, found = (*codes.shape[:-1], -(-codes.shape[-1] // self.tile)), [side.shape for side in sides]
        if found != [tiles] * len(sides):
            raise ValueError(
                f"expected log_min, step and plain {tiles} for tiles of {self.tile}, got {found}"
            )
        if not bool(np.all(np.isfinite(encoded.log_min) & (encoded.step >= 0) & (encoded.step < np.inf))):
            raise ValueError("expected log_min finite and step at least zero, got infinity, NaN or less")

    def _values(self, codes: Codes, log_min: Values, step: Values) -> Values:
        """Values of codes [r, t, w]."""
        codes = codes & codes.dtype.type(2 * self.top + 1)
        magnitude = codes & codes.dtype.type(self.top)
        level = magnitude.astype(np.float64)
        level -= 1
        level *= step
        level += log_min
        np.exp2(level, out=level)
        np.minimum(level, _LARGEST, out=level)  # the rounded sides may lead a little beyond
        values = level.astype(np.float32)
        values *= magnitude != 0
        return np.negative(values, out=values, where=codes != magnitude)

    def round(self, x: ArrayLike) -> Values:
        """The values that come back: `decode(encode(x))`."""
        return self.decode(self.encode(x))

    def pack(self, codes: Codes) -> NDArray[np.uint8]:
        """Codes as they travel, 16 values in 2n bytes: their magnitudes one after the other, then 16 signs.

        Lowest bits first. For n = 10 this is DeepEP's 160 bits; other n are packed alike, which is ours.
        Any shape, taken in order; the last group is filled up with zeros.  -> bytes [groups * 2n].
        """
        flat = np.asarray(codes).reshape(-1)
        if flat.dtype != self.dtype:
            raise ValueError(f"expected LogFMT-{self.bits} codes in {self.dtype}, got {flat.dtype}")
        if flat.size and int(flat.max()) >> self.bits:
            raise ValueError(f"expected LogFMT-{self.bits} codes, 0 .. {2 * self.top + 1}, got {flat.max()}")
        groups = np.zeros(-(-flat.size // GROUP) * GROUP, "<u2")
        groups[: flat.size] = flat
        return np.concatenate(
            [self._pack(groups[i : i + PIECE]) for i in range(0, groups.size, PIECE)]
            or [groups.view(np.uint8)]
        )

    def _pack(self, codes: Codes) -> NDArray[np.uint8]:
        """Whole groups."""
        digits = np.unpackbits(codes.view(np.uint8), bitorder="little").reshape(-1, GROUP, 16)
        kept = np.empty((len(digits), self.bits * GROUP), np.uint8)
        magnitudes = kept[:, :-GROUP].reshape(-1, GROUP, self.bits - 1)
        magnitudes[...] = digits[:, :, : self.bits - 1]
        kept[:, -GROUP:] = digits[:, :, self.bits - 1]
        return np.packbits(kept.reshape(-1), bitorder="little")

    def unpack(self, packed: NDArray[np.uint8], count: int) -> Codes:
        """The first `count` codes of what `pack` made.  bytes -> [count]."""
        packed, size = np.asarray(packed), -(-count // GROUP) * 2 * self.bits
        if count < 0 or packed.dtype != np.uint8 or packed.shape != (size,):
            raise ValueError(
                f"expected {size} bytes for {count} codes of {self.bits} bits, "
                f"got {packed.dtype} {packed.shape}"
            )
        at_once = PIECE // GROUP * 2 * self.bits
        pieces = [self._unpack(packed[i : i + at_once]) for i in range(0, size, at_once)]
        return np.concatenate([np.empty(0, self.dtype), *pieces])[:count]

    def _unpack(self, packed: NDArray[np.uint8]) -> Codes:
        """Whole groups."""
        kept = np.unpackbits(packed, bitorder="little").reshape(-1, self.bits * GROUP)
        digits = np.zeros((len(kept), GROUP, 16), np.uint8)
        digits[:, :, : self.bits - 1] = kept[:, :-GROUP].reshape(-1, GROUP, self.bits - 1)
        digits[:, :, self.bits - 1] = kept[:, -GROUP:]
        return np.packbits(digits.reshape(-1), bitorder="little").view("<u2").astype(self.dtype)


def _log2(a: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Base-2 logarithm in float64; of 0 it is -inf."""
    with np.errstate(divide="ignore"):
        logarithm: NDArray[np.float64] = np.log2(a, dtype=np.float64)
    return logarithm


# ---- the specification: one tile, one number at a time -----------------------------------------------------


def sides_of(tile: list[float], fmt: LogFMT) -> tuple[float, float]:
    """log_min and step of a tile of float32 numbers, both rounded to float32."""
    magnitudes = [abs(x) for x in tile]
    if fmt.convention == "deepep":
        ends = min(magnitudes), max(magnitudes)
        low, high = (float(BF16.round(end, overflow="saturate")) for end in ends)
    else:
        low, high = min((a for a in magnitudes if a), default=0.0), max(magnitudes)
    if high == 0:
        return 0.0, 0.0
    lowest = math.log2(high) - SPAN
    log_min = float(np.float32(max(math.log2(low), lowest) if low else lowest))
    if low >= high:
        return log_min, 0.0
    return log_min, float(np.float32(max((math.log2(high) - log_min) / (fmt.top - 1), 0.0)))


def encode_one(x: float, log_min: float, step: float, fmt: LogFMT) -> int:
    """Code of one number: of all levels the nearest, the upper one of two as near."""
    a, sign = abs(x), (1 << (fmt.bits - 1)) if math.copysign(1, x) < 0 else 0
    if a == 0 or step == 0:
        return sign | (fmt.top if a else 0)
    levels = [math.exp2(log_min + step * (code - 1)) for code in range(fmt.top + 1)]
    if fmt.convention == "paper":
        levels[0] = 0.0  # in "deepep" code 0 decodes to zero but is rounded to as one more level
    code = min(range(fmt.top + 1), key=lambda code: (abs(levels[code] - a), -code))
    return sign | int(code)


def decode_one(code: int, log_min: float, step: float, fmt: LogFMT) -> float:
    """Value of one code, before it is rounded to float32."""
    level, sign = code & fmt.top, -1.0 if code >> (fmt.bits - 1) & 1 else 1.0
    if level == 0:
        return sign * 0.0
    return sign * min(math.exp2(log_min + step * (level - 1)), _LARGEST)
