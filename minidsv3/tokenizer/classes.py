"""Give every code point its kind (letter, number, space, …) and turn kinds into `re` character classes.

DeepSeek's pattern uses `\\p{L}`, `\\p{N}` and so on, which Python's `re` lacks. `unicodedata` knows the
categories, so `kinds` writes one letter for each code point and a class is the list of ranges where that
letter stands:

    L letter   M mark   N number   P punctuation   S symbol
    B line break (\\r, \\n)   W other white space   C anything else (controls, unassigned)

Small letters stand for the same kinds inside the three ranges that the second stage of the pattern cuts out
(CJK ideographs, Hiragana, Katakana), so that one string answers every question `pieces` asks.

White space leaves out U+001C-U+001F, which Python's own `\\s` counts and the pattern does not. The tables
are those of the running Python's Unicode; a newer Unicode assigns code points that an older one calls C.
Writing the full string takes 0.3 s, so it is done when the first such text comes, not at import.

>>> kinds(128)[ord("a")], kinds(128)[ord("_")], kinds(128)[0x1C]
('L', 'P', 'C')
>>> character_class(kinds(128), "N"), character_class(kinds(128), "L")
('\\\\U00000030-\\\\U00000039', '\\\\U00000041-\\\\U0000005a\\\\U00000061-\\\\U0000007a')

Next: minidsv3.tokenizer.pieces
"""

import re
import unicodedata
from functools import lru_cache

# the second stage's ranges: U+4E00-U+9FA5, Hiragana, Katakana
CJK_RANGES = ((0x3040, 0x309F), (0x30A0, 0x30FF), (0x4E00, 0x9FA5))
# White_Space is the Z categories and these controls; Python's \s and str.isspace add U+001C-U+001F
_BLANK_CONTROLS = (0x09, 0x0B, 0x0C, 0x85)


@lru_cache(maxsize=3)
def kinds(size: int) -> str:
    """Write the kind of each of the first `size` code points: one letter each."""
    letters = [category[0] for category in map(unicodedata.category, map(chr, range(size)))]
    for code in _BLANK_CONTROLS[: 3 if size <= 0x85 else 4]:
        letters[code] = "W"
    for code in b"\r\n":
        letters[code] = "B"
    for first, last in CJK_RANGES:
        letters[first : last + 1] = [letter.lower() for letter in letters[first : last + 1]]
    return "".join(letters).replace("Z", "W")


def character_class(kinds_of: str, letters: str) -> str:
    """List the code points of these kinds as ranges, to stand between `[` and `]`."""
    runs = re.finditer(f"[{letters}]+", kinds_of)  # ranges found at the speed of `re`, not of a Python loop
    return "".join(_range(run.start(), run.end() - 1) for run in runs)


def _range(first: int, last: int) -> str:
    return f"\\U{first:08x}" if first == last else f"\\U{first:08x}-\\U{last:08x}"
