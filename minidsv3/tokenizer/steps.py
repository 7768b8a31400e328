"""The steps of a `tokenizer.json` besides its vocabulary: which are computed here, how they are written.

A normaliser (none, or NFC), a pre-tokeniser (`Split`s and `Digits`, then `ByteLevel`), a post-processor
(none, `ByteLevel`, or a template that puts tokens such as begin-of-sentence around a text) and a decoder
(`ByteLevel`). Every field that would change an id is read; a step or a value that is not computed here is
refused by name, with the field it stands in.

`trim_offsets` changes offsets only and is not followed: a token's offsets are here always those of the whole
token. A template is kept (`Steps.before`, `Steps.after`), not applied.

>>> read_pre_tokenizer({"type": "ByteLevel", "use_regex": False, "add_prefix_space": False})[0].kind
'ByteLevel'
>>> read_pre_tokenizer({"type": "Metaspace"})
Traceback (most recent call last):
ValueError: expected pre_tokenizer.type to be Sequence, Split, Digits or ByteLevel, got 'Metaspace'

Next: minidsv3.tokenizer.files
"""

import re
from collections.abc import Mapping
from typing import TypeVar

from .patterns import compiled
from .stages import ASCII, BEHAVIOURS, DIGIT, GPT2, Stage, Steps

Json = dict[str, object]
_T = TypeVar("_T")
_MOST_STAGES = 64


def typed(what: str, value: object, kind: type[_T]) -> _T:
    """Return the value, or raise a ValueError unless it is of the kind; a bool is no integer."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"expected {what} to be of type {kind.__name__}, got {shown(value)}")
    return value


def expect(what: str, value: object, *wanted: object) -> None:
    """Raise a ValueError unless the value, and its type, are one of those wanted."""
    if not any(value == choice and type(value) is type(choice) for choice in wanted):
        raise ValueError(f"expected {what} to be {' or '.join(map(repr, wanted))}, got {shown(value)}")


def shown(value: object) -> str:
    """Write a value shortly."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def read_normalizer(normalizer: object) -> bool:
    """Say whether text is brought to NFC."""
    if normalizer is None:
        return False
    step = typed("normalizer", normalizer, dict)
    expect("normalizer.type", step.get("type"), "Sequence", "NFC")
    if step["type"] == "NFC":
        return True
    inner = typed("normalizer.normalizers", step.get("normalizers"), list)
    expect("the number of steps in normalizer", len(inner), 0, 1)
    return bool(inner) and read_normalizer(inner[0])


def read_pre_tokenizer(pre_tokenizer: object) -> tuple[Stage, ...]:
    """Read the stages; the last, and only the last, is ByteLevel."""
    stages = _flat("pre_tokenizer", pre_tokenizer, depth=0)
    if len(stages) > _MOST_STAGES:
        raise ValueError(f"expected at most {_MOST_STAGES} steps in pre_tokenizer, got {len(stages)}")
    kinds = [stage.kind for stage in stages]
    if kinds.count("ByteLevel") != 1 or kinds[-1] != "ByteLevel":
        raise ValueError(f"expected pre_tokenizer to end with its only ByteLevel, got {kinds}")
    return stages


def _flat(where: str, step: object, depth: int) -> tuple[Stage, ...]:
    fields = typed(where, step, dict)
    match fields.get("type"):
        case "Sequence" if depth < 4:
            inner = typed(f"{where}.pretokenizers", fields.get("pretokenizers"), list)
            parts = [_flat(f"{where}.pretokenizers[{i}]", part, depth + 1) for i, part in enumerate(inner)]
            return tuple(stage for part in parts for stage in part)
        case "Split":
            return (_split(where, fields),)
        case "Digits":
            alone = typed(f"{where}.individual_digits", fields.get("individual_digits", False), bool)
            return (Stage("Digits", DIGIT, "Isolated" if alone else "Contiguous"),)
        case "ByteLevel":
            prefix = typed(f"{where}.add_prefix_space", fields.get("add_prefix_space", True), bool)
            cuts = typed(f"{where}.use_regex", fields.get("use_regex", True), bool)
            return (Stage("ByteLevel", GPT2 if cuts else None, prefix_space=prefix),)
    wanted = "Sequence, Split, Digits or ByteLevel"
    raise ValueError(f"expected {where}.type to be {wanted}, got {shown(fields.get('type'))}")


