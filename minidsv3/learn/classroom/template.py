"""A class begun: a folder for the students, one for the instructor, and an empty one for what comes back.

    DIR/student/       stubs of the exercises and a README, no solutions, no hidden seeds or sizes: hand out
    DIR/instructor/    key.toml (exercises, hidden seeds, sizes, points, weights) and GRADING.md: keep
    DIR/submissions/   one folder a student, or one .py file: collect

Seeds, sizes and the salt of the ids are drawn from the system's randomness. Points are those that the
lessons give their properties; the solution is checked with the new key, so that the key can be passed.

Does: write the folders. Does not: overwrite anything, or lock anything that a student has.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     begun = new_class(Path(folder) / "autumn", ["00"])
    ...     [path.name for path in sorted(begun.student.iterdir())]
    ['00_one_prediction', 'README.md']

Next: minidsv3.learn.classroom.submission
"""

import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from string import Template

from minidsv3 import __version__
from minidsv3.learn.classroom.key import KEY, ExerciseKey, Key
from minidsv3.learn.exercises import Lesson, find_lesson
from minidsv3.learn.result import Outcome

__all__ = ["GUIDE", "NewClass", "drawn_key", "new_class"]

GUIDE = "GRADING.md"
LARGER = (2, 5)  # how much longer hidden axes may be, at least and at most
MOST_SEED = 2**31


@dataclass(frozen=True)
class NewClass:
    """Where the folders of a class are."""

    folder: Path
    key: Key

    @property
    def student(self) -> Path:
        """To be handed out."""
        return self.folder / "student"

    @property
    def instructor(self) -> Path:
        """To be kept."""
        return self.folder / "instructor"

    @property
    def submissions(self) -> Path:
        """What comes back."""
        return self.folder / "submissions"


def new_class(folder: Path, exercises: Sequence[str], draw: random.Random | None = None) -> NewClass:
    """Write the folders of a class; ValueError if there is something already, or for an unknown exercise."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"expected a new or an empty folder, got {folder}, which has something in it")
    key, properties = drawn_key([find_lesson(name) for name in dict.fromkeys(exercises)], draw)
    begun = NewClass(folder, key)
    for place in (begun.student, begun.instructor, begun.submissions):
        place.mkdir(parents=True)
    begun.instructor.chmod(0o700)
    _write_student(begun.student, [one.lesson for one in key.exercises])
    sentences = {(exercise, name): one.sentence for (exercise, name), one in properties.items()}
    (begun.instructor / KEY).write_text(key.to_toml(sentences), encoding="utf-8")
    (begun.instructor / GUIDE).write_text(_guide(key, properties), encoding="utf-8")
    return begun


def drawn_key(
    exercises: Sequence[Lesson], draw: random.Random | None = None
) -> tuple[Key, Mapping[tuple[str, str], Outcome]]:
    """A fresh key, and the properties that it gives points for, by exercise and name."""
    from minidsv3.learn.classroom.grading import LIMITS, solved

    draw = draw or secrets.SystemRandom()
    keys, properties = [], dict[tuple[str, str], Outcome]()
    for lesson in exercises:
        by = ExerciseKey(lesson.id, draw.randrange(1, MOST_SEED), draw.randint(*LARGER), 1, {})
        found = solved(by, LIMITS)
        keys.append(replace(by, points={name: one.points for name, one in found.items()}))
        properties |= {(lesson.id, name): one for name, one in found.items()}
    return Key(f"{draw.getrandbits(128):032x}", tuple(keys)), properties


def _write_student(folder: Path, lessons: Sequence[Lesson]) -> None:
    for lesson in lessons:
        place = folder / lesson.name / "exercise.py"
        place.parent.mkdir()
        place.write_text(lesson.stub, encoding="utf-8")
    rows = [
        f"| {one.id} | {one.title} | {one.task} | `{one.name}/exercise.py` | {one.minutes} |"
        for one in lessons
    ]
    text = _text("README.md", version=__version__, first=lessons[0].id, exercises="\n".join(rows))
    (folder / "README.md").write_text(text, encoding="utf-8")


def _guide(key: Key, properties: Mapping[tuple[str, str], Outcome]) -> str:
    from minidsv3.learn.classroom.grades import CSV_COLUMNS, FIELDS
    from minidsv3.learn.classroom.grading import LIMITS

    rubric = [_rubric(one, properties) for one in key.exercises]
    return _text(
        GUIDE,
        version=__version__,
        rubric="\n\n".join(rubric),
        fields="\n".join(f"| `{name}` | {meaning} |" for name, meaning in FIELDS.items()),
        columns=", ".join(f"`{name}`" for name in CSV_COLUMNS),
        cpu=LIMITS.cpu_seconds,
        wall=f"{LIMITS.wall_seconds:g}",
        memory=LIMITS.memory_mib,
    )


def _rubric(one: ExerciseKey, properties: Mapping[tuple[str, str], Outcome]) -> str:
    lines = [f"### {one.exercise}, {one.lesson.title}: {one.out_of:g} points", "", one.lesson.task, ""]
    lines += ["| property | stage | points | what it asks for |", "|---|---|---|---|"]
    for name, points in one.points.items():
        found = properties[one.exercise, name]
        lines += [f"| `{name}` | {found.stage} | {points:g} | {found.sentence.replace('|', '/')} |"]
    return "\n".join(lines)


def _text(name: str, **values: object) -> str:
    """A text of `data/classroom` with its `$names` filled in."""
    place = resources.files("minidsv3") / "data" / "classroom" / name
    return Template(place.read_text(encoding="utf-8")).substitute(values)
