"""`minidsv3 solution`: one way to solve an exercise, once yours passes, or --anyway.

With it come all hints, the op's equation, where the package computes it, and the counted work of yours
beside the solution's. Reading it before the exercise passes is remembered as skipped; nothing else follows.

Does: show. Does not: check again what passed, write over your file.

Next: minidsv3.cli.reset
"""

import argparse
import contextlib
import inspect
import sys
from pathlib import Path
from typing import Any

from minidsv3.cli.terminal import print_json, results
from minidsv3.learn.exercises import Lesson, find_lesson, student_place
from minidsv3.learn.progress import exercise_row, read_progress, record_skip

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "Show one way to solve an exercise, once yours passes."
EXAMPLES = [
    "minidsv3 solution 00             # after minidsv3 check 00 passed",
    "minidsv3 solution 00 --anyway    # before that",
    "minidsv3 solution 00 --json",
]


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("exercise", metavar="EX", help="an exercise's number, such as 00")
    parser.add_argument("--anyway", action="store_true", help="though it has not passed yet")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def main(args: argparse.Namespace) -> int:
    """Show it; 1 if the exercise has not passed."""
    lesson, folder = find_lesson(args.exercise), Path.cwd()
    passing = exercise_row(read_progress(folder), lesson.id)["state"].startswith("passing")
    if not passing and not args.anyway:
        ways = f"minidsv3 check {lesson.id}, minidsv3 hint {lesson.id}, or --anyway"
        print(f"minidsv3: expected exercise {lesson.id} to pass first: {ways}", file=sys.stderr)
        return 1
    if not passing:
        with contextlib.suppress(OSError):
            record_skip(folder, lesson.id)
    score = _score(lesson, folder) if passing else None
    if args.json:
        table = {"schema": "minidsv3.solution/1", "exercise": lesson.id, "solution": lesson.solution}
        print_json(table | {"hints": list(lesson.hints), "source": _source(lesson), "score": score})
        return 0
    console = results()
    for line in _lines(lesson, score):
        console.print(line, soft_wrap=True)
    return 0


def _lines(lesson: Lesson, score: dict[str, Any] | None) -> list[str]:
    from minidsv3.learn.result import equation_card
    from minidsv3.machine import look_up

    lines = [lesson.solution.rstrip(), "", *equation_card(look_up(lesson.op))]
    lines += [f"in the package: {_source(lesson)}", ""]
    lines += [f"hint {i}: {text}" for i, text in enumerate(lesson.hints, 1)]
    if score:
        lines += ["", f"counted work on {score['at']}:"]
        for kind, label in (("flops", "FLOPs"), ("bytes", "bytes moved"), ("memory", "bytes held")):
            row = score[kind]
            lines += [
                f"  {label}: yours {row['yours']:,}, solution {row['solution']:,} ({row['ratio']:.2g} x)"
            ]
    return lines


def _source(lesson: Lesson) -> str:
    """File and line of the primitive that computes the op."""
    from minidsv3.machine import look_up, primitives

    function = getattr(primitives, look_up(lesson.op).primitive)
    path = Path(inspect.getsourcefile(function) or "")
    _, line = inspect.getsourcelines(function)
    return f"{Path(*path.parts[-3:]).as_posix()}:{line}"


def _score(lesson: Lesson, folder: Path) -> dict[str, Any] | None:
    """Counted work of the student's file, if its lesson counts it."""
    path = student_place(lesson, folder)
    if path is None:
        return None
    from minidsv3.learn.checker import check

    result = check(lesson, path.read_text(encoding="utf-8"))
    return result.score.to_dict() if result.passed and result.score else None
