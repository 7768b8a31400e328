"""One submission graded: every property of every exercise, at the hidden numbers and sizes of the key.

Checks and solutions are those of the installed package; from the student comes the one source file, which
runs in the sandbox. All properties are tried, so that points are given for each that holds. The stub as it
was handed out earns nothing, though it may hold some (a result of zeros has the right shape); nor does code
that gives the same results. No valid result is a fail, always: a file that is missing, cannot be read or does
not come to its end keeps only the points of properties that were seen to hold before.

Statuses of an exercise: passed, failed, untouched (the stub), missing, unreadable, and ungraded (the check
itself came to grief; grade it by hand). Statuses of a property: passed, failed, skipped.

Does: one row of plain values a submission, the counterexample as a file. Does not: keep it (`journal`), or
run many (`batch`).

    >>> row = refused([Handed("00", None, "missing", "found none", None, None)], {"00": {"shape": 1.0}})
    >>> row["exercises"][0]["status"], row["points"], row["out_of"]
    ('missing', 0, 1.0)

Next: minidsv3.learn.classroom.journal
"""

import ast
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

from minidsv3.config import near
from minidsv3.learn.checker import check, save_counterexample
from minidsv3.learn.classroom.key import ExerciseKey, Key
from minidsv3.learn.classroom.submission import Handed, in_a_line, printable
from minidsv3.learn.result import CheckResult, Outcome, pack
from minidsv3.learn.sandbox.session import Limits, Warm

__all__ = ["LIMITS", "Grader", "limits_held", "refused", "solved"]

LIMITS = Limits()  # those of the student's own check: what passed at home is not stopped here
COUNTEREXAMPLES = "counterexamples"  # folder in that of the key
STUB_TOO = "holds, as for the stub as it was handed out, whose results these are: no points"
NEVER = r"(?!)"
MOST_LONGER = 5  # times the stub's length that comments can make it

Row = dict[str, Any]
Points = Mapping[str, Mapping[str, float]]  # exercise -> property -> points


class Grader:
    """Grades one submission after another with the same key. A context manager.

    home: counterexamples go to `home/counterexamples/ID`, none are written if it is None.
    anonymous: the submission's name is taken out of every text that a student's code can choose.
    hidden: folders that no submission shall see into.
    """

    def __init__(
        self,
        key: Key,
        limits: Limits,
        home: Path | None,
        anonymous: bool = False,
        hidden: Sequence[Path] = (),
    ) -> None:
        self.key, self.limits, self.home, self.anonymous = key, limits, home, anonymous
        self.hidden = tuple(hidden)
        self._warm = Warm(hidden=self.hidden)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._warm.close()

    def grade(self, id: str, student: str, handed: Iterable[Handed]) -> Row:
        """The row of a submission: its exercises, each with its properties."""
        if self.home is not None:
            shutil.rmtree(self.home / COUNTEREXAMPLES / id, ignore_errors=True)
        shown = _hiding(student) if self.anonymous else in_a_line
        pairs = zip(handed, self.key.exercises, strict=True)
        exercises = [_texts(self._exercise(id, one, by), shown) for one, by in pairs]
        return _row(exercises)

    def _exercise(self, id: str, handed: Handed, by: ExerciseKey) -> Row:
        if handed.source is None:
            return _without_result(handed, handed.status, handed.problem or "", by.points)
        if _same_code(handed.source, by.lesson.stub):
            return _without_result(handed, "untouched", "the stub as it was handed out", by.points)
        try:
            result = self._checked(by, handed.source)
        except Exception as problem:
            said = f"the check itself failed ({type(problem).__name__}: {problem}); grade it by hand"
            return _without_result(handed, "ungraded", said, by.points)
        return _with_result(handed, by, result, does_what_the_stub_does(by, result, self.limits)) | {
            "counterexample": self._counterexample(id, by, result)
        }

    def _checked(self, by: ExerciseKey, source: str) -> CheckResult:
        """Once more with a fresh process, if the warm one came to grief."""
        try:
            return checked(by, source, self.limits, self._warm)
        except Exception:
            self._warm.close()
            self._warm = Warm(hidden=self.hidden)
            return checked(by, source, self.limits, self._warm)

    def _counterexample(self, id: str, by: ExerciseKey, result: CheckResult) -> Row | None:
        found, failed = result.counterexample, result.failed
        if found is None or failed is None:
            return None
        saved = None
        if self.home is not None:
            place = self.home / COUNTEREXAMPLES / id / by.exercise
            place.mkdir(parents=True, exist_ok=True)
            written = save_counterexample(result, place)
            saved = written and written.relative_to(self.home).as_posix()
        inputs = {name: pack(array) for name, array in found.inputs.items()}
        return {"property": failed.name, "inputs": inputs, "file": saved}


