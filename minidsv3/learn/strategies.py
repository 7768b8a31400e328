"""How the inputs of a property are drawn: arrays whose shapes fit a signature of the op catalogue.

    arrays("T T", scores=(-100, 100))                # one float32 array, its two axes equal
    operands("mla.kv_down", h=(-4, 4), W=(-1, 1))    # shapes from the op's own signature
    arrays("E", ids=(0, 7, "int64"))                 # another dtype
    arrays("T K, K N", at_most={"K": 64}, at_least={"K": 16}, a=(-1, 1), b=(-1, 1))

Axes are small by construction, so that a counterexample can be read; `larger` widens them for hidden runs.
Draws depend on the seed alone: a counterexample comes back until it is fixed.

Does: strategies and lists of drawn inputs. Does not: judge (`properties`), shrink (`falsify`).

    >>> [drawn] = drawn_inputs(operands("mla.kv_down", h=(-4, 4), W=(-1, 1)), count=1)
    >>> drawn["h"].shape[1] == drawn["W"].shape[1]
    True

Next: minidsv3.learn.properties
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minidsv3.machine import look_up
from minidsv3.machine.signature import Signature

__all__ = ["PROFILE", "Draws", "arrays", "drawn_inputs", "operands"]

Array = np.ndarray[Any, Any]
Inputs = dict[str, Array]
Range = tuple[float, float] | tuple[float, float, str]
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


class Draws:
    """Inputs of a property: `strategy(larger)`, with axes up to `larger` elements longer."""

    def __init__(self, make: Callable[[int], st.SearchStrategy[Inputs]]) -> None:
        self.strategy = make
        self.known: dict[tuple[int, int, int], list[Inputs]] = {}  # by seed, larger, count


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

    def make(larger: int) -> st.SearchStrategy[Inputs]:
        @st.composite
        def drawn(draw: st.DrawFn) -> Inputs:
            sizes = {axis: draw(st.integers(least[axis], most[axis] + larger)) for axis in axes}
            named = zip(ranges.items(), shapes, strict=True)
            return {
                name: draw(_array(tuple(sizes[axis] for axis in shape), *limits))
                for (name, limits), shape in named
            }

        return drawn()

    return Draws(make)


def operands(op: str, at_most: int | Mapping[str, int] = AT_MOST, **ranges: Range) -> Draws:
    """The operands of an op of the catalogue, named as the student's parameters are, in the op's order."""
    return arrays(str(look_up(op).signature), at_most, **ranges)


def drawn_inputs(draws: Draws, seed: int = 0, larger: int = 0, count: int = 100) -> list[Inputs]:
    """Up to `count` different inputs, the simplest first; the same for the same seed, and drawn once."""
    if (seed, larger, count) not in draws.known:
        found: list[Inputs] = []

        @seeded(seed)
        @settings(PROFILE, max_examples=count, phases=(Phase.generate,))
        @given(draws.strategy(larger))
        def draw(inputs: Inputs) -> None:
            found.append(inputs)

        draw()
        draws.known[seed, larger, count] = found
    return draws.known[seed, larger, count]


def _of_axis(sizes: int | Mapping[str, int], axis: str, otherwise: int) -> int:
    return sizes if isinstance(sizes, int) else sizes.get(axis, otherwise)


def _array(shape: tuple[int, ...], low: float, high: float, dtype: str = "float32") -> Any:
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        return hnp.arrays(kind, shape, elements=st.integers(int(low), int(high)))
    if kind.kind == "b":
        return hnp.arrays(kind, shape)
    return hnp.arrays(kind, shape, elements=st.floats(low, high, width=8 * kind.itemsize))  # type: ignore[arg-type]
