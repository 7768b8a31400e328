"""Read and write `tokenizer.json`, the one-file format of Hugging Face's `tokenizers`.

The file names every step (`steps`), a model (BPE: `vocab` from token to id, `merges` in order, written
"a b" or ["a", "b"]) and the added tokens. DeepSeek's files have this form, from Coder and LLM to V4, as do
those of the Qwen and Llama distillations; what is written here is read by `tokenizers`, with the same ids.

A file comes from outside, so nothing in it is believed: its size is bounded, every field has its type
checked, and what this package does not compute (dropout, word-level models, tokens that match whole words
only) is refused by name. A TokenizerFileError names the file, the field, what was expected and what came.
Writing is atomic: a new file, then renamed.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     path = Path(folder) / "tokenizer.json"
...     _ = path.write_text('{"model": {"type": "WordPiece"}}')
...     try:
...         read(path)
...     except TokenizerFileError as error:
...         print(str(error).removeprefix(folder))
/tokenizer.json: expected model.type to be 'BPE', got 'WordPiece'

Next: minidsv3.tokenizer.composing
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from tempfile import mkstemp

from .pieces import DEEPSEEK_V3
from .stages import Stage, Steps
from .steps import (
    Json,
    expect,
    read_normalizer,
    read_pre_tokenizer,
    read_template,
    shown,
    typed,
    written_normalizer,
    written_pre_tokenizer,
    written_template,
)
from .training import Pair
from .vocabulary import AddedToken, Vocabulary

SIZE_LIMIT = 64 << 20  # bytes; DeepSeek-V3's file has 7.8 million, the largest known 13
FilePath = str | os.PathLike[str]

# parts of the model that would change its ids; each may be absent or null, false or empty
_NOT_COMPUTED = (
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "byte_fallback",
)


class TokenizerFileError(ValueError):
    """A file that is no tokenizer known here; the message names the file and the field."""

    exit_code = 3


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
    tokens, steps = vocabulary.tokens, vocabulary.steps
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_written(token) for token in sorted(vocabulary.added, key=lambda token: token.id)],
        "normalizer": written_normalizer(steps),
        "pre_tokenizer": written_pre_tokenizer(steps),
        "post_processor": written_template(steps, tokens),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            **dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")),
            **dict.fromkeys(("fuse_unk", "byte_fallback"), False),
            "ignore_merges": steps.whole_pieces,
            "vocab": {token: index for index, token in enumerate(tokens[: vocabulary.learned])},
            "merges": [f"{tokens[a]} {tokens[b]}" for a, b in vocabulary.merges],
        },
    }


def _written(token: AddedToken) -> Json:
    flags = {"single_word": False, "lstrip": token.lstrip, "rstrip": token.rstrip}
    return {
        "id": token.id, "content": token.content, **flags,
        "normalized": token.normalized, "special": token.special,
    }  # fmt: skip


def read(path: FilePath) -> Vocabulary:
    """Read a tokenizer.json, or that of a folder; a TokenizerFileError says what in it is not as expected."""
    if Path(path).is_dir():
        if not (Path(path) / "tokenizer.json").is_file():
            raise TokenizerFileError(f"{path}: expected a tokenizer.json in the folder, got none")
        path = Path(path) / "tokenizer.json"
    try:
        return _vocabulary(typed("the file", _load(path), dict))
    except ValueError as error:
        raise TokenizerFileError(f"{path}: {error}") from None


def _vocabulary(document: Json) -> Vocabulary:
    model = typed("model", document.get("model"), dict)
    steps = _steps(document, model)
    vocab = typed("model.vocab", model.get("vocab"), dict)
    added = _added(document.get("added_tokens"))
    tokens = _by_id(vocab, added)
    ids = {token: index for index, token in enumerate(tokens)}
    before, after = read_template(document.get("post_processor"), ids)
    merges = _merges(typed("model.merges", model.get("merges"), list), ids)
    return Vocabulary(tokens, merges, added, replace(steps, before=before, after=after))


def _load(path: FilePath) -> object:
    if (size := Path(path).stat().st_size) > SIZE_LIMIT:
        raise ValueError(f"expected at most {SIZE_LIMIT} bytes, got {size}")
    try:
        return json.loads(Path(path).read_bytes(), object_pairs_hook=_unique)
    except (
        ValueError,
        RecursionError,
    ) as error:  # of UTF-8, of JSON, of nesting, of numbers with too many digits
        raise ValueError(f"expected a JSON document, got one that cannot be read ({error})") from None


def _unique(pairs: list[tuple[str, object]]) -> Json:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return fields


def _steps(document: Json, model: Json) -> Steps:
    """Read every step that decides the ids; refuse those that are computed otherwise here."""
    expect("model.type", model.get("type", "BPE"), "BPE")
    for name in _NOT_COMPUTED:
        if model.get(name) not in (None, False, ""):
            raise ValueError(f"expected no model.{name}, got {shown(model[name])}")
    whole_pieces = typed("model.ignore_merges", model.get("ignore_merges", False), bool)
    compose = read_normalizer(document.get("normalizer"))
    decoder = typed("decoder", document.get("decoder"), dict)
    expect("decoder.type", decoder.get("type"), "ByteLevel")
    stages = read_pre_tokenizer(document.get("pre_tokenizer"))
    return Steps(_known(stages), compose, whole_pieces)


def _known(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Recognise DeepSeek-V3's stages, whichever way the line breaks in their patterns are written."""
    return DEEPSEEK_V3.stages if [*map(_escaped, stages)] == [*DEEPSEEK_V3.stages] else stages


