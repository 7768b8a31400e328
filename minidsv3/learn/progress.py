"""Where a student stands: `.minidsv3/progress.json` in the working folder, made to be read by people.

    {"schema": "minidsv3.progress/1",
     "exercises": {"00": {"state": "failing", "attempts": 2, "source": "5f1d7a84c4b1"}},
     "lessons": {"00": {"cell": 4, "of": 15}}}

No paths, no names, no times. `attempts` counts different sources that failed since the last success and
picks the hint; `source` is the beginning of the last one's SHA-256.

Does: read, change one entry, write whole or not at all. Does not: lock anything, or mind a broken file: it
is put aside as `progress.broken.json` and a fresh one is begun.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record_lesson(Path(folder), "00", cell=4, of=15)
    ...     lesson_cell(Path(folder), "00")
    4

Next: minidsv3.learn.sandbox
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from minidsv3.checkpoint.atomic import replacing

__all__ = ["lesson_cell", "read_progress", "record_check", "record_lesson"]

SCHEMA = "minidsv3.progress/1"


def _place(folder: Path) -> Path:
    return folder / ".minidsv3" / "progress.json"


def read_progress(folder: Path) -> dict[str, Any]:
    """The working folder's progress; an empty one if there is none."""
    path = _place(folder)
    empty: dict[str, Any] = {"schema": SCHEMA, "exercises": {}, "lessons": {}}
    if not path.is_file():
        return empty
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not _fits(found):
        path.replace(path.with_name("progress.broken.json"))
        return empty
    return {**empty, **found}


def _fits(found: Any) -> bool:
    """Whether it is a progress file of this schema, tables of tables."""
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        return False
    tables = [found.get(name, {}) for name in ("exercises", "lessons")]
    return all(isinstance(t, dict) and all(isinstance(row, dict) for row in t.values()) for t in tables)


def _write(folder: Path, progress: dict[str, Any]) -> None:
    path = _place(folder)
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps(progress, indent=2, sort_keys=True) + "\n").encode())


def lesson_cell(folder: Path, lesson: str) -> int:
    """The cell in front of which the student stopped; 0 if never begun."""
    cell = read_progress(folder)["lessons"].get(lesson, {}).get("cell", 0)
    return cell if isinstance(cell, int) else 0


def record_lesson(folder: Path, lesson: str, cell: int, of: int) -> None:
    """Remember where a lesson stands."""
    progress = read_progress(folder)
    progress["lessons"][lesson] = {"cell": cell, "of": of}
    _write(folder, progress)


def record_check(folder: Path, exercise: str, source: str, passed: bool) -> int:
    """Remember how a check went  ->  different sources that failed since the last success."""
    progress = read_progress(folder)
    last = progress["exercises"].get(exercise, {})
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    before = last.get("attempts", 0) if isinstance(last.get("attempts", 0), int) else 0
    attempts = 0 if passed else before + (digest != last.get("source") or not before)
    state = "passing" if passed else "failing"
    progress["exercises"][exercise] = {"state": state, "attempts": attempts, "source": digest}
    _write(folder, progress)
    return attempts
