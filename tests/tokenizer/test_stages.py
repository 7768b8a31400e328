"""Stages: behaviours, and the quick cut against the spans."""

from itertools import pairwise
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.tokenizer.composing import composed
from minidsv3.tokenizer.pieces import SPLITS
from minidsv3.tokenizer.stages import BEHAVIOURS, GPT2, Stage, Steps


@pytest.mark.parametrize(
    ("behaviour", "invert", "pieces"),
    [  # of "the-final--countdown", as the documentation of `tokenizers` has it
        ("Isolated", False, ["the", "-", "final", "-", "-", "countdown"]),
        ("Removed", False, ["the", "final", "countdown"]),
        ("Removed", True, ["-", "-", "-"]),
        ("Contiguous", False, ["the", "-", "final", "--", "countdown"]),
        ("MergedWithPrevious", False, ["the-", "final-", "-", "countdown"]),
        ("MergedWithNext", False, ["the", "-final", "-", "-countdown"]),
    ],
)
@pytest.mark.parametrize("literal", [False, True])
def test_behaviours(behaviour: str, invert: bool, literal: bool, pieces: list[str]) -> None:
    stage = Stage("Split", "-", behaviour, invert, literal)
    text = "the-final--countdown"
    assert [piece for piece in stage.cut(text) if piece] == pieces
    assert [text[begin:end] for begin, end in stage.spans(text)] == pieces


def test_a_literal_pattern_is_its_text() -> None:
    assert Stage("Split", "a.*\\", literal=True).cut("xa.*\\ya.b") == ["x", "a.*\\", "ya.b"]


stages = st.builds(
    Stage,
    st.just("Split"),
    st.sampled_from([r"\p{L}+", r"\s", r"[\r\n]", r"\s+$", r" ?\p{P}", GPT2]),
    st.sampled_from(BEHAVIOURS),
    st.booleans(),
)
COMBINING = "e\u0301\u0323a\u1100\u1161\u11a8가\u0f71\u0f72\u0f73\u0344\u09c7\u09be\u1e9b\u212b"
last = st.builds(Stage, st.just("ByteLevel"), st.sampled_from([None, GPT2]), prefix_space=st.booleans())


@settings(deadline=None, max_examples=150)
@given(st.lists(stages, max_size=3), last, st.text("ab \n.é図1", max_size=14))
def test_pieces_stand_where_they_say(first: list[Stage], final: Stage, text: str) -> None:
    steps = Steps((*first, final))
    spans = steps.spans(text)
    assert [piece for piece, _, _ in spans] == steps.pieces(text) == (steps.stage_by_stage(text)[-1])
    for piece, at, prefixed in spans:
        assert text[at + prefixed : at + len(piece)] == piece[prefixed:]
        assert not prefixed or piece[0] == " "


def test_stages_see_one_piece_at_a_time() -> None:
    steps = Steps((Stage("Split", r"\p{N}"), Stage("Split", r"\s+$"), Stage("ByteLevel")))
    assert steps.pieces("a  1 b  ") == ["a", "  ", "1", " b", "  "]


@pytest.mark.parametrize("name", SPLITS)
def test_known_splits_lose_nothing(name: str) -> None:
    text = "Don't  stop,\r\n naïve 図書 12345 한국어!\n"
    assert "".join(SPLITS[name].pieces(text)) == text
    assert (len(SPLITS[name].pieces(text)) == 1) == (name == "none")


@settings(deadline=None)
@given(st.text() | st.text(COMBINING))
def test_composing_by_parts_is_nfc(text: str) -> None:
    found, origin = composed(text)
    assert found == normalize("NFC", text)
    assert len(origin) == len(found)
    for (first, end), (after, _) in pairwise(origin):
        assert first < end
        assert after in (first, end)
    if found:
        assert (origin[0][0], origin[-1][1]) == (0, len(text))
    for character, (first, end) in zip(found, origin, strict=True):
        assert character in normalize("NFC", text[first:end])
