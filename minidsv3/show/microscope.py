"""One dot product on the tensor core, step by step: every term's bits on one scale, and where they are cut.

A step draws its products and the accumulator under each other, aligned to the largest exponent. Left of the
bar is what is kept, right of it what falls out. Then the sum, the register as it is put out, and how far that
is from the exact sum. All steps follow as a table, with the FP32 additions between them.

Does: lay out a `DotTrace`. Does not: sum (`minidsv3.numerics.accumulator`).

    >>> from minidsv3.hardware import load_hardware
    >>> from minidsv3.numerics import E4M3
    >>> from minidsv3.numerics.experiments import dot_trace
    >>> from minidsv3.show.svg import plain_text
    >>> a, b = np.zeros(32, np.uint8), np.full(32, E4M3.encode(1.0))
    >>> a[:3] = E4M3.encode([256.0, 0.03125, -0.017578125])
    >>> trace = dot_trace(a, b, load_hardware("h800").tensor_core["fp8"], 128)
    >>> print(plain_text(StepPicture(trace.steps[0]), width=80, ascii_only=True).splitlines()[2])
    a1 b1        0.03125 + 00.0000000000001|

Next: minidsv3.show.plot
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.hardware import TensorCore
from minidsv3.numerics.accumulator import Step, Term
from minidsv3.numerics.experiments import DotTrace
from minidsv3.show.forms import shown
from minidsv3.show.numbers import counted, number, percent, signed_percent
from minidsv3.show.tables import in_parts

__all__ = ["Microscope", "StepPicture", "term_bits"]

KEPT, DROPPED, FAINT = "bold cyan", "red", "dim"
NAME, VALUE = 8, 13  # characters
FP32_FRACTION, FP32_EXPONENT = 23, 8
STEPS = ("step", "e_max", "C", "exact sum", "register", "lost", "cut", "FP32 sum")
LEGEND = "lost: what the register lacks of the exact sum; cut: terms that lost digits"


def term_bits(term: Term, last: int, integer: int, fraction: int) -> tuple[str, str]:
    """The magnitude's digits that are kept, with a point, and those that are dropped.

    integer, fraction: digits in front of the point and behind it, the last of which counts 2^last.
    """
    digits = f"{abs(term.kept):0{integer + fraction}b}"
    kept = digits[:-fraction] + "." + digits[-fraction:]
    if term.exponent is None or not term.significand:
        return kept, ""
    below = last - (term.exponent - term.fraction_bits)
    if below <= 0:
        return kept, ""
    lost = abs(term.significand) & ((1 << below) - 1)
    return kept, f"{lost:0{below}b}".rstrip("0")


@dataclass(frozen=True)
class StepPicture:
    """One fused step.  Terms that are zero are counted, not drawn."""

    step: Step

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plain, step = options.ascii_only, self.step
        fraction = step.largest - step.last
        integer = max(2, max(abs(step.total), 1).bit_length() - fraction)
        yield self._ruler(integer, fraction)
        drawn = [term for term in step.terms if term.significand]
        for term in drawn:
            yield self._term(term, integer, fraction, plain, options.max_width)
        if len(drawn) < len(step.terms):
            yield Text(f"and {counted(len(step.terms) - len(drawn), 'zero')}", FAINT)
        yield Text("-" * min(NAME + VALUE + integer + fraction + 4, options.max_width), FAINT)
        yield from self._sum(integer, fraction)

    def describe(self) -> str:
        """A line for each term, then the sum."""
        step = self.step
        integer, fraction = 2, step.largest - step.last
        said = [f"last digit kept: 2^{step.last}"]
        for term in (term for term in step.terms if term.significand):
            dropped = term_bits(term, step.last, integer, fraction)[1]
            lost = f"digits {dropped} dropped" if dropped else "nothing dropped"
            said.append(f"{term.name}: {_value(term.value)}, {lost}")
        return "\n".join([*said, f"register {_value(step.result)}, exact {_value(step.exact)}"])

    def _ruler(self, integer: int, fraction: int) -> Text:
        left, right = f"2^{self.step.largest + integer - 1}", f"2^{self.step.last}"
        room = max(integer + fraction + 1 - len(left) - len(right), 1)
        line = Text("term".ljust(NAME) + "value".rjust(VALUE - 1) + " " * 3, FAINT)
        return line.append(left + " " * room + right).append("  dropped", DROPPED)

    def _term(self, term: Term, integer: int, fraction: int, plain: bool, width: int) -> Text:
        kept, dropped = term_bits(term, self.step.last, integer, fraction)
        line = Text(no_wrap=True).append(term.name.ljust(NAME)).append(_value(term.value).rjust(VALUE - 1))
        line.append(" - " if term.value < 0 else " + ")
        _append_bits(line, kept, KEPT)
        room = width - len(line.plain) - 1
        cut = dropped if len(dropped) <= room else dropped[: room - 2] + ".."
        return line.append("|" if plain else "│", FAINT).append(cut, DROPPED)

    def _sum(self, integer: int, fraction: int) -> list[Text]:
        step, bits = self.step, f"{abs(self.step.total):0{integer + fraction}b}"
        total = float(np.ldexp(float(step.total), step.last))
        line = Text(no_wrap=True).append("sum".ljust(NAME)).append(_value(total).rjust(VALUE - 1))
        line.append(" - " if step.total < 0 else " + ")
        _append_bits(line, bits[:-fraction] + "." + bits[-fraction:], KEPT)
        pattern = f"{step.result_bits:032b}"
        parts = (pattern[0], pattern[1 : 1 + FP32_EXPONENT], pattern[1 + FP32_EXPONENT :])
        register = Text(no_wrap=True).append("register".ljust(NAME + 1))
        register.append(f"{parts[0]} {parts[1]} {parts[2]}", KEPT).append(f" = {_value(step.result)}")
        lost = step.exact - step.result
        exact = Text(f"exact    {_value(step.exact)} of these terms; lost {_value(lost)}")
        return [line, register, exact]


def _value(value: float) -> str:
    text = number(value)
    return text if len(text) < VALUE else f"{value:.5g}"


def _append_bits(line: Text, digits: str, style: str) -> None:
    """Leading zeros faint, the rest in the style."""
    first = next((i for i, digit in enumerate(digits) if digit == "1"), len(digits))
    line.append(digits[:first], FAINT).append(digits[first:], style)


@dataclass(frozen=True)
class Microscope:
    """The whole dot product.  chosen: the step that is drawn, from 1."""

    where: str
    unit: TensorCore
    trace: DotTrace
    operands: str
    chosen: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        step, steps = self.trace.steps[self.chosen - 1], len(self.trace.steps)
        products = f"products {step.first} .. {step.first + self.unit.terms - 1} and C"
        yield Text(self.title, "bold")
        yield Text(
            f"\nstep {self.chosen} of {steps}: {products}, aligned to 2^{step.largest}, cut below "
            f"2^{step.last}",
            "bold cyan",
        )
        yield StepPicture(step)
        yield Text("\nall steps", "bold cyan")
        yield from in_parts(self._rows(wide=options.max_width >= 76), options, STEPS)
        yield Text(LEGEND, "dim")
        yield Text(self.closing)

    @property
    def title(self) -> str:
        """Which sum."""
        t = self.trace
        interval = "never" if t.interval is None else f"every {t.interval}"
        unit = f"{self.unit.format.upper()} on {self.where}"
        return f"{counted(t.k, 'product')}, {self.operands}, {unit}; to FP32 {interval}"

    def _rows(self, wide: bool) -> list[dict[str, str]]:
        rows = []
        for i, step in enumerate(self.trace.steps):
            total = self.trace.totals[i]
            cut = sum(term.dropped != 0 for term in step.terms)
            cells = (
                str(i + 1), str(step.largest), _short(step.terms[-1].value), _short(step.exact),
                _short(step.result), _short(step.exact - step.result), str(cut),
                "" if total is None else _short(total),
            )  # fmt: skip
            row = dict(zip(STEPS, cells, strict=True))
            rows.append(row if wide else {name: cell for name, cell in row.items() if name != "exact sum"})
        return rows

    @property
    def closing(self) -> str:
        """What came out."""
        t = self.trace
        off = t.result - t.exact
        if not off:
            return f"result {number(t.result)}: exact"
        share = f", {signed_percent(off / t.exact)}" if t.exact else ""
        over = f"; {percent(abs(off) / t.magnitude)} of the sum of |products|" if t.magnitude else ""
        return f"result {number(t.result)}, exact {number(t.exact)}: off by {number(off)}{share}{over}"

    def describe(self) -> str:
        """The sum in words."""
        lines = [
            f"step {i + 1}: register {number(step.result)}, lost {number(step.exact - step.result)}, "
            f"{counted(sum(term.dropped != 0 for term in step.terms), 'term')} cut"
            for i, step in enumerate(self.trace.steps)
        ]
        return "\n".join([self.title, *lines, self.closing])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; every term of every step."""
        return {"where": self.where, "operands": self.operands} | self.trace.to_dict()


def _short(value: float) -> str:
    text = number(value)
    return text if len(text) <= 9 else f"{value:.4g}"


def demo() -> Microscope:
    """The second step of a dot product of 128 Gaussian operands on an H800."""
    from minidsv3.hardware import load_hardware
    from minidsv3.numerics import E4M3
    from minidsv3.numerics.experiments import dot_trace

    hardware = load_hardware("h800")
    a, b = (E4M3.encode(np.random.default_rng(i).standard_normal(128, np.float32)) for i in (0, 1))
    unit = hardware.tensor_core["fp8"]
    return Microscope(hardware.name, unit, dot_trace(a, b, unit), "Gaussian operands, seeds 0 and 1", 2)


if __name__ == "__main__":
    shown(demo())
