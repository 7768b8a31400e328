"""One element of a tensor core's product under the microscope: which bits of which term were dropped.

The specification beside `mma`: a loop over the groups of an instruction, whole numbers in place of floats,
every term with its exponent, what was kept of it and what fell out.

Does: units without scales; finite numbers. Does not: go fast; decide what zeros do (the arguments of `mma`).

    >>> from minidsv3.hardware import load_hardware
    >>> from minidsv3.numerics import E4M3
    >>> a, b = np.zeros(32, np.uint8), np.full(32, E4M3.encode(1.0))
    >>> a[:3] = E4M3.encode([256.0, 0.03125, -0.017578125])
    >>> step, = mma_trace(a, b, 0.0, load_hardware("h800").tensor_core["fp8"])
    >>> step.largest, step.last, step.total, step.result            # 2^8 down to 2^-5
    (8, -5, 8193, 256.03125)
    >>> for term in step.terms[:3]:
    ...     print(term.name, term.value, term.exponent, term.kept, term.dropped)
    a0 b0 256.0 8 8192 0.0
    a1 b1 0.03125 -5 1 0.0
    a2 b2 -0.017578125 -6 0 -0.017578125

Next: minidsv3.numerics.gemm
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from minidsv3.hardware import TensorCore
from minidsv3.numerics.formats import FP16, FP32, NumberFormat, as_float32
from minidsv3.numerics.tensor_core import ZEROS, codes_of, operand_format

__all__ = ["Step", "Term", "mma_trace"]


@dataclass(frozen=True)
class Term:
    """A product, or the accumulator, before and after alignment.

    value = significand x 2^(exponent - fraction_bits), with the significand as it comes, not normalised: a
    product's lies in [0, 4). `exponent` is None for a zero that takes no part. kept: what is left in units of
    the step's last bit. dropped: the rest, value - kept x 2^last; dropped_bits: places of the significand
    below the last bit kept.
    """

    name: str  # "a3 b3" or "C"
    a: float  # the operands; C and 1 for the accumulator
    b: float
    value: float
    significand: int
    fraction_bits: int
    exponent: int | None
    kept: int = 0
    dropped: float = 0.0
    dropped_bits: int = 0


@dataclass(frozen=True)
class Step:
    """One fused step: terms aligned to the largest exponent, and their sum.

    last: exponent of the last bit kept of a term, largest - fraction_bits. total: sum of what was kept, in
    units of 2^last. result: the accumulator after it, total x 2^last as the unit puts it out.
    """

    first: int  # place along K of the first product
    terms: tuple[Term, ...]  # the accumulator comes last
    largest: int
    last: int
    total: int
    exact: float  # sum of the terms' values
    result: float
    result_bits: int  # of the float32


def mma_trace(
    a_row: ArrayLike, b_column: ArrayLike, c: float, unit: TensorCore, *,
    a_format: NumberFormat | None = None, b_format: NumberFormat | None = None, zeros: str = "zero-operand",
) -> list[Step]:  # fmt: skip
    """The steps of one element, each group of `unit.terms` one step.  a_row, b_column: codes [K]; see `mma`.

    c: the accumulator at the start, a float32. The last group is filled with zeros where K ends inside it.
    ValueError for units with scales or with C added afterwards, and for inf and NaN.
    """
    if zeros not in ZEROS:
        raise ValueError(f"expected zeros one of {ZEROS}, got {zeros!r}")
    a_format, b_format = operand_format(a_format, unit, "a"), operand_format(b_format, unit, "b")
    if unit.scale_block or unit.accumulator != "aligned":
        raise ValueError(f"expected a unit without scales, C aligned, got {unit.family} {unit.format}")
    a = codes_of(np.atleast_1d(a_row)[None], a_format, "a_row [K]")[0].tolist()
    b = codes_of(np.atleast_1d(b_column)[None], b_format, "b_column [K]")[0].tolist()
    if len(a) != len(b):
        raise ValueError(f"expected a_row and b_column of one length K, got {len(a)} and {len(b)}")
    a, b = a + [0] * (-len(a) % unit.terms), b + [0] * (-len(b) % unit.terms)
    accumulator, steps = _start(c), []
    for first in range(0, len(a), unit.terms):
        places = range(first, first + unit.terms)
        terms = [_product(k, _number(a[k], a_format), _number(b[k], b_format), zeros) for k in places]
        steps.append(_step(first, [*terms, _accumulator(accumulator, unit, zeros)], unit, zeros))
        accumulator = steps[-1].result_bits
    return steps


def _start(c: float) -> int:
    """Bits of the accumulator at the beginning; `_number` refuses infinity and NaN."""
    start = as_float32(c)
    if start.ndim:
        raise ValueError(f"expected c a single float32, got shape {start.shape}")
    return int(start.view(np.uint32))


def _number(code: int, fmt: NumberFormat) -> tuple[int, int, int]:
    """Signed significand, fraction bits, exponent of a code; subnormals at the smallest exponent."""
    sign, magnitude = divmod(code, 1 << (fmt.bits - 1))
    if magnitude > fmt.top:
        raise ValueError(f"expected finite numbers, got {fmt.decode(fmt.dtype.type(code))} in {fmt.name}")
    field, fraction = divmod(magnitude, 1 << fmt.fraction_bits)
    significand = fraction + ((1 << fmt.fraction_bits) if field else 0)
    return -significand if sign else significand, fmt.fraction_bits, max(field, 1) - fmt.bias


def _product(k: int, a: tuple[int, int, int], b: tuple[int, int, int], zeros: str) -> Term:
    """Exact significand, exponents added."""
    significand, bits = a[0] * b[0], a[1] + b[1]
    exponent: int | None = a[2] + b[2]
    if not significand:
        operands = sum(-126 if not x[0] else x[2] for x in (a, b))
        exponent = {"zero-operand": operands, "zero-product": -126, "dropped": None}[zeros]
    value = math.ldexp(significand, a[2] + b[2] - bits)
    left, right = (math.ldexp(x[0], x[2] - x[1]) for x in (a, b))
    return Term(f"a{k} b{k}", left, right, value, significand, bits, exponent)


def _accumulator(bits: int, unit: TensorCore, zeros: str) -> Term:
    """C as a term."""
    significand, fraction_bits, exponent = _number(bits, FP32)
    value = math.ldexp(significand, exponent - fraction_bits)
    smallest = 1 - (FP16 if unit.output == "fp16" else FP32).bias
    if exponent < smallest and significand:  # a subnormal of FP16, which float32 holds normalised
        fraction_bits, exponent = fraction_bits + smallest - exponent, smallest
    at = exponent if significand else None if zeros == "dropped" else -126
    return Term("C", value, 1.0, value, significand, fraction_bits, at)


def _step(first: int, terms: Sequence[Term], unit: TensorCore, zeros: str) -> Step:
    """Align, cut, add, put out."""
    exponents = [term.exponent for term in terms if term.exponent is not None]
    if zeros == "dropped" and unit.exponent_floor is not None:
        exponents.append(unit.exponent_floor)
    largest = max(exponents, default=0)
    last = largest - unit.fraction_bits
    aligned = tuple(_cut(term, last) for term in terms)
    total = sum(term.kept for term in aligned)
    exact = float(sum(Fraction(term.value) for term in terms))
    bits = _put_out(total, last, unit)
    result = float(np.uint32(bits).view(np.float32))
    return Step(first, aligned, largest, last, total, exact, result, bits)


def _cut(term: Term, last: int) -> Term:
    """Sign and magnitude: the magnitude loses what lies below 2^last."""
    if term.exponent is None or not term.significand:
        return term
    below = last - (term.exponent - term.fraction_bits)
    magnitude = abs(term.significand)
    kept = magnitude >> below if below > 0 else magnitude << -below
    kept = -kept if term.significand < 0 else kept
    dropped = Fraction(term.value) - kept * Fraction(2) ** last
    places = min(max(below, 0), magnitude.bit_length())
    return replace(term, kept=kept, dropped=float(dropped), dropped_bits=places)


def _put_out(total: int, last: int, unit: TensorCore) -> int:
    """Bits of the float32 for total x 2^last, with the output's fraction bits and rounding."""
    if not total:
        return 0
    out = FP16 if unit.output == "fp16" else FP32
    exponent = max(abs(total).bit_length() - 1 + last, 1 - out.bias)
    steps = abs(total) * Fraction(2) ** (last - exponent + unit.output_fraction_bits)
    whole = round(steps) if unit.rounding == "nearest-even" else math.floor(steps)  # ties to even
    value = whole * Fraction(2) ** (exponent - unit.output_fraction_bits)
    magnitude = math.inf if value >= 2 ** (out.bias + 1) else float(value)
    return int(np.float32(math.copysign(magnitude, total)).view(np.uint32))
