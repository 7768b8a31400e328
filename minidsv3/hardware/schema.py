"""What a hardware file may say: every known path, the dimension it must have, and what it means.

A path is the TOML tables' names joined with points. Values are dense rates (no structured sparsity) of one
GPU; network rates are of one GPU's share and one direction, unless the path says otherwise. A file may leave
a path out (not every chip has FP8); whoever needs it is then told by the loader.

Does: name paths and dimensions. Does not: hold values (`data/hardware/*.toml` do).

    >>> expected_dimension("chip.hbm.bandwidth")
    'B/s'
    >>> expected_dimension("chip.hbm.bandwith")
    Traceback (most recent call last):
    ValueError: unknown key 'chip.hbm.bandwith'; did you mean 'chip.hbm.bandwidth'? ...

Next: minidsv3.hardware.load
"""

from minidsv3.config import near
from minidsv3.hardware.tensor_cores import OPERANDS, ROUNDINGS, TENSOR_CORES

__all__ = ["KEYS", "ROUNDINGS", "expected_dimension", "expected_names"]

# path -> (dimension, meaning)
KEYS: dict[str, tuple[str, str]] = {
    "chip.sm.count": ("count", "streaming multiprocessors"),
    "chip.sm.communication": ("count", "of them, those that DeepSeek gives to communication kernels"),
    "chip.peak.fp8": ("FLOP/s", "tensor cores, FP8 operands"),
    "chip.peak.bf16": ("FLOP/s", "tensor cores, BF16 operands"),
    "chip.peak.fp16": ("FLOP/s", "tensor cores, FP16 operands"),
    "chip.peak.tf32": ("FLOP/s", "tensor cores, TF32 operands"),
    "chip.peak.fp32": ("FLOP/s", "CUDA cores, float32: everything that is no matrix product"),
    "chip.peak.bf16_throttled": ("FLOP/s", "BF16 once power holds the clock down"),
    "chip.clock.tensor": ("Hz", "clock at which the tensor cores reach their peak"),
    "chip.clock.boost": ("Hz", "highest clock"),
    "chip.clock.throttled": ("Hz", "clock under sustained tensor-core load"),
    "chip.hbm.bandwidth": ("B/s", "device memory, reads and writes together"),
    "chip.hbm.capacity": ("B", "device memory that a program can have"),
    "node.gpus": ("count", "GPUs a node"),
    "node.nics": ("count", "network cards a node, for the GPUs"),
    "node.storage_nics": ("count", "network cards a node, for storage"),
    "node.nvlink.both_directions": ("B/s", "NVLink of one GPU, in and out together, as vendors print it"),
    "node.nvlink.one_direction": ("B/s", "NVLink of one GPU, one direction"),
    "node.nvlink.usable": ("B/s", "of that, what a program sees"),
    "fabric.line": ("B/s", "one network card, one direction, on the wire"),
    "fabric.effective": ("B/s", "of that, what a program sees"),
    "fabric.latency.same_leaf": ("s", "end to end, both ends under one switch"),
    "fabric.latency.cross_leaf": ("s", "end to end, through the spine"),
    "price.gpu_hour": ("USD/s", "rent of one GPU"),
    "tensor_core.family": ("name", "rows of data/tensor_cores.toml; values beside it go before them"),
}
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
        raise ValueError(f"unknown key {path!r}; {near(path, sorted(KEYS))}")
    return KEYS[path][0]


def expected_names(path: str) -> tuple[str, ...]:
    """The words that a path of dimension "name" may have."""
    return tuple(TENSOR_CORES) if path == "tensor_core.family" else ROUNDINGS
