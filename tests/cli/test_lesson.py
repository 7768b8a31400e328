"""`minidsv3 lesson` with keys and without."""

import io
import json
import sys

import pytest
from rich.console import Console

from minidsv3.cli import main
from minidsv3.cli.lesson_player import ASKS, HELP, KEYS, OP_KEYS, copy_of, play
from minidsv3.cli.lesson_screen import Footer, Screen, key_lines
from minidsv3.learn.exercises import find_lesson, lessons
from minidsv3.learn.player import Player
from minidsv3.learn.progress import lesson_cell

TEXT = """\
# %% [markdown] About
# Prose.
# %% Add  eq="11" fast=true show="heat_map:x"
from minidsv3 import Machine
import numpy as np
machine = Machine(trace=True)
x = np.ones((2, 3))
y = machine.linear(x, x, at="mla.out")
print("sum", y.sum())
# %% Guess  pause=true
machine.sigmoid(y, at="gate.sigmoid")
print("more than a half")
# %% Fail
raise RuntimeError("on purpose")
"""


def session(tmp_path, *keys, text=TEXT, **options):
    """What a session shows, and its exit code."""
    console = Console(file=io.StringIO(), width=80, no_color=True, highlight=False, markup=False)
    player = Player.from_text(text, "demo.py")
    code = play(find_lesson("00"), player, tmp_path, console=console, commands=iter(keys), **options)
    return console.file.getvalue(), code


def test_forward_back_and_forward(tmp_path):
    shown, code = session(tmp_path, "n", "n", "b", "right", "q")
    assert shown.count("sum 12.0") == 2
    assert shown.count("cell 1 of 4: About") == 2
    assert shown.count("cell 2 of 4: Add (eq. 11)") == 2
    assert shown.count("x  2x3") == 2
    assert code == 0


def test_the_keys_are_always_in_the_footer(tmp_path):
    shown, _ = session(tmp_path, "n", "?", "z")
    assert shown.count("q quit\n") == 4
    assert all(f"{key} {name}" in shown for key, name in KEYS.items())
    assert "no key 'z'" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert {line[0] for line in HELP.splitlines()} >= {*KEYS} - {"?"}


@pytest.mark.parametrize("width", [30, 60, 80, 120])
@pytest.mark.parametrize("keys", [KEYS, OP_KEYS])
def test_the_footer_fits_the_width_and_has_every_key(width, keys):
    lines = [line.plain for line in key_lines(keys, width)]
    assert all(0 < len(line) <= width for line in lines)
    assert "  ".join(lines) == "  ".join(f"{key} {name}" for key, name in keys.items())


def test_a_page_that_is_too_long_scrolls_and_leaves_room_for_the_keys(monkeypatch):
    monkeypatch.setattr(Screen, "in_place", True)
    file = io.StringIO()
    screen = Screen(Console(file=file, width=40, height=12, force_terminal=True, highlight=False))

    def drawn():
        text = file.getvalue().rpartition("\x1b[H")[2]
        assert text.endswith("\x1b[J")
        return [line.removeprefix("\x1b[2K") for line in text.removesuffix("\x1b[J").split("\r\n")]

    screen.show([f"line {i}" for i in range(30)], Footer("where", {"n": "next", "q": "quit"}))
    assert drawn()[:2] == ["line 0", "line 1"]
    assert len(drawn()) == 12
    assert "21 more lines" in drawn()[-3]
    assert screen.scroll("page down")
    assert drawn()[0] == "line 8"
    screen.scroll("end")
    assert (drawn()[0], drawn()[8]) == ("line 21", "line 29")
    assert not screen.scroll("down")
    screen.say("a note")
    assert "a note" in drawn()[-4]


@pytest.mark.parametrize("width", [50, 60])
def test_a_narrow_table_keeps_what_its_rows_are_about(tmp_path, width):
    console = Console(file=io.StringIO(), width=width, no_color=True, highlight=False, markup=False)
    text = TEXT.replace("# Prose.", "# Prose with y = machine.linear in " + "a long line " * 6)
    keys = iter(["g 2", "/ machine.linear", "t", "e", "v"])
    play(find_lesson("00"), Player.from_text(text, "demo.py"), tmp_path, console=console, commands=keys)
    shown = console.file.getvalue()
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert any(row.startswith("1 Prose with y") and row.endswith("…") for row in rows)
    assert any(row.startswith("2 y = machine.linear(") for row in rows)
    assert sum("mla.out" in row and "11" in row for row in rows) >= 2
    assert any(row.startswith("x * float64 2x3 ") for row in rows)
    assert all(len(line) <= width for line in shown.splitlines())


