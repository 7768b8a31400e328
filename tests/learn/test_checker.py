"""The check of an exercise: wrong solutions get a small counterexample, in words that say what to do."""

import json
from time import monotonic

import numpy as np
import pytest

from minidsv3.learn.checker import assert_passes, check, load_counterexample, save_counterexample
from minidsv3.learn.exercises import find_lesson, lessons
from minidsv3.learn.result import pack, unpack
from minidsv3.learn.sandbox.session import Warm

LESSON = find_lesson("00")
GOOD = LESSON.solution
NO_MAXIMUM = GOOD.replace("seen -= seen.max(axis=1, keepdims=True)", "pass")
MOST_SECONDS = 5.0  # to explain what is wrong


@pytest.fixture(scope="module")
def warm():
    with Warm() as worker:
        yield worker


@pytest.fixture(scope="module")
def no_maximum(warm):
    return check(LESSON, NO_MAXIMUM, worker=warm)


def wrong(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def elements(result) -> int:
    return sum(array.size for array in result.counterexample.inputs.values())


# ---- wrong solutions --------------------------------------------------------------------------------------


def test_without_the_maximum_one_element_shows_it(no_maximum):
    result = no_maximum
    assert (result.passed, result.failed.name) == (False, "rows_sum_to_one")
    found = result.counterexample
    assert found.inputs["scores"].tolist() == [[89.0]]
    assert np.isnan(found.yours).all()
    assert found.worst == (0,)
    assert found.warnings.count("overflow encountered in exp") == 1
    statuses = [outcome.status for outcome in result.outcomes]
    assert statuses == sorted(statuses, key=["passed", "failed", "skipped"].index)
    assert result.outcomes[-1].because == "because rows_sum_to_one failed"


@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.id)
def test_solutions_pass_with_a_score_of_one(warm, lesson):
    result = check(lesson, lesson.solution, worker=warm)
    assert result.passed, result.failed
    if result.score:
        assert result.score.work[:2] == result.score.reference[:2]
        assert result.score.ratio("memory") == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    "lesson",
    [pytest.param(lesson, marks=[pytest.mark.slow] * (lesson.id != "00")) for lesson in lessons()],
    ids=lambda lesson: lesson.id,
)
def test_every_seeded_wrong_solution_is_explained_small_and_soon(warm, lesson):
    for name, source in lesson.wrong.items():
        start = monotonic()
        result = check(lesson, source, worker=warm)
        assert not result.passed, name
        assert monotonic() - start < MOST_SECONDS, name
        assert result.counterexample is None or elements(result) <= 16, name


@pytest.mark.parametrize(
    ("source", "failed", "size"),
    [
        (
            wrong("weights.sum(axis=1, keepdims=True)", "weights.sum(axis=0, keepdims=True)"),
            "rows_sum_to_one",
            4,
        ),
        (wrong("np.where(later, -np.inf, scores)", "scores.copy()"), "causal", 4),
        (wrong("np.arange(T) > np", "np.arange(T) >= np"), "rows_sum_to_one", 1),
        (wrong("np.exp(seen)", "np.exp2(seen)"), "value", 4),
        (wrong("return (", "return 2 * ("), "rows_sum_to_one", 1),
    ],
    ids=["wrong axis", "no mask", "mask hides the own position", "base 2", "twice"],
)
def test_wrong_solutions_are_caught_with_a_small_input(warm, source, failed, size):
    result = check(LESSON, source, worker=warm)
    assert result.failed.name == failed
    assert elements(result) <= size


