"""The arithmetic that the model is written in: each primitive next to its backward.

A token axis is written N (all tokens of a batch, B sequences of T laid end to end). Names with `d_` in
front are gradients of the loss. A forward returns what its backward needs beside the result. Every function
takes `at`, the id of the op it is used for; only a tracing machine reads it.

Does: plain NumPy in the dtype of its operands, with few temporaries. Does not: round (a precision policy
does), count (a trace does), know the model.

    >>> import numpy as np
    >>> x, W = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [0.5, 0.0]])
    >>> linear(x, W)
    array([[11. ,  0.5]])
    >>> linear_backward(np.array([[1.0, 0.0]]), x, W)
    (array([[3., 4.]]), array([[1., 2.],
           [0., 0.]]))

Next: minidsv3.machine.blocks
"""

import math
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEW", "PRIMITIVES", "Plan"]

QUERY_BLOCK = 64  # queries attended together; no key behind a block's last query is touched
Array = NDArray[Any]
FEW = 8  # so many rows or fewer are multiplied one at a time (below that OpenBLAS packs W for nothing)


# ---- matrix products ---------------------------------------------------------------------------------------


def linear(x: Array, W: Array, at: str = "", out: Array | None = None) -> Array:
    """Y = x W^T.  x: [N, D]  W: [R, D]  ->  [N, R].

    Up to FEW rows are matrix-vector products: quicker than one matrix product, and a row's bits do not
    depend on how many rows came along, which decoding relies on. (`dot` calls the BLAS with less ceremony
    than `matmul`.)
    """
    if x.shape[0] == 1:
        return x.dot(W.T, out)
    if x.shape[0] > FEW:
        return np.matmul(x, W.T, out=out)
    y = np.empty((len(x), len(W)), x.dtype) if out is None else out  # [N, R]
    for i in range(len(x)):
        x[i : i + 1].dot(W.T, y[i : i + 1])
    return y


def linear_backward(
    d_y: Array, x: Array, W: Array, at: str = "", d_x: Array | None = None, d_W: Array | None = None
) -> tuple[Array, Array]:
    """Dgrad and Wgrad.  d_y: [N, R]  ->  d_x [N, D], d_W [R, D], in the arrays given if they are."""
    return np.matmul(d_y, W, out=d_x), np.matmul(d_y.T, x, out=d_W)


def grouped_linear(x: Array, W: Array, bounds: list[int], at: str = "") -> Array:
    """Each expert's rows times its own weights; expert e has the rows bounds[e] .. bounds[e + 1].

    x: [P, D]  W: [E, R, D]  ->  [P, R].
    """
    y = np.empty((len(x), W.shape[1]), x.dtype)  # [P, R]
    for e, (start, stop) in enumerate(pairwise(bounds)):
        if start < stop:
            linear(x[start:stop], W[e], out=y[start:stop])
    return y


def grouped_linear_backward(
    d_y: Array, x: Array, W: Array, bounds: list[int], at: str = "", d_W: Array | None = None
) -> tuple[Array, Array]:
    """d_y: [P, R]  ->  d_x [P, D], d_W [E, R, D]; the gradient of an expert without rows is zero."""
    d_x = np.empty(x.shape, x.dtype)  # [P, D]
    d_W = np.empty(W.shape, W.dtype) if d_W is None else d_W  # [E, R, D]
    for e, (start, stop) in enumerate(pairwise(bounds)):
        if start < stop:
            here = slice(start, stop)
            linear_backward(d_y[here], x[here], W[e], d_x=d_x[here], d_W=d_W[e])
        else:
            d_W[e] = 0
    return d_x, d_W


def contract(a: Array, b: Array, at: str = "") -> Array:
    """Matrix product over the last axis of a and the last but one of b; leading axes go together."""
    y: Array = np.matmul(a, b)
    return y


