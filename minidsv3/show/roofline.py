"""The roofline: operations over the FLOPs that they do with a byte, under what memory and arithmetic allow.

Left of a ridge point an op waits for memory and lies on the slope, right of it on the flat roof of its
format. The longest ops are letters, each a row of the table; where two meet one stands in the next free
cell, the table has the exact numbers. What is reached is what the bill prices, which counts an op's
products and its other arithmetic one after the other: it may stay below the roof.

Does: intensities, roofs, picture, table, words. Does not: price (`minidsv3.cost`), draw what has no FLOPs.

    >>> from minidsv3.cost import bill, rates
    >>> from minidsv3.hardware import load_hardware
    >>> from minidsv3.machine import Row, Trace
    >>> h800 = load_hardware("h800")
    >>> rows = Trace([Row(op="mla.out", phase="forward", matrix_flops=10**12, bytes={"weight": 4 * 10**9})])
    >>> point = Roofline(bill(rows, h800), rates(h800)).points()[0]
    >>> round(point.intensity), flops(point.achieved), flops(point.attainable), point.bound
    (500, '989 TFLOP', '989 TFLOP', 'compute')

Next: minidsv3.show.waterfall
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from minidsv3.cost import Bill, Line, OpTotal, Rates
from minidsv3.cost.rates import WIRES
from minidsv3.show.axes import Chart, LogScale, shortened
from minidsv3.show.forms import shown
from minidsv3.show.legend import COLOURS, legend, marked, renamed, width_of, without
from minidsv3.show.numbers import counted, duration, flops, size

__all__ = ["Point", "Roofline", "format_of", "per_byte", "roofs_of"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SHORT = {"forward": "fwd", "backward": "bwd", "update": "upd", "communication": "com"}
VECTOR = "fp32"  # everything that is no product of matrices
MOST_COLUMNS, ROWS_A_DECADE = 100, 4  # of the picture


@dataclass(frozen=True)
class Point:
    """One op and phase.  achieved, attainable: FLOP/s; intensity: FLOP a byte of memory."""

    letter: str  # "" beyond the longest
    name: str
    phase: str
    format: str  # whose roof it is under
    intensity: float
    achieved: float
    attainable: float
    seconds: float
    share: float
    bound: str


@dataclass(frozen=True)
class Roofline:
    """A bill's ops under the roofs of the rates that it was priced at.  named: so many ops have letters."""

    bill: Bill
    rates: Rates
    named: int = 10

    def points(self) -> list[Point]:
        """Ops that compute and use memory, the longest first."""
        used: dict[tuple[str, str], list[Line]] = {}
        for line in self.bill.lines:
            used.setdefault((line.phase, line.op), []).append(line)
        drawn = [total for total in self.bill.by_op if _work(total) and _moved(total) and total.seconds]
        return [self._point(i, total, used[total.phase, total.name]) for i, total in enumerate(drawn)]

    def _point(self, i: int, total: OpTotal, lines: Sequence[Line]) -> Point:
        format = format_of(lines)
        intensity = _work(total) / _moved(total)
        return Point(
            letter=LETTERS[i] if i < min(self.named, len(LETTERS)) else "",
            name=total.name,
            phase=total.phase,
            format=format,
            intensity=intensity,
            achieved=_work(total) / total.seconds,
            attainable=min(self._peak(lines), intensity * self.rates.memory),
            seconds=total.seconds,
            share=total.share,
            bound=total.bound,
        )

    def _peak(self, lines: Sequence[Line]) -> float:
        """FLOP/s of an op's products at their formats' peaks, of the CUDA cores if it has none."""
        products = [line for line in lines if line.matrix_flops]
        if not products:
            return self.rates.vector
        seconds = sum(line.matrix_flops / self.rates.peaks[line.precision] for line in products)
        return sum(line.matrix_flops for line in products) / seconds

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        points = self.points()
        if not points:
            yield Text("no op computes on bytes of memory: there is nothing to draw", "dim")
            return
        yield from self._picture(points, options)
        yield Text()
        yield from self._table(points, options)
        for line in self._remarks(points, options.ascii_only):
            yield Text(line, "dim")

    # ---- the picture --------------------------------------------------------------------------------------

    def _picture(self, points: Sequence[Point], options: ConsoleOptions) -> Iterator[Text]:
        roofs = {peak: names for peak, names in roofs_of(self.rates).items() if self._is_used(names, points)}
        named = {peak: f"{'/'.join(names)} {_short(peak)}" for peak, names in roofs.items()}
        columns = max(min(options.max_width, MOST_COLUMNS) - max(map(len, named.values())) - 9, 16)
        across, up = self._scales(points, max(roofs))
        rows = min(max(round(ROWS_A_DECADE * up.length), 9), 18)
        chart = Chart(across, up, columns, rows, options.ascii_only)
        for peak in sorted(roofs, reverse=True):
            slope = [(across.low, across.low * self.rates.memory)] if peak == max(roofs) else []
            chart.line([*slope, (peak / self.rates.memory, peak), (across.high, peak)], "dim")
        moved = _place(chart, points)
        yield Text("FLOP/s", "dim")
        yield from chart.drawn(_tick, per_byte, margin=[(peak, name, "dim") for peak, name in named.items()])
        arrow = "-->" if options.ascii_only else "→"
        yield Text(f"       FLOP a byte {arrow}   slope: {size(self.rates.memory)}/s of memory", "dim")
        if moved:
            yield Text("       crowded letters stand in the next free cell", "dim")

    def _is_used(self, names: Sequence[str], points: Sequence[Point]) -> bool:
        """Whether a roof is over any op, or the bill's own."""
        return bool({*names} & {self.bill.format, *(point.format for point in points)})

    def _scales(self, points: Sequence[Point], top: float) -> tuple[LogScale, LogScale]:
        """Axes that hold all points and the highest ridge, with a little air."""
        intensities = [point.intensity for point in points]
        left = min(*intensities, top / self.rates.memory / 100) / 1.5
        right = max(*intensities, top / self.rates.memory * 10) * 1.3
        low = min(left * self.rates.memory, *(point.achieved for point in points))
        return LogScale(left, right), LogScale(low, top * 1.3)

    # ---- the table ----------------------------------------------------------------------------------------

    def _table(self, points: Sequence[Point], options: ConsoleOptions) -> Iterator[RenderableType]:
        lettered = [point for point in points if point.letter]
        rows = self._fitted([self._row(point, options.ascii_only) for point in lettered], options.max_width)
        right = ("FLOP/B", "reached", "roof", "time", "share")
        yield from legend(rows, [f"bold {COLOURS[point.bound]}" for point in lettered], options, right)
        if "by" in rows[0]:
            kinds = dict.fromkeys(point.bound for point in lettered)
            yield Text("by: " + ", ".join(marked(bound, options.ascii_only) for bound in kinds), "dim")

    def _fitted(self, rows: list[dict[str, str]], width: int) -> list[dict[str, str]]:
        """Rows without what there is no room for, the least telling first."""
        if len({row["phase"] for row in rows}) == 1:
            rows = [without(row, "phase") for row in rows]
        for name in ("time", "share"):
            if width_of(rows) > width:
                rows = [without(row, name) for row in rows]
        if width_of(rows) > width and "phase" in rows[0]:
            rows = [renamed(row, "phase", "pass", SHORT.get(row["phase"], row["phase"])) for row in rows]
        if width_of(rows) > width:
            rows = [renamed(row, "bound", "by", row["bound"][:1]) for row in rows]
        return rows

    def _row(self, point: Point, plain: bool) -> dict[str, str]:
        return {
            "": point.letter,
            "op": point.name,
            "phase": point.phase,
            "FLOP/B": per_byte(point.intensity),
            "reached": _short(point.achieved),
            "roof": _short(point.attainable),
            "time": duration(point.seconds),
            "share": f"{point.share:.1%}",
            "bound": marked(point.bound, plain),
        }

    def _remarks(self, points: Sequence[Point], plain: bool) -> Iterator[str]:
        yield "reached, roof: FLOP/s as priced, and what memory and the format's peak allow"
        ridges = (f"{'/'.join(names)} {per_byte(r)}" for names, r in self.ridges())
        yield f"ridge points, FLOP a byte: {', '.join(ridges)}"
        rest = [point for point in points if not point.letter]
        if rest:
            dot = "+" if plain else "•"
            yield f"{dot} {counted(len(rest), 'other op')}, {sum(p.share for p in rest):.0%} of the time"
        drawn = {(point.name, point.phase) for point in points}
        left = [total for total in self.bill.by_op if (total.name, total.phase) not in drawn]
        sent = [total for total in left if total.bound in WIRES]
        for ops, why in (
            (sent, "only sends"),
            ([t for t in left if t not in sent], "has no FLOPs or no bytes"),
        ):
            if ops:
                what = f"{counted(len(ops), 'op')}, {sum(total.share for total in ops):.0%} of the time"
                yield f"not drawn, because it {why}: {what}"

    def ridges(self) -> list[tuple[tuple[str, ...], float]]:
        """Formats that share a peak, and the intensity from which they compute at it; the highest first."""
        return [(names, peak / self.rates.memory) for peak, names in roofs_of(self.rates).items()]

    def describe(self) -> str:
        """The picture in words: roofs, ridge points, the longest ops."""
        points = self.points()
        said = [f"{self.bill.hardware_name}, memory {size(self.rates.memory)} a second"]
        for names, ridge in self.ridges():
            peak = flops(ridge * self.rates.memory)
            said.append(f"{' and '.join(names)}: {peak} a second from {per_byte(ridge)} FLOP a byte on")
        said += [_in_words(point) for point in points if point.letter]
        rest = [line.removeprefix("+ ") for line in self._remarks(points, plain=True)][2:]
        return "\n".join([*said, *rest])


