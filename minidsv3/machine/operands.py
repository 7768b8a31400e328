"""In which formats the operands of an op lie in memory under a precision recipe, and how many bytes that is.

A trace of a rounding machine says for every operand its format and, for FP8, the block that shares a scale:
`e4m3 1x128` is read as 1 byte a number and 4 bytes a tile. Formats are named as in `data/formats.toml`; what
has no recipe is named as NumPy does (`float32`), so that nobody takes a laptop's number for a GPU's.

Does: formats of forward and backward rows, bytes. Does not: round anything.

    >>> from minidsv3.machine.catalogue import look_up
    >>> from minidsv3.machine.precision import load_precision
    >>> op = look_up("mla.kv_down")
    >>> [str(stored) for stored in forward_operands(load_precision("fp8"), 128, op, ["float32"] * 3)]
    ['e4m3 1x128', 'e4m3 128x128', 'bf16']
    >>> Stored("e4m3", (1, 128)).nbytes((4, 256))                  # 1024 numbers and 8 scales
    1056

Next: minidsv3.machine.rounding
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from minidsv3.machine.catalogue import Backward, Op
from minidsv3.machine.precision import Precision
from minidsv3.numerics import FORMATS

__all__ = ["Stored", "backward_operands", "forward_operands", "quantised_operands"]

SCALE_BYTES = 4  # a float32 a block
LOGFMT_TILE = 128  # numbers that share a minimum and a step


class Stored(NamedTuple):
    """How an array lies in memory: its format, and what of it shares a scale (None: nothing)."""

    format: str
    block: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.format + (f" {self.block[0]}x{self.block[1]}" if self.block else "")

    def nbytes(self, shape: Sequence[int], elements: int | None = None) -> int:
        """Bytes of `elements` numbers (all of the shape, if not given) and of their scales."""
        count = math.prod(shape) if elements is None else elements
        size = -(-count * format_bits(self.format) // 8)
        if self.format.startswith("logfmt-"):
            return size + SCALE_BYTES * -(-count // LOGFMT_TILE)
        if self.block is None or not count:
            return size
        *batch, rows, columns = (1, *shape) if len(shape) < 2 else shape
        scales = math.prod(batch) * -(-rows // self.block[0]) * -(-columns // self.block[1])
        return size + SCALE_BYTES * scales


@lru_cache
def format_bits(name: str) -> int:
    """Bits a number of a format of ours, of a LogFMT, or of NumPy."""
    if name in FORMATS:
        return FORMATS[name].bits
    return int(name[7:]) if name.startswith("logfmt-") else 8 * np.dtype(name).itemsize


def forward_operands(recipe: Precision, width: int, op: Op, dtypes: Sequence[str | Stored]) -> list[Stored]:
    """Of an op's operands and its result.  width: of FP8 tiles.

    dtypes: as NumPy has them, or as a file does; that counts where the recipe rounds nothing.
    """
    if not recipe.rounds:
        return [Stored(name) if isinstance(name, str) else name for name in dtypes]
    result = Stored(recipe.result(op.id))
    match op.primitive:
        case "linear" | "grouped_linear":
            return [*_factors(recipe, width, op, "activation"), result]
        case "contract" | "softmax":
            return [*[Stored("bf16")] * (len(dtypes) - 1), result]
        case "quantise":
            return [Stored("bf16"), _eight_bits(recipe, width, "activation")]
        case "keep":
            return [Stored("bf16"), Stored(recipe.kept(op.id), (1, width))]
        case "copy_weight":
            fp8 = recipe.product(op.id) == "fp8"
            copy = _eight_bits(recipe, width, "weight") if fp8 else Stored(recipe.product(op.id))
            return [Stored("fp32"), copy]
        case "dispatch" if recipe.dispatch == "fp8":
            return [_eight_bits(recipe, width, "activation")] * 2
        case "combine":
            return [_travelling(recipe, width), result]
        case "adamw":
            return [Stored("fp32"), Stored("fp32"), *[Stored(recipe.moments)] * 2, Stored("fp32")]
        case "average":
            return [Stored("fp32")] * 3
        case _:
            return [_plain(name, result.format) for name in dtypes]


def backward_operands(
    recipe: Precision, width: int, op: Op, row: Backward, dtypes: Sequence[str]
) -> list[Stored]:
    """Of what a backward row reads, then what it writes.  dtypes: of the op's operands and result."""
    numbers = (*row.reads, row.writes)
    if not recipe.rounds:
        return [Stored(dtypes[i]) for i in numbers]
    written = Stored("fp32" if op.kinds[row.writes] == "weight" else recipe.gradient(op.id))
    match op.primitive:
        case "linear" | "grouped_linear":
            return [*_backward_factors(recipe, width, op, row), written]
        case "contract":  # as in the forward: tensor cores multiply BF16, whatever sums are kept in
            return [*[Stored("bf16")] * len(row.reads), written]
        case "dispatch":
            return [_travelling(recipe, width), written]
        case "combine" if recipe.dispatch == "fp8":
            return [_eight_bits(recipe, width, "gradient")] * 2
        case "swiglu" if kept := recipe.kept(f"{op.id.split('.')[0]}.keep"):
            reads = [Stored("bf16") if i == len(dtypes) - 1 else Stored(kept, (1, width)) for i in row.reads]
            return [*reads, written]
        case _:
            return [*(_plain(dtypes[i], recipe.gradient(op.id)) for i in row.reads), written]


def quantised_operands(recipe: Precision, width: int, op: Op) -> list[Stored]:
    """Of the work in front of an FP8 backward: d_y and x read; d_y in both tilings and x turned written."""
    kept = recipe.kept(f"{op.id.rpartition('.')[0]}.keep_o") if op.id.endswith(".out") else ""
    x = Stored(kept, (1, width)) if kept else _eight_bits(recipe, width, "activation")
    gradient = _eight_bits(recipe, width, "gradient")
    turned = [_turned(gradient), _turned(_eight_bits(recipe, width, "activation"))]
    return [Stored(recipe.result(op.id)), x, gradient, *turned]


def _factors(recipe: Precision, width: int, op: Op, role: str) -> list[Stored]:
    product = recipe.product(op.id)
    if product != "fp8":
        return [Stored(product)] * 2
    return [_eight_bits(recipe, width, role), _eight_bits(recipe, width, "weight")]


def _backward_factors(recipe: Precision, width: int, op: Op, row: Backward) -> list[Stored]:
    """Dgrad sums over outputs, Wgrad over tokens: there both factors lie in tiles along the tokens."""
    if row.direction == "dgrad" or recipe.product(op.id) != "fp8":
        return _factors(recipe, width, op, "gradient")
    return [_turned(_eight_bits(recipe, width, role)) for role in ("gradient", "activation")]


def _eight_bits(recipe: Precision, width: int, role: str) -> Stored:
    name = recipe.fp8("gradient_format" if role == "gradient" else "format")
    return Stored(name, recipe.blocks(width)[role])


def _turned(stored: Stored) -> Stored:
    return Stored(stored.format, stored.block and (stored.block[1], stored.block[0]))


def _travelling(recipe: Precision, width: int) -> Stored:
    if recipe.combine == "fp8":
        return _eight_bits(recipe, width, "activation")
    return Stored(recipe.combine)


def _plain(dtype: str | Stored, format: str) -> Stored:
    """Floating point in the recipe's format; whole numbers and rotations as they are."""
    return Stored(format if isinstance(dtype, Stored) or dtype == "float32" else dtype)
