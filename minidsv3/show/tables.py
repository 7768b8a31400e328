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

Next: minidsv3.show.phase_page
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.box import Box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from minidsv3.cost import Bill, Line, OpTotal, Total
from minidsv3.machine import Op, look_up
from minidsv3.show.chart import Bar
from minidsv3.show.forms import shown
from minidsv3.show.numbers import counted, duration, flops, shape, size

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
        padding=(0, 1, 0, 0),
        show_edge=False,
        title=title or None,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
    )


# ---- the bill ---------------------------------------------------------------------------------------------

RIGHT = {"layer", "eq.", "FLOPs", "bytes", "time", "share"}
NEEDED = {
    "eq.": 84,
    "formats": 100,
    "shapes": 108,
    "phase": 72,
    "FLOPs": 72,
    "bytes": 72,
    "bound": 48,
}  # columns of the screen


def fitted(rows: Sequence[Mapping[str, str]], options: ConsoleOptions, title: str = "") -> Table:
    """A table of the columns that fit; of these only shapes are cut short."""
    table = plain_table(title)
    names = [name for name in rows[0] if options.max_width >= NEEDED.get(name, 0)] if rows else []
    for name in names:
        least = None if name == "shapes" else max(len(name), *(len(row[name]) for row in rows))
        table.add_column(
            name,
            justify="right" if name in RIGHT else "left",
            no_wrap=True,
            min_width=least,
            overflow="crop" if options.ascii_only else "ellipsis",  # the ellipsis is no ASCII
        )
    for row in rows:
        table.add_row(*(Text(row[name]) for name in names))
    return table


def in_parts(
    rows: Sequence[Mapping[str, str]], options: ConsoleOptions, right: Collection[str] = (), keys: int = 1
) -> Iterator[RenderableType]:
    """A table whose columns stand below each other where they do not fit beside each other, nothing cut.

    right: columns flush right.  keys: so many first columns say which row it is and stand in every part.
    """
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) + 1 for name in rows[0]}
    heads, others = list(widths)[:keys], list(widths)[keys:]
    room = options.max_width + 1 - sum(widths[name] for name in heads) - keys
    parts: list[list[str]] = [[]]
    for name in others:
        if parts[-1] and sum(widths[n] + 1 for n in (*parts[-1], name)) > room + 1:
            parts.append([])
        parts[-1].append(name)
    for i, part in enumerate(parts):
        if i:
            yield Text()
        table, together = plain_table(), sum(widths[name] + 1 for name in (*heads, *part)) - 2
        for name in (*heads, *part):
            # a column that is too wide alone goes on in the next line
            whole = together <= options.max_width or name in heads
            least = widths[name] - 1 if whole else None
            table.add_column(name, no_wrap=whole, min_width=least)
            table.columns[-1].justify = "right" if name in right else "left"
        for row in rows:
            table.add_row(*(Text(row[name], overflow="fold") for name in (*heads, *part)))
        yield table


@dataclass(frozen=True)
class BillTable:
    """The ops of a bill, the longest first.  rows: how many to show, the rest in one line."""

    bill: Bill
    title: str = ""
    rows: int = 12

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown, rest = self.bill.by_op[: self.rows], self.bill.by_op[self.rows :]
        rows = []
        for total in shown:
            first = {"op": total.name, "eq.": ", ".join(total.equations), "phase": total.phase}
            rows.append(first | _counts(total) | {"share": f"{total.share:.1%}", "bound": total.bound})
        yield fitted(rows, options, self.title)
        if rest:
            left, whole = sum(total.seconds for total in rest), self.bill.total.seconds
            share = f"{left / whole:.0%}" if whole else "0%"
            more = f"and {counted(len(rest), 'more op')}"
            yield Text(f"{more}, {duration(left)}, {share} of the time", style="dim")

    def describe(self) -> str:
        """A line for each op that is shown."""
        return "\n".join(
            f"{total.name}, {total.phase}: {duration(total.seconds)}, {total.share:.1%} of the time, "
            f"{flops(total.matrix_flops + total.vector_flops)}, {size(sum(total.bytes.values()))}, "
            f"bound by {total.bound}"
            for total in self.bill.by_op[: self.rows]
        )


