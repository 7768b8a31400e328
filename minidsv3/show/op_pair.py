"""One op on two machines, side by side: the same line of the model, two formats, two times, two results.

Above stands what both share: the op, where it ran, its equation and the line that called it. Below stand a
row for each machine, how far their results are apart, and the arrays with the worst cell marked.

Does: lay out. Does not: run, align, or judge what is close enough (`minidsv3.learn.stepping.compare`).

    >>> from minidsv3.show.svg import plain_text
    >>> print(plain_text(demo(), width=76, ascii_only=True).splitlines()[0])
    mla.kv_down  forward, layer 0, eq. 1: c_KV = W_DKV h

Next: minidsv3.show.tables
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from minidsv3.show.numbers import count, duration, number
from minidsv3.show.op_card import OpCard
from minidsv3.show.tensor_difference import TensorDifference

__all__ = ["OpPair", "apart", "demo"]


@dataclass(frozen=True)
class OpPair:
    """An op on two machines.

    cards: of both, their times so far said  labels: what the machines are called  results: what each gave,
    None where there is none  words: how far apart, from who compared  only: ops in front that one machine
    alone has, for each.
    """

    cards: tuple[OpCard, OpCard]
    labels: tuple[str, str]
    results: tuple[ArrayLike | None, ArrayLike | None] = (None, None)
    words: str = ""
    only: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        first = self.cards[0]
        yield Text(first.head, style="bold", overflow="fold")
        if first.code is not None:
            yield Text(first.called, style="dim", overflow="fold")
        yield from (Text(line, overflow="fold") for line in self._alone())
        table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        for row in self._machines():
            table.add_row(*(Text(cell, overflow="fold") for cell in row))
        yield table
        if self.words:
            yield Text(self.words, style="bold", overflow="fold")
        if (picture := self.picture) is not None:
            yield picture

    @property
    def picture(self) -> TensorDifference | None:
        """Both results with the worst cell; None where they are alike, or one of them is missing."""
        one, other = self.results
        if (
            one is None
            or other is None
            or np.array_equal(one, other, equal_nan=np.asarray(one).dtype.kind == "f")
        ):
            return None
        return TensorDifference(one, other, names=self.labels)

    def describe(self) -> str:
        """A line for each fact."""
        first = self.cards[0]
        lines = [first.head] + ([first.called] if first.code else []) + list(self._alone())
        lines += [", ".join(row) for row in self._machines()] + ([self.words] if self.words else [])
        return "\n".join(lines + ([self.picture.describe()] if self.picture is not None else []))

    def _alone(self) -> Iterator[str]:
        for label, ops in zip(self.labels, self.only, strict=True):
            if ops:
                yield f"before it, {label} alone: {', '.join(ops)}"

    def _machines(self) -> Iterator[tuple[str, str, str]]:
        for label, card in zip(self.labels, self.cards, strict=True):
            *read, written = (one.stored for one in card.operands)
            so_far = f", {duration(card.so_far)} so far" if card.so_far else ""
            time = f"{duration(card.line.seconds)} on {card.hardware.id}{so_far}"
            yield label, f"{', '.join(read)} -> {written}", time


def apart(numbers: int, differing: int, absolute: float, relative: float, ulp: float) -> str:
    """How far two results are apart, in words.

    >>> apart(640, 12, 0.5, 0.25, 3.0)
    '12 of 640 numbers differ: by at most 0.5, 0.25 of the largest, 3 units in the last place'
    """
    if not differing:
        return f"all {count(numbers)} numbers alike, bit for bit"
    far = f"by at most {number(absolute)}, {relative:.3g} of the largest, {ulp:.4g} units in the last place"
    return f"{count(differing)} of {count(numbers)} numbers differ: {far}"


def demo() -> OpPair:
    """The latent of three tokens in float32 and in the FP8 recipe, of a fresh nano model's first layer."""
    from minidsv3.config import ModelConfig
    from minidsv3.hardware import load_hardware
    from minidsv3.interpreter import Model
    from minidsv3.machine import Event, Machine

    model, hardware = Model.initialise(ModelConfig.preset("nano"), seed=0), load_hardware("h800")
    cards: list[OpCard] = []

    def look(event: Event) -> None:
        if event.op.id == "mla.kv_down" and event.row.layer == 0:
            cards.append(OpCard(event._replace(outputs=(("c_KV", event.result.copy()),)), hardware))

    for precision in ("fp32", "fp8"):
        model.logits([[1, 2, 3]], Machine(precision=precision, watch=look))
    one, other = (card.result for card in cards)
    return OpPair((cards[0], cards[1]), ("fp32", "fp8"), (one, other))


if __name__ == "__main__":
    from minidsv3.show.forms import shown

    shown(demo())
