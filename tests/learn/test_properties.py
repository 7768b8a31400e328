"""Strategies from signatures, and what judges say."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidsv3
from minidsv3.learn.properties import (
    STAGES,
    arrays,
    close,
    cost,
    fresh,
    gradient,
    like,
    operands,
    prop,
    same_bits,
)
from minidsv3.learn.sandbox.values import Other
from minidsv3.learn.score import Score
from minidsv3.learn.work import Work
from minidsv3.machine import catalogue, primitives

# ---- inputs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["mla.kv_down", "mla.softmax", "mla.absorbed_scores", "gate.logits"])
def test_operands_have_the_shapes_of_the_signature(op):
    signature = catalogue()[op].signature
    ranges = {f"x{i}": (-2, 2) for i in range(len(signature.operands))}
    for part in operands(op, **ranges).rounds():
        for inputs in part.drawn():
            signature.bind([array.shape for array in inputs.values()])  # raises where axes differ
            assert all(array.dtype == np.float32 and (abs(array) <= 2).all() for array in inputs.values())


def test_inputs_grow_from_round_to_round_and_are_drawn_once():
    draws = arrays("T D, D", at_most={"D": 3}, a=(-1, 1), b=(0, 7, "int64"))
    sizes = [max(max(i["a"].shape) for i in part.drawn()) for part in draws.rounds()]
    assert sizes == [1, 2, 4]
    assert all(
        i["b"].dtype == np.int64 and i["b"].shape == i["a"].shape[1:] for i in draws.rounds()[-1].drawn()
    )
    assert max(i["a"].shape[1] for i in draws.rounds()[-1].drawn()) == 3
    assert draws.rounds()[0].drawn() is draws.rounds()[0].drawn()


def test_seeds_and_sizes_make_other_inputs_and_the_same_ones_come_back():
    def drawn(seed, larger):
        draws = arrays("T", x=(-1, 1))
        return [i["x"].tolist() for part in draws.rounds(larger) for i in part.drawn(seed)]

    assert drawn(0, 0) == drawn(0, 0)
    assert drawn(0, 0) != drawn(1, 0)
    assert max(map(len, drawn(0, 3))) == 7


def test_a_map_changes_what_a_judge_sees_alone():
    draws = arrays("T", at_least={"T": 2}, at_most=3, x=(1, 9, "int64"))
    twice = draws.map(lambda inputs: {"x": 2 * inputs["x"]}).map(lambda inputs: {"x": inputs["x"] + 1})
    [first, *_] = twice.rounds()[0].drawn()
    assert twice.change(first)["x"].tolist() == [2 * x + 1 for x in first["x"].tolist()]
    assert len(first["x"]) == 2


def test_signatures_and_stages_are_checked():
    with pytest.raises(ValueError, match="expected 2 ranges"):
        arrays("T D, D", a=(0, 1))
    with pytest.raises(ValueError, match="expected a stage among shape, value, gradient, cost"):
        prop("x", stage="speed")
    assert prop("x")(lambda f: None).stage == "value"
    assert STAGES == ("shape", "value", "gradient", "cost")


# ---- judging ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("yours", "said"),
    [
        (None, "got NoneType: None"),
        ([1.0], "got list: [1.0]"),
        (1.5, "got float: 1.5"),
        (Other("Tensor", "tensor(1.)"), "got Tensor: tensor(1.)"),
        (np.zeros(2), "got [2] of float64"),
        (np.zeros((2, 1), "f"), "got [2, 1] of float32"),
    ],
)
def test_what_is_no_such_array_is_told(yours, said):
    expected = np.zeros(2, "f")
    assert said in like(yours, expected).note
    assert like(expected.copy(), expected) is None


def test_close_and_same_bits():
    x = np.array([1.0, -0.0, np.inf, 3e-6], "f")
    assert close(x, x) is None
    assert close(x + np.float32(5e-6), x) is None
    assert close(np.array([np.nan]), np.array([np.nan])) is not None
    assert close(np.float64(2), np.float64(2)) is None
    assert same_bits(x.copy(), x) is None
    assert same_bits(np.abs(x), x).note == "yours and the expected differ in their bits"
    assert same_bits(x.astype("f8"), x).note.endswith("got [4] of float64")
    assert close(np.array(["a"]), np.array([1.0])) is not None


def test_views_and_changed_inputs_are_told():
    student = SimpleNamespace(last=SimpleNamespace(shares=(), changed=()))
    assert fresh(student) is None
    student.last = SimpleNamespace(shares=("h",), changed=())
    assert fresh(student).note == "expected a new array, got h itself, or a view of it"
    student.last = SimpleNamespace(shares=(), changed=("h",))
    assert fresh(student).note == "expected h as it came, your function changed it"


@given(seed=st.integers(0, 2**32), t=st.integers(1, 4), d=st.integers(1, 4), r=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_a_right_gradient_passes_and_a_scaled_one_fails(seed, t, d, r):
    rng = np.random.default_rng(seed)
    inputs = {"h": rng.normal(size=(t, d)).astype("f"), "W": rng.normal(size=(r, d)).astype("f")}

    def forward(h, W):
        return np.tanh(h @ W.T)

    def backward(dy, h, W, scale=1):
        inner = dy * (1 - np.tanh(h @ W.T) ** 2)
        return inner @ W * np.float32(scale), inner.T @ h

    assert gradient(forward, backward, inputs) is None
    assert gradient(forward, lambda *a: backward(*a)[0], inputs, of=("h",)) is None
    told = gradient(forward, lambda *a: backward(*a, scale=1.1), inputs)
    assert told is None or told.note.startswith("gradient of h")
    assert "expected 2 gradients (h, W), got 1" in gradient(forward, lambda *a: backward(*a)[0], inputs).note


def test_the_gradient_of_the_softmax_of_the_package():
    x = np.random.default_rng(0).normal(size=(3, 3)).astype("f")

    def backward(dy, scores):
        p = primitives.softmax(scores.copy())
        return p * (dy - (p * dy).sum(axis=1, keepdims=True))

    assert gradient(lambda scores: primitives.softmax(scores.copy()), backward, {"scores": x}) is None


def test_cost_is_a_ratio_at_one_size():
    score = Score("f", Work(300, 100, 100), Work(100, 100, 100), "x [4]")
    student = SimpleNamespace(score=lambda inputs: score)
    assert cost(student, {}, {"flops": 3, "bytes": 1, "memory": 1}) is None
    assert (
        cost(student, {}, {"flops": 2}).note == "300 FLOPs, 3 x the 100 of the solution; expected at most 2 x"
    )
    score = Score("f", Work(1, 1, 1), Work(1, 1, 1), "x [4]", agrees=False)
    assert "right on small inputs only" in cost(student, {}, {"flops": 3}).note


def test_draws_depend_on_nothing_that_is_imported(tmp_path):
    """Hypothesis would draw the numbers of a module outside of site-packages, and leave a folder."""
    (tmp_path / "numbers_of_mine.py").write_text("NUMBERS = " + repr(list(range(500, 900))))
    draw = (
        "import numbers_of_mine; from minidsv3.learn.strategies import arrays; "
        "rounds = arrays('T', x=(-1000, 1000, 'int64')).rounds(); "
        "print([inputs['x'].tolist() for part in rounds for inputs in part.drawn(7)])"
    )
    paths = os.pathsep.join([str(Path(minidsv3.__file__).parents[1]), "."])
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", draw]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    rounds = arrays("T", x=(-1000, 1000, "int64")).rounds()
    here = [inputs["x"].tolist() for part in rounds for inputs in part.drawn(7)]
    assert (done.stdout, done.stderr) == (f"{here}\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["numbers_of_mine.py"]
