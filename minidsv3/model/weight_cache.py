"""Pieces of weights that are in memory, within a budget: the least recently used goes first.

A piece (a block of rows, a small array) is made when it is first used, by whoever asks first; others who ask
for it meanwhile wait. What is in use stays. Before a new piece takes memory, old ones give theirs up, and a
piece of the same size moves into it: fresh pages would have to be found and cleared by the system.

The budget holds for all pieces together. Where a single one is larger, it is made all the same, and alone.

Does: lend, hold, count. Does not: know what a piece is.

    >>> cache = WeightCache(budget=24)
    >>> for name in "abca":
    ...     with cache.lend(name, (2,), np.float32, lambda rows: rows.fill(1)) as rows:
    ...         total = rows.sum()
    >>> cache.keys(), cache.ledger.hits, cache.ledger.evictions, cache.ledger.held
    (['b', 'c', 'a'], 1, 0, 24)
    >>> cache.hold("d", (4,), np.float32, lambda rows: rows.fill(2)).sum(), cache.keys()
    (np.float32(8.0), ['a', 'd'])

Next: minidsv3.model.mapped
"""

import contextlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Ledger", "WeightCache"]

Array = NDArray[Any]
Fill = Callable[[Array], object]
ROUND_UP = 0.75  # a piece at least so much of `room` takes all of it, so that it can be passed on


@dataclass
class Ledger:
    """What happened so far. Sizes in bytes; numbers as dequantised."""

    budget: int
    held: int = 0  # of pieces in memory
    peak: int = 0  # the most that was held
    units: int = 0  # pieces in memory
    hits: int = 0  # pieces asked for that were there
    misses: int = 0  # pieces that were not, and were made
    evictions: int = 0
    asked_numbers: int = 0  # in pieces asked for
    made_numbers: int = 0  # in pieces made
    bytes_read: int = 0  # from files

    @property
    def hit_rate(self) -> float:
        """Share of the numbers asked for that were in memory."""
        return 1 - self.made_numbers / self.asked_numbers if self.asked_numbers else 0.0

    def to_dict(self) -> dict[str, int | float]:
        """Plain values for JSON."""
        return asdict(self) | {"hit_rate": self.hit_rate}


@dataclass
class _Piece:
    memory: Array  # bytes
    array: Array  # its numbers
    passed_on: bool  # whether the memory may serve another piece: nobody has kept the array
    users: list[int] = field(default_factory=list)  # threads
    ready: bool = False
    failed: bool = False


class WeightCache:
    """Pieces by key.

    budget: bytes for all of them  room: bytes that a piece takes if it needs nearly as many.
    """

    def __init__(self, budget: int, room: int = 0) -> None:
        self.ledger, self._room = Ledger(budget), room
        self._pieces: OrderedDict[Hashable, _Piece] = OrderedDict()  # least recently used first
        self._changed = threading.Condition()

    def keys(self) -> list[Any]:
        """Of the pieces in memory, the least recently used first."""
        with self._changed:
            return list(self._pieces)

    @contextlib.contextmanager
    def lend(self, key: Hashable, shape: tuple[int, ...], dtype: DTypeLike, fill: Fill) -> Iterator[Array]:
        """A piece, for as long as the block runs. Not to be kept; within the block, nothing else is lent.

        fill: writes the numbers, called if they are not in memory.
        """
        piece = self._enter(key, shape, np.dtype(dtype), fill, passed_on=True)
        try:
            yield piece.array
        finally:
            self._leave(piece)

    def hold(self, key: Hashable, shape: tuple[int, ...], dtype: DTypeLike, fill: Fill) -> Array:
        """A piece that may be kept: it stays right when the cache lets it go; its memory is not reused."""
        piece = self._enter(key, shape, np.dtype(dtype), fill, passed_on=False)
        self._leave(piece)
        return piece.array

    def clear(self) -> None:
        """Let everything go that is not in use."""
        with self._changed:
            while (key := self._least_recent()) is not None:
                self._evict(key)

    # ---- a piece comes, is used, goes ----

    def _enter(
        self, key: Hashable, shape: tuple[int, ...], dtype: np.dtype[Any], fill: Fill, passed_on: bool
    ) -> _Piece:
        count, me = math.prod(shape), threading.get_ident()
        with self._changed:
            piece, found = self._find(key, shape, dtype, passed_on)
            piece.users.append(me)
            self.ledger.asked_numbers += count
            self.ledger.hits += found
            self.ledger.misses += not found
        if not found:
            try:
                fill(piece.array)
            except BaseException:
                self._fail(key, piece)
                raise
            with self._changed:
                piece.ready = True
                self.ledger.made_numbers += count
                self._changed.notify_all()
        return piece

    def _find(
        self, key: Hashable, shape: tuple[int, ...], dtype: np.dtype[Any], passed_on: bool
    ) -> tuple[_Piece, bool]:
        """The piece, and whether it was there; if not, one to be filled. Waits where it must."""
        need = self._size(math.prod(shape) * dtype.itemsize, passed_on)
        while True:
            piece = self._pieces.get(key)
            if piece is not None and piece.ready:
                self._pieces.move_to_end(key)
                return piece, True
            if piece is None and (memory := self._make_room(need)) is not None:
                array = memory[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
                piece = self._pieces[key] = _Piece(memory, array, passed_on)
                self.ledger.held += need
                self.ledger.units += 1
                self.ledger.peak = max(self.ledger.peak, self.ledger.held)
                return piece, False
            self._changed.wait()

    def _size(self, count: int, passed_on: bool) -> int:
        return self._room if passed_on and ROUND_UP * self._room <= count <= self._room else count

    def _make_room(self, need: int) -> Array | None:
        """Memory within the budget, given up by others or fresh; None while other threads use it all."""
        old: Array | None = None
        while self.ledger.held + need > self.ledger.budget:
            key = self._least_recent()
            if key is None:
                me = threading.get_ident()
                if any(user != me for piece in self._pieces.values() for user in piece.users):
                    return None
                break  # larger than the budget: alone
            old = None  # before another takes its place
            old = self._evict(key)
        return old if old is not None and old.nbytes == need else np.empty(need, np.uint8)

    def _least_recent(self) -> Hashable | None:
        return next((key for key, piece in self._pieces.items() if not piece.users), None)

    def _evict(self, key: Hashable) -> Array | None:
        """->  its memory, if that may serve another piece."""
        piece = self._pieces.pop(key)
        self.ledger.held -= piece.memory.nbytes
        self.ledger.units -= 1
        self.ledger.evictions += 1
        return piece.memory if piece.passed_on else None

    def _leave(self, piece: _Piece) -> None:
        with self._changed:
            piece.users.remove(threading.get_ident())
            self._changed.notify_all()

    def _fail(self, key: Hashable, piece: _Piece) -> None:
        with self._changed:
            del self._pieces[key]
            self.ledger.held -= piece.memory.nbytes
            self.ledger.units -= 1
            self._changed.notify_all()
