# %% [markdown] What a decoder has to remember
# To choose the next token, attention looks at every token before it. What it needs of them is kept in a
# cache, and the cache is read again for each new token. Plain multi-head attention keeps two vectors a head:
# a key and a value. DeepSeek-V3 keeps one small vector for all heads, and computes the same kind of thing.
#
# How can 128 heads live on one vector? This lesson builds it, equation by equation, and then removes the
# unfolding altogether. Guess before you run each cell that ends its prose in a question.
#
# First guess: how many numbers would plain attention keep of one token in one of V3's layers?

# %% The size of the problem  fast=true
import numpy as np

from minidsv3 import Machine, ModelConfig, bill, load_hardware
from minidsv3.model.rope import rotations

v3 = ModelConfig.preset("v3")
H_V3, d_h, d_R, d_v = v3.n_heads, v3.qk_nope_head_dim, v3.qk_rope_head_dim, v3.v_head_dim
d_c = v3.kv_lora_rank

plain, latent = H_V3 * (d_h + d_v), d_c + d_R
print("numbers to keep of a token, in one layer:")
print(f"  plain  {H_V3} heads x (a key of {d_h} + a value of {d_v}) = {plain:,}")
print(f"  MLA    a latent of {d_c} + one positional key of {d_R} = {latent:,}")
print(f"{plain / latent:.1f} times less to keep, and to read again for every token that follows")

# %% [markdown] Equation 1: squeeze
# `c_KV = W_DKV h`: the latent of a token is a product with a wide, flat matrix, then a norm. Nothing else of
# the token will be kept for keys and values, for any head.
#
# The heads below have V3's real widths. There are 4 of them instead of 128, and the input is narrower, so
# that a cell takes milliseconds. Weights are random: shapes, arithmetic and costs do not mind.

# %% Down to the latent  eq="1" show="vector_strip:c_KV[token=0]" fast=true
rng = np.random.default_rng(5)
T, D, H = 48, 256, 4


def normal(*shape):
    """Random weights that keep the size of what they multiply."""
    return (rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)


machine = Machine(trace=True)
h = rng.normal(size=(T, D)).astype(np.float32)  # [T, D] what comes into the layer
W_DKV = normal(d_c, D)  # [d_c, D]

c_KV = machine.linear(h, W_DKV, at="mla.kv_down")  # [T, d_c]                                       eq. 1
c_KV, _ = machine.rmsnorm(c_KV, np.ones(d_c, np.float32), 1e-6, at="mla.kv_norm")  # [T, d_c]
print(f"h {h.shape} -> c_KV {c_KV.shape}: all that {H} heads will know of the tokens")

# %% [markdown] Equations 2 and 5: unfold
# Each head has its own `W_UK` and `W_UV`. They unfold the latent to that head's key and value. So heads do
# differ, although they all drink from one vector: different matrices, same source.

# %% Up to keys and values  eq="2"
W_UK, W_UV = normal(H, d_h, d_c), normal(H, d_v, d_c)  # [H, d_h, d_c], [H, d_v, d_c]


def unfold(W, c, machine):
    """W [H, d, d_c] times c [S, d_c]  ->  [H, S, d]."""
    flat = machine.linear(c, W.reshape(-1, W.shape[2]), at="mla.kv_up")  # [S, H d]
    return flat.reshape(len(c), len(W), -1).swapaxes(0, 1)


k_C, v_C = unfold(W_UK, c_KV, machine), unfold(W_UV, c_KV, machine)  # [H, T, d_h], [H, T, d_v]
heads = k_C[0].ravel() @ k_C[1].ravel() / np.linalg.norm(k_C[0]) / np.linalg.norm(k_C[1])
print(f"c_KV {c_KV.shape} -> k_C {k_C.shape}, v_C {v_C.shape}")
print(f"keys of heads 0 and 1 point the same way by {heads:+.3f} (1 would be: the same key)")

