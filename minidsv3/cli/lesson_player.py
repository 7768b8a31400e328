"""A lesson on a terminal: shows a cell, runs it, and waits for a key.

A page is a cell with its output and pictures, or one op that the cell ran, or what a key asked for; the keys
stand below it, always. Where single keys cannot be read (TERM=dumb, no termios) lines with the same letters,
or the keys' names, do; any other line is evaluated in the lesson. Ctrl-C stops a cell that runs.

Does: keys, where one is, remembering where the student stopped. Does not: run cells
(`minidsv3.learn.player`), lay pages out (`lesson_pages`) or draw them (`lesson_screen`).

Next: minidsv3.cli.lesson_export
"""

import contextlib
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from minidsv3.cli import lesson_pages as pages
from minidsv3.cli.keyboard import keys as keyboard
from minidsv3.cli.lesson_screen import Footer, Screen
from minidsv3.cli.terminal import reads_aloud, results, word
from minidsv3.learn.exercises import Lesson
from minidsv3.learn.inspection import inspected
from minidsv3.learn.player import CellResult, Player
from minidsv3.learn.progress import lesson_cell, record_lesson
from minidsv3.machine import Op, look_up
from minidsv3.show.numbers import counted

__all__ = ["KEYS", "OP_KEYS", "copy_of", "play"]

KEYS = {
    "n": "next", "b": "back", "g": "go to", "d": "into ops", "v": "variables", "i": "inspect", "t": "trace",
    "e": "equations", "s": "source", "/": "search", ":": "evaluate", "r": "re-run", "o": "edit", "?": "help",
    "q": "quit",
}  # fmt: skip
OP_KEYS = {"n": "next op", "b": "op before", "g": "go to", "u": "out", "i": "inspect", "s": "source"}
OP_KEYS |= {key: KEYS[key] for key in ("v", "/", ":", "?", "q")}
SAME = {"right": "n", "left": "b", "enter": "space", "p": "b", "h": "?", "escape": "u", "\\": "/", "=": ":"}
ASKS = {
    "g": "cell number: ",
    "i": "name, such as c_KV or p[head=1]: ",
    "e": "op (empty: all of this cell): ",
    "s": "op (empty: the first of this cell): ",
    "/": "search: ",
    ":": "evaluate: ",
}
HELP = """\
n, right arrow          run the next cell
space, enter            more of this page, at its end the next cell
b, left arrow           back: everything is as it was behind the cell before
up, down, page keys     move the page
g NUMBER                go to a cell, running those between
d                       down into the ops that this cell ran, one equation at a time; u leads out again
v                       variables, those that this cell changed first
i NAME                  look at a value: c_KV, p[head=1], w.embedding, mla.softmax[layer=0]
t                       trace: the ops of this cell, with shapes, FLOPs and bytes
e OP                    equation card of an op; none: the equations of this cell
s OP                    source of an op in the package; none: the first op of this cell
/ TEXT                  search the lesson
: EXPRESSION            evaluate in the lesson; changes are undone, unless ! stands in front
r                       run this cell again, from the state in front of it
o                       open a copy of the lesson in $EDITOR, and read it again
q                       quit; `minidsv3 lesson run` goes on here"""


def copy_of(lesson: Lesson, folder: Path) -> Path:
    """Where the student's own copy of a lesson is, if there is one."""
    return folder / lesson.name / "lesson.py"


def play(
    lesson: Lesson,
    player: Player,
    folder: Path,
    restart: bool = False,
    console: Console | None = None,
    commands: Iterator[str] | None = None,
    fast: bool = False,
) -> int:
    """Play until the student quits; 1 if the last cell run failed.

    folder: where the progress is kept.  fast: stop only at cells of the fast track.
    commands: keys, some with a word behind, in place of the keyboard.
    """
    session = _Session(lesson, player, folder, Screen(console or results()), fast)
    with contextlib.ExitStack() as stack:
        if commands is None:
            commands = stack.enter_context(contextlib.closing(keyboard(session.screen.console, session.asks)))
        stack.callback(session.remember)
        session.begin(0 if restart else lesson_cell(folder, lesson.id))
        for command in commands:
            key, text = session.understood(command)
            if key == "q":
                break
            session.answer(key, text)
        session.end()
    return 0 if player.last is None or player.last.ok else 1


