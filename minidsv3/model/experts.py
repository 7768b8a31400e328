"""Feed-forward networks: dense, shared, and the routed experts of DeepSeekMoE (eq. 12).

    h' = u + sum_s FFN_s(u) + sum_i g_i FFN_i(u),        FFN(u) = W_down (SiLU(W_gate u) * W_up u)

One stable sort puts the copies of the tokens in the order of their experts; each expert then is three
matrices over its own stretch, gate and up in one product, and everything between the products runs over
all copies at once. The weight g_i multiplies the activation in front
of W_down instead of the result behind it: the same number, on fewer elements, and its gradient needs no
expert outputs. An expert that no token reached keeps its gradient, zero.

Does: forward and backward. Does not: choose (`gate`).

    >>> import numpy as np
    >>> from minidsv3.machine import Machine
    >>> w = FFNWeights(np.ones((4, 3), "f"), np.ones((3, 2), "f"))
    >>> y, saved = ffn_forward(Machine(), np.zeros((5, 3), "f"), w, DENSE)
    >>> y.shape, float(y.sum())
    ((5, 3), 0.0)

Next: minidsv3.model.block
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.machine import Machine
from minidsv3.machine.primitives import Plan, plan_dispatch
from minidsv3.model.gate import Routing
from minidsv3.model.parameters import FFNWeights

__all__ = ["DENSE", "SHARED", "experts_backward", "experts_forward", "ffn_backward", "ffn_forward"]

Array = NDArray[Any]


class FFNOps(NamedTuple):
    """Catalogue ids of one use of a feed-forward network."""

    quantise_u: str
    gate_up: str
    swiglu: str
    quantise_a: str
    keep: str
    down: str


DENSE, SHARED = (FFNOps(*(f"{part}.{name}" for name in FFNOps._fields)) for part in ("dense", "shared"))
SHARED = SHARED._replace(quantise_u="experts.quantise_u")  # the same tiles that dispatch sends


class Activation(NamedTuple):
    """What SwiGLU leaves for its backward."""

    sigma: Array  # [N, M]
    a: Array  # [N, M] as the product behind it read it


class FFNSaved(NamedTuple):
    """Sigmoid and activation are kept, since their recomputation would cost an exponential an element; but
    where gate and up are kept narrowed, the backward computes them again from what was kept (section 3.3.3).
    """

    u: Array  # [N, D] as the product read it
    both: Array  # [N, 2 M] gate and up
    activation: Activation | None
    w: FFNWeights
    ops: FFNOps


def ffn_forward(machine: Machine, u: Array, w: FFNWeights, ops: FFNOps) -> tuple[Array, FFNSaved]:
    """A SwiGLU network.  u: [N, D]  ->  [N, D]."""
    u = machine.quantise(u, at=ops.quantise_u)
    both = machine.linear(u, w.W_gate_up, at=ops.gate_up)  # [N, 2 M]
    activation = _activate(machine, both, ops)
    y = machine.linear(activation.a, w.W_down, at=ops.down)  # [N, D]
    kept = machine.keep(both, at=ops.keep)
    return y, FFNSaved(u, kept, activation if kept is both else None, w, ops)


def _activate(machine: Machine, both: Array, ops: FFNOps) -> Activation:
    """SwiGLU of [gate; up] [N, 2 M]."""
    M = both.shape[1] // 2
    a, sigma = machine.swiglu(both[:, :M], both[:, M:], at=ops.swiglu)  # [N, M]
    return Activation(sigma, machine.quantise(a, at=ops.quantise_a))


def ffn_backward(machine: Machine, d_y: Array, saved: FFNSaved) -> tuple[Array, FFNWeights]:
    """d_y: [N, D]  ->  d_u [N, D], gradients of the weights."""
    w, ops, M, both = saved.w, saved.ops, saved.w.W_down.shape[1], saved.both
    sigma, a = saved.activation or _again(machine, partial(_activate, machine, both, ops))
    d_a, d_down = machine.linear_backward(d_y, a, w.W_down, at=ops.down)
    d_both = machine.swiglu_backward(d_a, both[:, :M], both[:, M:], sigma, at=ops.swiglu)
    d_u, d_gate_up = machine.linear_backward(d_both, saved.u, w.W_gate_up, at=ops.gate_up)
    return d_u, FFNWeights(d_gate_up, d_down)


def _again(machine: Machine, forward: Callable[[], Any]) -> Any:
    """Run a piece of the forward as part of the backward."""
    machine.recomputing = True
    try:
        return forward()
    finally:
        machine.recomputing = False


class WeightedActivation(NamedTuple):
    """What SwiGLU and the weights leave for their backward."""

    sigma: Array  # [P, M]
    a: Array  # [P, M] activation
    ga: Array  # [P, M] weighted activation, as the product behind it read it


class ExpertsSaved(NamedTuple):
    """Of the routed experts; rows are copies, sorted by expert."""

    u: Array  # [P, D]
    plan: Plan
    g: Array  # [P] weights
    both: Array  # [P, 2 M] gate and up
    activation: WeightedActivation | None  # None: computed again, as in `FFNSaved`
    W_gate_up: Array
    W_down: Array


def experts_forward(
    machine: Machine, u: Array, routing: Routing, W_gate_up: Array, W_down: Array
) -> tuple[Array, ExpertsSaved]:
    """sum_i g_i FFN_i(u).  u: [N, D]  W_gate_up: [E, 2 M, D]  W_down: [E, D, M]  ->  [N, D]. Equation: 12."""
    plan = plan_dispatch(routing.indices, len(W_down))
    u = machine.quantise(u, at="experts.quantise_u")
    copies = machine.dispatch(u, plan, at="experts.dispatch")  # [P, D]
    W_gate_up = machine.copy_weight(W_gate_up, at="experts.copy_gate_up")
    W_down = machine.copy_weight(W_down, at="experts.copy_down")
    g = np.empty(len(copies), u.dtype)  # [P]
    g[plan.place] = routing.weights
    both = machine.grouped_linear(copies, W_gate_up, plan.bounds, at="experts.gate_up")  # [P, 2 M]
    activation = _activate_weighted(machine, both, g)
    y = machine.grouped_linear(activation.ga, W_down, plan.bounds, at="experts.down")  # [P, D]
    kept = machine.keep(both, at="experts.keep")
    held = activation if kept is both else None
    saved = ExpertsSaved(copies, plan, g, kept, held, W_gate_up, W_down)
    return machine.combine(y, plan, at="experts.combine"), saved


def _activate_weighted(machine: Machine, both: Array, g: Array) -> WeightedActivation:
    """SwiGLU of [gate; up] [P, 2 M], times the copies' weights [P]."""
    M = both.shape[1] // 2
    a, sigma = machine.swiglu(both[:, :M], both[:, M:], at="experts.swiglu")  # [P, M]
    ga = machine.scale(a, g, at="experts.scale")  # [P, M]
    return WeightedActivation(sigma, a, machine.quantise(ga, at="experts.quantise_a"))


