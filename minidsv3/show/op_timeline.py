"""A pass over time: which part of the model runs when, and what it has cost so far.

Across runs the time that the bill prices, a lane a part of the model, in the order in which parts first run;
a cell is full where its part fills at least half of it. Its character says what bounds the part there. Above
stand the layers, below the FLOPs, bytes and seconds so far, at four places, and the ops that took longest.

Does: lay a `Bill`'s lines one behind the other. Does not: price, overlap anything (`minidsv3.cost`).

    >>> from minidsv3.cost import bill
    >>> from minidsv3.hardware import load_hardware
    >>> from minidsv3.machine import Row, Trace
    >>> from minidsv3.show.svg import plain_text
    >>> work = {"phase": "forward", "matrix_flops": 10**12, "bytes": {"weight": 4 * 10**9}}
    >>> rows = Trace([Row("mla.out", layer=0, **work), Row("head.logits", **work)])
    >>> text = plain_text(OpTimeline(bill(rows, load_hardware("h800"))), width=60, ascii_only=True)
    >>> print("\\n".join(text.splitlines()[2:6]))
    layer      0-----------------------
    attention  #########################
    head                               #########################
    so far     -----------+-----------+-----------+------------+

Next: minidsv3.show.tensor_difference
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.cost import Bill, Line
from minidsv3.show.axes import ruler
from minidsv3.show.forms import shown
from minidsv3.show.legend import COLOURS, legend, mark, marked
from minidsv3.show.numbers import counted, duration, flops, percent, size

__all__ = ["OpTimeline", "demo"]

WIDEST, STOPS = 100, 4  # columns of the lanes; places where sums are said
WIDE = 72  # columns from which FLOPs and bytes of the longest ops are listed
HALF = 0.5  # of a cell: less than that is a thin mark
Span = tuple[float, float]


@dataclass(frozen=True)
class OpTimeline:
    """A bill's lines in the order in which they ran.  longest: how many ops are listed"""

    bill: Bill
    title: str = ""
    longest: int = 5

    @cached_property
    def ends(self) -> list[float]:
        """Seconds from the start to the end of each line."""
        return list(accumulate(line.seconds for line in self.bill.lines))

    @property
    def seconds(self) -> float:
        """The whole pass."""
        return self.ends[-1] if self.ends else 0.0

    @property
    def parts(self) -> list[str]:
        """Lanes, in the order in which they first run."""
        return list(dict.fromkeys(line.part for line in self.bill.lines))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(self.title, "bold", overflow="fold")
        yield Text(self._about)
        if not self.seconds:
            return
        names = max(len("attention"), *map(len, self.parts))
        columns = max(min(options.max_width - names - 2, WIDEST), 8)
        plain = options.ascii_only
        labels, _ = ruler(self.seconds, columns, duration, plain)
        yield Text(" " * (names + 2) + labels, "dim", no_wrap=True, overflow="crop")
        yield from self._places(names, columns)
        for part in self.parts:
            yield self._lane(part, names, columns, plain)
        yield from self._sums(names, columns, plain)
        yield self._bounds(plain)
        yield from self._longest(options)

    @property
    def _about(self) -> str:
        total = self.bill.total
        work = f"{flops(total.matrix_flops + total.vector_flops)}, {size(total.memory_bytes)}"
        time = f"{duration(self.seconds)} on {self.bill.hardware_name}"
        return f"{counted(len(self.bill.lines), 'op')}: {work}, {time}"

    # ---- lanes --------------------------------------------------------------------------------------------

    def _places(self, names: int, columns: int) -> Iterator[Text]:
        """Where layers begin; and phases, if there are several."""
        yield self._row("layer", lambda line: "" if line.layer is None else str(line.layer), names, columns)
        if len({line.phase for line in self.bill.lines}) > 1:
            yield self._row("phase", lambda line: line.phase, names, columns)

    def _row(self, name: str, key: Callable[[Line], str], names: int, columns: int) -> Text:
        """Stretches of lines of one key, each with its name at its start."""
        cells, start = [" "] * columns, 0
        for said, lines in groupby(self.bill.lines, key):
            stop = start + len(list(lines))
            a, b = self._cell(start, columns), self._cell(stop, columns)
            if said and b > a:
                cells[a:b] = f"{said[: b - a]:-<{b - a}}"
            start = stop
        return Text(f"{name:{names}}  " + "".join(cells).rstrip(), "dim", no_wrap=True, overflow="crop")

    def _cell(self, line: int, columns: int) -> int:
        """The column in which a line begins."""
        return round((self.ends[line - 1] if line else 0.0) / self.seconds * columns)

    def _lane(self, part: str, names: int, columns: int, plain: bool) -> Text:
        """One part: full cells, thin marks where it runs for less than half a cell, blanks elsewhere."""
        filled: list[dict[str, float]] = [{} for _ in range(columns)]
        for (start, stop), line in self._spans():
            if line.part == part:
                _pour(filled, start / self.seconds * columns, stop / self.seconds * columns, line.bound)
        text = Text(f"{part:{names}}  ", no_wrap=True, overflow="crop")
        for cell in filled:
            bound = max(cell, key=lambda one: cell[one], default="")
            glyph = mark(bound, plain) if sum(cell.values()) >= HALF else "|" if plain else "▏"
            text.append(glyph if bound else " ", COLOURS.get(bound, ""))
        text.rstrip()
        return text

    def _spans(self) -> Iterator[tuple[Span, Line]]:
        """From when to when each line runs."""
        for stop, line in zip(self.ends, self.bill.lines, strict=True):
            yield (stop - line.seconds, stop), line

    # ---- sums ---------------------------------------------------------------------------------------------

    def _sums(self, names: int, columns: int, plain: bool) -> Iterator[Text]:
        """What it has cost at a quarter, a half, three quarters and the end of the time."""
        stops = [self.seconds * (i + 1) / STOPS for i in range(STOPS)]
        lines = self.bill.lines
        done = [bisect_left(self.ends, stop * (1 - 1e-12)) + 1 for stop in stops]
        operations = list(accumulate(line.matrix_flops + line.vector_flops for line in lines))
        moved = list(accumulate(sum(line.bytes.values()) for line in lines))
        at = [min(n, len(lines)) - 1 for n in done]
        ends = {columns * (i + 1) // STOPS - 1 for i in range(STOPS)}
        rule, tick = ("-", "+") if plain else ("─", "┴")
        marks = "".join(tick if i in ends else rule for i in range(columns))
        yield Text(f"{'so far':{names}}  {marks}", "dim", no_wrap=True, overflow="crop")
        yield _spread("FLOPs", [flops(operations[i]) for i in at], names, columns)
        yield _spread("bytes", [size(moved[i]) for i in at], names, columns)
        yield _spread("time", [duration(stop) for stop in stops], names, columns)

    def _bounds(self, plain: bool) -> Text:
        """What bounds how much of the time: the legend of the lanes."""
        by: dict[str, float] = {}
        for line in self.bill.lines:
            by[line.bound] = by.get(line.bound, 0.0) + line.seconds
        text = Text("bound by  ")
        for bound in COLOURS:
            if by.get(bound):
                text.append(marked(bound, plain), COLOURS[bound])
                text.append(f" {percent(by[bound] / self.seconds)}   ")
        return text.append(f"{'|' if plain else '▏'} less than half a cell")

    def _longest(self, options: ConsoleOptions) -> RenderResult:
        """The ops that took longest, all their lines together."""
        wide, rows = options.max_width >= WIDE, []
        several = len(self.bill.by_phase) > 1
        for op in self.bill.by_op[: self.longest]:
            work = {"FLOPs": flops(op.flops), "bytes": size(op.memory_bytes)} if wide else {}
            phase = {"phase": op.phase} if several else {}
            times = {"time": duration(op.seconds), "share": percent(op.share)}
            rows.append({"longest ops": op.name, "part": op.part, **phase, **work, **times})
        yield from legend(rows, (), options, right=("FLOPs", "bytes", "time", "share"))

    def describe(self) -> str:
        """The pass in words: the whole, each part, the longest ops."""
        said = [self.title, self._about] if self.title else [self._about]
        for total in self.bill.by_part:
            share = f"{duration(total.seconds)}, {percent(total.share)}"
            said.append(f"{total.name}: {share}, bound by {total.bound}")
        ops = ", ".join(f"{op.name} {duration(op.seconds)}" for op in self.bill.by_op[: self.longest])
        return "\n".join([*said, f"longest: {ops}"])


def _pour(cells: Sequence[dict[str, float]], start: float, stop: float, bound: str) -> None:
    """Add a stretch, in cells, to those that it covers, each as far as it covers it."""
    for i in range(int(start), min(int(stop) + 1, len(cells))):
        covered = min(stop, i + 1) - max(start, i)
        if covered > 0:
            cells[i][bound] = cells[i].get(bound, 0.0) + covered


def _spread(name: str, texts: Sequence[str], names: int, columns: int) -> Text:
    """Texts that end at equal stretches of a line; those that do not fit are left out, the last never."""
    cells, free = [" "] * columns, columns
    for i, text in reversed(list(enumerate(texts, 1))):
        stop = min(columns * i // len(texts), free)
        if stop - len(text) >= 0 and stop == columns * i // len(texts):
            cells[stop - len(text) : stop] = text
            free = stop - len(text) - 1
    return Text(f"{name:{names}}  " + "".join(cells).rstrip(), no_wrap=True, overflow="crop")


def demo() -> OpTimeline:
    """A fresh nano model's pass over sixteen tokens, as an H800 would run it."""
    from minidsv3.config import ModelConfig
    from minidsv3.cost import bill
    from minidsv3.interpreter import Model
    from minidsv3.machine import Machine

    model, machine = Model.initialise(ModelConfig.preset("nano"), seed=0), Machine(trace=True)
    model.logits([list(range(40, 56))], machine)
    priced = bill(machine.trace, machine.hardware, config=model.config)
    return OpTimeline(priced, "a fresh nano model reads sixteen tokens")


if __name__ == "__main__":
    shown(demo())
