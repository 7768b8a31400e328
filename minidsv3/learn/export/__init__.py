"""A lesson that has run, as a file to give away: notebook, page, Markdown, text, pictures.

`lesson_page` runs a lesson once and keeps what each cell printed and showed; `export` writes that in one of
`FORMATS`. Nothing of Jupyter is needed, and nothing is fetched by what is written. The same lesson gives the
same bytes.

Does: run, write as text. Does not: choose file names or write files (`minidsv3.cli.lesson_export`).

    >>> from minidsv3.learn.percent import Cell
    >>> shown = Shown(Cell("code", "Add", "print(1 + 1)"), "2\\n")
    >>> print(export(LessonPage("00", "Sums", 5, "2", (shown,)), "txt"))
    lesson 00: Sums
    <BLANKLINE>
    == Add
    <BLANKLINE>
        print(1 + 1)
    <BLANKLINE>
    2
    <BLANKLINE>

Next: minidsv3.learn.export.page
"""

from collections.abc import Callable
from importlib import import_module

from minidsv3.config import near
from minidsv3.learn.export.page import LessonFailed, LessonPage, Shown, lesson_page

__all__ = ["FORMATS", "LessonFailed", "LessonPage", "Shown", "export", "lesson_page"]

# format -> (module, what it is)
FORMATS = {
    "ipynb": ("notebook", "a notebook with its outputs, nbformat 4.5"),
    "html": ("html", "one page that stands alone, with a step-by-step mode"),
    "md": ("text", "Markdown, pictures as text"),
    "txt": ("text", "plain text"),
    "svg": ("pictures", "every picture that the lesson shows, a file each"),
}


def export(page: LessonPage, form: str) -> str:
    """The lesson in a format of one file; ValueError for another (for "svg" see `pictures`)."""
    if form not in FORMATS or form == "svg":
        known = [name for name in FORMATS if name != "svg"]
        raise ValueError(f"expected a format, got {form!r}: {near(form, known)}")
    module = import_module(f"minidsv3.learn.export.{FORMATS[form][0]}")
    write: Callable[[LessonPage], str] = getattr(module, form)
    return write(page)
