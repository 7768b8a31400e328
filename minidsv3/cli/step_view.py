"""A stop of the debugger as a card, and as plain values for JSON.

The card's picture is chosen by the kind of value; a selection picks head, expert, token, … of every array
that has such an axis. Values that were let go of come back when the pass runs again up to there, which
happens by itself where it takes a moment only.

Does: choose, describe. Does not: print, step.

    >>> plain_numbers(np.array([1.5, -np.inf, np.nan], "f"))
    [1.5, '-inf', 'nan']

Next: minidsv3.cli.step_player
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group, RenderableType
from rich.text import Text

from minidsv3.cli.terminal import reads_aloud
from minidsv3.learn.selector import AXES, Place, Selector, index_of, pick
from minidsv3.learn.stepping import Stepper, Stop, result_axes
from minidsv3.machine import Event, Op
from minidsv3.show.forms import in_words
from minidsv3.show.op_card import OpCard
from minidsv3.show.value import picture_of
from minidsv3.tokenizer import Tokenizer

__all__ = ["Looking", "View", "fitting", "plain_numbers", "put", "said", "stop_dict", "summary"]

MOST_NUMBERS = 16  # rows and columns of a matrix that is printed as numbers
# ops whose picture takes a place itself: the last word of their id -> the axis
OF_KINDS = {"softmax": {"H"}, "sigmoid": {"N"}, "logits": {"N"}, "mtp_logits": {"N"}}
A_MOMENT = 5.0  # seconds that bringing values back may take unasked


def put(console: Console, picture: RenderableType) -> None:
    """Print a picture; its words for a screen reader."""
    console.print(Text(in_words(picture)) if reads_aloud() else picture)


def plain_numbers(array: NDArray[Any]) -> Any:
    """Nested lists for JSON, what is not finite in words."""
    if array.dtype.kind != "f":
        return array.tolist()
    if array.ndim:
        return [plain_numbers(part) for part in array]
    return float(array) if np.isfinite(array) else str(float(array))


def fitting(at: Mapping[str, Place], axes: Sequence[str], shape: Sequence[int] = ()) -> dict[str, Place]:
    """Those words of a selection that an array with these axes has.

    shape: of the array; a token is left out where there are fewer, as in a step that decodes one.
    """
    found = {word: place for word, place in at.items() if {word, *AXES.get(word, ())} & set(axes)}
    tokens = next((n for axis, n in zip(axes, shape, strict=False) if axis in AXES["token"]), None)
    token = found.get("token")
    if isinstance(token, int) and tokens is not None and not -tokens <= token < tokens:
        del found["token"]
    return found


def said(at: Mapping[str, Place]) -> str:
    """A selection in words, `head=1,token=3`."""
    return str(Selector("", dict(at)))[1:-1]


@dataclass
class Looking:
    """How values are looked at.

    at: which head, expert, token, … of every array that has such an axis.  tokenizer, ids: spell the prompt.
    """

    ids: Sequence[int] = ()
    tokenizer: Tokenizer | None = None
    at: dict[str, Place] = field(default_factory=dict)

    def drawn(
        self, name: str, array: NDArray[Any], axes: Sequence[str], at: Mapping[str, Place], op: str = ""
    ) -> RenderableType:
        """An array as a picture.  axes: letters of the signature  at: what to pick  op: that made it."""
        tokens = next((n for axis, n in zip(axes, array.shape, strict=True) if axis in ("T", "N")), 0)
        labels = self.spelled(tokens)
        index = index_of(array.shape, axes, at)
        whole = {
            axis: one % n
            for axis, one, n in zip(axes, index, array.shape, strict=True)
            if isinstance(one, int)
        }
        if not at or (op and set(whole) == OF_KINDS.get(op.rpartition(".")[2]) and len(whole) == len(at)):
            special = picture_of(name, array, op=op, axes=tuple(axes), at=whole, labels=labels)
            return special if not at else Group(special, *self._numbers(name, array, axes, at))
        picked = pick(array, axes, at)
        return picture_of(f"{name}[{said(at)}]", picked.value, axes=picked.axes)

    def _numbers(
        self, name: str, array: NDArray[Any], axes: Sequence[str], at: Mapping[str, Place]
    ) -> list[RenderableType]:
        """Under a picture without numbers, of a small matrix: the numbers."""
        picked = pick(array, axes, at)
        if np.ndim(picked.value) != 2 or max(np.shape(picked.value)) > MOST_NUMBERS:
            return []
        return [picture_of(f"{name}[{said(at)}]", picked.value, axes=picked.axes)]

    def spelled(self, count: int) -> list[str]:
        """What the tokens of the prompt spell, if there are so many."""
        if self.tokenizer is None or count != len(self.ids):
            return []
        return [self.spell(token) for token in self.ids]

    def spell(self, token: int) -> str:
        """A token's text; "" without a tokenizer."""
        return "" if self.tokenizer is None else self.tokenizer.decode([token])


