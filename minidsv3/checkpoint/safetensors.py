"""The safetensors container: eight bytes that count a header, the header in JSON, then the numbers.

    | n: 8 bytes, little-endian | header: n bytes | data: the tensors, end to end |

Reading maps the file: each array is a read-only view of the mapping, and the operating system brings in the
pages that are touched. BF16 is the exception, as NumPy has no such format: those arrays are float32 copies.

Does not: FP8 numbers, pickles, writing BF16.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(f"{folder}/w.safetensors", {"w": np.float32([[1, 2]])}, {"made": "here"})
    ...     header = read_header(f"{folder}/w.safetensors")
    >>> header.entries, header.metadata, header.start
    ({'w': Entry(dtype='F32', shape=(1, 2), begin=0, end=8)}, {'made': 'here'}, 96)

Next: minidsv3.checkpoint.config_json
"""

import json
import math
import mmap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidsv3.checkpoint.atomic import FilePath, replacing
from minidsv3.checkpoint.header import DTYPES, HEADER_LIMIT, Entry, Header, parse_header
from minidsv3.numerics import BF16

__all__ = ["Tensor", "read_header", "read_safetensors", "write_safetensors"]

Tensor = NDArray[np.generic]

_WRITTEN_AS = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}


def read_safetensors(path: FilePath) -> dict[str, Tensor]:
    """Map a file; read-only arrays by name, in the order of the data. BF16 comes as float32 copies."""
    mapped = _map(path)
    header = _header(mapped, path)
    return {name: _array(mapped, header.start, name, entry, path) for name, entry in header.entries.items()}


def read_header(path: FilePath) -> Header:
    """Read and check what a file holds, and touch none of its numbers."""
    return _header(_map(path), path)


def _map(path: FilePath) -> mmap.mmap:
    if not Path(path).is_file():  # a folder, a pipe (which would block), nothing at all
        raise ValueError(f"expected a safetensors file, got {path}: no such file")
    with Path(path).open("rb") as file:
        if (size := Path(path).stat().st_size) < 8:
            raise ValueError(f"{path}: expected at least 8 bytes, the header's length, got {size}")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _header(mapped: mmap.mmap, path: FilePath) -> Header:
    length, held = int.from_bytes(mapped[:8], "little"), len(mapped) - 8
    if length > min(held, HEADER_LIMIT):  # before a byte of it is taken
        limit = f"the {held} bytes that follow" if held < HEADER_LIMIT else f"{HEADER_LIMIT} bytes"
        raise ValueError(f"{path}: expected a header within {limit}, got a length of {length}")
    entries, metadata = parse_header(mapped[8 : 8 + length], held - length, path)
    return Header(entries, metadata, 8 + length)


def _array(mapped: mmap.mmap, start: int, name: str, entry: Entry, path: FilePath) -> Tensor:
    dtype, count = DTYPES[entry.dtype], math.prod(entry.shape)
    try:
        flat = np.frombuffer(mapped, dtype, count, start + entry.begin) if count else np.empty(0, dtype)
        array: Tensor = flat.reshape(entry.shape)
    except ValueError as error:  # an empty shape with sides that NumPy cannot count
        raise ValueError(
            f"{path}: tensor {name!r}: expected a shape NumPy can hold, got {entry.shape}"
        ) from error
    if entry.dtype == "BOOL" and count and array.view(np.uint8).max() > 1:
        raise ValueError(
            f"{path}: tensor {name!r}: expected bytes 0 and 1 for BOOL, got {array.view(np.uint8).max()}"
        )
    if entry.dtype == "BF16":
        array = BF16.decode(array)
    array.flags.writeable = False  # copies too, so that all formats behave alike
    return array


def write_safetensors(
    path: FilePath, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named arrays to a file, which appears whole or not at all; at most one array is copied at a time.

    Arrays with wide numbers come first, so that every array starts at a multiple of its number's width.
    """
    order = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)  # sorted is stable
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    begin = 0
    for name in order:
        array = tensors[name]
        header[name] = {
            "dtype": _written_as(name, array),
            "shape": list(array.shape),
            "data_offsets": [begin, begin + array.nbytes],
        }
        begin += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # blanks, as the format allows, so that the data starts aligned
    _check_written(text, begin, path)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            # ascontiguousarray would make a number an array of one, hence reshape
            little_endian = tensors[name].astype(tensors[name].dtype.newbyteorder("<"), copy=False)
            file.write(np.ascontiguousarray(little_endian).reshape(-1).view(np.uint8).data)


def _written_as(name: str, array: Tensor) -> str:
    dtype = array.dtype.newbyteorder("<")
    if name == "__metadata__" or dtype not in _WRITTEN_AS:
        raise ValueError(
            f"tensor {name!r}: expected a name and one of {sorted(map(str, _WRITTEN_AS))}, got {dtype}"
        )
    return _WRITTEN_AS[dtype]


def _check_written(text: bytes, data_bytes: int, path: FilePath) -> None:
    """What is written must be what would be read; the checks are the same."""
    if len(text) > HEADER_LIMIT:
        raise ValueError(f"{path}: expected a header within {HEADER_LIMIT} bytes, got {len(text)}")
    parse_header(text, data_bytes, path)
