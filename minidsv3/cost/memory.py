"""What a GPU must hold: weights, optimiser, activations that wait for the backward, the cache.

Training V3 fits 80 GB for three reasons that this page counts. Parameters are spread: routed experts over
stages x expert-parallel GPUs, the rest over stages, twice because DualPipe runs in both directions. The
optimiser is thin: BF16 moments, the average elsewhere, master and moments sharded over replicas (ZeRO-1). And
little of a forward is kept: norms, MLA's up-projections and SwiGLU are computed again, the rest waits in FP8.

`kept_arrays` lists every array that our own model's forward saves, with nothing computed again; a test holds
it equal to what a forward really saved. `data/memory_recipes.toml` says which of them a recipe keeps, and
how.

Does: bytes in closed form. Does not: allocator waste, communication buffers, a kernel's workspace.

    >>> from minidsv3.config import ModelConfig
    >>> v3 = ModelConfig.preset("v3")
    >>> f"{parameters_a_gpu(v3, stages=16, expert_parallel=64, copies=2) / 1e9:.2f}B"
    '3.19B'
    >>> [f"{activation_bytes(v3, 1, 4096, recipe, layer=60) / 1e9:.2f} GB" for recipe in kept_recipes()]
    ['4.47 GB', '2.29 GB', '0.64 GB']

Next: minidsv3.cost.arithmetic
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from minidsv3.config import ModelConfig, near
from minidsv3.cost.per_token import kv_bytes_per_token
from minidsv3.machine.primitives import QUERY_BLOCK
from minidsv3.numerics.formats import FORMATS

__all__ = [
    "Kept",
    "activation_bytes",
    "kept_arrays",
    "kept_recipes",
    "kv_cache_bytes",
    "other_parameters_a_gpu",
    "parameters_a_gpu",
    "routed_parameters_a_gpu",
    "state_bytes",
    "state_recipes",
    "training_memory",
]

SCALE_BITS = 32  # of a tile
TILED = ("e4m3", "e5m6")  # formats whose tiles share a scale
INDEX_BITS = {"int32": 32, "int64": 64}


@lru_cache
def _recipes() -> dict[str, dict[str, dict[str, str]]]:
    text = (resources.files("minidsv3") / "data" / "memory_recipes.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _recipe(kind: str, name: str) -> Mapping[str, str]:
    known = _recipes()[kind]
    if name not in known:
        raise ValueError(f"expected a memory recipe, got {name!r}: {near(name, list(known))}")
    return known[name]


# ---- parameters and their state ---------------------------------------------------------------------------


def routed_parameters_a_gpu(config: ModelConfig, stages: float, expert_parallel: float) -> float:
    """Routed experts' parameters of a GPU, one copy: spread over stages and expert-parallel GPUs."""
    return config.parameter_counts()["routed"] / (stages * expert_parallel)


def other_parameters_a_gpu(config: ModelConfig, stages: float) -> float:
    """The other parameters of a GPU, one copy, on average: all stages', but for embedding and head."""
    counts = config.parameter_counts()
    return (counts["total"] - counts["routed"] - counts["embedding"] - counts["head"]) / stages


def parameters_a_gpu(config: ModelConfig, stages: float, expert_parallel: float, copies: float = 1) -> float:
    """Parameters of a GPU in the middle of a pipeline.  copies: of each stage; DualPipe needs two."""
    routed = routed_parameters_a_gpu(config, stages, expert_parallel)
    return copies * (routed + other_parameters_a_gpu(config, stages))


def state_recipes() -> list[str]:
    """Names of what a GPU may keep of each parameter, in `data/memory_recipes.toml`."""
    return list(_recipes()["state"])


def state_bytes(parameters: float, recipe: str = "v3", replicas: float = 1) -> dict[str, float]:
    """Bytes of gradients and optimiser for so many parameters of a GPU, by what they are.

    recipe: one of `state_recipes`. replicas: GPUs that hold the same parameters and share all but gradients
    among themselves (ZeRO-1).
    """
    row = _recipe("state", recipe)
    formats = {name: row[name] for name in ("gradient", "master", "first_moment", "second_moment", "average")}
    return {
        name: parameters * FORMATS[format_].bits / 8 / (1 if name == "gradient" else replicas)
        for name, format_ in formats.items()
        if format_
    }


def kv_cache_bytes(config: ModelConfig, sequences: int, length: int, number_bytes: int = 2) -> int:
    """Cache bytes of so many sequences of a length."""
    return sequences * length * kv_bytes_per_token(config, number_bytes)


# ---- activations ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """An array that waits for the backward.  index: whole numbers, not values."""

    name: str
    numbers: int
    index: bool = False


def kept_recipes() -> list[str]:
    """Names of what a forward may keep, in `data/memory_recipes.toml`, the most generous first."""
    return list(_recipes()["kept"])


def kept_arrays(c: ModelConfig, sequences: int, length: int, layer: int, balance: bool = False) -> list[Kept]:
    """Every array that one block's forward saves, nothing computed again.  sequences: B  length: T."""
    attention = _attention_arrays(c, sequences, length)
    if not c.is_moe(layer):
        return attention + _ffn_arrays(sequences * length, c.inter_dim, "dense")
    return (
        attention
        + _moe_arrays(c, sequences * length)
        + (_balance_arrays(c, sequences, length) if balance else [])
    )


