"""The debugger on a terminal: keys, a break, Ctrl-C, the way out. 20 s together."""

import re

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def debugger(terminal):
    def make(*arguments, **options):
        made = terminal("step", "--preset", "nano", "--ids", "1,2,3,4,5", *arguments, **options)
        made.until("q:quit" if "TERM" not in options else "> ")
        return made

    return make


def test_keys_lead_through_a_pass(debugger):
    played = debugger(width=80, height=40)
    assert "[0]  embed.tokens" in played.until("embed.tokens")
    played.press("o")
    played.press("o")
    played.until("[2]  mla.q_down")
    played.press("k")
    played.until("break on op")
    played.type("gate.top_k")
    played.press("Enter")
    played.until("breaks: gate.top_k")
    played.press("c")
    screen = played.until("gate.top_k  forward, layer 1")
    assert "0: " in screen or "token 0" in screen
    played.press("Left")
    played.until("gate.groups  forward, layer 1")
    played.press("q")
    played.until("exit 0")
    assert re.search(r"^echo$", played.screen(), re.MULTILINE)  # the terminal is as it was


def test_a_dumb_terminal_has_lines(debugger):
    played = debugger(width=80, height=40, TERM="dumb")
    played.type("g mla.softmax")
    played.press("Enter")
    screen = played.until("mla.softmax  forward, layer 0")
    assert "\x1b" not in screen
    played.type("q")
    played.press("Enter")
    played.until("exit 0")


def test_a_narrow_terminal_cuts_nothing_off(debugger):
    played = debugger(width=60, height=50)
    played.press("Right")
    screen = played.until("[1]  attn.norm")
    assert all(word in screen.replace("\n", " ") for word in ("c:continue", "s:set", "q:quit"))


def test_interrupting_leaves_nothing_behind(debugger):
    played = debugger(width=80, height=40)
    played.press("C-c")
    played.until("exit 130")
    assert "Traceback" not in played.screen()
