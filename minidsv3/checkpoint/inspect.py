"""What a checkpoint is: its parts in tensors, numbers and bytes, and whether they are what its config says.

Reads the headers of a folder (Hugging Face's layout or DeepSeek's own) or of a single file, which takes
seconds for the 91,991 tensors of V3, and names what is missing, unknown, of a wrong shape or format, and
which scales do not fit their weights. With `verify` every number is read too: NaN codes, scales that are no
numbers, infinities, and MTP copies that differ from the embedding and the head which they repeat.

What cannot be read as a checkpoint at all (a header beyond its file, a name that leads out of the folder, a
tensor in two files) raises a CheckpointError; what can be read and is wrong is a `Finding`.

    >>> part_of("model.layers.3.mlp.experts.7.up_proj.weight", n_layers=61)
    'routed experts'
    >>> part_of("model.layers.61.mlp.experts.7.up_proj.weight", n_layers=61)
    'MTP own'

Does: count and compare. Does not: draw (`minidsv3.show`), change anything.

Next: minidsv3.checkpoint.convert
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.checkpoint.atomic import FilePath
from minidsv3.checkpoint.folder import SCALE, mtp_copies, open_folder
from minidsv3.checkpoint.header import CheckpointError
from minidsv3.checkpoint.official import Parted, is_official, open_official
from minidsv3.checkpoint.safetensors import SafetensorsFile
from minidsv3.checkpoint.scaled_blocks import blocks_of
from minidsv3.checkpoint.stored import FLOATS, FP8, stored_tensors
from minidsv3.config import ModelConfig

__all__ = ["Finding", "Inspection", "PartRow", "inspect_checkpoint", "part_of"]

PIECE = 1 << 24  # numbers looked at together
PARTS = {  # in the order of the table -> the same in ModelConfig.parameter_counts()
    "embedding": "embedding",
    "attention": "attention",
    "dense FFN": "dense",
    "routed experts": "routed",
    "shared experts": "shared",
    "gate": "gate",
    "norms": "norm",
    "head": "head",
    "MTP own": "mtp",
    "MTP copies": "",
    "scales": "",
    "unknown": "",
}
_KEYS = {
    "embed_tokens": "embedding",
    "lm_head": "head",
    "mlp.experts": "routed experts",
    "shared_experts": "shared experts",
    "mlp.gate.": "gate",
    "norm": "norms",
    "self_attn": "attention",
    "mlp": "dense FFN",
}
_COPIES = ("embed_tokens.weight", "shared_head.head.weight")

Progress = Callable[[int, int, str], None]  # bytes read, bytes to read, the tensor


class Finding(NamedTuple):
    """Something that is not as it should be."""

    kind: str  # missing, extra, shape, dtype, scale, numbers, copy
    tensor: str
    expected: str
    got: str
    file: str = ""

    def __str__(self) -> str:
        where = f"{self.file}: " if self.file else ""
        return f"{where}tensor {self.tensor!r}: expected {self.expected}, got {self.got}"


class PartRow(NamedTuple):
    """One part of the model, summed up."""

    part: str
    tensors: int
    elements: int
    bytes: int
    dtypes: tuple[str, ...]
    expected: int | None  # elements by the config, None where it has no say


@dataclass(frozen=True)
class Inspection:
    """All that was found."""

    path: Path
    layout: str  # "hugging-face", "official" or "file"
    config: ModelConfig | None
    files: dict[str, int]  # name -> bytes
    tensors: Mapping[str, Parted]  # every one, scales and copies too, by published name
    quantisation: object  # config.json's block as it stands, or None
    ranks: int
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    verified: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @cached_property
    def parts(self) -> list[PartRow]:
        """The parts that there are, or should be."""
        layers = self.config.n_layers if self.config else None
        groups: dict[str, list[Parted]] = {part: [] for part in PARTS}
        for name, tensor in self.tensors.items():
            groups[part_of(name, layers)].append(tensor)
        counts = self.config.parameter_counts() if self.config else {}
        rows = (_row(part, held, counts.get(PARTS[part])) for part, held in groups.items())
        return [row for row in rows if row.tensors or row.expected]

    @cached_property
    def totals(self) -> dict[str, int]:
        """Elements of the main model and of all, bytes of tensors and of files."""
        aside = ("MTP own", "MTP copies", "scales", "unknown")
        return {
            "tensors": len(self.tensors),
            "main": sum(row.elements for row in self.parts if row.part not in aside),
            "elements": sum(row.elements for row in self.parts),
            "bytes": sum(row.bytes for row in self.parts),
            "files": len(self.files),
            "file_bytes": sum(self.files.values()),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; tensors are not listed."""
        return {
            "path": str(self.path),
            "layout": self.layout,
            "ok": self.ok,
            "verified": self.verified,
            "config": self.config.to_dict() if self.config else None,
            "quantization_config": self.quantisation,
            "ranks": self.ranks,
            "files": self.files,
            "parts": [row._asdict() for row in self.parts],
            "totals": self.totals,
            "expected": self.config.parameter_counts() if self.config else None,
            "notes": self.notes,
            "findings": [finding._asdict() for finding in self.findings],
        }

    def listed(self, pattern: str = "*") -> list[dict[str, Any]]:
        """Tensors whose name fits a pattern such as `*.61.*`, or contains it: format, shape, file, bytes."""
        from fnmatch import fnmatchcase

        rows = []
        for name, tensor in self.tensors.items():
            if fnmatchcase(name, pattern) or pattern in name:
                files = [part.path.name for part in tensor.parts]
                row = {"name": name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
                rows.append(row | {"bytes": tensor.nbytes, "files": files})
        return rows


def _row(part: str, held: list[Parted], expected: int | None) -> PartRow:
    dtypes = tuple(sorted({tensor.dtype for tensor in held}))
    elements = sum(math.prod(tensor.shape) for tensor in held)
    return PartRow(part, len(held), elements, sum(tensor.nbytes for tensor in held), dtypes, expected)


def part_of(name: str, n_layers: int | None) -> str:
    """Which part of the model a published name belongs to.  n_layers: of the main model, None: not known."""
    if name.endswith(SCALE):
        return "scales"
    words = name.split(".")
    in_layer = name.startswith("model.layers.") and len(words) > 3 and words[2].isdecimal()
    if in_layer and n_layers is not None and int(words[2]) >= n_layers:
        return "MTP copies" if ".".join(words[3:]) in _COPIES else "MTP own"
    return next((part for key, part in _KEYS.items() if key in name), "unknown")


# ---- looking ----------------------------------------------------------------------------------------------


def inspect_checkpoint(
    path: FilePath, verify: bool = False, progress: Progress = lambda done, total, name: None
) -> Inspection:
    """Look at a model folder or a safetensors file.

    verify: read all numbers too.  CheckpointError where it cannot be read, ValueError if there is no such
    path.
    """
    path = Path(path)
    if path.is_file():
        found = _of_file(path)
    elif is_official(path):
        found = _of_official(path)
    else:
        found = _of_folder(path)
    if found.config:
        found.findings.extend(_against_config(found, found.config))
    if verify:
        found.findings.extend(_numbers(found, progress))
        object.__setattr__(found, "verified", True)
    return found


def _of_file(path: Path) -> Inspection:
    if path.suffix != ".safetensors":
        raise CheckpointError(f"expected a folder or a .safetensors file, got {path}, which is not opened")
    file = SafetensorsFile(path)
    tensors = {name: Parted(name, (tensor,)) for name, tensor in stored_tensors(file).items()}
    notes = ["a file without its config: nothing to check shapes against"]
    return Inspection(path, "file", None, {path.name: file.size}, tensors, None, 1, notes)


def _of_folder(path: Path) -> Inspection:
    folder = open_folder(path, check=False)
    tensors = {name: Parted(name, (tensor,)) for name, tensor in folder.stored.items()}
    files = {file.name: file.stat().st_size for file in folder.files}
    notes = []
    announced = folder.config_table.get("num_nextn_predict_layers")
    if announced and not folder.config.n_mtp_layers:
        notes.append(f"config.json announces MTP modules ({announced}), the files hold none")
    quantisation = folder.config_table.get("quantization_config")
    return Inspection(path, "hugging-face", folder.config, files, tensors, quantisation, 1, notes)


def _of_official(path: Path) -> Inspection:
    folder = open_official(path)
    files = {file.name: file.stat().st_size for file in folder.files}
    notes = [f"DeepSeek's own layout, ranks: {folder.ranks}, without MTP modules; published names are shown"]
    return Inspection(path, "official", folder.config, files, folder.stored, None, folder.ranks, notes)


# ---- checks -----------------------------------------------------------------------------------------------


def _against_config(found: Inspection, config: ModelConfig) -> Iterator[Finding]:
    """Names, shapes, formats and scales."""
    wanted, copies = config.tensor_shapes(), mtp_copies(config)
    for name, tensor in found.tensors.items():
        if name.endswith(SCALE):
            yield from _scale_alone(found, name)
        elif not name.endswith(".rotary_emb.inv_freq"):  # which old files stored
            yield from _tensor(found, tensor, wanted.get(copies.get(name, name)))
    for name, shape in wanted.items():
        if name not in found.tensors:
            yield Finding("missing", name, f"{list(shape)}", "none", str(found.path))


def _tensor(found: Inspection, tensor: Parted, shape: tuple[int, ...] | None) -> Iterator[Finding]:
    file, got = str(tensor.parts[0].path), f"{tensor.dtype} {list(tensor.shape)}"
    if shape is None:
        yield Finding("extra", tensor.name, "none of this name by config.json", got, file)
    elif tensor.shape != shape:
        yield Finding("shape", tensor.name, f"{list(shape)} by config.json", got, file)
    elif tensor.dtype not in FLOATS:
        yield Finding("dtype", tensor.name, f"floating-point {list(shape)}", got, file)
    elif tensor.dtype in FP8:
        yield from _scale_of(found, tensor)


def _scale_of(found: Inspection, weight: Parted) -> Iterator[Finding]:
    """An FP8 weight needs a block size and a scale of the shape that follows from it."""
    file, name = str(weight.parts[0].path), weight.name + SCALE
    scale, block = found.tensors.get(name), _block(found)
    if len(weight.shape) != 2:
        yield Finding("dtype", weight.name, "a matrix, as FP8 weights are", f"{list(weight.shape)}", file)
    elif block is None:
        yield Finding(
            "scale", weight.name, "quantization_config in config.json for an FP8 weight", "none", file
        )
    elif scale is None:
        yield Finding(
            "missing", name, f"a scale for each block of {list(block)} of its FP8 weight", "none", file
        )
    else:
        shape = blocks_of((weight.shape[0], weight.shape[1]), block)
        if scale.shape != shape or scale.dtype not in ("F32", "BF16"):
            expected = f"F32 {list(shape)}, a scale for each block of {list(block)} of {list(weight.shape)}"
            got = f"{scale.dtype} {list(scale.shape)}"
            yield Finding("scale", name, expected, got, str(scale.parts[0].path))


def _scale_alone(found: Inspection, name: str) -> Iterator[Finding]:
    weight = found.tensors.get(name.removesuffix(SCALE))
    if weight is None or weight.dtype not in FP8:
        file = str(found.tensors[name].parts[0].path)
        got = "none" if weight is None else weight.dtype
        yield Finding("extra", name, "an FP8 weight that it scales", got, file)


def _block(found: Inspection) -> tuple[int, int] | None:
    if found.layout == "official" and found.config:
        return found.config.fp8_block, found.config.fp8_block
    if isinstance(found.quantisation, Mapping):
        rows, columns = found.quantisation["weight_block_size"]
        return rows, columns
    return None


# ---- numbers ----------------------------------------------------------------------------------------------


def _numbers(found: Inspection, progress: Progress) -> Iterator[Finding]:
    """Read everything; what is no number, and copies that are none."""
    copies = mtp_copies(found.config) if found.config else {}
    total = sum(tensor.nbytes for tensor in found.tensors.values())
    done = 0
    for name, tensor in found.tensors.items():
        original = found.tensors.get(copies.get(name, ""))
        if original and (original.shape, original.dtype) != (tensor.shape, tensor.dtype):
            original = None  # a finding already, or stored in another format
        strange, first, differ = 0, "", 0
        for rows in _bands(tensor.shape):
            codes = tensor.codes(rows, check=False) if tensor.shape else tensor.parts[0].raw()[None]
            mask = _no_numbers(codes, tensor.dtype, name.endswith(SCALE))
            first = first or _first(codes, mask, rows.start)
            strange += int(mask.sum())
            differ += int((codes != original.codes(rows, check=False)).sum()) if original else 0
            done += codes.nbytes
            progress(done, total, name)
        file = str(tensor.parts[0].path)
        if strange:
            expected = "finite scales >= 0" if name.endswith(SCALE) else "finite numbers"
            yield Finding("numbers", name, expected, f"{strange} that are not, {first}", file)
        if original and differ:
            yield Finding("copy", name, f"the numbers of {original.name!r}", f"{differ} others", file)


def _bands(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows to be looked at together; of an empty tensor none, however many it says."""
    rows, width = (shape[0], math.prod(shape[1:])) if shape else (1, 1)
    step = max(PIECE // max(width, 1), 1)
    for start in range(0, rows if width else 0, step):
        yield slice(start, min(start + step, rows))


def _first(codes: NDArray[Any], mask: NDArray[np.bool_], row: int) -> str:
    """The first marked number, codes in hexadecimal, and its place; "" if none is.  row: of codes[0]."""
    if not mask.any():
        return ""
    at = tuple(map(int, np.argwhere(mask)[0]))
    value = f"{codes[at]:#x}" if codes.dtype.kind == "u" else str(codes[at])
    return f"the first {value} at {[at[0] + row, *at[1:]]}"


def _no_numbers(codes: NDArray[Any], dtype: str, is_scale: bool) -> NDArray[np.bool_]:
    """Where NaN or infinity stands, or in scales a negative number."""
    if dtype in FP8:
        strange = (codes & 0x7F) > FP8[dtype].top
    elif dtype == "BF16":
        strange = (codes & 0x7F80) == 0x7F80
    else:
        strange = ~np.isfinite(codes) if codes.dtype.kind == "f" else np.zeros(codes.shape, bool)
    if is_scale and dtype in ("BF16", "F32"):
        strange |= codes > 0x8000 if dtype == "BF16" else codes < 0
    return np.asarray(strange, bool)
