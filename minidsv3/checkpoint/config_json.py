"""`config.json`, the sizes of a model under Hugging Face's names, to and from `ModelConfig`.

DeepSeek gave the same sizes two sets of names: `dim` in its own `config_671B.json`, which this package
follows, is `hidden_size` in the `config.json` beside the weights; the table below is the dictionary. Where
readers differ, both forms are taken: `rope_scaling.type` or `.rope_type`, `rope_theta` at top level or, as
transformers 5 writes it, inside `rope_parameters`; a null `q_lora_rank` is our 0.

Two model types are read, deepseek_v3 (V3, R1, V3.1, Moonlight) and deepseek_v2 (V2, V2-Lite); the router is
what the fields say, and what they leave out is what transformers' class of that type takes. A field that
would make another model of the same weights (biases in the attention, tied embeddings, another activation,
an unknown RoPE) is refused by name, never ignored. Fields about training or serving (`use_cache`, `ep_size`,
`aux_loss_alpha`, `torch_dtype`, ...) are ignored; `quantization_config` is the folder's to read. What only
this package has stands in an object `minidsv3`, which others skip.

    >>> from minidsv3.config import ModelConfig
    >>> table = to_hugging_face(ModelConfig.preset("moonlight"))
    >>> table["hidden_size"], table["q_lora_rank"], table["rope_scaling"]
    (2048, None, None)
    >>> from_hugging_face(table) == ModelConfig.preset("moonlight")
    True

Next: minidsv3.checkpoint.quantisation_config
"""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from minidsv3.checkpoint.header import CheckpointError, shown
from minidsv3.config import ModelConfig, RopeScaling

__all__ = ["from_hugging_face", "to_hugging_face"]

_T = TypeVar("_T")

# our name -> Hugging Face's, sizes without which there is no model
_SIZES = {
    "vocab_size": "vocab_size",
    "dim": "hidden_size",
    "inter_dim": "intermediate_size",
    "moe_inter_dim": "moe_intermediate_size",
    "n_layers": "num_hidden_layers",
    "n_dense_layers": "first_k_dense_replace",
    "n_heads": "num_attention_heads",
    "n_routed_experts": "n_routed_experts",
    "n_activated_experts": "num_experts_per_tok",
    "kv_lora_rank": "kv_lora_rank",
    "qk_nope_head_dim": "qk_nope_head_dim",
    "qk_rope_head_dim": "qk_rope_head_dim",
    "v_head_dim": "v_head_dim",
    "max_seq_len": "max_position_embeddings",
}
# a null or a missing field means that the model has none of it
_OPTIONAL_SIZES = {
    "q_lora_rank": "q_lora_rank",
    "n_shared_experts": "n_shared_experts",
    "n_mtp_layers": "num_nextn_predict_layers",
}
# null where a router knows no groups, which counts as one
_GROUPS = {"n_expert_groups": "n_group", "n_limited_groups": "topk_group"}
_REALS = {"route_scale": "routed_scaling_factor", "norm_eps": "rms_norm_eps"}
# may be missing, and then have ModelConfig's value; transformers leaves some out
_DEFAULTED: dict[str, tuple[str, type]] = {
    "score_func": ("scoring_func", str),
    "topk_method": ("topk_method", str),
    "norm_topk_prob": ("norm_topk_prob", bool),
    "initializer_range": ("initializer_range", float),
    "bos_token_id": ("bos_token_id", int),
    "eos_token_id": ("eos_token_id", int),
}
# a model of this type has, where its config.json does not say otherwise
_TYPES: dict[str, dict[str, object]] = {
    "deepseek_v3": {"score_func": "sigmoid", "topk_method": "noaux_tc", "norm_topk_prob": True},
    "deepseek_v2": {"score_func": "softmax", "topk_method": "greedy", "norm_topk_prob": False},
}
_ARCHITECTURES = {"deepseek_v3": "DeepseekV3ForCausalLM", "deepseek_v2": "DeepseekV2ForCausalLM"}
_OURS = {"mtp_order": str, "mtp_state_after_norm": bool, "mtp_chain_after_norm": bool, "fp8_block": int}
# fields of which one value alone is computed here; a missing one means that value
_FIXED: dict[str, object] = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "moe_layer_freq": 1,
    "rope_interleave": True,
}
_YARN: dict[str, tuple[str, type]] = {  # ours -> Hugging Face's
    "factor": ("factor", float),
    "original_seq_len": ("original_max_position_embeddings", int),
    "beta_fast": ("beta_fast", float),
    "beta_slow": ("beta_slow", float),
    "mscale": ("mscale", float),
    "mscale_all_dim": ("mscale_all_dim", float),
    "attention_factor": ("attention_factor", float),
    "truncate": ("truncate", bool),
}
_NOT_GIVEN = {"mscale": 0.0, "mscale_all_dim": 0.0}  # what null or missing means; else RopeScaling's value
_WORDS: dict[type, str] = {
    int: "a whole number",
    float: "a finite number",
    str: "text",
    bool: "true or false",
    dict: "an object",
}


