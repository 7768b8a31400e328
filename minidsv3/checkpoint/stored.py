"""One tensor of a model folder: where it lies, and its numbers as float32 when they are asked for.

Nothing is read before `read`, which takes the bytes of the rows that it is asked for, in pieces, and makes
float32 of each piece while it is in the cache. It reads, it does not map: pages of a mapping that were
touched count as the program's memory, and a model larger than the memory is read through this.

FP8 weights are code x scale (`scaled_blocks`). A NaN among codes or scales is refused, with its place.

    >>> import tempfile
    >>> from minidsv3.checkpoint.safetensors import Coded, write_safetensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     codes = Coded(np.uint16([[0x3F80, 0x4000], [0x4040, 0x4080]]), "BF16")
    ...     write_safetensors(f"{folder}/w.safetensors", {"w": codes})
    ...     stored = stored_tensors(SafetensorsFile(f"{folder}/w.safetensors"))["w"]
    ...     stored.dtype, stored.shape, stored.nbytes, stored.read(rows=slice(1, 2)).tolist()
    ('BF16', (2, 2), 8, [[3.0, 4.0]])

Does not: know which tensors a model has; keep what was read.

Next: minidsv3.checkpoint.folder
"""

import math
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.checkpoint.header import DTYPES, CheckpointError, shown
from minidsv3.checkpoint.safetensors import SafetensorsFile
from minidsv3.checkpoint.scaled_blocks import decode_rows, finite_codes
from minidsv3.numerics import E4M3, E5M2

__all__ = ["FP8", "StoredTensor", "stored_tensors"]

