"""Going back: what the objects of a namespace held, remembered by identity and put back in place.

A deep copy would tear apart what belongs together (a view and its array, a machine and the recorder inside
it). So a snapshot walks every object that the names lead to, keeps each one's *contents*, and `restore`
writes them back into the same objects: `back` is instant, and nothing that held on to them notices.

Arrays under 8 MiB are copied. A larger one is kept as a checksum: if it is still what it was, it stays, and
otherwise `restore` says no and the player runs the cells again. The same holds for what cannot be looked
into (a generator, an open file).

Does: dicts, lists, sets, arrays, random generators, objects with attributes. Does not: files on the disk.

    >>> import numpy as np
    >>> names = {"x": np.zeros(3), "rows": [1]}
    >>> before = Snapshot(names)
    >>> names["x"][1:] += 5; names["rows"].append(2); names["new"] = 0
    >>> before.restore(names), names
    (True, {'x': array([0., 0., 0.]), 'rows': [1]})

Next: minidsv3.learn.player
"""

import builtins
import enum
import re
import types
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any

import numpy as np

__all__ = ["LARGE", "Snapshot"]

LARGE = 8 * 2**20  # bytes; arrays from this size on are checked, not copied

ATOMS = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice, type, enum.Enum, PurePath, re.Pattern),
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, np.generic),
    *(np.dtype, np.ufunc, types.EllipsisType, types.NotImplementedType, types.GenericAlias, property),
    *(staticmethod, classmethod),
)
CONTAINERS = (np.ndarray, dict, list, set, tuple, frozenset, types.MappingProxyType, np.random.Generator)


class Snapshot:
    """The state of everything that a namespace leads to."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._undo: list[Callable[[], None]] = []
        self._unchanged: list[Callable[[], bool]] = []
        self._seen: dict[int, Any] = {id(vars(builtins)): None}  # id -> object, held so that ids stay valid
        pending: list[Any] = [namespace]
        while pending:
            found = pending.pop()
            if isinstance(found, ATOMS) or id(found) in self._seen:
                continue
            self._seen[id(found)] = found
            pending.extend(self._remember(found))

    def restore(self, namespace: dict[str, Any]) -> bool:
        """Put everything back; False, and nothing touched, if that is not possible."""
        if id(namespace) not in self._seen or not all(same() for same in self._unchanged):
            return False
        for undo in self._undo:
            undo()
        return True

    def _remember(self, found: Any) -> Iterator[Any]:
        """Keep the contents of one object; yields what it leads to."""
        match found:
            case np.ndarray():
                yield from self._remember_array(found)
            case dict():
                kept = dict(found)
                self._undo.append(lambda: _refill(found, kept))
                yield from kept.values()
            case list():
                items = list(found)
                self._undo.append(lambda: list.__setitem__(found, slice(None), items))
                yield from items
            case set():
                members = set(found)
                self._undo.append(lambda: _refill_set(found, members))
            case tuple() | frozenset():
                yield from found
            case types.MappingProxyType():
                yield from found.values()
            case np.random.Generator():
                bits = found.bit_generator
                state = bits.state
                self._undo.append(lambda: setattr(bits, "state", state))
        yield from self._remember_attributes(found)

    def _remember_array(self, array: np.ndarray[Any, Any]) -> Iterator[Any]:
        if array.base is not None:  # a view: what it shows belongs to its base
            yield array.base
        elif array.nbytes < LARGE and array.dtype != object:
            copy = array.copy()
            self._undo.append(lambda: _write(array, copy))
        else:
            before = _checksum(array)
            self._unchanged.append(lambda: _checksum(array) == before)

    def _remember_attributes(self, found: Any) -> Iterator[Any]:
        known = isinstance(found, CONTAINERS)
        if hasattr(found, "__dict__"):
            yield vars(found)
        elif slots := _slots(found):
            yield from slots.values()
            self._undo.append(lambda: _set_slots(found, slots))
        elif not known:
            self._unchanged.append(lambda: False)  # opaque: who knows what it holds


def _slots(found: Any) -> dict[str, Any]:
    """Values of an object without a `__dict__`, by slot."""
    names = [name for cls in type(found).__mro__ for name in getattr(cls, "__slots__", ())]
    return {name: getattr(found, name) for name in names if hasattr(found, name)}


def _refill(found: dict[Any, Any], kept: dict[Any, Any]) -> None:
    """Put a dict back without its ever being empty: someone may be reading it."""
    for name in found.keys() - kept.keys():
        dict.__delitem__(found, name)
    dict.update(found, kept)


def _refill_set(found: set[Any], kept: set[Any]) -> None:
    found.intersection_update(kept)
    found.update(kept)


def _set_slots(found: Any, slots: dict[str, Any]) -> None:
    for name, value in slots.items():
        object.__setattr__(found, name, value)


def _write(array: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> None:
    """Write values into an array, read-only ones included (those have not changed)."""
    if array.flags.writeable:
        array[...] = values


def _checksum(array: np.ndarray[Any, Any]) -> int:
    return hash(array.tobytes()) if array.dtype == object else zlib.crc32(np.ascontiguousarray(array).data)
