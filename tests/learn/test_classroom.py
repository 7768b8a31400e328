"""A class: hidden keys, odd submissions, points, three reports that say the same, nothing that leaks."""

import csv
import io
import json
import os
import random
import tomllib
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import submissions
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.learn.classroom import (
    csv_text,
    grade_class,
    grading,
    json_text,
    junit_text,
    marks_csv,
    new_class,
    plan,
    read_key,
    summary,
)
from minidsv3.learn.classroom.batch import Batch
from minidsv3.learn.classroom.grades import CSV_COLUMNS, FIELDS, harmless
from minidsv3.learn.classroom.grading import LIMITS, Grader
from minidsv3.learn.classroom.key import ExerciseKey, Key, key_from_toml
from minidsv3.learn.classroom.submission import Handed, hand_in, in_a_line, printable, submissions_in
from minidsv3.learn.classroom.template import drawn_key
from minidsv3.learn.exercises import find_lesson

LESSON = find_lesson("00")
KEY = Key("salt", (ExerciseKey("00", 5, 2, 1, {"shape": 1, "value": 3}),))
ODD = "=ada lovelace"  # a name that a spreadsheet would compute


# ---- keys -------------------------------------------------------------------------------------------------


points = st.dictionaries(st.sampled_from(["shape", "value", "causal"]), st.integers(1, 9), min_size=1)
keys = st.builds(
    lambda salt, seed, larger, weight, points: Key(salt, (ExerciseKey("00", seed, larger, weight, points),)),
    st.text(min_size=1),
    st.integers(0, 2**40),
    st.integers(0, 9),
    st.sampled_from([0.5, 1, 1 / 3]),
    points,
)


@given(keys)
@settings(max_examples=30)
def test_a_key_is_read_as_it_was_written(key):
    assert key_from_toml(key.to_toml()) == key


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("minidsv3.key/1", "minidsv3.key/7", "expected schema"),
        ("seed = 5", "seed = -1", "exercises.00.seed: expected a whole number from 0 on, got -1"),
        ("seed = 5", "seeds = 5", "did you mean 'seed'"),
        ("weight = 1", "weight = nan", "exercises.00.weight"),
        ("weight = 1", "weight = 0", "expected a weight of more than 0"),
        ("larger = 2", "larger = 1000000", "exercises.00.larger: expected at most 64, got 1000000"),
        ("value = 3", "value = 1.7e308", "expected points of more than 0 in all, and less than"),
        ("value = 3", "value = true", "exercises.00.points.value"),
        ("exercises.00", "exercises.99", "expected a lesson, got '99'"),
        ("shape = 1", "shape = ", "key.toml: "),
    ],
)
def test_a_wrong_key_is_refused_with_the_place(old, new, said, tmp_path):
    place = tmp_path / "key.toml"
    place.write_text(KEY.to_toml().replace(old, new))
    with pytest.raises(ValueError, match=said):
        read_key(place)


def test_ids_need_the_salt():
    other = Key("another", KEY.exercises)
    assert KEY.identity("ada") != other.identity("ada")
    assert KEY.identity("ada") == Key("salt", ()).identity("ada")


# ---- what is handed out -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    return new_class(tmp_path_factory.mktemp("class") / "autumn", ["00"], random.Random(1))


def test_students_get_stubs_and_nothing_hidden(begun):
    files = [path for path in begun.student.rglob("*") if path.is_file()]
    assert sorted(path.relative_to(begun.student).as_posix() for path in files) == [
        "00_one_prediction/exercise.py",
        "README.md",
    ]
    text = "".join(path.read_text() for path in files)
    secret = begun.key.exercises[0]
    assert str(secret.seed) not in text
    assert begun.key.salt not in text
    telling = [line for line in LESSON.solution.splitlines() if "np.exp" in line or "return" in line]
    assert telling
    assert not [line for line in telling if line.strip() in text]
    assert (begun.student / "00_one_prediction" / "exercise.py").read_text() == LESSON.stub