def _place(chart: Chart, points: Sequence[Point]) -> bool:
    """Draw the points, letters first; whether any letter had to make way."""
    moved = False
    for point in points:
        if point.letter:
            style = f"bold {COLOURS[point.bound]}"
            at = chart.mark(point.intensity, point.achieved, point.letter, style)
            moved |= at != chart.cell(point.intensity, point.achieved)
    for point in points:
        if not point.letter:
            chart.dot(point.intensity, point.achieved, COLOURS[point.bound])
    return moved


def _in_words(point: Point) -> str:
    return (
        f"{point.name}, {point.phase}: {per_byte(point.intensity)} FLOP a byte, "
        f"{flops(point.achieved)} a second of {flops(point.attainable)} attainable in {point.format}, "
        f"{point.share:.1%} of the time, bound by {point.bound}"
    )


def roofs_of(rates: Rates) -> Mapping[float, tuple[str, ...]]:
    """Peak in FLOP/s -> formats that have it, the highest first."""
    peaks = {**rates.peaks, VECTOR: rates.vector}
    order = sorted(set(peaks.values()), reverse=True)
    return {peak: tuple(name for name in peaks if peaks[name] == peak) for peak in order}


def format_of(lines: Sequence[Line]) -> str:
    """The format under whose roof an op computes: of the products with most FLOPs, else the CUDA cores'."""
    largest = max(lines, key=lambda line: line.matrix_flops)
    return largest.precision if largest.matrix_flops else VECTOR


def per_byte(value: float) -> str:
    """An intensity in three digits, thousands apart.

    >>> per_byte(0.12345), per_byte(12.345), per_byte(12345), per_byte(10)
    ('0.123', '12.3', '12,345', '10')
    """
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def _work(total: OpTotal) -> int:
    return total.matrix_flops + total.vector_flops


def _moved(total: OpTotal) -> int:
    """Bytes through the GPU's own memory."""
    return sum(n for kind, n in total.bytes.items() if kind not in WIRES)


def _short(value: float) -> str:
    """FLOP/s without their unit: "989 T"."""
    return flops(value).removesuffix("FLOP").rstrip()


def _tick(value: float) -> str:
    """The same of a power of ten: "100 T"."""
    return shortened(_short(value))


def demo() -> Roofline:
    """V3's decoding on an H800."""
    from minidsv3.show.phase_page import priced

    phase = priced("decode")
    return Roofline(phase.bill, phase.rates)


if __name__ == "__main__":
    shown(demo())
