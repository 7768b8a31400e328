"""The progress file: readable, without paths, and a broken one is put aside."""

import json

from minidsv3.learn.progress import lesson_cell, read_progress, record_check, record_lesson


def test_what_was_recorded_is_read(tmp_path):
    record_lesson(tmp_path, "00", cell=3, of=9)
    record_lesson(tmp_path, "05", cell=1, of=2)
    assert (lesson_cell(tmp_path, "00"), lesson_cell(tmp_path, "05"), lesson_cell(tmp_path, "13")) == (
        3,
        1,
        0,
    )
    text = (tmp_path / ".minidsv3" / "progress.json").read_text()
    assert json.loads(text)["lessons"]["00"] == {"cell": 3, "of": 9}
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
