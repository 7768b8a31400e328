"""The command line: one file per command, imported only when it is the one asked for.

A command module has `SUMMARY` (one sentence), `EXAMPLES` (lines), `arguments(parser)` and `main(args) ->
int`. Results go to stdout, talk to stderr. Exit codes: 0 ok, 1 a check or lesson failed, 2 usage (a
`ValueError` is bad input), 3 environment or limits (a `ValueError` with such an `exit_code`: a model or
tokenizer file that is refused), 130 interrupted.

Does: parse, dispatch, turn errors into one line and a code. Does not: compute.

    >>> main(["nonsense"])  # doctest: +ELLIPSIS
    2

Next: minidsv3.cli.run
"""

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

__all__ = ["COMMANDS", "EnvironmentProblem", "Parser", "main", "one_of", "parser_of", "take_one_of"]

COMMANDS = {
    "run": "read text, train, evaluate, write text, print the bill",
    "predict": "continue a prompt with a trained model",
    "trace": "one row for every op of a forward pass, priced",
    "step": "the debugger: op by op, back, change values, compare",
    "tokenize": "text to pieces, ids and bytes",
    "checkpoint": "show, convert and synthesise model folders",
    "ops": "the op catalogue: equations, formulas, signatures",
    "bill": "what a training and a decode step cost on a machine",
    "reproduce": "every published figure beside what its own inputs give",
    "show": "pictures and experiments of the low precision",
    "lesson": "list and play the lessons",
    "init": "write the exercises into a folder to work in",
    "check": "check exercises, now or whenever they are saved",
    "hint": "one more hint for an exercise",
    "solution": "one way to solve an exercise, once yours passes",
    "reset": "begin an exercise anew",
    "progress": "exercises done, ideas met",
    "class": "for teachers: hand out, grade, report",
    "dev": "for authors: check lessons and exercises",
}


MODULES = {"class": "classes"}
"""Commands whose module is not called as they are."""

SETTINGS = {
    "--screen-reader": ("MINIDSV3_SCREEN_READER", "words in place of pictures, nothing drawn again in place"),
    "--no-color": ("NO_COLOR", "no colour"),
    "--width": ("COLUMNS", "columns to draw for"),
}
NARROWEST = 20  # columns; pictures are made for 60 and more


class EnvironmentProblem(Exception):
    """Something outside the program: a full disk, a missing file system feature, a diverged run. Exit 3."""


class Parser(argparse.ArgumentParser):
    """Of a command, or of a command's own actions."""

    def error(self, message: str) -> NoReturn:
        """End with 2, the message, and the way to the help."""
        self.exit(2, f"{self.prog}: {message}\ntry: {self.prog} --help\n")


def _top_parser() -> Parser:
    width = max(map(len, COMMANDS))
    table = "\n".join(f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items())
    parser = Parser(
        prog="minidsv3",
        description="An educational interpreter of DeepSeek-V3 in explicit NumPy.",
        epilog=f"commands:\n{table}\n\nexamples:\n  minidsv3 run\n  minidsv3 ops mla.kv_down\n"
        "  minidsv3 lesson run 00\n\n`minidsv3 COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="minidsv3 [--version] [--screen-reader] [--no-color] [--width N] COMMAND ...",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    for name, (variable, told) in SETTINGS.items():
        parser.add_argument(name, **_kind(variable), help=f"{told}, as {variable} does")
    return parser


def _kind(variable: str) -> dict[str, Any]:
    return {"metavar": "N"} if variable == "COLUMNS" else {"action": "store_true"}


def _settle(words: list[str]) -> list[str]:
    """Put the options in front of the command into the environment, where they are read  ->  the rest."""
    while words and (name := words[0].partition("=")[0]) in SETTINGS:
        first, *words = words
        variable, _ = SETTINGS[name]
        value = "1"
        if variable == "COLUMNS":
            value, words = (
                (first.partition("=")[2], words) if "=" in first else ((words or [""])[0], words[1:])
            )
            if not value.isdecimal() or int(value) < NARROWEST:
                raise ValueError(f"expected --width and columns from {NARROWEST} on, got {value!r}")
        elif "=" in first:
            raise ValueError(f"expected {name} without a value, got {first!r}")
        os.environ[variable] = value
    return words


def _command_parser(name: str) -> tuple[Parser, object]:
    module = import_module(f"minidsv3.cli.{MODULES.get(name, name)}")
    parser = parser_of(name, module.SUMMARY, module.EXAMPLES)
    module.arguments(parser)
    return parser, module


# ---- for commands whose first word says which of several ------------------------------------------------


def parser_of(name: str, summary: str, examples: Sequence[str]) -> Parser:
    """The parser of a command, or of one of its actions (`checkpoint show`)."""
    lines = "\n".join(f"  {line}" for line in examples)
    return Parser(
        prog=f"minidsv3 {name}",
        description=summary,
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def take_one_of(parser: argparse.ArgumentParser, what: str, table: Mapping[str, str]) -> None:
    """Let the command take a word of the table, and whatever that takes.  what: "action", "subject"."""
    width = max(map(len, table))
    rows = "\n".join(f"  {name:{width}}  {summary}" for name, summary in table.items())
    closing = f"`{parser.prog} {what.upper()} --help` tells more."
    parser.epilog = f"{what}s:\n{rows}\n\n{parser.epilog}\n\n{closing}"
    parser.usage = f"{parser.prog} {what.upper()} ..."
    parser.add_argument(what, nargs="?", metavar=what.upper(), help="which")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def one_of(table: Mapping[str, Any], word: str | None, expected: str) -> str:
    """The word; ValueError with those that there are, or the near ones, if the table lacks it."""
    from minidsv3.config import near

    if word is None:
        raise ValueError(f"expected {expected}: {', '.join(table)}")
    if word not in table:
        raise ValueError(f"expected {expected}, got {word!r}: {near(word, list(table))}")
    return word


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the encoding has not is written as an escape
            stream.reconfigure(errors="backslashreplace")
    try:
        return _dispatch(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ValueError as error:
        print(f"minidsv3: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    except ModuleNotFoundError as error:
        if (error.name or "minidsv3").startswith("minidsv3"):
            raise
        print(
            f"minidsv3: expected the package {error.name}, which pip installs with this one", file=sys.stderr
        )
        return 3
    except (EnvironmentProblem, OSError, MemoryError) as error:
        print(f"minidsv3: {str(error) or type(error).__name__}", file=sys.stderr)
        return 3


def _dispatch(words: list[str]) -> int:
    words = _settle(words)
    if not words or words[0] in ("-h", "--help"):
        _top_parser().print_help()
        return 0
    if words[0] == "--version":
        from minidsv3 import __version__

        print(f"minidsv3 {__version__}")
        return 0
    name = words[0]
    parser, module = _command_parser(one_of(COMMANDS, name, "a command"))
    code: int = module.main(parser.parse_args(words[1:]))  # type: ignore[attr-defined]
    return code
