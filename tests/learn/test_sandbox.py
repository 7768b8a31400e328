"""Sessions: a student's code answers calls, its limits hold, and nothing of it is left."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from minidsv3.learn.exercises import lessons
from minidsv3.learn.sandbox import ALWAYS, WALLS, Limits, in_words
from minidsv3.learn.sandbox import session as sessions
from minidsv3.learn.sandbox.session import Ended, Lost, Other, Session, Warm

X = np.array([[1.0, -2.0]], np.float32)
SHORT = Limits(wall_seconds=0.8, cpu_seconds=1)


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm() as process:
        yield process


def needs(warm: Warm, *walls: str) -> None:
    with warm.open("") as session:
        missing = {*walls} - {*session.held}
    if missing:
        pytest.skip(f"{missing} cannot be had on this system")


def returned(warm: Warm, source: str, value: object = X) -> object:
    """What the function `f` of a source returns."""
    with warm.open(source) as session:
        assert session.problem is None
        answer = session.call("f", {"x": value})
    assert answer.raised is None
    return answer.value


# ---- answers ----------------------------------------------------------------------------------------------


def test_values_come_back_as_they_were(warm: Warm) -> None:
    value = (None, True, -(2**70), 0.1, "é\n", [X, {"a": (), 3: np.float32(2)}], np.array(5, np.int8))
    found = returned(warm, "def f(x):\n    return x\n", value)
    np.testing.assert_equal(found, value)
    assert [type(part) for part in found] == [type(part) for part in value]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("returns", "other"),
    [
        ("range(3)", Other("range", "range(0, 3)")),
        ("np.ma.array([1])", "MaskedArray"),
        ("x.astype(complex)", "ndarray of complex128"),
        ("x.astype('>f4')", "ndarray of >f4"),
        ("(part for part in x)", "generator"),
        ("{(1, 2): 3}", "dict"),
        ("b'bytes'", "bytes"),
    ],
)
def test_what_does_not_travel_comes_in_words(warm: Warm, returns: str, other: Other | str) -> None:
    found = returned(warm, f"import numpy as np\ndef f(x):\n    return {returns}\n")
    assert isinstance(found, Other)
    assert found == other or found.kind == other


def test_an_answer_tells_what_happened_beside_the_value(warm: Warm) -> None:
    source = (
        "import numpy as np\ndef f(x, y):\n    print('hello')\n    x += 1\n    return [np.log(y - y), x[0]]\n"
    )
    with warm.open(source) as session:
        answer = session.call("f", {"x": X, "y": X})
    assert (answer.changed, answer.shares, answer.printed) == (("x",), ("x",), "hello\n")
    assert answer.warnings == ("divide by zero encountered in log",)


def test_work_is_counted_on_request(warm: Warm) -> None:
    with warm.open("def f(x):\n    return x @ x.T\n") as session:
        assert session.call("f", {"x": X}).work is None
        work = session.call("f", {"x": X}, count=True).work
    assert work is not None
    assert work.flops == 2 * 1 * 2 * 1


def test_a_raise_is_told_with_its_line(warm: Warm) -> None:
    with warm.open("def f(x):\n    return 1 / 0\n") as session:
        said = "raised ZeroDivisionError: division by zero (line 2: return 1 / 0)"
        assert session.call("f", {"x": X}).raised == said
        assert session.call("f", {"x": X}).raised == said  # and the session goes on


def test_a_function_that_is_not_there_is_told(warm: Warm) -> None:
    with warm.open("g = len\n_h = len\n") as session:
        assert session.callables == ("g",)
        assert "KeyError" in str(session.call("f", {}).raised)


def test_a_function_is_found_behind_all_those_that_are_imported(warm: Warm) -> None:
    assert returned(warm, "from numpy import *\n\ndef f(x):\n    return x + 1\n", 1) == 2
    with warm.open("from numpy import *\n\ndef f(x):\n    return x\n") as session:
        assert {"exp", "f"} <= {*session.callables}


def test_this_package_cannot_be_imported(warm: Warm) -> None:
    with warm.open("import numpy.linalg\nimport minidsv3.numerics\n") as session:
        assert session.problem == (
            "raised ImportError: expected NumPy and Python's own modules alone, got minidsv3"
            " (line 2: import minidsv3.numerics)"
        )


def test_prints_outside_of_calls_are_kept_up_to_the_cap(warm: Warm) -> None:
    with warm.open("print('x' * 10**6)\n", Limits(output_bytes=100)) as session:
        assert session.output == "x" * 100


def test_a_source_too_long_is_not_sent(warm: Warm) -> None:
    with warm.open("#" * (sessions.MOST_SOURCE + 1)) as session:
        assert "is longer than" in str(session.problem)


def test_a_large_answer_comes_in_words(warm: Warm) -> None:
    found = returned(warm, "import numpy as np\ndef f(x):\n    return np.zeros(10**7)\n")
    assert found == Other("ndarray of float64", "an array [10000000]")


# ---- the end ----------------------------------------------------------------------------------------------


def test_a_session_that_ended_says_so_at_every_call(warm: Warm) -> None:
    with warm.open("import os\ndef f(x):\n    os._exit(0)\n") as session:
        for _ in range(2):
            with pytest.raises(Ended, match="left before it answered"):
                session.call("f", {"x": X})
        with pytest.raises(Ended, match="left before it answered"):
            session.finish()


def test_time_is_counted_over_all_calls_and_only_while_we_wait(warm: Warm) -> None:
    source = "import time\ndef f(x):\n    time.sleep(0.25)\n"
    with warm.open(source, Limits(wall_seconds=0.7)) as session:
        session.call("f", {"x": X})
        time.sleep(0.5)
        session.call("f", {"x": X})
        with pytest.raises(Ended, match=r"ran longer than 0\.7 s"):
            session.call("f", {"x": X})


def test_what_is_said_unasked_after_the_last_answer_is_found(warm: Warm) -> None:
    source = "import os\ndef f(x):\n    os.write(63, b'more')\n    return x\n"
    with warm.open(source) as session, pytest.raises(Ended, match="not asked"):
        session.call("f", {"x": X})


def test_a_copy_of_itself_does_not_answer(warm: Warm) -> None:
    with warm.open("import os\ndef f(x):\n    return x + (1 if os.fork() else 2)\n") as session:
        np.testing.assert_array_equal(session.call("f", {"x": X}).value, X + 1)
        session.finish()


@pytest.mark.parametrize(
    ("code", "cpu", "why", "words"),
    [
        (-24, 3.0, None, "used 3 s of CPU"),
        (-9, 4.0, None, "used 3 s of CPU"),
        (-9, 0.1, None, "was killed"),
        (-9, 0.1, "memory", "ran out of memory (limit 512 MiB)"),
        (-9, 0.1, "processes", "started more than 16 processes"),
        (-11, 0.1, None, "crashed (SIGSEGV)"),
        (0, 0.1, None, "left before it answered"),
    ],
)
def test_ends_are_in_words(code: int, cpu: float, why: str | None, words: str) -> None:
    assert in_words({"code": code, "cpu": cpu, "why": why}, Limits(cpu_seconds=3)) == words


# ---- walls ------------------------------------------------------------------------------------------------


def test_what_holds_is_said_in_known_words(warm: Warm) -> None:
    with warm.open("") as session:
        assert {*ALWAYS} <= {*session.held} <= {*WALLS}


def test_its_folder_is_empty_but_for_the_file_and_gone_at_the_end(warm: Warm) -> None:
    source = (
        "import os\ndef f(x):\n    open('more', 'w').close()\n    return os.getcwd(), sorted(os.listdir())\n"
    )
    for _ in range(2):
        place, files = returned(warm, source)  # type: ignore[misc]
        assert files == ["exercise.py", "more"]
        assert not (Path(place) / "more").exists()


def test_it_sees_no_process_but_its_own(warm: Warm) -> None:
    needs(warm, "signals", "files")
    source = "import os\ndef f(x):\n    return sorted(int(n) for n in os.listdir('/proc') if n.isdigit())\n"
    assert returned(warm, source) == [1, 2]


def test_solutions_and_what_is_named_are_out_of_its_sight(tmp_path: Path) -> None:
    (tmp_path / "key.toml").write_text("seed = 1")
    solution, key = lessons()[0].folder / "solution.py", tmp_path / "key.toml"
    source = f"""
