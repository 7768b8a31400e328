"""One Transformer block: norm, attention, residual; norm, feed-forward, residual (section 2.1, eq. 12).

The feed-forward part is a dense network in the first layers and a mixture of experts in the others: gate,
routed experts, shared experts, and, in training, the sequence-wise balance loss (eqs. 17-20). With softmax
scores, which sum to one already, that is the expert-level loss of DeepSeek-V2 if the routed experts are
counted; V2's losses for devices and communication are not computed.

Does: the block over whole sequences, forward and backward, and over a cache. Does not: loop over layers.

    >>> balance_load(np.array([[[0.9, 0.1], [0.8, 0.3]]]), None, 1)      # both tokens prefer expert 0
    array([[2., 0.]])

Next: minidsv3.model.mtp
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.config import ModelConfig
from minidsv3.machine import Machine
from minidsv3.machine.primitives import BalanceSaved
from minidsv3.model.experts import (
    DENSE,
    SHARED,
    ExpertGradients,
    ExpertsSaved,
    FFNSaved,
    experts_backward,
    experts_decode,
    experts_forward,
    ffn_backward,
    ffn_forward,
)
from minidsv3.model.gate import GateSaved, Routing, choose, gate_backward, gate_forward
from minidsv3.model.mla import MLASaved, mla_naive_backward, mla_naive_forward
from minidsv3.model.parameters import FFNWeights, LayerWeights, MoEWeights

__all__ = ["BlockSaved", "Options", "balance_load", "block_backward", "block_decode", "block_forward"]

Array = NDArray[Any]


class Options(NamedTuple):
    """What a pass over the model is asked for beside logits."""

    balance_weight: float = 0.0  # alpha of eq. 17; 0: the loss is not computed
    balance_counts: str = "top-k of scores"  # eq. 18 as printed; or "routed", the experts really used
    share: float = 1.0  # this shard's part of a batch; scales the gradient


class MoESaved(NamedTuple):
    """Of a mixture of experts."""

    gate: GateSaved
    experts: ExpertsSaved
    shared: FFNSaved | None
    balance: BalanceSaved | None
    balance_loss: Array  # [B] sum(f P), without alpha; empty if not asked for

    @property
    def routing(self) -> Routing:
        """Choice and weights of every token."""
        return self.gate.routing


class BlockSaved(NamedTuple):
    """What a block keeps. The residual stream is kept at both norms: their backward needs it."""

    x: Array  # [N, D] in front of the attention norm
    r_attn: Array  # [N, 1]
    attention: MLASaved
    y: Array  # [N, D] in front of the FFN norm
    r_ffn: Array  # [N, 1]
    ffn: FFNSaved | MoESaved
    w: LayerWeights


def balance_load(scores: Array, indices: NDArray[np.intp] | None, k: int) -> Array:
    """f of eq. 18: how often an expert is among a token's best k, times E / (k T).

    scores: [B, T, E]  indices: [B, T, k] the experts used, or None for the k best scores without the bias, as
    the report prints it  ->  [B, E].
    """
    B, T, E = scores.shape
    if indices is None:
        indices = np.argpartition(scores, E - k, axis=-1)[..., E - k :]
    flat = (indices.reshape(B, -1) + E * np.arange(B)[:, None]).ravel()
    counts = np.bincount(flat, minlength=B * E).reshape(B, E)
    load: Array = (counts * (E / (k * T))).astype(scores.dtype)  # [B, E]
    return load


def block_forward(
    machine: Machine,
    x: Array,
    w: LayerWeights,
    rotation: Array,
    config: ModelConfig,
    batch: int,
    options: Options,
) -> tuple[Array, BlockSaved]:
    """x: [N, D] residual stream  rotation: [T, d_R/2]  ->  [N, D]."""
    h, r_attn = machine.rmsnorm(x, w.g_attn, config.norm_eps, at="attn.norm")  # [N, D]
    u, attention = mla_naive_forward(machine, h, w.attention, rotation, config.softmax_scale, batch)
    y = machine.add(x, u, at="attn.residual")  # [N, D]
    u, r_ffn = machine.rmsnorm(y, w.g_ffn, config.norm_eps, at="ffn.norm")  # [N, D]
    ffn: FFNSaved | MoESaved
    if isinstance(w.ffn, MoEWeights):
        out, ffn = moe_forward(machine, u, w.ffn, config, batch, options)
    else:
        out, ffn = ffn_forward(machine, u, w.ffn, DENSE)
    saved = BlockSaved(x, r_attn, attention, y, r_ffn, ffn, w)
    return machine.add(y, out, at="ffn.residual"), saved  # [N, D]                                     eq. 12


def block_backward(
    machine: Machine, d_out: Array, saved: BlockSaved, options: Options, into: ExpertGradients | None = None
) -> tuple[Array, LayerWeights]:
    """d_out: [N, D]  ->  d_x [N, D], gradients of the weights."""
    s = saved
    d_ffn: FFNWeights | MoEWeights
    if isinstance(s.ffn, MoESaved):
        d_u, d_ffn = moe_backward(machine, d_out, s.ffn, options, into)
    else:
        d_u, d_ffn = ffn_backward(machine, d_out, s.ffn)
    d_y, d_g_ffn = machine.rmsnorm_backward(d_u, s.y, s.w.g_ffn, s.r_ffn, at="ffn.norm")
    d_y += d_out
    d_h, d_attention = mla_naive_backward(machine, d_y, s.attention)
    d_x, d_g_attn = machine.rmsnorm_backward(d_h, s.x, s.w.g_attn, s.r_attn, at="attn.norm")
    d_x += d_y
    return d_x, LayerWeights(d_g_attn, d_attention, d_g_ffn, d_ffn)


def moe_forward(
    machine: Machine, u: Array, w: MoEWeights, config: ModelConfig, batch: int, options: Options
) -> tuple[Array, MoESaved]:
    """Gate, routed and shared experts.  u: [N, D]  ->  [N, D]. Equations: 12-20."""
    routing, gate = gate_forward(machine, u, w.e, w.bias, config)
    u = machine.quantise(u, at="experts.quantise_u")  # [N, D] for dispatch and for the shared experts
    out, experts = experts_forward(machine, u, routing, w.W_gate_up, w.W_down)
    shared = None
    if w.shared is not None:
        always, shared = ffn_forward(machine, u, w.shared, SHARED)
        out = machine.add(out, always, at="experts.add_shared")
    balance, loss = None, np.empty(0, u.dtype)
    if options.balance_weight:
        loss, balance = _balance_forward(machine, routing, config, batch, options)
    return out, MoESaved(gate, experts, shared, balance, loss)


def _balance_forward(
    machine: Machine, routing: Routing, config: ModelConfig, batch: int, options: Options
) -> tuple[Array, BalanceSaved]:
    k = config.n_activated_experts
    scores = routing.scores.reshape(batch, -1, config.n_routed_experts)  # [B, T, E]
    used = routing.indices.reshape(batch, -1, k) if options.balance_counts == "routed" else None
    load = balance_load(scores, used, k)  # [B, E]                                                     eq. 18
    loss, saved = machine.balance(
        scores, load, at="balance.loss"
    )  # [B]                              eqs. 17, 19, 20
    return loss, saved


def moe_backward(
    machine: Machine, d_out: Array, saved: MoESaved, options: Options, into: ExpertGradients | None = None
) -> tuple[Array, MoEWeights]:
    """d_out: [N, D]  ->  d_u [N, D], gradients of the weights; the bias gets none."""
    d_u, d_weights, d_experts = experts_backward(machine, d_out, saved.experts, into)
    d_scores = None
    if saved.balance is not None:
        B = len(saved.balance_loss)  # the loss is a mean over sequences
        d_scores = machine.balance_backward(
            options.share * options.balance_weight / B, *saved.balance, at="balance.loss"
        )
        d_scores = d_scores.reshape(len(d_u), -1)  # [N, E]
    d_u_gate, d_e = gate_backward(machine, d_weights, saved.gate, d_scores)
    d_u += d_u_gate
    d_shared = None
    if saved.shared is not None:
        d_u_shared, d_shared = ffn_backward(machine, d_out, saved.shared)
        d_u += d_u_shared
    d_bias = np.zeros(len(d_e), d_e.dtype) if saved.gate.biased else None
    return d_u, MoEWeights(d_e, d_bias, *d_experts, d_shared)


AttentionDecode = Callable[[Machine, Array, Any, Array, float, Array, int], Array]


def block_decode(
    machine: Machine,
    x: Array,
    w: LayerWeights,
    rotation: Array,
    config: ModelConfig,
    latents: Array,
    first: int,
    attention: AttentionDecode,
) -> Array:
    """The block for new tokens over a cache, keeping nothing.

    x: [B T, D]  latents: [B, S_max, d_c + d_R]  first: tokens in the cache  ->  [B T, D].
    """
    h, _ = machine.rmsnorm(x, w.g_attn, config.norm_eps, at="attn.norm")
    u = attention(machine, h, w.attention, rotation, config.softmax_scale, latents, first)
    y = machine.add(x, u, at="attn.residual")
    u, _ = machine.rmsnorm(y, w.g_ffn, config.norm_eps, at="ffn.norm")
    if isinstance(w.ffn, MoEWeights):
        out = moe_decode(machine, u, w.ffn, config)
    else:
        out, _ = ffn_forward(machine, u, w.ffn, DENSE)
    return machine.add(y, out, at="ffn.residual")


def moe_decode(machine: Machine, u: Array, w: MoEWeights, config: ModelConfig) -> Array:
    """As `moe_forward`, keeping nothing; a single token's copies need no sorting.  u: [N, D]  ->  [N, D]."""
    routing, _ = choose(machine, machine.linear(u, w.e, at="gate.logits"), w.bias, config)
    u = machine.quantise(u, at="experts.quantise_u")  # [N, D]
    if len(u) == 1:
        out = experts_decode(machine, u, routing, w.W_gate_up, w.W_down)
    else:
        out, _ = experts_forward(machine, u, routing, w.W_gate_up, w.W_down)
    if w.shared is not None:
        out = machine.add(out, ffn_forward(machine, u, w.shared, SHARED)[0], at="experts.add_shared")
    return out
