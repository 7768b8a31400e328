"""A lesson as Markdown or as plain text, with what its cells printed and showed.

Does: both texts. Does not: wrap lines: prose comes as it was written.

    >>> from minidsv3.learn.export.page import Shown
    >>> from minidsv3.learn.percent import Cell
    >>> page = LessonPage("00", "Sums", 5, "2", (Shown(Cell("markdown", "Two", "and `two`")),))
    >>> print(md(page).splitlines()[-1])
    and `two`

Next: minidsv3.learn.export.pictures
"""

import re
from textwrap import indent

from minidsv3.learn.export.page import LessonPage, Shown
from minidsv3.show import plain_text

__all__ = ["md", "txt"]

COLUMNS = 80  # of a picture


def md(page: LessonPage) -> str:
    """Markdown; code, output and pictures stand in fences."""
    head = f"# {page.title}\n\nminidsv3 lesson {page.id}, {page.minutes} minutes. Ends on: {page.anchor}.\n"
    return "\n".join([head, *(_md_cell(shown, i) for i, shown in enumerate(page.cells, 1))])


def _md_cell(shown: Shown, i: int) -> str:
    cell = shown.cell
    parts = [f"## {cell.title or f'cell {i}'}\n"]
    if cell.kind == "markdown":
        return "\n".join([*parts, cell.text + "\n"])
    parts.append(_fenced(cell.text, "python"))
    if shown.output.strip():
        parts.append(_fenced(shown.output.rstrip("\n"), "text"))
    for title, picture in shown.pictures:
        parts.append(f"{title}:\n\n{_fenced(plain_text(picture, COLUMNS), 'text')}")
    return "\n".join(parts)


def _fenced(text: str, language: str) -> str:
    """A block in a fence longer than any inside it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}\n"


def txt(page: LessonPage) -> str:
    """Plain text; code stands four columns in."""
    return f"lesson {page.id}: {page.title}\n" + "".join(
        f"\n== {shown.cell.title or f'cell {i}'}\n\n{_txt_cell(shown)}"
        for i, shown in enumerate(page.cells, 1)
    )


def _txt_cell(shown: Shown) -> str:
    if shown.cell.kind == "markdown":
        return shown.cell.text + "\n"
    parts = [indent(shown.cell.text, "    ") + "\n"]
    if shown.output.strip():
        parts.append(shown.output.rstrip("\n") + "\n")
    parts += [f"{title}:\n{plain_text(picture, COLUMNS)}\n" for title, picture in shown.pictures]
    return "\n".join(parts)