# %% [markdown] Where is the position?
# Keys must know their position: RoPE turns them by it. The obvious place is `k_C`. But we are about to
# move `W_UK` from the key to the query, and this only works if nothing stands between them:
#
#     q_C . (W_UK c) = (W_UK^T q_C) . c            one folded query serves every cached token
#     q_C . (R_s W_UK c) = (W_UK^T R_s^T q_C) . c    a rotation R_s: another folded query for each position s
#
# How far apart are the folded queries of two neighbouring positions, in percent?

# %% RoPE in between would break it
turns = rotations(T, d_h, v3.rope_theta)  # [T, d_h/2] as if all of k_C were turned
query = normal(1, d_h)[0]  # [d_h] a query of head 0
folded_at = {}
for s in (47, 46, 40, 0):
    turned_back = (query.view(np.complex64) * turns[s].conj()).view(np.float32)  # [d_h] R_s^T q
    folded_at[s] = W_UK[0].T @ turned_back  # [d_c]
    apart = np.linalg.norm(folded_at[s] - folded_at[47]) / np.linalg.norm(folded_at[47])
    print(f"folded query for a key at position {s:2}: {apart:4.0%} away from the one at 47")

# %% [markdown] Equation 3: a positional key apart
# So V3 *decouples* it. `k_C` carries no position. Beside it goes `k_R`, a short key made from `h` itself,
# turned by RoPE and **shared by all heads**. A head's whole key is `[k_C; k_R]` (eq. 4), its query
# `[q_C; q_R]` (eq. 9), and the score is the sum of two dot products. The cache holds `[c_KV; k_R]`.

# %% The decoupled key  eq="3" fast=true
W_KR, W_UQ, W_QR = normal(d_R, D), normal(H, d_h, D), normal(H, d_R, D)
turns = rotations(T, d_R, v3.rope_theta)  # [T, d_R/2]

k_R = machine.linear(h, W_KR, at="mla.k_rope_down")  # [T, d_R]
k_R = machine.rope(k_R[None], turns, at="mla.k_rope")[0]  # [T, d_R]                                 eq. 3
q_C = np.einsum("td,hed->hte", h, W_UQ)  # [H, T, d_h] V3 has a latent here too: eqs. 6, 7
q_R = np.einsum("td,hed->the", h, W_QR).copy()  # [T, H, d_R]
q_R = machine.rope(q_R[None], turns, at="mla.q_rope")[0].swapaxes(0, 1)  # [H, T, d_R]                eq. 8
scale = (d_h + d_R) ** -0.5  # eq. 10, of the width before anything is folded
print(f"cached of a token: c_KV {c_KV.shape[1]} + k_R {k_R.shape[1]} = {latent} numbers")
print(f"softmax scale 1/sqrt({d_h} + {d_R}) = {scale:.4f}")

# %% [markdown] Naive: unfold, then attend
# Equation 10 as it stands. Keys and values of every token are unfolded, then it is plain attention.


# %% The naive way  eq="10" show="attention_map:p"
def naive(machine, q_C, q_R, c_KV, k_R, first=0):
    """Queries at positions first ..., over S cached tokens  ->  o [H, T, d_v], p [H, T, S]."""
    k_C, v_C = unfold(W_UK, c_KV, machine), unfold(W_UV, c_KV, machine)  # [H, S, d_h], [H, S, d_v]
    k = np.concatenate([k_C, np.broadcast_to(k_R, (H, *k_R.shape))], axis=2)  # [H, S, d_h + d_R]     eq. 4
    q = np.concatenate([q_C, q_R], axis=2) * q_C.dtype.type(scale)  # [H, T, d_h + d_R]               eq. 9
    a = machine.contract(q, k.swapaxes(1, 2), at="mla.scores")  # [H, T, S]
    p = machine.softmax(a, first, at="mla.softmax")  # [H, T, S]
    return machine.contract(p, v_C, at="mla.values"), p  # [H, T, d_v]                               eq. 10


