"""New tokens through the model over the cache: logits and the state that multi-token prediction starts from.

Prefill and decode are the same walk, over many tokens or few. *Prefill* takes the prompt a chunk at a time,
so that the memory of scores and activations is bounded by the chunk, unfolds keys and values (naive MLA:
once for a whole chunk) and computes the head for the last position only. *Decode* takes a token, or a handful
of drafts to verify, and attends over the latents themselves (absorbed MLA) unless asked otherwise.

Up to `minidsv3.machine.primitives.FEW` tokens at once give bit for bit what they give one at a time: products
with few rows run as one matrix-vector product a row, and attention runs token by token. So a verified
draft *is* the main model's token, near ties included. More tokens at once run as matrix-matrix
products, whose sums the BLAS orders otherwise: equal up to rounding.

Does: walk, fill the cache. Does not: choose tokens (`sampling`), draft (`speculative`).

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.interpreter import Model
    >>> model = Model.initialise(ModelConfig.preset("nano"), seed=0)
    >>> decoder = Decoder(Machine(), model.parameters)
    >>> decoder.prefill(np.array([[5, 6, 7]]), chunk=2).shape, decoder.cache.length
    ((1, 2048), 3)

Next: minidsv3.inference.sampling
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.inference.cache import LatentCache
from minidsv3.machine import Machine
from minidsv3.model.block import AttentionDecode, block_decode
from minidsv3.model.mapped import MappedParameters
from minidsv3.model.mla import mla_absorbed_decode, mla_naive_decode
from minidsv3.model.parameters import Parameters
from minidsv3.model.rope import rotations_for

__all__ = ["ATTENTION", "Decoder"]

Array = NDArray[Any]
Ids = NDArray[np.intp]

ATTENTION: dict[str, AttentionDecode] = {"absorbed": mla_absorbed_decode, "naive": mla_naive_decode}


class Decoder:
    """The main model over a latent cache.

    parameters: in the machine's dtype  batch: B sequences of equal length  attention: how decoding attends
    cache: the format of its rows, one of `CACHE_FORMATS`. All tokens, a chunk's own too, are read from it.
    """

    def __init__(
        self,
        machine: Machine,
        parameters: Parameters | MappedParameters,
        batch: int = 1,
        attention: AttentionDecode = mla_absorbed_decode,
        cache: str = "float32",
    ) -> None:
        self.machine, self.config, self.w = machine, parameters.config, parameters.weights
        machine.follow(self.config.fp8_block, self.w.in_blocks)
        self.attention = attention
        self.cache = LatentCache(self.config, batch, dtype=machine.dtype, format=cache)

    def rotation(self, first: int, count: int) -> Array:
        """RoPE's turns at positions first .. first + count.  ->  [count, d_R / 2], complex."""
        dtype = np.complex64 if self.machine.dtype == np.float32 else np.complex128
        return rotations_for(self.config, dtype, first + count)[first : first + count]

    def states(self, tokens: Ids, attention: AttentionDecode | None = None) -> tuple[Array, Array]:
        """Append tokens [B, T] to the cache.

        ->  h [B T, D] behind the final norm, for the head, and h^0 [B T, D] for the first MTP module.
        """
        machine, cache, first, T = self.machine, self.cache, self.cache.length, tokens.shape[1]
        cache.reserve(first + T)
        rotation = self.rotation(first, T)  # [T, d_R / 2]
        attention = attention or self.attention
        x = machine.embedding(self.w.embedding, tokens.ravel(), at="embed.tokens")  # [B T, D]
        for machine.layer, layer in enumerate(self.w.layers):
            latents = cache.latents(machine.layer)  # [B, S_max, d_c + d_R]
            x = block_decode(machine, x, layer, rotation, self.config, latents, first, attention)
        machine.layer = None
        h, _ = machine.rmsnorm(x, self.w.g_final, self.config.norm_eps, at="final.norm")  # [B T, D]
        cache.advance(T)
        return h, h if self.config.mtp_state_after_norm else x

    def head(self, h: Array, at: str = "head.logits") -> Array:
        """The output head.  h: [N, D]  ->  [N, V]."""
        return self.machine.linear(h, self.w.head, at=at)

    def step(self, tokens: Ids) -> tuple[Array, Array]:
        """Logits of every new token.  tokens: [B, T]  ->  [B, T, V], states [B T, D]."""
        h, states = self.states(tokens)
        return self.head(h).reshape(*tokens.shape, -1), states

    def prefill(self, tokens: Ids, chunk: int, on_states: Callable[[Array], None] = lambda _: None) -> Array:
        """Run a prompt [B, T], `chunk` tokens at a time  ->  logits of its last position [B, V].

        on_states: called with each chunk's states [B chunk, D].
        """
        for start in range(0, tokens.shape[1], chunk):
            part = tokens[:, start : start + chunk]  # [B, chunk]
            h, states = self.states(part, mla_naive_decode)
            on_states(states)
        return self.head(h[part.shape[1] - 1 :: part.shape[1]])
