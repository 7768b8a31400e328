"""Check an exercise: the student's functions answer from their process, the judging happens here.

First the file has to load and define its functions; then come the properties of the lesson's `check.py`, by
stage: shape, value, gradient, cost. The first that fails ends the chain, and the later ones are skipped; with
`every`, as for grading, the others of its stage are still tried. Nothing that the student's process says of
itself makes a pass: it only hands over values. The counterexample is saved as `counterexample.npz` beside
the student's file, and `replay` judges it once more.

Does: run the chain, fill in a `CheckResult`, save. Does not: print. Hypothesis is imported, and draws, while
the student's process starts.

    >>> from minidsv3.learn.exercises import find_lesson
    >>> result = check(find_lesson("00"), "def softmax(scores):\\n    return scores[0]\\n")
    >>> result.passed, result.failed.stage, result.counterexample.inputs["scores"].tolist()
    (False, 'shape', [[0.0]])

Next: minidsv3.learn.authoring
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from minidsv3.learn.exercises import Lesson, find_lesson, student_file
from minidsv3.learn.result import CheckResult, Counterexample, Outcome, equation_card
from minidsv3.learn.sandbox.session import Ended, Limits, Warm
from minidsv3.learn.student import StudentCode
from minidsv3.machine import look_up

if TYPE_CHECKING:
    from minidsv3.learn.falsify import Failure
    from minidsv3.learn.properties import Property

__all__ = [
    "COUNTEREXAMPLE",
    "assert_passes",
    "check",
    "load_counterexample",
    "load_properties",
    "save_counterexample",
]

COUNTEREXAMPLE = "counterexample.npz"
Inputs = dict[str, np.ndarray[Any, Any]]


def check(
    lesson: Lesson,
    source: str,
    *,
    worker: Warm | None = None,
    limits: Limits | None = None,
    replay: tuple[str, Inputs] | None = None,
    seed: int | None = None,
    larger: int = 0,
    every: bool = False,
) -> CheckResult:
    """Check a student's source.

    worker: a process kept warm, from which sessions open quickly; a fresh one if none is given
    replay: a property's name and inputs to judge it on; nothing is searched then
    seed, larger: other draws, and axes up to so many elements longer  every: all properties of a stage
    """
    start = monotonic()
    found: dict[str, Failure] = {}
    with contextlib.ExitStack() as stack:
        warm = worker or stack.enter_context(Warm())
        checks = load_properties(lesson)
        if replay:
            checks = _named(checks, replay[0])
        elif checks and checks[0].inputs:  # meanwhile the process starts
            checks[0].inputs.draw(seed or 0, larger)
        code = stack.enter_context(StudentCode(warm, lesson, source, limits))
        outcomes = [_loads(code)]
        held, output = _session_words(code)
        for outcome, failure in _chain(checks, code, outcomes[0], replay, seed or 0, larger, every):
            outcomes.append(outcome)
            if failure:
                found[outcome.name] = failure
        passed = all(outcome.status == "passed" for outcome in outcomes)
        score, problem = code.score, _unasked(code) if passed else None
    failure = next(iter(found.values()), None)
    passed = passed and problem is None
    return CheckResult(
        exercise=lesson.id,
        title=lesson.title,
        outcomes=tuple(outcomes),
        problem=problem,
        counterexample=_counterexample(failure),
        counterexamples={name: shown for name, f in found.items() if (shown := _counterexample(f))},
        card=lesson.card or equation_card(look_up(lesson.op)),
        hint=None if passed or not lesson.hints else (1, len(lesson.hints), lesson.hints[0]),
        replay=f"minidsv3 check {lesson.id} --replay" if failure and failure.inputs else None,
        saved=None,
        output=output,
        seconds=round(monotonic() - start, 3),
        score=score,
        limits_held=held,
    )


# ---- the chain --------------------------------------------------------------------------------------------


def _loads(code: StudentCode) -> Outcome:
    """Whether the file loads and defines its functions."""
    start, names = monotonic(), code.lesson.functions
    sentence = f"the file loads and defines {', '.join(names)}"
    try:
        problem = code.session.problem
        missing = [name for name in names if name not in code.session.callables]
    except Ended as ended:
        problem, missing = str(ended), []
    if not problem and missing:
        problem = f"expected a function {missing[0]!r} in the file, found none"
    status = "failed" if problem else "passed"
    return Outcome("loads", sentence, status, problem or "", "loads", 0, round(monotonic() - start, 3))


def _session_words(code: StudentCode) -> tuple[tuple[str, ...], str]:
    """The limits that hold, and what loading printed."""
    try:
        return code.session.held, code.session.output
    except Ended:
        return (), ""


def _unasked(code: StudentCode) -> str | None:
    """What is wrong with the session at its end, such as an answer that nobody asked for."""
    try:
        code.session.finish()
    except Ended as ended:
        return str(ended)
    return None


def _chain(
    checks: list[Property],
    code: StudentCode,
    loaded: Outcome,
    replay: tuple[str, Inputs] | None,
    seed: int,
    larger: int,
    every: bool,
) -> Iterator[tuple[Outcome, Failure | None]]:
    """An outcome for each property, and the failure if it has one."""
    from minidsv3.learn.falsify import falsify, judged

    stopped = loaded if loaded.status == "failed" else None
    for check in checks:
        told = (check.stage, check.points)
        if stopped is not None and not (every and check.stage == stopped.stage):
            because = f"because {stopped.name} failed"
            yield Outcome(check.name, check.sentence, "skipped", because, *told), None
            continue
        start = monotonic()
        failure = judged(check, code, replay[1]) if replay else falsify(check, code, seed, larger)
        seconds = round(monotonic() - start, 3)
        status, note = ("failed", failure.difference.note) if failure else ("passed", "")
        outcome = Outcome(check.name, check.sentence, status, note, *told, seconds)
        stopped = outcome if failure and stopped is None else stopped
        yield outcome, failure


def load_properties(lesson: Lesson) -> list[Property]:
    """The properties that a lesson's `check.py` defines, by stage and in its order."""
    place = lesson.folder / "check.py"
    return list(_loaded(place, place.stat().st_mtime_ns))


