"""Cut a text into the pieces inside which BPE may merge: DeepSeek-V3's three stages.

Stage 1 isolates numbers, three digits at a time from the left; stage 2 isolates runs of Chinese and
Japanese; stage 3 isolates words (with the one character before them), punctuation (with line breaks after
it) and blanks. Each stage works on every piece of the stage before, and text that matches nothing stays as
a piece.

The stages are **not** one pattern with three alternatives: in `   123` stage 1 leaves `   ` alone, so stage
3 sees three blanks at the *end* of a piece and keeps them together, where a joined pattern would see a
digit after them.

`split_in_stages` is the specification. `split_pieces` finds the same pieces in one pass: its pattern tells
numbers and CJK apart by kind and treats both as an end of the text in every look-ahead. A property test
holds them equal.

>>> split_pieces("don't   12345!\\n\\n  x")
['don', "'t", '   ', '123', '45', '!\\n\\n', ' ', ' x']
>>> split_in_stages("日本は2") == split_pieces("日本は2") == ['日本は', '2']
True

Next: minidsv3.tokenizer.training
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from .classes import character_class, kinds

# the published patterns; DeepSeek's tokenizer.json holds \r and \n in them as characters, not escapes
STAGES = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_ASCII_PUNCTUATION = r"!-/:-@\[-`{-~"
_ASCII, _BASIC, _ALL = 0x80, 0x10000, 0x110000  # the alphabets a text may stay within


def split_in_stages(text: str) -> list[str]:
    """Cut a text into pieces, stage by stage: the specification, ten times slower than `split_pieces`."""
    pieces: Iterable[str] = [text]
    for pattern in _stage_patterns():
        pieces = [part for piece in pieces for part in _isolate(piece, pattern)]
    return [piece for piece in pieces if piece]


def _isolate(piece: str, pattern: re.Pattern[str]) -> Iterator[str]:
    """Yield the matches and what lies between them, in order."""
    end = 0
    for match in pattern.finditer(piece):
        yield piece[end : match.start()]
        yield match.group()
        end = match.end()
    yield piece[end:]


@lru_cache(maxsize=1)
def _stage_patterns() -> list[re.Pattern[str]]:
    """Write the published patterns with explicit classes, which `re` understands."""
    L, M, N, P, S = (character_class(kinds(_ALL), letter + letter.lower()) for letter in "LMNPS")
    W = character_class(kinds(_ALL), "BW")
    stages = (
        rf"[{N}]{{1,3}}",
        STAGES[1],
        rf"[{_ASCII_PUNCTUATION}][A-Za-z]+|[^\r\n{L}{P}{S}]?[{L}{M}]+| ?[{P}{S}]+[\r\n]*"
        rf"|[{W}]*[\r\n]+|[{W}]+(?![^{W}])|[{W}]+",
    )
    return [re.compile(stage) for stage in stages]


def split_pieces(text: str) -> list[str]:
    """Cut a text into pieces in one pass; equal to `split_in_stages`."""
    if text.isascii():
        return _one_pass(_ASCII).findall(text)
    # a class with code points beyond U+FFFF costs `re` a linear search: used only for a text that has some
    return _one_pass(_BASIC if max(text) < "\U00010000" else _ALL).findall(text)


@lru_cache(maxsize=3)
def _one_pass(size: int) -> re.Pattern[str]:
    """Join the stages to one pattern for texts over the first `size` code points."""

    def of(letters: str) -> str:
        return f"[{character_class(kinds(size), letters)}]"

    alternatives = [
        rf"{of('CMW')}?{of('LM')}+",
        rf"[{_ASCII_PUNCTUATION}][A-Za-z]+",
        rf" ?{of('PS')}+[\r\n]*",
        rf"{of('BW')}*[\r\n]+",
        # a number or CJK begins another piece: in the stages no character follows the blanks there
        rf"{of('BW')}+(?!{of('CLMPS')})",
        rf"{of('BW')}+",
        rf"{of('N')}{{1,3}}",
        rf"{of('C')}+(?!{of('LM')})",  # no stage matches controls: a run is a piece, less one before a letter
    ]
    if size > _ASCII:  # stage 3 once more, on what stage 2 cut out; there are no blanks and numbers in there
        alternatives += [rf"{of('cm')}?{of('lm')}+", rf"{of('ps')}+", rf"{of('c')}+(?!{of('lm')})"]
    return re.compile("|".join(alternatives))
