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
    B, T, D, d = batch, len(h) // batch, h.shape[1], w.W_K.shape[1]

    def heads(W: Array) -> Array:
        x: Array = np.matmul(h, W.reshape(-1, D).T)  # [N, heads d]
        return x.reshape(B, T, -1, d)

    q, k, v = heads(w.W_Q), heads(w.W_K), heads(w.W_V)
    q *= q.dtype.type(scale)
    q, k = (machine.rope(x, rotation, at="mla.q_rope").swapaxes(1, 2) for x in (q, k))
    v = v.swapaxes(1, 2)  # [B, G, T, d]
    grouped = _by_group(q, k.shape[1])  # [B, G, H/G T, d]: queries of one group beside each other
    a = np.matmul(grouped, k.swapaxes(2, 3))  # [B, G, H/G T, T]
    p = machine.softmax(a.reshape(B, -1, T, T), at="mla.softmax").reshape(a.shape)
    o = _by_token(np.matmul(p, v), T)  # [N, H d]
    return np.matmul(o, w.W_O.T), GQASaved(h, q, k, v, p, o, w, rotation, scale)


def gqa_backward(machine: Machine, d_u: Array, saved: GQASaved) -> tuple[Array, GQAWeights]:
    """d_u: [N, D]  ->  d_h [N, D], gradients of the weights."""
    s, w = saved, saved.w
    (B, G, T, d), H = s.k.shape, s.q.shape[1]
    d_o = np.matmul(d_u, w.W_O).reshape(B, T, H, d).swapaxes(1, 2)  # [B, H, T, d]
    d_o = _by_group(d_o, G)  # [B, G, H/G T, d]
    d_p, d_v = np.matmul(d_o, s.v.swapaxes(2, 3)), np.matmul(s.p.swapaxes(2, 3), d_o)
    d_a = machine.softmax_backward(d_p, s.p, at="mla.softmax")  # [B, G, H/G T, T]
    d_q = _by_token(np.matmul(d_a, s.k), T).reshape(B, T, H, d)
    d_k = np.matmul(d_a.swapaxes(2, 3), _by_group(s.q, G)).swapaxes(1, 2).copy()  # [B, T, G, d]
    for d_x in (d_q, d_k):
        machine.rope_backward(d_x, s.rotation, at="mla.q_rope")
    d_q *= d_q.dtype.type(s.scale)
    d_h, d_w = np.zeros_like(s.h), list[Array]()
    for d_x, W in ((d_q, w.W_Q), (d_k, w.W_K), (d_v.swapaxes(1, 2), w.W_V)):
        flat = d_x.reshape(len(s.h), -1)  # [N, heads d]
        d_h += flat @ W.reshape(flat.shape[1], -1)
        d_w.append((flat.T @ s.h).reshape(W.shape))
    return d_h, GQAWeights(d_w[0], d_w[1], d_w[2], d_u.T @ s.o)


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
