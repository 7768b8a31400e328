r"""The lesson player: runs a lesson's cells in one namespace, forward, back, and again.

The player stands in front of a cell. `forward` runs it, with a snapshot taken first; `back` restores the
snapshot of the cell before; `go` runs or restores as far as needed. A failing cell does not move the player:
what it changed is undone, so that it can be run again. A result says what was printed, which names changed,
which rows a tracing machine wrote meanwhile, and, if it failed, the traceback from the cell on.

Does: run and remember. Does not: read keys or draw (`minidsv3.cli.lesson`).

    >>> player = Player.from_text("# %% One\nx = 1\n# %% Two\nx += 1\nprint(x)\n", "demo.py")
    >>> player.forward().ok, player.forward().output
    (True, '2\n')
    >>> player.back()
    >>> player.position, player.namespace["x"]
    (1, 1)
    >>> player.forward().changed
    ['x']

Next: minidsv3.learn.exercises
"""

import contextlib
import io
import linecache
import sys
import traceback
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np

from minidsv3.learn.percent import Cell, parse
from minidsv3.learn.snapshot import Snapshot
from minidsv3.machine import Machine, Row, Trace

__all__ = ["CellResult", "Player", "Variable"]

FEW = 8  # items of a container that are shown one by one


@dataclass(frozen=True)
class CellResult:
    """What running a cell gave."""

    index: int
    title: str
    ok: bool
    output: str
    error: str  # the traceback, from the cell on; empty if ok
    changed: list[str]  # names made or changed
    rows: Trace  # written by tracing machines meanwhile
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; of the rows only ids."""
        plain = {name: getattr(self, name) for name in ("index", "title", "ok", "output", "error", "changed")}
        return plain | {"ops": [row.op for row in self.rows], "seconds": round(self.seconds, 4)}


@dataclass(frozen=True)
class Variable:
    """A name of the lesson's namespace as a table shows it."""

    name: str
    kind: str  # dtype of an array, type of anything else
    shape: tuple[int, ...] | None
    low: float | None
    high: float | None
    mean: float | None
    text: str  # a short form of the value, on one line
    changed: bool


