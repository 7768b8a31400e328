"""What comes out of `generate`, where it stops, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import stats

from minidsv3 import Machine, Model, ModelConfig
from minidsv3.inference import draw, generate, probabilities

CONFIG = ModelConfig.preset("nano", n_layers=2, vocab_size=32, max_seq_len=64)


@pytest.fixture(scope="module")
def model() -> Model:
    made = Model.initialise(CONFIG, seed=3)
    made.parameters.buffer[: made.parameters.decayed] *= 4
    return made


def test_result(model):
    heard: list[int] = []
    result = model.generate(np.array([1, 2, 3]), 9, on_token=heard.append)
    assert result.prompt == [1, 2, 3]
    assert heard == result.tokens
    assert len(result.tokens) == 9
    assert all(type(token) is int for token in result.tokens)
    assert result.prefill_seconds > 0
    assert result.tokens_per_second == pytest.approx(8 / result.decode_seconds)


def test_a_batch_is_its_rows(model):
    prompts = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    together = generate(model, prompts, 12)
    assert together.sequences == [generate(model, row, 12).tokens for row in prompts]
    assert together.prompts == prompts
    assert generate(model, [prompts[0]], 5).tokens == together.sequences[0][:5]


def test_seeds_repeat_and_differ(model):
    texts = [generate(model, [1], 20, temperature=2.0, seed=seed).tokens for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("speculative", [False, True])
def test_stop_ids_end_the_text_behind_them(model, speculative):
    plain = generate(model, [1, 2, 3], 30).tokens
    for stop in set(plain):
        until = plain.index(stop) + 1
        heard: list[int] = []
        stopped = generate(
            model, [1, 2, 3], 30, stop_ids=[stop], speculative=speculative, on_token=heard.append
        )
        assert stopped.tokens == heard == plain[:until]


def test_stopped_rows_of_a_batch_stay_quiet(model):
    plain = generate(model, [[1, 2], [3, 4]], 20).sequences
    stop = plain[0][4]
    both = generate(model, [[1, 2], [3, 4]], 20, stop_ids={stop}).sequences
    assert both == [row[: row.index(stop) + 1] if stop in row else row for row in plain]


@pytest.mark.parametrize("speculative", [False, True])
def test_the_longest_sequence_can_be_filled(model, speculative):
    assert len(generate(model, [1] * 4, 60, speculative=speculative, drafts=None).tokens) == 60


def test_float64_machine(model):
    assert (
        generate(model, [1, 2], 10, machine=Machine(dtype="float64")).tokens
        == generate(model, [1, 2], 10).tokens
    )


BAD = {
    "at least one token id": {"prompt_ids": []},
    r"token ids 0 \.\. 31, got 32": {"prompt_ids": [1, 32]},
    r"token ids 0 \.\. 31, got -1": {"prompt_ids": [-1]},
    r"integer tokens \[B, T\]": {"prompt_ids": [0.5]},
    r"<= 64 together, got 3 \+ 62": {"max_new_tokens": 62},
    "max_new_tokens >= 1, got 0": {"max_new_tokens": 0},
    "temperature >= 0, got -1": {"temperature": -1},
    "temperature >= 0, got nan": {"temperature": float("nan")},
    r"top_p in \(0, 1\], got 0": {"top_p": 0},
    r"top_p in \(0, 1\], got 1.5": {"top_p": 1.5},
    "expected an attention, got 'absorb': did you mean 'absorbed'": {"attention": "absorb"},
    "prefill_chunk >= 1, got 0": {"prefill_chunk": 0},
    "one prompt to speculate on, got 2": {"prompt_ids": [[1], [2]], "speculative": True},
    r"drafts 1 \.\. 7, got 8": {"speculative": True, "drafts": 8},
    r"drafts 1 \.\. 7, got 0": {"speculative": True, "drafts": 0},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(model, message):
    options = {"prompt_ids": [1, 2, 3], "max_new_tokens": 4} | BAD[message]
    with pytest.raises(ValueError, match=message):
        generate(model, **options)


def test_speculation_needs_modules():
    model = Model.initialise(ModelConfig.preset("mini", vocab_size=8, n_layers=1), seed=0)
    with pytest.raises(ValueError, match="MTP modules"):
        generate(model, [1], 2, speculative=True)


# ---- probabilities -----------------------------------------------------------------------------------------

LOGITS = npst.arrays(
    np.float32, st.tuples(st.integers(1, 3), st.integers(1, 9)), elements=st.floats(-50, 50, width=32)
)


@given(LOGITS, st.floats(0, 5), st.floats(0.01, 1))
def test_probabilities_are_the_smallest_set_that_holds_top_p(logits, temperature, top_p):
    p = probabilities(logits, temperature, top_p)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    whole = probabilities(logits, temperature)
    kept = np.where(p > 0, whole, 0)
    assert (kept.sum(axis=1) >= top_p - 1e-9).all()
    np.testing.assert_allclose(p, kept / kept.sum(axis=1, keepdims=True))
    if top_p < 1:
        without_least = kept.sum(axis=1) - np.where(p > 0, whole, 2).min(axis=1)
        assert (without_least < top_p).all()


def test_temperature_zero_takes_the_lowest_of_equals():
    assert probabilities([[1.0, 2.0, 2.0]], 0).tolist() == [[0, 1, 0]]


def test_draws_follow_probabilities_and_never_hit_zero():
    rng, p = np.random.default_rng(0), np.array([0.0, 0.2, 0.0, 0.5, 0.3, 0.0])
    counts = np.bincount([draw(p, rng) for _ in range(20_000)], minlength=6)
    assert counts[p == 0].sum() == 0
    assert stats.chisquare(counts[p > 0], 20_000 * p[p > 0]).pvalue > 1e-3