def test_variables_trace_equations_source_and_search(tmp_path):
    shown, _ = session(tmp_path, "g 2", "v", "t", "e", "e mla.out", "s", "s gate.sigmoid", "/ prose", "/ zzz")
    for said in ("x *", "2x3", "float64", "1 op;", "eq. 11", "primitives.py:", "def linear(", "def sigmoid("):
        assert said in shown
    for said in ("NVIDIA H800 SXM", " 1     Prose.", "found 'zzz' nowhere"):
        assert said in shown


def test_what_is_wrong_is_said(tmp_path):
    shown, code = session(tmp_path, "v", "t", "n", "d", "s nonsense", "g 99", "g x", "i nothing", ":")
    for said in ("no cell has run yet", "ran no traced op", "expected an op id, got 'nonsense'"):
        assert said in shown
    for said in (
        "expected a cell 0 .. 4, got 99",
        "expected a number, got 'x'",
        "got 'nothing'",
        "expected an expres",
    ):
        assert said in shown
    assert code == 0


def test_into_the_ops_and_out_again(tmp_path):
    shown, _ = session(tmp_path, "g 2", "d", "i u", "i o", "n", "d", "b", "d", "u")
    assert shown.count("cell 2: Add, op 1 of 1") == 3
    assert shown.count("-> u") == 3
    assert "so far" in shown
    assert "that was the last op of this cell" in shown
    assert shown.count("cell 2 of 4: Add") == 4
    assert "n next op  b op before" in shown


def test_expressions_leave_the_lesson_as_it_was_unless_asked(tmp_path):
    shown, _ = session(
        tmp_path, "g 2", "x.shape", ": (x.fill(7), x.sum())", "x.sum()", "!x[0] = 5", "x[0, 0]", "1 / 0"
    )
    for said in ("(2, 3)", "42", "6.0", "5.0", "ZeroDivisionError: division by zero"):
        assert said in shown


def test_inspect_takes_selectors_and_ops(tmp_path):
    shown, _ = session(tmp_path, "g 2", "i x[token=1]", "i mla.out", "inspect machine", "i y.T", "i")
    for said in ("x[token=1]", "mla.out", "Machine object", "y.T  2x2"):
        assert said in shown


def test_a_cell_to_guess_at_is_read_before_it_runs(tmp_path):
    shown, _ = session(tmp_path, "g 2", "n", "q")
    assert "guess first; n runs it" in shown
    assert "cell 3 of 4: Guess" in shown
    assert "more than a half\n" not in shown
    assert "more than a half\n" in session(tmp_path, "n", "n", "q")[0]


def test_the_fast_track_stops_at_its_cells(tmp_path):
    shown, _ = session(tmp_path, "n", "b", fast=True)
    assert shown.index("cell 2 of 4: Add") < shown.index("lesson 00: One prediction", 30)
    assert "About" not in shown


def test_a_failing_cell_says_its_title_and_exits_1(tmp_path):
    shown, code = session(tmp_path, "g 3", "n", "v", "q")
    assert "cell 4, 'Fail' failed:" in shown
    assert "RuntimeError: on purpose" in shown
    assert code == 1


def test_a_cell_that_is_interrupted_is_undone(tmp_path):
    text = "# %% A\nx = [1]\n# %% B\nx.append(2)\nraise KeyboardInterrupt\n"
    shown, code = session(tmp_path, "n", "n", "x", text=text)
    assert "interrupted: everything is as it was" in shown
    assert shown.splitlines().count("[1]") == 1
    assert code == 0


def test_goes_on_where_it_stopped(tmp_path):
    session(tmp_path, "n", "n", "q")
    assert lesson_cell(tmp_path, "00") == 2
    shown, _ = session(tmp_path, "v")
    assert "running up to cell 2, where you stopped" in shown
    assert "x *" in shown
    session(tmp_path, "n", restart=True)
    assert lesson_cell(tmp_path, "00") == 1


def test_where_one_is_outlives_a_killed_terminal(tmp_path):
    def pressed():
        yield from ("n", "n", "b", "n", "g 3")
        assert lesson_cell(tmp_path, "00") == 3
        yield "b"
        assert lesson_cell(tmp_path, "00") == 2

    console = Console(file=io.StringIO(), width=80)
    play(find_lesson("00"), Player.from_text(TEXT), tmp_path, console=console, commands=pressed())


