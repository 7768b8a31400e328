"""The other names: DeepSeek's own code calls the tensors of V3 and its config otherwise than Hugging Face.

    model.layers.3.self_attn.q_a_proj.weight             layers.3.attn.wq_a.weight
    model.layers.3.mlp.experts.7.down_proj.weight        layers.3.ffn.experts.7.w2.weight
    model.layers.3.mlp.experts.7.down_proj.weight_scale_inv              ....w2.scale

Its folders hold files `model{rank}-mp{ranks}.safetensors`, one for each GPU: routed experts lie whole on one
rank, what a rank computes a part of is cut into equal rows (embedding, head, q, kv_b, gate, up) or columns
(o, down), the rest is repeated (inference/convert.py and model.py of deepseek-ai/DeepSeek-V3). They have no
MTP module. Their config has the fields of the class ModelArgs, which refuses any other.

Does: names both ways, one for one; which part is whose; the config both ways. Does not: open files.

    >>> official_name("model.layers.3.mlp.experts.7.down_proj.weight_scale_inv")
    'layers.3.ffn.experts.7.w2.scale'
    >>> published_name("layers.0.attn_norm.weight")
    'model.layers.0.input_layernorm.weight'
    >>> share("model.layers.3.self_attn.o_proj.weight", (64, 32), 1, 4, experts=8)
    (slice(0, 64, None), slice(8, 16, None))

Next: minidsv3.checkpoint.official
"""

import re
from collections.abc import Mapping
from typing import Any

from minidsv3.checkpoint.header import CheckpointError, shown
from minidsv3.config import ModelConfig, RopeScaling

__all__ = [
    "expert_of",
    "from_official",
    "official_differences",
    "official_file",
    "official_name",
    "published_name",
    "share",
    "split_axis",
    "to_official",
]

# Hugging Face's word -> DeepSeek's, and the axis along which ranks share it; None: each has all of it
_WORDS: dict[str, tuple[str, int | None]] = {
    "embed_tokens": ("embed", 0),
    "input_layernorm": ("attn_norm", None),
    "post_attention_layernorm": ("ffn_norm", None),
    "q_proj": ("wq", 0),
    "q_a_proj": ("wq_a", None),
    "q_a_layernorm": ("q_norm", None),
    "q_b_proj": ("wq_b", 0),
    "kv_a_proj_with_mqa": ("wkv_a", None),
    "kv_a_layernorm": ("kv_norm", None),
    "kv_b_proj": ("wkv_b", 0),
    "o_proj": ("wo", 1),
    "gate_proj": ("w1", 0),
    "down_proj": ("w2", 1),
    "up_proj": ("w3", 0),
    "lm_head": ("head", 0),
    "self_attn": ("attn", None),
    "mlp": ("ffn", None),
    "weight_scale_inv": ("scale", None),
    "e_score_correction_bias": ("bias", None),
    **{word: (word, None) for word in ("gate", "norm", "layers", "experts", "shared_experts", "weight")},
}
_OFFICIAL = {theirs: ours for ours, (theirs, _) in _WORDS.items()}
_FILE = re.compile(r"model(0|[1-9]\d{0,4})-mp([1-9]\d{0,4})\.safetensors")

# fields of ModelArgs that are ModelConfig's by name
_FIELDS = (
    "vocab_size", "dim", "inter_dim", "moe_inter_dim", "n_layers", "n_dense_layers", "n_heads",
    "n_routed_experts", "n_shared_experts", "n_activated_experts", "n_expert_groups", "n_limited_groups",
    "route_scale", "score_func", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim",
    "v_head_dim", "rope_theta",
)  # fmt: skip
# and those of YaRN, with the class's own values, which published files leave out
_YARN = {"original_seq_len": 4096, "rope_factor": 40.0, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0}
_DEFAULTS: dict[str, Any] = {
    "score_func": "softmax",
    "route_scale": 1.0,
    "q_lora_rank": 0,
    "rope_theta": 10000.0,
}
_SERVING = {"max_batch_size", "max_seq_len", "dtype", "scale_fmt"}  # how to run it, not what it is
LATENT_EPS = 1e-6  # of every norm in DeepSeek's code