@lru_cache
def _plan_for_one(k: int) -> Plan:
    """One token's copies in the order of its choices: nothing to sort."""
    return Plan(np.zeros(k, np.intp), np.arange(k)[None], [])


def experts_decode(machine: Machine, u: Array, routing: Routing, W_gate_up: Array, W_down: Array) -> Array:
    """As `experts_forward` for one token, bit for bit, keeping nothing.  u: [1, D]  ->  [1, D].

    Equation: 12.
    """
    (K, M), plan = (routing.indices.shape[1], W_down.shape[2]), _plan_for_one(routing.indices.shape[1])
    u = machine.quantise(u, at="experts.quantise_u")
    copies = machine.dispatch(u, plan, at="experts.dispatch")  # [K, D]
    both, y = np.empty((K, 2 * M), u.dtype), np.empty(copies.shape, u.dtype)  # [K, 2 M], [K, D]
    chosen = routing.indices[0].tolist()
    for machine.expert, row, result in zip(chosen, copies[:, None], both[:, None], strict=True):
        machine.linear(row, W_gate_up[machine.expert], at="experts.gate_up", out=result)
    machine.expert = None
    a, _ = machine.swiglu(both[:, :M], both[:, M:], at="experts.swiglu")  # [K, M] all experts' at once
    ga = machine.scale(a, routing.weights[0], at="experts.scale")  # [K, M]
    ga = machine.quantise(ga, at="experts.quantise_a")
    for machine.expert, row, result in zip(chosen, ga[:, None], y[:, None], strict=True):
        machine.linear(row, W_down[machine.expert], at="experts.down", out=result)
    machine.expert = None
    return machine.combine(y, plan, at="experts.combine")


class ExpertGradients(NamedTuple):
    """Stacked like the weights."""

    W_gate_up: Array  # [E, 2 M, D]
    W_down: Array  # [E, D, M]


def experts_backward(
    machine: Machine, d_out: Array, saved: ExpertsSaved, into: ExpertGradients | None = None
) -> tuple[Array, Array, ExpertGradients]:
    """d_out: [N, D]  ->  d_u [N, D], d_weights [N, K], gradients, in `into` if given."""
    s, M, both, bounds = saved, saved.W_down.shape[2], saved.both, saved.plan.bounds
    d_w = into or ExpertGradients(
        np.empty(s.W_gate_up.shape, d_out.dtype), np.empty(s.W_down.shape, d_out.dtype)
    )
    sigma, a, ga = s.activation or _again(machine, partial(_activate_weighted, machine, both, s.g))
    d_y = machine.combine_backward(d_out, s.plan, at="experts.combine")  # [P, D]
    d_ga, _ = machine.grouped_linear_backward(d_y, ga, s.W_down, bounds, at="experts.down", d_W=d_w.W_down)
    d_a, d_g = machine.scale_backward(d_ga, a, s.g, at="experts.scale")  # [P, M], [P]
    d_both = machine.swiglu_backward(d_a, both[:, :M], both[:, M:], sigma, at="experts.swiglu")  # [P, 2 M]
    d_copies, _ = machine.grouped_linear_backward(
        d_both, s.u, s.W_gate_up, bounds, at="experts.gate_up", d_W=d_w.W_gate_up
    )  # [P, D]
    d_u = machine.dispatch_backward(d_copies, s.plan, at="experts.dispatch")  # [N, D]
    return d_u, d_g[s.plan.place], d_w
