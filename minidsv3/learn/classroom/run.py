"""A folder of submissions in, the table of grades out: the key found, checked, and everything graded by it.

Before a class is graded the solutions are, with the same key: if the package's own solution does not get all
the points, nobody's grades would mean anything, and it is said instead.

The journal and the counterexamples go to the folder of the key. A run that was killed goes on by itself where
it stopped, and a run after it grades only what was handed in or changed since; a change of the key, of the
package's checks or of the limits grades everything anew. Without a key, what the students see is graded:
every exercise that somebody began, at the numbers that `minidsv3 check` draws, all weights 1.

Does: find, check, go through. Does not: print.

    >>> find_key(Path("no/such/folder"), Path("no/key.toml"))
    Traceback (most recent call last):
    ValueError: expected a key, the key.toml of `class new`, found none at no/key.toml

Next: minidsv3.learn.classroom.summary
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minidsv3 import __version__
from minidsv3.learn.classroom.batch import Batch, Graded, default_jobs, digest_of
from minidsv3.learn.classroom.grades import grades
from minidsv3.learn.classroom.grading import LIMITS, limits_held, solved
from minidsv3.learn.classroom.journal import Journal
from minidsv3.learn.classroom.key import KEY, ExerciseKey, Key, read_key
from minidsv3.learn.classroom.submission import Handed, Submission, hand_in, submissions_in
from minidsv3.learn.exercises import Lesson, lessons
from minidsv3.learn.result import Outcome
from minidsv3.learn.sandbox.session import Limits

__all__ = ["Plan", "find_key", "grade_class", "plan"]

Progress = Callable[[int, int, Graded | None], None]
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is going to be graded, and by which key."""

    submissions: Sequence[Submission]
    key: Key
    home: Path | None  # the key's folder; None without a key
    folder: Path  # of all submissions


def find_key(submissions: Path, named: Path | None = None) -> Path | None:
    """The key named, or that beside the submissions, or in the working folder; None if there is none."""
    if named is not None:
        place = named / KEY if named.is_dir() else named
        if not place.is_file():
            raise ValueError(f"expected a key, the key.toml of `class new`, found none at {named}")
        return place
    beside = submissions.absolute().parent
    places = (beside / "instructor", Path.cwd() / "instructor", beside, Path.cwd())  # never among submissions
    return next((place / KEY for place in places if (place / KEY).is_file()), None)


def plan(submissions: Path, key: Path | None = None, besides: Collection[Path] = ()) -> Plan:
    """Who handed in, and the key; `besides` are files in that folder that are no submissions."""
    place = find_key(submissions, key)
    if place is not None:
        found = read_key(place)
        return Plan(submissions_in(submissions, found, besides), found, place.parent, submissions)
    open_key = Key("none", tuple(ExerciseKey(one.id, 0, 0, 1, {}) for one in lessons()))
    handed_in = submissions_in(submissions, open_key, besides)
    there = [
        one
        for one in open_key.exercises
        if any(_attempted(hand_in(submission, one.lesson), one.lesson) for submission in handed_in)
    ]
    key_of_these = replace(open_key, exercises=tuple(there) or open_key.exercises)
    return Plan(handed_in, key_of_these, None, submissions)


def _attempted(handed: Handed, lesson: Lesson) -> bool:
    """Whether a file defines a function of the exercise."""
    return any(f"def {name}(" in (handed.source or "") for name in lesson.functions)


def grade_class(
    planned: Plan,
    jobs: int | None = None,
    anonymous: bool = False,
    again: bool = False,
    limits: Limits = LIMITS,
    progress: Progress | None = None,
) -> Row:
    """Grade every submission  ->  the table of `grades`.

    again: forget what was graded before  progress: called with done, total and the one just done (None at
    the start)  ValueError if the key does not fit, or if `anonymous` without a key: ids need its salt.
    """
    if anonymous and planned.home is None:
        raise ValueError("expected a key for an anonymous report, whose ids need its salt; see `class new`")
    found = {one.exercise: solved(one, limits) for one in planned.key.exercises}
    key = _with_points(planned.key, found)
    hidden = [planned.folder, *([planned.home] if planned.home else [])]
    batch = Batch(key, limits, planned.home, anonymous, jobs or default_jobs(), hidden)
    say, total = progress or (lambda done, total, last: None), len(planned.submissions)
    graded: list[Graded] = []
    with ExitStack() as held:
        journal = None
        if planned.home is not None:
            name = "journal-anonymous.jsonl" if anonymous else "journal.jsonl"
            journal = held.enter_context(Journal(planned.home / name, _belongs(key, limits), again))
        say(0, total, None)
        # in the order of names the journal's lines would be a list of names
        order = sorted(planned.submissions, key=lambda one: one.id) if anonymous else planned.submissions
        for one in batch.run(order, journal):
            graded.append(one)
            say(len(graded), total, one)
    about = {(id, name): (o.stage, o.sentence) for id, all_of in found.items() for name, o in all_of.items()}
    return grades(key, about, graded, anonymous, limits_held(key.exercises[0], limits))


def _with_points(key: Key, found: dict[str, dict[str, Outcome]]) -> Key:
    """The key, the lesson's points where it has none."""
    return replace(
        key,
        exercises=tuple(
            one if one.points else replace(one, points={n: o.points for n, o in found[one.exercise].items()})
            for one in key.exercises
        ),
    )


def _belongs(key: Key, limits: Limits) -> str:
    """Everything that grades depend on beside the submissions."""
    files = ("lesson.toml", "check.py", "exercise.py", "solution.py")
    texts = [
        (one.lesson.folder / name).read_text(encoding="utf-8") for one in key.exercises for name in files
    ]
    return digest_of(__version__, key.to_toml(), repr(limits), *texts)
