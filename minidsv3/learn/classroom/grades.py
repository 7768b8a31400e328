"""The grades of a class as one table of plain values, and its JSON, CSV and JUnit XML.

All three say the same. The JSON is the whole: what was graded, and for each submission its exercises with
their properties; `FIELDS` says what each field means. The CSV has a row for each property, in columns that
change only with the number in its `schema`; a cell that a spreadsheet would take for a formula begins with an
apostrophe. In JUnit a submission is a suite and a property a case.

A mark is the mean of the exercises' shares of points, weighted as the key has it, in per cent.

With `anonymous` no name of a submission is in any of them, and their order is that of the ids.

Does: put together, write. Does not: grade (`batch`), sum up (`summary`).

    >>> harmless("=2+3"), harmless("ada"), harmless("-1"), harmless("\\t=1")
    ("'=2+3", 'ada', "'-1", "'\\t=1")
    >>> CSV_COLUMNS[:4]
    ('schema', 'id', 'student', 'exercise')

Next: minidsv3.learn.classroom.run
"""

import csv
import io
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minidsv3 import __version__
from minidsv3.learn.classroom.batch import Graded
from minidsv3.learn.classroom.key import ExerciseKey, Key

__all__ = [
    "CSV_COLUMNS",
    "FIELDS",
    "csv_text",
    "grades",
    "harmless",
    "json_text",
    "junit_text",
    "read_grades",
]

SCHEMA = "minidsv3.grades/1"
CSV_SCHEMA = "minidsv3.grades.csv/1"
CSV_COLUMNS = (
    *("schema", "id", "student", "exercise", "property", "stage", "status", "points", "out_of", "note"),
    *("exercise_status", "problem", "seconds", "hints", "attempts", "counterexample"),
)
FIELDS = {
    "schema": f"`{SCHEMA}`",
    "minidsv3": "the version that graded",
    "anonymous": "whether names were left out",
    "limits_held[]": "a limit of the sandbox that held on this system; others do not exist there",
    "exercises[].exercise": "its number",
    "exercises[].title": "its title",
    "exercises[].weight": "of the exercise in the mark",
    "exercises[].out_of": "all its points",
    "exercises[].properties[].name": "of the property",
    "exercises[].properties[].sentence": "what it asks for",
    "exercises[].properties[].stage": "shape, value, gradient or cost",
    "exercises[].properties[].points": "what it is worth",
    "submissions[].id": "a keyed hash of the name of the folder or file",
    "submissions[].student": "that name, fit to be shown; null in an anonymous report",
    "submissions[].mark": "per cent, weighted over the exercises",
    "submissions[].points": "of all exercises, not weighted",
    "submissions[].out_of": "what could be had",
    "submissions[].exercises[].exercise": "its number",
    "submissions[].exercises[].status": "passed, failed, untouched, missing, unreadable or ungraded",
    "submissions[].exercises[].points": "earned",
    "submissions[].exercises[].out_of": "what could be had",
    "submissions[].exercises[].problem": "what went wrong first, in a sentence; null if passed",
    "submissions[].exercises[].seconds": "the whole check took",
    "submissions[].exercises[].hints": "used, as the student's own progress file says; null without one",
    "submissions[].exercises[].attempts": "different sources that were checked, as that file says",
    "submissions[].exercises[].counterexample": "the first property that failed, or null: property, "
    "inputs (dtype, shape, values), file (in the instructor's folder)",
    "submissions[].exercises[].properties[].name": "of the property",
    "submissions[].exercises[].properties[].status": "passed, failed or skipped",
    "submissions[].exercises[].properties[].points": "earned",
    "submissions[].exercises[].properties[].out_of": "what could be had",
    "submissions[].exercises[].properties[].seconds": "it took; seconds alone differ between two runs",
    "submissions[].exercises[].properties[].note": "what went wrong, or why it was skipped",
}
Row = dict[str, Any]
About = Mapping[tuple[str, str], tuple[str, str]]  # exercise, property -> stage, sentence


def grades(
    key: Key, about: About, graded: Iterable[Graded], anonymous: bool, held: Sequence[str] = ()
) -> Row:
    """The table of a class. about: stage and sentence of each property  held: limits of the sandbox."""
    rows = [_submission(key, one, anonymous) for one in graded]
    by_name = sorted(rows, key=lambda row: row["id"] if anonymous else (row["student"], row["id"]))
    return {
        "schema": SCHEMA,
        "minidsv3": __version__,
        "anonymous": anonymous,
        "limits_held": list(held),
        "exercises": [_exercise(one, about) for one in key.exercises],
        "submissions": by_name,
    }


