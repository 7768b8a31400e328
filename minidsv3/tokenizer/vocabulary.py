"""What a tokenizer knows: its tokens by id, its merges in order, and the added tokens no merge makes.

The layout is DeepSeek's: ids 0, 1, 2 are begin, end and padding; 3..258 the byte tokens; then one id for
each token that a merge makes; last the added tokens, of which fill-in-the-middle needs three. DeepSeek-V3
has 127,741 merges and 815 such tokens; the embedding is padded beyond them, and ids of the padding are no
tokens.

The other published files differ in order and number only. DeepSeek-V2's and Coder's leave out the byte
tokens of the 13 bytes that UTF-8 never uses; all the others have to be there, or text would be lost.

A `Vocabulary` that exists is sound: ids without gaps, no token twice, every byte of UTF-8 there, every merge
between known tokens and into a known token. Where a file is wrong, the ValueError says what was expected
and what came.

>>> tokens = (BOS, *BYTE_TOKENS, "he")
>>> vocabulary = Vocabulary(tokens, merges=((72, 69),), added=(AddedToken(0, BOS, special=True),))
>>> vocabulary.ranks(), vocabulary.token_bytes()[257]
({(72, 69): (0, 257)}, b'he')
>>> Vocabulary(tokens, ((72, 300),), vocabulary.added)
Traceback (most recent call last):
ValueError: expected merges of two token ids from 0 to 257, got (72, 300) as merge 0

Next: minidsv3.tokenizer.steps
"""

from dataclasses import dataclass
from functools import cached_property

from .alphabet import BYTE_TO_CHARACTER, BYTE_TOKENS, is_byte_level, to_bytes
from .pieces import DEEPSEEK_V3
from .stages import Steps
from .training import Pair

# bars are U+FF5C and low lines U+2581, so that no text contains these by accident
BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
FIM_HOLE, FIM_BEGIN, FIM_END = "<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>"
FIRST_TOKENS = (BOS, EOS, PAD)  # ids 0, 1, 2
# bytes that stand in no UTF-8 text
_UNUSED = frozenset(BYTE_TO_CHARACTER[byte] for byte in (0xC0, 0xC1, *range(0xF5, 0x100)))
LAST_TOKENS = (FIM_HOLE, FIM_BEGIN, FIM_END)  # in the order of their ids in DeepSeek-V3


@dataclass(frozen=True)
class AddedToken:
    """A token that stands for itself.

    special: a marker, not text, to those who skip markers; lstrip, rstrip: it swallows the white space
    before or after it; normalized: it is looked for in the text as normalised, after the others.
    """

    id: int
    content: str
    special: bool
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, in GPT-2's characters (added ones as themselves), merges in order, added tokens."""

    tokens: tuple[str, ...]
    merges: tuple[Pair, ...]
    added: tuple[AddedToken, ...]
    steps: Steps = DEEPSEEK_V3

    def __post_init__(self) -> None:
        self._check_tokens()
        self._check_added()
        self._check_merges()

    def _check_tokens(self) -> None:
        if len(self.ids) != len(self.tokens):
            twice = next(token for index, token in enumerate(self.tokens) if self.ids[token] != index)
            raise ValueError(f"expected every token once, got {_short(twice)} twice")
        missing = [token for token in BYTE_TOKENS if token not in self.ids and token not in _UNUSED]
        if missing:
            raise ValueError(
                f"expected the byte tokens of UTF-8, got none for {missing[0]!r} ({len(missing)} missing)"
            )

    def _check_added(self) -> None:
        for token in self.added:
            if (
                not 0 <= token.id < len(self.tokens)
                or self.tokens[token.id] != token.content
                or not token.content
            ):
                raise ValueError(
                    f"expected added tokens to be tokens, got {_short(token.content)} as {token.id}"
                )
            if any("\ud800" <= character <= "\udfff" for character in token.content):
                raise ValueError(f"expected added tokens that UTF-8 can write, got {_short(token.content)}")
        themselves = {token.content for token in self.added}
        for index, content in enumerate(self.tokens):
            if content not in themselves and not (content and is_byte_level(content)):
                raise ValueError(
                    f"expected tokens in byte-level characters, got {_short(content)} as {index}"
                )

    def _check_merges(self) -> None:
        last = len(self.tokens) - 1
        for rank, pair in enumerate(self.merges):
            if not (0 <= pair[0] <= last and 0 <= pair[1] <= last):
                raise ValueError(
                    f"expected merges of two token ids from 0 to {last}, got {pair} as merge {rank}"
                )
            if self.tokens[pair[0]] + self.tokens[pair[1]] not in self.ids:
                parts = " + ".join(_short(self.tokens[part]) for part in pair)
                raise ValueError(
                    f"expected merges that make a token of the vocabulary, got {parts} as merge {rank}"
                )

    @cached_property
    def ids(self) -> dict[str, int]:
        """Map a token, as written in `tokens`, to its id."""
        return {token: index for index, token in enumerate(self.tokens)}

    @cached_property
    def learned(self) -> int:
        """The number of tokens that are not added at the end."""
        added = {token.id for token in self.added}
        return 1 + max(index for index in range(len(self.tokens)) if index not in added)

    def ranks(self) -> dict[Pair, tuple[int, int]]:
        """Map a pair of ids to the rank of its merge and the id of the token it makes."""
        tokens, ids = self.tokens, self.ids
        return {(a, b): (rank, ids[tokens[a] + tokens[b]]) for rank, (a, b) in enumerate(self.merges)}

    def token_bytes(self) -> list[bytes]:
        """Give the bytes each token stands for; an added token outside the byte alphabet is its own UTF-8."""
        return [to_bytes(token) if is_byte_level(token) else token.encode() for token in self.tokens]


def _short(content: str) -> str:
    return repr(content) if len(content) <= 40 else f"{content[:40]!r}… ({len(content)} characters)"
