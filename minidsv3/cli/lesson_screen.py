"""A page and a footer on a terminal: drawn in place where that is possible, otherwise printed one by one.

In place, the page stands at the top, as much of it as there is room for, and scrolls; the status and the keys
stand at the bottom, in as many lines as the width asks for, and the last line is left for what is typed. A
changed size is drawn anew. For a screen reader nothing is drawn twice: pages come in words, line by line, and
the keys are all told once, then on "?".

Does: draw, scroll, print. Does not: know what a page says (`lesson_pages`), read keys (`keyboard`).

    >>> for line in key_lines({"n": "next", "b": "back", "q": "quit"}, width=16):
    ...     print(line)
    n next  b back
    q quit

Next: minidsv3.cli.lesson_pages
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.text import Text

from minidsv3.cli.keyboard import reads_keys
from minidsv3.cli.terminal import draws_in_place, reads_aloud
from minidsv3.show.forms import in_words
from minidsv3.show.numbers import counted

__all__ = ["Footer", "Screen", "key_lines"]

MOST_NOTE = 3  # lines of a sentence
LEAST = 6  # lines of a page below which the keys give way


@dataclass(frozen=True)
class Footer:
    """What stands below a page.  status: where one is  short: the keys that stay where there is no room."""

    status: str
    keys: Mapping[str, str]
    short: Sequence[str] = ("n", "b", "?", "q")


def key_lines(keys: Mapping[str, str], width: int) -> list[Text]:
    """Keys with their names, in lines no wider than that."""
    lines = [Text()]
    for key, name in keys.items():
        words = Text.assemble((key, "bold"), f" {name}")
        if lines[-1].plain and lines[-1].cell_len + 2 + words.cell_len > width:
            lines.append(Text())
        lines[-1] = lines[-1] + ("  " if lines[-1].plain else "") + words
    return lines


@dataclass
class Screen:
    """What is on the terminal now."""

    console: Console
    page: Sequence[RenderableType] = ()
    footer: Footer = field(default_factory=lambda: Footer("", {}))
    note: str = ""  # a sentence above the footer
    top: int = 0  # first line of the page that is seen
    told: bool = False  # whether a screen reader has heard the keys

    @property
    def in_place(self) -> bool:
        """Whether it draws, and does not only print."""
        return draws_in_place(self.console) and reads_keys(self.console)

    def show(self, page: Sequence[RenderableType], footer: Footer, note: str = "") -> None:
        """Another page; an empty one is the page that was there."""
        if page:
            self.page, self.top = page, 0
        self.footer, self.note = footer, note
        if self.in_place:
            self.draw()
        else:
            self._print(page)

    def say(self, note: str) -> None:
        """A sentence while something runs."""
        if self.in_place:
            self.note = note
            self.draw()
        else:
            self.console.print(note, soft_wrap=reads_aloud())

    # ---- in place ----

    def draw(self) -> None:
        """Draw page and footer over what was there; the cursor rests on the last line."""
        lines, room = self._lines(self.page), self._below()[1]
        self.top = max(min(self.top, len(lines) - room), 0)
        below = self._below()[0]
        shown = lines[self.top : self.top + room]
        shown += [""] * (room - len(shown))
        drawn = "".join(f"\x1b[2K{line}\r\n" for line in shown + below)
        self.console.file.write(f"\x1b[H{drawn}\x1b[J")
        self.console.file.flush()

    def scroll(self, key: str) -> bool:
        """Move the page as a key says; whether there was anything to move to."""
        room, before = self._below()[1], self.top
        steps = {"down": 1, "up": -1, "page down": room - 1, "page up": 1 - room}
        steps |= {"home": -len(self._lines(self.page)), "end": len(self._lines(self.page))}
        if not self.in_place or key not in steps:
            return False
        self.top = max(self.top + steps[key], 0)
        self.draw()
        return self.top != before

    def _below(self) -> tuple[list[str], int]:
        """Lines of the footer, and how many are left for the page."""
        width, height, keys = self.console.width, self.console.height, self.footer.keys
        parts = key_lines(keys, width)
        if height - len(parts) - 2 < LEAST:
            parts = key_lines({key: keys[key] for key in self.footer.short if key in keys}, width)[:1]
        note = [Text(self.note, "yellow")] if self.note else []
        below = self._lines(note)[:MOST_NOTE]
        room = max(height - len(parts) - len(below) - 2, 1)
        more = len(self._lines(self.page)) - self.top - room
        status = (
            f"{self.footer.status}  (space: {counted(more, 'more line')})" if more > 0 else self.footer.status
        )
        bar = Text(status[:width].ljust(width), "reverse")
        return [*below, *self._lines([bar, *parts])], room

    def _lines(self, page: Sequence[RenderableType]) -> list[str]:
        """The page as the terminal's lines, each with its own colours."""
        with self.console.capture() as captured:
            for part in page:
                self.console.print(part)
        return captured.get().rstrip("\n").split("\n") if page else []

    # ---- below each other ----

    def _print(self, page: Sequence[RenderableType]) -> None:
        for part in page:
            if reads_aloud():
                self.console.print(in_words(part), soft_wrap=True)
            else:
                self.console.print(part)
        if self.note:
            self.console.print(self.note, soft_wrap=reads_aloud())
        if reads_aloud():
            self._tell_keys()
            return
        self.console.print()
        self.console.print(Text(self.footer.status, "reverse"))
        for line in key_lines(self.footer.keys, self.console.width):
            self.console.print(line)

    def _tell_keys(self) -> None:
        """All keys once, then where they are told."""
        if not self.told:
            keys = ", ".join(f"{key} {name}" for key, name in self.footer.keys.items())
            self.console.print(f"keys: {keys}", soft_wrap=True)
        else:
            self.console.print(f"{self.footer.status}. ? tells the keys", soft_wrap=True)
        self.told = True
