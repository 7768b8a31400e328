"""A vector as a strip: a cell a value; in numbers what is largest, what smallest, and its size on the whole.

Does: draw one vector. Does not: pick one from an array of more axes (`minidsv3.show.value`).

    >>> from minidsv3.show.svg import plain_text
    >>> print(plain_text(VectorStrip([0.5, -1.0, 0.0, 0.25], "h"), width=60, ascii_only=True))
    h  4
      0 | 0.5  -1  0  0.25
    largest 0.5 at 0, smallest -1 at 1, rms 0.573, mean -0.062

Next: minidsv3.show.top_tokens
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.show.cells import Scale, largest, short
from minidsv3.show.forms import shown
from minidsv3.show.numbers import shape

__all__ = ["VectorStrip", "demo"]

FEW, LINES, WIDEST = 16, 8, 100  # printed as numbers; lines of a strip; cells of a line


@dataclass(frozen=True)
class VectorStrip:
    """One vector.  values: [D]  name: what its places are."""

    values: ArrayLike
    title: str = ""
    name: str = ""

    @property
    def vector(self) -> NDArray[np.float64]:
        """The values as float64.  [D]"""
        return np.asarray(self.values, dtype=np.float64).reshape(-1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        x = self.vector
        head = Text(no_wrap=True, overflow="crop").append(self.title, "bold")
        yield head.append(f"{'  ' if self.title else ''}{self.name and self.name + ' '}{shape(x.shape)}")
        bar = "|" if options.ascii_only else "│"
        yield from self._numbers(bar) if len(x) <= FEW else self._strip(console, options, bar)
        yield Text(self.about)

    def _numbers(self, bar: str) -> Iterator[Text]:
        yield Text(f"  0 {bar} ", "dim").append("  ".join(short(v) for v in self.vector), "default")

    def _strip(self, console: Console, options: ConsoleOptions, bar: str) -> Iterator[Text]:
        x, digits = self.vector, len(str(len(self.vector)))
        room = max(min(options.max_width - digits - 4, WIDEST), 1)
        each = -(-len(x) // (room * LINES))  # values of a cell
        cells = largest(x[None], 1, -(-len(x) // each))[0]
        scale = Scale.of(cells)
        for start in range(0, len(cells), room):
            line = Text(no_wrap=True, overflow="crop").append(f"{start * each:>{digits + 1}} {bar}", "dim")
            for value in cells[start : start + room]:
                line.append(scale.glyph(value), scale.style(value, console))
            yield line
        yield scale.legend(console).append(f"; a cell: the largest of {each}" if each > 1 else "")

    @property
    def about(self) -> str:
        """Largest, smallest, root of the mean square."""
        x = self.vector[np.isfinite(self.vector)]
        lost = len(self.vector) - len(x)
        no_numbers = f", {lost} no finite numbers" if lost else ""
        if not len(x):
            return f"no finite numbers in {len(self.vector)}"
        high, low = int(np.nanargmax(self.vector)), int(np.nanargmin(self.vector))
        ends = f"largest {short(self.vector[high])} at {high}, smallest {short(self.vector[low])} at {low}"
        most = float(np.abs(x).max()) or 1.0  # over which squares and sums stay finite
        rms, mean = most * float(np.sqrt(((x / most) ** 2).mean())), most * float((x / most).mean())
        return f"{ends}, rms {short(rms)}, mean {short(mean, 2)}{no_numbers}"

    def describe(self) -> str:
        """The vector in words."""
        x = self.vector
        values = f": {', '.join(short(v) for v in x)}" if len(x) <= FEW else ""
        return f"{self.title or 'a vector'}: {len(x)} values{values}; {self.about}"


def demo() -> VectorStrip:
    """The last token's hidden state of a fresh nano model, behind its final norm."""
    from minidsv3.config import ModelConfig
    from minidsv3.interpreter import Model

    model = Model.initialise(ModelConfig.preset("nano"), seed=0)
    return VectorStrip(model.hidden_states([[1, 2, 3, 4]])[-1][0, -1], "h^0 of token 3", "D")


if __name__ == "__main__":
    shown(demo())
