"""A machine as a table: every value with unit, status and the number of its source; all machines, a row each.

Values stand by table of the file, sources below, each once, with the number that its values show: so each
number can be traced to who said it, and what is assumed can be counted.

Does: lay out `Hardware`. Does not: read files, compare two (`minidsv3.show.hardware_difference`).

    >>> from minidsv3.hardware import load_hardware
    >>> from minidsv3.show.svg import plain_text
    >>> lines = plain_text(HardwareTable(load_hardware("h800")), width=70).splitlines()
    >>> for line in [lines[1], *(line for line in lines if "[12]" in line)]:
    ...     print(line.rstrip())
    h800: 52 values: 10 datasheet, 16 report, 8 measured, 18 assumed
      bandwidth                 3.35 TB/s  datasheet    [12]
    [12] NVIDIA H800 datasheet

Next: minidsv3.show.hardware_difference
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from minidsv3.hardware import Hardware, Quantity, TensorCore
from minidsv3.hardware.schema import meaning
from minidsv3.hardware.units import STATUSES
from minidsv3.show.forms import shown
from minidsv3.show.numbers import counted, size
from minidsv3.show.tables import in_parts, plain_table

__all__ = ["HardwareList", "HardwareTable", "hardware_json", "named"]

STYLES = {"measured": "green", "assumed": "yellow"}  # the word stands beside the colour
NARROW = 56  # columns below which a value is a line, not a row
WIDE = 100  # columns from which on a value's meaning stands beside it
TENSOR_CORE = "tensor_core"


@dataclass(frozen=True)
class HardwareTable:
    """One machine, every value of it."""

    hardware: Hardware

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(named(self.hardware), "bold cyan")
        yield Text(self.summary(), "dim")
        chip = {path: q for path, q in self.hardware.values.items() if not path.startswith(TENSOR_CORE)}
        yield Text()
        if options.max_width < NARROW:
            yield from self._lines(chip)
        else:
            yield self._values(chip, options.max_width >= WIDE)
        if self.hardware.tensor_core:
            yield from self._cores(options)
        yield Text("\nsources", "bold")
        yield self._sources()

    def numbers(self) -> dict[str, int]:
        """The number of each source, from 1 on."""
        return {source: number for number, source in enumerate(self.hardware.sources, 1)}

    def summary(self) -> str:
        """How many values there are, and how many of each status."""
        values = self.hardware.values.values()
        each = [(sum(q.status == status for q in values), status) for status in STATUSES]
        said = ", ".join(f"{number} {status}" for number, status in each if number)
        return f"{self.hardware.id}: {counted(len(values), 'value')}: {said}"

    def _lines(self, values: Mapping[str, Quantity]) -> Iterator[Text]:
        """The same for few columns, a value a line."""
        numbers = self.numbers()
        for head, paths in groupby(values, key=lambda path: path.rpartition(".")[0]):
            yield Text(head, "bold")
            for path in paths:
                q = values[path]
                yield Text(f"  {path.rpartition('.')[2]}  {q.text}, {q.status} [{numbers[q.source]}]")

    def _values(self, values: Mapping[str, Quantity], wide: bool) -> Table:
        """Values by table of the file."""
        numbers, table = self.numbers(), plain_table()
        table.add_column("", no_wrap=True)
        table.add_column("value", no_wrap=True, justify="right")
        table.add_column("status", no_wrap=True)
        table.add_column("source", no_wrap=True, justify="right")
        if wide:
            table.add_column("meaning")
        for head, paths in groupby(values, key=lambda path: path.rpartition(".")[0]):
            table.add_row(Text(head, "bold"))
            for path in paths:
                q = values[path]
                last = [Text(meaning(path), "dim")] if wide else []
                cells = [Text(f"  {path.rpartition('.')[2]}"), Text(q.text), Text(q.status, _style(q.status))]
                table.add_row(*cells, Text(f"[{numbers[q.source]}]"), *last)
        return table

    def _cores(self, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The tensor core, a row a format."""
        values = self.hardware.values
        family = values.get(f"{TENSOR_CORE}.family")
        number = f", source [{self.numbers()[family.source]}]" if family else ""
        named = f"{TENSOR_CORE}: {family.text} ({family.status}{number})" if family else TENSOR_CORE
        yield Text(f"\n{named}", "bold")
        rows = [self._core(unit) for unit in self.hardware.tensor_core.values()]
        yield from in_parts(rows, options, right=("terms", "depth", "bits", "out bits", "source"))
        yield Text("bits: fraction bits kept of each term; out bits: of the sum", "dim")

    def _core(self, unit: TensorCore) -> dict[str, str]:
        start = f"{TENSOR_CORE}.{unit.format}."
        own = [q for path, q in self.hardware.values.items() if path.startswith(start)]
        sources = dict.fromkeys(self.numbers()[q.source] for q in own)
        return {
            "operands": unit.format,
            "terms": str(unit.terms),
            "depth": str(unit.depth),
            "bits": str(unit.fraction_bits),
            "out bits": str(unit.output_fraction_bits),
            "rounding": unit.rounding,
            "status": unit.status,
            "source": "".join(f"[{number}]" for number in sources),
        }

    def _sources(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for source, number in self.numbers().items():
            table.add_row(Text(f"[{number}]", no_wrap=True), Text(source, overflow="fold"))
        return table

    def describe(self) -> str:
        """A sentence for each value."""
        said = [
            f"{path}: {q.text} ({q.status}: {q.source}); {meaning(path)}."
            for path, q in self.hardware.values.items()
        ]
        return "\n".join([named(self.hardware), f"{self.summary()}.", *said])


def _style(status: str) -> str:
    return STYLES.get(status, "")


def named(hardware: Hardware) -> str:
    """The name, and how many of its values are a what-if."""
    changed = sum(q.source.startswith("what if") for q in hardware.given.values())
    return hardware.name + (f" with {counted(changed, 'value')} changed" if changed else "")


HEADLINES = {
    "SMs": "chip.sm.count",
    "FP8": "chip.peak.fp8",
    "BF16": "chip.peak.bf16",
    "memory": "chip.hbm.capacity",
    "memory/s": "chip.hbm.bandwidth",
    "GPUs": "node.gpus",
    "NVLink/s": "node.nvlink.one_direction",
    "NIC/s": "fabric.line",
}


@dataclass(frozen=True)
class HardwareList:
    """Machines by their headline numbers, a row each."""

    machines: Sequence[Hardware]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from in_parts(self.rows(), options, right=[*HEADLINES, "FLOP/B", "assumed"])
        yield Text(
            "dense FLOP/s of one GPU; NVLink and NIC in one direction; FLOP/B: BF16\n"
            "operations in the time of one byte; assumed: of its values, nobody prints",
            "dim",
        )

    def rows(self) -> list[dict[str, str]]:
        """The table."""
        return [self._row(machine) for machine in self.machines]

    def _row(self, machine: Hardware) -> dict[str, str]:
        row = {"": machine.id} | {name: _headline(machine, path) for name, path in HEADLINES.items()}
        peak, memory = (machine.values.get(path) for path in ("chip.peak.bf16", "chip.hbm.bandwidth"))
        ridge = f"{peak.si / memory.si:.0f}" if peak and memory else "-"
        assumed = sum(q.status == "assumed" for q in machine.values.values())
        return row | {"FLOP/B": ridge, "assumed": f"{assumed} of {len(machine.values)}"}

    def describe(self) -> str:
        """A sentence for each machine."""
        return "\n".join(
            f"{row['']}: " + "; ".join(f"{name} {cell}" for name, cell in row.items() if name) + "."
            for row in self.rows()
        )


def _headline(machine: Hardware, path: str) -> str:
    if path not in machine.values:
        return "-"
    q = machine.values[path]
    short = {"FLOP/s": lambda si: size(si)[:-1].strip(), "B/s": size, "B": size}
    return short[q.dimension](q.si) if q.dimension in short else q.text


def hardware_json(hardware: Hardware) -> dict[str, Any]:
    """One machine as plain values, each with its meaning and its number in base units."""
    values = {
        path: asdict(q) | {"si": None if q.unit == "name" else q.si, "meaning": meaning(path)}
        for path, q in hardware.values.items()
    }
    return {"id": hardware.id, "name": hardware.name, "values": values}


def demo() -> HardwareTable:
    """The H800."""
    from minidsv3.hardware import load_hardware

    return HardwareTable(load_hardware("h800"))


if __name__ == "__main__":
    shown(demo())