def contract_backward(d_y: Array, a: Array, b: Array, at: str = "") -> tuple[Array, Array]:
    """Gradients of both factors; that of b is laid out in memory as b itself, turned or not."""
    d_a = np.matmul(d_y, b.swapaxes(-1, -2))
    if b.strides[-2] == b.itemsize:  # b is a turned view: compute its gradient turned, and turn the view
        return d_a, np.matmul(d_y.swapaxes(-1, -2), a).swapaxes(-1, -2)
    return d_a, np.matmul(a.swapaxes(-1, -2), d_y)


# ---- look-up, norm, rotation -------------------------------------------------------------------------------


def embedding(table: Array, ids: Array, at: str = "") -> Array:
    """Rows of the table.  table: [V, D]  ids: [N]  ->  [N, D]."""
    return table[ids]


def embedding_backward(d_x: Array, table: Array, ids: Array, at: str = "") -> Array:
    """Sum the gradients of equal ids.  d_x: [N, D]  ->  [V, D]."""
    d_table = np.zeros(table.shape, d_x.dtype)  # [V, D]
    if ids.size:
        order = np.argsort(ids, kind="stable")
        found, first = np.unique(ids[order], return_index=True)
        d_table[found] = np.add.reduceat(d_x[order], first, axis=0)
    return d_table


def rmsnorm(x: Array, gain: Array, eps: float, at: str = "") -> tuple[Array, Array]:
    """Divide each row by its root mean square.  x: [N, D]  gain: [D]  ->  y [N, D], r = 1/rms [N, 1]."""
    if len(x) <= FEW:  # a few roots are quicker taken one by one
        D, r = x.shape[1], np.vecdot(x, x)  # [N]
        for i, square in enumerate(r.tolist()):
            r[i] = (square / D + eps) ** -0.5
        y = x * r[:, None]  # [N, D]
        y *= gain
        return y, r[:, None]
    r = np.vecdot(x, x)[:, None]  # [N, 1]
    r *= 1 / x.shape[-1]
    r += eps
    np.sqrt(r, out=r)
    np.reciprocal(r, out=r)
    y = x * r  # [N, D]
    y *= gain
    return y, r


def rmsnorm_backward(d_y: Array, x: Array, gain: Array, r: Array, at: str = "") -> tuple[Array, Array]:
    """d_x = r g d_y - x r^3/D sum(g d_y x).  ->  d_x [N, D], d_gain [D]."""
    product = d_y * x  # [N, D]
    d_gain = r[:, 0] @ product  # [D]
    pull = (product @ gain)[:, None]  # [N, 1]
    pull *= r * r
    pull *= 1 / x.shape[-1]
    d_x = np.multiply(d_y, gain, out=product)  # [N, D]
    d_x -= x * pull
    d_x *= r
    return d_x, d_gain


def rope(x: Array, rotation: Array, at: str = "") -> Array:
    """Turn neighbouring pairs (2i, 2i+1), in place.  x: [B, T, (H,) R]  rotation: [T, R/2], complex."""
    pairs = x.view(rotation.dtype)  # [B, T, (H,) R/2] neighbours as complex numbers
    if len(rotation) <= FEW:  # one position at a time: where a pair lies in a longer loop shows in its bits
        for t, turn in enumerate(rotation):
            there = pairs[:, t]  # [B, (H,) R/2]
            np.multiply(there, turn, out=there)
        return x
    pairs *= rotation[:, None] if x.ndim == 4 else rotation
    return x


def rope_backward(d_x: Array, rotation: Array, at: str = "") -> Array:
    """The backward of a rotation is the rotation back, in place."""
    return rope(d_x, rotation.conj())


# ---- softmax, activations ----------------------------------------------------------------------------------


def softmax(scores: Array, first: int = 0, at: str = "") -> Array:
    """Causal softmax over the last axis, in place.

    scores: [..., T, S]; row t is the query at position first + t and may see keys 0 .. first + t. A single
    query is the last of its sequence, S = first + 1, and sees all.
    """
    T = scores.shape[-2]
    if T > 1:  # every query of the block sees the keys in front of it; the mask concerns the block's own
        scores[..., first:] += _causal_mask(T, scores.shape[-1] - first, scores.dtype)
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    total = np.add.reduce(scores, axis=-1, keepdims=True)
    scores *= np.reciprocal(total, out=total)
    return scores


