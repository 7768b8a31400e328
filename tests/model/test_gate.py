"""The routers of V3 and V2 against the reports' text read aloud, and what they must never do."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import configs, parameters_of, rngs

from minidsv3.config import ModelConfig
from minidsv3.machine import Machine
from minidsv3.model.block import Options, balance_load, moe_forward
from minidsv3.model.experts import experts_decode, experts_forward
from minidsv3.model.gate import Routing, route
from minidsv3.model.parameters import MoEWeights

MACHINE = Machine(dtype="float64")
moe_configs = configs(n_dense_layers=0)
v3_configs = configs(n_dense_layers=0, topk_method="noaux_tc")
ROUTERS = list(itertools.product(["sigmoid", "softmax"], ["noaux_tc", "group_limited_greedy", "greedy"]))


def scores_of(z: list[float], config: ModelConfig) -> list[float]:
    if config.score_func == "softmax":
        return [math.exp(x) / sum(math.exp(y) for y in z) for x in z]
    return [1 / (1 + math.exp(-x)) for x in z]


def route_one(z: list[float], bias: list[float], config: ModelConfig) -> dict[int, float]:
    """One token by the reports' text: weights by chosen expert.

    V3: section 2.1.2, eqs. 13-16. V2: arXiv 2405.04434, eqs. 20-22 and section 2.2.2, where the groups are
    the devices with the highest affinity scores; V2-Lite chooses among all.
    """
    scores, size = scores_of(z, config), config.n_routed_experts // config.n_expert_groups
    groups = [list(range(g * size, (g + 1) * size)) for g in range(config.n_expert_groups)]
    if config.topk_method == "noaux_tc":
        choice = [s + b for s, b in zip(scores, bias, strict=True)]
        groups.sort(key=lambda members: -sum(sorted(choice[e] for e in members)[-2:]))
        groups = groups[: config.n_limited_groups]
    elif config.topk_method == "group_limited_greedy":
        choice = scores
        groups.sort(key=lambda members: -max(choice[e] for e in members))
        groups = groups[: config.n_limited_groups]
    else:
        choice = scores
    allowed = [e for members in groups for e in members]
    chosen = sorted(allowed, key=lambda e: -choice[e])[: config.n_activated_experts]
    total = sum(scores[e] for e in chosen) if config.norm_topk_prob else 1
    return {e: config.route_scale * scores[e] / total for e in chosen}


@pytest.mark.parametrize(("score", "method"), ROUTERS)
@settings(max_examples=40)
@given(data=st.data(), rng=rngs, T=st.integers(1, 12), shift=st.sampled_from([0.0, 0.3, -2.0]))
def test_route_does_what_the_reports_say(
    score: str, method: str, data: st.DataObject, rng: np.random.Generator, T: int, shift: float
) -> None:
    """Also with biases so low that every biased score is negative: a masked expert still never wins."""
    config = data.draw(configs(n_dense_layers=0, score_func=score, topk_method=method))
    z = rng.normal(size=(T, config.n_routed_experts))
    bias = rng.normal(shift, 0.2, config.n_routed_experts)
    routing = route(z, bias, config)
    for t in range(T):
        expected = route_one(z[t].tolist(), bias.tolist(), config)
        assert routing.indices[t].tolist() == list(expected)  # best first
        np.testing.assert_allclose(routing.weights[t], list(expected.values()), rtol=1e-12)
        np.testing.assert_allclose(routing.scores[t], scores_of(z[t].tolist(), config), rtol=1e-12)


@settings(max_examples=50)
@given(moe_configs, rngs, st.integers(1, 12))
def test_choices_are_distinct_and_within_the_kept_groups(
    config: ModelConfig, rng: np.random.Generator, T: int
) -> None:
    E, K = config.n_routed_experts, config.n_activated_experts
    routing = route(rng.normal(size=(T, E)), rng.normal(-3, 1, E), config)
    size = E // config.n_expert_groups
    for chosen in routing.indices:
        assert len(set(chosen.tolist())) == K
        if config.topk_method != "greedy":
            assert len({e // size for e in chosen.tolist()}) <= config.n_limited_groups
    if config.norm_topk_prob:
        np.testing.assert_allclose(routing.weights.sum(axis=1), config.route_scale, rtol=1e-12)


@settings(max_examples=50)
@given(v3_configs, rngs)
def test_the_bias_moves_choices_and_never_weights(config: ModelConfig, rng: np.random.Generator) -> None:
    z = rng.normal(size=(6, config.n_routed_experts))
    routing = route(z, rng.normal(size=config.n_routed_experts), config)
    chosen = np.take_along_axis(routing.scores, routing.indices, axis=1)
    total = chosen.sum(axis=1, keepdims=True) if config.norm_topk_prob else 1
    np.testing.assert_allclose(routing.weights, config.route_scale * chosen / total, rtol=1e-12)
    same = route(z, np.full(config.n_routed_experts, 0.7), config)
    np.testing.assert_array_equal(same.indices, route(z, None, config).indices)


@settings(max_examples=20)
@given(configs(n_dense_layers=0, topk_method="greedy") | configs(topk_method="group_limited_greedy"), rngs)
def test_v2s_choice_reads_no_bias(config: ModelConfig, rng: np.random.Generator) -> None:
    z, bias = rng.normal(size=(2, 6, config.n_routed_experts))
    for a, b in zip(route(z, bias[0], config), route(z, None, config), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not [name for name in config.tensor_shapes() if name.endswith("bias")]
    assert parameters_of(config, rng).trained == parameters_of(config, rng).buffer.size


def test_the_methods_differ_where_one_expert_stands_out() -> None:
    """Group 0 has the best expert, group 1 the best two together."""
    z = np.array([[3.0, -3.0, 2.0, 2.0]])
    sizes = {"n_routed_experts": 4, "n_expert_groups": 2, "n_limited_groups": 1, "n_activated_experts": 2}
    found = {
        method: sorted(route(z, None, ModelConfig.preset("nano", **sizes, topk_method=method)).indices[0])
        for method in ("noaux_tc", "group_limited_greedy", "greedy")
    }
    assert found == {"noaux_tc": [2, 3], "group_limited_greedy": [0, 1], "greedy": [0, 2]}


def test_v2s_weights_are_scaled_and_not_renormalised() -> None:
    config = ModelConfig.preset("v2")
    routing = route(np.random.default_rng(0).normal(size=(5, 160)), None, config)
    chosen = np.take_along_axis(routing.scores, routing.indices, axis=1)
    np.testing.assert_allclose(routing.scores.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(routing.weights, 16 * chosen)
    assert all(len({e // 20 for e in row}) <= 3 for row in routing.indices.tolist())


def test_a_pushed_expert_is_chosen_by_every_token() -> None:
    config = ModelConfig.preset("nano")
    z = np.random.default_rng(0).normal(size=(50, 16))
    bias = np.zeros(16)
    bias[5] = 5
    assert (route(z, bias, config).indices[:, 0] == 5).all()


def test_ties_go_to_the_lower_expert_for_few_tokens_and_for_many() -> None:
    config = ModelConfig.preset("nano")
    for T in (1, 100):
        assert (route(np.zeros((T, 16)), np.zeros(16), config).indices == [0, 1, 2, 3]).all()


def test_saturated_scores_give_finite_weights() -> None:
    for score in ("sigmoid", "softmax"):
        config = ModelConfig.preset("nano", score_func=score)
        for z in (-200.0, 200.0):
            assert np.isfinite(route(np.full((2, 16), z, "f"), np.zeros(16, "f"), config).weights).all()
        lonely = np.zeros((2, 16), "f")
        lonely[:, 3] = 300  # all others underflow
        assert np.isfinite(route(lonely, None, config).weights).all()


@pytest.mark.parametrize(("scores", "bias"), [((3, 15), 16), ((16,), 16), ((3, 16), 15)])
def test_wrong_shapes_are_named(scores: tuple[int, ...], bias: int) -> None:
    with pytest.raises(ValueError, match=r"expected scores \[T, E=16\] and bias \[E=16\], got"):
        route(np.zeros(scores), np.zeros(bias), ModelConfig.preset("nano"))


@settings(max_examples=30)
@given(configs(n_dense_layers=0, n_expert_groups=1, n_limited_groups=1), rngs)
def test_experts_have_no_order(config: ModelConfig, rng: np.random.Generator) -> None:
    """Permuting experts with their centroids and biases leaves the output as it is."""
    w = parameters_of(config, rng).weights.layers[0].ffn
    assert isinstance(w, MoEWeights)
    u, order = rng.normal(size=(7, config.dim)), rng.permutation(config.n_routed_experts)
    bias = None if w.bias is None else w.bias[order]
    other = MoEWeights(w.e[order], bias, w.W_gate_up[order], w.W_down[order], w.shared)
    out, saved = moe_forward(MACHINE, u, w, config, 1, Options())
    permuted, again = moe_forward(MACHINE, u, other, config, 1, Options())
    np.testing.assert_allclose(out, permuted, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(saved.routing.indices, order[again.routing.indices])


@settings(max_examples=30)
@given(moe_configs, rngs, st.integers(1, 12))
def test_a_mixture_is_the_sum_over_chosen_experts(
    config: ModelConfig, rng: np.random.Generator, N: int
) -> None:
    """Equation 12, a token and an expert at a time; the shared expert unscaled."""
    w = parameters_of(config, rng).weights.layers[0].ffn
    assert isinstance(w, MoEWeights)
    u = rng.normal(size=(N, config.dim))
    out, saved = moe_forward(MACHINE, u, w, config, 1, Options())

    def swiglu(x: np.ndarray, both: np.ndarray, down: np.ndarray) -> np.ndarray:
        gate, up = np.split(both @ x, 2)
        return down @ (gate / (1 + np.exp(-gate)) * up)

    for t in range(N):
        expected = np.zeros(config.dim) if w.shared is None else swiglu(u[t], *w.shared)
        for e, g in zip(saved.routing.indices[t], saved.routing.weights[t], strict=True):
            expected += g * swiglu(u[t], w.W_gate_up[e], w.W_down[e])
        np.testing.assert_allclose(out[t], expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=30)
@given(moe_configs, rngs)
def test_one_token_gets_the_same_bits_without_sorting(config: ModelConfig, rng: np.random.Generator) -> None:
    w = parameters_of(config, rng).weights.layers[0].ffn
    E, K = config.n_routed_experts, config.n_activated_experts
    routing = Routing(rng.permutation(E)[None, :K], rng.normal(size=(1, K)), np.empty((1, E)))
    u = rng.normal(size=(1, config.dim))
    many, _ = experts_forward(MACHINE, u, routing, w.W_gate_up, w.W_down)
    np.testing.assert_array_equal(experts_decode(MACHINE, u, routing, w.W_gate_up, w.W_down), many)


@settings(max_examples=50)
@given(rngs, st.integers(1, 3), st.integers(1, 6), st.integers(2, 6), st.data())
def test_the_balance_loss_is_equations_17_to_20(
    rng: np.random.Generator, B: int, T: int, E: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, E))
    scores = rng.uniform(0.05, 1, size=(B, T, E))
    assume(len(np.unique(scores)) == scores.size)
    used = np.array([[rng.permutation(E)[:k] for _ in range(T)] for _ in range(B)])
    for indices in (None, used):
        load = balance_load(scores, indices, k)
        loss, _ = MACHINE.balance(scores, load, at="balance.loss")
        for b in range(B):
            expected = 0.0
            for i in range(E):
                f = P = 0.0
                for t in range(T):
                    best = np.argsort(scores[b, t])[E - k :] if indices is None else indices[b, t]
                    f += E / (k * T) * (i in best)  # eq. 18
                    P += scores[b, t, i] / scores[b, t].sum() / T  # eqs. 19, 20
                expected += f * P  # eq. 17
            assert loss[b] == pytest.approx(expected, rel=1e-12)


@settings(max_examples=30)
@given(
    configs(n_layers=1, n_dense_layers=0, score_func="softmax"), rngs, st.integers(1, 3), st.integers(1, 5)
)
def test_the_balance_loss_of_softmax_scores_is_v2s(
    config: ModelConfig, rng: np.random.Generator, B: int, T: int
) -> None:
    """arXiv 2405.04434, eqs. 23-25, a sequence at a time: P is the mean of the softmax itself."""
    w, (E, K) = (
        parameters_of(config, rng).weights.layers[0].ffn,
        (config.n_routed_experts, config.n_activated_experts),
    )
    assert isinstance(w, MoEWeights)
    options = Options(balance_weight=1.0, balance_counts="routed")
    _, saved = moe_forward(MACHINE, rng.normal(size=(B * T, config.dim)), w, config, B, options)
    scores = saved.routing.scores.reshape(B, T, E)
    chosen = (saved.routing.indices.reshape(B, T, K)[..., None] == np.arange(E)).any(axis=2)  # [B, T, E]
    f, P = E / (K * T) * chosen.sum(axis=1), scores.mean(axis=1)
    np.testing.assert_allclose(saved.balance_loss, (f * P).sum(axis=1), rtol=1e-12)


def test_a_balanced_load_costs_one() -> None:
    scores = np.full((1, 4, 4), 0.5)
    load = balance_load(scores, np.array([[[0], [1], [2], [3]]]), 1)
    assert MACHINE.balance(scores, load, at="balance.loss")[0] == pytest.approx(1)


def test_whole_numbers_are_scores_too() -> None:
    config = ModelConfig.preset("nano")
    routing = route(np.arange(16)[None] - 8, np.zeros(16), config)
    assert routing.indices.tolist() == [[15, 14, 13, 12]]


def test_an_expert_switched_off_by_its_bias_is_never_chosen_while_others_are_left() -> None:
    config = ModelConfig.preset("nano")
    bias = np.full(16, -np.inf)
    bias[:6] = 0
    for T in (2, 30):
        chosen = route(np.random.default_rng(0).normal(size=(T, 16)), bias, config).indices
        assert (chosen < 6).all()
        assert all(len(set(row)) == 4 for row in chosen.tolist())