def from_hugging_face(table: Mapping[str, object], where: str = "config.json") -> ModelConfig:
    """Build a ModelConfig from the fields of a config.json; CheckpointError on what is not computed here."""
    _check_fixed(table, where)
    fields = dict(_TYPES[_model_type(table, where)])
    for ours, theirs in _SIZES.items():
        fields[ours] = _typed(table, theirs, int, where)
    for ours, theirs in _OPTIONAL_SIZES.items():
        fields[ours] = 0 if table.get(theirs) is None else _typed(table, theirs, int, where)
    for ours, theirs in _REALS.items():
        fields[ours] = _typed(table, theirs, float, where)
    for ours, (theirs, kind) in _DEFAULTED.items():
        if table.get(theirs) is not None:
            fields[ours] = _typed(table, theirs, kind, where)
    for ours, theirs in _GROUPS.items():
        ungrouped = fields["topk_method"] == "greedy" and table.get(theirs) is None
        fields[ours] = 1 if ungrouped else _typed(table, theirs, int, where)
    _check_scale(table, fields, where)
    fields |= _rope(table, where) | _own(table, where)
    try:
        return ModelConfig.from_dict(fields)
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from None


def to_hugging_face(config: ModelConfig) -> dict[str, object]:
    """Give the fields of a config.json, as DeepSeek's own have them; `from_hugging_face` undoes it.

    A router of V2's kind (softmax scores, greedy, not renormalised) makes a deepseek_v2. The two classes of
    transformers compute each its own router whatever the fields say; only presets and their like load there.
    """
    fields, kind = config.to_dict(), _type_of(config)
    names = _SIZES | _OPTIONAL_SIZES | _GROUPS | _REALS
    names |= {ours: theirs for ours, (theirs, _) in _DEFAULTED.items()}
    table: dict[str, object] = {"architectures": [_ARCHITECTURES[kind]], "model_type": kind, **_FIXED}
    for name in ("mlp_bias", "rope_interleave") if kind == "deepseek_v2" else ("mlp_bias",):
        del table[name]  # a field of the other class
    table |= {theirs: fields[ours] for ours, theirs in names.items()}
    table |= {
        theirs: float(fields[ours]) for ours, theirs in _REALS.items()
    }  # strict readers want 1.0, not 1
    table |= {"q_lora_rank": config.q_lora_rank or None, "num_key_value_heads": config.n_heads}
    table |= {"rope_theta": float(config.rope_theta), "rope_scaling": None}
    if scaling := config.rope_scaling:
        table["rope_scaling"] = {"type": "yarn", **_yarn_table(scaling)}
    return table | {"minidsv3": {name: fields[name] for name in _OURS}}


def _model_type(table: Mapping[str, object], where: str) -> str:
    kind = table.get("model_type", "deepseek_v3")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise CheckpointError(f"{where}: expected model_type one of {sorted(_TYPES)}, got {shown(kind)}")
    return kind


def _type_of(config: ModelConfig) -> str:
    """The model type whose class in transformers has this router, if any has."""
    greedy = config.topk_method != "noaux_tc"
    v2 = greedy and config.score_func == "softmax" and not config.norm_topk_prob
    return "deepseek_v2" if v2 else "deepseek_v3"


def _check_scale(table: Mapping[str, object], fields: Mapping[str, object], where: str) -> None:
    """Readers of deepseek_v2 do not agree on a scale on top of renormalised weights."""
    v2 = table.get("model_type") == "deepseek_v2"
    if v2 and fields["norm_topk_prob"] and fields["route_scale"] != 1:
        raise CheckpointError(
            f"{where}: expected norm_topk_prob False or routed_scaling_factor 1 of a deepseek_v2 (the code "
            f"published with it leaves one of both out), got True and {fields['route_scale']}"
        )


