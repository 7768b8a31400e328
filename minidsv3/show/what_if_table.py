"""What-ifs as tables: all wishes in a row each, or one with its figures before and after.

Beside each quantity of one wish stands a bar: what is left of it after the change, or by how much it grew.
Totals that do not change are left out; figures and errors that were measured are all there.

Does: lay out comparisons, write amounts with their units. Does not: price (`minidsv3.cost.scenarios`).

    >>> amount(0.0147571, "s"), amount(2, "B"), amount(16384, "count"), amount(0.0743586, "share")
    ('14.8 ms', '2 B', '16,384', '7.44 %')
    >>> print(change(Effect("SMs", "count", 112, 132)), change(Effect("NVLink", "B", 0, 1e9)))
    +17.9 % new

Next: minidsv3.show.co_design_table
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from minidsv3.cost.scenarios import Beyond, Scenario
from minidsv3.cost.what_if import Comparison, Effect
from minidsv3.show.chart import Bar
from minidsv3.show.forms import shown
from minidsv3.show.numbers import duration, flops, percent, signed_percent, size
from minidsv3.show.tables import facts_table, in_parts, plain_table

__all__ = [
    "EffectTable",
    "WhatIf",
    "WhatIfCard",
    "WhatIfList",
    "amount",
    "change",
    "moved",
    "visible",
    "what_ifs_json",
]

WIDE, BAR = 76, 12  # columns from which on there are bars; characters of one
TIMES = 4  # from so many times on a change is said as a factor
SMALL, LARGEST = 5e-5, 1e21  # share of a change that is worth a word; FLOPs above which prefixes end


def amount(value: float, unit: str) -> str:
    """A value with its unit, as people read it.  unit: as of an `Effect`."""
    match unit:
        case "s":
            return duration(value)
        case "B":
            return size(value) if value >= 1000 or value == round(value) else f"{value:.3g} B"
        case "FLOP":
            return flops(value) if value < LARGEST else f"{value:.3g} FLOP"
        case "FLOP/s" | "B/s":
            return (flops if unit == "FLOP/s" else size)(value) + "/s"
        case "share":
            return percent(value)
        case "USD":
            return f"${value:,.0f}" if value >= 100 else f"${value:.3g}"
        case "1/s":
            return f"{value:,.0f}/s"
        case "count":
            return _count(value)
        case _:
            return f"{value:,.4g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"


def _count(value: float) -> str:
    """In full, parameters and tokens as the field writes them: 671B, 14.8T."""
    for least, letter in ((1e12, "T"), (1e9, "B")):
        if value >= least:
            return f"{value / least:.4g}{letter}"
    return f"{value:,.0f}" if value == round(value) else f"{value:.3g}"


def visible(effect: Effect) -> bool:
    """Whether it changes by more than rounding shows."""
    return effect.changed if effect.ratio is None else abs(effect.ratio - 1) >= SMALL


def change(effect: Effect) -> str:
    """By how much it changes: in per cent, as a factor, or in words."""
    if not visible(effect):
        return "same"
    if effect.ratio is None:
        return "new"
    if effect.after == 0:
        return "none left"
    if effect.ratio >= TIMES:
        return f"x {effect.ratio:.3g}"
    return f"/ {1 / effect.ratio:.3g}" if effect.ratio <= 1 / TIMES else signed_percent(effect.ratio - 1)


def moved(effect: Effect) -> str:
    """Before and after: `14.8 ms -> 11.2 ms`."""
    return f"{amount(effect.before, effect.unit)} -> {amount(effect.after, effect.unit)}"


@dataclass(frozen=True)
class EffectTable:
    """Quantities before and after, a row each; bars where there is room."""

    effects: Sequence[Effect]
    head: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        barred = options.max_width >= WIDE
        table = plain_table()
        heads = (self.head, "before", "after", "change", *(("",) if barred else ()))
        for i, head in enumerate(heads):
            right = head in ("before", "after", "change")
            table.add_column(head, justify="right" if right else "left", no_wrap=i > 0, overflow="fold")
        for effect in self.effects:
            self._row(table, effect, barred)
        yield table

    def _row(self, table: Table, effect: Effect, barred: bool) -> None:
        before, after = amount(effect.before, effect.unit), amount(effect.after, effect.unit)
        largest = max(effect.before, effect.after)
        bar = Bar(effect.after / largest if largest else 0.0, BAR)
        table.add_row(Text(effect.name), before, after, change(effect), *((bar,) if barred else ()))

    def describe(self) -> str:
        """A sentence for each."""
        return "\n".join(f"{effect.name}: {moved(effect)}, {change(effect)}." for effect in self.effects)


@dataclass(frozen=True)
class WhatIf:
    """A wish, priced."""

    scenario: Scenario
    comparison: Comparison

    @property
    def where(self) -> str:
        """The bill it is shown on."""
        before = self.comparison.before
        given = ", ".join(f"{name}={value}" for name, value in self.scenario.given.items())
        place = f"{before.deployment.name} on {before.bill.hardware_name}"
        return f"{place}, {given}" if given else place

    def groups(self) -> dict[str, list[Effect]]:
        """Effects by head: of the phase what changes, of the question all."""
        c = self.comparison
        seconds = [effect for effect in c.totals if visible(effect) or effect.name == "seconds"]
        parts = [effect for effect in c.parts if visible(effect)]
        found = {
            "phase": seconds,
            "seconds of": parts,
            "beside it": list(c.figures),
            "errors": list(c.errors),
        }
        return {head: effects for head, effects in found.items() if effects}

    def beside(self) -> Effect | None:
        """The first error that changes, or else the first figure."""
        return next(filter(visible, (*self.comparison.errors, *self.comparison.figures)), None)


@dataclass(frozen=True)
class WhatIfCard:
    """One wish in full."""

    what_if: WhatIf

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.what_if.scenario.title, "bold cyan")
        yield facts_table(self.facts())
        for head, effects in self.what_if.groups().items():
            yield Text()
            yield EffectTable(effects, head)
        if self.what_if.scenario.says:
            yield Text(f"\n{self.what_if.scenario.says}")
        if options.max_width >= WIDE:
            yield Text("bars: full is the larger of before and after, the bar is after", "dim")

    def facts(self) -> dict[str, str]:
        """What is asked, of which bill, on whose word."""
        s = self.what_if.scenario
        said = {"wish": s.wish, "source": s.source, "bill of": self.what_if.where}
        said["before"] = ", ".join(f"{_words(name)}: what a bill leaves out" for name in s.today)
        said |= {"after": _becomes(s), "assumed": s.assumed}
        return {name: text for name, text in said.items() if text}

    def describe(self) -> str:
        """The card in words."""
        facts = [f"{name}: {text}." for name, text in self.facts().items()]
        tables = [EffectTable(effects, head).describe() for head, effects in self.what_if.groups().items()]
        return "\n".join([f"{self.what_if.scenario.title}.", *facts, *tables, self.what_if.scenario.says])


def _becomes(s: Scenario) -> str:
    """What is different, in the words of a command line."""
    said = [s.becomes] if s.becomes else []
    for values in (s.set, s.fields, s.model):
        said += [f"{name}={value}" for name, value in values.items()]
    return ", ".join([*said, *map(_words, s.change)])


def _words(name: str) -> str:
    """The name of a function as words."""
    return name.replace("_", " ")


@dataclass(frozen=True)
class WhatIfList:
    """All wishes, a row each; then those that no bill can express."""

    what_ifs: Sequence[WhatIf]
    beyond: Sequence[Beyond] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from in_parts([self._row(one) for one in self.what_ifs], options, RIGHT)
        yield Text()
        yield self._measured()
        if self.beyond:
            yield Text("\nnot priced", "bold")
        for one in self.beyond:
            yield Text(f"- {one.wish}: {one.why}")
        yield Text(LEGEND, "dim")

    def _row(self, one: WhatIf) -> dict[str, str]:
        c = one.comparison
        row = {"what if": one.scenario.name, "phase": c.before.deployment.phase}
        row |= {head: change(c[name]) for head, name in HEADS.items()}
        return row | {"HBM": change(_added(c, "HBM")), "network": change(_added(c, "network"))}

    def _measured(self) -> Table:
        """What was measured beside the bills."""
        table = plain_table()
        table.add_column("what if", no_wrap=True)
        table.add_column("measured beside it", overflow="fold")
        for one in self.what_ifs:
            if effect := one.beside():
                table.add_row(one.scenario.name, Text(f"{effect.name}: {moved(effect)}"))
        return table

    def describe(self) -> str:
        """A paragraph for each wish."""
        said = []
        for one in self.what_ifs:
            row = "; ".join(f"{name} {value}" for name, value in self._row(one).items() if name != "what if")
            effect = one.beside()
            more = f"; {effect.name} {moved(effect)}" if effect else ""
            said.append(f"{one.scenario.name}, {one.scenario.title}: {row}{more}.")
        return "\n".join([*said, *(f"Not priced: {one.wish}: {one.why}." for one in self.beyond)])


HEADS = {"seconds": "seconds", "computing": "computing", "exchange": "communicating"}
RIGHT = (*HEADS, "HBM", "network")
LEGEND = (
    "\nHBM, network: bytes. exchange: seconds of dispatch and combine\n"
    "seconds: of the phase as deployed, the longer of computing and communicating where they overlap\n"
    "`minidsv3 show what-ifs NAME` shows one with all its figures"
)


def _added(comparison: Comparison, start: str) -> Effect:
    """All totals whose names begin so, as one."""
    found = [effect for effect in comparison.totals if effect.name.startswith(start)]
    none = Effect(start, "B", 0, 0)
    return replace(none, before=_sum(e.before for e in found), after=_sum(e.after for e in found))


def _sum(values: Iterable[float]) -> float:
    return sum(values)


def what_ifs_json(what_ifs: Sequence[WhatIf], beyond: Sequence[Beyond]) -> dict[str, Any]:
    """Plain values."""
    rows = [
        {"scenario": one.scenario.to_dict(), "bill": one.where} | one.comparison.to_dict() for one in what_ifs
    ]
    return {"what_ifs": rows, "beyond": [one._asdict() for one in beyond]}


def demo() -> WhatIfCard:
    """LogFMT on the wire."""
    from minidsv3.config import ModelConfig
    from minidsv3.cost.scenarios import scenario_named, what_if

    scenario = scenario_named("logfmt")
    return WhatIfCard(WhatIf(scenario, what_if(ModelConfig.preset("v3"), scenario, None, None, "V3")))


if __name__ == "__main__":
    shown(demo())
