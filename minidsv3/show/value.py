"""Any value as the picture that suits it: the one place that knows which kind of value gets which picture.

A number is printed, a vector is a strip, a small matrix numbers and a larger one a heat map; attention
probabilities, router scores, integers and logits have pictures of their own. An array of more axes gives the
matrix that `at` picks, the first where it says nothing; the title says which.

Does: choose, pick, label. Does not: draw (`heat_map`, `vector_strip`, `attention_map`, …).

    >>> from minidsv3.show.svg import plain_text
    >>> print(plain_text(picture_of("tokens", np.array([[1, 671]])), width=60, ascii_only=True))
    tokens  1x2, whole numbers 1 .. 671
    row 0: 1 671
    >>> picture_of("c_KV", np.ones((4, 48)), axes=("token", "d_c")).describe().splitlines()[0]
    'c_KV: 4x48'

Next: minidsv3.show.cells
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.show.attention_map import AttentionMap
from minidsv3.show.cells import short
from minidsv3.show.forms import shown
from minidsv3.show.heat_map import Axis, HeatMap
from minidsv3.show.numbers import count, shape
from minidsv3.show.router_card import RouterCard
from minidsv3.show.top_tokens import TopTokens
from minidsv3.show.vector_strip import VectorStrip

__all__ = ["NAMES", "Ids", "Picture", "Scalar", "demo", "picture_of"]

MOST_IDS = 16  # rows of whole numbers shown
# what an axis of the catalogue's signatures is called
NAMES = {"H": "head", "T": "token", "N": "token", "S": "key", "E": "expert", "B": "sequence", "G": "group"}
Array = NDArray[Any]


class Picture(Protocol):
    """What every picture of a value can do: be drawn by rich, and be said in words."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult: ...

    def describe(self) -> str:
        """The picture in words."""
        ...


def picture_of(
    name: str,
    array: ArrayLike,
    *,
    op: str = "",
    symbol: str = "",
    axes: tuple[str, ...] = (),
    at: Mapping[str, int] | None = None,
    labels: Sequence[str] = (),
) -> Picture:
    """The picture of a value.

    op, symbol: which op of the catalogue made it, and what the report calls it: they tell probabilities,
    scores and logits. axes: of the array, letters of the op's signature or words. at: which head, token, …
    labels: what the tokens spell.  ValueError for a place that is not there.
    """
    x, chosen = np.asarray(array), dict(at or {})
    named = tuple(NAMES.get(axis, axis) for axis in axes) if len(axes) == x.ndim else ()
    title = f"{name}: {symbol}" if symbol and symbol != name else name
    if x.dtype.kind not in "biufc":
        raise ValueError(f"expected {name} an array of numbers, got {x.dtype}")
    if x.dtype.kind == "c":
        x = np.stack([x.real, x.imag])  # [2, ...]
        named = ("part", *named) if named else ()
    if (x.dtype.kind in "bui" and x.size > 1) or not x.size:
        return Ids(x, title, named)
    if op and (special := _of_op(x, op, title, chosen, labels)):
        return special
    x, named, picked = _picked(x, named, chosen)
    title += f", {picked}" if picked else ""
    if x.size == 1:
        return Scalar(float(x.reshape(-1)[0]), title, shape(x.shape) if x.ndim else "")
    if x.ndim == 1:
        return VectorStrip(x, title, named[0] if named else "")
    spelled = bool(named) and named[0] == "token" and len(labels) == len(x)
    rows = Axis(named[0] if named else "row", labels if spelled else ())
    return HeatMap(x, title, rows, Axis(named[1] if named else "column"))


def _of_op(x: Array, op: str, title: str, at: dict[str, int], labels: Sequence[str]) -> Picture | None:
    """The picture of a result that is of a kind of its own."""
    name = op.rpartition(".")[2]
    if op in ("mla.softmax", "gqa.softmax") and x.ndim == 3:
        return AttentionMap(x, labels, _place(at, "head", len(x)), title)
    if op in ("gate.sigmoid", "gate.softmax") and x.ndim == 2:
        token = _place(at, "token", len(x)) if "token" in at or len(x) == 1 else len(x) - 1
        return RouterCard(x[token or 0], title=f"{title}, token {token or 0}")
    if op.startswith("head.") and name.endswith("logits") and x.ndim <= 2:
        rows = np.atleast_2d(x)
        token = _place(at, "token", len(rows)) if "token" in at else len(rows) - 1
        return TopTokens(rows[token or 0], f"{title}, token {token}" if len(rows) > 1 else title)
    return None


