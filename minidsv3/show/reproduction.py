"""Published figures beside what comes out: a table by group, and one figure explained to its last input.

A row says what was printed, what the figure's own inputs give in the same unit, and the verdict in a word,
with a sign beside it. Figures derived here are "ours": they agree with what is stated here, nobody printed
them. Below an entry that contradicts its inputs stands why, below one that comes out what to mind. Each group
is as wide as it needs: with titles from 120 columns on, with sources from 160, with signs alone where words
do not fit, and where no table does each value in a line of its own. No number is ever broken.

Does: lay out. Does not: compute or judge (`minidsv3.cost.published`).

    >>> from minidsv3.cost.published import figures, recompute
    >>> from minidsv3.show.svg import plain_text
    >>> table = ReproductionTable([recompute(figures()["kv.mha"])])
    >>> print(plain_text(table, width=60))
    KV cache a token
    id       printed  computed  verdict
    kv.mha  3.998 MB    3.9977  =* agrees, ours
    <BLANKLINE>
    1 figure: 1 of ours agrees
    <BLANKLINE>
    legend
    =* agrees, ours: derived here, printed nowhere; agrees with
      what is stated here in its place

Next: minidsv3.show.what_if_table
"""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.cost.figures import STYLES, groups
from minidsv3.cost.published import VERDICTS, Input, Recomputed
from minidsv3.show.forms import shown
from minidsv3.show.numbers import counted, number

__all__ = ["Explained", "ReproductionTable", "summary"]

MARKS = {"equal": "=", "contradicts": "!", "differs": "X", "corrected": "!", "constant": ".", "measured": "."}
COLOURS = {"equal": "green", "contradicts": "yellow", "differs": "bold red", "corrected": "yellow"}
AGREES = "agrees with what is stated here"  # what is ours has no printing to come out as
OURS = "derived here, printed nowhere"
WITH_TITLE, WITH_SOURCE = 120, 160  # columns of the screen
LEAST = 20  # columns of a title or a source
PRINTED = (24, 16, 10)  # columns after which a long printing goes on in the next line, the first that fits
INDENT, GAP = 4, 2  # columns in front of a remark, between columns of the table
SCALES = ("K", "M", "B", "T")  # stand at the number, as in 671B; a B by itself is a byte
_PLAIN = str.maketrans({"\u03bc": "u", "\u00b5": "u", "\u00d7": "x", "\u2013": "-", "\u2026": "..."})
_UNIT = re.compile(r"(?<=\d) (?=[A-Za-z%$])")  # between a number and its unit
_KEEP = "\u00a0"


def summary(found: Sequence[Recomputed]) -> str:
    """How many of each verdict, in a line; what is ours apart from what was published."""
    said = []
    for verdict in VERDICTS:
        ours = sum(one.figure.ours for one in found if one.verdict == verdict == "equal")
        if count := sum(one.verdict == verdict for one in found) - ours:
            said.append(_counted(verdict, count))
        if ours:
            said.append(f"{ours} of ours agree{'s' if ours == 1 else ''}")
    return f"{counted(len(found), 'figure')}: {', '.join(said) or 'none'}"


def _counted(verdict: str, count: int) -> str:
    one = count == 1
    words = {
        "equal": "published equal",
        "contradicts": "contradicts its inputs" if one else "contradict their inputs",
        "differs": "differs" if one else "differ",
        "corrected": "claim corrected" if one else "claims corrected",
    }
    return f"{count} {words.get(verdict, verdict)}"


@dataclass(frozen=True)
class ReproductionTable:
    """All figures, group by group, a line that counts the verdicts, and what the words mean."""

    found: Sequence[Recomputed]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width
        for group, title in groups().items():
            members = [one for one in self.found if one.figure.group == group]
            if members:
                yield Text(_filled(title, 0, room), "bold cyan")
                yield from _group(members, room)
                yield Text()
        yield Text(_filled(summary(self.found), 0, room), "bold")
        if self.found:
            yield Text()
            yield Text("\n".join(_filled(said, 0, room, 2) for said in ("legend", *self._legend())), "dim")

    def _legend(self) -> Iterator[str]:
        """The signs and words shown, one by one."""
        for verdict, meaning in VERDICTS.items():
            fits = [one.figure.ours and verdict == "equal" for one in self.found if one.verdict == verdict]
            if not all(fits):
                yield f"{MARKS[verdict]} {verdict}: {meaning}"
            if any(fits):
                yield f"{MARKS[verdict]}* agrees, ours: {OURS}; {AGREES} in its place"

    def describe(self) -> str:
        """A sentence a figure."""
        said = [f"{one.figure.title}: {_sentence(one)}" for one in self.found]
        return "\n".join([*said, f"{summary(self.found)}."]).translate(_PLAIN)


