"""A model folder in Hugging Face's layout: `config.json` and the weights beside it.

    config.json                       sizes, read by `config_json`, and how FP8 weights are scaled
    model.safetensors                 every tensor under its published name, or
    model.safetensors.index.json      {"weight_map": {tensor name: file name}} and
    model-00001-of-000163.safetensors ... the files it names

`ModelConfig.tensor_shapes()` says which tensors there must be; one that is missing, unknown or of another
shape is named. The scale of an FP8 weight, `NAME_scale_inv`, may lie in another file than the weight. MTP
modules are the layers after the last; published files repeat embedding and head in each (`embed_tokens`,
`shared_head.head`), the main model's own, which are put aside (`Folder.copies`).

A file name that an index gives never leads out of the folder, by `..`, by an absolute path or by a link.
Pickles (`.bin`, `.pt`) are refused by name and never opened: to read one is to run it.

    >>> read_folder("no/such/folder")
    Traceback (most recent call last):
    ValueError: expected a model folder with config.json, got no/such/folder: no such folder

Does not: compare the numbers in copies; read a number before it is asked for.

Next: minidsv3.checkpoint.saving
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidsv3.checkpoint.atomic import FilePath
from minidsv3.checkpoint.config_json import from_hugging_face
from minidsv3.checkpoint.header import CheckpointError, parse_json, shown
from minidsv3.checkpoint.quantisation_config import weight_block
from minidsv3.checkpoint.safetensors import SafetensorsFile
from minidsv3.checkpoint.scaled_blocks import blocks_of
from minidsv3.checkpoint.stored import FLOATS, FP8, StoredTensor, stored_tensors
from minidsv3.config import ModelConfig

__all__ = [
    "CONFIG",
    "COPIES",
    "INDEX",
    "SCALE",
    "WEIGHTS",
    "Folder",
    "is_ignored",
    "listed",
    "load_json",
    "mtp_copies",
    "open_folder",
    "read_folder",
]

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
LONGEST_NAME = 255  # bytes; of a file in most systems
LONGEST_MESSAGE = 1000  # characters; a config may have any text in it
JSON_LIMIT = 100_000_000  # bytes; V3's index has 9 million
SCALE = "_scale_inv"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
COPIES = {"embed_tokens.weight": "model.embed_tokens.weight", "shared_head.head.weight": "lm_head.weight"}


@dataclass(frozen=True)
class Folder:
    """An open model folder: what is in it, by name; no numbers are read."""

    path: Path
    config: ModelConfig
    config_table: dict[str, object]  # config.json as it stands
    block: tuple[int, int] | None  # rows and columns that share a scale, where config.json says so
    files: tuple[Path, ...]  # of weights
    stored: Mapping[str, StoredTensor]  # every tensor of the files, scales and copies too, by its own name

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        """The model's tensors in the order of its layers, FP8 ones with their scales; then unknown ones."""
        wanted = self.config.tensor_shapes()
        aside = {*mtp_copies(self.config), *self._scales}
        names = [name for name in wanted if name in self.stored]
        names += [name for name in self.stored if name not in wanted and name not in aside]
        return {name: self._scaled(name) for name in names if not is_ignored(name)}

    @cached_property
    def copies(self) -> dict[str, StoredTensor]:
        """Embeddings and heads that the files repeat in MTP modules."""
        return {name: self._scaled(name) for name in mtp_copies(self.config) if name in self.stored}

    @cached_property
    def _scales(self) -> set[str]:
        """Names of the scales that belong to an FP8 weight."""
        weights = (name for name, tensor in self.stored.items() if tensor.dtype in FP8)
        return {f"{name}{SCALE}" for name in weights if f"{name}{SCALE}" in self.stored}

    def _scaled(self, name: str) -> StoredTensor:
        tensor = self.stored[name]
        scale = self.stored.get(f"{name}{SCALE}") if tensor.dtype in FP8 else None
        return replace(tensor, scale=scale, block=self.block) if scale else tensor

    def problems(self) -> Iterator[str]:
        """All that does not fit the config, in words: names, shapes, number formats, scales."""
        wanted, copies = self.config.tensor_shapes(), mtp_copies(self.config)
        for name, tensor in self.stored.items():
            if name not in self._scales and not is_ignored(name):
                yield from self._tensor_problems(tensor, wanted.get(copies.get(name, name)))
        if missing := [name for name in wanted if name not in self.stored]:
            yield f"{self.path}: expected {len(wanted)} tensors, missing {listed(missing)}"

    def _tensor_problems(self, tensor: StoredTensor, shape: tuple[int, ...] | None) -> Iterator[str]:
        got = f"{tensor.dtype} {tensor.shape}"
        if tensor.name.endswith(SCALE) and shape is None:
            weight = tensor.name.removesuffix(SCALE)
            yield f"{tensor}: expected an FP8 weight {shown(weight)}, which it scales, got none"
        elif shape is None:
            yield f"{tensor}: expected none of this name by {CONFIG}, got {got}"
        elif tensor.shape != shape or tensor.dtype not in FLOATS:
            yield f"{tensor}: expected floating-point {shape}, got {got}"
        elif tensor.dtype in FP8:
            yield from self._scale_problems(tensor)

    def _scale_problems(self, weight: StoredTensor) -> Iterator[str]:
        scale = self.stored.get(f"{weight.name}{SCALE}")
        if self.block is None:
            yield f"{weight}: expected quantization_config in {CONFIG}, as for any FP8 weight, got none"
        elif scale is None:
            yield f"{weight}: expected a scale, {shown(weight.name + SCALE)}, got none"
        elif len(weight.shape) != 2:
            yield f"{weight}: expected a matrix, as FP8 weights are, got {weight.shape}"
        else:
            rows, columns = weight.shape
            wanted = blocks_of((rows, columns), self.block)
            if scale.shape != wanted or scale.dtype not in ("F32", "BF16"):
                got = f"{scale.dtype} {scale.shape}"
                blocks = f"blocks of {self.block} of {weight.shape}"
                yield f"{scale}: expected F32 or BF16 {wanted}, a scale for each of the {blocks}, got {got}"


