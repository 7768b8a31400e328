"""How evenly tokens fall on experts, step after step, while each expert's bias follows its load.

MaxVio is the largest load over the mean load, minus one: 0 would be perfect balance. With few experts a row
is an expert and a column a stretch of steps; with many the first and the last step are drawn side by side, a
row a group. The digits are the same in both: 4 and 5 lie around the mean, 9 is twice the mean or more.

Does: draw loads and biases; `balanced` routes drawn tokens with the package's router and moves its bias by
the sign rule. Does not: train (`minidsv3.training`).

    >>> from minidsv3.show.svg import plain_text
    >>> few = ExpertLoad([[8, 0, 2, 2], [5, 2, 2, 3]], [[-0.1, 0.1, 0.1, 0.1], [-0.2, 0.2, 0.2, 0.0]])
    >>> print(plain_text(few, width=60, ascii_only=True).splitlines()[0])
    MaxVio   1.67 @_   0.67   lowest 0.67 at step 2
    >>> few.max_violation.tolist()
    [1.6666666666666665, 0.6666666666666667]

Next: minidsv3.show.op_timeline
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.config import ModelConfig
from minidsv3.model.gate import route
from minidsv3.show.cells import cut, digit, tint
from minidsv3.show.chart import Sparkline
from minidsv3.show.forms import shown
from minidsv3.show.numbers import counted
from minidsv3.training.optimizer import max_violation, move_bias

__all__ = ["ExpertLoad", "balanced", "demo"]

FEW, MOST_STEPS, MOST_CELLS = 24, 60, 64  # experts with a row each; columns of their rows; of a group's
MEAN_AT = 4.5  # the level of a load that is the mean


@dataclass(frozen=True)
class ExpertLoad:
    """Loads and biases of one layer's experts.

    loads: [steps, E] tokens each expert got  bias: [steps, E] behind each step, if there is one
    groups: G, into which the experts are drawn  first: number of the first step
    """

    loads: ArrayLike
    bias: ArrayLike | None = None
    groups: int = 1
    title: str = ""
    first: int = 1

    def __post_init__(self) -> None:
        shape = np.shape(self.loads)
        if len(shape) != 2 or 0 in shape or self.groups < 1 or shape[1] % self.groups:
            raise ValueError(f"expected loads [steps, E] of {self.groups} groups alike, got {shape}")

    @property
    def share(self) -> NDArray[np.float64]:
        """Loads over the mean load of their step.  [steps, E]"""
        loads = np.asarray(self.loads, dtype=np.float64)
        return np.asarray(loads / np.maximum(loads.mean(axis=1, keepdims=True), 1e-9))

    @property
    def max_violation(self) -> NDArray[np.float64]:
        """MaxVio of each step.  [steps]"""
        return max_violation(np.asarray(self.loads, dtype=np.int64))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(self.title, "bold", overflow="fold")
        yield from self._lines(options)
        few = self.share.shape[1] <= FEW
        yield from self._rows(console, options) if few else self._grids(console, options)
        yield Text("load over the mean: . none, 1 .2, 3 .6, 4 and 5 around 1, 7 1.5, 9 2 and more")

    # ---- over the steps -----------------------------------------------------------------------------------

    def _lines(self, options: ConsoleOptions) -> Iterator[Text]:
        """MaxVio and the outermost biases, each a sparkline between its first and its last value."""
        vio = self.max_violation
        room = max(min(options.max_width - 52, MOST_STEPS), 8)
        low = int(vio.argmin())
        yield self._spark("MaxVio", vio, room, f"lowest {vio[low]:.2f} at step {self.first + low}", options)
        if self.bias is None:
            return
        bias = np.asarray(self.bias, dtype=np.float64)
        for how, e in (("raised", int(bias[-1].argmax())), ("lowered", int(bias[-1].argmin()))):
            yield self._spark("bias", bias[:, e], room, f"of expert {e}, {how} most", options, "+.3f")

    def _spark(
        self,
        name: str,
        values: NDArray[np.float64],
        room: int,
        note: str,
        options: ConsoleOptions,
        written: str = ".2f",
    ) -> Text:
        first, last = format(values[0], written), format(values[-1], written)
        line = Text(f"{name:6} {first:>6} ", no_wrap=True, overflow="crop")
        line.append(Sparkline(values.tolist(), room).text(options.ascii_only), "cyan")
        return line.append(f" {last:>6}   {note}")

    # ---- few experts: a row each --------------------------------------------------------------------------

    def _rows(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """A row an expert, a column a stretch of steps, its mean load."""
        share, bias = self.share, self.bias
        steps = cut(len(share), min(len(share), MOST_STEPS, max(options.max_width - 38, 4)))
        last = f"step {self.first} .. {self.first + len(share) - 1}"
        wide = max(len(steps), len(last))
        ends = "  bias" if bias is not None else ""
        yield Text(f"expert  first  {last:{wide}}   last{ends}", "dim", no_wrap=True, overflow="crop")
        for e in range(share.shape[1]):
            line = Text(f"{e:>6}  {share[0, e]:5.2f}  ", no_wrap=True, overflow="crop")
            for a, b in steps:
                self._cell(line, float(share[a:b, e].mean()), console)
            line.append(" " * (wide - len(steps)) + f"  {share[-1, e]:5.2f}")
            yield line.append("" if bias is None else f"  {float(np.asarray(bias)[-1, e]):+.3f}")

    def _cell(self, line: Text, share: float, console: Console) -> None:
        at = level(share)
        line.append(digit(at), tint(at, console))

    # ---- many experts: two grids --------------------------------------------------------------------------

    def _grids(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """The first and the last step, a row a group, a cell an expert."""
        steps = list(dict.fromkeys((0, len(self.share) - 1)))
        size = self.share.shape[1] // self.groups
        cells = min(size, MOST_CELLS, max(options.max_width - 8, 4))
        beside = len(steps) > 1 and options.max_width >= 2 * cells + 14
        for part in [steps] if beside else [[step] for step in steps]:
            heads = [
                f"step {self.first + step}, most {self.share[step].max():.2f} x the mean" for step in part
            ]
            line = "group  " + "   ".join(f"{head:{cells + 2}}" for head in heads)
            yield Text(line.rstrip(), "dim", no_wrap=True, overflow="crop")
            for g in range(self.groups):
                yield from self._group(g, size, cells, part, console, options)

    def _group(
        self, g: int, size: int, cells: int, steps: list[int], console: Console, options: ConsoleOptions
    ) -> Iterator[Text]:
        bar = "|" if options.ascii_only else "│"
        for start in range(0, size, cells):
            line = Text(f"{g if not start else '':>5}  ", no_wrap=True, overflow="crop")
            for step in steps:
                line.append(bar, "dim")
                experts = self.share[step].reshape(self.groups, size)[g, start : start + cells]
                for share in experts:
                    self._cell(line, float(share), console)
                line.append(bar, "dim").append(" " * (cells - len(experts) + 3))
            line.rstrip()
            yield line

    def describe(self) -> str:
        """Balance at the first and at the last step, and who is fullest and emptiest."""
        share, vio = self.share, self.max_violation
        last = self.first + len(share) - 1
        steps, experts = len(share), share.shape[1]
        said = [
            f"{self.title or 'expert load'}: {counted(experts, 'expert')}, {counted(steps, 'step')}",
            f"MaxVio {vio[0]:.2f} at step {self.first}, {vio[-1]:.2f} at step {last}, lowest {vio.min():.2f}",
        ]
        for step in dict.fromkeys((0, len(share) - 1)):
            full, empty = int(share[step].argmax()), int(share[step].argmin())
            most = f"expert {full} with {share[step, full]:.2f} times the mean"
            least = f"expert {empty} with {share[step, empty]:.2f}"
            said.append(f"step {self.first + step}: most {most}, least {least}")
        if self.bias is not None:
            b = np.asarray(self.bias, dtype=np.float64)[-1]
            said.append(
                f"bias from {b.min():+.3f} (expert {b.argmin()}) to {b.max():+.3f} (expert {b.argmax()})"
            )
        return "\n".join(said)


def level(share: float) -> int:
    """The digit of a load, 0 .. 9: 0 is none, 4.5 would be the mean, 9 is twice the mean or more.

    >>> [level(share) for share in (0.0, 0.01, 1.0, 2.0, 5.0)]
    [0, 1, 4, 9, 9]
    """
    return max(min(round(share * MEAN_AT), 9), 1) if share else 0


def balanced(
    z: ArrayLike,
    config: ModelConfig,
    steps: int,
    tokens: int,
    speed: float,
    seed: int = 0,
    title: str = "",
) -> ExpertLoad:
    """Route `tokens` of these rows at each step, then move the bias; weights stay as they are.

    z: [N, E], u . e of N tokens, from which each step draws  speed: gamma of the sign rule.
    """
    logits = np.asarray(z, dtype=np.float32)  # [N, E]
    rng, E = np.random.default_rng(seed), config.n_routed_experts
    bias, loads, biases = np.zeros(E, np.float32), [], []
    for _ in range(steps):
        drawn = logits[rng.integers(0, len(logits), tokens)]  # [tokens, E]
        load = np.bincount(route(drawn, bias, config).indices.ravel(), minlength=E)  # [E]
        move_bias(bias, load, speed)
        loads.append(load)
        biases.append(bias.copy())
    return ExpertLoad(loads, biases, config.n_expert_groups, title)


def demo() -> ExpertLoad:
    """V3's router on drawn tokens, of which some experts are liked more than others."""
    rng, config = np.random.default_rng(0), ModelConfig.preset("v3")
    E = config.n_routed_experts
    z = rng.normal(size=(2048, E)) + 0.3 * rng.normal(size=E)  # [N, E]
    return balanced(z, config, 40, 512, 0.01, title="V3's router, scores drawn, bias moved by 0.01 a step")


if __name__ == "__main__":
    shown(demo())
