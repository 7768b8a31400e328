"""The tokenizer: text to ids and back, with everything that makes it quick.

Text repeats its pieces, so the ids of a piece are worked out once and remembered; a text is then its
pieces, looked up. The memory is bounded: it is emptied when full, and pieces of more than 128 characters
are never kept.

`encode(text)` treats all text as text, so that nothing a user writes can become a marker; `encode(text,
special=True)` recognises the added tokens' own spelling. No begin token is put in front: whoever builds a
prompt does. Decoding joins the tokens' bytes and reads them as UTF-8, with U+FFFD where they are not.

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
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from . import files
from .alphabet import BYTE_TO_CHARACTER, BYTE_TOKENS, to_characters
from .merging import merge
from .pieces import split_pieces
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
        self._pieces = _PieceMemory(self._merge_piece)
        self._ranks = vocabulary.ranks()
        self._byte_ids = [vocabulary.ids[BYTE_TO_CHARACTER[byte]] for byte in range(256)]

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, *, special_tokens: Sequence[str] = LAST_TOKENS
    ) -> "Tokenizer":
        """Learn a tokenizer from texts.

        vocab_size counts all tokens; a text with too few different pairs gives fewer.
        special_tokens: those added last.
        """
        least = len(FIRST_TOKENS) + len(BYTE_TOKENS) + len(special_tokens)
        if not least <= vocab_size <= _MOST_TOKENS:
            raise ValueError(f"expected a vocab_size from {least} to {_MOST_TOKENS}, got {vocab_size}")
        alphabet = (*FIRST_TOKENS, *BYTE_TOKENS)
        tokens, merges = learn(_count_pieces(texts), alphabet, vocab_size - len(special_tokens))
        added = [AddedToken(index, content, special=True) for index, content in enumerate(FIRST_TOKENS)]
        # like DeepSeek's, these are not `special`: they stay when markers are skipped
        added += [
            AddedToken(index, content, special=False)
            for index, content in enumerate(special_tokens, len(tokens))
        ]
        return cls(Vocabulary((*tokens, *special_tokens), tuple(merges), tuple(added)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        """Read a tokenizer.json; see `files.read` for what is refused."""
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
            return chain.from_iterable(map(self._pieces.__getitem__, split_pieces(text)))
        return chain.from_iterable(map(self._encoded_part, self._added_pattern.split(text)))

    def _encoded_part(self, part: str) -> Iterable[int]:
        return (self._added[part],) if part in self._added else self._encoded(part, special=False)

    def _merge_piece(self, piece: str) -> tuple[int, ...]:
        try:
            data = piece.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"expected text that UTF-8 can write, got a lone surrogate in {piece!r}"
            ) from None
        return tuple(merge([self._byte_ids[byte] for byte in data], self._ranks))

    def decode(self, ids: Ids) -> str:
        """Turn ids into text; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Ids) -> bytes:
        """Turn ids into the bytes they stand for."""
        array = np.asarray(ids)  # [T]
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise ValueError(f"expected ids [T] of integers, got {array.shape} of {array.dtype}")
        outside = array[(array < 0) | (array >= self.vocab_size)] if array.size else array
        if outside.size:
            raise ValueError(f"expected token ids from 0 to {self.vocab_size - 1}, got {outside[0]}")
        return b"".join(map(self._bytes.__getitem__, array.tolist()))

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

    @cached_property
    def _added(self) -> dict[str, int]:
        return {token.content: token.id for token in self.vocabulary.added}

    @cached_property
    def _added_pattern(self) -> re.Pattern[str]:
        # longest first, since of two that begin alike `re` takes the first; with none added, match nothing
        contents = sorted(self._added, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, contents)) + ")" if contents else "(?!)")

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


def _count_pieces(texts: Iterable[str]) -> dict[str, int]:
    if isinstance(texts, str):
        raise ValueError("expected texts to be a list of strings, got one string")
    counts = Counter[str]()
    for text in texts:
        counts.update(split_pieces(text))
    if not counts:
        raise ValueError("expected texts to learn from, got no text or only empty ones")
    return {to_characters(piece.encode()): count for piece, count in counts.items()}
