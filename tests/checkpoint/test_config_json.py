"""config.json: what is written is read, what was published is the preset, what is not computed is refused.

`configs/` holds the fields of the published config.json of V3, R1, V3.1, V2, V2-Lite and Moonlight.
"""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import configs

from minidsv3.checkpoint import config_json
from minidsv3.checkpoint.config_json import from_hugging_face, to_hugging_face
from minidsv3.config import ModelConfig, RopeScaling, preset_names

CONFIGS = Path(__file__).parent / "configs"
TINY = ModelConfig(
    vocab_size=11, dim=8, inter_dim=6, moe_inter_dim=4, n_layers=2, n_dense_layers=1, n_heads=2,
    n_routed_experts=4, n_shared_experts=1, n_activated_experts=2, n_expert_groups=2, n_limited_groups=1,
    route_scale=2.5, kv_lora_rank=3, qk_nope_head_dim=2, qk_rope_head_dim=2, v_head_dim=3, q_lora_rank=4,
    n_mtp_layers=1,
)  # fmt: skip
YARN = RopeScaling(factor=40.0, original_seq_len=4096)


def published(name: str) -> dict[str, object]:
    """The fields of a published config.json."""
    table: dict[str, object] = json.loads((CONFIGS / f"{name}.json").read_text())
    return table


# ---- the published ones -----------------------------------------------------------------------------------

SAME = {"v3": "v3", "r1": "v3", "v3.1": "v3", "v2": "v2", "v2-lite": "v2-lite", "moonlight": "moonlight"}


@pytest.mark.parametrize(("name", "preset"), SAME.items())
def test_what_was_published_is_the_preset(name: str, preset: str) -> None:
    """But for V3's initial values: std 0.006 by its report, 0.02 by its config.json."""
    config = from_hugging_face(published(name))
    expected = ModelConfig.preset(preset)
    assert config == dataclasses.replace(expected, initializer_range=0.02)
    assert config.parameter_counts() == expected.parameter_counts()


@pytest.mark.parametrize("name", SAME)
def test_what_is_written_has_every_field_of_the_published_one(name: str) -> None:
    """With the same values, but for what concerns training, serving, storing or the hub."""
    theirs = published(name)
    ours = to_hugging_face(from_hugging_face(theirs))
    free = {"attention_dropout", "auto_map", "aux_loss_alpha", "ep_size", "pretraining_tp", "seq_aux"}
    free |= {"torch_dtype", "transformers_version", "use_cache", "quantization_config"}
    told = {field: value for field, value in theirs.items() if field not in free}
    assert {field: ours.get(field, "missing") for field in told} == told


def test_fields_of_training_and_serving_change_nothing() -> None:
    other = {"aux_loss_alpha": 0.5, "seq_aux": False, "ep_size": 8, "pretraining_tp": 4, "use_cache": False}
    other |= {
        "torch_dtype": "float32",
        "dtype": "float32",
        "attention_dropout": 0.1,
        "transformers_version": "9",
    }
    for name in SAME:
        assert from_hugging_face(published(name) | other) == from_hugging_face(published(name))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("v3", "deepseek_v3"), ("nano", "deepseek_v3"), ("v2", "deepseek_v2"), ("v2-lite", "deepseek_v2")],
)
def test_the_router_says_which_type_is_written(name: str, kind: str) -> None:
    table = to_hugging_face(ModelConfig.preset(name))
    architecture = "Deepseek" + kind[-2:].upper() + "ForCausalLM"
    assert (table["model_type"], table["architectures"]) == (kind, [architecture])


def test_a_router_that_neither_class_has_is_written_as_v3() -> None:
    for changes in ({"score_func": "softmax"}, {"topk_method": "greedy"}):
        config = dataclasses.replace(TINY, **changes)
        assert to_hugging_face(config)["model_type"] == "deepseek_v3"
        assert from_hugging_face(to_hugging_face(config)) == config


def test_what_transformers_leaves_out_is_what_its_classes_take() -> None:
    """Its V3 class has neither scoring_func nor topk_method, its V2 class no scoring_func."""
    for kind, expected in (
        ("deepseek_v3", ("sigmoid", "noaux_tc", True)),
        ("deepseek_v2", ("softmax", "greedy", False)),
    ):
        table = to_hugging_face(dataclasses.replace(TINY, n_mtp_layers=0)) | {"model_type": kind}
        for field in ("scoring_func", "topk_method", "norm_topk_prob"):
            del table[field]
        config = from_hugging_face(table)
        assert (config.score_func, config.topk_method, config.norm_topk_prob) == expected


