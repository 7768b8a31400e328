"""Keys by name, lines as they are edited, and a terminal that is left as it was."""

import io
import os
import signal
import sys
import termios
import tty

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from minidsv3.cli.keyboard import NAMES, Line, keys, named, reads_keys

pressed = st.sampled_from([*(set(NAMES) - {"\x1b"}), "n", "?", "é", "中"])


@given(st.lists(pressed), st.data())
def test_keys_are_the_same_however_they_arrive(presses, data):
    text = "".join(presses)
    cut = data.draw(st.integers(0, len(text)))
    first, rest = named(text[:cut])
    second, left = named(rest + text[cut:])
    assert first + second == [NAMES.get(press, press) for press in presses]
    assert left == ""


def test_sequences_without_a_name_are_dropped():
    assert named("a\x1b[<0;12;7Mb\x1b[1;5Cc\x1bxd\x00e") == (list("abcde"), "")
    assert named("a\x1b") == (["a"], "\x1b")
    assert named("a\x1b[1;") == (["a"], "\x1b[1;")


@given(st.lists(st.sampled_from([*"ab ", "left", "right", "home", "end", "backspace", "delete", "up"])))
def test_a_line_is_edited_as_a_list_of_characters(presses):
    line, left, right = Line(), [], []
    for key in presses:
        line = line.after(key)
        match key:
            case "left" if left:
                right.insert(0, left.pop())
            case "right" if right:
                left.append(right.pop(0))
            case "home":
                left, right = [], left + right
            case "end":
                left, right = left + right, []
            case "backspace":
                left = left[:-1]
            case "delete":
                right = right[1:]
            case character if len(character) == 1:
                left.append(character)
    assert line == Line("".join(left + right), len(left))


class Terminal:
    """A pseudo-terminal as standard input, and a console that writes into a string."""

    def __init__(self, monkeypatch):
        self.ours, self.theirs = os.openpty()
        tty.setcbreak(self.theirs)  # so that what is pressed early is not taken for lines
        monkeypatch.setattr(sys, "stdin", os.fdopen(self.theirs, "r", closefd=False))
        self.console = Console(file=io.StringIO(), width=80, force_terminal=True)
        self.console.file.isatty = lambda: True

    def press(self, text):
        os.write(self.ours, text.encode())

    def mode(self):
        return termios.tcgetattr(self.theirs)[3]

    @property
    def shown(self):
        return self.console.file.getvalue()


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    made = Terminal(monkeypatch)
    yield made
    os.close(made.ours)
    os.close(made.theirs)


def test_a_key_comes_with_the_word_that_it_asks_for(terminal):
    terminal.press("ng12\x7f3\rb\x04")
    assert list(keys(terminal.console, {"g": "cell: "})) == ["n", "g 13", "b"]
    assert terminal.shown == "cell: 12\b \b3\n"


def test_escape_gives_a_word_up_and_up_brings_the_last_one_back(terminal):
    terminal.press("gab\x1b[A\x1b[D\x1b")
    found = keys(terminal.console, {"g": ""})
    assert next(found) == "redraw"
    terminal.press("gone\rg\x1b[A!\rg\r")
    assert [next(found) for _ in range(3)] == ["g one", "g one!", "g"]


def test_questions_are_looked_up_anew(terminal):
    asks = {}
    found = keys(terminal.console, asks)
    terminal.press("igx\r")
    assert next(found) == "i"
    asks["g"] = "where: "
    assert next(found) == "g x"


def test_the_terminal_is_left_as_it_was(terminal):
    cooked = termios.tcgetattr(terminal.theirs)
    cooked[3] |= termios.ICANON | termios.ECHO
    termios.tcsetattr(terminal.theirs, termios.TCSANOW, cooked)
    before, found = terminal.mode(), keys(terminal.console)
    terminal.press("n\n")
    assert next(found) == "n"
    assert not terminal.mode() & (termios.ICANON | termios.ECHO)
    found.close()
    assert terminal.mode() == before


def test_ctrl_z_gives_the_terminal_to_the_shell_and_going_on_takes_it_again(terminal, monkeypatch):
    cooked = termios.tcgetattr(terminal.theirs)
    cooked[3] |= termios.ICANON | termios.ECHO
    termios.tcsetattr(terminal.theirs, termios.TCSANOW, cooked)
    handled = signal.getsignal(signal.SIGTSTP), signal.getsignal(signal.SIGCONT)
    stopped = []
    monkeypatch.setattr(os, "kill", lambda _, number: stopped.append((number, terminal.mode())))
    found = keys(terminal.console)
    terminal.press("n\n")
    assert next(found) == "n"
    signal.raise_signal(signal.SIGTSTP)
    assert stopped == [(signal.SIGTSTP, cooked[3])]
    signal.raise_signal(signal.SIGCONT)
    assert not terminal.mode() & (termios.ICANON | termios.ECHO)
    assert [next(found), next(found)] == ["enter", "redraw"]
    found.close()
    assert terminal.mode() == cooked[3]
    assert (signal.getsignal(signal.SIGTSTP), signal.getsignal(signal.SIGCONT)) == handled


def test_lines_where_keys_cannot_be_read(monkeypatch):
    console = Console(file=io.StringIO())
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n\n g 12 \n"))
    assert not reads_keys(console)
    assert list(keys(console, {"g": "not asked"})) == ["n", "enter", "g 12"]


def test_a_dumb_terminal_gives_lines(terminal, monkeypatch):
    assert reads_keys(terminal.console)
    monkeypatch.setenv("TERM", "dumb")
    dumb = Console(file=terminal.console.file, force_terminal=True)
    assert not reads_keys(dumb)
