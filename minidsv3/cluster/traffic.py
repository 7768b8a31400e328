"""Dispatch and combine of expert parallelism, counted copy by copy (section 3.2.2).

A token goes over InfiniBand (IB) at most once to each other node, to the GPU with the index that its own GPU
has at home; from there over NVLink to the GPUs of that node that hold its experts. Inside its own node it
takes NVLink alone. However many of its experts a GPU holds, one copy comes. Combine runs the same way back:
GPUs of a node add up what they have for a token, then one copy returns. So both have the same copies and
differ in bytes a value.

Without the limit, K experts picked evenly touch more nodes than V3 allows a token:

    >>> round(expected_distinct_nodes(experts=256, nodes=8, picks=8), 2)
    5.29
    >>> placement = Placement(experts=256, nodes=8, gpus_per_node=8)
    >>> indices = np.array([[0, 1, 40, 41, 72, 255, 254, 128]])
    >>> traffic = count(indices, placement, even_sources(1, placement))
    >>> traffic.nodes_per_token.tolist(), int(traffic.ib_sent.sum()), int(traffic.nvlink_sent.sum())
    ([5], 4, 3)

Does: copies, bytes, the time of the busiest wires. Does not: latency, contention inside switches.

Next: minidsv3.show
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.cost.expert_parallel import expected_distinct_nodes
from minidsv3.hardware import Hardware

__all__ = [
    "Placement",
    "Traffic",
    "Transfer",
    "count",
    "count_one_by_one",
    "even_sources",
    "expected_distinct_nodes",
    "transfer",
]

Counts = NDArray[np.int64]
Indices = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Placement:
    """Experts over GPUs in equal contiguous stretches: expert e lies on GPU e // (experts / gpus)."""

    experts: int
    nodes: int
    gpus_per_node: int

    def __post_init__(self) -> None:
        if min(self.experts, self.nodes, self.gpus_per_node) < 1 or self.experts % self.gpus:
            raise ValueError(
                f"expected experts divisible by {self.nodes} nodes x {self.gpus_per_node} GPUs, "
                f"got {self.experts}"
            )

    @property
    def gpus(self) -> int:
        """All GPUs; GPU n x gpus_per_node + i is the i-th of node n."""
        return self.nodes * self.gpus_per_node

    @property
    def experts_per_gpu(self) -> int:
        """Experts on each GPU."""
        return self.experts // self.gpus

    def gpu_of(self, indices: Indices) -> Indices:
        """The GPU of each expert.  any shape -> the same."""
        return indices // self.experts_per_gpu


@dataclass(frozen=True)
class Traffic:
    """Copies of tokens that dispatch moves; combine moves as many back.

    [nodes] and [gpus] count copies that arrive for experts, the token's own node and GPU included; `ib_*` and
    `nvlink_*` count what a GPU [gpus] sends and receives on each wire, which the own GPU's copies never take.
    """

    nodes_per_token: Counts  # [T] distinct nodes
    gpus_per_token: Counts  # [T] distinct GPUs
    copies_per_node: Counts  # [nodes] tokens with an expert there
    copies_per_gpu: Counts  # [gpus]
    ib_sent: Counts  # [gpus]
    ib_received: Counts  # [gpus]
    nvlink_sent: Counts  # [gpus] forwarded copies included
    nvlink_received: Counts  # [gpus]
    picks_elsewhere: int  # copies that would cross nodes if every pick had its own


def even_sources(tokens: int, placement: Placement) -> Indices:
    """The GPU of each token when tokens lie over the GPUs in equal stretches.  -> [T]."""
    return np.arange(tokens) * placement.gpus // max(tokens, 1)


