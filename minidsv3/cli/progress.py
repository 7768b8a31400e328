"""`minidsv3 progress`: exercises done and ideas met, from results alone.

An exercise is done when its check passed, an idea is met when all cells of its lesson ran. Nothing is locked:
what is listed as next is only advice. The file is `.minidsv3/progress.json` in the working folder; copy it to
another machine and --merge it there: of each row the one that got further stays.

Does: show, merge. Does not: check.

Next: minidsv3.cli.classes
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidsv3.cli.terminal import print_json, reads_aloud, results, talk
from minidsv3.learn.exercises import Lesson, lessons
from minidsv3.learn.progress import exercise_row, merge_file, read_progress

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "Show the exercises done and the ideas met."
EXAMPLES = [
    "minidsv3 progress",
    "minidsv3 progress --merge ../laptop/.minidsv3/progress.json",
    "minidsv3 progress --json",
]
MARKS = {"untouched": ".", "skipped": "-", "failing": "x", "passing-with-hints": "+", "passing": "*"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--merge", type=Path, metavar="FILE", help="another folder's progress file")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def main(args: argparse.Namespace) -> int:
    """Show where the working folder stands."""
    folder = Path.cwd()
    broken = folder / ".minidsv3" / "progress.broken.json"
    before = _written(broken)
    progress = merge_file(folder, args.merge) if args.merge else read_progress(folder)
    if _written(broken) != before:
        kept = f"it is kept as {broken.relative_to(folder)}, and a new one begins"
        talk().print(f"progress.json could not be read; {kept}", soft_wrap=True)
    rows = [_row(lesson, progress) for lesson in lessons()]
    done = sum(row["state"].startswith("passing") for row in rows)
    met = sum(row["met"] for row in rows)
    if args.json:
        table = {"schema": "minidsv3.standing/1", "done": done, "met": met, "of": len(rows), "lessons": rows}
        print_json(table)
        return 0
    console = results()
    if reads_aloud() or not console.is_terminal:
        for row in rows:
            console.print(_sentence(row), soft_wrap=True)
    else:
        console.print(_table(rows))
    console.print(f"{done} of {len(rows)} exercises done, {met} of {len(rows)} ideas met", soft_wrap=True)
    console.print(_advice(rows), soft_wrap=True)
    return 0


def _written(path: Path) -> int | None:
    """What a new file at this place changes."""
    return path.stat().st_ino if path.is_file() else None


def _row(lesson: Lesson, progress: dict[str, Any]) -> dict[str, Any]:
    """Where one lesson stands."""
    row, seen = exercise_row(progress, lesson.id), progress["lessons"].get(lesson.id, {})
    of, furthest = seen.get("of", 0), seen.get("furthest", 0)
    return {
        "id": lesson.id,
        "title": lesson.title,
        "state": row["state"],
        "attempts": row["attempts"],
        "hints": row["hints"],
        "cells": furthest,
        "of": of,
        "met": bool(of) and furthest >= of,
        "idea": lesson.anchor,
    }


def _cells(row: dict[str, Any]) -> str:
    if row["met"]:
        return "idea met"
    return f"{row['cells']} of {row['of']} cells" if row["of"] else "not begun"


def _sentence(row: dict[str, Any]) -> str:
    hints = f", hints {row['hints']}" if row["hints"] else ""
    return f"{row['id']} {row['title']}: lesson {_cells(row)}; exercise {row['state']}{hints}"


def _table(rows: list[dict[str, Any]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("", "", "lesson", "exercise", "hints"):
        table.add_column(name)
    for row in rows:
        state = f"{MARKS[row['state']]} {row['state']}"
        table.add_row(row["id"], row["title"], _cells(row), state, str(row["hints"] or ""))
    return table


def _advice(rows: list[dict[str, Any]]) -> str:
    """The first thing that is not done; only advice."""
    for row in rows:
        if not row["state"].startswith("passing"):
            begun = row["state"] != "untouched" or row["met"]
            return f"next: minidsv3 {'check' if begun else 'lesson run'} {row['id']}"
    return "all done: minidsv3 solution EX shows another way"
