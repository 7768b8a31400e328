"""The check of exercise 00: wrong solutions get a small counterexample, and nothing cheats or hangs it."""

import json
import time

import numpy as np
import pytest

from minidsv3.learn.checker import check, load_counterexample, save_counterexample
from minidsv3.learn.exercises import find_lesson
from minidsv3.learn.result import cells, pack, panel, unpack
from minidsv3.learn.sandbox import Limits

LESSON = find_lesson("00")
GOOD = LESSON.solution
NO_MAXIMUM = GOOD.replace("seen -= seen.max(axis=1, keepdims=True)", "pass")
SHORT = Limits(memory_mib=700, cpu_seconds=1, wall_seconds=3.0)


@pytest.fixture(scope="module")
def no_maximum():
    return check(LESSON, NO_MAXIMUM)


def wrong(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


# ---- wrong solutions --------------------------------------------------------------------------------------


def test_without_the_maximum_one_element_shows_it(no_maximum):
    result = no_maximum
    assert (result.passed, result.failed.name) == (False, "rows_sum_to_one")
    found = result.counterexample
    assert found.inputs["scores"].tolist() == [[89.0]]
    assert np.isnan(found.yours).all()
    assert found.worst == (0,)
    assert "overflow encountered in exp" in found.warnings
    assert [o.status for o in result.outcomes] == ["passed"] * 2 + ["failed"] + ["skipped"] * 4
    assert result.outcomes[-1].because == "because rows_sum_to_one failed"


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
def test_wrong_solutions_are_caught_with_a_small_input(source, failed, size):
    result = check(LESSON, source)
    assert result.failed.name == failed
    assert result.counterexample.inputs["scores"].size <= size


@pytest.mark.parametrize(
    ("body", "note"),
    [
        ("return None", "got NoneType: None"),
        ("return scores.astype('f8')", "got [1, 1] of float64"),
        ("return scores[0].copy()", "got [1] of float32"),
        ("return [[1.0]]", "got list: [[1.0]]"),
        ("return np.ma.masked_array(scores.copy())", "got MaskedArray"),
        ("return scores", "expected a new array, got the scores themselves"),
        ("scores += 1; return scores.copy()", "yours and the expected differ"),
        ("return 1 / 0", "raised ZeroDivisionError: division by zero (line 3: return 1 / 0)"),
        ("import sys; sys.exit(0)", "called sys.exit; a function has to return"),
        ("raise KeyboardInterrupt", "raised KeyboardInterrupt"),
        ("return softmax(scores)", "raised RecursionError"),
        ("return np.ones((40000, 40000))", "ran out of memory"),
    ],
)
def test_what_a_function_does_instead_is_told(body, note):
    result = check(LESSON, f"import numpy as np\ndef softmax(scores):\n    {body}\n")
    assert result.failed.name == "shape"
    assert note in result.failed.because


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
def test_a_file_that_does_not_load_is_told(source, note):
    result = check(LESSON, source)
    assert result.failed.name == "loads"
    assert note in result.failed.because


def test_different_answers_for_the_same_input_are_told():
    source = "calls = []\n" + GOOD.replace(
        "T = len", "calls.append(1)\n    if len(calls) == 9: return None\n    T = len"
    )
    result = check(LESSON, source)
    assert not result.passed
    assert "different answers for the same input" in result.failed.because


# ---- accidents and cheats: never a pass, never a hang -----------------------------------------------------

FAKE = '{"checks": [["loads", "x"]]}\\n{"outcome": "loads", "failure": null}\\n{"end": true}\\n'
ADVERSARIAL = {
    "infinite loop": "def softmax(scores):\n    while True: pass\n",
    "infinite loop at import": "while True: pass\n",
    "sleeps": "import time\ndef softmax(scores):\n    time.sleep(60)\n",
    "memory bomb": "def softmax(scores):\n    kept = []\n    while True: kept.append(bytearray(10**7))\n",
    "os._exit(0)": "import os\ndef softmax(scores):\n    os._exit(0)\n",
    "os._exit(0) at import": "import os\nos._exit(0)\n",
    "prints a fake result": f"print('{FAKE}')\ndef softmax(scores):\n    print('{FAKE}')\n",
    "writes to every pipe": "import os\nfor fd in range(3, 20):\n    try: os.write(fd, b'"
    + FAKE
    + "')\n    except OSError: pass\n"
    + GOOD,
    "closes every pipe": "import os\nos.closerange(0, 50)\n" + GOOD,
    "prints without end": "def softmax(scores):\n    while True: print('x' * 1000)\n",
    "writes a large file": "def softmax(scores):\n    open('large', 'wb').write(bytes(10**8))\n",
    "kills itself": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
    "kills its group": "import os, signal\nos.killpg(0, signal.SIGTERM)\n",
    "crashes": "import ctypes\ndef softmax(scores):\n    ctypes.string_at(0)\n",
    "forks": "import os\nos.fork()\n" + GOOD,
    "replaces NumPy's functions": "import numpy as np\nnp.exp2 = np.exp\n" + GOOD,
    "replaces the checker": "from minidsv3.learn import properties\nproperties.close = lambda *a: None\n"
    + NO_MAXIMUM,
    "raises at exit and exits": "import atexit, sys\natexit.register(lambda: 1 / 0)\nsys.exit(0)\n",
    "deletes its file": "import os\nos.remove(__file__)\n" + GOOD,
    "deletes its folder": "import os, shutil\nshutil.rmtree(os.getcwd())\n" + NO_MAXIMUM,
    "reads its input": "input()\n" + GOOD,
    "wants more memory": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))\n" + GOOD,
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_never_a_pass_never_a_hang(name):
    start = time.monotonic()
    result = check(LESSON, ADVERSARIAL[name], SHORT)
    assert not result.passed
    assert time.monotonic() - start < SHORT.wall_seconds + 10
    assert result.problem or result.failed
    assert len(result.output) <= SHORT.output_bytes
    assert panel(result)