def _attention_arrays(c: ModelConfig, B: int, T: int) -> list[Kept]:
    N, H = B * T, c.n_heads
    arrays = [
        Kept("attention_input", N * c.dim),
        Kept("attention_norm", N),
        Kept("attention_normed", N * c.dim),
        Kept("queries", N * H * c.qk_head_dim),
        Kept("kv_latent_raw", N * c.kv_lora_rank),
        Kept("kv_norm", N),
        Kept("kv_latent", N * c.kv_lora_rank),
        Kept("rotated_key", N * c.qk_rope_head_dim),
        Kept("keys_and_values", N * H * (c.qk_nope_head_dim + c.v_head_dim)),
        Kept("joined_keys", N * H * c.qk_head_dim),
        Kept("probabilities", B * H * _seen(T)),
        Kept("attention_output", N * H * c.v_head_dim),
        Kept("ffn_input", N * c.dim),
        Kept("ffn_norm", N),
        Kept("ffn_normed", N * c.dim),
    ]
    if c.q_lora_rank:
        arrays += [Kept("query_latent_raw", N * c.q_lora_rank), Kept("query_norm", N)]
        arrays += [Kept("query_latent", N * c.q_lora_rank)]
    return arrays


def _seen(T: int) -> int:
    """Pairs of query and key, a block of queries at a time against the keys up to the block's end."""
    ends = [min(first + QUERY_BLOCK, T) for first in range(0, T, QUERY_BLOCK)]
    return sum((end - i * QUERY_BLOCK) * end for i, end in enumerate(ends))


def _ffn_arrays(N: int, width: int, name: str) -> list[Kept]:
    return [
        Kept(f"{name}_gate_and_up", N * 2 * width),
        Kept(f"{name}_sigmoid", N * width),
        Kept(f"{name}_activation", N * width),
    ]


def _moe_arrays(c: ModelConfig, N: int) -> list[Kept]:
    E, K, M = c.n_routed_experts, c.n_activated_experts, c.moe_inter_dim
    arrays = [
        Kept("scores", N * E),
        Kept("chosen_weights", N * K),
        Kept("chosen_experts", N * K, index=True),
        Kept("expert_inputs", N * K * c.dim),
        Kept("expert_weights", N * K),
        Kept("copies_tokens", N * K, index=True),
        Kept("copies_places", N * K, index=True),
        Kept("gate_and_up", N * K * 2 * M),
        Kept("sigmoid", N * K * M),
        Kept("activation", N * K * M),
        Kept("weighted_activation", N * K * M),
    ]
    if c.norm_topk_prob:
        arrays.append(Kept("score_sums", N))
    if c.n_shared_experts:
        arrays += _ffn_arrays(N, c.n_shared_experts * M, "shared")
    return arrays


def _balance_arrays(c: ModelConfig, B: int, T: int) -> list[Kept]:
    E = c.n_routed_experts
    loads = [Kept("balance_loads", B * E), Kept("balance_losses", B)]
    return [Kept("balance_shares", B * T * E), Kept("balance_sums", B * T), *loads]


def activation_bytes(
    config: ModelConfig, sequences: int, length: int, recipe: str = "v3", layer: int | None = None
) -> float:
    """Bytes that wait for the backward, of one block or of all.

    sequences: B  length: T  recipe: one of `kept_recipes`  layer: one block; None: every block of the main
    model. Tiles of FP8 and E5M6 carry a float32 scale each. Routed copies are counted where they are
    computed: with experts evenly loaded a GPU holds as many as its own tokens make.
    """
    row = _recipe("kept", recipe)
    if layer is not None:
        return _block_bytes(config, sequences, length, layer, row)
    dense = config.n_dense_layers and _block_bytes(config, sequences, length, 0, row)
    moe = config.n_layers - config.n_dense_layers
    each = moe and _block_bytes(config, sequences, length, config.n_layers - 1, row)
    return config.n_dense_layers * dense + moe * each


def _block_bytes(c: ModelConfig, B: int, T: int, layer: int, row: Mapping[str, str]) -> float:
    arrays = kept_arrays(c, B, T, layer)
    bits = sum(kept.numbers * _bits(row.get(kept.name, row["every"]), kept, c.fp8_block) for kept in arrays)
    if "log_sum_exp" in row:
        bits += B * T * c.n_heads * FORMATS[row["log_sum_exp"]].bits
    return bits / 8


def _bits(format_: str, kept: Kept, tile: int) -> float:
    """Bits a number in a format; "" is none: computed again."""
    if not format_:
        return 0
    if kept.index:
        return INDEX_BITS.get(format_, INDEX_BITS["int64"])
    return FORMATS[format_].bits + (SCALE_BITS / tile if format_ in TILED else 0)


# ---- a GPU of the training cluster ------------------------------------------------------------------------


def training_memory(
    config: ModelConfig,
    gpus: int,
    stages: int,
    expert_parallel: int,
    length: int,
    copies: int = 2,
    state: str = "v3",
    kept: str = "v3",
    weight_bytes: float = 1.0,
    sequences: int = 1,
) -> dict[str, float]:
    """Bytes of a GPU in the middle of a pipeline, by part: weights, gradient, master, moments, activations.

    gpus: of the whole cluster. copies: of each stage (DualPipe: 2). sequences, length: of a micro-batch;
    stages + 1 of them are in flight (DeepSeek-V3 report, Table 2). state, kept: recipes. weight_bytes: of the
    copy that products read. Sharded over replicas: routed experts over gpus / (stages x expert_parallel), the
    rest over gpus / stages.
    """
    routed = copies * routed_parameters_a_gpu(config, stages, expert_parallel)
    rest = copies * other_parameters_a_gpu(config, stages)
    parts = {"weights": weight_bytes * (routed + rest)}
    of_routed = state_bytes(routed, state, copies * gpus / (stages * expert_parallel))
    of_rest = state_bytes(rest, state, copies * gpus / stages)
    parts |= {name: of_routed[name] + of_rest[name] for name in of_routed}
    in_flight = activation_bytes(config, sequences, length, kept) / stages * (stages + 1)
    return parts | {"activations": in_flight}
