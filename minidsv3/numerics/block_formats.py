"""Block formats: small elements, and a small scale shared by 16 or 32 neighbours of a row.

The microscaling (MX) formats that OCP wrote down and NVIDIA's NVFP4: what FP8 tiles with float32 scales
become when hardware multiplies the scales in. Rows of `data/block_formats.toml`.

Does: encode, decode, rounding and packing along the last axis, ragged last blocks as if padded with zeros;
the scale by OCP's floor rule or rounded up, by name. Does not: multiply. A block with infinity or NaN has the
scale NaN, and all of it comes back as NaN; NVFP4, whose one scale for everything would be lost, refuses.

    >>> import numpy as np
    >>> x = np.float32([7.0, -0.3, 2.6, 0.0])
    >>> MXFP4.round(x).tolist(), MXFP4.round(x, "round-up").tolist()      # 7 is cut to 6, or the step doubles
    ([6.0, -0.5, 3.0, 0.0], [8.0, -0.0, 3.0, 0.0])
    >>> MXFP4.bytes_per_value, NVFP4.bytes_per_value, MXFP4.pack(MXFP4.encode(x).codes).tolist()
    (0.53125, 0.5625, [151, 5])

Next: minidsv3.numerics.logfmt
"""

import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidsv3.numerics.formats import FORMATS, NumberFormat, as_float32, decode_one, encode_one
from minidsv3.numerics.scaling import power_of_two_ceil
from minidsv3.numerics.tiles import cells, patches, tile_amax

__all__ = [
    "BLOCK_FORMATS",
    "MXFP4",
    "MXFP6_E2M3",
    "MXFP6_E3M2",
    "MXFP8_E4M3",
    "MXFP8_E5M2",
    "NVFP4",
    "RULES",
    "BlockFormat",
    "Blocks",
    "round_one",
]

Values = NDArray[np.float32]
Codes = NDArray[np.unsignedinteger[Any]]
Index = tuple[slice, slice]
RULES = ("floor", "round-up")
PIECE = 1 << 15  # values worked on together
_ONE = np.float32(1)


@dataclass(frozen=True)
class Blocks:
    """What is stored: a code a value, a code a block, and NVFP4's one scale for all (1 elsewhere)."""

    codes: Codes  # [..., C]
    scales: Codes  # [..., ceil(C / block)], codes of the scale's format
    tensor_scale: float


