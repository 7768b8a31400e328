"""The search for the smallest input that breaks a property.

Drawn inputs are tried in turn, small ones first. What fails is shrunk, for at most two seconds. A failure
that a fresh session does not show again is said to be what it is: an answer that depends on what was called
before.

Where the failing call ended the session, a few fresh ones are opened; where it did not return in time, only a
handful of smaller inputs are tried, each for a moment.

Does: call the judge, whatever happens there; shrink. Does not: decide what is tried next (`checker`).

Next: minidsv3.learn.result
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from minidsv3.learn.properties import Difference, Property
from minidsv3.learn.sandbox.session import Ended
from minidsv3.learn.shrink import Inputs, shrunk
from minidsv3.learn.student import Raised, StudentCode

__all__ = ["Failure", "falsify", "judged"]

SHRINK_SECONDS = 2.0  # after the first failure
SLOW = 0.5  # seconds after which an ended call is not searched for by shrinking
MOMENT = 0.25  # seconds that a smaller input gets to end a session
FEW = 4  # smaller inputs tried then
AGAIN = 3  # inputs on which every call is asked twice
MOST_SAID = 2000  # characters of print kept with a counterexample
UNSTEADY = "gives different answers for the same input: something is kept from one call to the next, or drawn"


@dataclass(frozen=True)
class Failure:
    """A property broken by an input."""

    inputs: Inputs
    difference: Difference
    warnings: tuple[str, ...] = field(default=())  # of NumPy, each once, how often behind it
    printed: str = ""
    ended: bool = False  # the call ended the session


def judged(check: Property, code: StudentCode, inputs: Inputs) -> Failure | None:
    """One call of a judge, whatever the student's functions do."""
    code.asked.clear()
    copies: dict[str, Any] = {name: array.copy() for name, array in inputs.items()}
    ended = False
    try:
        with np.errstate(all="ignore"):
            difference = check.judge(**{**_wanted(check, code), **copies})
    except Raised as problem:
        difference = Difference(str(problem))
    except Ended as problem:
        difference, ended = Difference(str(problem)), True
    except Exception as problem:  # the judge did not expect such a value
        difference = _unjudged(code, problem)
    if difference is None:
        return None
    return Failure(inputs, difference, _warned(code), _printed(code), ended)


def falsify(check: Property, code: StudentCode, seed: int = 0, larger: int = 0) -> Failure | None:
    """The smallest input found that breaks a property; None if none was found."""
    draws, again = check.inputs, AGAIN
    if draws is None:
        return judged(check, code, {})
    for part in draws.rounds(larger):
        for inputs in part.drawn(seed):
            failure = judged(check, code, draws.change(inputs))
            if failure is not None:
                return _smallest(check, code, failure, inputs, part.drawn(seed))
            if again and not code.steady():
                return Failure(draws.change(inputs), Difference(UNSTEADY))
            again = max(again - 1, 0)
    return None


def _smallest(
    check: Property, code: StudentCode, first: Failure, inputs: Inputs, drawn: list[Inputs]
) -> Failure:
    """The failure of the smallest input, as a fresh session gives it."""
    assert check.inputs is not None
    if first.ended and code.seconds > SLOW:
        return _small_and_ended(check, code, first, drawn)
    change, found = check.inputs.change, first

    def fails(candidate: Inputs) -> bool:
        nonlocal found
        failure = judged(check, code, change(candidate))
        found = failure or found
        return failure is not None

    shrunk(inputs, check.inputs.space, fails, SHRINK_SECONDS)
    code.restart()
    again = judged(check, code, found.inputs)
    return again or replace(found, difference=replace(found.difference, note=UNSTEADY))


def _small_and_ended(check: Property, code: StudentCode, first: Failure, drawn: list[Inputs]) -> Failure:
    """The smallest of a few smaller inputs that do not answer in a moment either."""
    assert check.inputs is not None
    by_size = {_size(inputs): inputs for inputs in reversed(drawn)}
    smaller = [by_size[size] for size in sorted(by_size) if size < _size(first.inputs)]
    kept, code.limits = code.limits, replace(code.limits, wall_seconds=MOMENT)
    try:
        for inputs in smaller[:FEW]:
            found = judged(check, code, check.inputs.change(inputs))
            if found is not None and found.ended:
                return replace(found, difference=first.difference)
    finally:
        code.limits = kept
        code.restart()
    return first


def _size(inputs: Inputs) -> int:
    return sum(array.size for array in inputs.values())


# ---- one call ---------------------------------------------------------------------------------------------


def _wanted(check: Property, code: StudentCode) -> dict[str, Callable[..., Any]]:
    """The student's functions that a judge has parameters for."""
    names = check.judge.__code__.co_varnames[: check.judge.__code__.co_argcount]
    return {name: function for name, function in code.functions.items() if name in names}


def _unjudged(code: StudentCode, problem: Exception) -> Difference:
    """What to say of a value that the judge could not work with."""
    value = code.asked[-1][2].value if code.asked else None
    yours = value if isinstance(value, np.ndarray) else None
    kind = f"{list(yours.shape)} of {yours.dtype}" if yours is not None else type(value).__name__
    return Difference(f"got {kind}, which cannot be judged: {problem}", yours)


def _warned(code: StudentCode) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for text in (text for _, _, answer in code.asked for text in answer.warnings):
        counts[text] = counts.get(text, 0) + 1
    return tuple(text if n == 1 else f"{text} ({n} x)" for text, n in counts.items())


def _printed(code: StudentCode) -> str:
    return "".join(answer.printed for _, _, answer in code.asked)[:MOST_SAID]
