"""Serving in closed form: the time of a token, what drafts save, and a day's tokens as nodes and dollars.

The bound on the time of a token (TPOT; arXiv 2505.09343, 2.3.2) asks of an expert's device that what it
receives and returns passes its link, and hides all computation behind that, with two micro-batches:

    step = tokens x experts x width x (bytes of dispatch + bytes of combine) / bandwidth
    TPOT = layers x micro-batches x step     # the 2 is of micro-batches: both directions are in the step

Does: that bound, with latency if asked; speculative decoding; decoding bound by memory; tokens a second and
node, nodes, cost, revenue and margin from one another; cache and weights that a decoding GPU holds.
Does not: queue requests, overlap anything else, know a number of any model or chip.

    >>> link = dict(tokens=32, experts=9, width=7000, dispatch_bytes=1, combine_bytes=2, bandwidth=50e9)
    >>> step, token = expert_parallel_step(**link), tpot(layers=61, **link)
    >>> f"{step * 1e6:.2f} us, {token * 1e3:.2f} ms, {1 / token:.2f} tokens/s"
    '120.96 us, 14.76 ms, 67.76 tokens/s'
    >>> round(speculative_speedup(0.85), 2), round(margin(562_027, 87_072), 2)
    (1.85, 5.45)

Next: minidsv3.cost.expert_parallel
"""

from collections.abc import Sequence

from minidsv3.config import ModelConfig

__all__ = [
    "bytes_per_value",
    "cache_bytes",
    "decode_weight_bytes",
    "expert_parallel_step",
    "fleet_cost",
    "margin",
    "memory_bound_speed",
    "nodes_for",
    "parameters_met",
    "rate_for",
    "requests_in_flight",
    "revenue",
    "routed_parameters_met",
    "seconds_to_read",
    "speculative_speedup",
    "speed_in_turn",
    "tpot",
]


# ---- the time of a token ----------------------------------------------------------------------------------


def expert_parallel_step(
    tokens: float, experts: float, width: float, dispatch_bytes: float, combine_bytes: float, bandwidth: float
) -> float:
    """Seconds in which one device sends and receives its tokens' copies of one layer, for one micro-batch.

    tokens: of a micro-batch on a device  experts: copies of each, routed and shared  width: D
    dispatch_bytes, combine_bytes: of a value, see `bytes_per_value`  bandwidth: B/s, one direction.
    Where a device holds several experts, `tokens` is as many times more. Source: arXiv 2505.09343, 2.3.2.
    """
    _above_zero(bandwidth=bandwidth)
    return tokens * experts * width * (dispatch_bytes + combine_bytes) / bandwidth


def tpot(layers: float, micro_batches: float = 2, latency: float = 0.0, **step: float) -> float:
    """Seconds a token if communication hides all computation: each layer takes a step for each micro-batch.

    latency: seconds a layer in which no byte moves, all its transfers together  step: what
    `expert_parallel_step` takes. Source: arXiv 2505.09343, 2.3.2.
    """
    return layers * (micro_batches * expert_parallel_step(**step) + latency)


def bytes_per_value(bits: float, shared_bytes: float = 0, tile: float = 1) -> float:
    """Bytes that travel for one value, with its share of what a tile sends beside (scale, LogFMT's range)."""
    _above_zero(tile=tile)
    return bits / 8 + shared_bytes / tile


def speculative_speedup(acceptance: float, drafts: float = 1, draft_cost: float = 0.0) -> float:
    """Tokens a step with drafts, over tokens a step without, in equal time.

    acceptance: chance that a draft is accepted, if those before it were; so 1 + p + p^2 + … tokens a step.
    draft_cost: time of making one draft, in steps. DeepSeek-V3 drafts one token (report, 5.4.3): 1 + p.
    """
    if not 0 <= acceptance <= 1:
        raise ValueError(f"expected an acceptance in 0 .. 1, got {acceptance}")
    return sum(acceptance**i for i in range(int(drafts) + 1)) / (1 + drafts * draft_cost)


