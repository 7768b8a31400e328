"""Every forward of the model has a backward that passes central differences; none goes without a case."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from finite_differences import Pair, Run, check, flat
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Array, attention_of, configs, parameters_of, rngs, turns

import minidsv3.model
import minidsv3.model.mla as mla_module
from minidsv3.config import ModelConfig, RopeScaling, mtp_conventions
from minidsv3.machine import Machine
from minidsv3.model.block import (
    BlockSaved,
    MoESaved,
    Options,
    block_backward,
    block_forward,
    moe_backward,
    moe_forward,
)
from minidsv3.model.comparators import GQAWeights, gqa_backward, gqa_forward
from minidsv3.model.experts import (
    DENSE,
    SHARED,
    ExpertGradients,
    experts_backward,
    experts_forward,
    ffn_backward,
    ffn_forward,
)
from minidsv3.model.gate import Routing, gate_backward, gate_forward
from minidsv3.model.mla import (
    mla_absorbed_backward,
    mla_absorbed_forward,
    mla_naive_backward,
    mla_naive_forward,
)
from minidsv3.model.mtp import mtp_backward, mtp_forward
from minidsv3.model.parameters import FFNWeights, MoEWeights, Parameters
from minidsv3.model.transformer import LossOptions, LossSaved, loss_backward, loss_forward

MACHINE = Machine(dtype="float64")
COUNTS = st.sampled_from(["top-k of scores", "routed"])
ALPHA = st.sampled_from([0.0, 0.5])
batches = st.tuples(st.integers(1, 3), st.integers(1, 5))  # B, T


@pytest.fixture(autouse=True, scope="module")
def _short_blocks() -> Iterator[None]:
    """Blocks of two queries, so that short sequences have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mla_module, "QUERY_BLOCK", 2)
        yield


def mla(draw: Any, forward: Callable[..., Any], backward: Callable[..., Any]) -> Pair:
    rng, config, (B, T) = draw(rngs), draw(configs()), draw(batches)
    w = attention_of(config, rng)
    h, rotation = rng.normal(size=(B * T, config.dim)), turns(T, config.qk_rope_head_dim)

    def run() -> Run:
        u, saved = forward(MACHINE, h, w, rotation, 0.4, B)
        return Run([u], saved)

    return Pair([h, *flat(w)], run, lambda d, saved: flat(backward(MACHINE, d[0], saved)))


def mla_naive(draw: Any) -> Pair:
    return mla(draw, mla_naive_forward, mla_naive_backward)


def mla_absorbed(draw: Any) -> Pair:
    return mla(draw, mla_absorbed_forward, mla_absorbed_backward)


def gqa(draw: Any) -> Pair:
    """G = 1 is multi-query attention, one head a group multi-head."""
    rng, (B, T) = draw(rngs), draw(batches)
    G, per_group, half, D = (draw(st.integers(1, 3)) for _ in range(4))
    w = gqa_weights(rng, G * per_group, G, 2 * half, D)
    h, rotation = rng.normal(size=(B * T, D)), turns(T, 2 * half)

    def run() -> Run:
        u, saved = gqa_forward(MACHINE, h, w, rotation, 0.6, B)
        return Run([u], saved)

    return Pair([h, *flat(w)], run, lambda d, saved: flat(gqa_backward(MACHINE, d[0], saved)))


def gqa_weights(rng: np.random.Generator, H: int, G: int, d: int, D: int) -> GQAWeights:
    shapes = [(H, d, D), (G, d, D), (G, d, D), (D, H * d)]
    return GQAWeights(*(rng.normal(size=shape) for shape in shapes))


def ffn(draw: Any) -> Pair:
    rng, N, D, M = draw(rngs), *(draw(st.integers(1, 6)) for _ in range(3))
    w = FFNWeights(rng.normal(size=(2 * M, D)), rng.normal(size=(D, M)))
    u = rng.normal(size=(N, D))

    def run() -> Run:
        y, saved = ffn_forward(MACHINE, u, w, DENSE)
        return Run([y], saved)

    return Pair([u, *w], run, lambda d, saved: flat(ffn_backward(MACHINE, d[0], saved)))


