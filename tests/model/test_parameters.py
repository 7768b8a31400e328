"""One buffer: published names and the report's symbols are views of the same numbers; counts are exact."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import configs, rngs

from minidsv3.config import ModelConfig
from minidsv3.model.parameters import FFNWeights, MoEWeights, Parameters


@settings(max_examples=30)
@given(configs(n_mtp_layers=1), rngs)
def test_symbols_are_views_of_the_published_tensors(config: ModelConfig, rng: np.random.Generator) -> None:
    p = Parameters(config)
    p.buffer[...] = rng.normal(size=p.buffer.shape)
    for i, layer in enumerate([*p.weights.layers, p.weights.mtp[0].block]):
        at, w = f"model.layers.{i}.", layer.attention
        down, up = p[f"{at}self_attn.kv_a_proj_with_mqa.weight"], p[f"{at}self_attn.kv_b_proj.weight"]
        same(w.W_DKV, down[: config.kv_lora_rank])
        same(w.W_KR, down[config.kv_lora_rank :])
        by_head = up.reshape(config.n_heads, -1, config.kv_lora_rank)  # keys and values alternate by head
        same(w.W_UK, by_head[:, : config.qk_nope_head_dim])
        same(w.W_UV, by_head[:, config.qk_nope_head_dim :])
        q = p[f"{at}self_attn.{'q_b_proj' if config.q_lora_rank else 'q_proj'}.weight"]
        same(w.W_UQ, q.reshape(config.n_heads, config.qk_head_dim, -1)[:, : config.qk_nope_head_dim])
        same(w.W_QR, q.reshape(config.n_heads, config.qk_head_dim, -1)[:, config.qk_nope_head_dim :])
        same(w.W_O, p[f"{at}self_attn.o_proj.weight"])
        if isinstance(layer.ffn, MoEWeights):
            for e in range(config.n_routed_experts):
                experts = FFNWeights(layer.ffn.W_gate_up[e], layer.ffn.W_down[e])
                check_ffn(p, f"{at}mlp.experts.{e}.", experts)
            same(layer.ffn.e, p[f"{at}mlp.gate.weight"])
            if config.topk_method == "noaux_tc":
                same(layer.ffn.bias, p[f"{at}mlp.gate.e_score_correction_bias"])
            else:
                assert layer.ffn.bias is None
            if layer.ffn.shared is not None:
                check_ffn(p, f"{at}mlp.shared_experts.", layer.ffn.shared)
        else:
            check_ffn(p, f"{at}mlp.", layer.ffn)


def check_ffn(p: Parameters, at: str, w: FFNWeights) -> None:
    half = len(w.W_gate_up) // 2
    same(w.W_gate_up[:half], p[f"{at}gate_proj.weight"])
    same(w.W_gate_up[half:], p[f"{at}up_proj.weight"])
    same(w.W_down, p[f"{at}down_proj.weight"])


def same(view: np.ndarray, tensor: np.ndarray) -> None:
    """Equal numbers in the same memory."""
    np.testing.assert_array_equal(view, tensor)
    assert view.__array_interface__["data"] == tensor.__array_interface__["data"]
    assert np.shares_memory(view, tensor)


@settings(max_examples=30)
@given(configs(n_mtp_layers=2))
def test_tensors_cover_the_buffer_once(config: ModelConfig) -> None:
    p = Parameters(config)
    for view in p.values():
        view += 1
    np.testing.assert_array_equal(p.buffer, 1)
    assert dict(zip(p, map(np.shape, p.values()), strict=True)) == {
        name: config.tensor_shapes()[name] for name in p
    }
    assert set(p) == set(config.tensor_shapes())


@settings(max_examples=30)
@given(configs(n_mtp_layers=1))
def test_matrices_come_first_biases_last(config: ModelConfig) -> None:
    p = Parameters(config)
    p.buffer[: p.decayed], p.buffer[p.decayed : p.trained], p.buffer[p.trained :] = 1, 2, 3
    for name, view in p.items():
        expected = 3 if name.endswith("bias") else (1 if view.ndim == 2 else 2)
        assert (view == expected).all(), name


@settings(max_examples=30)
@given(configs(n_mtp_layers=1))
def test_counts_add_up_to_the_buffer(config: ModelConfig) -> None:
    counts = config.parameter_counts()
    assert Parameters(config).buffer.size == counts["total"] + counts["mtp"]
    biases = sum(view.size for name, view in Parameters(config).items() if name.endswith("bias"))
    assert counts["trainable"] == counts["total"] - biases + sum(
        math.prod(shape) for name, shape in config.tensor_shapes().items() if _is_mtp_bias(name, config)
    )


def _is_mtp_bias(name: str, config: ModelConfig) -> bool:
    return name.endswith("bias") and name.startswith(f"model.layers.{config.n_layers}.")


V3 = {
    "total": 671_026_419_200,
    "trainable": 671_026_404_352,
    "active": 37_552_297_472,
    "active_without_embedding": 36_625_618_432,
    "mtp": 11_610_068_224,
    "stored": 684_489_845_504,
    "scales": 41_540_496,
    "checkpoint": 684_531_386_000,
    "checkpoint_tensors": 91_991,
    "checkpoint_bytes": 688_574_839_360,
    "one_attention": 187_107_328,
    "one_expert": 44_040_192,
    "one_moe": 11_320_164_608,
}
MOONLIGHT = {
    "total": 15_960_110_208,
    "active": 2_914_776_192,
    "active_without_embedding": 2_579_231_872,
    "mtp": 0,
    "stored": 15_960_110_208,
    "one_attention": 13_763_072,
    "one_expert": 8_650_752,
    "one_moe": 571_080_768,
}
V2 = {"total": 235_741_434_880, "trainable": 235_741_434_880, "active": 21_375_800_320, "mtp": 0}
V2_LITE = {"total": 15_706_484_224, "active": 2_661_150_208, "active_without_embedding": 2_451_435_008}
PUBLISHED = {"v3": V3, "moonlight": MOONLIGHT, "v2": V2, "v2-lite": V2_LITE}


@pytest.mark.parametrize(("name", "expected"), PUBLISHED.items())
def test_counts_of_published_models(name: str, expected: dict[str, int]) -> None:
    counts = ModelConfig.preset(name).parameter_counts()
    assert {key: counts[key] for key in expected} == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_those_of_the_formula(name: str) -> None:
    """The parameters written out by hand, matrix by matrix, without the list of tensors."""
    c = ModelConfig.preset(name)
    d, H, r, E = c.dim, c.n_heads, c.q_lora_rank, c.n_routed_experts
    queries, latent = H * c.qk_head_dim, c.kv_lora_rank
    attention = d * r + r + r * queries if r else d * queries
    attention += d * (latent + c.qk_rope_head_dim) + latent
    attention += latent * H * (c.qk_nope_head_dim + c.v_head_dim) + H * c.v_head_dim * d
    expert = 3 * d * c.moe_inter_dim
    moe = (E + c.n_shared_experts) * expert + E * d + (E if c.topk_method == "noaux_tc" else 0)
    dense = 3 * d * c.inter_dim
    layers = (
        c.n_layers * (attention + 2 * d) + c.n_dense_layers * dense + (c.n_layers - c.n_dense_layers) * moe
    )
    counts = c.parameter_counts()
    assert (counts["one_attention"], counts["one_expert"], counts["one_moe"]) == (attention, expert, moe)
    assert counts["total"] == 2 * c.vocab_size * d + d + layers
    assert counts["mtp"] == c.n_mtp_layers * (attention + moe + 5 * d + 2 * d * d)
    idle = (c.n_layers - c.n_dense_layers) * (E - c.n_activated_experts) * expert
    assert counts["active"] == counts["total"] - idle


def test_eight_active_experts_give_37_billion_and_six_do_not() -> None:
    """Report: 671B, 37B activated. Section 4.2 and every config say 8; 6 is V2's number."""
    v3 = ModelConfig.preset("v3")
    billions = {k: v3.active_parameters(k)["active_without_embedding"] / 1e9 for k in range(1, 13)}
    assert [k for k, n in billions.items() if round(n) == 37] == [8]
    assert round(v3.active_parameters(8)["active_without_embedding"] / 1e9, 1) == 36.6
    assert (round(billions[6], 2), round(v3.active_parameters(6)["active"] / 1e9, 2)) == (31.52, 32.44)
    assert v3.active_parameters(8) == {key: V3[key] for key in ("active", "active_without_embedding")}
    with pytest.raises(ValueError, match=r"expected 1 \.\. 256 activated experts, got 257"):
        v3.active_parameters(257)


