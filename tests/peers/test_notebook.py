"""Exported notebooks against the notebook format's own schema, as nbformat has it."""

import pytest

from minidsv3.learn.exercises import lessons
from minidsv3.learn.export import export, lesson_page

pytestmark = pytest.mark.peer
nbformat = pytest.importorskip("nbformat")


@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.id)
def test_a_notebook_is_valid_and_comes_back_as_it_was(lesson):
    text = export(lesson_page(lesson), "ipynb")
    book = nbformat.reads(text, as_version=nbformat.NO_CONVERT)
    nbformat.validate(book, relax_add_props=False)
    assert book.nbformat_minor == 5
    assert nbformat.reads(nbformat.writes(book), as_version=4) == book
