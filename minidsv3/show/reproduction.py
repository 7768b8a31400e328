"""Published figures beside what comes out: a table by group, and one figure explained to its last input.

A row says what was printed, what the figure's own inputs give, and the verdict in a word; figures derived here
are marked "ours". At 60 columns id, printed, computed and verdict stand; from 100 on the source too. Below an
entry that contradicts its inputs stands why, so that nobody has to ask for it.

Does: lay out. Does not: compute or judge (`minidsv3.cost.published`).

    >>> from minidsv3.cost.published import figures, recompute
    >>> from minidsv3.show.svg import plain_text
    >>> print(plain_text(Explained(recompute(figures()["kv.v3"])), width=60).splitlines()[0])
    kv.v3  KV cache a token, DeepSeek-V3 (MLA)

Next: minidsv3.show.what_if_table
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from minidsv3.cost.figures import STYLES, groups
from minidsv3.cost.published import VERDICTS, Input, Recomputed
from minidsv3.show.numbers import counted, number
from minidsv3.show.tables import plain_table

__all__ = ["Explained", "ReproductionTable", "summary"]

MARKS = {
    "equal": "=",
    "contradicts": "!",
    "differs": "X",
    "corrected": "!",
}  # beside the word, never colour alone
COLOURS = {"equal": "green", "contradicts": "yellow", "differs": "bold red", "corrected": "yellow"}
WITH_SOURCE, WITH_TITLE = 100, 120  # columns of the screen


def summary(found: Sequence[Recomputed]) -> str:
    """How many of each verdict, in a line."""
    ours = sum(one.verdict == "equal" and one.figure.ours for one in found)
    said = []
    for verdict in VERDICTS:
        if count := sum(one.verdict == verdict for one in found):
            more = f" ({ours} ours)" if verdict == "equal" and ours else ""
            said.append(f"{count} {verdict}{more}")
    return f"{counted(len(found), 'figure')}: {', '.join(said)}"


@dataclass(frozen=True)
class ReproductionTable:
    """All figures, group by group, and a last line that counts verdicts.  reasons: say why below what contradicts."""

    found: Sequence[Recomputed]
    reasons: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths()
        for group, title in groups().items():
            members = [one for one in self.found if one.figure.group == group]
            if members:
                yield Text(title, "bold cyan")
                yield from self._group(members, options, widths)
                yield Text()
        yield Text(summary(self.found), "bold")

    def _widths(self) -> dict[str, int]:
        """The same columns in every group."""
        cells = [_cells(one) for one in self.found]
        return {name: max(len(row[name]) for row in cells) for name in cells[0]} if cells else {}

    def _group(
        self, members: Sequence[Recomputed], options: ConsoleOptions, widths: dict[str, int]
    ) -> Iterator[RenderableType]:
        table = self._table(options, widths)
        for one in members:
            row = _cells(one)
            texts = [Text(row[str(column.header)], overflow="fold") for column in table.columns]
            texts[3].stylize(COLOURS.get(one.verdict, "dim"))
            table.add_row(*texts)
            if self.reasons and one.verdict in ("contradicts", "corrected", "differs"):
                yield table
                yield Padding(Text(_reason(one), "dim"), (0, 0, 0, 4))
                table = self._table(options, widths)
        if table.row_count:
            yield table

    def _table(self, options: ConsoleOptions, widths: dict[str, int]) -> Table:
        table = plain_table()
        table.show_header = False
        names = ["id", "printed", "computed", "verdict"]
        names += ["source"] if options.max_width >= WITH_SOURCE else []
        for name in names:
            fixed = name in ("id", "verdict") or (name != "source" and widths[name] <= 16)
            right = name in ("printed", "computed")
            table.add_column(
                name,
                justify="right" if right else "left",
                width=min(widths[name], options.max_width // 3) if fixed else None,
            )
        return table


def _cells(one: Recomputed) -> dict[str, str]:
    f = one.figure
    return {
        "id": f.id,
        "printed": f.printed,
        "computed": f"{one.text} {_unit(one)}".strip(),
        "verdict": _verdict(one),
        "source": f.source,
    }


def _verdict(one: Recomputed) -> str:
    return f"{MARKS.get(one.verdict, ' ')} {one.verdict}{', ours' if one.figure.ours else ''}"


def _unit(one: Recomputed) -> str:
    unit = one.figure.unit
    return "" if unit is None or one.computed is None or unit.name == "count" else unit.name


def _reason(one: Recomputed) -> str:
    f = one.figure
    return f'says "{f.says}"; {f.correct}' if f.says else f.why


@dataclass(frozen=True)
class Explained:
    """One figure: printed, computed, the formula, and each input with unit, source and status."""

    one: Recomputed

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        f = self.one.figure
        yield Text.assemble((f.id, "bold cyan"), "  ", f.title)
        for name, said in self._facts().items():
            if said:
                yield Padding(Text(f"{name}: {said}", overflow="fold"), (0, 0, 0, 2))
        if self.one.inputs:
            yield Padding(Group(*(Text(_input(i)) for i in self.one.inputs)), (0, 0, 0, 4))

    def _facts(self) -> dict[str, str]:
        one, f = self.one, self.one.figure
        style = (
            f", {STYLES[f.style]}: within {number(f.tolerance)} {_unit(one)}".rstrip()
            if f.tolerance is not None
            else ""
        )
        module = f"minidsv3.cost.{f.calculation}" if f.calculation else ""
        return {
            "printed": f"{f.printed}{style}" if f.printed else "",
            "says": f.says,
            "correct": f.correct,
            "computed": f"{one.text} {_unit(one)}".strip(),
            "verdict": f"{_verdict(one).strip()}, {VERDICTS[one.verdict]}",
            "source": f.source + (" (derived here, printed nowhere)" if f.ours else ""),
            "why": f.why,
            "formula": f.formula,
            "calculation": f"{module}: {one.says}" if module else "",
        }

    def describe(self) -> str:
        """The same as sentences."""
        facts = "; ".join(f"{name} {said}" for name, said in self._facts().items() if said)
        return f"{self.one.figure.title}: {facts}"


def _input(one: Input) -> str:
    value = one.given if not isinstance(one.value, int | float) else _short(one.value)
    return f"{one.name} = {value} {one.unit}".rstrip() + f"  [{one.given}; {one.source}; {one.status}]"


def _short(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else number(value)
