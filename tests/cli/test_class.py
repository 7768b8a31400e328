"""`minidsv3 class`: what a teacher reads, what files come out, and how it ends."""

import json

import pytest
import submissions

from minidsv3.cli import main
from minidsv3.cli.class_grade import progress_line
from minidsv3.cli.class_report import report_lines
from minidsv3.learn.classroom.grades import json_text
from minidsv3.learn.exercises import find_lesson

LESSON = find_lesson("00")


def exercise(status, points, inputs=None):
    values = {"shape": points > 0, "value": points > 2}
    shown = {"property": "value", "inputs": inputs, "file": "counterexamples/x.npz"} if inputs else None
    return {
        "exercise": "00",
        "status": status,
        "points": points,
        "out_of": 4,
        "problem": None if status == "passed" else f"value: {status}",
        "seconds": 0.5,
        "hints": 1,
        "attempts": 3,
        "counterexample": shown,
        "properties": [
            {
                "name": name,
                "status": "passed" if held else "failed",
                "points": 2 * held,
                "out_of": 2,
                "seconds": 0.2,
                "note": "" if held else "yours and the expected differ",
            }
            for name, held in values.items()
        ],
    }


def a_class():
    """Grades of eleven, as `class grade` writes them."""
    overflow = {"scores": {"dtype": "float32", "shape": [1, 1], "values": [89.0]}}
    later = {"scores": {"dtype": "float32", "shape": [2, 2], "values": [0.0, 1.0, 0.0, "nan"]}}
    rows = [
        *[exercise("passed", 4)] * 5,
        *[exercise("failed", 2, overflow)] * 3,
        exercise("failed", 2, later),
        exercise("missing", 0),
        exercise("ungraded", 0),
    ]
    properties = [
        {
            "name": "shape",
            "sentence": "the result has the shape of the scores",
            "stage": "shape",
            "points": 2,
        },
        {"name": "value", "sentence": "the result is the softmax of eq. 10", "stage": "value", "points": 2},
    ]
    about = {"exercise": "00", "title": "One prediction", "weight": 1, "out_of": 4, "properties": properties}
    return {
        "schema": "minidsv3.grades/1",
        "minidsv3": "0.1.0",
        "anonymous": False,
        "limits_held": ["wall time"],
        "exercises": [about],
        "submissions": [
            {
                "id": f"{i:012x}",
                "student": f"student {i}",
                "mark": 25.0 * row["points"],
                "points": row["points"],
                "out_of": 4,
                "exercises": [row],
            }
            for i, row in enumerate(rows)
        ],
    }


@pytest.fixture
def grades_file(tmp_path):
    place = tmp_path / "grades.json"
    place.write_text(json_text(a_class()))
    return place


REPORT = """\
11 submissions, 5 passed everything; marks from 0 to 100, median 50
       mark  students
    0 to 10     2  ################
   10 to 20     0
   20 to 30     0
   30 to 40     0
   40 to 50     0
   50 to 60     4  ################################
   60 to 70     0
   70 to 80     0
   80 to 90     0
  90 to 100     5  ########################################

exercise 00, One prediction: 5 of 11 passed (4 failed, 1 missing, 1 ungraded)
  points of 4: 4 (5 students), 2 (4 students), 0 (2 students)
  medians, as progress files say: attempts 3, hints 1
  shape     9 of 11  ################################
  value     5 of 11  ##################

commonest counterexamples, by the first property that failed
1. exercise 00, value: 3 students
   the result is the softmax of eq. 10
   scores [1, 1] float32: 89
   yours and the expected differ
2. exercise 00, value: 1 student
   the result is the softmax of eq. 10
   scores [2, 2] float32: 0 1 / 0 nan
   yours and the expected differ
to be graded by hand: student 10"""


def test_a_report_is_what_a_teacher_reads():
    from minidsv3.learn.classroom import summary

    assert "\n".join(report_lines(summary(a_class()), 60, plain=True)) == REPORT


@pytest.mark.parametrize("width", [60, 80, 120])
def test_bars_keep_to_the_width(width):
    from minidsv3.learn.classroom import summary

    found = summary(a_class())
    bars = [line for line in report_lines(found, width) if "█" in line]
    assert bars
    assert max(map(len, bars)) <= width
    assert not [line for line in report_lines(found, width, plain=True) if not line.isascii()]