def moe_weights(config: ModelConfig, rng: np.random.Generator) -> MoEWeights:
    w = parameters_of(config, rng).weights.layers[-1].ffn
    assert isinstance(w, MoEWeights)
    return w


def gate(draw: Any) -> Pair:
    rng, config, N = draw(rngs), draw(configs(n_dense_layers=0)), draw(st.integers(1, 6))
    w, u = moe_weights(config, rng), rng.normal(size=(N, config.dim))
    push = rng.normal(size=(N, config.n_routed_experts)) if draw(st.booleans()) else None

    def run() -> Run:
        routing, saved = gate_forward(MACHINE, u, w.e, w.bias, config)
        extra = 0.0 if push is None else float(np.sum(push * routing.scores))
        return Run([routing.weights], saved, extra, [routing.indices])

    def back(d: Any, saved: Any) -> Any:
        return gate_backward(MACHINE, d[0], saved, None if push is None else push.copy())

    return Pair([u, w.e], run, back)


def experts(draw: Any) -> Pair:
    """The weights are leaves as well; few tokens leave experts without any."""
    rng, config, N = draw(rngs), draw(configs(n_dense_layers=0)), draw(st.integers(1, 12))
    w, u = moe_weights(config, rng), rng.normal(size=(N, config.dim))
    E, K = config.n_routed_experts, config.n_activated_experts
    indices = np.array([rng.permutation(E)[:K] for _ in range(N)])
    routing = Routing(indices, rng.normal(size=(N, K)), np.empty((N, E)))
    into = ExpertGradients(np.full_like(w.W_gate_up, np.nan), np.full_like(w.W_down, np.nan))

    def run() -> Run:
        y, saved = experts_forward(MACHINE, u, routing, w.W_gate_up, w.W_down)
        return Run([y], saved)

    given_space = draw(st.booleans())

    def back(d: Any, saved: Any) -> Any:
        return flat(experts_backward(MACHINE, d[0], saved, into if given_space else None))

    return Pair([u, routing.weights, w.W_gate_up, w.W_down], run, back)


def choices(parts: list[BlockSaved]) -> list[Array]:
    """What a pass over blocks chose: experts, and the loads that eq. 18 counts."""
    moe = [part.ffn for part in parts if isinstance(part.ffn, MoESaved)]
    return [part.routing.indices for part in moe] + [
        part.balance.load for part in moe if part.balance is not None
    ]


def moe(draw: Any) -> Pair:
    rng, config, (B, T) = draw(rngs), draw(configs(n_dense_layers=0)), draw(batches)
    w, u = moe_weights(config, rng), rng.normal(size=(B * T, config.dim))
    options = Options(draw(ALPHA), draw(COUNTS))

    def run() -> Run:
        y, saved = moe_forward(MACHINE, u, w, config, B, options)
        loss = options.balance_weight * float(saved.balance_loss.mean()) if saved.balance is not None else 0.0
        load = [] if saved.balance is None else [saved.balance.load]
        return Run([y], saved, loss, [saved.routing.indices, *load])

    return Pair([u, *flat(w)], run, lambda d, saved: flat(moe_backward(MACHINE, d[0], saved, options)))


def balance_of(parts: list[BlockSaved], options: Options | LossOptions) -> float:
    moe = [part.ffn for part in parts if isinstance(part.ffn, MoESaved)]
    return options.balance_weight * sum(
        float(part.balance_loss.mean()) for part in moe if part.balance is not None
    )


def block(draw: Any) -> Pair:
    rng, config, (B, T) = draw(rngs), draw(configs(n_layers=1)), draw(batches)
    w, x = parameters_of(config, rng).weights.layers[0], rng.normal(size=(B * T, config.dim))
    options, rotation = Options(draw(ALPHA), draw(COUNTS)), turns(T, config.qk_rope_head_dim)

    def run() -> Run:
        y, saved = block_forward(MACHINE, x, w, rotation, config, B, options)
        return Run([y], saved, balance_of([saved], options), choices([saved]))

    return Pair([x, *flat(w)], run, lambda d, saved: flat(block_backward(MACHINE, d[0], saved, options)))


