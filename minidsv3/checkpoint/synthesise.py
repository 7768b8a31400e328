"""A model folder of the true layout without the true numbers: to measure with and to try things on.

Names, shapes, number formats, scales, files and their names are as DeepSeek published them: for the whole V3,
91,991 tensors in 163 files. The numbers are drawn, each tensor from its own stream, so that a folder depends
on its seed and on nothing else: weights near normal with the config's deviation, gains around one, scales
that differ from block to block, biases small. Through such a model activations neither vanish nor explode.

    fill="all"      every number
    fill="always"   what every token uses, and the first experts of a layer; of the others zeros, as holes
    fill="none"     headers and holes: 688 GB of V3 on a few megabytes of disk

    >>> from minidsv3.config import ModelConfig
    >>> sizes = layout(ModelConfig.preset("v3"), "fp8")
    >>> len(sizes), sum(slot.elements for slot in sizes.values()), sum(slot.nbytes for slot in sizes.values())
    (91991, 684531386000, 688574839360)

Does: whole folders, sparse where asked. Does not: imitate trained weights; they are noise.

Next: minidsv3.model
"""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.checkpoint.atomic import FilePath
from minidsv3.checkpoint.folder import COPIES
from minidsv3.checkpoint.header import DTYPES
from minidsv3.checkpoint.names import expert_of
from minidsv3.checkpoint.shards import (
    SCALE,
    Shard,
    Slot,
    check_room,
    config_text,
    in_files,
    slots_of,
    write_index_and_config,
    write_shard,
)
from minidsv3.config import ModelConfig
from minidsv3.numerics import BF16, E4M3

__all__ = ["FILLS", "Synthesised", "files_of", "layout", "synthesise"]

FILLS = ("all", "always", "none")
FORMATS = ("fp8", "bf16", "fp32")
FILE_BYTES = 4_230_000_000  # at which the whole V3 takes the published number of files, 163
PIECE, IN_CACHE = 1 << 22, 1 << 15  # numbers made together, and looked up together
GAIN_SPREAD, BIAS_SPREAD, SCALE_OCTAVES = 0.1, 0.01, 1.0
EXTRAS = (
    "embed_tokens.",
    "enorm.",
    "hnorm.",
    "eh_proj.",
    "shared_head.",
)  # of an MTP layer, beside its block

Progress = Callable[[int, int, str], None]  # bytes written, bytes to write, the file


class Synthesised(NamedTuple):
    """What was written.  bytes: of all tensors, holes included; written: of those with numbers."""

    tensors: int
    elements: int
    bytes: int
    written: int
    files: int
    file_bytes: int  # with the headers


# ---- layout -----------------------------------------------------------------------------------------------


def layout(config: ModelConfig, weights: str, mtp_copies: bool = True) -> dict[str, Slot]:
    """Every tensor of a published folder, scales and MTP copies too, in the order of the layers."""
    if weights not in FORMATS:
        raise ValueError(f"expected weights one of {FORMATS}, got {weights!r}")
    block = (config.fp8_block, config.fp8_block)
    slots: dict[str, Slot] = {}
    for name, shape in config.tensor_shapes().items():
        slots |= slots_of(name, shape, weights, block)
        layer = name.removesuffix("eh_proj.weight")
        if layer != name and mtp_copies:
            copies = {layer + copy: (config.vocab_size, config.dim) for copy in COPIES}
            slots |= {
                copy: slot for at in copies for copy, slot in slots_of(at, copies[at], weights, block).items()
            }
    return slots


