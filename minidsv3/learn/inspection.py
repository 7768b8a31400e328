"""A lesson's names as a table and as pictures: `c_KV`, `p[head=1]`, `mla.softmax[layer=0]`, `w.embedding`.

An array's axes are those of the op whose symbol it carries, a traced one of the same shape before any of the
catalogue; so `head` and `token` pick along the axes that they mean. The marker line of a cell may say what
it shows, `show="heat_map:c_KV; attention_map:p[head=1]"`: a picture's module or class, and a name.

Does: find, pick, choose the picture. Does not: draw (`minidsv3.show`), run cells.

    >>> made = pictures("vector_strip:h[token=1]", {"h": np.ones((3, 4))})
    >>> [(title, type(picture).__name__) for title, picture in made]
    [('h[token=1]', 'VectorStrip')]
    >>> inspected("hh", {"h": 1})
    Traceback (most recent call last):
    ValueError: expected a name of the lesson, got 'hh': did you mean 'h'? known: h

Next: minidsv3.learn.export
"""

import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3 import show
from minidsv3.config import near
from minidsv3.cost import Bill, bill
from minidsv3.hardware import load_hardware
from minidsv3.learn.selector import Selector, parse, pick
from minidsv3.machine import Event, Machine, Row, catalogue, look_up
from minidsv3.show.attention_map import AttentionMap
from minidsv3.show.op_timeline import OpTimeline
from minidsv3.show.router_card import RouterCard
from minidsv3.show.top_tokens import TopTokens
from minidsv3.show.value import picture_of

__all__ = ["Variable", "inspected", "is_shown", "pictures", "variable"]

Array = NDArray[Any]
FEW = 8  # items of a container that are shown one by one
SOFTMAXES = ("mla.softmax", "gqa.softmax")  # whose results are attention maps
POINTS = 16  # of a sparkline
GUESSED = {1: ("X",), 2: ("T", "X"), 3: ("H", "T", "X"), 4: ("B", "H", "T", "X")}  # to pick by, not to label


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
    line: tuple[float, ...] = ()  # means of stretches of the array, for a sparkline


class _Found(NamedTuple):
    """What a name stands for.  op: whose result it is, "" if not known."""

    value: Any
    op: str = ""
    axes: tuple[str, ...] = ()


def variable(name: str, value: Any, changed: bool) -> Variable:
    """A row of the table of variables."""
    if not isinstance(value, np.ndarray):
        large = isinstance(value, Sized) and len(value) > FEW and not isinstance(value, str)
        text = f"{len(value)} items" if large else " ".join(repr(value)[:200].split())
        return Variable(name, type(value).__name__, None, None, None, None, text, changed)
    text = np.array2string(value, precision=3, threshold=8, edgeitems=2).replace("\n", "")
    if not value.size or value.dtype.kind not in "biuf":
        return Variable(name, str(value.dtype), value.shape, None, None, None, text, changed)
    low, high, mean = float(value.min()), float(value.max()), float(value.mean(dtype=np.float64))
    return Variable(name, str(value.dtype), value.shape, low, high, mean, text, changed, _line(value))


def _line(array: Array) -> tuple[float, ...]:
    """Means of at most `POINTS` stretches of an array as it lies; nothing if one is not finite."""
    stretches = np.array_split(array.ravel(), min(POINTS, array.size))
    with np.errstate(all="ignore"):
        means = [float(part.mean(dtype=np.float64)) for part in stretches]
    return tuple(means) if np.isfinite(means).all() else ()


# ---- pictures ---------------------------------------------------------------------------------------------


def pictures(
    option: str, namespace: Mapping[str, Any], rows: Sequence[Row] = (), events: Sequence[Event] = ()
) -> tuple[tuple[str, Any], ...]:
    """Title and picture of each `KIND:NAME` of a cell's `show=`; ValueError for what is not there.

    rows, events: of the cell.
    """
    made = []
    for part in filter(None, (part.strip() for part in option.split(";"))):
        kind, colon, text = (word.strip() for word in part.partition(":"))
        if not colon:
            raise ValueError(f'expected show="KIND:NAME", got {part!r}')
        made.append((text, inspected(text, namespace, rows, events, kind)))
    return tuple(made)


def inspected(
    text: str,
    namespace: Mapping[str, Any],
    rows: Sequence[Row] = (),
    events: Sequence[Event] = (),
    kind: str = "",
) -> Any:
    """The picture of a name, of a part of it, or of an op's result; kind: "" chooses by the value.

    A value that no picture suits comes as text.
    """
    which = parse(text) if "=" in text else Selector(text, {})
    found = _found(which, namespace, rows, events)
    if kind and kind not in KINDS and not isinstance(found.value, np.ndarray):
        return _of_class(kind, found.value, text)
    if not kind and not isinstance(found.value, np.ndarray | np.number | int | float):
        return _text(found.value)
    if kind == "op_timeline":
        return KINDS[kind](found, text)
    return _drawn(kind, found, text, which)


def _drawn(kind: str, found: _Found, text: str, which: Selector) -> Any:
    """The picture of an array, or of the part that is asked for."""
    array = np.asarray(found.value)
    at = {word: place for word, place in which.at.items() if word != "layer"}
    if found.op:
        at = {word: place for word, place in at.items() if word != "expert" or "E" in found.axes}
    axes = found.axes or GUESSED.get(array.ndim, ())
    head = at.get("head", at.get("H"))
    whole = set(at) <= {"head", "H"} and not isinstance(head, slice)
    if whole and found.op in SOFTMAXES and kind in ("", "attention_map"):
        return AttentionMap(_heads(array), head=_inside(head, array), title=text)
    if at:
        array, axes = pick(array, axes, at)
    part = _Found(array, "" if at else found.op, axes if found.axes else ())
    if kind in KINDS:
        return KINDS[kind](part, text)
    if kind:
        return _of_class(kind, array, text)
    return picture_of(text, array, op=part.op, axes=part.axes)


