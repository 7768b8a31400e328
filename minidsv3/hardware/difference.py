"""Two machines beside each other: the values in which they differ, by path, with the ratio.

Does: compare in base units, so that 80 GB and 80000 MB are alike; say what only one has. Does not: compare
sources (the values of a difference carry theirs), draw (`minidsv3.show`).

    >>> from minidsv3.hardware.load import load_hardware
    >>> both = {one.path: one for one in difference(load_hardware("h800"), load_hardware("h100"))}
    >>> nvlink = both["node.nvlink.both_directions"]
    >>> nvlink.a.text, nvlink.b.text, nvlink.ratio
    ('400 GB/s', '900 GB/s', 2.25)
    >>> "chip.peak.bf16" in both
    False

Next: minidsv3.numerics
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from minidsv3.hardware.load import Hardware
from minidsv3.hardware.schema import KEYS, meaning
from minidsv3.hardware.units import Quantity

__all__ = ["Difference", "difference"]


@dataclass(frozen=True)
class Difference:
    """A value that two machines do not share.  a, b: None where that machine's file leaves it out."""

    path: str
    meaning: str
    a: Quantity | None
    b: Quantity | None

    @property
    def ratio(self) -> float | None:
        """b / a in base units; None if either has no number, or a is 0."""
        if self.a is None or self.b is None or self.a.unit == "name" or not self.a.si:
            return None
        return self.b.si / self.a.si

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"ratio": self.ratio}


def difference(a: Hardware, b: Hardware) -> tuple[Difference, ...]:
    """What differs from a to b, in the order of `schema.KEYS`, tensor cores included."""
    return tuple(_differences(a, b))


def _differences(a: Hardware, b: Hardware) -> Iterator[Difference]:
    for path in KEYS:
        one, other = a.values.get(path), b.values.get(path)
        if not _alike(one, other):
            yield Difference(path, meaning(path), one, other)


def _alike(one: Quantity | None, other: Quantity | None) -> bool:
    """Whether both are left out, or worth the same."""
    if one is None or other is None:
        return one is other
    return one.value == other.value if one.unit == "name" else one.si == other.si
