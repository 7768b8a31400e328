"""A lesson on a terminal: shows a cell, runs it, and waits for a key.

The keys stand in a line at the bottom, always. Where single keys cannot be read (TERM=dumb, no termios) a
line with the same letter does. Nothing is redrawn in place, so what was said stays readable above.

Does: keys, colour, remembering where the student stopped. Does not: run cells (`minidsv3.learn.player`).

Next: minidsv3.cli.check
"""

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.syntax import Syntax
from rich.table import Column, Table

from minidsv3.cli.terminal import results
from minidsv3.learn.exercises import Lesson
from minidsv3.learn.percent import Cell
from minidsv3.learn.player import CellResult, Player
from minidsv3.learn.progress import lesson_cell, record_lesson
from minidsv3.learn.result import equation_card
from minidsv3.machine import Row, look_up

__all__ = ["KEYS", "play"]

KEYS = {
    "n": "next",
    "b": "back",
    "g": "go",
    "v": "variables",
    "t": "trace",
    "s": "source",
    "r": "re-run",
    "?": "help",
    "q": "quit",
}
WIDEST = 34  # characters of a value
RIGHT, LEFT, END = "\x1b[C", "\x1b[D", "\x04"
SAME = {" ": "n", "\n": "n", "\r": "n", "": "n", RIGHT: "n", "p": "b", LEFT: "b", END: "q", "h": "?"}
HELP = """\
n, space, right arrow   run the next cell
b, left arrow           step back: everything is as it was in front of that cell
g NUMBER                go to a cell, running those between
v                       variables, those that the last cell changed first
t                       the ops that the last cell ran, with shapes, FLOPs and bytes
s OP                    equation and source of an op, such as mla.softmax (none: the cell's first)
r                       run the last cell again, from the state in front of it
q                       quit; `lesson run` goes on here"""
ASK = {"g": "cell number: ", "s": "op (empty: the first of this cell): "}


def play(
    lesson: Lesson,
    player: Player,
    folder: Path,
    restart: bool = False,
    console: Console | None = None,
    commands: Iterator[str] | None = None,
) -> int:
    """Play until the student quits; 1 if the last cell run failed.

    folder: where the progress is kept.  commands: letters, some with a word behind, in place of the keyboard.
    """
    console = console or results()
    commands = commands or _keyboard(console)
    begin = 0 if restart else min(lesson_cell(folder, lesson.id), len(player.cells))
    console.print(f"lesson {lesson.id}: {lesson.title}, {len(player.cells)} cells", style="bold")
    if begin:
        console.print(f"going on behind cell {begin} (the cells before it run again)")
        player.go(begin)
    try:
        for command in _shown_footer(console, player, commands):
            key, _, word = command.partition(" ")
            key = SAME.get(key or command, key)
            if key == "q":
                break
            _answer(console, player, key, word.strip())
    finally:
        record_lesson(folder, lesson.id, player.position, len(player.cells))
    return 0 if player.last is None or player.last.ok else 1


def _shown_footer(console: Console, player: Player, commands: Iterator[str]) -> Iterator[str]:
    """The commands, with the footer in front of each."""
    while True:
        keys = " ".join(f"{key}:{name}" for key, name in KEYS.items())
        console.print(f"\n[{player.position}/{len(player.cells)}] {keys}", style="reverse")
        command = next(commands, None)
        if command is None:
            return
        yield command


def _answer(console: Console, player: Player, key: str, word: str) -> None:
    actions: dict[str, Callable[[], None]] = {
        "n": lambda: _next(console, player),
        "b": lambda: _back(console, player),
        "g": lambda: _go(console, player, word),
        "v": lambda: _variables(console, player),
        "t": lambda: _trace(console, player),
        "s": lambda: _source(console, player, word),
        "r": lambda: _ran(console, player.rerun()),
        "?": lambda: console.print(HELP),
    }
    try:
        actions.get(key, lambda: console.print(f"no key {key!r}; ? shows them"))()
    except ValueError as problem:
        console.print(str(problem))


def _next(console: Console, player: Player) -> None:
    if player.cell is None:
        console.print("this was the last cell; q quits, b steps back")
        return
    _show(console, player.cell)
    _ran(console, player.forward())