Values = NDArray[np.float32]
FP8 = {"F8_E4M3": E4M3, "F8_E5M2": E5M2}
FLOATS = ("F64", "F32", "F16", "BF16", *FP8)
PIECE = 1 << 18  # numbers read and decoded together, or one row where that is more
SHARED = 1 << 22  # numbers from which on two threads share the work


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a file: what the header says of it, and for FP8 weights where their scales are."""

    name: str
    dtype: str  # as safetensors names it: "F8_E4M3", "BF16", "F32", ...
    shape: tuple[int, ...]
    offset: int  # of its first byte, from the start of the file
    file: SafetensorsFile
    scale: "StoredTensor | None" = None
    block: tuple[int, int] | None = None  # rows and columns that share a scale

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path

    @property
    def nbytes(self) -> int:
        """Bytes on the disk, without its scales'."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    @property
    def stored_bytes(self) -> int:
        """Bytes on the disk, with its scales'."""
        return self.nbytes + (self.scale.nbytes if self.scale else 0)

    def raw(self) -> NDArray[Any]:
        """The numbers as stored, codes as unsigned integers; a read-only mapped view."""
        return self.file.stored(self.name)

    def read(self, rows: slice | None = None, out: Values | None = None) -> Values:
        """The numbers as float32, rows start .. stop of the first axis (all of them: None); dequantised.

        out: float32 [rows, ...], C-contiguous, written and returned.  CheckpointError for what are no numbers
        (NaN codes, scales that are NaN, infinite or negative), and for a file that ends early.
        """
        first, last = self._span(rows)
        shape = (last - first, *self.shape[1:]) if self.shape else ()
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise ValueError(f"expected out float32 {shape}, C-contiguous, got {out.dtype} {out.shape}")
        flat = out.reshape(last - first, -1) if out.size else out.reshape(0, 1)  # [rows, numbers in a row]
        self._read_shared(first, flat)
        return out

    def _span(self, rows: slice | None) -> tuple[int, int]:
        """First row, and the one after the last; a single number is one row."""
        if self.dtype not in FLOATS:
            raise CheckpointError(f"{self}: expected floating-point numbers, got {self.dtype}")
        if rows is None:
            return 0, self.shape[0] if self.shape else 1
        if not self.shape:
            raise ValueError(f"{self}: expected rows None of a single number, got {rows}")
        first, last, step = rows.indices(self.shape[0])
        if step != 1:
            raise ValueError(f"{self}: expected rows one after the other, got {rows}")
        return first, max(first, last)

    def _read_shared(self, first: int, out: Values) -> None:
        """All rows of out, by two threads where that is worth it; NumPy and the system let both run."""
        threads = 2 if out.size >= SHARED and len(out) > 1 and (os.cpu_count() or 1) > 1 else 1
        bounds = [len(out) * i // threads for i in range(threads + 1)]
        failed: list[BaseException] = []

        def work(begin: int, end: int) -> None:
            try:
                self._read_rows(first + begin, out[begin:end])
            except BaseException as error:  # handed to the caller's thread, below
                failed.append(error)

        others = [threading.Thread(target=work, args=(bounds[i], bounds[i + 1])) for i in range(1, threads)]
        for thread in others:
            thread.start()
        work(bounds[0], bounds[1])
        for thread in others:
            thread.join()
        for error in failed:
            raise error

    def _read_rows(self, first: int, out: Values) -> None:
        """out [rows, numbers in a row] = rows first .. of the tensor."""
        with self.file.reopen() as file:
            if self.dtype in FP8:
                self._read_scaled(file, first, out)
                return
            skip, out = first * out.shape[1], out.reshape(-1, 1)  # rows mean nothing to these
            if self.dtype == "F32" and np.little_endian:
                self._fill(file, skip, out.view(np.uint8))  # as they stand
                return
            for begin, numbers in self._pieces(file, skip, out.shape):
                here = out[begin : begin + len(numbers)]
                if self.dtype == "BF16":
                    np.left_shift(numbers, np.uint32(16), out=here.view(np.uint32), dtype=np.uint32)
                else:
                    self._narrow(numbers, here)

    def _narrow(self, numbers: NDArray[Any], out: Values) -> None:
        """out = F16 or F64 numbers, these rounded; none becomes infinite by it."""
        with np.errstate(over="ignore", under="ignore"):
            out[...] = numbers
        if self.dtype == "F64" and (np.isinf(out) & np.isfinite(numbers)).any():
            largest = np.finfo(np.float32).max
            got = np.abs(numbers[np.isfinite(numbers)]).max()
            raise CheckpointError(f"{self}: expected numbers up to {largest}, float32's largest, got {got}")

    def _read_scaled(self, file: FileIO, first: int, out: Values) -> None:
        """out = code x scale, of rows first .. of an FP8 weight."""
        fmt, (above, scale) = FP8[self.dtype], self._scale_of(first, len(out))
        assert self.block
        for begin, codes in self._pieces(file, first, out.shape):
            if not finite_codes(codes, fmt):
                row, column = np.argwhere(np.bitwise_and(codes, 0x7F) > fmt.top)[0]
                got = f"code 0x{codes[row, column]:02X} at row {first + begin + row}, column {column}"
                raise CheckpointError(f"{self}: expected numbers alone, got {got}")
            here = out[begin : begin + len(codes)]
            decode_rows(codes, scale, first + begin - above * self.block[0], self.block, here, fmt)

    def _scale_of(self, first: int, rows: int) -> tuple[int, Values]:
        """Rows of blocks above those that some rows need, and the scales of these."""
        if self.scale is None or self.block is None:
            raise CheckpointError(f"{self}: expected a scale, {self.name}_scale_inv, got none")
        above, end = first // self.block[0], -(-(first + rows) // self.block[0])
        scale = self.scale.read(slice(above, end))  # [rows of blocks, columns of blocks]
        largest = np.float32(np.finfo(np.float32).max / FP8[self.dtype].largest)
        if scale.size and not (scale.min() >= 0 and scale.max() <= largest):  # NaN is neither
            row, column = np.argwhere(~((scale >= 0) & (scale <= largest)))[0]
            got = f"{scale[row, column]} at row {above + row}, column {column}"
            raise CheckpointError(f"{self.scale}: expected scales from 0 to {largest}, got {got}")
        return above, scale

    def _pieces(self, file: FileIO, first: int, shape: tuple[int, ...]) -> Iterator[tuple[int, NDArray[Any]]]:
        """The stored numbers of rows first .. first + n, some rows at a time; the room is used again."""
        rows, width = shape
        step = min(max(PIECE // max(width, 1), 1), rows)
        room = np.empty((step, width), DTYPES[self.dtype])
        for begin in range(0, rows, max(step, 1)):
            piece = room[: min(step, rows - begin)]
            self._fill(file, (first + begin) * width, piece.view(np.uint8))
            yield begin, piece

    def _fill(self, file: FileIO, skip: int, room: NDArray[np.uint8]) -> None:
        """Fill room with bytes of the file, after `skip` numbers of the tensor."""
        at, done, room = self.offset + skip * DTYPES[self.dtype].itemsize, 0, room.reshape(-1)
        file.seek(at)
        while done < room.size:
            got = file.readinto(room[done : done + (1 << 25)].data)
            if not got:
                raise CheckpointError(f"{self}: expected bytes to {at + room.size}, got {at + done}")
            done += got

    def __str__(self) -> str:
        return f"{self.path}: tensor {shown(self.name)}"


def stored_tensors(file: SafetensorsFile) -> dict[str, StoredTensor]:
    """All tensors of a file, by name; nothing of them is read."""
    start = file.header.start
    return {
        name: StoredTensor(name, entry.dtype, entry.shape, start + entry.begin, file)
        for name, entry in file.header.entries.items()
    }
