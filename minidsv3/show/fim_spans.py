"""Fill-in-the-middle: a document cut in three and given in the order prefix, suffix, middle.

Two stripes, a character a stretch of the text: P, M, S as it was written; then with the four markers as the
model sees it. Below, each part in the model's order with its first and last words. To continue behind
the third marker is to fill the hole.

Does: draw what `minidsv3.corpus.fill_in_the_middle` makes. Does not: choose the cuts.

    >>> from minidsv3.corpus.fill_in_the_middle import Psm
    >>> spans = FimSpans(Psm("def f", "(x): return x", "oo"), (4, 9, 1), (5, 6, 7, 8))
    >>> spans.stripe(14), spans.stripe(18, turned=True)
    ('PPPPMSSSSSSSSS', '^PPPP^SSSSSSSSS^M^')

Next: minidsv3.show.rotation
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.corpus.fill_in_the_middle import Psm, fim_ids, fim_psm
from minidsv3.show.chips import visible
from minidsv3.show.forms import INKS, TWINS, shown
from minidsv3.show.numbers import counted
from minidsv3.tokenizer import Tokenizer

__all__ = ["FimSpans"]

NAMES = {"P": "prefix", "S": "suffix", "M": "middle"}  # in the model's order
STYLES = {"P": INKS[0], "M": INKS[1], "S": INKS[2], "^": "bold"}
MARKERS = ("begin", "hole", "end", "eos")
WIDEST, EDGE = 100, 2  # columns of a stripe at most; in front of it
HEAD = 30  # columns in front of a part's text


@dataclass(frozen=True)
class FimSpans:
    """A document's parts.  tokens: of prefix, suffix, middle.  markers: ids of begin, hole, end, eos."""

    psm: Psm
    tokens: tuple[int, int, int]
    markers: tuple[int, int, int, int]
    spelled: tuple[str, str, str, str] = MARKERS

    @classmethod
    def of(cls, text: str, tokenizer: Tokenizer, seed: int = 0) -> Self:
        """Cut a text where a seed says, at least once."""
        return cls.cut(fim_psm(text, np.random.default_rng(seed)), tokenizer)

    @classmethod
    def cut(cls, psm: Psm, tokenizer: Tokenizer) -> Self:
        """A document that is cut already."""
        prefix, suffix, middle = (len(tokenizer.encode(part)) for part in psm)
        t = tokenizer
        markers = (t.fim_begin, t.fim_hole, t.fim_end, t.eos)
        begin, hole, end, eos = (tokenizer.decode([marker]) for marker in markers)
        spans = cls(psm, (prefix, suffix, middle), markers, (begin, hole, end, eos))
        assert spans.length == len(fim_ids(psm, tokenizer))
        return spans

    @property
    def length(self) -> int:
        """Tokens as the model sees them, markers among them."""
        return sum(self.tokens) + len(self.markers)

    def stripe(self, width: int, turned: bool = False) -> str:
        """The parts as letters, to scale by tokens.  turned: in the model's order, a ^ for each marker."""
        sizes = dict(zip("PSM", self.tokens, strict=True))
        room = width - len(self.markers) if turned else width
        shares = _shares([sizes[letter] for letter in ("PSM" if turned else "PMS")], room)
        parts = [letter * share for letter, share in zip("PSM" if turned else "PMS", shares, strict=True)]
        return f"^{'^'.join(parts)}^" if turned else "".join(parts)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plain, width = options.ascii_only, options.max_width
        room = min(width, WIDEST) - EDGE
        characters = sum(map(len, self.psm))
        said = f"  {counted(characters, 'character')}, {counted(sum(self.tokens), 'token')}"
        yield Text().append("as it was written", "bold cyan").append(said)
        yield self._drawn(self.stripe(room - len(self.markers)), plain)
        yield Text()
        said = f"  {counted(self.length, 'token')}"
        yield Text().append("as the model sees it", "bold cyan").append(said)
        turned = self.stripe(room, turned=True)
        yield self._drawn(turned, plain)
        yield from self._pointed(turned)
        yield Text()
        yield from self._parts(plain, width)
        yield Text("\nwhat follows fim end fills the hole; P M S: the parts by tokens, ^: a marker", "dim")

    def _drawn(self, stripe: str, plain: bool) -> Text:
        line = Text(" " * EDGE, no_wrap=True)
        for letter in stripe:
            line.append("▲" if letter == "^" and not plain else letter, STYLES[letter])
        return line

    def _pointed(self, stripe: str) -> Iterator[Text]:
        """Names of the markers under them, in as many lines as they need."""
        at = [i for i, letter in enumerate(stripe) if letter == "^"]
        lines: list[str] = []
        for i, name in zip(at, MARKERS, strict=True):
            start = min(i, len(stripe) - len(name))
            row = next((k for k, line in enumerate(lines) if len(line) < start), len(lines))
            lines[row:] = [(lines[row] if row < len(lines) else "").ljust(start) + name, *lines[row + 1 :]]
        yield from (Text(" " * EDGE + line, "dim", no_wrap=True) for line in lines)

    def _parts(self, plain: bool, width: int) -> Iterator[Text]:
        """Each marker and part in the model's order."""
        marks = iter(zip(self.spelled, self.markers, strict=True))

        def marker() -> Text:
            spelled, token = next(marks)
            name = visible((spelled.translate(TWINS) if plain else spelled).encode(), plain)
            return (
                Text(no_wrap=True)
                .append(f"  {'^' if plain else '▲'} {name}", "bold")
                .append(f"  id {token}", "dim")
            )

        yield marker()
        for (letter, name), part, tokens in zip(NAMES.items(), self.psm, self.tokens, strict=True):
            line = Text(no_wrap=True, overflow="crop").append(f"  {letter} ", STYLES[letter])
            line.append(f"{name:8}", "bold").append(
                f"{counted(tokens, 'token'):>12}  ".ljust(HEAD - 12), "dim"
            )
            yield line.append(_ends(visible(part.encode(), plain), width - len(line)), STYLES[letter])
            yield marker()

    def describe(self) -> str:
        """A line for each part and marker."""
        said = [f"{counted(sum(map(len, self.psm)), 'character')}, as the model sees them:"]
        for i, (name, part) in enumerate(zip(NAMES.values(), self.psm, strict=True)):
            said.append(f"marker {MARKERS[i]}, id {self.markers[i]}")
            text = _ends(visible(part.encode(), plain=True), 60)
            said.append(f"{name}, {counted(self.tokens[i], 'token')}: {text}")
        return "\n".join([*said, f"marker {MARKERS[-1]}, id {self.markers[-1]}"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        tokens = dict(zip(self.psm._fields, self.tokens, strict=True))
        markers = dict(zip(MARKERS, self.markers, strict=True))
        return {"parts": self.psm._asdict(), "tokens": tokens, "markers": markers, "length": self.length}


def _shares(sizes: Sequence[int], room: int) -> list[int]:
    """Columns of each part, to scale; none of nothing, at least one of something."""
    whole = sum(sizes)
    if not whole:
        return [0] * len(sizes)
    found = [max(1, round(size * room / whole)) if size else 0 for size in sizes]
    found[found.index(max(found))] += room - sum(found)
    return found


def _ends(text: str, width: int) -> str:
    """The text, or its beginning and its end."""
    if len(text) <= width:
        return text
    dots = " .. "
    half = max((width - len(dots)) // 2, 1)
    return text[:half] + dots + text[-half:]


EXAMPLE = '''\
def insort(a, x):
    """Insert x into a sorted list, behind all that equal it."""
    low, high = 0, len(a)
    while low < high:
        middle = (low + high) // 2
        if x < a[middle]:
            high = middle
        else:
            low = middle + 1
    a.insert(low, x)
'''


def demo() -> FimSpans:
    """A small function."""
    return FimSpans.of(EXAMPLE, Tokenizer.train([EXAMPLE], vocab_size=320), seed=2)


if __name__ == "__main__":
    shown(demo())
