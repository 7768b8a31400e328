"""Read a hardware file, check every value of it, hand the values out by path.

A file is checked whole before anything is handed out: unknown keys, a unit of the wrong dimension, a value
without source or with a status nobody knows, a negative rate. Each error names file, key and expectation.

Does: shipped names and the user's own paths. Does not: fill gaps with guesses; a path that the file leaves
out is an error when it is asked for.

    >>> load_hardware("h800")["fabric.effective"]
    Quantity(value=40, unit='GB/s', source='arXiv 2505.09343, 4.3', status='report')
    >>> load_hardware("h80")
    Traceback (most recent call last):
    ValueError: expected hardware by name or a path to a .toml file, got 'h80': did you mean 'h800'? ...

Next: minidsv3.numerics
"""

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from minidsv3.config import near
from minidsv3.hardware.schema import KEYS, expected_dimension, expected_names
from minidsv3.hardware.tensor_cores import TENSOR_CORES, TensorCore
from minidsv3.hardware.units import STATUSES, Quantity, dimension

__all__ = ["Hardware", "hardware_names", "load_hardware", "read_hardware"]

_FIELDS = ("value", "unit", "source", "status")
# of a tensor core, what a file says with a unit and a source, or leaves to the family it names
_CORE = {"terms": "count", "depth": "count", "fraction_bits": "bit", "output_fraction_bits": "bit"}
_CORE |= {"rounding": "name"}


@dataclass(frozen=True)
class Hardware:
    """A machine as data.  `hardware["chip.peak.bf16"].si` is in FLOP/s; see `schema.KEYS` for all paths."""

    id: str  # "h800", or the file's name without its ending
    name: str
    values: Mapping[str, Quantity]  # by path
    tensor_core: Mapping[str, TensorCore]  # by format

    def __getitem__(self, path: str) -> Quantity:
        """The value at a path; ValueError if the path is unknown or the file leaves it out."""
        if path not in self.values:
            expected_dimension(path)
            raise ValueError(f"{self.id}: expected a value for {path!r} ({KEYS[path][1]}), the file has none")
        return self.values[path]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {path: asdict(quantity) for path, quantity in self.values.items()}
        return {"schema": "minidsv3.hardware/1", "id": self.id, "name": self.name, "values": values}


@lru_cache
def hardware_names() -> list[str]:
    """Names of the hardware shipped in `data/hardware`, sorted."""
    folder = resources.files("minidsv3") / "data" / "hardware"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_hardware(name: str | Path) -> Hardware:
    """Read shipped hardware by name, or a file by its path; ValueError for a file that does not check."""
    if isinstance(name, str) and name in hardware_names():
        return _shipped(name)
    if Path(name).suffix == ".toml" and Path(name).is_file():
        return _parse(Path(name).read_text(encoding="utf-8"), Path(name).stem)
    known = near(str(name), hardware_names())
    raise ValueError(f"expected hardware by name or a path to a .toml file, got {str(name)!r}: {known}")


@lru_cache
def _shipped(name: str) -> Hardware:
    folder = resources.files("minidsv3") / "data" / "hardware"
    return _parse((folder / f"{name}.toml").read_text(encoding="utf-8"), name)


def _parse(text: str, where: str) -> Hardware:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{where}.toml: expected TOML: {error}") from None
    return read_hardware(table, where)


def read_hardware(table: Mapping[str, Any], where: str = "hardware") -> Hardware:
    """Check a parsed hardware file and build from it.

    table: nested tables whose leaves are `{value, unit, source, status}`, and `name`.
    where: the file, for error messages and as the id. Raises ValueError naming file, key and expectation.
    """
    rest = dict(table)
    name = rest.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"{where}.toml: name: expected a string, got {name!r}")
    values: dict[str, Quantity] = {}
    for path, leaf in _leaves(rest, where):
        try:
            values[path] = _quantity(path, leaf)
        except ValueError as error:
            raise ValueError(f"{where}.toml: {path}: {error}") from None
    values = _of_family(values) | values
    return Hardware(where, name, MappingProxyType(values), MappingProxyType(_tensor_cores(values, where)))


