"""The child process: its limits hold, its results are its own, and nothing of it is left."""

import os
import time
from pathlib import Path

import pytest

from minidsv3.learn import sandbox
from minidsv3.learn.sandbox import Limits, run

CHAIN = "minidsv3.learn.chain:run_chain"


def test_messages_come_back():
    finished = run("minidsv3.learn.sandbox:echo", {"x": [1, "two", None]})
    assert finished.messages == [{"x": [1, "two", None]}]
    assert finished.problem is None


def test_a_job_that_raises_has_a_problem_and_its_traceback_as_output():
    finished = run("minidsv3.learn.sandbox:no_such_job", {})
    assert finished.messages == []
    assert finished.problem == "ended before the checks did (exit code 1)"
    assert "no_such_job" in finished.output


@pytest.mark.parametrize(
    ("said", "messages", "ended"),
    [
        (b'{"a": 1, "nonce": "n"}\n{"end": true, "nonce": "n"}\n', [{"a": 1}], True),
        (b'{"a": 1, "nonce": "n"}\n', [{"a": 1}], False),
        (b'{"a": 1, "nonce": "m"}\n{"end": true, "nonce": "n"}\n', [], False),
        (b'{"a": 1, "nonce": "n"}\nrubbish\n{"end": true, "nonce": "n"}\n', [{"a": 1}], False),
        (b'{"end": true, "nonce": "n"}\n{"end": true, "nonce": "n"}\n', [], False),
        (b'{"end": true, "nonce": "n"}\nmore', [], False),
        (b'{"end": true, "nonce": "n"}', [], False),
        (b"[1]\n", [], False),
        (b"", [], False),
    ],
)
def test_only_our_lines_count_and_the_last_must_be_the_end(said, messages, ended):
    assert sandbox._read(said, "n") == (messages, ended)


def test_limits_are_in_words():
    limits = Limits(cpu_seconds=3, wall_seconds=4.5)
    assert sandbox._in_words(0, True, limits) == "ran longer than 4.5 s"
    assert sandbox._in_words(-24, False, limits) == "used 3 s of CPU"
    assert sandbox._in_words(-11, False, limits) == "crashed (SIGSEGV)"
    assert sandbox._in_words(7, False, limits) == "ended before the checks did (exit code 7)"


def test_a_grandchild_is_killed_and_does_not_hold_us_up(tmp_path):
    note = tmp_path / "pid"
    source = f"""
import os, subprocess
child = subprocess.Popen(["sleep", "60"])
open({str(note)!r}, "w").write(str(child.pid))
os._exit(0)
"""
    start = time.monotonic()
    finished = run(CHAIN, {"source": source, "function": "f", "check": _check(), "replay": None})
    assert finished.problem is not None
    assert time.monotonic() - start < 10
    assert not _runs(int(note.read_text()))


def _check() -> str:
    from minidsv3.learn.exercises import find_lesson

    return str(find_lesson("00").folder / "check.py")


def _runs(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has waited for does not."""
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        status = Path(f"/proc/{pid}/stat")
        if status.is_file() and status.read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        time.sleep(0.02)
    return True
