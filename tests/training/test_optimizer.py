"""The update against a loop in float64; clipping; the sign rule; the moving average."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import configs, rngs

from minidsv3.config import ModelConfig, TrainConfig
from minidsv3.model.parameters import MoEWeights, Parameters
from minidsv3.training.optimizer import Optimizer, max_violation, move_bias, move_biases


def adamw_one(w: float, gradients: list[float], rates: list[float], plan: TrainConfig, decay: float) -> float:
    """One number through AdamW (Loshchilov & Hutter 2019, algorithm 2), a step a gradient."""
    m = v = 0.0
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        m = plan.beta1 * m + (1 - plan.beta1) * g
        v = plan.beta2 * v + (1 - plan.beta2) * g * g
        m_hat, v_hat = m / (1 - plan.beta1**t), v / (1 - plan.beta2**t)
        w = w - rate * decay * w - rate * m_hat / (math.sqrt(v_hat) + plan.eps)
    return w


@settings(max_examples=15)
@given(configs(n_mtp_layers=1), rngs, st.sampled_from([0.01, 1.0, 1e9]))
def test_steps_are_adamw_number_by_number(config: ModelConfig, rng: np.random.Generator, clip: float) -> None:
    """Matrices decay, gains do not, biases stay; a gradient longer than the limit is shortened to it."""
    plan, parameters = TrainConfig(clip_norm=clip), Parameters(config)
    parameters.buffer[...] = rng.normal(size=parameters.buffer.shape)
    start, optimizer, used, rates = (
        parameters.buffer.copy(),
        Optimizer(parameters, plan),
        [],
        [0.1, 0.03, 0.02],
    )
    for t, rate in enumerate(rates, 1):
        gradients = parameters.like()
        gradients.buffer[: parameters.trained] = rng.normal(size=parameters.trained)
        norm = optimizer.norm(gradients)
        assert norm == pytest.approx(
            np.linalg.norm(gradients.buffer[: parameters.trained].astype("d")), rel=1e-5
        )
        used.append(gradients.buffer * min(1, clip / norm))
        optimizer.step(gradients, norm, t, rate)
    for i in rng.integers(parameters.trained, size=40):
        decay = plan.weight_decay if i < parameters.decayed else 0.0
        expected = adamw_one(float(start[i]), [float(g[i]) for g in used], rates, plan, decay)
        assert parameters.buffer[i] == pytest.approx(expected, rel=1e-4, abs=2e-5)
    np.testing.assert_array_equal(parameters.buffer[parameters.trained :], start[parameters.trained :])


def test_the_average_follows_the_parameters() -> None:
    """average += (1 - decay) (w - average), with a decay that grows from 1/11 up to the plan's."""
    plan, parameters = TrainConfig(ema_decay=0.2), Parameters(ModelConfig.preset("nano", n_layers=1))
    optimizer = Optimizer(parameters, plan)
    expected = 0.0
    for t in range(1, 6):
        parameters.buffer[...] = t
        optimizer.step(parameters.like(), 0.0, t, 0.0)
        decay = min(0.2, t / (t + 10))
        expected += (1 - decay) * (t - expected)
        np.testing.assert_allclose(optimizer.average.buffer, expected, rtol=1e-6)


def test_the_average_starts_as_the_parameters() -> None:
    parameters = Parameters.initialise(ModelConfig.preset("nano", n_layers=1), np.random.default_rng(0))
    average = Optimizer(parameters, TrainConfig()).average
    np.testing.assert_array_equal(average.buffer, parameters.buffer)
    assert not np.shares_memory(average.buffer, parameters.buffer)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=16), st.floats(0.001, 1))
def test_the_sign_rule_moves_each_bias_by_gamma_or_not_at_all(loads: list[int], gamma: float) -> None:
    bias = np.zeros(len(loads), "f")
    move_bias(bias, np.array(loads), gamma)
    mean = sum(loads) / len(loads)
    expected = [0 if load == mean else (gamma if load < mean else -gamma) for load in loads]
    np.testing.assert_allclose(bias, expected, rtol=1e-6)


def test_each_layer_moves_by_its_own_load_modules_last() -> None:
    config = ModelConfig.preset("nano", n_layers=3)  # layers 1, 2 and the MTP block have experts
    parameters = Parameters(config)
    loads = np.tile(np.arange(16), (3, 1)) * [[1], [-1], [0]]
    move_biases(parameters, loads, 0.5)
    w = parameters.weights
    blocks = [block.ffn for block in (*w.layers, w.mtp[0].block) if isinstance(block.ffn, MoEWeights)]
    up = np.where(np.arange(16) < 8, 0.5, -0.5)
    for ffn, expected in zip(blocks, (up, -up, 0 * up), strict=True):
        np.testing.assert_array_equal(ffn.bias, expected)


def test_routers_without_a_bias_are_left_alone() -> None:
    config = ModelConfig.preset("nano", n_layers=2, score_func="softmax", topk_method="greedy")
    parameters = Parameters(config)
    parameters.buffer[...] = 1
    move_biases(parameters, np.tile(np.arange(16), (2, 1)), 0.5)
    assert (parameters.buffer == 1).all()
    assert parameters.trained == parameters.buffer.size


def test_repeating_the_sign_rule_balances_a_lopsided_router() -> None:
    from minidsv3.model.gate import route

    config, rng = ModelConfig.preset("nano"), np.random.default_rng(0)
    lean, bias, violations = np.linspace(-1, 1, 16), np.zeros(16, "f"), []
    for _ in range(300):
        z = (rng.normal(size=(256, 16)) + lean).astype("f")
        load = np.bincount(route(z, bias, config).indices.ravel(), minlength=16)
        violations.append(float(max_violation(load)[0]))
        move_bias(bias, load, 0.005)
    assert np.mean(violations[:5]) > 1
    assert np.mean(violations[-20:]) < 0.25


def test_max_violation_is_the_largest_load_over_the_mean_minus_one() -> None:
    loads = np.array([[4, 4, 4, 4], [8, 4, 4, 0], [16, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(max_violation(loads)[:3], [0, 1, 3])
