"""The bill as a table, its roll-up as bars, the op catalogue and the glossary.

A bill's table has a row for each op and phase, the longest first. Columns that do not fit are left out, the
most telling kept: at 60 columns op, time, share and bound; at 80 FLOPs and bytes too; from 100 on equation
and shapes.

Does: lay out a `Bill` and the catalogue. Does not: price (`minidsv3.cost`).

    >>> from minidsv3.cost import bill
    >>> from minidsv3.hardware import load_hardware
    >>> from minidsv3.machine import Row, Trace
    >>> from minidsv3.show.svg import plain_text
    >>> rows = Trace([Row(op="mla.out", phase="forward", matrix_flops=10**12, bytes={"weight": 4 * 10**9})])
    >>> print(plain_text(bill_summary(bill(rows, load_hardware("h800"))), width=60))
    1 row, 1.00 TFLOP of products, 2.00 GB moved
    1.01 ms on NVIDIA H800 SXM, bound by compute

Next: minidsv3.show.dashboard
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rich.box import Box
from rich.console import Console, ConsoleOptions, Group, OverflowMethod, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from minidsv3.cost import Bill, OpTotal
from minidsv3.machine import Op, look_up
from minidsv3.show.chart import Bar
from minidsv3.show.numbers import count, duration, flops, shape, size

__all__ = [
    "BillTable",
    "RollUp",
    "TraceTable",
    "bill_summary",
    "catalogue_table",
    "glossary_table",
    "op_card",
]


# one dashed rule below the heads, the same in every encoding
RULED = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


def plain_table(title: str = "") -> Table:
    """A table in the house's style."""
    return Table(
        box=RULED,
        show_edge=False,
        title=title or None,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
    )


def cut(options: ConsoleOptions) -> OverflowMethod:
    """How a cell that is too long ends: the ellipsis is no ASCII."""
    return "crop" if options.ascii_only else "ellipsis"


# ---- the bill ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BillTable:
    """The ops of a bill, the longest first.  rows: how many to show, the rest in one line."""

    bill: Bill
    title: str = ""
    rows: int = 12

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = _columns(options.max_width)
        table = plain_table(self.title)
        for name in columns:
            right = name in ("FLOPs", "bytes", "time", "share", "eq.")
            table.add_column(name, justify="right" if right else "left", no_wrap=True, overflow=cut(options))
        for total in self.bill.by_op[: self.rows]:
            table.add_row(*(_cell(total, name) for name in columns))
        yield table
        rest = self.bill.by_op[self.rows :]
        if rest:
            left = sum(total.seconds for total in rest)
            whole = self.bill.total.seconds
            share = f"{left / whole:.0%}" if whole else "0%"
            yield Text(
                f"and {len(rest)} more op{'s' * (len(rest) > 1)}, {duration(left)}, {share} of the time",
                style="dim",
            )


def _columns(width: int) -> list[str]:
    names = ["op", "time", "share", "bound"]
    if width >= 72:
        names = ["op", "phase", "FLOPs", "bytes", "time", "share", "bound"]
    if width >= 100:
        names.insert(1, "eq.")
        names.insert(3, "shapes")
    return names


def _cell(total: OpTotal, column: str) -> str:
    match column:
        case "op":
            return total.name
        case "phase":
            return total.phase
        case "eq.":
            return ", ".join(total.equations)
        case "shapes":
            return shapes(total.shapes)
        case "FLOPs":
            return flops(total.matrix_flops + total.vector_flops)
        case "bytes":
            return size(sum(total.bytes.values()))
        case "time":
            return duration(total.seconds)
        case "share":
            return f"{total.share:.1%}"
        case _:
            return total.bound


def shapes(arrays: Iterable[tuple[int, ...]]) -> str:
    """Operands, then the result: `8x64, 64x32 -> 8x32`."""
    *operands, result = [shape(sizes) for sizes in arrays] or [""]
    return f"{', '.join(operands)} -> {result}" if operands else result


