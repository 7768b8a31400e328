"""The debugger: a pass of a model stepped through op by op, back, to breaks, with values changed on the way.

A `Stepper` stands at one op of its pass, the cursor; the ops up to the *front* have run, and no others: the
first stop costs one op, whatever the model. In front of the front, steps move the cursor through what was
kept; at the front they run the pass on. *Into* goes to the next op, *over* to the next part of the layer
(attention, gate, experts, …), *out* to the next layer or stage; each stops at a break before. A change is
made to the result of an op; everything behind it is computed from that, at once at the front, by running the
pass again where later ops have run already.

While a stepper is open the BLAS is held to one thread, so that its bits are those of a run on one.

Does: step, keep, replay, change, price each op. Does not: draw (`minidsv3.show.op_card`), read keys.

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.interpreter import Model
    >>> model = Model.initialise(ModelConfig.preset("nano"), seed=0)
    >>> with Stepper(Pass(model, (1, 2, 3))) as stepper:
    ...     first = stepper.into()
    ...     soft = stepper.run_to("mla.softmax[layer=1]")
    ...     first.op.id, soft.op.id, soft.row.layer, stepper.back().op.id
    ('embed.tokens', 'mla.softmax', 1, 'mla.scores')

Next: minidsv3.learn.selector
"""

import contextlib
import fnmatch
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

from minidsv3.config import near
from minidsv3.cost.rates import rates
from minidsv3.hardware import Hardware, load_hardware
from minidsv3.learn.selector import PLACES, Selector, parse, said
from minidsv3.learn.stepping.edits import Edit
from minidsv3.learn.stepping.history import Kept, Stop, Values
from minidsv3.learn.stepping.notes import chosen, note_of
from minidsv3.learn.stepping.passes import KINDS, Pass
from minidsv3.learn.stepping.runner import Runner
from minidsv3.machine import Event, Watch, catalogue
from minidsv3.machine.parallel import blas_threads
from minidsv3.machine.watch import called_from

__all__ = ["KINDS", "Edit", "Kept", "Pass", "Stepper", "Stop"]

MEMORY = 256 << 20  # bytes for arrays of past stops
Until = Callable[[Stop], bool]