def checked(by: ExerciseKey, source: str, limits: Limits, warm: Warm | None = None) -> CheckResult:
    """A source checked at the numbers and sizes of the key; without a seed at those that students see."""
    seed = by.seed or None
    return check(by.lesson, source, worker=warm, limits=limits, seed=seed, larger=by.larger, every=True)


def solved(by: ExerciseKey, limits: Limits) -> dict[str, Outcome]:
    """The properties of an exercise by name, as the solution passes them.

    ValueError if it does not, or if the key gives points for what is no property: a class must not be graded
    with such a key.
    """
    outcomes = {one.name: one for one in _solution(by.exercise, by.seed, by.larger, limits).outcomes}
    for name in by.points:
        if name not in outcomes:
            known = near(name, [one.name for one in outcomes.values() if one.points])
            raise ValueError(
                f"key, exercises.{by.exercise}.points: expected a property, got {name!r}: {known}"
            )
    for name, outcome in outcomes.items():
        if outcome.status != "passed":
            raise ValueError(
                f"the solution of exercise {by.exercise} fails {name!r} with this key ({outcome.because}); "
                "choose another seed"
            )
    return {name: outcome for name, outcome in outcomes.items() if outcome.points or name in by.points}


@cache
def _stub(exercise: str, seed: int, larger: int, limits: Limits) -> CheckResult:
    by = ExerciseKey(exercise, seed, larger, 1, {})
    return checked(by, by.lesson.stub, limits)


def does_what_the_stub_does(by: ExerciseKey, result: CheckResult, limits: Limits) -> bool:
    """Whether every property comes out as for the stub, those that fail with the same results."""
    stub = _stub(by.exercise, by.seed, by.larger, limits)
    return not result.passed and _came_out(result) == _came_out(stub)


def _came_out(result: CheckResult) -> list[Any]:
    found = result.counterexamples
    shown = {
        name: ({n: pack(x) for n, x in one.inputs.items()}, pack(one.yours)) for name, one in found.items()
    }
    return [(one.name, one.status, shown.get(one.name)) for one in result.outcomes]


def limits_held(by: ExerciseKey, limits: Limits) -> tuple[str, ...]:
    """Which limits hold on this system, in words; fewer where it has no means for them."""
    return _solution(by.exercise, by.seed, by.larger, limits).limits_held


@cache
def _solution(exercise: str, seed: int, larger: int, limits: Limits) -> CheckResult:
    """How the solution does, once for all that ask."""
    by = ExerciseKey(exercise, seed, larger, 1, {})
    return checked(by, by.lesson.solution, limits)


def refused(handed: Iterable[Handed], points: Points, problem: str = "") -> Row:
    """The row of a submission of which nothing was checked; `problem` makes all of it ungraded."""
    rows = []
    for one in handed:
        status, said = ("ungraded", problem) if problem else (one.status, one.problem or "")
        rows.append(_without_result(one, status, printable(said), points[one.exercise]))
    return _row(rows)


