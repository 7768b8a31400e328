"""Counts a token that the papers print: KV bytes of Table 1, training FLOPs of Table 2."""

import dataclasses

import pytest

from minidsv3.config import ModelConfig, preset_names
from minidsv3.cost.closed_form import prefill_work
from minidsv3.cost.per_token import (
    kv_bytes_grouped,
    kv_bytes_mha,
    kv_bytes_mqa,
    kv_bytes_per_token,
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
