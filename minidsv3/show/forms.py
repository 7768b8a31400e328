"""The five forms of every picture, the palettes they share, and what stands in for a glyph nobody can write.

    colour       true colours          no colour   characters alone say the same
    16 colours   the terminal's own    ascii       the same where nothing but ASCII can be written
    words        a record a line for screen readers: no boxes, no bars

A palette has nine steps, ordered by lightness; each has a twin among the 16 colours and two glyphs. rich
swaps its own boxes where an encoding lacks them; what else the encoding lacks is written as its twin.

Does: render, choose colours and glyphs, run a module's demo. Does not: draw.

    >>> in_form("a bar: ███", "ascii", width=20), in_words("two words")
    ('a bar: ###', 'two words')
    >>> SEQUENTIAL.step(0.5), SEQUENTIAL.glyph(1.0), DIVERGING.glyph(0.0, plain=True)
    (4, '█', 'd')

Next: minidsv3.show.chart
"""

import argparse
import codecs
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rich.color import Color
from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

__all__ = [
    "DIVERGING",
    "FORMS",
    "INKS",
    "SEQUENTIAL",
    "Palette",
    "alphabet",
    "contrast",
    "in_form",
    "in_words",
    "ink_on",
    "lightness",
    "off_screen",
    "protected",
    "shown",
]

FORMS = ("colour", "16 colours", "no colour", "ascii", "words")
_SYSTEMS = {"colour": "truecolor", "16 colours": "standard"}
# text is text, and the reader's environment changes nothing
PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "emoji": False, "_environ": {}}


# ---- forms ------------------------------------------------------------------------------------------------


class _Encoded(io.StringIO):
    """A text file that claims an encoding, by which rich and our pictures choose their alphabet."""

    def __init__(self, encoding: str) -> None:
        super().__init__(newline="\n")
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


def in_form(picture: RenderableType, form: str, width: int = 80, encoding: str = "utf-8") -> str:
    """The picture as text in one of `FORMS`.

    width: columns; words are not broken. encoding: of where it will be written; other than UTF means ASCII.
    """
    if form not in FORMS:
        raise ValueError(f"expected one of the forms {', '.join(FORMS)}, got {form!r}")
    encoding = "ascii" if form == "ascii" else encoding
    if form == "words":
        return _written(in_words(picture), encoding)
    return off_screen(picture, width, encoding, _SYSTEMS.get(form))


def off_screen(
    picture: RenderableType, width: int, encoding: str = "utf-8", system: str | None = None
) -> str:
    """The picture as a console of that width, encoding and colour system writes it, no line ending in spaces.

    system: "truecolor", "standard" (16 colours) or None.
    """
    file = _Encoded(encoding)
    options: dict[str, Any] = {"force_terminal": system is not None, "color_system": system}
    console = Console(file=file, width=width, legacy_windows=False, **options, **PLAIN)
    console.print(picture)
    lines = (line.rstrip() for line in file.getvalue().split("\n"))
    return _written("\n".join(lines).rstrip("\n"), encoding)


def in_words(picture: RenderableType) -> str:
    """The picture for those who hear it: its `describe()`; a text as it is; a table row by row."""
    if hasattr(picture, "describe"):
        return str(picture.describe())
    if isinstance(picture, str | Text):
        return str(picture)
    if isinstance(picture, Table):
        return "\n".join(_rows_in_words(picture))
    if isinstance(picture, Group | Columns):
        return "\n".join(filter(None, map(in_words, picture.renderables)))
    if isinstance(picture, Padding):
        return in_words(picture.renderable)
    return off_screen(picture, width=10_000, encoding="ascii")


def _rows_in_words(table: Table) -> Iterator[str]:
    """Each row as `head value, head value`, empty cells left out."""
    if table.title:
        yield in_words(table.title)
    heads = [in_words(column.header).strip() for column in table.columns]
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        said = zip(heads, (" ".join(in_words(cell).split()) for cell in cells), strict=True)
        yield ", ".join(f"{head} {value}".strip() for head, value in said if value)


def shown(picture: RenderableType, arguments: Sequence[str] | None = None) -> None:
    """The main of a module's demo: `python -m minidsv3.show.NAME [--form FORM] [--width COLUMNS]`.

    Without --form as the terminal can.  arguments: those of the command line if None.
    """
    parser = argparse.ArgumentParser(description="A picture of computed data.")
    parser.add_argument("--form", choices=FORMS, help="how it is drawn (as the terminal can)")
    parser.add_argument("--width", type=int, help="columns (the terminal's)")
    asked = parser.parse_args(arguments)
    file = protected(sys.stdout)
    console = Console(file=file, width=asked.width, markup=False, highlight=False, emoji=False)
    if asked.form is None:
        console.print(picture)
    else:
        file.write(in_form(picture, asked.form, console.width, file.encoding) + "\n")


# ---- glyphs -----------------------------------------------------------------------------------------------

# an ASCII character -> what it stands in for where an encoding lacks that, one for one, so that widths stay
STANDS_FOR = {
    "#": "█▉▊▋▌▐▀▇▓■▪",
    "_": "▁␣",
    ".": "▂░·▫",
    "-": "▃─╌┄–—−━┈",
    "+": "▅▒┌┐└┘├┤┬┴┼╭╮╯╰┏┓┗┛┣┫┳┻╋╔╗╚╝",
    "*": "▆•✓◆",
    "|": "│┃║┆▍▎▏｜",
    "=": "▄═≈",
    "o": "●○◇□",
    "x": "×✗",
    "^": "▲↑",
    "v": "▼↓",
    ">": "→▶⟩≥",
    "<": "←◀⟨≤",
    "~": "…↔",
    "/": "╱",
    "\\": "╲",
    "n": "⏎",
    "'": "‘’",
    '"': "“”",
    "0": "⁰",
    "2": "²",
    "3": "³",
}
TWINS = str.maketrans({glyph: twin for twin, glyphs in STANDS_FOR.items() for glyph in glyphs})
ERRORS = "minidsv3.twins"  # name of the error handler below


