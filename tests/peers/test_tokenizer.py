"""The tokenizer against Hugging Face's `tokenizers`: pieces, merges, ids, files."""

import json
from pathlib import Path
from unicodedata import category

import numpy as np
import pytest

from minidsv3.corpus import library_documents
from minidsv3.tokenizer import BOS, FIM_BEGIN, FIM_END, FIM_HOLE, Tokenizer
from minidsv3.tokenizer.alphabet import BYTE_TOKENS
from minidsv3.tokenizer.pieces import SPLITS, STAGES, split_pieces
from minidsv3.tokenizer.training import learn
from minidsv3.tokenizer.vocabulary import FIRST_TOKENS

pytestmark = pytest.mark.peer
peer = pytest.importorskip("tokenizers")
pre = peer.pre_tokenizers

STRINGS = [
    "   123",
    "hello!\n\n",
    "don't  stop\t\n x",
    "日本語のテキスト、カタカナ・ひらがな。123",
    "naïve café Ⅷ²½ ١٢٣",
    "a\x1cb\x00\x00c",
    "😀👩\u200d👩\u200d👧 flags 🇩🇪!\r\n",
    "  \u3000\u2003x\xa0y\u2028z\x85",
    "x = {'a': [1, 2.5]}\n\n\n    y\n",
    "é e\u0301 \u0301",
    "゠・ー\u3099か\u3099",
    "<｜fim▁begin｜>",
    "",
    "한국어 텍스트 الْعَرَبِيَّة עברית ไทย",
]


def _splits(*patterns: str) -> object:
    steps = [pre.Split(peer.Regex(pattern), "isolated") for pattern in patterns]
    return pre.Sequence([*steps, pre.ByteLevel(add_prefix_space=False, use_regex=False)])


SPLITTERS = {
    "deepseek": _splits(*STAGES),
    "gpt2": pre.ByteLevel(add_prefix_space=False, use_regex=True),
    "lines": _splits(r"\n"),
}


def _train(texts: list[str], splitter: object, size: int) -> object:
    model = peer.Tokenizer(peer.models.BPE())
    model.pre_tokenizer = splitter
    trainer = peer.trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre.ByteLevel.alphabet(),
        show_progress=False,
        special_tokens=list(FIRST_TOKENS),
    )
    model.train_from_iterator(texts, trainer)
    return model


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [document.text for document in library_documents(limit=600_000)] + STRINGS


@pytest.mark.parametrize("name", SPLITTERS)
def test_merges_equal(texts: list[str], name: str, tmp_path: Path) -> None:
    texts, size = (texts[:4], 500) if name == "lines" else (texts, 2000)
    pieces: dict[str, int] = {}
    for text in texts:
        for piece, _ in SPLITTERS[name].pre_tokenize_str(text):
            pieces[piece] = pieces.get(piece, 0) + 1
    _train(texts, SPLITTERS[name], size).save(str(tmp_path / "peer.json"))
    expected = json.loads((tmp_path / "peer.json").read_text(encoding="utf-8"))["model"]
    tokens, merges = learn(pieces, [*FIRST_TOKENS, *BYTE_TOKENS], size)
    assert [[tokens[a], tokens[b]] for a, b in merges] == expected["merges"]
    assert {token: index for index, token in enumerate(tokens)} == expected["vocab"]


@pytest.mark.parametrize("split", SPLITS)
def test_our_trainer_equals_theirs_on_every_split(split: str, texts: list[str], tmp_path: Path) -> None:
    """Our `train` with a named split, against theirs with the pre-tokeniser that our file writes."""
    texts, size = (texts[:4] + STRINGS, 500) if split == "none" else (texts, 2000)
    tokenizer = Tokenizer.train(texts, size, split=split)
    tokenizer.save(tmp_path / "tokenizer.json")
    other = peer.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    _train(texts, other.pre_tokenizer, size - 3).save(str(tmp_path / "peer.json"))
    expected = json.loads((tmp_path / "peer.json").read_text(encoding="utf-8"))["model"]
    tokens = tokenizer.vocabulary.tokens
    assert len(tokenizer.vocabulary.merges) == size - 262
    assert [[tokens[a], tokens[b]] for a, b in tokenizer.vocabulary.merges] == expected["merges"]
    for text in texts[::5] + STRINGS:
        found = other.encode(text)
        assert (found.ids, found.offsets) == tokenizer.encode_with_offsets(text, special=True)


