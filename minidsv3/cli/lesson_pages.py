"""What the pages of a lesson say: a cell and what it gave, its ops, one op, variables, equations, sources.

Does: lay out. Does not: run cells (`minidsv3.learn.player`), print (`lesson_screen`).

    >>> from minidsv3.learn.percent import parse
    >>> [str(part) for part in cell_page(parse("# %% Add\\nx = 1 + 1\\n")[0], 0, 3)][:1]
    ['cell 1 of 3: Add']

Next: minidsv3.cli.lesson_player
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.markdown import Markdown
from rich.syntax import Syntax
from rich.table import Column, Table
from rich.text import Text

from minidsv3.cli.terminal import reads_aloud
from minidsv3.cost import bill
from minidsv3.hardware import Hardware, load_hardware
from minidsv3.learn.inspection import inspected
from minidsv3.learn.percent import Cell
from minidsv3.learn.player import CellResult, Player, Variable
from minidsv3.machine import Event, Op, Row, look_up
from minidsv3.show.chart import Sparkline
from minidsv3.show.numbers import counted, flops, size
from minidsv3.show.op_card import OpCard

__all__ = [
    "cell_page",
    "equation_page",
    "found_page",
    "op_page",
    "source_page",
    "trace_page",
    "variables_page",
]

Page = list[RenderableType]
WIDEST = 34  # characters of a value
SPARK = 10  # columns of a sparkline
MOST_LINES = 400  # of what a cell printed


@lru_cache
def _hardware() -> Hardware:
    return load_hardware("h800")


def cell_page(cell: Cell, index: int, of: int, result: CellResult | None = None) -> Page:
    """A cell, and what running it gave, if it ran."""
    about = f" (eq. {cell.equations})" if cell.equations else ""
    page: Page = [Text(f"cell {index + 1} of {of}: {cell.title}{about}", "bold"), ""]
    if cell.kind == "markdown":
        page.append(cell.text if reads_aloud() else Markdown(cell.text))
    else:
        page.append(_code(cell.text))
    return page if result is None else [*page, *_given(result)]


def _code(text: str) -> RenderableType:
    if reads_aloud():
        return text
    return Syntax(text, "python", theme="ansi_dark", background_color="default", word_wrap=True)


def _given(result: CellResult) -> Page:
    """What a cell printed, its pictures, its error."""
    page: Page = []
    if result.output:
        lines = result.output.rstrip("\n").split("\n")
        if len(lines) > MOST_LINES:
            lines = [*lines[:MOST_LINES], f"… {len(lines) - MOST_LINES} more lines"]
        page += ["", Text("\n".join(lines), overflow="fold")]
    for _, picture in result.pictures:
        page += ["", picture]
    if not result.ok:
        page += ["", Text(f"cell {result.index + 1}, {result.title!r} failed:", "bold red")]
        page += [Text(result.error.rstrip("\n"), overflow="fold")]
        page += ["everything is as it was in front of the cell: r runs it again, o edits it"]
    return page


# ---- ops --------------------------------------------------------------------------------------------------


def trace_page(result: CellResult) -> Page:
    """The ops of a cell, those of the same id together (layers, experts)."""
    together: dict[str, list[Row]] = {}
    for row in _rows(result):
        together.setdefault(row.op, []).append(row)
    table = _table("op", "eq.", "times", "first result", "FLOPs", "bytes", give=("eq.", "first result"))
    for op, rows in together.items():
        done, moved = sum(r.matrix_flops + r.vector_flops for r in rows), sum(r.total_bytes for r in rows)
        numbers, shape = ", ".join(look_up(op).equations), str(list(rows[0].shapes[-1]))
        _add(table, op, numbers, str(len(rows)), shape, flops(done), size(moved))
    ran = counted(len(_rows(result)), "op")
    return [Text(f"trace of cell {result.index + 1}: {ran}; d goes into them", "bold"), table]


def _rows(result: CellResult) -> Sequence[Row]:
    rows = result.rows or [event.row for event in result.events]
    if not rows:
        raise ValueError("this cell ran no traced op")
    return rows


def op_page(result: CellResult, number: int) -> Page:
    """One op of a cell, with its values if they are still held."""
    events: Sequence[Event | Row] = result.events or result.rows
    event = events[number]
    before = [one.row if isinstance(one, Event) else one for one in events[: number + 1]]
    so_far = sum(line.seconds for line in bill(before, _hardware()).lines)
    picture: Any = "its values are not held; r runs the cell again"
    if isinstance(event, Event) and event.outputs:
        picture = _picture(event)
    where = Text(f"cell {result.index + 1}: {result.title}, op {number + 1} of {len(events)}", "bold")
    return [where, "", OpCard(event, _hardware(), so_far, picture)]


def _picture(event: Event) -> Any:
    """The result of an op."""
    symbol, array = event.outputs[0]
    return inspected(symbol, {symbol: array}, [event.row])


def equation_page(result: CellResult, cell: Cell | None, word: str) -> Page:
    """The card of one op; without a word the equations of the cell's ops, those it is about first."""
    ran: dict[str, Row] = {}
    for row in result.rows or [event.row for event in result.events]:
        ran.setdefault(row.op, row)
    if word:
        op = look_up(word)
        return [OpCard(ran[op.id], _hardware())] if op.id in ran else _card(op)
    about = set((cell.equations if cell else "").replace(",", " ").split())
    ops = sorted(map(look_up, ran), key=lambda op: not about & set(op.equations))
    if not ops:
        raise ValueError("expected an op's id, such as mla.softmax: this cell ran none")
    table = _table("eq.", "op", "formula", "shapes", give=("formula", "shapes"))
    for op in ops:
        _add(table, ", ".join(op.equations), op.id, op.formula, str(op.signature))
    return [Text(f"equations of cell {result.index + 1}; e OP shows one op's card", "bold"), table]


