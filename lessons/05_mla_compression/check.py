"""What attention over latents has to satisfy: the same as unfolded, its gradient, and no unfolding."""

import numpy as np

from minidsv3.learn.properties import arrays, close, cost, fresh, gradient, like, prop

SIGNATURE = "H E, H R, S C, S R, H E C, H V C"
NAMES = ("q_C", "q_R", "c_KV", "k_R", "W_UK", "W_UV")
STEPS = np.array([-1, -0.5, 0.5, 1], "f")


def uneven(inputs):
    """Drawn whole numbers, with steps added along each array: heads and tokens that differ."""
    return {
        name: x.astype("f") + STEPS[(np.arange(x.size) + i) % len(STEPS)].reshape(x.shape)
        for i, (name, x) in enumerate(inputs.items())
    }


CACHED = arrays(SIGNATURE, 2, **dict.fromkeys(NAMES, (-2, 2, "int64"))).map(uneven)


def naive(q_C, q_R, c_KV, k_R, W_UK, W_UV):
    """Keys and values unfolded; in the precision of what comes.  ->  o [H, d_v]."""
    k_C = np.einsum("hec,sc->hse", W_UK, c_KV)  # [H, S, d_h]
    v_C = np.einsum("hvc,sc->hsv", W_UV, c_KV)  # [H, S, d_v]
    a = np.einsum("he,hse->hs", q_C, k_C) + q_R @ k_R.T  # [H, S]
    a = a * (q_C.shape[1] + q_R.shape[1]) ** -0.5
    e = np.exp(a - a.max(axis=1, keepdims=True))
    return np.einsum("hs,hsv->hv", e / e.sum(axis=1, keepdims=True), v_C)


def exactly(inputs):
    """The naive result, computed in float64."""
    return naive(**{name: x.astype(np.float64) for name, x in inputs.items()}).astype(np.float32)


@prop("the result is a new float32 array [H, d_v]; what came stays as it was", CACHED)
def shape(absorbed_forward, **inputs):
    return like(absorbed_forward(**inputs), exactly(inputs)) or fresh(absorbed_forward)


@prop("with one cached token, the first, o is its value W_UV c_KV, whatever the query asks", CACHED)
def one_token(absorbed_forward, **inputs):
    first = inputs | {"c_KV": inputs["c_KV"][:1], "k_R": inputs["k_R"][:1]}
    value = np.einsum("hvc,sc->hv", first["W_UV"].astype(np.float64), first["c_KV"])
    return close(absorbed_forward(**first), value.astype(np.float32), 1e-4)


@prop("absorbed equals naive, to rounding", CACHED, points=3)
def naive_is_absorbed(absorbed_forward, **inputs):
    return close(absorbed_forward(**inputs), exactly(inputs), 1e-4)


@prop("d_c_KV and d_k_R are the slopes of o along the cache", CACHED, stage="gradient", points=3)
def slopes(absorbed_backward, **inputs):
    return gradient(naive, absorbed_backward, inputs, of=("c_KV", "k_R"), tolerance=1e-3)


@prop("keys and values of the cached tokens are not unfolded", stage="cost", points=2)
def not_unfolded(absorbed_forward):
    H, d_h, d_R, d_c, d_v, S = 16, 16, 8, 16, 16, 256
    shapes = ((H, d_h), (H, d_R), (S, d_c), (S, d_R), (H, d_h, d_c), (H, d_v, d_c))
    rng = np.random.default_rng(5)
    inputs = {name: rng.normal(size=s).astype("f") for name, s in zip(NAMES, shapes, strict=True)}
    return cost(absorbed_forward, inputs, at_most={"flops": 2, "bytes": 4, "memory": 4})
