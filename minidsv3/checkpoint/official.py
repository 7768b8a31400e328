"""Folders as DeepSeek's own code reads them: one file a GPU, tensors in parts, a config of another wording.

    config.json                  the fields of ModelArgs (`names`)
    model0-mp4.safetensors       what rank 0 of 4 holds: its rows or columns, its experts, and all that is
    model1-mp4.safetensors ...   repeated on every rank
    hugging_face_config.json     ours, may be missing: what ModelArgs has no field for (token ids, eps, ...)

`Parted` is a tensor put together again: read row by row, it looks as if it lay in one piece. A published
folder is read as the same thing, with one part each, so that who converts does not ask which it was.

Does: find all files of a folder, check parts against each other, join them. Does not: hold the joined tensors
against the config (`inspect` and `convert` do), write.

    >>> open_official("no/such/folder")
    Traceback (most recent call last):
    ValueError: expected a folder with model0-mp1.safetensors or the like, got no/such/folder

Next: minidsv3.checkpoint.shards
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.checkpoint.atomic import FilePath
from minidsv3.checkpoint.config_json import from_hugging_face
from minidsv3.checkpoint.folder import load_json
from minidsv3.checkpoint.header import DTYPES, CheckpointError, shown
from minidsv3.checkpoint.names import (
    expert_of,
    from_official,
    official_file,
    published_name,
    rank_of_file,
    split_axis,
    to_official,
)
from minidsv3.checkpoint.safetensors import SafetensorsFile
from minidsv3.checkpoint.stored import FP8, StoredTensor, stored_tensors
from minidsv3.config import ModelConfig

__all__ = ["COMPANION", "OfficialFolder", "Parted", "is_official", "open_official"]

CONFIG, COMPANION = "config.json", "hugging_face_config.json"
SCALE = "_scale_inv"


@dataclass(frozen=True)
class Parted:
    """A tensor in one part, or cut into equal ones along an axis; of FP8 weights with their scales."""

    name: str  # the published one
    parts: tuple[StoredTensor, ...]
    axis: int = 0

    @property
    def dtype(self) -> str:
        """As safetensors names it."""
        return self.parts[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole."""
        shape = list(self.parts[0].shape)
        if len(self.parts) > 1:
            shape[self.axis] *= len(self.parts)
        return tuple(shape)

    @property
    def block(self) -> tuple[int, int] | None:
        """Rows and columns that share a scale, where there are scales."""
        return self.parts[0].block if self.parts[0].scale else None

    @property
    def nbytes(self) -> int:
        """Bytes on the disk, scales included, what is repeated counted once."""
        return sum(part.stored_bytes for part in self.parts)

    def read(self, rows: slice) -> NDArray[np.float32]:
        """Rows as float32, dequantised.  [rows, ...]"""
        return self._joined(rows, StoredTensor.read)

    def codes(self, rows: slice, check: bool = True) -> NDArray[Any]:
        """Rows as stored, codes as unsigned integers.  [rows, ...]  check: refuse NaN codes."""
        return self._joined(rows, lambda part, rows: _stored_rows(part, rows, check))

    def scales(self) -> NDArray[np.float32]:
        """The scales of the whole, checked to be numbers.  [blocks of rows, blocks of columns]"""
        found = []
        for part in self.parts:
            assert part.scale
            scale = part.scale.read()
            if not (np.isfinite(scale) & (scale >= 0)).all():
                i, j = np.argwhere(~(np.isfinite(scale) & (scale >= 0)))[0]
                got = f"{scale[i, j]} at row {i}, column {j}"
                raise CheckpointError(f"{part.scale}: expected finite scales >= 0, got {got}")
            found.append(scale)
        return np.concatenate(found, self.axis)

    def _joined(self, rows: slice, take: Callable[[StoredTensor, slice], NDArray[Any]]) -> NDArray[Any]:
        """Rows of the whole, from those of its parts."""
        if len(self.parts) == 1:
            return take(self.parts[0], rows)
        if self.axis == 1:
            return np.concatenate([take(part, rows) for part in self.parts], 1)
        height, found = self.parts[0].shape[0], []
        for i, part in enumerate(self.parts):
            first, last = max(rows.start - i * height, 0), min(rows.stop - i * height, height)
            if first < last:
                found.append(take(part, slice(first, last)))
        return np.concatenate(found)


def _stored_rows(tensor: StoredTensor, rows: slice, check: bool) -> NDArray[Any]:
    """Rows of one part as stored, read and not mapped."""
    width = int(np.prod(tensor.shape[1:], dtype=np.int64))
    dtype = DTYPES[tensor.dtype]
    shape = (rows.stop - rows.start, *tensor.shape[1:])
    with tensor.path.open("rb") as file:
        file.seek(tensor.offset + rows.start * width * dtype.itemsize)
        held = file.read(shape[0] * width * dtype.itemsize)
    if len(held) != shape[0] * width * dtype.itemsize:
        raise CheckpointError(f"{tensor}: expected rows {rows.start} to {rows.stop}, got the end of the file")
    codes = np.frombuffer(held, dtype).reshape(shape)
    if check and tensor.dtype in FP8 and codes.size and (codes & 0x7F).max() > FP8[tensor.dtype].top:
        raise CheckpointError(f"{tensor}: expected numbers, got a code that is none")
    return codes


class OfficialFolder(NamedTuple):
    """A folder of DeepSeek's code: its config, and its tensors by published name."""

    path: Path
    config: ModelConfig
    config_table: dict[str, Any]
    tensors: dict[str, Parted]  # scales with their weights
    stored: dict[str, Parted]  # scales apart
    files: tuple[Path, ...]
    block: tuple[int, int] | None
    ranks: int


