"""Weights whose rows come in blocks when they are asked for: matrices that need not fit in memory.

A `RowBlocks` has the shape of a matrix and holds none of its numbers; `block(i)` lends some of its rows, for
as long as they are multiplied. Y = x W^T needs nothing more: the rows of a block are columns of Y. A `Stack`
is such a matrix for each expert. Blocks do not depend on one another, so that the source of the rows may run
them side by side.

Where a recipe rounds weights, `each` rounds every block as it is lent. No block reaches over the end of a
part (gate and up stand in one matrix, and are scaled apart), and inside a part blocks start at multiples of
`step`: FP8's squares of numbers that share a scale are then the same as in the whole matrix.

Does: products, and rows picked by number. Does not: read, cache, go backward.

    >>> W = np.arange(8.0).reshape(4, 2)
    >>> halves = RowBlocks(ArrayRows(W), W.shape, W.dtype, (slice(0, 2), slice(2, 4)))
    >>> linear(p.linear)(np.ones((1, 2)), halves)
    array([[ 1.,  5.,  9., 13.]])
    >>> halves[np.array([3, 3])]
    array([[6., 7.],
           [6., 7.]])

Next: minidsv3.machine.precision
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from minidsv3.machine import primitives as p

__all__ = ["IN_BLOCKS", "ArrayRows", "RowBlocks", "Rows", "Stack", "grouped_linear", "linear"]

Array = NDArray[Any]
Change = Callable[[Array], Array]


class Rows(Protocol):
    """Where the rows of a matrix come from."""

    def lend(self, span: slice) -> contextlib.AbstractContextManager[Array]:
        """Rows [n, D] of a block, which nobody may write to, or keep."""

    def gather(self, ids: NDArray[np.intp]) -> Array:
        """Rows by number.  [N]  ->  [N, D], the caller's own."""

    def run(self, work: Callable[[int], None], count: int) -> None:
        """work(0) … work(count - 1), in any order, some at the same time."""


class ArrayRows(NamedTuple):
    """Rows of a matrix that is in memory."""

    W: Array  # [R, D]

    def lend(self, span: slice) -> contextlib.AbstractContextManager[Array]:
        """See `Rows`."""
        return contextlib.nullcontext(self.W[span])

    def gather(self, ids: NDArray[np.intp]) -> Array:
        """See `Rows`."""
        rows: Array = self.W[ids]
        return rows

    def run(self, work: Callable[[int], None], count: int) -> None:
        """See `Rows`."""
        for i in range(count):
            work(i)


@dataclass(frozen=True)
class RowBlocks:
    """A matrix [R, D], or [H, R, D] standing for [H R, D], of which blocks of rows are in memory.

    spans: rows of each block  step: a multiple of it is where a block starts within its part
    format: of the numbers as they are stored, as in `data/formats.toml`, and what of them shares a scale.
    """

    rows: Rows
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    spans: tuple[slice, ...]
    step: int = 1
    format: tuple[str, tuple[int, int] | None] | None = None
    change: Change | None = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    @contextlib.contextmanager
    def block(self, i: int) -> Iterator[Array]:
        """Lend block i, rows `spans[i]`: [n, D]. Not to be written to, nor kept."""
        with self.rows.lend(self.spans[i]) as rows:
            yield rows if self.change is None else self.change(rows)

    def each(self, change: Change) -> "RowBlocks":
        """The matrix with `change`, which keeps shapes, made to every block as it is lent."""
        own = self.change
        return replace(self, change=change if own is None else lambda rows: change(own(rows)))

    def reshape(self, *shape: int) -> "RowBlocks":
        """The same rows, counted otherwise; ValueError where a row would be cut."""
        known = -math.prod(shape) if -1 in shape else 1
        sized = tuple(math.prod(self.shape) // known if n == -1 else n for n in shape)
        if math.prod(sized) != math.prod(self.shape) or sized[-1] != self.shape[-1]:
            raise ValueError(f"expected rows of {self.shape[-1]} numbers as in {self.shape}, got {shape}")
        return replace(self, shape=sized)

    def whole(self) -> Array:
        """All rows as one array, the caller's own."""
        out = np.empty((math.prod(self.shape[:-1]), self.shape[-1]), self.dtype)

        def copy(i: int) -> None:
            with self.block(i) as rows:
                out[self.spans[i]] = rows

        self.rows.run(copy, len(self.spans))
        return out.reshape(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.whole() if dtype is None else self.whole().astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> Array:
        """Rows by number, reading no others; any other index reads the whole."""
        if (
            self.ndim == 2
            and self.change is None
            and isinstance(index, np.ndarray)
            and index.dtype.kind == "i"
        ):
            return self.rows.gather(index)
        part: Array = self.whole()[index]
        return part


@dataclass(frozen=True)
class Stack:
    """A matrix for each expert, [E, R, D]; `stack[e]` is made when it is asked for."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    make: Callable[[int], RowBlocks | Array]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, expert: int) -> RowBlocks | Array:
        if not 0 <= expert < len(self):
            raise IndexError(f"expected an expert 0 .. {len(self) - 1}, got {expert}")
        return self.make(expert)

    def then(self, change: Callable[[RowBlocks | Array], RowBlocks | Array]) -> "Stack":
        """The stack with `change` made to every matrix that is asked for."""
        make = self.make
        return replace(self, make=lambda expert: change(make(expert)))


Linear = Callable[..., Array]


def linear(function: Linear) -> Linear:
    """`primitives.linear` that also takes a matrix in blocks."""
    return partial(_linear, function)


def _linear(
    function: Linear, x: Array, W: Array | RowBlocks, at: str = "", out: Array | None = None
) -> Array:
    if not isinstance(W, RowBlocks):
        return function(x, W, at, out)
    y = np.empty((len(x), len(W)), x.dtype) if out is None else out  # [N, R]

    def product(i: int) -> None:
        with W.block(i) as rows:
            function(x, rows, at, y[:, W.spans[i]])

    W.rows.run(product, len(W.spans))
    return y


def grouped_linear(function: Linear) -> Linear:
    """`primitives.grouped_linear` that also takes a stack; of experts without rows nothing is read."""
    return partial(_grouped_linear, function)


def _grouped_linear(function: Linear, x: Array, W: Array | Stack, bounds: list[int], at: str = "") -> Array:
    if not isinstance(W, Stack):
        return function(x, W, bounds, at)
    y = np.empty((len(x), W.shape[1]), x.dtype)  # [P, R]
    for e, (start, stop) in enumerate(pairwise(bounds)):
        if start < stop:
            _linear(p.linear, x[start:stop], W[e], at, y[start:stop])
    return y


IN_BLOCKS = {"linear": linear, "grouped_linear": grouped_linear}