CONVENTIONS = {
    "mtp_order": st.sampled_from(["embedding-first", "state-first"]),
    "mtp_state_after_norm": st.booleans(),
    "mtp_chain_after_norm": st.booleans(),
}


def mtp(draw: Any) -> Pair:
    rng, (B, T) = draw(rngs), draw(batches)
    config = draw(
        configs(n_layers=1, n_mtp_layers=1, **{name: draw(way) for name, way in CONVENTIONS.items()})
    )
    w = parameters_of(config, rng).weights.mtp[0]
    embedded, state = rng.normal(size=(2, B * T, config.dim))
    options, rotation = Options(draw(ALPHA), draw(COUNTS)), turns(T, config.qk_rope_head_dim)
    last = draw(st.booleans())  # the last module passes nothing on

    def run() -> Run:
        normed, passed, saved = mtp_forward(MACHINE, embedded, state, w, rotation, config, B, options)
        outputs = [normed] if last else [normed, passed]
        return Run(outputs, saved, balance_of([saved.block], options), choices([saved.block]))

    def back(d: Any, saved: Any) -> Any:
        return flat(mtp_backward(MACHINE, d[0], None if last else d[1], saved, options))

    return Pair([embedded, state, *flat(w)], run, back)


def loss(draw: Any) -> Pair:
    """The whole training loss: two MTP depths, balance, both divisors; leaves are tensors by name."""
    rng, (B, T) = draw(rngs), draw(st.tuples(st.integers(1, 2), st.integers(3, 5)))
    depths = draw(st.integers(0, 2))
    config = draw(configs(n_mtp_layers=depths, **{name: draw(way) for name, way in CONVENTIONS.items()}))
    parameters, tokens = parameters_of(config, rng), rng.integers(config.vocab_size, size=(B, T + 1))
    options = LossOptions(
        draw(st.sampled_from([0.0, 0.3])), draw(st.sampled_from(["T", "T-k"])), draw(ALPHA), draw(COUNTS)
    )
    gradients = Parameters(config, np.full_like(parameters.buffer, np.nan))  # whatever it held
    names = sorted(draw(st.sets(st.sampled_from(list(parameters)), min_size=8, max_size=8)))

    def run() -> Run:
        losses, saved = loss_forward(MACHINE, parameters, tokens, options)
        parts = saved.main.blocks + [module.block for module in saved.mtp]
        return Run([], saved, losses["total"], choices(parts))

    def back(d: Any, saved: LossSaved) -> Any:
        loss_backward(MACHINE, saved, gradients)
        return [gradients.buffer, *(gradients[name] for name in names)]

    return Pair([parameters.buffer, *(parameters[name] for name in names)], run, back)


CASES: dict[str, Callable[[Any], Pair]] = {
    case.__name__: case
    for case in (mla_naive, mla_absorbed, gqa, gate, ffn, experts, moe, block, mtp, loss)
}  # fmt: skip


