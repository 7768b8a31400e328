"""What a check found, as plain data: outcomes, the counterexample, the score.

A `CheckResult` holds the chain of outcomes (passed, failed, skipped because), the smallest input with yours,
expected and their difference, the equation card of the op, a hint, the command that replays, and the score of
counted work once everything else is right.

Does: data, JSON. Does not: run anything, or write it for people (`panel`).

    >>> unpack(pack(np.array([89.0], "f")))
    array([89.], dtype=float32)

Next: minidsv3.learn.panel
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from minidsv3.learn.score import Score
from minidsv3.machine import Op

__all__ = ["CheckResult", "Counterexample", "Outcome", "equation_card", "pack", "unpack"]

Array = np.ndarray[Any, Any]
MOST_CELLS = 64  # elements of an array that are shown and kept


def pack(array: Array | None) -> dict[str, Any] | None:
    """An array for JSON: values in a row, nan and inf as words; none if it is too large to show."""
    if array is None:
        return None
    shown = array.size <= MOST_CELLS and array.dtype.kind in "biuf"
    values = [v if np.isfinite(v) else str(v) for v in array.ravel().tolist()] if shown else None
    return {"dtype": str(array.dtype), "shape": list(array.shape), "values": values}


def unpack(packed: dict[str, Any] | None) -> Array | None:
    """The array again; None where there are no values."""
    if packed is None or packed["values"] is None:
        return None
    return np.array(packed["values"], dtype=packed["dtype"]).reshape(packed["shape"])


class Outcome(NamedTuple):
    """One check of the chain."""

    name: str
    sentence: str
    status: str  # passed, failed, skipped
    because: str = ""  # of a skipped one, or what went wrong
    stage: str = "value"  # loads, shape, value, gradient, cost
    points: float = 1
    seconds: float = 0.0


class Counterexample(NamedTuple):
    """The smallest input that shows it."""

    inputs: dict[str, Array]
    yours: Array | None
    expected: Array | None
    warnings: list[str]  # of NumPy, each once
    printed: str  # by the student's code on this input

    @property
    def difference(self) -> Array | None:
        """yours - expected, if that can be said."""
        if self.yours is None or self.expected is None or self.yours.shape != self.expected.shape:
            return None
        with np.errstate(all="ignore"):
            return np.subtract(self.yours, self.expected, dtype=np.float64)

    @property
    def worst(self) -> tuple[int, ...] | None:
        """The cell with the largest difference, NaN before all others."""
        difference = self.difference
        if difference is None or not difference.size:
            return None
        size = np.where(np.isnan(difference), np.inf, np.abs(difference))
        return tuple(int(i) for i in np.unravel_index(int(size.argmax()), size.shape))


@dataclass(frozen=True)
class CheckResult:
    """How an exercise stands."""

    exercise: str
    title: str
    outcomes: tuple[Outcome, ...]
    problem: str | None  # of the process as a whole: no valid result is a fail
    counterexample: Counterexample | None
    card: tuple[str, ...]  # the equation, from the catalogue
    hint: tuple[int, int, str] | None  # number, how many there are, text
    replay: str | None  # a command
    saved: str | None  # the file that the counterexample went to
    output: str  # printed outside the properties, capped
    seconds: float
    counterexamples: dict[str, Counterexample] = field(
        default_factory=dict
    )  # by property, of every failed one
    score: Score | None = None  # counted work beside the solution's, once a cost was asked for
    limits_held: tuple[str, ...] = ()  # by the student's process

    @property
    def passed(self) -> bool:
        """Whether every check of the chain passed and the process ended as it should."""
        passed = [outcome.status == "passed" for outcome in self.outcomes]
        return self.problem is None and bool(passed) and all(passed)

    @property
    def failed(self) -> Outcome | None:
        """The check that failed."""
        return next((outcome for outcome in self.outcomes if outcome.status == "failed"), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names = ("exercise", "title", "passed", "problem", "card", "replay", "saved", "output", "seconds")
        found = self.counterexample
        plain: dict[str, Any] = {"schema": "minidsv3.check/2"} | {name: getattr(self, name) for name in names}
        plain["outcomes"] = [outcome._asdict() for outcome in self.outcomes]
        plain["hint"] = self.hint and dict(zip(("number", "of", "text"), self.hint, strict=True))
        plain["counterexample"] = found and _plain(found)
        plain["score"] = self.score and self.score.to_dict()
        plain["limits_held"] = list(self.limits_held)
        return plain


def _plain(found: Counterexample) -> dict[str, Any]:
    return {
        "inputs": {name: pack(array) for name, array in found.inputs.items()},
        "yours": pack(found.yours),
        "expected": pack(found.expected),
        "difference": pack(found.difference),
        "worst": found.worst,
        "warnings": found.warnings,
        "printed": found.printed,
    }


def equation_card(op: Op) -> tuple[str, ...]:
    """An op of the catalogue in two lines."""
    numbers = ", ".join(op.equations)
    return (f"eq. {numbers}  {op.formula}", f"{op.id}: {op.signature}, in {op.source}")
