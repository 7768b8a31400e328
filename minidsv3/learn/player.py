r"""The lesson player: runs a lesson's cells in one namespace, forward, back, and again.

The player stands in front of a cell. `forward` runs it, with a snapshot taken first; `back` restores the
snapshot of the cell before; `go` runs or restores as far as needed. A failing cell does not move the player:
what it changed is undone, so that it can be run again. A result says what was printed, which names changed,
which ops ran on tracing machines meanwhile, with their arrays, what the cell shows, and, if it failed, the
traceback from the cell on.

Does: run, remember, evaluate, take a changed lesson. Does not: read keys or draw (`minidsv3.cli.lesson`).

    >>> player = Player.from_text("# %% One\nx = 1\n# %% Two\nx += 1\nprint(x)\n", "demo.py")
    >>> player.forward().ok, player.forward().output
    (True, '2\n')
    >>> player.evaluate("x + 40").text, player.namespace["x"]
    ('42', 2)
    >>> player.back()
    >>> player.position, player.namespace["x"], player.forward().changed
    (1, 1, ['x'])

Next: minidsv3.learn.inspection
"""

import contextlib
import io
import linecache
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, Self

import numpy as np

from minidsv3.learn.inspection import Variable, is_shown, pictures, variable
from minidsv3.learn.percent import Cell, parse
from minidsv3.learn.snapshot import Snapshot
from minidsv3.machine import Event, Machine, Row, Trace
from minidsv3.machine.watch import watched

__all__ = ["CellResult", "Evaluated", "Player", "Variable"]

MOST_COPIED = 64 * 2**20  # bytes of arrays that the events of a cell hold
HELD = 4  # cells whose events are held; of earlier ones only the rows


@dataclass(frozen=True)
class CellResult:
    """What running a cell gave."""

    index: int
    title: str
    ok: bool
    output: str  # what it wrote to stdout and stderr
    error: str  # the traceback, from the cell on; empty if ok
    changed: list[str]  # names made or changed
    rows: Trace  # written by tracing machines meanwhile
    seconds: float
    pictures: tuple[tuple[str, Any], ...] = ()  # title and picture of each `show=`
    events: tuple[Event, ...] = ()  # ops of tracing machines, with copies of what went in and came out

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; of the rows only ids, of the pictures titles and words."""
        plain = {name: getattr(self, name) for name in ("index", "title", "ok", "output", "error", "changed")}
        shown = [{"title": title, "text": picture.describe()} for title, picture in self.pictures]
        plain |= {"ops": [row.op for row in self.rows], "pictures": shown}
        return plain | {"seconds": round(self.seconds, 4)}


class Evaluated(NamedTuple):
    """An expression's value as text."""

    text: str  # what it printed, then its value; the last line of the traceback if it failed
    ok: bool
    undone: bool = True  # whether everything is as it was before


