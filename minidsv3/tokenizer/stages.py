r"""Cut a text into pieces, stage after stage, as a tokenizer.json says.

A stage has a pattern; each piece of the stage before is cut where the pattern matches. What becomes of the
matches and of the text between them is the stage's behaviour: each a piece of its own (Isolated), matches
dropped (Removed), runs joined (Contiguous), a match joined to the text before or after it. `invert` swaps
matches and gaps. A pattern sees one piece at a time: `$` is the end of a piece, look-ahead ends there. The
last stage, `ByteLevel`, may put a space in front of each piece and cut it as GPT-2 did.

`Stage.spans` is the specification: where the pieces are. `Stage.cut` gives the pieces alone, for the two
behaviours that published files use by `re` itself. `Steps` holds the stages with what else changes ids.

>>> lines, digits = Stage("Split", r"[\r\n]"), Stage("Digits", r"\p{N}", "Contiguous")
>>> digits.cut("a12b3"), Stage("Split", r"\p{N}", "MergedWithPrevious").cut("a12b3")
(['a', '12', 'b', '3'], ['a1', '2', 'b3'])
>>> Steps((lines, digits)).pieces("a1\nb")
['a', '1', '\n', 'b']
>>> Steps((Stage("ByteLevel", GPT2, prefix_space=True),)).spans("say it")
[(' say', -1, True), (' it', 3, False)]

Next: minidsv3.tokenizer.pieces
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise

from .patterns import compiled

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# `Digits` goes by Rust's tables, which are Unicode 17's: 13 numbers more than Oniguruma's \\p{N}
DIGIT = r"[\p{N}\x{11DE0}-\x{11DE9}\x{16FF4}-\x{16FF6}]"
BEHAVIOURS = ("Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext")
ASCII, BASIC, ALL = 0x80, 0x10000, 0x110000  # the alphabets a text may stay within

Piece = tuple[str, int, bool]  # a piece, where its first character stands, whether that was put in front


@dataclass(frozen=True)
class Stage:
    """One way of cutting: kind is Split, Digits or ByteLevel; without a pattern, pieces stay whole."""

    kind: str
    pattern: str | None = None
    behaviour: str = "Isolated"
    invert: bool = False
    literal: bool = False  # the pattern is text, not a regular expression
    prefix_space: bool = False

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Give the begin and end of each piece in the text; none is empty."""
        if self.pattern is None:
            return [(0, len(text))] if text else []
        ends = [0]
        for match in self._compiled(text).finditer(text):
            ends += match.span()
        # gaps and matches alternate; a gap may be empty
        parts = [
            (*span, bool(index % 2) != self.invert) for index, span in enumerate(pairwise([*ends, len(text)]))
        ]
        return _behaving([part for part in parts if part[0] < part[1]], self.behaviour)

    def cut(self, text: str) -> list[str]:
        """Give the pieces; some may be empty."""
        if self.prefix_space and text and text[0] != " ":
            text = " " + text
        if self.pattern is None:
            return [text]
        if self.behaviour == "Isolated":
            return self._compiled(text).split(text)
        if self.behaviour == "Removed" and self.invert:
            return self._compiled(text).findall(text)
        return [text[begin:end] for begin, end in self.spans(text)]

    @property
    def changes(self) -> bool:
        """Whether the stage does anything."""
        return self.pattern is not None or self.prefix_space

    def _compiled(self, text: str) -> re.Pattern[str]:
        return compiled(self.expression, alphabet_of(text))

    @property
    def expression(self) -> str:
        """The pattern as a regular expression; a literal one matches its text."""
        pattern = self.pattern or ""
        return "".join(rf"\x{{{ord(character):x}}}" for character in pattern) if self.literal else pattern


def alphabet_of(text: str) -> int:
    """Give the size of the smallest alphabet that holds the text."""
    if text.isascii():
        return ASCII
    # a class with code points beyond U+FFFF costs `re` a linear search: used only for a text that has some
    return BASIC if max(text) < "\U00010000" else ALL


def _behaving(parts: list[tuple[int, int, bool]], behaviour: str) -> list[tuple[int, int]]:
    """Drop or join the parts (begin, end, whether it is a match), all in order."""
    if behaviour == "Removed":
        return [(begin, end) for begin, end, matches in parts if not matches]
    pieces, before = list[tuple[int, int]](), False
    backward = behaviour == "MergedWithNext"
    for begin, end, matches in reversed(parts) if backward else parts:
        joins = matches == before if behaviour == "Contiguous" else matches and not before
        if behaviour != "Isolated" and joins and pieces:
            pieces[-1] = (begin, pieces[-1][1]) if backward else (pieces[-1][0], end)
        else:
            pieces.append((begin, end))
        before = matches
    return pieces[::-1] if backward else pieces


@dataclass(frozen=True)
class Steps:
    """Everything besides vocabulary and merges that decides the ids of a text.

    stages: in order, `ByteLevel` last; compose: the text is brought to NFC first; whole_pieces: a piece that
    is a token becomes it, whatever the merges say; before, after: ids that the file's template puts around
    a prompt (`encode` never does).
    """

    stages: tuple[Stage, ...]
    compose: bool = False
    whole_pieces: bool = False
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    def pieces(self, text: str) -> list[str]:
        """Cut a text by all stages."""
        return cut_by(self.stages, text)

    def stage_by_stage(self, text: str) -> list[list[str]]:
        """Give the pieces after each stage."""
        pieces, trail = [text], list[list[str]]()
        for stage in self.stages:
            pieces = [*filter(None, chain.from_iterable(map(stage.cut, pieces)))]
            trail.append(pieces)
        return trail

    def spans(self, text: str) -> list[Piece]:
        """Cut a text by all stages, keeping places; a space put in front stands one before its piece."""
        pieces: list[Piece] = [(text, 0, False)] if text else []
        for stage in filter(lambda stage: stage.changes, self.stages):
            pieces = [part for piece, at, _ in pieces for part in _spans_of(stage, piece, at)]
        return pieces


def in_place(pieces: Iterable[str], at: int = 0) -> Iterator[Piece]:
    """Give the places of pieces that follow one another without gaps, from `at` on."""
    for piece in pieces:
        if piece:
            yield piece, at, False
            at += len(piece)


def cut_by(stages: Iterable[Stage], text: str) -> list[str]:
    """Cut a text by these stages, one after the other."""
    pieces = [text]
    for stage in stages:
        pieces = [*filter(None, chain.from_iterable(map(stage.cut, pieces)))]
    return pieces


def _spans_of(stage: Stage, piece: str, at: int) -> Iterable[Piece]:
    if stage.behaviour == "Isolated" and not stage.prefix_space:
        return in_place(stage.cut(piece), at)  # nothing is lost or put in: lengths tell the places
    prefixed = stage.prefix_space and piece[0] != " "
    if prefixed:
        piece, at = " " + piece, at - 1
    return [(piece[begin:end], at + begin, prefixed and begin == 0) for begin, end in stage.spans(piece)]