@settings(max_examples=30)
@given(configs(n_mtp_layers=1, fp8_block=3))
def test_the_published_layout_is_counted_tensor_by_tensor(config: ModelConfig) -> None:
    """FP8 projections with a scale a block, BF16 for the rest, float32 biases; embedding and head again."""
    tensors = elements = size = 0
    shapes = list(config.tensor_shapes().items())
    at = f"model.layers.{config.n_layers}."
    shapes += [
        (f"{at}{copy}", (config.vocab_size, config.dim)) for copy in ("embed_tokens", "shared_head.head")
    ]
    for name, shape in shapes:
        n, width = math.prod(shape), 2
        if name in config.fp8_tensors():
            scales = math.prod(math.ceil(side / 3) for side in shape)
            tensors, elements, size, width = tensors + 1, elements + scales, size + 4 * scales, 1
        elif name.endswith("bias"):
            width = 4
        tensors, elements, size = tensors + 1, elements + n, size + width * n
    counts = config.parameter_counts()
    keys = ("checkpoint_tensors", "checkpoint", "checkpoint_bytes")
    assert tuple(counts[key] for key in keys) == (tensors, elements, size)


def test_only_projections_are_fp8() -> None:
    config = ModelConfig.preset("nano")
    narrow = {name.removesuffix(".weight").rpartition(".")[2] for name in config.fp8_tensors()}
    assert narrow == {
        "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj",
        "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip


def test_initial_values() -> None:
    config = ModelConfig.preset("nano")
    p = Parameters.initialise(config, np.random.default_rng(0))
    assert p.buffer[: p.decayed].std() == pytest.approx(config.initializer_range, rel=0.01)
    assert abs(p.buffer[: p.decayed].mean()) < 1e-4
    assert (p.buffer[p.decayed : p.trained] == 1).all()
    assert not p.buffer[p.trained :].any()
    np.testing.assert_array_equal(p.buffer, Parameters.initialise(config, np.random.default_rng(0)).buffer)


def test_a_buffer_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a buffer \[\d+\], got \(5,\)"):
        Parameters(ModelConfig.preset("nano"), np.zeros(5, "f"))


def test_another_dtype_is_a_copy_and_the_same_one_is_not() -> None:
    p = Parameters(ModelConfig.preset("nano", n_layers=1))
    assert p.astype("float32") is p
    assert p.astype("float64").buffer.dtype == np.float64
    assert p.like("float64").buffer.dtype == np.float64
