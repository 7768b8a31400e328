"""The panel: at most 22 lines, as wide as asked, everything said, for eyes and for ears."""

from dataclasses import replace

import numpy as np
import pytest

from minidsv3.learn.panel import cells, panel, spoken
from minidsv3.learn.result import CheckResult, Counterexample, Outcome
from minidsv3.learn.score import Score
from minidsv3.learn.work import Work

CARD = ("eq. 10  p = Softmax(a)", "mla.softmax: H T S -> H T S, in minidsv3.machine.primitives.softmax")


def failing(inputs, yours, expected, warnings=(), printed="") -> CheckResult:
    found = Counterexample(inputs, yours, expected, list(warnings), printed)
    outcomes = (
        Outcome("loads", "the file loads and defines softmax", "passed", "", "loads", 0),
        Outcome(
            "rows_sum_to_one", "each row of the result sums to 1", "failed", "yours and the expected differ"
        ),
        *(Outcome(f"later_{i}", "more", "skipped", "because rows_sum_to_one failed") for i in range(9)),
    )
    return CheckResult(
        exercise="00", title="One prediction", outcomes=outcomes, problem=None, counterexample=found,
        card=CARD, hint=(2, 4, "look"), replay="minidsv3 check 00 --replay", saved="counterexample.npz",
        output="", seconds=0.1,
    )  # fmt: skip


ONE = failing(
    {"scores": np.array([[89.0]], "f")},
    np.array([np.nan], "f"),
    np.array([1.0], "f"),
    ["overflow encountered in exp"],
    "scores [[89.]]\n",
)


def test_the_panel_of_one_element(tmp_path):
    assert panel(ONE) == [
        "check 00, One prediction: FAILED",
        "  passed  loads",
        "  failed  rows_sum_to_one: yours and the expected differ",
        "  skipped because rows_sum_to_one failed: later_0, later_1, later_2, ...",
        "",
        "expected: each row of the result sums to 1",
        "  scores [1, 1]   yours [1]   expected [1]   difference [1]",
        "  89              nan*        1              nan*",
        "  (* the worst cell)",
        "  NumPy said: overflow encountered in exp",
        "  your code printed: scores [[89.]]",
        "",
        "eq. 10 p = Softmax(a)",
        "mla.softmax: H T S -> H T S, in minidsv3.machine.primitives.softmax",
        "hint 2 of 4: minidsv3 hint 00",
        "replay: minidsv3 check 00 --replay (counterexample.npz)",
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 4), (9, 9), (40, 3), (3, 64), (2, 3, 4), (), (0, 3)])
def test_it_is_never_longer_or_wider_than_said(width, shape):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape).astype("f") * 1e6 for _ in range(2))
    more = {f"W_{i}": a for i in range(3)}
    for result in (
        failing({"scores": a}, a, b),
        failing({"scores": a} | more, a, b, ["overflow " * 20], "x\n" * 9),
    ):
        lines = panel(result, width)
        assert len(lines) <= 22
        assert max(map(len, lines)) <= width
        assert "hint 2 of 4" in "\n".join(lines)


def test_the_worst_cell_is_in_the_window():
    a, b = np.zeros((40, 40)), np.zeros((40, 40))
    b[31, 37] = 5
    text = "\n".join(panel(failing({"x": np.zeros(1)}, a, b), 80))
    assert "0*" in text
    assert "-5*" in text
    assert "of 1600 elements" in text


def test_digits_tell_yours_from_the_expected():
    a = np.array([1.0000001], "f")
    text = "\n".join(panel(failing({"x": a}, a, np.array([1.0], "f"))))
    assert "1.00000012*" in text


def test_ears_get_sentences_and_no_tables():
    lines = spoken(ONE)
    assert lines[0] == "Check 00, One prediction, failed."
    assert "The worst cell is [0]: yours nan, expected 1." in lines
    assert "Hint 2 of 4: minidsv3 hint 00" in lines
    assert not any("*" in line or "   " in line.strip() for line in lines)


def test_success_is_short_and_has_the_score():
    score = Score("softmax", Work(200, 6400, 0), Work(100, 6400, 512), "scores [64, 64]")
    passed = (Outcome("loads", "", "passed"),)
    result = replace(ONE, outcomes=passed, counterexample=None, score=score)
    assert panel(result) == [
        "check 00, One prediction: passed",
        "  passed  loads",
        "counted work of softmax on scores [64, 64]:",
        "  FLOPs             200   2 x the solution (100)",
        "  bytes moved     6,400   1 x the solution (6,400)",
        "  memory held         0   0 x the solution (512)",
        "compare: minidsv3 solution 00",
    ]
    assert "Counted: 200 FLOPs, 2 x the 100 of the solution." in spoken(result)


def test_success_keeps_the_width_too():
    at = ", ".join(f"operand_{i} [16, 16]" for i in range(8))
    score = Score("absorbed_forward", Work(200, 6400, 0), Work(100, 6400, 512), at)
    result = replace(ONE, outcomes=ONE.outcomes[:1], counterexample=None, score=score)
    assert result.passed
    assert all(len(line) <= 80 for line in panel(result, 80))


def test_cells_of_odd_arrays():
    assert cells(np.zeros((0, 3))) == []
    assert cells(np.array([[True, False]])) == [" True  False "]
    assert cells(np.array([10**12, -1])) == ["1000000000000             -1 "]