def test_a_screen_reader_gets_no_bars(grades_file, monkeypatch, capsys):
    monkeypatch.setenv("MINIDSV3_SCREEN_READER", "1")
    assert main(["class", "report", str(grades_file)]) == 0
    said = capsys.readouterr().out
    assert "marks 90 to 100: 5" in said
    assert "shape held for 9 of 11" in said
    assert not {"█", "#"} & set(said)


def test_marks_go_to_a_gradebook(grades_file, tmp_path, capsys):
    assert main(["class", "report", str(grades_file), "--csv", str(tmp_path / "marks.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["submissions"], found["passed"]) == ("minidsv3.class_report/1", 11, 5)
    lines = (tmp_path / "marks.csv").read_text().splitlines()
    assert lines[0] == "schema,id,student,mark,points,out_of,passed,exercises,problem"
    assert lines[1] == "minidsv3.marks.csv/1,000000000000,student 0,100.0,4,4,1,1,"
    assert len(lines) == 12


def test_a_class_from_its_beginning_to_its_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["class", "new", "autumn", "--exercises", "00"]) == 0
    said = capsys.readouterr().out
    assert "minidsv3 class grade autumn/submissions --report autumn/instructor/grades.json" in said
    submissions.hand_in(tmp_path / "autumn" / "submissions", "ada", {LESSON: LESSON.solution})
    submissions.break_in(tmp_path / "autumn" / "submissions", ["empty"])
    words = "class grade autumn/submissions --report autumn/submissions/out.json --junit o.xml --csv o.csv"
    assert main([*words.split(), "--jobs", "1"]) == 0
    streams = capsys.readouterr()
    assert "2 submissions graded" in streams.out
    assert "1 passed, 1 unreadable" in streams.out
    assert streams.err.splitlines()[-1] == "graded 2 of 2"
    assert main(words.split()) == 0  # out.json, now among the submissions, is none
    assert "graded 2 of 2 (2 from before)" in capsys.readouterr().err
    assert (tmp_path / "o.xml").is_file()
    assert (tmp_path / "o.csv").is_file()
    assert main(["class", "report", "autumn/submissions/out.json"]) == 0
    assert "2 submissions, 1 passed everything" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["class"], "expected an action: new, grade, report"),
        (["class", "repord"], "did you mean 'report'"),
        (["class", "grade", "nowhere"], "expected a folder of submissions, found none at nowhere"),
        (["class", "grade", ".", "--jobs", "0"], "expected a number from 1 to 256"),
        (["class", "grade", ".", "--report", "no/x.json"], "expected a folder for no/x.json"),
        (["class", "grade", ".", "--key", "no.toml"], "found none at no.toml"),
        (["class", "new", "x", "--exercises", "00,98"], "expected a lesson, got '98'"),
        (["class", "new", "x", "--exercises", ","], "expected exercises, such as 00,05"),
        (["class", "report", "list.json"], "to have schema 'minidsv3.grades/1', got None"),
        (["class", "report", "text.json"], "expected grades, the JSON of `class grade`"),
    ],
)
def test_a_mistake_ends_with_2_and_what_was_expected(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "text.json").write_text("grades")
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_progress_says_how_long_it_takes():
    assert progress_line(0, 200, 0, 0.0) == "graded 0 of 200"
    assert progress_line(50, 200, 50, 1.0) == "graded 50 of 200 (50 from before)"
    assert progress_line(100, 200, 0, 90.0) == "graded 100 of 200, 1 min 30 s left"


def test_a_place_where_no_report_can_be_left_is_told_before_anything_is_graded(tmp_path, capsys):
    (tmp_path / "handed_in").mkdir()
    (tmp_path / "handed_in" / "ada.py").write_text("def softmax(scores): return scores")
    (tmp_path / "folder").mkdir()
    for place, said in (
        (tmp_path / "folder", "expected a file for a report, got the folder"),
        ("/nope/x", "folder"),
    ):
        assert main(["class", "grade", str(tmp_path / "handed_in"), "--csv", str(place)]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert "graded" not in told


@pytest.mark.parametrize(
    "table", ['{"schema": "minidsv3.grades/1"}', '{"schema": "minidsv3.grades/1", "submissions": []}']
)
def test_grades_without_submissions_are_no_report(table, tmp_path, capsys):
    (tmp_path / "grades.json").write_text(table)
    assert main(["class", "report", str(tmp_path / "grades.json")]) == 2
    assert "expected submissions" in capsys.readouterr().err
