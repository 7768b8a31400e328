"""Shrinking: what comes out still fails, is a legal input, and nothing simple next to it fails."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.learn.shrink import Space, shrunk

SPACE = Space({"a": ("M", "K"), "b": ("K",)}, {"M": 1, "K": 2}, {"a": (-8, 8), "b": (2, 9, "int64")})


@st.composite
def inputs(draw):
    m, k = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return {"a": rng.uniform(-8, 8, (m, k)).astype("f"), "b": rng.integers(2, 10, k)}


@given(start=inputs(), bound=st.floats(-8, 8))
@settings(max_examples=40, deadline=None)
def test_the_result_fails_and_is_legal(start, bound):
    def fails(found):
        m, k = found["a"].shape
        assert m >= 1
        assert k >= 2
        assert found["b"].shape == (k,)
        assert (abs(found["a"]) <= 8).all()
        assert ((found["b"] >= 2) & (found["b"] <= 9)).all()
        assert (found["a"].dtype, found["b"].dtype) == (np.float32, np.int64)
        return bool((found["a"] >= bound).any())

    if fails(start):
        small = shrunk(start, SPACE, fails, seconds=5.0)
        assert fails(small)
        assert small["a"].shape == (1, 2)
        assert small["b"].tolist() == [2, 2]
        assert np.count_nonzero(small["a"]) <= (1 if bound > 0 else 2)


def test_a_threshold_is_found_by_halving():
    calls = []

    def fails(found):
        calls.append(1)
        return bool(found["x"].max() > 88.7)

    space = Space({"x": ("T", "T")}, {"T": 1}, {"x": (-100, 100)})
    start = {"x": np.linspace(-100, 99.5, 16, dtype="f").reshape(4, 4)}
    assert shrunk(start, space, fails, 5.0)["x"].tolist() == [[89.0]]
    assert len(calls) < 60


def test_an_axis_is_cut_in_every_array_and_as_often_as_it_stands_there():
    space = Space({"x": ("T", "T"), "y": ("T",), "n": ()}, {"T": 1}, {"x": (0, 1), "y": (0, 1), "n": (0, 9)})
    start = {"x": np.eye(4, dtype="f"), "y": np.array([0, 0, 1, 0], "f"), "n": np.array(5, "f")}
    small = shrunk(start, space, lambda found: bool(found["y"].any()), 5.0)
    assert {name: array.tolist() for name, array in small.items()} == {"x": [[0]], "y": [1], "n": 0}


def test_it_ends_in_time():
    from time import monotonic, sleep

    start = monotonic()
    shrunk(
        {"x": np.ones((4, 4), "f")},
        Space({"x": ("A", "B")}, {"A": 1, "B": 1}, {"x": (0, 1)}),
        lambda _: sleep(0.02) or False,
        0.1,
    )
    assert monotonic() - start < 0.5