def _counts(row: OpTotal | Line) -> dict[str, str]:
    return {
        "shapes": shapes(row.shapes),
        "FLOPs": flops(row.matrix_flops + row.vector_flops),
        "bytes": size(sum(row.bytes.values())),
        "time": duration(row.seconds),
    }


def shapes(arrays: Iterable[tuple[int, ...]]) -> str:
    """Operands, then the result: `8x64, 64x32 -> 8x32`."""
    *operands, result = [shape(sizes) for sizes in arrays] or [""]
    return f"{', '.join(operands)} -> {result}" if operands else result


def is_rounded(line: Line) -> bool:
    """Whether a line's formats are a GPU's and not the laptop's."""
    return not {"float32", "float64"} & set(line.formats)


def formats(stored: Iterable[str]) -> str:
    """Formats of the operands, then of the result: `e4m3 1x128, e4m3 128x128 -> bf16`."""
    *operands, result = stored
    return f"{', '.join(operands)} -> {result}"


@dataclass(frozen=True)
class TraceTable:
    """The lines of a bill in the order in which they ran."""

    bill: Bill

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = []
        for line in self.bill.lines:
            op = line.op if line.expert is None else f"{line.op} [{line.expert}]"
            first = {"layer": "" if line.layer is None else str(line.layer), "op": op}
            first |= {"eq.": ", ".join(line.equations)}
            if any(other.phase == "backward" for other in self.bill.lines):
                first["pass"] = line.direction
            if any(map(is_rounded, self.bill.lines)):
                first["formats"] = formats(line.formats) if is_rounded(line) else ""
            rows.append(first | _counts(line) | {"bound": line.bound})
        yield fitted(rows, options)

    def describe(self) -> str:
        """A line for each row."""
        return "\n".join(
            f"{line.op}{'' if line.layer is None else f', layer {line.layer}'}: {shapes(line.shapes)}, "
            f"{flops(line.matrix_flops + line.vector_flops)}, {size(sum(line.bytes.values()))}, "
            f"{duration(line.seconds)}, bound by {line.bound}"
            for line in self.bill.lines
        )


@dataclass(frozen=True)
class RollUp:
    """Time by part of the model.  by: "part", "phase", "precision" or "layer"  bars: where there is room."""

    bill: Bill
    by: str = "part"
    bars: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide, barred = options.max_width >= 78, self.bars and options.max_width >= 56
        table = plain_table()
        bar_head = ("",) if barred else ()
        for name in (self.by, "time", "share", *bar_head, *(("FLOPs",) if wide else ()), "bound"):
            right = name in ("time", "share", "FLOPs")
            table.add_column(name, justify="right" if right else "left", no_wrap=True)
        totals: tuple[Total, ...] = getattr(self.bill, f"by_{self.by}")
        for total in totals:
            bar = (Bar(total.share, 24 if wide else 12),) if barred else ()
            work = (flops(total.matrix_flops + total.vector_flops),) if wide else ()
            table.add_row(total.name, duration(total.seconds), f"{total.share:.1%}", *bar, *work, total.bound)
        yield table

    def describe(self) -> str:
        """A line for each part."""
        return "\n".join(
            f"{total.name}: {duration(total.seconds)}, {total.share:.1%}, bound by {total.bound}"
            for total in getattr(self.bill, f"by_{self.by}")
        )


def bill_summary(bill: Bill) -> Text:
    """The bill's sums in two lines."""
    total = bill.total
    rows = counted(total.rows, "row")
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


def demo() -> RenderableType:
    """The bill of a nano model's forward pass: by op, by part, as it ran."""
    from minidsv3.config import ModelConfig
    from minidsv3.cost import bill
    from minidsv3.hardware import load_hardware
    from minidsv3.interpreter import Model
    from minidsv3.machine import Machine

    machine = Machine(trace=True)
    Model.initialise(ModelConfig.preset("nano")).logits([[1, 2, 3, 4]], machine=machine)
    found = bill(machine.trace, load_hardware("h800"))
    return Group(BillTable(found), Text(), RollUp(found), Text(), TraceTable(found))


if __name__ == "__main__":
    shown(demo())