def _exercise(one: ExerciseKey, about: About) -> Row:
    properties = [
        {
            "name": name,
            "sentence": about[one.exercise, name][1],
            "stage": about[one.exercise, name][0],
            "points": points,
        }
        for name, points in one.points.items()
    ]
    found = {"exercise": one.exercise, "title": one.lesson.title, "weight": one.weight, "out_of": one.out_of}
    return found | {"properties": properties}


def _submission(key: Key, graded: Graded, anonymous: bool) -> Row:
    submission = graded.submission
    who = {"id": submission.id, "student": None if anonymous else submission.student}
    return who | {"mark": _mark(key, graded.row["exercises"])} | graded.row


def _mark(key: Key, exercises: list[Row]) -> float:
    """Per cent of the points, weighted over the exercises."""
    all_weights = sum(one.weight for one in key.exercises) or 1.0
    shares = (
        one["points"] / one["out_of"] * by.weight for one, by in zip(exercises, key.exercises, strict=True)
    )
    return round(100 * float(sum(shares)) / all_weights, 2)


def read_grades(path: Path) -> Row:
    """The table that `json_text` wrote; ValueError if the file holds something else."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise ValueError(f"expected grades, the JSON of `class grade`, in {path}: {problem}") from problem
    found = table.get("schema") if isinstance(table, dict) else None
    if found != SCHEMA:
        raise ValueError(f"expected {path} to have schema {SCHEMA!r}, got {found!r}")
    if not table.get("submissions") or not table.get("exercises"):
        raise ValueError(f"expected submissions and exercises in {path}, found none")
    grades: Row = table
    return grades


def json_text(table: Row) -> str:
    """The table as JSON."""
    return json.dumps(table, indent=1, allow_nan=False) + "\n"


# ---- CSV --------------------------------------------------------------------------------------------------


def csv_text(table: Row) -> str:
    """A row for each property of each submission, after a row of names."""
    stages = {(e["exercise"], p["name"]): p["stage"] for e in table["exercises"] for p in e["properties"]}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for submission in table["submissions"]:
        for one in submission["exercises"]:
            for found in one["properties"]:
                stage = stages[one["exercise"], found["name"]]
                writer.writerow([harmless(cell) for cell in _cells(submission, one, found, stage)])
    return out.getvalue()


def _cells(submission: Row, one: Row, found: Row, stage: str) -> list[Any]:
    shown = one["counterexample"]
    file = shown["file"] if shown and shown["property"] == found["name"] else None
    return [
        *(CSV_SCHEMA, submission["id"], submission["student"], one["exercise"], found["name"], stage),
        *(found["status"], found["points"], found["out_of"], found["note"]),
        *(one["status"], one["problem"], found["seconds"], one["hints"], one["attempts"], file),
    ]


def harmless(cell: Any) -> Any:
    """A cell for CSV: a text that a spreadsheet would compute gets an apostrophe in front; None is empty."""
    if not isinstance(cell, str):
        return "" if cell is None else cell
    return "'" + cell if cell.lstrip()[:1] in tuple("=+-@＝＋－＠") or cell[:1] in tuple("\t\r\n") else cell


# ---- JUnit ------------------------------------------------------------------------------------------------


def junit_text(table: Row) -> str:
    """JUnit XML: a suite for each submission, a case for each property."""
    root = ET.Element("testsuites", name="minidsv3 class")
    for submission in table["submissions"]:
        root.append(_suite(submission))
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, 0)) for suite in root)))
    root.set("time", f"{sum(float(suite.get('time', 0)) for suite in root):.3f}")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(submission: Row) -> ET.Element:
    suite = ET.Element("testsuite", name=submission["student"] or submission["id"], id=submission["id"])
    held = ET.SubElement(suite, "properties")
    for name in ("mark", "points", "out_of"):
        ET.SubElement(held, "property", name=name, value=str(submission[name]))
    for one in submission["exercises"]:
        suite.extend(_case(one, found) for found in one["properties"])
    cases = suite.findall("testcase")
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("tests", str(len(cases)))
    suite.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")
    return suite


def _case(one: Row, found: Row) -> ET.Element:
    where, seconds = f"exercise {one['exercise']}", f"{found['seconds']:.3f}"
    case = ET.Element("testcase", classname=where, name=found["name"], time=seconds)
    if found["status"] == "failed":
        tag = "error" if one["status"] == "ungraded" else "failure"
        ET.SubElement(case, tag, message=found["note"], type=one["status"])
    elif found["status"] == "skipped":
        ET.SubElement(case, "skipped", message=found["note"])
    return case