def open_folder(folder: FilePath, check: bool = True) -> Folder:
    """Open a model folder: read its config and the headers of its files, and no numbers.

    check: hold the tensors against the config; otherwise `Folder.problems` tells what does not fit.
    Where a config announces MTP modules and the files hold none (converters often leave them out), the
    config that comes back has none either.
    """
    folder = Path(folder)
    _check_is_model(folder)
    where = str(folder / CONFIG)
    table = load_json(_inside(folder, CONFIG))
    if "dim" in table and "hidden_size" not in table:
        how = "`minidsv3 checkpoint convert` makes one of the other"
        raise CheckpointError(f"{where}: expected Hugging Face's layout, got DeepSeek's own: {how}")
    block = weight_block(table.get("quantization_config"), where)
    fields = {name: value for name, value in table.items() if name != "quantization_config"}
    try:
        config = from_hugging_face(fields, where)
    except ValueError as error:
        raise CheckpointError(f"{error}"[:LONGEST_MESSAGE]) from None
    files, stored = _open_files(folder)
    modules = (
        _layer(name) >= config.n_layers for name in reversed(stored)
    )  # where published files have them
    if config.n_mtp_layers and not any(modules):
        config = replace(config, n_mtp_layers=0)
    _check_size(config, len(stored), folder)
    opened = Folder(folder, config, table, block, files, stored)
    if check:
        for problem in opened.problems():
            raise CheckpointError(problem)
    return opened


def read_folder(folder: FilePath) -> tuple[ModelConfig, dict[str, NDArray[np.float32]]]:
    """Read a model folder: its sizes, and its tensors as read-only float32, by published name.

    What is stored as float32 is mapped and not copied; the rest is read, and dequantised where it is FP8.
    """
    opened = open_folder(folder)
    tensors = {
        name: tensor.raw() if tensor.dtype == "F32" else tensor.read()
        for name, tensor in opened.tensors.items()
    }
    for array in tensors.values():
        array.flags.writeable = False
    return opened.config, tensors


def mtp_copies(config: ModelConfig) -> dict[str, str]:
    """Names of the MTP modules' embeddings and heads, and of the tensors that they repeat."""
    layers = range(config.n_layers, config.n_layers + config.n_mtp_layers)
    return {f"model.layers.{layer}.{name}": of for layer in layers for name, of in COPIES.items()}


# ---- files -------------------------------------------------------------------------------------------------


def _check_is_model(folder: Path) -> None:
    if (folder / CONFIG).is_file():
        return
    if not folder.is_dir():
        raise ValueError(f"expected a model folder with {CONFIG}, got {folder}: no such folder")
    why = "no such file in it"
    if (folder / "model" / CONFIG).is_file():
        why = f"that is a run folder; its model is {folder / 'model'}"
    raise CheckpointError(f"expected a model folder with {CONFIG}, got {folder}: {why}")


