"""One op as it ran: the line of the model that called it, its equation, every symbol, and what it costs.

An operand stands with what the glossary says it is, its axes with their sizes, and the format it lies in.
Below come the FLOPs, the bytes moved by kind, and the time on the machine of a hardware file: of this op,
and of all up to here. A picture of the values may stand underneath.

Does: lay out, and give the same as plain values for JSON. Does not: run, choose the picture (`value`).

    >>> import numpy as np
    >>> from minidsv3.hardware import load_hardware
    >>> from minidsv3.machine import Machine
    >>> from minidsv3.show.svg import plain_text
    >>> machine = Machine(trace=True)
    >>> _ = machine.linear(np.ones((2, 8), "f"), np.ones((4, 8), "f"), at="mla.kv_down")
    >>> print(plain_text(OpCard(machine.trace[0], load_hardware("h800")), width=60, ascii_only=True))
    mla.kv_down  forward, eq. 1: c_KV = W_DKV h
       h      N=2 D=8  float32  state of a token in front of a
                                part of a layer
       W_DKV  C=4 D=8  float32  down-projection to the latent of
                                keys and values
    -> c_KV   N=2 C=4  float32  latent of keys and values,
                                cached
    128 FLOP of products; 48 B activation, 64 B weight
    0.0334 ns on NVIDIA H800 SXM, bound by memory

Next: minidsv3.show.op_pair
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from minidsv3.cost import Line, bill
from minidsv3.hardware import Hardware
from minidsv3.machine import Event, Op, Row, look_up, symbols
from minidsv3.machine.catalogue import Backward, primitives
from minidsv3.machine.watch import CodeLine
from minidsv3.show.numbers import duration, flops, size

__all__ = ["OpCard", "Operand", "demo", "meaning", "operands_of"]


TOKENS = {"T", "N", "P"}  # letters of an axis of tokens


class Operand(NamedTuple):
    """An array of an op: operands first, the result last."""

    symbol: str
    meaning: str  # "" where the glossary has none
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    stored: str  # format and block, "e4m3 1x128"

    @property
    def sizes(self) -> str:
        """Axes with their sizes, `N=2 D=8`."""
        if len(self.axes) != len(self.shape):
            return "x".join(map(str, self.shape))
        return " ".join(f"{axis}={n}" for axis, n in zip(self.axes, self.shape, strict=True))


def meaning(symbol: str, axes: tuple[str, ...] = ()) -> str:
    """What the glossary says of a symbol; of `[W_UK; W_UV]` of each; of a gradient, whose.

    axes: of the array at hand. A letter that means something else there, as its last axis shows, has none.

    >>> meaning("g", ("N", "K")), meaning("g", ("D",))
    ('weight of a chosen expert', '')
    """
    known = symbols()
    if symbol in known:
        return known[symbol]["meaning"] if _fits(known[symbol]["shape"].split()[-1], axes) else ""
    if symbol.startswith("d_") and (inner := meaning(symbol[2:], axes)):
        return f"gradient of {inner}"
    if symbol.startswith("["):
        said = [meaning(part.strip()) for part in symbol.strip("[]").split(";")]
        return "; ".join(said) if all(said) else ""
    return ""


def _fits(last: str, axes: tuple[str, ...]) -> bool:
    """Whether the glossary's last axis can be this one; widths such as d_c have other letters here."""
    if not axes or not (last.isalpha() and last.isupper()):
        return True
    return axes[-1] == last or {axes[-1], last} <= TOKENS


def operands_of(row: Row, inputs: tuple[str, ...] = ()) -> list[Operand]:
    """Operands and result of a row.  inputs: symbols of what was read, where an event says."""
    op = look_up(row.op)
    named = _named(op, row, inputs)
    return [
        Operand(symbol, meaning(symbol, axes), axes, shape, stored)
        for (symbol, axes), shape, stored in zip(named, row.shapes, row.stored, strict=True)
    ]


