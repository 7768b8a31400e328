"""`minidsv3 init, check, hint, solution, reset, progress` in a student's folder."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from minidsv3.cli import check_watch, main
from minidsv3.learn.exercises import find_lesson, lessons

SOLUTION = find_lesson("00").solution
NO_MAXIMUM = SOLUTION.replace("seen -= seen.max(axis=1, keepdims=True)", "pass")
PACKAGE = Path(__file__).parents[2]
WARM_SECONDS, COLD_SECONDS = 0.4, 1.5  # bars on an idle machine
SLACK = 4  # other work on the machine


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_check_writes_the_exercise(folder, capsys):
    assert main(["check", "00"]) == 1
    assert "wrote 00_one_prediction/exercise.py" in capsys.readouterr().out
    assert (folder / "00_one_prediction" / "exercise.py").read_text() == find_lesson("00").stub


def test_from_failing_to_passing(folder, capsys):
    file = folder / "exercise_00.py"
    file.write_text(NO_MAXIMUM)
    assert main(["check", "00"]) == 1
    said = capsys.readouterr()
    assert "scores [1, 1]" in said.out
    assert "hint 1 of 4: minidsv3 hint 00" in said.out
    assert said.err == ""
    assert (folder / "counterexample.npz").is_file()
    assert main(["check", "00", "--replay"]) == 1
    assert "only the saved counterexample" in capsys.readouterr().err
    assert main(["hint", "00"]) == 0
    assert main(["check", "00"]) == 1
    assert "hint 2 of 4" in capsys.readouterr().out
    assert main(["solution", "00"]) == 1
    assert "to pass first" in capsys.readouterr().err
    file.write_text(SOLUTION)
    assert main(["check", "00"]) == 0
    assert "counted work" in capsys.readouterr().out
    assert not (folder / "counterexample.npz").exists()
    progress = json.loads((folder / ".minidsv3" / "progress.json").read_text())
    assert progress["exercises"]["00"]["state"] == "passing-with-hints"
    assert main(["solution", "00"]) == 0
    said = capsys.readouterr().out
    assert SOLUTION.rstrip() in said
    assert "minidsv3/machine/primitives.py:" in said
    assert "bytes moved: yours" in said
    assert main(["hint", "00"]) == 0
    assert "hint 4 of 4" in capsys.readouterr().out


def test_any_file_and_json(folder, capsys):
    (folder / "my.py").write_text(NO_MAXIMUM)
    assert main(["check", "00", "--file", "my.py", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["passed"]) == ("minidsv3.check/2", False)
    assert found["counterexample"]["inputs"]["scores"]["values"] == [89.0]
    assert found["hint"]["of"] == 4
    assert found["replay"] == "minidsv3 check 00 --replay --file my.py"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_on_a_terminal_the_panel_has_a_frame(folder, capsys, monkeypatch, columns):
    (folder / "my.py").write_text(NO_MAXIMUM)
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": str(columns)}.items():
        monkeypatch.setenv(name, value)
    assert main(["check", "00", "--file", "my.py"]) == 1
    said = capsys.readouterr().out
    assert "╭" in said
    assert "\x1b[" in said
    assert "nan*" in said
    assert len(said.rstrip("\n").split("\n")) <= 22


def test_without_colour_and_for_a_screen_reader(folder, capsys, monkeypatch):
    (folder / "my.py").write_text(NO_MAXIMUM)
    monkeypatch.setenv("MINIDSV3_SCREEN_READER", "1")
    assert main(["check", "00", "--file", "my.py"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("Check 00, One prediction, failed.\nPassed: loads.\n")
    assert "\x1b" not in said


def test_what_is_in_the_folder_is_checked_up_to_the_first_that_fails(folder, capsys):
    assert main(["check"]) == 2
    assert "minidsv3 init ." in capsys.readouterr().err
    assert main(["init", "."]) == 0
    (folder / "00_one_prediction" / "exercise.py").write_text(SOLUTION)
    capsys.readouterr()
    assert main(["check"]) == 1
    said = capsys.readouterr().out.split("\n")
    assert [line.split()[:2] for line in said[:3]] == [["00", "passed"], ["05", "failed"], ["check", "05,"]]
    assert main(["check", "--all", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "minidsv3.checks/1"
    assert [row["exercise"] for row in found["results"]] == [lesson.id for lesson in lessons()]
    assert [row["passed"] for row in found["results"]].count(True) == 1


def test_usage(folder, capsys):
    assert main(["check", "00", "--file", "none.py"]) == 2
    assert main(["check", "77"]) == 2
    assert main(["check", "--replay"]) == 2
    assert main(["check", "00", "--watch", "--json"]) == 2
    (folder / "exercise_00.py").write_bytes(b"\xff\xfe")
    assert main(["check", "00"]) == 2
    (folder / "exercise_00.py").write_text(SOLUTION)
    assert main(["check", "00", "--replay"]) == 2
    assert main(["hint", "77"]) == main(["solution", "77"]) == main(["reset", "77"]) == 2
    (folder / "file").write_text("")
    assert main(["init", "file"]) == 2
    capsys.readouterr()
    for command in ("init", "check", "hint", "solution", "reset", "progress"):
        assert main([command, "--help"]) == 0


# ---- the folder -------------------------------------------------------------------------------------------


def test_init_writes_what_is_missing_and_nothing_else(folder, capsys):
    assert main(["init", "course", "--exercises", "00"]) == 0
    stub = folder / "course" / "00_one_prediction" / "exercise.py"
    assert stub.read_text() == find_lesson("00").stub
    written = sorted(path.name for path in (folder / "course").rglob("*") if path.is_file())
    assert written == ["README.md", "exercise.py", "test_exercises.py"]
    assert "cd course && minidsv3 lesson run 00" in capsys.readouterr().out
    stub.write_text("mine")
    assert main(["init", "course", "--exercises", "00"]) == 0
    assert stub.read_text() == "mine"
    assert "stay as they are" in capsys.readouterr().out


@pytest.mark.slow  # 2 s
def test_pytest_in_the_folder_runs_the_checks(folder, capsys):
    main(["init", ".", "--exercises", "00"])
    (folder / "00_one_prediction" / "exercise.py").write_text(NO_MAXIMUM)
    environment = os.environ | {"PYTHONPATH": str(PACKAGE)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    said = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert said.returncode == 1
    assert "each row of the result sums to 1" in said.stdout
    assert "1 failed" in said.stdout


def test_reset_keeps_what_was_written(folder, capsys):
    main(["init", ".", "--exercises", "00"])
    place = folder / "00_one_prediction"
    for mine in ("one", "two"):
        (place / "exercise.py").write_text(mine)
        assert main(["reset", "00"]) == 0
    assert main(["reset", "00"]) == 0
    assert (place / "exercise.py").read_text() == find_lesson("00").stub
    kept = sorted(path.name for path in place.iterdir())
    assert kept == ["exercise.before-2.py", "exercise.before.py", "exercise.py"]
    assert (place / "exercise.before-2.py").read_text() == "two"


def test_progress_is_shown_and_merged(folder, capsys):
    from minidsv3.learn.progress import record_check, record_lesson

    other = folder / "other"
    other.mkdir()
    record_lesson(other, "00", cell=9, of=9)
    record_check(other, "00", "x", True)
    assert main(["progress"]) == 0
    assert f"0 of {len(lessons())} exercises done" in capsys.readouterr().out
    assert main(["progress", "--merge", "other/.minidsv3/progress.json"]) == 0
    said = capsys.readouterr().out
    assert "00 One prediction: lesson idea met; exercise passing" in said
    assert "next: minidsv3 lesson run 05" in said
    assert main(["progress", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["done"], found["met"]) == ("minidsv3.standing/1", 1, 1)
    assert main(["progress", "--merge", "none"]) == 2


def test_the_solution_is_never_locked(folder, capsys):
    assert main(["solution", "00", "--anyway", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["solution"] == SOLUTION
    main(["progress"])
    assert "exercise skipped" in capsys.readouterr().out


# ---- how long it takes ------------------------------------------------------------------------------------


@pytest.mark.slow  # 2 s
def test_a_cold_check_answers_soon(folder):
    (folder / "exercise_00.py").write_text(NO_MAXIMUM)
    start = time.monotonic()
    command = [sys.executable, "-m", "minidsv3", "check", "00"]
    subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONPATH": str(PACKAGE)}, timeout=60)
    assert time.monotonic() - start < SLACK * COLD_SECONDS


@pytest.mark.slow  # 2 s
def test_watch_answers_when_the_file_is_saved(folder):
    """On a terminal of its own: save, read the panel, save, read, ask for a hint, leave with q."""
    file = folder / "exercise_00.py"
    file.write_text(NO_MAXIMUM)
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(PACKAGE), "TERM": "xterm", "COLUMNS": "80"}
    command = [sys.executable, "-m", "minidsv3", "check", "00", "--watch"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        said = _until(ours, "q quit")
        assert "FAILED" in said
        start = time.monotonic()
        file.write_text(SOLUTION)
        said = _until(ours, "q quit")
        assert ": passed" in said
        assert time.monotonic() - start < SLACK * WARM_SECONDS
        os.write(ours, b"h")
        assert "hint 1 of 4" in _until(ours, "differs from yours?")
        os.write(ours, b"q")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _until(terminal: int, words: str) -> str:
    """What a terminal shows up to these words."""
    import select

    said, until = "", time.monotonic() + 30
    while words not in said:
        assert time.monotonic() < until, said
        if select.select([terminal], [], [], 0.2)[0]:
            said += os.read(terminal, 65536).decode(errors="replace")
    return said


def test_watch_leaves_the_terminal_as_it_was_and_takes_it_again(folder, monkeypatch):
    """Keys come to a thread, signals to the main one: it holds the terminal."""
    ours, theirs = os.openpty()
    monkeypatch.setattr(sys, "stdin", os.fdopen(theirs, "r", closefd=False))
    monkeypatch.setattr(check_watch, "reads_keys", lambda console: True)
    before, seen = termios.tcgetattr(theirs)[3], []

    def events(console, files):
        seen.append(termios.tcgetattr(theirs)[3])
        termios.tcsetattr(theirs, termios.TCSANOW, cooked)
        signal.raise_signal(signal.SIGCONT)
        seen.append(termios.tcgetattr(theirs)[3])
        yield "quit"

    cooked = termios.tcgetattr(theirs)
    monkeypatch.setattr(check_watch, "_events", events)
    assert check_watch.watch([find_lesson("00")], None, None) == 1
    assert before & termios.ICANON
    assert not any(mode & (termios.ICANON | termios.ECHO) for mode in seen)
    assert termios.tcgetattr(theirs)[3] == before
    os.close(ours)
    os.close(theirs)


def test_a_lesson_goes_by_its_number_however_short(capsys):
    assert find_lesson("0") == find_lesson("00")
    assert find_lesson("5").id == "05"
    with pytest.raises(ValueError, match="expected a lesson, got '1'"):
        find_lesson("1")


def test_progress_says_what_it_put_aside(folder, capsys):
    place = folder / ".minidsv3" / "progress.json"
    place.parent.mkdir()
    place.write_text('{"lessons": 3')
    assert main(["progress"]) == 0
    said = capsys.readouterr()
    assert "0 of 3 exercises done" in said.out
    assert "could not be read; it is kept as .minidsv3/progress.broken.json" in said.err
    assert main(["progress"]) == 0
    assert capsys.readouterr().err == ""
