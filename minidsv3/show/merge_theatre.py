"""Byte pair encoding, merge by merge: how a vocabulary is learned, and how it then cuts a text.

Learning: before each merge all neighbouring pairs are counted, inside pieces; the one seen most often becomes
a token. Below a merge stand the pieces that changed, and how often each occurs. Encoding: a piece begins as
its bytes; the merge that was learned first goes first, wherever it stands. Under the tokens, their bytes in
hexadecimal and their ids: a letter outside ASCII is several bytes, and a token may end inside one.

Does: lay open what `minidsv3.tokenizer` does. Does not: learn or merge by rules of its own.

    >>> theatre = MergeTheatre.learned("low lower lowest", merges=2, spoken="slow")
    >>> [(merge.pair, merge.times) for merge in theatre.merges]
    [((b'l', b'o'), 3), ((b'lo', b'w'), 3)]
    >>> [visible(token) for token in theatre.pieces[0].tokens]
    ['s', 'low']

Next: minidsv3.show.fim_spans
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Self

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.show.chips import COLOURS, visible
from minidsv3.show.forms import shown
from minidsv3.show.numbers import count, counted
from minidsv3.tokenizer import Tokenizer
from minidsv3.tokenizer.alphabet import BYTE_TO_CHARACTER, BYTE_TOKENS
from minidsv3.tokenizer.training import replace_pair
from minidsv3.tokenizer.vocabulary import FIRST_TOKENS, LAST_TOKENS

__all__ = ["Merge", "MergeTheatre", "SpokenPiece"]

BARE = len(FIRST_TOKENS) + len(BYTE_TOKENS) + len(LAST_TOKENS)  # tokens of a vocabulary without merges
RUNNERS_UP, MOST_PIECES = 2, 6
INDENT = 9  # columns


class Merge(NamedTuple):
    """One step of learning."""

    pair: tuple[bytes, bytes]
    times: int  # the pair was seen
    token: int  # its id
    others: tuple[tuple[bytes, bytes, int], ...]  # the pairs seen next often
    changed: tuple[tuple[tuple[bytes, ...], int], ...]  # pieces that held it, now, and how often they occur


class SpokenPiece(NamedTuple):
    """A piece of a text on its way to ids."""

    text: str
    stages: tuple[tuple[bytes, ...], ...]  # tokens at first, and after each merge
    ranks: tuple[int, ...]  # of the merges, from 1
    ids: tuple[int, ...]

    @property
    def tokens(self) -> tuple[bytes, ...]:
        """What the merges leave."""
        return self.stages[-1]


@dataclass(frozen=True)
class MergeTheatre:
    """Merges as they are learned, if the text they come from is known, and a text that they cut."""

    merges: tuple[Merge, ...]
    spoken: str
    pieces: tuple[SpokenPiece, ...]
    corpus: tuple[int, int] = (0, 0)  # different pieces, bytes

    @classmethod
    def learned(cls, text: str, merges: int, spoken: str | None = None) -> Self:
        """Learn so many merges from a text.  spoken: a text to cut with them, the same if not given."""
        tokenizer = Tokenizer.train([text], BARE + merges)
        found = Counter(_pieces(tokenizer, text))
        acts = tuple(_acts(tokenizer, found))
        size = len(text.encode())
        spoken = text if spoken is None else spoken
        return cls(acts, spoken, tuple(_spoken(tokenizer, spoken)), (len(found), size))

    @classmethod
    def of(cls, tokenizer: Tokenizer, spoken: str) -> Self:
        """A text cut by a tokenizer that is there already."""
        return cls((), spoken, tuple(_spoken(tokenizer, spoken)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plain = options.ascii_only
        if self.merges:
            pieces, size = self.corpus
            said = f"{counted(pieces, 'different piece')}, {counted(size, 'byte')}"
            yield _title("learning", f"{said}, the pair seen most often joins\n")
            for number, merge in enumerate(self.merges, 1):
                yield from self._act(number, merge, plain, options.max_width)
            yield Text()
        ids = [token for piece in self.pieces for token in piece.ids]
        spoken = counted(len(self.spoken.encode()), "byte")
        made = f"{counted(len(self.pieces), 'piece')}, {counted(len(ids), 'token')}"
        yield _title("encoding", f"{spoken}, {made}")
        for piece in self.pieces[:MOST_PIECES]:
            yield from self._piece(piece, plain, options.max_width)
        if len(self.pieces) > MOST_PIECES:
            yield Text(f"\nand {counted(len(self.pieces) - MOST_PIECES, 'more piece')}", "dim")
        yield Text(f"\nids  {' '.join(map(str, ids))}", overflow="fold")

    def _wide(self, plain: bool) -> int:
        """Columns of the longest pair."""
        return max(sum(len(visible(part, plain)) for part in merge.pair) + 3 for merge in self.merges)

    def _act(self, number: int, merge: Merge, plain: bool, width: int) -> Iterator[Text]:
        """A merge: its pair and count, those that came near, the pieces that changed."""
        a, b = (visible(part, plain) for part in merge.pair)
        line = _head(f"#{number}")
        line.append(f"{f'{a} + {b}':{self._wide(plain)}}", "bold").append(
            f"  x {count(merge.times):4}", "bold green"
        )
        line.append(f" is {merge.token}", "dim")
        others = ", ".join(f"{visible(x, plain)} + {visible(y, plain)} x {n}" for x, y, n in merge.others)
        if others and len(line) + len(others) + 7 <= width:
            line.append(f"   next {others}", "dim")
        yield line
        line = Text(" " * INDENT, no_wrap=True, overflow="crop")
        for left, (tokens, times) in zip(range(len(merge.changed) - 1, -1, -1), merge.changed, strict=True):
            part = _chips(tokens, plain).append(f" x{times}  ", "dim")
            more = f"and {left + 1} more"
            if len(line) + len(part) + (len(more) if left else 0) > width:
                line.append(more, "dim")
                break
            line.append_text(part)
        line.rstrip()
        yield line

    def _piece(self, piece: SpokenPiece, plain: bool, width: int) -> Iterator[Text]:
        """From bytes to ids, a line a merge."""
        yield Text()
        if not piece.text.isascii():
            yield _head("text").append(_spelled(piece.text, plain))
        for tokens, rank in zip(piece.stages, (0, *piece.ranks), strict=True):
            name = f"#{rank}" if rank else "piece"
            line = _head(name)
            yield line.append_text(_chips(tokens, plain))
        yield from _aligned(piece, plain, width)

    def describe(self) -> str:
        """A line for each merge, then for each piece."""
        said = []
        for number, merge in enumerate(self.merges, 1):
            a, b = (visible(part, True) for part in merge.pair)
            said.append(f"merge {number}: {a} and {b}, seen {merge.times} times, become token {merge.token}")
        for piece in self.pieces:
            steps = [" ".join(visible(token, True) for token in tokens) for tokens in piece.stages]
            done = [f"merge {rank} gives {step}" for rank, step in zip(piece.ranks, steps[1:], strict=True)]
            ids = ", ".join(map(str, piece.ids))
            said.append(
                f"piece {visible(piece.text.encode(), True)}: {'; '.join([steps[0], *done])}; ids {ids}"
            )
        return "\n".join(said)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, bytes in hexadecimal."""
        merges = [
            {"pair": [part.hex() for part in merge.pair], "count": merge.times, "token": merge.token}
            for merge in self.merges
        ]
        pieces = [
            {
                "text": piece.text,
                "stages": [[token.hex() for token in tokens] for tokens in piece.stages],
                "ranks": list(piece.ranks),
                "ids": list(piece.ids),
            }
            for piece in self.pieces
        ]
        return {"merges": merges, "text": self.spoken, "pieces": pieces}


