"""`minidsv3 lesson` with keys and without."""

import io
import json

import pytest
from rich.console import Console

from minidsv3.cli import main
from minidsv3.cli.lesson_player import KEYS, play
from minidsv3.learn.exercises import find_lesson
from minidsv3.learn.player import Player
from minidsv3.learn.progress import lesson_cell

TEXT = """\
# %% [markdown] About
# Prose.
# %% Add
from minidsv3 import Machine
import numpy as np
machine = Machine(trace=True)
x = machine.add(np.ones(3), np.ones(3)[None], at="attn.residual") if False else np.ones((2, 3))
y = machine.linear(x, x, at="mla.out")
print("sum", y.sum())
# %% Fail
raise RuntimeError("on purpose")
"""


def session(tmp_path, *keys, text=TEXT, restart=False):
    """What a session shows, and its exit code."""
    console = Console(file=io.StringIO(), width=80, no_color=True, highlight=False, markup=False)
    player = Player.from_text(text, "demo.py")
    code = play(find_lesson("00"), player, tmp_path, restart, console, iter(keys))
    return console.file.getvalue(), code


def test_forward_back_and_forward(tmp_path):
    shown, code = session(tmp_path, "n", "n", "b", "\x1b[C", "q")
    assert shown.count("sum 12.0") == 2
    assert "in front of cell 2: Add" in shown
    assert code == 0


def test_the_keys_are_always_in_the_footer(tmp_path):
    shown, _ = session(tmp_path, "n", "?", "z")
    assert shown.count("q:quit") == 4
    assert all(f"{key}:{name}" in shown for key, name in KEYS.items())
    assert "no key 'z'" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_variables_trace_and_source(tmp_path):
    shown, _ = session(tmp_path, "g 3", "v", "t", "s", "s gate.sigmoid", "s nonsense", "s", "g 99", "g x")
    for said in ("x *", "[2, 3]", "float64", "mla.out", "eq. 11", "def linear(", "eq. 15", "def sigmoid("):
        assert said in shown
    for said in ("expected an op id, got 'nonsense'", "expected a cell 1 .. 4", "expected a cell's number"):
        assert said in shown


def test_a_failing_cell_says_its_title_and_exits_1(tmp_path):
    shown, code = session(tmp_path, "g 3", "n", "v", "q")
    assert "cell 3, 'Fail' failed:" in shown
    assert "RuntimeError: on purpose" in shown
    assert code == 1


def test_goes_on_where_it_stopped(tmp_path):
    session(tmp_path, "n", "n", "q")
    assert lesson_cell(tmp_path, "00") == 2
    shown, _ = session(tmp_path, "v")
    assert "going on behind cell 2" in shown
    assert "x *" in shown
    session(tmp_path, "n", restart=True)
    assert lesson_cell(tmp_path, "00") == 1


def test_runs_all_without_a_terminal(capsys):
    assert main(["lesson", "run", "00"]) == 0
    said = capsys.readouterr()
    assert "== Which op moves most bytes?" in said.out
    assert said.err == ""


def test_json_has_every_cell(capsys):
    assert main(["lesson", "run", "00", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["ok"]) == ("minidsv3.lesson/1", True)
    assert len(found["cells"]) == len(Player.open(find_lesson("00").path).cells)
    assert main(["lesson", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lessons"][0]["id"] == "00"


@pytest.mark.parametrize("flag", ["--all", "--json"])
def test_a_failing_cell_stops_a_run_without_keys(flag, capsys, monkeypatch):
    monkeypatch.setattr("minidsv3.cli.lesson.Player.open", lambda path: Player.from_text(TEXT, "demo.py"))
    assert main(["lesson", "run", "00", flag]) == 1
    said = capsys.readouterr()
    if flag == "--all":
        assert said.err.startswith("lesson 00, cell 3, 'Fail' failed:\nTraceback (most recent call last):\n")
        assert "player.py" not in said.err
    else:
        assert [cell["ok"] for cell in json.loads(said.out)["cells"]] == [True, True, False]


def test_usage(capsys):
    assert main(["lesson", "run"]) == 2
    assert "known: 00" in capsys.readouterr().err
    assert main(["lesson", "run", "77"]) == 2
    assert main(["lesson", "dance"]) == 2
    assert main(["lesson", "--help"]) == 0
    assert "minidsv3 lesson run 00" in capsys.readouterr().out
