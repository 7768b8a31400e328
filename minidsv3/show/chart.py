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

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from minidsv3.show.forms import shown
from minidsv3.show.numbers import percent

__all__ = ["Bar", "Sparkline", "Strip"]

BLOCKS, RAMP = "▁▂▃▄▅▆▇█", "_.-=+*#@"  # lowest to highest
SHADES, PLAIN_SHADES = " ░▒▓█", " .+#@"  # of an expert's load: none, little, the mean, more, twice the mean
EIGHTHS = " ▏▎▍▌▋▊▉█"


class _Line(ABC):
    """Something that is one line of text in either alphabet."""

    style = ""

    @abstractmethod
    def text(self, plain: bool, width: int = 0) -> str:
        """The line.  plain: in ASCII; width: characters there are, 0 if unbounded."""

    @abstractmethod
    def describe(self) -> str:
        """What is seen, in numbers."""

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

    def describe(self) -> str:
        """First, lowest, highest and last value."""
        if not self.values:
            return "no values"
        ends = f"from {self.values[0]:.3g} to {self.values[-1]:.3g}"
        return f"{ends}, lowest {min(self.values):.3g}, highest {max(self.values):.3g}"


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

    def describe(self) -> str:
        """The share in per cent."""
        return percent(self.share)


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

    def describe(self) -> str:
        """How many experts, the mean, the most and the least loaded."""
        if not self.loads:
            return "no experts"
        mean, most, least = sum(self.loads) / len(self.loads), max(self.loads), min(self.loads)
        ends = (f"{load:g} at expert {list(self.loads).index(load)}" for load in (most, least))
        return "{} experts, mean {:.3g}, most {}, least {}".format(len(self.loads), mean, *ends)


def resample(values: Sequence[float], columns: int) -> list[float]:
    """Means of `columns` equal stretches; fewer if there are fewer values."""
    n = min(len(values), columns)
    cuts = [len(values) * i // n for i in range(n + 1)] if n else []
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]


def demo() -> RenderableType:
    """A schedule's learning rates, the MLA cache beside that of as many heads of MHA, loads of experts."""
    from minidsv3.config import ModelConfig, TrainConfig
    from minidsv3.cost import kv_bytes_mha, kv_bytes_per_token
    from minidsv3.show.rehearsal import rehearsed
    from minidsv3.training import Schedule

    plan, config = TrainConfig.preset("nano"), ModelConfig.preset("nano")
    rates = [Schedule(plan).learning_rate(step) for step in range(plan.steps)]
    table = Table.grid(padding=(0, 2))
    table.add_row("learning rate", Sparkline(rates))
    table.add_row("MLA of MHA", Bar(kv_bytes_per_token(config) / kv_bytes_mha(config)))
    table.add_row("expert loads", Strip(rehearsed().rows[-1]["loads"][0]))
    return table


if __name__ == "__main__":
    shown(demo())