# ---- tensors ----------------------------------------------------------------------------------------------


def official_name(name: str) -> str:
    """DeepSeek's name for a published one; ValueError where it has none, as for the MTP module's parts."""
    bare = name.removeprefix("model.")
    words = [_WORDS[word][0] if word in _WORDS else word for word in bare.split(".")]
    official = ".".join(words)
    if _unknown(bare, _WORDS) or _full(official) != name:
        raise ValueError(f"expected a published tensor name of a main model, got {name!r}")
    return official


def published_name(name: str) -> str:
    """The name in Hugging Face's folders; ValueError on what is not DeepSeek's."""
    if _unknown(name, _OFFICIAL) or name.startswith("model."):
        raise ValueError(f"expected a tensor name of DeepSeek's code, got {name!r}")
    return _full(name)


def _full(official: str) -> str:
    words = [_OFFICIAL.get(word, word) for word in official.split(".")]
    return ".".join(words if words[0] == "lm_head" else ["model", *words])


def _unknown(name: str, known: Mapping[str, object]) -> bool:
    """Whether a part of a name is neither a word nor the number of a layer or an expert."""
    words = name.split(".")
    return any(
        word not in known and not (before in ("layers", "experts") and re.fullmatch(r"0|[1-9]\d{0,5}", word))
        for before, word in zip(["", *words], words, strict=False)
    )


def official_file(rank: int, ranks: int) -> str:
    """Name of the file of one rank.

    >>> official_file(3, 16)
    'model3-mp16.safetensors'
    """
    return f"model{rank}-mp{ranks}.safetensors"


def rank_of_file(name: str) -> tuple[int, int] | None:
    """Rank and number of ranks that a file's name says, None if it is no such name."""
    found = _FILE.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else None


def expert_of(name: str) -> int | None:
    """Number of the routed expert that a published name belongs to."""
    found = re.search(r"\.mlp\.experts\.(\d+)\.", name)
    return int(found[1]) if found else None


def split_axis(name: str) -> int | None:
    """Axis along which ranks share a tensor of this published name, None where each has the whole of it.

    Scales are cut like their weights. Routed experts are not cut but dealt out: None, and `expert_of`.
    """
    return None if expert_of(name) is not None else _WORDS.get(name.split(".")[-2], ("", None))[1]


def share(name: str, shape: tuple[int, ...], rank: int, ranks: int, experts: int) -> tuple[slice, ...] | None:
    """The part of a tensor [rows, columns] that a rank holds, None if none.  experts: how many are routed.

    ValueError where the parts would not be equal.
    """
    if (expert := expert_of(name)) is not None:
        if experts % ranks:
            raise ValueError(f"expected ranks that divide {experts} routed experts, got {ranks}")
        if expert // (experts // ranks) != rank:
            return None
    whole = tuple(slice(0, size) for size in shape)
    axis = split_axis(name)
    if axis is None:
        return whole
    if shape[axis] % ranks:
        raise ValueError(f"tensor {name!r}: expected ranks that divide {shape[axis]}, got {ranks}")
    size = shape[axis] // ranks
    return (*whole[:axis], slice(rank * size, (rank + 1) * size), *whole[axis + 1 :])


# ---- config -----------------------------------------------------------------------------------------------


