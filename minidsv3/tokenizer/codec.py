"""The tokenizer: text to ids and back, with everything that makes it quick.

Text repeats its pieces, so the ids of a piece are worked out once and remembered; a text is then its
pieces, looked up. The memory is bounded: it is emptied when full, and pieces of more than 128 characters
are never kept.

`encode(text)` treats all text as text, so that nothing a user writes can become a marker; `encode(text,
special=True)` recognises the added tokens' own spelling. No begin token is put in front, also where a file
has a template that asks for one: whoever builds a prompt does, and finds the ids in `template`. Decoding
joins the tokens' bytes and reads them as UTF-8, with U+FFFD where they are not.

>>> tokenizer = Tokenizer.train(["a man, a plan, a canal"], vocab_size=266)
>>> tokenizer.encode(""), tokenizer.decode(tokenizer.encode("a plan — 図"))
([], 'a plan — 図')
>>> len(tokenizer.encode(FIM_HOLE)), tokenizer.encode("a" + FIM_HOLE, special=True)
(18, [67, 263])
>>> tokenizer.decode([999])
Traceback (most recent call last):
ValueError: expected token ids from 0 to 265, got 999

Next: minidsv3.tokenizer.streaming
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, filterfalse

import numpy as np
from numpy.typing import NDArray

from . import files
from .added import AddedTokens, Part
from .alphabet import BYTE_TO_CHARACTER, BYTE_TOKENS, to_characters
from .composing import Origin, composed
from .merging import merge
from .pieces import DEEPSEEK_V3, SPLITS, split_pieces
from .stages import Stage, Steps, cut_by, in_place
from .training import learn
from .vocabulary import (
    BOS,
    EOS,
    FIM_BEGIN,
    FIM_END,
    FIM_HOLE,
    FIRST_TOKENS,
    LAST_TOKENS,
    PAD,
    AddedToken,
    Vocabulary,
)

Ids = Sequence[int] | NDArray[np.integer]
_PIECES_KEPT = 1 << 17
_LONGEST_KEPT = 128  # characters
_MOST_TOKENS = 0x110000  # `learn` writes a token as one character


class Tokenizer:
    """A byte-level BPE tokenizer over one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._bytes = vocabulary.token_bytes()
        self._pieces = _PieceMemory(self._ids_of)
        self._ranks = vocabulary.ranks()
        # of the 13 bytes that UTF-8 never uses, some files have no token: no text asks for one
        self._byte_ids = [vocabulary.ids.get(BYTE_TO_CHARACTER[byte], -1) for byte in range(256)]
        self._cut, self._later = _first_cut(vocabulary.steps)
        self._final_pieces = _PieceMemory(self._merge_piece) if self._later else self._pieces
        whole = range(vocabulary.learned if vocabulary.steps.whole_pieces else 0)
        self._whole = {self._bytes[token]: token for token in whole}

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        split: str = "deepseek-v3",
        special_tokens: Sequence[str] = LAST_TOKENS,
    ) -> "Tokenizer":
        """Learn a tokenizer from texts.

        vocab_size counts all tokens; a text with too few different pairs gives fewer. split: how texts are
        cut into the pieces inside which tokens may join, one of `pieces.SPLITS`. special_tokens: those
        added last.
        """
        if split not in SPLITS:
            raise ValueError(f"expected a split of {', '.join(SPLITS)}, got {split!r}")
        steps = SPLITS[split]
        least = len(FIRST_TOKENS) + len(BYTE_TOKENS) + len(special_tokens)
        if not least <= vocab_size <= _MOST_TOKENS:
            raise ValueError(f"expected a vocab_size from {least} to {_MOST_TOKENS}, got {vocab_size}")
        alphabet = (*FIRST_TOKENS, *BYTE_TOKENS)
        tokens, merges = learn(_count_pieces(texts, steps), alphabet, vocab_size - len(special_tokens))
        added = [AddedToken(index, content, special=True) for index, content in enumerate(FIRST_TOKENS)]
        # like DeepSeek's, these are not `special`: they stay when markers are skipped
        added += [
            AddedToken(index, content, special=False)
            for index, content in enumerate(special_tokens, len(tokens))
        ]
        return cls(Vocabulary((*tokens, *special_tokens), tuple(merges), tuple(added), steps))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        """Read a tokenizer.json, or that of a folder; `TokenizerFileError` says why a file is refused."""
        return cls(files.read(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a tokenizer.json that `tokenizers` reads too."""
        files.write(path, self.vocabulary)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Turn text into ids; with `special`, added tokens spelled out in it become themselves."""
        return list(self._encoded(text, special))

    def encode_array(self, text: str, special: bool = False) -> NDArray[np.int32]:
        """Turn text into ids, as an array.  -> [T]"""
        return np.fromiter(self._encoded(text, special), dtype=np.int32)  # [T]

    def _encoded(self, text: str, special: bool) -> Iterator[int]:
        if not special:
            return self._encoded_text(self._normalised(text))
        return chain.from_iterable(map(self._encoded_part, self._parts(text)))

    def _encoded_text(self, text: str) -> Iterator[int]:
        return chain.from_iterable(map(self._pieces.__getitem__, self._cut(text)))

    def _encoded_part(self, part: str | int) -> Iterable[int]:
        return (part,) if isinstance(part, int) else self._encoded_text(part)

    def _parts(self, text: str) -> Iterator[str | int]:
        """Cut a text into added tokens and the normalised text between them."""
        for begin, end, token in self._markers.find(text, normalized=False):
            if token is not None:
                yield token
                continue
            part = self._normalised(text[begin:end])
            for first, last, inner in self._markers.find(part, normalized=True):
                yield part[first:last] if inner is None else inner

    def _normalised(self, text: str) -> str:
        return unicodedata.normalize("NFC", text) if self.vocabulary.steps.compose else text

    def _ids_of(self, piece: str) -> tuple[int, ...]:
        """Work out the ids of a piece of the first cut."""
        if not self._later:
            return self._merge_piece(piece)
        return tuple(chain.from_iterable(map(self._merge_piece, cut_by(self._later, piece))))

    def _merge_piece(self, piece: str) -> tuple[int, ...]:
        data = _utf8(piece)
        if (whole := self._whole.get(data)) is not None:
            return (whole,)
        return tuple(merge([self._byte_ids[byte] for byte in data], self._ranks))

    def encode_with_offsets(
        self, text: str, special: bool = False
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Turn text into ids, with the characters of `text` each came from: begin, and one past the end.

        A token that holds part of a character counts the whole character, so neighbours may share one.
        """
        ids, offsets = list[int](), list[tuple[int, int]]()
        for token, at, begin, end in self._placed(text, special):
            where = _origin_of(at, begin, end)
            ids.append(token)
            offsets.append(where)
        return ids, offsets

    def _placed(self, text: str, special: bool) -> Iterator[tuple[int, Origin | None, int, int]]:
        """Yield each token with the characters it came from, in a text whose origin is given."""
        whole: list[Part] = [(0, len(text), None)]
        for begin, end, marker in self._markers.find(text, normalized=False) if special else whole:
            if marker is not None:
                yield marker, None, begin, end
                continue
            part, origin = text[begin:end], None
            if self.vocabulary.steps.compose:
                part, origin = composed(part)
                origin = [(first + begin, last + begin) for first, last in origin]
            shift = 0 if origin else begin
            inner: Iterable[Part] = [(0, len(part), None)]
            for first, last, token in self._markers.find(part, normalized=True) if special else inner:
                if token is not None:
                    yield token, origin, first + shift, last + shift
                else:
                    for found, left, right in self._placed_text(part[first:last]):
                        yield found, origin, left + first + shift, right + first + shift

    def _placed_text(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Yield each token of a text without markers, and the characters it holds bytes of."""
        steps = self.vocabulary.steps
        spans = in_place(split_pieces(text)) if steps.stages == DEEPSEEK_V3.stages else steps.spans(text)
        for piece, start, prefixed in spans:
            owners: Sequence[int] = range(start, start + len(piece))
            if prefixed or not piece.isascii():  # for each byte, its character
                owners = [at for at, character in zip(owners, piece, strict=True) for _ in _utf8(character)]
                owners[0] += prefixed  # a space put in front belongs to the first character
            at = 0
            for token in self._final_pieces[piece]:
                size = len(self._bytes[token])
                yield token, owners[at], owners[at + size - 1] + 1
                at += size

    def stages(self, text: str) -> list[tuple[Stage, list[str]]]:
        """Give each stage of cutting with the pieces after it; nothing is merged yet."""
        steps = self.vocabulary.steps
        return [*zip(steps.stages, steps.stage_by_stage(self._normalised(text)), strict=True)]

    def decode(self, ids: Ids, skip_special: bool = False) -> str:
        """Turn ids into text; bytes that are no UTF-8 become U+FFFD.

        skip_special: leave out the added tokens that the file calls special (DeepSeek's begin, end and place
        holders; not those of fill-in-the-middle, of turns and of thinking).
        """
        return self.decode_bytes(ids, skip_special).decode(errors="replace")

    def decode_bytes(self, ids: Ids, skip_special: bool = False) -> bytes:
        """Turn ids into the bytes they stand for."""
        array = np.asarray(ids)  # [T]
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise ValueError(f"expected ids [T] of integers, got {array.shape} of {array.dtype}")
        outside = array[(array < 0) | (array >= self.vocab_size)] if array.size else array
        if outside.size:
            raise ValueError(f"expected token ids from 0 to {self.vocab_size - 1}, got {outside[0]}")
        given = array.tolist()
        kept = filterfalse(self._special.__contains__, given) if skip_special else given
        return b"".join(map(self._bytes.__getitem__, kept))

    def token_bytes(self, token: int) -> bytes:
        """Give the bytes of one token."""
        return self.decode_bytes([token])

    def token_id(self, content: str) -> int:
        """Give the id of an added token by its spelling."""
        if content not in self._added:
            raise ValueError(f"expected one of the added tokens {sorted(self._added)[:8]}, got {content!r}")
        return self._added[content]

    @property
    def vocab_size(self) -> int:
        """The number of tokens, added ones included; ids run from 0 to one less."""
        return len(self.vocabulary.tokens)

    @property
    def template(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids that the file puts before and after a prompt; `encode` puts none, whoever prompts may."""
        return self.vocabulary.steps.before, self.vocabulary.steps.after

    @cached_property
    def _added(self) -> dict[str, int]:
        return {token.content: token.id for token in self.vocabulary.added}

    @cached_property
    def _markers(self) -> AddedTokens:
        return AddedTokens(self.vocabulary.added, self.vocabulary.steps.compose)

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(token.id for token in self.vocabulary.added if token.special)

    @cached_property
    def bos(self) -> int:
        """The id of the token that begins a prompt."""
        return self.token_id(BOS)

    @cached_property
    def eos(self) -> int:
        """The id of the token that ends a document."""
        return self.token_id(EOS)

    @cached_property
    def pad(self) -> int:
        """The id of the padding token."""
        return self.token_id(PAD)

    @cached_property
    def fim_begin(self) -> int:
        """The id of the token before the prefix, in fill-in-the-middle."""
        return self.token_id(FIM_BEGIN)

    @cached_property
    def fim_hole(self) -> int:
        """The id of the token that stands for the missing middle."""
        return self.token_id(FIM_HOLE)

    @cached_property
    def fim_end(self) -> int:
        """The id of the token after the suffix; the middle follows it."""
        return self.token_id(FIM_END)


class _PieceMemory(dict[str, tuple[int, ...]]):
    """Remember the ids of pieces; a missing piece is worked out."""

    def __init__(self, work_out: Callable[[str], tuple[int, ...]]) -> None:
        super().__init__()
        self.work_out = work_out

    def __missing__(self, piece: str) -> tuple[int, ...]:
        ids = self.work_out(piece)
        if len(piece) <= _LONGEST_KEPT:
            if len(self) >= _PIECES_KEPT:
                self.clear()
            self[piece] = ids
        return ids


def _first_cut(steps: Steps) -> tuple[Callable[[str], Iterable[str]], tuple[Stage, ...]]:
    """Give a quick way of cutting a text, and the stages left for the pieces, whose ids are remembered."""
    if steps.stages == DEEPSEEK_V3.stages:
        return split_pieces, ()
    stages = [stage for stage in steps.stages if stage.changes]
    if not stages:
        return lambda text: (text,), ()
    if len(stages) == 1:
        return stages[0].cut, ()
    first, second, *later = stages
    # a piece may come out empty: then it has no ids
    return lambda text: chain.from_iterable(map(second.cut, first.cut(text))), tuple(later)


def _utf8(piece: str) -> bytes:
    try:
        return piece.encode()
    except UnicodeEncodeError:
        raise ValueError(f"expected text that UTF-8 can write, got a lone surrogate in {piece!r}") from None


def _origin_of(origin: Origin | None, begin: int, end: int) -> tuple[int, int]:
    return (begin, end) if origin is None else (origin[begin][0], origin[end - 1][1])


def _count_pieces(texts: Iterable[str], steps: Steps) -> dict[str, int]:
    if isinstance(texts, str):
        raise ValueError("expected texts to be a list of strings, got one string")
    counts = Counter[str]()
    cut = split_pieces if steps.stages == DEEPSEEK_V3.stages else steps.pieces
    for text in texts:
        counts.update(cut(text))
    if not counts:
        raise ValueError("expected texts to learn from, got no text or only empty ones")
    return {to_characters(piece.encode()): count for piece, count in counts.items()}
