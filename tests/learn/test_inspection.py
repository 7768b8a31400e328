"""Names, parts of them, and ops get the picture that suits them."""

import numpy as np
import pytest

from minidsv3.learn.inspection import inspected, pictures, variable
from minidsv3.machine import Machine

rng = np.random.default_rng(0)
NAMES = {
    "p": np.full((2, 4, 4), 0.25),
    "h": rng.normal(size=(4, 8)),
    "k_C": rng.normal(size=(2, 4, 3)),
    "o_absorbed": rng.normal(size=(2, 4, 3)),
    "s": rng.random(16),
    "last": rng.normal(size=50),
    "words": ["a", "b"],
}


@pytest.mark.parametrize(
    ("option", "made"),
    [
        ("attention_map:p", "AttentionMap"),
        ("attention_map:p[head=1]", "AttentionMap"),
        ("heat_map:h", "HeatMap"),
        ("heat_map:k_C[head=0]", "HeatMap"),
        ("heat_map:o_absorbed[head=-1]", "HeatMap"),
        ("vector_strip:h[token=2]", "VectorStrip"),
        ("router_card:s", "RouterCard"),
        ("top_tokens:last", "TopTokens"),
        ("HeatMap:h", "HeatMap"),
    ],
)
def test_a_cell_shows_what_it_asks_for(option, made):
    ((title, picture),) = pictures(option, NAMES)
    assert (title, type(picture).__name__) == (option.partition(":")[2], made)
    assert picture.describe()


def test_several_pictures_of_a_cell():
    assert [title for title, _ in pictures("heat_map:h; router_card:s;", NAMES)] == ["h", "s"]


def test_a_selector_picks_along_the_axis_that_it_names():
    assert np.array_equal(inspected("h[token=2]", NAMES).values, NAMES["h"][2])
    assert np.array_equal(inspected("k_C[head=1]", NAMES).values, NAMES["k_C"][1])
    assert inspected("p[head=-1]", NAMES).head == 1


def test_ops_are_inspected_from_what_a_trace_kept():
    machine = Machine(trace=True, keep="mla.softmax")
    for layer in (0, 1):
        machine.layer = layer
        machine.softmax(np.full((2, 3, 3), float(layer), "f"), at="mla.softmax")
    shown = inspected("mla.softmax[layer=1,head=0]", {"machine": machine})
    assert (type(shown).__name__, shown.head) == ("AttentionMap", 0)
    with pytest.raises(ValueError, match="no trace kept it"):
        inspected("mla.softmax[layer=2]", {"machine": machine})


def test_expressions_and_what_has_no_picture():
    assert np.array_equal(inspected("h[0] * 2", NAMES).values, NAMES["h"][0] * 2)
    assert inspected("words", NAMES) == "['a', 'b']"


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("q", "", "expected a name of the lesson, got 'q'"),
        ("h.nothing", "", "AttributeError"),
        ("p[head=2]", "", r"expected head 0 \.\. 1, got 2"),
        ("h[head=0]", "", "expected a word for an axis"),
        ("h", "heatmap", "expected a picture, got 'heatmap': did you mean 'heat_map'"),
    ],
)
def test_what_is_wrong_is_said(text, kind, said):
    with pytest.raises(ValueError, match=said):
        inspected(text, NAMES, kind=kind)
    if not kind:
        with pytest.raises(ValueError, match='expected show="KIND:NAME"'):
            pictures(text, NAMES)


def test_a_variable_has_a_line_of_means():
    row = variable("x", np.repeat(np.arange(16.0), 3), changed=True)
    assert (row.low, row.high, row.line) == (0.0, 15.0, tuple(np.arange(16.0)))
    assert variable("x", np.array([np.nan, 1.0]), changed=False).line == ()
    assert variable("x", np.zeros(0), changed=False).low is None
