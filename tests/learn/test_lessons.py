"""Every lesson on the disk: runs headless and as plain Python, its stub fails, its solution passes."""

import subprocess
import sys

import pytest

from minidsv3.learn.checker import check
from minidsv3.learn.exercises import find_lesson, lessons, lessons_folder, student_file
from minidsv3.learn.percent import parse
from minidsv3.learn.player import Player
from minidsv3.machine import catalogue

every_lesson = pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.id)


@every_lesson
def test_runs_headless(lesson):
    player = Player.open(lesson.path)
    player.go(len(player.cells))
    assert player.last is not None
    assert player.last.error == ""
    assert player.cell is None


@every_lesson
def test_runs_as_plain_python(lesson):
    package = str(lessons_folder().parent)
    code = (
        "import runpy, sys; sys.path.insert(0, sys.argv[1]); runpy.run_path(sys.argv[2], run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code, package, lesson.path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@every_lesson
def test_runs_the_same_twice(lesson):
    def said() -> list[str]:
        player = Player.open(lesson.path)
        return [player.forward().output for _ in player.cells]

    assert said() == said()


@every_lesson
def test_is_complete(lesson):
    cells = parse(lesson.path.read_text())
    assert cells[0].kind == "markdown"
    assert all(cell.title for cell in cells)
    assert len(lesson.path.read_text().splitlines()) <= 250
    assert 3 <= len(lesson.hints) <= 5
    assert "TODO" in lesson.stub
    assert lesson.op in catalogue()
    assert set(lesson.needs) <= {other.id for other in lessons()}


@every_lesson
def test_stub_fails_and_solution_passes(lesson):
    assert not check(lesson, lesson.stub).passed
    assert check(lesson, lesson.solution).passed


def test_unknown_lessons_are_told_with_near_names():
    with pytest.raises(ValueError, match="did you mean '00_one_prediction'"):
        find_lesson("one_prediction")


def test_the_stub_is_written_once(tmp_path):
    lesson = find_lesson("00")
    path, written = student_file(lesson, tmp_path)
    assert written
    assert path.read_text() == lesson.stub
    path.write_text("mine")
    assert student_file(lesson, tmp_path) == (path, False)
    assert path.read_text() == "mine"


def test_a_file_beside_is_found(tmp_path):
    (tmp_path / "exercise_00.py").write_text("x")
    assert student_file(find_lesson("00"), tmp_path) == (tmp_path / "exercise_00.py", False)
