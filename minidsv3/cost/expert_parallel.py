"""Copies of expert parallelism on average, and what a measured bandwidth says about the wires.

A token goes to the nodes that hold its experts. How many that are, if K of E experts are picked evenly:

    any experts        N (1 - C(E - E/N, K) / C(E, K))             exact
    inside some groups, picked blindly                             the same, among the experts of these groups
    inside the best groups, by their best expert                   E[min(nodes of K picks, groups)], exact:

for experts stand in random order, the best groups are the first that appear in it, and one that has appeared
among the first K has an expert among the chosen. V3 ranks groups by the sum of their two best: for that
`sampled_distinct_nodes` draws tokens (Monte Carlo, uniform scores).

Libraries print *logical* bandwidth: all copies, the own node's too, over the time. The wire sees less.

Does: expectations, bytes, rates. Does not: count the copies of given tokens (`minidsv3.cluster.traffic`).

    >>> [round(n, 2) for n in (expected_distinct_nodes(256, 8, 8), expected_distinct_nodes(128, 4, 8))]
    [5.29, 3.63]
    >>> round(expected_distinct_nodes_of_best(experts=256, groups=8, kept=4, picks=8), 2)
    3.98
    >>> round(wire_bandwidth(58e9, nodes=4) / 1e9, 1)
    43.5

Next: minidsv3.cost.networks
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "chosen_experts",
    "distinct_node_chances",
    "expected_distinct_nodes",
    "expected_distinct_nodes_of_best",
    "experts_a_node",
    "logical_bandwidth",
    "message_bytes",
    "network_bound",
    "nvlink_bandwidth",
    "nvlink_bound",
    "remote_copies",
    "row_bytes",
    "sampled_distinct_nodes",
    "slots_per_gpu",
    "wire_bandwidth",
]


# ---- copies -----------------------------------------------------------------------------------------------


def expected_distinct_nodes(experts: int, nodes: int, picks: int) -> float:
    """Nodes with at least one of `picks` different experts drawn evenly: N (1 - C(E - E/N, K) / C(E, K)).

    With `nodes` as GPUs or groups it counts those.
    """
    _divides(experts, nodes, picks)
    return nodes * (1 - math.comb(experts - experts // nodes, picks) / math.comb(experts, picks))


def distinct_node_chances(experts: int, nodes: int, picks: int) -> list[float]:
    """Chance that the picks lie on exactly 0, 1, … nodes.  -> nodes + 1 numbers."""
    _divides(experts, nodes, picks)
    held, all_ways = experts // nodes, math.comb(experts, picks)

    def ways(reached: int) -> int:
        """Choices on all of `reached` given nodes and nowhere else, by inclusion and exclusion."""
        within = (math.comb(reached, i) * math.comb(i * held, picks) for i in range(reached + 1))
        return sum((-1) ** (reached - i) * choices for i, choices in enumerate(within))

    return [math.comb(nodes, reached) * ways(reached) / all_ways for reached in range(nodes + 1)]


def expected_distinct_nodes_of_best(experts: int, groups: int, kept: int, picks: int) -> float:
    """Groups reached if the picks are the best experts of the `kept` groups whose best expert is best; exact.

    Scores are independent and alike, whatever their distribution. Groups are nodes.
    """
    if not 1 <= kept <= groups:
        raise ValueError(f"expected kept groups 1 .. {groups}, got {kept}")
    chances = distinct_node_chances(experts, groups, picks)
    return sum(min(reached, kept) * chance for reached, chance in enumerate(chances))


def sampled_distinct_nodes(
    experts: int,
    groups: int,
    kept: int,
    picks: int,
    best_of_group: int,
    tokens: int,
    rng: np.random.Generator,
) -> float:
    """Mean number of groups reached over tokens with uniform scores: Monte Carlo.

    best_of_group: a group counts as much as so many of its best together; 2 in V3, 1 in DeepEP's benchmark.
    """
    chosen = chosen_experts(rng.random((tokens, experts)), groups, kept, picks, best_of_group)  # [T, K]
    reached = np.zeros((tokens, groups), bool)
    np.put_along_axis(reached, chosen // (experts // groups), True, axis=1)
    return float(reached.sum(axis=1).mean())


def chosen_experts(
    scores: NDArray[np.float64], groups: int, kept: int, picks: int, best_of_group: int
) -> NDArray[np.integer[Any]]:
    """The `picks` best experts of the `kept` best groups.  scores: [T, E] -> [T, K], in no order."""
    T, E = scores.shape
    _divides(E, groups, picks)
    by_group = scores.reshape(T, groups, E // groups)
    worth = np.sort(by_group, axis=2)[:, :, -best_of_group:].sum(axis=2)  # [T, G]
    best = np.argpartition(-worth, kept - 1, axis=1)[:, :kept]  # [T, kept]
    masked = np.full_like(by_group, -np.inf)
    np.put_along_axis(masked, best[..., None], np.take_along_axis(by_group, best[..., None], 1), axis=1)
    return np.argpartition(-masked.reshape(T, E), picks - 1, axis=1)[:, :picks]


def remote_copies(reached: float, nodes: int) -> float:
    """Of the copies for `reached` nodes, those that leave the token's own, which is any of them alike."""
    return reached * (nodes - 1) / nodes


