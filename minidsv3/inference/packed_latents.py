"""Latents in fewer bytes: how a token's row lies in memory, and rows that pack whatever is written to them.

    fp8     d_c x 1 byte   c_KV in E4M3        bf16    2 d_c bytes   c_KV in BF16
            4 bytes        float32 scale of            2 d_R bytes   k_R in BF16
                           each tile of c_KV
            2 d_R bytes    k_R in BF16

The FP8 row is FlashMLA's: with V3's sizes 512 + 4 x 4 + 64 x 2 = 656 bytes, against 1,152 in BF16. The key
keeps BF16, its error would turn with the position. A scale is a power of two, as FlashMLA's own quantiser
takes it (row `flashmla` of `data/scaling.toml`), so what is read back is exact in BF16 too.

The bytes are the truth: what attention reads is what they say. Beside them stands their reading in the
machine's dtype, written row by row, so that a step costs its new rows and not the whole cache; a real kernel
reads bytes as it goes and keeps no such thing.

Does: pack, read back. Does not: grow or roll back on its own (`cache` does), swizzle, page.

    >>> layout = RowLayout("fp8", latent=512, key=64)
    >>> layout.row_bytes, RowLayout("bf16", latent=512, key=64).row_bytes
    (656, 1152)
    >>> kept = layout.read_latent(layout.pack_latent(np.arange(512) / 256))
    >>> print(kept[200], kept[511])                              # of 0.78125 and 1.996: to 3 bits of fraction
    0.75 2.0

Next: minidsv3.inference.decode
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from minidsv3.numerics import BF16, E4M3
from minidsv3.numerics.scaling import quantize

__all__ = ["PACKED_FORMATS", "TILE", "PackedRows", "RowLayout"]

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
PACKED_FORMATS = ("bf16", "fp8")
TILE = 128  # numbers that share a scale, as in FlashMLA


@dataclass(frozen=True)
class RowLayout:
    """Where the bytes of one token's row in one layer lie.

    format: "fp8" or "bf16"  latent: d_c  key: d_R  tile: numbers of the latent that share a scale (fp8)
    """

    format: str
    latent: int
    key: int
    tile: int = TILE

    def __post_init__(self) -> None:
        if self.format not in PACKED_FORMATS:
            raise ValueError(f"expected a packed format {' or '.join(PACKED_FORMATS)}, got {self.format!r}")
        if self.tile < 1:
            raise ValueError(f"expected a tile of at least one number, got {self.tile}")

    @property
    def scales(self) -> int:
        """Scales of a row: one a tile, the last tile perhaps ragged."""
        return -(-self.latent // self.tile) if self.format == "fp8" else 0

    @property
    def latent_bytes(self) -> int:
        """Bytes in front of the key."""
        return self.latent + 4 * self.scales if self.format == "fp8" else 2 * self.latent

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.latent_bytes + 2 * self.key

    def pack_latent(self, c_KV: ArrayLike) -> Bytes:
        """[..., d_c] float32, or what is rounded to it first  ->  [..., latent_bytes]."""
        if self.format == "bf16":
            return _pack_bf16(c_KV)
        x = np.asarray(c_KV, np.float32)
        rows, block = x.reshape(-1, self.latent), (1, self.tile)
        scaled = quantize(rows, block, E4M3, scale="power-of-two", recipe="flashmla")
        scales = scaled.scale.astype("<f4").view(np.uint8)  # [N, 4 scales]
        packed = np.concatenate((scaled.codes, scales), axis=1)  # [N, latent_bytes]
        return packed.reshape(*x.shape[:-1], -1)

    def read_latent(self, packed: Bytes) -> NDArray[np.float32]:
        """[..., latent_bytes]  ->  c_KV as kept, [..., d_c]: code times scale, exactly."""
        if self.format == "bf16":
            return _read_bf16(packed)
        values = E4M3.decode(packed[..., : self.latent])  # [..., d_c]
        scales = np.ascontiguousarray(packed[..., self.latent :]).view("<f4")  # [..., scales]
        values *= np.repeat(scales, self.tile, axis=-1)[..., : self.latent]
        return values

    def pack_key(self, k_R: ArrayLike) -> Bytes:
        """[..., d_R]  ->  [..., 2 d_R]."""
        return _pack_bf16(k_R)

    def read_key(self, packed: Bytes) -> NDArray[np.float32]:
        """[..., 2 d_R]  ->  [..., d_R]."""
        return _read_bf16(packed)


def _pack_bf16(x: ArrayLike) -> Bytes:
    return BF16.encode(np.asarray(x, np.float32)).astype("<u2").view(np.uint8)


def _read_bf16(packed: Bytes) -> NDArray[np.float32]:
    return BF16.decode(np.ascontiguousarray(packed).view("<u2"))


class PackedRows:
    """The rows of one layer, [B, capacity, d_c + d_R]: index them like an array, and they say what was kept.

    packed: uint8 [B, capacity, row_bytes], the cache itself  dtype: of what is read.
    """

    def __init__(self, layout: RowLayout, batch: int, capacity: int, dtype: DTypeLike) -> None:
        self.layout = layout
        self.packed: Bytes = np.zeros((batch, capacity, layout.row_bytes), np.uint8)
        self.values: Array = np.zeros((batch, capacity, layout.latent + layout.key), dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """[B, capacity, d_c + d_R]."""
        return self.values.shape

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, where: Any) -> Array:
        rows: Array = self.values[where]
        return rows

    def __setitem__(self, where: tuple[slice, ...], values: Array) -> None:
        """Pack whole latents, whole keys or both; the third slice is over d_c + d_R."""
        batch, tokens, columns = (*where, slice(None))[:3]
        d_c, width = self.layout.latent, self.shape[2]
        start, stop, step = columns.indices(width)
        if (start, stop, step) not in ((0, d_c, 1), (d_c, width, 1), (0, width, 1)):
            part = f"{start}:{stop}:{step}"
            raise ValueError(f"expected whole latents 0:{d_c} or whole keys {d_c}:{width}, got {part}")
        if start == 0:
            kept = self.packed[batch, tokens, : self.layout.latent_bytes]  # [B, T, latent_bytes]
            kept[...] = self.layout.pack_latent(values[..., :d_c])
            self.values[batch, tokens, :d_c] = self.layout.read_latent(kept)
        if stop == width:
            kept = self.packed[batch, tokens, self.layout.latent_bytes :]  # [B, T, 2 d_R]
            kept[...] = self.layout.pack_key(values[..., d_c - start :])
            self.values[batch, tokens, d_c:] = self.layout.read_key(kept)

    def grown(self, length: int, capacity: int) -> "PackedRows":
        """The same first `length` rows with more room; their reading is made anew from the bytes."""
        grown = PackedRows(self.layout, len(self), capacity, self.values.dtype)
        held, d_c, front = self.packed[:, :length], self.layout.latent, self.layout.latent_bytes
        grown.packed[:, :length] = held
        grown.values[:, :length, :d_c] = self.layout.read_latent(held[..., :front])
        grown.values[:, :length, d_c:] = self.layout.read_key(held[..., front:])
        return grown
