"""What one token costs, by arithmetic on a config: parameters met, bytes of cache, FLOPs of training.

KV bytes (arXiv 2505.09343, Table 1): MLA keeps one latent and one positional key a layer, whatever the number
of heads; grouped attention keeps a key and a value for each KV head (all heads: MHA; one: MQA).

Training FLOPs (the rule that gives Table 2 of the same paper its DeepSeek rows): three times the forward,
which is 2 FLOPs for each matrix weight that a token meets, output head included, and the causal attention
core, half of the T x T square. Left out: the embedding (a look-up), the router's product, the MTP module.

Does: these counts, and the parts that conventions add or leave out. Does not: FLOPs and bytes as a trace
counts them (`closed_form` does, exactly).

    >>> from minidsv3.config import ModelConfig
    >>> v3 = ModelConfig.preset("v3")
    >>> kv_bytes_per_token(v3), kv_bytes_grouped(layers=80, kv_heads=8, head_dim=128)  # V3, Qwen-2.5 72B
    (70272, 327680)
    >>> f"{training_flops_per_token(v3, 4096) / 1e9:.2f} GFLOP"
    '249.81 GFLOP'

Next: minidsv3.cost.dense
"""

from collections.abc import Sequence

from minidsv3.config import ModelConfig, near

__all__ = [
    "active_parameters",
    "core_flops_per_token",
    "fp8_share",
    "kv_bytes_fp8",
    "kv_bytes_grouped",
    "kv_bytes_mha",
    "kv_bytes_mqa",
    "kv_bytes_per_token",
    "matrix_weights_met",
    "mtp_flops_per_token",
    "mtp_joins",
    "parameters",
    "recomputed_flops_per_token",
    "router_flops_per_token",
    "slide_flops_per_token",
    "training_flops_per_token",
]

BF16_BYTES = 2  # the cache's format in the paper's table, and in DeepSeek's online service


def kv_bytes_per_token(config: ModelConfig, number_bytes: int = BF16_BYTES) -> int:
    """Cache bytes of a token with MLA: c_KV and the rotated k_R in each of the main model's layers."""
    return config.n_layers * (config.kv_lora_rank + config.qk_rope_head_dim) * number_bytes


def kv_bytes_grouped(layers: int, kv_heads: int, head_dim: int, number_bytes: int = BF16_BYTES) -> int:
    """Cache bytes of a token with GQA: a key and a value of `head_dim` for each KV head and layer."""
    return 2 * kv_heads * head_dim * layers * number_bytes


def kv_bytes_mha(config: ModelConfig, number_bytes: int = BF16_BYTES) -> int:
    """The same for plain MHA with the config's heads and value width (V3: 3.998 MB)."""
    return kv_bytes_grouped(config.n_layers, config.n_heads, config.v_head_dim, number_bytes)


def kv_bytes_mqa(config: ModelConfig, number_bytes: int = BF16_BYTES) -> int:
    """The same for MQA: one key and value for all heads."""
    return kv_bytes_grouped(config.n_layers, 1, config.v_head_dim, number_bytes)