def test_a_greedy_router_needs_no_groups() -> None:
    table = published("v2-lite") | {"n_group": None, "topk_group": None}
    assert from_hugging_face(table) == ModelConfig.preset("v2-lite")
    with pytest.raises(ValueError, match="expected n_group to be a whole number, got None"):
        from_hugging_face(published("v2") | {"n_group": None})


# ---- out and in -------------------------------------------------------------------------------------------


def test_every_field_of_the_config_has_a_place() -> None:
    placed = {*config_json._SIZES, *config_json._OPTIONAL_SIZES, *config_json._REALS, *config_json._DEFAULTED}
    placed |= {*config_json._OURS, *config_json._GROUPS, "rope_theta", "rope_scaling"}
    assert placed == {field.name for field in dataclasses.fields(ModelConfig)}
    assert set(config_json._YARN) == {field.name for field in dataclasses.fields(RopeScaling)}


@pytest.mark.parametrize("name", preset_names())
def test_presets_survive(name: str) -> None:
    config = ModelConfig.preset(name)
    assert from_hugging_face(json.loads(json.dumps(to_hugging_face(config)))) == config


@settings(max_examples=60)
@given(st.data())
def test_any_config_survives(data: st.DataObject) -> None:
    scaling = st.builds(
        RopeScaling,
        factor=st.floats(1, 64),
        original_seq_len=st.integers(1, 9999),
        beta_fast=st.floats(2, 64),
        mscale=st.sampled_from([0.0, 0.707, 1.0]),
        mscale_all_dim=st.sampled_from([0.0, 0.707, 1.0]),
        attention_factor=st.none() | st.floats(0.1, 2),
        truncate=st.booleans(),
    )
    config = data.draw(
        configs(
            mtp_order=data.draw(st.sampled_from(["embedding-first", "state-first"])),
            mtp_state_after_norm=data.draw(st.booleans()),
            mtp_chain_after_norm=data.draw(st.booleans()),
            n_mtp_layers=data.draw(st.integers(0, 3)),
            rope_scaling=data.draw(st.none() | scaling),
            rope_theta=data.draw(st.floats(2, 1e6)),
            eos_token_id=data.draw(st.integers(0, 9)),
            fp8_block=data.draw(st.sampled_from([32, 128])),
        )
    )
    assert from_hugging_face(json.loads(json.dumps(to_hugging_face(config)))) == config


