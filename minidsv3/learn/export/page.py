"""What a lesson shows when it runs from beginning to end: its cells with their output and pictures.

Does: run a lesson in a player, keep what came out. Does not: write it in any format.

    >>> from minidsv3.learn.exercises import find_lesson
    >>> page = lesson_page(find_lesson("00"))
    >>> page.title, page.cells[0].cell.kind
    ('One prediction', 'markdown')

Next: minidsv3.learn.export.prose
"""

from dataclasses import dataclass
from typing import Any

from minidsv3.learn.exercises import Lesson
from minidsv3.learn.percent import Cell
from minidsv3.learn.player import Player

__all__ = ["LessonFailed", "LessonPage", "Shown", "lesson_page"]

Picture = Any  # what rich prints: `show` makes them, and `show` turns them into text and SVG


class LessonFailed(ValueError):
    """A cell failed; such a lesson is not exported."""

    exit_code = 1


@dataclass(frozen=True)
class Shown:
    """A cell that has run."""

    cell: Cell
    output: str = ""  # what it printed
    pictures: tuple[tuple[str, Picture], ...] = ()  # title and picture


@dataclass(frozen=True)
class LessonPage:
    """A lesson that has run."""

    id: str
    title: str
    minutes: int
    anchor: str  # the number it ends on
    cells: tuple[Shown, ...]
    task: str = ""  # of its exercise, "" if there is none


def lesson_page(lesson: Lesson) -> LessonPage:
    """Run all cells of a lesson; LessonFailed with cell and traceback at the first that fails."""
    player, cells = Player.open(lesson.path), []
    while player.cell is not None:
        cell, result = player.cell, player.forward()
        if not result.ok:
            where = f"lesson {lesson.id}, cell {result.index + 1}, {result.title!r}"
            raise LessonFailed(f"{where}:\n{result.error}")
        cells.append(Shown(cell, result.output, tuple(result.pictures)))
    return LessonPage(lesson.id, lesson.title, lesson.minutes, lesson.anchor, tuple(cells), lesson.task)
