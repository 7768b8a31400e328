"""How many GPUs of a deployment NVLink joins on a machine, and what takes it.

DeepSeek's layouts were made for nodes of eight. Priced on another machine a layout keeps its experts where
they are, and NVLink joins what it can there: the largest divisor of `expert_parallel` that is at most the
machine's `node.gpus`; one where the machine has no NVLink. `gpus_per_node` that somebody set stays as it is.

Decoding sends each pick by itself. The low-latency kernels of that time take InfiniBand inside a node, too;
DeepEP has used NVLink there since June 2025. In a domain wider than the node that a layout was published for
copies take NVLink as far as it reaches.

Does: a deployment as it is on a machine. Does not: count copies (`minidsv3.cost.copies`).

    >>> from minidsv3.cost.deployment import load_deployment
    >>> from minidsv3.hardware import load_hardware
    >>> machines, names = [load_hardware(name) for name in ("h800", "gb200-nvl72")], ("prefill", "decode")
    >>> [on_machine(load_deployment(name), one).gpus_per_node for one in machines for name in names]
    [8, 8, 32, 64]

Next: minidsv3.cost.copies
"""

from dataclasses import replace

from minidsv3.cost.deployment import Deployment, Sourced, deployment_names, load_deployment
from minidsv3.hardware import Hardware

__all__ = ["domain_is_the_machines", "on_machine"]


def on_machine(deployment: Deployment, hardware: Hardware) -> Deployment:
    """The deployment with the NVLink domain of a machine, unless `gpus_per_node` was set."""
    d = deployment
    if d.expert_parallel == 1:
        return d
    planned = _planned(d)
    if domain_is_the_machines(d):
        joined = _joined(d, hardware)
        if joined != min(d.gpus_per_node, d.expert_parallel):
            d = _with(d, "gpus_per_node", joined, _source(hardware))
    if d.gpus_per_node > planned and not d.node_limited and not _asked(d, "nvlink_inside"):
        d = _with(d, "nvlink_inside", True, f"a domain wider than the {planned} GPUs of the layout's nodes")
    return d


def domain_is_the_machines(deployment: Deployment) -> bool:
    """Whether nobody set `gpus_per_node`: it stands in the layout's data, for the machine of that layout."""
    said = "gpus_per_node" in deployment.sources
    return deployment.expert_parallel > 1 and said and not _asked(deployment, "gpus_per_node")


def _planned(d: Deployment) -> int:
    """GPUs of a node where the layout was published."""
    return (load_deployment(d.name) if d.name in deployment_names() else d).gpus_per_node


def _joined(d: Deployment, hardware: Hardware) -> int:
    if "node.nvlink.usable" not in hardware.values:
        return 1
    most = int(hardware["node.gpus"].si) if "node.gpus" in hardware.values else d.gpus_per_node
    return max(n for n in range(1, max(most, 1) + 1) if d.expert_parallel % n == 0)


def _source(hardware: Hardware) -> str:
    if "node.nvlink.usable" not in hardware.values:
        return f"{hardware.id} has no NVLink"
    return f"node.gpus of {hardware.id}, the largest part that divides expert_parallel"


def _asked(d: Deployment, name: str) -> bool:
    """Whether somebody set a field: what stands in a layout's data has a source that is known."""
    return name in d.sources and d.sources[name].status == "assumed"


def _with(d: Deployment, name: str, value: bool | int, source: str) -> Deployment:
    said = Sourced(value, source, "derived")
    return replace(d, sources={**d.sources, name: said}, **{name: value})  # type: ignore[arg-type]