o_naive, p = naive(machine, q_C, q_R, c_KV, k_R)
print(f"o {o_naive.shape}; rows of p sum to 1: {bool(np.allclose(p.sum(axis=2), 1))}")

# %% [markdown] Absorbed: attend over the latents
# Two products change their place, and no key or value is ever made:
#
#     q~ = W_UK^T q_C    the query goes down to the latent's width      a = q~ . c_KV + q_R . k_R
#     o  = W_UV (sum of p c_KV)    sum the latents first, then unfold one sum a head, not every token
#
# It is the same algebra, only with the brackets elsewhere. Will the results be equal to the last bit?


# %% The absorbed way  eq="10"
def absorbed(machine, q_C, q_R, c_KV, k_R, first=0):
    """As `naive`; reads d_c + d_R numbers of each cached token."""
    T, S = q_C.shape[1], len(c_KV)
    folded = machine.contract(q_C, W_UK, at="mla.absorb_q")  # [H, T, d_c]
    q = np.concatenate([folded, q_R], axis=2) * q_C.dtype.type(scale)  # [H, T, d_c + d_R]
    latent = np.concatenate([c_KV, k_R], axis=1)  # [S, d_c + d_R] the cache
    a = machine.contract(q.reshape(H * T, -1), latent.T, at="mla.absorbed_scores")  # [H T, S]
    p = machine.softmax(a.reshape(H, T, S), first, at="mla.softmax")  # [H, T, S]
    o_latent = machine.contract(p.reshape(H * T, S), c_KV, at="mla.absorbed_values")  # [H T, d_c]
    return machine.contract(o_latent.reshape(H, T, -1), W_UV.swapaxes(1, 2), at="mla.absorb_v"), p


o_absorbed, _ = absorbed(machine, q_C, q_R, c_KV, k_R)
off = np.abs(o_absorbed - o_naive).max()
print(f"largest difference {off:.1e}, values up to {np.abs(o_naive).max():.1f}")
print(f"equal to the last bit: {(o_absorbed == o_naive).mean():.0%} of the {o_naive.size:,} numbers")

# %% [markdown] Rounding, or a mistake?
# A difference this small could still be a mistake. The test: compute both again in float64. If the brackets
# are all that differs, the difference shrinks with the rounding, by a factor of half a billion (2^29).

# %% Ask float64
exact = Machine(dtype="float64")
wide = [x.astype(np.float64) for x in (q_C, q_R, c_KV, k_R)]
narrow_W, (W_UK, W_UV) = (W_UK, W_UV), (W_UK.astype(np.float64), W_UV.astype(np.float64))
(truth, _), (other, _) = naive(exact, *wide), absorbed(exact, *wide)
W_UK, W_UV = narrow_W
print(f"float32: naive and absorbed differ by {off:.1e}")
print(f"float64: naive and absorbed differ by {np.abs(other - truth).max():.1e}")
for name, o in (("naive", o_naive), ("absorbed", o_absorbed)):
    print(f"float32 {name:8} is {np.abs(o - truth).max():.1e} from float64: neither is the wrong one")

# %% [markdown] Three mistakes that explainers make
# Widely copied code (1) counts the latent as the whole cache and forgets `k_R`, (2) leaves out the decoupled
# RoPE, so that the order of the tokens is lost, (3) after folding, scales by the folded width. All three run
# without an error. The first makes a wrong number; which of the others does more harm to the output?

