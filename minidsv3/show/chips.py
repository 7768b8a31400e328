"""Tokens as chips: each token's bytes as text, one beside the other, with a bar between them.

Spaces and line breaks are made visible; bytes that are no text of their own, such as a third of `図`, are
shown in hexadecimal. Two colours alternate; without colour the bars tell the tokens apart.

Does: draw tokens. Does not: tokenise.

    >>> from minidsv3.show.svg import plain_text
    >>> print(plain_text(Chips([b"def", b" f", b":\\n", b"\\xe5"]), width=60, ascii_only=True))
    |def|_f|:\\n|<e5>|

Next: minidsv3.show.value
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.show.forms import shown

__all__ = ["Chips", "visible"]

COLOURS = ("bold cyan", "bold magenta")


@dataclass(frozen=True)
class Chips:
    """Tokens by their bytes."""

    tokens: Sequence[bytes]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text, bar = Text(overflow="fold"), "|" if options.ascii_only else "│"
        for i, token in enumerate(self.tokens):
            text.append(bar, "dim").append(visible(token, options.ascii_only), COLOURS[i % 2])
        yield text.append(bar, "dim") if self.tokens else text

    def describe(self) -> str:
        """A line for each token."""
        return "\n".join(
            f"token {i + 1}: {visible(token, plain=True)}" for i, token in enumerate(self.tokens)
        )


def visible(token: bytes, plain: bool = False) -> str:
    """A token's bytes in one line of printable text.  plain: of ASCII."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return f"<{token.hex()}>"
    shown = {" ": "_", "\n": "\\n"} if plain else {" ": "·", "\n": "⏎"}
    return "".join(shown.get(c) or (c if _printable(c, plain) else ascii(c)[1:-1]) for c in text)


def _printable(character: str, plain: bool) -> bool:
    return character.isprintable() and (character.isascii() or not plain)


def demo() -> Chips:
    """A line of code as a tokenizer that was trained on two cuts it."""
    from minidsv3.tokenizer import Tokenizer

    text = "def scale(x):\n    return 2 * x  # 図\n"
    tokenizer = Tokenizer.train([text, text.replace("scale", "shift")], vocab_size=300)
    return Chips([tokenizer.token_bytes(token) for token in tokenizer.encode(text)])


if __name__ == "__main__":
    shown(demo())
