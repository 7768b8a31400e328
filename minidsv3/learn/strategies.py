"""How the inputs of a property are drawn: arrays whose shapes fit a signature of the op catalogue.

    arrays("T T", scores=(-100, 100))                # one float32 array, its two axes equal
    operands("mla.kv_down", h=(-4, 4), W=(-1, 1))    # shapes from the op's own signature
    arrays("E", ids=(0, 7, "int64"))                 # another dtype
    arrays("T K, K N", at_most={"K": 64}, at_least={"K": 16}, a=(-1, 1), b=(-1, 1))

Axes are small by construction, so that a counterexample can be read, and tried from small to large; `larger`
widens them for hidden runs. Draws depend on the seed alone: a counterexample comes back until it is fixed.

Does: strategies and lists of drawn inputs. Does not: judge (`properties`), shrink (`falsify`).

    >>> first, *_ = operands("mla.kv_down", h=(-4, 4), W=(-1, 1)).rounds()
    >>> {name: array.shape for name, array in first.drawn()[-1].items()}
    {'h': (1, 1), 'W': (1, 1)}

Next: minidsv3.learn.properties
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minidsv3.machine import look_up
from minidsv3.machine.signature import Signature

__all__ = ["PROFILE", "Draws", "Round", "arrays", "operands"]

Array = np.ndarray[Any, Any]
Inputs = dict[str, Array]
Range = tuple[float, float] | tuple[float, float, str]
Sizes = dict[str, int]
ROUNDS = (1, 20), (2, 40), (None, 50)  # elements of an axis at most, inputs tried
AT_MOST = 4  # elements of an axis, if nothing else is said

PROFILE = settings(
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=False,
    max_examples=100,
    report_multiple_bugs=False,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


class Round:
    """Inputs of one size: their strategy, how many are tried, those drawn so far."""

    def __init__(self, strategy: st.SearchStrategy[Inputs], count: int) -> None:
        self.strategy, self.count = strategy, count
        self._known: dict[int, list[Inputs]] = {}

    def drawn(self, seed: int = 0) -> list[Inputs]:
        """Different inputs, the simplest first; the same for the same seed, and drawn once."""
        if seed not in self._known:
            found: list[Inputs] = []

            @seeded(seed)
            @settings(PROFILE, max_examples=self.count, phases=(Phase.generate,))
            @given(self.strategy)
            def draw(inputs: Inputs) -> None:
                found.append(inputs)

            draw()
            self._known[seed] = found
        return self._known[seed]


class Draws:
    """Inputs of a property, in rounds from small to large: what fails is then small from the start."""

    def __init__(self, least: Sizes, most: Sizes, make: Callable[[Sizes], st.SearchStrategy[Inputs]]) -> None:
        self._least, self._most, self._make = least, most, make
        self._known: dict[int, list[Round]] = {}

    def map(self, change: Callable[[Inputs], Inputs]) -> "Draws":
        """The same draws, each changed, such as floats rounded to a format."""
        return Draws(self._least, self._most, lambda sizes: self._make(sizes).map(change))

    def rounds(self, larger: int = 0) -> list[Round]:
        """Rounds of axes up to 1, up to 2, and up to their own sizes and `larger` more."""
        if larger not in self._known:
            sizes: list[Sizes] = []
            for cap, _ in ROUNDS:
                caps = {axis: min(most + larger, cap or most + larger) for axis, most in self._most.items()}
                sizes.append({axis: max(cap, self._least[axis]) for axis, cap in caps.items()})
            tried = [
                (size, n) for i, (size, (_, n)) in enumerate(zip(sizes, ROUNDS)) if size not in sizes[i + 1 :]
            ]
            self._known[larger] = [Round(self._make(size), count) for size, count in tried]
        return self._known[larger]


def arrays(
    signature: str,
    at_most: int | Mapping[str, int] = AT_MOST,
    at_least: int | Mapping[str, int] = 1,
    **ranges: Range,
) -> Draws:
    """Arrays whose shapes fit a signature.

    signature: an operand for each name, `"T D, R D"`; an operand without axes is a scalar
    at_most, at_least: the size of an axis, of all or by name
    ranges: name=(low, high), float32, or name=(low, high, dtype)
    """
    shapes = Signature.parse(signature if "->" in signature else f"{signature} ->").operands
    if len(shapes) != len(ranges):
        raise ValueError(f"expected {len(shapes)} ranges for {signature!r}, got {', '.join(ranges)}")
    axes = list(dict.fromkeys(axis for shape in shapes for axis in shape))
    most = {axis: _of_axis(at_most, axis, AT_MOST) for axis in axes}
    least = {axis: _of_axis(at_least, axis, 1) for axis in axes}

    def make(largest: Sizes) -> st.SearchStrategy[Inputs]:
        @st.composite
        def drawn(draw: st.DrawFn) -> Inputs:
            sizes = {axis: draw(st.integers(least[axis], largest[axis])) for axis in axes}
            named = zip(ranges.items(), shapes, strict=True)
            return {
                name: draw(_array(tuple(sizes[axis] for axis in shape), *limits))
                for (name, limits), shape in named
            }

        return drawn()

    return Draws(least, most, make)


def operands(op: str, at_most: int | Mapping[str, int] = AT_MOST, **ranges: Range) -> Draws:
    """The operands of an op of the catalogue, named as the student's parameters are, in the op's order."""
    return arrays(str(look_up(op).signature), at_most, **ranges)


def _of_axis(sizes: int | Mapping[str, int], axis: str, otherwise: int) -> int:
    return sizes if isinstance(sizes, int) else sizes.get(axis, otherwise)


@lru_cache(maxsize=1024)
def _array(shape: tuple[int, ...], low: float, high: float, dtype: str = "float32") -> Any:
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        return hnp.arrays(kind, shape, elements=st.integers(int(low), int(high)))
    if kind.kind == "b":
        return hnp.arrays(kind, shape)
    return hnp.arrays(kind, shape, elements=st.floats(low, high, width=8 * kind.itemsize))  # type: ignore[arg-type]
