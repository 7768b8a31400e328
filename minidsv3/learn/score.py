"""The score of a correct solution: its counted work beside that of the lesson's own.

Does: ratios and sentences. Does not: count (`work`), or judge what is too much (`properties.cost`).

    >>> score = Score("softmax", Work(200, 6400, 0), Work(100, 6400, 512))
    >>> score.sentence("flops")
    '200 FLOPs, 2 x the 100 of the solution'
    >>> score.lines()[1]
    'bytes moved     6,400   1 x the solution (6,400)'

Next: minidsv3.learn.shrink
"""

from dataclasses import dataclass
from typing import Any

from minidsv3.learn.work import Work

__all__ = ["Score"]

WORDS = {"flops": "FLOPs", "bytes": "bytes moved", "memory": "bytes of memory held"}


@dataclass(frozen=True)
class Score:
    """Work of one call at one size."""

    function: str
    work: Work
    reference: Work  # of the lesson's solution, counted the same way
    at: str = ""  # the size, such as "scores [64, 64]"
    agrees: bool = True  # the two results, to rounding

    def ratio(self, kind: str) -> float:
        """Yours over the solution's, of "flops", "bytes" or "memory"; 1 where both are 0."""
        yours, reference = getattr(self.work, kind), getattr(self.reference, kind)
        return yours / reference if reference else float(yours > 0) or 1.0

    def sentence(self, kind: str) -> str:
        """One kind of work in words."""
        yours, reference = getattr(self.work, kind), getattr(self.reference, kind)
        return f"{yours:,} {WORDS[kind]}, {self.ratio(kind):.3g} x the {reference:,} of the solution"

    def lines(self) -> list[str]:
        """A table of three lines: kind, yours, ratio."""
        labels = {"flops": "FLOPs", "bytes": "bytes moved", "memory": "memory held"}
        counts = {kind: f"{getattr(self.work, kind):,}" for kind in WORDS}
        width = max(map(len, counts.values())) + 3
        return [
            f"{labels[kind]:12} {counts[kind]:>{width}}   {self.ratio(kind):.2g} x the solution"
            f" ({getattr(self.reference, kind):,})"
            for kind in WORDS
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        kinds = {
            kind: {"yours": getattr(self.work, kind), "solution": getattr(self.reference, kind)}
            for kind in WORDS
        }
        for kind, row in kinds.items():
            row["ratio"] = round(self.ratio(kind), 4)
        return {"function": self.function, "at": self.at} | kinds
