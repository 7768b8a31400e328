"""A lesson as a Jupyter notebook with its outputs (nbformat 4.5), written without Jupyter.

Prose becomes Markdown cells, code becomes code cells, what a cell printed its stdout, each picture an SVG
with its text form beside it. Cell ids are made from the lesson and the cell's place, so the same lesson gives
the same file.

Does: the notebook's JSON. Does not: run it, or keep `show=` pictures alive when it is run elsewhere.

    >>> import json
    >>> from minidsv3.learn.export.page import Shown
    >>> from minidsv3.learn.percent import Cell
    >>> page = LessonPage("00", "Sums", 5, "2", (Shown(Cell("code", "Add", "1 + 1"), "2\\n"),))
    >>> json.loads(ipynb(page))["cells"][1]["outputs"][0]["text"]
    ['2\\n']

Next: minidsv3.learn.export.text
"""

import json
from typing import Any

from minidsv3.learn.export.page import LessonPage, Shown
from minidsv3.show import plain_text, svg_text
from minidsv3.show.forms import in_words

__all__ = ["ipynb"]

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"}
COLUMNS = 88  # of a picture


def ipynb(page: LessonPage) -> str:
    """The notebook as JSON text."""
    cells, count = [_head(page)], 0
    for i, shown in enumerate(page.cells, 1):
        count += shown.cell.kind == "code"
        cells.append(_cell(page, shown, i, count))
    metadata = {"kernelspec": KERNEL, "language_info": LANGUAGE, "title": f"{page.id} {page.title}"}
    table = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"


def _head(page: LessonPage) -> dict[str, Any]:
    text = f"# {page.title}\n\nminidsv3 lesson {page.id}, {page.minutes} minutes. Ends on: {page.anchor}."
    return {"cell_type": "markdown", "id": f"lesson-{page.id}", "metadata": {}, "source": _lines(text)}


def _cell(page: LessonPage, shown: Shown, i: int, count: int) -> dict[str, Any]:
    cell, named = shown.cell, {"id": f"lesson-{page.id}-cell-{i}", "metadata": {}}
    if cell.kind == "markdown":
        text = f"## {cell.title}\n\n{cell.text}" if cell.title else cell.text
        return {"cell_type": "markdown", **named, "source": _lines(text)}
    source = f"# {cell.title}\n{cell.text}" if cell.title else cell.text
    done = {"execution_count": count, "outputs": _outputs(shown, i)}
    return {"cell_type": "code", **named, "source": _lines(source), **done}


def _outputs(shown: Shown, i: int) -> list[dict[str, Any]]:
    printed = {"output_type": "stream", "name": "stdout", "text": _lines(shown.output)}
    outputs: list[dict[str, Any]] = [printed] if shown.output else []
    for j, (title, picture) in enumerate(shown.pictures, 1):
        svg = svg_text(picture, title, COLUMNS, description=in_words(picture), name=f"cell-{i}-{j}")
        data = {"image/svg+xml": _lines(svg), "text/plain": _lines(plain_text(picture, COLUMNS))}
        outputs.append({"output_type": "display_data", "metadata": {}, "data": data})
    return outputs


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
