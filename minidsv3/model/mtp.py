"""Multi-token prediction: modules that predict one token further each (section 2.2, eqs. 21-25).

    h'_i = M_k [RMSNorm(Emb(t_{i+k})); RMSNorm(h_i^{k-1})]     h^k = TRM_k(h')     P^k = OutHead(norm(h^k))

Module k sees T - k positions and predicts token i + k + 1. The report leaves three things open; the defaults
are what the published checkpoint means, the others are fields of `ModelConfig`:

- `mtp_order`: the checkpoint's M_k takes [embedding; state]; eq. 21 prints [state; embedding]
  ("state-first").
- `mtp_state_after_norm`: h^0 is the main model's state after its final norm.
- `mtp_chain_after_norm`: the state passed on to module k + 1 is after module k's own norm; engines that
  chained it from before the norm lost drafts (61.4 against 64.6 % accepted on R1).

`data/mtp_conventions.toml` names them and who uses them; `config.with_mtp_convention(name)` takes one. A
module used again for further drafts goes on from the state that it would pass on.

Does: one module, forward and backward. Does not: the head or the loss (`minidsv3.model.transformer`).

    >>> from minidsv3.config import ModelConfig
    >>> config = ModelConfig.preset("v3")
    >>> config.mtp_convention, config.with_mtp_convention("h0_post_chain_pre").mtp_chain_after_norm
    ('h0_post_chain_post', False)

Next: minidsv3.model.transformer
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.config import ModelConfig
from minidsv3.machine import Machine
from minidsv3.model.block import (
    AttentionDecode,
    BlockSaved,
    Options,
    block_backward,
    block_decode,
    block_forward,
)
from minidsv3.model.experts import ExpertGradients
from minidsv3.model.parameters import MTPWeights

__all__ = ["MTPSaved", "mtp_backward", "mtp_decode", "mtp_forward"]

Array = NDArray[Any]


class MTPSaved(NamedTuple):
    """What a module keeps."""

    embedded: Array  # [N, D] Emb(t)
    r_e: Array
    state: Array  # [N, D] h^{k-1}
    r_h: Array
    joined: Array  # [N, 2 D]
    block: BlockSaved
    out: Array  # [N, D] TRM_k(h') before its norm
    r_k: Array
    w: MTPWeights
    config: ModelConfig


def _join(
    machine: Machine, embedded: Array, state: Array, w: MTPWeights, config: ModelConfig
) -> tuple[Array, Array, Array, Array]:
    """Eq. 21.  embedded, state: [N, D]  ->  h' [N, D], and [N, 2 D], 1/rms, 1/rms for the backward."""
    a, r_e = machine.rmsnorm(embedded, w.g_e, config.norm_eps, at="mtp.embedding_norm")
    b, r_h = machine.rmsnorm(state, w.g_h, config.norm_eps, at="mtp.state_norm")
    joined = np.concatenate((a, b) if config.mtp_order == "embedding-first" else (b, a), axis=1)  # [N, 2 D]
    return machine.linear(joined, w.M_k, at="mtp.join"), joined, r_e, r_h


def mtp_forward(
    machine: Machine,
    embedded: Array,
    state: Array,
    w: MTPWeights,
    rotation: Array,
    config: ModelConfig,
    batch: int,
    options: Options,
) -> tuple[Array, Array, MTPSaved]:
    """One module over whole sequences.

    embedded: [N, D] Emb(t_{i+k})  state: [N, D] h^{k-1}, N = B (T - k)
    ->  [N, D] for the shared head, [N, D] state to pass on. Equations: 21, 22.
    """
    x, joined, r_e, r_h = _join(machine, embedded, state, w, config)
    out, block = block_forward(machine, x, w.block, rotation, config, batch, options)
    normed, r_k = machine.rmsnorm(out, w.g_k, config.norm_eps, at="mtp.norm")
    saved = MTPSaved(embedded, r_e, state, r_h, joined, block, out, r_k, w, config)
    return normed, normed if config.mtp_chain_after_norm else out, saved


def mtp_backward(
    machine: Machine,
    d_normed: Array,
    d_passed: Array | None,
    saved: MTPSaved,
    options: Options,
    into: ExpertGradients | None = None,
) -> tuple[Array, Array, MTPWeights]:
    """d_normed: [N, D] from the head  d_passed: [N, D] from the next module, if any

    ->  d_embedded [N, D], d_state [N, D], gradients of the weights.
    """
    s, w, config = saved, saved.w, saved.config
    D = d_normed.shape[1]
    if d_passed is not None and config.mtp_chain_after_norm:
        d_normed = d_normed + d_passed
    d_out, d_g_k = machine.rmsnorm_backward(d_normed, s.out, w.g_k, s.r_k, at="mtp.norm")
    if d_passed is not None and not config.mtp_chain_after_norm:
        d_out += d_passed
    d_x, d_block = block_backward(machine, d_out, s.block, options, into)
    d_joined, d_M = machine.linear_backward(d_x, s.joined, w.M_k, at="mtp.join")
    first, second = d_joined[:, :D], d_joined[:, D:]
    d_a, d_b = (first, second) if config.mtp_order == "embedding-first" else (second, first)
    d_embedded, d_g_e = machine.rmsnorm_backward(d_a, s.embedded, w.g_e, s.r_e, at="mtp.embedding_norm")
    d_state, d_g_h = machine.rmsnorm_backward(d_b, s.state, w.g_h, s.r_h, at="mtp.state_norm")
    return d_embedded, d_state, MTPWeights(d_g_e, d_g_h, d_M, d_block, d_g_k)


def mtp_decode(
    machine: Machine,
    embedded: Array,
    state: Array,
    w: MTPWeights,
    rotation: Array,
    config: ModelConfig,
    latents: Array,
    first: int,
    attention: AttentionDecode,
) -> tuple[Array, Array]:
    """One module for new positions over its own cache  ->  [N, D] for the head, [N, D] state to pass on."""
    x, *_ = _join(machine, embedded, state, w, config)
    out = block_decode(machine, x, w.block, rotation, config, latents, first, attention)
    normed, _ = machine.rmsnorm(out, w.g_k, config.norm_eps, at="mtp.norm")
    return normed, normed if config.mtp_chain_after_norm else out
