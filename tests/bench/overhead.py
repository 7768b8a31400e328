"""What the machine costs: preset `mini` as written in the package against the same NumPy calls written bare.

    python tests/bench/overhead.py [--steps 400] [--repeats 15]

The bare versions below know nothing of machines, ops, named tuples or caches: one function each for a prefill
of 4 x 256 tokens and for a decode step, the NumPy calls written out in place. The two sides take turns in one
process, with one BLAS thread; medians, their ratio, and the largest difference of the logits, which is 0.
The limits: a prefill at most 1.02 times the bare one, a decode step at most 1.10 times.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3 import Machine, Model, ModelConfig
from minidsv3.inference import Decoder
from minidsv3.machine.parallel import blas_threads, keep_freed_memory
from minidsv3.model.parameters import MoEWeights
from minidsv3.model.rope import rotations_for
from minidsv3.model.transformer import all_logits

Array = NDArray[Any]
H, NOPE, ROPE, V_DIM, D_C, E, G, KEPT, K, M = 8, 32, 16, 32, 64, 16, 4, 2, 4, 160
SCALE, EPS, ROUTE_SCALE, BLOCK = np.float32(48**-0.5), 1e-6, 2.5, 64
ONE, ROW, FIRST, IN_ORDER = np.ones((), np.float32), np.arange(1)[:, None], np.zeros(K, np.intp), np.arange(K)


def norm_one(x: Array, gain: Array) -> Array:
    """Root mean square norm of one row."""
    r = np.array([[(square / x.shape[1] + EPS) ** -0.5] for square in np.vecdot(x, x).tolist()], x.dtype)
    y = x * r
    y *= gain
    return y


def norm(x: Array, gain: Array) -> Array:
    """Root mean square norm of many rows."""
    r = np.vecdot(x, x)[:, None]
    r *= 1 / x.shape[-1]
    r += EPS
    np.sqrt(r, out=r)
    np.reciprocal(r, out=r)
    y = x * r
    y *= gain
    return y


def bare_decode(model: Model, token: int, latents: list[Array], n: int, table: Array) -> Array:
    """Logits behind one more token, the n-th; fills row n of the latents."""
    w = model.parameters.weights
    turn = table[n : n + 1]
    x = w.embedding[np.array([token])]
    for layer, rows in zip(w.layers, latents, strict=True):
        a, f = layer.attention, layer.ffn
        h = norm_one(x, layer.g_attn)
        q = norm_one(h.dot(a.W_DQ.T), a.g_Q).dot(a.W_Q.reshape(-1, 96).T).reshape(1, 1, H, -1)
        q *= SCALE
        q_R = q[..., NOPE:].view(np.complex64)
        q_R *= turn[:, None]
        rows[:, n : n + 1, :D_C] = norm_one(h.dot(a.W_DKV.T), a.g_KV).reshape(1, 1, D_C)
        k_R = h.dot(a.W_KR.T).reshape(1, 1, -1)
        pairs = k_R.view(np.complex64)
        pairs *= turn
        rows[:, n : n + 1, D_C:] = k_R
        seen, q = rows[0, : n + 1], q[0, 0, :, None]
        folded = np.empty((H, 1, D_C + ROPE), np.float32)
        folded[..., :D_C] = np.matmul(q[..., :NOPE], a.W_KV[:, :NOPE])
        folded[..., D_C:] = q[..., NOPE:]
        p = np.matmul(folded.reshape(H, -1), seen.T).reshape(H, 1, -1)
        p -= np.maximum.reduce(p, axis=-1, keepdims=True)
        np.exp(p, out=p)
        total = np.add.reduce(p, axis=-1, keepdims=True)
        p *= np.reciprocal(total, out=total)
        o = np.matmul(p.reshape(H, -1), seen[:, :D_C]).reshape(H, 1, D_C)
        o = np.matmul(o, a.W_KV[:, NOPE:].swapaxes(1, 2)).reshape(1, -1)
        y = x + o.dot(a.W_O.T)
        u = norm_one(y, layer.g_ffn)
        if not isinstance(f, MoEWeights):
            both = u.dot(f.W_gate_up.T)
            gate, up = both[:, :704], both[:, 704:]
            s = np.negative(gate)
            np.exp(s, out=s)
            np.add(s, ONE, out=s)
            np.reciprocal(s, out=s)
            s = gate * s
            s *= up
            x = y + s.dot(f.W_down.T)
            continue
        s = np.negative(u.dot(f.e.T))
        np.exp(s, out=s)
        np.add(s, ONE, out=s)
        np.reciprocal(s, out=s)
        groups = (s + f.bias).reshape(1, G, -1)
        best = groups.copy()
        best.partition(-2, axis=2)
        best = np.add.reduce(best[..., -2:], axis=2)
        chosen = np.negative(best).argsort(axis=1, kind="stable")[:, :KEPT]
        masked = np.empty_like(groups)
        masked.fill(-np.inf)
        masked[ROW, chosen] = groups[ROW, chosen]
        chosen = np.negative(masked.reshape(1, E)).argsort(axis=1, kind="stable")[:, :K]
        g = s[ROW, chosen]
        total = np.add.reduce(g, axis=1, keepdims=True)
        total += 1e-20
        g = g * (ROUTE_SCALE / total)
        copies = u.take(FIRST, axis=0)
        both, out = np.empty((K, 2 * M), np.float32), np.empty_like(copies)
        experts = chosen[0].tolist()
        for i, e in enumerate(experts):
            copies[i : i + 1].dot(f.W_gate_up[e].T, both[i : i + 1])
        gate, up = both[:, :M], both[:, M:]
        s = np.negative(gate)
        np.exp(s, out=s)
        np.add(s, ONE, out=s)
        np.reciprocal(s, out=s)
        s = gate * s
        s *= up
        s = s * g[0][:, None]
        for i, e in enumerate(experts):
            s[i : i + 1].dot(f.W_down[e].T, out[i : i + 1])
        routed = np.add.reduce(out.take(IN_ORDER, axis=0), axis=0, keepdims=True)
        both = u.dot(f.shared.W_gate_up.T)
        gate, up = both[:, :M], both[:, M:]
        s = np.negative(gate)
        np.exp(s, out=s)
        np.add(s, ONE, out=s)
        np.reciprocal(s, out=s)
        s = gate * s
        s *= up
        x = y + (routed + s.dot(f.shared.W_down.T))
    return norm_one(x, w.g_final).dot(w.head.T)


def bare_prefill(model: Model, tokens: Array, table: Array) -> Array:
    """Logits of whole sequences.  tokens: [B, T]  ->  [B, T, V]."""
    w = model.parameters.weights
    (B, T), N = tokens.shape, tokens.size
    turn, rows = table[:T], np.arange(N)
    mask = np.where(np.arange(BLOCK) > np.arange(BLOCK)[:, None], -np.inf, 0).astype(np.float32)
    x = w.embedding[tokens.ravel()]
    for layer in w.layers:
        a, f = layer.attention, layer.ffn
        h = norm(x, layer.g_attn)
        q = np.matmul(norm(np.matmul(h, a.W_DQ.T), a.g_Q), a.W_Q.reshape(-1, 96).T).reshape(B, T, H, -1)
        q *= SCALE
        q_R = q[..., NOPE:].view(np.complex64)
        q_R *= turn[:, None]
        c = norm(np.matmul(h, a.W_DKV.T), a.g_KV)
        k_R = np.matmul(h, a.W_KR.T).reshape(B, T, -1)
        pairs = k_R.view(np.complex64)
        pairs *= turn
        kv = np.matmul(c, a.W_KV.reshape(-1, D_C).T).reshape(B, T, H, -1)
        o, kept = np.empty((B, T, H, V_DIM), np.float32), []
        for b in range(B):
            k = np.empty((H, T, NOPE + ROPE), np.float32)
            k[..., :NOPE] = kv[b, ..., :NOPE].swapaxes(0, 1)
            k[..., NOPE:] = k_R[b]
            v = kv[b, :, :, NOPE:].swapaxes(0, 1)
            for at in range(0, T, BLOCK):
                end = at + BLOCK
                p = np.matmul(q[b, at:end].swapaxes(0, 1), k[:, :end].swapaxes(1, 2))
                p[..., at:] += mask
                p -= np.maximum.reduce(p, axis=-1, keepdims=True)
                np.exp(p, out=p)
                total = np.add.reduce(p, axis=-1, keepdims=True)
                p *= np.reciprocal(total, out=total)
                o[b, at:end] = np.matmul(p, v[:, :end]).swapaxes(0, 1)
                kept.append((k, p))
        y = x + np.matmul(o.reshape(N, -1), a.W_O.T)
        u = norm(y, layer.g_ffn)
        if not isinstance(f, MoEWeights):
            x = y + bare_ffn(u, f.W_gate_up, f.W_down)
            continue
        s = np.negative(np.matmul(u, f.e.T))
        np.exp(s, out=s)
        np.add(s, ONE, out=s)
        np.reciprocal(s, out=s)
        groups = (s + f.bias).reshape(N, G, -1)
        best = groups.copy()
        best.partition(-2, axis=2)
        best = np.add.reduce(best[..., -2:], axis=2)
        chosen = bare_top_k(best, KEPT)
        masked = np.empty_like(groups)
        masked.fill(-np.inf)
        masked[rows[:, None], chosen] = groups[rows[:, None], chosen]
        chosen = bare_top_k(masked.reshape(N, E), K)
        g = s[rows[:, None], chosen]
        total = np.add.reduce(g, axis=1, keepdims=True)
        total += 1e-20
        g = g * (ROUTE_SCALE / total)
        order = np.argsort(chosen, axis=None, kind="stable")
        place = np.empty(order.size, np.intp)
        place[order] = np.arange(order.size)
        place = place.reshape(N, K)
        bounds = np.searchsorted(chosen.ravel()[order], np.arange(E + 1)).tolist()
        copies = u.take(order // K, axis=0)
        g_sorted = np.empty(len(copies), np.float32)
        g_sorted[place] = g
        out, kept = np.empty_like(copies), []
        for e in range(E):
            here = slice(bounds[e], bounds[e + 1])
            both = np.matmul(copies[here], f.W_gate_up[e].T)
            gate, up = both[:, :M], both[:, M:]
            s = np.negative(gate)
            np.exp(s, out=s)
            np.add(s, ONE, out=s)
            np.reciprocal(s, out=s)
            act = gate * s
            act *= up
            weighted = act * g_sorted[here][:, None]
            np.matmul(weighted, f.W_down[e].T, out=out[here])
            kept.append((both, s, act, weighted))
        routed = out.take(place[:, 0], axis=0)
        for k in range(1, K):
            routed += out.take(place[:, k], axis=0)
        x = y + (routed + bare_ffn(u, f.shared.W_gate_up, f.shared.W_down))
    return np.matmul(norm(x, w.g_final), w.head.T).reshape(B, T, -1)


def bare_ffn(u: Array, W_gate_up: Array, W_down: Array) -> Array:
    """A SwiGLU network."""
    both = np.matmul(u, W_gate_up.T)
    width = W_down.shape[1]
    gate, up = both[:, :width], both[:, width:]
    s = np.negative(gate)
    np.exp(s, out=s)
    np.add(s, ONE, out=s)
    np.reciprocal(s, out=s)
    a = gate * s
    a *= up
    return np.matmul(a, W_down.T)


def bare_top_k(scores: Array, k: int) -> Array:
    """K passes of argmax."""
    left, rows = scores.copy(), np.arange(len(scores))
    chosen = np.empty((len(scores), k), np.intp)
    for i in range(k):
        chosen[:, i] = left.argmax(axis=1)
        left[rows, chosen[:, i]] = -np.inf
    return chosen


# ---- side by side ------------------------------------------------------------------------------------------


def compare(name: str, sides: dict[str, Callable[[int], Array]], turns: int, warm: int, limit: float) -> None:
    """Time two sides in turn; print medians, ratio, and how far their logits differ."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    ratios, apart = [], 0.0
    for turn in range(turns + warm):
        results = []
        order = list(sides) if turn % 2 else list(sides)[::-1]
        for side in order:
            start = time.perf_counter()
            results.append(sides[side](turn))
            times[side].append(time.perf_counter() - start)
        apart = max(apart, float(np.abs(results[0] - results[1]).max()))
        ratios.append(times["package"][-1] / times["bare"][-1])
    us = {side: median(taken[warm:]) * 1e6 for side, taken in times.items()}
    print(f"{name}: package {us['package']:,.0f} us, bare {us['bare']:,.0f} us, medians of {turns}")
    ratio = median(ratios[warm:])
    print(f"  ratio {us['package'] / us['bare']:.3f}, median of ratios {ratio:.3f}, limit {limit}")
    print(f"  largest difference {apart:.1e}")


def main() -> None:
    """Prefill, then decode."""
    parser = argparse.ArgumentParser(description="what the machine costs over bare NumPy")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    keep_freed_memory()  # fresh pages would weigh on whichever side keeps more arrays alive
    config = ModelConfig.preset("mini")
    model, machine = Model.initialise(config, seed=0), Machine()
    table = rotations_for(config)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (4, 256))
    ids = np.random.default_rng(1).integers(0, config.vocab_size, options.steps + 64)
    decoder = Decoder(machine, model.parameters)
    latents = [np.zeros((1, config.max_seq_len, D_C + ROPE), np.float32) for _ in range(config.n_layers)]
    with np.errstate(over="ignore"), blas_threads(1):
        prefill = {
            "package": lambda _: all_logits(machine, model.parameters, tokens)[0],
            "bare": lambda _: bare_prefill(model, tokens, table),
        }
        compare("prefill 4 x 256", prefill, options.repeats, 2, 1.02)
        decode = {
            "package": lambda n: decoder.step(ids[None, n : n + 1])[0][0],
            "bare": lambda n: bare_decode(model, int(ids[n]), latents, n, table),
        }
        compare("decode, one token", decode, options.steps, 64, 1.10)


if __name__ == "__main__":
    main()
