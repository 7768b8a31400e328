"""Speculation changes nothing but the time: greedy text bit for bit, sampled text in distribution."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import stats
from strategies import configs, parameters_of, rngs

from minidsv3 import Machine, Model, ModelConfig
from minidsv3.config import mtp_conventions
from minidsv3.inference import Decoder, Drafter, Sampler, generate, probabilities, verify
from minidsv3.model.block import Options
from minidsv3.model.mtp import mtp_forward
from minidsv3.model.rope import rotations_for
from minidsv3.model.transformer import main_states

SETTINGS = settings(max_examples=40)
CONVENTIONS = {
    "mtp_order": st.sampled_from(["embedding-first", "state-first"]),
    "mtp_state_after_norm": st.booleans(),
    "mtp_chain_after_norm": st.booleans(),
}


def small_model(depth: int, vocab_size: int = 8, sharpness: float = 2.0, layers: int = 2) -> Model:
    """Weights large enough for text that does not settle on one token."""
    config = ModelConfig.preset("nano", n_layers=layers, vocab_size=vocab_size, n_mtp_layers=depth)
    model = Model.initialise(config, seed=depth)
    model.parameters.buffer[: model.parameters.decayed] *= sharpness
    return model


def agreeing_model(depth: int) -> Model:
    """Modules that draft well: blocks that add nothing, so that a token follows from the one before alone."""
    model = small_model(depth, vocab_size=12)
    for name, view in model.parameters.items():
        if "o_proj" in name or "down_proj" in name:
            view[...] = 0
        if "eh_proj" in name:
            view[...] = np.eye(*view.shape)  # takes the embedding, leaves the state
    return model


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("drafts", [None, 1, 2, 3, 7])
def test_greedy_text_is_the_plain_one(depth, drafts):
    for model in (small_model(depth), small_model(depth, sharpness=5), agreeing_model(depth)):
        for prompt in ([1], [1, 2, 3, 4, 5, 6, 7]):
            plain = generate(model, prompt, 40, prefill_chunk=3)
            guessed = generate(model, prompt, 40, prefill_chunk=3, speculative=True, drafts=drafts)
            assert guessed.tokens == plain.tokens
            assert 0 <= guessed.accepted <= guessed.drafted
            assert plain.drafted == plain.accepted == 0


@pytest.mark.parametrize("attention", ["absorbed", "naive"])
def test_greedy_text_is_the_plain_one_among_equals(attention):
    model = small_model(2)
    head = model.parameters["lm_head.weight"]
    head[4:] = head[:4]  # two tokens of each logit, bit for bit: only the same bits choose the same text
    head[4:] *= np.float32(1 + 2**-23)
    options = {"attention": attention, "prefill_chunk": 4}
    plain = generate(model, [1, 2, 3], 60, **options)
    assert generate(model, [1, 2, 3], 60, speculative=True, drafts=3, **options).tokens == plain.tokens


def test_agreeing_modules_are_accepted():
    model = agreeing_model(2)
    result = generate(model, [1, 2, 3], 41, speculative=True)
    assert result.accepted == result.drafted > 20
    assert len(result.tokens) == 41


@pytest.mark.slow
@SETTINGS
@given(st.data(), rngs, st.integers(1, 3))
def test_drafts_are_those_of_the_whole_text(data, rng, depth):
    config = data.draw(
        configs(n_mtp_layers=depth, max_seq_len=48, **{k: data.draw(v) for k, v in CONVENTIONS.items()})
    )
    parameters, machine = parameters_of(config, rng), Machine(dtype="float64")
    model, decoder = Model(config, parameters), Decoder(machine, parameters)
    drafter, sampler = Drafter(decoder), Sampler(1.0, 1.0, rng)
    known = rng.integers(0, config.vocab_size, int(rng.integers(1, 12))).tolist()
    chunk = int(rng.integers(1, 13))
    decoder.prefill(np.array([known]), chunk, lambda states: drafter.catch_up(known, states))
    known.append(int(rng.integers(config.vocab_size)))
    while len(known) < 30:
        count = int(rng.integers(0, depth + 3))
        drafts, q = drafter.draft(known, count, sampler)
        if count:
            later = [
                0
            ] * depth  # a text long enough for every module; what comes later changes nothing before
            whole = model.mtp_logits([known + drafts + later], machine)
            for k in range(min(count, depth)):  # module k + 1, at the last position that has a state
                expected = probabilities(whole[k][0, len(known) - 2])
                np.testing.assert_allclose(q[k], expected, rtol=1e-7, atol=1e-9)
        _, states = decoder.step(np.array([[known[-1], *drafts]]))
        accepted = int(rng.integers(0, count + 1))  # whatever the model says: any text must be followed
        decoder.cache.truncate(len(known) + accepted)
        drafter.keep(accepted, len(known), states[: accepted + 1])
        known += [*drafts[:accepted], int(rng.integers(config.vocab_size))]


def last_draft(model: Model, known: list[int], drafted: int) -> np.ndarray:
    """What one module says behind `drafted` tokens at the end, used as often as it takes, without a cache."""
    machine, config, w = Machine(dtype="float64"), model.config, model.parameters.weights
    end = len(known) - drafted  # the last known token's index + 1
    tokens, rotation = np.array([known]), rotations_for(config, np.complex128)
    main = main_states(machine, w, tokens[:, :end], config, Options(), keep=False)
    states = (main.h if config.mtp_state_after_norm else main.x)[: end - 1]
    for _ in range(drafted + 1):
        n = len(states)
        embedded = w.embedding[tokens[0, 1 : n + 1]]
        normed, passed, _ = mtp_forward(
            machine, embedded, states, w.mtp[0], rotation[:n], config, 1, Options()
        )
        states = np.concatenate((states, passed[-1:]))  # the next position's, in place of the main model's
    return probabilities(normed[-1] @ w.head.T)


@pytest.mark.parametrize("convention", mtp_conventions())
@settings(max_examples=8)
@given(data=st.data(), rng=rngs, length=st.integers(2, 9))
def test_one_module_used_again_goes_on_from_the_state_that_its_convention_passes(
    convention: str, data: st.DataObject, rng: np.random.Generator, length: int
) -> None:
    """Drafts 2, 3, ... of a single module: the same layer, its own cache, its own last state as input."""
    config = data.draw(configs(n_mtp_layers=1, max_seq_len=48)).with_mtp_convention(convention)
    parameters = parameters_of(config, rng)
    model, decoder = Model(config, parameters), Decoder(Machine(dtype="float64"), parameters)
    drafter, sampler = Drafter(decoder), Sampler(1.0, 1.0, rng)
    known = rng.integers(0, config.vocab_size, length).tolist()
    decoder.prefill(np.array([known[:-1]]), 4, lambda states: drafter.catch_up(known[:-1], states))
    drafts, q = drafter.draft(known, 4, sampler)
    for k in range(4):
        expected = last_draft(model, known + drafts[:k], k)
        np.testing.assert_allclose(q[k], expected, rtol=1e-7, atol=1e-9)


# ---- sampling ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "drafts"), [(2, 2), (1, 3)])
def test_sampled_text_is_distributed_as_plain_sampling(depth, drafts):
    model, n = small_model(depth, vocab_size=4, sharpness=3.0, layers=1), 800
    counts = np.zeros((2, 4**3))
    for i, options in enumerate(({}, {"speculative": True, "drafts": drafts})):
        for seed in range(n):
            text = generate(
                model, [1, 2], 4, temperature=1.3, top_p=0.95, seed=10_000 * i + seed, **options
            ).tokens
            counts[i, np.ravel_multi_index(text[1:], (4, 4, 4))] += 1
    often = counts.sum(axis=0) >= 10
    table = np.column_stack([counts[:, often], counts[:, ~often].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    assert table.shape[1] > 8
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_verification_draws_from_the_main_models_distribution():
    rng = np.random.default_rng(0)
    logits = np.log([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]])
    q = np.array([0.1, 0.1, 0.2, 0.6])
    sampler, n = Sampler(1.0, 1.0, rng), 8_000
    first, second = np.zeros(4), np.zeros(4)
    for _ in range(n):
        d = int(rng.choice(4, p=q))
        accepted, token = verify(logits, [d], [q], sampler)
        first[d if accepted else token] += 1
        if accepted:
            second[token] += 1
    assert stats.chisquare(first, n * np.exp(logits[0])).pvalue > 1e-3
    assert stats.chisquare(second, second.sum() * np.exp(logits[1])).pvalue > 1e-3
    # a draft is accepted with probability sum min(p, q)
    rate = np.minimum(q, np.exp(logits[0])).sum()
    assert stats.binomtest(int(second.sum()), n, rate).pvalue > 1e-3


@SETTINGS
@given(npst.arrays(float, (3, 5), elements=st.floats(-4, 4)), rngs, st.floats(0.2, 3), st.floats(0.1, 1))
def test_a_perfect_draft_is_always_accepted(logits, rng, temperature, top_p):
    sampler = Sampler(temperature, top_p, rng)
    q = [sampler.probabilities(row) for row in logits[:2]]
    drafts = [int(rng.choice(5, p=row)) for row in q]
    accepted, token = verify(logits, drafts, q, sampler)
    assert accepted == 2
    assert sampler.probabilities(logits[2])[token] > 0
