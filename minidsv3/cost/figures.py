"""Published figures as data: what a source prints, in its own digits, and how it can be computed.

`data/published.toml` has an entry for each figure: printed digits, value and unit, how the digits were
rounded, the source, and a kind. "derivable" and "contradicts" name a calculation of this room and its inputs;
"constant" and "measured" are taken as they are, and are inputs of others. A claim in words has `says` and
`correct`.

Does: read and check every entry: known fields and units, the value among the printed digits, the tolerance
that these digits imply, inputs that exist and do not run in circles. Does not: compute
(`minidsv3.cost.published`).

    >>> figure = figures()["kv.v3"]
    >>> figure.printed, figure.si, figure.holds(70_272), figure.holds(70_273)
    ('70.272 KB', 70272.0, True, False)
    >>> implied_tolerance("about 67 tokens/s, cut", 67, "cut")
    1.0

Next: minidsv3.cost.published
"""

import dataclasses
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from minidsv3.config import near
from minidsv3.hardware.units import UNITS

__all__ = [
    "KINDS",
    "STYLES",
    "Figure",
    "Unit",
    "figures",
    "groups",
    "implied_tolerance",
    "printed_places",
    "read_figures",
]

KINDS = ("derivable", "constant", "measured", "contradicts")
STYLES = {
    "exact": "printed in full",
    "rounded": "rounded to the nearest",
    "cut": "cut off",
    "up": "rounded up",
    "between": "between two printed ends",
    "about": "in round numbers",
}
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")
_NEAR_ENOUGH = 1e-9  # of tolerances written down
_ARITHMETIC = 1e-13  # of a value: what sums and products of floats lose, beside what the digits allow


@dataclass(frozen=True)
class Unit:
    """size: of one of it, in base units. base: their name."""

    name: str
    size: float
    base: str


@dataclass(frozen=True)
class Figure:
    """One figure.  value and tolerance are in `unit`; inputs by the calculation's parameters."""

    id: str
    title: str
    kind: str
    source: str
    printed: str = ""
    value: float | None = None
    unit: Unit | None = None
    style: str = ""  # how it was rounded, one of STYLES
    tolerance: float | None = None
    calculation: str = ""  # "module.function" of this room
    inputs: Mapping[str, Any] = field(default_factory=dict)
    formula: str = ""
    why: str = ""
    says: str = ""  # a claim in words, and what is right
    correct: str = ""
    ours: bool = False  # derived here, printed nowhere

    @property
    def group(self) -> str:
        """The first part of the id."""
        return self.id.partition(".")[0]

    @property
    def si(self) -> float:
        """The printed value in base units; ValueError if there is none."""
        if self.value is None or self.unit is None:
            raise ValueError(f"published.toml: {self.id}: expected a value to compute with, got none")
        return self.value * self.unit.size

    def in_unit(self, si: float) -> float:
        """A number in base units, in the figure's unit."""
        return si / self.unit.size if self.unit else si

    def holds(self, si: float) -> bool:
        """Whether a number in base units is what the printed digits stand for."""
        if self.value is None or self.tolerance is None:
            raise ValueError(f"published.toml: {self.id}: expected a value with a tolerance, got none")
        off, room = self.in_unit(si) - self.value, _ARITHMETIC * max(abs(self.value), self.tolerance)
        if self.style == "cut":
            return -room <= off < self.tolerance + room
        if self.style == "up":
            return -self.tolerance - room < off <= room
        return abs(off) <= self.tolerance + room


def implied_tolerance(printed: str, value: float, style: str) -> float | None:
    """How far from `value` a number may lie that is printed so; None where only the wording can tell.

    Half a unit of the last printed place if rounded, a whole one if cut or rounded up, half the distance of
    the two ends. ValueError if the value is not among the printed digits.
    """
    if style == "between":
        ends = _numbers(printed)
        if len(ends) < 2 or float(ends[0] + ends[1]) / 2 != value:
            raise ValueError(f"expected the middle of the two ends of {printed!r}, got {value}")
        return float(ends[1] - ends[0]) / 2
    if (places := printed_places(printed, value)) is None:
        raise ValueError(f"expected a value among the digits of {printed!r}, got {value}")
    place = float(Decimal(1).scaleb(-places))
    return {"exact": 0.0, "rounded": place / 2, "cut": place, "up": place}.get(style)


def printed_places(printed: str, value: float) -> int | None:
    """Places behind the point with which a value is printed; None if it is not among the numbers."""
    found = [number for number in _numbers(printed) if float(number) == abs(value)]
    return -int(found[0].as_tuple().exponent) if found else None


def _numbers(printed: str) -> list[Decimal]:
    return [Decimal(text.replace(",", "")) for text in _NUMBER.findall(printed)]


# ---- reading ----------------------------------------------------------------------------------------------


@lru_cache
def figures() -> Mapping[str, Figure]:
    """Every figure of `data/published.toml` by id, in its order; ValueError for one that does not check."""
    return read_figures(_shipped())


@lru_cache
def groups() -> Mapping[str, str]:
    """Titles of the groups, by the first part of the ids, in the file's order."""
    return MappingProxyType(_shipped()["groups"])