def _escaped(stage: Stage) -> Stage:
    if stage.pattern is None or stage.literal:
        return stage
    return replace(stage, pattern=stage.pattern.replace("\r", r"\r").replace("\n", r"\n"))


def _added(entries: object) -> tuple[AddedToken, ...]:
    tokens = []
    for place, entry in enumerate(typed("added_tokens", [] if entries is None else entries, list)):
        where = f"added_tokens[{place}]"
        entry = typed(where, entry, dict)
        content = typed(f"{where}.content", entry.get("content"), str)
        where = f"of {shown(content)}"
        expect(f"single_word {where}", entry.get("single_word", False), False)
        flags = {
            flag: typed(f"{flag} {where}", entry.get(flag, False), bool)
            for flag in ("special", "lstrip", "rstrip", "normalized")
        }
        tokens.append(AddedToken(_id(content, entry.get("id")), content, **flags))
    return tuple(tokens)


def _by_id(vocab: Json, added: tuple[AddedToken, ...]) -> tuple[str, ...]:
    tokens: dict[int, str] = {}
    pairs = [(content, _id(content, index)) for content, index in vocab.items()]
    for content, index in pairs + [(token.content, token.id) for token in added]:
        if tokens.setdefault(index, content) != content:
            first, second = shown(tokens[index]), shown(content)
            raise ValueError(f"expected one token for each id, got {first} and {second} for {index}")
    if tokens and max(tokens) != len(tokens) - 1:
        gap = next(index for index in range(len(tokens)) if index not in tokens)
        raise ValueError(f"expected ids 0 to {len(tokens) - 1} without gaps, got none for {gap}")
    return tuple(tokens[index] for index in range(len(tokens)))


def _merges(entries: list[object], ids: dict[str, int]) -> tuple[Pair, ...]:
    pairs = []
    for rank, entry in enumerate(entries):
        match entry.split(" ") if isinstance(entry, str) else entry:
            case [str(first), str(second)]:
                if first not in ids or second not in ids:
                    unknown = shown(second if first in ids else first)
                    raise ValueError(f"expected merges of known tokens, got {unknown} in merge {rank}")
                pairs.append((ids[first], ids[second]))
            case _:
                raise ValueError(f'expected merges "a b" or ["a", "b"], got {shown(entry)} as merge {rank}')
    return tuple(pairs)


def _id(content: str, index: object) -> int:
    if type(index) is not int or index < 0:  # a bool is an int to isinstance
        raise ValueError(f"expected an id (integer, 0 or more) for {shown(content)}, got {shown(index)}")
    return index
