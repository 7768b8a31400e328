"""The tokenizer as others use it: train, encode, decode, stream."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.tokenizer import BOS, EOS, FIM_BEGIN, FIM_END, FIM_HOLE, PAD, StreamDecoder, Tokenizer, codec
from minidsv3.tokenizer.pieces import split_in_stages

TEXTS = ["def f(x):\n    return x + 1\n\n", "for x in range(10):\n    print(x)  # räksmörgås 東京\n"] * 3
TRAINED = Tokenizer.train(TEXTS, 300)


def test_layout_is_deepseeks() -> None:
    assert TRAINED.vocab_size == 300
    assert (TRAINED.bos, TRAINED.eos, TRAINED.pad) == (0, 1, 2)
    assert TRAINED.token_bytes(3) == b"!"
    assert (TRAINED.fim_hole, TRAINED.fim_begin, TRAINED.fim_end) == (297, 298, 299)
    assert len(TRAINED.vocabulary.merges) == 300 - 262


@settings(deadline=None)
@given(st.text() | st.text("def f(x):\n 東é"))
def test_decoding_inverts_encoding(text: str) -> None:
    ids = TRAINED.encode(text)
    assert TRAINED.decode(ids) == text
    assert TRAINED.encode_array(text).tolist() == ids
    assert TRAINED.encode_array(text).dtype == np.int32


@settings(deadline=None)
@given(st.text("def f(x):\n 東é12"))
def test_encoding_is_piece_by_piece(text: str) -> None:
    pieces = [TRAINED.encode(piece) for piece in split_in_stages(text)]
    assert TRAINED.encode(text) == [token for ids in pieces for token in ids]


@pytest.mark.parametrize("marker", [BOS, EOS, PAD, FIM_BEGIN, FIM_HOLE, FIM_END])
def test_markers_are_text_unless_asked_for(marker: str) -> None:
    text = f"x{marker} y"
    plain = TRAINED.encode(text)
    assert TRAINED.token_id(marker) not in plain
    marked = TRAINED.encode(text, special=True)
    assert marked == [*TRAINED.encode("x"), TRAINED.token_id(marker), *TRAINED.encode(" y")]
    assert TRAINED.decode(plain) == TRAINED.decode(marked) == text


def test_the_longest_marker_is_recognised() -> None:
    tokenizer = Tokenizer.train(["ab"], 263, special_tokens=["<a>", "<a><b>"])
    assert tokenizer.encode("<a><b><a>", special=True) == [
        tokenizer.token_id("<a><b>"),
        tokenizer.token_id("<a>"),
    ]


def test_empty_text() -> None:
    assert TRAINED.encode("") == TRAINED.encode("", special=True) == []
    assert TRAINED.encode_array("").shape == (0,)
    assert TRAINED.decode([]) == ""


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        TRAINED.encode("a\ud800")


@pytest.mark.parametrize("ids", [[-1], [300], [0, 10**6], np.array([300])])
def test_ids_out_of_range_are_named(ids: list[int]) -> None:
    with pytest.raises(ValueError, match=rf"0 to 299, got {ids[-1]}"):
        TRAINED.decode(ids)


@pytest.mark.parametrize("ids", [[0.5], [[1, 2]], ["a"], [2**80], [True]])
def test_ids_that_are_no_integers_are_refused(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="integers"):
        TRAINED.decode(ids)


def test_broken_utf8_is_replaced() -> None:
    half = TRAINED.encode("ø")[:1]
    assert TRAINED.decode_bytes(half) == b"\xc3"
    assert TRAINED.decode([*half, *TRAINED.encode("x")]) == "\ufffdx"


@pytest.mark.parametrize("texts", [[], [""], ["", ""], "one string"])
def test_training_needs_text(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="expected texts"):
        Tokenizer.train(texts, 300)


@pytest.mark.parametrize("size", [0, 261, 2_000_000])
def test_training_names_the_least_vocabulary(size: int) -> None:
    with pytest.raises(ValueError, match=f"from 262 to .* got {size}"):
        Tokenizer.train(["abc"], size)


def test_a_small_text_gives_a_small_vocabulary() -> None:
    assert Tokenizer.train(["abab"], 5000).vocab_size == 264


def test_an_unknown_marker_is_named() -> None:
    with pytest.raises(ValueError, match="added tokens"):
        TRAINED.token_id("<nothing>")
    with pytest.raises(ValueError, match="fim▁begin"):
        _ = Tokenizer.train(["ab"], 262, special_tokens=[]).fim_begin


def test_the_memory_of_pieces_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_PIECES_KEPT", 4)
    tokenizer = Tokenizer.train(TEXTS, 280)
    text = "".join(TEXTS) + "a" * 500
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer._pieces) <= 4
    assert all(len(piece) <= 128 for piece in tokenizer._pieces)


@given(st.lists(st.integers(0, 299)))
def test_streaming_equals_decoding(ids: list[int]) -> None:
    stream = StreamDecoder(TRAINED)
    assert "".join(map(stream.push, ids)) + stream.finish() == TRAINED.decode(ids)


@settings(deadline=None)
@given(st.text())
def test_streaming_never_shows_half_a_character(text: str) -> None:
    stream = StreamDecoder(TRAINED)
    shown = ""
    for token in TRAINED.encode(text):
        shown += stream.push(token)
        assert text.startswith(shown)
    assert shown == text
    assert stream.finish() == ""
