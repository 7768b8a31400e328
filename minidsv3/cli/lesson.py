"""`minidsv3 lesson`: the lessons, listed and played.

On a terminal a lesson is played cell by cell, with keys (`lesson_player`). Without one, or with --all, every
cell runs once in order and only words come out: prose, what the cells print, and at the first cell that fails
its title and the traceback from the cell on, exit 1.

Does: options, the run without keys. Does not: run cells itself (`minidsv3.learn.player`).

Next: minidsv3.cli.lesson_player
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from minidsv3.learn.exercises import Lesson, find_lesson, lessons
from minidsv3.learn.player import CellResult, Player

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "List the lessons, or play one: cell by cell, forward and back."
EXAMPLES = [
    "minidsv3 lesson list",
    "minidsv3 lesson run 00              # with keys; goes on where you stopped",
    "minidsv3 lesson run 00 --all        # all cells, no keys, exit 1 if one fails",
    "minidsv3 lesson run 00 --json",
]


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("action", choices=["list", "run"], help="list the lessons, or run one")
    parser.add_argument("lesson", nargs="?", help="a lesson's number, such as 00")
    parser.add_argument("--all", action="store_true", help="run all cells without keys")
    parser.add_argument("--restart", action="store_true", help="begin at the first cell")
    parser.add_argument("--json", action="store_true", help="one JSON object; all cells, no keys")


def main(args: argparse.Namespace) -> int:
    """List or play; 1 if a cell failed."""
    if args.action == "list":
        return _list(args.json)
    if args.lesson is None:
        known = ", ".join(lesson.id for lesson in lessons())
        raise ValueError(f"expected which lesson to run: minidsv3 lesson run ID; known: {known}")
    lesson = find_lesson(args.lesson)
    player = Player.open(lesson.path)
    if args.json:
        return _run_json(lesson, player)
    if args.all or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return _run_all(lesson, player)
    from minidsv3.cli.lesson_player import play

    return play(lesson, player, Path.cwd(), args.restart)


def _list(as_json: bool) -> int:
    from minidsv3.cli.terminal import print_json

    if as_json:
        rows = [_about(lesson) for lesson in lessons()]
        print_json({"schema": "minidsv3.lessons/1", "lessons": rows})
    else:
        for lesson in lessons():
            print(f"{lesson.id}  {lesson.title}  ({lesson.minutes} minutes)")
            print(f"    exercise: {lesson.task}")
            print(f"    ends on: {lesson.anchor}")
    return 0


def _about(lesson: Lesson) -> dict[str, Any]:
    names = ("id", "name", "title", "minutes", "needs", "anchor", "task")
    return {name: getattr(lesson, name) for name in names}


def _run_json(lesson: Lesson, player: Player) -> int:
    from minidsv3.cli.terminal import print_json

    cells = [player.forward()]
    while player.cell is not None and cells[-1].ok:
        cells.append(player.forward())
    table = {"schema": "minidsv3.lesson/1", "id": lesson.id, "title": lesson.title, "ok": cells[-1].ok}
    print_json(table | {"cells": [cell.to_dict() for cell in cells]})
    return 0 if cells[-1].ok else 1


def _run_all(lesson: Lesson, player: Player) -> int:
    from minidsv3.cli.terminal import results

    results()  # whatever the encoding lacks is escaped
    print(f"lesson {lesson.id}: {lesson.title}")
    while player.cell is not None:
        cell = player.cell
        print(f"\n== {cell.title or f'cell {player.position + 1}'}")
        if cell.kind == "markdown":
            print(cell.text)
        result = player.forward()
        print(result.output, end="")
        if not result.ok:
            return _failed(lesson, result)
    return 0


def _failed(lesson: Lesson, result: CellResult) -> int:
    sys.stdout.flush()
    where = f"lesson {lesson.id}, cell {result.index + 1}, {result.title!r}"
    print(f"{where} failed:\n{result.error}", end="", file=sys.stderr)
    return 1
