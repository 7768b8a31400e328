"""Fill-in-the-middle, token boundaries, the stream and its batches."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.corpus import (
    Batches,
    Document,
    document_ids,
    fim_ids,
    fim_psm,
    fim_text,
    joined_tokens,
    pack,
    read_fim_ids,
    split_joined,
)
from minidsv3.corpus.boundaries import split_one_by_one
from minidsv3.tokenizer import FIM_HOLE, Tokenizer

SOURCE = "def f(x):\n    return [x];\n\nif x:\r\n  g(x)\n…!\n\n" * 3
TRAINED = Tokenizer.train([SOURCE], 320)
JOINED = joined_tokens(TRAINED)
seeds = st.integers(0, 2**32).map(np.random.default_rng)


@given(st.text(), seeds)
def test_fim_inverts(text: str, rng: np.random.Generator) -> None:
    assert fim_text(fim_psm(text, rng)) == text


@settings(deadline=None)
@given(st.text() | st.just(FIM_HOLE), seeds)
def test_fim_ids_invert(text: str, rng: np.random.Generator) -> None:
    psm = fim_psm(text, rng)
    ids = fim_ids(psm, TRAINED)
    assert ids.dtype == np.int32
    assert read_fim_ids(ids, TRAINED) == psm


def test_fim_order_is_prefix_suffix_middle() -> None:
    psm = fim_psm("abcdefgh" * 4, np.random.default_rng(1))
    assert all(psm)
    spelled = (
        f"<｜fim▁begin｜>{psm.prefix}<｜fim▁hole｜>{psm.suffix}<｜fim▁end｜>{psm.middle}<｜end▁of▁sentence｜>"
    )
    assert TRAINED.decode(fim_ids(psm, TRAINED)) == spelled


def test_fim_cuts_are_uniform() -> None:
    rng = np.random.default_rng(0)
    cuts = [len(fim_psm("x" * 9, rng).prefix) for _ in range(5000)]
    # the smaller of two uniform draws from 0..9 is k with probability (19 - 2 k) / 100
    shares = np.bincount(cuts, minlength=10) / 5000
    assert np.abs(shares - (19 - 2 * np.arange(10)) / 100).max() < 0.03


def test_reading_fim_refuses_other_documents() -> None:
    with pytest.raises(ValueError, match="markers"):
        read_fim_ids(document_ids("plain", TRAINED), TRAINED)


def test_joined_tokens_are_punctuation_before_line_breaks() -> None:
    data = TRAINED.vocabulary.token_bytes()
    joined = {data[token].decode() for token in np.flatnonzero(JOINED.lengths)}
    assert {"):\n", "];\n\n"} & joined
    assert all(text.rstrip("\r\n") and text[-1] in "\r\n" for text in joined)
    assert not any(character.isalnum() for text in joined for character in text)


streams = (
    st.lists(st.sampled_from([*"x)(:;]\n\r …!", "):\n", "];\n\n"])).map("".join).map(TRAINED.encode_array)
)


@given(streams, st.integers(0, 99), st.sampled_from([0.0, 0.3, 1.0]))
def test_splitting_equals_the_loop(stream: np.ndarray, seed: int, rate: float) -> None:
    vectorised = split_joined(stream, JOINED, np.random.default_rng(seed), rate)
    looped = split_one_by_one(stream, JOINED, np.random.default_rng(seed), rate)
    assert vectorised.dtype == looped.dtype == np.int32
    assert vectorised.tolist() == looped.tolist()


@given(streams, seeds, st.floats(0, 1))
def test_splitting_keeps_the_bytes(stream: np.ndarray, rng: np.random.Generator, rate: float) -> None:
    split = split_joined(stream, JOINED, rng, rate)
    assert TRAINED.decode_bytes(split) == TRAINED.decode_bytes(stream)


def test_splitting_at_the_ends_of_the_rate() -> None:
    stream, rng = TRAINED.encode_array(SOURCE), np.random.default_rng(0)
    assert JOINED.lengths[stream].any()
    assert np.array_equal(split_joined(stream, JOINED, rng, 0.0), stream)
    assert not JOINED.lengths[split_joined(stream, JOINED, rng, 1.0)].any()
    with pytest.raises(ValueError, match="rate from 0 to 1"):
        split_joined(stream, JOINED, rng, 1.5)


DOCUMENTS = [Document(f"{index}", f"text number {index}:\n" * 5) for index in range(200)]


def test_packing_holds_every_document_once() -> None:
    stream = pack(DOCUMENTS, TRAINED, np.random.default_rng(0), fim_rate=0.0)
    ends = np.flatnonzero(stream == TRAINED.eos)
    texts = [
        TRAINED.decode(part[1:] if index else part) for index, part in enumerate(np.split(stream, ends)[:-1])
    ]
    assert stream.dtype == np.int32
    assert sorted(texts) == sorted(document.text for document in DOCUMENTS)
    assert texts != [document.text for document in DOCUMENTS]


def test_packing_turns_the_given_share_round() -> None:
    stream = pack(DOCUMENTS, TRAINED, np.random.default_rng(0), fim_rate=0.25)
    assert 25 < np.count_nonzero(stream == TRAINED.fim_begin) < 80
    assert np.count_nonzero(stream == TRAINED.eos) == len(DOCUMENTS)
    again = pack(DOCUMENTS, TRAINED, np.random.default_rng(0), fim_rate=0.25)
    assert np.array_equal(stream, again)


def test_packing_refuses_nothing_and_odd_rates() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="got none"):
        pack([], TRAINED, rng)
    with pytest.raises(ValueError, match="fim_rate"):
        pack(DOCUMENTS, TRAINED, rng, fim_rate=-1)


sizes = st.tuples(st.integers(1, 7), st.integers(0, 3), st.integers(0, 60))


@given(sizes, st.integers(0, 5), st.integers(0, 40), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_batches_do_not_depend_on_how_one_got_there(
    size: tuple[int, int, int], seed: int, start: int, counts: list[int]
) -> None:
    length, depth, more = size
    stream = np.arange(length + 1 + depth + more, dtype=np.int32)
    together = Batches(stream, length, depth, seed).sequences(start, sum(counts))
    resumed, parts = Batches(stream.copy(), length, depth, seed), []
    for count in counts:  # a batch size that changes from step to step
        parts.append(resumed.sequences(start + sum(map(len, parts)), count))
    assert np.array_equal(np.concatenate(parts), together)
    assert together.shape == (sum(counts), length + 1 + depth)


@given(sizes, st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_is_every_window_once(size: tuple[int, int, int], seed: int, epoch: int) -> None:
    length, depth, more = size
    batches = Batches(np.arange(length + 1 + depth + more, dtype=np.int32), length, depth, seed)
    windows = batches.sequences(epoch * batches.per_epoch, batches.per_epoch)
    assert sorted(windows[:, 0]) == [length * index for index in range(batches.per_epoch)]
    assert (np.diff(windows, axis=1) == 1).all()
    assert more < length or batches.per_epoch > 1


def test_epochs_and_seeds_differ() -> None:
    stream = np.arange(1001, dtype=np.int32)
    batches = Batches(stream, 10)
    first, second = batches.at(0, 100), batches.at(1, 100)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, Batches(stream, 10, seed=1).at(0, 100))


def test_a_position_survives_json() -> None:
    batches = Batches(np.arange(50, dtype=np.int32), 8, 1)
    state = json.loads(json.dumps(batches.state(17)))
    assert Batches(np.arange(50, dtype=np.int32), 8, 1).resume(state) == 17


@pytest.mark.parametrize(
    "change",
    [
        {"consumed": -1},
        {"consumed": "1"},
        {"consumed": True},
        {"consumed": 10**30},
        {"seed": 5},
        {"checksum": 0},
    ],
)
def test_a_position_in_other_batches_is_refused(change: dict[str, object]) -> None:
    batches = Batches(np.arange(50, dtype=np.int32), 8, 1)
    with pytest.raises(ValueError, match=f"expected .*{next(iter(change))}"):
        batches.resume({**batches.state(0), **change})


def test_too_short_a_text_names_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"at least 10 tokens for one sequence \(T=8 \+ 1 \+ D=1\), got 9"):
        Batches(np.arange(9, dtype=np.int32), 8, 1)


@pytest.mark.parametrize("arguments", [{"length": 0}, {"length": 4, "depth": -1}, {"length": 4, "seed": -1}])
def test_odd_sizes_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected length >= 1"):
        Batches(np.arange(9, dtype=np.int32), **arguments)


def test_odd_streams_and_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="int32"):
        Batches(np.arange(9.0), 4)
    with pytest.raises(ValueError, match="count >= 1"):
        Batches(np.arange(9, dtype=np.int32), 4).sequences(0, 0)
