"""RoPE: pairs of numbers that turn with the position, fast ones and slow ones; scores see only the distance.

Each row is a pair of a head's rotary part, each column a position; the arrow shows where the pair points,
the number by how many degrees it has turned. Below, scores of one query with one key at several places: down
a column the distance is the same, and so is the score. Where YaRN stretches the rotation, a mark for each
pair says how far it is slowed down: not at all for fast pairs, by the whole factor for slow ones.

Does: compute and draw angles, scores, the ramp. Does not: choose them (`minidsv3.model.rope`).

    >>> from minidsv3.config import ModelConfig
    >>> turns = Rotation.of(ModelConfig.preset("v3"))
    >>> round(turns.degrees(0, 1), 1), turns.ends, turns.largest_difference() < 1e-9
    (57.3, (10, 23), True)

Next: minidsv3.show.svg
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from minidsv3.config import ModelConfig
from minidsv3.model.rope import frequencies, ramp_ends
from minidsv3.show.forms import SEQUENTIAL, shown
from minidsv3.show.numbers import count
from minidsv3.show.tables import in_parts

__all__ = ["Rotation"]

ARROWS = "→↗↑↖←↙↓↘"  # as a pair points, from 0 degrees on, 45 apart
HEAD, CELL = 17, 5  # columns of a pair's name; of a position
MOST_PAIRS = 8
DISTANCES = (0, 1, 2, 4, 8)
PLACES = (0, 5, 40)  # positions of the key


@dataclass(frozen=True)
class Rotation:
    """A rotary part.  radians: [d_R / 2] a position, as the model turns; plain: the same without YaRN."""

    name: str
    radians: NDArray[np.float64]
    plain: NDArray[np.float64]
    ends: tuple[float, float] | None  # of YaRN's ramp: the last pair left alone, the first slowed fully
    factor: float
    q: NDArray[np.complex128]  # [d_R / 2] a query's pairs as complex numbers
    k: NDArray[np.complex128]

    @classmethod
    def of(cls, config: ModelConfig, name: str = "", seed: int = 0) -> Self:
        """A model's rotation, with a random query and key."""
        dim, theta, yarn = config.qk_rope_head_dim, config.rope_theta, config.rope_scaling
        rng = np.random.default_rng(seed)
        q, k = (rng.standard_normal((2, dim // 2, 2)) @ [1, 1j]) / math.sqrt(dim)  # [2, d_R / 2]
        active = yarn if yarn is not None and yarn.factor > 1 else None
        return cls(
            f"{f'{name}: ' if name else ''}{dim} numbers a head turn, {dim // 2} pairs, theta {theta:g}",
            frequencies(dim, theta, yarn),
            frequencies(dim, theta),
            ramp_ends(dim, theta, active) if active else None,
            active.factor if active else 1.0,
            q,
            k,
        )

    def degrees(self, pair: int, position: int) -> float:
        """How far a pair has turned, from 0 to 360."""
        return float(np.degrees(position * self.radians[pair]) % 360)

    def score(self, m: int, n: int) -> float:
        """q at position m times k at position n: the real part of sum q conj(k) e^{i (m - n) f}."""
        q, k = self.q * np.exp(1j * m * self.radians), self.k * np.exp(1j * n * self.radians)
        return float((q * k.conj()).sum().real)

    def largest_difference(self) -> float:
        """Between scores at the same distance."""
        found = [[self.score(n + d, n) for n in PLACES] for d in DISTANCES]
        return max(max(column) - min(column) for column in found)

    def slowed(self) -> NDArray[np.float64]:
        """Of each pair, how far YaRN slows it: 0 not at all, 1 by the whole factor.  -> [d_R / 2]"""
        if self.ends is None:
            return np.zeros(len(self.radians))
        kept: NDArray[np.float64] = (1 - self.radians / self.plain) / (1 - 1 / self.factor)
        return kept

    def pairs(self) -> list[int]:
        """Those that are drawn: the first ones, then ever fewer."""
        n = len(self.radians)
        picked = np.unique(np.round(np.geomspace(1, n, min(MOST_PAIRS, n))).astype(int) - 1)
        return [int(i) for i in picked]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plain, width = options.ascii_only, options.max_width
        yield Text(self.name, "bold")
        yield from self._turning(console, (width - HEAD) // CELL, plain)
        yield Text("\nscores of one query at m and one key at n", "bold cyan")
        yield from self._scores(options)
        yield Text(
            f"down a column the same: largest difference in float64 {self.largest_difference():.1e}", "dim"
        )
        if self.ends:
            yield Text(f"\nYaRN slows pairs down, up to {self.factor:g} times", "bold cyan")
            yield from self._ramp(self.ends, console, width, plain)

    def _turning(self, console: Console, cells: int, plain: bool) -> Iterator[Text]:
        """Positions across, pairs down."""
        positions = range(min(cells, 16))
        head = Text(f"\n{'pair':>4} {'a turn in':>10}  ", "dim", no_wrap=True)
        yield head.append("".join(f"{position:>{CELL - 1}} " for position in positions).rstrip())
        for i in self.pairs():
            line = Text(no_wrap=True).append(f"{i:>4} {_turn(self.radians[i]):>10}  ", "dim")
            for position in positions:
                degrees = self.degrees(i, position)
                share = (1 - math.cos(math.radians(degrees))) / 2
                arrow = "" if plain else ARROWS[round(degrees / 45) % 8]
                style = "bold" if plain else SEQUENTIAL.colour(0.3 + 0.6 * share, console)
                line.append(f"{arrow}{degrees:{CELL - 1 - len(arrow)}.0f} ", style)
            line.rstrip()
            yield line
        yield Text("degrees; a turn in so many positions", "dim")

    def _scores(self, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Keys' places down, distances across."""
        heads = {d: f"m = n + {d}" if d else "m = n" for d in DISTANCES}
        rows = [
            {"n": str(n)} | {head: f"{self.score(n + d, n):+.4f}" for d, head in heads.items()}
            for n in PLACES
        ]
        return in_parts(rows, options, right=("n", *heads.values()))

    def _ramp(self, ends: tuple[float, float], console: Console, width: int, plain: bool) -> Iterator[Text]:
        """A mark a pair, and the ends of the ramp under them."""
        slowed, (low, high) = self.slowed(), ends
        room = max(1, width - 2)
        for start in range(0, len(slowed), room):
            line = Text("  ", no_wrap=True)
            for share in slowed[start : start + room]:
                level = (
                    "_" if plain and share < 0.06 else "▁" if share < 0.06 else SEQUENTIAL.glyph(share, plain)
                )
                line.append(level, SEQUENTIAL.colour(0.3 + 0.6 * share, console))
            yield line
        yield Text(
            f"  pair 0 to {low:g} as they are, {high:g} to {len(slowed) - 1} slowed fully, a ramp between",
            "dim",
        )

    def describe(self) -> str:
        """A line for each pair, distance and end of the ramp."""
        said = [self.name]
        said += [
            f"pair {i}: a turn in {_turn(self.radians[i])} positions, {self.degrees(i, 1):.3g} degrees each"
            for i in self.pairs()
        ]
        said += [f"distance {d}: score {self.score(d, 0):+.4f} wherever the key stands" for d in DISTANCES]
        said.append(f"largest difference between scores of one distance: {self.largest_difference():.1e}")
        if self.ends:
            low, high = self.ends
            said.append(
                f"YaRN: pairs up to {low:g} as they are, from {high:g} on slowed {self.factor:g} times"
            )
        return "\n".join(said)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        scores = {str(d): [self.score(n + d, n) for n in PLACES] for d in DISTANCES}
        ramp = (
            {"ends": list(self.ends), "factor": self.factor, "slowed": self.slowed().tolist()}
            if self.ends
            else None
        )
        return {
            "radians_a_position": self.radians.tolist(),
            "key_positions": list(PLACES),
            "scores_by_distance": scores,
            "largest_difference": self.largest_difference(),
            "yarn": ramp,
        }


def _turn(radians: float) -> str:
    """Positions of a whole turn."""
    turn = 2 * math.pi / radians
    return f"{turn:.3g}" if turn < 1000 else count(round(turn))


def demo() -> Rotation:
    """V3's."""
    return Rotation.of(ModelConfig.preset("v3"))


if __name__ == "__main__":
    shown(demo())
