"""The cost waterfall: where the seconds go, each step's bar beginning where the one before it ended.

A bar's characters say what bounds its seconds: computing, memory, a wire. Communication that runs while
others compute stands in a lane of its own that begins at zero again: what reaches further than the
computation is not hidden, and the whole is the longer of the two lanes.

Does: group a bill by part of the model, draw, put into words. Does not: price, decide what overlaps.

    >>> from minidsv3.show.svg import plain_text
    >>> steps = [Step("experts", {"compute": 3, "memory": 1}), Step("dispatch", {"network": 2}, beside=True)]
    >>> print(plain_text(Waterfall(steps), width=60, ascii_only=True))
              0 s        2 s          4 s
              +-----------+------------  time   share  bound
    experts   ###################======   4 s  100.0%  # compute
    beside it, while the above computes
    dispatch  ////////////                2 s   50.0%  / network
    total     ###################======   4 s  100.0%
    <BLANKLINE>
    # compute 3 s   = memory 1 s   / network 2 s
    communication 2 s, all of it hidden by computation

Next: minidsv3.show.kv_growth
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.cost import Bill
from minidsv3.cost.rates import WIRES
from minidsv3.show.axes import ruler
from minidsv3.show.forms import shown
from minidsv3.show.legend import COLOURS, mark, marked
from minidsv3.show.numbers import counted, duration

__all__ = ["GROUPS", "Step", "Waterfall", "waterfall_of"]

MOST_COLUMNS = 64  # of the bars
NARROW = 52  # columns of the screen below which the table has marks alone, which the legend explains
SMALL, SMALL_OPS = 0.004, 0.01  # shares of the whole below which steps, and ops, are put together
GROUPS = ("part", "phase", "precision", "op")
BESIDE = "beside it, while the above computes"  # head of the second lane


@dataclass(frozen=True)
class Step:
    """One bar.  amounts: by what bounds them.  beside: in the second lane, while the others compute."""

    name: str
    amounts: Mapping[str, float]
    beside: bool = False

    @property
    def total(self) -> float:
        """The whole bar."""
        return sum(self.amounts.values())

    @property
    def bound(self) -> str:
        """What bounds most of it."""
        return max(self.amounts, key=lambda bound: self.amounts[bound], default="none")


@dataclass(frozen=True)
class Waterfall:
    """Steps one after the other.  written: how an amount is written."""

    steps: Sequence[Step]
    written: Callable[[float], str] = duration

    @property
    def alone(self) -> list[Step]:
        """The first lane."""
        return [step for step in self.steps if not step.beside]

    @property
    def beside(self) -> list[Step]:
        """The second lane: communication that others' computation hides."""
        return [step for step in self.steps if step.beside]

    @property
    def total(self) -> float:
        """The longer lane."""
        return max(_sum(self.alone), _sum(self.beside))

    @property
    def hidden(self) -> float:
        """How much of the second lane the first one covers."""
        return min(_sum(self.alone), _sum(self.beside))

    def amounts(self) -> dict[str, float]:
        """All steps by what bounds them, in the order of the legend."""
        found = dict.fromkeys(COLOURS, 0.0)
        for step in self.steps:
            for bound, amount in step.amounts.items():
                found[bound] += amount
        return {bound: amount for bound, amount in found.items() if amount}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.total:
            yield Text("nothing takes any time", "dim")
            return
        frame = _Frame(self, options.max_width, options.ascii_only)
        yield from frame.head()
        yield from frame.lane(self.alone)
        if self.beside:
            yield Text(BESIDE, "dim")
            yield from frame.lane(self.beside)
        yield frame.whole()
        yield Text()
        yield from self._legend(options)

    def _legend(self, options: ConsoleOptions) -> RenderResult:
        line = Text()
        for bound, amount in self.amounts().items():
            line.append("   " if line else "").append(marked(bound, options.ascii_only), COLOURS[bound])
            line.append(f" {self.written(amount)}")
        yield line
        if said := self.communication():
            yield Text(said, "dim")

    def communication(self) -> str:
        """How much is sent, and how much of that is hidden; empty if nothing is."""
        sent = sum(amount for bound, amount in self.amounts().items() if bound in WIRES)
        if not sent:
            return ""
        if not self.beside:
            return f"communication {self.written(sent)}, none of it hidden: nothing runs beside it"
        lane = self.written(_sum(self.beside))
        if not (left := _sum(self.beside) - self.hidden):
            return f"communication {lane}, all of it hidden by computation"
        hidden = self.written(self.hidden)
        return f"communication {lane}: {hidden} hidden by computation, {self.written(left)} not"

    def describe(self) -> str:
        """A sentence for each step, longest lane and what is hidden."""
        said = [f"{self.written(self.total)} in all"]
        for step in (*self.alone, *self.beside):
            shares = ", ".join(f"{bound} {self.written(amount)}" for bound, amount in step.amounts.items())
            place = ", beside the computation" if step.beside else ""
            said.append(f"{step.name}: {self.written(step.total)}{self._share(step.total)}{place}: {shares}")
        return "\n".join([*said, *filter(None, [self.communication()])])

    def _share(self, amount: float) -> str:
        return f", {amount / self.total:.1%}" if self.total else ""