def memory_bound_speed(parameters: float, weight_bytes: float, bandwidth: float, cache: float = 0.0) -> float:
    """Tokens a second of one request if memory does nothing but read the weights it meets, and its cache.

    parameters: met by a token  weight_bytes: of one  bandwidth: B/s  cache: bytes read a token.
    """
    return 1 / seconds_to_read([parameters * weight_bytes, cache], bandwidth)


def speed_in_turn(speeds: Sequence[float]) -> float:
    """Tokens a second if each token needs all of these one after the other.  speeds: tokens a second."""
    return 1 / sum(1 / speed for speed in speeds)


def seconds_to_read(parts: Sequence[float], bandwidth: float) -> float:
    """Seconds of one pass of memory over all parts.  parts: bytes  bandwidth: B/s."""
    _above_zero(bandwidth=bandwidth)
    return sum(parts) / bandwidth


def parameters_met(config: ModelConfig) -> int:
    """Parameters whose product one token meets: all active ones without the embedding, a look-up."""
    return config.parameter_counts()["active_without_embedding"]


def routed_parameters_met(config: ModelConfig) -> int:
    """Parameters of the routed experts that one token meets; offloading keeps these in the CPU's memory."""
    moe_layers = config.n_layers - config.n_dense_layers
    return moe_layers * config.n_activated_experts * config.parameter_counts()["one_expert"]


# ---- a day of service -------------------------------------------------------------------------------------


def nodes_for(tokens: float, rate: float, seconds: float) -> float:
    """Nodes that serve so many tokens in the time.  rate: tokens a second and node."""
    _above_zero(rate=rate, seconds=seconds)
    return tokens / seconds / rate


def rate_for(tokens: float, nodes: float, seconds: float) -> float:
    """Tokens a second and node; `nodes_for` turned round."""
    _above_zero(nodes=nodes, seconds=seconds)
    return tokens / seconds / nodes


def fleet_cost(nodes: float, gpus_per_node: float, gpu_price: float, seconds: float) -> float:
    """USD for renting the nodes.  gpu_price: USD a second and GPU."""
    return nodes * gpus_per_node * gpu_price * seconds


def revenue(tokens: Sequence[float], prices: Sequence[float]) -> float:
    """USD for all tokens.  tokens: by kind (cache hits, misses, output)  prices: USD a token of each kind."""
    if len(tokens) != len(prices):
        raise ValueError(f"expected a price for each kind of token, got {len(tokens)} and {len(prices)}")
    return sum(number * price for number, price in zip(tokens, prices, strict=True))


def margin(revenue: float, cost: float) -> float:
    """Profit over cost, (revenue - cost) / cost, as DeepSeek's overview counts: 5.45 is "545 %"."""
    _above_zero(cost=cost)
    return (revenue - cost) / cost


# ---- what a decoding GPU holds ----------------------------------------------------------------------------


def requests_in_flight(rate: float, gpus_per_node: float, speed: float) -> float:
    """Requests a GPU decodes at once.  rate: tokens a second and node  speed: the same of a request."""
    _above_zero(gpus_per_node=gpus_per_node, speed=speed)
    return rate / gpus_per_node / speed


def cache_bytes(requests: float, length: float, bytes_per_token: float) -> float:
    """Bytes of KV cache of so many requests of that mean length."""
    return requests * length * bytes_per_token


def decode_weight_bytes(
    config: ModelConfig, routed_experts: float, shared_experts: float, weight_bytes: float = 1
) -> float:
    """Bytes of a decoding GPU's blocks: some experts of each MoE layer, all attention, all dense FFNs.

    routed_experts, shared_experts: of a layer on this GPU  weight_bytes: 1 in FP8. No embedding, no head.
    """
    counts, moe_layers = config.parameter_counts(), config.n_layers - config.n_dense_layers
    experts = moe_layers * (routed_experts + shared_experts) * counts["one_expert"]
    return (experts + counts["attention"] + counts["dense"]) * weight_bytes


def _above_zero(**numbers: float) -> None:
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"expected {name} above 0, got {number}")
