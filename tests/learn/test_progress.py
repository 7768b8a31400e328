"""The progress file: readable, without paths, and a broken one is put aside."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.learn.exercises import find_lesson
from minidsv3.learn.progress import (
    STATES,
    exercise_row,
    lesson_cell,
    merge_file,
    merged,
    next_hint,
    read_progress,
    record_check,
    record_hint,
    record_lesson,
    record_reset,
    record_skip,
)


def test_what_was_recorded_is_read(tmp_path):
    record_lesson(tmp_path, "00", cell=3, of=9)
    record_lesson(tmp_path, "05", cell=1, of=2)
    assert (lesson_cell(tmp_path, "00"), lesson_cell(tmp_path, "05"), lesson_cell(tmp_path, "13")) == (
        3,
        1,
        0,
    )
    text = (tmp_path / ".minidsv3" / "progress.json").read_text()
    assert json.loads(text)["lessons"]["00"] == {"cell": 3, "furthest": 3, "of": 9}
    assert str(tmp_path) not in text


def test_attempts_count_different_sources_until_one_passes(tmp_path):
    said = [record_check(tmp_path, "00", source, passed) for source, passed in [("a", False), ("a", False)]]
    said += [record_check(tmp_path, "00", "b", False), record_check(tmp_path, "00", "c", True)]
    said += [record_check(tmp_path, "00", "d", False)]
    assert said == [1, 1, 2, 0, 1]


def test_a_broken_file_is_put_aside(tmp_path):
    record_lesson(tmp_path, "00", cell=3, of=9)
    place = tmp_path / ".minidsv3" / "progress.json"
    for broken in ("{", "[]", '{"schema": "other"}', '{"schema": "minidsv3.progress/1", "lessons": 3}'):
        place.write_text(broken)
        assert read_progress(tmp_path)["lessons"] == {}
        assert (tmp_path / ".minidsv3" / "progress.broken.json").read_text() == broken


def state(folder):
    return exercise_row(read_progress(folder), "00")["state"]


def test_states_follow_from_what_happened(tmp_path):
    assert state(tmp_path) == "untouched"
    record_check(tmp_path, "00", "a", False)
    assert state(tmp_path) == "failing"
    record_check(tmp_path, "00", "b", True)
    assert state(tmp_path) == "passing"
    record_reset(tmp_path, "00")
    record_hint(tmp_path, "00", 1)
    record_check(tmp_path, "00", "b", True)
    assert state(tmp_path) == "passing-with-hints"
    record_reset(tmp_path, "00")
    record_skip(tmp_path, "00")
    record_check(tmp_path, "00", "a", False)
    assert state(tmp_path) == "skipped"
    record_check(tmp_path, "00", "b", True)
    assert state(tmp_path) == "passing-with-hints"


def test_hints_come_one_at_a_time_and_cost_nothing_after_success(tmp_path):
    lesson = find_lesson("00")
    of = len(lesson.hints)
    numbers = []
    for _ in range(of + 2):
        number, _, text = next_hint(tmp_path, lesson)
        assert text == lesson.hints[number - 1]
        record_hint(tmp_path, "00", number)
        numbers.append(number)
    assert numbers == [*range(1, of + 1), of, of]
    record_reset(tmp_path, "00")
    record_check(tmp_path, "00", "a", True)
    record_hint(tmp_path, "00", of)
    assert state(tmp_path) == "passing"


def test_how_far_a_lesson_got_is_kept_when_one_goes_back(tmp_path):
    for cell in (9, 2):
        record_lesson(tmp_path, "00", cell=cell, of=9)
    assert read_progress(tmp_path)["lessons"]["00"] == {"cell": 2, "furthest": 9, "of": 9}


NAMES = st.sampled_from(["00", "05", "13"])
COUNT = st.integers(0, 3)
EXERCISE = st.fixed_dictionaries(
    {
        "state": st.sampled_from(STATES),
        "attempts": COUNT,
        "checked": COUNT,
        "hints": COUNT,
        "source": st.sampled_from(["", "a", "b"]),
    }
)
LESSON = st.fixed_dictionaries({"cell": COUNT, "furthest": COUNT, "of": COUNT})
PROGRESS = st.fixed_dictionaries(
    {
        "schema": st.just("minidsv3.progress/2"),
        "exercises": st.dictionaries(NAMES, EXERCISE),
        "lessons": st.dictionaries(NAMES, LESSON),
    }
)


@given(a=PROGRESS, b=PROGRESS, c=PROGRESS)
@settings(max_examples=60, deadline=None)
def test_merging_is_a_union_in_any_order(a, b, c):
    assert merged(a, a) == a
    assert merged(a, b) == merged(b, a)
    assert merged(a, merged(b, c)) == merged(merged(a, b), c)
    both = merged(a, b)
    assert set(both["exercises"]) == {*a["exercises"], *b["exercises"]}
    for name, row in a["exercises"].items():
        assert STATES.index(both["exercises"][name]["state"]) >= STATES.index(row["state"])


def test_another_folders_file_is_merged(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    record_check(here, "00", "a", False)
    record_check(there, "00", "b", True)
    record_lesson(there, "05", cell=4, of=8)
    merge_file(here, there / ".minidsv3" / "progress.json")
    assert state(here) == "passing"
    assert lesson_cell(here, "05") == 4
    with pytest.raises(ValueError, match="expected a progress file"):
        merge_file(here, tmp_path / "none.json")


def test_a_file_of_the_first_schema_is_read(tmp_path):
    place = tmp_path / ".minidsv3" / "progress.json"
    place.parent.mkdir()
    old = {"schema": "minidsv3.progress/1", "lessons": {"00": {"cell": 4, "of": 15}}}
    old["exercises"] = {"00": {"state": "failing", "attempts": 2, "source": "5f1d"}}
    place.write_text(json.dumps(old))
    assert exercise_row(read_progress(tmp_path), "00")["hints"] == 0
    assert lesson_cell(tmp_path, "00") == 4
