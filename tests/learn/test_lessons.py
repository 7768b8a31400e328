"""Every lesson on the disk: runs in the player and as plain Python alike, and its exercise can be solved."""

import subprocess
import sys

import numpy as np
import pytest

from minidsv3.learn.checker import check
from minidsv3.learn.exercises import find_lesson, lessons, lessons_folder, student_file
from minidsv3.learn.player import Player
from minidsv3.learn.sandbox.session import Warm

START = "import runpy, sys; sys.path.insert(0, sys.argv[1]); runpy.run_path(sys.argv[2], run_name='__main__')"
every_lesson = pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.id)


@pytest.fixture(scope="module")
def worker():
    with Warm() as warm:
        yield warm


@pytest.mark.parametrize(
    "lesson",  # 2 s each
    [pytest.param(one, marks=[pytest.mark.slow] * (one.id != "00"), id=one.id) for one in lessons()],
)
def test_the_player_prints_what_plain_python_prints(lesson):
    player = Player.open(lesson.path)
    results = [player.forward() for _ in player.cells]
    command = [sys.executable, "-c", START, str(lessons_folder().parent), str(lesson.path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr, player.cell) == (0, "", None)
    assert "".join(result.output for result in results) == done.stdout


@every_lesson
def test_stub_fails_and_solution_passes(lesson, worker):
    assert not check(lesson, lesson.stub, worker=worker).passed
    assert check(lesson, lesson.solution, worker=worker).passed


@pytest.mark.slow  # 3 s each: all properties, on larger axes
@every_lesson
def test_the_solution_passes_what_is_hidden(lesson, worker):
    hidden = check(lesson, lesson.solution, worker=worker, seed=671, larger=3, every=True)
    assert hidden.passed, hidden.failed


def test_a_softmax_without_maximum_is_explained_by_one_number(worker):
    lesson = find_lesson("00")
    result = check(lesson, lesson.wrong["no_maximum"], worker=worker)
    scores = result.counterexample.inputs["scores"]
    assert scores.shape == (1, 1)
    with np.errstate(over="ignore"):
        assert np.isinf(np.exp(scores)).all()
        assert not np.isinf(np.exp(scores - 1)).any()


def test_heads_that_share_a_matrix_are_found_with_two_heads(worker):
    lesson = find_lesson("05")
    result = check(lesson, lesson.wrong["one_head_for_all"], worker=worker)
    assert result.failed.name == "naive_is_absorbed"
    assert result.counterexample.inputs["W_UK"].shape[0] == 2


IN_FLOAT64 = """
def twice_as_wide(function):
    def wide(*inputs):
        found = function(*(x.astype(np.float64) for x in inputs))
        return tuple(x.astype("f") for x in found) if isinstance(found, tuple) else found.astype("f")
    return wide


def in_one_call(q_C, q_R, c_KV, k_R, W_UK, W_UV):
    p = absorbed_weights(q_C, q_R, c_KV, k_R, W_UK)[2]
    return np.einsum("hs,sc,hvc->hv", p, c_KV, W_UV, optimize=True)


absorbed_forward, absorbed_backward = twice_as_wide(in_one_call), twice_as_wide(absorbed_backward)
"""


def test_float64_on_the_way_is_no_unfolding(worker):
    lesson = find_lesson("05")
    assert "optimize" not in lesson.solution
    result = check(lesson, lesson.solution + IN_FLOAT64, worker=worker)
    assert result.passed, result.failed


@pytest.mark.slow  # 1 s
def test_unfolding_is_right_and_too_much_work(worker):
    result = check(find_lesson("05"), find_lesson("05").wrong["unfolds_the_cache"], worker=worker)
    assert result.failed.stage == "cost"
    assert result.score.ratio("flops") > 10


@pytest.mark.slow  # 1 s
def test_a_cut_downward_shows_with_a_negative_product(worker):
    lesson = find_lesson("13")
    result = check(lesson, lesson.wrong["cuts_down"], worker=worker)
    a, b = (result.counterexample.inputs[name] for name in "ab")
    assert result.failed.name == "from_zero"
    assert (a * b).min() < 0
    assert result.counterexample.yours < result.counterexample.expected


def test_unknown_lessons_are_told_with_near_names():
    with pytest.raises(ValueError, match="did you mean '00_one_prediction'"):
        find_lesson("one_prediction")


def test_the_stub_is_written_once(tmp_path):
    lesson = find_lesson("00")
    path, written = student_file(lesson, tmp_path)
    assert written
    assert path.read_text() == lesson.stub
    path.write_text("mine")
    assert student_file(lesson, tmp_path) == (path, False)
    assert path.read_text() == "mine"


def test_a_file_beside_is_found(tmp_path):
    (tmp_path / "exercise_00.py").write_text("x")
    assert student_file(find_lesson("00"), tmp_path) == (tmp_path / "exercise_00.py", False)
