"""How many copies of a token leave a GPU: dispatch over the network and over NVLink, on the mean.

Node-limited, as V3 trains and prefills: a copy goes to each other node with one of the token's experts, to
the GPU with the sender's index, and from there over NVLink to each GPU that has one. In decoding each pick
is a copy of its own, over the network wherever it goes. Combine moves as many copies back.

Means over picks spread evenly inside the groups that the router keeps, each of which is reached: the groups
are kept for their best experts. The report prints the limit, 4 nodes, and no means: these are ours.

Does: means. Does not: count the copies of given tokens (`minidsv3.cluster.traffic`).

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.cost.deployment import load_deployment
    >>> train = copies_sent(ModelConfig.preset("v3"), load_deployment("train"))
    >>> train.network, round(train.nvlink, 2)            # 4 nodes, an eighth of them the token's own
    (3.5, 6.44)

Next: minidsv3.cost.uses
"""

import math
from typing import NamedTuple

from minidsv3.config import ModelConfig
from minidsv3.cost.deployment import Deployment
from minidsv3.cost.expert_parallel import remote_copies

__all__ = ["Copies", "copies_sent"]


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
    reached = nodes * _reached(c, 1 / nodes, spread=True)
    holding = gpus * _reached(c, 1 / gpus, spread=False)
    return Copies(remote_copies(reached, nodes), holding * (per_node - 1) / per_node)


def _reached(c: ModelConfig, part: float, spread: bool) -> float:
    """Chance that a token has an expert among a stretch of them.

    part: of all experts that lie there  spread: a kept group is reached for sure where it lies there whole.
    """
    E, K = c.n_routed_experts, c.n_activated_experts
    groups, kept = (c.n_expert_groups, c.n_limited_groups) if c.limits_groups else (1, 1)
    whole = round(part * groups)  # groups that lie there
    if spread and groups > 1 and whole >= 1:
        return 1 - math.comb(groups - whole, kept) / math.comb(groups, kept)
    held, room = part * E, kept * E / groups  # experts there; experts in the kept groups
    if held <= E / groups:  # inside one group
        return kept / groups * (1 - _missed(room, held, K))
    chances = 0.0
    for there in range(min(whole, kept) + 1):  # kept groups among those that lie there
        ways = math.comb(whole, there) * math.comb(groups - whole, kept - there)
        chances += ways / math.comb(groups, kept) * (1 - _missed(room, there * E / groups, K))
    return chances


def _missed(room: float, held: float, picks: int) -> float:
    """Chance that none of `picks` different experts out of `room` is among the `held`."""
    return math.prod(max(0.0, 1 - held / (room - i)) for i in range(picks))