# %% Make them  eq="10"
none = np.zeros_like
shuffled = rng.permutation(T - 1)  # the tokens before the last, in another order
last = [q_C[:, -1:], none(q_R[:, -1:])]
told = absorbed(machine, *last, c_KV, none(k_R), T - 1)[0]
retold = absorbed(machine, *last, c_KV[[*shuffled, T - 1]], none(k_R), T - 1)[0]
wrong_scale = np.float32(((d_h + d_R) / (d_c + d_R)) ** 0.5)
o_wrong, _ = absorbed(machine, q_C * wrong_scale, q_R * wrong_scale, c_KV, k_R)
size = np.linalg.norm(o_naive)
o_latent_only, _ = absorbed(machine, q_C, none(q_R), c_KV, k_R)
less = v3.n_layers * d_c * 2
print(f"1 latent only: {less:,} bytes a token in all layers, {1 - d_c / latent:.0%} less than it takes")
print(f"2 no RoPE: the output is off by {np.linalg.norm(o_latent_only - o_naive) / size:.0%};", end=" ")
print(f"shuffling the past changes it by {np.abs(told - retold).max():.0e}")
print(f"3 scale 1/sqrt({d_c} + {d_R}): the output is off by {np.linalg.norm(o_wrong - o_naive) / size:.0%}")

# %% [markdown] What each way costs
# Folding is no free lunch: a score now multiplies 576 numbers, not 192. In *prefill*, all tokens of a prompt
# ask at once, and each is unfolded once. In *decoding*, one token asks, and everything cached is in front
# of it. Which way is cheaper in which? The trace has counted every product; two bytes a number, as V3 serves.


# %% Prefill and decode, from the trace  show="op_timeline:decode" fast=true
def traced(way, queries):
    """The rows of a way's ops, the last so many tokens asking."""
    machine = Machine(precision="bf16", trace=True)
    way(machine, q_C[:, -queries:], q_R[:, -queries:], c_KV, k_R, T - queries)
    return machine.trace


h800 = load_hardware("h800")
for phase, queries in (("prefill", T), ("decode", 1)):
    for way in (naive, absorbed):
        rows = traced(way, queries)
        mflop, mb = rows.matrix_flops / 1e6, sum(rows.bytes.values()) / 1e6
        time = bill(rows, h800).total.seconds * 1e6
        print(f"{phase:8} {way.__name__:9}{mflop:6.1f} MFLOP {mb:5.2f} MB {time:5.2f} us on an H800")
decode = rows  # the last: absorbed

# %% [markdown] The same at V3's size
# A laptop does not run 128 heads over 4,096 tokens in 61 layers, but the formulas behind the bill do; tests
# hold them equal to the trace. Attention of all layers, decoding one token: by how much does absorbing win?
# (Both ways drawn to scale: `minidsv3 show absorption`.)

# %% One token, 4,095 behind it
from minidsv3.cost.closed_form import decode_absorbed_work, decode_naive_work

flops = {}
for name, work in (("naive", decode_naive_work), ("absorbed", decode_absorbed_work)):
    attention = work(v3, sequences=1, cached=4095)["attention"]
    flops[name] = attention.matrix_flops
    moved = sum(attention.bytes(2).values()) / 1e9
    print(f"{name:9}{attention.matrix_flops / 1e9:6,.0f} GFLOP {moved:5.1f} GB")
print(f"absorbed: {flops['naive'] / flops['absorbed']:.0f} times fewer FLOPs for the same answer")

# %% [markdown] The number to take home
# Two bytes for each of `[c_KV; k_R]`, in each layer. DeepSeek's hardware paper prints the product.

# %% What V3 keeps of a token  fast=true
from minidsv3.cost.published import figures, recompute

found = recompute(figures()["kv.v3"])
print(f"{v3.n_layers} layers x ({d_c} + {d_R}) x 2 bytes = {v3.n_layers * latent * 2:,} bytes a token")
print(f"{found.figure.source} prints {found.figure.printed}: {found.verdict}")

# %% [markdown] Your turn
# Write the absorbed way for one query, and the gradient of the cache: `minidsv3 check 05`. In the package it
# is `minidsv3.model.mla`; cards of its ops: `minidsv3 ops mla.absorb_q`, `minidsv3 ops mla.absorb_v`.
