"""The emulator against exact integers on numbers that are hard, and the misreadings that these catch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from numerics.oracle import READINGS, Number, Rules, decode, dot
from numpy.typing import NDArray

from minidsv3.hardware import TENSOR_CORES, TensorCore, load_hardware, tensor_core
from minidsv3.numerics import E4M3, E5M2, FORMATS
from minidsv3.numerics import tensor_core as emulator
from minidsv3.numerics.tensor_core import ZEROS, mma

Codes = NDArray[Any]
SIZE = 8  # rows and columns of a drawn product at most; K is two instructions

# ---- numbers that are hard ---------------------------------------------------------------------------------

KINDS = (
    "ordinary", "any code", "cancelling", "zeros beside a tiny C", "subnormal", "C leads", "C cancels",
    "overflow", "specials",
)  # fmt: skip


class Case(NamedTuple):
    unit: TensorCore
    a_format: str
    b_format: str

    def __str__(self) -> str:
        half = "-half" if self.unit.output == "fp16" else ""
        return f"{self.unit.family}-{self.unit.format}{half}-{self.a_format}-{self.b_format}"


def cases() -> Iterator[Case]:
    """Every row with its formats, FP8 mixed too, and with FP16 output where there is any."""
    for rows in TENSOR_CORES.values():
        for unit in rows.values():
            yield from (Case(unit, a, b) for a in unit.operands[:2] for b in unit.operands[:2])
            if len(unit.operands) > 2:
                yield from (Case(unit, *pair) for pair in (("e3m2", "e2m1"), ("e2m3", "e5m2")))
            if unit.half_floor is not None:
                yield from (Case(unit.to_half(), a, a) for a in unit.operands)


CASES = list(cases())
every_case = pytest.mark.parametrize("case", CASES, ids=str)


class Drawn(NamedTuple):
    a: Codes  # [M, K]
    b: Codes  # [K, N]
    c: NDArray[np.float32]  # [M, N]
    a_scale: Codes | None  # [M, K / block]
    b_scale: Codes | None  # [K / block, N]


def operand(kind: str, name: str, shape: tuple[int, int], rng: np.random.Generator) -> Codes:
    """Codes of one matrix."""
    fmt = FORMATS[name]
    sign = rng.integers(0, 2, shape) << (fmt.bits - 1)
    if kind == "ordinary":
        scale = np.exp2(rng.integers(-2, 3)) * (0.1 * fmt.largest if fmt.bits <= 8 else 1)
        codes = fmt.encode((rng.standard_normal(shape) * scale).astype(np.float32), "saturate")
    elif kind == "zeros beside a tiny C":
        magnitude = rng.integers(0, fmt.top + 1, shape) * (rng.random(shape) < rng.choice([0, 0.02, 0.2]))
        codes = sign | magnitude
    elif kind == "subnormal":
        codes = sign | rng.integers(0, 3 << fmt.fraction_bits, shape)
    elif kind == "overflow":
        few = min(fmt.top, 3 << fmt.fraction_bits)
        codes = sign | (fmt.top - rng.integers(0, few, shape))
    elif kind == "specials":
        codes = rng.integers(0, 1 << fmt.bits, shape)
        above = (codes & ((1 << (fmt.bits - 1)) - 1)) > fmt.top
        codes = np.where(above & (rng.random(shape) < 0.7), 0, codes)
        lone = rng.random(shape) < 0.01
        codes = np.where(lone, sign | min(fmt.top + 1, (1 << (fmt.bits - 1)) - 1), codes)
    else:
        codes = sign | rng.integers(0, fmt.top + 1, shape)
    return codes.astype(fmt.dtype)


def draw(case: Case, kind: str, rng: np.random.Generator) -> Drawn:
    """A product of SIZE x SIZE over two instructions."""
    unit, K = case.unit, 2 * case.unit.depth
    a = operand(kind, case.a_format, (SIZE, K), rng)
    b = operand(kind, case.b_format, (K, SIZE), rng)
    if kind == "cancelling":  # pairs of equal products of opposite sign, all but one pair
        a[:, 1::2], b[1::2] = a[:, ::2], b[::2]
        a[:, 1::2] ^= FORMATS[case.a_format].dtype.type(1 << (FORMATS[case.a_format].bits - 1))
        a[:, -1] = operand("any code", case.a_format, (SIZE, 1), rng)[:, 0]
        order = rng.permutation(K)
        a, b = a[:, order], b[order]
    a_scale = scales(unit, (SIZE, K), rng)
    b_scale = scales(unit, (SIZE, K), rng)
    return Drawn(a, b, accumulator(case, kind, a, b, rng), a_scale, None if b_scale is None else b_scale.T)


def accumulator(case: Case, kind: str, a: Codes, b: Codes, rng: np.random.Generator) -> NDArray[np.float32]:
    """C for operands drawn; some zeros of both signs in any case."""
    values_a, values_b = (
        FORMATS[name].decode(codes).astype(np.float64)
        for name, codes in ((case.a_format, a), (case.b_format, b))
    )
    with np.errstate(all="ignore"):
        size = np.nan_to_num(np.abs(values_a) @ np.abs(values_b), nan=1, posinf=1)
        exact = np.nan_to_num(values_a @ values_b, nan=1, posinf=1, neginf=1)
        c = size * rng.standard_normal(size.shape) * np.exp2(rng.integers(-16, 2, size.shape))
        if kind == "C leads":
            c = size * rng.standard_normal(size.shape) * np.exp2(rng.integers(0, 30, size.shape))
        if kind == "C cancels":
            c = -exact * (1 + np.exp2(rng.integers(-26, -6, size.shape)))
        if kind == "zeros beside a tiny C":
            c = np.ldexp(rng.standard_normal(size.shape), rng.integers(-149, -100, size.shape))
        if kind == "overflow":
            c = rng.choice([-1, 1], size.shape) * np.float32(3.4028234e38) * rng.random(size.shape)
        c = np.where(rng.random(size.shape) < 0.15, rng.choice([0.0, -0.0], size.shape), c)
        c = c.astype(np.float32)
        if kind == "specials":
            c = np.where(rng.random(size.shape) < 0.1, rng.choice([np.inf, -np.inf, np.nan], size.shape), c)
        if case.unit.output == "fp16":
            c = c.astype(np.float16)
        return c.astype(np.float32)


def scales(unit: TensorCore, shape: tuple[int, int], rng: np.random.Generator) -> Codes | None:
    """Codes of scales: near one another, or anywhere."""
    if not unit.scale_block:
        return None
    blocks = (shape[0], shape[1] // unit.scale_block)
    if unit.scale_format == "e4m3":
        return rng.integers(1, 0x7F, blocks).astype(np.uint8)
    near = rng.integers(115, 140, blocks)
    return np.where(rng.random(blocks) < 0.9, near, rng.integers(0, 255, blocks)).astype(np.uint8)


# ---- emulator and oracle side by side ----------------------------------------------------------------------


def rules_of(unit: TensorCore, zeros: str = "zero-operand") -> Rules:
    return Rules(
        terms=unit.terms,
        fraction_bits=unit.fraction_bits,
        output_fraction_bits=unit.output_fraction_bits,
        nearest=unit.rounding == "nearest-even",
        half=unit.output == "fp16",
        added=unit.accumulator == "added",
        group=unit.group,
        scale_block=unit.scale_block,
        zeros=zeros,
        floor=unit.exponent_floor,
    )


def scale_numbers(unit: TensorCore, codes: Codes | None) -> list[list[Number]]:
    """Numbers of each row of scale codes."""
    if codes is None:
        return []
    if unit.scale_format == "e4m3":
        return [[decode(code, "e4m3") for code in row] for row in codes.tolist()]
    return [[Number(False, 1, code - 127, 0) for code in row] for row in codes.tolist()]


def by_oracle(case: Case, drawn: Drawn, rules: Rules) -> NDArray[np.uint32]:
    """Bits of the result, one element at a time.  [M, N]."""
    rows = [[decode(code, case.a_format) for code in row] for row in drawn.a.tolist()]
    columns = [[decode(code, case.b_format) for code in column] for column in drawn.b.T.tolist()]
    row_scales = scale_numbers(case.unit, drawn.a_scale)
    column_scales = scale_numbers(case.unit, None if drawn.b_scale is None else drawn.b_scale.T)
    start = drawn.c.astype(np.float16).view(np.uint16) if rules.half else drawn.c.view(np.uint32)
    found = np.empty(start.shape, np.uint16 if rules.half else np.uint32)
    for m, n in np.ndindex(start.shape):
        pairs = [*zip(row_scales[m], column_scales[n], strict=True)] if row_scales else None
        found[m, n] = dot(rows[m], columns[n], int(start[m, n]), rules, pairs)
    if rules.half:
        wide = found.view(np.float16).astype(np.float32).view(np.uint32)
        return np.where(found == 0x7FFF, np.uint32(0x7FFFFFFF), wide)
    return found


def by_emulator(case: Case, drawn: Drawn, zeros: str = "zero-operand") -> NDArray[np.uint32]:
    result = mma(
        drawn.a, drawn.b, drawn.c, case.unit,
        a_format=FORMATS[case.a_format], b_format=FORMATS[case.b_format],
        a_scale=drawn.a_scale, b_scale=drawn.b_scale, zeros=zeros,
    )  # fmt: skip
    assert result.dtype == np.float32
    return result.view(np.uint32)


def compare(case: Case, seed: int, zeros: str) -> int:
    """Every kind of numbers; how many results were compared."""
    count = 0
    for i, kind in enumerate(KINDS):
        drawn = draw(case, kind, np.random.default_rng([seed, i]))
        expected, found = by_oracle(case, drawn, rules_of(case.unit, zeros)), by_emulator(case, drawn, zeros)
        wrong = np.argwhere(expected != found)
        assert not len(wrong), (
            f"{case}, {kind}, {zeros}: {len(wrong)} of {found.size}, first at {wrong[0]}: "
            f"expected {expected[tuple(wrong[0])]:08x}, got {found[tuple(wrong[0])]:08x}"
        )
        count += found.size
    return count


@every_case
def test_equal_to_exact_integers(case: Case) -> None:
    compare(case, 0, ZEROS[0])


@pytest.mark.slow
def test_equal_to_exact_integers_a_hundred_thousand_times() -> None:
    """All units, all kinds of numbers, all conventions for zeros."""
    count = sum(compare(case, seed, ZEROS[seed % 3]) for case in CASES for seed in range(1, 7))
    print(f"\n{count} results equal to the oracle's")
    assert count >= 100_000
