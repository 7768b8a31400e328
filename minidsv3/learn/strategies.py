"""How the inputs of a property are drawn: arrays whose shapes fit a signature of the op catalogue.

    arrays("T T", scores=(-100, 100))                # one float32 array, its two axes equal
    operands("mla.kv_down", h=(-4, 4), W=(-1, 1))    # shapes from the op's own signature
    arrays("E", ids=(0, 7, "int64"))                 # another dtype
    arrays("T K, K N", at_most={"K": 64}, at_least={"K": 16}, a=(-1, 1), b=(-1, 1))

Axes are small by construction, so that a counterexample can be read, and tried from small to large; `larger`
widens them for hidden runs. Draws depend on the seed alone: a counterexample comes back until it is fixed.

Does: strategies and lists of drawn inputs. Does not: judge (`properties`), or make them smaller (`shrink`).

    >>> first, *_ = operands("mla.kv_down", h=(-4, 4), W=(-1, 1)).rounds()
    >>> {name: array.shape for name, array in first.drawn()[-1].items()}
    {'h': (1, 1), 'W': (1, 1)}

Next: minidsv3.learn.properties
"""

import contextlib
import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minidsv3.learn.shrink import Inputs, Range, Space
from minidsv3.machine import look_up
from minidsv3.machine.signature import Signature

__all__ = ["PROFILE", "Draws", "Round", "arrays", "operands"]

Sizes = dict[str, int]
ROUNDS = (1, 20), (2, 40), (None, 50)  # elements of an axis at most, inputs tried
MOST_DRAWN = 64  # elements of an array
AT_MOST = 4  # elements of an axis, if nothing else is said
DRAWING = threading.Lock()  # one draw at a time

PROFILE = settings(
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=False,
    phases=(Phase.generate,),
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
            @settings(PROFILE, max_examples=self.count)
            @given(self.strategy)
            def draw(inputs: Inputs) -> None:
                found.append(inputs)

            with _no_numbers_of_modules():
                draw()
            self._known[seed] = found
        return self._known[seed]


@contextlib.contextmanager
def _no_numbers_of_modules() -> Iterator[None]:
    """Within this, nothing drawn depends on what is imported, and no folder `.hypothesis` is made.

    Hypothesis mixes in the numbers that it reads in the sources of all modules outside of site-packages.
    Versions that do not are left as they are.
    """
    providers: Any = sys.modules.get("hypothesis.internal.conjecture.providers")
    if not hasattr(providers, "_get_local_constants"):
        yield
        return
    with DRAWING:
        read, none = providers._get_local_constants, providers.Constants()
        providers._get_local_constants = lambda: none
        providers.CONSTANTS_CACHE.cache.clear()
        try:
            yield
        finally:
            providers._get_local_constants = read
            providers.CONSTANTS_CACHE.cache.clear()


class Draws:
    """Inputs of a property, in rounds from small to large: what fails is then small from the start."""

    def __init__(self, space: Space, most: Sizes, change: Callable[[Inputs], Inputs] = dict) -> None:
        self.space, self.change = space, change
        self._most = most
        self._known: dict[int, list[Round]] = {}

    def map(self, change: Callable[[Inputs], Inputs]) -> "Draws":
        """The same draws, each changed before a judge sees it, such as codes to the numbers of a format."""
        return Draws(self.space, self._most, lambda inputs: change(self.change(inputs)))

    def rounds(self, larger: int = 0) -> list[Round]:
        """Rounds of axes up to 1, up to 2, and up to their own sizes and `larger` more."""
        if larger not in self._known:
            full, least = {axis: most + larger for axis, most in self._most.items()}, self.space.least
            tried: dict[tuple[int, ...], int] = {}
            for cap, count in ROUNDS:
                sizes = [max(min(most, cap or most), least[axis]) for axis, most in full.items()]
                tried[tuple(sizes)] = max(count, tried.get(tuple(sizes), 0))
            self._known[larger] = [
                Round(_drawing(self.space, dict(zip(full, sizes, strict=True))), count)
                for sizes, count in tried.items()
            ]
        return self._known[larger]

    def draw(self, seed: int = 0, larger: int = 0) -> None:
        """Draw what a search will try first, ahead of it."""
        for part in self.rounds(larger)[:-1]:  # most mistakes show in small ones
            part.drawn(seed)


def _drawing(space: Space, most: Sizes) -> st.SearchStrategy[Inputs]:
    """Arrays of a space with axes of at most these sizes."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Inputs:
        sizes = {axis: draw(st.integers(least, most[axis])) for axis, least in space.least.items()}
        shapes = {name: tuple(sizes[axis] for axis in axes) for name, axes in space.axes.items()}
        return {name: draw(_array(shape, *space.ranges[name])) for name, shape in shapes.items()}

    return drawn()


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
    least = {axis: _of_axis(at_least, axis, 1) for axis in axes}
    most = {axis: max(_of_axis(at_most, axis, AT_MOST), least[axis]) for axis in axes}
    return Draws(Space(dict(zip(ranges, shapes, strict=True)), least, ranges), most)


def operands(op: str, at_most: int | Mapping[str, int] = AT_MOST, **ranges: Range) -> Draws:
    """The operands of an op of the catalogue, named as the student's parameters are, in the op's order."""
    return arrays(str(look_up(op).signature), at_most, 1, **ranges)


def _of_axis(sizes: int | Mapping[str, int], axis: str, otherwise: int) -> int:
    return sizes if isinstance(sizes, int) else sizes.get(axis, otherwise)


@lru_cache(maxsize=1024)
def _array(shape: tuple[int, ...], low: float, high: float, dtype: str = "float32") -> Any:
    """Every element by itself, unless there are many: else most would be the same number."""
    kind = np.dtype(dtype)
    elements: st.SearchStrategy[Any] = st.booleans()
    if kind.kind in "iu":
        elements = st.integers(int(low), int(high))
    elif kind.kind == "f":
        elements = st.floats(low, high, width=8 * kind.itemsize)  # type: ignore[arg-type]
    fill = st.nothing() if math.prod(shape) <= MOST_DRAWN else None
    return hnp.arrays(kind, shape, elements=elements, fill=fill)
