"""One token's way through the router: scores, bias, groups, choice, weights (eqs. 13-16), on one card.

A strip shows s + b of all experts, a row a group: digits from the lowest to the highest, letters in the
place of the chosen, the best being A. Beside it stand the sums by which groups are kept; below it the chosen
with their numbers, the first one that was not, and what the bias changed.

Does: draw what a router did; `router_card` runs `minidsv3.model.gate` for it. Does not: choose by itself.

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.show.svg import plain_text
    >>> z = np.linspace(-2, 2, 16, dtype="f")
    >>> card = router_card(z, None, ModelConfig.preset("nano"))
    >>> print(plain_text(card, width=60, ascii_only=True).splitlines()[4])
      2   0.533   0.599   0.661   0.718    1.379  kept
    >>> card.describe().splitlines()[1]
    'chosen: 15 with weight 0.66, 14 with weight 0.64, 13 with weight 0.61, 12 with weight 0.58'

Next: minidsv3.show.expert_load
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from minidsv3.config import ModelConfig
from minidsv3.machine import Machine
from minidsv3.model.gate import BEST_OF_GROUP, choose
from minidsv3.show.cells import coloured, digit, tint
from minidsv3.show.forms import shown
from minidsv3.show.legend import legend
from minidsv3.show.numbers import counted

__all__ = ["RouterCard", "demo", "router_card"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FEW, WIDEST = 8, 64  # experts of a group whose numbers are printed; cells of a row of a strip
CHOSEN = "bold reverse"


@dataclass(frozen=True)
class RouterCard:
    """What the router did for one token.

    scores: [E] s  bias: [E] b, if there is one  kept: the groups that were, all where None
    chosen: experts, best first; none where only scores are known  weights: g of these
    unbiased: what would have been chosen without the bias
    """

    scores: ArrayLike
    bias: ArrayLike | None = None
    groups: int = 1
    kept: Sequence[int] | None = None
    chosen: Sequence[int] = ()
    weights: Sequence[float] = ()
    unbiased: Sequence[int] | None = None
    best_of_group: int = BEST_OF_GROUP
    title: str = ""

    @property
    def s(self) -> NDArray[np.float64]:
        """The scores as float64.  [E]"""
        return np.asarray(self.scores, dtype=np.float64).reshape(-1)

    @property
    def b(self) -> NDArray[np.float64]:
        """The bias as float64, zeros where there is none.  [E]"""
        return np.zeros_like(self.s) if self.bias is None else np.asarray(self.bias, dtype=np.float64)

    @property
    def by_group(self) -> NDArray[np.float64]:
        """s + b.  [G, E / G]"""
        return (self.s + self.b).reshape(self.groups, -1)

    @property
    def sums(self) -> NDArray[np.float64]:
        """By which groups are kept: the best of each added up.  [G]"""
        return np.asarray(np.sort(self.by_group, axis=1)[:, -self.best_of_group :].sum(axis=1))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(self.title, "bold", overflow="fold")
        yield Text(self._about)
        numbers = self.by_group.shape[1] <= FEW and 8 * self.by_group.shape[1] + 28 <= options.max_width
        yield from self._numbers() if numbers else self._strip(console, options)
        yield Text(self._legend(numbers))
        if self.chosen:
            yield from self._table(options)
            yield Text(" ".join(self._remarks()))

    @property
    def _about(self) -> str:
        said = f"{counted(len(self.s), 'expert')}"
        if self.groups > 1:
            kept = "" if self.kept is None else f", {len(self.kept)} kept"
            said += f" in {self.groups} groups{kept}"
        return said + (f", {len(self.chosen)} chosen" if self.chosen else f"; {self._best}")

    @property
    def _best(self) -> str:
        best = np.argsort(-self.s, kind="stable")[:4]
        return "highest: " + ", ".join(f"{e} with {self.s[e]:.3g}" for e in best)

    # ---- all experts --------------------------------------------------------------------------------------

    def _numbers(self) -> Iterator[Text]:
        """A row a group, s + b of each expert, a letter behind the chosen."""
        size = self.by_group.shape[1]
        yield Text(self._heads(8 * size), "dim", no_wrap=True, overflow="crop")
        for g, row in enumerate(self.by_group):
            line = Text(f"{g:>3}   ", "dim" if self._left_out(g) else "", no_wrap=True, overflow="crop")
            for e, value in enumerate(row, g * size):
                mark = self._mark(e)
                line.append(f"{value:<6.3f}{mark or ' '} ", "bold" if mark else "")
            yield line.append(self._margin(g))

    def _strip(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """A row a group, a cell an expert."""
        size = self.by_group.shape[1]
        room = max(min(options.max_width - 26, WIDEST), 4)
        bar = "|" if options.ascii_only else "│"
        yield Text(self._heads(min(size, room)), "dim", no_wrap=True, overflow="crop")
        for g, row in enumerate(self.by_group):
            for start in range(0, size, room):
                line = Text(f"{g if not start else '':>3} {bar}", no_wrap=True, overflow="crop")
                for e, value in enumerate(row[start : start + room], g * size + start):
                    mark, at = self._mark(e), self._level(value)
                    faint = "dim" if self._left_out(g) and not coloured(console) else tint(at, console)
                    line.append(mark or digit(at), CHOSEN if mark else faint)
                yield line.append(f"{bar} ") + (Text(self._margin(g)) if not start else Text())

    def _heads(self, wide: int) -> str:
        sums = f"  best {self.best_of_group}" if self.groups > 1 else ""
        return f"group {'s + b' if self.bias is not None else 's':{wide}}{sums}"

    def _margin(self, g: int) -> str:
        """The sum of a group, and whether it was kept."""
        if self.groups == 1:
            return ""
        word = "" if self.kept is None else "  left out" if self._left_out(g) else "  kept"
        return f"{self.sums[g]:>6.3f}{word}"

    def _left_out(self, g: int) -> bool:
        return self.kept is not None and g not in self.kept

    def _mark(self, e: int) -> str:
        """The letter of a chosen expert."""
        if e not in self.chosen:
            return ""
        return LETTERS[min(list(self.chosen).index(e), len(LETTERS) - 1)]

    def _level(self, value: float) -> int:
        low, high = self._span
        known = high > low and np.isfinite(value)
        return round(9 * (value - low) / (high - low)) if known else 0

    @property
    def _span(self) -> tuple[float, float]:
        """The lowest and the highest s + b."""
        known = self.by_group[np.isfinite(self.by_group)]
        return (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)

    def _legend(self, numbers: bool) -> str:
        what = "s + b" if self.bias is not None else "s"
        chosen = "letters: chosen, A the best" if self.chosen else ""
        if numbers:
            return chosen
        low, high = self._span
        return f". to 9: {what} from {low:.3g} to {high:.3g}" + (f"; {chosen}" if chosen else "")

    # ---- the chosen ---------------------------------------------------------------------------------------

    def _table(self, options: ConsoleOptions) -> Iterator[RenderableType]:
        """A row for each of the chosen, and for the first that was not."""
        chosen = zip(self.chosen, self.weights, strict=True)
        rows = [self._row(self._mark(e), e, f"{weight:.3f}") for e, weight in chosen]
        rows += [self._row("next", e, "-") for e in (self._next,) if e is not None]
        yield from legend(rows, (), options, right=("expert", "group", "s", "b", "s + b", "g"))

    def _row(self, mark: str, e: int, weight: str) -> dict[str, str]:
        s, b = self.s[e], self.b[e]
        numbers = {"s": f"{s:.4f}", "b": f"{b:+.4f}", "s + b": f"{s + b:.4f}", "g": weight}
        return {"": mark, "expert": str(e), "group": str(e // self.by_group.shape[1])} | numbers

    @property
    def _next(self) -> int | None:
        """The best of the kept groups that was not chosen."""
        size = self.by_group.shape[1]
        left = [e for e in range(len(self.s)) if e not in self.chosen and not self._left_out(e // size)]
        return max(left, key=lambda e: (float((self.s + self.b)[e]), -e), default=None)

    def _remarks(self) -> list[str]:
        said = [f"g sums to {sum(self.weights):.3g}."]
        if self.unbiased is not None and self.bias is not None:
            new = [e for e in self.chosen if e not in self.unbiased]
            old = [e for e in self.unbiased if e not in self.chosen]
            without = f"{_listed(old)} instead of {_listed(new)}" if new else "the same choice"
            said.append(f"Without bias: {without}.")
        size, total = self.by_group.shape[1], self.s + self.b
        worst = min(total[e] for e in self.chosen)
        lost = sum(total[e] > worst and self._left_out(e // size) for e in range(len(total)))
        if lost:
            said.append(f"Better than the last chosen, but in groups left out: {lost}.")
        return said

    def describe(self) -> str:
        """The card in words."""
        said = [f"{self.title or 'router'}: {self._about}"]
        if not self.chosen:
            return said[0]
        told = ", ".join(f"{e} with weight {g:.2g}" for e, g in zip(self.chosen, self.weights, strict=True))
        said.append(f"chosen: {told}")
        if self.kept is not None and self.groups > 1:
            sums = ", ".join(f"{g} with {self.sums[g]:.3f}" for g in self.kept)
            said.append(f"groups kept by the sum of their best {self.best_of_group}: {sums}")
        return "\n".join([*said, *self._remarks()])


def _listed(experts: Sequence[int]) -> str:
    return ", ".join(map(str, experts))


def router_card(z: ArrayLike, bias: ArrayLike | None, config: ModelConfig, title: str = "") -> RouterCard:
    """Run the router for one token.  z: [E], u . e, in front of the activation  bias: [E] or None."""
    logits = np.asarray(z, dtype=np.float32).reshape(1, -1)  # [1, E]
    b = None if bias is None else np.asarray(bias, dtype=np.float32)
    machine = Machine(trace=True, keep="gate.groups")
    routing, _ = choose(machine, logits, b, config)
    unbiased, _ = choose(Machine(), logits, None, config)
    kept = machine.trace.value("gate.groups")[0].tolist() if config.limits_groups else None
    return RouterCard(
        routing.scores[0],
        b,
        config.n_expert_groups if config.limits_groups else 1,
        None if kept is None else sorted(kept),
        routing.indices[0].tolist(),
        routing.weights[0].tolist(),
        unbiased.indices[0].tolist(),
        BEST_OF_GROUP if config.topk_method == "noaux_tc" else 1,
        title,
    )


def demo() -> RouterCard:
    """V3's router, its 256 experts, for scores and a bias that are drawn."""
    rng = np.random.default_rng(0)
    config = ModelConfig.preset("v3")
    E = config.n_routed_experts
    z, bias = rng.normal(size=E), 0.05 * rng.normal(size=E)
    return router_card(z, bias, config, "V3's router, scores and bias drawn")


if __name__ == "__main__":
    shown(demo())
