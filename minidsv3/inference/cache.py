"""The latent KV cache: of every token seen, d_c + d_R numbers a layer and nothing else (section 2.1.1).

A row is [c_KV; k_R]: the normed latent, from which keys and values of all heads unfold, and the one
positional key that all heads share, already rotated. k_R keeps the order of the published weights: neighbours
(0, 1), (2, 3) are a pair; the `transformers` library caches the same numbers as two halves. With V3's sizes a
token takes 61 x 576 numbers; keys and values of 128 heads would take 61 x 40,960. They are held as computed,
or rounded to BF16 or FP8 as they are written.

Does: grow by doubling, append, roll back, count bytes. Does not: compute: the decode functions of
`minidsv3.model.mla` write the rows behind `length`, and `advance` then counts them in. Rolling back
is only a smaller `length`: what lies behind it is written over.

    >>> from minidsv3.config import ModelConfig
    >>> v3 = ModelConfig.preset("v3")
    >>> [LatentCache(v3, layers=61, format=name).bytes_per_token for name in ("bf16", "fp8")]
    [70272, 40016]
    >>> cache = LatentCache(v3, layers=1)
    >>> cache.reserve(3)
    >>> cache.advance(3)
    >>> cache.truncate(1)
    >>> cache.length, cache.latents(0).shape
    (1, (1, 64, 576))

Next: minidsv3.inference.packed_latents
"""

from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minidsv3.config import ModelConfig, near
from minidsv3.inference.packed_latents import PACKED_FORMATS, TILE, PackedRows, RowLayout

__all__ = ["CACHE_FORMATS", "LatentCache"]

Array = NDArray[Any]
FIRST_ROWS = 64  # room for so many tokens at first; doubled when it is full
CACHE_FORMATS = ("float32", *PACKED_FORMATS)


class LatentCache:
    """Latents of `length` tokens in each of some layers.

    layers: how many, the main model's n_layers if not given; an MTP module has a cache of one layer.
    batch: B, sequences of equal length  dtype: what attention computes in  format: one of CACHE_FORMATS;
    "float32" holds the numbers as computed, in `dtype`, the others are packed bytes (`packed_latents`)
    tile: numbers of a latent that share a scale, FP8 only.  ValueError for another format.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int = 1,
        layers: int | None = None,
        dtype: DTypeLike = np.float32,
        format: str = "float32",
        tile: int = TILE,
    ) -> None:
        if format not in CACHE_FORMATS:
            raise ValueError(f"expected a cache format, got {format!r}: {near(format, list(CACHE_FORMATS))}")
        self.config, self.format, self.length = config, format, 0
        layers = config.n_layers if layers is None else layers
        d_c, d_R, rows = config.kv_lora_rank, config.qk_rope_head_dim, min(FIRST_ROWS, config.max_seq_len)
        self._latents: list[Array | PackedRows]
        if format == "float32":
            self._latents = [np.zeros((batch, rows, d_c + d_R), dtype) for _ in range(layers)]
        else:
            layout = RowLayout(format, d_c, d_R, tile)
            self._latents = [PackedRows(layout, batch, rows, dtype) for _ in range(layers)]

    @property
    def capacity(self) -> int:
        """Tokens that fit before the next doubling."""
        return self._latents[0].shape[1]

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token of one sequence takes in all layers."""
        return sum(_row_bytes(rows) for rows in self._latents)

    @property
    def nbytes(self) -> int:
        """Bytes of the tokens held, without the room kept free."""
        return self.length * len(self._latents[0]) * self.bytes_per_token

    def latents(self, layer: int) -> Array:
        """Rows of a layer, [B, capacity, d_c + d_R]; those from `length` on mean nothing yet.

        A view of the cache until `reserve` makes it grow. What is written to it reads back as it is kept:
        a packed cache gives `PackedRows`, which attention slices like the array they stand for.
        """
        return cast("Array", self._latents[layer])

    def packed(self, layer: int) -> NDArray[np.uint8]:
        """The bytes of a layer's rows, [B, length, bytes of a row]; ValueError for a cache as computed."""
        rows = self._latents[layer]
        if not isinstance(rows, PackedRows):
            raise ValueError(f"expected a packed cache, {' or '.join(PACKED_FORMATS)}, got {self.format}")
        return rows.packed[:, : self.length]

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens, keeping what is held; ValueError beyond the longest sequence."""
        longest = self.config.max_seq_len
        if length > longest:
            raise ValueError(f"expected at most {longest} tokens in a cache, got {length}")
        if length > self.capacity:
            capacity = min(max(length, 2 * self.capacity), longest)
            self._latents = [self._grown(rows, capacity) for rows in self._latents]

    def _grown(self, rows: Array | PackedRows, capacity: int) -> Array | PackedRows:
        if isinstance(rows, PackedRows):
            return rows.grown(self.length, capacity)
        grown = np.zeros((len(rows), capacity, rows.shape[2]), rows.dtype)  # [B, capacity, d_c + d_R]
        grown[:, : self.length] = rows[:, : self.length]
        return grown

    def advance(self, tokens: int) -> None:
        """Count in the rows just written behind `length`."""
        if not 0 <= tokens <= self.capacity - self.length:
            raise ValueError(f"expected 0 .. {self.capacity - self.length} new tokens, got {tokens}")
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Roll back to the first `length` tokens."""
        if not 0 <= length <= self.length:
            raise ValueError(f"expected a length 0 .. {self.length}, got {length}")
        self.length = length


def _row_bytes(rows: Array | PackedRows) -> int:
    """Bytes of one token's row."""
    return rows.layout.row_bytes if isinstance(rows, PackedRows) else rows.shape[2] * rows.itemsize
