"""The debugger on a terminal: one op, its card, and a key for where to go next.

The keys stand at the bottom, always. Nothing is redrawn in place, so that what was seen stays readable above,
and a dumb terminal or a screen reader gets the same. Ctrl-C while ops run stops at the op at hand; at the
keys it ends the debugger.

Does: keys, words. Does not: step (`minidsv3.learn.stepping`), draw cards (`minidsv3.cli.step_view`).

Next: minidsv3.cli.step_compare
"""

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from minidsv3.cli.keyboard import keys
from minidsv3.cli.step_view import View, fitting, put, said
from minidsv3.cli.terminal import reads_aloud, results
from minidsv3.learn.selector import Place, parse
from minidsv3.learn.stepping import Stop, result_axes
from minidsv3.show.numbers import counted, duration, number, shape

__all__ = ["KEYS", "play"]

KEYS = {
    "n": "next", "o": "over part", "u": "out of layer", "b": "back", "c": "continue", "k": "break",
    "g": "go", "i": "inspect", "p": "pick", "v": "values", "s": "set", "x": "undo", "e": "source",
    "?": "help", "q": "quit",
}  # fmt: skip
SAME = {"space": "n", "right": "n", "enter": "n", "down": "o", "up": "b", "left": "b", "escape": "redraw"}
ASK = {
    "k": "break on op (empty: list them; -OP: remove): ",
    "g": "op number, or the next op such as mla.softmax[layer=1]: ",
    "i": "name, such as p[head=1] or mla.softmax[layer=0,head=1]: ",
    "p": "pick, such as head=1,token=3 (empty: all): ",
    "s": "set, such as mla.softmax[head=0] = 0 or = x * 2: ",
}
HELP = """\
n, space, right arrow   the next op
o, down arrow           over: to the next part of the layer (attention, gate, experts, ...)
u                       out: to the next layer, or stage of the pass
b, left arrow           the op before
c                       continue to the next break, or to the end
k OP                    break on an op: gate.top_k, mla.*, mla.softmax[layer=2]; -OP removes; none: list
g NUMBER or OP          go to an op by number, or on to the next such op
i NAME[...]             look at an operand or result of this op, or at the last result of another op
p head=1,token=3        pick a part of every value that has such an axis; none: all again
v                       the values of this op: shapes, smallest, largest, mean
s OP[...] = EXPRESSION  change a result (x is what it was, np is NumPy); what is behind is computed anew
x                       undo the last change
e                       source of the primitive
f                       values that were let go of: run the pass again for them
q                       quit"""


def play(view: View, console: Console | None = None, commands: Iterator[str] | None = None) -> int:
    """Step until the user quits.  commands: keys, some with a word behind, in place of the keyboard's."""
    player = _Player(view, console or results())
    player.begin()
    for command in player.footed(commands or keys(player.console, ASK)):
        key, _, word = command.partition(" ")
        key = SAME.get(key, key)
        if key == "q":
            break
        player.answer(key, word.strip())
    return 0