@lru_cache
def _loaded(place: Path, changed: int) -> tuple[Property, ...]:
    """Of one state of the file: what was drawn for it is drawn once."""
    from minidsv3.learn.properties import STAGES, Property

    module = types.ModuleType(f"lesson_check_{place.parent.name}")
    sys.modules[module.__name__] = module
    exec(compile(place.read_text(encoding="utf-8"), str(place), "exec"), vars(module))
    found = [value for value in vars(module).values() if isinstance(value, Property)]
    return tuple(sorted(found, key=lambda check: STAGES.index(check.stage)))


def _named(checks: list[Property], name: str) -> list[Property]:
    found = [check for check in checks if check.name == name]
    if not found:
        raise ValueError(f"expected a property of this exercise, got {name!r}; check without --replay first")
    return found


def _counterexample(failure: Failure | None) -> Counterexample | None:
    if failure is None or not failure.inputs:
        return None
    difference = failure.difference
    return Counterexample(
        failure.inputs, difference.yours, difference.expected, list(failure.warnings), failure.printed
    )


# ---- the counterexample as a file -------------------------------------------------------------------------


def save_counterexample(result: CheckResult, folder: Path) -> Path | None:
    """Write inputs, yours and expected as `.npz`; a passing result removes an old one."""
    place, found, failed = folder / COUNTEREXAMPLE, result.counterexample, result.failed
    if result.passed:
        place.unlink(missing_ok=True)
    if found is None or failed is None:
        return None
    named = {f"input_{name}": array for name, array in found.inputs.items()}
    named |= {k: a for k, a in {"yours": found.yours, "expected": found.expected}.items() if a is not None}
    with place.open("wb") as file:
        np.savez(file, property=np.array(failed.name), **named)  # type: ignore[arg-type]
    return place


def load_counterexample(folder: Path) -> tuple[str, Inputs]:
    """The property and the inputs that `save_counterexample` wrote; ValueError if there are none."""
    place = folder / COUNTEREXAMPLE
    if not place.is_file():
        raise ValueError(f"expected {COUNTEREXAMPLE} beside the exercise; check without --replay first")
    with np.load(place, allow_pickle=False) as held:
        inputs = {name[6:]: held[name] for name in held.files if name.startswith("input_")}
        return str(held["property"]), inputs


def assert_passes(exercise: str, folder: Path) -> None:
    """For pytest: check the exercise of a working folder; AssertionError with the panel if it fails."""
    from minidsv3.learn.panel import panel

    lesson = find_lesson(exercise)
    path, _ = student_file(lesson, folder)
    result = check(lesson, path.read_text(encoding="utf-8"))
    if not result.passed:
        raise AssertionError("\n".join(panel(result)))
