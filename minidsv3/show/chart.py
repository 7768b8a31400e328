"""Small charts of characters: sparkline, bar, strip of expert loads.

Each is a frozen record that rich draws when it knows the width and the encoding: blocks and dots where
these can be written, plain ASCII elsewhere. Colour only repeats what a character or a number says already.

Does: draw. Does not: compute what is drawn, print.

    >>> Sparkline([4.0, 3.0, 2.0, 1.0]).text(plain=False)
    '█▆▃▁'
    >>> Bar(0.5, width=6).text(plain=True), Strip([0, 4, 8]).text(plain=True)
    ('###   ', ' +@')

Next: minidsv3.show.curve
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

__all__ = ["Bar", "Sparkline", "Strip"]

BLOCKS, RAMP = "▁▂▃▄▅▆▇█", "_.-=+*#@"  # lowest to highest
SHADES, PLAIN_SHADES = " ░▒▓█", " .+#@"  # of an expert's load: none, little, the mean, more, twice the mean
EIGHTHS = " ▏▎▍▌▋▊▉█"


class _Line:
    """Something that is one line of text in either alphabet."""

    style = ""

    def text(self, plain: bool, width: int = 0) -> str:
        """The line.  plain: in ASCII; width: characters there are, 0 if unbounded."""
        raise NotImplementedError

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.text(options.ascii_only, options.max_width), style=self.style, no_wrap=True, end="")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        length = min(len(self.text(options.ascii_only, options.max_width)), options.max_width)
        return Measurement(length, length)


@dataclass(frozen=True)
class Sparkline(_Line):
    """Values as heights, averaged down to the width."""

    values: Sequence[float]
    width: int = 40
    style: str = "cyan"

    def text(self, plain: bool, width: int = 0) -> str:
        """One character a column, the highest value the highest character."""
        columns = resample(self.values, min(self.width, width or self.width))
        if not columns:
            return ""
        low, high = min(columns), max(columns)
        steps = RAMP if plain else BLOCKS
        scale = (len(steps) - 1) / (high - low) if high > low else 0.0
        return "".join(steps[round((value - low) * scale)] for value in columns)


@dataclass(frozen=True)
class Bar(_Line):
    """A share of the whole, from 0 to 1."""

    share: float
    width: int = 20
    style: str = "blue"

    def text(self, plain: bool, width: int = 0) -> str:
        """Filled characters, then spaces."""
        columns = min(self.width, width or self.width)
        share = min(max(self.share, 0.0), 1.0)
        if plain:
            return ("#" * round(share * columns)).ljust(columns)
        whole, part = divmod(round(share * columns * 8), 8)
        return ("█" * whole + EIGHTHS[part].strip()).ljust(columns)


@dataclass(frozen=True)
class Strip(_Line):
    """The loads of a layer's experts, a character each: blank is none, the darkest twice the mean or more."""

    loads: Sequence[float]
    style: str = "yellow"

    def text(self, plain: bool, width: int = 0) -> str:
        """One character an expert."""
        shades = PLAIN_SHADES if plain else SHADES
        mean = sum(self.loads) / max(len(self.loads), 1)
        levels = [round((len(shades) - 1) * min(load / mean / 2, 1.0)) if mean else 0 for load in self.loads]
        return "".join(
            shades[max(level, 1) if load else 0] for level, load in zip(levels, self.loads, strict=True)
        )


def resample(values: Sequence[float], columns: int) -> list[float]:
    """Means of `columns` equal stretches; fewer if there are fewer values."""
    n = min(len(values), columns)
    cuts = [len(values) * i // n for i in range(n + 1)] if n else []
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
