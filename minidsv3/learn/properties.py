"""Properties of an exercise: what a lesson's `check.py` says, in the order in which it makes sense.

    @prop("each row of the result sums to 1", arrays("T T", scores=(-100, 100)), stage="value", points=2)
    def rows_sum_to_one(softmax, scores):
        return close(softmax(scores).sum(axis=1), np.ones(len(scores)))

A judge is given a `Student` function for each parameter named like a function of the exercise, and drawn
inputs for the others. It returns None or a `Difference`. A student function answers with the plain value that
came back from the student's process; `fresh(softmax)` looks at its last call. Judging happens in our process.

Stages: shape, value, gradient, cost, in this order; a stage that failed ends the chain.

Does: compare, differentiate, count. Does not: search (`falsify`), run the chain (`checker`).

    >>> close(np.array([0.5, np.nan]), np.array([0.5, 1.0])).note
    'yours and the expected differ'

Next: minidsv3.learn.student
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from minidsv3.learn.sandbox.values import Other
from minidsv3.learn.score import Score
from minidsv3.learn.strategies import Draws, arrays, operands

__all__ = [
    "STAGES",
    "Difference",
    "Property",
    "Student",
    "arrays",
    "close",
    "cost",
    "fresh",
    "gradient",
    "like",
    "operands",
    "prop",
    "same_bits",
]

Array = np.ndarray[Any, Any]
Judge = Callable[..., "Difference | None"]
STAGES = ("shape", "value", "gradient", "cost")
NOT_EQUAL = "yours and the expected differ"
MOST_LESS = 10  # times less work than the solution's, which then was done where nothing counts
STEP = 1e-4  # of central differences, four points a slope: the error falls with its fourth power


@dataclass(frozen=True)
class Difference:
    """Why an answer is wrong."""

    note: str
    yours: Array | None = None
    expected: Array | None = None


@dataclass(frozen=True)
class Property:
    """One check of the chain."""

    name: str
    sentence: str
    inputs: Draws | None  # none: the judge is called once, with the student's functions alone
    judge: Judge
    stage: str = "value"
    points: float = 1


class Student(Protocol):
    """A function of the student's, in a process of its own: a call answers with the plain value."""

    name: str
    last: Any  # minidsv3.learn.sandbox.session.Answer of the last call: shares, changed, raised, work

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call it; what it raises ends the judge, and is the difference."""

    def score(self, inputs: Mapping[str, Any]) -> Score:
        """Counted work of one call, the student's and the lesson's solution's."""


def prop(
    sentence: str, inputs: Draws | None = None, *, stage: str = "value", points: float = 1
) -> Callable[[Judge], Property]:
    """Make a judge a property; its name is the function's, its stage "shape" if that is its name."""
    if stage not in STAGES:
        raise ValueError(f"expected a stage among {', '.join(STAGES)}, got {stage!r}")

    def made(judge: Judge) -> Property:
        at = judge.__name__ if judge.__name__ in STAGES else stage
        return Property(judge.__name__, sentence, inputs, judge, at, points)

    return made


# ---- values -----------------------------------------------------------------------------------------------


def like(yours: Any, expected: Array) -> Difference | None:
    """None if it is an array of the expected shape and dtype."""
    said = f"expected an array {list(expected.shape)} of {expected.dtype}, got "
    if type(yours) is not np.ndarray:
        return Difference(said + _kind(yours))
    if yours.shape != expected.shape or yours.dtype != expected.dtype:
        return Difference(said + f"{list(yours.shape)} of {yours.dtype}", yours)
    return None


def close(yours: Any, expected: Array, tolerance: float = 1e-5) -> Difference | None:
    """None if equal up to `tolerance` x (1 + size of the expected), NaN never being equal."""
    expected = np.asarray(expected)
    if not isinstance(yours, np.ndarray | np.generic) or yours.shape != expected.shape:
        return like(yours, expected) or Difference(NOT_EQUAL, np.asarray(yours), expected)
    if yours.dtype.kind not in "biuf":
        return like(yours, expected)
    with np.errstate(all="ignore"):
        off = np.abs(np.subtract(yours, expected, dtype=np.float64)) <= tolerance * (1 + np.abs(expected))
    return (
        None
        if bool((off | (yours == expected)).all())
        else Difference(NOT_EQUAL, np.asarray(yours), expected)
    )


