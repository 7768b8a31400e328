"""From one checkpoint to another: FP8, BF16 and float32, Hugging Face's layout and DeepSeek's own.

Numbers stream through in bands of rows: one band of one tensor is in memory, however large the model. FP8 to
BF16 is code x scale in float32, rounded once, as DeepSeek's own script does it; FP8 to FP8 in the same blocks
is a copy, bit for bit; to FP8 from wider numbers a block's scale is amax / 448.

A conversion that was killed goes on where it was: a file that is there is whole (`shards`), and a plan beside
them (`.conversion.json`) says what was being made of what. Another plan in the same folder is refused.

    >>> bytes_of("5GB"), bytes_of("500 MB"), bytes_of("2GiB")
    (5000000000, 500000000, 2147483648)

Does: convert, cut for DeepSeek's ranks and join again, check room on the disk first. Does not: change a
number more than the formats ask; make MTP modules where there are none.

Next: minidsv3.checkpoint.synthesise
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.checkpoint.atomic import FilePath, replacing
from minidsv3.checkpoint.config_json import to_hugging_face
from minidsv3.checkpoint.folder import load_json, mtp_copies, open_folder
from minidsv3.checkpoint.header import DTYPES, CheckpointError
from minidsv3.checkpoint.inspect import inspect_checkpoint
from minidsv3.checkpoint.names import (
    official_differences,
    official_file,
    official_name,
    share,
    to_official,
)
from minidsv3.checkpoint.official import COMPANION, Parted, is_official, open_official
from minidsv3.checkpoint.scaled_blocks import encode_blocks
from minidsv3.checkpoint.shards import (
    CONFIG,
    SCALE,
    Shard,
    Slot,
    by_width,
    check_room,
    config_text,
    in_files,
    pack,
    slots_of,
    write_index_and_config,
    write_shard,
)
from minidsv3.config import ModelConfig
from minidsv3.numerics import BF16

__all__ = ["LAYOUTS", "Converted", "Target", "bytes_of", "convert"]

LAYOUTS = ("hugging-face", "official")
PLAN = ".conversion.json"
BESIDE = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json")
LARGEST_BESIDE = 100_000_000  # bytes of such a file
PIECE = 1 << 22  # numbers in memory: 16 MB of float32
OFFICIAL_BLOCK = 128  # the only one that DeepSeek's code computes with
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

Progress = Callable[[int, int, str], None]  # bytes written, bytes to write, the file


@dataclass(frozen=True)
class Target:
    """What to make.  block: side of FP8's blocks, None: the source's, or 128."""

    weights: str = "bf16"  # "fp8", "bf16" or "fp32"
    layout: str = "hugging-face"  # or "official"
    ranks: int = 1  # files of the official layout
    block: int | None = None
    shard_bytes: int = 5_000_000_000
    mtp: bool = True  # keep MTP modules; DeepSeek's own layout has none
    mtp_copies: bool = False  # repeat embedding and head in them, as published

    def check(self) -> None:
        """ValueError on what does not go together."""
        if self.weights not in ("fp8", "bf16", "fp32"):
            raise ValueError(f"expected weights fp8, bf16 or fp32, got {self.weights!r}")
        if self.layout not in LAYOUTS:
            raise ValueError(f"expected a layout among {', '.join(LAYOUTS)}, got {self.layout!r}")
        least = min(self.ranks, self.shard_bytes, self.block or 1)
        if least < 1 or self.block == 0:
            got = f"{self.ranks}, {self.shard_bytes} and {self.block}"
            raise ValueError(f"expected ranks, shard size and block of at least 1, got {got}")
        if self.layout != "official" and self.ranks > 1:
            raise ValueError(f"expected ranks 1 in Hugging Face's layout, got {self.ranks}")
        if self.layout == "official" and self.mtp_copies:
            raise ValueError("expected no MTP copies in DeepSeek's own layout, which has no MTP modules")
        if self.layout == "official" and self.weights == "fp32":
            raise ValueError("expected fp8 or bf16 for DeepSeek's own code, got fp32, which it does not load")


class Converted(NamedTuple):
    """What was done."""

    path: Path
    tensors: int
    bytes: int  # of all files
    files: int
    kept_files: int  # finished by an earlier run
    notes: list[str]


@dataclass(frozen=True)
class Source:
    """An open checkpoint of either layout, held against its config."""

    path: Path
    config: ModelConfig
    tensors: Mapping[str, Parted]  # by published name
    block: tuple[int, int] | None
    files: tuple[Path, ...]

    @classmethod
    def open(cls, path: Path) -> "Source":
        """CheckpointError where something does not fit; no number is read."""
        if not is_official(path):
            folder = open_folder(path)
            tensors = {name: Parted(name, (tensor,)) for name, tensor in folder.tensors.items()}
            return cls(path, folder.config, tensors, folder.block, folder.files)
        for finding in inspect_checkpoint(path).findings:
            raise CheckpointError(str(finding))
        own = open_official(path)
        return cls(path, own.config, own.tensors, own.block, own.files)

    def fingerprint(self) -> str:
        """Changes when a file of the source does."""
        stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self.files]
        text = repr((stats, (self.path / CONFIG).read_bytes()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Piece:
    """A tensor of the target, or a rank's part of one: where it comes from and what it becomes."""

    source: Parted
    part: tuple[slice, ...]  # of the source: rows, columns
    slot: Slot
    block: tuple[int, int]
    scale: str = ""  # name of its scale in the target, where it has one

    @cached_property
    def is_copy(self) -> bool:
        """Whether the stored numbers are taken over as they are."""
        same = self.source.dtype == self.slot.dtype
        return same and (not self.scale or self.source.block == self.block)

    def bands(self) -> Iterator[slice]:
        """Rows that are converted together, of the source; whole blocks."""
        rows = self.part[0]
        width = max(int(np.prod(self.source.shape[1:], dtype=np.int64)), 1)
        step = max(PIECE // width // self.block[0], 1) * self.block[0]
        for start in range(rows.start, rows.stop, step):
            yield slice(start, min(start + step, rows.stop))

    def numbers(self, rows: slice) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """A band as the target has it, and the scales of its blocks if they are made here."""
        columns = self.part[1:]
        if self.is_copy:
            return self.source.codes(rows)[(slice(None), *columns)], None
        values = np.ascontiguousarray(self.source.read(rows)[(slice(None), *columns)])
        if self.slot.dtype == "F8_E4M3":
            try:
                return encode_blocks(values, self.block)
            except ValueError as error:
                raise CheckpointError(f"{self.source.parts[0]}: {error}") from None
        return (BF16.encode(values) if self.slot.dtype == "BF16" else values), None

    def copied_scales(self) -> NDArray[np.float32]:
        """Scales of a copy: those of its blocks."""
        of = tuple(
            slice(cut.start // side, -(-cut.stop // side))
            for cut, side in zip(self.part, self.block, strict=True)
        )
        return self.source.scales()[of]


Job = tuple[Shard, dict[str, Piece]]


# ---- converting -------------------------------------------------------------------------------------------


def convert(
    source: FilePath,
    target: FilePath,
    wanted: Target,
    progress: Progress = lambda done, total, file: None,
) -> Converted:
    """Convert a folder into another, new one; goes on where an earlier call with the same plan was stopped.

    CheckpointError if the source cannot be read or a number in it is none, ValueError if the request makes no
    sense, OSError if the disk is too small.
    """
    wanted.check()
    folder = Path(target)
    _check_apart(Path(source), folder)
    opened = Source.open(Path(source))
    config, block, notes = _settle(opened, wanted)
    jobs = plan(opened, config, wanted, block)
    _begin(folder, opened, wanted, block)
    left = [job for job in jobs if not job[0].is_written(folder)]
    check_room(folder, sum(shard.size for shard, _ in left))
    clock = _Clock(sum(shard.data_bytes for shard, _ in left), progress)
    for shard, pieces in left:
        _write(folder, shard, pieces, clock)
    shards = [shard for shard, _ in jobs]
    _finish(opened.path, folder, config, wanted, block, shards)
    tensors, size = sum(len(shard.slots) for shard in shards), sum(shard.size for shard in shards)
    return Converted(folder, tensors, size, len(jobs), len(jobs) - len(left), notes)


def _check_apart(source: Path, target: Path) -> None:
    one, other = source.resolve(), target.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise ValueError(f"expected two folders, neither inside the other, got {source} and {target}")


def _settle(source: Source, wanted: Target) -> tuple[ModelConfig, int, list[str]]:
    """Config and block of the target, and what a reader should know."""
    square = source.block is None or source.block[0] == source.block[1]
    if wanted.weights == "fp8" and wanted.block is None and not square:
        raise ValueError(f"expected --block, as the source has blocks of {source.block}, got none")
    block = wanted.block or (source.block[0] if source.block else OFFICIAL_BLOCK)
    config, notes = source.config, []
    if config.n_mtp_layers and (wanted.layout == "official" or not wanted.mtp):
        notes.append(f"left out: MTP modules ({config.n_mtp_layers})")
        config = replace(config, n_mtp_layers=0)
    if wanted.layout == "official":
        notes += [
            f"DeepSeek's own code computes this model with {said}" for said in official_differences(config)
        ]
        if wanted.weights == "fp8" and block != OFFICIAL_BLOCK:
            notes.append(f"DeepSeek's own code computes with blocks of {OFFICIAL_BLOCK}, not {block}")
    return config, block, notes


def plan(source: Source, config: ModelConfig, wanted: Target, block: int) -> list[Job]:
    """Every file of the target, and where each of its tensors comes from."""
    if wanted.layout == "official":
        return [_rank(source, config, wanted, block, rank) for rank in range(wanted.ranks)]
    copies = mtp_copies(config) if wanted.mtp_copies else {}
    originals = {name: name for name in config.tensor_shapes()} | copies
    pieces: dict[str, Piece] = {}
    slots: dict[str, Slot] = {}
    for name, original in originals.items():
        tensor = source.tensors[original]
        part = tuple(slice(0, size) for size in tensor.shape)
        slots |= _slots(name, tensor, part, wanted.weights, block)
        pieces[name] = _piece(tensor, part, slots, name, block)
    groups = pack(slots, wanted.shard_bytes)
    return [
        (shard, {name: pieces[name] for name in shard.slots if name in pieces}) for shard in in_files(groups)
    ]


def _rank(source: Source, config: ModelConfig, wanted: Target, block: int, rank: int) -> Job:
    """The file of one rank."""
    slots: dict[str, Slot] = {}
    pieces: dict[str, Piece] = {}
    for name, shape in config.tensor_shapes().items():
        part = share(name, shape, rank, wanted.ranks, config.n_routed_experts)
        if part is None:
            continue
        own = _slots(name, source.tensors[name], part, wanted.weights, block)
        if len(own) > 1:
            _check_whole_blocks(name, shape, part, block)
        slots |= own
        pieces[name] = _piece(source.tensors[name], part, slots, name, block)
    renamed = {official_name(name): slot for name, slot in slots.items()}
    by_name = {
        official_name(name): replace(piece, scale=piece.scale and official_name(piece.scale))
        for name, piece in pieces.items()
    }
    return Shard(official_file(rank, wanted.ranks), by_width(renamed)), by_name


def _slots(name: str, tensor: Parted, part: tuple[slice, ...], weights: str, block: int) -> dict[str, Slot]:
    shape = tuple(cut.stop - cut.start for cut in part)
    return slots_of(name, shape, weights, (block, block))


def _piece(
    tensor: Parted, part: tuple[slice, ...], slots: Mapping[str, Slot], name: str, block: int
) -> Piece:
    scale = name + SCALE if name + SCALE in slots else ""
    return Piece(tensor, part, slots[name], (block, block), scale)


def _check_whole_blocks(name: str, shape: tuple[int, ...], part: tuple[slice, ...], block: int) -> None:
    """A rank's part of an FP8 weight must consist of whole blocks, or its scales would be others."""
    for size, cut in zip(shape, part, strict=True):
        if cut.stop - cut.start < size and (cut.stop - cut.start) % block:
            raise ValueError(
                f"tensor {name!r}: expected ranks that cut it between blocks of {block}, "
                f"got parts of {cut.stop - cut.start}; take fewer ranks, or bf16"
            )


# ---- files ------------------------------------------------------------------------------------------------


def _begin(folder: Path, source: Source, wanted: Target, block: int) -> None:
    """Leave the plan in a new folder, or find the same in one that was begun."""
    asked: dict[str, Any] = {"source": str(source.path.resolve()), "fingerprint": source.fingerprint()}
    asked |= asdict(wanted) | {"block": block}
    path = folder / PLAN
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"expected a new or an empty folder, got {folder}, which holds something")
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write((json.dumps(asked, indent=1) + "\n").encode())
        return
    begun = load_json(path)
    for name, value in asked.items():
        if begun.get(name) != value:
            raise ValueError(
                f"{folder}: expected to go on with {name} {begun.get(name)!r}, with which this conversion "
                f"was begun, got {value!r}: take that, or another folder"
            )


@dataclass
class _Clock:
    """How far a conversion is."""

    total: int  # bytes to write
    progress: Progress
    done: int = 0

    def add(self, bytes_: int, file: str) -> None:
        """So many more are written."""
        self.done += bytes_
        self.progress(self.done, self.total, file)


def _write(folder: Path, shard: Shard, pieces: Mapping[str, Piece], clock: _Clock) -> None:
    """One file, band by band."""

    def fill(file: BinaryIO, name: str, offset: int) -> None:
        if name not in pieces:  # a scale, which is written with its weight
            return
        piece, scales = pieces[name], []
        for rows in piece.bands():
            numbers, scale = piece.numbers(rows)
            row_bytes = piece.slot.nbytes // max(piece.slot.shape[0], 1)
            file.seek(offset + (rows.start - piece.part[0].start) * row_bytes)
            file.write(_little_endian(numbers, piece.slot.dtype))
            scales += [] if scale is None else [scale]
            clock.add(numbers.nbytes, shard.file)
        if piece.scale:
            scale = piece.copied_scales() if piece.is_copy else np.concatenate(scales)
            file.seek(shard.offsets[piece.scale])
            file.write(_little_endian(scale, "F32"))
            clock.add(scale.nbytes, shard.file)

    write_shard(folder, shard, fill)


def _little_endian(numbers: NDArray[Any], dtype: str) -> memoryview:
    return np.ascontiguousarray(numbers.astype(DTYPES[dtype], copy=False)).reshape(-1).view(np.uint8).data


def _finish(
    source: Path, folder: Path, config: ModelConfig, wanted: Target, block: int, shards: list[Shard]
) -> None:
    """Config, index and what lies beside; then the plan has served."""
    for name in BESIDE:
        path = source / name
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST_BESIDE:
            with replacing(folder / name) as file:
                file.write(path.read_bytes())
    if wanted.layout == "official":
        whole = to_hugging_face(replace(config, fp8_block=block))
        own = to_official(config, wanted.weights)
        for name, table in {COMPANION: whole, CONFIG: own}.items():
            with replacing(folder / name) as file:
                file.write((json.dumps(table, indent=2) + "\n").encode())
    else:
        write_index_and_config(folder, shards, config_text(config, wanted.weights, block))
    (folder / PLAN).unlink()


def bytes_of(text: str) -> int:
    """A size in bytes, from words such as 5GB or 512 MiB; ValueError on anything else."""
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]*)\s*", text)
    if not found or found[2].upper() not in _UNITS:
        raise ValueError(f"expected a size such as 5GB or 512MiB, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2].upper()])