def files_of(config: ModelConfig, slots: Mapping[str, Slot], files: int | None = None) -> list[Shard]:
    """Files as published: embedding and dense layers, then the MoE layers, norm and head, then each MTP
    module, whose extras are in its last file.  files: so many instead, as equal as tensors allow.
    """
    ordered = _mtp_extras_last(config, slots)
    if files is not None:
        return in_files(_equal(ordered, files))
    sections: dict[int, dict[str, Slot]] = {}
    for name, slot in ordered.items():
        sections.setdefault(_section(config, name), {})[name] = slot
    groups: list[dict[str, Slot]] = []
    for number, section in sections.items():
        tail = {name: slot for name, slot in section.items() if number > 1 and _is_extra(name)}
        body = {name: slot for name, slot in section.items() if name not in tail}
        count = math.ceil(sum(slot.nbytes for slot in body.values()) / FILE_BYTES)
        groups += _equal(body, min(count, len(_weights(body))))
        groups[-1] |= tail
    whole = sum(slot.nbytes for slot in slots.values())
    return in_files([ordered] if whole <= FILE_BYTES else groups)


def _section(config: ModelConfig, name: str) -> int:
    """0: embedding and dense layers; 1: MoE layers, norm and head; 2 and up: MTP modules."""
    layer = int(name.split(".")[2]) if name.startswith("model.layers.") else -1
    if layer >= config.n_layers:
        return layer - config.n_layers + 2
    return 0 if 0 <= layer < config.n_dense_layers or name.startswith("model.embed") else 1


def _is_extra(name: str) -> bool:
    return name.startswith("model.layers.") and name.split(".", 3)[3].startswith(EXTRAS)


def _mtp_extras_last(config: ModelConfig, slots: Mapping[str, Slot]) -> dict[str, Slot]:
    keys = {name: (max(_section(config, name), 1), _is_extra(name)) for name in slots}
    return {name: slots[name] for name in sorted(slots, key=lambda name: keys[name])}


def _weights(slots: Mapping[str, Slot]) -> list[str]:
    """All but the scales, which go where their weights go."""
    return [name for name in slots if not (name.endswith(SCALE) and name.removesuffix(SCALE) in slots)]


def _equal(slots: Mapping[str, Slot], count: int) -> list[dict[str, Slot]]:
    """Cut into so many groups of about the same bytes; a scale stays with its weight."""
    weights = _weights(slots)
    if not 1 <= count <= len(weights):
        raise ValueError(f"expected from 1 to {len(weights)} files for {len(weights)} weights, got {count}")
    groups: list[dict[str, Slot]] = []
    left, i = sum(slots[name].nbytes for name in weights), 0
    for files in range(count, 0, -1):
        goal, held, group = left / files, 0, dict[str, Slot]()
        while i < len(weights) and (not group or len(weights) - i >= files):
            slot = slots[weights[i]]
            if group and files > 1 and held + slot.nbytes / 2 > goal:
                break
            group |= {part: slots[part] for part in (weights[i], weights[i] + SCALE) if part in slots}
            held, i = held + slot.nbytes, i + 1
        left -= held
        groups.append(group)
    return groups


# ---- numbers ----------------------------------------------------------------------------------------------


def has_numbers(config: ModelConfig, name: str, fill: str) -> bool:
    """Whether a tensor is written; the others are holes."""
    if fill == "always":
        expert = expert_of(name)
        return expert is None or expert < config.n_activated_experts
    return fill == "all"


