"""Give every code point its kind (letter, number, space, …) and turn kinds into `re` character classes.

DeepSeek's pattern uses `\\p{L}`, `\\p{N}` and so on, which Python's `re` lacks. `unicodedata` knows the
categories, so `kinds` writes one letter for each code point and a class is the list of ranges where that
letter stands:

    L letter   M mark   N number   P punctuation   S symbol
    B line break (\\r, \\n)   W other white space   C anything else (controls, unassigned)

Small letters stand for the same kinds inside the three ranges that the second stage of the pattern cuts out
(CJK ideographs, Hiragana, Katakana), so that one string answers every question `pieces` asks.

White space leaves out U+001C-U+001F, which Python's own `\\s` counts and the pattern does not. The tables
are the running Python's, brought to Unicode 16 (`newer`). They take 0.3 s, when first asked for. `members`
gives the set of any general category (`Lu`, `Uppercase_Letter`), a tuple of ranges. Scripts and derived
properties (`Han`, `Alphabetic`) are not in `unicodedata` and are refused by name.

>>> kinds(128)[ord("a")], kinds(128)[ord("_")], kinds(128)[0x1C]
('L', 'P', 'C')
>>> members("Nd")[:2], ranges(members("Nd"), 128)
(((48, 58), (1632, 1642)), '\\\\U00000030-\\\\U00000039')
>>> members("Greek")
Traceback (most recent call last):
ValueError: expected a general category such as L, Lu or Number, got the property 'Greek'

Next: minidsv3.tokenizer.patterns
"""

import re
import sys
import unicodedata
from functools import lru_cache

from .newer import NEWER

CodePoints = tuple[tuple[int, int], ...]  # ascending ranges: first code point, one past the last
CODE_POINTS = sys.maxunicode + 1

# the second stage's ranges: U+4E00-U+9FA5, Hiragana, Katakana
CJK_RANGES = ((0x3040, 0x309F), (0x30A0, 0x30FF), (0x4E00, 0x9FA5))
# White_Space is the Z categories and these controls; Python's \s and str.isspace add U+001C-U+001F
_BLANK_CONTROLS = (0x09, 0x0B, 0x0C, 0x85)


@lru_cache(maxsize=3)
def kinds(size: int) -> str:
    """Write the kind of each of the first `size` code points: one letter each."""
    letters = [category[0] for category in _names(size)]
    for code in _BLANK_CONTROLS[: 3 if size <= 0x85 else 4]:
        letters[code] = "W"
    for code in b"\r\n":
        letters[code] = "B"
    for first, last in CJK_RANGES:
        letters[first : last + 1] = [letter.lower() for letter in letters[first : last + 1]]
    return "".join(letters).replace("Z", "W")


def _names(size: int) -> list[str]:
    """Name the general category of each of the first `size` code points."""
    names = [*map(unicodedata.category, map(chr, range(size)))]
    for category, found in NEWER.items():
        for first, end in found:
            for code in range(first, min(end, size)):
                if names[code] == "Cn":
                    names[code] = category
    return names


def character_class(kinds_of: str, letters: str) -> str:
    """List the code points of these kinds as ranges, to stand between `[` and `]`."""
    runs = re.finditer(f"[{letters}]+", kinds_of)  # ranges found at the speed of `re`, not of a Python loop
    return "".join(_range(run.start(), run.end() - 1) for run in runs)


def _range(first: int, last: int) -> str:
    return f"\\U{first:08x}" if first == last else f"\\U{first:08x}-\\U{last:08x}"


_LONG_NAMES = {
    "letter": "L", "casedletter": "LC", "uppercaseletter": "Lu", "lowercaseletter": "Ll",
    "titlecaseletter": "Lt", "modifierletter": "Lm", "otherletter": "Lo", "mark": "M", "nonspacingmark": "Mn",
    "spacingmark": "Mc", "enclosingmark": "Me", "number": "N", "decimalnumber": "Nd", "letternumber": "Nl",
    "othernumber": "No", "punctuation": "P", "connectorpunctuation": "Pc", "dashpunctuation": "Pd",
    "openpunctuation": "Ps", "closepunctuation": "Pe", "initialpunctuation": "Pi", "finalpunctuation": "Pf",
    "otherpunctuation": "Po", "symbol": "S", "mathsymbol": "Sm", "currencysymbol": "Sc",
    "modifiersymbol": "Sk", "othersymbol": "So", "separator": "Z", "spaceseparator": "Zs",
    "lineseparator": "Zl", "paragraphseparator": "Zp", "other": "C", "control": "Cc", "format": "Cf",
    "surrogate": "Cs", "privateuse": "Co", "unassigned": "Cn",
}  # fmt: skip
_SHORT_NAMES = {name.lower(): name for name in _LONG_NAMES.values()}
_TWO_LETTERS = sorted(name for name in _LONG_NAMES.values() if len(name) == 2 and name != "LC")


@lru_cache(maxsize=1)
def _categories() -> str:
    """Write the general category of every code point as one character: the n-th category as chr(n)."""
    characters = {name: chr(index) for index, name in enumerate(_TWO_LETTERS)}
    return "".join(map(characters.__getitem__, _names(CODE_POINTS)))


@lru_cache(maxsize=64)
def members(name: str) -> CodePoints:
    """List the code points of the general category named; ValueError for other names.

    Case, spaces, hyphens and low lines in the name do not count, as in Oniguruma.
    """
    plain = re.sub(r"[ _-]", "", name).lower()
    short = _LONG_NAMES.get(plain) or _SHORT_NAMES.get(plain)
    if short is None:
        raise ValueError(
            f"expected a general category such as L, Lu or Number, got the property {name[:40]!r}"
        )
    if short == "LC":
        return union(members("Lu"), members("Ll"), members("Lt"))
    wanted = [index for index, category in enumerate(_TWO_LETTERS) if category.startswith(short)]
    runs = re.finditer("[" + "".join(rf"\x{index:02x}" for index in wanted) + "]+", _categories())
    return tuple(run.span() for run in runs)


@lru_cache(maxsize=3)
def shorthand(letter: str) -> CodePoints:
    """List the code points that `\\s`, `\\d` or `\\h` matches, as Oniguruma defines them.

    `\\s` is White_Space (not U+001C-U+001F), `\\d` any script's decimal digit, `\\h` a hexadecimal digit.
    """
    match letter:
        case "s":
            return union(members("Z"), ((0x09, 0x0E), (0x85, 0x86)))
        case "d":
            return members("Nd")
    return ((0x30, 0x3A), (0x41, 0x47), (0x61, 0x67))


def union(*sets: CodePoints) -> CodePoints:
    """Join sets of code points."""
    joined = list[tuple[int, int]]()
    for first, end in sorted(run for found in sets for run in found):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((first, end))
    return tuple(joined)


def complement(found: CodePoints) -> CodePoints:
    """List the code points that are not in the set."""
    edges = [0, *(edge for run in found for edge in run), CODE_POINTS]
    return tuple((first, end) for first, end in zip(edges[::2], edges[1::2], strict=True) if first < end)


def overlap(one: CodePoints, other: CodePoints) -> bool:
    """Say whether two sets have a code point in common."""
    a, b = 0, 0
    while a < len(one) and b < len(other):
        if max(one[a][0], other[b][0]) < min(one[a][1], other[b][1]):
            return True
        if one[a][1] < other[b][1]:
            a += 1
        else:
            b += 1
    return False


def ranges(found: CodePoints, size: int) -> str:
    """List those of the first `size` code points that are in the set, to stand between `[` and `]`."""
    return "".join(_range(first, min(end, size) - 1) for first, end in found if first < size)