@dataclass(frozen=True)
class BlockFormat:
    """A row of `data/block_formats.toml`."""

    name: str
    element: NumberFormat
    scale: NumberFormat
    block: int
    rule: str
    source: str

    @property
    def bytes_per_value(self) -> float:
        """Bytes of a value and its share of the block's scale, packed."""
        return (self.element.bits + self.scale.bits / self.block) / 8

    def encode(self, x: ArrayLike, rule: str | None = None) -> Blocks:
        """Codes and scales of float32 values, blocks along the last axis.  [..., C] -> Blocks.

        rule: one of RULES for power-of-two scales; None: the format's own.
        """
        rows, shape = _rows(x)
        rule, tensor_scale = self._rule(rule), self._tensor_scale(rows)
        codes = np.empty(rows.shape, self.element.dtype)
        scales = np.empty(cells(rows.shape, (1, self.block)), self.scale.dtype)
        with np.errstate(all="ignore"):
            for here, where, width in self._pieces(rows.shape):
                amax = tile_amax(np.abs(rows[here]), 1, width)  # [r, t]
                scales[where] = self._scale_codes(amax, rule, tensor_scale)
                s = self.scale.decode(scales[where]) * tensor_scale
                inverse = np.where(s == 0, 0, _ONE / s)  # a scale that rounded to zero takes its block along
                y = rows[here].reshape(*s.shape, width) * inverse[..., None]
                codes[here] = self.element.encode(y, "saturate").reshape(len(s), -1)
        return Blocks(codes.reshape(shape), scales.reshape(*shape[:-1], scales.shape[1]), float(tensor_scale))

    def decode(self, blocks: Blocks) -> Values:
        """Element times the scale of its block.  -> float32 [..., C].

        ValueError for codes of other formats, for shapes that do not meet, for scales below zero.
        """
        self._check(blocks)
        shape = blocks.codes.shape
        codes = blocks.codes.reshape(math.prod(shape[:-1]), shape[-1])
        scales = blocks.scales.reshape(cells(codes.shape, (1, self.block)))
        values = np.empty(codes.shape, np.float32)
        with np.errstate(all="ignore"):
            for here, where, width in self._pieces(codes.shape):
                s = self.scale.decode(scales[where]) * np.float32(blocks.tensor_scale)  # [r, t]
                y = self.element.decode(codes[here]).reshape(*s.shape, width) * s[..., None]
                values[here] = y.reshape(len(s), -1)
        return values.reshape(shape)

    def round(self, x: ArrayLike, rule: str | None = None) -> Values:
        """The values that come back: `decode(encode(x))`."""
        return self.decode(self.encode(x, rule))

    def pack(self, codes: Codes) -> NDArray[np.uint8]:
        """Codes without gaps, lowest bits first, so that of two FP4 codes the first is in the low half.

        Any shape, taken in order; the last byte is filled up with zeros. (Four FP6 codes in three bytes are
        packed alike; OCP leaves it open.)
        """
        flat = self._checked(codes).reshape(-1)
        digits = np.unpackbits(flat, bitorder="little").reshape(-1, 8)[:, : self.element.bits]
        return np.packbits(digits.reshape(-1), bitorder="little")

    def unpack(self, packed: NDArray[np.uint8], count: int) -> Codes:
        """The first `count` codes of what `pack` made.  bytes -> [count]."""
        packed, size = np.asarray(packed), -(-count * self.element.bits // 8)
        if count < 0 or packed.dtype != np.uint8 or packed.shape != (size,):
            raise ValueError(f"expected {size} bytes for {count} codes, got {packed.dtype} {packed.shape}")
        digits = np.zeros((count, 8), np.uint8)
        bits = np.unpackbits(packed, bitorder="little")[: count * self.element.bits]
        digits[:, : self.element.bits] = bits.reshape(count, self.element.bits)
        return np.packbits(digits.reshape(-1), bitorder="little")

    def _check(self, blocks: Blocks) -> None:
        """What `decode` cannot make sense of; codes are checked where they are decoded."""
        shape, found = np.shape(blocks.codes), np.shape(blocks.scales)
        if not shape:
            raise ValueError("expected codes [..., C], got a single one")
        expected = (*shape[:-1], -(-shape[-1] // self.block))
        if found != expected:
            raise ValueError(f"expected scales {expected} for codes {shape}, got {found}")
        if not 0 < blocks.tensor_scale < np.inf:
            raise ValueError(f"expected a tensor_scale above zero and finite, got {blocks.tensor_scale}")
        if self.scale.signed and blocks.scales.size:
            scales = self.scale.decode(blocks.scales)
            if not scales.min() >= 0:  # a block of zeros has zero; NaN is the minimum where there is one
                raise ValueError(f"expected scales of {self.name} at least zero, got {scales.min()}")

    def _checked(self, codes: Codes) -> NDArray[np.uint8]:
        codes = np.asarray(codes)
        if codes.dtype != np.uint8:
            raise ValueError(f"expected codes of {self.element.name} in uint8, got {codes.dtype}")
        if codes.size and int(codes.max()) >> self.element.bits:
            top = (1 << self.element.bits) - 1
            raise ValueError(f"expected codes of {self.element.name}, 0 .. {top}, got {codes.max()}")
        return np.ascontiguousarray(codes, np.uint8)

    def _rule(self, rule: str | None) -> str:
        if rule is None or (rule == self.rule and rule not in RULES):
            return self.rule
        if rule not in RULES or self.rule not in RULES:
            allowed = RULES if self.rule in RULES else (self.rule,)
            raise ValueError(f"expected a scale rule of {self.name}, one of {allowed}, got {rule!r}")
        return rule

    def _pieces(self, shape: tuple[int, ...]) -> Iterator[tuple[Index, Index, int]]:
        """Pieces of [R, C]: where their values stand, where their blocks, values in a block."""
        for patch in patches(1, shape[0], shape[1], (1, self.block), PIECE):
            yield patch.values[1:], patch.tiles[1:], patch.width

    def _tensor_scale(self, rows: Values) -> np.float32:
        """NVFP4: what makes the largest scale the scale format's largest. Otherwise 1."""
        if self.rule != "two-level":
            return _ONE
        amax = np.max(np.abs(rows), initial=0)
        if not amax < np.inf:
            raise ValueError(f"expected finite values for {self.name}, got infinity or NaN")
        range_of_all = np.float32(self.scale.largest * self.element.largest)
        return max(amax / range_of_all, np.float32(2.0**-126)) if amax else _ONE

    def _scale_codes(self, amax: Values, rule: str, tensor_scale: np.float32) -> Codes:
        """Code of each block's scale.  [r, t] -> [r, t]."""
        if rule == "two-level":
            return self.scale.encode(amax / np.float32(self.element.largest) / tensor_scale, "saturate")
        if rule == "floor":
            _, above = np.frexp(amax)  # 2^(above - 1) <= amax < 2^above
            _, top = math.frexp(self.element.largest)
            field = np.clip(above - top + self.scale.bias, 0, self.scale.top)
        else:
            s = power_of_two_ceil(amax / np.float32(self.element.largest))
            field = (s.view(np.uint32) >> np.uint32(23)).astype(np.int32)
        field = np.where(amax == 0, 0, field)
        codes: Codes = np.where(amax < np.inf, field, self.scale.top + 1).astype(self.scale.dtype)
        return codes


def _rows(x: ArrayLike) -> tuple[Values, tuple[int, ...]]:
    """x as [R, C], and the shape it came in."""
    values = as_float32(x)
    if values.ndim < 1:
        raise ValueError("expected values [..., C], got a single number")
    return values.reshape(math.prod(values.shape[:-1]), values.shape[-1]), values.shape


# ---- the specification: one block of an MX format, in exact fractions --------------------------------------


def round_one(block: list[float], fmt: BlockFormat, rule: str) -> list[Fraction]:
    """What a block of finite numbers comes back as, -0 as 0; scales between 2^-126 and 2^127 are not met."""
    exact = [Fraction(x) for x in block]
    largest, amax = Fraction(fmt.element.largest), max(abs(x) for x in exact)
    if amax == 0:
        return exact
    scale = Fraction(2) ** 200
    if rule == "floor":
        while scale * _power_below(largest) > amax:
            scale /= 2
    else:
        while scale / 2 * largest >= amax:
            scale /= 2
    sign = 1 << (fmt.element.bits - 1)
    codes = [min(encode_one(float(abs(x) / scale), fmt.element) & ~sign, fmt.element.top) for x in exact]
    return [
        decode_one(code, fmt.element) * scale * (-1 if x < 0 else 1)
        for code, x in zip(codes, exact, strict=True)
    ]


def _power_below(x: Fraction) -> Fraction:
    """The largest power of two not above x, at least 1."""
    return Fraction(1 << (math.floor(x).bit_length() - 1))


def _table() -> dict[str, BlockFormat]:
    text = (resources.files("minidsv3") / "data" / "block_formats.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)
    return {
        name: BlockFormat(
            name=name, **{**row, "element": FORMATS[row["element"]], "scale": FORMATS[row["scale"]]}
        )
        for name, row in rows.items()
    }


BLOCK_FORMATS = _table()
MXFP8_E4M3, MXFP8_E5M2 = BLOCK_FORMATS["mxfp8-e4m3"], BLOCK_FORMATS["mxfp8-e5m2"]
MXFP6_E3M2, MXFP6_E2M3 = BLOCK_FORMATS["mxfp6-e3m2"], BLOCK_FORMATS["mxfp6-e2m3"]
MXFP4, NVFP4 = BLOCK_FORMATS["mxfp4"], BLOCK_FORMATS["nvfp4"]
