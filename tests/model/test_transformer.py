"""What logits may depend on, and what each part of the loss is."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import configs, parameters_of, rngs

from minidsv3.config import ModelConfig, mtp_conventions
from minidsv3.interpreter import Model
from minidsv3.machine import Machine
from minidsv3.model.block import Options
from minidsv3.model.mtp import mtp_forward
from minidsv3.model.rope import rotations_for
from minidsv3.model.transformer import LossOptions, all_logits, expert_loads, loss_forward, main_states

MACHINE = Machine(dtype="float64")


@settings(max_examples=15)
@given(configs(n_mtp_layers=2), rngs, st.integers(0, 7))
def test_depth_k_at_position_i_sees_tokens_up_to_i_plus_k(
    config: ModelConfig, rng: np.random.Generator, changed: int
) -> None:
    """Exactly: everything from position changed - k on differs, nothing before it."""
    parameters, tokens = parameters_of(config, rng), rng.integers(config.vocab_size, size=(2, 8))
    before = all_logits(MACHINE, parameters, tokens, depths=2)
    other = tokens.copy()
    other[:, changed:] = (tokens[:, changed:] + 1) % config.vocab_size
    after = all_logits(MACHINE, parameters, other, depths=2)
    for k, (a, b) in enumerate(zip(before, after, strict=True)):
        assert a.shape == (2, 8 - k, config.vocab_size)
        first = max(changed - k, 0)
        np.testing.assert_allclose(a[:, :first], b[:, :first], rtol=1e-9, atol=1e-9)
        if first < 8 - k:
            assert not np.allclose(a[:, first], b[:, first], rtol=1e-9, atol=1e-9)


@settings(max_examples=10)
@given(configs(n_mtp_layers=1), rngs)
def test_sequences_of_a_batch_do_not_meet(config: ModelConfig, rng: np.random.Generator) -> None:
    parameters, tokens = parameters_of(config, rng), rng.integers(config.vocab_size, size=(3, 6))
    together = all_logits(MACHINE, parameters, tokens, depths=1)
    for b in range(3):
        alone = all_logits(MACHINE, parameters, tokens[b : b + 1], depths=1)
        for many, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(many[b], one[0], rtol=1e-9, atol=1e-9)


@settings(max_examples=15)
@given(configs(n_mtp_layers=2), rngs, st.sampled_from(["T", "T-k"]), st.data())
def test_losses_are_those_of_the_logits(
    config: ModelConfig, rng: np.random.Generator, divisor: str, data: st.DataObject
) -> None:
    """Equations 24 and 25 on the logits of the heads: depth k, position i, target token i + k + 1."""
    B, T = data.draw(st.tuples(st.integers(1, 3), st.integers(3, 7)))
    parameters, tokens = parameters_of(config, rng), rng.integers(config.vocab_size, size=(B, T + 1))
    options = LossOptions(0.3, divisor, balance_weight=0.01)
    losses, saved = loss_forward(MACHINE, parameters, tokens, options)
    total = losses["balance"]
    for k, logits in enumerate(all_logits(MACHINE, parameters, tokens[:, :-1], depths=2)):
        p = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
        sum_ = -sum(np.log(p[b, i, tokens[b, i + k + 1]]) for b in range(B) for i in range(T - k))
        if k:
            assert losses[f"mtp_{k}"] == pytest.approx(sum_ / (B * T))  # as printed
            assert losses[f"mtp_{k}_mean"] == pytest.approx(sum_ / (B * (T - k)))
            total += 0.3 / 2 * losses[f"mtp_{k}" if divisor == "T" else f"mtp_{k}_mean"]
        else:
            assert losses["main"] == pytest.approx(sum_ / (B * T))
            total += losses["main"]
    assert losses["total"] == pytest.approx(total, rel=1e-12)
    loads = expert_loads(saved)
    expected = [B * T] * (config.n_layers - config.n_dense_layers) + [B * (T - 1), B * (T - 2)]
    assert loads.sum(axis=1).tolist() == [n * config.n_activated_experts for n in expected]


def test_the_conventions_of_multi_token_prediction_differ() -> None:
    """Each changes what depth 2 says; the first two change depth 1 as well."""
    base: dict[str, Any] = {"dim": 8, "vocab_size": 16, "n_layers": 2, "n_mtp_layers": 2}
    tokens = np.arange(8)[None]

    def depths(**changes: Any) -> list[np.ndarray]:
        config = ModelConfig.preset("nano", **base, **changes)
        return all_logits(MACHINE, parameters_of(config, np.random.default_rng(0)), tokens, depths=2)

    plain = depths()
    for changes, from_depth in (
        ({"mtp_order": "state-first"}, 1),
        ({"mtp_state_after_norm": False}, 1),
        ({"mtp_chain_after_norm": False}, 2),
    ):
        other = depths(**changes)
        same = [np.allclose(a, b) for a, b in zip(plain, other, strict=True)]
        assert same == [k < from_depth for k in range(3)], changes


# depth 1 changes with the order and with where h^0 is taken, depth 2 also with what is passed on
CHANGES = {"h0_post_chain_post": 3, "h0_post_chain_pre": 2, "h0_pre_chain_pre": 1, "as_printed": 1}


@pytest.mark.parametrize("name", CHANGES)
def test_each_named_convention_changes_the_depths_it_concerns(name: str) -> None:
    base = ModelConfig.preset("nano", dim=8, vocab_size=16, n_layers=2, n_mtp_layers=2)
    config, tokens = base.with_mtp_convention(name), np.arange(8)[None]
    assert config.mtp_convention == name
    plain, other = (
        all_logits(MACHINE, parameters_of(c, np.random.default_rng(0)), tokens, depths=2)
        for c in (base, config)
    )
    same = [np.array_equal(a, b) for a, b in zip(plain, other, strict=True)]
    assert same == [k < CHANGES[name] for k in range(3)]


def test_the_named_conventions() -> None:
    """The default is that of the engines; every name is a different choice; what has no name says so."""
    v3 = ModelConfig.preset("v3")
    assert v3.mtp_convention == "h0_post_chain_post"
    assert set(mtp_conventions()) == set(CHANGES)
    chosen = [v3.with_mtp_convention(name) for name in mtp_conventions()]
    assert len({(c.mtp_order, c.mtp_state_after_norm, c.mtp_chain_after_norm) for c in chosen}) == 4
    assert all(row["source"] and row["used_by"] for row in mtp_conventions().values())
    assert ModelConfig.preset("v3", mtp_state_after_norm=False).mtp_convention == "unnamed"
    with pytest.raises(
        ValueError, match="expected an MTP convention, got 'h0_post': known: h0_post_chain_post"
    ):
        v3.with_mtp_convention("h0_post")


@pytest.mark.parametrize("name", CHANGES)
def test_a_module_used_again_is_a_deeper_module_with_the_same_weights(name: str) -> None:
    """Depth 2 by one module twice: its input is what the convention passes on."""
    small = {"dim": 8, "vocab_size": 16, "n_layers": 2}
    one = ModelConfig.preset("nano", **small, n_mtp_layers=1).with_mtp_convention(name)
    two = ModelConfig.preset("nano", **small, n_mtp_layers=2).with_mtp_convention(name)
    again = parameters_of(two, np.random.default_rng(0))
    for key in again:
        if key.startswith("model.layers.3."):
            again[key][...] = again[key.replace("layers.3.", "layers.2.")]
    tokens, w, options = np.arange(8)[None], again.weights, Options()
    main = main_states(MACHINE, w, tokens, one, options, keep=False)
    state = main.h if one.mtp_state_after_norm else main.x
    expected = all_logits(MACHINE, again, tokens, depths=2)[1:]
    for k in (1, 2):
        embedded = w.embedding[tokens[0, k:]]
        normed, state, _ = mtp_forward(
            MACHINE, embedded, state[: 8 - k], w.mtp[0], rotations_for(one, np.complex128)[: 8 - k], one, 1,
            options,
        )  # fmt: skip
        np.testing.assert_allclose(normed @ w.head.T, expected[k - 1][0], rtol=1e-10, atol=1e-12)


def test_state_first_is_embedding_first_with_the_halves_of_the_matrix_exchanged() -> None:
    config = ModelConfig.preset("nano", dim=8, vocab_size=16, n_layers=2)
    other = ModelConfig.preset("nano", dim=8, vocab_size=16, n_layers=2, mtp_order="state-first")
    parameters, tokens = parameters_of(config, np.random.default_rng(0)), np.arange(8)[None]
    turned = parameters_of(other, np.random.default_rng(0))
    M = turned["model.layers.2.eh_proj.weight"]
    M[...] = np.roll(M, 8, axis=1)
    for a, b in zip(
        all_logits(MACHINE, parameters, tokens, 1), all_logits(MACHINE, turned, tokens, 1), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_without_a_weight_the_modules_do_not_run() -> None:
    model = Model.initialise(ModelConfig.preset("nano"), seed=0)
    losses, _ = model.loss_and_gradients(np.arange(9)[None])
    assert set(losses) == {"main", "balance", "total"}
    assert losses["balance"] == 0


def test_float32_is_close_to_float64() -> None:
    model, tokens = Model.initialise(ModelConfig.preset("nano"), seed=0), np.arange(40).reshape(2, 20)
    np.testing.assert_allclose(
        model.logits(tokens), model.logits(tokens, Machine(dtype="float64")), atol=1e-5, rtol=1e-4
    )


def test_sharded_gradients_are_those_of_the_whole_batch() -> None:
    """Over however many cores; a machine of one's own runs the batch whole."""
    model = Model.initialise(ModelConfig.preset("nano", vocab_size=64), seed=0)
    tokens = np.random.default_rng(0).integers(64, size=(5, 17))
    losses, gradients = model.loss_and_gradients(tokens, 0.3, 0.1)
    whole, expected = model.loss_and_gradients(tokens, 0.3, 0.1, machine=Machine())
    assert losses == pytest.approx(whole, rel=1e-6)
    assert np.abs(gradients.buffer - expected.buffer).max() < 1e-6 * np.abs(expected.buffer).max()


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[1, 2048]], r"expected token ids 0 \.\. 2047, got 2048"),
        ([[-1, 3]], r"expected token ids 0 \.\. 2047, got -1"),
        ([1, 2], r"expected integer tokens \[B, T\], got int64 \(2,\)"),
        ([[0.5, 1]], r"expected integer tokens \[B, T\], got float64 \(1, 2\)"),
        (np.empty((1, 0), int), r"expected integer tokens \[B, T\], got int64 \(1, 0\)"),
        (np.zeros((1, 2049), int), "expected at most 2048 tokens in a sequence, got 2049"),
    ],
)
def test_bad_tokens_are_named(tokens: Any, message: str) -> None:
    model = Model.initialise(ModelConfig.preset("nano", n_layers=1), seed=0)
    with pytest.raises(ValueError, match=message):
        model.logits(tokens)


def test_too_few_tokens_for_the_modules_are_named() -> None:
    model = Model.initialise(ModelConfig.preset("nano", n_layers=1), seed=0)
    with pytest.raises(ValueError, match="expected more than 1 tokens for MTP depth 1, got 1"):
        model.mtp_logits([[3]])
    with pytest.raises(ValueError, match="expected rows of at least 3 tokens, got 2"):
        model.loss_and_gradients([[3, 4]], mtp_weight=0.1)
