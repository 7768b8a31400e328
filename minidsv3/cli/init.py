"""`minidsv3 init DIR`: a working folder with the exercises of the installed package.

Each exercise gets a folder with its stub; beside them stand a README and `test_exercises.py`, so that
`python -m pytest` runs the same checks. Files that are there already stay as they are.

Does: write what is missing. Does not: copy solutions, checks or hints; those stay in the package.

Next: minidsv3.cli.check
"""

import argparse
from pathlib import Path

from minidsv3.cli.terminal import word
from minidsv3.learn.exercises import Lesson, find_lesson, lessons, student_place

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "Write the exercises into a folder to work in."
EXAMPLES = [
    "minidsv3 init course",
    "minidsv3 init .",
    "minidsv3 init course --exercises 00,05",
]
README = """# Exercises of minidsv3

Each folder holds one exercise. Work in its `exercise.py`; nothing is locked, begin where you like.

{exercises}

| command, in this folder | what it does |
|---|---|
| `minidsv3 lesson run 00` | the lesson, cell by cell |
| `minidsv3 check 00 --watch` | checks whenever you save; shows the smallest input that fails |
| `minidsv3 hint 00` | one more hint |
| `minidsv3 solution 00` | one way to do it, once yours passes |
| `minidsv3 reset 00` | the stub again; yours is kept |
| `minidsv3 progress` | exercises done, ideas met |
| `python -m pytest` | the same checks under pytest |

Progress is in `.minidsv3/progress.json`: no names, no paths. To bring two machines together:
`minidsv3 progress --merge FILE`.
"""
TESTS = '''"""The checks of minidsv3 for whoever lives in pytest: python -m pytest (-k 00 for one of them)."""

from pathlib import Path

import pytest

from minidsv3.learn.checker import assert_passes

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("exercise", {numbers})
def test_exercise(exercise):
    try:
        assert_passes(exercise, FOLDER)
    except AssertionError as failure:
        pytest.fail(str(failure), pytrace=False)
'''


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder, made if there is none")
    parser.add_argument("--exercises", metavar="EX,EX", help="only these")


def main(args: argparse.Namespace) -> int:
    """Write what is missing."""
    names = [name.strip() for name in args.exercises.split(",")] if args.exercises else []
    chosen = [find_lesson(name) for name in names] or list(lessons())
    if args.folder.exists() and not args.folder.is_dir():
        raise ValueError(f"expected a folder, got the file {args.folder}")
    args.folder.mkdir(parents=True, exist_ok=True)
    written = [path for lesson in chosen for path in _exercise(lesson, args.folder)]
    written += _file(args.folder / "README.md", _readme(chosen))
    written += _file(args.folder / "test_exercises.py", _tests(chosen))
    for path in written:
        print(f"wrote {path}")
    if not written:
        print(f"everything is there already; your files in {args.folder} stay as they are")
    here = "" if args.folder.resolve() == Path.cwd() else f"cd {word(args.folder)} && "
    print(f"begin: {here}minidsv3 lesson run {chosen[0].id}, then minidsv3 check {chosen[0].id} --watch")
    return 0


def _exercise(lesson: Lesson, folder: Path) -> list[Path]:
    """The stub of an exercise, unless the folder has the exercise."""
    if student_place(lesson, folder):
        return []
    place = folder / lesson.name / "exercise.py"
    place.parent.mkdir(exist_ok=True)
    return _file(place, lesson.stub)


def _file(path: Path, text: str) -> list[Path]:
    if path.exists():
        return []
    path.write_text(text, encoding="utf-8")
    return [path]


def _readme(chosen: list[Lesson]) -> str:
    rows = [f"- `{lesson.name}` ({lesson.minutes} min): {lesson.task}" for lesson in chosen]
    return README.format(exercises="\n".join(rows))


def _tests(chosen: list[Lesson]) -> str:
    numbers = ", ".join(f'"{lesson.id}"' for lesson in chosen)
    return TESTS.format(numbers=f"[{numbers}]")