class Stepper:
    """A pass, and where one stands in it.  memory: bytes for the arrays of past stops."""

    def __init__(self, work: Pass, memory: int = MEMORY) -> None:
        self.work = work
        chosen = work.hardware
        self.hardware: Hardware = chosen if isinstance(chosen, Hardware) else load_hardware(chosen)
        self.stops: list[Stop] = []
        self.cursor = -1  # no op has run
        self.breaks: list[Selector] = []
        self.edits: list[Edit] = []
        self._failing: Edit | None = None  # being made
        self._values = Values(memory, work.changes_weights, hold_weights=work.model.mapped is None)
        self._rates, self._stage = rates(self.hardware), ""
        self._blas = contextlib.ExitStack()
        self._blas.enter_context(blas_threads(1))
        self._runner = Runner(self._run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the pass."""
        self._runner.close()
        self._blas.close()

    @property
    def stop(self) -> Stop | None:
        """Where the cursor is; None in front of the first op."""
        return self.stops[self.cursor] if self.cursor >= 0 else None

    @property
    def over(self) -> bool:
        """Whether the pass is over and the cursor at its last op."""
        return self._runner.over and self.cursor == len(self.stops) - 1

    @property
    def result(self) -> Any:
        """What the pass gave, once it is over."""
        return self._runner.result

    # ---- moving ----

    def into(self) -> Stop | None:
        """The next op; None when the pass is over."""
        return self._advance(lambda stop: True)

    def over_part(self) -> Stop | None:
        """The first op of the next part of the layer."""
        here = self.stop and self.stop.place
        return self._advance(lambda stop: stop.place != here)

    def out(self) -> Stop | None:
        """The first op of the next layer, phase or stage."""
        here = self.stop and self.stop.place[:3]
        return self._advance(lambda stop: stop.place[:3] != here)

    def go_on(self) -> Stop | None:
        """The next break; None if none comes."""
        return self._advance(lambda stop: False)

    def run_to(self, target: str) -> Stop | None:
        """The next op that a selector such as `mla.softmax[layer=1]` matches, breaks or not."""
        wanted = _known(target)
        return self._advance(lambda stop: wanted.matches(stop.row), breaks=False)

    def break_on(self, target: str) -> Selector:
        """Stop at every op that a selector or pattern matches; ValueError for one that no op has."""
        self.breaks.append(_known(target))
        return self.breaks[-1]

    def back(self) -> Stop | None:
        """The op before; None in front of the first."""
        self.cursor = max(self.cursor - 1, -1)
        return self.stop

    def go(self, index: int) -> Stop | None:
        """Op number `index`, from 0; ValueError for one behind the end."""
        if index < 0:
            raise ValueError(f"expected an op from 0 on, got {index}")
        self.cursor = min(index, len(self.stops) - 1)
        if index >= len(self.stops):
            self._advance(lambda stop: stop.index == index, breaks=False)
        if self.cursor != index:
            raise ValueError(f"expected an op 0 .. {len(self.stops) - 1}, got {index}")
        return self.stop

    def _advance(self, until: Until, breaks: bool = True) -> Stop | None:
        """The next stop that `until` or a break wants: of those that have run, else of those to come."""

        def wanted(stop: Stop) -> bool:
            return until(stop) or (breaks and any(one.matches(stop.row) for one in self.breaks))

        for stop in self.stops[self.cursor + 1 :]:
            self.cursor = stop.index
            if wanted(stop):
                return stop
        return self._run_on(wanted)

    def _run_on(self, wanted: Until) -> Stop | None:
        front = len(self.stops) - 1
        try:
            alive = self._runner.resume(lambda event: wanted(self._record(event)))
        except Exception as problem:
            edit = self._drop(front)
            if edit is None or isinstance(problem, ValueError):
                raise
            raise ValueError(f"{edit}: the pass cannot go on: {type(problem).__name__}: {problem}") from None
        finally:  # an interrupt too leaves it at an op
            self.cursor = len(self.stops) - 1
        return self.stop if alive else None

    def _drop(self, front: int) -> Edit | None:
        """Without a change that did not fit, or the last if ops behind cannot run, stand where it stood."""
        edit = self._failing or (self.edits[-1] if self.edits else None)
        if edit is not None:
            self.edits.remove(edit)
            self._failing = None
            self.replay(front)
        return edit

    # ---- in the pass's thread ----

    def _run(self, watch: Watch) -> Any:
        return self.work.run(watch, self._say)

    def _say(self, stage: str) -> None:
        self._stage = stage

    def _record(self, event: Event) -> Stop:
        """The stop of an event, its values kept, edits made."""
        seconds, index = self._rates.seconds(event.row)[0], len(self.stops)
        stop = Stop(
            index, event.op, event.row, event.primitive, called_from(),
            stage=self.work.stage(self._stage, event.row),
            seconds=seconds,
            so_far=seconds + (self.stops[-1].so_far if self.stops else 0.0),
        )  # fmt: skip
        self._values.keep(index, event)
        for edit in self.edits:
            if _is_meant(edit, stop):
                self._failing = edit
                stop = self._make(edit, stop)
                self._failing = None
        told = event._replace(outputs=self._values[index].outputs or event.outputs)
        stop = replace(stop, tokens=chosen(told))
        stop = replace(stop, note=note_of(self.stops, stop, told))
        self.stops.append(stop)
        return stop

    def _make(self, edit: Edit, stop: Stop) -> Stop:
        """An edit at the stop at hand."""
        kept = self._values[stop.index]
        new = _applied(edit, stop, kept)
        self._values.change(stop.index, new)
        self._runner.answer = new
        return replace(stop, changed=True)

    # ---- values ----

    def held(self, stop: Stop) -> bool:
        """Whether a stop's arrays are at hand."""
        return stop.index in self._values

    def values(self, stop: Stop) -> Kept:
        """A stop's arrays; if they were let go, the pass runs again up to there."""
        if stop.index not in self._values:
            self._fetch(stop.index)
        return self._values[stop.index]

    def _fetch(self, index: int) -> None:
        before = self.stops, self._runner, self._stage
        self.stops, self._runner = [], Runner(self._run)
        try:
            with self._runner:
                self._runner.resume(lambda event: self._record(event).index == index)
        finally:
            self.stops, self._runner, self._stage = before

    # ---- changing ----

    def change(self, text: str) -> Stop | None:
        """`OP[…] = expression`: at the cursor if that is such an op, else at the last such op in front of it,
        else at every one to come; `d_OP[…] = expression` changes gradients alone.

        ->  where the cursor is, at the changed op; ValueError for an edit that does not fit.
        """
        edit = Edit.read(text)
        found = [stop for stop in self.stops[: self.cursor + 1] if edit.target.matches(stop.row)]
        found = [stop for stop in found if _has_result(stop) and (_of_gradient(stop) or not edit.gradient)]
        if not found:
            self.edits.append(edit)
            return self.stop
        stop, edit = found[-1], replace(edit, index=found[-1].index)
        kept = self.values(stop)
        _applied(edit, stop, kept)  # before anything runs again
        self.edits.append(edit)
        if stop.index == len(self.stops) - 1 and not self._runner.over:
            self.stops[-1] = self._make(edit, stop)
        else:
            self.replay(stop.index)
        self.cursor = stop.index
        return self.stop

    def undo(self) -> Edit | None:
        """Take the last edit back, and run again up to the cursor; None if there was none."""
        if not self.edits:
            return None
        edit = self.edits.pop()
        if edit.index is None or edit.index < len(self.stops):
            self.replay(self.cursor)
        return edit

    def replay(self, index: int) -> Stop | None:
        """Run the pass again, with all edits, up to op `index`; behind it nothing has run."""
        self._runner.close()
        self.stops, self.cursor, self._runner = [], -1, Runner(self._run)
        self._values = self._values.emptied()
        return None if index < 0 else self._run_on(lambda stop: stop.index == index)


def _known(target: str) -> Selector:
    """A selector of ops that there are; ValueError for others."""
    found, ops = parse(target), catalogue()
    for word, place in found.at.items():
        if word not in PLACES:
            raise ValueError(
                f"expected {' or '.join(PLACES)} in [] of an op to stop at, got {word}={said(place)}"
            )
        if min(place if isinstance(place, int) else place.start or 0, 0) < 0:
            raise ValueError(f"expected {word} from 0 on of an op to stop at, got {said(place)}")
    if not any(fnmatch.fnmatchcase(name, found.name) for name in ops):
        raise ValueError(f"expected an op or a pattern, got {found.name!r}: {near(found.name, sorted(ops))}")
    return found


def result_axes(stop: Stop) -> tuple[str, ...]:
    """What the axes of a stop's result are called in its op's signature; P for rows that are an expert's, not
    tokens in order.
    """
    axes = _signed(stop)
    routed = stop.op.id.startswith("experts.") and stop.op.primitive in ("grouped_linear", "swiglu", "scale")
    return tuple("P" if routed and axis == "N" else axis for axis in axes)


def _signed(stop: Stop) -> tuple[str, ...]:
    if stop.row.phase != "backward" or stop.row.direction == "fprop":
        return stop.op.signature.result
    letters = (*stop.op.signature.operands, stop.op.signature.result)
    for axes in letters:
        if tuple(stop.row.sizes[axis] for axis in axes) == stop.row.shapes[-1]:
            return axes
    return tuple(f"axis{i}" for i in range(len(stop.row.shapes[-1])))


def _applied(edit: Edit, stop: Stop, kept: Kept) -> Any:
    """A stop's result with an edit made; ValueError if it does not fit, or chooses what there is not."""
    assert kept.result is not None
    new = edit.applied(kept.result, result_axes(stop), dict(kept.inputs))
    if stop.op.primitive == "top_k":
        n = stop.row.sizes[stop.op.signature.operands[0][-1]]
        wrong = new[(new < 0) | (new >= n)]
        if wrong.size:
            raise ValueError(f"expected {edit.target} from 0 to {n - 1}, got {int(wrong[0])}")
    return new


def _has_result(stop: Stop) -> bool:
    return stop.row.direction != "quantise"


def _of_gradient(stop: Stop) -> bool:
    return stop.row.direction != "fprop"


def _is_meant(edit: Edit, stop: Stop) -> bool:
    """Whether an edit is made here: at its own stop; of those for all to come, results or gradients alone."""
    if not _has_result(stop) or not edit.target.matches(stop.row):
        return False
    return _of_gradient(stop) == edit.gradient if edit.index is None else edit.index == stop.index
