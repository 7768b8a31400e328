"""What the grades of a class say: who got how far, where it went wrong, and on which input.

Per exercise: how many passed, how the points are spread, the median of attempts and hints (of those whose
progress file says), how many hold each property. Counterexamples that are the same (one exercise, one
property, one smallest input) are counted together: as the hidden numbers are the same for all, so is the
input that a mistake shrinks to. The commonest is what to talk about in class.

Does: count. Does not: grade, draw (the command does), or name a student who is not in the grades.

    >>> median([3, 1, None, 2]), median([]), spread([0.0, 55.0, 100.0, 99.0])
    (2, None, [1, 0, 0, 0, 0, 1, 0, 0, 0, 2])

Next: minidsv3.cli
"""

import csv
import io
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from minidsv3.learn.classroom.batch import is_ungraded
from minidsv3.learn.classroom.grades import harmless

__all__ = ["MARK_COLUMNS", "marks_csv", "median", "spread", "summary"]

SCHEMA = "minidsv3.class_report/1"
MARKS_SCHEMA = "minidsv3.marks.csv/1"
MARK_COLUMNS = ("schema", "id", "student", "mark", "points", "out_of", "passed", "exercises", "problem")
BINS = 10  # of the histogram of marks
Row = dict[str, Any]


def summary(table: Row) -> Row:
    """The report of the grades of a class, one object of plain values."""
    submissions = table["submissions"]
    marks = [row["mark"] for row in submissions]
    return {
        "schema": SCHEMA,
        "submissions": len(submissions),
        "passed": sum(all(one["status"] == "passed" for one in row["exercises"]) for row in submissions),
        "marks": {
            "median": median(marks),
            "lowest": min(marks),
            "highest": max(marks),
            "spread": spread(marks),
        },
        "exercises": [_exercise(one, _of(submissions, one["exercise"])) for one in table["exercises"]],
        "counterexamples": _commonest(table),
        "ungraded": [row["student"] or row["id"] for row in submissions if is_ungraded(row)],
    }


def _of(submissions: Sequence[Row], exercise: str) -> list[Row]:
    return [one for row in submissions for one in row["exercises"] if one["exercise"] == exercise]


def _exercise(about: Row, rows: Sequence[Row]) -> Row:
    """How an exercise went."""
    held: Counter[str] = Counter(
        p["name"] for row in rows for p in row["properties"] if p["status"] == "passed"
    )
    points = Counter(row["points"] for row in rows)
    return {
        "exercise": about["exercise"],
        "title": about["title"],
        "of": len(rows),
        "statuses": dict(sorted(Counter(row["status"] for row in rows).items())),
        "passed": sum(row["status"] == "passed" for row in rows),
        "out_of": about["out_of"],
        "median_points": median([row["points"] for row in rows]),
        "points": [{"points": value, "students": points[value]} for value in sorted(points)],
        "median_attempts": median([row["attempts"] for row in rows]),
        "median_hints": median([row["hints"] for row in rows]),
        "properties": [
            {"name": p["name"], "sentence": p["sentence"], "passed": held[p["name"]]}
            for p in about["properties"]
        ],
    }


def _commonest(table: Row) -> list[Row]:
    """Counterexamples that are the same, the commonest first."""
    sentences = {
        (e["exercise"], p["name"]): p["sentence"] for e in table["exercises"] for p in e["properties"]
    }
    alike: dict[str, Row] = {}
    for row in table["submissions"]:
        for one in row["exercises"]:
            found = one["counterexample"]
            if not found:
                continue
            same = {name: found[name] for name in ("property", "inputs")} | {"exercise": one["exercise"]}
            note = next((p["note"] for p in one["properties"] if p["name"] == found["property"]), "")
            sentence = sentences.get((one["exercise"], found["property"]), "")
            group = alike.setdefault(
                json.dumps(same, sort_keys=True), same | {"sentence": sentence, "notes": Counter(), "ids": []}
            )
            group["notes"][note] += 1
            group["ids"].append(row["id"])
    ranked = sorted(alike.items(), key=lambda item: (-len(item[1]["ids"]), item[0]))
    return [
        group | {"students": len(group["ids"]), "notes": [note for note, _ in group["notes"].most_common(3)]}
        for _, group in ranked
    ]


def median(values: Iterable[float | None]) -> float | None:
    """The middle of the values that there are; None if there are none."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def spread(marks: Iterable[float]) -> list[int]:
    """How many marks lie in each tenth of 0 to 100, the full 100 in the last."""
    counts = Counter(min(int(mark * BINS / 100), BINS - 1) for mark in marks)
    return [counts[i] for i in range(BINS)]


def marks_csv(table: Row) -> str:
    """A row for each submission: its mark, as a gradebook takes it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(MARK_COLUMNS)
    for row in table["submissions"]:
        exercises = row["exercises"]
        passed = sum(one["status"] == "passed" for one in exercises)
        problems = "; ".join(f"{one['exercise']}: {one['problem']}" for one in exercises if one["problem"])
        cells = [MARKS_SCHEMA, row["id"], row["student"], row["mark"], row["points"], row["out_of"], passed]
        writer.writerow([harmless(cell) for cell in [*cells, len(exercises), problems]])
    return out.getvalue()
