"""Writing a model folder, one tensor in memory at a time: float32, bfloat16, or FP8 as DeepSeek published.

| weights | embedding, head, norms, router, eh_proj | projections of attention and FFNs | router's bias |
| --- | --- | --- | --- |
| "float32" | F32 | F32 | F32 |
| "bfloat16" | BF16 | BF16 | F32 |
| "fp8" | BF16 | F8_E4M3, and `NAME_scale_inv` F32 | F32 |

Rounding is to the nearest, ties to even. The folder is one `model.safetensors`, or, beyond `shard_bytes`,
`model-00001-of-000163.safetensors` and so on with an index. Each file appears whole or not at all; the index
comes last, so that it never names what is not there.

    >>> from minidsv3.config import ModelConfig
    >>> default_block(ModelConfig.preset("v3")), default_block(ModelConfig.preset("v3", kv_lora_rank=448))
    (64, 64)

Does not: read a folder (`folder`); choose what is kept in which format.

Next: minidsv3.checkpoint.names
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.checkpoint.atomic import FilePath, replacing
from minidsv3.checkpoint.config_json import to_hugging_face
from minidsv3.checkpoint.folder import CONFIG, INDEX, SCALE, WEIGHTS, is_ignored, listed, mtp_copies
from minidsv3.checkpoint.header import DTYPES
from minidsv3.checkpoint.quantisation_config import quantization_config
from minidsv3.checkpoint.safetensors import Later, write_safetensors
from minidsv3.checkpoint.scaled_blocks import blocks_of, encode_blocks
from minidsv3.checkpoint.stored import StoredTensor
from minidsv3.config import ModelConfig
from minidsv3.numerics import BF16

__all__ = [
    "FORMATS_OF_WEIGHTS", "SHARD_BYTES", "Values", "config_table", "default_block", "file_names",
    "is_fp8_weight", "write_folder",
]  # fmt: skip

Array = NDArray[Any]
Values = Array | StoredTensor | Callable[[], Array]  # numbers, where they lie, or how they are made
FORMATS_OF_WEIGHTS = ("float32", "bfloat16", "fp8")
SHARD_BYTES = 5_000_000_000
SMALLEST_BLOCK = 8
PIECE = 1 << 18  # numbers encoded together
_OURS = re.compile(r"model(-\d{5}-of-\d{5,6})?\.safetensors(\.index\.json)?")


def write_folder(
    folder: FilePath,
    config: ModelConfig,
    tensors: Mapping[str, Values],
    weights: str = "float32",
    mtp_copies: bool = False,
    shard_bytes: int = SHARD_BYTES,
    block: int | None = None,
) -> None:
    """Write a model folder that transformers and this package read.

    tensors: by published name: arrays, tensors of another folder, or functions that make an array, called
    once each when its turn has come.  weights: one of FORMATS_OF_WEIGHTS.
    mtp_copies: repeat embedding and head in every MTP module, as the published files do. Not by default: the
    readers we know (transformers, vLLM, this one) take the main model's, and at V3's size a pair of
    copies is 1.85 billion numbers.
    shard_bytes: of numbers in one file; a tensor with more has a file for itself.
    block: side of FP8's blocks; None: `default_block`. 128 for the published layout.
    """
    folder = Path(folder)
    if weights not in FORMATS_OF_WEIGHTS:
        raise ValueError(f"expected weights one of {FORMATS_OF_WEIGHTS}, got {weights!r}")
    for name, size in {"shard_bytes": shard_bytes, "block": 1 if block is None else block}.items():
        if type(size) is not int or size < 1:
            raise ValueError(f"expected {name} to be a whole number of at least 1, got {size!r}")
    _check_sources(folder, config, tensors)
    side = default_block(config) if block is None else block
    shards = _shards(_entries(config, tensors, weights, mtp_copies, (side, side)), shard_bytes)
    names = file_names(len(shards))
    folder.mkdir(parents=True, exist_ok=True)
    if len(names) > 1:  # should this end half-way, nothing of an earlier model is to be read in its place
        (folder / INDEX).unlink(missing_ok=True)
        (folder / WEIGHTS).unlink(missing_ok=True)
    for name, shard in zip(names, shards, strict=True):
        write_safetensors(folder / name, shard, {"format": "pt"})
    table = config_table(config, weights == "float32", (side, side) if weights == "fp8" else None)
    _write_json(folder / CONFIG, table)
    if len(names) > 1:
        _write_json(folder / INDEX, _index(names, shards))
        names.append(INDEX)
    for stale in folder.iterdir():  # of an earlier model in this place, which would be read instead
        if _OURS.fullmatch(stale.name) and stale.name not in names:
            stale.unlink()


def config_table(config: ModelConfig, wide: bool, block: tuple[int, int] | None) -> dict[str, object]:
    """The fields of `config.json` beside weights.  wide: float32, not BF16  block: of FP8 ones, else None."""
    table = to_hugging_face(config) | {"torch_dtype": "float32" if wide else "bfloat16"}
    return table if block is None else table | {"quantization_config": quantization_config(block)}


def is_fp8_weight(name: str, shape: tuple[int, ...]) -> bool:
    """Whether the published layout has this tensor in FP8: the projections of attention and of FFNs."""
    inside = ".self_attn." in name or ".mlp." in name
    return inside and len(shape) == 2 and not name.endswith(".mlp.gate.weight")


def default_block(config: ModelConfig) -> int:
    """The side of FP8's blocks that any reader takes right: the config's own, if it divides all longer sides.

    Else the largest power of two below it that does, from 8 on; else the config's own after all. The reason:
    transformers (5.23) works out the block from the shapes of weight and scale, as if every block were
    whole; of 576 rows in blocks of 128 it cannot load anything, and other sizes it scales wrongly without
    an error. V3 itself has 576 rows in blocks of 128, so `block=128` gives the published layout.
    """
    shapes = config.tensor_shapes()
    sides = {side for name, shape in shapes.items() if is_fp8_weight(name, shape) for side in shape}
    powers = (1 << power for power in range(config.fp8_block.bit_length() - 1, 2, -1))
    for block in (config.fp8_block, *powers):
        if block >= SMALLEST_BLOCK and all(side <= block or side % block == 0 for side in sides):
            return block
    return config.fp8_block


# ---- what is written ---------------------------------------------------------------------------------------


@dataclass
class _Weight:
    """A tensor on its way into a file: read or made, checked, encoded."""

    name: str
    source: Values
    shape: tuple[int, ...]
    block: tuple[int, int]
    _scale: Array | None = None  # of the codes that were made last

    def float32(self) -> Array:
        """The numbers themselves."""
        source = self.source
        array = (
            source.read() if isinstance(source, StoredTensor) else source() if callable(source) else source
        )
        if array.shape != self.shape or array.dtype.kind != "f":
            got = f"{array.dtype} {array.shape}"
            raise ValueError(f"tensor {self.name!r}: expected floating-point {self.shape}, got {got}")
        return array.astype(np.float32, copy=False)

    def bfloat16(self) -> Array:
        """Codes of BF16."""
        values = self.float32().reshape(-1)
        codes = np.empty(values.shape, np.uint16)
        for begin in range(0, len(values), PIECE):
            here = slice(begin, begin + PIECE)
            codes[here] = BF16.encode(values[here])
        return codes.reshape(self.shape)

    def fp8(self) -> Array:
        """Codes of E4M3; `scale` then has their scales. Codes stored in the same blocks are taken over."""
        source = self.source
        if isinstance(source, StoredTensor) and (source.dtype, source.block) == ("F8_E4M3", self.block):
            assert source.scale
            self._scale = source.scale.read()
            return source.raw()
        try:
            codes, self._scale = encode_blocks(self.float32(), self.block)
        except ValueError as error:
            raise ValueError(f"tensor {self.name!r}: {error}") from None
        return codes

    def scale(self) -> Array:
        """Scales of the codes that `fp8` gave."""
        assert self._scale is not None
        scale, self._scale = self._scale, None
        return scale


def _entries(
    config: ModelConfig,
    tensors: Mapping[str, Values],
    weights: str,
    with_copies: bool,
    block: tuple[int, int],
) -> Iterator[dict[str, Later]]:
    """The tensors of the files in the order of the layers, an FP8 weight together with its scales."""
    wanted = config.tensor_shapes()
    copies = mtp_copies(config) if with_copies else {}
    for name, of in {**{name: name for name in wanted}, **copies}.items():
        shape = wanted[of]
        weight = _Weight(name, tensors[of], shape, block)
        if weights == "float32" or name.endswith("e_score_correction_bias"):
            yield {name: Later("F32", shape, weight.float32)}
        elif weights == "bfloat16" or not is_fp8_weight(name, shape):
            yield {name: Later("BF16", shape, weight.bfloat16)}
        else:
            scales = blocks_of((shape[0], shape[1]), block)
            yield {
                name: Later("F8_E4M3", shape, weight.fp8),
                f"{name}{SCALE}": Later("F32", scales, weight.scale),
            }


def _shards(entries: Iterator[dict[str, Later]], shard_bytes: int) -> list[dict[str, Later]]:
    """Entries one after the other into files of at most so many bytes."""
    shards: list[dict[str, Later]] = [{}]
    filled = 0
    for entry in entries:
        size = sum(_bytes(later) for later in entry.values())
        if filled + size > shard_bytes and shards[-1]:
            shards.append({})
            filled = 0
        shards[-1] |= entry
        filled += size
    return shards


def _bytes(later: Later) -> int:
    return math.prod(later.shape) * DTYPES[later.dtype].itemsize


def file_names(count: int) -> list[str]:
    """Names of so many files, as published: five digits of how many in six; one file has no number."""
    if count == 1:
        return [WEIGHTS]
    return [f"model-{i:05d}-of-{count:06d}.safetensors" for i in range(1, count + 1)]


def _index(names: list[str], shards: list[dict[str, Later]]) -> dict[str, object]:
    total = sum(_bytes(later) for shard in shards for later in shard.values())
    weight_map = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
    return {"metadata": {"total_size": total}, "weight_map": weight_map}


def _write_json(path: Path, table: Mapping[str, object]) -> None:
    with replacing(path) as file:
        file.write(f"{json.dumps(table, indent=2)}\n".encode())


def _check_sources(folder: Path, config: ModelConfig, tensors: Mapping[str, Values]) -> None:
    """What is known before anything is written: names, shapes, and that no source lies in its own way."""
    wanted, copies = config.tensor_shapes(), mtp_copies(config)
    for name, source in tensors.items():
        if is_ignored(name):
            continue
        shape = wanted.get(copies.get(name, name))
        if shape is None:
            raise ValueError(f"{folder}: tensor {name!r}: expected none of this name by the config, got it")
        if not callable(source) and source.shape != shape:
            raise ValueError(f"{folder}: tensor {name!r}: expected {shape}, got {source.shape}")
        if isinstance(source, StoredTensor) and source.path.resolve().parent == folder.resolve():
            raise ValueError(
                f"{folder}: expected another folder than the tensors are read from, got the same"
            )
    if missing := [name for name in wanted if name not in tensors]:
        raise ValueError(f"{folder}: expected {len(wanted)} tensors, missing {listed(missing)}")
