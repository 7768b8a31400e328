r"""Keys as they are pressed, by name, with the words that some of them ask for.

`keys` gives "n", "left", "page down", …; a key that asks for a word comes with it, "g 12". A terminal whose
size has changed, a process that goes on after Ctrl-Z, or a word given up with escape, gives "redraw".
Where single keys cannot be read (TERM=dumb, no termios, no terminal) it gives lines as they are typed, "g 12"
again; an empty one is "enter".

Does: read and name, edit a line, leave the terminal as it was. Does not: know what a key does. Ctrl-C is a
KeyboardInterrupt; Ctrl-D, or the end of the input, ends the keys.

    >>> named("n\x1b[C\x1b[6~\rg")
    (['n', 'right', 'page down', 'enter', 'g'], '')
    >>> Line("mla.sotmax", 6).after("f").text
    'mla.softmax'

Next: minidsv3.cli.lesson_screen
"""

import codecs
import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass

from rich.console import Console

__all__ = ["Line", "keys", "named", "reads_keys", "single_keys"]

NAMES = {
    "\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left", "\x1b[H": "home", "\x1b[F": "end",
    "\x1bOA": "up", "\x1bOB": "down", "\x1bOC": "right", "\x1bOD": "left", "\x1bOH": "home", "\x1bOF": "end",
    "\x1b[1~": "home", "\x1b[4~": "end", "\x1b[7~": "home", "\x1b[8~": "end", "\x1b[3~": "delete",
    "\x1b[5~": "page up", "\x1b[6~": "page down", "\x1b": "escape", " ": "space", "\r": "enter",
    "\n": "enter", "\t": "tab", "\x7f": "backspace", "\b": "backspace", "\x01": "home", "\x05": "end",
    "\x15": "erase", "\x04": "end of input", "\x0c": "redraw",
}  # fmt: skip
PRESS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO[@-~]|\x1b[^\[O\x1b]|.", re.DOTALL)
UNFINISHED = re.compile(r"\x1b(\[[0-?]*|O)?\Z")
PATIENCE = 0.05  # seconds in which the rest of a sequence comes
TICK = 0.25  # seconds between two looks at the terminal's size


def keys(console: Console, asks: Mapping[str, str] | None = None) -> Generator[str, None, None]:
    """Keys until the input ends; close it to leave the terminal as it was.

    asks: key -> the question for its word; looked up anew at each key.
    """
    return _pressed(console, {} if asks is None else asks) if reads_keys(console) else _lines()


def reads_keys(console: Console) -> bool:
    """Whether keys come one by one: a terminal, not a dumb one, on a system with termios."""
    try:
        import termios  # noqa: F401
    except ImportError:
        return False
    return sys.stdin.isatty() and console.file.isatty() and not console.is_dumb_terminal


def named(text: str) -> tuple[list[str], str]:
    """What was read  ->  the keys' names, and the beginning of a sequence that is not whole yet.

    Sequences without a name (a mouse, Alt with a key) and control characters are dropped.
    """
    rest = match.group() if (match := UNFINISHED.search(text)) else ""
    whole = text[: len(text) - len(rest)]
    found = [NAMES.get(press, press) for press in PRESS.findall(whole)]
    return [key for key in found if key.isprintable()], rest


@dataclass(frozen=True)
class Line:
    """A line being typed.  at: the cursor, characters from the left."""

    text: str = ""
    at: int = 0

    def after(self, key: str) -> "Line":
        """The line after one more key."""
        left, right = self.text[: self.at], self.text[self.at :]
        match " " if key == "space" else key:
            case "left":
                return Line(self.text, max(self.at - 1, 0))
            case "right":
                return Line(self.text, min(self.at + 1, len(self.text)))
            case "home":
                return Line(self.text, 0)
            case "end":
                return Line(self.text, len(self.text))
            case "backspace":
                return Line(left[:-1] + right, max(self.at - 1, 0))
            case "delete":
                return Line(left + right[1:], self.at)
            case "erase":
                return Line()
            case character if len(character) == 1:
                return Line(left + character + right, self.at + 1)
        return self


# ---- a terminal -------------------------------------------------------------------------------------------


def _pressed(console: Console, asks: Mapping[str, str]) -> Generator[str, None, None]:
    """Keys one by one, and the words that they ask for."""
    typed: list[str] = []  # words so far, for the up arrow
    with single_keys():
        read = _read()
        for key in read:
            if key == "end of input":
                return
            if (question := asks.get(key)) is None:
                yield key
            elif (word := _ask(console, question, read, typed)) is None:
                yield "redraw"
            else:
                yield f"{key} {word}".rstrip()


@contextlib.contextmanager
def single_keys() -> Iterator[None]:
    """Within this, keys come as they are pressed and are not echoed.

    `keys` does so by itself. Where a thread asks for keys, the main one enters this, to which signals come.
    """
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def begin(*_: object) -> None:
        tty.setcbreak(descriptor, termios.TCSADRAIN)  # what was typed ahead stays
        _Resumed.times += 1

    def end() -> None:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

    begin()
    try:
        with _stopping(begin, end):
            yield
    finally:
        end()


class _Resumed:
    """How often the terminal was taken: once, and whenever a stopped process went on."""

    times = 0


@contextlib.contextmanager
def _stopping(begin: Callable[..., None], end: Callable[[], None]) -> Iterator[None]:
    """Within this, Ctrl-Z gives the terminal back to the shell, and going on takes it again."""

    def stop(*_: object) -> None:
        end()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, stop)

    if threading.current_thread() is not threading.main_thread():  # signals come to the main one only
        yield
        return
    before = signal.signal(signal.SIGTSTP, stop), signal.signal(signal.SIGCONT, begin)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before[0])
        signal.signal(signal.SIGCONT, before[1])


