"""Units: the few that hardware files are written in, each with its dimension and its size in SI.

A unit is a base (`FLOPS`, `OPS`, `B/s`, `B`, `Hz`, `s`) with a decimal prefix, or one of a few whole words.
Prefixes are powers of 1000 throughout, as vendors and the DeepSeek papers count: 1 GB is 1e9 B. Integer
operations (`TOPS`) are a dimension of their own, so that they are never taken for FLOPs. A `Quantity` is one
value of a hardware file; `.si` is the number in base units.

Does: read a unit, convert to base units. Does not: do arithmetic on units; formulas take `.si`.

    >>> Quantity(989, "TFLOPS", "datasheet of the chip", "datasheet").si
    989000000000000
    >>> dimension("USD/h"), dimension("us")
    ('USD/s', 's')
    >>> dimension("Gb/s")
    Traceback (most recent call last):
    ValueError: expected a unit such as ..., got 'Gb/s': did you mean 'GB/s'? (8 bits a byte)

Next: minidsv3.hardware.tensor_cores
"""

import difflib
from dataclasses import dataclass

__all__ = ["STATUSES", "UNITS", "Quantity", "dimension"]

# the vendor's; a paper's or a project's own account; seen on silicon; by analogy or ours, with the reason
STATUSES = ("datasheet", "report", "measured", "assumed")

_PREFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BASES = {"FLOPS": "FLOP/s", "OPS": "OP/s", "B/s": "B/s", "B": "B", "Hz": "Hz"}

# unit -> (dimension, units of the dimension's base in one of it)
UNITS: dict[str, tuple[str, float]] = {
    prefix + base: (name, power) for base, name in _BASES.items() for prefix, power in _PREFIXES.items()
}
UNITS |= {"s": ("s", 1), "ms": ("s", 1e-3), "us": ("s", 1e-6), "ns": ("s", 1e-9)}
UNITS |= {"USD": ("USD", 1), "USD/h": ("USD/s", 1 / 3600)}
UNITS |= {"count": ("count", 1), "bit": ("bit", 1), "name": ("name", 1)}
_LOWER = {unit.lower(): unit for unit in UNITS}  # no two differ in the case of letters alone


def _look_up(unit: str) -> tuple[str, float]:
    if unit not in UNITS:
        known = "'TFLOPS', 'GB/s', 'GB', 'MHz', 'us', 'USD/h' or 'count'"
        raise ValueError(f"expected a unit such as {known}, got {unit[:40]!r}{_hint(unit[:40])}")
    return UNITS[unit]


def _hint(unit: str) -> str:
    """What an unknown unit may have meant, in any case of letters: "8tb/s" is of TB/s, not of B/s."""
    said = unit.lower()
    in_bytes = said.replace("bps", "b/s").replace("bit/s", "b/s")
    in_bits = "bit/s" in said or "bps" in said or "b/s" in unit
    if in_bits and in_bytes in _LOWER:
        return f": did you mean {_LOWER[in_bytes]!r}? (8 bits a byte)"
    if said.replace("i", "") in _LOWER:
        note = " (prefixes are powers of 1000)" if "i" in said and said not in _LOWER else ""
        return f": did you mean {_LOWER[said.replace('i', '')]!r}?{note}"
    guess = difflib.get_close_matches(said, _LOWER, n=1, cutoff=0.5)
    return f": did you mean {_LOWER[guess[0]]!r}?" if guess else ""


def dimension(unit: str) -> str:
    """What a unit measures, "B/s" or "count", for example; ValueError with a near unit if unknown."""
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
        """The number in base units (FLOP/s, B/s, B, Hz, s, USD/s, …); ValueError for a name."""
        if isinstance(self.value, str):
            raise ValueError(f"expected a number, got the name {self.value!r}")
        return self.value * _look_up(self.unit)[1]

    @property
    def dimension(self) -> str:
        """What it measures."""
        return dimension(self.unit)

    @property
    def text(self) -> str:
        """The value as its file writes it: "3.35 TB/s", "132", "toward-zero", "13 bit"."""
        number = self.value if isinstance(self.value, str) else _written(self.value)
        return number if self.unit in ("count", "name") else f"{number} {self.unit}"


def _written(value: float) -> str:
    """A number in the digits that its file has, thousands apart in long whole ones."""
    return f"{value:,}" if isinstance(value, int) else repr(value)
