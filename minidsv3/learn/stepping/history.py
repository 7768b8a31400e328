"""The ops that have run, each a `Stop`; and their arrays, as many as a stated memory holds.

A stop stays: row, line of code, time so far. Its arrays are copied as they were at that moment, for later ops
write over some of them; weights that do not change are not copied, and weights that are read as they are used
not held. When the arrays together take more than the memory, those of the oldest stops are let go, never
those of the newest.

Does: keep, let go. Does not: bring back what was let go (`Stepper.values` runs the pass again).

    >>> from minidsv3.machine import Machine
    >>> values = Values(memory=64)
    >>> events = []
    >>> machine = Machine(watch=events.append)
    >>> for _ in range(3):
    ...     _ = machine.sigmoid(np.zeros((1, 4)), at="gate.sigmoid")
    >>> for i, event in enumerate(events):
    ...     values.keep(i, event)
    >>> [i in values for i in range(3)], values[2].result.tolist()
    ([False, False, True], [[0.5, 0.5, 0.5, 0.5]])

Next: minidsv3.learn.stepping.notes
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.machine import Event, Op, Row
from minidsv3.machine.watch import CodeLine, Named

__all__ = ["Kept", "Stop", "Values"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Stop:
    """One op of the pass, as it ran."""

    index: int  # from 0
    op: Op
    row: Row
    primitive: str
    code: CodeLine
    stage: str  # "prompt", "token 2, drafting", …
    seconds: float  # on the hardware
    so_far: float  # of this op and all before
    changed: bool = False  # its result was changed by hand
    tokens: tuple[int, ...] = ()  # that logits are highest at, a row each
    note: str = ""  # what it came to, where there is something to say

    @property
    def place(self) -> tuple[str, str, int | None, str]:
        """Stage, phase, layer, and the part of the layer: the front half of the op's id."""
        return self.stage, self.row.phase, self.row.layer, self.op.id.partition(".")[0]

    @property
    def key(self) -> tuple[Any, ...]:
        """By which two machines' stops are the same op of the model."""
        return (*self.place[:3], self.op.id, self.row.direction, self.row.expert)


class Kept(NamedTuple):
    """A stop's arrays by symbol.  Of weights that are read as they are used there are none."""

    inputs: Named
    outputs: Named

    @property
    def result(self) -> Array | None:
        """What the op gave; None for a pass that only puts operands into tiles."""
        return self.outputs[0][1] if self.outputs else None


class Values:
    """Arrays of stops, by index.

    memory: bytes for copies  copy_weights: of a pass that changes them  hold_weights: whether the caller's
    weights may be referred to (not those that a cache wants back).
    """

    def __init__(self, memory: int, copy_weights: bool = False, hold_weights: bool = True) -> None:
        self.memory, self.held = memory, 0
        self._copy_weights, self._hold_weights = copy_weights, hold_weights
        self._kept: OrderedDict[int, tuple[Kept, int]] = OrderedDict()

    def __contains__(self, index: int) -> bool:
        return index in self._kept

    def __getitem__(self, index: int) -> Kept:
        return self._kept[index][0]

    def emptied(self) -> "Values":
        """The like of it, with nothing in it."""
        return Values(self.memory, self._copy_weights, self._hold_weights)

    def keep(self, index: int, event: Event) -> None:
        """Copy an event's arrays, as they are now."""
        weights = {s for s, kind in zip(event.op.symbols, event.op.kinds, strict=True) if kind == "weight"}
        inputs = tuple((s, self._own(a, s in weights)) for s, a in event.inputs if self._may(a, s in weights))
        outputs = tuple((s, a.copy()) for s, a in event.outputs if isinstance(a, np.ndarray))
        mine = [a for s, a in (*inputs, *outputs) if self._copy_weights or s not in weights]
        self.put(index, Kept(inputs, outputs), sum(a.nbytes for a in mine))

    def put(self, index: int, kept: Kept, nbytes: int) -> None:
        """Keep these, and let go of the oldest others."""
        if index in self._kept:
            self.held -= self._kept.pop(index)[1]
        self._kept[index] = (kept, nbytes)
        self.held += nbytes
        while self.held > self.memory and len(self._kept) > 1:
            self.held -= self._kept.popitem(last=False)[1][1]

    def change(self, index: int, result: Array) -> None:
        """Another result in the place of what was kept."""
        kept, nbytes = self._kept[index]
        self._kept[index] = (kept._replace(outputs=((kept.outputs[0][0], result),)), nbytes)

    def _may(self, array: Any, weight: bool) -> bool:
        return isinstance(array, np.ndarray) and (self._hold_weights or not weight)

    def _own(self, array: Array, weight: bool) -> Array:
        return array if weight and not self._copy_weights else array.copy()