def _check_fixed(table: Mapping[str, object], where: str) -> None:
    fixed = _FIXED | {"num_key_value_heads": table.get("num_attention_heads")}  # MLA has no shared heads
    for name, wanted in fixed.items():
        if (value := table.get(name, wanted)) != wanted and not (
            value is None and name == "num_key_value_heads"
        ):
            raise CheckpointError(
                f"{where}: expected {name} {wanted!r}, all that is computed here, got {shown(value)}"
            )


def _rope(table: Mapping[str, object], where: str) -> dict[str, object]:
    """`rope_theta` and `rope_scaling` of ModelConfig."""
    inside = "rope_scaling" if table.get("rope_parameters") is None else "rope_parameters"
    rope = {} if table.get(inside) is None else _typed(table, inside, dict, where)
    if inside == "rope_parameters" and table.get("rope_scaling") not in (None, rope):
        raise CheckpointError(f"{where}: expected rope_parameters or rope_scaling, got two that differ")
    theta = {_typed(fields, "rope_theta", float, where) for fields in (table, rope) if "rope_theta" in fields}
    if len(theta) != 1 or min(theta) <= 0:
        raise CheckpointError(f"{where}: expected one positive rope_theta, got {sorted(theta) or 'none'}")
    named = (rope.get("type"), rope.get("rope_type"))
    said = [kind for kind in named if kind is not None]
    kind = said[-1] if said else "default"
    if any(other != kind for other in said) or kind not in ("default", "yarn"):
        raise CheckpointError(
            f"{where}: expected {inside} of type 'default' or 'yarn', got type, rope_type {shown(named)}"
        )
    if not said and (
        scaled := sorted(name for name in rope if name != "rope_theta" and rope[name] is not None)
    ):
        raise CheckpointError(f"{where}: expected {inside} with a type, got none beside {shown(scaled[0])}")
    scaling = _yarn(rope, f"{where}: {inside}") if kind == "yarn" else None
    return {"rope_theta": theta.pop(), "rope_scaling": scaling}


def _yarn(rope: Mapping[str, object], where: str) -> RopeScaling:
    known = {*(theirs for theirs, _ in _YARN.values()), "type", "rope_type", "rope_theta"}
    if unknown := sorted(name for name in rope if name not in known and rope[name] is not None):
        raise CheckpointError(
            f"{where}: expected YaRN with {sorted(known)}, got {unknown[0]}={shown(rope[unknown[0]])}"
        )
    needed = ("factor", "original_seq_len")
    fields: dict[str, Any] = dict(_NOT_GIVEN)
    for ours, (theirs, kind) in _YARN.items():
        if ours in needed or rope.get(theirs) is not None:
            fields[ours] = _typed(rope, theirs, kind, where)
    return RopeScaling(**fields)


def _yarn_table(scaling: RopeScaling) -> dict[str, object]:
    """YaRN's fields under Hugging Face's names, without those that are not given or as always."""
    silent = {"mscale": 0, "mscale_all_dim": 0, "attention_factor": None, "truncate": True}
    given = {ours: getattr(scaling, ours) for ours in _YARN}
    told = {ours: value for ours, value in given.items() if ours not in silent or silent[ours] != value}
    return {_YARN[ours][0]: float(value) if ours == "factor" else value for ours, value in told.items()}


def _own(table: Mapping[str, object], where: str) -> dict[str, object]:
    ours = _typed({"minidsv3": {}, **table}, "minidsv3", dict, where)
    if unknown := sorted(set(ours) - set(_OURS)):
        raise CheckpointError(f"{where}: expected of minidsv3 the fields {sorted(_OURS)}, got {unknown[0]!r}")
    return {name: _typed(ours, name, _OURS[name], f"{where}: minidsv3") for name in ours}


def _typed(table: Mapping[str, object], name: str, kind: type[_T], where: str) -> _T:
    value = table.get(name)
    if kind is float and type(value) is int and abs(value) < 2**53:
        value = float(value)  # JSON writes 40 for 40.0
    wrong_bool = isinstance(value, bool) and kind is not bool  # a bool is an int to isinstance
    if not isinstance(value, kind) or wrong_bool or (isinstance(value, float) and not math.isfinite(value)):
        raise CheckpointError(f"{where}: expected {name} to be {_WORDS[kind]}, got {shown(value)}")
    return value