@pytest.mark.parametrize(
    ("body", "note"),
    [
        ("return None", "got NoneType: None"),
        ("return scores.astype('f8')", "got [1, 1] of float64"),
        ("return scores[0].copy()", "got [1] of float32"),
        ("return [[1.0]]", "got list: [[1.0]]"),
        ("return np.ma.masked_array(scores.copy())", "got MaskedArray"),
        ("return scores", "expected a new array, got scores itself, or a view of it"),
        ("return scores[:]", "expected a new array, got scores itself, or a view of it"),
        ("scores += 1; return scores.copy()", "expected scores as it came"),
        ("return 1 / 0", "raised ZeroDivisionError: division by zero (line 3: return 1 / 0)"),
        ("import sys; sys.exit(0)", "called sys.exit; a function has to return"),
        ("raise KeyboardInterrupt", "raised KeyboardInterrupt"),
        ("return softmax(scores)", "raised RecursionError"),
        ("return np.ones((400000, 400000))", "ran out of memory"),
        ("return np.random.normal(size=scores.shape).astype('f')", "different answers for the same input"),
        ("import os; os._exit(0)", "left before it answered"),
    ],
)
def test_what_a_function_does_instead_is_told(warm, body, note):
    result = check(LESSON, f"import numpy as np\ndef softmax(scores):\n    {body}\n", worker=warm)
    assert result.failed.stage == "shape"
    assert note in result.failed.because
    assert result.counterexample.inputs["scores"].shape == (1, 1)


@pytest.mark.parametrize(
    ("source", "note"),
    [
        ("1 / 0\n", "raised ZeroDivisionError: division by zero (line 1: 1 / 0)"),
        ("def softmax(\n", "raised SyntaxError: '(' was never closed"),
        ("import no_such_thing\n", "raised ModuleNotFoundError"),
        ("import sys\nsys.exit(0)\n", "called sys.exit"),
        ("", "expected a function 'softmax' in the file, found none"),
        ("softmax = 3\n", "expected a function 'softmax'"),
        ("class E(Exception):\n    def __str__(self): raise E\nraise E\n", "raised E (line 3"),
    ],
)
def test_a_file_that_does_not_load_is_told(warm, source, note):
    result = check(LESSON, source, worker=warm)
    assert result.failed.name == "loads"
    assert note in result.failed.because
    assert {outcome.because for outcome in result.outcomes[1:]} == {"because loads failed"}


def test_what_is_kept_between_calls_is_told(warm):
    source = "calls = []\n" + GOOD.replace(
        "T = len", "calls.append(1)\n    if len(calls) > 9: return 2 * scores\n    T = len"
    )
    result = check(LESSON, source, worker=warm)
    assert not result.passed
    assert "different answers for the same input" in result.failed.because


def test_a_call_that_never_returns_is_shown_with_a_small_input(warm):
    start = monotonic()
    result = check(LESSON, wrong("T = len(scores)", "T = len(scores)\n    while T > 2: pass"), worker=warm)
    assert (result.failed.name, result.failed.because) == ("shape", "ran longer than 3 s")
    assert result.counterexample.inputs["scores"].shape == (3, 3)
    assert monotonic() - start < MOST_SECONDS + 1


def test_a_process_that_ends_is_shrunk_too(warm):
    source = wrong("T = len(scores)", "T = len(scores)\n    if scores.max() > 5: import os; os._exit(0)")
    result = check(LESSON, source, worker=warm)
    assert result.failed.because == "left before it answered"
    assert result.counterexample.inputs["scores"].tolist() == [[6.0]]


# ---- other draws, all of a stage --------------------------------------------------------------------------


def test_hidden_draws_are_other_and_larger(warm):
    only_large = wrong("T = len(scores)", "T = len(scores)\n    if T > 4: return scores.copy()")
    shown = check(LESSON, only_large, worker=warm)
    assert (shown.failed.stage, "right on small inputs only" in shown.failed.because) == ("cost", True)
    hidden = check(LESSON, only_large, worker=warm, seed=7, larger=3)
    assert hidden.failed.stage in ("value", "shape")
    assert hidden.counterexample.inputs["scores"].shape == (5, 5)
    again = check(LESSON, only_large, worker=warm, seed=7, larger=3)
    np.testing.assert_array_equal(
        hidden.counterexample.inputs["scores"], again.counterexample.inputs["scores"], strict=True
    )


def test_grading_tries_every_property_of_the_stage_that_failed(warm):
    result = check(LESSON, wrong("return (", "return 2 * ("), worker=warm, every=True)
    by = {outcome.name: outcome for outcome in result.outcomes}
    assert by["rows_sum_to_one"].status == by["value"].status == "failed"
    assert by["causal"].status == "passed"
    assert {o.status for o in result.outcomes if o.stage == "cost"} == {"skipped"}
    assert set(result.counterexamples) == {name for name, o in by.items() if o.status == "failed"}
    assert sum(outcome.points for outcome in result.outcomes) > 1


