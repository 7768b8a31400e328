"""What is drawn on a terminal, and what is not drawn where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minidsv3.cli import main
from minidsv3.cli.terminal import results

pty = pytest.importorskip("pty", reason="no pseudo-terminals here")


def said_on_terminal(arguments: list[str], **environment: str) -> str:
    """What a command writes to a terminal that is its stderr."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "minidsv3", *arguments]
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    settings = clean | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "30"} | environment
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=settings)
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    assert process.wait() == 0, said
    return said.decode()


HIDE_CURSOR = "\x1b[?25l"


def test_a_terminal_gets_a_dashboard(tiny_run: list[str], tmp_path: Path) -> None:
    said = said_on_terminal([*tiny_run, "--steps", "3", "--out", str(tmp_path / "run")])
    assert HIDE_CURSOR in said
    assert "step 3/3" in said
    assert "\x1b[36m" in said


@pytest.mark.parametrize(
    "environment",
    [
        {"TERM": "dumb"},
        pytest.param({"MINIDSV3_SCREEN_READER": "1"}, marks=pytest.mark.slow),
        pytest.param({"TTY_INTERACTIVE": "0"}, marks=pytest.mark.slow),
    ],
    ids=["dumb", "screen reader", "not interactive"],
)
def test_others_get_lines(tiny_run: list[str], tmp_path: Path, environment: dict[str, str]) -> None:
    said = said_on_terminal([*tiny_run, "--steps", "2", "--out", str(tmp_path / "run")], **environment)
    assert "\x1b[?" not in said
    assert "step 2/2  main" in said


def test_no_color_leaves_no_colour(tiny_run: list[str], tmp_path: Path) -> None:
    said = said_on_terminal([*tiny_run, "--steps", "2", "--out", str(tmp_path / "run")], NO_COLOR="1")
    assert "\x1b[3" not in said


@pytest.mark.parametrize(
    ("words", "variable", "value"),
    [
        (["--width", "60"], "COLUMNS", "60"),
        (["--width=72"], "COLUMNS", "72"),
        (["--no-color"], "NO_COLOR", "1"),
        (["--screen-reader"], "MINIDSV3_SCREEN_READER", "1"),
    ],
)
def test_options_in_front_of_the_command_reach_it(
    words: list[str], variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "before")  # so that what the command sets goes away again
    assert main([*words, "ops", "mla.out"]) == 0
    assert os.environ[variable] == value


@pytest.mark.parametrize("words", [["--width"], ["--width", "wide"], ["--width=3"], ["--no-color=yes"]])
def test_options_in_front_of_the_command_that_make_no_sense(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "ops"]) == 2
    assert "expected" in capsys.readouterr().err


def test_a_dumb_terminal_has_the_width_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert results().width == 50
    monkeypatch.setenv("TERM", "xterm")
    assert results().width == 50
