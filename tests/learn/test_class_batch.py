"""Many submissions side by side: workers that die, runs that are killed, a journal that is torn."""

import threading
import time

import pytest
import submissions

from minidsv3.learn.classroom import batch
from minidsv3.learn.classroom.batch import Batch
from minidsv3.learn.classroom.grading import LIMITS, refused
from minidsv3.learn.classroom.journal import MOST_BEGUN, Journal
from minidsv3.learn.classroom.key import ExerciseKey, Key
from minidsv3.learn.classroom.submission import submissions_in
from minidsv3.learn.classroom.worker import Died, Order, Worker
from minidsv3.learn.exercises import find_lesson

LESSON = find_lesson("00")
POINTS = {"00": {"shape": 1, "value": 3}}
KEY = Key("salt", (ExerciseKey("00", 5, 2, 1, POINTS["00"]),))


class Pretender:
    """Stands for a worker: dies as often as the source says, else answers with it."""

    made = 0
    together = 0
    most_together = 0
    tried: list[str]
    lock = threading.Lock()

    def __init__(self, order):
        type(self).made += 1
        self.asked = 0

    def grade(self, id, student, handed):
        with self.lock:
            cls = type(self)
            cls.together += 1
            cls.most_together = max(cls.most_together, cls.together)
            cls.tried.append(student)
            times = cls.tried.count(student)
        self.asked += 1
        time.sleep(0.002)
        with self.lock:
            cls.together -= 1
        if times <= handed[0].source.count("die"):
            raise Died
        return refused(handed, POINTS) | {"said": handed[0].source}

    def kill(self):
        pass

    close = kill


@pytest.fixture
def pretender(monkeypatch):
    cls = type("Pretender", (Pretender,), {"tried": []})
    monkeypatch.setattr(batch, "Worker", cls)
    return cls


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "submissions"
    for i in range(100):
        submissions.hand_in(place, f"student {i:02}", {LESSON: f"x = {i}\n"})
    return place


def graded(folder, journal=None, jobs=3):
    found = Batch(KEY, LIMITS, None, jobs=jobs).run(submissions_in(folder, KEY), journal)
    return {one.submission.student: one for one in found}


def change(folder, number, source):
    (folder / f"student {number:02}" / LESSON.name / "exercise.py").write_text(source)


def test_every_submission_is_graded_once_by_few_workers(folder, pretender):
    rows = graded(folder)
    assert sorted(rows) == [f"student {i:02}" for i in range(100)]
    assert sorted(pretender.tried) == sorted(rows)
    assert pretender.most_together <= 3
    assert pretender.made <= 3 + 100 // batch.RENEWED_AFTER
    assert rows["student 07"].row["said"] == "x = 7\n"


def test_a_dead_worker_is_replaced_and_its_submission_graded_once_more_at_the_end(folder, pretender):
    change(folder, 10, "die")
    rows = graded(folder)
    assert len(rows) == 100
    assert rows["student 10"].row["said"] == "die"
    assert pretender.tried.count("student 10") == 2
    assert pretender.tried[-1] == "student 10"


def test_a_submission_that_kills_twice_is_left_to_be_graded_by_hand(folder, pretender, tmp_path):
    change(folder, 10, "die die")
    with Journal(tmp_path / "journal", "a") as journal:
        rows = graded(folder, journal)
    [exercise] = rows["student 10"].row["exercises"]
    assert (exercise["status"], exercise["points"]) == ("ungraded", 0)
    assert "by hand" in exercise["problem"]
    assert len(rows) == 100
    with Journal(tmp_path / "journal", "a") as journal:  # the next run tries it again, and it alone
        again = graded(folder, journal)
    assert again["student 10"].row["said"] == "die die"
    assert sum(not one.kept for one in again.values()) == 1


def test_only_what_is_new_or_changed_is_graded_again(folder, pretender, tmp_path):
    with Journal(tmp_path / "journal", "a") as journal:
        first = graded(folder, journal)
    change(folder, 3, "x = 'late'\n")
    submissions.hand_in(folder, "new", {LESSON: "x = 'new'\n"})
    with Journal(tmp_path / "journal", "a") as journal:
        assert not journal.begun_anew
        second = graded(folder, journal)
    assert sorted(name for name, one in second.items() if not one.kept) == ["new", "student 03"]
    assert second["student 04"].row == first["student 04"].row
    with Journal(tmp_path / "journal", "another key") as journal:
        assert journal.begun_anew
        assert not any(one.kept for one in graded(folder, journal).values())