import os
def f(x):
    return [os.path.exists(place) for place in ({str(solution)!r}, {str(key)!r}, os.__file__)]
"""
    with Warm(hidden=[tmp_path]) as warm:
        needs(warm, "reading")
        assert returned(warm, source) == [False, False, True]
    assert solution.is_file()
    assert key.is_file()


def test_nothing_of_it_runs_when_it_is_closed(warm: Warm) -> None:
    mark = f"sleeper-{os.getpid()}-{time.monotonic_ns()}"
    source = f"""
import os, subprocess, sys
started = [
    subprocess.Popen(["sh", "-c", "sleep 60; : {mark}"], start_new_session=True) for _ in range(3)
]
def f(x):
    return x
"""
    with warm.open(source) as session:
        session.call("f", {"x": X})
        until = time.monotonic() + (5 if Path("/proc/self").exists() else 0)
        while len(running(mark)) < 3 and time.monotonic() < until:
            time.sleep(0.01)  # a program that was just started has no command line yet
        assert len(running(mark)) == (3 if Path("/proc/self").exists() else 0)
    assert running(mark) == []


def running(mark: str) -> list[int]:
    """Processes with a mark on their command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in place.read_bytes():
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("walls", ["plain", "none"])
def test_systems_that_allow_less_have_sessions_too(walls: str) -> None:
    source = "import os, time\ndef f(x):\n    print(os.getcwd())\n    return x + x\n"
    ends = "def loop(x):\n    time.sleep(60)\ndef leave(x):\n    os._exit(0)\n"
    with Warm(walls) as warm:
        with warm.open(source + ends, SHORT) as session:
            assert {*ALWAYS} <= {*session.held} <= {*WALLS}
            answer = session.call("f", {"x": X})
            np.testing.assert_array_equal(answer.value, X + X)
            assert Path(answer.printed.strip()).is_dir()
            with pytest.raises(Ended, match=r"ran longer than 0\.8 s"):
                session.call("loop", {"x": X})
        with warm.open(source + ends) as session, pytest.raises(Ended, match="left before it answered"):
            session.call("leave", {"x": X})
    assert not Path(answer.printed.strip()).exists()