def same_bits(yours: Any, expected: Array) -> Difference | None:
    """None if shape, dtype and every bit are equal; 0 and -0 are not."""
    wrong = like(yours, expected)
    if wrong is not None or yours.tobytes() == expected.tobytes():
        return wrong
    return Difference("yours and the expected differ in their bits", yours, expected)


def fresh(student: Student) -> Difference | None:
    """None if the last call returned new memory and left its inputs as they came."""
    last = student.last
    if last.shares:
        return Difference(f"expected a new array, got {last.shares[0]} itself, or a view of it")
    if last.changed:
        return Difference(f"expected {last.changed[0]} as it came, your function changed it")
    return None


def _kind(value: Any) -> str:
    """A value that is no array, in a word and its beginning."""
    kind, shown = value if isinstance(value, Other) else (type(value).__name__, repr(value))
    return f"{kind}: {shown if len(shown) <= 60 else shown[:57] + '...'}"


# ---- gradients --------------------------------------------------------------------------------------------


def gradient(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Mapping[str, Array],
    of: Sequence[str] = (),
    tolerance: float = 1e-3,
) -> Difference | None:
    """None if a backward agrees with central differences of its forward, in float64.

    forward: called with the inputs by name, in float64; so no student's function that rounds to float32
    backward: called with (dy, *inputs)  ->  the gradient of the input `of` names, or a tuple of them
    of: the inputs differentiated; all floating ones if none are named
    """
    exact = {name: array.astype(np.float64) if _floats(array) else array for name, array in inputs.items()}
    names = tuple(of) or tuple(name for name, array in inputs.items() if _floats(array))
    like_result = np.asarray(forward(**exact))
    dy = np.random.default_rng(like_result.size).normal(size=like_result.shape)
    found = backward(dy.astype(np.float32), *inputs.values())
    yours = found if isinstance(found, tuple | list) else (found,)
    if len(yours) != len(names):
        return Difference(f"expected {len(names)} gradients ({', '.join(names)}), got {len(yours)}")
    for name, got in zip(names, yours, strict=True):
        wrong = close(got, _slopes(forward, exact, name, dy).astype(np.float32), tolerance)
        if wrong is not None:
            return Difference(f"gradient of {name}: {wrong.note}", wrong.yours, wrong.expected)
    return None


def _floats(array: Array) -> bool:
    return np.asarray(array).dtype.kind == "f"


def _slopes(forward: Callable[..., Any], exact: Mapping[str, Array], name: str, dy: Array) -> Array:
    """The slope of sum(dy x forward) along every element of one input."""
    slopes = np.zeros_like(exact[name])
    for at in np.ndindex(slopes.shape):

        def moved(steps: float, at: tuple[int, ...] = at) -> float:
            there = exact[name].copy()
            there[at] += steps * STEP
            return float(np.sum(dy * forward(**{**exact, name: there})))

        slopes[at] = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * STEP)
    return slopes


# ---- cost -------------------------------------------------------------------------------------------------


def cost(student: Student, inputs: Mapping[str, Array], at_most: Mapping[str, float]) -> Difference | None:
    """None if the counted work is at most so many times the solution's, and the result the same to rounding.

    inputs: at the size at which is counted, by parameter  at_most: of "flops", "bytes", "memory"
    """
    score = student.score(inputs)
    if not score.agrees:
        return Difference(f"gives another result than the solution on {score.at}; right on small inputs only")
    if score.work.flops < score.reference.flops / MOST_LESS:
        seen = f"only {score.work.flops:,} FLOPs could be counted, the solution has {score.reference.flops:,}"
        return Difference(f"{seen}: compute with NumPy, anew at each call, on the arrays as they come")
    for kind, limit in at_most.items():
        yours, reference = getattr(score.work, kind), getattr(score.reference, kind)
        if yours > limit * reference:
            note = f"{score.sentence(kind)}; expected at most {limit:g} x"
            return Difference(note, np.array([yours]), np.array([int(limit * reference)]))
    return None
