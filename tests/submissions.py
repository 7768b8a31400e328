"""Folders of submissions: solutions, wrong ones, and everything else that ends up in such a folder."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from minidsv3.learn.exercises import Lesson

SHORT = "def softmax(scores):\n    "
"""The beginning of a submission for exercise 00."""

BROKEN_CODE = {
    "loops": SHORT + "while True: pass\n",
    "sleeps": SHORT + "import time; time.sleep(3600)\n",
    "exits": "import os; os._exit(0)\n",
    "says_passed": "import os, sys\nprint('{\"passed\": true}')\nsys.exit(0)\n",
    "eats": SHORT + "return [bytearray(2**30) for _ in range(64)]\n",
    "crashes": "import ctypes; ctypes.string_at(0)\n",
    "kills_parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n",
    "kills_group": "import os, signal\nos.killpg(0, signal.SIGKILL)\n",
    "syntax": "def softmax(scores:\n",
    "recurses": SHORT + "return softmax(scores)\n",
    "patches": "import numpy as np\nnp.allclose = lambda *a, **k: True\n" + SHORT + "return scores * 0\n",
    "shouts": SHORT + "print('x' * 10**7); return scores\n",
}
"""Sources that do not do what they should, by what they do."""


def _binary(place: Path) -> None:
    place.with_suffix(".py").write_bytes(bytes(range(256)) * 8)


def _empty(place: Path) -> None:
    place.with_suffix(".py").touch()


def _link(place: Path) -> None:
    place.with_suffix(".py").symlink_to("/etc/passwd")


def _link_inside(place: Path) -> None:
    place.mkdir()
    (place / "00_one_prediction").symlink_to("/etc")


def _large(place: Path) -> None:
    with place.with_suffix(".py").open("wb") as file:
        file.truncate(100 * 2**20)


def _pipe(place: Path) -> None:
    os.mkfifo(place.with_suffix(".py"))


def _latin(place: Path) -> None:
    place.with_suffix(".py").write_bytes("# café\n".encode("latin-1"))


def _archive(place: Path) -> None:
    place.with_suffix(".zip").write_bytes(b"PK\3\4")


BROKEN_FILES: dict[str, Callable[[Path], None]] = {
    "binary": _binary,
    "empty": _empty,
    "missing": Path.mkdir,
    "link": _link,
    "link_inside": _link_inside,
    "large": _large,
    "pipe": _pipe,
    "latin": _latin,
    "archive": _archive,
}
"""What is no source at all, by what it is: called with the place to be."""


def hand_in(folder: Path, student: str | bytes, sources: dict[Lesson, str]) -> None:
    """A submission as `class new` lays it out."""
    for lesson, source in sources.items():
        place = folder / os.fsdecode(student) / lesson.name / "exercise.py"
        place.parent.mkdir(parents=True)
        place.write_text(source, encoding="utf-8")


def break_in(folder: Path, kinds: Sequence[str]) -> None:
    """Broken submissions, each called after what is wrong with it."""
    for kind in kinds:
        if kind in BROKEN_FILES:
            BROKEN_FILES[kind](folder / kind)
        else:
            (folder / f"{kind}.py").write_text(BROKEN_CODE[kind], encoding="utf-8")
