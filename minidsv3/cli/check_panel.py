"""A check's result on a console: in a frame with colour, in plain lines, as words for a screen reader.

A frame is 22 lines at most, and between 60 and 120 columns wide.

Does: choose the form, colour it. Does not: write the words (`minidsv3.learn.panel`); colour says nothing
that they do not.

Next: minidsv3.cli.check_watch
"""

from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.text import Text

from minidsv3.cli.terminal import reads_aloud
from minidsv3.learn.panel import LINES, panel, spoken
from minidsv3.learn.result import CheckResult

__all__ = ["print_result"]

STYLES = {"  passed": "green", "  failed": "bold red", "  skipped": "dim", "expected:": "bold"}
FRAME = 4, 2  # columns and lines that the frame takes
NARROW, WIDE = 60, 120  # columns between which a panel is laid out


def print_result(console: Console, result: CheckResult) -> None:
    """One result, in the form that the console is for."""
    width = min(max(console.width, NARROW), WIDE)
    if reads_aloud():
        _plain(console, spoken(result))
    elif console.is_terminal and not console.is_dumb_terminal:
        console.print(_framed(result, width))
    else:
        _plain(console, panel(result, width if console.width < WIDE else 80))


def _plain(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def _framed(result: CheckResult, width: int) -> RenderableType:
    """The plain panel in a frame."""
    title, *lines = panel(result, width - FRAME[0], LINES + 1 - FRAME[1])
    text = Text("\n").join(_line(line) for line in lines)
    border = "green" if result.passed else "red"
    return Panel(text, title=Text(title), title_align="left", border_style=border, width=width)


def _line(line: str) -> Text:
    style = next((style for start, style in STYLES.items() if line.startswith(start)), "")
    text = Text(line, style=style)
    text.highlight_regex(r"(?<=[\d.naif])\*(?= |$)|\S+\*(?= |$)", "bold red")
    return text
