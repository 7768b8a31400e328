"""Many machines: where experts lie, and what goes over which wire.

Does: the traffic of expert parallelism, from the choices of a router. Does not: balance replicas, schedule
pipelines, serve.

    >>> import numpy as np
    >>> placement = Placement(experts=8, nodes=2, gpus_per_node=2)           # two experts a GPU
    >>> traffic = count(np.array([[0, 1, 2, 7]]), placement, sources=np.array([1]))
    >>> traffic.nodes_per_token.tolist(), traffic.copies_per_gpu.tolist()
    ([2], [1, 1, 0, 1])

Next: minidsv3.cluster.traffic
"""

from minidsv3.cluster.traffic import (
    Placement,
    Traffic,
    Transfer,
    count,
    even_sources,
    expected_distinct_nodes,
    transfer,
)

__all__ = [
    "Placement",
    "Traffic",
    "Transfer",
    "count",
    "even_sources",
    "expected_distinct_nodes",
    "transfer",
]
