"""How many copies of a token leave a GPU: dispatch over the network and over NVLink, on the mean.

Node-limited, as V3 trains and prefills: a copy goes to each other node with one of the token's experts, to
the GPU with the sender's index, and from there over NVLink to each GPU that has one. In decoding each pick
is a copy of its own, over the network wherever it goes, or over NVLink inside a node. Combine moves as many
copies back.

How often picks share a node depends on the router. Tokens are drawn with independent scores and routed by the
model's rule, V3's by the sum of a group's two best: 4 groups are kept, 3.95 reached. From how their picks lie
on groups the means follow exactly. The same tokens are drawn each time; the standard error of their number
is 0.1 % of the copies. The report prints the limit, 4 nodes, and no means: these are ours.

Does: means. Does not: count the copies of given tokens (`minidsv3.cluster.traffic`).

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.cost.deployment import load_deployment
    >>> train = copies_sent(ModelConfig.preset("v3"), load_deployment("train"))
    >>> round(train.network, 2), round(train.nvlink, 2)     # 3.95 nodes, an eighth of them the token's own
    (3.46, 6.55)

Next: minidsv3.cost.uses
"""

import math
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from minidsv3.config import ModelConfig
from minidsv3.cost.deployment import Deployment
from minidsv3.cost.expert_parallel import chosen_experts, remote_copies

__all__ = ["Copies", "copies_sent"]


TOKENS, SEED = 2048, 0  # that are drawn
BEST_OF_GROUP = {"noaux_tc": 2, "group_limited_greedy": 1}  # of its experts, that a group is kept for


class Copies(NamedTuple):
    """Copies of a token that leave a GPU, or come to it, on the mean."""

    network: float
    nvlink: float


def copies_sent(config: ModelConfig, deployment: Deployment) -> Copies:
    """How often dispatch sends a token over each wire; combine moves as many back.

    Source: DeepSeek-V3 report, 3.2.2 and 3.4.2, for the ways; the means are ours.
    """
    c, d = config, deployment
    gpus, per_node = d.expert_parallel, min(d.gpus_per_node, d.expert_parallel)
    nodes, K = gpus // per_node, c.n_activated_experts
    picks = K + (c.n_shared_experts if d.shared_as_routed else 0)
    elsewhere = picks * (gpus - 1) / gpus
    if not d.node_limited:
        inside = picks * (per_node - 1) / gpus if d.nvlink_inside or nodes == 1 else 0.0
        return Copies(elsewhere - inside, inside)
    return Copies(remote_copies(_reached(c, nodes), nodes), _reached(c, gpus) * (per_node - 1) / per_node)


def _reached(c: ModelConfig, places: int) -> float:
    """How many of so many places, with as many experts each, have an expert of a token.

    Exact for the picks of each group: inside a group any experts are alike, and so are any groups.
    """
    E, G = c.n_routed_experts, c.n_expert_groups if c.limits_groups else 1
    chance = 0.0
    for picks, share in _picks_by_group(c).items():
        if places <= G:  # whole groups
            chance += share * (1 - _missed(G, G / places, len(picks)))
        else:
            chance += share * sum(1 - _missed(E / G, E / places, n) for n in picks) / G
    return places * chance


def _missed(room: float, held: float, picks: int) -> float:
    """Chance that none of `picks` different ones out of `room` is among the `held`."""
    return math.prod(max(0.0, 1 - held / (room - i)) for i in range(picks))


def _picks_by_group(c: ModelConfig) -> Mapping[tuple[int, ...], float]:
    """How a token's picks may lie on the groups that it reaches, most first, and how often they do."""
    if not c.limits_groups:
        return {(c.n_activated_experts,): 1.0}
    best = BEST_OF_GROUP[c.topk_method]
    return _drawn(c.n_routed_experts, c.n_expert_groups, c.n_limited_groups, c.n_activated_experts, best)


@lru_cache
def _drawn(experts: int, groups: int, kept: int, picks: int, best: int) -> Mapping[tuple[int, ...], float]:
    """Of tokens with independent uniform scores, always the same ones."""
    scores = np.random.default_rng(SEED).random((TOKENS, experts))
    chosen = chosen_experts(scores, groups, kept, picks, best)  # [T, K]
    at = np.arange(TOKENS)[:, None] * groups + chosen // (experts // groups)  # [T, K]
    counts = np.bincount(at.ravel(), minlength=TOKENS * groups).reshape(TOKENS, groups)
    found = Counter(tuple(n for n in sorted(row, reverse=True) if n) for row in counts.tolist())
    return {lie: times / TOKENS for lie, times in found.items()}
