"""Small files of every form that the family's tokenizer.json files have; and files bent at random."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.tokenizer import StreamDecoder, Tokenizer, TokenizerFileError
from minidsv3.tokenizer.alphabet import BYTE_TO_CHARACTER, BYTE_TOKENS
from minidsv3.tokenizer.pieces import SPLITS, STAGES

Document = dict[str, Any]
TEXTS = ["def f(x):\n    return x + 1\n\n", "the lowest of the low, it isn't 12345 naïve 図書図書\n"] * 3
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def document_of(split: str, folder: Path) -> Document:
    Tokenizer.train(TEXTS, 300, split=split).save(folder / "tokenizer.json")
    return json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))


def load(document: Document, folder: Path) -> Tokenizer:
    path = folder / "given.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return Tokenizer.load(path)


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_trains_saves_and_loads(split: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(TEXTS, 300, split=split)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path)  # a folder will do
    assert loaded.vocabulary == tokenizer.vocabulary
    assert loaded.vocabulary.steps == SPLITS[split]
    for text in TEXTS:
        assert loaded.encode(text) == tokenizer.encode(text)
        assert loaded.decode(loaded.encode(text)) == text


def test_splits_differ_and_are_named() -> None:
    tokens = {
        split: Tokenizer.train(["ab ab12 ab\n"] * 5, 268, split=split).vocabulary.tokens for split in SPLITS
    }
    assert len(set(tokens.values())) > 1
    with pytest.raises(ValueError, match="a split of deepseek-v3, deepseek-v2, gpt2, none, got 'v3'"):
        Tokenizer.train(TEXTS, 300, split="v3")


def test_a_file_without_the_bytes_that_utf8_never_uses(tmp_path: Path) -> None:
    document = document_of("deepseek-v2", tmp_path)
    unused = [BYTE_TO_CHARACTER[byte] for byte in (0xC0, 0xC1, *range(0xF5, 0x100))]
    vocab = [token for token in document["model"]["vocab"] if "｜" not in token and token not in unused]
    document["model"]["vocab"] = {token: index for index, token in enumerate(vocab)}
    # Coder has them as added tokens: õ in a text, where markers are asked for, is such a token
    contents = [*unused, "<｜fim▁hole｜>"]
    document["added_tokens"] = [
        {"id": len(vocab) + i, "content": content, "normalized": True} for i, content in enumerate(contents)
    ]
    tokenizer = load(document, tmp_path)
    assert tokenizer.decode(tokenizer.encode("naïve õ 図")) == "naïve õ 図"
    assert tokenizer.encode("õ", special=True) == [tokenizer.token_id("õ")]
    assert tokenizer.decode_bytes([tokenizer.token_id("õ")]) == b"\xf5"


def test_composed_text(tmp_path: Path) -> None:
    document = {**document_of("gpt2", tmp_path), "normalizer": {"type": "NFC"}}
    document["added_tokens"] += [{"id": 300, "content": "e\u0301!", "normalized": True, "special": False}]
    tokenizer = load(document, tmp_path)
    assert tokenizer.encode("nai\u0308ve") == tokenizer.encode("naïve")
    assert tokenizer.encode("é!", special=True) == tokenizer.encode("e\u0301!", special=True) == [300]
    ids, offsets = tokenizer.encode_with_offsets("ai\u0308e\u0301!", special=True)
    assert ids == [*tokenizer.encode("aï"), 300]
    assert (offsets[0][0], offsets[-2][1], offsets[-1]) == (0, 3, (3, 6))
    tokenizer.save(tmp_path / "again.json")
    assert Tokenizer.load(tmp_path / "again.json").vocabulary == tokenizer.vocabulary


def test_pieces_that_are_tokens_whatever_the_merges_say(tmp_path: Path) -> None:
    document = document_of("gpt2", tmp_path)
    document["model"]["ignore_merges"] = True
    document["model"]["merges"] = document["model"]["merges"][:1]
    tokenizer = load(document, tmp_path)
    whole = next(token for token in document["model"]["vocab"] if len(token) > 3 and token.isalpha())
    assert tokenizer.encode(whole.replace("Ġ", " ")) == [document["model"]["vocab"][whole]]


def test_a_template_is_known_and_not_applied(tmp_path: Path) -> None:
    document = document_of("deepseek-v3", tmp_path)
    begin, end = (token["content"] for token in document["added_tokens"][:2])
    marker = {
        content: {"id": content, "ids": [i], "tokens": [content]} for i, content in enumerate([begin, end])
    }
    single = [{"SpecialToken": {"id": begin, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    single += [{"SpecialToken": {"id": end, "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": marker}
    document["post_processor"] = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]}
    tokenizer = load(document, tmp_path)
    assert tokenizer.template == ((0,), (1,))
    assert tokenizer.encode("a", special=True) == tokenizer.encode("a")
    tokenizer.save(tmp_path / "again.json")
    assert Tokenizer.load(tmp_path / "again.json").template == ((0,), (1,))


def test_a_space_in_front(tmp_path: Path) -> None:
    document = document_of("gpt2", tmp_path)
    document["pre_tokenizer"] = {**BYTES, "add_prefix_space": True, "use_regex": True}
    tokenizer = load(document, tmp_path)
    ids, offsets = tokenizer.encode_with_offsets("low")
    assert tokenizer.decode(ids) == " low"
    assert ids == tokenizer.encode("low") == tokenizer.encode(" low")
    assert (offsets[0][0], offsets[-1][1]) == (0, 3)


def test_added_tokens_may_swallow_blanks_and_be_left_out(tmp_path: Path) -> None:
    document = document_of("deepseek-v3", tmp_path)
    document["added_tokens"] += [
        {"id": 300, "content": "<m>", "lstrip": True, "rstrip": True, "special": True},
        {"id": 301, "content": "<m><n>", "special": False},
    ]
    tokenizer = load(document, tmp_path)
    ids, offsets = tokenizer.encode_with_offsets("a \n<m>\u3000 b<m><n>", special=True)
    assert ids == [*tokenizer.encode("a"), 300, *tokenizer.encode("b"), 301]
    assert offsets == [(0, 1), (1, 8), (8, 9), (9, 15)]
    assert tokenizer.decode(ids) == "a<m>b<m><n>"
    assert tokenizer.decode(ids, skip_special=True) == "ab<m><n>"
    stream = StreamDecoder(tokenizer, skip_special=True)
    assert "".join(map(stream.push, ids)) + stream.finish() == "ab<m><n>"


TRAINED = {split: Tokenizer.train(TEXTS, 300, split=split) for split in SPLITS}


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(SPLITS)), st.text() | st.text("the low 12\n図é😀<｜fim▁hole｜>"), st.booleans())
def test_offsets_tell_where_tokens_come_from(split: str, text: str, special: bool) -> None:
    tokenizer = TRAINED[split]
    ids, offsets = tokenizer.encode_with_offsets(text, special=special)
    assert ids == tokenizer.encode(text, special=special)
    covered = 0
    for token, (begin, end) in zip(ids, offsets, strict=True):
        assert begin < end <= len(text)
        assert begin in (covered, covered - 1)  # a character in several tokens belongs to each
        assert tokenizer.token_bytes(token) in text[begin:end].encode()
        covered = end
    assert covered == len(text)


HOSTILE: list[Any] = [
    None, True, -1, 0, 1, 10**30, 1.5, float("inf"), "", "a", "\ud800", "(a+)+$", "\x00",
    [], [[]], [0, 0], {}, {"": {}},
    {"type": "Sequence", "pretokenizers": []}, {"type": "NFC"}, {"Regex": "("}, {"String": "-"},
    "x" * 5000,
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List where the values of a document stand; of long lists and tables, the first few."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    for key, inner in list(pairs)[:14]:
        found += places(inner, (*path, key))
    return found


@pytest.mark.slow
def test_a_thousand_bent_files_are_read_or_refused(tmp_path: Path) -> None:
    draw, messages = random.Random(0), list[str]()
    documents = [document_of(split, tmp_path) for split in SPLITS]
    for document in documents:
        document["post_processor"] = {"type": "ByteLevel", "trim_offsets": False}
    for _ in range(1_000):
        document = copy.deepcopy(draw.choice(documents))
        for _ in range(draw.choice([1, 1, 1, 2, 4])):
            *way, last = draw.choice(places(document))
            target: Any = document
            try:
                for step in way:
                    target = target[step]
                if draw.random() < 0.2:
                    del target[last]
                else:
                    target[last] = draw.choice(HOSTILE)
            except (KeyError, IndexError, TypeError):
                continue  # an earlier bend has taken this place away
        try:
            tokenizer = load(document, tmp_path)
        except TokenizerFileError as error:
            messages.append(str(error))
        else:
            for text in ("the lowest 12\n", "図" * 50 + " " * 50):
                tokenizer.decode(tokenizer.encode(text, special=True))
    assert 300 < len(messages) < 1_000
    given = str(tmp_path / "given.json")
    assert all(message.startswith(f"{given}: ") and "expected " in message for message in messages)


def test_cut_and_bent_bytes_are_refused(tmp_path: Path) -> None:
    draw, path, messages = random.Random(1), tmp_path / "given.json", list[str]()
    document_of("deepseek-v3", tmp_path)
    data = (tmp_path / "tokenizer.json").read_bytes()
    for _ in range(300):
        at, size = draw.randrange(len(data)), draw.choice([0, 1, 8])
        path.write_bytes(
            data[:at] if draw.random() < 0.3 else data[:at] + draw.randbytes(size) + data[at + size :]
        )
        try:
            Tokenizer.load(path).encode("the lowest 図")
        except TokenizerFileError as error:
            messages.append(str(error))
    assert messages
    assert all(message.startswith(f"{path}: expected ") for message in messages)


def test_hostile_shapes_are_refused(tmp_path: Path) -> None:
    deep: Document = dict(BYTES)
    for _ in range(50):
        deep = {"type": "Sequence", "pretokenizers": [deep]}
    document = document_of("deepseek-v3", tmp_path)
    split = {"type": "Split", "pattern": {"Regex": "(a|a)*$"}, "behavior": "Isolated", "invert": False}
    for pre_tokenizer, named in [
        (deep, "type to be Sequence, Split"),
        ({"type": "Sequence", "pretokenizers": [BYTES] * 2}, "only ByteLevel"),
        ({"type": "Sequence", "pretokenizers": [split] * 65 + [BYTES]}, "repeated group"),
        ({"type": "Sequence", "pretokenizers": [{"type": "Digits"}] * 64 + [BYTES]}, "at most 64"),
    ]:
        with pytest.raises(TokenizerFileError, match=rf"expected .*{named}"):
            load({**document, "pre_tokenizer": pre_tokenizer}, tmp_path)


def test_refusals_have_the_exit_code_of_bad_files(tmp_path: Path) -> None:
    with pytest.raises(TokenizerFileError, match=r"a tokenizer\.json in the folder, got none") as caught:
        Tokenizer.load(tmp_path)
    assert caught.value.exit_code == 3
    assert len(BYTE_TOKENS) == 256
    assert SPLITS["deepseek-v3"].stages[0].pattern == STAGES[0]
