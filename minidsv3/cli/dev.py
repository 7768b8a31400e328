"""`minidsv3 dev check`: what a lesson has to keep before students meet it, checked for its author.

One line a lesson; under it what breaks a rule and what to do about it. With --json one object, with every
wrong solution and how it was found out.

Does: print. Does not: examine (`minidsv3.learn.authoring`).

This is the last page of the book.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidsv3.learn.authoring import Report

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "For authors: whether lessons and exercises keep what students count on."
EXAMPLES = [
    "minidsv3 dev check                  # all lessons",
    "minidsv3 dev check 05 --wrong       # how each wrong solution is found out",
    "minidsv3 dev check --json",
]
SCHEMA = "minidsv3.dev-check/1"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="every rule on the lessons, exit 1 if one is broken")
    check.add_argument("lesson", nargs="*", metavar="LESSON", help="numbers or names; none: all")
    check.add_argument("--wrong", action="store_true", help="list the wrong solutions too")
    check.add_argument("--json", action="store_true", help="one JSON object")


def main(args: argparse.Namespace) -> int:
    """Examine; 0 if every lesson keeps every rule, else 1."""
    from minidsv3.cli import COMMANDS
    from minidsv3.learn.authoring import examine
    from minidsv3.learn.exercises import find_lesson, lessons

    chosen = [find_lesson(name) for name in args.lesson] or list(lessons())
    reports = []
    for report in examine(chosen, COMMANDS):
        reports.append(report)
        if not args.json:
            print("\n".join(_lines(report, args.wrong)), flush=True)
    if args.json:
        _print_json(reports)
    return 1 if any(report.findings for report in reports) else 0


def _lines(report: "Report", with_wrong: bool) -> list[str]:
    from minidsv3.show.numbers import counted

    lesson, caught = report.lesson, report.caught
    state = "ok" if not report.findings else f"{len(report.findings)} to correct"
    slowest = max((one.seconds for one in caught), default=0.0)
    pictures = counted(report.run.pictures, "picture")
    said = f"{lesson.name}: {state}; runs in {report.run.seconds:.1f} s, {pictures}"
    found = [f"{said}; {counted(len(caught), 'wrong solution')}, the slowest caught in {slowest:.1f} s"]
    for one in caught if with_wrong else ():
        found.append(f"  {one.name}: by {one.by or 'nothing'}, {one.elements} elements, {one.seconds:.1f} s")
    for finding in report.findings:
        found += [f"  {finding.rule}  {finding.where}  {finding.says}", f"    -> {finding.do}"]
    return found


def _print_json(reports: Sequence["Report"]) -> None:
    from minidsv3.cli.terminal import print_json

    passed = not any(report.findings for report in reports)
    print_json({"schema": SCHEMA, "passed": passed, "lessons": [report.to_dict() for report in reports]})
