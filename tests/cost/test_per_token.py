"""Counts a token that the papers print: KV bytes of Table 1, training FLOPs of Table 2."""

import dataclasses
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import configs

from minidsv3.config import ModelConfig, preset_names
from minidsv3.cost.closed_form import prefill_work, training_work
from minidsv3.cost.per_token import (
    active_parameters,
    core_flops_per_token,
    fp8_share,
    kv_bytes_fp8,
    kv_bytes_grouped,
    kv_bytes_mha,
    kv_bytes_mqa,
    kv_bytes_per_token,
    matrix_weights_met,
    mtp_flops_per_token,
    mtp_joins,
    parameters,
    recomputed_flops_per_token,
    router_flops_per_token,
    slide_flops_per_token,
    training_flops_per_token,
)

V3 = ModelConfig.preset("v3")


def test_kv_bytes_of_the_paper() -> None:
    assert kv_bytes_per_token(V3) == 70_272
    assert kv_bytes_grouped(layers=80, kv_heads=8, head_dim=128) == 327_680  # Qwen-2.5 72B
    assert kv_bytes_grouped(layers=126, kv_heads=8, head_dim=128) == 516_096  # LLaMA-3.1 405B
    assert kv_bytes_mha(V3) == 3_997_696
    assert kv_bytes_mqa(V3) * V3.n_heads == kv_bytes_mha(V3)
    assert kv_bytes_per_token(V3, number_bytes=1) == 35_136


def test_training_flops_of_the_paper() -> None:
    assert training_flops_per_token(V3, 4096) / 1e9 == pytest.approx(249.81, abs=0.005)
    assert training_flops_per_token(V3, 4096, causal=False) / 1e9 == pytest.approx(280.514, abs=0.0005)


def test_v3s_tokens_a_second_give_table_4() -> None:
    """272.80B tokens a day on 2048 GPUs are the printed 385 and 432 TFLOPS a GPU."""
    rate = 272.80e9 / 86400 / 2048
    assert rate * training_flops_per_token(V3, 4096) / 1e12 == pytest.approx(385.1, abs=0.05)
    assert rate * training_flops_per_token(V3, 4096, causal=False) / 1e12 == pytest.approx(432.5, abs=0.05)


@pytest.mark.parametrize("name", preset_names())
def test_the_rule_is_three_forwards_without_the_router(name: str) -> None:
    """The papers' rule against the closed form of a prefill over one full square."""
    config, T = ModelConfig.preset(name), 64
    forward = prefill_work(config, 1, T)
    router = 2 * T * config.dim * config.n_routed_experts * (config.n_layers - config.n_dense_layers)
    assert forward["gate"].matrix_flops == router
    total = sum(work.matrix_flops for work in forward.values())
    assert training_flops_per_token(config, T, causal=False) * T == 3 * (total - router)


def test_kv_bytes_of_the_family() -> None:
    """Layers x (512 + 64) x 2: V2 with its 60 layers, V2-Lite and Moonlight with 27."""
    found = {name: kv_bytes_per_token(ModelConfig.preset(name)) for name in ("v2", "v2-lite", "moonlight")}
    assert found == {"v2": 69_120, "v2-lite": 31_104, "moonlight": 31_104}


def test_kv_does_not_depend_on_heads() -> None:
    assert kv_bytes_per_token(dataclasses.replace(V3, n_heads=1)) == kv_bytes_per_token(V3)


# ---- parameters, and what conventions add -----------------------------------------------------------------


def count_of(shapes: dict[str, tuple[int, ...]], keep: Callable[[str], bool]) -> int:
    return sum(math.prod(shape) for name, shape in shapes.items() if keep(name))