@lru_cache(maxsize=16)
def _causal_mask(T: int, S: int, dtype: Any) -> Array:
    """0 where query t may see key s <= t, minus infinity elsewhere.  [T, S]."""
    return np.where(np.arange(S) > np.arange(T)[:, None], -np.inf, 0).astype(dtype)


def softmax_backward(d_p: Array, p: Array, at: str = "") -> Array:
    """d_s = p (d_p - sum(d_p p)), written over d_p."""
    d_p -= np.vecdot(d_p, p)[..., None]
    d_p *= p
    return d_p


def row_softmax(x: Array, at: str = "") -> Array:
    """Softmax of each row over all of it, a new array.  [N, E] -> [N, E]."""
    y: Array = x - np.maximum.reduce(x, axis=-1, keepdims=True)
    np.exp(y, out=y)
    y /= np.add.reduce(y, axis=-1, keepdims=True)
    return y


def row_softmax_backward(d_y: Array, y: Array, at: str = "") -> Array:
    """d_x = y (d_y - sum(d_y y)), written over d_y."""
    return softmax_backward(d_y, y)


def sigmoid(x: Array, at: str = "") -> Array:
    """1 / (1 + exp(-x))."""
    y = np.negative(x)
    np.exp(y, out=y)
    np.add(y, _ONE[y.dtype], out=y)  # an array of no axes: cheaper to add than Python's 1
    return np.reciprocal(y, out=y)


_ONE = {np.dtype(name): np.ones((), name) for name in ("float32", "float64")}


def sigmoid_backward(d_y: Array, y: Array, at: str = "") -> Array:
    """d_x = d_y y (1 - y)."""
    d_x: Array = d_y * y
    d_x *= 1 - y
    return d_x


def swiglu(gate: Array, up: Array, at: str = "") -> tuple[Array, Array]:
    """SiLU(gate) up.  [N, M], [N, M]  ->  y [N, M], sigmoid(gate) [N, M]."""
    sigma = sigmoid(gate)  # [N, M]
    y = gate * sigma  # [N, M]
    y *= up
    return y, sigma


def swiglu_backward(d_y: Array, gate: Array, up: Array, sigma: Array, at: str = "") -> Array:
    """Gradients of gate and up, beside each other in one array.  d_y: [N, M]  ->  [N, 2 M]."""
    M = gate.shape[1]
    d_both = np.empty((gate.shape[0], 2 * M), d_y.dtype)  # [N, 2 M]
    d_gate, d_up = d_both[:, :M], d_both[:, M:]
    silu = gate * sigma  # [N, M]
    np.multiply(d_y, silu, out=d_up)
    slope = np.subtract(1, sigma)  # silu' = sigma + silu (1 - sigma)
    slope *= silu
    slope += sigma
    slope *= up
    np.multiply(d_y, slope, out=d_gate)
    return d_both


def add(x: Array, y: Array, at: str = "") -> Array:
    """The residual sum, a new array: x is still needed by the norm's backward."""
    return x + y


# ---- routing -----------------------------------------------------------------------------------------------


def top_k(choice: Array, k: int, at: str = "") -> Array:
    """Indices of the k largest of each row, best first; ties go to the lower index.  [N, E] -> [N, k]."""
    if k == choice.shape[1] or len(choice) <= FEW:
        return np.negative(choice).argsort(axis=1, kind="stable")[:, :k]
    left = np.maximum(choice, np.finfo(choice.dtype).min)  # [N, E] above the mark of what is chosen already
    chosen = np.empty((len(choice), k), np.intp)  # [N, k]
    rows = np.arange(len(choice))
    for i in range(k):  # k is 4 or 8: k passes cost less than a sort
        chosen[:, i] = left.argmax(axis=1)
        left[rows, chosen[:, i]] = -np.inf
    return chosen


