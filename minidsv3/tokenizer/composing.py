r"""Bring a text to Unicode's form C (NFC), knowing where each character came from.

Some published files normalise: `e` followed by a combining accent becomes `é`. Ids need the new text only,
which `unicodedata` writes; offsets count characters of the text as it was given. So the text is cut where
no composition can reach across, and each part is composed by itself: what a part became stands for the
whole part it came from. (The reference gives a composed character to the first it was made of.)

DeepSeek's own files do not normalise; those of its Qwen distillations do.

>>> composed("cafe\u0301!")
('café!', [(0, 1), (1, 2), (2, 3), (3, 5), (5, 6)])

Next: minidsv3.tokenizer.added
"""

import sys
import unicodedata
from functools import lru_cache

Origin = list[tuple[int, int]]  # for each character, begin and end of what it came from


def composed(text: str) -> tuple[str, Origin]:
    """Return the text in NFC, and for each of its characters the part of `text` it stands for."""
    written, origin, begin = list[str](), Origin(), 0
    for end in range(1, len(text) + 1):
        if end == len(text) or _stands_alone(text[end]):
            part = unicodedata.normalize("NFC", text[begin:end])
            written.append(part)
            unchanged = part == text[begin:end]
            origin += [(i, i + 1) for i in range(begin, end)] if unchanged else [(begin, end)] * len(part)
            begin = end
    return "".join(written), origin


@lru_cache(maxsize=1 << 12)
def _stands_alone(character: str) -> bool:
    """Say whether nothing before this character can combine or change places with it."""
    first = unicodedata.normalize("NFD", character)[0]
    return not unicodedata.combining(first) and first not in _seconds()


@lru_cache(maxsize=1)
def _seconds() -> frozenset[str]:
    """List the characters that a canonical composition takes as its second."""
    pairs = (unicodedata.decomposition(chr(code)).split() for code in range(sys.maxunicode + 1))
    seconds = {chr(int(pair[1], 16)) for pair in pairs if len(pair) == 2 and not pair[0].startswith("<")}
    jamo = map(chr, range(0x1161, 0x11C3))  # Hangul vowels and finals compose by rule, not by table
    return frozenset(seconds).union(jamo)
