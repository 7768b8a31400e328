"""200 submissions, 20 of them broken, graded by the command on two workers; and a run that is killed.

Prints the time and the most memory that the command and everything below it held together.
"""

import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import submissions

from minidsv3.learn.classroom import new_class, read_grades
from minidsv3.learn.exercises import find_lesson

EXERCISES = [find_lesson("00"), find_lesson("05")]
BROKEN = [*submissions.BROKEN_CODE, *submissions.BROKEN_FILES][:20]
MOST_SECONDS = 300
MOST_MEMORY = 2**30  # bytes


def command(*words):
    code = "import sys; from minidsv3.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, "class", *map(str, words)]


def parents_of():
    """Process -> its parent, of all that there are."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # it has just ended
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def running(pids):
    """Those of the processes that have not ended."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            found += [pid] if state != "Z" else []
    return found


def held_below(pid):
    """Bytes of memory that a process and all below it hold."""
    parents, below, pages = parents_of(), {pid}, 0
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    for one in below:
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measured(words):
    """Run the command  ->  exit code, stderr, seconds, most bytes held."""
    began, most = time.monotonic(), 0
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    said = []
    reader = threading.Thread(target=lambda: said.append(process.stderr.read()))
    reader.start()
    while process.poll() is None:
        most = max(most, held_below(process.pid))
        time.sleep(0.2)
    reader.join()
    process.stderr.close()
    return process.returncode, said[0], time.monotonic() - began, most


def fill(folder, count, draw):
    """`count` submissions, six in ten exercises right  ->  expected statuses."""
    expected = {}
    for i in range(count):
        sources = {}
        for lesson in EXERCISES:
            right = draw.random() < 0.6
            source = lesson.solution if right else draw.choice(list(lesson.wrong.values()))
            sources[lesson] = f"{source}\n# student {i}\n"
            expected[f"student {i:03}", lesson.id] = "passed" if right else "failed"
        submissions.hand_in(folder, f"student {i:03}", sources)
    return expected


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    return new_class(
        tmp_path_factory.mktemp("class") / "autumn", [one.id for one in EXERCISES], random.Random(7)
    )


@pytest.mark.slow  # 3 min
def test_200_submissions_are_graded_and_none_stops_the_batch(begun):
    expected = fill(begun.submissions, 180, random.Random(7))
    submissions.break_in(begun.submissions, BROKEN)
    places = [begun.instructor / name for name in ("out.json", "out.xml", "out.csv")]
    words = ["--report", places[0], "--junit", places[1], "--csv", places[2], "--jobs", "2"]
    code, said, seconds, most = measured(command("grade", begun.submissions, *words))
    print(f"\n200 submissions: {seconds:.0f} s, {most / 2**20:.0f} MiB")
    assert code == 0, said
    table = read_grades(places[0])
    rows = {
        (row["student"], one["exercise"]): one for row in table["submissions"] for one in row["exercises"]
    }
    assert len(table["submissions"]) == 200
    assert {key: rows[key]["status"] for key in expected} == expected
    broken = [one for key, one in rows.items() if key not in expected]
    assert len(broken) == 2 * len(BROKEN)
    assert {one["status"] for one in broken} <= {"failed", "missing", "unreadable"}
    assert_agreement(table, *places[1:])
    assert seconds < MOST_SECONDS
    assert most < MOST_MEMORY


def assert_agreement(table, junit, csv_place):
    told = [
        (row["id"], one["exercise"], found["name"], found["status"], found["points"])
        for row in table["submissions"]
        for one in row["exercises"]
        for found in one["properties"]
    ]
    with csv_place.open(newline="") as file:
        cells = [
            (c["id"], c["exercise"], c["property"], c["status"], float(c["points"]))
            for c in csv.DictReader(file)
        ]
    assert cells == told
    cases = [
        (suite.get("id"), case.get("classname").split()[1], case.get("name"), _status(case))
        for suite in ET.parse(junit).getroot()
        for case in suite.iter("testcase")
    ]
    assert cases == [one[:4] for one in told]


def _status(case):
    return (
        {"failure": "failed", "error": "failed", "skipped": "skipped"}[case[0].tag] if len(case) else "passed"
    )


@pytest.mark.slow  # 20 s
def test_a_killed_run_goes_on_where_it_was(begun, tmp_path):
    folder, home = tmp_path / "submissions", tmp_path / "instructor"
    fill(folder, 12, random.Random(8))
    home.mkdir()
    (home / "key.toml").write_text((begun.instructor / "key.toml").read_text())
    report = tmp_path / "out.json"
    process = subprocess.Popen(
        command("grade", folder, "--report", report, "--jobs", "2"), stderr=subprocess.DEVNULL
    )
    journal, until = home / "journal.jsonl", time.monotonic() + 60
    while time.monotonic() < until and rows_in(journal) < 4:
        time.sleep(0.05)
    below = [pid for pid, parent in parents_of().items() if parent == process.pid]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(below) >= 2
    until = time.monotonic() + 20
    while running(below) and time.monotonic() < until:
        time.sleep(0.1)
    assert not running(below)
    kept = rows_in(journal)
    assert 4 <= kept < 12
    assert not report.exists()
    found = subprocess.run(
        command("grade", folder, "--report", report, "--jobs", "2"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"({kept} from before)" in found.stderr
    assert len(read_grades(report)["submissions"]) == 12
    assert rows_in(journal) == 12


def rows_in(journal):
    lines = journal.read_text().splitlines(keepends=True) if journal.exists() else []
    return sum("row" in json.loads(line) for line in lines if line.endswith("\n"))
