"""Files planned before a number is there: which tensor goes into which file, at which byte.

A model of 671 billion numbers fits no memory, so its files are not written from arrays. Names, formats and
shapes are enough to know every header and every offset; the numbers then come in any order and piece by
piece, or, in a sparse file, not at all.

    slots: name -> format and shape      shards: files of slots      fill(file, name, offset) writes numbers

Does: plan files as the published ones are named and indexed, write them whole or not at all, recognise one
that is finished. Does not: make numbers, read any.

    >>> shards = in_files([{"a": Slot("BF16", (2, 3))}, {"b": Slot("F32", (4,)), "c": Slot("U8", (8,))}])
    >>> [(shard.file, list(shard.slots), shard.data_bytes) for shard in shards]
    [('model-00001-of-000002.safetensors', ['a'], 12), ('model-00002-of-000002.safetensors', ['b', 'c'], 24)]

Next: minidsv3.checkpoint.inspect
"""

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

from minidsv3.checkpoint.atomic import replacing
from minidsv3.checkpoint.folder import CONFIG, INDEX, SCALE
from minidsv3.checkpoint.header import DTYPES, HEADER_LIMIT, CheckpointError
from minidsv3.checkpoint.saving import config_table, file_names, is_fp8_weight
from minidsv3.checkpoint.scaled_blocks import blocks_of
from minidsv3.config import ModelConfig

__all__ = [
    "CONFIG",
    "INDEX",
    "SCALE",
    "Shard",
    "Slot",
    "by_width",
    "check_room",
    "config_text",
    "in_files",
    "index_of",
    "pack",
    "slots_of",
    "write_index_and_config",
    "write_shard",
]

SPARE = 64_000_000  # bytes of a disk that are left alone

Fill = Callable[[BinaryIO, str, int], None]  # file, tensor, the byte of the file where its numbers begin


class Slot(NamedTuple):
    """Room for a tensor: its number format, as safetensors calls it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes."""
        return self.elements * DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class Shard:
    """One file: its name, and what lies in it in the order of its bytes."""

    file: str
    slots: Mapping[str, Slot]

    @cached_property
    def header(self) -> bytes:
        """The file's first bytes: the length of the header, and the header."""
        table: dict[str, object] = {"__metadata__": {"format": "pt"}}
        begin = 0
        for name, slot in self.slots.items():
            end = begin + slot.nbytes
            table[name] = {"dtype": slot.dtype, "shape": list(slot.shape), "data_offsets": [begin, end]}
            begin = end
        text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)  # so that the numbers start at a multiple of eight
        if len(text) > HEADER_LIMIT:
            raise CheckpointError(
                f"{self.file}: expected a header within {HEADER_LIMIT} bytes, got {len(text)}"
            )
        return len(text).to_bytes(8, "little") + text

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Where in the file each tensor begins."""
        found, at = {}, len(self.header)
        for name, slot in self.slots.items():
            found[name] = at
            at += slot.nbytes
        return found

    @cached_property
    def data_bytes(self) -> int:
        """Bytes of numbers."""
        return sum(slot.nbytes for slot in self.slots.values())

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.header) + self.data_bytes

    def is_written(self, folder: Path) -> bool:
        """Whether the folder has this very file: the same size and the same header, byte for byte."""
        path = folder / self.file
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        with path.open("rb") as file:
            return file.read(len(self.header)) == self.header


def slots_of(name: str, shape: tuple[int, ...], weights: str, block: tuple[int, int]) -> dict[str, Slot]:
    """A tensor's slot by published name, and for FP8 its scale's.  weights: "fp8", "bf16" or "fp32".

    The router's bias is float32 in all published files; so it is here.
    """
    if weights == "fp8" and is_fp8_weight(name, shape):
        scales = blocks_of((shape[0], shape[1]), block)
        return {name: Slot("F8_E4M3", shape), name + SCALE: Slot("F32", scales)}
    wide = weights == "fp32" or name.endswith("e_score_correction_bias")
    return {name: Slot("F32" if wide else "BF16", shape)}


def config_text(config: ModelConfig, weights: str, block: int) -> bytes:
    """The text of `config.json` beside such weights."""
    table = config_table(config, weights == "fp32", (block, block) if weights == "fp8" else None)
    return (json.dumps(table, indent=2) + "\n").encode()


def pack(slots: Mapping[str, Slot], most: int) -> list[dict[str, Slot]]:
    """Cut tensors, in their order, into groups of at most so many bytes; a scale stays with its weight."""
    groups: list[dict[str, Slot]] = [{}]
    held = 0
    for name, slot in slots.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in groups[-1]:
            groups[-1][name] = slot  # beside its weight, and so small that it was not counted
            continue
        if groups[-1] and held + slot.nbytes > most:
            groups.append({})
            held = 0
        groups[-1][name] = slot
        held += slot.nbytes
    return groups


def in_files(groups: Sequence[Mapping[str, Slot]]) -> list[Shard]:
    """Name the files as the published ones are: five digits of how many in six; one file has no number.

    Within a file the widest numbers come first, so that every tensor starts at a multiple of its width.
    """
    names = file_names(len(groups))
    return [Shard(name, by_width(group)) for name, group in zip(names, groups, strict=True)]


def by_width(slots: Mapping[str, Slot]) -> dict[str, Slot]:
    """The same, the widest numbers first; sorting is stable."""
    return dict(sorted(slots.items(), key=lambda item: -DTYPES[item[1].dtype].itemsize))


def index_of(shards: Iterable[Shard]) -> bytes:
    """The text of `model.safetensors.index.json`: bytes of all tensors, and the file of each."""
    shards = list(shards)
    total = sum(shard.data_bytes for shard in shards)
    weight_map = {name: shard.file for shard in shards for name in shard.slots}
    table = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    return (json.dumps(table, indent=1) + "\n").encode()


def write_shard(folder: Path, shard: Shard, fill: Fill) -> None:
    """Write one file; it appears when its numbers are there. What `fill` leaves out is a hole: zeros."""
    with replacing(folder / shard.file) as file:
        file.write(shard.header)
        file.truncate(shard.size)
        for name in shard.slots:
            fill(file, name, shard.offsets[name])


def write_index_and_config(folder: Path, shards: Sequence[Shard], config: bytes) -> None:
    """Write the index, if there is more than one file, and then `config.json`, which makes it a model."""
    for name, text in {INDEX: index_of(shards), CONFIG: config}.items():
        if name != INDEX or len(shards) > 1:
            with replacing(folder / name) as file:
                file.write(text)


def check_room(folder: Path, numbers: int, holes: int = 0) -> None:
    """OSError unless the disk has room for so many bytes, and for holes where it cannot leave them out."""
    if holes and not _is_sparse(folder):
        numbers, holes = numbers + holes, 0
    free = shutil.disk_usage(folder).free
    if numbers + SPARE > free:
        raise OSError(f"{folder}: expected {numbers + SPARE:,} bytes free on this disk, got {free:,}")


def _is_sparse(folder: Path) -> bool:
    """Whether what is never written takes no room on this disk; tried out."""
    path = folder / ".holes.partial"
    try:
        with path.open("wb") as file:
            file.truncate(1 << 24)
        return getattr(path.stat(), "st_blocks", 1 << 20) * 512 < 1 << 20
    finally:
        path.unlink(missing_ok=True)
