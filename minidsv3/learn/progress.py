"""Where a student stands: `.minidsv3/progress.json` in the working folder, made to be read by people.

    {"schema": "minidsv3.progress/2",
     "exercises": {"00": {"state": "failing", "attempts": 2, "checked": 3, "hints": 1, "source": "5f1d7a84"}},
     "lessons": {"00": {"cell": 4, "furthest": 9, "of": 15}}}

States: untouched, skipped, failing, passing-with-hints, passing. No paths, no names, no times. `attempts`
counts different sources that failed since the last success, `checked` all of them, `source` begins the last
one's SHA-256. Two files are merged row by row, the one that got further wins: a union.

Does: read, change one entry, merge, write whole or not at all. Does not: lock anything, or mind a broken
file: it is put aside as `progress.broken.json` and a fresh one is begun.

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

from minidsv3.learn.exercises import Lesson

__all__ = [
    "STATES",
    "exercise_row",
    "lesson_cell",
    "merge_file",
    "merged",
    "next_hint",
    "read_progress",
    "record_check",
    "record_hint",
    "record_lesson",
    "record_reset",
    "record_skip",
]

SCHEMA = "minidsv3.progress/2"
BEFORE = "minidsv3.progress/1"  # the same without hints and furthest
STATES = ("untouched", "skipped", "failing", "passing-with-hints", "passing")  # from near to far
Row = dict[str, Any]


def _place(folder: Path) -> Path:
    return folder / ".minidsv3" / "progress.json"


def _empty() -> Row:
    return {"schema": SCHEMA, "exercises": {}, "lessons": {}}


def read_progress(folder: Path) -> Row:
    """The working folder's progress; an empty one if there is none."""
    path = _place(folder)
    if not path.is_file():
        return _empty()
    found = _read(path)
    if found is None:
        path.replace(path.with_name("progress.broken.json"))
        return _empty()
    return found


def _read(path: Path) -> Row | None:
    """A progress file, its rows made whole; None if it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("schema") not in (SCHEMA, BEFORE):
        return None
    tables = [found.get(name, {}) for name in ("exercises", "lessons")]
    if not all(isinstance(t, dict) and all(isinstance(row, dict) for row in t.values()) for t in tables):
        return None
    exercises = {name: _exercise(row) for name, row in tables[0].items()}
    return {**_empty(), "exercises": exercises, "lessons": {k: _lesson(row) for k, row in tables[1].items()}}


def _exercise(row: Row) -> Row:
    """A row with all of its fields, each of its kind."""
    state, source = row.get("state"), row.get("source")
    return {
        "state": state if state in STATES else "untouched",
        "attempts": _count(row.get("attempts")),
        "checked": _count(row.get("checked")),
        "hints": _count(row.get("hints")),
        "source": source if isinstance(source, str) else "",
    }


def _lesson(row: Row) -> Row:
    cell = _count(row.get("cell"))
    return {"cell": cell, "furthest": max(_count(row.get("furthest")), cell), "of": _count(row.get("of"))}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _write(folder: Path, progress: Row) -> None:
    from minidsv3.checkpoint.atomic import replacing  # with it comes NumPy, which readers do without

    path = _place(folder)
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps(progress, indent=2, sort_keys=True) + "\n").encode())


# ---- lessons ----------------------------------------------------------------------------------------------


def lesson_cell(folder: Path, lesson: str) -> int:
    """The cell in front of which the student stopped; 0 if never begun."""
    return int(read_progress(folder)["lessons"].get(lesson, {}).get("cell", 0))


def record_lesson(folder: Path, lesson: str, cell: int, of: int) -> None:
    """Remember where a lesson stands, and how far it ever got."""
    progress = read_progress(folder)
    furthest = max(progress["lessons"].get(lesson, {}).get("furthest", 0), cell)
    progress["lessons"][lesson] = {"cell": cell, "furthest": min(furthest, of), "of": of}
    _write(folder, progress)


# ---- exercises --------------------------------------------------------------------------------------------


def exercise_row(progress: Row, exercise: str) -> Row:
    """An exercise's row; an untouched one if there is none."""
    return dict(progress["exercises"].get(exercise, _exercise({})))


def record_check(folder: Path, exercise: str, source: str, passed: bool) -> int:
    """Remember how a check went  ->  different sources that failed since the last success."""
    progress = read_progress(folder)
    row = exercise_row(progress, exercise)
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    again = digest == row["source"] and row["attempts"]
    row["checked"] += digest != row["source"]
    row["attempts"] = 0 if passed else row["attempts"] + (not again)
    helped = row["hints"] > 0 or row["state"] == "skipped"
    if passed and row["state"] != "passing":
        row["state"] = "passing-with-hints" if helped else "passing"
    elif not passed and row["state"] != "skipped":
        row["state"] = "failing"
    progress["exercises"][exercise] = row | {"source": digest}
    _write(folder, progress)
    return int(row["attempts"])


def next_hint(folder: Path, lesson: Lesson) -> tuple[int, int, str] | None:
    """Number, how many there are, and text of the hint that comes next; the last one stays."""
    seen = exercise_row(read_progress(folder), lesson.id)["hints"]
    number = min(seen + 1, len(lesson.hints))
    return (number, len(lesson.hints), lesson.hints[number - 1]) if number else None


def record_hint(folder: Path, exercise: str, number: int) -> None:
    """Remember that a hint was shown; after success it costs nothing."""
    progress = read_progress(folder)
    row = exercise_row(progress, exercise)
    if not row["state"].startswith("passing"):
        progress["exercises"][exercise] = row | {"hints": max(row["hints"], number)}
        _write(folder, progress)


def record_skip(folder: Path, exercise: str) -> None:
    """Remember that the solution was read before the exercise passed."""
    progress = read_progress(folder)
    row = exercise_row(progress, exercise)
    if not row["state"].startswith("passing"):
        progress["exercises"][exercise] = row | {"state": "skipped"}
        _write(folder, progress)


def record_reset(folder: Path, exercise: str) -> None:
    """Begin an exercise anew."""
    progress = read_progress(folder)
    progress["exercises"].pop(exercise, None)
    _write(folder, progress)


# ---- merging ----------------------------------------------------------------------------------------------


def merged(ours: Row, theirs: Row) -> Row:
    """The union of two progresses; of each row the one that got further, whatever the order of the two."""
    tables = {"exercises": _rank_of_exercise, "lessons": _rank_of_lesson}
    result = _empty()
    for name, rank in tables.items():
        for key in sorted({*ours[name], *theirs[name]}):
            rows = [table[name][key] for table in (ours, theirs) if key in table[name]]
            result[name][key] = max(rows, key=rank)
    return result


def _rank_of_exercise(row: Row) -> tuple[Any, ...]:
    return (STATES.index(row["state"]), *(row[name] for name in ("checked", "attempts", "hints", "source")))


def _rank_of_lesson(row: Row) -> tuple[Any, ...]:
    return row["furthest"], row["of"], row["cell"]


def merge_file(folder: Path, file: Path) -> Row:
    """Merge another progress file into the folder's own  ->  the union; ValueError if it is none."""
    theirs = _read(file) if file.is_file() else None
    if theirs is None:
        raise ValueError(f"expected a progress file (.minidsv3/progress.json of another folder), got {file}")
    result = merged(read_progress(folder), theirs)
    _write(folder, result)
    return result
