"""Two machines beside each other: what differs, with the ratio and a bar for it.

A bar is on a logarithmic scale, from a middle that means "alike": to the right the second machine has more,
to the left less. A value that one machine's file leaves out stands as "none".

Does: lay out `Difference`. Does not: compare (`minidsv3.hardware.difference`).

    >>> from minidsv3.hardware import difference, load_hardware
    >>> from minidsv3.show.svg import plain_text
    >>> a, b = load_hardware("h100"), load_hardware("h200")
    >>> memory = [one for one in difference(a, b) if one.path == "chip.hbm.bandwidth"]
    >>> print(plain_text(DifferenceTable(a, b, memory), width=80, ascii_only=True).splitlines()[4].rstrip())
      bandwidth  3.35 TB/s  4.8 TB/s   x 1.43  ..........|##########

Next: minidsv3.show.reproduction
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table
from rich.text import Text

from minidsv3.hardware import Difference, Hardware, Quantity
from minidsv3.show.forms import shown
from minidsv3.show.hardware_table import NARROW, WIDE, named
from minidsv3.show.numbers import counted, size
from minidsv3.show.tables import plain_table

__all__ = ["DifferenceTable"]

BARRED = 78  # columns from which on a ratio has a bar
HALF = 10  # characters of a bar on each side of its middle
RATIO, STATUS = 7, 20  # characters of a ratio at least, of two statuses
LEAST_BAR = 5  # characters of a bar
COLUMNS: tuple[tuple[str, JustifyMethod], ...] = (
    ("", "left"),
    ("a", "right"),
    ("b", "right"),
    ("b / a", "right"),
    ("", "left"),
    ("status", "left"),
)


@dataclass(frozen=True)
class DifferenceTable:
    """What differs from a to b, with ratios."""

    a: Hardware
    b: Hardware
    differences: Sequence[Difference]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.title(), "bold cyan")
        if not self.differences:
            yield Text("no value differs")
            return
        narrow, widths = options.max_width < NARROW, self._widths(options.max_width)
        if not narrow:
            yield self._table([], widths, options.ascii_only)
        for head, group in groupby(self.differences, key=lambda one: one.path.rpartition(".")[0]):
            yield Text(head, "bold")
            for whole, rows in groupby(group, key=lambda one: not narrow and _fits(one, widths)):
                found = list(rows)
                lines = Text("\n".join(map(_line, found)))
                yield self._table(found, widths, options.ascii_only) if whole else lines
        yield Text(self.legend(not narrow and len(widths) > 4), "dim")

    def title(self) -> str:
        """Both names."""
        return f"{named(self.a)} (a)  against  {named(self.b)} (b)"

    def _widths(self, room: int) -> list[int]:
        """Of the columns: what differs, a, b, the ratio, and as there is room the bar and the status."""
        keys = max(len(one.path.rpartition(".")[2]) for one in self.differences) + 2
        a, b = (max(len(_cell(q)) for q in column) for column in zip(*self._pairs(), strict=True))
        ratio = max(RATIO, *(len(_ratio(one)) for one in self.differences))
        left = room - keys - ratio - 6
        if room < BARRED or left - a - b < LEAST_BAR + 2:  # a and b share what the others leave
            a = min(a, max(left // 2, left - b))
            return [keys, a, min(b, left - a), ratio]
        status = [STATUS] if room >= WIDE and left - a - b >= LEAST_BAR + 2 + STATUS + 2 else []
        left -= a + b + 2 + sum(status) + 2 * len(status)
        return [keys, a, b, ratio, 2 * min(HALF, (left - 1) // 2) + 1, *status]

    def _pairs(self) -> list[tuple[Quantity | None, Quantity | None]]:
        return [(one.a, one.b) for one in self.differences]

    def _table(self, group: Sequence[Difference], widths: list[int], plain: bool) -> Table:
        """Rows of one table of the file; the heads for none."""
        table = Table.grid(padding=(0, 2, 0, 0)) if group else plain_table()
        for width, (head, justify) in zip(widths, COLUMNS, strict=False):
            table.add_column(head, justify=justify, width=width, overflow="fold")
        for one in group:
            status = ", ".join(q.status for q in (one.a, one.b) if q)
            bar = self.bar(one.ratio, plain, widths[4] // 2) if len(widths) > 4 else ""
            cells = [f"  {one.path.rpartition('.')[2]}", _cell(one.a), _cell(one.b), _ratio(one), bar, status]
            table.add_row(*map(Text, cells[: len(widths)]))
        return table

    def furthest(self) -> float:
        """The ratio at a bar's end: the largest of all, up or down, and at least 1.1."""
        ratios = [one.ratio for one in self.differences if one.ratio]
        return max([1.1, *(max(ratio, 1 / ratio) for ratio in ratios)])

    def bar(self, ratio: float | None, plain: bool, half: int = HALF) -> str:
        """Left of the middle if b has less, right if it has more; as long as the ratio's logarithm."""
        if not ratio:
            return ""
        full, empty, middle = ("#", ".", "|") if plain else ("█", "·", "│")
        length = max(round(abs(math.log(ratio)) / math.log(self.furthest()) * half), 1)
        bar, rest = full * length, empty * (half - length)
        return f"{rest}{bar}{middle}{empty * half}" if ratio < 1 else f"{empty * half}{middle}{bar}{rest}"

    def legend(self, barred: bool) -> str:
        """What the columns mean."""
        number = len(self.differences)
        said = [f"{counted(number, 'value')} differ{'s' if number == 1 else ''}"]
        for name in "ab":
            if alone := sum(_only(one) == name for one in self.differences):
                said.append(f"{alone} of them only {name} has")
        bars = f"\nbars: right of the middle b has more; logarithmic, the ends are x {self.furthest():.3g}"
        return ", ".join(said) + (bars if barred else "")

    def describe(self) -> str:
        """A sentence for each difference."""
        said = [self.title()]
        for one in self.differences:
            ratio = f", {one.ratio:.3g} times" if one.ratio is not None else ""
            said.append(f"{one.path}: {_cell(one.a)} against {_cell(one.b)}{ratio}; {one.meaning}.")
        return "\n".join([*said, self.legend(False) + "." if self.differences else "no value differs."])


def _cell(quantity: Quantity | None) -> str:
    """The value, bytes in full shortened."""
    if quantity is None:
        return "none"
    return size(quantity.si) if quantity.unit == "B" else quantity.text


def _fits(one: Difference, widths: Sequence[int]) -> bool:
    """Whether both values have room in their columns; one that has not is a line, not folded."""
    return len(_cell(one.a)) <= widths[1] and len(_cell(one.b)) <= widths[2]


def _line(one: Difference) -> str:
    """A difference for few columns."""
    said = f"  {one.path.rpartition('.')[2]}  {_cell(one.a)} / {_cell(one.b)}"
    return f"{said}, {_ratio(one)}" if _ratio(one) else said


def _only(one: Difference) -> str:
    return "b" if one.a is None else "a" if one.b is None else ""


def _ratio(one: Difference) -> str:
    if only := _only(one):
        return f"only {only}"
    return "" if one.ratio is None else f"x {one.ratio:.3g}"


def demo() -> DifferenceTable:
    """The H800 and the H200."""
    from minidsv3.hardware import difference, load_hardware

    a, b = load_hardware("h800"), load_hardware("h200")
    return DifferenceTable(a, b, difference(a, b))


if __name__ == "__main__":
    shown(demo())
