"""What a check found, as plain data: outcomes, the counterexample, and the panel that shows it.

A `CheckResult` holds the chain of outcomes (passed, failed, skipped because), the smallest input with yours,
expected and their difference, the equation card of the op, a hint, the command that replays. `panel` writes
it in plain text, one fact a line, which a screen reader reads well; colour is the command's business.

Does: data, plain text, JSON. Does not: run anything.

    >>> import numpy as np
    >>> cells(np.array([[0.25, -3.0], [np.nan, 12.5]]), worst=(1, 0))
    ['0.25    -3 ', ' nan* 12.5 ']
    >>> unpack(pack(np.array([89.0], "f")))
    array([89.], dtype=float32)

Next: minidsv3.learn.checker
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minidsv3.machine import Op

__all__ = ["CheckResult", "Counterexample", "Outcome", "cells", "equation_card", "pack", "panel", "unpack"]

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
        plain: dict[str, Any] = {"schema": "minidsv3.check/1"} | {name: getattr(self, name) for name in names}
        plain["outcomes"] = [outcome._asdict() for outcome in self.outcomes]
        plain["hint"] = self.hint and dict(zip(("number", "of", "text"), self.hint, strict=True))
        plain["counterexample"] = found and _plain(found)
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


def cells(array: Array, worst: tuple[int, ...] | None = None) -> list[str]:
    """An array as lines of aligned numbers, the worst cell with a star behind it."""
    if array.ndim > 2 or array.size > MOST_CELLS:
        return np.array2string(array, precision=4, threshold=MOST_CELLS).split("\n")
    rows = np.atleast_2d(array)
    at = None if worst is None else (*(0,) * (2 - array.ndim), *worst)
    texts = [[f"{value:.5g}" for value in row] for row in rows.tolist()]
    wide = max((len(text) for row in texts for text in row), default=0)
    return [
        " ".join(f"{text:>{wide}}" + ("*" if (i, j) == at else " ") for j, text in enumerate(row))
        for i, row in enumerate(texts)
    ]


def panel(result: CheckResult) -> list[str]:
    """The whole result as lines of plain text."""
    lines = [f"check {result.exercise}, {result.title}: {'passed' if result.passed else 'FAILED'}"]
    skipped = [outcome for outcome in result.outcomes if outcome.status == "skipped"]
    run = result.outcomes[: len(result.outcomes) - len(skipped)]
    lines += [f"  {o.status:8}{o.name}: {o.because or o.sentence}" for o in run]
    if skipped:
        lines += [f"  skipped {', '.join(o.name for o in skipped)}: {skipped[0].because}"]
    if result.problem and not result.failed:
        lines += [f"  {result.problem}"]
    if result.output:
        lines += ["printed:", *("  " + line for line in result.output.rstrip().split("\n")[-8:])]
    if result.passed:
        return lines
    if result.failed:
        lines += ["", f"expected: {result.failed.sentence}"]
    if result.counterexample:
        lines += _shown(result.counterexample)
    lines += ["", *result.card]
    if result.hint:
        lines += ["hint {} of {}: {}".format(*result.hint)]
    if result.replay:
        lines += [f"replay: {result.replay}" + (f"  ({result.saved})" if result.saved else "")]
    return lines


def _shown(found: Counterexample) -> list[str]:
    """The counterexample's arrays, labelled."""
    named: list[tuple[str, Array | None, tuple[int, ...] | None]] = [
        (f"smallest {name}", array, None) for name, array in found.inputs.items()
    ]
    named += [("yours", found.yours, found.worst), ("expected", found.expected, None)]
    named += [("difference", found.difference, found.worst)]
    lines: list[str] = []
    for label, array, worst in named:
        if array is not None:
            label = f"{label} {list(array.shape)}"
            body = cells(array, worst) or ["(empty)"]
            lines += [f"  {label if i == 0 else '':24}{line}".rstrip() for i, line in enumerate(body)]
    if found.worst is not None:
        lines += ["  (* the worst cell)"]
    if found.warnings:
        lines += [f"  NumPy said: {'; '.join(found.warnings)}"]
    if found.printed:
        lines += [f"  your code printed: {line}" for line in found.printed.rstrip().split("\n")[:4]]
    return lines