def test_the_instructor_gets_a_key_and_a_guide(begun):
    key = read_key(begun.instructor / "key.toml")
    assert key == begun.key
    guide = (begun.instructor / "GRADING.md").read_text()
    for name in (*key.exercises[0].points, *FIELDS, *CSV_COLUMNS):
        assert f"`{name}`" in guide, name
    assert "$" not in guide  # everything was filled in
    assert "no security boundary" in " ".join(guide.split())
    assert begun.instructor.stat().st_mode & 0o077 == 0
    sentences = tomllib.loads((begun.instructor / "key.toml").read_text())
    assert set(sentences["exercises"]) == {"00"}


def test_nothing_is_overwritten(begun):
    with pytest.raises(ValueError, match="which has something in it"):
        new_class(begun.folder, ["00"])
    with pytest.raises(ValueError, match="expected a lesson"):
        new_class(begun.folder.parent / "other", ["77"])
    assert not (begun.folder.parent / "other").exists()


def test_two_keys_have_other_seeds(monkeypatch):
    monkeypatch.setattr(grading, "solved", lambda by, limits: {})
    keys = [drawn_key([LESSON])[0] for _ in range(2)]
    assert keys[0].salt != keys[1].salt
    assert keys[0].exercises[0].seed != keys[1].exercises[0].seed


# ---- what comes back --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        ("binary", "unreadable", "a binary file"),
        ("empty", "unreadable", "is empty"),
        ("missing", "missing", "found none"),
        ("link", "unreadable", "a link, which is not followed"),
        ("link_inside", "unreadable", "a link, which is not followed"),
        ("large", "unreadable", "got 104,857,600"),
        ("pipe", "unreadable", "a device or a pipe"),
        ("latin", "unreadable", "expected UTF-8 text, got byte 0xe9"),
        ("archive", "unreadable", "unpack archives first"),
    ],
)
def test_what_is_no_source_is_told(kind, status, said, tmp_path):
    submissions.break_in(tmp_path, [kind])
    [found] = submissions_in(tmp_path, KEY)
    handed = hand_in(found, LESSON)
    assert (handed.source, handed.status) == (None, status)
    assert said in handed.problem


@pytest.mark.parametrize(
    "place",
    [
        "ada/00_one_prediction/exercise.py",
        "ada/exercise_00.py",
        "ada/unpacked/00_one_prediction/exercise.py",
        "ada/unpacked/mine.py",
        "ada.py",
    ],
)
def test_a_file_is_found_where_students_put_it(place, tmp_path):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("x = 1\n")
    (tmp_path / ".DS_Store").write_text("")
    [found] = submissions_in(tmp_path, KEY)
    assert hand_in(found, LESSON).source == "x = 1\n"


@pytest.mark.parametrize(
    ("progress", "hints", "attempts"),
    [
        ('{"exercises": {"00": {"hints": 2, "checked": 5}}}', 2, 5),
        ('{"exercises": {"00": {"hints": -1, "checked": true}}}', None, None),
        ('{"exercises": {"00": [1]}}', None, None),
        ("[" * 100_000, None, None),
        ("not JSON", None, None),
    ],
)
def test_a_progress_file_is_a_claim(progress, hints, attempts, tmp_path):
    submissions.hand_in(tmp_path, "ada", {LESSON: "x = 1\n"})
    place = tmp_path / "ada" / ".minidsv3"
    place.mkdir()
    (place / "progress.json").write_text(progress)
    handed = hand_in(submissions_in(tmp_path, KEY)[0], LESSON)
    assert (handed.source, handed.hints, handed.attempts) == ("x = 1\n", hints, attempts)
    assert (place / "progress.json").read_text() == progress


def test_names_that_are_no_text_are_shown_and_kept_apart(tmp_path):
    for name in (b"ada\xff", b"ada\xfe", b"ada\x1b[2J", b"ada\n"):
        submissions.hand_in(tmp_path, name, {LESSON: "x = 1\n"})
    found = submissions_in(tmp_path, KEY)
    assert sorted(one.student for one in found) == [r"ada\n", r"ada\x1b[2J", r"ada\xfe", r"ada\xff"]
    assert len({one.id for one in found}) == 4