# ---- drawing ----------------------------------------------------------------------------------------------


def _title(name: str, said: str) -> Text:
    return Text().append(name, "bold cyan").append(f"  {said}")


def _head(name: str) -> Text:
    """What a line is, in front of it."""
    return Text(no_wrap=True, overflow="crop").append(f"{name:>5}".ljust(INDENT), "dim")


def _chips(tokens: Sequence[bytes], plain: bool) -> Text:
    """Tokens beside each other, a bar between."""
    text, bar = Text(no_wrap=True), "|" if plain else "│"
    for i, token in enumerate(tokens):
        text.append(bar, "dim").append(visible(token, plain), COLOURS[i % 2])
    return text.append(bar, "dim")


def _spelled(text: str, plain: bool) -> str:
    """Characters beyond ASCII, each with its bytes."""
    every = dict.fromkeys(character for character in text if not character.isascii())
    return ", ".join(f"{visible(c.encode(), plain)} = {c.encode().hex(' ')}" for c in every)


def _aligned(piece: SpokenPiece, plain: bool, width: int) -> Iterator[Text]:
    """Tokens, their bytes and their ids in columns, in as many bands as it takes."""
    bar = "|" if plain else "│"
    rows = {
        "token": [visible(token, plain) for token in piece.tokens],
        "bytes": [_hexadecimal(token, width - INDENT - 3) for token in piece.tokens],
        "id": list(map(str, piece.ids)),
    }
    widths = [max(map(cell_len, cells)) for cells in zip(*rows.values(), strict=True)]
    start = 0
    while start < len(widths):
        stop, used = start, INDENT + 1
        while stop < len(widths) and (stop == start or used + widths[stop] + 1 <= width):
            used, stop = used + widths[stop] + 1, stop + 1
        for name, cells in list(rows.items())[1:]:
            line = _head(name)
            if name == "bytes":
                head = _head("token")
                for i in range(start, stop):
                    head.append(bar, "dim").append(set_cell_size(rows["token"][i], widths[i]), COLOURS[i % 2])
                yield head.append(bar, "dim")
            for i in range(start, stop):
                line.append(bar, "dim").append(f"{cells[i]:{widths[i]}}")
            yield line.append(bar, "dim")
        start = stop


