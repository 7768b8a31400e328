"""Units: the few that hardware files are written in, each with its dimension and its size in SI.

A unit is a base (`FLOPS`, `B/s`, `B`, `Hz`, `s`) with a decimal prefix, or one of a few whole words.
Prefixes are powers of 1000 throughout, as vendors and the DeepSeek papers count: 1 GB is 1e9 B. A `Quantity`
is one value of a hardware file; `.si` is the number in base units.

Does: read a unit, convert to base units. Does not: do arithmetic on units; formulas take `.si`.

    >>> Quantity(989, "TFLOPS", "datasheet of the chip", "datasheet").si
    989000000000000
    >>> dimension("USD/h"), dimension("us")
    ('USD/s', 's')
    >>> dimension("GiB")
    Traceback (most recent call last):
    ValueError: expected a unit such as 'TFLOPS', 'GB/s', 'B', 'MHz', 'us', 'USD/h' or 'count', got 'GiB'

Next: minidsv3.hardware.tensor_cores
"""

from dataclasses import dataclass

__all__ = ["STATUSES", "Quantity", "dimension"]

STATUSES = ("datasheet", "report", "measured", "assumed")

_PREFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BASES = {"FLOPS": "FLOP/s", "B/s": "B/s", "B": "B", "Hz": "Hz"}

# unit -> (dimension, units of the dimension's base in one of it)
UNITS: dict[str, tuple[str, float]] = {
    prefix + base: (name, power) for base, name in _BASES.items() for prefix, power in _PREFIXES.items()
}
UNITS |= {"s": ("s", 1), "ms": ("s", 1e-3), "us": ("s", 1e-6), "ns": ("s", 1e-9)}
UNITS |= {"USD/h": ("USD/s", 1 / 3600), "count": ("count", 1), "bit": ("bit", 1), "name": ("name", 1)}


def _look_up(unit: str) -> tuple[str, float]:
    if unit not in UNITS:
        known = "'TFLOPS', 'GB/s', 'B', 'MHz', 'us', 'USD/h' or 'count'"
        raise ValueError(f"expected a unit such as {known}, got {unit!r}")
    return UNITS[unit]


def dimension(unit: str) -> str:
    """What a unit measures: FLOP/s, B/s, B, Hz, s, USD/s, count, bit or name; ValueError if unknown."""
    return _look_up(unit)[0]


@dataclass(frozen=True)
class Quantity:
    """One value of a hardware file, with where it comes from.

    value: in `unit`; a word where the unit is "name". status: one of `STATUSES`.
    """

    value: float | str
    unit: str
    source: str
    status: str

    @property
    def si(self) -> float:
        """The number in base units (FLOP/s, B/s, B, Hz, s, USD/s); ValueError for a name."""
        if isinstance(self.value, str):
            raise ValueError(f"expected a number, got the name {self.value!r}")
        return self.value * _look_up(self.unit)[1]

    @property
    def dimension(self) -> str:
        """What it measures."""
        return dimension(self.unit)