def test_folders_in_folders_are_looked_into_but_an_exercise_is_no_other(tmp_path):
    deep = tmp_path / "ada" / "autumn" / "student" / LESSON.name
    deep.mkdir(parents=True)
    (deep / "exercise.py").write_text(LESSON.solution)
    [found] = submissions_in(tmp_path, KEY)
    assert hand_in(found, LESSON).source == LESSON.solution
    assert hand_in(found, find_lesson("05")).status == "missing"


@given(st.text() | st.binary().map(os.fsdecode))
@settings(max_examples=100)
def test_any_text_can_be_shown(text):
    shown = printable(text)
    element = ET.Element("a", name=shown)
    assert ET.fromstring(ET.tostring(element)).get("name") == shown
    assert json.loads(json.dumps(shown)) == shown
    shown.encode()
    assert not [c for c in shown if c < " " and c not in "\t\n"]


@given(st.text(alphabet="=+-@ \t\r\n'a1", max_size=4))
@settings(max_examples=100)
def test_no_cell_is_a_formula(text):
    cell = harmless(text)
    assert cell.endswith(text)
    assert cell.strip()[:1] not in tuple("=+-@")


# ---- a small class ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graded(begun):
    """Graded once, by name: everything in it is quick."""
    wrong = LESSON.wrong
    for name, source in {
        "ada": LESSON.solution,
        ODD: wrong["no_maximum"],
        "bea": wrong["no_maximum"] + "\n# mine\n",
        "carl": wrong["changes_the_scores"],
        "dora": LESSON.stub + "\n# still to do\n",
        "grace hopper": "raise ValueError('grace hopper was here')\n",
    }.items():
        submissions.hand_in(begun.submissions, name, {LESSON: source})
    submissions.break_in(begun.submissions, ["exits", "missing", "link"])
    return grade_class(plan(begun.submissions), jobs=2)


def by_student(table):
    return {row["student"]: row for row in table["submissions"]}


def without_seconds(value):
    if isinstance(value, list):
        return [without_seconds(one) for one in value]
    if isinstance(value, dict):
        return {name: without_seconds(one) for name, one in value.items() if name != "seconds"}
    return value


def test_points_are_given_for_what_holds(graded):
    rows = by_student(graded)
    status = {name: row["exercises"][0]["status"] for name, row in rows.items()}
    assert status == {
        "ada": "passed",
        "=ada lovelace": "failed",
        "bea": "failed",
        "carl": "failed",
        "dora": "untouched",
        "grace hopper": "failed",
        "exits.py": "failed",
        "missing": "missing",
        "link.py": "unreadable",
    }
    assert rows["ada"]["mark"] == 100
    assert 0 < rows["bea"]["mark"] < 100
    assert {rows[name]["points"] for name in ("dora", "grace hopper", "exits.py", "missing", "link.py")} == {
        0
    }
    [exercise] = rows["bea"]["exercises"]
    held = [one for one in exercise["properties"] if one["status"] == "passed"]
    assert exercise["points"] == sum(one["out_of"] for one in held)


def test_a_counterexample_is_kept_for_the_instructor(graded, begun):
    found = by_student(graded)["bea"]["exercises"][0]["counterexample"]
    assert (begun.instructor / found["file"]).is_file()
    [scores] = found["inputs"].values()
    assert scores["shape"] == [1, 1]