def _of_family(values: Mapping[str, Quantity]) -> dict[str, Quantity]:
    """The rows of the tensor core family that a file names, as if the file gave them itself."""
    if "tensor_core.family" not in values:
        return {}
    rows = TENSOR_CORES[str(values["tensor_core.family"].value)]
    return {
        f"tensor_core.{format_}.{field}": Quantity(getattr(row, field), unit, row.source, row.status)
        for format_, row in rows.items()
        for field, unit in _CORE.items()
    }


def _leaves(table: Mapping[str, Any], where: str, at: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every `{value, …}` with its path; a table is a leaf as soon as it has one of the four fields."""
    for key, entry in table.items():
        path = f"{at}{key}"
        if not isinstance(entry, Mapping):
            raise ValueError(
                f"{where}.toml: {path}: expected {{ value, unit, source, status }}, got {entry!r}"
            )
        if set(entry) & set(_FIELDS):
            yield path, entry
        else:
            yield from _leaves(entry, where, f"{path}.")


def _quantity(path: str, leaf: Mapping[str, Any]) -> Quantity:
    """One checked value."""
    wanted = expected_dimension(path)
    if set(leaf) != set(_FIELDS):
        raise ValueError(f"expected exactly the fields {', '.join(_FIELDS)}, got {', '.join(leaf)}")
    for field in ("unit", "source", "status"):
        if not isinstance(leaf[field], str) or not leaf[field].strip():
            raise ValueError(f"expected a non-empty {field}, got {leaf[field]!r}")
    if leaf["status"] not in STATUSES:
        raise ValueError(f"expected status {' | '.join(STATUSES)}, got {leaf['status']!r}")
    if dimension(leaf["unit"]) != wanted:
        raise ValueError(f"expected a unit of {wanted}, got {leaf['unit']!r} ({dimension(leaf['unit'])})")
    _check_value(leaf["value"], wanted, path)
    return Quantity(**leaf)


def _check_value(value: object, wanted: str, path: str) -> None:
    if wanted == "name":
        if value not in expected_names(path):
            raise ValueError(f"expected {' | '.join(expected_names(path))}, got {value!r}")
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"expected a number >= 0, got {value!r}")
    if wanted in ("count", "bit") and not isinstance(value, int):
        raise ValueError(f"expected a whole number, got {value!r}")
    if value == 0 and wanted != "count":
        raise ValueError(f"expected a number > 0, got {value!r}")


def _tensor_cores(values: Mapping[str, Quantity], where: str) -> dict[str, TensorCore]:
    """The values of each format of `tensor_core`, together."""
    cores = [path for path in values if path.startswith("tensor_core.") and path != "tensor_core.family"]
    formats = dict.fromkeys(path.split(".")[1] for path in cores)
    return {format_: _tensor_core(values, format_, where) for format_ in formats}


def _tensor_core(values: Mapping[str, Quantity], format_: str, where: str) -> TensorCore:
    """One format's: the family's row with the file's values in it, or what the file says alone."""
    found: dict[str, Any] = {}
    for field in _CORE:
        path = f"tensor_core.{format_}.{field}"
        if path in values:
            found[field] = values[path].value
        elif field != "depth":
            raise ValueError(f"{where}.toml: {path}: expected a value ({KEYS[path][1]}), the file has none")
    family = values.get("tensor_core.family")
    row = TENSOR_CORES[str(family.value)].get(format_) if family else None
    try:
        return _changed(row, found, values) if row else TensorCore(format_, **found)
    except ValueError as error:
        raise ValueError(f"{where}.toml: tensor_core.{format_}: {error}") from None


def _changed(row: TensorCore, found: Mapping[str, Any], values: Mapping[str, Quantity]) -> TensorCore:
    """The row with the file's values. What was measured of the row is no evidence for another unit."""
    own = [field for field in found if found[field] != getattr(row, field)]
    if not own:
        return row
    said = [values[f"tensor_core.{row.format}.{field}"] for field in own]
    status = "measured" if all(quantity.status == "measured" for quantity in said) else "assumed"
    sources = "; ".join(dict.fromkeys(quantity.source for quantity in said))
    source = f"{', '.join(own)}: {sources}; the rest: {row.source}"
    return replace(row, **found, silicon="", source=source, status=status)
