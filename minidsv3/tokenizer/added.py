"""Find the added tokens spelled out in a text: markers such as `<｜User｜>`, and what stands between them.

Tokens that are not `normalized` are looked for first, in the text as it is; then, in what remains, the
normalized ones, in the text as normalised. Of several at one place the longest counts. A token may swallow
the white space before or after it (`lstrip`, `rstrip`); text already taken by the token before stays there.

Tokens that match as whole words only (`single_word`) are refused when a file is read: none of the files
known here has one.

>>> added = AddedTokens((AddedToken(7, "<a>", True), AddedToken(8, "<a><b>", True, rstrip=True)))
>>> list(added.find("x<a><b> <a>", normalized=False))
[(0, 1, None), (1, 8, 8), (8, 11, 7)]
>>> list(added.find("x <a><b>  y", normalized=False))
[(0, 2, None), (2, 10, 8), (10, 11, None)]

Next: minidsv3.tokenizer.codec
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cached_property

from .classes import ranges, shorthand
from .stages import ALL
from .vocabulary import AddedToken

Part = tuple[int, int, int | None]  # begin, end, the token that stands there


class AddedTokens:
    """The added tokens of one vocabulary, ready to be found."""

    def __init__(self, tokens: Iterable[AddedToken], compose: bool = False) -> None:
        self._tokens, self._compose = tuple(tokens), compose

    def find(self, text: str, normalized: bool) -> Iterator[Part]:
        """Cut a text into tokens and what lies between; `normalized` says which tokens to look for."""
        pattern, named = self._after if normalized else self._first
        end = 0
        for match in pattern.finditer(text):
            token = named[match.group()]
            begin, stop = match.span()
            if token.lstrip:
                begin = max(self._left_edge(text, begin), end)
            if token.rstrip:
                stop = self._right_edge(text, stop)
            if end < begin:
                yield end, begin, None
            yield begin, stop, token.id
            end = stop
        if end < len(text):
            yield end, len(text), None

    def _left_edge(self, text: str, begin: int) -> int:
        while begin and self._blanks.fullmatch(text[begin - 1]):
            begin -= 1
        return begin

    def _right_edge(self, text: str, end: int) -> int:
        while end < len(text) and self._blanks.fullmatch(text[end]):
            end += 1
        return end

    @cached_property
    def _blanks(self) -> re.Pattern[str]:
        return re.compile(f"[{ranges(shorthand('s'), ALL)}]")

    @cached_property
    def _first(self) -> tuple[re.Pattern[str], dict[str, AddedToken]]:
        return _any_of({token.content: token for token in self._tokens if not token.normalized})

    @cached_property
    def _after(self) -> tuple[re.Pattern[str], dict[str, AddedToken]]:
        after = {token.content: token for token in self._tokens if token.normalized}
        if self._compose:
            after = {unicodedata.normalize("NFC", content): token for content, token in after.items()}
        return _any_of(after)


def _any_of(named: dict[str, AddedToken]) -> tuple[re.Pattern[str], dict[str, AddedToken]]:
    # longest first, since of two that begin alike `re` takes the first; with none added, match nothing
    contents = sorted(named, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, contents)) if contents else "(?!)"), named
