"""The legend of a picture as a table: keys in the picture's colours, the columns that fit; marks for bounds.

A key is a letter in a chart or the character that fills a bar; a row says what it stands for, with numbers.
Where there is no room for all columns beside each other they stand in parts below each other, keys again.
What bounds an op or a step has a mark, a word and a colour that all pictures of costs share.

Does: choose columns, lay out. Does not: know the pictures (`roofline`, `waterfall`, `kv_growth`).

    >>> marked("memory", plain=True), marked("memory", plain=False)
    ('= memory', '▒ memory')
    >>> rows = [{"": "A", "op": "mla.out", "share": "40.0%"}, {"": "B", "op": "gate.logits", "share": "1.0%"}]
    >>> width_of(rows), width_of([without(row, "share") for row in rows])
    (21, 14)

Next: minidsv3.show.roofline
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from rich.console import ConsoleOptions, RenderableType
from rich.text import Text

from minidsv3.show.tables import in_parts, plain_table

__all__ = ["COLOURS", "legend", "mark", "marked", "renamed", "width_of", "without"]

Rows = Sequence[Mapping[str, str]]
KEYED = ("", "bound", "by")  # columns in the colour of their row
# what bounds an op: its mark, the same in ASCII, its colour
MARKS = {"compute": "█", "memory": "▒", "network": "╱", "nvlink": "╲", "none": " "}
PLAIN_MARKS = {"compute": "#", "memory": "=", "network": "/", "nvlink": "\\", "none": " "}
COLOURS = {"compute": "cyan", "memory": "yellow", "network": "magenta", "nvlink": "blue", "none": "default"}


def legend(
    rows: Rows, colours: Sequence[str], options: ConsoleOptions, right: Collection[str]
) -> Iterator[RenderableType]:
    """The table.  rows: text by column, the first column being the key, the second what it stands for.

    colours: of the rows, fewer if the last have none. right: columns flush right.
    """
    if width_of(rows) > options.max_width:
        yield from in_parts(rows, options, right=right, keys=2)
        return
    table = plain_table()
    for name in rows[0]:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    for i, row in enumerate(rows):
        colour = colours[i] if i < len(colours) else ""
        table.add_row(*(Text(text, colour if name in KEYED else "") for name, text in row.items()))
    yield table


def width_of(rows: Rows) -> int:
    """Columns of the screen that a table of these rows takes."""
    return sum(max(len(name), *(len(row[name]) for row in rows)) + 2 for name in rows[0]) - 2


def without(row: Mapping[str, str], name: str) -> dict[str, str]:
    """A row without one column."""
    return {key: text for key, text in row.items() if key != name}


def renamed(row: Mapping[str, str], name: str, new: str, text: str) -> dict[str, str]:
    """A row with another head and text in the place of one column."""
    return {new if key == name else key: text if key == name else value for key, value in row.items()}


def mark(bound: str, plain: bool) -> str:
    """The character of what bounds an op.  plain: in ASCII."""
    return (PLAIN_MARKS if plain else MARKS)[bound]


def marked(bound: str, plain: bool) -> str:
    """What bounds an op, as mark and word."""
    return f"{mark(bound, plain)} {bound}"