def _inside(head: Any, p: Array) -> int | None:
    """A head from 0 on; ValueError if there is no such."""
    heads = len(_heads(p))
    if head is not None and not -heads <= head < heads:
        raise ValueError(f"expected head 0 .. {heads - 1}, got {head}")
    return None if head is None else head % heads


KINDS: dict[str, Callable[[_Found, str], Any]] = {
    "heat_map": lambda found, title: picture_of(title, _matrix(found.value), axes=found.axes),
    "vector_strip": lambda found, title: picture_of(title, found.value.ravel()),
    "attention_map": lambda found, title: AttentionMap(_heads(found.value), title=title),
    "router_card": lambda found, title: RouterCard(np.atleast_2d(found.value)[-1], title=title),
    "top_tokens": lambda found, title: TopTokens(np.atleast_2d(found.value)[-1], title),
    "op_timeline": lambda found, title: OpTimeline(_priced(found.value), title),
}


def _matrix(array: Array) -> Array:
    return np.atleast_2d(array)


def _heads(p: Array) -> Array:
    """[T, S] or [..., H, T, S]  ->  [H, T, S]"""
    return p[None] if p.ndim == 2 else p.reshape(-1, *p.shape[-2:])


def _priced(value: Any) -> Bill:
    return value if isinstance(value, Bill) else bill(value, load_hardware("h800"))


def _of_class(kind: str, value: Any, title: str) -> Any:
    """A picture by its class, or by the module that has a class of that name."""
    name = kind if kind[:1].isupper() else "".join(word.capitalize() for word in kind.split("_"))
    known = _classes()
    if name not in known:
        raise ValueError(f"expected a picture, got {kind!r}: {near(kind, [*KINDS, *known])}")
    made = getattr(import_module(known[name]), name)
    titled = "title" in inspect.signature(made).parameters
    return made(value, title=title) if titled else made(value)


@lru_cache
def _classes() -> dict[str, str]:
    """Every class of `minidsv3.show` and its module, read from the sources: none is imported for it."""
    found: dict[str, str] = {}
    for module in pkgutil.iter_modules(show.__path__):
        source = (Path(show.__path__[0]) / f"{module.name}.py").read_text(encoding="utf-8")
        found |= dict.fromkeys(
            re.findall(r"^class ([A-Z]\w*)", source, re.M), f"{show.__name__}.{module.name}"
        )
    return found


def _text(value: Any, most: int = 4000) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


# ---- what a name stands for -------------------------------------------------------------------------------


def _found(
    which: Selector, namespace: Mapping[str, Any], rows: Sequence[Row], events: Sequence[Event]
) -> _Found:
    name = which.name
    if name in namespace:
        return _known(name, namespace[name], rows)
    for event in events:
        for symbol, array in (*event.inputs, *event.outputs):
            if symbol == name and which._replace(name=event.row.op).matches(event.row):
                return _known(name, array, [event.row])
    if name in catalogue():
        return _of_op(which, namespace, events)
    try:
        return _known(name.rpartition(".")[2], eval(name, dict(namespace)), rows)
    except Exception as problem:
        if not name.isidentifier() and not isinstance(problem, SyntaxError):
            raise ValueError(f"{type(problem).__name__}: {problem}") from problem
        own = [name for name in namespace if not name.startswith("__")]
        raise ValueError(f"expected a name of the lesson, got {name!r}: {near(name, own)}") from None


def _of_op(which: Selector, namespace: Mapping[str, Any], events: Sequence[Event]) -> _Found:
    """The result of an op: of the cell's events, else one that a trace of the lesson has kept."""
    op = look_up(which.name)
    for event in events:
        if which.matches(event.row) and event.outputs and not event.backward:
            return _Found(event.result, op.id, op.signature.result)
    for value in namespace.values():
        for row in value.trace if isinstance(value, Machine) and value.tracing else ():
            if row.value is not None and which.matches(row):
                return _Found(row.value, op.id, op.signature.result)
    raise ValueError(
        f"expected an op whose result is at hand, got {which}; no trace kept it (keep={op.id!r})"
    )


def _known(name: str, value: Any, rows: Iterable[Row]) -> _Found:
    """A value with the axes that its symbol has, and the op if it is that op's result."""
    if not isinstance(value, np.ndarray):
        return _Found(value)
    for row in reversed(list(rows)):
        op = look_up(row.op)
        for symbol, axes, shape in zip(op.symbols, _axes(op.id), row.shapes, strict=False):
            if symbol == name and shape == value.shape and row.direction == "fprop":
                return _Found(value, op.id if axes is op.signature.result else "", axes)
    return _Found(value, *_guessed(name, value.ndim))


def _guessed(name: str, rank: int) -> tuple[str, tuple[str, ...]]:
    """Op and axes that the catalogue has for a symbol of so many axes: `o_absorbed` is like `o`."""
    words = name.split("_")
    for tried in ("_".join(words[:n]) for n in range(len(words), 0, -1)):
        for op in catalogue().values():
            for symbol, axes in zip(op.symbols, _axes(op.id), strict=False):
                if symbol == tried and len(axes) == rank:
                    return (op.id if tried == name and axes is op.signature.result else ""), axes
    return "", ()


def _axes(op: str) -> tuple[tuple[str, ...], ...]:
    signature = look_up(op).signature
    return (*signature.operands, signature.result)


def is_shown(name: str, value: Any) -> bool:
    """Whether a name belongs into the table of variables: no module, no function, no dunder."""
    return not name.startswith("__") and not callable(value) and not isinstance(value, ModuleType)
