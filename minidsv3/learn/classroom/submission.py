"""What a student handed in, read so that nothing in it can do harm or stop a batch.

A submission is a folder, as `minidsv3 init` and `class new` lay it out, or a single `.py` file, which is then
taken for every exercise. Folders that hold nothing but another folder (what unpacking often leaves) are
looked into. Links are not followed, pipes and devices not opened, a file of more than 1 MiB not read, and a
file that is no UTF-8 text is told so: each becomes a status and a sentence.

`printable` makes any name or text fit to be shown: control characters, halves of surrogates and marks that
reverse the writing direction become escapes. So a folder's name can neither steer a terminal nor break XML.

Does: find, read, say what is wrong. Does not: write into a submission, or run anything of it.

    >>> printable("ada\\x1b[2J")
    'ada\\\\x1b[2J'
    >>> read_text(Path("/dev/null"))
    Traceback (most recent call last):
    minidsv3.learn.classroom.submission.Unfit: expected a file, got a device or a pipe

Next: minidsv3.learn.classroom.grading
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Container
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minidsv3.learn.classroom.key import Key
from minidsv3.learn.exercises import Lesson, lessons

__all__ = [
    "Handed",
    "Submission",
    "Unfit",
    "hand_in",
    "in_a_line",
    "printable",
    "read_text",
    "submissions_in",
]

MOST_BYTES = 2**20  # of a file that is read
MOST_TEXT, MOST_NAME = 400, 100  # characters of anything shown, and of a name
MOST_DEEP = 3  # folders with nothing but a folder in them
MOST_COUNT = 10**6  # of hints or attempts that a progress file may claim
ESCAPED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]"
)


class Unfit(ValueError):
    """A file that cannot be graded, and in which way: "missing" or "unreadable"."""

    def __init__(self, sentence: str, status: str = "unreadable") -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Submission:
    """One entry of the folder of submissions."""

    path: Path
    id: str  # of the key
    student: str  # the entry's name, fit to be shown


@dataclass(frozen=True)
class Handed:
    """One student's file for one exercise."""

    exercise: str
    source: str | None
    status: str  # "readable", or what is wrong with it
    problem: str | None  # in a sentence
    hints: int | None  # used, as the student's progress file says; None if there is none
    attempts: int | None  # different sources that were checked, as it says

    @property
    def digest(self) -> str:
        """Of everything that is handed in here."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


def printable(text: str, most: int = MOST_TEXT) -> str:
    """A text fit for terminals, JSON, CSV and XML: what cannot be shown as an escape, the end cut off."""
    shown = ESCAPED.sub(lambda found: _escape(found.group()), text)
    return shown if len(shown) <= most else shown[: most - 2] + " …"


def in_a_line(text: str, most: int = MOST_TEXT) -> str:
    """`printable`, with line ends and tabs as escapes too."""
    return printable(text, most).replace("\n", "\\n").replace("\t", "\\t")


def _escape(character: str) -> str:
    """As Python would write it; of a name that is not UTF-8 the byte that it has."""
    byte = ord(character) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else ascii(character)[1:-1]


def submissions_in(folder: Path, key: Key, besides: Container[Path] = ()) -> list[Submission]:
    """Every entry but hidden ones and those of `besides` (absolute), by name; ValueError if there is none."""
    if not folder.is_dir():
        raise ValueError(f"expected a folder of submissions, found none at {folder}")
    names = sorted((entry.name for entry in os.scandir(folder)), key=os.fsencode)
    paths = [folder / name for name in names if not name.startswith((".", "__MACOSX"))]
    found = [
        Submission(path, key.identity(path.name), in_a_line(path.name, MOST_NAME))
        for path in paths
        if path.absolute() not in besides
    ]
    if not found:
        raise ValueError(f"expected submissions in {folder}: a folder or a .py file a student, found none")
    return found


def hand_in(submission: Submission, lesson: Lesson) -> Handed:
    """A student's file for an exercise, or why there is none."""
    source, status, problem = None, "readable", None
    try:
        source = _source(submission.path, lesson)
    except Unfit as unfit:
        status, problem = unfit.status, str(unfit)
    except OSError as error:
        status, problem = "unreadable", f"cannot be read: {error.strerror}"
    claimed = _progress(submission.path, lesson)
    return Handed(lesson.id, source, status, problem, _count(claimed, "hints"), _count(claimed, "checked"))


