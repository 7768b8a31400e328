"""The safetensors container: eight bytes that count a header, the header in JSON, then the numbers.

    | n: 8 bytes, little-endian | header: n bytes | data: the tensors, end to end |

Reading maps the file: each array is a read-only view of the mapping, and the operating system brings in the
pages that are touched. A file that was written since its header was read is refused. NumPy has neither BF16
nor FP8: those arrays are copies, in float32 and float16, the smallest of its formats that hold them exactly;
so what is allocated is at most twice what the file has.

Writing goes one tensor at a time, each to its place: `Coded` are the codes of such a format, `Later` is a
tensor that is made when its turn comes, so that a file may be larger than the memory.

Does not: pickles; scales, without which FP8 weights mean little (`stored`).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     codes = Coded(np.uint8([[0x38, 0x7E]]), "F8_E4M3")
    ...     write_safetensors(f"{folder}/w", {"w": codes}, {"made": "here"})
    ...     header, tensors = read_header(f"{folder}/w"), read_safetensors(f"{folder}/w")
    >>> header.entries, tensors["w"].tolist()
    ({'w': Entry(dtype='F8_E4M3', shape=(1, 2), begin=0, end=2)}, [[1.0, 448.0]])

Next: minidsv3.checkpoint.config_json
"""

import json
import math
import mmap
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.checkpoint.atomic import FilePath, replacing
from minidsv3.checkpoint.header import (
    CODED,
    DTYPES,
    HEADER_LIMIT,
    CheckpointError,
    Entry,
    Header,
    parse_header,
    shown,
)
from minidsv3.numerics import BF16, E4M3, E5M2

__all__ = [
    "Coded",
    "Later",
    "SafetensorsFile",
    "Source",
    "Tensor",
    "read_header",
    "read_safetensors",
    "write_safetensors",
]

Tensor = NDArray[Any]

_WRITTEN_AS = {dtype: name for name, dtype in DTYPES.items() if name not in CODED}


class Coded(NamedTuple):
    """Numbers of a format that NumPy has not: unsigned integers, and what they are codes of."""

    codes: Tensor
    dtype: str  # one of CODED


class Later(NamedTuple):
    """A tensor that is made when it is written: what it will be, and how."""

    dtype: str  # as the file will say
    shape: tuple[int, ...]
    make: Callable[[], Tensor]  # numbers, or codes in unsigned integers


Source = Tensor | Coded | Later


# ---- reading -----------------------------------------------------------------------------------------------


class SafetensorsFile:
    """A file whose header is read and checked; its data is neither read nor mapped before it is asked for."""

    def __init__(self, path: FilePath) -> None:
        self.path = Path(path)
        if not self.path.is_file():  # a folder, a pipe (which would block), nothing at all
            raise CheckpointError(f"expected a safetensors file, got {path}: no such file")
        with self.path.open("rb") as file:
            self._version = _version(file)
            self.size = os.fstat(file.fileno()).st_size
            self.header = _read_header(file, self.size, path)

    def __getstate__(self) -> dict[str, Any]:
        """All but the mapping, which another process makes anew."""
        return {name: value for name, value in self.__dict__.items() if name != "_mapped"}

    def reopen(self) -> FileIO:
        """The same file again, for its numbers; CheckpointError if another has taken its place since."""
        try:
            file = self.path.open("rb", buffering=0)
        except OSError as error:
            raise CheckpointError(f"{self.path}: expected the file as when opened, got {error}") from None
        if _version(file) != self._version:
            size = os.fstat(file.fileno()).st_size
            file.close()
            raise CheckpointError(
                f"{self.path}: expected the file of {self.size} bytes as when opened, got one of {size} that "
                "was written since: open it again"
            )
        return file

    @cached_property
    def _mapped(self) -> mmap.mmap:
        with self.reopen() as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def stored(self, name: str) -> Tensor:
        """The numbers of a tensor as they stand in the file, codes as integers; a read-only mapped view."""
        entry = self.header.entries[name]
        dtype, count = DTYPES[entry.dtype], math.prod(entry.shape)
        place = self.header.start + entry.begin
        flat = np.frombuffer(self._mapped, dtype, count, place) if count else np.empty(0, dtype)
        array: Tensor = flat.reshape(entry.shape)
        if entry.dtype == "BOOL" and count and (most := array.view(np.uint8).max()) > 1:
            raise CheckpointError(
                f"{self.path}: tensor {shown(name)}: expected bytes 0 and 1 for BOOL, got {most}"
            )
        array.flags.writeable = False
        return array

    def numbers(self, name: str) -> Tensor:
        """The numbers of a tensor: `stored`, or a read-only copy where they are codes."""
        array, dtype = self.stored(name), self.header.entries[name].dtype
        if dtype in CODED:
            array = BF16.decode(array) if dtype == "BF16" else _HALVES[dtype].take(array)
            array.flags.writeable = False
        return array