def count(indices: Indices, placement: Placement, sources: Indices) -> Traffic:
    """Count copies.  indices: [T, K] experts of each token  sources: [T] the GPU that holds the token."""
    _check(indices, placement, sources)
    T, N, g = len(indices), placement.nodes, placement.gpus_per_node
    home, lane = np.divmod(sources, g)  # [T] node and index in it
    gpu = placement.gpu_of(indices)  # [T, K]
    reached = np.zeros((T, placement.gpus), bool)
    reached[np.arange(T)[:, None], gpu] = True
    on_node = reached.reshape(T, N, g).any(axis=2)  # [T, N]
    token, node = np.nonzero(on_node & (np.arange(N) != home[:, None]))  # copies over IB
    landing = node * g + lane[token]  # where they arrive
    late, target = np.nonzero(reached)  # [copies at GPUs] token, GPU
    relay = target // g * g + lane[late]  # the GPU of that node where the token is, or arrives
    wired = relay != target
    return Traffic(
        nodes_per_token=on_node.sum(axis=1),
        gpus_per_token=reached.sum(axis=1),
        copies_per_node=on_node.sum(axis=0),
        copies_per_gpu=reached.sum(axis=0),
        ib_sent=np.bincount(sources[token], minlength=placement.gpus),
        ib_received=np.bincount(landing, minlength=placement.gpus),
        nvlink_sent=np.bincount(relay[wired], minlength=placement.gpus),
        nvlink_received=np.bincount(target[wired], minlength=placement.gpus),
        picks_elsewhere=int((gpu // g != home[:, None]).sum()),
    )


def count_one_by_one(indices: Indices, placement: Placement, sources: Indices) -> Traffic:
    """As `count`, a token, a node and a GPU at a time: the specification."""
    g = placement.gpus_per_node
    per_token: list[tuple[int, int]] = []
    per_node = np.zeros(placement.nodes, np.int64)
    per_gpu, ib_sent, ib_received, sent, received = np.zeros((5, placement.gpus), np.int64)
    elsewhere = 0
    for experts, source in zip(indices.tolist(), sources.tolist(), strict=True):
        places = [e // placement.experts_per_gpu for e in experts]
        gpus = set(places)
        nodes = {gpu // g for gpu in gpus}
        per_token.append((len(nodes), len(gpus)))
        elsewhere += sum(gpu // g != source // g for gpu in places)
        for node in nodes:
            per_node[node] += 1
            relay = node * g + source % g
            if node != source // g:
                ib_sent[source] += 1
                ib_received[relay] += 1
            for gpu in gpus:
                if gpu // g == node:
                    per_gpu[gpu] += 1
                    if gpu != relay:
                        sent[relay] += 1
                        received[gpu] += 1
    nodes_per_token, gpus_per_token = np.array(per_token, np.int64).reshape(-1, 2).T
    return Traffic(
        nodes_per_token,
        gpus_per_token,
        per_node,
        per_gpu,
        ib_sent,
        ib_received,
        sent,
        received,
        int(elsewhere),
    )


def _check(indices: Indices, placement: Placement, sources: Indices) -> None:
    if indices.ndim != 2 or sources.shape != indices.shape[:1]:
        raise ValueError(f"expected indices [T, K] and sources [T], got {indices.shape} and {sources.shape}")
    for name, array, end in (("experts", indices, placement.experts), ("sources", sources, placement.gpus)):
        if array.size and not (array.min() >= 0 and array.max() < end):
            raise ValueError(f"expected {name} 0 .. {end - 1}, got {array.min()} .. {array.max()}")


@dataclass(frozen=True)
class Transfer:
    """Dispatch, or combine, of some tokens: bytes on each wire over all GPUs, seconds of the busiest GPU."""

    ib_bytes: int
    nvlink_bytes: int
    ib_seconds: float
    nvlink_seconds: float

    @property
    def seconds(self) -> float:
        """Both wires run at once: the slower one's time."""
        return max(self.ib_seconds, self.nvlink_seconds)


def transfer(traffic: Traffic, width: int, bytes_per_value: int, hardware: Hardware) -> Transfer:
    """Bytes and time of one direction.

    width: values a token has (D)  bytes_per_value: 1 for dispatch in FP8, 2 for combine in BF16.
    A GPU's wires carry what it sends and what it receives at once, each at `fabric.effective` and
    `node.nvlink.usable`. Scales of the FP8 tiles are not counted.
    """
    size = width * bytes_per_value
    ib = max(int(traffic.ib_sent.max()), int(traffic.ib_received.max())) * size
    nvlink = max(int(traffic.nvlink_sent.max()), int(traffic.nvlink_received.max())) * size
    return Transfer(
        ib_bytes=int(traffic.ib_sent.sum()) * size,
        nvlink_bytes=int(traffic.nvlink_sent.sum()) * size,
        ib_seconds=ib / hardware["fabric.effective"].si,
        nvlink_seconds=nvlink / hardware["node.nvlink.usable"].si,
    )