def _same_code(yours: str, stub: str) -> bool:
    """Whether two sources differ at most in comments and space; what is many times longer is not parsed."""
    if len(yours) > MOST_LONGER * len(stub):
        return False
    try:
        return ast.dump(ast.parse(yours)) == ast.dump(ast.parse(stub))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _with_result(handed: Handed, by: ExerciseKey, result: CheckResult, as_stub: bool) -> Row:
    """The row of an exercise that was run.  as_stub: it does what the stub does"""
    # a process that answered what nobody asked may have done so before
    outcomes = {} if result.problem else {outcome.name: outcome for outcome in result.outcomes}
    failed = result.failed
    why = result.problem or (failed.because if failed else "no outcome came back")
    lost = Outcome("", "", "failed", why)
    properties = [_property(name, most, outcomes.get(name, lost)) for name, most in by.points.items()]
    if as_stub:
        properties = [one | {"points": 0, "note": one["note"] or STUB_TOO} for one in properties]
    status, problem = ("passed", None) if result.passed else ("failed", why)
    if failed and failed.name in by.points:
        problem = f"{failed.name}: {why}"
    return _exercise_row(handed, status, problem, properties, result.seconds)


def _without_result(handed: Handed, status: str, problem: str, points: Mapping[str, float]) -> Row:
    failed = Outcome("", "", "failed", problem)
    properties = [_property(name, most, failed) for name, most in points.items()]
    return _exercise_row(handed, status, problem, properties, 0.0) | {"counterexample": None}


def _property(name: str, points: float, outcome: Outcome) -> Row:
    return {
        "name": name,
        "status": outcome.status,
        "points": points if outcome.status == "passed" else 0,
        "out_of": points,
        "seconds": outcome.seconds,
        "note": outcome.because,
    }


def _exercise_row(
    handed: Handed, status: str, problem: str | None, properties: list[Row], seconds: float
) -> Row:
    return {
        "exercise": handed.exercise,
        "status": status,
        "points": sum(one["points"] for one in properties),
        "out_of": sum(one["out_of"] for one in properties),
        "problem": problem,
        "seconds": seconds,
        "hints": handed.hints,
        "attempts": handed.attempts,
        "properties": properties,
    }


def _row(exercises: list[Row]) -> Row:
    points, out_of = (sum(one[name] for one in exercises) for name in ("points", "out_of"))
    return {"points": points, "out_of": out_of, "exercises": exercises}


# ---- texts ------------------------------------------------------------------------------------------------


def _hiding(student: str) -> Callable[[str], str]:
    """`in_a_line`, with the name and its parts replaced, whatever marks their letters have.

    A part of five letters is replaced inside of words too, one of three or four where it is a word, as in
    `AdaLovelace`, and one of two where it is written alike: else what is left of "array" would tell of a Ray.
    """
    whole = _bare(student.removesuffix(".py"))
    parts = sorted(
        {whole, *re.split(r"[\W\d_]+", whole), *re.findall(r"\d{4,}", whole)}, key=len, reverse=True
    )
    pattern = re.compile("|".join(_of_name(part) for part in parts if len(part) > 1) or NEVER)
    return lambda text: pattern.sub("(name)", _bare(in_a_line(text)))


def _of_name(part: str) -> str:
    """What a part of a name looks like in a text."""
    word, letter = re.escape(part), r"[^\W\d_]"
    if len(part) > 4:
        return f"(?i:{word})"
    alone = f"(?<!{letter}){word if len(part) == 2 else f'(?i:{word})'}(?!{letter})"
    return alone if len(part) == 2 else f"{alone}|{re.escape(part.capitalize())}(?![a-z])"


def _bare(text: str) -> str:
    """Letters without their marks, as some write a name that has them."""
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def _texts(row: Row, shown: Callable[[str], str]) -> Row:
    """An exercise's row; what a student's code may have a say in is made fit to be shown."""
    if row["status"] not in ("failed", "ungraded"):
        return row
    properties = [one | {"note": shown(one["note"])} for one in row["properties"]]
    return row | {"problem": shown(row["problem"]), "properties": properties}