def _pieces(config: ModelConfig, name: str, slot: Slot, seed: int) -> Iterator[NDArray[Any]]:
    """The numbers of a tensor, as the file has them, a piece at a time."""
    table = _table(_kind(name), slot.dtype, config.initializer_range)
    each = table.itemsize // DTYPES[slot.dtype].itemsize  # numbers in an entry
    stream = np.random.SFC64([seed, zlib.crc32(b"a" + _original(name)), zlib.crc32(b"b" + _original(name))])
    for start in range(0, slot.elements, PIECE):
        count = min(PIECE, slot.elements - start)
        drawn = stream.random_raw(-(-count // (4 * each))).view(np.uint16)
        found = np.empty(drawn.shape, table.dtype)
        for i in range(0, len(drawn), IN_CACHE):
            np.take(table, drawn[i : i + IN_CACHE], out=found[i : i + IN_CACHE], mode="clip")
        yield found.view(DTYPES[slot.dtype])[:count]


def _original(name: str) -> bytes:
    """The tensor that a copy in an MTP layer repeats, for others themselves."""
    return next(
        (of for copy, of in COPIES.items() if name.endswith(f".{copy}") and _is_extra(name)), name
    ).encode()


def _kind(name: str) -> str:
    if name.endswith(SCALE):
        return "scale"
    if name.endswith("e_score_correction_bias"):
        return "bias"
    return "gain" if "norm." in name else "weight"


@lru_cache
def _table(kind: str, dtype: str, deviation: float) -> NDArray[Any]:
    """The 65,536 entries to choose among, equally likely, in a format: numbers, or pairs of FP8 codes.

    Quantiles of the normal distribution; of FP8 codes 256, stretched so that the largest is the format's, as
    in a block whose scale is amax / 448; scales are spread over an octave.
    """
    size = 256 if dtype == "F8_E4M3" else 65536
    share = (np.arange(size) + 0.5) / size
    quantile = NormalDist().inv_cdf
    normal = np.array([quantile(x) for x in share])
    unit = E4M3.largest / quantile(1 - 0.5 / 256)  # what a deviation of one is in codes
    values = {
        "weight": normal * (unit if dtype == "F8_E4M3" else deviation),
        "scale": deviation / unit * 2 ** (SCALE_OCTAVES * (share - 0.5)),
        "gain": 1 + GAIN_SPREAD * normal,
        "bias": BIAS_SPREAD * normal,
    }[kind].astype(np.float32)
    if dtype == "F8_E4M3":
        codes = E4M3.encode(values).astype(np.uint16)
        return (codes + (codes[:, None] << 8)).reshape(-1)
    return BF16.encode(values).astype(np.uint16) if dtype == "BF16" else values


# ---- writing ----------------------------------------------------------------------------------------------


def synthesise(
    folder: FilePath,
    config: ModelConfig,
    weights: str = "fp8",
    fill: str = "all",
    seed: int = 0,
    files: int | None = None,
    mtp_copies: bool = True,
    progress: Progress = lambda done, total, file: None,
) -> Synthesised:
    """Write a model folder; `config.json` comes last, so that half a folder is no model.

    weights: "fp8", "bf16" or "fp32".  fill: one of FILLS.  ValueError if the folder holds something; OSError
    if the disk has no room for it.
    """
    folder = Path(folder)
    _check_options(folder, fill, seed)
    slots = layout(config, weights, mtp_copies)
    shards = files_of(config, slots, files)
    filled = {name for name in slots if has_numbers(config, name, fill)}
    made = Synthesised(
        tensors=len(slots),
        elements=sum(slot.elements for slot in slots.values()),
        bytes=sum(slot.nbytes for slot in slots.values()),
        written=sum(slots[name].nbytes for name in filled),
        files=len(shards),
        file_bytes=sum(shard.size for shard in shards),
    )
    folder.mkdir(parents=True, exist_ok=True)
    check_room(folder, made.written + made.file_bytes - made.bytes, made.bytes - made.written)
    done = 0

    def numbers(file: BinaryIO, name: str, offset: int) -> None:
        nonlocal done
        if name not in filled:
            return
        file.seek(offset)
        for piece in _pieces(config, name, slots[name], seed):
            file.write(piece.data)
            done += piece.nbytes
            progress(done, made.written, shard.file)

    for shard in shards:
        write_shard(folder, shard, numbers)
    write_index_and_config(folder, shards, config_text(config, weights, config.fp8_block))
    return made


def _check_options(folder: Path, fill: str, seed: int) -> None:
    if fill not in FILLS:
        raise ValueError(f"expected fill one of {FILLS}, got {fill!r}")
    if seed < 0:
        raise ValueError(f"expected a seed >= 0, got {seed}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"expected a new or an empty folder, got {folder}, which holds something")