def test_the_cost_is_judged_last_and_told_as_a_ratio(warm):
    slow = GOOD.replace(
        "weights = np.exp(seen)", "weights = sum(np.exp(seen) for _ in range(9)) / np.float32(9)"
    )
    result = check(LESSON, slow, worker=warm)
    assert result.failed.stage == "cost"
    assert "x the 16,384 of the solution; expected at most" in result.failed.because
    assert result.score.ratio("flops") > 3


REMEMBERS = """
    key = scores.tobytes()
    known[key] = known[key] if key in known else right(scores)
    return known[key].copy()
"""
NUMBER_BY_NUMBER = """
    found = np.zeros((len(scores), len(scores)), "f")
    for t, row in enumerate(scores.tolist()):
        e = [math.exp(x - max(row[: t + 1])) for x in row[: t + 1]]
        found[t, : t + 1] = [x / sum(e) for x in e]
    return found
"""


@pytest.mark.parametrize("instead", [REMEMBERS, NUMBER_BY_NUMBER])
def test_work_that_is_not_seen_does_not_pass_as_none(warm, instead):
    source = GOOD.replace("def softmax(", "def right(")
    source += f"\n\nimport math\n\nknown = {{}}\n\n\ndef softmax(scores):{instead}"
    result = check(LESSON, source, worker=warm)
    assert result.failed.stage == "cost"
    assert "only 0 FLOPs could be counted, the solution has 16,384" in result.failed.because


# ---- the answer -------------------------------------------------------------------------------------------


def test_a_counterexample_can_be_replayed(warm, no_maximum, tmp_path):
    result = no_maximum
    assert save_counterexample(result, tmp_path) == tmp_path / "counterexample.npz"
    name, inputs = load_counterexample(tmp_path)
    assert (name, inputs["scores"].dtype) == ("rows_sum_to_one", np.float32)
    again = check(LESSON, NO_MAXIMUM, worker=warm, replay=(name, inputs))
    assert again.counterexample.inputs["scores"].tolist() == result.counterexample.inputs["scores"].tolist()
    good = check(LESSON, GOOD, worker=warm, replay=(name, inputs))
    assert good.passed
    assert save_counterexample(good, tmp_path) is None
    with pytest.raises(ValueError, match="check without --replay first"):
        load_counterexample(tmp_path)
    with pytest.raises(ValueError, match="expected a property"):
        check(LESSON, GOOD, worker=warm, replay=("gone", inputs))


def test_what_the_code_printed_on_the_smallest_input_is_shown(warm):
    result = check(LESSON, NO_MAXIMUM.replace("T = len", "print('scores', scores)\n    T = len"), worker=warm)
    assert result.counterexample.printed == "scores [[89.]]\n"


def test_pytest_gets_the_panel(tmp_path):
    (tmp_path / "exercise_00.py").write_text(NO_MAXIMUM)
    with pytest.raises(AssertionError, match="each row of the result sums to 1"):
        assert_passes("00", tmp_path)
    (tmp_path / "exercise_00.py").write_text(GOOD)
    assert_passes("00", tmp_path)


def test_a_result_is_json_without_nan(no_maximum):
    text = json.dumps(no_maximum.to_dict(), allow_nan=False)
    found = json.loads(text)
    assert found["schema"] == "minidsv3.check/2"
    assert found["counterexample"]["yours"]["values"] == ["nan"]
    assert {"stage", "points", "seconds"} <= found["outcomes"][0].keys()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_arrays_go_through_json(dtype):
    array = np.array([[0, 1], [2, 3]]).astype(dtype)
    np.testing.assert_array_equal(unpack(json.loads(json.dumps(pack(array)))), array, strict=True)
    wild = np.array([np.nan, np.inf, -np.inf, 0.1], "f")
    np.testing.assert_array_equal(
        unpack(json.loads(json.dumps(pack(wild), allow_nan=False))), wild, strict=True
    )


def test_large_and_odd_arrays_are_told_by_shape():
    assert pack(np.zeros((9, 9)))["values"] is None
    assert pack(np.array([object()]))["values"] is None
