"""Properties of an exercise, and the search for the smallest input that breaks one; runs in the sandbox.

A lesson's `check.py` lists properties in the order in which they make sense: shape, then value, and so on.

    @prop("each row of the result sums to 1", arrays("T T", scores=(-100, 100)))
    def rows_sum_to_one(softmax, scores):
        return close(softmax(scores).sum(axis=1), np.ones(len(scores)))

A judge calls the student's function on the drawn arrays and returns None or a `Difference`. Hypothesis draws,
and shrinks what fails; the first property that fails ends the chain and the rest are skipped. Draws are the
same in every run, so a counterexample comes back until it is fixed.

Does: search, compare, say what was raised. Does not: score, or print. Only this file imports Hypothesis.

    >>> close(np.array([0.5, np.nan]), np.array([0.5, 1.0])).note
    'yours and the expected differ'

Next: minidsv3.learn.chain
"""

import contextlib
import io
import math
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.extra import numpy as hnp

from minidsv3.machine.signature import Signature

__all__ = ["Difference", "Property", "arrays", "close", "like", "prop"]

Array = np.ndarray[Any, Any]
Inputs = dict[str, Array]
Judge = Callable[..., "Difference | None"]
FILE = "exercise.py"  # what the student's file is called in tracebacks
MOST_SAID = 2000  # characters of print kept with a counterexample
SHRINK_SECONDS = 2.0  # after the first failure
NOT_EQUAL = "yours and the expected differ"
NO_MEMORY = "ran out of memory"

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
    inputs: st.SearchStrategy[Inputs]
    judge: Judge


@dataclass
class Failure:
    """A property broken by an input."""

    inputs: Inputs
    difference: Difference
    warnings: list[str] = field(default_factory=list)  # of NumPy, each once
    printed: str = ""


class Falsified(Exception):
    """Raised inside the search; one class, so that shrinking follows the property and not the error."""


def prop(sentence: str, inputs: st.SearchStrategy[Inputs]) -> Callable[[Judge], Property]:
    """Make a judge a property; its name is the function's."""
    return lambda judge: Property(judge.__name__, sentence, inputs, judge)


def arrays(signature: str, at_most: int = 4, **ranges: tuple[float, float]) -> st.SearchStrategy[Inputs]:
    """Float32 arrays whose shapes fit a signature of the catalogue's kind.

    signature: an operand for each name, `"T D, R D"`  at_most: the largest axis  ranges: name=(low, high).
    """
    operands = Signature.parse(signature if "->" in signature else f"{signature} ->").operands
    axes = list(dict.fromkeys(axis for operand in operands for axis in operand))

    @st.composite
    def drawn(draw: st.DrawFn) -> Inputs:
        sizes = {axis: draw(st.integers(1, at_most)) for axis in axes}
        found: Inputs = {}
        for (name, (low, high)), operand in zip(ranges.items(), operands, strict=True):
            shape = tuple(sizes[axis] for axis in operand)
            found[name] = draw(hnp.arrays(np.float32, shape, elements=st.floats(low, high, width=32)))
        return found

    return drawn()


# ---- judging ----------------------------------------------------------------------------------------------


def like(yours: Any, expected: Array) -> Difference | None:
    """None if it is an array of the expected shape and dtype."""
    said = f"expected an array {list(expected.shape)} of {expected.dtype}, got "
    if type(yours) is not np.ndarray:
        return Difference(said + f"{type(yours).__name__}: {_short(yours)}")
    if yours.shape != expected.shape or yours.dtype != expected.dtype:
        return Difference(said + f"{list(yours.shape)} of {yours.dtype}")
    return None


def close(yours: Any, expected: Array, tolerance: float = 1e-5) -> Difference | None:
    """None if equal up to `tolerance` x (1 + size of the expected), NaN never being equal."""
    if not isinstance(yours, np.ndarray) or yours.shape != expected.shape or yours.dtype.kind not in "biuf":
        return like(yours, expected) or Difference(NOT_EQUAL, yours, expected)
    with np.errstate(invalid="ignore"):
        off = np.abs(yours - expected) <= tolerance * (1 + np.abs(expected))
    return None if bool((off | (yours == expected)).all()) else Difference(NOT_EQUAL, yours, expected)


def _short(value: Any) -> str:
    try:
        return repr(value)[:60]
    except Exception:
        return "something that cannot be shown"


def judge(check: Property, function: Callable[..., Any], inputs: Inputs) -> Failure | None:
    """One call of the student's function, whatever it does."""
    printed = io.StringIO()
    with (
        warnings.catch_warnings(record=True) as caught,
        np.errstate(all="warn", under="ignore"),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        warnings.simplefilter("always")
        try:
            difference = check.judge(function, **{name: array.copy() for name, array in inputs.items()})
        except BaseException as problem:
            difference = Difference(raised(problem))
    if difference is None:
        return None
    said = list(dict.fromkeys(str(warning.message) for warning in caught))
    return Failure(inputs, difference, said, printed.getvalue()[:MOST_SAID])


def raised(problem: BaseException) -> str:
    """What a student's code raised, and on which line of it."""
    if isinstance(problem, MemoryError):
        return NO_MEMORY + _where(problem)
    if isinstance(problem, SystemExit):
        return "called sys.exit; a function has to return" + _where(problem)
    try:
        text = f"{problem}".strip().split("\n")[0]
    except Exception:
        text = ""
    return f"raised {type(problem).__name__}" + (f": {text}" if text else "") + _where(problem)


def _where(problem: BaseException) -> str:
    if isinstance(problem, SyntaxError):
        return f" (line {problem.lineno})"
    frames = [f for f in traceback.extract_tb(problem.__traceback__) if f.filename == FILE]
    return f" (line {frames[-1].lineno}: {frames[-1].line})" if frames else ""


Drawn = dict[int, list[Inputs]]
"""By strategy: inputs that an earlier property of the chain passed on; drawing costs more than judging."""


def first_failure(check: Property, function: Callable[..., Any], drawn: Drawn) -> Failure | None:
    """The smallest input found that breaks a property; None if none was found.

    The first property of a strategy draws; a later one is tried on the same inputs, and draws only to shrink.
    """
    known = drawn.get(id(check.inputs))
    if known is None:
        return smallest_failure(check, function, drawn.setdefault(id(check.inputs), []))
    for inputs in known:
        failure = judge(check, function, inputs)
        if failure is not None:
            return smallest_failure(check, function, []) or failure
    return None


def smallest_failure(check: Property, function: Callable[..., Any], passed: list[Inputs]) -> Failure | None:
    """Draw, judge, shrink; inputs that passed are added to `passed`."""
    known: dict[tuple[Any, ...], Failure] = {}
    last: list[Failure] = []
    until = math.inf  # from then on only inputs known to fail do: shrinking ends

    @PROFILE
    @given(check.inputs)
    def falsify(inputs: Inputs) -> None:
        nonlocal until
        key = tuple((array.shape, array.tobytes()) for array in inputs.values())
        failure = known.get(key) if monotonic() > until else judge(check, function, inputs)
        if failure is None:
            return passed.append(inputs)
        no_memory = failure.difference.note.startswith(NO_MEMORY)
        until = min(until, monotonic() + (0 if no_memory else SHRINK_SECONDS))
        known[key], last[:] = failure, [failure]
        raise Falsified

    try:
        falsify()
    except Falsified:
        return last[0]
    except Flaky:
        note = "gives different answers for the same input"
        return replace(last[0], difference=replace(last[0].difference, note=note))
    return None