def _split(where: str, fields: Mapping[str, object]) -> Stage:
    pattern = typed(f"{where}.pattern", fields.get("pattern"), dict)
    expect(f"{where}.behavior", fields.get("behavior"), *BEHAVIOURS)
    invert = typed(f"{where}.invert", fields.get("invert", False), bool)
    if len(pattern) != 1 or not pattern.keys() <= {"Regex", "String"}:
        raise ValueError(f"expected {where}.pattern to be a Regex or a String, got {shown(pattern)}")
    ((kind, value),) = pattern.items()
    stage = Stage(
        "Split",
        typed(f"{where}.pattern.{kind}", value, str),
        typed("behavior", fields["behavior"], str),
        invert,
        kind == "String",
    )
    try:
        compiled(stage.expression, ASCII)
    except (ValueError, re.error) as error:
        raise ValueError(f"{where}.pattern: {error}") from None
    return stage


def read_template(post_processor: object, ids: Mapping[str, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Read which ids the post-processor puts before and after a text."""
    if post_processor is None:
        return (), ()
    step = typed("post_processor", post_processor, dict)
    match step.get("type"):
        case "ByteLevel":
            return (), ()
        case "Sequence":
            inner = typed("post_processor.processors", step.get("processors"), list)
            found = [read_template(part, ids) for part in inner if _kind(part) != "Sequence"]
            if len(found) != len(inner) or sum(part != ((), ()) for part in found) > 1:
                raise ValueError(
                    f"expected at most one template in post_processor.processors, got {shown(inner)}"
                )
            return next((part for part in found if part != ((), ())), ((), ()))
        case "TemplateProcessing":
            return _template(step, ids)
    wanted = "None, ByteLevel, TemplateProcessing or Sequence"
    raise ValueError(f"expected post_processor.type to be {wanted}, got {shown(step.get('type'))}")


def _kind(step: object) -> object:
    return step.get("type") if isinstance(step, dict) else None


def _template(step: Json, ids: Mapping[str, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    single = typed("post_processor.single", step.get("single"), list)
    specials = typed("post_processor.special_tokens", step.get("special_tokens", {}), dict)
    sides: tuple[list[int], list[int]] = ([], [])
    texts = 0
    for part in single:
        match part:
            case {"Sequence": {"id": "A"}}:
                texts += 1
            case {"SpecialToken": {"id": str(name)}}:
                entry = typed(f"post_processor.special_tokens[{name!r}]", specials.get(name), dict)
                given = typed(f"ids of post_processor's {name!r}", entry.get("ids"), list)
                for token in given:
                    if token not in ids.values() or isinstance(token, bool):
                        raise ValueError(
                            f"expected ids of post_processor's {name!r} in the vocabulary, got {shown(token)}"
                        )
                sides[min(texts, 1)].extend(given)
            case _:
                raise ValueError(f"expected post_processor.single of tokens and text A, got {shown(part)}")
    expect("the number of texts in post_processor.single", texts, 1)
    return tuple(sides[0]), tuple(sides[1])


def written_normalizer(steps: Steps) -> Json | None:
    """Write the normaliser."""
    return {"type": "NFC"} if steps.compose else None


def written_pre_tokenizer(steps: Steps) -> Json:
    """Write the stages."""
    return {"type": "Sequence", "pretokenizers": [_written(stage) for stage in steps.stages]}


def _written(stage: Stage) -> Json:
    match stage.kind:
        case "Digits":
            return {"type": "Digits", "individual_digits": stage.behaviour == "Isolated"}
        case "ByteLevel":
            flags = {"add_prefix_space": stage.prefix_space, "trim_offsets": True}
            return {"type": "ByteLevel", **flags, "use_regex": stage.pattern is not None}
    pattern = {"String" if stage.literal else "Regex": stage.pattern}
    return {"type": "Split", "pattern": pattern, "behavior": stage.behaviour, "invert": stage.invert}


def written_template(steps: Steps, tokens: tuple[str, ...]) -> Json | None:
    """Write the tokens put around a text."""
    if not steps.before and not steps.after:
        return None

    def around(text: str, type_id: int) -> list[Json]:
        def marker(token: int) -> Json:
            return {"SpecialToken": {"id": tokens[token], "type_id": type_id}}

        inside: Json = {"Sequence": {"id": text, "type_id": type_id}}
        return [*map(marker, steps.before), inside, *map(marker, steps.after)]

    used = dict.fromkeys(steps.before + steps.after)
    named = {
        tokens[token]: {"id": tokens[token], "ids": [token], "tokens": [tokens[token]]} for token in used
    }
    pair = around("A", 0) + around("B", 1)
    return {"type": "TemplateProcessing", "single": around("A", 0), "pair": pair, "special_tokens": named}