def _source(root: Path, lesson: Lesson) -> str:
    mode = root.lstat().st_mode
    if not stat.S_ISDIR(mode):
        if stat.S_ISREG(mode) and root.suffix != ".py":
            raise Unfit("expected a folder or a .py file, got another file; unpack archives first")
        return read_text(root)
    folders = _folders(root)
    for place in (folder / name for folder in folders for name in (lesson.name, f"exercise_{lesson.id}.py")):
        if os.path.lexists(place):
            return _without_link(place) if place.suffix else _without_link(place, "exercise.py")
    alone = [path for folder in folders for path in _entries(folder) if path.suffix == ".py"]
    if len(alone) == 1:
        return read_text(alone[0])
    raise Unfit(f"expected {lesson.name}/exercise.py, found none", "missing")


def _without_link(place: Path, name: str = "") -> str:
    """Read `place`, or the file `name` in it; a link on the way is refused."""
    if name and not place.is_symlink():
        if not os.path.lexists(place / name):
            raise Unfit(f"expected {place.name}/{name}, found none", "missing")
        place = place / name
    return read_text(place)


def _folders(root: Path) -> list[Path]:
    """The submission's folder, and those in it as long as each is all there is; not that of an exercise."""
    found, known = [root], {lesson.name for lesson in lessons()}
    while len(found) <= MOST_DEEP:
        entries = _entries(found[-1])
        if (
            len(entries) != 1
            or entries[0].is_symlink()
            or not entries[0].is_dir()
            or entries[0].name in known
        ):
            break
        found.append(entries[0])
    return found


def _entries(folder: Path) -> list[Path]:
    names = sorted((entry.name for entry in os.scandir(folder)), key=os.fsencode)
    return [folder / name for name in names if not name.startswith((".", "__"))]


def read_text(path: Path) -> str:
    """The text of a file that a stranger wrote; Unfit with the reason in a sentence."""
    if path.is_symlink():
        raise Unfit("expected a file, got a link, which is not followed")
    # a pipe without a writer opens at once
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if stat.S_ISDIR(found.st_mode):
            raise Unfit("expected a file, got a folder")
        if not stat.S_ISREG(found.st_mode):
            raise Unfit("expected a file, got a device or a pipe")
        content = file.read(MOST_BYTES + 1) if found.st_size <= MOST_BYTES else b""
    if max(found.st_size, len(content)) > MOST_BYTES:
        raise Unfit(f"expected at most {MOST_BYTES:,} bytes, got {max(found.st_size, len(content)):,}")
    return _decoded(content)


def _decoded(content: bytes) -> str:
    if not content.strip():
        raise Unfit("the file is empty")
    if b"\0" in content:
        raise Unfit("expected Python source, got a binary file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise Unfit(f"expected UTF-8 text, got byte {content[problem.start]:#x} at {problem.start}") from None


def _progress(root: Path, lesson: Lesson) -> dict[str, Any]:
    """What the student's progress file says of an exercise: a claim, and never a reason to stop."""
    try:
        for folder in _folders(root) if root.is_dir() and not root.is_symlink() else []:
            place = folder / ".minidsv3"
            if place.is_dir() and not place.is_symlink():
                claimed = json.loads(read_text(place / "progress.json"))["exercises"][lesson.id]
                return claimed if isinstance(claimed, dict) else {}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    return {}


def _count(claimed: dict[str, Any], name: str) -> int | None:
    value = claimed.get(name)
    return value if type(value) is int and 0 <= value <= MOST_COUNT else None