def test_what_went_wrong_is_in_sight(tmp_path, monkeypatch):
    monkeypatch.setattr(Screen, "in_place", True)
    file = io.StringIO()
    console = Console(file=file, width=80, height=16, force_terminal=True, no_color=True, highlight=False)
    text = "# %% A\n" + "x = 1\n" * 30 + "raise RuntimeError('on purpose')\n"
    play(find_lesson("00"), Player.from_text(text), tmp_path, console=console, commands=iter(["n"]))
    drawn = file.getvalue().rpartition("\x1b[H")[2]
    assert "RuntimeError: on purpose" in drawn
    assert "r runs it again, o edits it" in drawn


def test_edit_takes_the_copy_up_to_the_first_cell_that_differs(tmp_path, monkeypatch):
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.write_text(p.read_text() + '\\n')"
    )
    copy = copy_of(find_lesson("00"), tmp_path)
    copy.parent.mkdir()
    copy.write_text(TEXT.replace('"sum"', '"total"'))
    monkeypatch.setenv("EDITOR", f"{sys.executable} {editor}")
    shown, _ = session(tmp_path, "g 3", "o", "n")
    assert "read again; the next cell is 2" in shown
    assert "total 12.0" in shown
    copy.write_text("x = 1")
    assert "expected a cell marker" in session(tmp_path, "o")[0]
    monkeypatch.delenv("EDITOR")
    assert "expected $EDITOR" in session(tmp_path, "o")[0]


def test_a_screen_reader_hears_what_the_keys_did(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDSV3_SCREEN_READER", "1")
    shown, _ = session(tmp_path, "n", "n", "d", "b", "v")
    assert shown.count("keys: n next, b back") == 1
    assert shown.count("? tells the keys") == 5
    for said in ("next:\ncell 2 of 4: Add", "x: 2x3", "op before:\ncell 2 of 4", "name x *, type float64"):
        assert said in shown


# ---- without keys -----------------------------------------------------------------------------------------


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
    monkeypatch.setattr("minidsv3.learn.player.Player.open", lambda path: Player.from_text(TEXT, "demo.py"))
    assert main(["lesson", "run", "00", flag]) == 1
    said = capsys.readouterr()
    if flag == "--all":
        assert said.err.startswith("lesson 00, cell 4, 'Fail' failed:\nTraceback (most recent call last):\n")
        assert "player.py" not in said.err
    else:
        assert [cell["ok"] for cell in json.loads(said.out)["cells"]] == [True, True, True, False]


def test_all_without_a_lesson_runs_every_lesson(capsys, monkeypatch):
    monkeypatch.setattr("minidsv3.learn.player.Player.open", lambda path: Player.from_text(TEXT, "demo.py"))
    assert main(["lesson", "run", "--all"]) == 1
    assert capsys.readouterr().out.count("== Fail") == len(lessons())
    assert main(["lesson", "run", "--all", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["ok"]) == ("minidsv3.lesson-runs/1", False)
    assert [row["id"] for row in found["lessons"]] == [lesson.id for lesson in lessons()]


def test_a_copy_is_played_unless_the_original_is_asked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = copy_of(find_lesson("00"), tmp_path)
    copy.parent.mkdir()
    copy.write_text("# %% Mine\nprint('my own')\n")
    assert main(["lesson", "run", "00"]) == 0
    said = capsys.readouterr()
    assert "my own" in said.out
    assert "your copy" in said.err
    assert main(["lesson", "run", "00", "--original"]) == 0
    assert "my own" not in capsys.readouterr().out


def test_without_a_number_the_lesson_played_last_or_the_first(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "minidsv3.learn.player.Player.open", lambda path: Player.from_text("", path.parent.name)
    )
    assert main(["lesson", "run"]) == 0
    assert "lesson 00" in capsys.readouterr().out
    (tmp_path / ".minidsv3").mkdir()
    (tmp_path / ".minidsv3" / "last_lesson").write_text("05\n")
    assert main(["lesson", "run"]) == 0
    assert "lesson 05" in capsys.readouterr().out


def test_usage(capsys):
    assert main(["lesson", "run", "77"]) == 2
    assert main(["lesson", "dance"]) == 2
    assert main(["lesson", "--help"]) == 0
    assert "minidsv3 lesson run 00" in capsys.readouterr().out
    assert {*ASKS} <= {*KEYS}