def _hexadecimal(token: bytes, width: int) -> str:
    """Bytes as pairs of digits; of a token that is too long the first ones."""
    text = token.hex(" ")
    return text if len(text) <= width else text[: width - 3] + " .."


# ---- taking apart -----------------------------------------------------------------------------------------


def _pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    steps = tokenizer.vocabulary.steps
    return steps.pieces(unicodedata.normalize("NFC", text) if steps.compose else text)


def _byte_ids(tokenizer: Tokenizer, piece: str) -> list[int]:
    ids = tokenizer.vocabulary.ids
    return [ids[BYTE_TO_CHARACTER[byte]] for byte in piece.encode()]


def _acts(tokenizer: Tokenizer, found: Counter[str]) -> Iterator[Merge]:
    """The tokenizer's merges again, with the counts that chose them."""
    ids, spell = tokenizer.vocabulary.ranks(), tokenizer.token_bytes
    words = [(_byte_ids(tokenizer, piece), times) for piece, times in found.items()]
    for pair in tokenizer.vocabulary.merges:
        counts = Counter[tuple[int, int]]()
        for word, times in words:
            for held in pairwise(word):
                counts[held] += times
        ranked = sorted(counts, key=lambda one: (-counts[one], one))
        new = ids[pair][1]
        after = [(replace_pair(word, pair, new), times) for word, times in words]
        changed = tuple(
            (tuple(map(spell, word)), times)
            for (word, times), (old, _) in zip(after, words, strict=True)
            if word != old
        )
        others = tuple((spell(a), spell(b), counts[a, b]) for a, b in ranked[1 : RUNNERS_UP + 1])
        words = after
        yield Merge((spell(pair[0]), spell(pair[1])), counts[pair], new, others, changed)


def _spoken(tokenizer: Tokenizer, text: str) -> Iterator[SpokenPiece]:
    """Each piece, merge by merge, as `minidsv3.tokenizer.merging.merge_step_by_step` goes."""
    ranks, spell = tokenizer.vocabulary.ranks(), tokenizer.token_bytes
    for piece in _pieces(tokenizer, text):
        ids, stages, used = _byte_ids(tokenizer, piece), [], []
        whole = tokenizer.encode(piece)
        stages.append(tuple(map(spell, ids)))
        while len(ids) > 1:
            candidates = [ranks.get(pair) for pair in pairwise(ids)]
            merges = [candidate for candidate in candidates if candidate is not None]
            if not merges or ids == whole:
                break
            rank, token = min(merges)
            at = candidates.index((rank, token))
            ids[at : at + 2] = [token]
            stages.append(tuple(map(spell, ids)))
            used.append(rank + 1)
        yield SpokenPiece(piece, tuple(stages), tuple(used), tuple(ids))


def demo() -> MergeTheatre:
    """A few words, and one that they did not hold."""
    text = "low low low lower lower newest newest newest newest widest widest 図, 図, 図, 図"
    return MergeTheatre.learned(text, merges=8, spoken="lowest 図表")


if __name__ == "__main__":
    shown(demo())