def is_official(folder: FilePath) -> bool:
    """Whether a folder holds files of this layout."""
    path = Path(folder)
    return path.is_dir() and any(rank_of_file(entry.name) for entry in path.iterdir())


def open_official(folder: FilePath) -> OfficialFolder:
    """Read headers and config, and join the parts; no number is read.

    CheckpointError naming the file and the tensor where parts are missing or do not fit together.
    """
    folder = Path(folder)
    files = _files(folder)
    config, table = _config(folder)
    of_rank = [_by_published_name(stored_tensors(SafetensorsFile(path)), path) for path in files]
    _check_size(config, sum(map(len, of_rank)), folder)
    stored = {name: _join(name, of_rank, files, config.n_routed_experts) for name in _names(of_rank)}
    scaled = any(name.endswith(SCALE) for name in stored)
    block = (config.fp8_block, config.fp8_block) if scaled else None
    return OfficialFolder(
        folder, config, table, _with_scales(stored, block), stored, files, block, len(files)
    )


def _files(folder: Path) -> tuple[Path, ...]:
    """The files of all ranks, in their order."""
    found = {}
    for entry in folder.iterdir() if folder.is_dir() else ():
        if of := rank_of_file(entry.name):
            found[entry.name] = of
    if not found:
        raise ValueError(f"expected a folder with {official_file(0, 1)} or the like, got {folder}")
    if len(sizes := {ranks for _, ranks in found.values()}) > 1:
        got = f"files of {' and '.join(map(str, sorted(sizes)))} ranks"
        raise CheckpointError(f"{folder}: expected the files of one conversion, got {got}")
    ranks = sizes.pop()
    for rank in range(ranks):
        if official_file(rank, ranks) not in found:
            raise CheckpointError(
                f"{folder}: expected {official_file(rank, ranks)} among files of {ranks} ranks, got none"
            )
    return tuple(folder / official_file(rank, ranks) for rank in range(ranks))


def _config(folder: Path) -> tuple[ModelConfig, dict[str, Any]]:
    """The config; in full from our companion file where that is there and says the same."""
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(
            f"{folder}: expected {CONFIG} with the fields of DeepSeek's ModelArgs, got none"
        )
    table = load_json(path)
    if not (companion := folder / COMPANION).is_file():
        return from_official(table, str(path)), table
    whole = from_hugging_face(load_json(companion), str(companion))
    for name, meant in to_official(whole).items():
        if table.get(name, meant) != meant and name != "dtype":
            got = f"{meant}, got {shown(table[name])}"
            raise CheckpointError(f"{path}: expected {name} as {COMPANION} beside it says, {got}")
    return whole, table


def _by_published_name(tensors: Mapping[str, StoredTensor], path: Path) -> dict[str, StoredTensor]:
    found = {}
    for name, tensor in tensors.items():
        try:
            found[published_name(name)] = tensor
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from None
    return found


def _check_size(config: ModelConfig, held: int, folder: Path) -> None:
    """Refuse a config that asks for far more tensors than there are, before they are listed one by one."""
    wanted = config.n_layers + 3 * config.n_routed_experts * (config.n_layers - config.n_dense_layers)
    if wanted > 10 * held + 1000:
        sizes = f"{config.n_layers} layers of {config.n_routed_experts} experts"
        raise CheckpointError(f"{folder}: expected over {wanted} tensors for {sizes} by {CONFIG}, got {held}")


def _names(of_rank: list[dict[str, StoredTensor]]) -> list[str]:
    return list(dict.fromkeys(name for tensors in of_rank for name in tensors))


def _join(name: str, of_rank: list[dict[str, StoredTensor]], files: tuple[Path, ...], experts: int) -> Parted:
    """One tensor from the ranks that hold some of it."""
    if (expert := expert_of(name)) is not None:
        if experts % len(files) or expert >= experts:
            raise CheckpointError(
                f"{files[0].parent}: tensor {name!r}: expected {experts} routed experts on equal ranks, "
                f"got {len(files)} ranks"
            )
        rank = expert // (experts // len(files))
        if name not in of_rank[rank]:
            raise CheckpointError(f"{files[rank]}: expected tensor {name!r}, which this rank holds, got none")
        return Parted(name, (of_rank[rank][name],))
    for path, tensors in zip(files, of_rank, strict=True):
        if name not in tensors:
            raise CheckpointError(f"{path}: expected tensor {name!r}, as on the other ranks, got none")
        first, other = of_rank[0][name], tensors[name]
        if (other.dtype, other.shape) != (first.dtype, first.shape):
            got = f"{other.dtype} {other.shape}"
            raise CheckpointError(f"{other}: expected {first.dtype} {first.shape}, as on rank 0, got {got}")
    axis = split_axis(name)
    if axis is None or len(files) == 1:
        return Parted(name, (of_rank[0][name],))
    if len(of_rank[0][name].shape) <= axis:
        raise CheckpointError(f"{of_rank[0][name]}: expected a matrix, got {of_rank[0][name].shape}")
    return Parted(name, tuple(tensors[name] for tensors in of_rank), axis)


def _with_scales(stored: Mapping[str, Parted], block: tuple[int, int] | None) -> dict[str, Parted]:
    """Weights with their scales, part by part; the scales themselves are left out."""
    found = {}
    for name, tensor in stored.items():
        if name.endswith(SCALE):
            if name.removesuffix(SCALE) not in stored:
                raise CheckpointError(f"{tensor.parts[0]}: expected the weight of this scale, got none")
            continue
        scale = stored.get(name + SCALE)
        if scale is not None and tensor.dtype in FP8:
            pairs = zip(tensor.parts, scale.parts, strict=True)
            parts = tuple(replace(part, scale=of, block=block) for part, of in pairs)
            tensor = Parted(name, parts, tensor.axis)
        found[name] = tensor
    return found
