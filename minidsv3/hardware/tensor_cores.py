"""Tensor cores as data: what each generation does to the products it sums.

A tensor core adds the products of several operand pairs and an accumulator in one step, and keeps fewer bits
than an exact sum would need. How many pairs, how many bits, what becomes of the rest: a row a family and
format in `data/tensor_cores.toml`, with the evidence for it.

Does: the rows, by family and format; FP16 output. Does not: compute (`minidsv3.numerics.tensor_core`); vouch
for the rows: they agree with the published results they name, and we have not run them on silicon.

    >>> unit = tensor_core("hopper-wgmma", "fp8")
    >>> unit.terms, unit.fraction_bits, unit.output_fraction_bits, unit.rounding
    (32, 13, 13, 'toward-zero')
    >>> unit.silicon
    'H100 and H200, e4m3 and e5m2, 5000/5000 each, only with C = 0'
    >>> tensor_core("ampere", "bf16").terms, tensor_core("ampere", "bf16").depth    # two groups in sequence
    (8, 16)

Next: minidsv3.hardware.schema
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from numbers import Integral
from types import MappingProxyType
from typing import Any

from minidsv3.config import near

__all__ = ["OPERANDS", "ROUNDINGS", "TENSOR_CORES", "TensorCore", "tensor_core"]


ROUNDINGS = ("toward-zero", "nearest-even")
ACCUMULATORS = ("aligned", "added")
OUTPUTS = ("fp32", "fp16")
_NUMBERS = ("terms", "fraction_bits", "output_fraction_bits", "depth", "scale_block", "group")
FP32_FRACTION = 23  # bits of an FP32 register's fraction, the widest output


@dataclass(frozen=True)
class TensorCore:
    """One fused step of the tensor core for operands of one format; `data/tensor_cores.toml` says more.

    terms: products summed at once. fraction_bits: kept of each aligned term, below the largest exponent.
    output_fraction_bits: kept of the sum. rounding: of the sum, "toward-zero" or "nearest-even". depth: K of
    one instruction, a multiple of terms times group (0: that product itself).
    """

    format: str
    terms: int
    fraction_bits: int
    output_fraction_bits: int
    rounding: str
    depth: int = 0
    family: str = ""
    operands: tuple[str, ...] = ()  # names of number formats; none given: those of OPERANDS
    accumulator: str = "aligned"  # or "added": C joins by one FP32 addition after the products' sum
    scale_block: int = 0  # operands along K that share a scale; 0: no scales
    scale_format: str = ""
    group: int = 1  # products added exactly before anything is cut
    output: str = "fp32"  # or "fp16"
    exponent_floor: int | None = None  # of the largest exponent where zeros are dropped
    half_floor: int | None = None  # the same with FP16 output
    silicon: str = ""  # published results reproduced, of those tried
    source: str = ""
    status: str = "assumed"

    def __post_init__(self) -> None:
        for field in _NUMBERS:
            number = getattr(self, field)
            if not isinstance(number, Integral) or number < 0:
                raise ValueError(f"expected {field} a whole number, at least 0, got {number!r}")
        words = {"rounding": ROUNDINGS, "accumulator": ACCUMULATORS, "output": OUTPUTS}
        for field, known in words.items():
            if getattr(self, field) not in known:
                raise ValueError(f"expected {field} {' | '.join(known)}, got {getattr(self, field)!r}")
        step = self.terms * self.group
        if step < 1 or self.depth % step:
            raise ValueError(f"expected a depth of a multiple of {step} terms, got {self.depth}")
        if self.fraction_bits < 1 or (self.terms + 1) << (self.fraction_bits + 2) > 1 << 53:
            found = f"{self.terms} and {self.fraction_bits}"
            raise ValueError(f"expected terms and fraction bits whose sum float64 holds exactly, got {found}")
        if not 1 <= self.output_fraction_bits <= FP32_FRACTION:
            raise ValueError(
                f"expected output fraction bits of 1 .. {FP32_FRACTION}, got {self.output_fraction_bits}"
            )
        if self.scale_block % (self.group if self.group > 1 else self.terms):
            raise ValueError(f"expected scales that change between steps, got a block of {self.scale_block}")
        object.__setattr__(self, "depth", self.depth or step)
        object.__setattr__(self, "operands", tuple(self.operands) or OPERANDS.get(self.format, ()))

    def to_half(self) -> "TensorCore":
        """The same unit with accumulator and result in FP16, rounded to nearest even; ValueError if none."""
        if self.half_floor is None:
            raise ValueError(f"expected a unit with FP16 output, got {self.family or 'a unit'} {self.format}")
        floor = self.half_floor
        half = {"output": "fp16", "output_fraction_bits": 10, "rounding": "nearest-even"}
        return replace(self, **half, exponent_floor=floor)  # type: ignore[arg-type]


def _read() -> tuple[dict[str, tuple[str, ...]], dict[str, Mapping[str, Any]]]:
    text = (resources.files("minidsv3") / "data" / "tensor_cores.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    return {name: tuple(formats) for name, formats in table.pop("formats").items()}, table


OPERANDS, _TABLE = _read()  # formats of a and b by the name of a unit's format, the first the default
TENSOR_CORES: Mapping[str, Mapping[str, TensorCore]] = MappingProxyType(
    {
        family: MappingProxyType(
            {format_: TensorCore(format_, family=family, **row) for format_, row in rows.items()}
        )
        for family, rows in _TABLE.items()
    }
)  # family -> format -> row


def tensor_core(family: str, format: str) -> TensorCore:
    """The row of a family ("volta" .. "blackwell-rtx") and format ("fp8", "bf16", …); ValueError if none."""
    if family not in TENSOR_CORES:
        raise ValueError(f"expected a tensor core family, got {family!r}: {near(family, list(TENSOR_CORES))}")
    if format not in TENSOR_CORES[family]:
        known = ", ".join(TENSOR_CORES[family])
        raise ValueError(f"expected a format of {family} ({known}), got {format!r}")
    return TENSOR_CORES[family][format]