class _Frame:
    """The columns of one picture, and the lines that go into them."""

    def __init__(self, picture: Waterfall, width: int, plain: bool) -> None:
        self.picture, self.plain = picture, plain
        self.names = max(len("total"), *(len(step.name) for step in picture.steps))
        amounts = [*(step.total for step in picture.steps), picture.total]
        self.times = max(len("time"), *(len(picture.written(amount)) for amount in amounts))
        self.worded = width >= NARROW
        rest = 2 + 2 + self.times + 2 + len("100.0%") + 2 + len("x compute" if self.worded else "x")
        self.columns = max(min(width - self.names - rest, MOST_COLUMNS), 8)

    def head(self) -> Iterator[Text]:
        """The scale, and what stands in the columns behind it."""
        labels, rule = ruler(self.picture.total, self.columns, self.picture.written, self.plain, room=8)
        gap = " " * (self.names + 2)
        yield Text(f"{gap}{labels}", "dim", no_wrap=True, overflow="crop")
        head = f"{'time':>{self.times}}   share  {'bound' if self.worded else ''}".rstrip()
        yield Text(f"{gap}{rule}  {head}", "dim", no_wrap=True, overflow="crop")

    def lane(self, steps: Sequence[Step]) -> list[Text]:
        """Bars that begin where the one before ended."""
        lines, start = [], 0.0
        for step in steps:
            lines.append(self._line(step.name, start, step.amounts, step.bound))
            start += step.total
        return lines

    def whole(self) -> Text:
        """Both lanes: the first, then what of the second is not hidden."""
        amounts: dict[str, float] = {}
        for step in self.picture.alone:
            for bound, amount in step.amounts.items():
                amounts[bound] = amounts.get(bound, 0.0) + amount
        if left := _sum(self.picture.beside) - self.picture.hidden:
            bound = max(self.picture.beside, key=lambda step: step.total).bound
            amounts[bound] = amounts.get(bound, 0.0) + left
        ordered = {bound: amounts[bound] for bound in COLOURS if bound in amounts}
        line = self._line("total", 0.0, ordered, "")
        line.stylize("bold", 0, len("total"))
        return line

    def _line(self, name: str, start: float, amounts: Mapping[str, float], bound: str) -> Text:
        amount = sum(amounts.values())
        line = Text(f"{name:{self.names}}  ", no_wrap=True, overflow="crop").append_text(
            self._bar(start, amounts)
        )
        share = f"{amount / self.picture.total:.1%}"
        line.append(f"  {self.picture.written(amount):>{self.times}}  {share:>6}  ")
        if bound:
            said = (marked if self.worded else mark)(bound, self.plain)
            line.append(said, COLOURS[bound])
        line.rstrip()
        return line

    def _bar(self, start: float, amounts: Mapping[str, float]) -> Text:
        """Blank up to the start, then a stretch for each bound; a thin line for less than half a cell."""
        bar, at = Text(" " * self._cell(start)), start
        for bound, amount in sorted(amounts.items(), key=lambda pair: list(COLOURS).index(pair[0])):
            length = self._cell(at + amount) - self._cell(at)
            bar.append(mark(bound, self.plain) * length, COLOURS[bound])
            at += amount
        if self._cell(at) == self._cell(start):
            if len(bar) == self.columns:
                bar.right_crop()
            bound = max(amounts, key=lambda one: amounts[one], default="none")
            bar.append("|" if self.plain else "▏", COLOURS[bound])
        bar.truncate(self.columns, pad=True)
        return bar

    def _cell(self, amount: float) -> int:
        return round(min(amount / self.picture.total, 1.0) * self.columns)


def waterfall_of(bill: Bill, overlap: bool = False, by: str = "part") -> Waterfall:
    """A bill's seconds by part of the model (or another of `GROUPS`), communication by op.

    The longest stands first, but phases stand in their own order.

    overlap: communication runs beside the rest, as two micro-batches in turn allow.
    """
    if by not in GROUPS:
        raise ValueError(f"expected seconds by {', '.join(GROUPS)}, got {by!r}")
    found: dict[tuple[bool, str], dict[str, float]] = {}
    for line in bill.lines:
        sent = line.phase == "communication"
        name = line.op.rpartition(".")[-1] if sent else getattr(line, by)
        amounts = found.setdefault((sent, name), {})
        amounts[line.bound] = amounts.get(line.bound, 0.0) + line.seconds
    steps = [
        Step(
            name, {bound: amounts[bound] for bound in COLOURS if amounts.get(bound)}, beside=sent and overlap
        )
        for (sent, name), amounts in found.items()
    ]
    steps.sort(key=lambda step: -step.total)
    if by == "phase":
        order = [total.name for total in bill.by_phase]
        steps.sort(key=lambda step: order.index(step.name) if step.name in order else len(order))
    return Waterfall(_gathered(steps, SMALL_OPS if by == "op" else SMALL))


def _gathered(steps: Sequence[Step], least: float) -> list[Step]:
    """The same, the smallest as one.  least: share of the whole of a step of its own."""
    whole = _sum(steps)
    small = [step for step in steps if step.total < least * whole and not step.beside]
    if len(small) < 2:
        return list(steps)
    amounts: dict[str, float] = {}
    for step in small:
        for bound, amount in step.amounts.items():
            amounts[bound] = amounts.get(bound, 0.0) + amount
    return [*(step for step in steps if step not in small), Step(counted(len(small), "other"), amounts)]


def _sum(steps: Sequence[Step]) -> float:
    return sum(step.total for step in steps)


def demo() -> Waterfall:
    """V3's prefill on an H800."""
    from minidsv3.show.phase_page import priced

    phase = priced("prefill")
    return waterfall_of(phase.bill, phase.deployment.overlap)


if __name__ == "__main__":
    shown(demo())
