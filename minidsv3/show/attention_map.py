"""Where each token looks: attention probabilities of a head with the mask hatched, or several heads small.

A row is a query, a column a key. Beside a row stands its entropy in bits: 0 where one key has all, log2(n)
where n keys share alike. What the causal mask hides is hatched, so that it is not taken for nothing.

Does: draw probabilities. Does not: compute them (`minidsv3.model.mla`).

    >>> from minidsv3.show.svg import plain_text
    >>> p = np.array([[[1.0, 0.0], [0.25, 0.75]]])
    >>> print(plain_text(AttentionMap(p, ["def", " f"]), width=80, ascii_only=True))
    head 0  2x2, queries down, keys across; mean entropy 0.41 bits
    0 def |9/| 0.00 bits, 100.0 % at key 0
    1 _f  |68| 0.81 bits, 75.0 % at key 1
    more than %: 1 .5  2 1  3 2  4 5  5 10  6 20  7 35  8 60  9 85; . less; / masked

Next: minidsv3.show.router_card
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.show.cells import cut, digit, entropy, plain_label, tint
from minidsv3.show.forms import shown
from minidsv3.show.numbers import percent, shape

__all__ = ["STEPS", "AttentionMap", "demo", "level"]

STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.6, 0.85)  # a cell of digit i has more than this share
MOST_ROWS, MOST_COLUMNS, SMALL = 48, 64, 16  # of a map; rows and columns of a small one
MOST_SAID = 12
Cells = NDArray[np.float64]


def level(share: float) -> int:
    """The digit of a probability, 0 .. 9: the same in all maps, so that heads can be compared."""
    return sum(share > step for step in STEPS)


@dataclass(frozen=True)
class AttentionMap:
    """Probabilities of heads.  values: [H, T, S]; query t sees keys up to S - T + t.

    tokens: what the S keys spell, if known. head: this one alone, large; all of them small where None.
    """

    values: ArrayLike
    tokens: Sequence[str] = ()
    head: int | None = None
    title: str = ""

    def __post_init__(self) -> None:
        if self.p.ndim != 3 or not self.p.size:
            raise ValueError(f"expected attention probabilities [H, T, S], got {self.p.shape}")
        if self.head is not None and not 0 <= self.head < len(self.p):
            raise ValueError(f"expected a head 0 .. {len(self.p) - 1}, got {self.head}")

    @property
    def p(self) -> Cells:
        """The probabilities as float64.  [H, T, S]"""
        return np.asarray(self.values, dtype=np.float64)

    def entropies(self, head: int) -> list[float]:
        """Bits of each query's row."""
        return [entropy(row) for row in self.p[head]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(self.title, "bold", overflow="fold")
        if self.head is not None or len(self.p) == 1:
            yield from self._large(self.head or 0, console, options)
        else:
            yield from self._small(console, options)
        hatch = "/" if options.ascii_only else "╱"
        steps = "  ".join(f"{i + 1} {100 * step:g}".replace("0.", ".") for i, step in enumerate(STEPS))
        yield Text(f"more than %: {steps}; . less; {hatch} masked")

    # ---- one head -----------------------------------------------------------------------------------------

    def _large(self, head: int, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        T, S = self.p.shape[1:]
        yield self._head(head, f"  {shape((T, S))}, queries down, keys across; mean entropy")
        names, bits = self._names(options), self.entropies(head)
        room = min(options.max_width - len(names[0]) - 34, MOST_COLUMNS)
        cells, masked = self._pooled(head, MOST_ROWS, max(room, 4))
        for i, (start, _) in enumerate(cut(T, len(cells))):
            line = Text(no_wrap=True, overflow="crop").append(f"{names[start]} ", "dim")
            self._row(line, cells[i], masked[i], console, options)
            best = int(self.p[head, start].argmax())
            most = percent(float(self.p[head, start, best]))
            yield line.append(f" {bits[start]:.2f} bits, {most} at key {best}")

    def _head(self, head: int, about: str) -> Text:
        mean = float(np.mean(self.entropies(head)))
        line = Text(no_wrap=True, overflow="crop").append(f"head {head}", "bold")
        return line.append(f"{about} {mean:.2f} bits")

    def _names(self, options: ConsoleOptions) -> list[str]:
        """Labels of the queries, equally wide."""
        T, S = self.p.shape[1:]
        labels = [self.tokens[i] if i < len(self.tokens) else "" for i in range(S - T, S)]
        digits = len(str(S - 1))
        names = [
            f"{i:>{digits}} {plain_label(label, options.ascii_only)}".rstrip()
            for i, label in enumerate(labels, S - T)
        ]
        wide = min(max(map(len, names)), max(options.max_width // 5, 6))
        return [f"{name[:wide]:{wide}}" for name in names]

    def _pooled(self, head: int, rows: int, columns: int) -> tuple[Cells, NDArray[np.bool_]]:
        """The largest of each block, and whether the mask hides all of it."""
        p = self.p[head]
        T, S = p.shape
        seen = np.arange(S) <= np.arange(T)[:, None] + S - T
        down, across = cut(T, min(rows, T)), cut(S, min(columns, S))
        most = [[p[a:b, c:d].max() for c, d in across] for a, b in down]
        hidden = [[not seen[a:b, c:d].any() for c, d in across] for a, b in down]
        return np.array(most), np.array(hidden)

    def _row(
        self,
        line: Text,
        cells: Cells,
        masked: NDArray[np.bool_],
        console: Console,
        options: ConsoleOptions,
    ) -> None:
        bar, hatch = ("|", "/") if options.ascii_only else ("│", "╱")
        line.append(bar, "dim")
        for value, hidden in zip(cells, masked, strict=True):
            at = level(float(value))
            line.append(*((hatch, "dim") if hidden else (digit(at), tint(at, console))))
        line.append(bar, "dim")

    # ---- several, small -----------------------------------------------------------------------------------

    def _small(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        H, T, S = self.p.shape
        side = min(S, SMALL)
        wide = max(side + 2, 9) + 2
        beside = max((options.max_width + 2) // wide, 1)
        yield Text(f"{H} heads of {shape((T, S))}, queries down, keys across; mean entropy in bits")
        for start in range(0, H, beside):
            heads = range(start, min(start + beside, H))
            names = [f"{h}  {np.mean(self.entropies(h)):.2f}" for h in heads]
            yield Text("".join(f"{name:{wide}}" for name in names).rstrip(), "bold")
            maps = [self._pooled(h, SMALL, side) for h in heads]
            for i in range(len(maps[0][0])):
                line = Text(no_wrap=True, overflow="crop")
                for cells, masked in maps:
                    self._row(line, cells[i], masked[i], console, options)
                    line.append(" " * (wide - side - 2))
                line.rstrip()
                yield line

    def describe(self) -> str:
        """The maps in words: the entropy of each head, of one head where each query looks."""
        H, T, S = self.p.shape
        said = [f"{self.title or 'attention'}: {H} heads, {T} queries, {S} keys"]
        if self.head is None and H > 1:
            return "\n".join(said + [self._said_of(h) for h in range(H)])
        head = self.head or 0
        for t in range(min(T, MOST_SAID)):
            best = int(self.p[head, t].argmax())
            most = percent(float(self.p[head, t, best]))
            said.append(
                f"query {S - T + t}: highest at key {best}, {most}; entropy {self.entropies(head)[t]:.2f}"
            )
        return "\n".join([*said, *([f"and {T - MOST_SAID} more queries"] if T > MOST_SAID else [])])

    def _said_of(self, head: int) -> str:
        bits = self.entropies(head)
        t = int(np.argmin(bits[1:] or bits)) + (len(bits) > 1)
        best = int(self.p[head, t].argmax())
        sharpest = (
            f"sharpest: query {t + self.p.shape[2] - len(bits)}, {percent(float(self.p[head, t, best]))}"
        )
        return f"head {head}: mean entropy {np.mean(bits):.2f} bits; {sharpest} at key {best}"


def demo() -> AttentionMap:
    """All heads of layer 1 of a fresh nano model, on sixteen tokens."""
    from minidsv3.config import ModelConfig
    from minidsv3.interpreter import Model
    from minidsv3.machine import Machine

    model = Model.initialise(ModelConfig.preset("nano"), seed=0)
    machine = Machine(trace=True, keep="mla.softmax")
    model.logits(np.arange(40, 56)[None], machine)
    return AttentionMap(machine.trace.value("mla.softmax", layer=1), title="attention, layer 1")


if __name__ == "__main__":
    shown(demo())
