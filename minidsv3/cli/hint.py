"""`minidsv3 hint`: the next hint of an exercise, one at a time.

Hints go from what to look at to the line in words. Those that were shown before come again above the new one;
after success all of them are shown, since they teach. How many were shown is kept in the progress.

Does: show, count. Does not: hold one back that is asked for.

Next: minidsv3.cli.solution
"""

import argparse
import contextlib
from pathlib import Path

from minidsv3.cli.terminal import print_json, results
from minidsv3.learn.exercises import find_lesson
from minidsv3.learn.progress import exercise_row, next_hint, read_progress, record_hint

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "Show the next hint of an exercise."
EXAMPLES = [
    "minidsv3 hint 00            # one more each time",
    "minidsv3 hint 00 --again    # those shown so far",
    "minidsv3 hint 00 --json",
]


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("exercise", metavar="EX", help="an exercise's number, such as 00")
    parser.add_argument("--again", action="store_true", help="only those that were shown before")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def main(args: argparse.Namespace) -> int:
    """Show the hints so far and one more."""
    lesson, folder = find_lesson(args.exercise), Path.cwd()
    row, number = exercise_row(read_progress(folder), lesson.id), 0
    if row["state"].startswith("passing"):
        number = len(lesson.hints)
    elif args.again:
        number = row["hints"]
    elif found := next_hint(folder, lesson):
        number = found[0]
        with contextlib.suppress(OSError):
            record_hint(folder, lesson.id, number)
    shown = lesson.hints[:number]
    if args.json:
        print_json(
            {
                "schema": "minidsv3.hint/1",
                "exercise": lesson.id,
                "of": len(lesson.hints),
                "shown": list(shown),
                "state": row["state"],
            }
        )
        return 0
    console = results()
    for i, text in enumerate(shown, 1):
        console.print(f"hint {i} of {len(lesson.hints)}: {text}")
    console.print(_next(lesson.id, number, len(lesson.hints)), soft_wrap=True)
    return 0


def _next(exercise: str, number: int, of: int) -> str:
    """What to do then."""
    if not number:
        return f"no hint was shown so far; the first: minidsv3 hint {exercise}"
    if number < of:
        return f"check: minidsv3 check {exercise}"
    return f"that was the last; one way to do it: minidsv3 solution {exercise} (--anyway before it passes)"
