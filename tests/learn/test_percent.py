"""The percent format: what is written is read back, and what is broken is told with its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidsv3.learn.percent import Cell, parse, render

words = st.lists(st.text("abcXY", min_size=1, max_size=5), min_size=1, max_size=4).map(" ".join)
options = st.dictionaries(st.text("abc_", min_size=1, max_size=6), words, max_size=4)
line = st.text("ab (=#%:", min_size=1, max_size=20).map(lambda text: f"({text})")
bodies = st.lists(st.one_of(line, st.just("")), max_size=5).map(lambda lines: "\n".join(lines).rstrip("\n"))
cells = st.builds(Cell, st.sampled_from(["code", "markdown"]), st.one_of(words, st.just("")), bodies, options)


@given(st.lists(cells, max_size=5))
def test_parse_gives_back_what_render_wrote(written):
    read = parse(render(written))
    assert [(c.kind, c.title, c.text, c.options) for c in read] == [
        (c.kind, c.title, c.text, c.options) for c in written
    ]


@given(st.lists(cells, min_size=1, max_size=5))
def test_lines_are_those_of_the_markers(written):
    text = render(written)
    assert all(text.split("\n")[cell.line - 1].startswith("# %%") for cell in parse(text))


def test_options_and_title():
    (cell,) = parse('# %% [markdown] Queries, down  eq="6 and 7" pause=true\n# one\n#\n# two\n')
    assert cell == Cell("markdown", "Queries, down", "one\n\ntwo", {"eq": "6 and 7", "pause": "true"}, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n# %%\n", "line 1: expected a cell marker"),
        ("\n# %% [md] T\n", r"line 2: expected \[markdown\] or no brackets, got \[md\]"),
        ("# %% [markdown] T\n# fine\nx = 1\n", "line 3: expected '# ' in front"),
        ("# %% a=1 Title\n", "line 1: expected the title before"),
        ("# %% T a=1 a=2\n", "line 1: expected at most 4 different options"),
        ("# %% T a=1 b=2 c=3 d=4 e=5\n", "line 1: expected at most 4 different options"),
    ],
)
def test_what_is_broken_is_told_with_its_line(text, said):
    with pytest.raises(ValueError, match=said):
        parse(text)


def test_an_empty_file_has_no_cells():
    assert parse("") == parse("\n\n") == []