def _group(members: Sequence[Recomputed], room: int) -> Iterator[Text]:
    """Rows; below a row, or several with the same, what is to be said of it."""
    rows, remarks = [_cells(one) for one in members], [_remark(one) for one in members]
    widths = _widths(rows, room)
    if widths:
        heads = {name: "" if name == "mark" else name for name in widths}
        yield from _lines(heads, widths, "dim", "dim")
    for one, row, remark, following in zip(members, rows, remarks, [*remarks[1:], ""], strict=True):
        colour = COLOURS.get(one.verdict, "dim")
        yield from _lines(row, widths, "", colour) if widths else _stacked(one, row, room, colour)
        if remark and remark != following:
            yield Text(_filled(remark, INDENT, room), "dim")


def _lines(row: Mapping[str, str], widths: Mapping[str, int], style: str, colour: str) -> Iterator[Text]:
    """A row: a line, or several where words go on below; no blanks at the end."""
    parts = zip_longest(*(_folded(row[name], width) for name, width in widths.items()), fillvalue="")
    for line in parts:
        text = Text()
        for (name, width), part in zip(widths.items(), line, strict=True):
            cell = part.rjust(width) if name in ("printed", "computed") else part.ljust(width)
            text.append(cell, colour if name in ("verdict", "mark") else style).append(" " * GAP)
        text.rstrip()
        yield text


def _stacked(one: Recomputed, row: Mapping[str, str], room: int, colour: str) -> Iterator[Text]:
    """A row where no table fits: the id, and below it each value in a line of its own."""
    yield Text(row["id"])
    names = {
        "stated" if one.figure.ours else "printed": "printed",
        "computed": "computed",
        "verdict": "verdict",
    }
    for name, key in names.items():
        if row[key]:
            said = _filled(f"{name:10}{_kept(row[key])}", GAP, room, GAP + 10)
            yield Text(said, colour if key == "verdict" else "")


def _widths(rows: Sequence[Mapping[str, str]], room: int) -> dict[str, int]:
    """Columns that fit and their widths, {} if a table does not fit: words if they can be, else signs."""
    most = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    words = max(len(word) for row in rows for word in _words(row["printed"] or "-"))
    for said in ("verdict", "mark"):
        last = max(len(row[said]) for row in rows)
        for cap in PRINTED:
            fits = [len(row["printed"]) for row in rows if len(row["printed"]) <= cap]
            printed = max(len("printed"), words, *fits, 0)
            widths = {"id": most["id"], "printed": printed, "computed": most["computed"], said: last}
            widths = {name: width for name, width in widths.items() if any(row[name] for row in rows)}
            if sum(widths.values()) + (len(widths) - 1) * GAP <= room:
                return _with_words(widths, most, room)
    return {}