def _card(op: Op) -> Page:
    numbers = ", ".join(op.equations)
    return [
        Text(f"{op.id}, eq. {numbers}: {op.formula}", "bold"),
        f"shapes: {op.signature}",
        f"symbols: {', '.join(op.symbols)}",
    ]


def source_page(op: Op) -> Page:
    """The function of the package that computes an op, and where it is."""
    module, _, name = op.source.rpartition(".")
    function = getattr(import_module(module), name)
    lines, first = inspect.getsourcelines(function)
    path = Path(inspect.getsourcefile(function) or "")
    where = "/".join((*module.split(".")[:-1], path.name))
    head = f"{op.id}, eq. {', '.join(op.equations)}: {op.formula}"
    return [Text(head, "bold"), f"{where}:{first}", "", _code("".join(lines).rstrip("\n"))]


# ---- names ------------------------------------------------------------------------------------------------


def variables_page(variables: Iterable[Variable]) -> Page:
    """The lesson's names, those that the cell changed first."""
    table = _table("name", "type", "shape", "value", "", give=("value",))
    for v in variables:
        shape = "" if v.shape is None else "x".join(map(str, v.shape)) or "scalar"
        text = v.text if v.low is None else f"{v.low:.3g} .. {v.high:.3g}, mean {v.mean:.3g}"
        text = text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"
        spark: RenderableType = Sparkline(v.line, SPARK) if len(v.line) > 1 and not reads_aloud() else ""
        _add(table, v.name + (" *" if v.changed else ""), v.kind, shape, text, spark)
    return [Text("variables; i NAME looks at one", "bold"), table, "* made or changed by this cell"]


def _table(*columns: str, give: Sequence[str]) -> Table:
    """A table whose rows are one line each.  give: columns that give way where there is no room for all."""
    return Table(*(Column(name, no_wrap=name not in give, overflow="ellipsis") for name in columns), box=None)


def _add(table: Table, *cells: RenderableType) -> None:
    """A row; what does not fit of a text ends in an ellipsis."""
    table.add_row(*(Text(c, no_wrap=True, overflow="ellipsis") if isinstance(c, str) else c for c in cells))


def found_page(player: Player, text: str, most: int = 20) -> Page:
    """The lines of the lesson in which a text stands, with their cells."""
    found = _lines_with(player.cells, text)
    if not found:
        raise ValueError(f"expected a text of the lesson, found {text!r} nowhere")
    table = _table("cell", "line", give=("line",))
    for number, line in found[:most]:
        _add(table, str(number), line)
    return [Text(f"{counted(len(found), 'line')} with {text!r}; g NUMBER goes to a cell", "bold"), table]


def _lines_with(cells: Sequence[Cell], text: str) -> list[tuple[int, str]]:
    lines = (
        (n, line.strip()) for n, cell in enumerate(cells, 1) for line in (cell.title, *cell.text.split("\n"))
    )
    return [(n, line) for n, line in lines if text.casefold() in line.casefold()]


def symbols_of(event: Event | Row | None) -> Mapping[str, Any]:
    """Arrays of an op by symbol."""
    return dict((*event.inputs, *event.outputs)) if isinstance(event, Event) else {}
