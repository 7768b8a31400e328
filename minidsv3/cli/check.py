"""`minidsv3 check`: check exercises, and show the smallest counterexample.

The file is `00_one_prediction/exercise.py` in the working folder, or `exercise_00.py`, or what --file names.
If there is none, the exercise is written there to be filled in. Without a number, all exercises that are in
the folder are checked up to the first that fails; --all checks every one. The student's code runs in a
process of its own with limits on memory, CPU and time: a guard against accidents, not a security boundary.

Does: find the files, keep the progress. Does not: check (`minidsv3.learn.checker`). The process is started
before anything else is imported: both take a moment.

Next: minidsv3.cli.check_panel
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidsv3.learn.exercises import Lesson, find_lesson, lessons, student_file, student_place

if TYPE_CHECKING:
    from minidsv3.learn.result import CheckResult
    from minidsv3.learn.sandbox.session import Warm

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "checked", "main", "read_source"]

SUMMARY = "Check exercises, and show the smallest input that breaks one."
EXAMPLES = [
    "minidsv3 check 00                   # writes the exercise first, if there is none",
    "minidsv3 check 00 --watch           # again whenever the file is saved",
    "minidsv3 check                      # what is in this folder, up to the first that fails",
    "minidsv3 check 00 --replay          # the last counterexample once more, with your prints",
    "minidsv3 check 00 --file my.py --json",
]


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("exercises", nargs="*", metavar="EX", help="an exercise's number, such as 00")
    parser.add_argument("--all", action="store_true", help="every exercise, whether or not one fails")
    parser.add_argument("--watch", action="store_true", help="check again whenever the file is saved")
    parser.add_argument("--file", type=Path, metavar="PATH", help="the file to check, of one exercise")
    parser.add_argument("--replay", action="store_true", help="only judge the saved counterexample again")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def main(args: argparse.Namespace) -> int:
    """Check; 0 if everything passed, else 1."""
    from minidsv3.learn.sandbox.session import Warm

    chosen = _chosen(args)
    with Warm() as warm:
        if args.watch:
            from minidsv3.cli.check_watch import watch

            return watch(chosen, args.file, warm)
        if len(chosen) == 1 and not args.all:
            return _one(chosen[0], args, warm)
        return _several(chosen, args, warm)


def _chosen(args: argparse.Namespace) -> list[Lesson]:
    """The exercises asked for; ValueError where options do not go together."""
    found = [find_lesson(name) for name in args.exercises]
    if (args.file or args.replay) and len(found) != 1:
        raise ValueError("expected one exercise with --file or --replay, such as minidsv3 check 00 --replay")
    if args.watch and (args.json or args.replay or args.all):
        raise ValueError("expected --watch without --json, --replay and --all: it shows one panel at a time")
    if args.all and not found:
        return list(lessons())
    begun = [lesson for lesson in lessons() if student_place(lesson, Path.cwd())]
    if not found and not begun:
        first = lessons()[0].id
        raise ValueError(f"expected exercises in this folder; begin with minidsv3 init . or check {first}")
    return found or begun


def read_source(path: Path) -> str:
    """A student's file; ValueError if it cannot be read as text."""
    if not path.is_file():
        raise ValueError(f"expected a file to check, found none at {path}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise ValueError(f"expected {path} to be UTF-8 text: {problem}") from problem


def checked(lesson: Lesson, path: Path, warm: Warm) -> CheckResult:
    """One check, kept: counterexample and progress are saved, the next hint is looked up."""
    from minidsv3.learn.checker import check, save_counterexample
    from minidsv3.learn.progress import next_hint, record_check

    source = read_source(path)
    result = check(lesson, source, worker=warm)
    with contextlib.suppress(OSError):
        record_check(Path.cwd(), lesson.id, source, result.passed)
    with contextlib.suppress(OSError):
        saved = save_counterexample(result, path.parent)
        result = replace(result, saved=None if saved is None else saved.name)
    return result if result.passed else replace(result, hint=next_hint(Path.cwd(), lesson))


# ---- one exercise -----------------------------------------------------------------------------------------


def _one(lesson: Lesson, args: argparse.Namespace, warm: Warm) -> int:
    path, written = (args.file, False) if args.file else student_file(lesson, Path.cwd())
    if written:
        return _begun(lesson, path, args.json)
    if args.replay:
        from minidsv3.learn.checker import check, load_counterexample

        replay = load_counterexample(path.parent)
        result = check(lesson, read_source(path), worker=warm, replay=replay)
        print("only the saved counterexample; without --replay everything is checked", file=sys.stderr)
    else:
        _talk(f"checking {path.name} ...")
        result = checked(lesson, path, warm)
    if args.file and result.replay:
        result = replace(result, replay=f"{result.replay} --file {args.file}")
    _print(result, args.json)
    return 0 if result.passed else 1


def _begun(lesson: Lesson, path: Path, as_json: bool) -> int:
    """There was nothing to check yet."""
    where = path.relative_to(Path.cwd())
    said = f"wrote {where}: fill in `{lesson.function}`, then check again"
    if as_json:
        from minidsv3.cli.terminal import print_json

        print_json(_untouched(lesson) | {"problem": said})
    else:
        print(f"exercise {lesson.id}: {lesson.task}\n{said}")
    return 1


def _untouched(lesson: Lesson) -> dict[str, Any]:
    table = {"schema": "minidsv3.check/2", "exercise": lesson.id, "title": lesson.title, "passed": False}
    return table | {"problem": "not begun", "outcomes": []}


def _print(result: CheckResult, as_json: bool) -> None:
    from minidsv3.cli.terminal import print_json, results

    if as_json:
        print_json(result.to_dict())
    else:
        from minidsv3.cli.check_panel import print_result

        print_result(results(), result)


def _talk(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


# ---- several ----------------------------------------------------------------------------------------------


def _several(chosen: list[Lesson], args: argparse.Namespace, warm: Warm) -> int:
    """A line for each exercise, the panel of the first that fails; later ones only with --all."""
    shown: list[dict[str, Any]] = []
    first: CheckResult | None = None
    for lesson in chosen:
        path = student_place(lesson, Path.cwd())
        result = checked(lesson, path, warm) if path else None
        shown.append(result.to_dict() if result else _untouched(lesson))
        if not args.json:
            print(f"{lesson.id}  {_word(result):9}  {lesson.title}")
        first = first or (result if result and not result.passed else None)
        if first and not args.all:
            break
    if args.json:
        from minidsv3.cli.terminal import print_json

        print_json(
            {"schema": "minidsv3.checks/1", "passed": all(r["passed"] for r in shown), "results": shown}
        )
    elif first:
        _print(first, False)
    return 0 if all(row["passed"] for row in shown) else 1


def _word(result: CheckResult | None) -> str:
    return "not begun" if result is None else "passed" if result.passed else "failed"