@pytest.mark.parametrize("convention", mtp_conventions())
@pytest.mark.parametrize("method", ["noaux_tc", "group_limited_greedy", "greedy"])
@pytest.mark.parametrize("score", ["sigmoid", "softmax"])
@settings(max_examples=2)
@given(data=st.data())
def test_the_whole_loss_of_every_router_and_convention(
    convention: str, method: str, score: str, data: st.DataObject
) -> None:
    """Two MTP depths, both losses, YaRN that scales cos and sin, with and without query latent."""
    rng, T = data.draw(rngs), 5
    scaling = data.draw(st.none() | st.just(RopeScaling(4.0, 3, 2.0, 0.1, mscale=0.7, mscale_all_dim=0.3)))
    fields = {"score_func": score, "topk_method": method, "n_mtp_layers": 2, "rope_scaling": scaling}
    config = data.draw(configs(**fields, rope_theta=10.0)).with_mtp_convention(convention)
    parameters, tokens = parameters_of(config, rng), rng.integers(config.vocab_size, size=(2, T + 1))
    options = LossOptions(0.3, balance_weight=0.5, balance_counts=data.draw(COUNTS))
    gradients = Parameters(config, np.full_like(parameters.buffer, np.nan))

    def run() -> Run:
        losses, saved = loss_forward(MACHINE, parameters, tokens, options)
        parts = saved.main.blocks + [module.block for module in saved.mtp]
        return Run([], saved, losses["total"], choices(parts))

    def back(d: Any, saved: LossSaved) -> Any:
        loss_backward(MACHINE, saved, gradients)
        return [gradients.buffer, gradients.buffer[: gradients.decayed]]

    check(Pair([parameters.buffer, parameters.buffer[: parameters.decayed]], run, back), rng)


def public_functions(ending: str) -> set[str]:
    """Names, without the ending, of the public functions defined in `minidsv3.model`."""
    found = set()
    for info in pkgutil.iter_modules(minidsv3.model.__path__):
        module = importlib.import_module(f"minidsv3.model.{info.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and name.endswith(ending) and not name.startswith("_"):
                found.add(name.removesuffix(ending))
    return found


def test_every_forward_has_a_backward_and_a_case() -> None:
    assert public_functions("_forward") == public_functions("_backward") == set(CASES)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=20)
@given(data=st.data())
def test_backward_passes_central_differences(name: str, data: st.DataObject) -> None:
    check(CASES[name](data.draw), np.random.default_rng(0))


def test_an_expert_that_no_token_reaches_has_gradient_zero() -> None:
    rng = np.random.default_rng(0)
    u, routing = rng.normal(size=(3, 4)), Routing(np.array([[0, 2]] * 3), np.ones((3, 2)), np.empty((3, 4)))
    _, saved = experts_forward(MACHINE, u, routing, rng.normal(size=(4, 6, 4)), rng.normal(size=(4, 4, 3)))
    into = ExpertGradients(np.full((4, 6, 4), np.nan), np.full((4, 4, 3), np.nan))
    _, _, d_w = experts_backward(MACHINE, np.ones((3, 4)), saved, into)
    for gradient in d_w:
        assert not gradient[[1, 3]].any()
        assert gradient[[0, 2]].all()


def test_modules_that_do_not_run_have_gradient_zero() -> None:
    config = ModelConfig.preset("nano", dim=8, vocab_size=16, n_layers=2, n_mtp_layers=2)
    parameters = parameters_of(config, np.random.default_rng(0))
    gradients = Parameters(config, np.full_like(parameters.buffer, np.nan))
    _, saved = loss_forward(MACHINE, parameters, np.arange(6)[None], LossOptions(mtp_weight=0))
    loss_backward(MACHINE, saved, gradients)
    assert np.isfinite(gradients.buffer).all()
    assert not any(
        gradients[name].any() for name in gradients if name.startswith(("model.layers.2", "model.layers.3"))
    )


def test_no_gradient_reaches_the_bias() -> None:
    config = ModelConfig.preset("nano", dim=8, vocab_size=16)
    parameters = parameters_of(config, np.random.default_rng(0))
    gradients = Parameters(config, np.full_like(parameters.buffer, np.nan))
    _, saved = loss_forward(MACHINE, parameters, np.arange(8)[None], LossOptions(0.3, balance_weight=1.0))
    loss_backward(MACHINE, saved, gradients)
    assert not gradients.buffer[gradients.trained :].any()


def test_shared_and_dense_networks_differ_in_their_ops_only() -> None:
    rng = np.random.default_rng(0)
    w, u = FFNWeights(rng.normal(size=(6, 4)), rng.normal(size=(4, 3))), rng.normal(size=(5, 4))
    results = [ffn_forward(MACHINE, u, w, ops)[0] for ops in (DENSE, SHARED)]
    np.testing.assert_array_equal(*results)
