"""The loss curve: several series over the steps of a run, each with a mark of its own.

The vertical axis goes from the lowest to the highest value, labelled at both ends and in the middle; the
horizontal one is the steps. Where two series meet in a cell the first one's mark is seen. The text form
names first, lowest and last value of each series.

Does: draw and describe. Does not: smooth beyond one mean a column.

    >>> from minidsv3.show.svg import plain_text
    >>> print(plain_text(Curve({"main": [8, 6, 5, 4]}, height=3, unit="nats"), width=24, ascii_only=True))
    8.00 |o
    6.00 |    o
    4.00 |        o   o
         +----------------
          step 1 .. 4
    o main (nats)

Next: minidsv3.show.chips
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.show.chart import resample
from minidsv3.show.forms import shown

__all__ = ["Curve"]

MARKS, PLAIN_MARKS = "●×▲◆", "ox^*"
COLOURS = ("cyan", "magenta", "green", "yellow")
LABEL = 5  # characters of a label on the vertical axis


@dataclass(frozen=True)
class Curve:
    """Series by name, all over the same steps."""

    series: Mapping[str, Sequence[float]]
    height: int = 8
    unit: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        marks = PLAIN_MARKS if options.ascii_only else MARKS
        columns = max(options.max_width - LABEL - 3, 8)
        yield from self._plot(columns, marks, plain=options.ascii_only)
        steps = max((len(values) for values in self.series.values()), default=0)
        yield Text(f"{'':{LABEL}} step 1 .. {steps}", no_wrap=True)
        legend = Text(no_wrap=True, overflow="ellipsis")
        for mark, colour, name in zip(marks, COLOURS, self.series, strict=False):
            legend.append(mark, colour).append(f" {name}  ")
        legend.rstrip()
        yield legend.append(f" ({self.unit})" if self.unit else "")

    def _plot(self, columns: int, marks: str, plain: bool) -> list[Text]:
        """The rows, top first, and the axis below them."""
        cells, low, high = self._cells(columns)
        wide = max(LABEL - 1, len(f"{low:.2f}"), len(f"{high:.2f}"))
        rows = []
        for row in range(self.height):
            value = high - (high - low) * row / max(self.height - 1, 1)
            named = row in (0, self.height // 2, self.height - 1)
            line = Text(f"{f'{value:.2f}' if named else '':>{wide}} {'|' if plain else '│'}", no_wrap=True)
            for column in range(columns):
                which = cells.get((row, column))
                if which is None:
                    line.append(" ")
                else:
                    line.append(marks[which], COLOURS[which])
            line.rstrip()
            rows.append(line)
        rule = "+" + "-" * columns if plain else "└" + "─" * columns
        return [*rows, Text(" " * (wide + 1) + rule, no_wrap=True, overflow="crop")]

    def _cells(self, columns: int) -> tuple[dict[tuple[int, int], int], float, float]:
        """Which series is seen at (row, column); the lowest and the highest value."""
        drawn = [resample(values, columns) for values in self.series.values()][: len(MARKS)]
        every = [value for values in drawn for value in values] or [0.0]
        low, high = min(every), max(every)
        scale = (self.height - 1) / (high - low) if high > low else 0.0
        cells: dict[tuple[int, int], int] = {}
        for which, values in enumerate(drawn):
            for i, value in enumerate(values):
                cells.setdefault((round((high - value) * scale), i * columns // len(values)), which)
        return cells, low, high

    def describe(self) -> str:
        """The curve in words."""
        said = [
            f"{name}: first {values[0]:.3f}, lowest {min(values):.3f}, last {values[-1]:.3f}"
            for name, values in self.series.items()
            if values
        ]
        return "; ".join(said) + (f" {self.unit}" if self.unit else "")


def demo() -> Curve:
    """The losses of a short run."""
    from minidsv3.show.dashboard import loss_series
    from minidsv3.show.rehearsal import rehearsed

    return Curve(loss_series(rehearsed().rows), unit="nats a token")


if __name__ == "__main__":
    shown(demo())