# ---- the warm process -------------------------------------------------------------------------------------


def test_sessions_do_not_see_each_other(warm: Warm) -> None:
    source = "state = []\ndef f(x):\n    state.append(x)\n    return len(state)\n"
    with warm.open(source) as one, warm.open(source) as two:
        assert [one.call("f", {"x": 1}).value, one.call("f", {"x": 1}).value] == [1, 2]
        assert two.call("f", {"x": 1}).value == 1


def test_a_warm_process_that_died_is_replaced() -> None:
    with Warm() as warm:
        before = warm.open("def f(x):\n    return x\n")
        assert before.call("f", {"x": 1}).value == 1
        warm._process.kill()
        warm._process.wait()
        with pytest.raises(Lost, match="was killed, and its guard with it"):
            call_until_it_ends(before)
        with warm.open("def f(x):\n    return x\n") as session:
            assert session.call("f", {"x": 2}).value == 2


def call_until_it_ends(session: Session) -> None:
    """The end of one process reaches the others a moment later."""
    for _ in range(100):
        session.call("f", {"x": 1})
        time.sleep(0.02)


def test_a_warm_process_leaves_nothing() -> None:
    with Warm() as warm:
        folder = Path(warm._folder.name)
        session = warm.open("import time\ndef f(x):\n    time.sleep(60)\n")
    assert warm._process.poll() is not None
    assert not folder.exists()
    with pytest.raises(Ended):
        session.call("f", {"x": 1})


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list open files")
def test_sessions_leave_no_open_files_behind(warm: Warm) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = opened()
    for source in ("def f(x):\n    return x\n", "1 / 0\n", "import os\nos._exit(0)\n", "print(1)\n") * 3:
        warm.open(source).close()
    assert opened() == before
