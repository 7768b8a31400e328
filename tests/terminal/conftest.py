"""A terminal to play on: tmux, of a given size, with what is on it as text."""

import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

import minidsv3

PATIENCE = 60.0  # seconds; a busy machine is not an error
PROGRAM = "import sys; from minidsv3.cli import main; sys.exit(main())"
GOLDEN = Path(__file__).parent / "golden"


class Terminal:
    """`minidsv3 ARGUMENTS` in a tmux of its own."""

    def __init__(self, folder, arguments, width, height, **environment):
        self.server = f"minidsv3-{uuid.uuid4().hex[:8]}"
        given = {
            "PYTHONPATH": str(Path(minidsv3.__file__).parents[1]),
            "TERM": "tmux-256color",
            "LANG": "C.UTF-8",
        }
        words = [f"{name}={value}" for name, value in (given | environment).items()]
        program = [
            "env",
            "-u",
            "NO_COLOR",
            "-u",
            "COLUMNS",
            *words,
            sys.executable,
            "-c",
            PROGRAM,
            *arguments,
        ]
        shell = (
            f"{subprocess.list2cmdline(program[: -len(arguments) - 2])} -c '{PROGRAM}' {' '.join(arguments)}"
        )
        shell += (
            "; echo exit $?; stty -a | tr -d ';' | tr ' ' '\\n' | grep -x -e -*echo -e -*icanon; sleep 600"
        )
        self.tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), "-c", folder, shell
        )

    def tmux(self, *arguments):
        asked = ["tmux", "-u", "-L", self.server, *map(str, arguments)]
        return subprocess.run(asked, capture_output=True, text=True, check=True, env=os.environ).stdout

    def press(self, *keys):
        self.tmux("send-keys", *keys)

    def type(self, text):
        self.tmux("send-keys", "-l", text)

    def resize(self, width, height):
        self.tmux("resize-window", "-x", width, "-y", height)

    def screen(self, *options):
        """What is seen, lines without trailing spaces."""
        lines = self.tmux("capture-pane", "-p", *options).split("\n")
        return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"

    def until(self, said, *options):
        """The screen once it says that."""
        end = time.monotonic() + PATIENCE
        while said not in (screen := self.screen(*options)):
            if time.monotonic() > end:
                pytest.fail(f"expected {said!r} on the screen, got\n{screen}")
            time.sleep(0.03)
        time.sleep(0.05)  # what was being drawn is drawn
        return self.screen(*options)

    def close(self):
        subprocess.run(["tmux", "-L", self.server, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def terminal(tmp_path):
    """Makes terminals, and ends them."""
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux")
    made = []

    def make(*arguments, width=80, height=24, **environment):
        made.append(Terminal(tmp_path, arguments, width, height, **environment))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def golden():
    """Compares screens with a file. To renew one, delete it and run the test twice; read the difference."""

    def check(name, screens):
        file = GOLDEN / f"{name}.txt"
        text = "".join(f"==== {title}\n{screen}" for title, screen in screens)
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
            pytest.fail(f"{file} was not there; it is now")
        assert text == file.read_text(encoding="utf-8")

    return check