class _Session:
    """What the keys do."""

    def __init__(self, lesson: Lesson, player: Player, folder: Path, screen: Screen, fast: bool) -> None:
        self.lesson, self.player, self.folder, self.screen, self.fast = lesson, player, folder, screen, fast
        self.op: int | None = None  # of the cell shown, while one walks through its ops
        self.read = -1  # the cell that is shown before it runs
        self.asks = dict(ASKS)
        self.actions: dict[str, Callable[[str], object]] = {
            "n": lambda _: self.next(), "b": lambda _: self.back(), "g": self.go, "d": lambda _: self.into(0),
            "u": lambda _: self.out(), "space": lambda _: self.page_on(), "v": lambda _: self.variables(),
            "i": self.inspect, "t": lambda _: self.trace(), "e": self.equation, "s": self.source,
            "/": self.search, ":": self.evaluate, "r": lambda _: self.rerun(), "o": lambda _: self.edit(),
            "?": lambda _: self.help(), "redraw": lambda _: self.show([]),
        }  # fmt: skip

    # ---- the session ----

    def begin(self, cell: int, note: str = "") -> None:
        """Show where the lesson begins, or run up to where it stopped."""
        cell = min(cell, len(self.player.cells))
        if not cell:
            about = f"{len(self.player.cells)} cells, {self.lesson.minutes} minutes; n begins"
            self.show([Text(f"lesson {self.lesson.id}: {self.lesson.title}", "bold"), about], note)
            return
        self.screen.say(f"lesson {self.lesson.id}: running up to cell {cell}, where you stopped …")
        self.player.go(cell)
        self.show_cell()

    def end(self) -> None:
        """Say how to go on."""
        if self.screen.in_place:
            self.screen.console.file.write("\r\x1b[2K")
        console = self.screen.console
        console.print(f"`minidsv3 lesson run {self.lesson.id}` goes on here", soft_wrap=reads_aloud())

    def remember(self) -> None:
        """Write down where the lesson stands."""
        with contextlib.suppress(OSError):
            record_lesson(self.folder, self.lesson.id, self.player.position, len(self.player.cells))

    def understood(self, command: str) -> tuple[str, str]:
        """Key and word of what was pressed or typed; a line that is neither is to be evaluated."""
        first, _, rest = command.partition(" ")
        names = {name.split()[0]: key for key, name in KEYS.items()}
        if command in SAME or command in self.actions or command in ("q", *SCROLLS):
            return SAME.get(command, command), ""
        if first in ASKS or (not rest and first in KEYS):
            return first, rest.strip()
        if first in names and (not rest or names[first] in ASKS or rest in KEYS.values()):
            return names[first], rest.strip()
        if command[:1] in ("/", ":", "="):
            return SAME.get(command[0], command[0]), command[1:].strip()
        known = len(command) > 1 or command in self.player.namespace
        return (":", command) if known else (command, "")

    def answer(self, key: str, text: str) -> None:
        """One key; what is wrong is said."""
        if self.screen.scroll(key):
            return
        if reads_aloud() and key in KEYS:
            self.screen.say(f"{self.keys.get(key, KEYS[key])} {text}".rstrip() + ":")
        try:
            if key in self.actions:
                self.actions[key](text)
            elif key not in SCROLLS:
                self.show([], f"no key {key!r}; ? shows them")
        except ValueError as problem:
            self.show([], str(problem))
        except KeyboardInterrupt:
            self.show([], "interrupted: everything is as it was in front of the cell")

    @property
    def keys(self) -> dict[str, str]:
        """The keys as they are now, and what they do."""
        return KEYS if self.op is None else OP_KEYS

    def show(self, page: list[RenderableType], note: str = "") -> None:
        """A page with the footer; an empty one: the page that was there."""
        done, of = self.player.position, len(self.player.cells)
        status = f"{self.lesson.id} {self.lesson.title}, cell {done} of {of}"
        self.asks |= ASKS
        if self.op is not None:  # these are of the op shown
            self.asks.pop("s")
            self.asks.pop("e")
        short = ("n", "b", "u", "?", "q") if self.op is not None else ("n", "b", "?", "q")
        self.screen.show(page, Footer(status, self.keys, short), note)

    # ---- cells ----

    @property
    def result(self) -> CellResult:
        """What the cell shown gave; ValueError in front of the first."""
        if self.player.last is None:
            raise ValueError("no cell has run yet; n runs the first")
        return self.player.last

    def show_cell(self, note: str = "") -> None:
        """The cell that ran last, or the lesson's beginning."""
        self.op, last = None, self.player.last
        self.remember()  # a window may be closed at any time
        if last is None:
            return self.begin(0, note)
        cell = self.player.cells[last.index]
        self.show(pages.cell_page(cell, last.index, len(self.player.cells), last), note)
        if not last.ok:
            self.screen.scroll("end")  # what went wrong stands there
        return None

    def next(self) -> None:
        """The next cell (of the fast track), or the next op."""
        player = self.player
        if self.op is not None:
            return self.into(self.op + 1)
        if player.cell is None:
            return self.show(
                [], f"this was the last cell; now write it yourself: minidsv3 check {self.lesson.id}"
            )
        if self.fast:
            return self.next_fast()
        if player.cell.pauses and self.read != player.position:
            self.read = player.position
            page = pages.cell_page(player.cell, player.position, len(player.cells))
            return self.show(page, "guess first; n runs it")
        if self.screen.in_place:
            self.screen.say(f"running cell {player.position + 1} …")
        player.forward()
        return self.show_cell()

    def next_fast(self) -> None:
        """Run unseen up to the next cell of the fast track, and that."""
        player = self.player
        ahead = (i for i in range(player.position, len(player.cells)) if player.cells[i].fast)
        stop = next(ahead, len(player.cells) - 1)
        player.go(stop + 1)
        self.show_cell()

    def back(self) -> None:
        """The cell before, or the op before."""
        if self.op is not None:
            return self.into(self.op - 1)
        self.player.back()
        while self.fast and self.player.position and not self.player.cells[self.player.position - 1].fast:
            self.player.back()
        return self.show_cell()

    def go(self, text: str) -> None:
        """To a cell, or among ops to an op."""
        if not text.isdecimal():
            raise ValueError(f"expected a number, got {text!r}")
        if self.op is not None:
            return self.into(int(text) - 1)
        ahead = int(text) - self.player.position
        if ahead > 1:
            self.screen.say(f"running {counted(ahead, 'cell')} …")
        self.player.go(int(text))
        return self.show_cell()

    def page_on(self) -> None:
        """More of the page; at its end the next cell."""
        if not self.screen.scroll("page down"):
            self.next()

    def rerun(self) -> None:
        """The cell shown, again."""
        self.result  # noqa: B018  (says that there is none)
        self.player.rerun()
        self.show_cell()

    def edit(self) -> None:
        """Open the student's copy in the editor, then take it."""
        path = copy_of(self.lesson, self.folder)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.lesson.path.read_bytes())
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
        if not editor:
            raise ValueError(f"expected $EDITOR to say with what to edit; the copy is {word(path)}")
        try:
            subprocess.run([*shlex.split(editor), str(path)], check=False)
            at = self.player.change(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as problem:
            raise ValueError(str(problem)) from problem
        self.show_cell(f"read again; the next cell is {at + 1}" if self.player.cell else "read again")

    # ---- ops ----

    def into(self, number: int) -> None:
        """An op of the cell; behind the last one and in front of the first the cell itself."""
        ops = len(self.result.events) or len(self.result.rows)
        if not ops:
            raise ValueError("this cell ran no traced op; n runs the next")
        if not 0 <= number < ops:
            return self.show_cell("that was the last op of this cell" if number >= ops else "")
        self.op = number
        return self.show(pages.op_page(self.result, number))

    def out(self) -> None:
        """From an op, or any other page, to the cell."""
        self.show_cell()

    def op_at_hand(self, text: str) -> Op:
        """The op that is named, shown, or the cell's first."""
        if text:
            return look_up(text)
        rows = [event.row for event in self.result.events] or list(self.result.rows)
        if not rows:
            raise ValueError("expected an op's id, such as mla.softmax: this cell ran none")
        return look_up(rows[self.op or 0].op)

    def trace(self) -> None:
        """The ops of the cell."""
        self.show(pages.trace_page(self.result))

    def equation(self, text: str) -> None:
        """Equations of the cell, or the card of one op."""
        self.show(pages.equation_page(self.result, self.player.cells[self.result.index], text))

    def source(self, text: str) -> None:
        """The function of an op."""
        self.show(pages.source_page(self.op_at_hand(text)))

    # ---- names ----

    def variables(self) -> None:
        """The table of names."""
        self.show(pages.variables_page(self.player.variables()))

    def inspect(self, text: str) -> None:
        """A value as a picture; among ops their own symbols come first."""
        namespace, rows, events = self.player.namespace, self.result.rows, self.result.events
        if self.op is not None and events:
            event = events[self.op]
            namespace, rows = {**namespace, **pages.symbols_of(event)}, type(rows)([event.row])
        elif not text:
            arrays = [v.name for v in self.player.variables() if v.shape]
            text = arrays[0] if arrays else text
        made: Any = inspected(text, namespace, rows, events)
        self.show([Text(f"{text}; u leads back", "bold"), made if not isinstance(made, str) else Text(made)])

    def search(self, text: str) -> None:
        """Where a text stands."""
        self.show(pages.found_page(self.player, text))

    def evaluate(self, text: str) -> None:
        """An expression's value."""
        if not text:
            raise ValueError("expected an expression, such as h.shape")
        found = self.player.evaluate(text.removeprefix("!").strip(), keep=text.startswith("!"))
        kept = "" if found.undone or text.startswith("!") else "what it changed could not be undone"
        style = "" if found.ok else "red"
        self.show([Text(f">>> {text}", "bold"), Text(found.text[:20_000], style, overflow="fold")], kept)

    def help(self) -> None:
        """The keys."""
        self.show([HELP])


SCROLLS = ("up", "down", "page up", "page down", "home", "end", "tab", "backspace", "delete", "erase")
