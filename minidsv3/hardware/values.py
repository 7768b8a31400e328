"""The values of a hardware file: every leaf with its path, each checked before anybody sees it.

A leaf is `{ value, unit, source, status }`, no field more or less. The unit must measure what the path is,
the number be one that can be, the source say something. And of two values of which one is a share of the
other, such as a line and what a program sees of it, the share is at most the whole; one direction of a link
is at most half of both.

Does: read and check; errors name file, key and expectation. Does not: open files (`load`), know the paths
(`schema`).

    >>> check_value("chip.hbm.bandwidth", 3.35, "TB/s")
    >>> check_value("chip.hbm.bandwidth", 3.35, "TB")
    Traceback (most recent call last):
    ValueError: expected a unit of B/s, got 'TB' (B)

Next: minidsv3.hardware.load
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from minidsv3.hardware.schema import KEYS, MAY_BE_ZERO, expected_dimension, expected_names, expected_table
from minidsv3.hardware.units import STATUSES, Quantity, dimension

__all__ = ["check_value", "is_line", "read_values"]

LEAST, MOST = 1e-30, 1e30  # of a value in base units, so that no sum or quotient of a bill overflows
LONGEST = 1000  # characters of a name or a source

_FIELDS = ("value", "unit", "source", "status")
# of what is the first a share: in a file the first is at most the second
_AT_MOST = (
    ("chip.sm.communication", "chip.sm.count"),
    ("chip.peak.bf16_throttled", "chip.peak.bf16"),
    ("chip.clock.throttled", "chip.clock.boost"),
    ("chip.clock.tensor", "chip.clock.boost"),
    ("node.nvlink.one_direction", "node.nvlink.both_directions"),
    ("node.nvlink.usable", "node.nvlink.one_direction"),
    ("node.planes", "node.nics"),
    ("fabric.effective", "fabric.line"),
)
# at most half: both directions together are twice one ("900 GB/s" of NVLink is either, by who prints it)
_AT_MOST_HALF = {"node.nvlink.one_direction": "node.nvlink.both_directions"}


def read_values(table: Mapping[str, Any], where: str) -> dict[str, Quantity]:
    """Every value of a parsed file by its path, checked.  where: the file, for error messages."""
    values: dict[str, Quantity] = {}
    for path, leaf in _leaves(table, where):
        try:
            values[path] = _quantity(path, leaf)
        except ValueError as error:
            raise ValueError(f"{where}.toml: {path}: {error}") from None
    _check_shares(values, where)
    return values


def _leaves(table: Mapping[str, Any], where: str, at: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every `{value, …}` with its path; a table is a leaf as soon as it has one of the four fields."""
    for key, entry in table.items():
        path = f"{at}{key}"
        if not isinstance(entry, Mapping):
            expected = "{ value, unit, source, status }"
            raise ValueError(f"{where}.toml: {path[:80]}: expected {expected}, got {entry!r:.80}")
        if set(entry) & set(_FIELDS):
            _check_known(expected_dimension, path, where)
            yield path, entry
        else:
            _check_table(path, where, entry)
            yield from _leaves(entry, where, f"{path}.")


def _check_table(path: str, where: str, entry: Mapping[str, Any]) -> None:
    if path in KEYS:
        raise ValueError(f"{where}.toml: {path}: {_fields_expected(entry)}")
    _check_known(expected_table, path, where)


def _check_known(expected: Callable[[str], object], path: str, where: str) -> None:
    """ValueError of the file if nobody knows the path; the error says the path itself."""
    try:
        expected(path)
    except ValueError as error:
        raise ValueError(f"{where}.toml: {error}") from None


def _fields_expected(leaf: Mapping[str, Any]) -> str:
    """Which fields are missing, which nobody knows."""
    missing = ", ".join(field for field in _FIELDS if field not in leaf)
    unknown = ", ".join(field for field in leaf if field not in _FIELDS)[:80]
    got = f"{unknown} but no {missing}" if missing and unknown else missing and f"no {missing}"
    return f"expected exactly the fields {', '.join(_FIELDS)}, got {got or f'also {unknown}'}"


def is_line(text: object) -> bool:
    """Whether it is one line that a terminal can show."""
    return isinstance(text, str) and bool(text.strip()) and text.isprintable() and len(text) <= LONGEST


def _quantity(path: str, leaf: Mapping[str, Any]) -> Quantity:
    """One checked value."""
    if set(leaf) != set(_FIELDS):
        raise ValueError(_fields_expected(leaf))
    for field in ("unit", "source", "status"):
        if not is_line(leaf[field]):
            raise ValueError(f"expected a non-empty {field} of one line, got {leaf[field]!r:.80}")
    if leaf["status"] not in STATUSES:
        raise ValueError(f"expected status {' | '.join(STATUSES)}, got {leaf['status']!r:.80}")
    check_value(path, leaf["value"], leaf["unit"])
    return Quantity(**leaf)


def check_value(path: str, value: object, unit: str) -> None:
    """ValueError unless the unit measures what the path is and the value is one that it can have."""
    wanted = expected_dimension(path)
    if dimension(unit) != wanted:
        raise ValueError(f"expected a unit of {wanted}, got {unit!r} ({dimension(unit)})")
    if wanted == "name":
        if value not in expected_names(path):
            raise ValueError(f"expected {' | '.join(expected_names(path))}, got {value!r:.80}")
        return
    least = "a number >= 0" if path in MAY_BE_ZERO else "a number > 0"
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise ValueError(f"expected {least}, got {value!r:.80}")
    if value < 0 or (value == 0 and path not in MAY_BE_ZERO):
        raise ValueError(f"expected {least}, got {value!r:.80}")
    if wanted in ("count", "bit") and not isinstance(value, int):
        raise ValueError(f"expected a whole number, got {value!r}")
    if value and not LEAST <= Quantity(value, unit, "", "").si <= MOST:
        raise ValueError(f"expected {LEAST:g} to {MOST:g} {wanted}, got {value!r:.80} {unit}")


def _is_finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _check_shares(values: Mapping[str, Quantity], where: str) -> None:
    """What is usable of a line is no more than the line, and so on."""
    for part, whole in _AT_MOST:
        if part in values and whole in values:
            share, of = (0.5, "half of ") if _AT_MOST_HALF.get(part) == whole else (1, "")
            if values[part].si > share * values[whole].si * (1 + 1e-9):
                expected = f"at most {of}the {values[whole].text} of {whole}"
                raise ValueError(f"{where}.toml: {part}: expected {expected}, got {values[part].text}")
