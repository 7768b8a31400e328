"""A model folder in Hugging Face's layout: `config.json` and the weights beside it.

    config.json                       sizes, read by `config_json`
    model.safetensors                 every tensor under its published name, or
    model.safetensors.index.json      {"weight_map": {tensor name: file name}} and
    model-00001-of-000163.safetensors ... the files it names

`ModelConfig.tensor_shapes()` says which tensors there must be; one that is missing, unknown or of another
shape is named. MTP modules are the layers after the last; published files repeat embedding and head in each
(`embed_tokens`, `shared_head.head`). Those copies are accepted and dropped: they are the main model's own.

A file name that an index gives never leads out of the folder, by `..`, by an absolute path or by a link.
Pickles (`.bin`, `.pt`) are refused by name and never opened: to read one is to run it.

    >>> read_folder("no/such/folder")
    Traceback (most recent call last):
    ValueError: expected a model folder with config.json, got no/such/folder: no such folder

Does not: write shards, FP8 or BF16; compare the numbers in the copies that it drops.

Next: minidsv3.model
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from minidsv3.checkpoint.atomic import FilePath, replacing
from minidsv3.checkpoint.config_json import from_hugging_face, to_hugging_face
from minidsv3.checkpoint.header import parse_json
from minidsv3.checkpoint.safetensors import Tensor, read_safetensors, write_safetensors
from minidsv3.config import ModelConfig

__all__ = ["read_folder", "write_folder"]

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
JSON_LIMIT = 100_000_000  # bytes; V3's index has 9 million
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_COPIES = {"embed_tokens.weight": "model.embed_tokens.weight", "shared_head.head.weight": "lm_head.weight"}


def read_folder(folder: FilePath) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Read a model folder: its sizes, and its tensors by published name, mapped and not copied.

    Where a config announces MTP modules and the files hold none (converters often leave them out), the
    config that comes back has none either.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        why = "no such file in it" if folder.is_dir() else "no such folder"
        if (folder / "model" / CONFIG).is_file():
            why = f"that is a run folder; its model is {folder / 'model'}"
        raise ValueError(f"expected a model folder with {CONFIG}, got {folder}: {why}")
    config = from_hugging_face(_load_json(_inside(folder, CONFIG)), str(folder / CONFIG))
    tensors = _read_tensors(folder)
    if config.n_mtp_layers and not any(_layer(name) >= config.n_layers for name in tensors):
        config = replace(config, n_mtp_layers=0)
    return config, _checked(tensors, config, folder)


def write_folder(
    folder: FilePath, config: ModelConfig, tensors: Mapping[str, Tensor], mtp_copies: bool = False
) -> None:
    """Write a model folder; each file appears whole or not at all.

    mtp_copies: repeat embedding and head in every MTP module, as the published files do. Not by default: the
    readers we know (transformers, vLLM, this one) take the main model's, and at V3's size a pair of
    copies is 1.85 billion numbers.
    """
    folder = Path(folder)
    tensors = _checked(dict(tensors), config, folder)
    if mtp_copies:
        tensors |= {copy: tensors[original] for copy, original in _copies(config).items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / WEIGHTS, tensors, {"format": "np"})
    widest = max((tensor.dtype for tensor in tensors.values()), key=lambda dtype: dtype.itemsize)
    text = json.dumps(to_hugging_face(config) | {"torch_dtype": widest.name}, indent=2)
    with replacing(folder / CONFIG) as file:
        file.write(f"{text}\n".encode())


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    if (folder / WEIGHTS).is_file():
        return read_safetensors(_inside(folder, WEIGHTS))
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    got = f"{pickles[0]}, a pickle, which is never opened" if pickles else "neither"
    raise ValueError(f"{folder}: expected {WEIGHTS} or {INDEX}, got {got}")


def _read_shards(folder: Path) -> dict[str, Tensor]:
    index = _inside(folder, INDEX)
    weight_map = _load_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise ValueError(f"{index}: expected weight_map, an object from tensor names to file names")
    if strange := [file for file in weight_map.values() if not file.endswith(".safetensors")]:
        raise ValueError(f"{index}: expected names of .safetensors files, got {strange[0]!r}")
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(weight_map.values())):
        shard = read_safetensors(_inside(folder, file))
        for name in shard:
            if weight_map.get(name) != file:  # which also means that no tensor comes twice
                where = weight_map.get(name, "no file")
                raise ValueError(
                    f"{folder / file}: tensor {name!r}: expected in {where} by {INDEX}, got it here"
                )
        tensors |= shard
    for name, file in weight_map.items():
        if name not in tensors:
            raise ValueError(f"{folder / file}: expected tensor {name!r}, as {INDEX} says, got none")
    return tensors


def _inside(folder: Path, name: str) -> Path:
    """The path of a file of the folder; ValueError if the name leads elsewhere."""
    if name != Path(name).name or "\\" in name or "\0" in name:
        raise ValueError(f"{folder}: expected the bare name of a file in it, got {name!r}")
    homes = [folder.resolve()]
    if folder.parent.name == "snapshots":  # the hub's cache: snapshots/REVISION/* are links to blobs/*
        homes.append(folder.resolve().parent.parent / "blobs")
    if (folder / name).resolve().parent not in homes:
        raise ValueError(f"{folder / name}: expected a file inside the folder, got a link out of it")
    return folder / name


def _checked(tensors: dict[str, Tensor], config: ModelConfig, folder: Path) -> dict[str, Tensor]:
    """Hold tensors against the config; give those of the model, in the order of its layers."""
    _check_size(config, len(tensors), folder)
    wanted = config.tensor_shapes()
    copies = _copies(config)
    for name, tensor in tensors.items():
        shape = wanted.get(copies.get(name, name))
        if name.endswith(".rotary_emb.inv_freq"):  # computed from rope_theta; old files stored it
            continue
        if shape is None:
            raise ValueError(
                f"{folder}: tensor {name!r}: expected none of this name by {CONFIG}, got {tensor.shape}"
            )
        if tensor.shape != shape or tensor.dtype.kind != "f":
            got = f"{tensor.dtype} {tensor.shape}"
            raise ValueError(f"{folder}: tensor {name!r}: expected floating-point {shape}, got {got}")
    if missing := [name for name in wanted if name not in tensors]:
        raise ValueError(f"{folder}: expected {len(wanted)} tensors, missing {_listed(missing)}")
    return {name: tensors[name] for name in wanted}


def _check_size(config: ModelConfig, held: int, folder: Path) -> None:
    """Refuse a config that asks for far more tensors than there are, before they are listed one by one."""
    layers = config.n_layers + config.n_mtp_layers
    wanted = layers + 3 * config.n_routed_experts * (
        layers - config.n_dense_layers
    )  # too few by some a layer
    if wanted > 10 * held + 1000:
        sizes = f"{layers} layers of {config.n_routed_experts} experts"
        raise ValueError(f"{folder}: expected over {wanted} tensors for {sizes} by {CONFIG}, got {held}")


def _copies(config: ModelConfig) -> dict[str, str]:
    """Names of the MTP modules' embeddings and heads, and of the tensors that they repeat."""
    layers = range(config.n_layers, config.n_layers + config.n_mtp_layers)
    return {f"model.layers.{layer}.{name}": of for layer in layers for name, of in _COPIES.items()}


def _layer(name: str) -> int:
    number = name.removeprefix("model.layers.").split(".")[0]
    return int(number) if name.startswith("model.layers.") and number.isdecimal() else -1


def _load_json(path: Path) -> dict[str, object]:
    if (size := path.stat().st_size) > JSON_LIMIT:
        raise ValueError(f"{path}: expected at most {JSON_LIMIT} bytes, got {size}")
    return parse_json(path.read_bytes(), str(path))


def _listed(names: Iterable[str], at_most: int = 3) -> str:
    names = list(names)
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(map(repr, names[:at_most])) + more
