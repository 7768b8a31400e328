"""What if a value were another: hardware with some values changed, everything built from them rebuilt.

A change is a path and a text, as `--set chip.hbm.bandwidth=8TB/s` gives it: a number with a unit, a number
alone in the unit that the file has, or a word for what is a name. Changed values are "assumed", and their
source says what they were. The shares of a file (usable at most the line) are not held against a what-if.

Does: read and check changes, rebuild the tensor core, name what is wrong. Does not: touch the file, price.

    >>> from minidsv3.hardware.load import load_hardware
    >>> changes = {"chip.hbm.bandwidth": "8TB/s", "tensor_core.fp8.fraction_bits": "25"}
    >>> wish = with_values(load_hardware("h800"), changes)
    >>> wish["chip.hbm.bandwidth"].si, wish.tensor_core["fp8"].fraction_bits
    (8000000000000, 25)
    >>> wish["chip.hbm.bandwidth"].source
    'what if: 8 TB/s instead of 3.35 TB/s (NVIDIA H800 datasheet)'
    >>> with_values(load_hardware("h800"), {"chip.hbm.bandwidth": "8 GB"})
    Traceback (most recent call last):
    ValueError: chip.hbm.bandwidth: expected a unit of B/s, got 'GB' (B)

Next: minidsv3.hardware.difference
"""

import re
from collections.abc import Iterable, Mapping

from minidsv3.hardware.load import Hardware, assemble
from minidsv3.hardware.schema import expected_dimension
from minidsv3.hardware.units import Quantity
from minidsv3.hardware.values import check_value

__all__ = ["parse_change", "parse_changes", "spelled", "with_values"]

# of dimensions with one unit, that unit
_ONLY = {"count": "count", "bit": "bit", "name": "name", "USD": "USD"}
_EXAMPLES = {"FLOP/s": "989TFLOPS", "OP/s": "50TOPS", "B/s": "8TB/s", "B": "141GB", "Hz": "1.6GHz"}
_EXAMPLES |= {"s": "2.8us", "USD/s": "2USD/h", "USD": "10000", "count": "132", "bit": "25"}
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S.*)?", re.ASCII)
LONGEST = 80  # characters of a change's text


def parse_change(text: str) -> tuple[str, str]:
    """A path and its new text, of "path=value"; ValueError if it is not of that form, or the path unknown."""
    path, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not path or not value:
        raise ValueError(f"expected PATH=VALUE, such as chip.hbm.bandwidth=8TB/s, got {text[:LONGEST]!r}")
    expected_dimension(path)
    return path, value


def parse_changes(texts: Iterable[str]) -> dict[str, str]:
    """Several changes by path; ValueError also if two are of one path."""
    changes: dict[str, str] = {}
    for path, value in map(parse_change, texts):
        if path in changes:
            raise ValueError(f"{path}: expected one new value, got {changes[path]!r} and {value!r}")
        changes[path] = value
    return changes


def with_values(hardware: Hardware, changes: Mapping[str, str]) -> Hardware:
    """The hardware with some values changed, its tensor core rebuilt; without changes, the hardware itself.

    changes: path -> "8TB/s", "25", "toward-zero". Raises ValueError that names the path: an unknown one (with
    near names), a unit of another dimension, a value that no file could have.
    """
    if not changes:
        return hardware
    given = dict(hardware.given)
    for path, text in changes.items():
        expected_dimension(path)
        try:
            given[path] = _changed(hardware.values.get(path), path, text)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    try:
        return assemble(hardware.id, hardware.name, given)
    except ValueError as error:  # of values that do not go together: no file said so
        raise ValueError(str(error).removeprefix(f"{hardware.id}.toml: ")) from None


def spelled(hardware: Hardware, changes: Mapping[str, str]) -> list[str]:
    """The changes of a machine as texts that name their units and read back as the same.

    A number alone has the unit that the file has: "8" is then "chip.hbm.bandwidth=8 TB/s". A count and a name
    have none to say. Raises ValueError as `with_values` does.

        >>> from minidsv3.hardware.load import load_hardware
        >>> spelled(load_hardware("h800"), {"chip.hbm.bandwidth": "8", "chip.sm.communication": "0"})
        ['chip.hbm.bandwidth=8 TB/s', 'chip.sm.communication=0']
    """
    changed = with_values(hardware, changes)
    return [f"{path}={_spelled(changed.given[path])}" for path in changes]


def _spelled(quantity: Quantity) -> str:
    return str(quantity.value) if quantity.unit in ("count", "name") else f"{quantity.value} {quantity.unit}"


def _changed(old: Quantity | None, path: str, text: str) -> Quantity:
    """The value that a text says.  old: what it was, if the file has it."""
    wanted = expected_dimension(path)
    value, unit = (text.strip(), "name") if wanted == "name" else _number(text, wanted)
    unit = unit or (old.unit if old else _ONLY.get(wanted, ""))
    if not unit:
        raise ValueError(f"expected a number with a unit, such as {_EXAMPLES[wanted]}, got {text!r}")
    check_value(path, value, unit)
    new = Quantity(value, unit, "", "assumed")
    before = f"instead of {old.text} ({old.source})" if old else "where the file has none"
    return Quantity(value, unit, f"what if: {new.text} {before}", "assumed")


def _number(text: str, wanted: str) -> tuple[float, str]:
    """The number and the unit, "" if there is none."""
    found = _NUMBER.fullmatch(text) if len(text) <= LONGEST else None
    if not found:
        expected = f"a number of {wanted}, such as {_EXAMPLES[wanted]}"
        raise ValueError(f"expected {expected}, got {text[:LONGEST]!r}")
    number, unit = found.groups()
    whole = re.fullmatch(r"[+-]?\d+", number)
    return int(number) if whole else float(number), (unit or "").strip()
