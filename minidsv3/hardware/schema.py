"""What a hardware file may say: every known path, the dimension it must have, and what it means.

A path is the TOML tables' names joined with points. Values are dense rates (no structured sparsity) of one
GPU; network rates are of one GPU's share and one direction, unless the path says otherwise. A file may leave
a path out (not every chip has FP8); whoever needs it is then told by the loader.

Does: name paths and dimensions. Does not: hold values (`data/hardware/*.toml` do).

    >>> expected_dimension("chip.hbm.bandwidth")
    'B/s'
    >>> expected_dimension("chip.hbm.bandwith")
    Traceback (most recent call last):
    ValueError: unknown key 'chip.hbm.bandwith'; did you mean 'chip.hbm.bandwidth' or ...

Next: minidsv3.hardware.values
"""

import difflib
from collections.abc import Iterable

from minidsv3.hardware.tensor_cores import OPERANDS, ROUNDINGS, TENSOR_CORES

__all__ = [
    "KEYS",
    "MAY_BE_ZERO",
    "ROUNDINGS",
    "expected_dimension",
    "expected_names",
    "expected_table",
    "meaning",
]

# path -> (dimension, meaning)
KEYS: dict[str, tuple[str, str]] = {
    "chip.sm.count": ("count", "streaming multiprocessors (AMD: compute units)"),
    "chip.sm.communication": ("count", "of them, those that DeepSeek gives to communication kernels"),
    "chip.peak.fp4": ("FLOP/s", "tensor cores, FP4 operands with block scales"),
    "chip.peak.fp8": ("FLOP/s", "tensor cores, FP8 operands"),
    "chip.peak.int8": ("OP/s", "tensor cores, INT8 operands"),
    "chip.peak.bf16": ("FLOP/s", "tensor cores, BF16 operands"),
    "chip.peak.fp16": ("FLOP/s", "tensor cores, FP16 operands"),
    "chip.peak.tf32": ("FLOP/s", "tensor cores, TF32 operands"),
    "chip.peak.fp32": ("FLOP/s", "CUDA cores, float32: everything that is no matrix product"),
    "chip.peak.fp64": ("FLOP/s", "float64, on tensor cores where the chip has such"),
    "chip.peak.bf16_throttled": ("FLOP/s", "BF16 once power holds the clock down"),
    "chip.clock.tensor": ("Hz", "clock at which the tensor cores reach their peak"),
    "chip.clock.boost": ("Hz", "highest clock"),
    "chip.clock.throttled": ("Hz", "clock under sustained tensor-core load"),
    "chip.hbm.bandwidth": ("B/s", "device memory (HBM, GDDR or shared DRAM), reads and writes together"),
    "chip.hbm.capacity": ("B", "device memory that a program can have"),
    "node.gpus": ("count", "GPUs a node, all on one NVLink"),
    "node.nics": ("count", "network cards a node, for the GPUs"),
    "node.storage_nics": ("count", "network cards a node, for storage"),
    "node.planes": ("count", "separate networks that the cards of a node are spread over"),
    "node.nvlink.both_directions": ("B/s", "NVLink of one GPU, in and out together, as vendors print it"),
    "node.nvlink.one_direction": ("B/s", "NVLink of one GPU, one direction"),
    "node.nvlink.usable": ("B/s", "of that, what a program sees"),
    "fabric.line": ("B/s", "one network card, one direction, on the wire"),
    "fabric.effective": ("B/s", "of that, what a program sees"),
    "fabric.latency.ib.same_leaf": ("s", "InfiniBand end to end, both ends under one switch"),
    "fabric.latency.ib.cross_leaf": ("s", "InfiniBand end to end, through the spine"),
    "fabric.latency.roce.same_leaf": ("s", "RoCE end to end, both ends under one switch"),
    "fabric.latency.roce.cross_leaf": ("s", "RoCE end to end, through the spine"),
    "fabric.latency.nvlink": ("s", "NVLink end to end, inside a node"),
    "host.cores": ("count", "CPU cores a node"),
    "host.clock": ("Hz", "CPU clock, base"),
    "host.dram.bandwidth": ("B/s", "CPU memory a node, reads and writes together"),
    "host.dram.capacity": ("B", "CPU memory a node"),
    "host.pcie.bandwidth": ("B/s", "between CPU and one GPU, one direction"),
    "host.peak.bf16": ("FLOP/s", "CPU cores together, BF16 operands"),
    "host.peak.int8": ("OP/s", "CPU cores together, INT8 operands"),
    "host.peak.fp32": ("FLOP/s", "CPU cores together, float32"),
    "price.gpu_hour": ("USD/s", "rent of one GPU"),
    "price.machine": ("USD", "the whole machine, bought"),
    "tensor_core.family": ("name", "rows of data/tensor_cores.toml; values beside it go before them"),
}
# counts that may be 0; any other value is more
MAY_BE_ZERO = ("chip.sm.communication", "node.nics", "node.storage_nics", "node.planes")
for _format in OPERANDS:
    KEYS |= {
        f"tensor_core.{_format}.terms": ("count", "products summed in one step"),
        f"tensor_core.{_format}.depth": ("count", "K of one instruction, a multiple of the terms"),
        f"tensor_core.{_format}.fraction_bits": ("bit", "kept of each term below the largest exponent"),
        f"tensor_core.{_format}.output_fraction_bits": ("bit", "kept of the sum"),
        f"tensor_core.{_format}.rounding": ("name", "of terms and sum: " + " or ".join(ROUNDINGS)),
    }


def expected_dimension(path: str) -> str:
    """The dimension a path must have; ValueError with near names for an unknown path."""
    if path not in KEYS:
        raise ValueError(f"unknown key {path[:80]!r}; {_near(path[:80], KEYS)}")
    return KEYS[path][0]


def expected_table(path: str) -> None:
    """ValueError with near names if no value of a file stands in a table of this path."""
    tables = {".".join(key.split(".")[:depth]) for key in KEYS for depth in range(1, key.count(".") + 1)}
    if path not in tables:
        raise ValueError(f"unknown table {path[:80]!r}; {_near(path[:80], sorted(tables))}")


def _near(path: str, known: Iterable[str]) -> str:
    """The nearest names; without any, those with a part that is like the last; without these, the tables."""
    paths = list(known)
    found = difflib.get_close_matches(path, paths, n=3)
    if not found:
        parts = sorted({part for key in paths for part in key.split(".")})
        near = difflib.get_close_matches(path.rpartition(".")[2], parts, n=1, cutoff=0.75)
        found = [key for key in paths if near and near[0] in key.split(".")][:4]
    if found:
        return f"did you mean {' or '.join(map(repr, found))}?"
    return "known tables: " + ", ".join(dict.fromkeys(key.rpartition(".")[0] or key for key in paths))


def meaning(path: str) -> str:
    """What a path's value is, in words; ValueError with near names for an unknown path."""
    expected_dimension(path)
    return KEYS[path][1]


def expected_names(path: str) -> tuple[str, ...]:
    """The words that a path of dimension "name" may have."""
    return tuple(TENSOR_CORES) if path == "tensor_core.family" else ROUNDINGS