def _twin(error: UnicodeError) -> tuple[str, int]:
    """For a character that an encoding lacks its twin; its escape if it has none."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(c if c.isascii() else ascii(c)[1:-1] for c in text.translate(TWINS)), error.end


codecs.register_error(ERRORS, _twin)


def _written(text: str, encoding: str) -> str:
    """The text as a file of that encoding shows it."""
    return text.encode(encoding, ERRORS).decode(encoding)


def protected(file: TextIO) -> TextIO:
    """The same file, which no glyph can stop from now on, whatever its encoding."""
    if isinstance(file, io.TextIOWrapper):
        file.reconfigure(errors=ERRORS)
    return file


def alphabet(encoding: str, *ladder: str) -> str:
    """The first of several alphabets that an encoding can write, the last one in any case.

    >>> alphabet("utf-8", "▁▄█", "_-#"), alphabet("cp437", "▁▄█", "░▒█", "_-#"), alphabet("ascii", "█", "#")
    ('▁▄█', '░▒█', '#')
    """
    for rung in ladder[:-1]:
        try:
            rung.encode(encoding)
        except UnicodeEncodeError:
            continue
        return rung
    return ladder[-1]


# ---- colours ----------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb", 0 to 1, as WCAG 2 defines it."""
    shares = [part / 255 for part in Color.parse(colour).get_truecolor()]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def lightness(colour: str) -> float:
    """CIELAB L*, 0 (black) to 100 (white), in which equal steps look equal."""
    y = luminance(colour)
    return float(116 * y ** (1 / 3) - 16) if y > (6 / 29) ** 3 else float(y * (29 / 3) ** 3)


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of two colours, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def ink_on(colour: str) -> str:
    """Black or white, whichever reads better on a fill; never below 4.5 to 1."""
    return max(("#000000", "#ffffff"), key=lambda ink: contrast(ink, colour))


@dataclass(frozen=True)
class Palette:
    """Fills in order, with twins.  Shares run from 0, the first step, to 1, the last."""

    colours: tuple[str, ...]  # "#rrggbb"
    sixteen: tuple[str, ...]  # names of the terminal's own
    glyphs: str
    plain: str  # in ASCII

    def step(self, share: float) -> int:
        """The step of a share; shares beyond 0 and 1 are the ends, NaN is the first."""
        inside = min(max(share, 0.0), 1.0) if share == share else 0.0
        return round(inside * (len(self.colours) - 1))

    def glyph(self, share: float, plain: bool = False) -> str:
        """The character of a share.  plain: of ASCII."""
        return (self.plain if plain else self.glyphs)[self.step(share)]

    def fill(self, share: float, console: Console) -> Style:
        """A fill with readable ink, in the colours that the console has."""
        step = self.step(share)
        if console.color_system in (None, "standard", "windows"):
            name = self.sixteen[step]
            dark = name in ("black", "blue", "magenta", "red", "bright_black")
            return Style.parse(f"{'bright_white' if dark else 'black'} on {name}")
        return Style.parse(f"{ink_on(self.colours[step])} on {self.colours[step]}")

    def colour(self, share: float, console: Console) -> str:
        """The bare colour, for the halves of a half block and for bars."""
        rich_enough = console.color_system not in (None, "standard", "windows")
        return (self.colours if rich_enough else self.sixteen)[self.step(share)]


# little to much: from violet over green to yellow, even steps of lightness
SEQUENTIAL = Palette(
    ("#462872", "#3f4788", "#316488", "#267f8e", "#229a8a", "#3ab578", "#69c85c", "#a2d73a", "#d9e22a"),
    ("blue", "blue", "blue", "magenta", "magenta", "green", "green", "bright_yellow", "bright_yellow"),
    " ▁▂▃▄▅▆▇█",
    " .:-=+*#@",
)
# below zero, zero, above: blue and orange grow lighter away from a dark middle; letters without colour
DIVERGING = Palette(
    ("#8fc7ff", "#5ba3e6", "#3f7cb8", "#355874", "#3c3c3c", "#6e5138", "#a86a2c", "#df872d", "#ffb366"),
    ("bright_cyan", "cyan", "blue", "blue", "black", "red", "red", "yellow", "bright_yellow"),
    "dcba·ABCD",
    "dcba.ABCD",
)
# kinds of things, not amounts: as ink on light and on dark, at least 3 to 1
INKS = ("#2f7fc1", "#b5651d", "#2e8b57", "#b0529c", "#8a7a1f", "#d1495b")


@dataclass(frozen=True)
class PaletteCard:
    """Both palettes and the inks."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for name, palette in (("little to much", SEQUENTIAL), ("below to above zero", DIVERGING)):
            line = Text(f"{name:20}")
            for i in range(len(palette.colours)):
                share = i / (len(palette.colours) - 1)
                line.append(f" {palette.glyph(share, options.ascii_only)} ", palette.fill(share, console))
            yield line
        line = Text(f"{'kinds':20}")
        for i, ink in enumerate(INKS):
            line.append(f" {'ABCDEF'[i]} ", ink)
        yield line

    def describe(self) -> str:
        """The palettes in words."""
        return (
            "little to much: nine steps from dark violet over green to light yellow\n"
            "below to above zero: light blue, dark grey, light orange\n"
            f"kinds: {len(INKS)} inks, each with a letter"
        )


def demo() -> PaletteCard:
    """The palettes."""
    return PaletteCard()


if __name__ == "__main__":
    shown(demo())
