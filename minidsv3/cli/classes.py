"""`minidsv3 class`: exercises for a class handed out, graded and reported on.

Each action is a command of its own with its own options, in a file of its own, imported when it is the one
asked for. The command is called `class`, which no Python file can be imported as.

Does: find the action, parse. Does not: grade (`minidsv3.learn.classroom`).

    >>> from minidsv3.cli import main as minidsv3
    >>> minidsv3(["class", "grad"])
    2
    >>> minidsv3(["class", "grade", "no/such/folder"])
    2

Next: minidsv3.cli.class_new
"""

import argparse
from importlib import import_module

from minidsv3.cli import one_of, parser_of, take_one_of

__all__ = ["ACTIONS", "EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "For teachers: exercises handed out, submissions graded, what went wrong most."
EXAMPLES = [
    "minidsv3 class new autumn --exercises 00,05",
    "minidsv3 class grade autumn/submissions --report grades.json --csv grades.csv --junit grades.xml",
    "minidsv3 class report grades.json --csv marks.csv",
]
ACTIONS = {
    "new": "a folder for the students, one for you, one for what comes back",
    "grade": "every property of every exercise of every submission, for points",
    "report": "who got how far, and on which inputs it went wrong most",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options: an action, and whatever that takes."""
    take_one_of(parser, "action", ACTIONS)


def main(args: argparse.Namespace) -> int:
    """Do it."""
    action = one_of(ACTIONS, args.action, "an action")
    module = import_module(f"minidsv3.cli.class_{action}")
    parser = parser_of(f"class {action}", module.SUMMARY, module.EXAMPLES)
    module.arguments(parser)
    code: int = module.main(parser.parse_args(args.rest))
    return code