@settings(max_examples=30, deadline=None)
@given(configs(), st.integers(0, 2), st.integers(1, 4))
def test_counts_are_sums_over_the_tensors(config: ModelConfig, depths: int, block: int) -> None:
    """Kinds of tensors times their number, against every tensor one by one."""
    config = dataclasses.replace(config, n_mtp_layers=depths, fp8_block=block)
    shapes, counts = config.tensor_shapes(), config.parameter_counts()
    main = {name: shape for name, shape in shapes.items() if layer_of(name) < config.n_layers}
    assert counts["total"] == count_of(main, lambda name: True)
    assert counts["total"] + counts["mtp"] == count_of(shapes, lambda name: True)
    assert counts["routed"] == count_of(main, lambda name: ".experts." in name)
    assert counts["gate"] == count_of(main, lambda name: "mlp.gate." in name)
    assert counts["shared"] == count_of(main, lambda name: "shared_experts" in name)
    narrow = [shapes[name] for name in config.fp8_tensors()]
    scales = sum(math.prod(-(-size // block) for size in shape) for shape in narrow)
    assert counts["scales"] == scales
    assert counts["checkpoint_tensors"] == len(shapes) + len(narrow) + 2 * depths
    at = f"model.layers.{config.n_layers - 1}."
    assert counts["one_attention"] == count_of(main, lambda name: name.startswith(f"{at}self_attn."))
    assert counts["one_expert"] == count_of(main, lambda name: name.startswith(f"{at}mlp.experts.0."))
    moe = config.is_moe(config.n_layers - 1)
    assert counts["one_moe"] == (count_of(main, lambda name: name.startswith(f"{at}mlp.")) if moe else 0)


def layer_of(name: str) -> int:
    return int(name.split(".")[2]) if name.startswith("model.layers.") else -1


def test_parts_of_the_parameters() -> None:
    counts = V3.parameter_counts()
    assert parameters(V3) == 671_026_419_200
    assert parameters(V3, "total", ["embedding", "head"]) == counts["total"] - 2 * 129_280 * 7168
    assert active_parameters(V3, 8) == counts["active"]
    assert active_parameters(V3, 8, embedding=False) == counts["active_without_embedding"]
    assert f"{active_parameters(V3, 6) / 1e9:.2f}" == "32.44"
    with pytest.raises(
        ValueError, match="expected a part of the parameters, got 'actve': did you mean 'active'"
    ):
        parameters(V3, "actve")
    with pytest.raises(ValueError, match="got 'heads'"):
        parameters(V3, "total", ["heads"])


@pytest.mark.parametrize("name", preset_names())
def test_what_conventions_add(name: str) -> None:
    config, T = ModelConfig.preset(name), 64
    whole, causal = (training_flops_per_token(config, T, causal) for causal in (False, True))
    assert whole - causal == core_flops_per_token(config, T)
    assert causal == 6 * matrix_weights_met(config) + core_flops_per_token(config, T)
    forward = prefill_work(config, 1, T)
    assert router_flops_per_token(config) * T == 3 * forward["gate"].matrix_flops
    assert 0 < fp8_share(config, T) < 1
    assert slide_flops_per_token(config, T) > causal
    deeper = dataclasses.replace(config, n_mtp_layers=2)
    assert mtp_flops_per_token(deeper, T) == 2 * mtp_flops_per_token(
        dataclasses.replace(config, n_mtp_layers=1), T
    )


def test_an_mtp_module_costs_what_a_trace_of_it_shows() -> None:
    """T - 1 of T positions run through it; three forwards, without the router, over a causal square."""
    config, T = ModelConfig.preset("nano", n_mtp_layers=1), 65
    with_, without = (training_work(config, 1, T, mtp=mtp)[0] for mtp in (True, False))
    more = sum(work.matrix_flops for work in with_.values()) - sum(w.matrix_flops for w in without.values())
    N = T - 1  # one block of 64 queries: its square is whole
    router = 2 * N * config.dim * config.n_routed_experts
    core = core_flops_per_token(config, N) // config.n_layers  # once more for the upper triangle
    assert 3 * (more - router) == N * (mtp_flops_per_token(config, N) + core)


def test_the_up_projections_are_what_is_computed_again() -> None:
    shapes = V3.tensor_shapes()
    up = count_of(shapes, lambda name: name.endswith(("q_b_proj.weight", "kv_b_proj.weight")))
    layers = V3.n_layers + V3.n_mtp_layers
    assert recomputed_flops_per_token(V3) * layers == 2 * up * V3.n_layers
    assert mtp_joins(V3) == count_of(shapes, lambda name: name.endswith("eh_proj.weight"))


def test_flashmlas_fp8_cache() -> None:
    assert kv_bytes_fp8(V3, 1) == 512 + 4 * 4 + 64 * 2
    assert kv_bytes_fp8(V3, V3.n_layers) == 40_016