def _place(at: Mapping[str, int], name: str, size: int) -> int | None:
    """Which one of an axis is asked for; None where none is."""
    letters = [letter for letter, word in NAMES.items() if word == name]
    for key in (name, *letters):
        if key in at:
            if not 0 <= at[key] < size:
                raise ValueError(f"expected {name} 0 .. {size - 1}, got {at[key]}")
            return at[key]
    return None


def _picked(x: Array, axes: tuple[str, ...], at: Mapping[str, int]) -> tuple[Array, tuple[str, ...], str]:
    """The part of an array that `at` asks for, at most a matrix; its axes; what was picked, in words."""
    names = list(axes or (f"axis {i}" for i in range(x.ndim)))
    asked = {name: _place(at, name, size) for name, size in zip(names, x.shape, strict=True)}
    spare = x.ndim - 2 - sum(place is not None for place in asked.values())
    said = []
    for name in list(names):
        place, i = asked[name], names.index(name)
        if place is None and spare > 0:
            place, spare = 0, spare - 1  # the first of what nobody asked for
        if place is not None:
            said += [f"{name} {place}"] if x.shape[i] > 1 else []
            x = x.take(place, axis=i)
            names.pop(i)
    return x, tuple(names) if axes else (), ", ".join(said)


@dataclass(frozen=True)
class Scalar:
    """One number.  note: what it was, such as the shape of an array of one element."""

    value: float
    title: str = ""
    note: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = Text().append(f"{self.title} = " if self.title else "", "bold").append(short(self.value, 9))
        yield line.append(f"  {self.note}" if self.note else "", "dim")

    def describe(self) -> str:
        """The number."""
        return f"{self.title or 'a number'}: {short(self.value, 9)}"


@dataclass(frozen=True)
class Ids:
    """Whole numbers: token ids, chosen experts, positions.  values: any shape"""

    values: ArrayLike
    title: str = ""
    axes: tuple[str, ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text().append(self.title, "bold").append(f"  {self._about}")
        yield from (Text(line, overflow="fold") for line in self._rows())

    @property
    def _about(self) -> str:
        x = np.asarray(self.values)
        if not x.size:
            return f"{shape(x.shape)}, empty"
        if x.dtype.kind == "b":
            return f"{shape(x.shape)}, {count(int(x.sum()))} of {count(x.size)} true"
        return f"{shape(x.shape)}, whole numbers {x.min()} .. {x.max()}"

    def _rows(self) -> Iterator[str]:
        x = np.asarray(self.values)
        rows = x.reshape(-1, x.shape[-1]) if x.size else x[:0]
        name = self.axes[0] if len(self.axes) == 2 else "row"
        for i, row in enumerate(rows[:MOST_IDS]):
            more = f" and {len(row) - 64} more" if len(row) > 64 else ""
            yield f"{name} {i}: {' '.join(str(int(v)) for v in row[:64])}{more}"
        if len(rows) > MOST_IDS:
            yield f"and {len(rows) - MOST_IDS} more rows"

    def describe(self) -> str:
        """The numbers, row by row."""
        return "\n".join([f"{self.title or 'whole numbers'}: {self._about}", *self._rows()])


def demo() -> Picture:
    """The latent of keys and values that a fresh nano model keeps for each of six tokens."""
    from minidsv3.config import ModelConfig
    from minidsv3.interpreter import Model
    from minidsv3.machine import Machine

    model = Model.initialise(ModelConfig.preset("nano"), seed=0)
    machine = Machine(trace=True, keep="mla.kv_norm")
    model.logits([[1, 2, 3, 4, 5, 6]], machine)
    latent = machine.trace.value("mla.kv_norm", layer=0)
    return picture_of("mla.kv_norm", latent, op="mla.kv_norm", symbol="c_KV", axes=("N", "C"))


if __name__ == "__main__":
    shown(demo())
