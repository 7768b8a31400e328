"""Each proof, worked out a second way."""

import math

import numpy as np
import pytest
from scipy.special import softmax

from minidsv3.config import ModelConfig
from minidsv3.cost.claims import (
    accumulation_error,
    active_with,
    experts_met,
    moe_layers,
    routed_per_gpu,
    sum_of_softmax_rows,
    total_at_width,
    values_told_apart,
)
from minidsv3.hardware import load_hardware

V3 = ModelConfig.preset("v3")
EXPERT = 3 * 7168 * 2048


def test_eight_experts_not_six() -> None:
    assert active_with(V3, 8) - active_with(V3, 6) == 58 * 2 * EXPERT
    assert [f"{active_with(V3, n) / 1e9:.2f}" for n in (8, 6)] == ["37.55", "32.44"]
    assert experts_met(V3, 37e9) == 8
    assert experts_met(ModelConfig.preset("v2"), 21e9) == 6  # where the 6 comes from


@pytest.mark.parametrize("experts", [1, 2, 5, 16])
def test_experts_met_finds_what_the_count_was_made_with(experts: int) -> None:
    mini = ModelConfig.preset("mini")
    assert experts_met(mini, active_with(mini, experts) + 1) == experts


def test_width_7168_not_7160() -> None:
    """Every matrix with the width on one side: linear in it."""
    at = {width: total_at_width(V3, width) for width in (7160, 7168, 7176)}
    assert at[7168] == V3.parameter_counts()["total"]
    assert at[7176] - at[7168] == at[7168] - at[7160]
    assert [f"{at[width] / 1e9:.2f}" for width in (7168, 7160)] == ["671.03", "670.28"]
    assert math.gcd(7168, 128) == 128 > math.gcd(7160, 128)


def test_layers_with_experts() -> None:
    assert moe_layers(V3) == sum(V3.is_moe(layer) for layer in range(V3.n_layers)) == 58


def test_a_gpus_share_of_the_routed_experts() -> None:
    assert routed_per_gpu(V3, 64, 16) == 58 * 256 * EXPERT / 1024
    assert f"{routed_per_gpu(V3, 64, 16) / 1e9:.3f}" == "0.639"
    assert routed_per_gpu(V3, 64, 16, copies=2) == 2 * routed_per_gpu(V3, 64, 16)


def test_logfmt_is_not_fp8() -> None:
    """The levels of both codes written out: E4M3's up to 448, and 127 in a geometric row."""
    x = np.arange(1, 129) / 128
    e4m3 = np.array([m / 8 * 2.0**e for e in range(-6, 9) for m in range(8, 16)][:-1]) / 448
    geometric = np.exp(np.linspace(np.log(1 / 128), 0, 127))
    nearest = [levels[np.abs(levels[None] - x[:, None]).argmin(axis=1)] for levels in (e4m3, geometric)]
    apart = np.abs(nearest[0] - nearest[1]) > 1e-6
    assert values_told_apart(128) == apart.sum() == 116


def test_two_softmax_rows_sum_to_two() -> None:
    assert sum_of_softmax_rows(rows=2, keys=64) == 2
    assert sum_of_softmax_rows(rows=1, keys=64) == 1
    scores = np.sin(np.arange(128).reshape(2, 64))
    assert softmax(scores.sum(axis=0)).sum() == pytest.approx(1)  # what V3 does: add scores, one softmax
    assert softmax(scores, axis=1).sum() == pytest.approx(2)


def test_sums_in_fp8_need_promotion() -> None:
    h800 = load_hardware("h800")
    alone, promoted = accumulation_error(h800, 4096), accumulation_error(h800, 4096, 128)
    assert 0.05 < alone < 0.1
    assert promoted < alone / 50
    assert accumulation_error(h800, 512) < alone
