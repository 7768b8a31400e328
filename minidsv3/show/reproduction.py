"""Published figures beside what comes out: a table by group, and one figure explained to its last input.

A row says what was printed, what the figure's own inputs give in the same unit, and the verdict in a word,
with a sign beside it; figures derived here are "ours". Below an entry that contradicts its inputs stands why,
below one that comes out what to mind. At 60 columns signs stand for the verdict; from 100 on the source is
shown too, cut where it is long.

Does: lay out. Does not: compute or judge (`minidsv3.cost.published`).

    >>> from minidsv3.cost.published import figures, recompute
    >>> from minidsv3.show.svg import plain_text
    >>> table = ReproductionTable([recompute(figures()[id_]) for id_ in ("kv.v3", "kv.mha")])
    >>> print(plain_text(table, width=60))
    KV cache a token
    kv.v3   70.272 KB  70.272  =
    kv.mha   3.998 MB  3.9977  =*
    <BLANKLINE>
    2 figures: 2 equal (1 of them ours)
    = comes out as printed, * ours

Next: minidsv3.show.what_if_table
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from minidsv3.cost.figures import STYLES, groups
from minidsv3.cost.published import VERDICTS, Input, Recomputed
from minidsv3.show.numbers import counted, number
from minidsv3.show.tables import plain_table

__all__ = ["Explained", "ReproductionTable", "summary"]

MARKS = {"equal": "=", "contradicts": "!", "differs": "X", "corrected": "!", "constant": ".", "measured": "."}
COLOURS = {"equal": "green", "contradicts": "yellow", "differs": "bold red", "corrected": "yellow"}
WITH_WORDS, WITH_SOURCE = 76, 100  # columns of the screen
INDENT, GAP = 4, 2  # columns in front of a remark, between columns of the table


def summary(found: Sequence[Recomputed]) -> str:
    """How many of each verdict, in a line."""
    ours = sum(one.verdict == "equal" and one.figure.ours for one in found)
    said = []
    for verdict in VERDICTS:
        if count := sum(one.verdict == verdict for one in found):
            said.append(
                f"{count} {verdict}" + (f" ({ours} of them ours)" if verdict == "equal" and ours else "")
            )
    return f"{counted(len(found), 'figure')}: {', '.join(said) or 'none'}"


@dataclass(frozen=True)
class ReproductionTable:
    """All figures, group by group, and a last line that counts the verdicts."""

    found: Sequence[Recomputed]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = _widths([_cells(one) for one in self.found], options.max_width)
        for group, title in groups().items():
            members = [one for one in self.found if one.figure.group == group]
            if members:
                yield Text(title, "bold cyan")
                yield from _group(members, widths, options)
                yield Text()
        yield Text(summary(self.found), "bold")
        if "mark" in widths and self.found:
            yield Text(self._legend(), "dim")

    def _legend(self) -> str:
        """The signs that stand for words where there is no room for these."""
        shown = {MARKS[one.verdict]: VERDICTS[one.verdict] for one in self.found}
        ours = {"*": "ours"} if any(one.figure.ours for one in self.found) else {}
        return ", ".join(f"{mark} {word}" for mark, word in (shown | ours).items())

    def describe(self) -> str:
        """A sentence a figure."""
        said = [f"{one.figure.title}: {_sentence(one)}" for one in self.found]
        return "\n".join([*said, f"{summary(self.found)}."])


def _group(
    members: Sequence[Recomputed], widths: Mapping[str, int], options: ConsoleOptions
) -> Iterator[RenderableType]:
    """Rows; below a row, or several with the same, what is to be said of it."""
    table, remarks = _table(widths, options.ascii_only), [_remark(one) for one in members]
    for one, remark, following in zip(members, remarks, [*remarks[1:], ""], strict=True):
        row = _cells(one)
        texts = {name: Text(row[name]) for name in widths}
        for name in ("verdict", "mark"):
            if name in texts:
                texts[name].stylize(COLOURS.get(one.verdict, "dim"))
        table.add_row(*texts.values())
        if remark and remark != following:
            yield table
            yield Text(_indented(remark, INDENT, options.max_width), "dim")
            table = _table(widths, options.ascii_only)
    if table.row_count:
        yield table


def _table(widths: Mapping[str, int], ascii_only: bool) -> Table:
    table = plain_table()
    table.show_header = False
    for name, width in widths.items():
        table.add_column(
            name,
            justify="right" if name in ("printed", "computed") else "left",
            width=width,
            no_wrap=name == "source",
            overflow="fold" if name != "source" else "crop" if ascii_only else "ellipsis",
        )
    return table


def _widths(cells: Sequence[Mapping[str, str]], room: int) -> dict[str, int]:
    """Columns and their widths, the same in every group: numbers share what the words leave."""
    most = {name: max((len(row[name]) for row in cells), default=0) for name in ("id", "printed", "computed")}
    said = "verdict" if room >= WITH_WORDS else "mark"
    fixed = {"id": most["id"], said: max((len(row[said]) for row in cells), default=0)}
    left = room - sum(fixed.values()) - 3 * GAP
    printed = min(most["printed"], max(left // 2, left - most["computed"]))
    widths = {"id": fixed["id"], "printed": printed, "computed": min(most["computed"], left - printed)}
    widths[said] = fixed[said]
    rest = room - sum(widths.values()) - 4 * GAP
    return widths | ({"source": rest} if room >= WITH_SOURCE and rest > 12 else {})


def _cells(one: Recomputed) -> dict[str, str]:
    f, mark = one.figure, MARKS[one.verdict]
    word = f"{mark} {one.verdict}{', ours' if f.ours else ''}"
    return {
        "id": f.id,
        "printed": f.printed,
        "computed": one.text,
        "verdict": word,
        "mark": f"{mark}{'*' if f.ours else ''}",
        "source": f.source,
    }


def _remark(one: Recomputed) -> str:
    """Why something does not come out as printed, or what is to be said of it though it does."""
    f = one.figure
    if f.says:
        return f'says "{f.says}"; {f.correct}'
    return f.why if one.figure.calculation and not one.figure.ours else ""


def _sentence(one: Recomputed) -> str:
    printed = f"printed {one.figure.printed}, " if one.figure.printed else ""
    computed = f"computed {_computed(one)}, " if one.text else ""
    remark = _remark(one)
    return f"{printed}{computed}{VERDICTS[one.verdict]}" + (f": {remark}." if remark else ".")


def _computed(one: Recomputed) -> str:
    unit = one.figure.unit
    return f"{one.text} {unit.name}" if one.text and unit and unit.name != "count" else one.text


@dataclass(frozen=True)
class Explained:
    """One figure: printed, computed, the formula, and each input with unit, source and status."""

    one: Recomputed

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text.assemble((self.one.figure.id, "bold cyan"), "  ", self.one.figure.title)
        for name, said in self._facts().items():
            yield Text(_indented(f"{name}: {said}", INDENT // 2, options.max_width))
        for one in self.one.sourced:
            yield Text(_indented(_input(one), INDENT, options.max_width))

    def _facts(self) -> dict[str, str]:
        one, f = self.one, self.one.figure
        module = f"minidsv3.cost.{f.calculation}" if f.calculation else ""
        ours = "derived here, printed nowhere" if f.ours else ""
        remark = "why" if one.verdict in ("contradicts", "differs") else "remark"
        facts = {
            "printed": f.printed + self._rounding(),
            "says": f.says,
            "correct": f.correct,
            "computed": _computed(one),
            "verdict": f"{one.verdict}, {VERDICTS[one.verdict]}",
            "source": "; ".join(filter(None, (ours, "" if f.source == "ours" else f.source))),
            remark: f.why,
            "formula": f.formula,
            "calculation": f"{module}: {one.says}" if module else "",
        }
        return {name: said for name, said in facts.items() if said}

    def _rounding(self) -> str:
        f = self.one.figure
        return f", {STYLES[f.style]}: within {number(f.tolerance)}" if f.tolerance else ""

    def describe(self) -> str:
        """The same as sentences."""
        facts = "; ".join(f"{name} {said}" for name, said in self._facts().items())
        inputs = "; ".join(_input(one) for one in self.one.sourced)
        return f"{self.one.figure.title}: {facts}" + (f". With {inputs}." if inputs else ".")


def _indented(text: str, by: int, room: int) -> str:
    """Lines no longer than `room`, each behind so many spaces."""
    margin = " " * by
    return textwrap.fill(text, room, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)


def _input(one: Input) -> str:
    """An input with its value, where the entry takes it from, source and status."""
    value = _value(one.value, one.given)
    where = "" if one.given in (value, str(one.value)) else f"{one.given}; "
    unit = "" if one.unit in ("", "count") else f" {one.unit}"
    return f"{one.name} = {value}{unit}  [{where}{one.source}; {one.status}]"


def _value(value: Any, given: str) -> str:
    if isinstance(value, bool | str):
        return str(value)
    if not isinstance(value, int | float):
        return given  # a config: its name
    return f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"