class _Player:
    """What the keys do."""

    def __init__(self, view: View, console: Console) -> None:
        self.view, self.stepper, self.console = view, view.stepper, console
        self.actions: dict[str, Callable[[str], object]] = {
            "n": lambda _: self.moved(self.stepper.into()),
            "o": lambda _: self.moved(self.stepper.over_part()),
            "u": lambda _: self.moved(self.stepper.out()),
            "b": lambda _: self.show(self.stepper.back()),
            "c": lambda _: self.moved(self.stepper.go_on()),
            "k": self.break_on, "g": self.go, "i": self.inspect, "p": self.pick, "s": self.change,
            "v": lambda _: self.values(), "x": lambda _: self.undo(), "e": lambda _: self.source(),
            "f": lambda _: self.fetch(), "redraw": lambda _: self.show(self.stepper.stop),
            "?": lambda _: self.say(HELP),
        }  # fmt: skip

    def begin(self) -> None:
        """Say what is stepped through; the first op runs at once."""
        work = self.stepper.work
        tokens = counted(len(work.ids), "token")
        told = f"{work.kind}: {tokens}, {work.precision}, {self.stepper.hardware.name}"
        self.console.print(told, style="bold")
        self.answer("n", "")

    def footed(self, commands: Iterator[str]) -> Iterator[str]:
        """The commands, with the footer in front of each."""
        while True:
            stop = self.stepper.stop
            where = f"[{stop.index}] {stop.stage}" if stop else "[in front]"
            self.console.print()
            self.console.print(
                Text(f"{where}  {'  '.join(f'{k}:{what}' for k, what in KEYS.items())}", "reverse")
            )
            command = next(commands, None)
            if command is None:
                return
            yield command

    def answer(self, key: str, word: str) -> None:
        """One key; what is wrong is said, and Ctrl-C stops where the pass is."""
        try:
            if key in self.actions:
                self.actions[key](word)
            else:
                self.say(f"no key {key!r}; ? shows them")
        except ValueError as problem:
            self.say(str(problem))
        except KeyboardInterrupt:
            self.say("interrupted: the pass stands here")
            self.show(self.stepper.stop)

    def say(self, words: str) -> None:
        """A sentence."""
        self.console.print(words)

    # ---- moving ----

    def moved(self, stop: Stop | None) -> None:
        """Show where a step led; the end of the pass if nowhere."""
        if stop is not None:
            self.show(stop)
        elif self.stepper.stops:
            last = self.stepper.stops[-1]
            ops = counted(len(self.stepper.stops), "op")
            self.say(f"the pass is over: {ops}, {duration(last.so_far)} on {self.stepper.hardware.name}")
            if note := self.view.note(last):
                self.say(note)

    def show(self, stop: Stop | None) -> None:
        """The card of a stop."""
        if stop is None:
            self.say("in front of the first op")
            return
        put(self.console, self.view.card(stop))
        if note := self.view.note(stop):
            self.say(note)

    def go(self, word: str) -> None:
        """To a number, or on to an op."""
        if word.isdecimal():
            self.show(self.stepper.go(int(word)))
        else:
            self.moved(self.stepper.run_to(word))

    def break_on(self, word: str) -> None:
        """Add, remove or list breaks."""
        if word.startswith("-"):
            gone = parse(word[1:])
            self.stepper.breaks = [one for one in self.stepper.breaks if one != gone]
        elif word:
            self.stepper.break_on(word)
        listed = ", ".join(map(str, self.stepper.breaks))
        self.say(f"breaks: {listed or 'none'}")

    # ---- looking ----

    def inspect(self, word: str) -> None:
        """An operand or result of this op, or the last result of another."""
        which = parse(word)
        stop = self.stepper.stop
        if stop is not None and (found := self._named(stop, which.name)) is not None:
            name, array, axes = found
            put(self.console, self.view.eye.drawn(name, array, axes, fitting(which.at, axes) or which.at))
            return
        run = [one for one in self.stepper.stops[: self.stepper.cursor + 1] if which.matches(one.row)]
        run = [one for one in run if one.row.direction != "quantise"]
        if not run:
            known = ", ".join(name for name, _ in self._arrays(stop)) if stop else "none"
            raise ValueError(f"expected an op that has run or a symbol of this one ({known}), got {word!r}")
        kept, axes = self.stepper.values(run[-1]), result_axes(run[-1])
        assert kept.result is not None
        at = {w: place for w, place in which.at.items() if w != "layer"}
        self.say(f"op {run[-1].index}, {run[-1].stage}")
        op = run[-1].op.id if run[-1].row.direction == "fprop" else ""
        put(self.console, self.view.eye.drawn(run[-1].op.id, kept.result, axes, self._strict(at, axes), op))

    def _strict(self, at: dict[str, Place], axes: tuple[str, ...]) -> dict[str, Place]:
        """Without the expert that says which row it was."""
        return {word: place for word, place in at.items() if word != "expert" or "E" in axes}

    def _arrays(self, stop: Stop) -> list[tuple[str, Any]]:
        kept = self.stepper.values(stop)
        return [*kept.inputs, *kept.outputs]

    def _named(self, stop: Stop, name: str) -> tuple[str, Any, tuple[str, ...]] | None:
        """An array of a stop by its symbol, the result first, and its axes."""
        kept = self.stepper.values(stop)
        for symbol, array in kept.outputs:
            if symbol == name:
                return symbol, array, result_axes(stop)
        for symbol, array in kept.inputs:
            if symbol == name:
                letters = dict(
                    zip(stop.op.symbols, (*stop.op.signature.operands, stop.op.signature.result), strict=True)
                )
                axes = letters.get(symbol.removeprefix("d_"), ())
                return (
                    symbol,
                    array,
                    axes if len(axes) == array.ndim else tuple(f"axis{i}" for i in range(array.ndim)),
                )
        return None

    def pick(self, word: str) -> None:
        """Pick a part of all values from now on."""
        before, self.view.eye.at = self.view.eye.at, parse(f"x[{word}]").at if word else {}
        try:
            if self.stepper.stop is not None:
                self.view.card(self.stepper.stop)
        except ValueError:
            self.view.eye.at = before
            raise
        self.say(f"picked: {said(self.view.eye.at) or 'all'}")
        self.show(self.stepper.stop)

    def values(self) -> None:
        """The arrays of this op, a line each."""
        stop = self.stepper.stop
        if stop is None:
            raise ValueError("expected an op that has run; n runs the first")
        for name, array in self._arrays(stop):
            finite = array[np.isfinite(array)] if array.dtype.kind in "fc" else array
            line = f"{name}: {shape(array.shape)} {array.dtype}"
            if finite.size and array.dtype.kind in "fiu":
                least, most, mean = float(finite.min()), float(finite.max()), float(finite.mean())
                line += f", {number(least)} .. {number(most)}, mean {number(mean)}"
            self.say(line)

    def fetch(self) -> None:
        """Values that were let go of."""
        if self.stepper.stop is not None:
            self.stepper.values(self.stepper.stop)
        self.show(self.stepper.stop)

    def source(self) -> None:
        """The primitive's source."""
        stop = self.stepper.stop
        if stop is None:
            raise ValueError("expected an op that has run; n runs the first")
        text = inspect.getsource(getattr(import_module("minidsv3.machine.primitives"), stop.primitive))
        self.console.print(text if reads_aloud() else Syntax(text, "python", background_color="default"))

    # ---- changing ----

    def change(self, word: str) -> None:
        """Change a value."""
        self.show(self.stepper.change(word))
        if self.stepper.edits[-1].index is None:
            self.say("no such op has run: every one to come is changed")

    def undo(self) -> None:
        """Take the last change back."""
        edit = self.stepper.undo()
        self.say("no change to undo" if edit is None else f"undone: {edit}")
        self.show(self.stepper.stop)