def test_the_three_reports_agree(graded):
    rows = list(csv.DictReader(io.StringIO(csv_text(graded))))
    suites = ET.fromstring(junit_text(graded))
    told = [
        (row, one, found)
        for row in graded["submissions"]
        for one in row["exercises"]
        for found in one["properties"]
    ]
    cases = list(suites.iter("testcase"))
    assert len(rows) == len(told) == len(cases) == int(suites.get("tests"))
    tags = {"passed": None, "failed": "failure", "skipped": "skipped"}
    for cell, (row, one, found), case in zip(rows, told, cases, strict=True):
        assert cell["student"] == harmless(row["student"])
        assert (cell["id"], cell["exercise"], cell["property"]) == (row["id"], one["exercise"], found["name"])
        assert (cell["status"], float(cell["points"])) == (found["status"], found["points"])
        assert case.get("name") == found["name"]
        assert [child.tag for child in case] == [tag for tag in [tags[found["status"]]] if tag]
    failed = sum(found["status"] == "failed" for _, _, found in told)
    assert int(suites.get("failures")) + int(suites.get("errors")) == failed
    assert tuple(rows[0]) == CSV_COLUMNS
    assert json.loads(json_text(graded)) == graded


def test_every_field_is_documented(graded):
    def paths(value, at):
        if isinstance(value, list):
            return {path for one in value for path in paths(one, at + "[]")}
        if not isinstance(value, dict) or at.endswith(".counterexample"):
            return {at}
        return {path for name, one in value.items() for path in paths(one, f"{at}.{name}" if at else name)}

    assert "wall time" in graded["limits_held"]
    assert paths(graded, "") - set(FIELDS) == {"submissions[].exercises[].counterexample"} - set(FIELDS)
    assert set(FIELDS) <= paths(graded, "")


def test_a_second_run_takes_everything_from_the_journal(graded, begun):
    kept = []
    table = grade_class(
        plan(begun.submissions), progress=lambda done, total, last: kept.append(last is None or last.kept)
    )
    assert all(kept)
    assert table == graded


@pytest.mark.slow  # 4 s
def test_one_worker_says_what_two_say_and_only_the_changed_is_graded_again(graded, begun, tmp_path):
    small = tmp_path / "submissions"
    for name in ("bea", "carl"):
        source = (begun.submissions / name / "00_one_prediction" / "exercise.py").read_text()
        submissions.hand_in(small, name, {LESSON: source})
    (tmp_path / "instructor").mkdir()
    (tmp_path / "instructor" / "key.toml").write_text((begun.instructor / "key.toml").read_text())
    table = grade_class(plan(small), jobs=1)
    expected = [row for row in graded["submissions"] if row["student"] in ("bea", "carl")]
    assert without_seconds(table["submissions"]) == without_seconds(expected)

    (small / "carl" / "00_one_prediction" / "exercise.py").write_text(LESSON.solution)
    fresh = []
    again = grade_class(
        plan(small), jobs=1, progress=lambda done, total, last: fresh.append(last and not last.kept)
    )
    assert sum(map(bool, fresh)) == 1
    assert by_student(again)["carl"]["mark"] == 100


@pytest.mark.slow  # 3 s
def test_an_anonymous_report_has_no_name_in_it(graded, begun, tmp_path):
    folder, home = tmp_path / "submissions", tmp_path / "instructor"
    for name in (ODD, "grace hopper"):
        source = (begun.submissions / name / "00_one_prediction" / "exercise.py").read_text()
        submissions.hand_in(folder, name, {LESSON: source + "# by me\n"})
    home.mkdir()
    (home / "key.toml").write_text((begun.instructor / "key.toml").read_text())
    table = grade_class(plan(folder), jobs=1, anonymous=True)
    written = csv_text(table) + json_text(table) + junit_text(table) + marks_csv(table)
    written += json.dumps(summary(table))
    written += "".join(str(path) for path in home.rglob("*"))
    written += (home / "journal-anonymous.jsonl").read_text()
    assert not [name for name in ("ada", "lovelace", "grace", "hopper") if name in written.lower()]
    ids = [row["id"] for row in table["submissions"]]
    assert ids == sorted(ids)
    assert {row["student"] for row in table["submissions"]} == {None}


