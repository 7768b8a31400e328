"""The smallest input that still fails: fewer elements first, then rounder numbers.

An axis is cut in all arrays that have it; arrays become zeros where that still fails, and elements 0, 1, or
whole numbers, the smallest of them found by halving. Every candidate stays within the ranges that were drawn
from, so a counterexample is always a legal input.

Does: propose, keep what fails, within a time. Does not: know what failing means.

    >>> space = Space({"x": ("N",)}, {"N": 1}, {"x": (-100.0, 100.0)})
    >>> start = {"x": np.array([3.5, 95.25, -7], "f")}
    >>> shrunk(start, space, lambda found: bool((found["x"] > 88.7).any()), seconds=1.0)
    {'x': array([89.], dtype=float32)}

Next: minidsv3.learn.strategies
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Inputs", "Range", "Space", "shrunk"]

Inputs = dict[str, np.ndarray[Any, Any]]
Range = tuple[float, float] | tuple[float, float, str]
DIGITS = (0, 1, 2)  # after the point, of rounder numbers


class Space(NamedTuple):
    """Where inputs are from."""

    axes: Mapping[str, tuple[str, ...]]  # of each input
    least: Mapping[str, int]  # elements of an axis
    ranges: Mapping[str, Range]  # low, high, and the dtype if it is not float32


def shrunk(inputs: Inputs, space: Space, fails: Callable[[Inputs], bool], seconds: float) -> Inputs:
    """The smallest input found in that time, or until nothing smaller fails; `inputs` has to fail."""
    until, best, before = monotonic() + seconds, inputs, None
    while before is not best and monotonic() < until:
        before = best
        for smaller in (_cut, _emptied, _rounder):
            best = smaller(best, space, lambda found: monotonic() < until and fails(found))
    return best


Fails = Callable[[Inputs], bool]


def _cut(inputs: Inputs, space: Space, fails: Fails) -> Inputs:
    """Shorter axes, the shortest first."""
    for axis, least in space.least.items():
        done = False
        while not done:
            found = next((cut for cut in _cuts(inputs, space, axis, least) if fails(cut)), None)
            inputs, done = found or inputs, found is None
    return inputs


def _cuts(inputs: Inputs, space: Space, axis: str, least: int) -> Iterator[Inputs]:
    """One axis at its shortest, halved, and without each of its places."""
    size = next(inputs[n].shape[axes.index(axis)] for n, axes in space.axes.items() if axis in axes)
    for count in dict.fromkeys((least, size // 2)):
        if least <= count < size:
            yield _taken(inputs, space, axis, list(range(count)))
            yield _taken(inputs, space, axis, list(range(size - count, size)))
    for dropped in range(size if size > least else 0):
        yield _taken(inputs, space, axis, [i for i in range(size) if i != dropped])


def _taken(inputs: Inputs, space: Space, axis: str, places: list[int]) -> Inputs:
    """Some places of an axis, in every array that has it, as often as it has it."""
    found = {}
    for name, array in inputs.items():
        for number, other in enumerate(space.axes[name]):
            array = array.take(places, number) if other == axis else array
        found[name] = array
    return found


def _emptied(inputs: Inputs, space: Space, fails: Fails) -> Inputs:
    """Arrays of the simplest number alone."""
    for name, array in inputs.items():
        candidate = {**inputs, name: np.full_like(array, _within(0, space.ranges[name]))}
        if (candidate[name] != array).any() and fails(candidate):
            inputs = candidate
    return inputs


def _rounder(inputs: Inputs, space: Space, fails: Fails) -> Inputs:
    """Elements one after the other, each as simple as it can be."""
    for name in inputs:
        for at in np.ndindex(inputs[name].shape):
            put, value = partial(_put, inputs, name, at), inputs[name][at].item()
            simpler = _simplest(value, space.ranges[name], partial(_then, put, fails))
            inputs = put(simpler) if simpler != value else inputs
    return inputs


def _put(inputs: Inputs, name: str, at: tuple[int, ...], value: float) -> Inputs:
    """The inputs with one element changed."""
    array = inputs[name].copy()
    array[at] = value
    return {**inputs, name: array}


def _then(put: Callable[[float], Inputs], fails: Fails, value: float) -> bool:
    return fails(put(value))


def _simplest(value: float, limits: Range, fails: Callable[[float], bool]) -> float:
    """The simplest number in place of this one that still fails."""
    sign = -1 if value < 0 else 1
    for other in (0, 1, sign, *(round(value, digits) for digits in DIGITS)):
        if other == _within(other, limits) and _weight(other) < _weight(value) and fails(other):
            value = other
            break
    if value != int(value):
        return value
    passes, failing = 0, abs(int(value))  # by halving, if it fails from some number on
    while failing - passes > 1:
        middle = (passes + failing) // 2
        if sign * middle == _within(sign * middle, limits) and fails(sign * middle):
            failing = middle
        else:
            passes = middle
    return sign * failing


def _weight(value: float) -> tuple[int, float, bool]:
    """How much there is to read: digits behind the point, size, sign."""
    digits = next((n for n in DIGITS if round(value, n) == value), len(DIGITS))
    return digits, abs(value), value < 0


def _within(value: float, limits: Range) -> float:
    return min(max(value, limits[0]), limits[1])