def _version(file: BinaryIO | FileIO) -> tuple[int, int, int, int]:
    """What changes when a file is replaced or written to: its place on the disk, its size, its time."""
    said = os.fstat(file.fileno())
    return said.st_dev, said.st_ino, said.st_size, said.st_mtime_ns


def _half_table(dtype: str) -> NDArray[np.float16]:
    """The 256 values of an FP8 format, all of which float16 has."""
    values = (E4M3 if dtype == "F8_E4M3" else E5M2).decode(np.arange(256, dtype=np.uint8))
    return values.astype(np.float16)


_HALVES = {dtype: _half_table(dtype) for dtype in ("F8_E4M3", "F8_E5M2")}


def read_safetensors(path: FilePath) -> dict[str, Tensor]:
    """Map a file; read-only arrays by name, in the order of the data.

    BF16 comes as float32 copies, FP8 as float16 copies (without scales, of which the file knows nothing).
    """
    file = SafetensorsFile(path)
    return {name: file.numbers(name) for name in file.header.entries}


def read_header(path: FilePath) -> Header:
    """Read and check what a file holds, and touch none of its numbers."""
    return SafetensorsFile(path).header


def _read_header(file: BinaryIO, size: int, path: FilePath) -> Header:
    if size < 8:
        raise CheckpointError(f"{path}: expected at least 8 bytes, the header's length, got {size}")
    length, held = int.from_bytes(file.read(8), "little"), size - 8
    if length > min(held, HEADER_LIMIT):  # before a byte of it is taken
        limit = f"the {held} bytes that follow" if held < HEADER_LIMIT else f"{HEADER_LIMIT} bytes"
        raise CheckpointError(f"{path}: expected a header within {limit}, got a length of {length}")
    entries, metadata = parse_header(file.read(length), held - length, path)
    return Header(entries, metadata, 8 + length)


# ---- writing -----------------------------------------------------------------------------------------------


def write_safetensors(
    path: FilePath, tensors: Mapping[str, Source], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named tensors to a file, which appears whole or not at all; one at a time is made or copied.

    In the file those with wide numbers come first, so that each starts at a multiple of its number's width.
    They are made in the order given, whatever their place.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    entries = _places(tensors)
    for name, entry in entries.items():
        header[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [entry.begin, entry.end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # blanks, as the format allows, so that the data starts aligned
    _check_written(text, max((entry.end for entry in entries.values()), default=0), path)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, source in tensors.items():
            file.seek(8 + len(text) + entries[name].begin)
            file.write(_bytes_of(name, source, entries[name]))


def _places(tensors: Mapping[str, Source]) -> dict[str, Entry]:
    """Where each tensor will lie, in the order of the data."""
    kinds = {name: _kind(name, source) for name, source in tensors.items()}
    entries: dict[str, Entry] = {}
    begin = 0
    for name in sorted(kinds, key=lambda name: -DTYPES[kinds[name][0]].itemsize):  # sorted is stable
        dtype, shape = kinds[name]
        end = begin + math.prod(shape) * DTYPES[dtype].itemsize
        entries[name] = Entry(dtype, shape, begin, end)
        begin = end
    return entries


def _kind(name: str, source: Source) -> tuple[str, tuple[int, ...]]:
    """What the header will say of a tensor: its number format and shape."""
    if isinstance(source, Later):
        return source.dtype, tuple(source.shape)
    if isinstance(source, Coded):
        if source.dtype not in CODED or source.codes.dtype != DTYPES[source.dtype]:
            raise ValueError(
                f"tensor {shown(name)}: expected codes of one of {CODED} in unsigned integers of its width, "
                f"got {source.codes.dtype} for {source.dtype}"
            )
        return source.dtype, source.codes.shape
    dtype = source.dtype.newbyteorder("<")
    if name == "__metadata__" or dtype not in _WRITTEN_AS:
        raise ValueError(
            f"tensor {shown(name)}: expected a name and one of {sorted(map(str, _WRITTEN_AS))}, got {dtype}"
        )
    return _WRITTEN_AS[dtype], source.shape


def _bytes_of(name: str, source: Source, entry: Entry) -> memoryview:
    if isinstance(source, Later):
        source = source.make()
        if source.shape != entry.shape or source.dtype.newbyteorder("<") != DTYPES[entry.dtype]:
            got = f"{source.dtype} {source.shape}"
            raise ValueError(f"tensor {shown(name)}: expected {DTYPES[entry.dtype]} {entry.shape}, got {got}")
    array = source.codes if isinstance(source, Coded) else source
    little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
    # ascontiguousarray would make a number an array of one, hence reshape
    return np.ascontiguousarray(little_endian).reshape(-1).view(np.uint8).data


def _check_written(text: bytes, data_bytes: int, path: FilePath) -> None:
    """What is written must be what would be read; the checks are the same."""
    if len(text) > HEADER_LIMIT:
        raise ValueError(f"{path}: expected a header within {HEADER_LIMIT} bytes, got {len(text)}")
    parse_header(text, data_bytes, path)
