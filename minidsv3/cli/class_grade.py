"""`minidsv3 class grade`: a folder of submissions graded, and written as JSON, JUnit XML and CSV.

A bar on a terminal, a line every few seconds elsewhere, both on stderr. A run that was stopped goes on by
itself. Exit 0 when everything is graded, however the students did; 1 if something is left to be graded by
hand. With --json the table that --report writes goes to stdout.

Does: options, progress, files. Does not: grade (`minidsv3.learn.classroom`).

Next: minidsv3.cli.class_report
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidsv3.learn.classroom.batch import Graded

__all__ = ["EXAMPLES", "SUMMARY", "Ticker", "arguments", "main"]

SUMMARY = "Grade every submission in a folder; what was graded before and is unchanged is not graded again."
EXAMPLES = [
    "minidsv3 class grade autumn/submissions --report grades.json",
    "minidsv3 class grade autumn/submissions --report out.json --junit out.xml --csv out.csv --jobs 4",
    "minidsv3 class grade autumn/submissions --report out.json --anonymous",
]
IN_PLACE, IN_LINES = 0.2, 5.0  # seconds between two reports
BAR = 24  # characters


def arguments(parser: argparse.ArgumentParser) -> None:
    """The action's options."""
    parser.add_argument(
        "submissions", type=Path, metavar="SUBMISSIONS", help="a folder: a folder or a .py file a student"
    )
    parser.add_argument(
        "--key", type=Path, metavar="PATH", help="key.toml (../instructor/key.toml from SUBMISSIONS)"
    )
    parser.add_argument("--report", type=Path, metavar="JSON", help="write everything, for `class report`")
    parser.add_argument("--junit", type=Path, metavar="XML", help="write JUnit XML, for CI")
    parser.add_argument("--csv", type=Path, metavar="CSV", help="write a row for each property")
    parser.add_argument("--jobs", type=_jobs, metavar="N", help="side by side (one a core)")
    parser.add_argument("--anonymous", action="store_true", help="ids for names in everything written")
    parser.add_argument("--again", action="store_true", help="grade what was graded before once more")
    parser.add_argument("--json", action="store_true", help="print the report, not a summary")


def _jobs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 256, got {text!r}")
    return int(text)


def main(args: argparse.Namespace) -> int:
    """Grade, write, say how it went."""
    from minidsv3.checkpoint.atomic import writing
    from minidsv3.cli.terminal import print_json
    from minidsv3.learn.classroom import csv_text, grade_class, json_text, junit_text, plan
    from minidsv3.learn.classroom.batch import is_ungraded

    texts = {args.report: json_text, args.junit: junit_text, args.csv: csv_text}
    places = {place: text for place, text in texts.items() if place is not None}
    for place in places:
        _can_be_written(place)
    planned = plan(args.submissions, args.key, {place.absolute() for place in places})
    if planned.home is None:
        _say_no_key([one.exercise for one in planned.key.exercises])
    ticker = Ticker()
    try:
        table = grade_class(planned, args.jobs, args.anonymous, args.again, progress=ticker)
    finally:
        ticker.end()
    for place, text in places.items():
        with writing(place) as file:
            file.write(text(table).encode())
    ungraded = [row["student"] or row["id"] for row in table["submissions"] if is_ungraded(row)]
    if args.json:
        print_json(table)
    else:
        _say(table, ungraded, list(places))
    return 1 if ungraded else 0


def _can_be_written(place: Path) -> None:
    """ValueError where a report could not be left, before an hour of grading."""
    folder = place.resolve().parent
    if not folder.is_dir():
        raise ValueError(f"expected a folder for {place}, found none")
    if place.is_dir():
        raise ValueError(f"expected a file for a report, got the folder {place}")
    there = place.exists() and not place.is_file()  # a pipe or a device
    if not os.access(place if there else folder, os.W_OK):
        raise OSError(f"{place} cannot be written")


def _say_no_key(exercises: list[str]) -> None:
    print(
        f"no key.toml found: grading {', '.join(exercises)} at the numbers that students see, nothing is kept"
        " for the next run; `minidsv3 class new` makes a key, --key names one",
        file=sys.stderr,
    )


def _say(table: dict[str, Any], ungraded: list[str], places: list[Path]) -> None:
    """A few lines: how many, where it is written, what is left to do."""
    from minidsv3.cli.terminal import word

    rows = table["submissions"]
    print(f"{len(rows)} submissions graded")
    for i, one in enumerate(table["exercises"]):
        found = [row["exercises"][i]["status"] for row in rows]
        counts = ", ".join(f"{found.count(status)} {status}" for status in dict.fromkeys(sorted(found)))
        print(f"  exercise {one['exercise']}, {one['title']}: {counts}")
    for name in ungraded:
        print(f"to be graded by hand: {name}")
    for place in places:
        print(f"wrote {word(place)}")
    if not places:
        print("nothing written; --report, --csv and --junit do")
    elif places[0].suffix == ".json":
        print(f"next: minidsv3 class report {word(places[0])}")


class Ticker:
    """How many of how many are done: a bar in place, or a line every few seconds."""

    def __init__(self) -> None:
        from minidsv3.cli.terminal import draws_in_place, talk

        self.console = talk()
        self.in_place = draws_in_place(self.console)
        self.began = self.said = time.monotonic()
        self.kept = 0
        self.drawn = False

    def __call__(self, done: int, total: int, last: "Graded | None") -> None:
        """Say where it is, if that was not said just now."""
        now = time.monotonic()
        if last is None:
            self.began = now
        elif last.kept:
            self.kept += 1
        due = IN_PLACE if self.in_place else IN_LINES
        if now - self.said < due and last is not None and done < total:
            return
        self.said = now
        text = progress_line(done, total, self.kept, now - self.began, self._bar if self.in_place else None)
        if self.in_place:
            room = self.console.width - 1
            self.console.file.write("\r" + text[:room].ljust(room))
            self.console.file.flush()
            self.drawn = True
        else:
            self.console.print(text)

    def _bar(self, share: float) -> str:
        from minidsv3.show import Bar

        plain = "utf" not in (self.console.encoding or "").lower()
        return f"[{Bar(share, width=BAR).text(plain)}] "

    def end(self) -> None:
        """Leave the line."""
        if self.drawn:
            self.console.file.write("\n")
            self.console.file.flush()


def progress_line(done: int, total: int, kept: int, seconds: float, bar: Any = None) -> str:
    """One report.

    >>> progress_line(50, 200, 10, 20.0)
    'graded 50 of 200 (10 from before), 75 s left'
    """
    from minidsv3.show.numbers import duration

    fresh = done - kept
    left = f", {duration((total - done) * seconds / fresh)} left" if fresh and done < total else ""
    before = f" ({kept} from before)" if kept else ""
    return f"{bar(done / total) if bar else ''}graded {done} of {total}{before}{left}"
