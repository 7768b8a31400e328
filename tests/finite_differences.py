"""Central differences in float64: a backward against its forward, along drawn directions.

Four points a slope: the error falls with the fourth power of the step, which RMSNorm needs, whose slope turns
within its epsilon's root, 1e-3, of a short vector.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import assume
from numpy.typing import NDArray

Array = NDArray[Any]
STEP = 1e-5
RELATIVE = 1e-6


class Run(NamedTuple):
    """One forward."""

    outputs: Sequence[Array]
    saved: Any
    extra: float = 0.0  # a part of the loss whose gradient the backward adds by itself
    choices: Sequence[Array] = ()  # what is discrete; a step across a change of it has no derivative


class Pair(NamedTuple):
    """A forward and its backward over some leaves, which the check moves in place."""

    leaves: Sequence[Array]
    forward: Callable[[], Run]
    backward: Callable[[Sequence[Array], Any], Sequence[Array]]  # gradients of outputs, saved -> of leaves


def flat(tree: Any) -> list[Array]:
    """The arrays of nested tuples, in order; None is skipped."""
    if tree is None:
        return []
    return [leaf for part in tree for leaf in flat(part)] if isinstance(tree, tuple) else [tree]


def check(pair: Pair, rng: np.random.Generator) -> None:
    """Along the gradient itself and along a random direction, for each leaf by itself."""
    run = pair.forward()
    projection = [rng.normal(size=np.shape(output)) for output in run.outputs]

    def loss(at: Run) -> float:
        return at.extra + sum(float(np.sum(c * y)) for c, y in zip(projection, at.outputs, strict=True))

    def moved(leaf: Array, direction: Array) -> float:
        before = leaf.copy()
        leaf += direction
        after = pair.forward()
        leaf[...] = before
        assume(all(np.array_equal(a, b) for a, b in zip(run.choices, after.choices, strict=True)))
        return loss(after)

    size = max(abs(loss(run)), 1.0)
    gradients = pair.backward([c.copy() for c in projection], run.saved)
    assert len(gradients) == len(pair.leaves)
    for i, (leaf, gradient) in enumerate(zip(pair.leaves, gradients, strict=True)):
        assert gradient.shape == leaf.shape, f"leaf {i}: gradient {gradient.shape} of {leaf.shape}"
        assert np.isfinite(gradient).all(), f"leaf {i}"
        norm = float(np.linalg.norm(gradient))
        wild = rng.normal(size=leaf.shape)
        directions = [wild / np.linalg.norm(wild)] + ([gradient / norm] if norm > 1e-12 else [])
        for direction in directions:
            near, far = (
                moved(leaf, n * STEP * direction) - moved(leaf, -n * STEP * direction) for n in (1, 2)
            )
            slope = (8 * near - far) / (12 * STEP)
            expected = float(np.sum(gradient * direction))
            # the last term is rounding: losses of this size have no more digits
            allowed = RELATIVE * norm + 4e-15 * size / STEP
            assert abs(slope - expected) <= allowed, f"leaf {i} {leaf.shape}: {slope} differs from {expected}"