def test_a_stopped_run_goes_on(folder, pretender, tmp_path):
    with Journal(tmp_path / "journal", "a") as journal:
        running = Batch(KEY, LIMITS, None, jobs=2).run(submissions_in(folder, KEY), journal)
        for _ in range(30):
            next(running)
        running.close()
    before = len(pretender.tried)
    assert 30 <= before <= 34
    with Journal(tmp_path / "journal", "a") as journal:
        rows = graded(folder, journal)
    assert len(rows) == 100
    assert 30 <= sum(one.kept for one in rows.values()) <= before
    assert len(pretender.tried) <= 100 + 4


# ---- the journal ------------------------------------------------------------------------------------------


def test_a_torn_line_is_one_that_was_not_written(tmp_path):
    place = tmp_path / "journal"
    with Journal(place, "a") as journal:
        journal.ended("1", "f", {"points": 1})
        journal.ended("2", "f", {"points": 2})
    whole = place.read_bytes()
    place.write_bytes(whole[:-9])
    with Journal(place, "a") as journal:
        assert journal.row("1", "f") == {"points": 1}
        assert journal.row("2", "f") is None
        journal.ended("2", "f", {"points": 2})
    assert place.read_bytes() == whole
    with Journal(place, "a") as journal:
        assert journal.row("2", "f") == {"points": 2}


def test_a_line_that_is_not_the_journals_ends_what_is_read(tmp_path):
    place = tmp_path / "journal"
    with Journal(place, "a") as journal:
        journal.ended("1", "f", {"points": 1})
    place.write_bytes(place.read_bytes() + b'{"id": "2"}\n')
    with Journal(place, "a") as journal:
        assert journal.row("1", "f") == {"points": 1}
        assert journal.row("2", "f") is None


@pytest.mark.parametrize(
    "content", [b"", b"nonsense\n", b"\xff\xfe\n\n", b'{"schema": "minidsv3.journal/0"}\n']
)
def test_any_other_file_is_begun_anew(content, tmp_path):
    (tmp_path / "journal").write_bytes(content)
    with Journal(tmp_path / "journal", "a") as journal:
        assert journal.begun_anew
        assert journal.row("1", "f") is None


def test_one_run_at_a_time(tmp_path):
    with Journal(tmp_path / "journal", "a"), pytest.raises(OSError, match="another run grades this class"):
        Journal(tmp_path / "journal", "a")
    Journal(tmp_path / "journal", "a").__exit__(None, None, None)


def killed_runs(place, times, ended_with=None):
    for _ in range(times):
        journal = Journal(place, "a")
        journal.begins("1")
        journal.__exit__(ended_with, None, None)
    return Journal(place, "a")


def test_what_ends_the_whole_run_is_graded_alone_and_given_up_in_the_end(tmp_path):
    with killed_runs(tmp_path / "journal", MOST_BEGUN - 1) as journal:
        assert (journal.suspect("1"), journal.hopeless("1"), journal.suspect("2")) == (True, False, False)
    with killed_runs(tmp_path / "journal", 1) as journal:
        assert journal.hopeless("1")
    with killed_runs(tmp_path / "interrupted", MOST_BEGUN, KeyboardInterrupt) as journal:
        assert not journal.suspect("1")


def test_a_hopeless_submission_does_not_stop_the_others(folder, pretender, tmp_path):
    [one] = [s for s in submissions_in(folder, KEY) if s.student == "student 42"]
    for _ in range(MOST_BEGUN):
        with Journal(tmp_path / "journal", "a") as journal:
            journal.begins(one.id)
    with Journal(tmp_path / "journal", "a") as journal:
        rows = graded(folder, journal)
    assert len(rows) == 100
    assert rows["student 42"].row["exercises"][0]["status"] == "ungraded"
    assert "student 42" not in pretender.tried


# ---- the worker -------------------------------------------------------------------------------------------


def test_a_worker_that_does_not_answer_in_time_has_died():
    worker = Worker(Order(KEY.to_toml(), LIMITS, None, False, patience=0.01))
    with pytest.raises(Died):
        worker.grade("1", "ada", [])
    worker.close()
    worker.close()


def test_what_was_not_graded_is_tried_by_the_next_run(folder, pretender, tmp_path):
    answers = pretender.grade

    def comes_to_grief(self, id, student, handed):
        row = answers(self, id, student, handed)
        return refused(handed, POINTS, "the check itself failed") if student == "student 05" else row

    pretender.grade = comes_to_grief
    with Journal(tmp_path / "journal", "a") as journal:
        assert graded(folder, journal)["student 05"].row["exercises"][0]["status"] == "ungraded"
    pretender.grade = answers
    with Journal(tmp_path / "journal", "a") as journal:
        rows = graded(folder, journal)
    assert [name for name, one in rows.items() if not one.kept] == ["student 05"]
    assert rows["student 05"].row["said"] == "x = 5\n"
