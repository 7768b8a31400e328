"""Where words go: results to stdout, talk to stderr, one JSON object instead of text where that is asked for.

rich reads NO_COLOR, FORCE_COLOR, COLUMNS and TERM. Characters that the encoding has not are written as their
twins in ASCII instead of stopping the program. A dashboard is drawn in place only on a terminal that can do
so, and never with MINIDSV3_SCREEN_READER set, where lines of text serve better.

Does: consoles, JSON. Does not: decide what is said.

Next: minidsv3.cli.run_preparing
"""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:  # --help does without rich
    from rich.console import Console, RenderableType

FILE_COLUMNS = 120  # of a table in a file or a pipe

__all__ = ["draws_in_place", "print_json", "print_picture", "reads_aloud", "results", "talk", "word"]


def results() -> "Console":
    """stdout."""
    return _console(sys.stdout)


def talk() -> "Console":
    """stderr."""
    return _console(sys.stderr)


def _console(file: TextIO) -> "Console":
    from rich.console import Console

    from minidsv3.show.forms import protected

    file = protected(file)
    unknown = not file.isatty() and not os.environ.get("COLUMNS")
    width, height = FILE_COLUMNS if unknown else None, None
    if not unknown and os.environ.get("TERM", "").lower() in ("dumb", "unknown"):  # rich takes 80 x 25 there
        width, height = shutil.get_terminal_size()
    return Console(
        file=file, width=width, height=height, highlight=False, markup=False, emoji=False, soft_wrap=unknown
    )


def draws_in_place(console: "Console") -> bool:
    """Whether a picture can be drawn again and again in its place."""
    return (
        console.file.isatty()
        and console.is_interactive
        and not console.is_dumb_terminal
        and not reads_aloud()
    )


def reads_aloud() -> bool:
    """Whether a screen reader reads what is printed: words are then better than pictures."""
    return os.environ.get("MINIDSV3_SCREEN_READER", "") not in ("", "0")


def print_picture(picture: "RenderableType") -> None:
    """A picture on stdout; where a screen reader reads that, in words, a record a line."""
    from minidsv3.show.forms import in_words

    results().print(in_words(picture) if reads_aloud() else picture)


def word(path: Path) -> str:
    """A path as a word of a command that can be copied.

    >>> print(word(Path("runs/nano-0")), word(Path("my runs/nano")))
    runs/nano-0 'my runs/nano'
    """
    return shlex.quote(str(path))


def print_json(table: Mapping[str, Any]) -> None:
    """One object on stdout."""
    print(json.dumps(table, indent=1, allow_nan=False))
