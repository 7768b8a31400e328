"""Read and write `tokenizer.json`, the one-file format of Hugging Face's `tokenizers`.

The file names every step: a normaliser (none here), a pre-tokeniser (three `Split`s and `ByteLevel`), a
model (BPE: `vocab` from token to id, `merges` in order, written "a b" or ["a", "b"]), a decoder, and the
added tokens. DeepSeek's own files have this form, and what is written here is read by `tokenizers`, with
the same ids.

A file comes from outside, so nothing in it is believed: its size is bounded, every field has its type
checked, and a step that this package does not compute (another pattern, a normaliser, dropout, word-level
models) is refused by name. A ValueError names the file, what was expected and what came. Writing is atomic:
a new file, then renamed.

>>> expect("tokenizer.json", "model.type", "WordPiece", "BPE")
Traceback (most recent call last):
ValueError: tokenizer.json: expected model.type to be 'BPE', got 'WordPiece'

Next: minidsv3.tokenizer.codec
"""

import json
import os
from pathlib import Path
from tempfile import mkstemp
from typing import TypeVar

from .pieces import STAGES
from .training import Pair
from .vocabulary import AddedToken, Vocabulary

SIZE_LIMIT = 64 << 20  # bytes; DeepSeek-V3's file has 7.8 million
Json = dict[str, object]
FilePath = str | os.PathLike[str]
_T = TypeVar("_T")

_BYTE_LEVEL: Json = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_SPLITS: list[Json] = [
    {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    for pattern in STAGES
]
# parts of the model that would change its ids; each may be absent or null, false or empty
_NOT_COMPUTED = (
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "byte_fallback",
    "ignore_merges",
)


def write(path: FilePath, vocabulary: Vocabulary) -> None:
    """Write a tokenizer.json; the file appears whole or not at all."""
    target = Path(path)
    handle, name = mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(_document(vocabulary), file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)  # a temporary file is its owner's only
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _document(vocabulary: Vocabulary) -> Json:
    tokens, added = vocabulary.tokens, {token.id for token in vocabulary.added}
    learned = 1 + max(index for index in range(len(tokens)) if index not in added)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token.id, "content": token.content, **flags, "special": token.special}
            for token in sorted(vocabulary.added, key=lambda token: token.id)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*_SPLITS, _BYTE_LEVEL]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            **dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")),
            **dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False),
            "vocab": {token: index for index, token in enumerate(tokens[:learned])},
            "merges": [f"{tokens[a]} {tokens[b]}" for a, b in vocabulary.merges],
        },
    }


def read(path: FilePath) -> Vocabulary:
    """Read a tokenizer.json; a ValueError says what in it is not as expected."""
    document = _typed(path, "the file", _load(path), dict)
    model = _typed(path, "model", document.get("model"), dict)
    _check_steps(path, document, model)
    vocab = _typed(path, "model.vocab", model.get("vocab"), dict)
    added = _added(path, document.get("added_tokens"))
    tokens = _by_id(path, vocab, added)
    ids = {token: index for index, token in enumerate(tokens)}
    merges = _merges(path, _typed(path, "model.merges", model.get("merges"), list), ids)
    try:
        return Vocabulary(tokens, merges, added)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _load(path: FilePath) -> object:
    if (size := Path(path).stat().st_size) > SIZE_LIMIT:
        raise ValueError(f"{path}: expected at most {SIZE_LIMIT} bytes, got {size}")
    try:
        return json.loads(Path(path).read_bytes(), object_pairs_hook=_unique)
    except (
        ValueError,
        RecursionError,
    ) as error:  # of UTF-8, of JSON, of nesting, of numbers with too many digits
        raise ValueError(f"{path}: expected a JSON document, got one that cannot be read ({error})") from None


def _unique(pairs: list[tuple[str, object]]) -> Json:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return fields


def _check_steps(path: FilePath, document: Json, model: Json) -> None:
    """Refuse every step that would be computed otherwise here."""
    expect(path, "model.type", model.get("type", "BPE"), "BPE")
    for name in _NOT_COMPUTED:
        if model.get(name) not in (None, False, ""):
            raise ValueError(f"{path}: expected no model.{name}, got {model[name]!r}")
    normalizer = document.get("normalizer")
    if normalizer not in (None, {"type": "Sequence", "normalizers": []}):
        raise ValueError(f"{path}: expected no normalizer, got {_shown(normalizer)}")
    decoder = _typed(path, "decoder", document.get("decoder"), dict)
    expect(path, "decoder.type", decoder.get("type"), "ByteLevel")
    _check_pre_tokenizer(path, _typed(path, "pre_tokenizer", document.get("pre_tokenizer"), dict))