@dataclass
class View:
    """The stops of a stepper, and how they are looked at."""

    stepper: Stepper
    eye: Looking

    def card(self, stop: Stop, picture: bool = True) -> OpCard:
        """A stop as a card.  picture: with its result."""
        kept = self.stepper.values(stop) if self.at_hand(stop) else None
        event: Any = stop.row
        if kept is not None:
            event = Event(stop.row, stop.op, stop.primitive, stop.primitive.endswith("_backward"), *kept)
        return OpCard(
            event,
            self.stepper.hardware,
            so_far=stop.so_far,
            picture=self.picture(stop) if picture else None,
            code=stop.code,
            heading=f"[{stop.index}]",
        )

    def at_hand(self, stop: Stop) -> bool:
        """Whether a stop's values are there, or come back in a moment."""
        before = sum(one.row.seconds for one in self.stepper.stops[: stop.index + 1])
        return self.stepper.held(stop) or before < A_MOMENT

    def picture(self, stop: Stop) -> RenderableType:
        """A stop's result as the picture that suits it."""
        if not self.at_hand(stop):
            return Text("its values were let go of; f runs the pass again up to here for them")
        kept = self.stepper.values(stop)
        if kept.result is None:
            return Text("operands put into tiles for the products behind; no result of its own")
        axes = result_axes(stop)
        op = stop.op.id if stop.row.direction == "fprop" else ""
        return self.eye.drawn(
            kept.outputs[0][0], kept.result, axes, fitting(self.eye.at, axes, kept.result.shape), op
        )

    def note(self, stop: Stop) -> str:
        """What the stop came to, its tokens spelled."""
        spelled = (
            ", ".join(repr(self.eye.spell(token)) for token in stop.tokens) if self.eye.tokenizer else ""
        )
        changed = "its result was changed by hand" if stop.changed else ""
        note = f"{stop.note} ({spelled})" if stop.note and spelled else stop.note
        return "; ".join(filter(None, (changed, note)))

    def to_dict(self, stop: Stop, values: bool = False) -> dict[str, Any]:
        """Plain values for JSON.  values: with the numbers of the result, or of what is selected of it."""
        value = self._value(stop, values)
        return stop_dict(self.card(stop, picture=False), stop, value)

    def _value(self, stop: Stop, values: bool) -> dict[str, Any] | None:
        if not self.at_hand(stop) or (result := self.stepper.values(stop).result) is None:
            return None
        return summary(stop.op, result, result_axes(stop), self.eye.at, values)


def stop_dict(card: OpCard, stop: Stop, value: dict[str, Any] | None) -> dict[str, Any]:
    """A stop for JSON: its card, where in the pass it is, and its value."""
    names = ("index", "stage", "changed", "note")
    said: dict[str, Any] = card.to_dict() | {name: getattr(stop, name) for name in names}
    return said | {"tokens": list(stop.tokens), "value": value}


def summary(
    op: Op, result: NDArray[Any], axes: Sequence[str], at: Mapping[str, Place], values: bool
) -> dict[str, Any]:
    """A result, or what a selection picks of it, for JSON: shape, smallest, largest, mean; the numbers."""
    chosen = fitting(at, axes, result.shape)
    picked = pick(result, axes, chosen)
    x = np.asarray(picked.value)
    finite = x[np.isfinite(x)] if x.dtype.kind == "f" else x
    said: dict[str, Any] = {"symbol": op.symbols[-1], "axes": list(picked.axes), "shape": list(x.shape)}
    said["at"] = {word: place if isinstance(place, int) else str(place) for word, place in chosen.items()}
    for name in ("min", "max", "mean"):
        said[name] = float(getattr(finite, name)()) if finite.size and x.dtype.kind in "fiu" else None
    return said | ({"values": plain_numbers(x)} if values else {})