def to_official(config: ModelConfig, dtype: str = "bf16") -> dict[str, Any]:
    """The fields that DeepSeek's class ModelArgs takes.  dtype: "fp8" or "bf16", as its code names them.

    Without YaRN the trained length is the longest, which is how its code knows. The MTP modules and the
    conventions of this package have no field there.
    """
    table: dict[str, Any] = {name: getattr(config, name) for name in _FIELDS}
    if config.topk_method == "greedy":  # chosen among all: to its code, one group
        table |= {"n_expert_groups": 1, "n_limited_groups": 1}
    scaling = config.rope_scaling
    table |= {"max_seq_len": config.max_seq_len, "original_seq_len": config.max_seq_len}
    if scaling:
        table |= {"original_seq_len": scaling.original_seq_len, "rope_factor": scaling.factor}
        table |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
        table |= {"mscale": scaling.mscale_all_dim}  # its code scales the softmax with it, and nothing else
    return table | {"dtype": dtype}


def official_differences(config: ModelConfig) -> list[str]:
    """What DeepSeek's code would compute otherwise than this config says; its class has no field for it."""
    said = []
    if config.norm_eps != LATENT_EPS:
        said.append(f"norms with {LATENT_EPS:g} inside, not {config.norm_eps:g}")
    if config.norm_topk_prob != (config.score_func == "sigmoid"):
        said.append(f"expert weights {'' if config.score_func == 'sigmoid' else 'not '}renormalised")
    if (config.topk_method == "noaux_tc") != (config.score_func == "sigmoid"):
        said.append(f"{config.score_func} scores not chosen by {config.topk_method}")
    return said + (_yarn_differences(config, config.rope_scaling) if config.rope_scaling else [])


def _yarn_differences(config: ModelConfig, scaling: RopeScaling) -> list[str]:
    said = []
    if config.max_seq_len <= scaling.original_seq_len:
        said.append("no YaRN, as no text is longer than the trained length")
    if scaling.rotation_scale != 1:
        said.append(f"cosines times 1, not {scaling.rotation_scale:g}")
    if not scaling.truncate:
        said.append("YaRN's ramp from whole pair to whole pair")
    return said


def from_official(table: Mapping[str, Any], where: str = "config.json") -> ModelConfig:
    """Build a ModelConfig from the fields of ModelArgs; ValueError naming what is missing or unknown."""
    known = {*_FIELDS, *_YARN, *_SERVING}
    if unknown := sorted(set(table) - known):
        raise CheckpointError(f"{where}: expected fields of DeepSeek's ModelArgs, got {shown(unknown[0])}")
    if missing := [name for name in _FIELDS if name not in table and name not in _DEFAULTS]:
        raise CheckpointError(f"{where}: expected the field {missing[0]!r} of DeepSeek's ModelArgs, got none")
    fields = {name: table.get(name, _DEFAULTS.get(name)) for name in _FIELDS}
    yarn = {name: table.get(name, default) for name, default in _YARN.items()}
    try:
        return ModelConfig.from_dict(fields | _lengths(table, yarn) | _routing(fields))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{where}: {error}") from None


def _lengths(table: Mapping[str, Any], yarn: dict[str, Any]) -> dict[str, Any]:
    """`max_seq_len` and `rope_scaling`: there is YaRN where texts may be longer than the trained length."""
    trained, factor = yarn["original_seq_len"], yarn.pop("rope_factor")
    for name, value in {**yarn, "rope_factor": factor}.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**53:
            raise ValueError(f"expected {name} to be a number above 0, got {shown(value)}")
    longest = table.get("max_seq_len", int(trained * factor))
    if type(longest) is int and longest <= trained:
        return {"max_seq_len": longest, "rope_scaling": None}
    yarn |= {"factor": float(factor), "mscale": float(yarn["mscale"])}
    return {"max_seq_len": longest, "rope_scaling": yarn | {"mscale_all_dim": yarn["mscale"]}}


def _routing(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What its gate does without being told: V3's way for sigmoid scores, V2's for softmax."""
    if fields["score_func"] == "sigmoid":
        return {"norm_topk_prob": True}
    method = "greedy" if fields["n_expert_groups"] == 1 else "group_limited_greedy"
    return {"norm_topk_prob": False, "topk_method": method}
