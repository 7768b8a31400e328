"""`minidsv3 checkpoint`: model folders looked at, converted, and made to measure with.

Each action is a command of its own with its own options, in a file of its own, imported when it is the one
asked for. Progress goes to stderr: a line drawn in place on a terminal, else a line every few seconds.

Does: find the action, parse, draw progress. Does not: open a folder (`minidsv3.checkpoint`).

    >>> from minidsv3.cli import main as minidsv3
    >>> minidsv3(["checkpoint", "shwo"])
    2
    >>> minidsv3(["checkpoint", "show", "no/such/folder"])
    2

Next: minidsv3.cli.checkpoint_show
"""

import argparse
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from minidsv3.cli import one_of, parser_of, take_one_of

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["ACTIONS", "EXAMPLES", "SUMMARY", "Ticker", "arguments", "main", "present"]

SUMMARY = "Model folders: what is in one, one made of another, one of the published layout made of noise."
EXAMPLES = [
    "minidsv3 checkpoint show runs/nano-0/model",
    "minidsv3 checkpoint convert DeepSeek-V3 DeepSeek-V3-bf16 --to bf16",
    "minidsv3 checkpoint synthesise v3-layout --preset v3 --fill none",
]
ACTIONS = {
    "show": "parts, counts, and whether they are what the config says",
    "convert": "fp8, bf16, fp32; Hugging Face's names and DeepSeek's own",
    "synthesise": "a folder in the published layout, with random numbers",
}
IN_PLACE, IN_LINES = 0.2, 10.0  # seconds between two reports


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options: an action, and whatever that takes."""
    take_one_of(parser, "action", ACTIONS)


def main(args: argparse.Namespace) -> int:
    """Do it."""
    action = one_of(ACTIONS, args.action, "an action")
    module = import_module(f"minidsv3.cli.checkpoint_{action}")
    parser = parser_of(f"checkpoint {action}", module.SUMMARY, module.EXAMPLES)
    module.arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object, not text")
    code: int = module.main(parser.parse_args(args.rest))
    return code


def present(as_json: bool, page: "RenderableType", table: dict[str, Any]) -> None:
    """Print the page, in words where MINIDSV3_SCREEN_READER asks for that, or the table as JSON."""
    from minidsv3.cli.terminal import print_json, print_picture

    if as_json:
        print_json(table)
    else:
        print_picture(page)


class Ticker:
    """Progress of bytes: how many of how many, at which rate, and the time that is left at that rate."""

    def __init__(self, verb: str) -> None:
        from minidsv3.cli.terminal import draws_in_place, talk

        self.verb = verb
        self.console = talk()
        self.in_place = draws_in_place(self.console)
        self.began = self.said = time.monotonic()
        self.drawn = False

    def __call__(self, done: int, total: int, what: str) -> None:
        """Say where it is, if it was some time ago that this was said."""
        now = time.monotonic()
        if now - self.said < (IN_PLACE if self.in_place else IN_LINES):
            return
        self.said = now
        text = progress_line(self.verb, done, total, what, now - self.began)
        if self.in_place:
            room = self.console.width - 1
            self.console.file.write("\r" + text[:room].ljust(room))
            self.console.file.flush()
            self.drawn = True
        else:
            self.console.print(text)

    def end(self) -> None:
        """Leave the line."""
        if self.drawn:
            self.console.file.write("\r" + " " * (self.console.width - 1) + "\r")
            self.console.file.flush()


def progress_line(verb: str, done: int, total: int, what: str, seconds: float) -> str:
    """One report.

    >>> progress_line("converting", 25 * 10**9, 10**11, "model-00007-of-000163.safetensors", 50.0)
    'converting 25.0 GB of 100 GB, 500 MB/s, 2 min 30 s left: model-00007-of-000163.safetensors'
    """
    from minidsv3.show.numbers import duration, size

    rate = done / max(seconds, 1e-3)
    left = f", {duration((total - done) / rate)} left" if done else ""
    return f"{verb} {size(done)} of {size(total)}, {size(rate)}/s{left}: {what}"
