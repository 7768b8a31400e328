"""What a lesson has to keep so that a student can trust it: checked for authors, before students find out.

Every lesson goes through the same rules: its files and manifest, the names and numbers of its text
(`text`), its run as plain Python with only the earlier lessons present and in the player
(`runs`), and its exercise: the stub fails, the solution passes, and every wrong solution in
`wrong/` is caught with a small counterexample, soon. The solution also passes at hidden seeds and sizes such
as classes are graded with: where it did not, no student could. A breach is a `Finding` that says what to do.

Does: findings and figures as data. Does not: judge whether the lesson teaches.

    >>> from minidsv3.learn.exercises import find_lesson
    >>> list(manifest(find_lesson("00"))), list(files(find_lesson("00")))
    ([], [])

Next: minidsv3.learn.authoring.text
"""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple

from minidsv3.learn.authoring.runs import Run, plainly, played
from minidsv3.learn.authoring.text import Finding, lines, names, numbers
from minidsv3.learn.checker import check
from minidsv3.learn.exercises import Lesson, lessons
from minidsv3.learn.result import CheckResult
from minidsv3.learn.sandbox.session import Limits, Warm
from minidsv3.machine import catalogue

__all__ = ["Caught", "Finding", "Report", "examine", "exercise", "files", "hidden", "manifest"]

FILES = ("lesson.toml", "lesson.py", "exercise.py", "solution.py", "check.py", "hints.toml")
HINTS = (3, 5)  # at least, at most
MINUTES = (5, 25)
LEAST_WRONG = 3  # wrong solutions
MOST_SECONDS = 5.0  # until one of them is found out
MOST_ELEMENTS = 16  # of its counterexample
HIDDEN = ((1, 2), (2, 5), (3, 3))  # seeds, and how much longer axes are
LONGEST_NAME, LONGEST_TITLE = 31, 40  # characters
WIDTH = 110  # columns of a source line


class Caught(NamedTuple):
    """How a wrong solution was found out."""

    name: str
    says: str  # what is wrong with it, by its docstring
    by: str  # the property
    elements: int  # of the counterexample
    seconds: float


@dataclass(frozen=True)
class Report:
    """A lesson and how it stands."""

    lesson: Lesson
    findings: tuple[Finding, ...]
    caught: tuple[Caught, ...]
    run: Run  # in the player

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "id": self.lesson.id,
            "name": self.lesson.name,
            "passed": not self.findings,
            "findings": [finding._asdict() for finding in self.findings],
            "wrong": [caught._asdict() for caught in self.caught],
            "seconds": round(self.run.seconds, 3),
            "pictures": self.run.pictures,
        }


def examine(chosen: Sequence[Lesson], commands: Collection[str] = ()) -> Iterator[Report]:
    """Every rule on these lessons, one after the other.  commands: of the command line, known by name."""
    with Warm() as worker:
        for lesson in chosen:
            yield _report(lesson, commands, worker)


def _report(lesson: Lesson, commands: Collection[str], worker: Warm) -> Report:
    missing = tuple(files(lesson))
    if missing:
        return Report(lesson, missing, (), Run())
    found = [*manifest(lesson), *lines(lesson), *names(lesson, commands), *numbers(lesson), *style(lesson)]
    found += plainly(lesson)
    run = played(lesson)
    broken, caught = exercise(lesson, worker)
    return Report(lesson, (*found, *run.findings, *broken), caught, run)


# ---- files and manifest -----------------------------------------------------------------------------------


def files(lesson: Lesson) -> Iterator[Finding]:
    """The folder holds what a lesson is made of, and nothing else."""
    there = {path.name for path in lesson.folder.iterdir()} - {"__pycache__"}
    for name in [name for name in FILES if name not in there]:
        yield Finding("files", lesson.name, f"{name} is missing", f"write {lesson.name}/{name}")
    for name in sorted(there - {*FILES, "wrong"}):
        yield Finding("files", name, "belongs to no lesson", f"remove {lesson.name}/{name}")


def manifest(lesson: Lesson) -> Iterator[Finding]:
    """`lesson.toml` and `hints.toml` hold what players, graders and students count on."""
    where, earlier = "lesson.toml", [other.id for other in lessons() if other.id < lesson.id]
    if len(lesson.name) > LONGEST_NAME or len(lesson.title) > LONGEST_TITLE:
        yield Finding("manifest", where, "the name or the title is long", f"shorten it to {LONGEST_TITLE}")
    if not MINUTES[0] <= lesson.minutes <= MINUTES[1]:
        yield Finding("manifest", where, f"{lesson.minutes} minutes", f"split it: {MINUTES[1]} at most")
    for need in [need for need in lesson.needs if need not in earlier]:
        yield Finding("order", where, f"needs {need}", f"name lessons before {lesson.id}: {earlier}")
    if any(other.id == lesson.id and other.name != lesson.name for other in lessons()):
        yield Finding("order", lesson.name, f"another lesson is {lesson.id} too", "give it another number")
    if lesson.op not in catalogue():
        yield Finding("manifest", where, f"no op {lesson.op!r}", "name an op of data/ops.toml")
    if not HINTS[0] <= len(lesson.hints) <= HINTS[1]:
        do = f"write {HINTS[0]} to {HINTS[1]}, the last one the line in words"
        yield Finding("hints", "hints.toml", f"{len(lesson.hints)} hints", do)
    yield from _functions(lesson)


