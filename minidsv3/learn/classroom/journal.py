"""What was graded so far, kept so that a killed run goes on where it stopped.

`journal.jsonl` has a first line that says which grading it belongs to (a digest of the key, the checks and
the options), then a line for each submission begun and, whole, for each one graded, flushed to the disk
before the next. A torn last line is one that was not written. A row counts as long as the student's files
are what they were, so a late or corrected submission is graded and the others are not graded again.

A submission that was begun three times and never ended takes the grading down with it each time: it is given
up and its row says so. A run that was interrupted with Ctrl-C does not count. One run at a time: the file is
locked.

Does: remember. Does not: know names; only ids stand in it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Journal(Path(folder) / "journal.jsonl", "key 1") as journal:
    ...         journal.ended("5f1d", "files 1", {"points": 3.0})
    ...     with Journal(Path(folder) / "journal.jsonl", "key 1") as journal:
    ...         journal.row("5f1d", "files 1"), journal.row("5f1d", "files 2")
    ({'points': 3.0}, None)

Next: minidsv3.learn.classroom.worker
"""

import fcntl
import json
import os
from collections import Counter
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

__all__ = ["MOST_BEGUN", "Journal"]

SCHEMA = "minidsv3.journal/1"
MOST_BEGUN = 3  # times that a submission may end the whole run
LINES = {"begun"}, {"interrupted"}, {"gave_up"}, {"id", "files", "row"}  # what a line has one of
Row = dict[str, Any]


class Journal:
    """The journal of one grading; a context manager. Rows stay on the disk, only their places are held."""

    def __init__(self, path: Path, of: str, anew: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._lock = Lock()
        self._places: dict[tuple[str, str], tuple[int, int]] = {}  # id, files -> offset, length of the line
        self._begun: Counter[str] = Counter()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as taken:
            self._file.close()
            raise OSError(f"{path} is in use: another run grades this class") from taken
        self.begun_anew = anew or not self._read(of)
        if self.begun_anew:
            self._begin(of)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        if kind is KeyboardInterrupt:
            self._write({"interrupted": True})
        self._file.close()

    def row(self, id: str, files: str) -> Row | None:
        """The row of a submission with these files, if it was graded."""
        if (id, files) not in self._places:
            return None
        offset, length = self._places[id, files]
        found: Row = json.loads(os.pread(self._file.fileno(), length, offset))["row"]
        return found

    def hopeless(self, id: str) -> bool:
        """Whether it was begun too often and never ended."""
        return self._begun[id] >= MOST_BEGUN

    def suspect(self, id: str) -> bool:
        """Whether a run ended while it was graded, perhaps because of it."""
        return self._begun[id] > 0

    def begins(self, id: str) -> None:
        """Say that a submission is being graded."""
        self._write({"begun": id})

    def ended(self, id: str, files: str, row: Row) -> None:
        """Keep a row."""
        place = self._write({"id": id, "files": files, "row": row})
        self._places[id, files] = place

    def gave_up(self, id: str) -> None:
        """Say that grading came to grief and the run did not: the next run tries once more."""
        self._write({"gave_up": id})

    def _write(self, line: Row) -> tuple[int, int]:
        """Append a line  ->  its offset and length."""
        content = (json.dumps(line) + "\n").encode()
        with self._lock:
            offset = self._file.seek(0, os.SEEK_END)
            self._file.write(content)
            self._file.flush()
            os.fsync(self._file.fileno())
        return offset, len(content)

    def _begin(self, of: str) -> None:
        self._places.clear()
        self._begun.clear()
        self._file.truncate(0)
        self._write({"schema": SCHEMA, "of": of})

    def _read(self, of: str) -> bool:
        """Note what the file holds; False if it belongs to another grading."""
        self._file.seek(0)
        if _parsed(self._file.readline()) != {"schema": SCHEMA, "of": of}:
            return False
        offset = self._file.tell()
        for content in self._file:
            line = _parsed(content)
            if not any(line.keys() >= fields for fields in LINES):  # torn: what follows is written over it
                self._file.truncate(offset)
                break
            self._note(line, offset, len(content))
            offset += len(content)
        return True

    def _note(self, line: Row, offset: int, length: int) -> None:
        if "begun" in line:
            self._begun[line["begun"]] += 1
        elif "interrupted" in line:
            self._begun.clear()
        elif "gave_up" in line:
            self._begun.pop(line["gave_up"], None)
        else:
            self._begun.pop(line["id"], None)
            self._places[line["id"], line["files"]] = (offset, length)


def _parsed(content: bytes) -> Row:
    """A line of the journal; empty if it is torn."""
    try:
        line = json.loads(content) if content.endswith(b"\n") else {}
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}
