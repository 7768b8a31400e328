"""The attentions that MLA is measured against: MHA, GQA and MQA are one function with H, G or 1 key heads.

A query head h reads key head h // (H / G). The cache of a token is 2 G d numbers (keys and values), against
MLA's d_c + d_R. `gqa_as_mla` rewrites any such layer as an MLA layer with the same outputs and the same
cache: the G rotated keys become MLA's one positional key of width G d, whose queries are zero outside their
own group; the values become the latent, and W_UV picks a group's part. So MLA can express GQA, never the
reverse.

Does: forward, backward, the exact rewriting. Does not: take part in DeepSeek-V3.

    >>> import numpy as np
    >>> from minidsv3.machine import Machine
    >>> w = GQAWeights(*(np.ones(s, "f") for s in [(4, 2, 8), (1, 2, 8), (1, 2, 8), (8, 8)]))   # MQA: G = 1
    >>> u, _ = gqa_forward(Machine(), np.ones((3, 8), "f"), w, np.ones((3, 1), np.complex64), 0.7, batch=1)
    >>> u.shape
    (3, 8)

Next: minidsv3.model.gate
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.machine import Machine
from minidsv3.model.parameters import MLAWeights

__all__ = ["GQASaved", "GQAWeights", "gqa_as_mla", "gqa_backward", "gqa_forward"]

Array = NDArray[Any]


class GQAWeights(NamedTuple):
    """Grouped-query attention: G = H is multi-head, G = 1 multi-query."""

    W_Q: Array  # [H, d, D]
    W_K: Array  # [G, d, D]
    W_V: Array  # [G, d, D]
    W_O: Array  # [D, H d]


class GQASaved(NamedTuple):
    """Everything is kept; nothing is recomputed."""

    h: Array  # [N, D]
    q: Array  # [B, H, T, d] rotated, scaled
    k: Array  # [B, G, T, d] rotated
    v: Array  # [B, G, T, d]
    p: Array  # [B, G, H/G T, T]
    o: Array  # [N, H d]
    w: GQAWeights
    rotation: Array
    scale: float


def gqa_forward(
    machine: Machine, h: Array, w: GQAWeights, rotation: Array, scale: float, batch: int
) -> tuple[Array, GQASaved]:
    """Grouped-query attention over whole sequences; RoPE on all of each head.

    h: [N, D]  rotation: [T, d/2]  scale: of the softmax  batch: B  ->  u [N, D].
    """
    B, T, d = batch, len(h) // batch, w.W_K.shape[1]
    q, k, v = (
        _heads(machine, h, W, at).reshape(B, T, -1, d) for W, at in zip(w[:3], _PROJECTIONS, strict=True)
    )
    q *= q.dtype.type(scale)
    q = machine.rope(q, rotation, at="gqa.q_rope").swapaxes(1, 2)  # [B, H, T, d]
    k = machine.rope(k, rotation, at="gqa.k_rope").swapaxes(1, 2)  # [B, G, T, d]
    v = v.swapaxes(1, 2)  # [B, G, T, d]
    grouped = _by_group(q, k.shape[1])  # [B, G, H/G T, d]: queries of one group beside each other
    a = machine.contract(grouped, k.swapaxes(2, 3), at="gqa.scores")  # [B, G, H/G T, T]
    p = machine.softmax(a.reshape(B, -1, T, T), at="gqa.softmax").reshape(a.shape)
    o = _by_token(machine.contract(p, v, at="gqa.values"), T)  # [N, H d]
    return machine.linear(o, w.W_O, at="gqa.out"), GQASaved(h, q, k, v, p, o, w, rotation, scale)


_PROJECTIONS = ("gqa.q", "gqa.k", "gqa.v")


def _heads(machine: Machine, h: Array, W: Array, at: str) -> Array:
    """All heads of a projection.  h: [N, D]  W: [heads, d, D]  ->  [N, heads d]."""
    x: Array = machine.linear(h, W.reshape(-1, h.shape[1]), at=at)
    return x


def gqa_backward(machine: Machine, d_u: Array, saved: GQASaved) -> tuple[Array, GQAWeights]:
    """d_u: [N, D]  ->  d_h [N, D], gradients of the weights."""
    s, w = saved, saved.w
    (B, G, T, d), H = s.k.shape, s.q.shape[1]
    d_flat, d_W_O = machine.linear_backward(d_u, s.o, w.W_O, at="gqa.out")
    d_o = _by_group(d_flat.reshape(B, T, H, d).swapaxes(1, 2), G)  # [B, G, H/G T, d]
    d_p, d_v = machine.contract_backward(d_o, s.p, s.v, at="gqa.values")
    d_a = machine.softmax_backward(d_p.reshape(B, H, T, T), s.p.reshape(B, H, T, T), at="gqa.softmax")
    turned = s.k.swapaxes(2, 3)  # [B, G, d, T]
    d_grouped, d_turned = machine.contract_backward(
        d_a.reshape(s.p.shape), _by_group(s.q, G), turned, at="gqa.scores"
    )
    d_q = _by_token(d_grouped, T).reshape(B, T, H, d)
    d_k = np.ascontiguousarray(d_turned.transpose(0, 3, 1, 2))  # [B, T, G, d]
    machine.rope_backward(d_q, s.rotation, at="gqa.q_rope")
    machine.rope_backward(d_k, s.rotation, at="gqa.k_rope")
    d_q *= d_q.dtype.type(s.scale)
    d_h, d_w = np.zeros_like(s.h), list[Array]()
    for d_x, W, at in zip((d_q, d_k, d_v.swapaxes(1, 2)), w[:3], _PROJECTIONS, strict=True):
        flat = d_x.reshape(len(s.h), -1)  # [N, heads d]
        d_part, d_W = machine.linear_backward(flat, s.h, W.reshape(flat.shape[1], -1), at=at)
        d_h += d_part
        d_w.append(d_W.reshape(W.shape))
    return d_h, GQAWeights(d_w[0], d_w[1], d_w[2], d_W_O)


def _by_group(q: Array, groups: int) -> Array:
    """[B, H, T, d] -> [B, G, H/G T, d]."""
    B, H, T, d = q.shape
    return q.reshape(B, groups, H // groups * T, d)


def _by_token(x: Array, T: int) -> Array:
    """[B, G, H/G T, d] -> [N, H d]."""
    B, d = x.shape[0], x.shape[3]
    return x.reshape(B, -1, T, d).swapaxes(1, 2).reshape(B * T, -1)


def gqa_as_mla(w: GQAWeights, rotation: Array) -> tuple[MLAWeights, Array]:
    """The same layer as MLA: weights, and the rotations repeated for each group.

    The latent holds the G values (d_c = G d), the shared positional key the G keys (d_R = G d), there is no
    key without position (d_h = 0), and nothing is normed. Cache a token: 2 G d, as before.
    """
    (H, d, D), G = w.W_Q.shape, len(w.W_K)
    group = np.arange(H) // (H // G)
    W_Q, W_KV = np.zeros((H, G * d, D), w.W_Q.dtype), np.zeros((H, d, G * d), w.W_Q.dtype)
    for head in range(H):
        mine = slice(group[head] * d, (group[head] + 1) * d)
        W_Q[head, mine] = w.W_Q[head]
        W_KV[head, :, mine] = np.eye(d)
    W_DKV, W_KR = w.W_V.reshape(G * d, D), w.W_K.reshape(G * d, D)
    return MLAWeights(None, None, W_Q, W_DKV, W_KR, None, W_KV, w.W_O), np.tile(rotation, (1, G))