def _with_words(widths: dict[str, int], most: Mapping[str, int], room: int) -> dict[str, int]:
    """Titles behind the ids and sources at the end, where there is room."""
    left = room - sum(widths.values()) - len(widths) * GAP
    if room >= WITH_TITLE and left >= LEAST:
        title = min(most["title"], left if room < WITH_SOURCE else left // 2)
        widths = {"id": widths["id"], "title": title} | widths
        left -= title + GAP
    return widths | ({"source": min(most["source"], left)} if room >= WITH_SOURCE and left >= LEAST else {})


def _words(text: str) -> list[str]:
    """What may stand in lines of its own: a number keeps its unit."""
    return _kept(text).split(" ")


def _kept(text: str) -> str:
    return _UNIT.sub(_KEEP, text)


def _folded(text: str, width: int) -> list[str]:
    """Lines of at most `width`; what fits is left as it is."""
    if len(text) <= width:
        return [text]
    return [line.replace(_KEEP, " ") for line in textwrap.wrap(_kept(text), width, break_on_hyphens=False)]


def _cells(one: Recomputed) -> dict[str, str]:
    f, mark = one.figure, MARKS[one.verdict]
    agrees = f.ours and one.verdict == "equal"
    cells = {
        "id": f.id,
        "title": f.title,
        "printed": f.printed,
        "computed": _inverted(one),
        "verdict": f"{mark}* agrees, ours" if agrees else f"{mark} {one.verdict}",
        "mark": f"{mark}{'*' if f.ours else ''}",
        "source": f.source,
    }
    return {name: said.translate(_PLAIN) for name, said in cells.items()}


def _remark(one: Recomputed) -> str:
    """Why something does not come out as printed, or what is to be said of it though it does."""
    f = one.figure
    if f.says:
        return f'says "{f.says}"; {f.correct}'
    return f.why if one.figure.calculation and not one.figure.ours else ""


def _sentence(one: Recomputed) -> str:
    f = one.figure
    printed = f"{'stated here' if f.ours else 'printed'} {f.printed}, " if f.printed else ""
    computed = f"computed {_computed(one)}, " if one.text else ""
    remark = _remark(one)
    return f"{printed}{computed}{_meaning(one)}" + (f": {remark}." if remark else ".")


def _meaning(one: Recomputed) -> str:
    return AGREES if one.figure.ours and one.verdict == "equal" else VERDICTS[one.verdict]


def _is_inverse(one: Recomputed) -> bool:
    """Whether a ratio is printed as 1/7, its value being the 7."""
    return one.figure.printed.startswith("1/")


def _inverted(one: Recomputed) -> str:
    return f"1/{one.text}" if one.text and _is_inverse(one) else one.text


def _computed(one: Recomputed) -> str:
    """The computed number with its unit: 671.03B parameters, 656 B, 7.3443x."""
    unit = one.figure.unit
    if not one.text or not unit or unit.name == "count" or _is_inverse(one):
        return _inverted(one)
    scale = unit.name.partition(" ")[0]
    at_it = unit.name == "x" or (scale in SCALES and unit.name != "B")
    power = "x " if unit.name.startswith("10^") else ""
    return f"{one.text}{'' if at_it else ' '}{power}{unit.name}"


@dataclass(frozen=True)
class Explained:
    """One figure: printed, computed, the formula, and each input with unit, source and status."""

    one: Recomputed

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        title = Text(_filled(f"{self.one.figure.id}  {self.one.figure.title}", 0, options.max_width, 2))
        title.stylize("bold cyan", 0, len(self.one.figure.id))
        yield title
        for name, said in self._facts().items():
            yield Text(_filled(f"{name}: {said}", INDENT // 2, options.max_width))
        for one in self.one.sourced:
            yield Text(_filled(_input(one), INDENT, options.max_width))

    def _facts(self) -> dict[str, str]:
        one, f = self.one, self.one.figure
        module = f"minidsv3.cost.{f.calculation}" if f.calculation else ""
        remark = "why" if one.verdict in ("contradicts", "differs") else "remark"
        facts = {
            "stated here" if f.ours else "printed": f.printed + self._rounding(),
            "says": f.says,
            "correct": f.correct,
            "computed": _computed(one),
            "verdict": AGREES if _meaning(one) == AGREES else f"{one.verdict}, {VERDICTS[one.verdict]}",
            "source": "; ".join(
                filter(None, (OURS if f.ours else "", "" if f.source == "ours" else f.source))
            ),
            remark: f.why,
            "formula": f.formula,
            "calculation": f"{module}: {one.says}" if module else "",
        }
        return {name: said for name, said in facts.items() if said}

    def _rounding(self) -> str:
        f = self.one.figure
        if not f.tolerance:
            return ""
        of = f"the inverse, {number(f.value or 0)}, " if _is_inverse(self.one) else ""
        return f", {STYLES[f.style]}: {of}within {number(f.tolerance)}"

    def describe(self) -> str:
        """The same as sentences."""
        facts = "; ".join(f"{name} {said.rstrip('.')}" for name, said in self._facts().items())
        inputs = "; ".join(_input(one) for one in self.one.sourced)
        said = f"{self.one.figure.title}: {facts}" + (f". With {inputs}." if inputs else ".")
        return said.translate(_PLAIN)


def _filled(text: str, by: int, room: int, then: int | None = None) -> str:
    """Lines no longer than `room`, behind `by` spaces, from the second on behind `then`."""
    margin, others = " " * by, " " * (by if then is None else then)
    lines = textwrap.fill(
        text.translate(_PLAIN), room, initial_indent=margin, subsequent_indent=others, break_on_hyphens=False
    )
    return lines.replace(_KEEP, " ")


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


def demo() -> ReproductionTable:
    """What is published of the KV cache, beside what its own inputs give."""
    from minidsv3.cost.published import choose, recompute

    return ReproductionTable([recompute(figure) for figure in choose(["kv"])])


if __name__ == "__main__":
    shown(demo())
