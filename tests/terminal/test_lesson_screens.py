"""Lessons played on a terminal as a student would, screens kept as text. 70 s together."""

import re

import pytest

from minidsv3.cli.lesson_player import KEYS
from minidsv3.cli.lesson_screen import key_lines
from minidsv3.learn.exercises import find_lesson, lessons
from minidsv3.learn.player import Player

pytestmark = pytest.mark.slow

DEMO = """\
# %% [markdown] Two products
# Each row of `h` meets each row of `W_DKV`: equation 1. *How many* FLOPs are that?

# %% One product  eq="1" show="heat_map:c_KV"
import numpy as np

from minidsv3 import Machine

machine = Machine(trace=True)
h = np.arange(6, dtype=np.float32).reshape(2, 3)  # [T, D]
W_DKV = np.eye(3, dtype=np.float32)[:2]  # [d_c, D]
c_KV = machine.linear(h, W_DKV, at="mla.kv_down")  # [T, d_c]
print(f"{machine.trace.matrix_flops} FLOPs")

# %% Two attention maps
p = machine.softmax(np.zeros((2, 4, 4), np.float32), at="mla.softmax")  # [H, T, S]
for t in range(40):
    print(f"line {t}")

# %% A slow cell
h[0, 0] = 7
import time
time.sleep(100)
"""


@pytest.fixture
def demo(terminal, tmp_path):
    """Makes terminals on which the lesson above is played."""
    folder = tmp_path / find_lesson("00").name
    folder.mkdir()
    (folder / "lesson.py").write_text(DEMO)

    def make(*arguments, **options):
        made = terminal("lesson", "run", "00", *arguments, **options)
        made.until("n begins" if "TERM" not in options else "\n>")
        return made

    return make


@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.id)
def test_lessons_forward_and_back(lesson, terminal, golden):
    of = len(Player.open(lesson.path).cells)
    played = terminal("lesson", "run", lesson.id, height=50)
    screens = [("begin", played.until("n begins"))]
    for cell in range(1, of + 1):
        played.press("n")
        screens.append((f"n, cell {cell}", played.until(f"{lesson.title}, cell {cell} of {of}")))
    golden(f"lesson_{lesson.id}", screens)
    for cell in range(of - 1, -1, -1):
        played.press("b")
        status = f"{lesson.title}, cell {cell} of {of}"
        assert played.until(status) == screens[cell][1]
    played.press("q")
    assert "exit 0\nicanon\necho\n" in played.until("\necho")


def walk(played, golden, name):
    """Every kind of page, as golden text."""
    screens = []
    for keys, said in WALK:
        for key in keys.split("|"):
            played.type(key) if len(key) > 1 and key not in ("Enter", "PgDn", "Space") else played.press(key)
        screens.append((keys, played.until(said)))
    golden(name, screens)


WALK = [
    ("n", "cell 1 of 4"),
    ("n", "cell 2 of 4"),
    ("d", "op 1 of 1"),
    ("u", "cell 2 of 4: One"),
    ("v", "variables;"),
    ("i|c_KV[token=1]|Enter", "c_KV[token=1]; u leads back"),
    ("t", "trace of cell 2"),
    ("e|Enter", "equations of cell 2"),
    ("s|Enter", "primitives.py"),
    ("/|softmax|Enter", "'softmax'"),
    (":|h.sum(axis=1)|Enter", ">>> h.sum"),
    ("?", "space, enter"),
    ("n", "cell 3 of 4"),
    ("PgDn", "line 20"),
    ("b", "cell 2 of 4: One"),
    ("z", "no key 'z'"),
]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_page_at_three_widths(demo, golden, width):
    walk(demo(width=width), golden, f"pages_{width}")


def test_without_colour_the_words_are_the_same(demo, golden):
    played = demo(NO_COLOR="1")
    walk(played, golden, "pages_80")
    played.press("g", "2", "Enter")
    played.until("cell 2 of 4: One")
    codes = re.findall(r"\x1b\[([\d;]*)m", played.screen("-e"))
    used = {int(code) for sequence in codes for code in sequence.split(";") if code}
    assert not used & {*range(30, 39), *range(40, 49), *range(90, 108)}


def test_a_resized_terminal_is_drawn_anew(demo, golden):
    played = demo()
    played.press("n", "n")
    screens = [("80x24", played.until("cell 2 of 4: One"))]
    for width, height in ((60, 16), (40, 30), (100, 12), (80, 24)):
        played.resize(width, height)
        keys = "\n".join(line.plain for line in key_lines(KEYS, width))
        screens.append((f"{width}x{height}", played.until(f"\n{keys}\n")))
    golden("resized", screens)
    assert screens[0][1] == screens[-1][1]


def test_a_dumb_terminal_is_printed_line_by_line(demo, golden):
    played = demo(TERM="dumb", height=200)
    for line, said in (
        ("", "cell 1 of 4: Two"),
        ("n", "4 FLOPs"),
        ("into", "op 1 of 1"),
        ("u", "u\n"),
        ("h.sum()", "15"),
    ):
        played.type(line)
        played.press("Enter")
        screen = played.until(said)
    golden("dumb", [("all", screen)])
    assert "\x1b" not in played.screen("-e")


def test_a_screen_reader_hears_lines(demo, golden):
    played = demo(MINIDSV3_SCREEN_READER="1", height=200, width=100)
    for key, said in (
        ("n", "next:"),
        ("n", "24 FLOPs"),
        ("d", "into ops:"),
        ("v", "variables:"),
        ("b", "op before:"),
    ):
        played.press(key)
        screen = played.until(said)
    played.press("q")
    golden("screen_reader", [("all", played.until("exit 0"))])
    assert screen in played.screen() or screen.rstrip() in played.screen()


def test_ctrl_c_stops_a_cell_and_then_the_player(demo):
    played = demo()
    played.press("g", "3", "Enter")
    played.until("cell 3 of 4: Two")
    played.press("n")
    played.until("running cell 4")
    played.press("C-c")
    played.until("interrupted: everything is as it was")
    played.press(":")
    played.type("h[0, 0]")
    played.press("Enter")
    played.until("0.0")
    played.press("C-c")
    assert "exit 130\nicanon\necho\n" in played.until("\necho")


def test_goes_on_where_it_stopped_and_edits(demo, terminal, tmp_path):
    played = demo()
    played.press("n", "n", "q")
    played.until("exit 0")
    editor = tmp_path / "editor.sh"
    editor.write_text("#!/bin/sh\nsed -i 's/FLOPs/operations/' \"$1\"\n")
    editor.chmod(0o755)
    again = terminal("lesson", "run", EDITOR=editor)
    again.until("cell 2 of 4: One")
    again.press("o")
    again.until("read again; the next cell is 1")
    again.press("g", "2", "Enter")
    again.until("24 operations")