@dataclass(frozen=True)
class TraceTable:
    """The lines of a bill in the order in which they ran."""

    bill: Bill

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide, counts = options.max_width >= 100, options.max_width >= 72
        table = plain_table()
        names = ["layer", "op", *(("eq.", "shapes") if wide else ()), *(("FLOPs", "bytes") if counts else ())]
        for name in (*names, "time", "bound"):
            right = name in ("layer", "FLOPs", "bytes", "time", "eq.")
            table.add_column(name, justify="right" if right else "left", no_wrap=True, overflow=cut(options))
        for line in self.bill.lines:
            where = "" if line.layer is None else str(line.layer)
            expert = "" if line.expert is None else f" [{line.expert}]"
            details = (", ".join(line.equations), shapes(line.shapes)) if wide else ()
            work = (flops(line.matrix_flops + line.vector_flops), size(sum(line.bytes.values())))
            time = duration(line.seconds)
            table.add_row(
                where, Text(line.op + expert), *details, *(work if counts else ()), time, line.bound
            )
        yield table


@dataclass(frozen=True)
class RollUp:
    """Time by part of the model, as bars."""

    bill: Bill

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= 78
        table = plain_table()
        for name in ("part", "time", "share", "", *(("FLOPs",) if wide else ()), "bound"):
            right = name in ("time", "share", "FLOPs")
            table.add_column(name, justify="right" if right else "left", no_wrap=True)
        for total in self.bill.by_part:
            bar, share = Bar(total.share, 24 if wide else 12), f"{total.share:.1%}"
            work = (flops(total.matrix_flops + total.vector_flops),) if wide else ()
            table.add_row(total.name, duration(total.seconds), share, bar, *work, total.bound)
        yield table


def bill_summary(bill: Bill) -> Text:
    """The bill's sums in two lines."""
    total = bill.total
    rows = f"{count(total.rows)} row{'' if total.rows == 1 else 's'}"
    moved = size(sum(total.bytes.values()))
    return Text(
        f"{rows}, {flops(total.matrix_flops)} of products, {moved} moved\n"
        f"{duration(total.seconds)} on {bill.hardware_name}, bound by {total.bound}"
    )


# ---- catalogue and glossary -------------------------------------------------------------------------------


def catalogue_table(ops: Iterable[Op]) -> Table:
    """All ops: id, equations, formula, signature."""
    table = plain_table()
    for name in ("op", "eq.", "formula", "signature"):
        table.add_column(name, no_wrap=name in ("op", "eq."), overflow="fold")
    for op in ops:
        table.add_row(op.id, ", ".join(op.equations), Text(op.formula), str(op.signature))
    return table


def op_card(op_id: str) -> RenderableType:
    """One op in full."""
    op = look_up(op_id)
    arrays = [f"{s} [{axes}] ({kind})" for s, axes, kind in zip(op.symbols, _axes(op), op.kinds, strict=True)]
    facts = {
        "formula": op.formula,
        "equation": ", ".join(op.equations) + " of the technical report",
        "signature": str(op.signature),
        "operands": "; ".join(arrays[:-1]),
        "result": arrays[-1],
        "part": op.part,
        "source": op.source,
        "lesson": op.lesson,
    }
    return Group(Text(op.id, style="bold"), facts_table(facts))


def _axes(op: Op) -> list[str]:
    left, _, right = str(op.signature).partition("->")
    return [axes.strip() for axes in (*left.split(","), right)]


def facts_table(facts: Mapping[str, str]) -> Table:
    """Names and values, a line each."""
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(Text(name, style="dim", no_wrap=True), Text(value, overflow="fold"))
    return table


def glossary_table(glossary: Mapping[str, Mapping[str, str]]) -> Table:
    """The report's symbols."""
    table = plain_table()
    for name in ("symbol", "meaning", "shape", "published tensor", "eq."):
        table.add_column(name, no_wrap=name in ("symbol", "eq."), overflow="fold")
    for name, row in glossary.items():
        table.add_row(
            Text(name), row["meaning"], Text(row["shape"]), row.get("tensor", ""), row.get("equation", "")
        )
    return table