def test_the_check_that_was_running_is_named():
    result = check(LESSON, ADVERSARIAL["infinite loop"], Limits(cpu_seconds=1, wall_seconds=60))
    assert (result.failed.name, result.failed.because) == ("shape", "used 1 s of CPU")


# ---- the answer -------------------------------------------------------------------------------------------


def test_the_panel_says_everything_within_22_lines(no_maximum):
    lines = panel(no_maximum)
    text = "\n".join(lines)
    assert len(lines) <= 22
    for said in (
        "FAILED",
        "each row of the result sums to 1",
        "89",
        "nan*",
        "eq. 10",
        "hint 1 of 4",
        "--replay",
    ):
        assert said in text


def test_a_counterexample_can_be_replayed(no_maximum, tmp_path):
    result = no_maximum
    assert save_counterexample(result, tmp_path) == tmp_path / "counterexample.npz"
    name, inputs = load_counterexample(tmp_path)
    assert (name, inputs["scores"].dtype) == ("rows_sum_to_one", np.float32)
    again = check(LESSON, NO_MAXIMUM, replay=(name, inputs))
    assert again.counterexample.inputs["scores"].tolist() == result.counterexample.inputs["scores"].tolist()
    assert check(LESSON, GOOD, replay=(name, inputs)).passed
    assert save_counterexample(check(LESSON, GOOD), tmp_path) is None
    with pytest.raises(ValueError, match="check without --replay first"):
        load_counterexample(tmp_path)


def test_what_the_code_printed_on_the_smallest_input_is_shown():
    result = check(LESSON, NO_MAXIMUM.replace("T = len", "print('scores', scores)\n    T = len"))
    assert result.counterexample.printed == "scores [[89.]]\n"


def test_a_result_is_json_without_nan(no_maximum):
    text = json.dumps(no_maximum.to_dict(), allow_nan=False)
    found = json.loads(text)
    assert found["schema"] == "minidsv3.check/1"
    assert found["counterexample"]["yours"]["values"] == ["nan"]


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
    assert cells(np.zeros((0, 3))) == []
