"""Two machines in lock step over the ops that they share, and the first op at which they part.

Ops are the same if stage, phase, layer, expert and op are. Between two shared ops each machine may have some
of its own: FP8 has passes that put operands into tiles, naive and absorbed attention get from the query to
the output by other ways. Results that both have are compared number by number: how many differ, the largest
difference, that in terms of the largest number, and in units of the last place.

Does: align, compare, find the parting. Does not: say why they part.

    >>> difference(np.array([1.0, 2.0], "f"), np.array([1.0, 2.5], "f"))
    Difference(numbers=2, differing=1, absolute=0.5, relative=0.25, ulp=2097152.0, at=(1,), of=(2.0, 2.5))
    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.interpreter import Model
    >>> work = Pass(Model.initialise(ModelConfig.preset("nano"), seed=0), (1, 2, 3))
    >>> with Comparison(work, work.against("bf16")) as both:
    ...     found = both.first_parting()
    ...     found.one.op.id, found.difference.relative < 2**-8
    ('embed.tokens', True)

Next: minidsv3.learn.exercises
"""

import contextlib
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from minidsv3.learn.stepping import Pass, Stepper, Stop

__all__ = ["Comparison", "Difference", "Pair", "difference"]

Array = NDArray[Any]
AHEAD = 4096  # ops that one machine may have between two that both have


class Difference(NamedTuple):
    """Of two arrays of one shape."""

    numbers: int
    differing: int
    absolute: float  # the largest
    relative: float  # that, in terms of the largest number of the first
    ulp: (
        float  # the largest, in units of the last place of the larger of two numbers; whole numbers: absolute
    )
    at: tuple[int, ...]  # where
    of: tuple[float, float]  # the two numbers there


def difference(one: Array, other: Array) -> Difference:
    """Number by number; numbers that are not finite differ by infinity unless they are alike."""
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    alike = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.where(alike, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf, posinf=np.inf))
    if not apart.size:
        return Difference(0, 0, 0.0, 0.0, 0.0, (), (0.0, 0.0))
    at = np.unravel_index(int(apart.argmax()), apart.shape)
    largest, absolute = float(np.abs(np.where(np.isfinite(a), a, 0.0)).max()), float(apart[at])
    relative = absolute / largest if largest else (np.inf if absolute else 0.0)
    place = tuple(int(i) for i in at)
    differing = int((~alike).sum())
    return Difference(
        a.size, differing, absolute, relative, _ulp(one, other, apart), place, (float(a[at]), float(b[at]))
    )


def _ulp(one: Array, other: Array, apart: Array) -> float:
    """The largest difference in units of the last place."""
    if one.dtype.kind != "f" or not apart.any():
        return float(apart.max())
    larger = np.maximum(np.abs(one), np.abs(other))
    larger = np.where(np.isfinite(larger), larger, 0).astype(one.dtype)
    return float((apart / np.spacing(larger)).max())


@dataclass(frozen=True)
class Pair:
    """An op that both machines have."""

    one: Stop
    other: Stop
    difference: Difference | None  # None: their results have other shapes, or there is none
    parted: bool  # by more than the tolerance
    only_one: tuple[str, ...] = ()  # ops in front that the first machine alone has
    only_other: tuple[str, ...] = ()


class Comparison:
    """Two passes, side by side.

    tolerance: relative; results further apart than that have parted (0: any bit). Whole numbers part when one
    of them differs.
    """

    def __init__(self, one: Pass, other: Pass, tolerance: float = 0.0) -> None:
        if not tolerance >= 0:
            raise ValueError(f"expected a tolerance >= 0, got {tolerance}")
        self.tolerance, self.pairs = tolerance, list[Pair]()
        self._open = contextlib.ExitStack()
        self.one = self._open.enter_context(Stepper(one))
        self.other = self._open.enter_context(Stepper(other))
        self._ahead: tuple[list[Stop], list[Stop]] = ([], [])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End both passes."""
        self._open.close()

    def advance(self) -> Pair | None:
        """The next op that both have; None when there is none any more."""
        found = self._match()
        if found is None:
            return None
        mine, others = self._ahead
        i, j = found
        only = tuple(tuple(dict.fromkeys(stop.op.id for stop in side)) for side in (mine[:i], others[:j]))
        pair = self._pair(mine[i], others[j], only[0], only[1])
        del mine[: i + 1], others[: j + 1]
        self.pairs.append(pair)
        return pair

    def next_parting(self) -> Pair | None:
        """The next op at which they differ by more than the tolerance; None if they go on together."""
        while (pair := self.advance()) is not None:
            if pair.parted:
                return pair
        return None

    def first_parting(self) -> Pair | None:
        """The first of all; runs on if there was none so far."""
        return next((pair for pair in self.pairs if pair.parted), None) or self.next_parting()

    def _match(self) -> tuple[int, int] | None:
        """Where the nearest shared op is among the stops ahead, which are fetched as they are needed."""
        mine, others = self._ahead
        where: tuple[dict[Any, int], dict[Any, int]] = ({}, {})
        for n in range(AHEAD):
            more = [
                self._fetch(stepper, side, n) for stepper, side in ((self.one, mine), (self.other, others))
            ]
            if not any(more):
                return None
            if more[0]:
                where[0].setdefault(mine[n].key, n)
                if mine[n].key in where[1]:
                    return n, where[1][mine[n].key]
            if more[1]:
                where[1].setdefault(others[n].key, n)
                if others[n].key in where[0]:
                    return where[0][others[n].key], n
        return None

    def _fetch(self, stepper: Stepper, side: list[Stop], n: int) -> bool:
        """Whether there is an n-th stop ahead."""
        if len(side) <= n and (stop := stepper.into()) is not None:
            side.append(stop)
        return len(side) > n

    def _pair(self, one: Stop, other: Stop, only_one: tuple[str, ...], only_other: tuple[str, ...]) -> Pair:
        a, b = self.one.values(one).result, self.other.values(other).result
        if a is None or b is None:
            return Pair(one, other, None, False, only_one, only_other)
        if a.shape != b.shape:
            return Pair(one, other, None, True, only_one, only_other)
        found = difference(a, b)
        apart = found.differing > 0 if a.dtype.kind in "iub" else found.relative > self.tolerance
        return Pair(one, other, found, apart, only_one, only_other)
