"""What the tensor core's accumulator loses along K: a plot, a table, and the same at other widths.

Three kinds of operands stand side by side, because one number would mislead: positive ones lose in
proportion, signed ones cancel. Each error is named with its metric.

Does: lay out `numerics.experiments.accumulation_errors`. Does not: sum anything.

    >>> from minidsv3.numerics.experiments import SumError
    >>> from minidsv3.show.svg import plain_text
    >>> row = SumError("uniform [0, 1)", 4096, None, 13, 0.0745, 0.0783, 0.0783, 1.0)
    >>> print(plain_text(error_table([row]), width=60, ascii_only=True))
    operands        promoted  median   worst  normwise   low
    --------------------------------------------------------
    uniform [0, 1)  never     7.45 %  7.83 %    7.83 %  100%

Next: minidsv3.show.microscope
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from minidsv3.hardware import TensorCore
from minidsv3.numerics import ZEROS
from minidsv3.numerics.experiments import SumError
from minidsv3.show.forms import shown
from minidsv3.show.numbers import counted, percent
from minidsv3.show.plot import LogPlot
from minidsv3.show.tables import in_parts, plain_table

__all__ = ["AccumulatorPage", "error_table"]

SIGNED = "normal"  # operands whose sums cross zero
HEADS = ("operands", "promoted", "median", "worst", "normwise", "low")
NARROW = 60  # columns below which tables are taken apart


def error_table(rows: Sequence[SumError]) -> Table:
    """A row for each kind of operands and interval."""
    table = plain_table()
    for name in HEADS:
        table.add_column(name, justify="left" if name in HEADS[:2] else "right", no_wrap=True)
    for row in rows:
        table.add_row(*_texts(row).values())
    return table


def _texts(row: SumError) -> dict[str, str]:
    worst = "-" if row.operands == SIGNED else percent(row.worst)
    errors = (percent(row.median), worst, percent(row.normwise), f"{row.low:.0%}")
    return dict(zip(HEADS, (row.operands, _interval(row.interval), *errors), strict=True))


def _interval(interval: int | None) -> str:
    return "never" if interval is None else str(interval)


def _often(interval: int | None) -> str:
    return "never" if interval is None else f"every {interval}"


@dataclass(frozen=True)
class AccumulatorPage:
    """The experiment.  errors: over K; widths: at the largest K, one row for each width and interval."""

    where: str
    unit: TensorCore
    errors: Sequence[SumError]
    widths: Sequence[SumError]
    results: int

    @property
    def k(self) -> int:
        """The largest K."""
        return max(row.k for row in self.errors)

    @property
    def plotted(self) -> str:
        """The operands of the plot."""
        return self.errors[0].operands

    def plot(self) -> LogPlot:
        """Median relative error over K, with promotion and without."""
        series: dict[str, list[tuple[float, float]]] = {}
        for row in self.errors:
            if row.operands == self.plotted:
                name = "one accumulator" if row.interval is None else f"to FP32 every {row.interval}"
                series.setdefault(name, []).append((row.k, row.median))
        return LogPlot(series, "K")

    def width_table(self, wide: bool = True) -> Table:
        """Median relative error by fraction bits."""
        table, intervals = plain_table(), list(dict.fromkeys(row.interval for row in self.widths))
        table.add_column("fraction bits" if wide else "bits", justify="right", no_wrap=True)
        for interval in intervals:
            name = "one accumulator" if interval is None else f"to FP32 every {interval}"
            table.add_column(name if wide else _often(interval), justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for bits in dict.fromkeys(row.fraction_bits for row in self.widths):
            errors = [percent(row.median) for row in self.widths if row.fraction_bits == bits]
            table.add_row(str(bits), *errors, "<-- here" if bits == self.unit.fraction_bits else "")
        return table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.title, "bold")
        yield Text(self.rule)
        yield Text(
            f"\nmedian relative error of {counted(self.results, 'sum')}, {self.plotted} operands", "bold cyan"
        )
        yield self.plot()
        yield Text(f"\nat K = {self.k}", "bold cyan")
        rows = [row for row in self.errors if row.k == self.k]
        if options.max_width < NARROW:
            yield from in_parts([_texts(row) for row in rows], options, HEADS[2:], keys=2)
        else:
            yield error_table(rows)
        yield Text(f"\nat K = {self.k} with other accumulators, {self.plotted} operands, median", "bold cyan")
        yield self.width_table(wide=options.max_width >= NARROW)
        yield Text()
        yield from (Text(remark, "dim") for remark in self.remarks)

    @property
    def title(self) -> str:
        """Which sums."""
        return f"{self.unit.format.upper()} sums, {self.where}"

    @property
    def rule(self) -> str:
        """The unit in a line."""
        u = self.unit
        return (
            f"{u.terms} products at once, each kept to {u.fraction_bits} fraction bits below the largest "
            f"exponent; the sum cut to {u.output_fraction_bits}, {u.rounding}"
        )

    @property
    def remarks(self) -> list[str]:
        """What the numbers mean and do not."""
        return [
            "promoted: added to an FP32 sum after so many products",
            "median, worst: |sum - exact| / |exact|; worst means nothing where sums cross zero (-)",
            "normwise: the worst |sum - exact| over the sum of |products|; low: came out too small",
            "operands rounded to the format first, one scale a matrix: only the summing is measured",
            'the report\'s "nearly 2 %" at K = 4096 names neither operands nor metric',
            f"evidence for this unit: {self.unit.silicon or 'none published'} ({self.unit.status}); "
            "nothing run by us",
            f"zeros by the {ZEROS[0]} rule; published rules differ there, not for sums of this size",
        ]

    def describe(self) -> str:
        """The page in words."""
        lines = [
            f"{row.operands}, to FP32 {_often(row.interval)}: median {percent(row.median)}, "
            f"normwise {percent(row.normwise)}"
            for row in self.errors
            if row.k == self.k
        ]
        return "\n".join([self.title, self.rule, self.plot().describe(), *lines, *self.remarks])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        unit = {name: getattr(self.unit, name) for name in UNIT_FIELDS}
        errors, widths = ([row.to_dict() for row in rows] for rows in (self.errors, self.widths))
        return {
            "where": self.where,
            "unit": unit,
            "zeros": ZEROS[0],
            "results": self.results,
            "errors": errors,
            "widths": widths,
        }


UNIT_FIELDS = (
    "format", "family", "terms", "depth", "fraction_bits", "output_fraction_bits", "rounding", "silicon",
    "status",
)  # fmt: skip


def demo() -> AccumulatorPage:
    """Sums of up to 1024 products on an H800."""
    from minidsv3.hardware import load_hardware
    from minidsv3.numerics.experiments import OPERANDS, accumulation_errors, with_fraction_bits

    hardware = load_hardware("h800")
    unit, intervals = hardware.tensor_core["fp8"], [None, 128]
    errors = accumulation_errors(unit, [128, 512, 1024], intervals=intervals, side=8, seed=0)
    kinds, widths = [next(iter(OPERANDS))], []
    for bits in (10, unit.fraction_bits, 23):
        widths += accumulation_errors(with_fraction_bits(unit, bits), [1024], kinds, intervals, 8, 0)
    return AccumulatorPage(hardware.name, unit, errors, widths, 64)


if __name__ == "__main__":
    shown(demo())