def test_both_ways_of_writing_rope_are_read() -> None:
    sizes = {"original_max_position_embeddings": 4096, "factor": 40, "beta_fast": 32, "beta_slow": 1}
    yarn: dict[str, object] = sizes | {"mscale": 1.0, "mscale_all_dim": 1.0}
    wanted = dataclasses.replace(TINY, rope_scaling=YARN, rope_theta=5e4)
    table = to_hugging_face(TINY)
    both: list[dict[str, object]] = [
        {"type": "yarn", "rope_type": "yarn"},
        {"type": None, "rope_type": "yarn"},
    ]
    for kind in ({"type": "yarn"}, {"rope_type": "yarn"}, *both):
        assert from_hugging_face(table | {"rope_theta": 50000, "rope_scaling": yarn | kind}) == wanted
        inside = yarn | kind | {"rope_theta": 50000}
        moved = {name: value for name, value in table.items() if name not in ("rope_theta", "rope_scaling")}
        assert from_hugging_face(moved | {"rope_parameters": inside}) == wanted
        assert from_hugging_face(moved | {"rope_parameters": inside, "rope_scaling": inside}) == wanted


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, RopeScaling(40.0, 4096, mscale=0, mscale_all_dim=0)),
        ({"mscale": None, "mscale_all_dim": 0.5}, RopeScaling(40.0, 4096, mscale=0, mscale_all_dim=0.5)),
        (
            {"beta_fast": 16, "mscale": 0.7, "mscale_all_dim": 0.5},
            RopeScaling(40.0, 4096, 16, 1, 0.7, 0.5),
        ),
        (
            {"attention_factor": 1.5, "truncate": False},
            RopeScaling(40.0, 4096, mscale=0, mscale_all_dim=0, attention_factor=1.5, truncate=False),
        ),
    ],
)
def test_what_yarn_may_leave_out(fields: dict[str, object], expected: RopeScaling) -> None:
    given_ = {"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096} | fields
    assert from_hugging_face(to_hugging_face(TINY) | {"rope_scaling": given_}).rope_scaling == expected


# ---- refused ----------------------------------------------------------------------------------------------

REFUSED = {
    "hidden_act": ("gelu", "expected hidden_act 'silu'"),
    "attention_bias": (True, "expected attention_bias False"),
    "mlp_bias": (True, "expected mlp_bias False"),
    "tie_word_embeddings": (True, "expected tie_word_embeddings False"),
    "moe_layer_freq": (2, "expected moe_layer_freq 1"),
    "rope_interleave": (False, "expected rope_interleave True"),
    "model_type": ("deepseek_v32", r"expected model_type one of .*'deepseek_v3'\], got 'deepseek_v32'"),
    "topk_method": ("gready", "expected topk_method one of .*, got 'gready'"),
    "scoring_func": ("sqrtsoftplus", "expected score_func one of .*, got 'sqrtsoftplus'"),
    "num_key_value_heads": (1, "expected num_key_value_heads 2"),
    "hidden_size": ("8", "expected hidden_size to be a whole number, got '8'"),
    "vocab_size": (True, "expected vocab_size to be a whole number"),
    "num_hidden_layers": (..., "expected num_hidden_layers to be a whole number, got None"),
    "rms_norm_eps": (float("nan"), "expected rms_norm_eps to be a finite number"),
    "routed_scaling_factor": (10**400, "expected routed_scaling_factor to be a finite number"),
    "norm_topk_prob": (1, "expected norm_topk_prob to be true or false"),
    "n_group": (3, "divisible"),
    "topk_group": (None, "expected topk_group to be a whole number, got None"),
    "rope_theta": (..., "expected one positive rope_theta, got none"),
    "rope_scaling": ({"type": "longrope"}, "expected rope_scaling of type 'default' or 'yarn'.*longrope"),
    "rope_parameters": ({"rope_theta": 3.0}, r"expected one positive rope_theta, got \[3.0, 10000.0\]"),
    "minidsv3": ({"dim": 9}, "expected of minidsv3 the fields"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_config_of_another_model_is_refused(name: str) -> None:
    value, said = REFUSED[name]
    table = {field: v for field, v in (to_hugging_face(TINY) | {name: value}).items() if v is not ...}
    with pytest.raises(ValueError, match=rf"config\.json: .*{said}"):
        from_hugging_face(table)


def test_renormalised_and_scaled_weights_of_a_v2_are_refused() -> None:
    """The code published with V2 does one or the other, DeepSeek's inference code both."""
    with pytest.raises(
        ValueError, match=r"expected norm_topk_prob False or routed_scaling_factor 1 .* 16\.0"
    ):
        from_hugging_face(published("v2") | {"norm_topk_prob": True})
    assert from_hugging_face(published("v2-lite") | {"norm_topk_prob": True}).norm_topk_prob


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"factor": 0.5}, r"expected rope_scaling\.factor to be a number >= 1, got 0\.5"),
        ({"original_max_position_embeddings": 0}, r"expected rope_scaling\.original_seq_len .* got 0"),
        (
            {"original_max_position_embeddings": None},
            "expected original_max_position_embeddings to be a whole",
        ),
        ({"beta_fast": 0}, r"expected rope_scaling\.beta_fast to be a number above 0"),
        ({"mscale": -1}, r"expected rope_scaling\.mscale to be a number >= 0, got -1"),
        (
            {"mscale_all_dim": 1e300},
            r"expected rope_scaling\.mscale_all_dim within 2\^-53 and 2\^53, got 1e\+300",
        ),
        ({"beta_slow": 1e-320}, r"expected rope_scaling\.beta_slow within .*, got 1e-320"),
        ({"original_max_position_embeddings": 10**40}, r"expected rope_scaling\.original_seq_len within "),
        ({"original_max_position_embeddings": 10**400}, r"expected rope_scaling\.original_seq_len "),
        ({"mscale": "1"}, "expected mscale to be a finite number, got '1'"),
        ({"attention_factor": -2}, r"expected rope_scaling\.attention_factor .* got -2"),
        ({"truncate": 1}, "expected truncate to be true or false"),
        ({"short_factor": [1.0]}, "expected YaRN with .* got short_factor="),
        ({"type": None}, "expected rope_scaling with a type, got none beside 'beta_fast'"),
        ({"rope_type": "linear"}, "expected rope_scaling of type"),
        ({"type": ["yarn"]}, "expected rope_scaling of type"),
    ],
)
def test_a_yarn_that_is_not_computed_is_refused(change: dict[str, object], said: str) -> None:
    table = to_hugging_face(dataclasses.replace(TINY, rope_scaling=YARN))
    rope = table["rope_scaling"]
    assert isinstance(rope, dict)
    with pytest.raises(ValueError, match=said):
        from_hugging_face(table | {"rope_scaling": rope | change})


def test_two_ropes_that_differ_are_refused() -> None:
    table = to_hugging_face(dataclasses.replace(TINY, rope_scaling=YARN))
    with pytest.raises(ValueError, match="expected rope_parameters or rope_scaling, got two that differ"):
        from_hugging_face(table | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}})