class Player:
    """A lesson under way.  position: the cell that runs next, 0 .. len(cells)."""

    def __init__(self, cells: Sequence[Cell], name: str = "lesson.py") -> None:
        self.cells, self.name, self.position = list(cells), name, 0
        self.namespace: dict[str, Any] = {"__name__": "__main__", "__file__": name}
        self.last: CellResult | None = None
        self._before: list[Snapshot] = []  # in front of each cell that has run

    @classmethod
    def from_text(cls, text: str, name: str = "lesson.py") -> Self:
        """A player of a percent-format file; tracebacks show its lines under `name`."""
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        return cls(parse(text), name)

    @classmethod
    def open(cls, path: Path) -> Self:
        """A player of a lesson's file, named by its folder."""
        return cls.from_text(path.read_text(encoding="utf-8"), f"{path.parent.name}/{path.name}")

    @property
    def cell(self) -> Cell | None:
        """The cell that runs next; None at the end."""
        return self.cells[self.position] if self.position < len(self.cells) else None

    def forward(self) -> CellResult:
        """Run the next cell; ValueError at the end."""
        if self.cell is None:
            raise ValueError("expected a cell to run, but the lesson is at its end")
        before = Snapshot(self.namespace)
        self.last = self._run(self.cell)
        if self.last.ok:
            self._before.append(before)
            self.position += 1
        elif not before.restore(self.namespace):
            self._replay(self.position)
        return self.last

    def back(self) -> None:
        """Stand in front of the cell before, everything as it was there; at the start nothing happens."""
        self.go(max(self.position - 1, 0))

    def go(self, position: int) -> None:
        """Stand in front of a cell, running those between if it lies ahead; stops at a failing one."""
        if not 0 <= position <= len(self.cells):
            raise ValueError(f"expected a cell 1 .. {len(self.cells) + 1}, got {position + 1}")
        if position < self.position:
            self._restore(position)
        while self.position < position and self.forward().ok:
            pass

    def rerun(self) -> CellResult:
        """Run the cell that ran last once more, from the state in front of it."""
        if self.last is not None and self.last.ok:
            self.back()
        return self.forward()

    def _restore(self, position: int) -> None:
        snapshot, self.last = self._before[position], None
        del self._before[position:]
        self.position = position
        if not snapshot.restore(self.namespace):
            self._replay(position)

    def _replay(self, position: int) -> None:
        """Come back to a position by running all cells in front of it again, in a fresh namespace."""
        self.namespace = {"__name__": "__main__", "__file__": self.name}
        self._before, last = [], self.last
        for cell in self.cells[:position]:
            self._before.append(Snapshot(self.namespace))
            self._run(cell)
        self.position, self.last = position, last

    def _run(self, cell: Cell) -> CellResult:
        before = {name: _fingerprint(value) for name, value in self.namespace.items()}
        written = {id(machine): len(machine.trace) for machine in self._machines()}
        said, error, start = io.StringIO(), "", perf_counter()
        if cell.kind == "code":
            with contextlib.redirect_stdout(said):
                error = self._execute(cell)
        seconds = perf_counter() - start
        rows: list[Row] = []
        for machine in self._machines():
            rows += machine.trace[written.get(id(machine), 0) :]
        changed = [name for name in self.namespace if self._is_new(name, before)]
        index, output = self.cells.index(cell), said.getvalue()
        return CellResult(index, cell.title, not error, output, error, changed, Trace(rows), seconds)

    def _execute(self, cell: Cell) -> str:
        """Run a cell; the traceback's text if it fails."""
        try:
            exec(compile("\n" * cell.line + cell.text, self.name, "exec"), self.namespace)
        except (Exception, SystemExit) as problem:
            return _cut_traceback(problem, self.name)
        return ""

    def _machines(self) -> list[Machine]:
        found = {id(v): v for v in self.namespace.values() if isinstance(v, Machine) and v.tracing}
        return list(found.values())

    def _is_new(self, name: str, before: dict[str, Any]) -> bool:
        hidden = name.startswith("__") or isinstance(self.namespace[name], type(sys))
        return not hidden and before.get(name) != _fingerprint(self.namespace[name])

    def variables(self) -> list[Variable]:
        """The lesson's own names, those that the last cell changed first."""
        changed = self.last.changed if self.last else []
        names = [n for n, v in self.namespace.items() if not n.startswith("__") and not callable(v)]
        names = [n for n in names if not isinstance(self.namespace[n], type(sys))]
        order = sorted(names, key=lambda name: name not in changed)
        return [_variable(name, self.namespace[name], name in changed) for name in order]


def _fingerprint(value: Any) -> Any:
    """Changes when the value does, as far as is cheap to see: an array's bytes, or identities."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return id(value), value.shape, hash(value.tobytes())
    if isinstance(value, (list, tuple, dict, set)):
        return id(value), tuple(map(id, value.values() if isinstance(value, dict) else value))
    return id(value), getattr(value, "length", None)


def _variable(name: str, value: Any, changed: bool) -> Variable:
    if not isinstance(value, np.ndarray):
        large = isinstance(value, Sized) and len(value) > FEW and not isinstance(value, str)
        text = f"{len(value)} items" if large else " ".join(repr(value)[:200].split())
        return Variable(name, type(value).__name__, None, None, None, None, text, changed)
    text = np.array2string(value, precision=3, threshold=8, edgeitems=2).replace("\n", "")
    low = high = mean = None
    if value.size and value.dtype.kind in "biuf":
        low, high, mean = float(value.min()), float(value.max()), float(value.mean())
    return Variable(name, str(value.dtype), value.shape, low, high, mean, text, changed)


def _cut_traceback(problem: BaseException, name: str) -> str:
    """The traceback from the first frame inside the lesson on."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != name:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(problem), problem, trace))
