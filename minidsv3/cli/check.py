"""`minidsv3 check`: check an exercise, and show the smallest counterexample.

The file is `00_one_prediction/exercise.py` in the working folder, or `exercise_00.py`, or what --file names.
If there is none, the exercise is written there to be filled in. The student's code runs in a process of its
own with limits on memory, CPU and time: a guard against accidents, not a security boundary.

Does: find the file, colour the panel, keep the progress. Does not: check (`minidsv3.learn.checker`).

This is the last page of the book.
"""

import argparse
import contextlib
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from minidsv3.learn.checker import check, hint, load_counterexample, save_counterexample
from minidsv3.learn.exercises import Lesson, find_lesson, student_file
from minidsv3.learn.progress import record_check
from minidsv3.learn.result import CheckResult, panel

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "Check an exercise, and show the smallest input that breaks it."
EXAMPLES = [
    "minidsv3 check 00                   # writes the exercise first, if there is none",
    "minidsv3 check 00 --file my.py",
    "minidsv3 check 00 --replay          # the last counterexample once more, with your prints",
    "minidsv3 check 00 --json",
]
STYLES = {"  passed": "green", "  failed": "bold red", "  skipped": "dim", "expected:": "bold"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("exercise", help="an exercise's number, such as 00")
    parser.add_argument("--file", type=Path, metavar="PATH", help="the file to check")
    parser.add_argument("--replay", action="store_true", help="only call the saved counterexample again")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def main(args: argparse.Namespace) -> int:
    """Check; 0 if everything passed, else 1."""
    lesson = find_lesson(args.exercise)
    path, written = _file(lesson, args.file)
    if written:
        return _begun(lesson, path, args.json)
    try:
        source = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise ValueError(f"expected {path} to be UTF-8 text: {problem}") from problem
    if sys.stderr.isatty():
        print(f"checking {path.name} …", file=sys.stderr)
    if args.replay:
        result = check(lesson, source, replay=load_counterexample(path.parent))
        print("only the saved counterexample; without --replay everything is checked", file=sys.stderr)
    else:
        result = _kept(check(lesson, source), lesson, source, path.parent)
    if args.file and result.replay:
        result = replace(result, replay=f"{result.replay} --file {args.file}")
    _print(result, args.json)
    return 0 if result.passed else 1


def _file(lesson: Lesson, named: Path | None) -> tuple[Path, bool]:
    if named is None:
        return student_file(lesson, Path.cwd())
    if not named.is_file():
        raise ValueError(f"expected a file to check, found none at {named}")
    return named, False


def _begun(lesson: Lesson, path: Path, as_json: bool) -> int:
    """There was nothing to check yet."""
    where = path.relative_to(Path.cwd())
    said = f"wrote {where}: fill in `{lesson.function}`, then check again"
    if as_json:
        from minidsv3.cli.terminal import print_json

        table = {"schema": "minidsv3.check/1", "exercise": lesson.id, "title": lesson.title, "passed": False}
        print_json(table | {"problem": said, "outcomes": []})
    else:
        print(f"exercise {lesson.id}: {lesson.task}\n{said}")
    return 1


def _kept(result: CheckResult, lesson: Lesson, source: str, folder: Path) -> CheckResult:
    """Save counterexample and progress, as far as the folders allow; the hint goes by the attempts so far."""
    attempts = 1
    with contextlib.suppress(OSError):
        attempts = record_check(Path.cwd(), lesson.id, source, result.passed)
    with contextlib.suppress(OSError):
        saved = save_counterexample(result, folder)
        result = replace(result, saved=None if saved is None else saved.name)
    return result if result.passed else replace(result, hint=hint(lesson, attempts))


def _print(result: CheckResult, as_json: bool) -> None:
    from minidsv3.cli.terminal import print_json, results

    console = results()
    if as_json:
        print_json(result.to_dict())
    elif console.is_terminal and not console.is_dumb_terminal:
        console.print(_coloured(result))
    else:
        _plain(console, panel(result))


def _plain(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def _coloured(result: CheckResult) -> Panel:
    """The plain panel in a frame; colour says nothing that the words do not."""
    title, *lines = panel(result)
    text = Text("\n").join(_line(line) for line in lines)
    border = "green" if result.passed else "red"
    return Panel(text, title=Text(title), title_align="left", border_style=border)


def _line(line: str) -> Text:
    style = next((style for start, style in STYLES.items() if line.startswith(start)), "")
    text = Text(line, style=style)
    text.highlight_regex(r"\S+\*", "bold red")
    return text