@lru_cache
def _shipped() -> dict[str, Any]:
    text = (resources.files("minidsv3") / "data" / "published.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def read_figures(table: Mapping[str, Any]) -> Mapping[str, Figure]:
    """Check a parsed file and build its figures.

    table: `units` {name: [size, base]}, `groups` {first part of ids: title}, `figure` {id: fields}.
    Raises ValueError naming entry, field and expectation.
    """
    units = {name: Unit(name, size, base) for name, (base, size) in UNITS.items()}
    units |= {name: Unit(name, size, base) for name, (size, base) in table.get("units", {}).items()}
    found = {}
    for name, entry in table.get("figure", {}).items():
        try:
            found[name] = _figure(name, entry, units)
            _check(found[name], table)
        except ValueError as error:
            raise ValueError(f"published.toml: {name}: {error}") from None
    for figure in found.values():
        _check_circles(figure, found)
    return MappingProxyType(found)


_FIELDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "value": ("a number", (int, float)),
    "tolerance": ("a number", (int, float)),
    "inputs": ("a table", (dict,)),
    "ours": ("true or false", (bool,)),
}  # those that are no text


def _figure(name: str, entry: Mapping[str, Any], units: Mapping[str, Unit]) -> Figure:
    known = [one.name for one in dataclasses.fields(Figure) if one.name != "id"]
    for key, said in entry.items():
        if key not in known:
            raise ValueError(f"unknown field {key!r}; {near(key, known)}")
        what, kinds = _FIELDS.get(key, ("a non-empty text", (str,)))
        if type(said) not in kinds or said == "" or str(said).isspace():
            raise ValueError(f"{key}: expected {what}, got {said!r}")
    for key in ("title", "kind", "source"):
        if key not in entry:
            raise ValueError(f"missing field {key!r}")
    values = dict(entry)
    if "unit" in entry:
        if entry["unit"] not in units:
            raise ValueError(
                f"unit: expected a known unit, got {entry['unit']!r}: {near(entry['unit'], [*units])}"
            )
        values["unit"] = units[entry["unit"]]
    return Figure(id=name, **values)


def _check(figure: Figure, table: Mapping[str, Any]) -> None:
    if figure.group not in table.get("groups", {}):
        raise ValueError(
            f"expected an id whose first part is a group: {near(figure.group, [*table['groups']])}"
        )
    if figure.kind not in KINDS:
        raise ValueError(f"kind: expected {' | '.join(KINDS)}, got {figure.kind!r}")
    in_words = figure.kind == "contradicts" and figure.says and figure.correct
    needed = [] if in_words else ["printed", "value", "unit"]
    if figure.calculation or (figure.kind in ("derivable", "contradicts") and not in_words):
        needed += ["value", "unit", "calculation", "formula", "style", "tolerance"]
    if figure.kind == "contradicts" and not in_words:
        needed += ["why"]
    for key in needed:
        if getattr(figure, key) in (None, ""):
            raise ValueError(f"{key}: expected one for kind {figure.kind!r}, got none")
    if figure.value is not None and figure.style:
        _check_digits(figure)
    if figure.calculation and not re.fullmatch(r"[a-z_]+\.[a-z_0-9]+", figure.calculation):
        raise ValueError(f"calculation: expected module.function, got {figure.calculation!r}")


def _check_digits(figure: Figure) -> None:
    assert figure.value is not None
    if figure.style not in STYLES:
        raise ValueError(f"style: expected {' | '.join(STYLES)}, got {figure.style!r}")
    try:
        implied = implied_tolerance(figure.printed, figure.value, figure.style)
    except ValueError as error:
        raise ValueError(f"value: {error}") from None
    said = figure.tolerance
    if said is None or (implied is not None and abs(said - implied) > _NEAR_ENOUGH * max(implied, 1)):
        expected = (
            "the one the wording implies"
            if implied is None
            else f"{implied:g}, which {figure.printed!r} implies"
        )
        raise ValueError(f"tolerance: expected {expected}, got {said}")


def _check_circles(figure: Figure, found: Mapping[str, Figure], above: tuple[str, ...] = ()) -> None:
    """Inputs that name figures must exist; none may need itself, computed or as printed."""
    if figure.id in above:
        raise ValueError(
            f"published.toml: {figure.id}: expected inputs without a circle, got {' > '.join(above)}"
        )
    for kind, name in _named(figure.inputs.values()):
        if name not in found:
            known = near(name, list(found))
            raise ValueError(f"published.toml: {figure.id}: inputs: expected a figure, got {name!r}: {known}")
        if name in (figure.id, *above[:1]):
            said = "expected inputs without the figure itself"
            raise ValueError(f"published.toml: {(*above, figure.id)[0]}: {said}, got {name!r}")
        if kind == "computed":
            _check_circles(found[name], found, (*above, figure.id))


def _named(inputs: Any) -> Iterator[tuple[str, str]]:
    """("figure" or "computed", id) of every input that names one, lists included."""
    for given in inputs:
        if isinstance(given, list):
            yield from _named(given)
        elif isinstance(given, str) and given.startswith(("figure:", "computed:")):
            kind, _, name = given.partition(":")
            yield kind, name
