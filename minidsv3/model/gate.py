"""The router: scores, a bias for the choice alone, groups, top-K, weights (eqs. 13-16); and DeepSeek-V2's.

    V3   s = sigmoid(u . e)   choose by s + b, in the groups with the best sums of two   g = 2.5 s / sum(s)
    V2   s = softmax(u . e)   choose by s, in the groups with the best expert            g = 16 s

`topk_method`: "noaux_tc" is V3's choice, "group_limited_greedy" V2's, "greedy" (V2-Lite) takes the best of
all. Masked experts get minus infinity: a fill of 0, which early published code used, lets a masked expert win
wherever the biased scores of the kept groups are negative. The bias never reaches the weights. Gradients pass
through the weights (scores, division), not through the choice, and never reach the bias.

Does: the choice and its backward. Does not: move tokens (`experts`), update the bias
(`minidsv3.training.optimizer`).

    >>> import numpy as np
    >>> from minidsv3.config import ModelConfig
    >>> config = ModelConfig.preset("nano")            # 16 experts in 4 groups, 2 groups kept, top 4
    >>> z = np.linspace(-2, 2, 16, dtype="f")[None]
    >>> route(z, np.zeros(16, "f"), config).indices
    array([[15, 14, 13, 12]])
    >>> bool(np.isclose(route(z, np.zeros(16, "f"), config).weights.sum(), config.route_scale))
    True

Next: minidsv3.model.experts
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.config import ModelConfig
from minidsv3.machine import Machine

__all__ = ["GateSaved", "Routing", "choose", "gate_backward", "gate_forward", "group_limited_top_k", "route"]

Array = NDArray[Any]
BEST_OF_GROUP = 2  # a group's score is the sum of its two best; the report writes K / M, which is 8 / 4


class Routing(NamedTuple):
    """Where the tokens go."""

    indices: NDArray[np.intp]  # [N, K] chosen experts, best first
    weights: Array  # [N, K] g; renormalised, they sum to the route scale
    scores: Array  # [N, E] s


class GateSaved(NamedTuple):
    """What the backward needs; all of it is small."""

    u: Array  # [N, D]
    e: Array  # [E, D]
    routing: Routing
    total: Array  # [N, 1] sum of the chosen scores; empty if the weights are not renormalised
    config: ModelConfig

    @property
    def biased(self) -> bool:
        """Whether the choice had a bias, whose gradient is zero."""
        return self.config.has_router_bias


def group_limited_top_k(
    machine: Machine, choice: Array, groups: int, kept: int, k: int, best_of_group: int = BEST_OF_GROUP
) -> NDArray[np.intp]:
    """The k best experts of the `kept` best groups; a group counts as much as its best few together.

    choice: [N, E] = s + b  ->  [N, k]. Equations: 14, 16.
    """
    N, E = choice.shape
    if kept < groups:
        by_group = choice.reshape(N, groups, E // groups)
        if best_of_group == 1:
            best = np.maximum.reduce(by_group, axis=2)  # [N, G]
        else:
            best = by_group.copy()  # [N, G, E / G]
            best.partition(-best_of_group, axis=2)
            best = np.add.reduce(best[..., -best_of_group:], axis=2)  # [N, G]
        chosen = machine.top_k(best, kept, at="gate.groups")  # [N, kept]
        masked = np.empty(by_group.shape, choice.dtype)  # [N, G, E / G]
        masked.fill(-np.inf)
        rows = _rows(N)
        masked[rows, chosen] = by_group[rows, chosen]
        choice = masked.reshape(N, E)
    indices: NDArray[np.intp] = machine.top_k(choice, k, at="gate.top_k")
    return indices


@lru_cache(maxsize=16)
def _rows(n: int) -> NDArray[np.intp]:
    """Row numbers in a column, to pick from each row.  [n, 1]."""
    return np.arange(n)[:, None]


def choose(machine: Machine, z: Array, bias: Array | None, config: ModelConfig) -> tuple[Routing, Array]:
    """From u . e [N, E] to the routing, and the sums [N, 1] that its backward needs. Equations: 13-16."""
    if config.score_func == "softmax":
        s = machine.row_softmax(z, at="gate.softmax")  # [N, E]
    else:
        s = machine.sigmoid(z, at="gate.sigmoid")  # [N, E]                                            eq. 15
    indices = _choose_by(machine, s, bias, config)  # [N, K]                                       eqs. 14, 16
    chosen = s[_rows(len(s)), indices]  # [N, K] without the bias
    if not config.norm_topk_prob:
        return Routing(indices, chosen * s.dtype.type(config.route_scale), s), np.empty((0, 1), s.dtype)
    weights, total = machine.renormalise(chosen, config.route_scale, at="gate.renormalise")  # eq. 13
    return Routing(indices, weights, s), total


def _choose_by(machine: Machine, s: Array, bias: Array | None, config: ModelConfig) -> NDArray[np.intp]:
    """s: [N, E]  bias: [E], read by "noaux_tc" alone  ->  [N, K]."""
    groups, kept, k = config.n_expert_groups, config.n_limited_groups, config.n_activated_experts
    if config.topk_method == "noaux_tc":
        return group_limited_top_k(machine, s if bias is None else s + bias, groups, kept, k)
    if config.topk_method == "group_limited_greedy":
        return group_limited_top_k(machine, s, groups, kept, k, best_of_group=1)
    return group_limited_top_k(machine, s, 1, 1, k)


def route(scores_before_activation: Array, bias: Array | None, config: ModelConfig) -> Routing:
    """Choose experts for each token.

    scores_before_activation: [T, E], u . e  bias: [E], or None (zeros)
    ->  .indices [T, K], .weights [T, K], .scores [T, E].
    """
    z = np.asarray(scores_before_activation)
    z = z if z.dtype.kind == "f" else z.astype(np.float32)
    given = z.shape[1:] if bias is None else np.shape(bias)
    if z.ndim != 2 or z.shape[1] != config.n_routed_experts or given != z.shape[1:]:
        expected = f"expected scores [T, E={config.n_routed_experts}] and bias [E={config.n_routed_experts}]"
        raise ValueError(f"{expected}, got {z.shape} and {given}")
    with np.errstate(over="ignore"):
        return choose(Machine(), z, bias, config)[0]


def gate_forward(
    machine: Machine, u: Array, e: Array, bias: Array | None, config: ModelConfig
) -> tuple[Routing, GateSaved]:
    """u: [N, D]  e: [E, D]  bias: [E]  ->  routing. Equations: 13-16."""
    z = machine.linear(u, e, at="gate.logits")  # [N, E]
    routing, total = choose(machine, z, bias, config)
    return routing, GateSaved(u, e, routing, total, config)


def gate_backward(
    machine: Machine, d_weights: Array, saved: GateSaved, d_scores: Array | None = None
) -> tuple[Array, Array]:
    """d_weights: [N, K]  d_scores: [N, E] from the balance loss, if any  ->  d_u [N, D], d_e [E, D]."""
    (indices, weights, s), config = saved.routing, saved.config
    if config.norm_topk_prob:
        d_chosen = machine.renormalise_backward(
            d_weights, weights, saved.total, config.route_scale, at="gate.renormalise"
        )
    else:
        d_chosen = d_weights * s.dtype.type(config.route_scale)
    d_s = np.zeros_like(s) if d_scores is None else d_scores  # [N, E]
    np.put_along_axis(d_s, indices, np.take_along_axis(d_s, indices, axis=1) + d_chosen, axis=1)
    if config.score_func == "softmax":
        d_z = machine.row_softmax_backward(d_s, s, at="gate.softmax")  # [N, E]
    else:
        d_z = machine.sigmoid_backward(d_s, s, at="gate.sigmoid")  # [N, E]
    return machine.linear_backward(d_z, saved.u, saved.e, at="gate.logits")
