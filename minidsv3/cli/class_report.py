"""`minidsv3 class report`: what the grades of a class say, in numbers, bars and counterexamples.

For each exercise how many passed, how points are spread and which property holds least; then the smallest
inputs on which the most students went wrong. With --json one object, `minidsv3.class_report/1`: submissions,
passed, marks (median, lowest, highest, spread in tenths), exercises (statuses, points, medians, properties),
counterexamples (exercise, property, sentence, inputs, notes, students, ids), ungraded. With --csv a row for
each student, for the gradebook; its columns are those of `minidsv3.marks.csv/1`.

Does: options, lines. Does not: count (`minidsv3.learn.classroom.summary`).

Next: minidsv3.cli.dev
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main", "report_lines"]

SUMMARY = "Who got how far, and on which inputs it went wrong most."
EXAMPLES = [
    "minidsv3 class report grades.json",
    "minidsv3 class report grades.json --csv marks.csv     # a row for each student",
    "minidsv3 class report grades.json --json",
]
MOST_SHOWN = 5  # counterexamples
Row = dict[str, Any]


def arguments(parser: argparse.ArgumentParser) -> None:
    """The action's options."""
    parser.add_argument("grades", type=Path, metavar="JSON", help="what `class grade --report` wrote")
    parser.add_argument("--csv", type=Path, metavar="CSV", help="write the marks, a row for each student")
    parser.add_argument("--all", action="store_true", help="every counterexample, not the commonest")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not text")


def main(args: argparse.Namespace) -> int:
    """Read, count, show."""
    from minidsv3.checkpoint.atomic import writing
    from minidsv3.cli.terminal import print_json, reads_aloud, results
    from minidsv3.learn.classroom import marks_csv, read_grades, summary

    table = read_grades(args.grades)
    found = summary(table)
    if args.csv is not None:
        with writing(args.csv) as file:
            file.write(marks_csv(table).encode())
    if args.json:
        print_json(found)
        return 0
    console = results()
    plain = "utf" not in (console.encoding or "").lower()
    width = 0 if reads_aloud() else min(console.width, 100)
    for line in report_lines(found, width, plain, None if args.all else MOST_SHOWN):
        console.print(line, soft_wrap=True)
    if args.csv is not None:
        console.print(f"wrote {args.csv}", soft_wrap=True)
    return 0


def report_lines(found: Row, width: int, plain: bool = False, most: int | None = None) -> Iterator[str]:
    """The report as lines. width: columns, 0 for no bars  plain: in ASCII  most: counterexamples shown."""
    marks = found["marks"]
    yield (
        f"{_counted(found['submissions'], 'submission')}, {found['passed']} passed everything; "
        f"marks from {marks['lowest']:g} to {marks['highest']:g}, median {marks['median']:g}"
    )
    yield from _histogram(marks["spread"], width, plain)
    for exercise in found["exercises"]:
        yield ""
        yield from _exercise(exercise, width, plain)
    yield from _counterexamples(found["counterexamples"], most)
    for name in found["ungraded"]:
        yield f"to be graded by hand: {name}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _bar(share: float, room: int, plain: bool) -> str:
    """A bar and two spaces, if there is room for one."""
    from minidsv3.show import Bar

    return Bar(share, width=room).text(plain).rstrip() if room >= 8 else ""


def _histogram(spread: list[int], width: int, plain: bool) -> Iterator[str]:
    """How many marks in each tenth; in words only the tenths that somebody is in."""
    highest = max(*spread, 1)
    if width:
        yield f"  {'mark':>9}  students"
    for i, count in enumerate(spread):
        tenth = f"{10 * i} to {10 * (i + 1)}"
        if width:
            yield f"  {tenth:>9}  {count:>4}  {_bar(count / highest, min(width - 20, 50), plain)}".rstrip()
        elif count:
            yield f"  marks {tenth}: {count}"


def _exercise(one: Row, width: int, plain: bool) -> Iterator[str]:
    others = ", ".join(f"{n} {status}" for status, n in one["statuses"].items() if status != "passed")
    yield f"exercise {one['exercise']}, {one['title']}: {one['passed']} of {one['of']} passed" + (
        f" ({others})" if others else ""
    )
    yield f"  points of {one['out_of']:g}: " + ", ".join(
        f"{row['points']:g} ({_counted(row['students'], 'student')})" for row in reversed(one["points"])
    )
    if one["median_attempts"] is not None or one["median_hints"] is not None:
        yield "  medians, as progress files say: " + ", ".join(
            f"{what} {one[f'median_{what}']:g}"
            for what in ("attempts", "hints")
            if one[f"median_{what}"] is not None
        )
    wide = max(len(p["name"]) for p in one["properties"])
    for p in one["properties"]:
        of = f"{p['passed']} of {one['of']}"
        bar = _bar(p["passed"] / max(one["of"], 1), min(width - wide - 16, 40), plain)
        yield f"  {p['name']:{wide}}  {of:>10}  {bar}".rstrip() if width else f"  {p['name']} held for {of}"


def _counterexamples(groups: list[Row], most: int | None) -> Iterator[str]:
    if groups:
        yield from ("", "commonest counterexamples, by the first property that failed")
    for number, group in enumerate(groups[:most], 1):
        count = _counted(group["students"], "student")
        yield f"{number}. exercise {group['exercise']}, {group['property']}: {count}"
        yield f"   {group['sentence']}"
        yield from (f"   {_input(name, packed)}" for name, packed in group["inputs"].items())
        yield from (f"   {note}" for note in group["notes"][:1])
    if most is not None and len(groups) > most:
        yield f"{len(groups) - most} more: --all"


def _input(name: str, packed: Row) -> str:
    """An array in a line, its rows between slashes."""
    values, shape = packed["values"], packed["shape"]
    said = f"{name} {shape} {packed['dtype']}"
    if values is None:
        return said
    texts = [value if isinstance(value, str) else f"{value:.6g}" for value in values]
    columns = shape[-1] if shape else 1
    rows = [" ".join(texts[i : i + columns]) for i in range(0, len(texts), columns or 1)]
    return f"{said}: {' / '.join(rows)}"
