"""The latent KV cache: of every token seen, d_c + d_R numbers a layer and nothing else (section 2.1.1).

A row is [c_KV; k_R]: the normed latent, from which keys and values of all heads unfold, and the one
positional key that all heads share, already rotated. k_R keeps the order of the published weights: neighbours
(0, 1), (2, 3) are a pair; the `transformers` library caches the same numbers as two halves. With V3's sizes a
token takes 61 x 576 numbers; keys and values of 128 heads would take 61 x 40,960.

Does: grow by doubling, append, roll back, count bytes. Does not: compute: the decode functions of
`minidsv3.model.mla` write the rows behind `length`, and `advance` then counts them in. Rolling back
is only a smaller `length`: what lies behind it is written over.

    >>> from minidsv3.config import ModelConfig
    >>> cache = LatentCache(ModelConfig.preset("v3"), layers=61, dtype="float16")
    >>> cache.bytes_per_token                                   # two bytes a number, as in BF16
    70272
    >>> cache.reserve(3)
    >>> cache.advance(3)
    >>> cache.truncate(1)
    >>> cache.length, cache.latents(0).shape
    (1, (1, 64, 576))

Next: minidsv3.inference.decode
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minidsv3.config import ModelConfig

__all__ = ["LatentCache"]

Array = NDArray[Any]
FIRST_ROWS = 64  # room for so many tokens at first; doubled when it is full


class LatentCache:
    """Latents of `length` tokens in each of some layers.

    layers: how many, the main model's n_layers if not given; an MTP module has a cache of one layer.
    batch: B, sequences of equal length.
    """

    def __init__(
        self, config: ModelConfig, batch: int = 1, layers: int | None = None, dtype: DTypeLike = np.float32
    ) -> None:
        self.config, self.length = config, 0
        layers = config.n_layers if layers is None else layers
        width = config.kv_lora_rank + config.qk_rope_head_dim  # d_c + d_R
        rows = min(FIRST_ROWS, config.max_seq_len)
        self._latents = [np.zeros((batch, rows, width), dtype) for _ in range(layers)]

    @property
    def capacity(self) -> int:
        """Tokens that fit before the next doubling."""
        return self._latents[0].shape[1]

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token of one sequence takes in all layers."""
        return sum(rows.shape[2] * rows.itemsize for rows in self._latents)

    @property
    def nbytes(self) -> int:
        """Bytes of the tokens held, without the room kept free."""
        return self.length * len(self._latents[0]) * self.bytes_per_token

    def latents(self, layer: int) -> Array:
        """Rows of a layer, [B, capacity, d_c + d_R]; those from `length` on mean nothing yet.

        A view of the cache until `reserve` makes it grow.
        """
        return self._latents[layer]

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens, keeping what is held; ValueError beyond the longest sequence."""
        longest = self.config.max_seq_len
        if length > longest:
            raise ValueError(f"expected at most {longest} tokens in a cache, got {length}")
        if length > self.capacity:
            capacity = min(max(length, 2 * self.capacity), longest)
            self._latents = [self._grown(rows, capacity) for rows in self._latents]

    def _grown(self, rows: Array, capacity: int) -> Array:
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
