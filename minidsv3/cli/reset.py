"""`minidsv3 reset`: begin an exercise anew; what you wrote is kept beside it.

The progress of the exercise begins anew too: attempts, hints and state.

Does: put the stub back, move yours to `exercise.before.py` (or `.before-2.py`, and so on), clear its
progress. Does not: delete anything of yours.

Next: minidsv3.cli.progress
"""

import argparse
from pathlib import Path

from minidsv3.learn.exercises import Lesson, find_lesson, student_file
from minidsv3.learn.progress import record_reset

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "Begin an exercise anew; what you wrote is kept beside it."
EXAMPLES = ["minidsv3 reset 00", "minidsv3 reset 00 05", "minidsv3 reset 00 && minidsv3 check 00 --watch"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("exercises", nargs="+", metavar="EX", help="an exercise's number, such as 00")


def main(args: argparse.Namespace) -> int:
    """Reset each of them."""
    for lesson in [find_lesson(name) for name in args.exercises]:
        path, written = student_file(lesson, Path.cwd())
        kept = None if written or _is_stub(lesson, path) else _put_aside(path)
        path.write_text(lesson.stub, encoding="utf-8")
        record_reset(Path.cwd(), lesson.id)
        where = path.relative_to(Path.cwd())
        print(f"{where} is the stub again" + (f"; yours is {kept.relative_to(Path.cwd())}" if kept else ""))
    return 0


def _is_stub(lesson: Lesson, path: Path) -> bool:
    return path.read_bytes() == lesson.stub.encode()


def _put_aside(path: Path) -> Path:
    """Give the file a name that is free."""
    number = 1
    while (place := path.with_suffix(f".before{'' if number == 1 else f'-{number}'}.py")).exists():
        number += 1
    return path.replace(place)