def _named(op: Op, row: Row, inputs: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
    every, axes = op.symbols, (*op.signature.operands, op.signature.result)
    if row.direction == "fprop":
        return list(zip(every, axes, strict=True))
    d_y, last = f"d_{every[-1]}", len(every) - 1
    if row.direction == "quantise":
        into = [(d_y, axes[-1])] * 2 + [(every[0], axes[0])]
        return [(d_y, axes[-1]), (every[0], axes[0]), *into]
    found = _backward(op, row)
    reads = [d_y if i == last else every[i] for i in found.reads]
    names = inputs if len(inputs) == len(reads) else reads
    read = zip(names, (axes[i] for i in found.reads), strict=True)
    return [*read, (f"d_{every[found.writes]}", axes[found.writes])]


def _backward(op: Op, row: Row) -> Backward:
    """Which of an op's backward rows a row is: the one whose shapes it has."""
    axes = (*op.signature.operands, op.signature.result)
    rows = [one for one in primitives()[op.primitive].backward if one.direction == row.direction]
    for one in rows:
        if row.shapes == tuple(tuple(row.sizes[a] for a in axes[i]) for i in (*one.reads, one.writes)):
            return one
    return rows[0]


@dataclass(frozen=True)
class OpCard:
    """One op as it ran.

    event: with its arrays, or the row alone.  so_far: seconds on the hardware of all ops up to this one, 0:
    not said.  picture: of its values.  code: the line that called.  heading: what stands in front of the id.
    """

    event: Event | Row
    hardware: Hardware
    so_far: float = 0.0
    picture: RenderableType | None = None
    code: CodeLine | None = None
    heading: str = ""

    @property
    def row(self) -> Row:
        """The traced row."""
        return self.event.row if isinstance(self.event, Event) else self.event

    @property
    def result(self) -> Any:
        """What the op gave; None of a row without arrays."""
        return self.event.result if isinstance(self.event, Event) else None

    @cached_property
    def line(self) -> Line:
        """The row, priced."""
        return bill([self.row], self.hardware).lines[0]

    @cached_property
    def operands(self) -> list[Operand]:
        """Its arrays, the result last."""
        names = tuple(name for name, _ in self.event.inputs) if isinstance(self.event, Event) else ()
        return operands_of(self.row, names)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.head, style="bold", overflow="fold")
        if self.code is not None:
            yield Text(self.called, style="dim", overflow="fold")
        yield self._table()
        yield Text(self._work(), overflow="fold")
        yield Text(self._time(), overflow="fold")
        if self.picture is not None:
            yield self.picture

    def describe(self) -> str:
        """A line for each fact, then the picture in words."""
        lines = [self.head] + ([self.called] if self.code else [])
        *read, written = self.operands
        for word, one in (*(("reads", one) for one in read), ("writes", written)):
            told = f", {one.meaning}" if one.meaning else ""
            lines.append(f"{word} {one.symbol}: {one.sizes}, {one.stored}{told}")
        lines += [self._work(), self._time()]
        if self.picture is not None:
            lines.append(str(self.picture.describe() if hasattr(self.picture, "describe") else self.picture))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the picture."""
        said: dict[str, Any] = asdict(self.line)
        said["operands"] = [one._asdict() for one in self.operands]
        said["code"] = self.code and self.code._replace(file=_short(self.code.file))._asdict()
        return said | {"hardware": self.hardware.id, "seconds_so_far": self.so_far or None}

    # ---- lines ----

    @property
    def head(self) -> str:
        """Op, place, equation."""
        line = self.line
        where = [
            line.phase if line.direction in ("fprop", line.phase) else f"{line.phase} ({line.direction})"
        ]
        where += [f"layer {line.layer}"] if line.layer is not None else []
        where += [f"expert {line.expert}"] if line.expert is not None else []
        equation = "eq. " + ", ".join(line.equations) if line.equations else "no equation"
        front = f"{self.heading}  " if self.heading else ""
        return f"{front}{line.op}  {', '.join(where)}, {equation}: {line.formula}"

    @property
    def called(self) -> str:
        """The line of the model that called; "" where it is not known."""
        if self.code is None:
            return ""
        return f"{_short(self.code.file)}:{self.code.line}  {' '.join(self.code.text.split())}"

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        for last, one in enumerate(self.operands, 1 - len(self.operands)):
            arrow = "-> " if last == 0 else "   "
            symbol = Text(arrow + one.symbol, no_wrap=True)
            stored = Text(one.stored, no_wrap=True)
            table.add_row(symbol, Text(one.sizes, no_wrap=True), stored, Text(one.meaning, style="dim"))
        return table

    def _work(self) -> str:
        line = self.line
        done = [f"{flops(line.matrix_flops)} of products"] if line.matrix_flops else []
        done += [f"{flops(line.vector_flops)} element by element"] if line.vector_flops else []
        return f"{', '.join(done) or 'no FLOPs'}; {_moved(line.bytes)}"

    def _time(self) -> str:
        line = self.line
        bound = f", bound by {line.bound}" if line.bound != "none" else ""
        so_far = f"; {duration(self.so_far)} so far" if self.so_far else ""
        return f"{duration(line.seconds)} on {self.hardware.name}{bound}{so_far}"


def _moved(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{size(n)} {kind}" for kind, n in kinds.items() if n) or "nothing moved"


def _short(file: str) -> str:
    """A file's path from the package on."""
    front, found, rest = file.replace("\\", "/").rpartition("/minidsv3/")
    return f"minidsv3/{rest}" if found else front.rpartition("/")[2] or rest.rpartition("/")[2]


def demo() -> OpCard:
    """The attention probabilities of a fresh nano model's first layer."""
    from minidsv3.config import ModelConfig
    from minidsv3.hardware import load_hardware
    from minidsv3.interpreter import Model
    from minidsv3.machine import Machine
    from minidsv3.machine.watch import called_from
    from minidsv3.show.value import picture_of

    cards: list[OpCard] = []

    def look(event: Event) -> None:
        if event.op.id == "mla.softmax" and event.row.layer == 0:
            picture = picture_of(
                event.op.id, event.result.copy(), op=event.op.id, symbol="p", axes=("H", "T", "S")
            )
            cards.append(OpCard(event, load_hardware("h800"), picture=picture, code=called_from()))

    Model.initialise(ModelConfig.preset("nano"), seed=0).logits([[1, 2, 3, 4, 5, 6]], Machine(watch=look))
    return cards[0]


if __name__ == "__main__":
    from minidsv3.show.forms import shown

    shown(demo())
