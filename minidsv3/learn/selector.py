"""One way to say which op, and which part of an array: `mla.softmax[layer=2,head=1,token=3]`.

In front of the brackets stands the name of an op or array, or a pattern such as `gate.*`. Within, `layer`
and `expert` say where in the model; `head`, `token`, `key`, `expert`, `group`, `sequence` and `id` pick along
the axis that the op's signature names so, and an axis may be given by its letter as well (`H=1`). A number
picks one place, counted from the end if it is negative, and `2:5` a stretch.

Does: parse, match, pick. Does not: find what a name stands for, evaluate.

    >>> which = parse("mla.softmax[layer=2, head=1, token=0:2]")
    >>> which.name, which.layer, str(which)
    ('mla.softmax', 2, 'mla.softmax[layer=2,head=1,token=0:2]')
    >>> import numpy as np
    >>> p = np.arange(24).reshape(2, 3, 4)                                   # heads, tokens, keys
    >>> pick(p, ("H", "T", "S"), which.at)
    Picked(value=array([[12, 13, 14, 15],
           [16, 17, 18, 19]]), axes=('T', 'S'))

Next: minidsv3.learn.stepping.runner
"""

import fnmatch
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from minidsv3.config import near
from minidsv3.machine import Row

__all__ = ["AXES", "PLACES", "Picked", "Place", "Selector", "index_of", "parse", "pick", "position", "said"]

Place = int | slice
# a word -> the letters of signatures that it may stand for, the first that an array has
AXES: dict[str, tuple[str, ...]] = {
    "head": ("H",), "token": ("T", "N"), "key": ("S",), "expert": ("E",), "group": ("G",),
    "choice": ("K",), "sequence": ("B",), "id": ("V",),
}  # fmt: skip
PLACES = ("layer", "expert")  # say where in the model a row ran
_FORM = re.compile(r"(?P<name>[^=]*?)\s*(?:\[(?P<at>[^\[\]]*=[^\[\]]*)\])?")


class Selector(NamedTuple):
    """A name, and what of it."""

    name: str
    at: dict[str, Place]

    @property
    def layer(self) -> int | None:
        """The layer asked for, if any."""
        return _whole(self.at.get("layer"))

    def matches(self, row: Row) -> bool:
        """Whether a row is of this op (or pattern), layer and expert; that of no expert is of any."""
        return (
            fnmatch.fnmatchcase(row.op, self.name)
            and _within(self.at.get("layer"), row.layer)
            and (row.expert is None or _within(self.at.get("expert"), row.expert))
        )

    def __str__(self) -> str:
        inside = ",".join(f"{word}={said(place)}" for word, place in self.at.items())
        return f"{self.name}[{inside}]" if inside else self.name


class Picked(NamedTuple):
    """A part of an array, and the axes that are left."""

    value: Any
    axes: tuple[str, ...]


def parse(text: str) -> Selector:
    """Read `NAME` or `NAME[word=number,…]`; ValueError for anything else."""
    found = _FORM.fullmatch(text.strip())
    if found is None or not found["name"] or ("[" in found["name"] and ";" not in found["name"]):
        raise ValueError(f"expected NAME or NAME[layer=2,head=1], got {text!r}")
    return Selector(found["name"], dict(map(_pair, (found["at"] or "").split(","))) if found["at"] else {})


def _pair(text: str) -> tuple[str, Place]:
    word, _, place = (part.strip() for part in text.partition("="))
    if not word.isidentifier():
        raise ValueError(f"expected word=number such as head=1, got {text.strip()!r}")
    return word, position(place)


def position(text: str) -> Place:
    """Read `3`, `-1` or `2:5`."""
    first, colon, last = (part.strip() for part in text.partition(":"))
    try:
        if colon:
            return slice(int(first) if first else None, int(last) if last else None)
        return int(first)
    except ValueError:
        raise ValueError(f"expected a number or a stretch such as 2:5, got {text!r}") from None


def pick(array: NDArray[Any], axes: Sequence[str], at: Mapping[str, Place]) -> Picked:
    """The part of an array that a selection asks for: a view.

    axes: a name for each axis, as an op's signature has them.  `layer` is no axis, `expert` need not be one.
    ValueError for a word that no axis has, and for a place behind the end.
    """
    index = index_of(array.shape, axes, at)
    left = tuple(name for name, one in zip(axes, index, strict=True) if isinstance(one, slice))
    return Picked(array[index], left)


def index_of(shape: Sequence[int], axes: Sequence[str], at: Mapping[str, Place]) -> tuple[Place, ...]:
    """The same as an index of the array."""
    index: list[Place] = [slice(None)] * len(shape)
    for word, place in at.items():
        axis = _axis(word, axes)
        if axis is None:
            continue
        if isinstance(place, int) and not -shape[axis] <= place < shape[axis]:
            raise ValueError(f"expected {word} 0 .. {shape[axis] - 1}, got {place}")
        index[axis] = place
    return tuple(index)


def _axis(word: str, axes: Sequence[str]) -> int | None:
    """Which axis a word means; None for a place in the model."""
    for letter in (word, *AXES.get(word, ())):
        if letter in axes:
            return list(axes).index(letter)
    if word in PLACES:
        return None
    known = [name for name, letters in AXES.items() if set(letters) & set(axes)]
    told = near(word, known) if known else f"it has the axes {' '.join(axes)}"
    raise ValueError(f"expected a word for an axis of [{' '.join(axes)}], got {word!r}: {told}")


def _within(place: Place | None, number: int | None) -> bool:
    """Whether a layer or expert is the one, or in the stretch, that is asked for."""
    if not isinstance(place, slice):
        return place in (None, number)
    last = math.inf if place.stop is None else place.stop
    return number is not None and (place.start or 0) <= number < last


def _whole(place: Place | None) -> int | None:
    return place if isinstance(place, int) else None


def said(place: Place) -> str:
    """A number or a stretch as it is written, `3` or `2:5`."""
    if isinstance(place, int):
        return str(place)
    first, last = ("" if end is None else str(end) for end in (place.start, place.stop))
    return f"{first}:{last}"
