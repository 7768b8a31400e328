"""DeepSeek's own names: one for one, cut as its code cuts, and its config."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from official_rule import renamed
from strategies import configs

from minidsv3.checkpoint import CheckpointError
from minidsv3.checkpoint.names import (
    expert_of,
    from_official,
    official_differences,
    official_file,
    official_name,
    published_name,
    rank_of_file,
    share,
    to_official,
)
from minidsv3.config import ModelConfig, RopeScaling

SCALE = "_scale_inv"


def main_names(config: ModelConfig) -> list[str]:
    """Published names of the main model, each also as that of a scale."""
    layers = tuple(f"model.layers.{layer}." for layer in range(config.n_layers, config.n_layers + 9))
    names = [name for name in config.tensor_shapes() if not name.startswith(layers)]
    return names + [name + SCALE for name in names if name.endswith("_proj.weight")]


@pytest.mark.parametrize("preset", ["v3", "v2-lite", "moonlight"])
def test_names_are_those_of_the_published_script(preset: str) -> None:
    names = main_names(ModelConfig.preset(preset))
    official = [official_name(name) for name in names]
    assert official == [renamed(name)[0] for name in names]
    assert [published_name(name) for name in official] == names
    assert len(set(official)) == len(names)


@given(configs())
def test_names_are_one_for_one(config: ModelConfig) -> None:
    names = main_names(config)
    official = [official_name(name) for name in names]
    assert len(set(official)) == len(names)
    assert [published_name(name) for name in official] == names
    assert not set(official) & set(names)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.61.eh_proj.weight",
        "model.layers.61.shared_head.head.weight",
        "layers.0.attn.wq.weight",
        "model.lm_head.weight",
        "embed_tokens.weight",
        "model.layers.x.mlp.gate.weight",
        "model.layers.01.mlp.gate.weight",
        "model..weight",
        "",
    ],
)
def test_what_has_no_official_name(name: str) -> None:
    with pytest.raises(ValueError, match="expected a published tensor name"):
        official_name(name)


@pytest.mark.parametrize(
    "name",
    ["model.layers.0.attn.wq.weight", "layers.0.self_attn.q_proj.weight", "layers.0.attn.wqq.weight", ""],
)
def test_what_has_no_published_name(name: str) -> None:
    with pytest.raises(ValueError, match="expected a tensor name of DeepSeek's code"):
        published_name(name)


def test_files_of_ranks() -> None:
    assert rank_of_file(official_file(15, 16)) == (15, 16)
    for name in ("model1-mp.safetensors", "model01-mp2.safetensors", "model.safetensors", "model1-mp2.bin"):
        assert rank_of_file(name) is None


@given(st.sampled_from([1, 2, 4]), st.integers(0, 2))
def test_shares_cover_everything_once(ranks: int, q_lora: int) -> None:
    config = ModelConfig.preset("nano", q_lora_rank=64 * q_lora, n_layers=2, n_mtp_layers=0)
    for name, shape in config.tensor_shapes().items():
        seen = np.zeros(shape, int)
        for rank in range(ranks):
            part = share(name, shape, rank, ranks, config.n_routed_experts)
            if part is not None:
                seen[part] += 1
        repeated = expert_of(name) is None and renamed(name)[1] is None
        assert (seen == (ranks if repeated else 1)).all(), name


def test_shares_are_cut_where_the_script_cuts() -> None:
    assert share("model.layers.0.self_attn.o_proj.weight", (8, 4), 1, 2, 4) == (slice(0, 8), slice(2, 4))
    assert share("model.layers.0.self_attn.q_b_proj.weight_scale_inv", (8, 4), 1, 2, 4) == (
        slice(4, 8),
        slice(0, 4),
    )
    assert share("model.layers.1.mlp.experts.3.up_proj.weight", (8, 4), 0, 2, 4) is None
    with pytest.raises(ValueError, match="ranks that divide 9, got 2"):
        share("lm_head.weight", (9, 4), 0, 2, 4)
    with pytest.raises(ValueError, match="divide 3 routed experts, got 2"):
        share("model.layers.1.mlp.experts.1.up_proj.weight", (8, 4), 0, 2, 3)


# ---- config -----------------------------------------------------------------------------------------------

V3: dict[str, Any] = {  # inference/configs/config_671B.json
    "vocab_size": 129280, "dim": 7168, "inter_dim": 18432, "moe_inter_dim": 2048, "n_layers": 61,
    "n_dense_layers": 3, "n_heads": 128, "n_routed_experts": 256, "n_shared_experts": 1,
    "n_activated_experts": 8, "n_expert_groups": 8, "n_limited_groups": 4, "route_scale": 2.5,
    "score_func": "sigmoid", "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "dtype": "fp8",
}  # fmt: skip
V2_LITE: dict[str, Any] = {  # inference/configs/config_16B.json
    "vocab_size": 102400, "dim": 2048, "inter_dim": 10944, "moe_inter_dim": 1408, "n_layers": 27,
    "n_dense_layers": 1, "n_heads": 16, "n_routed_experts": 64, "n_shared_experts": 2,
    "n_activated_experts": 6, "route_scale": 1.0, "q_lora_rank": 0, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "mscale": 0.707,
    "n_expert_groups": 1, "n_limited_groups": 1,
}  # fmt: skip


@pytest.mark.parametrize(("preset", "table"), [("v3", V3), ("v2-lite", V2_LITE)])
def test_published_configs_are_the_presets(preset: str, table: dict[str, Any]) -> None:
    own = ("initializer_range", "bos_token_id", "eos_token_id", "n_mtp_layers", "mtp_order")
    found, wanted = from_official(table).to_dict(), ModelConfig.preset(preset).to_dict()
    assert {name: found[name] for name in found if name not in own} == {
        name: wanted[name] for name in wanted if name not in own
    }


@given(configs())
def test_configs_come_back(config: ModelConfig) -> None:
    """Unless there are differences, which are said."""
    table = to_official(config, "fp8")
    if not official_differences(config):
        found = from_official(table | {"max_batch_size": 3})
        assert to_official(found, "fp8") == table
        same = {"n_expert_groups": 1, "n_limited_groups": 1} if config.topk_method == "greedy" else {}
        if config.topk_method == "group_limited_greedy" and config.n_expert_groups == 1:
            same = {"topk_method": "greedy"}  # the same thing
        assert found == dataclasses.replace(config, **same)


def test_every_difference_is_said() -> None:
    sigmoid = ModelConfig.preset("nano")
    softmax = dataclasses.replace(sigmoid, score_func="softmax")
    assert official_differences(softmax) == [
        "expert weights not renormalised",
        "softmax scores not chosen by noaux_tc",
    ]
    assert official_differences(dataclasses.replace(sigmoid, norm_topk_prob=False)) == [
        "expert weights renormalised"
    ]
    yarn = RopeScaling(factor=4.0, original_seq_len=8192, mscale=0.5, truncate=False)
    said = official_differences(dataclasses.replace(sigmoid, rope_scaling=yarn))
    assert [words.split(",")[0] for words in said] == [
        "no YaRN",
        "cosines times 1",
        "YaRN's ramp from whole pair to whole pair",
    ]


def test_what_deepseeks_code_has_no_field_for_is_said() -> None:
    said = official_differences(ModelConfig.preset("moonlight"))
    assert said == ["norms with 1e-06 inside, not 1e-05"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 8}, "config.json: expected fields of DeepSeek's ModelArgs, got 'hidden_size'"),
        ({"dim": "wide"}, "config.json: model config: expected dim to be a whole number, got 'wide'"),
        ({"rope_factor": "much"}, "expected rope_factor to be a number above 0, got 'much'"),
        ({"score_func": "relu"}, "expected score_func one of"),
        ({"max_seq_len": 2.5}, "expected max_seq_len to be a whole number"),
        ({"original_seq_len": True}, "expected original_seq_len to be a number"),
    ],
)
def test_bad_configs(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError) as refused:
        from_official(V3 | change)
    assert message in str(refused.value)


def test_a_config_without_a_size() -> None:
    with pytest.raises(CheckpointError, match="expected the field 'dim' of DeepSeek's ModelArgs"):
        from_official({name: value for name, value in V3.items() if name != "dim"})
