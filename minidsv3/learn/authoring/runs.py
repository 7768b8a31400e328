"""A lesson run for its author: as plain Python among only the lessons it may count on, and in the player.

The plain run is a process of its own in a folder that holds the package and, of the lessons, this one and
those that it needs; whatever else it leans on is not there. The run in the player looks at what every cell
prints and shows: columns, and the words that stand for a picture where there is none.

Does: run, measure. Does not: read its text (`text`).

    >>> from minidsv3.learn.exercises import find_lesson
    >>> played(find_lesson("00")).findings
    ()

Next: minidsv3.learn.classroom
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from time import monotonic

from minidsv3.learn.authoring.text import Finding
from minidsv3.learn.exercises import Lesson, find_lesson
from minidsv3.learn.player import CellResult, Player

__all__ = ["Run", "plainly", "played"]

COLUMNS = 80  # of what a cell prints
MOST_SECONDS = 10.0  # of a whole lesson
LIMIT = 120  # seconds until a run is given up
START = "import runpy, sys; sys.path.insert(0, '.'); runpy.run_path(sys.argv[1], run_name='__main__')"


@dataclass(frozen=True)
class Run:
    """A lesson run to its end, or to the first cell that fails."""

    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0
    pictures: int = 0


def plainly(lesson: Lesson) -> Iterator[Finding]:
    """Runs as plain Python with only the lessons present that it needs."""
    with tempfile.TemporaryDirectory(prefix="minidsv3-") as folder:
        place = Path(folder)
        (place / "minidsv3").symlink_to(Path(str(resources.files("minidsv3"))))
        (place / "lessons").mkdir()
        for name, needed in _needed(lesson).items():
            (place / "lessons" / name).symlink_to(needed.folder)
        command = [sys.executable, "-c", START, f"lessons/{lesson.name}/lesson.py"]
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"}
        try:
            done = subprocess.run(
                command, cwd=place, capture_output=True, text=True, timeout=LIMIT, env=environment
            )
        except subprocess.TimeoutExpired:
            yield Finding("runs", "lesson.py", f"runs for more than {LIMIT} s", "make it smaller")
            return
    if done.returncode or done.stderr:
        says = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        yield Finding("runs", "lesson.py", f"as plain Python: {says}", f"python {lesson.name}/lesson.py")


def _needed(lesson: Lesson) -> dict[str, Lesson]:
    """By name: a lesson, those that it needs, and those that they need."""
    found, pending = {lesson.name: lesson}, [lesson]
    while pending:
        for needed in map(find_lesson, pending.pop().needs):
            if needed.name not in found:
                found[needed.name] = needed
                pending.append(needed)
    return found


def played(lesson: Lesson) -> Run:
    """Runs in the player: nothing fails, prints fit, pictures have words."""
    player, start = Player.open(lesson.path), monotonic()
    results = []
    while player.cell is not None:
        results.append(player.forward())
        if not results[-1].ok:
            break
    seconds = monotonic() - start
    found = [finding for result in results for finding in _looked_at(result, player)]
    if seconds > MOST_SECONDS:
        found.append(Finding("runs", "lesson.py", f"takes {seconds:.1f} s", f"{MOST_SECONDS:g} s at most"))
    return Run(tuple(found), seconds, sum(len(result.pictures) for result in results))


def _looked_at(result: CellResult, player: Player) -> Iterator[Finding]:
    cell = player.cells[result.index]
    where = f"lesson.py:{cell.line}"
    if not result.ok:
        yield Finding("runs", where, result.error.strip().splitlines()[-1], "make the cell run")
        return
    for line in result.output.splitlines():
        if len(line) > COLUMNS:
            yield Finding("width", where, f"prints {len(line)} columns", f"{COLUMNS} at most: {line[:40]}…")
    asked = [word for word in cell.options.get("show", "").split(";") if word.strip()]
    if cell.kind == "code" and not result.output.strip() and not asked:
        yield Finding("prints", where, "shows nothing", "print something worth seeing")
    if len(result.pictures) != len(asked):
        says = f"shows {len(result.pictures)} of {len(asked)} pictures"
        yield Finding("pictures", where, says, f"name values of the lesson: {cell.options.get('show')}")
    for name, picture in result.pictures:
        if not picture.describe().strip():
            yield Finding("pictures", where, f"{name} has no words", "write its describe()")
