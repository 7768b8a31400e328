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
            same(layer.ffn.bias, p[f"{at}mlp.gate.e_score_correction_bias"])
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
    assert counts["trainable"] == counts["total"] - config.n_routed_experts * (
        config.n_layers - config.n_dense_layers
    )


V3 = {
    "total": 671_026_419_200,
    "trainable": 671_026_404_352,
    "active": 37_552_297_472,
    "active_without_embedding": 36_625_618_432,
    "mtp": 11_610_068_224,
    "stored": 684_489_845_504,
}
MOONLIGHT = {
    "total": 15_960_110_208,
    "active": 2_914_776_192,
    "active_without_embedding": 2_579_231_872,
    "mtp": 0,
}


@pytest.mark.parametrize(("name", "expected"), [("v3", V3), ("moonlight", MOONLIGHT)])
def test_counts_of_published_models(name: str, expected: dict[str, int]) -> None:
    counts = ModelConfig.preset(name).parameter_counts()
    assert {key: counts[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "attention", "expert", "moe"),
    [("v3", 187_107_328, 44_040_192, 11_320_164_608), ("moonlight", 13_763_072, 8_650_752, 571_080_768)],
)
def test_counts_of_parts(name: str, attention: int, expert: int, moe: int) -> None:
    sizes = {key: math.prod(shape) for key, shape in ModelConfig.preset(name).tensor_shapes().items()}

    def part(at: str) -> int:
        return sum(size for key, size in sizes.items() if key.startswith(f"model.layers.5.{at}"))

    assert (part("self_attn."), part("mlp.experts.0."), part("mlp.")) == (attention, expert, moe)


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
