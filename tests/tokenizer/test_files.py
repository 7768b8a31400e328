"""Reading and writing tokenizer.json, and refusing what is not one."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minidsv3.tokenizer import Tokenizer, TokenizerFileError, files

Document = dict[str, Any]
TRAINED = Tokenizer.train(["def f(x):\n    return x\n", "naïve ☃"], 280)


@pytest.fixture
def document(tmp_path: Path) -> Document:
    TRAINED.save(tmp_path / "tokenizer.json")
    return json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))


def test_saving_and_loading_keep_everything(tmp_path: Path) -> None:
    TRAINED.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.vocabulary == TRAINED.vocabulary
    assert loaded.encode("def return ☃") == TRAINED.encode("def return ☃")


def test_saving_leaves_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("before")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        TRAINED.save(path)
    assert path.read_text() == "before"
    monkeypatch.undo()
    TRAINED.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]


def test_merges_may_be_pairs(tmp_path: Path, document: Document) -> None:
    document["model"]["merges"] = [merge.split(" ") for merge in document["model"]["merges"]]
    assert _load(tmp_path, document).vocabulary == TRAINED.vocabulary


def test_line_breaks_in_a_pattern_may_be_characters(tmp_path: Path, document: Document) -> None:
    pattern = document["pre_tokenizer"]["pretokenizers"][2]["pattern"]
    pattern["Regex"] = pattern["Regex"].replace(r"\r\n", "\r\n")  # as in DeepSeek's file
    assert "\n" in pattern["Regex"]
    assert _load(tmp_path, document).vocabulary == TRAINED.vocabulary


def test_an_added_token_outside_the_alphabet_is_its_own_text(tmp_path: Path, document: Document) -> None:
    document["added_tokens"] += [
        {"id": 280, "content": "<｜x｜>", "special": True},
        {"id": 281, "content": "<|y|>"},
    ]
    loaded = _load(tmp_path, document)
    assert loaded.decode(loaded.encode("a<｜x｜><|y|>", special=True)) == "a<｜x｜><|y|>"
    assert loaded.encode("<|y|>", special=True) == [281]


def _load(folder: Path, document: object) -> Tokenizer:
    path = folder / "given.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return Tokenizer.load(path)


def _set(*where: str | int, value: object) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        target: Any = document
        for name in where[:-1]:
            target = target[name]
        target[where[-1]] = value

    return change


def _drop_byte(document: Document) -> None:
    document["model"]["vocab"]["!!"] = document["model"]["vocab"].pop("!")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("model", value=None), "expected model to be of type dict, got None"),
        (_set("model", "type", value="WordPiece"), "expected model.type to be 'BPE', got 'WordPiece'"),
        (_set("model", "byte_fallback", value=True), "expected no model.byte_fallback, got True"),
        (_set("model", "dropout", value=0.1), "expected no model.dropout"),
        (_set("model", "vocab", value=[]), "expected model.vocab to be of type dict"),
        (_set("model", "vocab", "!", value="3"), "expected an id .* for '!', got '3'"),
        (_set("model", "vocab", "!", value=True), "expected an id .* got True"),
        (_set("model", "vocab", "!", value=-1), "expected an id .* got -1"),
        (_set("model", "vocab", "!", value=4), "expected one token for each id, got '!' and"),
        (_set("model", "vocab", "zz", value=10**9), "without gaps, got none for 280"),
        (_set("model", "vocab", "zz｜", value=280), "byte-level characters, got 'zz｜'"),
        (_set("model", "vocab", "", value=280), "byte-level characters, got ''"),
        (_drop_byte, "byte tokens of UTF-8, got none for '!'"),
        (_set("model", "merges", value={}), "expected model.merges to be of type list"),
        (_set("model", "merges", 0, value="a"), "expected merges .* got 'a' as merge 0"),
        (_set("model", "merges", 0, value=["a", 1]), "expected merges"),
        (_set("model", "merges", 0, value=7), "expected merges"),
        (_set("model", "merges", 1, value="a nowhere"), "known tokens, got 'nowhere' in merge 1"),
        (_set("model", "merges", 1, value="! z"), "make a token of the vocabulary, got '!' . 'z' as merge 1"),
        (_set("added_tokens", value={}), "expected added_tokens to be of type list"),
        (_set("added_tokens", 0, value="<s>"), "expected added_tokens\\[0\\] to be of type dict"),
        (_set("added_tokens", 0, "content", value="<s>"), "expected one token for each id"),
        (_set("added_tokens", 0, "id", value=1), "expected one token for each id"),
        (_set("added_tokens", 0, "special", value=1), "expected special of .* of type bool"),
        (_set("added_tokens", 0, "single_word", value=True), "expected single_word of .* to be False"),
        (
            _set("normalizer", value={"type": "NFKC"}),
            "expected normalizer.type to be 'Sequence' or 'NFC', got 'NFKC'",
        ),
        (_set("decoder", value=None), "expected decoder to be of type dict"),
        (_set("decoder", "type", value="WordPiece"), "expected decoder.type to be 'ByteLevel'"),
        (
            _set("pre_tokenizer", value={"type": "Whitespace"}),
            "pre_tokenizer.type to be Sequence, Split, .*, got 'Whitespace'",
        ),
        (_set("pre_tokenizer", "pretokenizers", value=[]), "end with its only ByteLevel, got \\[\\]"),
        (
            _set("pre_tokenizer", "pretokenizers", 0, "pattern", "Regex", value=r"\b"),
            r"pretokenizers\[0\].pattern: expected an escape that is known here, got \\b",
        ),
        (
            _set("pre_tokenizer", "pretokenizers", 3, "use_regex", value=1),
            r"pretokenizers\[3\].use_regex to be of type bool, got 1",
        ),
    ],
)
def test_hostile_files_are_refused(
    tmp_path: Path, document: Document, change: Callable[[Document], None], message: str
) -> None:
    change(document)
    with pytest.raises(TokenizerFileError, match=f"given.json: .*{message}"):
        _load(tmp_path, document)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[" * 200_000, b'{"a": 1, "a": 2}', b'{"a": ' + b"9" * 5000 + b"}", b"[]", b"null"],
)
def test_what_is_no_json_document_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "given.json"
    path.write_bytes(content)
    with pytest.raises(TokenizerFileError, match=r"given\.json: expected"):
        Tokenizer.load(path)


def test_a_file_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TRAINED.save(tmp_path / "tokenizer.json")
    monkeypatch.setattr(files, "SIZE_LIMIT", 100)
    with pytest.raises(ValueError, match="expected at most 100 bytes, got"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_added_tokens_must_be_distinct() -> None:
    with pytest.raises(ValueError, match="every token once"):
        Tokenizer.train(["ab"], 300, special_tokens=["<x>", "<x>"])
