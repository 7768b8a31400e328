"""The header of a safetensors file, read as a stranger's: nothing in it is believed before it is checked.

    {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {"k": "v"}}

Offsets count from the start of the data. Each tensor's offsets must span exactly the bytes that its shape
and number format take, and all tensors together must cover the data without hole or overlap; so two names
never share a byte, and no byte is left for what is not listed. All arithmetic is in Python's integers, which
do not overflow, and nothing is allocated from a number that the header gives.

What fails raises a CheckpointError naming the file, the tensor, what was expected and what came.

    >>> parse_header(b'{"w": {"dtype": "U8", "shape": [2], "data_offsets": [0, 4]}}', 4, "x")
    Traceback (most recent call last):
    minidsv3.checkpoint.header.CheckpointError: x: tensor 'w': expected 2 bytes for U8 [2], got offsets [0, 4]

Does not: open files; know what the numbers mean.

Next: minidsv3.checkpoint.safetensors
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minidsv3.checkpoint.atomic import FilePath

__all__ = [
    "CODED",
    "DTYPES",
    "HEADER_LIMIT",
    "CheckpointError",
    "Entry",
    "Header",
    "parse_header",
    "parse_json",
    "shown",
]

HEADER_LIMIT = 100_000_000  # bytes; the reference implementation's. V3's 91,991 tensors take some 12 million
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # this one and FP8 as stored: NumPy has neither, their codes are integers
    "F8_E4M3": np.dtype("u1"),
    "F8_E5M2": np.dtype("u1"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
CODED = ("BF16", "F8_E4M3", "F8_E5M2")
_LARGEST_RANK = 64  # of a NumPy array
_LARGEST_SIZE = 1 << 58  # numbers; NumPy counts bytes with 63 bits, and a code may become a number of 8
_FIELDS = {"dtype", "shape", "data_offsets"}


class CheckpointError(ValueError):
    """A model file that is refused: its name, the tensor, what was expected and what came."""

    exit_code = 3  # of the command line


class Entry(NamedTuple):
    """What the header says of one tensor: its number format, shape, and place in the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int  # first byte, from the start of the data
    end: int  # one past the last


class Header(NamedTuple):
    """A checked header: tensors by name, free text, and where in the file the data starts."""

    entries: dict[str, Entry]
    metadata: dict[str, str]
    start: int


def parse_header(text: bytes, data_bytes: int, path: FilePath) -> tuple[dict[str, Entry], dict[str, str]]:
    """Check a header against the bytes of data that follow; entries in the data's order, and metadata."""
    if not text.startswith(b"{"):  # the format's own rule: no blank before the object
        raise CheckpointError(f"{path}: expected a header that starts with '{{', got {text[:8]!r}")
    if not text.rstrip().endswith(b"}"):  # blanks may fill it up; a length into the numbers ends here
        raise CheckpointError(f"{path}: expected a header that ends with '}}' and blanks, got {text[-8:]!r}")
    table = parse_json(text, f"{path}: header")
    metadata = _metadata(table.pop("__metadata__", {}), path)
    entries = {name: _entry(name, fields, path) for name, fields in table.items()}
    entries = dict(sorted(entries.items(), key=lambda item: item[1][2:]))
    _check_cover(entries, data_bytes, path)
    return entries, metadata


def parse_json(text: bytes, what: str) -> dict[str, object]:
    """Parse a JSON object in UTF-8; CheckpointError on anything else, a name that stands twice, depth."""
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{what}: expected JSON in UTF-8, got text that cannot be read ({error})"
        ) from None
    if not isinstance(table, dict):
        raise CheckpointError(f"{what}: expected a JSON object, got {type(table).__name__}")
    return table


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {shown(name)} stands twice")
    "".join(fields).encode()  # half a surrogate pair, which JSON can write, is a name in no encoding
    return fields


def _metadata(table: object, path: FilePath) -> dict[str, str]:
    if not isinstance(table, dict):
        raise CheckpointError(f"{path}: expected __metadata__ to be an object, got {shown(table)}")
    for name, value in table.items():
        if not isinstance(value, str):
            raise CheckpointError(
                f"{path}: expected text for {shown(name)} of __metadata__, got {shown(value)}"
            )
    return table


def _entry(name: str, fields: object, path: FilePath) -> Entry:
    at = f"{path}: tensor {shown(name)}"
    if not isinstance(fields, dict) or fields.keys() != _FIELDS:
        raise CheckpointError(f"{at}: expected the fields dtype, shape and data_offsets, got {shown(fields)}")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError(f"{at}: expected a dtype among {', '.join(DTYPES)}, got {shown(dtype)}")
    if not _are_counts(shape) or len(shape) > _LARGEST_RANK:
        raise CheckpointError(f"{at}: expected a shape of whole numbers >= 0, got {shown(shape)}")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise CheckpointError(f"{at}: expected data_offsets [begin, end], got {shown(offsets)}")
    if math.prod(side for side in shape if side) > _LARGEST_SIZE:  # which an empty array may have
        raise CheckpointError(f"{at}: expected a shape NumPy can hold, got {shown(shape)}")
    begin, end = offsets
    size = math.prod(shape) * DTYPES[dtype].itemsize  # Python's integers: no overflow to hide in
    if end - begin != size:
        raise CheckpointError(
            f"{at}: expected {size} bytes for {dtype} {shown(shape)}, got offsets {shown(offsets)}"
        )
    return Entry(dtype, tuple(shape), begin, end)


def _are_counts(values: object) -> bool:
    # NumPy indexes with 63 bits; a bool is an int to isinstance, not to type
    return isinstance(values, list) and not [n for n in values if type(n) is not int or not 0 <= n < 2**63]


def _check_cover(entries: Mapping[str, Entry], data_bytes: int, path: FilePath) -> None:
    """The tensors, sorted by place, must lie end to end and fill the data."""
    reached = 0
    for name, entry in entries.items():
        if entry.begin != reached or entry.end > data_bytes:
            raise CheckpointError(
                f"{path}: tensor {shown(name)}: expected offsets from {reached}, where another ends, "
                f"within {data_bytes} bytes of data, got [{entry.begin}, {entry.end}]"
            )
        reached = entry.end
    if reached != data_bytes:
        raise CheckpointError(
            f"{path}: expected {reached} bytes of data, what its tensors take, got {data_bytes}"
        )


def shown(value: object) -> str:
    """Show a value for an error message, cut where it is long."""
    if isinstance(value, str) and len(value) > 80:
        return f"{value[:80]!r}…"
    try:
        text = repr(value)
    except RecursionError:  # lists in lists in lists
        text = f"a deep {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:80]}…"