def _read() -> Iterator[str]:
    """The names of what is pressed, "redraw" when the size has changed or the process was stopped."""
    import select

    descriptor, decoder, rest = sys.stdin.fileno(), codecs.getincrementaldecoder("utf-8")("ignore"), ""
    seen = _seen()
    while True:
        ready, _, _ = select.select([descriptor], [], [], PATIENCE if rest else TICK)
        if not ready and rest:
            found, rest = [NAMES[rest]] if rest in NAMES else [], ""
        elif not ready:
            found, seen = ["redraw"] if seen != _seen() else [], _seen()
        else:
            data = os.read(descriptor, 4096)
            if not data:
                return
            found, rest = named(rest + decoder.decode(data))
        yield from found


def _seen() -> tuple[int, int, int]:
    """What a page was drawn for: the terminal's size, and since when it has been ours."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return 0, 0, _Resumed.times
    return size.columns, size.lines, _Resumed.times


def _ask(console: Console, question: str, read: Iterator[str], typed: list[str]) -> str | None:
    """A word typed behind a question; None if it was given up.  typed: the words before, added to."""
    line, at = Line(), len(typed)
    _write(console, question)
    for key in read:
        if key == "enter":
            _write(console, "\n")
            typed += [line.text] if line.text.strip() else []
            return line.text.strip()
        if key in ("escape", "end of input"):
            break
        before = line
        if key in ("up", "down"):
            at = min(max(at + (1 if key == "down" else -1), 0), len(typed))
            text = typed[at] if at < len(typed) else ""
            line = Line(text, len(text))
        else:
            line = line.after(key)
        _write(console, _typed(console, question, before, line))
    _write(console, "\n")
    return None


def _typed(console: Console, question: str, before: Line, line: Line) -> str:
    """What to write so that the terminal shows the line; a character at its end goes out as it is."""
    room = max(console.width - len(question) - 1, 1)
    if line.text[:-1] == before.text and line.at == len(line.text) <= room:
        return line.text[-1:]
    if before.text[:-1] == line.text and line.at == len(line.text) < before.at <= room:
        return "\b \b"
    start = max(line.at - room, 0)
    shown = line.text[start : start + room]
    return f"\r\x1b[K{question}{shown}" + "\b" * (len(shown) - (line.at - start))


def _write(console: Console, text: str) -> None:
    console.file.write(text)
    console.file.flush()


# ---- no terminal, or a dumb one ---------------------------------------------------------------------------


def _lines() -> Generator[str, None, None]:
    """Lines as they are typed."""
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            return
        yield line or "enter"
