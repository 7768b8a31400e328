"""Logits as a table: the likeliest tokens, their share under softmax as number and bar.

Does: softmax in float64, the best few. Does not: sample (`minidsv3.inference.sampling`).

    >>> from minidsv3.show.svg import plain_text
    >>> top = TopTokens([2.0, 0.0, 1.0], tokens=["a", "b", "c"], rows=2)
    >>> print(plain_text(top, width=60, ascii_only=True))
    logits  3 tokens, entropy 1.2 bits
    token  logit   share
    --------------------------------------
    0 a        2  66.5 %  ################
    2 c        1  24.5 %  ######

Next: minidsv3.show.attention_map
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.show.cells import entropy, plain_label, short
from minidsv3.show.chart import Bar
from minidsv3.show.forms import shown
from minidsv3.show.numbers import count, percent
from minidsv3.show.tables import plain_table

__all__ = ["TopTokens", "demo"]


@dataclass(frozen=True)
class TopTokens:
    """The likeliest next tokens.  logits: [V]  tokens: what each id spells, if known."""

    logits: ArrayLike
    title: str = "logits"
    tokens: Sequence[str] = ()
    rows: int = 8

    @property
    def z(self) -> NDArray[np.float64]:
        """The logits as float64.  [V]"""
        return np.asarray(self.logits, dtype=np.float64).reshape(-1)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Softmax of the logits; what is no finite number has no share.  [V]"""
        finite = np.isfinite(self.z)
        if not finite.any():
            return np.zeros(len(finite))
        e = np.exp(np.where(finite, self.z, -np.inf) - self.z[finite].max())
        return np.asarray(e / e.sum())

    @property
    def best(self) -> list[int]:
        """Ids, the likeliest first; of equals the smaller id."""
        return [int(i) for i in np.argsort(-self.shares, kind="stable")[: self.rows]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(no_wrap=True, overflow="crop").append(self.title, "bold").append(f"  {self._about}")
        table, shares = plain_table(), self.shares
        for name in ("token", "logit", "share", ""):
            table.add_column(name, justify="right" if name in ("logit", "share") else "left", no_wrap=True)
        for i in self.best:
            bar = Bar(float(shares[i] / max(shares.max(), 1e-300)), width=16)
            label = Text(plain_label(self._name(i), options.ascii_only), overflow="crop")
            table.add_row(label, short(float(self.z[i])), percent(float(shares[i])), bar)
        yield table

    @property
    def _about(self) -> str:
        lost = int((~np.isfinite(self.z)).sum())
        said = f"{count(len(self.z))} tokens, entropy {short(entropy(self.shares), 2)} bits"
        return said + (f", {count(lost)} no finite numbers" if lost else "")

    def _name(self, i: int) -> str:
        return f"{i} {self.tokens[i]}" if i < len(self.tokens) else str(i)

    def describe(self) -> str:
        """The best tokens in words."""
        told = ", ".join(f"{self._name(i)} {percent(float(self.shares[i]))}" for i in self.best)
        return f"{self.title}: {self._about}; likeliest: {told}"


def demo() -> TopTokens:
    """What a fresh nano model thinks comes next: nearly anything."""
    from minidsv3.config import ModelConfig
    from minidsv3.interpreter import Model

    model = Model.initialise(ModelConfig.preset("nano"), seed=0)
    return TopTokens(model.logits([[1, 2, 3, 4]])[0, -1], "logits behind token 3")


if __name__ == "__main__":
    shown(demo())