def rows_of(points, *sources):
    """Rows of sources for exercise 00."""
    key = Key("salt", (ExerciseKey("00", 5, 0, 1, points),))
    with Grader(key, LIMITS, None) as grader:
        for source in sources:
            yield grader.grade("s1", "ada", [Handed("00", source, "readable", None, None, None)])


def test_what_the_stub_does_earns_nothing_however_it_is_written():
    points = {"shape": 1, "causal": 1, "rows_sum_to_one": 1, "value": 2}
    zeros = "import numpy as np\ndef softmax(scores):\n    x = 1\n    return np.zeros_like(scores)\n"
    uniform = "import numpy as np\ndef softmax(scores):\n    t = np.tri(len(scores), dtype='f')\n"
    nothing, some = rows_of(points, zeros, uniform + "    return t / t.sum(axis=1, keepdims=True)\n")
    assert nothing["points"] == 0
    notes = {one["name"]: one["note"] for one in nothing["exercises"][0]["properties"]}
    assert "the stub" in notes["shape"]
    assert "the stub" in notes["causal"]
    assert "the stub" not in notes["value"]
    assert some["points"] == 3
    (right,) = rows_of({"shape": 1}, LESSON.solution)
    assert right["points"] == 1


def test_code_that_answers_unasked_in_the_end_has_no_points():
    by = KEY.exercises[0]
    lied = replace(grading.checked(by, LESSON.solution, LIMITS), problem="answered something not asked")
    row = grading._with_result(Handed("00", "", "readable", None, None, None), by, lied, False)
    assert (row["status"], row["points"]) == ("failed", 0)
    assert {one["note"] for one in row["properties"]} == {"answered something not asked"}


@pytest.mark.parametrize(
    ("name", "said", "left"),
    [
        ("Søren Kärcher", "Ka\u0308rcher, KARCHER and xkarcher_1", "(name), (name) and x(name)_1"),
        (
            "ada_lovelace_1815",
            "AdaLovelace: adalovelace42 1815 cicada",
            "(name)(name): ada(name)42 (name) cicada",
        ),
        ("Li Wu", "by Wu and Li, lithium", "by (name) and (name), lithium"),
        ("Ray An", "expected an array, got Ray", "expected an array, got (name)"),
        ("x", "maximum of x", "maximum of x"),
    ],
)
def test_a_name_is_taken_out_however_it_is_written(name, said, left):
    assert grading._hiding(name)(said) == left


def test_a_message_is_one_line_of_what_can_be_seen():
    said = "Y\nto be graded by hand: eve\t\x1b[2J\u202e\u00ad\U000e0041"
    assert in_a_line(said) == "Y\\nto be graded by hand: eve\\t\\x1b[2J\\u202e\\xad\\U000e0041"


def test_an_anonymous_class_is_not_graded_in_the_order_of_its_names(begun, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Batch, "run", lambda self, found, journal: asked.extend(found) or iter(()))
    for name in "abcdefgh":
        submissions.hand_in(tmp_path / "submissions", name, {LESSON: LESSON.stub})
    planned = plan(tmp_path / "submissions", begun.instructor)
    grade_class(planned, anonymous=True)
    assert [one.id for one in asked] == sorted(one.id for one in planned.submissions)
    assert asked != list(planned.submissions)


def test_the_report_counts_the_same_mistake_once(graded):
    found = summary(graded)
    assert (found["submissions"], found["passed"]) == (9, 1)
    first = found["counterexamples"][0]
    assert (first["students"], first["property"]) == (2, "rows_sum_to_one")
    assert found["exercises"][0]["statuses"]["failed"] == 5
    assert sum(found["marks"]["spread"]) == 9


def test_a_key_that_the_solution_does_not_pass_grades_nobody(begun, tmp_path):
    key = (begun.instructor / "key.toml").read_text().replace("causal = ", "casual = ")
    (tmp_path / "key.toml").write_text(key)
    with pytest.raises(ValueError, match="expected a property, got 'casual': did you mean 'causal'"):
        grade_class(plan(begun.submissions, tmp_path))