def kv_bytes_fp8(config: ModelConfig, layers: int) -> int:
    """Cache bytes of a token in FlashMLA's FP8 layout: codes of c_KV, a float32 scale a tile, k_R in BF16."""
    tiles = -(-config.kv_lora_rank // config.fp8_block)
    return layers * (config.kv_lora_rank + 4 * tiles + BF16_BYTES * config.qk_rope_head_dim)


def parameters(config: ModelConfig, part: str = "total", without: Sequence[str] = ()) -> int:
    """Parameters by a name of `ModelConfig.parameter_counts` (total, active, mtp, …), less other parts'."""
    counts = config.parameter_counts()
    for name in (part, *without):
        if name not in counts:
            raise ValueError(f"expected a part of the parameters, got {name!r}: {near(name, list(counts))}")
    return counts[part] - sum(counts[name] for name in without)


def active_parameters(config: ModelConfig, experts: int, embedding: bool = True) -> int:
    """Parameters that a token meets if it goes to so many routed experts.  embedding: count the look-up's."""
    return config.active_parameters(experts)["active" if embedding else "active_without_embedding"]


def training_flops_per_token(config: ModelConfig, length: int, causal: bool = True) -> int:
    """FLOPs of forward and backward for one token in a sequence of `length`.

    causal: count the lower triangle of the scores, as FlashAttention does; False: the square, as Megatron.
    Source: arXiv 2505.09343, Table 2 (and Table 4's two rows of TFLOPS).
    """
    core = core_flops_per_token(config, length)
    return 3 * 2 * matrix_weights_met(config) + (core if causal else 2 * core)


def core_flops_per_token(config: ModelConfig, length: int) -> int:
    """FLOPs of scores and weighted values, forward and backward, of one token: the causal triangle alone.

    The square above the diagonal, which Megatron's convention adds, is as much again.
    """
    return 3 * length * config.n_heads * (config.qk_head_dim + config.v_head_dim) * config.n_layers


def router_flops_per_token(config: ModelConfig) -> int:
    """FLOPs of the routers' products, forward and backward, which the papers' rule leaves out."""
    return 3 * 2 * config.dim * config.n_routed_experts * (config.n_layers - config.n_dense_layers)


def mtp_flops_per_token(config: ModelConfig, length: int) -> int:
    """FLOPs that the MTP modules add, forward and backward: block, M_k and the head once more."""
    weights = _attention_weights(config) + _moe_weights(config) + 2 * config.dim**2
    core = core_flops_per_token(config, length) // config.n_layers
    return config.n_mtp_layers * (3 * 2 * (weights + config.vocab_size * config.dim) + core)


def fp8_share(config: ModelConfig, length: int) -> float:
    """Share of the training FLOPs whose products run in FP8: all with weights but the head's.

    Source of what runs in FP8: DeepSeek-V3 report, 3.3.1.
    """
    narrow = matrix_weights_met(config) - config.vocab_size * config.dim
    return 3 * 2 * narrow / training_flops_per_token(config, length)


def recomputed_flops_per_token(config: ModelConfig) -> int:
    """FLOPs of MLA's up-projections, which V3's backward computes again (report, 3.2.3)."""
    c = config
    keys_and_values = c.kv_lora_rank * c.n_heads * (c.qk_nope_head_dim + c.v_head_dim)
    return 2 * c.n_layers * (c.q_lora_rank * c.n_heads * c.qk_head_dim + keys_and_values)


def mtp_joins(config: ModelConfig) -> int:
    """Parameters of the MTP modules' M_k, which turn an embedding and a state, 2 D, into D."""
    return config.n_mtp_layers * 2 * config.dim**2


def slide_flops_per_token(config: ModelConfig, length: int) -> int:
    """A widely copied script's rule: as ours, with 2 D for the embedding and a FLOP for each gate product.

    Source: zhuanlan.zhihu.com/p/16445683081. The gate product as slides print it, "s x moe_inter".
    """
    moe = (config.n_layers - config.n_dense_layers) * (config.n_activated_experts + config.n_shared_experts)
    gates = moe * config.moe_inter_dim + config.n_dense_layers * config.inter_dim
    return training_flops_per_token(config, length) + 3 * (gates + 2 * config.dim)


def matrix_weights_met(config: ModelConfig) -> int:
    """Weights of the matrix products one token runs through, output head included, router not."""
    c = config
    dense, moe = 3 * c.dim * c.inter_dim, c.n_layers - c.n_dense_layers
    ffn = c.n_dense_layers * dense + moe * _moe_weights(c)
    return c.n_layers * _attention_weights(c) + ffn + c.vocab_size * c.dim


def _moe_weights(c: ModelConfig) -> int:
    return 3 * c.dim * c.moe_inter_dim * (c.n_activated_experts + c.n_shared_experts)


def _attention_weights(c: ModelConfig) -> int:
    attention = c.dim * (c.kv_lora_rank + c.qk_rope_head_dim)  # W_DKV, W_KR
    attention += c.kv_lora_rank * c.n_heads * (c.qk_nope_head_dim + c.v_head_dim)  # W_UK, W_UV
    attention += c.n_heads * c.v_head_dim * c.dim  # W_O
    queries = c.n_heads * c.qk_head_dim
    attention += c.q_lora_rank * (c.dim + queries) if c.q_lora_rank else c.dim * queries  # W_DQ, [W_UQ; W_QR]
    return attention
