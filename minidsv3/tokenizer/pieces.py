r"""Cut a text into the pieces inside which BPE may merge: the splits that are known by name.

`deepseek-v3` has three stages. Stage 1 isolates numbers, three digits at a time from the left; stage 2
isolates runs of Chinese and Japanese; stage 3 isolates words (with the one character before them),
punctuation (with line breaks after it) and blanks. Each stage works on every piece of the stage before, and
text that matches nothing stays as a piece. `deepseek-v2` (also DeepSeek-LLM's and Coder 1.5's) isolates line
breaks, then words, punctuation, trailing blanks, Chinese and Korean, and single digits. `gpt2` is one
pattern, and `none` leaves a text whole.

The stages are **not** one pattern with alternatives: in `   123` V3's stage 1 leaves `   ` alone, so stage
3 sees three blanks at the *end* of a piece and keeps them together, where a joined pattern would see a
digit after them.

`split_in_stages` is the specification for V3. `split_pieces` finds the same pieces in one pass: its pattern
tells numbers and CJK apart by kind and treats both as an end of the text in every look-ahead. A property
test holds them equal.

>>> split_pieces("don't   12345!\n\n  x")
['don', "'t", '   ', '123', '45', '!\n\n', ' ', ' x']
>>> split_in_stages("日本は2") == split_pieces("日本は2") == ['日本は', '2']
True
>>> SPLITS["deepseek-v2"].pieces("don't   12")
['don', "'", 't', '   ', '1', '2']

Next: minidsv3.tokenizer.training
"""

import re
from functools import lru_cache

from .classes import character_class, kinds
from .stages import ASCII, DIGIT, GPT2, Stage, Steps, alphabet_of

# the published patterns; DeepSeek's tokenizer.json holds \r and \n in them as characters, not escapes
STAGES = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
# cased letters, as Unicode stood when this was published
_CASED = (
    "A-Za-z\xb5\xc0-\xd6\xd8-\xf6\xf8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376"
    "\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-"
    "\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
    "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-"
    "\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-"
    "\U0001e943"
)
_BYTES = Stage("ByteLevel")


def _isolating(*patterns: str) -> tuple[Stage, ...]:
    return tuple(Stage("Split", pattern) for pattern in patterns)


SPLITS: dict[str, Steps] = {
    "deepseek-v3": Steps((*_isolating(*STAGES), _BYTES)),
    "deepseek-v2": Steps(
        (
            *_isolating(
                "[\r\n]",
                rf"\s?[{_CASED}]+",
                r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
                r"\s+$",
                "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
            ),
            Stage("Digits", DIGIT),
            _BYTES,
        )
    ),
    "gpt2": Steps((Stage("ByteLevel", GPT2),)),
    "none": Steps((_BYTES,)),
}
DEEPSEEK_V3 = SPLITS["deepseek-v3"]
_ASCII_PUNCTUATION = r"!-/:-@\[-`{-~"


def split_in_stages(text: str) -> list[str]:
    """Cut a text stage by stage: the specification, slower than `split_pieces`."""
    return DEEPSEEK_V3.pieces(text)


def split_pieces(text: str) -> list[str]:
    """Cut a text into pieces in one pass; equal to `split_in_stages`."""
    return _one_pass(alphabet_of(text)).findall(text)


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
    if size > ASCII:  # stage 3 once more, on what stage 2 cut out; there are no blanks and numbers in there
        alternatives += [rf"{of('cm')}?{of('lm')}+", rf"{of('ps')}+", rf"{of('c')}+(?!{of('lm')})"]
    return re.compile("|".join(alternatives))
