"""`minidsv3 lesson`: the lessons, listed, played, exported.

On a terminal a lesson is played cell by cell, with keys (`lesson_player`). Without one, or with --all, every
cell runs once in order and only words come out: prose, what the cells print and show, and at the first cell
that fails its title and the traceback from the cell on, exit 1. `run --all` without a lesson runs them all.

Does: options, the run without keys. Does not: run cells itself (`minidsv3.learn.player`).

Next: minidsv3.cli.keyboard
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidsv3.learn.exercises import Lesson, find_lesson, lessons

if TYPE_CHECKING:
    from minidsv3.learn.percent import Cell
    from minidsv3.learn.player import CellResult, Player

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "List the lessons, play one cell by cell, forward and back, or export it."
EXAMPLES = [
    "minidsv3 lesson list",
    "minidsv3 lesson run 00              # with keys; goes on where you stopped",
    "minidsv3 lesson run                 # the lesson played last",
    "minidsv3 lesson run 05 --fast       # only the cells of the fast track",
    "minidsv3 lesson run --all           # every lesson, no keys, exit 1 if a cell fails",
    "minidsv3 lesson run 00 --json",
    "minidsv3 lesson export 00 --to html,ipynb",
]
LAST = Path(".minidsv3") / "last_lesson"  # in the working folder: the lesson played last


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("action", choices=["list", "run", "export"], help="what to do")
    parser.add_argument("lesson", nargs="?", help="a lesson's number, such as 00")
    parser.add_argument("--all", action="store_true", help="all cells without keys; no number: all lessons")
    parser.add_argument("--fast", action="store_true", help="stop only at the cells of the fast track")
    parser.add_argument("--restart", action="store_true", help="begin at the first cell")
    parser.add_argument("--original", action="store_true", help="the lesson as it came, not your edited copy")
    parser.add_argument("--json", action="store_true", help="one JSON object; all cells, no keys")
    parser.add_argument(
        "--to", default="html", metavar="FORMAT", help="export: ipynb, html, md, txt, svg, some or all (html)"
    )
    parser.add_argument("--out", type=Path, metavar="PATH", help="export: a file, a folder, or - for stdout")


def main(args: argparse.Namespace) -> int:
    """List, play or export; 1 if a cell failed."""
    if args.action == "list":
        return _list(args.json)
    if args.action == "export":
        from minidsv3.cli.lesson_export import export_lessons

        return export_lessons(args)
    keys = sys.stdin.isatty() and sys.stdout.isatty() and not (args.all or args.json)
    if args.lesson is None and args.all:
        chosen: Sequence[Lesson] = lessons()
    else:
        chosen = [find_lesson(args.lesson or _played_last())]
    if keys:
        return _play(args, chosen[0])
    if args.json:
        return _run_json(args, chosen)
    return max([_run_all(lesson, _player(args, lesson)) for lesson in chosen], default=0)


def _played_last() -> str:
    """The lesson played last in this folder, or the first."""
    try:
        name = LAST.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        name = ""
    return name if name in [lesson.id for lesson in lessons()] else lessons()[0].id


def _player(args: argparse.Namespace, lesson: Lesson) -> "Player":
    """Of the student's copy, if there is one and one lesson is asked for."""
    from minidsv3.cli.lesson_player import copy_of
    from minidsv3.learn.player import Player

    copy = copy_of(lesson, Path.cwd())
    own = args.lesson is not None or not args.all
    if not own or args.original or not copy.is_file():
        return Player.open(lesson.path)
    print(
        f"your copy: {copy.relative_to(Path.cwd())} (--original plays the lesson as it came)", file=sys.stderr
    )
    return Player.open(copy)


def _play(args: argparse.Namespace, lesson: Lesson) -> int:
    from minidsv3.cli.lesson_player import play

    with contextlib.suppress(OSError):
        LAST.parent.mkdir(exist_ok=True)
        LAST.write_text(f"{lesson.id}\n", encoding="utf-8")
    return play(lesson, _player(args, lesson), Path.cwd(), args.restart, fast=args.fast)


def _list(as_json: bool) -> int:
    from minidsv3.cli.terminal import print_json
    from minidsv3.learn.progress import read_progress

    stands = read_progress(Path.cwd())["lessons"]
    if as_json:
        rows = [_about(lesson) | {"cell": stands.get(lesson.id, {}).get("cell", 0)} for lesson in lessons()]
        print_json({"schema": "minidsv3.lessons/1", "lessons": rows})
        return 0
    for lesson in lessons():
        row = stands.get(lesson.id, {})
        where = f", you are behind cell {row['cell']} of {row['of']}" if row.get("cell") else ""
        print(f"{lesson.id}  {lesson.title}  ({lesson.minutes} minutes{where})")
        if lesson.needs:
            print(f"    builds on: {', '.join(lesson.needs)}")
        print(f"    exercise: {lesson.task}")
        print(f"    ends on: {lesson.anchor}")
    return 0


def _about(lesson: Lesson) -> dict[str, Any]:
    names = ("id", "name", "title", "minutes", "needs", "anchor", "task")
    return {name: getattr(lesson, name) for name in names}


# ---- without keys -----------------------------------------------------------------------------------------


def _run_json(args: argparse.Namespace, chosen: Sequence[Lesson]) -> int:
    from minidsv3.cli.terminal import print_json

    tables = [_ran(lesson, _player(args, lesson).run_all()) for lesson in chosen]
    ok = all(table["ok"] for table in tables)
    if len(tables) == 1:
        print_json({"schema": "minidsv3.lesson/1"} | tables[0])
    else:
        print_json({"schema": "minidsv3.lesson-runs/1", "ok": ok, "lessons": tables})
    return 0 if ok else 1


def _ran(lesson: Lesson, cells: "list[CellResult]") -> dict[str, Any]:
    ok = all(cell.ok for cell in cells)
    about = {"id": lesson.id, "title": lesson.title, "ok": ok}
    return about | {"cells": [cell.to_dict() for cell in cells]}


def _run_all(lesson: Lesson, player: "Player") -> int:
    from minidsv3.cli.terminal import results

    results()  # whatever the encoding lacks has a twin, in prose as well
    print(f"lesson {lesson.id}: {lesson.title}")
    ran = player.run_all(lambda result: _print(player.cells[result.index], result))
    if ran and not ran[-1].ok:
        return _failed(lesson, ran[-1])
    print()
    return 0


def _print(cell: "Cell", result: "CellResult") -> None:
    """A cell that has run."""
    print(f"\n== {cell.title or f'cell {result.index + 1}'}")
    if cell.kind == "markdown":
        print(cell.text)
    print(result.output, end="")
    _print_pictures(result)


def _print_pictures(result: "CellResult") -> None:
    from minidsv3.cli.terminal import reads_aloud, results

    console = results()
    for _, picture in result.pictures:
        console.print()
        console.print(picture.describe() if reads_aloud() else picture)


def _failed(lesson: Lesson, result: "CellResult") -> int:
    sys.stdout.flush()
    where = f"lesson {lesson.id}, cell {result.index + 1}, {result.title!r}"
    print(f"{where} failed:\n{result.error}", end="", file=sys.stderr)
    return 1
