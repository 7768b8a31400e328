"""The pictures that a lesson shows, each an SVG of its own.

Does: names and texts of the files. Does not: write them.

    >>> from minidsv3.learn.export.page import Shown
    >>> from minidsv3.learn.percent import Cell
    >>> cell = Cell("code", "Add", "1")
    >>> page = LessonPage("00", "Sums", 5, "2", (Shown(cell, "", (("the sum", "2"),)),))
    >>> list(svgs(page))
    ['00_cell_1_the_sum.svg']

Next: minidsv3.learn.stepping
"""

import re

from minidsv3.learn.export.page import LessonPage
from minidsv3.show import svg_text
from minidsv3.show.forms import in_words

__all__ = ["svgs"]

COLUMNS = 100  # of a picture


def svgs(page: LessonPage) -> dict[str, str]:
    """File name -> SVG, in the lesson's order."""
    files: dict[str, str] = {}
    for i, shown in enumerate(page.cells, 1):
        for title, picture in shown.pictures:
            name = f"{page.id}_cell_{i}_{_word(title)}.svg"
            if name in files:
                name = f"{page.id}_cell_{i}_{_word(title)}_{len(files)}.svg"
            files[name] = svg_text(picture, title, COLUMNS, description=in_words(picture))
    return files


def _word(title: str) -> str:
    """A title as part of a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "_", title).strip("_")[:40] or "picture"
