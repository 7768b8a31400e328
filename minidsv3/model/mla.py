"""Multi-head latent attention: keys and values from one small latent a token (eqs. 1-11).

    c_KV = W_DKV h                      k_C = W_UK c_KV      v_C = W_UV c_KV      k_R = RoPE(W_KR h)
    c_Q  = W_DQ h                       q_C = W_UQ c_Q       q_R = RoPE(W_QR c_Q)
    o    = Softmax([q_C; q_R]^T [k_C; k_R] / sqrt(d_h + d_R)) v_C                 u   = W_O [o_1; ...; o_H]

Both latents are normed; k_R is one vector for all heads and not normed. Two algorithms give the same numbers:
*naive* unfolds keys and values of every token, *absorbed* moves W_UK to the query and W_UV behind the sum,
and then attends over the latents themselves. The second is for decoding: it reads d_c + d_R numbers a token.

Shapes: N = B T tokens, sequence after sequence; H heads; S tokens seen. The softmax's scale is folded into q.

Does: both algorithms, forward and backward, and both over a cache. Does not: own the cache.

    >>> import numpy as np
    >>> from minidsv3.machine import Machine
    >>> rng = np.random.default_rng(0)
    >>> shapes = [(6, 8), (6,), (2, 6, 6), (5, 8), (2, 8), (5,), (2, 7, 5), (8, 6)]
    >>> w = MLAWeights(*(rng.normal(size=s).astype("f") for s in shapes))
    >>> h, turn = rng.normal(size=(4, 8)).astype("f"), np.ones((4, 1), np.complex64)
    >>> u, _ = mla_naive_forward(Machine(), h, w, turn, 0.4, batch=1)
    >>> v, _ = mla_absorbed_forward(Machine(), h, w, turn, 0.4, batch=1)
    >>> u.shape, bool(np.allclose(u, v, atol=1e-4))
    ((4, 8), True)

Next: minidsv3.model.comparators
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.machine import Machine
from minidsv3.machine.primitives import FEW, QUERY_BLOCK
from minidsv3.model.parameters import MLAWeights

__all__ = [
    "MLASaved",
    "mla_absorbed_backward",
    "mla_absorbed_decode",
    "mla_absorbed_forward",
    "mla_naive_backward",
    "mla_naive_decode",
    "mla_naive_forward",
]

Array = NDArray[Any]
LATENT_EPS = 1e-6  # always, like the published code, whatever `norm_eps` is (vLLM uses the config's value)


class Projected(NamedTuple):
    """What every variant computes first: queries, latents, positional keys."""

    h: Array  # [N, D] input as the products read it, kept: four matrix gradients need it
    c_Q_raw: Array | None  # [N, d_c'] before its norm, kept for the norm's backward
    r_Q: Array | None  # [N, 1]
    c_Q: Array  # [N, d_c'] as the product reads it (h itself without a query latent)
    q: Array  # [B, T, H, d_h + d_R] rotated, scaled
    c_KV_raw: Array  # [N, d_c]
    r_KV: Array | None  # [N, 1]
    c_KV: Array  # [N, d_c]
    k_R: Array  # [B, T, d_R] rotated


class MLASaved(NamedTuple):
    """What the backward needs. Keys, values and probabilities are kept: a laptop has the memory, and
    recomputing them would take their products and exponentials again (V3, short of memory, recomputes the
    up-projections, section 3.2.3).
    """

    x: Projected
    c_KV: Array | None  # [N, d_c] as the product that unfolds it read it; None if none did
    core: list[tuple[Array, ...]]  # of each sequence, what its attention needs
    o: Array  # [N, H d_v] as kept for the backward
    w: MLAWeights
    rotation: Array  # [T, d_R / 2]
    scale: float


# ---- projections, common to all ---------------------------------------------------------------------------


def _project(
    machine: Machine, h: Array, w: MLAWeights, rotation: Array, scale: float, batch: int
) -> Projected:
    B, T, H = batch, len(h) // batch, len(w.W_Q)
    h = machine.quantise(h, at="mla.quantise_h")  # [N, D] once for the three products that read it
    if w.W_DQ is None:
        c_Q_raw, r_Q, c_Q = None, None, h
        q = machine.linear(h, w.W_Q.reshape(-1, h.shape[1]), at="mla.q_full")  # [N, H (d_h + d_R)]
    else:
        c_Q_raw = machine.linear(h, w.W_DQ, at="mla.q_down")  # [N, d_c']                            eq. 6
        assert w.g_Q is not None
        c_Q, r_Q = machine.rmsnorm(c_Q_raw, w.g_Q, LATENT_EPS, at="mla.q_norm")  # [N, d_c']
        c_Q = machine.quantise(c_Q, at="mla.quantise_c_Q")
        q = machine.linear(c_Q, w.W_Q.reshape(-1, c_Q.shape[1]), at="mla.q_up")  # [N, H (d_h + d_R)]  eq. 7
    q = q.reshape(B, T, H, -1)
    q *= scale
    machine.rope(q[..., -2 * rotation.shape[1] :], rotation, at="mla.q_rope")  # in place               eq. 8
    c_KV_raw = machine.linear(h, w.W_DKV, at="mla.kv_down")  # [N, d_c]                                 eq. 1
    if w.g_KV is None:  # an attention rewritten as MLA has no norm
        c_KV, r_KV = c_KV_raw, None
    else:
        c_KV, r_KV = machine.rmsnorm(c_KV_raw, w.g_KV, LATENT_EPS, at="mla.kv_norm")  # [N, d_c]
    k_R = machine.linear(h, w.W_KR, at="mla.k_rope_down").reshape(B, T, -1)  # [B, T, d_R]
    machine.rope(k_R, rotation, at="mla.k_rope")  # in place                                            eq. 3
    return Projected(h, c_Q_raw, r_Q, c_Q, q, c_KV_raw, r_KV, c_KV, k_R)


def _project_backward(
    machine: Machine, d_q: Array, d_c_KV: Array, d_k_R: Array, d_W_KV: Array, d_W_O: Array, saved: MLASaved
) -> tuple[Array, MLAWeights]:
    """From the gradients of q, c_KV and k_R to those of h and the weights."""
    x, w = saved.x, saved.w
    machine.rope_backward(d_q[..., w.nope_dim :], saved.rotation, at="mla.q_rope")
    machine.rope_backward(d_k_R, saved.rotation, at="mla.k_rope")
    d_q *= saved.scale
    N = len(x.h)
    d_raw, d_g_KV = _latent_norm_backward(machine, d_c_KV, x.c_KV_raw, w.g_KV, x.r_KV, "mla.kv_norm")
    d_h, d_W_DKV = machine.linear_backward(d_raw, x.h, w.W_DKV, at="mla.kv_down")
    d_h_R, d_W_KR = machine.linear_backward(d_k_R.reshape(N, -1), x.h, w.W_KR, at="mla.k_rope_down")
    d_h += d_h_R
    d_q = d_q.reshape(N, -1)
    W_Q = w.W_Q.reshape(d_q.shape[1], -1)
    d_W_DQ = d_g_Q = None
    if w.W_DQ is None:
        d_h_Q, d_W_Q = machine.linear_backward(d_q, x.h, W_Q, at="mla.q_full")
    else:
        assert x.c_Q_raw is not None
        d_c_Q, d_W_Q = machine.linear_backward(d_q, x.c_Q, W_Q, at="mla.q_up")
        d_raw, d_g_Q = _latent_norm_backward(machine, d_c_Q, x.c_Q_raw, w.g_Q, x.r_Q, "mla.q_norm")
        d_h_Q, d_W_DQ = machine.linear_backward(d_raw, x.h, w.W_DQ, at="mla.q_down")
    d_h += d_h_Q
    return d_h, MLAWeights(
        d_W_DQ,
        d_g_Q,
        d_W_Q.reshape(w.W_Q.shape),
        d_W_DKV,
        d_W_KR,
        d_g_KV,
        d_W_KV.reshape(w.W_KV.shape),
        d_W_O,
    )


def _latent_norm_backward(
    machine: Machine, d_c: Array, raw: Array, gain: Array | None, r: Array | None, at: str
) -> tuple[Array, Array | None]:
    if gain is None or r is None:
        return d_c, None
    return machine.rmsnorm_backward(d_c, raw, gain, r, at=at)


# ---- naive: unfold keys and values ------------------------------------------------------------------------


def mla_naive_forward(
    machine: Machine, h: Array, w: MLAWeights, rotation: Array, scale: float, batch: int
) -> tuple[Array, MLASaved]:
    """Attention over whole sequences, keys and values unfolded.

    h: [N, D] normed input  rotation: [T, d_R/2]  scale: of the softmax  batch: B  ->  u [N, D].
    Equations: 1-11.
    """
    x = _project(machine, h, w, rotation, scale, batch)
    B, T, H, _ = x.q.shape
    W_KV = w.W_KV.reshape(-1, x.c_KV.shape[1])  # [H (d_h + d_v), d_c]
    c_KV = machine.quantise(x.c_KV, at="mla.quantise_c_KV")  # [N, d_c]
    kv = machine.linear(c_KV, W_KV, at="mla.kv_up").reshape(B, T, H, -1)  # [B, T, H, d_h + d_v]    eqs. 2, 5
    o = np.empty((B, T, H, w.v_dim), h.dtype)  # [B, T, H, d_v]
    core: list[tuple[Array, ...]] = []
    for b in range(B):  # a sequence at a time: its scores stay in the cache
        k = _join_keys(kv[b], x.k_R[b], w.nope_dim)  # [H, S, d_h + d_R]                                eq. 4
        v = kv[b, :, :, w.nope_dim :].swapaxes(0, 1)  # [H, S, d_v]
        probabilities = []
        for first in range(0, T, QUERY_BLOCK):  # a block of queries sees no key behind its last query
            t, s = slice(first, first + QUERY_BLOCK), slice(0, first + QUERY_BLOCK)
            o_t, p = _attend(machine, x.q[b, t].swapaxes(0, 1), k[:, s], v[:, s], first)
            o[b, t] = o_t.swapaxes(0, 1)
            probabilities.append(p)
        core.append((k, v, *probabilities))
    flat = o.reshape(B * T, -1)  # [N, H d_v]
    u, kept = _out(machine, flat, w)
    return u, MLASaved(x, c_KV, core, kept, w, rotation, scale)


def _out(machine: Machine, o: Array, w: MLAWeights) -> tuple[Array, Array]:
    """Eq. 11, and o as it waits for the backward.  o: [N, H d_v]  ->  u [N, D], [N, H d_v]."""
    u = machine.linear(machine.quantise(o, at="mla.quantise_o"), w.W_O, at="mla.out")  # [N, D]
    return u, machine.keep(o, at="mla.keep_o")


def _join_keys(kv: Array, k_R: Array, nope: int) -> Array:
    """[k_C; k_R] of every head.  kv: [S, H, d_h + d_v]  k_R: [S, d_R]  ->  [H, S, d_h + d_R]."""
    S, H, _ = kv.shape
    k = np.empty((H, S, nope + k_R.shape[1]), kv.dtype)
    k[..., :nope] = kv[..., :nope].swapaxes(0, 1)
    k[..., nope:] = k_R
    return k


def _attend(machine: Machine, q: Array, k: Array, v: Array, first: int) -> tuple[Array, Array]:
    """Eq. 10.  q: [H, T, E]  k: [H, S, E]  v: [H, S, d_v]  ->  o [H, T, d_v], p [H, T, S]."""
    a = machine.contract(q, k.swapaxes(1, 2), at="mla.scores")  # [H, T, S]
    p = machine.softmax(a, first, at="mla.softmax")  # [H, T, S]
    return machine.contract(p, v, at="mla.values"), p


def mla_naive_backward(machine: Machine, d_u: Array, saved: MLASaved) -> tuple[Array, MLAWeights]:
    """d_u: [N, D]  ->  d_h [N, D], gradients of the weights."""
    x, w = saved.x, saved.w
    B, T, H, _ = x.q.shape
    nope = w.nope_dim
    d_o, d_W_O = machine.linear_backward(d_u, saved.o, w.W_O, at="mla.out")
    d_o = d_o.reshape(B, T, H, -1)
    d_q, d_k_R = np.empty_like(x.q), np.empty_like(x.k_R)
    d_kv = np.empty((B, T, H, nope + w.v_dim), d_u.dtype)  # [B, T, H, d_h + d_v]
    for b, (k, v, *probabilities) in enumerate(saved.core):
        d_k, d_v = np.zeros_like(k), np.zeros(v.shape, v.dtype)  # [H, S, E], [H, S, d_v]
        for i, p in enumerate(probabilities):  # [H, block, S]
            t, s = slice(i * QUERY_BLOCK, (i + 1) * QUERY_BLOCK), slice(0, p.shape[2])
            d_p, d_v_t = machine.contract_backward(d_o[b, t].swapaxes(0, 1), p, v[:, s], at="mla.values")
            d_a = machine.softmax_backward(d_p, p, at="mla.softmax")  # [H, block, S]
            q, turned = x.q[b, t].swapaxes(0, 1), k[:, s].swapaxes(1, 2)  # [H, block, E], [H, E, S]
            d_q_t, d_k_t = machine.contract_backward(d_a, q, turned, at="mla.scores")
            d_q[b, t] = d_q_t.swapaxes(0, 1)
            d_k[:, s] += d_k_t.swapaxes(1, 2)
            d_v[:, s] += d_v_t
        d_kv[b, :, :, :nope] = d_k[..., :nope].swapaxes(0, 1)
        d_kv[b, :, :, nope:] = d_v.swapaxes(0, 1)
        d_k_R[b] = d_k[..., nope:].sum(axis=0)  # one key for all heads
    W_KV = w.W_KV.reshape(H * d_kv.shape[3], -1)
    assert saved.c_KV is not None
    d_c_KV, d_W_KV = machine.linear_backward(d_kv.reshape(B * T, -1), saved.c_KV, W_KV, at="mla.kv_up")
    return _project_backward(machine, d_q, d_c_KV, d_k_R, d_W_KV, d_W_O, saved)


# ---- absorbed: attend over the latents --------------------------------------------------------------------


def mla_absorbed_forward(
    machine: Machine, h: Array, w: MLAWeights, rotation: Array, scale: float, batch: int
) -> tuple[Array, MLASaved]:
    """The same attention with W_UK folded into the query and W_UV applied behind the sum.

    Arguments and result as `mla_naive_forward`.
    """
    x = _project(machine, h, w, rotation, scale, batch)
    B, T, H, _ = x.q.shape
    o = np.empty((B, T, H, w.v_dim), h.dtype)  # [B, T, H, d_v]
    c_KV = x.c_KV.reshape(B, T, -1)
    core: list[tuple[Array, ...]] = []
    for b in range(B):
        latent = np.concatenate([c_KV[b], x.k_R[b]], axis=1)  # [S, d_c + d_R] what a cache holds
        o_b, seen = _attend_absorbed(machine, x.q[b].swapaxes(0, 1), latent, w, first=0)
        o[b] = o_b.swapaxes(0, 1)
        core.append((latent, *seen))
    flat = o.reshape(B * T, -1)  # [N, H d_v]
    u, kept = _out(machine, flat, w)
    return u, MLASaved(x, None, core, kept, w, rotation, scale)


def _attend_absorbed(
    machine: Machine, q: Array, latent: Array, w: MLAWeights, first: int
) -> tuple[Array, tuple[Array, Array, Array]]:
    """q: [H, T, d_h + d_R]  latent: [S, d_c + d_R]  ->  o [H, T, d_v] and (q~, p, o~) for the backward."""
    (H, T, _), S, d_c = q.shape, len(latent), w.W_KV.shape[2]
    nope = q.shape[2] - (latent.shape[1] - d_c)
    W_UK, W_UV = w.W_KV[:, :nope], w.W_KV[:, nope:]  # [H, d_h, d_c], [H, d_v, d_c]
    folded = np.empty((H, T, latent.shape[1]), q.dtype)  # [H, T, d_c + d_R]
    folded[..., :d_c] = machine.contract(q[..., :nope], W_UK, at="mla.absorb_q")
    folded[..., d_c:] = q[..., nope:]
    a = machine.contract(folded.reshape(H * T, -1), latent.T, at="mla.absorbed_scores")  # [H T, S]
    p = machine.softmax(a.reshape(H, T, S), first, at="mla.softmax")  # [H, T, S]
    o_latent = machine.contract(p.reshape(H * T, S), latent[:, :d_c], at="mla.absorbed_values")  # [H T, d_c]
    o_latent = o_latent.reshape(H, T, d_c)
    o = machine.contract(o_latent, W_UV.swapaxes(1, 2), at="mla.absorb_v")  # [H, T, d_v]
    return o, (folded, p, o_latent)


def mla_absorbed_backward(machine: Machine, d_u: Array, saved: MLASaved) -> tuple[Array, MLAWeights]:
    """d_u: [N, D]  ->  d_h [N, D], gradients of the weights."""
    x, w = saved.x, saved.w
    B, T, H, _ = x.q.shape
    nope, d_c = w.nope_dim, w.W_KV.shape[2]
    d_o, d_W_O = machine.linear_backward(d_u, saved.o, w.W_O, at="mla.out")
    d_o = d_o.reshape(B, T, H, -1)
    d_q, d_k_R, d_W_KV = np.empty_like(x.q), np.empty_like(x.k_R), np.zeros_like(w.W_KV)
    d_c_KV = np.empty((B, T, d_c), d_u.dtype)
    for b, (latent, folded, p, o_latent) in enumerate(saved.core):
        d_o_latent, d_W_UV = machine.contract_backward(
            d_o[b].swapaxes(0, 1), o_latent, w.W_UV.swapaxes(1, 2), at="mla.absorb_v"
        )
        d_p, d_value = machine.contract_backward(
            d_o_latent.reshape(H * T, -1), p.reshape(H * T, -1), latent[:, :d_c], at="mla.absorbed_values"
        )
        d_a = machine.softmax_backward(d_p.reshape(p.shape), p, at="mla.softmax").reshape(H * T, -1)
        d_folded, d_key = machine.contract_backward(
            d_a, folded.reshape(H * T, -1), latent.T, at="mla.absorbed_scores"
        )
        d_folded = d_folded.reshape(folded.shape)
        d_q_C, d_W_UK = machine.contract_backward(
            d_folded[..., :d_c], x.q[b].swapaxes(0, 1)[..., :nope], w.W_UK, at="mla.absorb_q"
        )
        d_q[b, :, :, :nope] = d_q_C.swapaxes(0, 1)
        d_q[b, :, :, nope:] = d_folded[..., d_c:].swapaxes(0, 1)
        d_c_KV[b] = d_value + d_key.T[:, :d_c]  # a latent is key and value at once
        d_k_R[b] = d_key.T[:, d_c:]
        d_W_KV[:, :nope] += d_W_UK
        d_W_KV[:, nope:] += d_W_UV.swapaxes(1, 2)
    return _project_backward(machine, d_q, d_c_KV.reshape(B * T, d_c), d_k_R, d_W_KV, d_W_O, saved)


# ---- over a cache: decoding -------------------------------------------------------------------------------


def mla_absorbed_decode(
    machine: Machine, h: Array, w: MLAWeights, rotation: Array, scale: float, latents: Array, first: int
) -> Array:
    """Append the new tokens' latents to a cache and attend over it, absorbed.

    h: [B T, D] the tokens at positions first .. first + T  rotation: [T, d_R/2] of these positions
    latents: [B, S_max, d_c + d_R], rows first .. first + T are written  ->  u [B T, D].
    """
    x = _project(machine, h, w, rotation, scale, len(latents))
    _append(x, latents, first)
    if len(h) == 1:  # one token of one sequence, the usual case, without ceremony
        o, _ = _attend_absorbed(machine, x.q[0].swapaxes(0, 1), latents[0, : first + 1], w, first)
        return machine.linear(o.reshape(1, -1), w.W_O, at="mla.out")  # [1, D]                          eq. 11

    def attend(q: Array, seen: Array, first: int) -> Array:
        return _attend_absorbed(machine, q, seen, w, first)[0]

    o = _over_cache(x.q, latents, first, attend)  # [B T, H d_v]
    return machine.linear(o, w.W_O, at="mla.out")  # [B T, D]                                          eq. 11


def mla_naive_decode(
    machine: Machine, h: Array, w: MLAWeights, rotation: Array, scale: float, latents: Array, first: int
) -> Array:
    """As `mla_absorbed_decode`, unfolding the keys and values of the whole cache each time."""
    x = _project(machine, h, w, rotation, scale, len(latents))
    _append(x, latents, first)
    H, d_c, nope = len(w.W_KV), w.W_KV.shape[2], w.nope_dim

    def attend(q: Array, seen: Array, first: int) -> Array:
        kv = machine.linear(seen[:, :d_c], w.W_KV.reshape(-1, d_c), at="mla.cached_kv_up")
        kv = kv.reshape(len(seen), H, -1)  # [S, H, d_h + d_v]
        k = _join_keys(kv, seen[:, d_c:], nope)  # [H, S, d_h + d_R]
        return _attend(machine, q, k, kv[..., nope:].swapaxes(0, 1), first)[0]

    o = _over_cache(x.q, latents, first, attend)  # [B T, H d_v]
    return machine.linear(o, w.W_O, at="mla.out")  # [B T, D]


def _over_cache(q: Array, latents: Array, first: int, attend: Callable[[Array, Array, int], Array]) -> Array:
    """Attend over each sequence's own rows.  q: [B, T, H, d_h + d_R]  ->  [B T, H d_v].

    A few tokens go one at a time: each sees just the rows up to its own, and gets the bits it would get
    alone.
    """
    B, T = q.shape[:2]
    if T <= FEW:
        return np.concatenate(
            [
                attend(q[b, t, :, None], latents[b, : first + t + 1], first + t).reshape(1, -1)  # [1, H d_v]
                for b in range(B)
                for t in range(T)
            ]
        )
    seen = latents[:, : first + T]  # [B, S, d_c + d_R]
    turned = [
        attend(q[b].swapaxes(0, 1), seen[b], first).swapaxes(0, 1) for b in range(B)
    ]  # [T, H, d_v] each
    return np.concatenate(turned).reshape(B * T, -1)


def _append(x: Projected, latents: Array, first: int) -> None:
    """Write c_KV and the rotated k_R of the new tokens: all that the cache ever holds."""
    B, T = x.k_R.shape[:2]
    d_c = x.c_KV.shape[1]
    latents[:, first : first + T, :d_c] = x.c_KV.reshape(B, T, d_c)
    latents[:, first : first + T, d_c:] = x.k_R