def slots_per_gpu(experts: int, redundant: int, gpus: int) -> float:
    """Routed experts of a layer that each GPU holds, redundant copies included."""
    return (experts + redundant) / gpus


def experts_a_node(nvlink: float, network: float, nodes: float = 1) -> float:
    """Experts a token may have on each of its nodes while NVLink keeps up with the network; times `nodes`.

    nvlink, network: B/s of a GPU, one direction. Source: DeepSeek-V3 report, 3.2.2.
    """
    return nodes * nvlink / network


# ---- bytes and rates --------------------------------------------------------------------------------------


def row_bytes(
    width: int, value_bytes: float, tile: int = 0, scale_bytes: int = 0, header_bytes: int = 0
) -> float:
    """Bytes of one token on the wire: its values, a scale for each tile if there are tiles, a header."""
    scales = -(-width // tile) * scale_bytes if tile else 0
    return width * value_bytes + scales + header_bytes


def message_bytes(tokens: float, picks: float, row: float) -> float:
    """Bytes a GPU sends if every pick of every token gets its own copy (DeepEP's low-latency kernels)."""
    return tokens * picks * row


def logical_bandwidth(sent: float, seconds: float) -> float:
    """B/s as libraries print it: all bytes, whether they take the wire or not, over the time."""
    if not seconds > 0:
        raise ValueError(f"expected seconds above 0, got {seconds}")
    return sent / seconds


def wire_bandwidth(logical: float, nodes: int) -> float:
    """B/s on the network of a logical bandwidth: one node's share of the copies stays at home."""
    if nodes < 1:
        raise ValueError(f"expected at least 1 node, got {nodes}")
    return logical * (nodes - 1) / nodes


def nvlink_bandwidth(logical: float, gpus_reached: float, nodes_reached: float) -> float:
    """B/s on NVLink of a logical bandwidth: every copy for a node is passed on to so many of its GPUs."""
    return logical * gpus_reached / nodes_reached


def network_bound(line: float, nodes: int) -> float:
    """Logical B/s at which the network card is full; `wire_bandwidth` turned round.  nodes: at least 2."""
    if nodes < 2:
        raise ValueError(f"expected at least 2 nodes, got {nodes}")
    return line * nodes / (nodes - 1)


def nvlink_bound(usable: float, gpus_reached: float, nodes_reached: float) -> float:
    """Logical B/s at which NVLink is full; `nvlink_bandwidth` turned round."""
    return usable * nodes_reached / gpus_reached


def _divides(experts: int, nodes: int, picks: int) -> None:
    if nodes < 1 or experts % nodes:
        raise ValueError(f"expected experts divisible by {nodes} nodes, got {experts}")
    if not 1 <= picks <= experts:
        raise ValueError(f"expected picks 1 .. {experts}, got {picks}")
