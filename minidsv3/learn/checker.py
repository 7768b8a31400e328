"""Check an exercise: the student's source goes into the sandbox, a `CheckResult` comes back.

The messages of the child are not trusted as they come: a run passes only if it came to its end, announced
its checks once, and sent one outcome for each of them in that order, none of them failed. Anything else is
a fail, with the reason in words. The counterexample is saved as `counterexample.npz` beside the student's
file, and `replay` runs the failing property on it once more.

Does: run, judge the answer, save. Does not: import Hypothesis (the child does), print.

    >>> from minidsv3.learn.exercises import find_lesson
    >>> result = check(find_lesson("00"), "def softmax(scores):\\n    return scores[0]\\n")
    >>> result.passed, result.failed.name, result.counterexample.inputs["scores"].tolist()
    (False, 'shape', [[0.0]])

Next: minidsv3.cli
"""

from pathlib import Path
from typing import Any

import numpy as np

from minidsv3.learn.exercises import Lesson
from minidsv3.learn.result import CheckResult, Counterexample, Outcome, equation_card, pack, unpack
from minidsv3.learn.sandbox import Finished, Limits, run
from minidsv3.machine import look_up

__all__ = ["COUNTEREXAMPLE", "check", "hint", "load_counterexample", "save_counterexample"]

COUNTEREXAMPLE = "counterexample.npz"
JOB = "minidsv3.learn.chain:run_chain"
Message = dict[str, Any]


def check(
    lesson: Lesson,
    source: str,
    limits: Limits | None = None,
    replay: tuple[str, dict[str, np.ndarray[Any, Any]]] | None = None,
) -> CheckResult:
    """Check a student's source.

    replay: a property's name and inputs to call it on; nothing is searched then.
    """
    request: Message = {
        "source": source,
        "function": lesson.function,
        "check": str(lesson.folder / "check.py"),
        "replay": replay and {"property": replay[0], "inputs": {k: pack(a) for k, a in replay[1].items()}},
    }
    finished = run(JOB, request, limits)
    outcomes, failure, problem = _read(finished)
    passed = problem is None and bool(outcomes) and failure is None
    return CheckResult(
        exercise=lesson.id,
        title=lesson.title,
        outcomes=tuple(outcomes),
        problem=problem,
        counterexample=_counterexample(failure),
        card=equation_card(look_up(lesson.op)),
        hint=None if passed else hint(lesson, 1),
        replay=f"minidsv3 check {lesson.id} --replay" if failure and failure["inputs"] else None,
        saved=None,
        output=finished.output,
        seconds=round(finished.seconds, 3),
    )


def hint(lesson: Lesson, attempt: int) -> tuple[int, int, str] | None:
    """Number, how many there are, and text of the hint for the n-th attempt, counted from 1."""
    number = min(max(attempt, 1), len(lesson.hints))
    return (number, len(lesson.hints), lesson.hints[number - 1]) if number else None


def _read(finished: Finished) -> tuple[list[Outcome], Message | None, str | None]:
    """Outcomes of the whole chain, the failure, and the problem that makes the run invalid."""
    announced = [message["checks"] for message in finished.messages if "checks" in message]
    if len(announced) != 1:
        return [], None, finished.problem or "sent no list of checks, or more than one"
    came = [message for message in finished.messages if "outcome" in message]
    outcomes: list[Outcome] = []
    failure: Message | None = None
    stopped = ""
    for i, (name, sentence) in enumerate(announced[0]):
        if stopped:
            outcomes.append(Outcome(name, sentence, "skipped", f"because {stopped} failed"))
        elif i < len(came) and came[i]["outcome"] == name:
            failure = came[i]["failure"]
            stopped = name if failure else ""
            note = "" if failure is None else failure["note"]
            outcomes.append(Outcome(name, sentence, "failed" if failure else "passed", note))
        else:
            stopped = name
            outcomes.append(Outcome(name, sentence, "failed", finished.problem or "no outcome came back"))
    done = sum(outcome.status != "skipped" for outcome in outcomes)
    if finished.problem is None and len(came) != done:
        return outcomes, failure, "sent another number of outcomes than checks"
    return outcomes, failure, finished.problem


def _counterexample(failure: Message | None) -> Counterexample | None:
    if not failure or not failure["inputs"]:
        return None
    inputs = {name: unpack(packed) for name, packed in failure["inputs"].items()}
    return Counterexample(
        inputs={name: array for name, array in inputs.items() if array is not None},
        yours=unpack(failure["yours"]),
        expected=unpack(failure["expected"]),
        warnings=failure["warnings"],
        printed=failure["printed"],
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


def load_counterexample(folder: Path) -> tuple[str, dict[str, np.ndarray[Any, Any]]]:
    """The property and the inputs that `save_counterexample` wrote; ValueError if there are none."""
    place = folder / COUNTEREXAMPLE
    if not place.is_file():
        raise ValueError(f"expected {COUNTEREXAMPLE} beside the exercise; check without --replay first")
    with np.load(place, allow_pickle=False) as held:
        inputs = {name[6:]: held[name] for name in held.files if name.startswith("input_")}
        return str(held["property"]), inputs