class Player:
    """A lesson under way.  position: the cell that runs next, 0 .. len(cells)."""

    def __init__(self, cells: Sequence[Cell], name: str = "lesson.py") -> None:
        self.cells, self.name, self.position = list(cells), name, 0
        self.namespace: dict[str, Any] = self._fresh()
        self.results: list[CellResult] = []  # of the cells in front of the position
        self._failed: CellResult | None = None
        self._before: list[Snapshot | None] = []  # in front of each cell that has run
        self._events: list[Event] = []
        self._copied = 0

    @classmethod
    def from_text(cls, text: str, name: str = "lesson.py") -> Self:
        """A player of a percent-format file; tracebacks show its lines under `name`."""
        cells = parse(text)
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        return cls(cells, name)

    @classmethod
    def open(cls, path: Path) -> Self:
        """A player of a lesson's file, named by its folder."""
        return cls.from_text(path.read_text(encoding="utf-8"), f"{path.parent.name}/{path.name}")

    def _fresh(self) -> dict[str, Any]:
        return {"__name__": "__main__", "__file__": self.name}

    @property
    def cell(self) -> Cell | None:
        """The cell that runs next; None at the end."""
        return self.cells[self.position] if self.position < len(self.cells) else None

    @property
    def last(self) -> CellResult | None:
        """What the cell gave that failed just now, or else the cell in front of the position."""
        return self._failed or (self.results[-1] if self.results else None)

    # ---- forward and back ----

    def forward(self) -> CellResult:
        """Run the next cell; ValueError at the end. An interrupted one is undone."""
        before = Snapshot(self.namespace)
        try:
            result = self._next(before)
        except KeyboardInterrupt:
            self._undo(before)
            raise
        if not result.ok:
            self._undo(before)
        return result

    def run_all(self, ran: Callable[[CellResult], object] = lambda result: None) -> list[CellResult]:
        """Run the cells that are left, up to one that fails, without a way back other than to run them again.

        The results hold no events.  ran: told of each cell that has run.
        """
        results: list[CellResult] = []
        while self.cell is not None and (not results or results[-1].ok):
            results.append(replace(self._next(None), events=()))
            self.results[-1:] = [replace(one, events=()) for one in self.results[-1:]]
            ran(results[-1])
        return results

    def back(self) -> None:
        """Stand in front of the cell before, everything as it was there; at the start nothing happens."""
        self.go(max(self.position - 1, 0))

    def go(self, position: int, ran: Callable[[CellResult], object] = lambda result: None) -> None:
        """Stand in front of a cell, running those between if it lies ahead; stops at a failing one.

        ran: told of each cell that has run.
        """
        if not 0 <= position <= len(self.cells):
            raise ValueError(f"expected a cell 0 .. {len(self.cells)}, got {position}")
        self._failed = None
        if position < self.position:
            self._restore(position)
        while self.position < position:
            result = self.forward()
            ran(result)
            if not result.ok:
                return

    def rerun(self) -> CellResult:
        """Run the cell that ran last once more, from the state in front of it."""
        if self._failed is None:
            self.back()
        return self.forward()

    def change(self, text: str) -> int:
        """Take another text of the lesson, and stand in front of the first cell that differs  ->  which.

        No further ahead than before. ValueError if the text is no lesson; nothing has changed then.
        """
        cells = parse(text)
        same = 0
        for old, new in zip(self.cells, cells, strict=False):
            if replace(old, line=0) != replace(new, line=0):
                break
            same += 1
        self.go(min(self.position, same))
        self.cells = cells
        linecache.cache[self.name] = (len(text), None, text.splitlines(keepends=True), self.name)
        return self.position

    def _next(self, before: Snapshot | None) -> CellResult:
        if self.cell is None:
            raise ValueError("expected a cell to run, but the lesson is at its end")
        self._failed, result = None, self._run(self.position)
        if result.ok:
            self._before.append(before)
            self.results.append(result)
            self.position += 1
            self.results[:-HELD] = [replace(one, events=()) for one in self.results[:-HELD]]
        else:
            self._failed = result
        return result

    def _undo(self, before: Snapshot) -> None:
        if not before.restore(self.namespace):
            self._replay(self.position)

    def _restore(self, position: int) -> None:
        """Go back to the nearest snapshot that can be put back, and run from there."""
        for nearest in range(position, -1, -1):
            snapshot = self._before[nearest]
            if snapshot is not None and snapshot.restore(self.namespace):
                self._forget(nearest)
                break
        else:
            self.namespace = self._fresh()
            self._forget(0)
        while self.position < position:
            self._next(Snapshot(self.namespace))

    def _replay(self, position: int) -> None:
        """Come back to a position by running all cells in front of it again, in a fresh namespace."""
        failed, self.namespace = self._failed, self._fresh()
        self._forget(0)
        while self.position < position:
            self._next(Snapshot(self.namespace))
        self._failed = failed

    def _forget(self, position: int) -> None:
        del self._before[position:], self.results[position:]
        self.position = position

    # ---- one cell ----

    def _run(self, index: int) -> CellResult:
        cell = self.cells[index]
        before = {name: _fingerprint(value) for name, value in self.namespace.items()}
        written = {id(machine): len(machine.trace) for machine in self._machines()}
        said, error, start = io.StringIO(), "", perf_counter()
        self._events, self._copied = [], 0
        shown: tuple[tuple[str, Any], ...] = ()
        if cell.kind == "code":
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), watched(self._watch):
                error = self._execute(cell)
        seconds = perf_counter() - start
        rows: list[Row] = []
        for machine in self._machines():
            rows += machine.trace[written.get(id(machine), 0) :]
        if cell.shows and not error:
            try:
                shown = pictures(cell.shows, self.namespace, rows, self._events)
            except ValueError as problem:
                error = f"{self.name}, line {cell.line}: show={cell.shows!r}: {problem}\n"
        changed = [name for name in self.namespace if self._is_new(name, before)]
        return CellResult(
            index,
            cell.title,
            not error,
            said.getvalue(),
            error,
            changed,
            Trace(rows),
            seconds,
            shown,
            tuple(self._events),
        )

    def _execute(self, cell: Cell) -> str:
        """Run a cell; the traceback's text if it fails."""
        try:
            exec(compile("\n" * cell.line + cell.text, self.name, "exec"), self.namespace)
        except (Exception, SystemExit) as problem:
            return _cut_traceback(problem, self.name)
        return ""

    def _watch(self, event: Event) -> None:
        """Keep an op with copies of its arrays, as long as there is room."""
        arrays = [a for _, a in (*event.inputs, *event.outputs) if isinstance(a, np.ndarray)]
        self._copied += sum(a.nbytes for a in arrays)
        if self._copied > MOST_COPIED:
            self._events.append(event._replace(inputs=(), outputs=()))
            return
        copied = [tuple((s, _copy(a)) for s, a in named) for named in (event.inputs, event.outputs)]
        self._events.append(event._replace(inputs=copied[0], outputs=copied[1]))

    def _machines(self) -> list[Machine]:
        found = {id(v): v for v in self.namespace.values() if isinstance(v, Machine) and v.tracing}
        return list(found.values())

    def _is_new(self, name: str, before: dict[str, Any]) -> bool:
        hidden = name.startswith("__") or isinstance(self.namespace[name], type(sys))
        return not hidden and before.get(name) != _fingerprint(self.namespace[name])

    # ---- looking ----

    def variables(self) -> list[Variable]:
        """The lesson's own names, those that the last cell changed first."""
        changed = self.last.changed if self.last else []
        names = [name for name, value in self.namespace.items() if is_shown(name, value)]
        order = sorted(names, key=lambda name: name not in changed)
        return [variable(name, self.namespace[name], name in changed) for name in order]

    def evaluate(self, text: str, keep: bool = False) -> Evaluated:
        """An expression, or a statement, in the lesson's namespace; its changes are undone, unless kept."""
        before = None if keep else Snapshot(self.namespace)
        said, ok = io.StringIO(), True
        try:
            with contextlib.redirect_stdout(said):
                value = self._evaluated(text)
        except (Exception, SystemExit) as problem:
            ok, value = False, "".join(traceback.format_exception_only(problem)).rstrip()
        text = said.getvalue() + value
        undone = before is not None and before.restore(self.namespace)
        return Evaluated(text, ok, undone)

    def _evaluated(self, text: str) -> str:
        with np.printoptions(threshold=200, edgeitems=3, precision=4, linewidth=76):
            try:
                code = compile(text, "<typed>", "eval")
            except SyntaxError:
                exec(compile(text, "<typed>", "exec"), self.namespace)
                return ""
            value = eval(code, self.namespace)
            return "" if value is None else repr(value)


def _copy(array: Any) -> Any:
    return array.copy() if isinstance(array, np.ndarray) else array


def _fingerprint(value: Any) -> Any:
    """Changes when the value does, as far as is cheap to see: an array's bytes, or identities."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return id(value), value.shape, hash(value.tobytes())
    if isinstance(value, (list, tuple, dict, set)):
        return id(value), tuple(map(id, value.values() if isinstance(value, dict) else value))
    return id(value), getattr(value, "length", None)


def _cut_traceback(problem: BaseException, name: str) -> str:
    """The traceback from the first frame inside the lesson on."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != name:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(problem), problem, trace))
