"""Codecs and gradient formats on a small model, and that the rounding goes where it should."""

import numpy as np
import pytest

from minidsv3.config import ModelConfig
from minidsv3.machine import Machine
from minidsv3.model.parameters import Parameters
from minidsv3.numerics.formats import FP32
from minidsv3.training.experiments import (
    BRANCHES,
    LOSS,
    _rounded,
    activation_codecs,
    activations,
    gradient_errors,
    linear_gradients,
)
from minidsv3.training.gradients import accumulate

CONFIG = ModelConfig.preset("nano", n_layers=2, vocab_size=256)
PARAMETERS = Parameters.initialise(CONFIG, np.random.default_rng(0))
IDS = np.random.default_rng(1).integers(0, 256, (2, 33))


def test_activations_are_those_of_every_layer_and_expert() -> None:
    found = activations(PARAMETERS, IDS, ["mla.out", "experts.down"])
    positions = 2 * (32 * 2 + 31)  # two layers, and the MTP module, which has one position less
    assert found["mla.out"].shape == (positions, CONFIG.dim)
    chosen = 2 * (32 + 31) * CONFIG.n_activated_experts
    assert found["experts.down"].shape == (chosen, CONFIG.dim)
    with pytest.raises(ValueError, match=r"did you mean 'mla\.out'"):
        activations(PARAMETERS, IDS, ["mla.outt"])


def test_rows_of_several_widths_stay_apart() -> None:
    found = activations(PARAMETERS, IDS, ["mla.softmax", "mla.out"])
    assert list(found) == ["mla.softmax [32]", "mla.softmax [31]", "mla.out"]
    assert all(name.endswith(f"[{x.shape[1]}]") for name, x in list(found.items())[:2])


def test_codecs_order_as_their_bits_do() -> None:
    rows = activation_codecs(PARAMETERS, IDS)
    assert [row.op for row in rows] == list(BRANCHES)
    for row in rows:
        error = {name: found.relative_rms for name, found in row.errors.items()}
        assert error["BF16"] < error["E5M6"] < error["E4M3"] < error["E5M2"]
        assert error["LogFMT-10"] < error["LogFMT-8"] < error["E4M3"], row.op
        assert error["LogFMT-8"] == pytest.approx(4 * error["LogFMT-10"], rel=0.1)


@pytest.mark.slow
def test_a_narrower_fraction_and_wider_blocks_cost_the_gradient() -> None:
    rows = {row.way: row for row in gradient_errors(PARAMETERS, IDS, 32)}
    assert rows["BF16"].gradient < rows["E4M3 1x32"].gradient < rows["E5M2 1x32"].gradient
    assert rows["E4M3 1x32"].gradient < 0.1
    assert rows["E4M3 no scale"].gradient > 3 * rows["E4M3 1x32"].gradient
    for op, tile in rows["E4M3 1x32"].by_op.items():
        assert tile.relative_rms <= rows["E4M3 32x32"].by_op[op].relative_rms
        assert tile.relative_rms < rows["E5M2 1x32"].by_op[op].relative_rms
    assert all(row.worst_tensor >= row.gradient for row in rows.values())
    assert not [op for op in rows["BF16"].by_op if op.startswith(("head", "gate"))]


def test_rounding_to_what_is_there_already_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minidsv3.training.experiments.gradient_ways", lambda width: {"FP32": FP32.round})
    (row,) = gradient_errors(PARAMETERS, IDS, 32)
    assert row.gradient < 1e-6  # two threads add in another order
    assert {error.relative_rms for error in row.by_op.values()} == {0.0}


def test_the_kept_gradient_is_the_models() -> None:
    _, gradient = linear_gradients(PARAMETERS, IDS)
    expected = PARAMETERS.like()
    accumulate(PARAMETERS, IDS, LOSS, expected)
    np.testing.assert_allclose(gradient, expected.buffer, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_experts_gradients_are_measured_and_rounded_too() -> None:
    entering, _ = linear_gradients(PARAMETERS, IDS)
    config, (B, T) = PARAMETERS.config, IDS[:, 1:].shape
    tokens = B * (T * (config.n_layers - config.n_dense_layers) + (T - 1) * config.n_mtp_layers)
    for op in ("experts.gate_up", "experts.down"):
        assert len(entering[op]) == tokens * config.n_activated_experts
    gradient = PARAMETERS.like()
    accumulate(PARAMETERS, IDS, LOSS, gradient, Machine(policy=_rounded(np.zeros_like)))
    changed = [name for name in gradient if ".experts." in name and gradient[name].any()]
    assert not changed
    assert any(".experts." in name for name in gradient)