class Plan(NamedTuple):
    """Where the copies of the tokens go: copies sorted by expert, tokens in order inside an expert."""

    token: NDArray[np.intp]  # [P] the token of each sorted copy, P = N K
    place: NDArray[np.intp]  # [N, K] where the copy for a token's k-th choice lies
    bounds: list[int]  # [E + 1] copies of expert e are bounds[e] .. bounds[e + 1]


def plan_dispatch(indices: NDArray[np.intp], experts: int) -> Plan:
    """One stable sort groups the copies by expert.  indices: [N, K]."""
    order = np.argsort(indices, axis=None, kind="stable")  # [P]
    place = np.empty(order.size, np.intp)  # [P]
    place[order] = np.arange(order.size)
    bounds = np.searchsorted(indices.ravel()[order], np.arange(experts + 1)).tolist()
    return Plan(order // indices.shape[1], place.reshape(indices.shape), bounds)


def dispatch(x: Array, plan: Plan, at: str = "") -> Array:
    """Copy each token to its experts' places.  x: [N, D]  ->  [P, D]."""
    return x.take(plan.token, axis=0)


def combine(y: Array, plan: Plan, at: str = "") -> Array:
    """Add up what comes back for each token; the weights are in y already.  y: [P, D]  ->  [N, D]."""
    if len(plan.place) == 1:
        return np.add.reduce(y.take(plan.place[0], axis=0), axis=0, keepdims=True)  # in the same order
    out = y.take(plan.place[:, 0], axis=0)  # [N, D]
    for k in range(1, plan.place.shape[1]):
        out += y.take(plan.place[:, k], axis=0)
    return out


def scale(x: Array, weights: Array, at: str = "") -> Array:
    """Multiply each row by its weight.  x: [N, M]  weights: [N]  ->  [N, M]."""
    return x * weights[:, None]


def scale_backward(d_y: Array, x: Array, weights: Array, at: str = "") -> tuple[Array, Array]:
    """d_y: [N, M]  ->  d_x [N, M] written over d_y, d_weights [N]."""
    d_weights = np.vecdot(d_y, x)  # [N]
    d_y *= weights[:, None]
    return d_y, d_weights


# the backward of sending is collecting, and the other way round
def dispatch_backward(d_y: Array, plan: Plan, at: str = "") -> Array:
    """d_y: [P, D]  ->  d_x [N, D]."""
    return combine(d_y, plan)


def combine_backward(d_out: Array, plan: Plan, at: str = "") -> Array:
    """d_out: [N, D]  ->  d_y [P, D]."""
    return dispatch(d_out, plan)


def renormalise(chosen: Array, scale: float, at: str = "") -> tuple[Array, Array]:
    """Divide the chosen scores by their sum, times the route scale.  [N, K] -> weights [N, K], sum [N, 1]."""
    total = np.add.reduce(chosen, axis=1, keepdims=True)  # [N, 1]
    total += 1e-20
    return chosen * (scale / total), total


def renormalise_backward(d_w: Array, weights: Array, total: Array, scale: float, at: str = "") -> Array:
    """d_s = (scale d_w - sum(d_w w)) / total.  [N, K] -> [N, K]."""
    pull = np.vecdot(d_w, weights)[:, None]  # [N, 1]
    d_s: Array = scale * d_w - pull  # [N, K]
    return np.divide(d_s, total, out=d_s)


class BalanceSaved(NamedTuple):
    """What the balance loss keeps for its backward."""

    share: Array  # [B, T, E] s' = s / sum(s)
    load: Array  # [B, E] f
    total: Array  # [B, T, 1] sum(s)


def balance(scores: Array, load: Array, at: str = "") -> tuple[Array, BalanceSaved]:
    """Sequence-wise balance loss sum(f P), without alpha (eqs. 17, 19, 20).

    scores: [B, T, E] sigmoid scores  load: [B, E] f of eq. 18, a constant for the gradient  ->  [B].
    """
    total = scores.sum(axis=-1, keepdims=True)  # [B, T, 1]
    share = scores / total  # [B, T, E]
    return np.vecdot(load, share.mean(axis=1)), BalanceSaved(share, load, total)


def balance_backward(d_loss: float, share: Array, load: Array, total: Array, at: str = "") -> Array:
    """Arguments after the first as `BalanceSaved` has them; d_loss is one number for every sequence.

    ->  d_scores [B, T, E].
    """
    d_share = load * load.dtype.type(d_loss / share.shape[1])  # [B, E]: the same for each token
    pull = share @ d_share[:, :, None]  # [B, T, 1]
    d_scores: Array = d_share[:, None] - pull  # [B, T, E]
    return np.divide(d_scores, total, out=d_scores)


# ---- what a precision policy gives a meaning: here, nothing happens ----------------------------------------


def quantise(x: Array, at: str = "") -> Array:
    """Where V3 puts an activation into FP8 tiles, for all products that read it: here x itself."""
    return x


def keep(x: Array, at: str = "") -> Array:
    """Where V3 stores an activation for the backward in a narrower format: here x itself."""
    return x


def copy_weight(W: Array, at: str = "") -> Array:
    """Where V3 makes the narrow copy of master weights that products read: here W itself.  [..., R, D]."""
    return W


# ---- loss, update ------------------------------------------------------------------------------------------


def cross_entropy(logits: Array, targets: Array, at: str = "") -> tuple[Array, Array]:
    """Loss of each token in nats, and the probabilities, written over the logits.

    [N, V], [N] -> [N], [N, V].
    """
    rows = np.arange(len(targets))
    logits -= logits.max(axis=1, keepdims=True)
    right = logits[rows, targets]  # [N]
    np.exp(logits, out=logits)
    total = logits.sum(axis=1)  # [N]
    logits *= (1 / total)[:, None]
    return np.log(total) - right, logits


def cross_entropy_backward(d_loss: float, p: Array, targets: Array, at: str = "") -> Array:
    """d_logits = d_loss (p - onehot), written over the probabilities.  [N, V] -> [N, V]."""
    p *= p.dtype.type(d_loss)
    p[np.arange(len(targets)), targets] -= p.dtype.type(d_loss)
    return p


def adamw(
    w: Array, g: Array, m: Array, v: Array, rate: float, beta1: float, beta2: float, eps: float, decay: float,
    step: int, clip: float = 1.0, at: str = "",
) -> Array:  # fmt: skip
    """One AdamW step in place over flat arrays.

    w, g, m, v: [P].  clip: factor on the gradient.  Decoupled decay: w shrinks by rate x decay before the
    step (Loshchilov & Hutter 2019). The moments' corrections are folded into eps and rate: a pass less.
    """
    root = math.sqrt(1 - beta2**step)
    t = np.multiply(g, (1 - beta1) * clip)  # [P]
    m *= beta1
    m += t
    np.multiply(g, g, out=t)
    t *= (1 - beta2) * clip**2
    v *= beta2
    v += t
    np.sqrt(v, out=t)
    t += eps * root
    np.divide(m, t, out=t)
    t *= rate * root / (1 - beta1**step)
    if decay:
        w *= 1 - rate * decay
    w -= t
    return w


def average(mean: Array, w: Array, part: float, at: str = "") -> Array:
    """Move a running mean towards w, in place: mean += part (w - mean).  [P], [P]."""
    t: Array = w - mean
    t *= part
    mean += t
    return mean


PRIMITIVES = (
    "linear", "grouped_linear", "contract", "embedding", "rmsnorm", "rope", "softmax", "row_softmax",
    "sigmoid", "swiglu", "add", "top_k", "dispatch", "scale", "combine", "renormalise", "balance",
    "cross_entropy", "adamw", "average", "quantise", "keep", "copy_weight",
)  # fmt: skip