def _open_files(folder: Path) -> tuple[tuple[Path, ...], dict[str, StoredTensor]]:
    """The files of weights, and all tensors in them."""
    if (folder / WEIGHTS).is_file():
        file = SafetensorsFile(_inside(folder, WEIGHTS))
        return (file.path,), stored_tensors(file)
    if (folder / INDEX).is_file():
        return _open_shards(folder)
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    got = f"{pickles[0]}, a pickle, which is never opened" if pickles else "neither"
    raise CheckpointError(f"{folder}: expected {WEIGHTS} or {INDEX}, got {got}")


def _open_shards(folder: Path) -> tuple[tuple[Path, ...], dict[str, StoredTensor]]:
    weight_map = _weight_map(_inside(folder, INDEX))
    named = {name: f"{folder / INDEX}: tensor {shown(tensor)}" for tensor, name in weight_map.items()}
    paths = {name: _inside(folder, name, named[name]) for name in sorted(named)}  # all, before one is read
    files: list[Path] = []
    tensors: dict[str, StoredTensor] = {}
    for name, path in paths.items():
        file = SafetensorsFile(path)
        files.append(file.path)
        for tensor, stored in stored_tensors(file).items():
            if weight_map.get(tensor) != name:  # which also means that no tensor comes twice
                where = weight_map.get(tensor, "no file")
                raise CheckpointError(f"{stored}: expected in {where} by {INDEX}, got it here")
            tensors[tensor] = stored
    for tensor, name in weight_map.items():
        if tensor not in tensors:
            raise CheckpointError(
                f"{folder / name}: expected tensor {shown(tensor)}, as {INDEX} says, got none"
            )
    return tuple(files), tensors


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = load_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        wanted = "weight_map, an object from tensor names to file names"
        raise CheckpointError(f"{index}: expected {wanted}, got {shown(weight_map)}")
    if strange := [file for file in weight_map.values() if not file.endswith(".safetensors")]:
        raise CheckpointError(f"{index}: expected names of .safetensors files, got {shown(strange[0])}")
    return weight_map


def _inside(folder: Path, name: str, where: str = "") -> Path:
    """The path of a file of the folder; CheckpointError if the name leads elsewhere.  where: who names it."""
    bare = name.isprintable() and name == Path(name).name and "\\" not in name  # no \0, no half a surrogate
    if not bare or len(name.encode()) > LONGEST_NAME:
        raise CheckpointError(
            f"{where or folder}: expected the bare name of a file in the folder, got {shown(name)}"
        )
    homes = [folder.resolve()]
    if folder.parent.name == "snapshots":  # the hub's cache: snapshots/REVISION/* are links to blobs/*
        homes.append(folder.resolve().parent.parent / "blobs")
    if (folder / name).resolve().parent not in homes:
        raise CheckpointError(f"{folder / name}: expected a file inside the folder, got a link out of it")
    return folder / name


def load_json(path: Path) -> dict[str, object]:
    """A JSON object from a file of limited size; CheckpointError if it is none."""
    if (size := path.stat().st_size) > JSON_LIMIT:
        raise CheckpointError(f"{path}: expected at most {JSON_LIMIT} bytes, got {size}")
    return parse_json(path.read_bytes(), str(path))


# ---- names -------------------------------------------------------------------------------------------------


def _check_size(config: ModelConfig, held: int, folder: Path) -> None:
    """Refuse a config that asks for far more tensors than there are, before they are listed one by one."""
    layers = config.n_layers + config.n_mtp_layers
    experts = config.n_routed_experts * (layers - config.n_dense_layers)
    wanted = layers + 3 * experts  # too few by some a layer
    if wanted > 10 * held + 1000:
        sizes = f"{layers} layers of {config.n_routed_experts} experts"
        raise CheckpointError(f"{folder}: expected over {wanted} tensors for {sizes} by {CONFIG}, got {held}")


def is_ignored(name: str) -> bool:
    """Whether a tensor is no part of the model wherever it stands."""
    return name.endswith(".rotary_emb.inv_freq")  # computed from rope_theta; old files stored it


def _layer(name: str) -> int:
    number = name.removeprefix("model.layers.").split(".")[0]
    return int(number) if name.startswith("model.layers.") and number.isdecimal() else -1


def listed(names: Iterable[str], at_most: int = 3) -> str:
    """The first names of some, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(map(repr, names[:at_most])) + more
