r"""The percent format: a Python file whose cells begin with `# %%`, as editors and Jupytext know it.

    # %% [markdown] A title
    # Prose, each line behind a number sign.

    # %% Another title  pause=true
    print("code")

On the marker line: `[markdown]` or nothing for code, a title, then at most four `key=value` options (quotes
around a value with blanks): `eq="10"`, `show="heat_map:c_KV"`, `fast=true`, `pause=true`. A file in this
format is plain Python, so it also runs without a player.

Does: text to cells and back. Does not: run them, read notebooks, keep triple-quoted markdown.

    >>> for cell in parse("# %% [markdown] Hello\n# *you*\n\n# %% Add  pause=true\nx = 1 + 1\n"):
    ...     print(cell.line, cell.kind, cell.title, cell.options, repr(cell.text))
    1 markdown Hello {} '*you*'
    4 code Add {'pause': 'true'} 'x = 1 + 1'

Next: minidsv3.learn.snapshot
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

__all__ = ["Cell", "parse", "render"]

MARKER = re.compile(r"# %%(?:\s+(?P<rest>.*))?$")
KIND = re.compile(r"\[(?P<kind>[^\]]*)\]\s*")
OPTION = re.compile(r'(?:^|\s+)(?P<key>[a-z_]+)=(?P<value>"[^"]*"|\S+)')
MOST_OPTIONS = 4


@dataclass(frozen=True)
class Cell:
    """One cell of a lesson."""

    kind: str  # "code" or "markdown"
    title: str
    text: str  # source, or prose without the number signs
    options: dict[str, str] = field(default_factory=dict)
    line: int = 1  # of the marker, counted from 1; the text begins on the next

    @property
    def equations(self) -> str:
        """The equations of the report that it is about."""
        return self.options.get("eq", "")

    @property
    def shows(self) -> str:
        """Pictures behind it, `KIND:NAME; …` (`minidsv3.learn.inspection`)."""
        return self.options.get("show", "")

    @property
    def fast(self) -> bool:
        """Whether it stops on the fast track."""
        return self.options.get("fast") == "true"

    @property
    def pauses(self) -> bool:
        """Whether it is read, and guessed at, before it runs."""
        return self.options.get("pause") == "true"


def parse(text: str) -> list[Cell]:
    """The cells of a file; ValueError with the line number where the format is broken."""
    cells: list[Cell] = []
    lines = text.split("\n")
    starts = [i for i, line in enumerate(lines) if MARKER.match(line)]
    for i, line in enumerate(lines[: starts[0] if starts else len(lines)]):
        if line.strip():
            raise ValueError(f"line {i + 1}: expected a cell marker '# %%' first, got {line!r}")
    for start, end in pairwise([*starts, len(lines)]):
        cells.append(_cell(lines[start], lines[start + 1 : end], start + 1))
    return cells


def _cell(marker: str, body: list[str], line: int) -> Cell:
    match = MARKER.match(marker)
    assert match is not None
    kind, title, options = _head(match["rest"] or "", line)
    while body and not body[-1].strip():
        body = body[:-1]
    if kind == "markdown":
        body = [_prose(text, line + 1 + i) for i, text in enumerate(body)]
    return Cell(kind, title, "\n".join(body), options, line)


def _head(rest: str, line: int) -> tuple[str, str, dict[str, str]]:
    """Kind, title and options of a marker line."""
    kind = "code"
    if match := KIND.match(rest):
        kind, rest = match["kind"], rest[match.end() :]
        if kind != "markdown":
            raise ValueError(f"line {line}: expected [markdown] or no brackets, got [{kind}]")
    found = list(OPTION.finditer(rest))
    title = rest[: found[0].start()] if found else rest
    if found and OPTION.sub("", rest[found[0].start() :]).strip():
        raise ValueError(f"line {line}: expected the title before the options, got {rest!r}")
    options = {match["key"]: match["value"].strip('"') for match in found}
    if len(found) > MOST_OPTIONS or len(options) < len(found):
        raise ValueError(f"line {line}: expected at most {MOST_OPTIONS} different options, got {rest!r}")
    return kind, title.strip(), options


def _prose(text: str, line: int) -> str:
    """A line of markdown without its number sign."""
    if text.strip() and text != "#" and not text.startswith("# "):
        raise ValueError(f"line {line}: expected '# ' in front of a line of markdown, got {text!r}")
    return text[2:]


def render(cells: Sequence[Cell]) -> str:
    """The file of some cells; `parse` gives them back, with new line numbers."""
    return "\n".join(_rendered(cell) for cell in cells)


def _rendered(cell: Cell) -> str:
    words = ["# %%", "[markdown]" if cell.kind == "markdown" else "", cell.title]
    words = [word for word in words if word]
    words += [f'{key}="{value}"' for key, value in cell.options.items()]
    lines = cell.text.split("\n") if cell.text else []
    if cell.kind == "markdown":
        lines = [f"# {line}".rstrip() for line in lines]
    return "\n".join([" ".join(words), *lines, ""])
