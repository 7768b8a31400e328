"""Haystacks: the needle is there once, where it was asked for, and the answer is right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.corpus.needle import (
    ASK,
    END,
    FIRST_NAME,
    FIRST_THING,
    NAMES,
    NEEDLE,
    STOP,
    THINGS,
    WORDS,
    document,
    documents,
    haystack,
    shortest,
    spoken,
    word_ids,
)
from minidsv3.tokenizer import Tokenizer

SEEDS = st.integers(0, 2**32)


def is_name(words: np.ndarray) -> np.ndarray:
    return (words >= FIRST_NAME) & (words < FIRST_NAME + len(NAMES))


def is_thing(words: np.ndarray) -> np.ndarray:
    return (words >= FIRST_THING) & (words < FIRST_THING + len(THINGS))


def facts(words: np.ndarray) -> list[tuple[int, int, int]]:
    """(where, name, thing) of every `name thing name thing`."""
    name, thing = words[:-3], words[1:-2]
    twice = (name == words[2:-1]) & (thing == words[3:])
    at = np.flatnonzero(is_name(name) & is_thing(thing) & twice)
    return [(int(i), int(words[i]), int(words[i + 1])) for i in at]


def test_words_differ() -> None:
    assert len(set(WORDS)) == len(WORDS)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(0, 5), st.integers(0, 200), st.floats(0, 1))
def test_a_haystack_holds_its_needle_once_at_its_depth(
    seed: int, others: int, more: int, depth: float
) -> None:
    length = shortest(others) + more
    stack = haystack(length, depth, np.random.default_rng(seed), others)
    words = stack.words
    assert words.shape == (length,)
    assert words[0] == END
    assert words[-3:-1].tolist() == [STOP, ASK]
    found = facts(words)
    assert len(found) == 1 + others
    assert len({name for _, name, _ in found}) == len({thing for _, _, thing in found}) == 1 + others
    asked = int(words[-1])
    assert [(at, thing) for at, name, thing in found if name == asked] == [(stack.at, stack.answer)]
    assert stack.at == 1 + round(depth * (length - 4 - NEEDLE))
    assert int(is_thing(words).sum()) == 2 * (1 + others)  # the answer stands nowhere else
    again = haystack(length, depth, np.random.default_rng(seed), others)
    assert again.words.tolist() == words.tolist()


def test_the_ends_of_depth() -> None:
    rng = np.random.default_rng(0)
    assert haystack(64, 0.0, rng).at == 1
    assert haystack(64, 1.0, rng).at == 64 - 3 - NEEDLE


@pytest.mark.parametrize(
    ("length", "depth", "others"),
    [(shortest(3) - 1, 0.5, 3), (64, 1.5, 3), (64, -0.1, 3), (999, 0.5, 32), (64, 0.5, -1)],
)
def test_what_does_not_fit_is_refused(length: int, depth: float, others: int) -> None:
    with pytest.raises(ValueError, match="expected a depth from 0 to 1"):
        haystack(length, depth, np.random.default_rng(0), others)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(9, 300))
def test_a_document_asks_only_for_what_it_told(seed: int, length: int) -> None:
    words = document(length, np.random.default_rng(seed))
    assert words.shape == (length,)
    assert words[0] == END
    assert words[-4:-2].tolist() == [STOP, ASK]
    asked = np.flatnonzero(words == ASK)
    told = {name: (at, thing) for at, name, thing in facts(words)}
    for at in asked:
        where, thing = told[int(words[at + 1])]
        assert where + NEEDLE <= at
        assert words[at + 2] == thing
    assert int(is_name(words).sum()) == int(is_thing(words).sum()) == 2 * len(told) + len(asked)


def test_questions_stand_anywhere_and_ask_for_any_needle() -> None:
    rows = documents(400, 64, np.random.default_rng(0))
    first, last = (rows[:, :32] == ASK).sum(), (rows[:, 32:] == ASK).sum()
    assert last / 3 < first < last  # nothing is known yet where a document begins
    orders = []  # how many needles ago the one that is asked for at the end was told
    for words in rows:
        names = [name for _, name, _ in facts(words)]
        orders.append(names[::-1].index(int(words[-2])))
    assert np.bincount(orders, minlength=6).min() > 5


def test_documents_are_those_of_the_seed() -> None:
    one, other, third = (documents(5, 40, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.shape == (5, 40)
    assert np.array_equal(one, other)
    assert not np.array_equal(one, third)
    with pytest.raises(ValueError, match="expected 1 to 8 needles in 40 tokens, got 9"):
        document(40, np.random.default_rng(0), needles=9)
    with pytest.raises(ValueError, match="expected 1 to 0 needles"):
        document(8, np.random.default_rng(0))


def test_every_word_is_one_token_of_a_tokenizer_that_learned_it() -> None:
    rows = documents(120, 64, np.random.default_rng(0))
    tokenizer = Tokenizer.train([spoken(words) for words in rows], 600)
    ids = word_ids(tokenizer)
    assert len(set(ids.tolist())) == len(WORDS)
    words = haystack(80, 0.3, np.random.default_rng(1)).words
    assert [tokenizer.eos, *tokenizer.encode(spoken(words))] == ids[words].tolist()
    with pytest.raises(ValueError, match="--preset needle"):
        word_ids(Tokenizer.train(["other text"], 300))