def test_pieces_equal(texts: list[str]) -> None:
    split = _splits(*STAGES)
    for text in texts[:20] + STRINGS:
        pieces = [text[start:end] for _, (start, end) in split.pre_tokenize_str(text)]
        assert split_pieces(text) == pieces


def test_a_saved_tokenizer_is_read_with_the_same_ids(texts: list[str], tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(texts, 1500)
    tokenizer.save(tmp_path / "tokenizer.json")
    other = peer.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert other.get_vocab_size() == tokenizer.vocab_size
    for text in texts[::5] + STRINGS:
        ids = tokenizer.encode(text, special=True)
        assert other.encode(text).ids == ids
        assert other.decode(ids, skip_special_tokens=False) == tokenizer.decode(ids)


# ranges of code points: ASCII thrice as often, then scripts, marks, digits, symbols, spaces, emoji, the rest
RANGES = [(9, 127)] * 3 + [(0xA0, 0x250), (0x300, 0x590), (0x600, 0x780), (0x900, 0xE80), (0x2000, 0x2070)]
RANGES += [
    (0x20A0, 0x2400),
    (0x3000, 0x3100),
    (0x4E00, 0x4F00),
    (0xAC00, 0xAD00),
    (0x1F300, 0x1F700),
    (1, 0xD7FF),
]
FRAGMENTS = [
    "\n",
    "\r\n",
    "  ",
    "\t",
    "!\n\n",
    "123456",
    "'t",
    "def f(x):\n    ",
    BOS,
    FIM_BEGIN,
    FIM_HOLE,
    FIM_END,
]


def drawn_strings(count: int) -> list[str]:
    """Runs of one script each, with white space, punctuation and special tokens between them."""
    rng = np.random.default_rng(0)

    def run() -> str:
        if rng.random() < 0.4:
            return FRAGMENTS[rng.integers(len(FRAGMENTS))]
        first, last = RANGES[rng.integers(len(RANGES))]
        points = rng.integers(first, last, rng.integers(1, 9)).tolist()
        return "".join(chr(point) for point in points if category(chr(point)) != "Cn")

    return ["".join(run() for _ in range(rng.integers(1, 8))) for _ in range(count)]


def test_two_thousand_drawn_strings_have_the_same_ids(texts: list[str], tmp_path: Path) -> None:
    """Code points that Python's `unicodedata` does not know are left out: the peer's tables are newer."""
    tokenizer = Tokenizer.train(texts, 1500)
    tokenizer.save(tmp_path / "tokenizer.json")
    other = peer.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    strings = sorted(set(drawn_strings(2_400)))
    assert len(strings) >= 2_000
    assert [other.encode(text).ids for text in strings] == [
        tokenizer.encode(text, special=True) for text in strings
    ]


def test_a_peers_file_is_read_with_the_same_ids(texts: list[str], tmp_path: Path) -> None:
    other = _train(texts, SPLITTERS["deepseek"], 1500)
    other.decoder = peer.decoders.ByteLevel()
    other.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    for text in texts[::5] + STRINGS:
        assert other.encode(text).ids == tokenizer.encode(text)


def test_broken_sequences_decode_alike(texts: list[str], tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(texts, 1500)
    tokenizer.save(tmp_path / "tokenizer.json")
    other = peer.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = tokenizer.encode("".join(STRINGS))
    for start in range(0, len(ids) - 7, 3):
        window = ids[start : start + 7 : 2]
        assert other.decode(window, skip_special_tokens=False) == tokenizer.decode(window)
