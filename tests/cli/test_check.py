"""`minidsv3 check` in a student's folder."""

import json

import pytest

from minidsv3.cli import main
from minidsv3.learn.exercises import find_lesson

SOLUTION = find_lesson("00").solution
NO_MAXIMUM = SOLUTION.replace("seen -= seen.max(axis=1, keepdims=True)", "pass")


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
    assert "smallest scores [1, 1]" in said.out
    assert "hint 1 of 4" in said.out
    assert said.err == ""
    assert (folder / "counterexample.npz").is_file()
    assert main(["check", "00", "--replay"]) == 1
    assert "only the saved counterexample" in capsys.readouterr().err
    file.write_text(NO_MAXIMUM + "# again\n")
    assert main(["check", "00"]) == 1
    assert "hint 2 of 4" in capsys.readouterr().out
    file.write_text(SOLUTION)
    assert main(["check", "00"]) == 0
    assert "passed" in capsys.readouterr().out
    assert not (folder / "counterexample.npz").exists()
    progress = json.loads((folder / ".minidsv3" / "progress.json").read_text())
    assert progress["exercises"]["00"]["state"] == "passing"


def test_any_file_and_json(folder, capsys):
    (folder / "my.py").write_text(NO_MAXIMUM)
    assert main(["check", "00", "--file", "my.py", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["passed"]) == ("minidsv3.check/1", False)
    assert found["counterexample"]["inputs"]["scores"]["values"] == [89.0]
    assert found["hint"]["of"] == 4
    assert found["replay"] == "minidsv3 check 00 --replay --file my.py"


def test_on_a_terminal_the_panel_has_a_frame(folder, capsys, monkeypatch):
    (folder / "my.py").write_text(NO_MAXIMUM)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert main(["check", "00", "--file", "my.py"]) == 1
    said = capsys.readouterr().out
    assert "╭" in said
    assert "\x1b[" in said
    assert "nan*" in said


def test_usage(folder, capsys):
    assert main(["check", "00", "--file", "none.py"]) == 2
    assert main(["check", "77"]) == 2
    assert main(["check"]) == 2
    (folder / "exercise_00.py").write_bytes(b"\xff\xfe")
    assert main(["check", "00"]) == 2
    (folder / "exercise_00.py").write_text(SOLUTION)
    assert main(["check", "00", "--replay"]) == 2
    capsys.readouterr()
    assert main(["check", "--help"]) == 0
    assert "--replay" in capsys.readouterr().out
