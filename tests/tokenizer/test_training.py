"""Learning merges and applying them: each specification against its fast twin."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.tokenizer.merging import merge, merge_step_by_step, merge_with_heap
from minidsv3.tokenizer.training import Pair, learn, learn_by_recounting, replace_pair

words = st.dictionaries(st.text("abc", min_size=1, max_size=9), st.integers(1, 5), max_size=12)


@given(words, st.integers(3, 30))
def test_learn_equals_recounting(pieces: dict[str, int], size: int) -> None:
    assert learn(pieces, "abc", size) == learn_by_recounting(pieces, "abc", size)


def test_a_long_word_takes_no_quadratic_time() -> None:
    tokens, merges = learn({"abc" * 100_000: 1}, "abc", 20)
    assert len(tokens) == 20
    assert merges[:2] == [(0, 1), (3, 2)]


def test_ties_go_to_the_smaller_pair() -> None:
    _, merges = learn({"ba": 2, "ab": 2, "cc": 3}, "abc", 6)
    assert merges == [(2, 2), (0, 1), (1, 0)]


def test_overlapping_pairs_count_and_merge_from_the_left() -> None:
    tokens, merges = learn({"aaa": 1, "bb": 1}, "ab", 3)
    assert (tokens, merges) == (["a", "b", "aa"], [(0, 0)])
    assert replace_pair([0, 0, 0], (0, 0), 2) == [2, 0]


def test_a_token_made_twice_keeps_its_first_id() -> None:
    # abc comes about as a + bc and, after ab became a token elsewhere, as ab + c
    pieces = {"xbc": 9, "abc": 5, "ab": 8, "zabc": 2, "yab": 1}
    tokens, merges = learn(pieces, "abcxyz", 20)
    assert len(set(tokens)) == len(tokens)
    assert (tokens, merges) == learn_by_recounting(pieces, "abcxyz", 20)


@st.composite
def ranks_and_piece(draw: st.DrawFn) -> tuple[dict[Pair, tuple[int, int]], list[int]]:
    """Draw merges learned from a text, and a piece over its alphabet."""
    tokens, merges = learn(draw(words), "abc", draw(st.integers(3, 30)))
    ids = {token: index for index, token in enumerate(tokens)}
    ranks = {pair: (rank, ids[tokens[pair[0]] + tokens[pair[1]]]) for rank, pair in enumerate(merges)}
    return ranks, draw(st.lists(st.integers(0, 2), max_size=60))


@settings(max_examples=300)
@given(ranks_and_piece())
def test_the_heap_merges_as_the_steps_do(drawn: tuple[dict[Pair, tuple[int, int]], list[int]]) -> None:
    ranks, piece = drawn
    assert merge_with_heap(piece, ranks) == merge_step_by_step(piece, ranks) == merge(piece, ranks)


@pytest.mark.slow
def test_a_long_piece_takes_no_quadratic_time() -> None:
    ranks = {(0, 0): (0, 1), (1, 1): (1, 2), (2, 2): (2, 3)}
    assert merge([0] * 200_000, ranks) == [3] * 25_000


@pytest.mark.parametrize("piece", [[], [5], [0, 1]])
def test_pieces_without_merges_stay(piece: list[int]) -> None:
    assert merge(piece, {}) == merge_with_heap(piece, {}) == piece
