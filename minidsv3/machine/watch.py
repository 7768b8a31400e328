"""Being told of every primitive as it runs, with what went in and what came out, and changing the result.

A `Watch` is called once for each row that a tracing machine writes, while the arrays are at hand: behind a
product of every expert once for each expert that had rows, behind a backward once for each of its rows. What
it returns, if not None, takes the result's place, and everything behind is computed from that. The arrays are
the model's own, and later operations write over some of them: who keeps one copies it.

Does: name operands and results by the catalogue's symbols; copy those inputs that a primitive writes over;
say which line of the model called. Does not: stop, keep, draw (`minidsv3.learn.stepping`).

    >>> import numpy as np
    >>> from minidsv3.machine import Machine
    >>> def look(event):
    ...     print(event.op.id, [f"{name} {array.shape}" for name, array in event.inputs])
    ...     return 0 * event.result
    >>> Machine(watch=look).linear(np.ones((2, 3)), np.ones((1, 3)), at="mla.out")
    mla.out ['o (2, 3)', 'W_O (1, 3)']
    array([[0.],
           [0.]])

Next: minidsv3.machine.parallel
"""

import contextlib
import linecache
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minidsv3.machine.blocks import RowBlocks, Stack
from minidsv3.machine.catalogue import Op, primitives
from minidsv3.machine.primitives import Array

if TYPE_CHECKING:
    from minidsv3.machine.trace import Row

__all__ = ["CodeLine", "Event", "Watch", "called_from", "operands", "report", "watched", "watching"]

Named = tuple[tuple[str, Any], ...]
ARRAYS = (np.ndarray, RowBlocks, Stack)
# primitives that write over an operand, so that a watch is shown a copy made before
IN_PLACE = {
    "rope", "rope_backward", "softmax", "softmax_backward", "row_softmax_backward", "scale_backward",
    "cross_entropy", "cross_entropy_backward", "adamw", "average",
}  # fmt: skip
# what stands behind the result's gradient among the arguments of a backward: operands by number (-1: the
# result itself), anything else by its name in `minidsv3.machine.primitives`
BEHIND: dict[str, tuple[int | str, ...]] = {
    "linear": (0, 1), "grouped_linear": (0, 1), "contract": (0, 1), "embedding": (0, 1),
    "rmsnorm": (0, 1, "r"), "rope": (1,), "softmax": (-1,), "row_softmax": (-1,), "sigmoid": (-1,),
    "swiglu": (0, 1, "sigma"), "dispatch": (), "combine": (), "scale": (0, 1), "renormalise": (-1, "total"),
}  # fmt: skip
# backwards whose first array is no gradient: they begin from the loss's weight, a number
FROM_THE_LOSS: dict[str, tuple[int | str, ...]] = {
    "cross_entropy": ("p", 1),
    "balance": ("share", 1, "total"),
}


class Event(NamedTuple):
    """One row as it was written."""

    row: "Row"
    op: Op
    primitive: str  # that ran, such as "softmax_backward"
    backward: bool
    inputs: Named  # symbol, array; of weights that are read as they are used, `RowBlocks` or a `Stack`
    outputs: Named  # symbol, array; none for a pass that only puts operands into tiles

    @property
    def result(self) -> Any:
        """The array that the row is about; None where there is none."""
        return self.outputs[0][1] if self.outputs else None


Watch = Callable[[Event], Any]
"""Takes an event; what it returns, if not None, replaces the result."""

_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextlib.contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Every tracing machine that is made inside reports to `watch`, from then on."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def watching() -> Watch | None:
    """The watch of the innermost `watched` block, if any."""
    return _watch.get()


# ---- operands and results by name -------------------------------------------------------------------------


def operands(op: Op, name: str, args: Sequence[Any]) -> Named:
    """Arrays among a primitive's arguments, by symbol; those that it writes over are copied.

    name: of the primitive or backward; a gradient is named as what it is the gradient of, `d_` in front.
    """
    arrays = [a for a in args if isinstance(a, ARRAYS)]
    if name in IN_PLACE:
        arrays = [a.copy() if isinstance(a, np.ndarray) else a for a in arrays]
    return tuple(zip(_names(op, name.endswith("_backward")), arrays, strict=False))


def _names(op: Op, backward: bool) -> tuple[str, ...]:
    if not backward:
        return op.symbols[:-1]
    if op.primitive in FROM_THE_LOSS:
        front: tuple[str, ...] = ()
        behind = FROM_THE_LOSS[op.primitive]
    else:
        front, behind = (f"d_{op.symbols[-1]}",), BEHIND[op.primitive]
    return (*front, *(op.symbols[one] if isinstance(one, int) else one for one in behind))


def results(op: Op, backward: bool, out: Any) -> list[tuple[str, Any]]:
    """What a primitive gave, by symbol: one array forward; backward one for each row that the op has."""
    whole = out if isinstance(out, tuple) else (out,)
    if not backward:
        return [(op.symbols[-1], whole[0])]
    rows = primitives()[op.primitive].backward
    if len(rows) > len(whole):  # gradients that lie beside each other in one array
        whole = tuple(np.split(whole[0], len(rows), axis=-1))
    return [(f"d_{op.symbols[row.writes]}", part) for row, part in zip(rows, whole, strict=False)]


# ---- telling ----------------------------------------------------------------------------------------------


def report(watch: Watch, op: Op, name: str, inputs: Named, out: Any, rows: Sequence["Row"]) -> Any:
    """Tell of the rows that a primitive wrote  ->  `out`, with what the watch put in its place."""
    backward = name.endswith("_backward")
    found = results(op, backward, out)
    idle = len(rows) - len(found)  # rows in front, which put operands into tiles
    for i, row in enumerate(rows):
        outputs = tuple(found[i - idle : i - idle + 1]) if i >= idle else ()
        new = watch(Event(row, op, name, backward, inputs, outputs))
        if new is not None and outputs:
            out = _replaced(out, outputs[0][1], new)
    return out


def _replaced(out: Any, part: Array, new: Any) -> Any:
    """In the same memory where that may be written to: an operation in place is seen through it."""
    if part.flags.writeable:
        part[...] = new
        return out
    fresh = np.array(np.broadcast_to(new, part.shape), part.dtype)
    return tuple(fresh if one is part else one for one in out) if isinstance(out, tuple) else fresh


# ---- the line that called ---------------------------------------------------------------------------------


class CodeLine(NamedTuple):
    """The line of the model that called a primitive."""

    file: str
    line: int
    text: str  # of the line, or of all lines of a call that goes over several, joined
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def called_from() -> CodeLine:
    """The line outside of the machine that called the primitive at hand; asked from within a watch."""
    frame: FrameType | None = sys._getframe(1)
    while frame and not _is_machine(frame):  # the watch itself
        frame = frame.f_back
    while frame and _is_machine(frame):
        frame = frame.f_back
    if frame is None:
        raise ValueError("expected a call from within a watch, got one with no primitive around it")
    code = frame.f_code
    first, last = _lines(frame)
    lines = [linecache.getline(code.co_filename, n).strip() for n in range(first, last + 1)]
    return CodeLine(code.co_filename, first, " ".join(lines), code.co_qualname)


def _is_machine(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("minidsv3.machine")


def _lines(frame: FrameType) -> tuple[int, int]:
    """First and last line of the call that a frame is in."""
    positions = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    first, last = positions[0] or frame.f_lineno, positions[1] or frame.f_lineno
    return first, last
