"""What one token costs, by arithmetic on a config: bytes of cache, and FLOPs of training.

KV bytes (arXiv 2505.09343, Table 1): MLA keeps one latent and one positional key a layer, whatever the number
of heads; grouped attention keeps a key and a value for each KV head (all heads: MHA; one: MQA).

Training FLOPs (the rule that gives Table 2 of the same paper its DeepSeek rows): three times the forward,
which is 2 FLOPs for each matrix weight that a token meets, output head included, and the causal attention
core, half of the T x T square. Left out: the embedding (a look-up), the router's product, the MTP module.

Does: these two counts. Does not: FLOPs and bytes as a trace counts them (`closed_form` does, exactly).

    >>> from minidsv3.config import ModelConfig
    >>> v3 = ModelConfig.preset("v3")
    >>> kv_bytes_per_token(v3), kv_bytes_grouped(layers=80, kv_heads=8, head_dim=128)  # V3, Qwen-2.5 72B
    (70272, 327680)
    >>> f"{training_flops_per_token(v3, 4096) / 1e9:.2f} GFLOP"
    '249.81 GFLOP'

Next: minidsv3.cost.dense
"""

from minidsv3.config import ModelConfig

__all__ = [
    "kv_bytes_grouped",
    "kv_bytes_mha",
    "kv_bytes_mqa",
    "kv_bytes_per_token",
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


def training_flops_per_token(config: ModelConfig, length: int, causal: bool = True) -> int:
    """FLOPs of forward and backward for one token in a sequence of `length`.

    causal: count the lower triangle of the scores, as FlashAttention does; False: the square, as Megatron.
    Source: arXiv 2505.09343, Table 2 (and Table 4's two rows of TFLOPS).
    """
    c = config
    core = 2 * length * c.n_heads * (c.qk_head_dim + c.v_head_dim) * c.n_layers  # 2 FLOPs a key, dim and head
    return 3 * (2 * _matrix_weights_met(c) + (core // 2 if causal else core))


def _matrix_weights_met(c: ModelConfig) -> int:
    """Weights of the matrix products one token runs through, without the router's."""
    attention = c.dim * (c.kv_lora_rank + c.qk_rope_head_dim)  # W_DKV, W_KR
    attention += c.kv_lora_rank * c.n_heads * (c.qk_nope_head_dim + c.v_head_dim)  # W_UK, W_UV
    attention += c.n_heads * c.v_head_dim * c.dim  # W_O
    queries = c.n_heads * c.qk_head_dim
    attention += c.q_lora_rank * (c.dim + queries) if c.q_lora_rank else c.dim * queries  # W_DQ, [W_UQ; W_QR]
    dense = 3 * c.dim * c.inter_dim
    moe = 3 * c.dim * c.moe_inter_dim * (c.n_activated_experts + c.n_shared_experts)
    moe_layers = c.n_layers - c.n_dense_layers
    return c.n_layers * attention + c.n_dense_layers * dense + moe_layers * moe + c.vocab_size * c.dim
