"""The lessons on the disk: where they are, what each one holds, and how to find one by its number.

A lesson is a folder `NN_name` with `lesson.toml` (title, minutes, needs, anchor, and the exercise's functions
and op), `lesson.py`, `exercise.py` (the stub), `solution.py`, `check.py` (the properties), `hints.toml` and
`wrong/` (wrong solutions, the first line of each docstring saying what is wrong). An installed package has
the folders as `minidsv3/_lessons`, a checkout beside the package.

Does: find, read, write a stub into the student's folder. Does not: run anything of it.

    >>> lesson = find_lesson("00")
    >>> lesson.title, lesson.function, len(lesson.hints) >= 3
    ('One prediction', 'softmax', True)
    >>> find_lesson("99")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: expected a lesson, got '99': ...

Next: minidsv3.learn.progress
"""

import ast
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

from minidsv3.config import near

__all__ = ["Lesson", "find_lesson", "lessons", "lessons_folder", "student_file", "student_place"]


@dataclass(frozen=True)
class Lesson:
    """A lesson and its exercise."""

    id: str  # "00"
    name: str  # "00_one_prediction", the folder
    folder: Path
    title: str
    minutes: int
    needs: tuple[str, ...]  # ids of lessons that help; nothing is locked
    anchor: str  # the number of the report or the hardware that the lesson ends on
    task: str  # the exercise in one sentence
    functions: tuple[str, ...]  # that the student writes
    op: str  # of the catalogue, for the equation card
    hints: tuple[str, ...]
    card: tuple[str, ...] = ()  # in place of the op's card: what the exercise is about, then where it is

    @property
    def function(self) -> str:
        """The first function that the student writes."""
        return self.functions[0]

    @property
    def path(self) -> Path:
        """The lesson's cells."""
        return self.folder / "lesson.py"

    @property
    def stub(self) -> str:
        """The exercise as the student gets it."""
        return (self.folder / "exercise.py").read_text(encoding="utf-8")

    @property
    def solution(self) -> str:
        """One way to do it."""
        return (self.folder / "solution.py").read_text(encoding="utf-8")

    @property
    def wrong(self) -> dict[str, str]:
        """Sources of solutions that are wrong, by name."""
        found = sorted((self.folder / "wrong").glob("*.py"))
        return {path.stem: path.read_text(encoding="utf-8") for path in found}

    def parameters(self, function: str) -> tuple[str, ...]:
        """Names of a function's parameters, as the stub has them."""
        for node in ast.walk(ast.parse(self.stub)):
            if isinstance(node, ast.FunctionDef) and node.name == function:
                return tuple(argument.arg for argument in node.args.args)
        raise ValueError(f"{self.name}: expected {function!r} in exercise.py, as lesson.toml says")


def lessons_folder() -> Path:
    """Where the lessons are: inside an installed package, or beside it in a checkout."""
    package = Path(str(resources.files("minidsv3")))
    for folder in (package / "_lessons", package.parent / "lessons"):
        if folder.is_dir():
            return folder
    raise OSError(f"expected the lessons in {package / '_lessons'}; reinstall minidsv3")


@lru_cache
def lessons() -> tuple[Lesson, ...]:
    """All lessons in their order."""
    return tuple(_read(path.parent) for path in sorted(lessons_folder().glob("[0-9]*/lesson.toml")))


def _read(folder: Path) -> Lesson:
    table = tomllib.loads((folder / "lesson.toml").read_text(encoding="utf-8"))
    hints = tomllib.loads((folder / "hints.toml").read_text(encoding="utf-8"))["hints"]
    exercise = table["exercise"]
    return Lesson(
        id=folder.name.partition("_")[0],
        name=folder.name,
        folder=folder,
        title=table["title"],
        minutes=table["minutes"],
        needs=tuple(table["needs"]),
        anchor=table["anchor"],
        task=exercise["task"],
        functions=tuple(exercise["functions"]),
        op=exercise["op"],
        card=tuple(exercise.get("card", ())),
        hints=tuple(hints),
    )


def find_lesson(name: str) -> Lesson:
    """The lesson with this number, 5 or 05, or folder name; ValueError that names the near ones."""
    for lesson in lessons():
        if name in (lesson.id, lesson.name) or (name.isdecimal() and name.zfill(2) == lesson.id):
            return lesson
    known = [lesson.name for lesson in lessons()]
    raise ValueError(f"expected a lesson, got {name!r}: {near(name, known)}")


def student_place(lesson: Lesson, folder: Path) -> Path | None:
    """The student's file in a working folder; None if there is none."""
    places = (folder / lesson.name / "exercise.py", folder / f"exercise_{lesson.id}.py")
    return next((place for place in places if place.is_file()), None)


def student_file(lesson: Lesson, folder: Path) -> tuple[Path, bool]:
    """The student's file in a working folder, and whether the stub was only now written there."""
    found = student_place(lesson, folder)
    if found is not None:
        return found, False
    place = folder / lesson.name / "exercise.py"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(lesson.stub, encoding="utf-8")
    return place, True