def _back(console: Console, player: Player) -> None:
    player.back()
    if player.cell is not None:
        console.print(f"in front of cell {player.position + 1}: {player.cell.title}")


def _go(console: Console, player: Player, word: str) -> None:
    if not word.isdigit():
        raise ValueError(f"expected a cell's number, got {word!r}")
    player.go(int(word) - 1)
    if player.last is not None and not player.last.ok:
        _ran(console, player.last)
    elif player.cell is not None:
        console.print(f"in front of cell {player.position + 1}: {player.cell.title}")


def _show(console: Console, cell: Cell) -> None:
    """A cell before it runs."""
    if cell.kind == "markdown":
        console.print(Markdown(f"## {cell.title}\n{cell.text}"))
        return
    console.print(f"\n{cell.title}", style="bold")
    console.print(Syntax(cell.text, "python", theme="ansi_dark", background_color="default", word_wrap=True))


def _ran(console: Console, result: CellResult) -> None:
    """What running it gave."""
    if result.output:
        console.print(result.output, end="")
    if not result.ok:
        console.print(f"cell {result.index + 1}, {result.title!r} failed:", style="bold red")
        console.print(result.error, end="")


def _variables(console: Console, player: Player) -> None:
    table = _table("name", "type", "shape", "value")
    for v in player.variables():
        shape = "" if v.shape is None else str(list(v.shape))
        text = v.text if v.low is None else f"{v.low:.3g} .. {v.high:.3g}, mean {v.mean:.3g}"
        text = text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"
        table.add_row(v.name + (" *" if v.changed else ""), v.kind, shape, text)
    console.print(table)
    console.print("* made or changed by the last cell")


def _table(*columns: str) -> Table:
    """A table whose rows are one line each; what does not fit ends in an ellipsis."""
    return Table(*(Column(name, no_wrap=True, overflow="ellipsis") for name in columns), box=None)


def _trace(console: Console, player: Player) -> None:
    """The ops of the last cell, those of the same id together (layers, experts)."""
    together: dict[str, list[Row]] = {}
    for row in player.last.rows if player.last else []:
        together.setdefault(row.op, []).append(row)
    if not together:
        console.print("the last cell ran no traced op")
        return
    table = _table("op", "eq.", "times", "first result", "FLOPs", "bytes")
    for op, rows in together.items():
        flops, moved = sum(r.matrix_flops + r.vector_flops for r in rows), sum(r.total_bytes for r in rows)
        numbers, shape = ", ".join(look_up(op).equations), str(list(rows[0].shapes[-1]))
        table.add_row(op, numbers, str(len(rows)), shape, f"{flops:,}", f"{moved:,}")
    console.print(table)


def _source(console: Console, player: Player, word: str) -> None:
    rows = player.last.rows if player.last else []
    if not word and not rows:
        raise ValueError("expected an op's id, such as mla.softmax: the last cell ran none")
    op = look_up(word or rows[0].op)
    for line in equation_card(op):
        console.print(line)
    module, _, name = op.source.rpartition(".")
    source = inspect.getsource(getattr(import_module(module), name))
    console.print(Syntax(source, "python", theme="ansi_dark", background_color="default", word_wrap=True))


# ---- the keyboard -----------------------------------------------------------------------------------------


def _keyboard(console: Console) -> Iterator[str]:
    """Commands as they are typed, until the input ends."""
    single = not console.is_dumb_terminal and _has_termios()
    while True:
        try:
            for key in _keys() if single else [input("> ").strip()]:
                yield f"{key} {input(ASK[key])}" if single and key in ASK else key
        except EOFError:
            return


def _has_termios() -> bool:
    try:
        import termios  # noqa: F401
    except ImportError:
        return False
    return True


def _keys() -> list[str]:
    """What one press sends: a letter, or an arrow's sequence; several letters if they came at once."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        pressed = os.read(descriptor, 16).decode(errors="ignore")
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
    if not pressed:
        raise EOFError
    return [pressed] if pressed.startswith("\x1b") else list(pressed)