def _check_pre_tokenizer(path: FilePath, pre_tokenizer: Json) -> None:
    expect(path, "pre_tokenizer.type", pre_tokenizer.get("type"), "Sequence")
    steps = _typed(path, "pre_tokenizer.pretokenizers", pre_tokenizer.get("pretokenizers"), list)
    expect(path, "the number of pre-tokeniser steps", len(steps), len(_SPLITS) + 1)
    for number, (step, wanted) in enumerate(zip(steps, [*_SPLITS, _BYTE_LEVEL], strict=True)):
        step = _typed(path, f"pre-tokeniser step {number}", step, dict)
        for name, value in wanted.items():
            if name != "trim_offsets":  # offsets into the text are not computed here
                expect(path, f"{name} of pre-tokeniser step {number}", _escaped(step.get(name)), value)


def _escaped(value: object) -> object:
    """Write the line breaks in a pattern as escapes; DeepSeek's file holds the characters themselves."""
    if isinstance(value, dict) and isinstance(pattern := value.get("Regex"), str):
        return {**value, "Regex": pattern.replace("\r", r"\r").replace("\n", r"\n")}
    return value


def _added(path: FilePath, entries: object) -> tuple[AddedToken, ...]:
    tokens = []
    for entry in _typed(path, "added_tokens", [] if entries is None else entries, list):
        entry = _typed(path, "an added token", entry, dict)
        content = _typed(path, "content of an added token", entry.get("content"), str)
        for flag in ("single_word", "lstrip", "rstrip"):
            expect(path, f"{flag} of {_shown(content)}", entry.get(flag, False), False)
        special = _typed(path, f"special of {_shown(content)}", entry.get("special", False), bool)
        tokens.append(AddedToken(_id(path, content, entry.get("id")), content, special))
    return tuple(tokens)


def _by_id(path: FilePath, vocab: Json, added: tuple[AddedToken, ...]) -> tuple[str, ...]:
    tokens: dict[int, str] = {}
    pairs = [(content, _id(path, content, index)) for content, index in vocab.items()]
    for content, index in pairs + [(token.content, token.id) for token in added]:
        if tokens.setdefault(index, content) != content:
            first, second = _shown(tokens[index]), _shown(content)
            raise ValueError(f"{path}: expected one token for each id, got {first} and {second} for {index}")
    if tokens and max(tokens) != len(tokens) - 1:
        gap = next(index for index in range(len(tokens)) if index not in tokens)
        raise ValueError(f"{path}: expected ids 0 to {len(tokens) - 1} without gaps, got none for {gap}")
    return tuple(tokens[index] for index in range(len(tokens)))


def _merges(path: FilePath, entries: list[object], ids: dict[str, int]) -> tuple[Pair, ...]:
    pairs = []
    for rank, entry in enumerate(entries):
        match entry.split(" ") if isinstance(entry, str) else entry:
            case [str(first), str(second)]:
                if first not in ids or second not in ids:
                    unknown = _shown(second if first in ids else first)
                    raise ValueError(
                        f"{path}: expected merges of known tokens, got {unknown} in merge {rank}"
                    )
                pairs.append((ids[first], ids[second]))
            case _:
                raise ValueError(
                    f'{path}: expected merges "a b" or ["a", "b"], got {_shown(entry)} as merge {rank}'
                )
    return tuple(pairs)


def _id(path: FilePath, content: str, index: object) -> int:
    if type(index) is not int or index < 0:  # a bool is an int to isinstance
        raise ValueError(
            f"{path}: expected an id (integer, 0 or more) for {_shown(content)}, got {_shown(index)}"
        )
    return index


def _typed(path: FilePath, what: str, value: object, kind: type[_T]) -> _T:
    if not isinstance(value, kind):
        raise ValueError(f"{path}: expected {what} to be of type {kind.__name__}, got {_shown(value)}")
    return value


def expect(path: FilePath, what: str, value: object, wanted: object) -> None:
    """Raise a ValueError naming the file unless the value, and its type, are those wanted."""
    if value != wanted or type(value) is not type(wanted):
        raise ValueError(f"{path}: expected {what} to be {wanted!r}, got {_shown(value)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