def _functions(lesson: Lesson) -> Iterator[Finding]:
    """Stub and solution define the same functions with the same parameters; the stub says where to write."""
    if "TODO" not in lesson.stub:
        yield Finding("stub", "exercise.py", "nothing says where to write", "put a TODO where the work is")
    stub, solved = _signatures(lesson.stub), _signatures(lesson.solution)
    for name in lesson.functions:
        if name not in stub or stub[name] != solved.get(name):
            says = f"{name}{stub.get(name, ' not there')}; in solution.py {solved.get(name, 'not there')}"
            yield Finding("stub", "exercise.py", says, "give both the same functions and parameters")


def _signatures(source: str) -> dict[str, str]:
    found = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {node.name: f"({ast.unparse(node.args)})" for node in found}


def style(lesson: Lesson) -> Iterator[Finding]:
    """Lines fit the page; ruff agrees, where it is installed."""
    sources = [*sorted(lesson.folder.glob("*.py")), *sorted(lesson.folder.glob("wrong/*.py"))]
    for path in sources:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if len(line) > WIDTH:
                yield Finding("style", f"{path.name}:{number}", f"{len(line)} columns", f"{WIDTH} at most")
    if importlib.util.find_spec("ruff"):
        command = [sys.executable, "-m", "ruff", "format", "--check", "--quiet", "--line-length", str(WIDTH)]
        done = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True)
        if done.returncode == 1:
            yield Finding("style", lesson.name, "not formatted", f"ruff format --line-length {WIDTH}")


# ---- the exercise -----------------------------------------------------------------------------------------


def exercise(lesson: Lesson, worker: Warm) -> tuple[list[Finding], tuple[Caught, ...]]:
    """The stub fails, the solution passes, every wrong solution is caught; how."""
    found: list[Finding] = []
    if check(lesson, lesson.stub, worker=worker).passed:
        found.append(Finding("stub", "exercise.py", "the stub passes", "ask for more than it does"))
    solved = check(lesson, lesson.solution, worker=worker)
    if not solved.passed:
        found.append(
            Finding("solution", "solution.py", _why(solved), "correct the solution, or the property")
        )
    else:
        found += hidden(lesson, worker)
    if len(lesson.wrong) < LEAST_WRONG:
        do = f"write at least {LEAST_WRONG} that students really write"
        found.append(Finding("wrong", "wrong/", f"{len(lesson.wrong)} wrong solutions", do))
    caught = []
    for name, source in lesson.wrong.items():
        start = monotonic()
        result = check(lesson, source, worker=worker)
        how = _caught(name, source, result, monotonic() - start)
        found += _escaped(name, result, how)
        caught.append(how)
    return found, tuple(caught)


def hidden(lesson: Lesson, worker: Warm) -> Iterator[Finding]:
    """The solution passes at seeds and sizes of a class, within the limits that students have there."""
    for seed, larger in HIDDEN:
        solved = check(
            lesson, lesson.solution, worker=worker, limits=Limits(), seed=seed, larger=larger, every=True
        )
        if not solved.passed:
            says = f"at hidden seed {seed}, axes up to {larger} longer: {_why(solved)}"
            do = "correct the solution or the property: whoever solves it fails in a class with such a key"
            yield Finding("hidden", "solution.py", says, do)
            return


def _why(result: CheckResult) -> str:
    """What a solution that does not pass comes to grief at."""
    failed = result.failed
    return result.problem or (f"{failed.name}: {failed.because}" if failed else "no check ran")


def _caught(name: str, source: str, result: CheckResult, seconds: float) -> Caught:
    says = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    inputs = result.counterexample.inputs if result.counterexample else {}
    by = result.failed.name if result.failed else ""
    return Caught(name, says, by, sum(array.size for array in inputs.values()), round(seconds, 3))


def _escaped(name: str, result: CheckResult, how: Caught) -> Iterator[Finding]:
    """What is wrong with how a wrong solution was found out."""
    where, failed = f"wrong/{name}.py", result.failed
    if not how.says:
        yield Finding("wrong", where, "does not say what is wrong", "say it in the docstring's first line")
    if failed is None:
        yield Finding("wrong", where, "passes", "add a property that it breaks")
    elif failed.stage == "loads":
        yield Finding("wrong", where, f"does not load: {failed.because}", "make it run")
    elif result.counterexample is None and failed.stage != "cost":
        yield Finding("wrong", where, f"{failed.name} shows no input", "give the property inputs to shrink")
    if how.elements > MOST_ELEMENTS:
        says = f"its counterexample has {how.elements} elements"
        yield Finding("wrong", where, says, f"draw smaller inputs: {MOST_ELEMENTS} at most")
    if how.seconds > MOST_SECONDS:
        says = f"found out after {how.seconds:.1f} s"
        yield Finding("wrong", where, says, f"draw less: {MOST_SECONDS:g} s at most")
