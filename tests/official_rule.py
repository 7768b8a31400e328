"""DeepSeek's renaming as its own script does it, to hold ours against."""


def renamed(name: str) -> tuple[str, int | None]:
    """inference/convert.py's rule, written down again: replacements in text, and the last word but one."""
    words = {
        "embed_tokens": ("embed", 0), "input_layernorm": ("attn_norm", None),
        "post_attention_layernorm": ("ffn_norm", None), "q_proj": ("wq", 0), "q_a_proj": ("wq_a", None),
        "q_a_layernorm": ("q_norm", None), "q_b_proj": ("wq_b", 0), "kv_a_proj_with_mqa": ("wkv_a", None),
        "kv_a_layernorm": ("kv_norm", None), "kv_b_proj": ("wkv_b", 0), "o_proj": ("wo", 1),
        "gate": ("gate", None), "gate_proj": ("w1", 0), "down_proj": ("w2", 1), "up_proj": ("w3", 0),
        "norm": ("norm", None), "lm_head": ("head", 0),
    }  # fmt: skip
    name = name.removeprefix("model.")
    for old, new in (
        ("self_attn", "attn"),
        ("mlp", "ffn"),
        ("weight_scale_inv", "scale"),
        ("e_score_correction_bias", "bias"),
    ):
        name = name.replace(old, new)
    key = name.split(".")[-2]
    return name.replace(key, words[key][0]), words[key][1]
