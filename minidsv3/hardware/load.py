"""Read a hardware file, check every value of it, hand the values out by path.

A file is checked whole before anything is handed out: unknown keys, a unit of the wrong dimension, a value
without source or with a status nobody knows, a negative rate, a usable rate above the line's. Each error
names file, key and expectation. Size, lines and depth of keys are bounded before anything is parsed.

Does: shipped names and the user's own paths. Does not: fill gaps with guesses; a path that the file leaves
out is an error when it is asked for.

    >>> load_hardware("h800")["fabric.effective"]
    Quantity(value=40, unit='GB/s', source='arXiv 2505.09343, 4.3', status='report')
    >>> load_hardware("h80")
    Traceback (most recent call last):
    ValueError: expected hardware by name or a path to a .toml file, got 'h80': did you mean 'h800'? ...

Next: minidsv3.hardware.overrides
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from minidsv3.config import near
from minidsv3.hardware.schema import KEYS, expected_dimension, meaning
from minidsv3.hardware.tensor_cores import TENSOR_CORES, TensorCore
from minidsv3.hardware.units import Quantity
from minidsv3.hardware.values import is_line, read_values

__all__ = ["Hardware", "assemble", "hardware_names", "load_hardware", "read_hardware"]

MOST_BYTES = 1 << 18  # of a file; the shipped ones have some thousand
LONGEST_LINE = 2000  # characters; the shipped ones have some hundred
DEEPEST_KEY = 8  # parts; the deepest of a file that checks has 6, a field of a path among them

# of a line of TOML what stands before its first equals sign, for one in quotes does not count
_KEY = re.compile(r"""(?:[^="']+|"(?:[^"\\]|\\.)*"|'[^']*')*""")

# of a tensor core, what a file says with a unit and a source, or leaves to the family it names
_CORE = {"terms": "count", "depth": "count", "fraction_bits": "bit", "output_fraction_bits": "bit"}
_CORE |= {"rounding": "name"}


class _Cores(dict[str, TensorCore]):
    """Tensor cores by format; one that the machine has not is an error that says which it has."""

    def __init__(self, id: str, cores: Mapping[str, TensorCore]) -> None:
        super().__init__(cores)
        self.id = id

    def __missing__(self, format_: str) -> TensorCore:
        known = ", ".join(self) or "no format"
        raise ValueError(f"{self.id}: expected tensor cores for {format_!r}, the file describes {known}")


@dataclass(frozen=True)
class Hardware:
    """A machine as data.  `hardware["chip.peak.bf16"].si` is in FLOP/s; see `schema.KEYS` for all paths."""

    id: str  # "h800", or the file's name without its ending
    name: str
    values: Mapping[str, Quantity]  # by path, the rows of the tensor core's family among them
    tensor_core: Mapping[str, TensorCore]  # by format
    given: Mapping[str, Quantity]  # by path, what the file itself says

    def __getitem__(self, path: str) -> Quantity:
        """The value at a path; ValueError if the path is unknown or the file leaves it out."""
        if path not in self.values:
            expected_dimension(path)
            raise ValueError(f"{self.id}: expected a value for {path!r} ({meaning(path)}), the file has none")
        return self.values[path]

    @property
    def sources(self) -> dict[str, list[str]]:
        """Every source, and the paths whose values come from it."""
        found: dict[str, list[str]] = {}
        for path, quantity in self.values.items():
            found.setdefault(quantity.source, []).append(path)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {path: asdict(quantity) for path, quantity in self.values.items()}
        return {"schema": "minidsv3.hardware/1", "id": self.id, "name": self.name, "values": values}


# ---- files ------------------------------------------------------------------------------------------------


@lru_cache
def hardware_names() -> list[str]:
    """Names of the hardware shipped in `data/hardware`, sorted."""
    folder = resources.files("minidsv3") / "data" / "hardware"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_hardware(name: str | Path) -> Hardware:
    """Read shipped hardware by name, or a file by its path; ValueError for a file that does not check."""
    if isinstance(name, str) and name in hardware_names():
        return _shipped(name)
    path = Path(name)
    if path.suffix == ".toml" and _is_file(path):
        return _parse(_text(path), path.stem)
    known = near(str(name)[:80], hardware_names())
    raise ValueError(
        f"expected hardware by name or a path to a .toml file, got {_what(path)}{str(name)[:80]!r}: {known}"
    )


def _is_file(path: Path) -> bool:
    """Whether it is; a name that is too long for the system is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _what(path: Path) -> str:
    """What else a name may be."""
    try:
        return "the folder " if path.is_dir() else "a file without that ending, " if path.is_file() else ""
    except (OSError, ValueError):
        return ""


def _text(path: Path) -> str:
    """A file of the size of a hardware file; no more than that is read."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        size = max(path.stat().st_size, len(content))
        raise ValueError(f"{path}: expected a hardware file of at most {MOST_BYTES:,} bytes, got {size:,}")
    try:
        return content.decode("utf-8").removeprefix("\ufeff")  # some editors mark a file's beginning
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text: byte {error.start} is none") from None


@lru_cache
def _shipped(name: str) -> Hardware:
    folder = resources.files("minidsv3") / "data" / "hardware"
    return _parse((folder / f"{name}.toml").read_text(encoding="utf-8"), name)


def _parse(text: str, where: str) -> Hardware:
    _check_lines(text, where)
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of numbers with too many digits, of brackets too deep
        raise ValueError(f"{where}.toml: expected TOML: {error}") from None
    return read_hardware(table, where)


def _check_lines(text: str, where: str) -> None:
    """ValueError naming a line that is too long, or a key of more parts than any has: both parse slowly."""
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > LONGEST_LINE:
            expected = f"at most {LONGEST_LINE:,} characters, got {len(line):,}"
            raise ValueError(f"{where}.toml: line {number}: expected {expected}")
        key = _KEY.match(line)
        parts = key[0].count(".") + 1 if key and not line.lstrip().startswith("#") else 0
        if parts > DEEPEST_KEY:
            expected = f"a key of at most {DEEPEST_KEY} parts, got {parts}: {line.strip()[:40]!r}"
            raise ValueError(f"{where}.toml: line {number}: expected {expected}")


def read_hardware(table: Mapping[str, Any], where: str = "hardware") -> Hardware:
    """Check a parsed hardware file and build from it.

    table: nested tables whose leaves are `{value, unit, source, status}`, and `name`.
    where: the file, for error messages and as the id. Raises ValueError naming file, key and expectation.
    """
    rest = dict(table)
    name = rest.pop("name", None)
    if not is_line(name):
        raise ValueError(f"{where}.toml: name: expected a string of one line, got {name!r:.80}")
    return assemble(where, str(name), read_values(rest, where))


def assemble(id: str, name: str, given: Mapping[str, Quantity]) -> Hardware:
    """Hardware of checked values: the rows of the tensor core's family join them, the cores are built."""
    values = _of_family(given) | dict(given)
    sms, taken = values.get("chip.sm.count"), values.get("chip.sm.communication")
    if sms and taken and taken.si >= sms.si:
        expected = f"fewer than the {sms.text} of chip.sm.count"
        raise ValueError(f"{id}.toml: chip.sm.communication: expected {expected}, got {taken.text}")
    cores = MappingProxyType(_Cores(id, _tensor_cores(values, id)))
    in_order = {path: values[path] for path in KEYS if path in values}
    return Hardware(id, name, MappingProxyType(in_order), cores, MappingProxyType(dict(given)))


# ---- tensor cores -----------------------------------------------------------------------------------------


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
            raise ValueError(f"{where}.toml: {path}: expected a value ({meaning(path)}), the file has none")
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
