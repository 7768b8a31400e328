"""The emulator against exact integers on numbers that are hard, and the misreadings that these catch."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from numerics.oracle import READINGS, Number, Rules, decode, dot
from numpy.typing import NDArray

from minidsv3.hardware import TENSOR_CORES, TensorCore, load_hardware, tensor_core
from minidsv3.numerics import BF16, E4M3, E5M2, FORMATS, fused_step, mma_trace
from minidsv3.numerics import tensor_core as emulator
from minidsv3.numerics.tensor_core import ZEROS, mma

Codes = NDArray[Any]
SIZES = {"default": 3, "slow": 8}  # rows and columns of a drawn product; K is two instructions

# ---- numbers that are hard ---------------------------------------------------------------------------------

KINDS = (
    "ordinary", "any code", "spread", "spread and cancelling", "cancelling", "zeros beside a tiny C",
    "subnormal", "deep", "C leads", "C cancels", "overflow", "specials",
)  # fmt: skip

WINDOWS = {"spread": (-14, 6), "spread and cancelling": (-14, 6), "deep": (-76, -58), "large": (60, 80)}


@dataclass(frozen=True)
class Case:
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
    elif kind == "subnormal":  # few at a time; draw multiplies them by large numbers
        few = rng.random(shape) < rng.choice([0.1, 0.3, 1])
        codes = (sign | rng.integers(0, int(rng.choice([1, 3])) << fmt.fraction_bits, shape)) * few
    elif kind in WINDOWS:  # exponents over as much as a step keeps
        low, high = WINDOWS[kind]
        values = np.exp2(rng.uniform(low, high, shape)) * rng.choice([-1, 1], shape)
        codes = fmt.encode(values.astype(np.float32), "saturate")
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


def draw(case: Case, kind: str, rng: np.random.Generator, size: int) -> Drawn:
    """A product of size x size over two instructions."""
    unit, K = case.unit, 2 * case.unit.depth
    a = operand(kind, case.a_format, (size, K), rng)
    large = "large" if FORMATS[case.b_format].exponent_bits == 8 else "spread"
    b = operand(large if kind == "subnormal" else kind, case.b_format, (K, size), rng)
    if "cancelling" in kind:  # pairs of equal products of opposite sign, all but a few, in one instruction
        a[:, 1::2], b[1::2] = a[:, ::2], b[::2]
        a[:, 1::2] ^= FORMATS[case.a_format].dtype.type(1 << (FORMATS[case.a_format].bits - 1))
        a[:, ::6] = operand(kind, case.a_format, a[:, ::6].shape, rng)
        order = np.concatenate([k + rng.permutation(unit.depth) for k in (0, unit.depth)])
        a, b = a[:, order], b[order]
    a_scale = scales(unit, (size, K), rng)
    b_scale = scales(unit, (size, K), rng)
    return Drawn(a, b, accumulator(case, kind, a, b, rng), a_scale, None if b_scale is None else b_scale.T)


def accumulator(case: Case, kind: str, a: Codes, b: Codes, rng: np.random.Generator) -> NDArray[np.float32]:
    """C for operands drawn; some zeros of both signs in any case."""
    with np.errstate(all="ignore"):
        values_a, values_b = (
            FORMATS[name].decode(codes).astype(np.float64)
            for name, codes in ((case.a_format, a), (case.b_format, b))
        )
        size = np.nan_to_num(np.abs(values_a) @ np.abs(values_b), nan=1, posinf=1)
        exact = np.nan_to_num(values_a @ values_b, nan=1, posinf=1, neginf=1)
        c = size * rng.standard_normal(size.shape) * np.exp2(rng.integers(-16, 2, size.shape))
        if kind == "C leads":
            c = size * rng.standard_normal(size.shape) * np.exp2(rng.integers(0, 30, size.shape))
        if kind == "C cancels":
            c = -exact * (1 + np.exp2(rng.integers(-26, -6, size.shape)))
        if kind == "deep":
            c = np.where(rng.random(size.shape) < 0.7, 0, c)
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


def compare(case: Case, seed: int, zeros: str, size: int) -> int:
    """Every kind of numbers; how many results were compared."""
    count = 0
    for i, kind in enumerate(KINDS):
        drawn = draw(case, kind, np.random.default_rng([seed, i]), size)
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
    assert compare(case, 0, ZEROS[0], SIZES["default"]) == len(KINDS) * SIZES["default"] ** 2


@pytest.mark.slow
def test_equal_to_exact_integers_a_hundred_thousand_times() -> None:
    """All units, all kinds of numbers, all conventions for zeros."""
    counts = [compare(case, 1 + i, ZEROS[i % 3], SIZES["slow"]) for case in CASES for i in range(4)]
    print(f"\n{sum(counts)} results of {len(CASES)} units and formats equal to the oracle's")
    assert sum(counts) >= 100_000


def test_the_oracle_decodes_as_the_formats_do() -> None:
    """So that both do not share one mistake: values of codes against the formats' own."""
    for name in ("e4m3", "e5m2", "e3m2", "e2m3", "e2m1", "fp16", "bf16"):
        codes = np.arange(0, 1 << FORMATS[name].bits, 1 if FORMATS[name].bits <= 8 else 31)
        for code, value in zip(codes.tolist(), FORMATS[name].decode(codes).tolist(), strict=True):
            number = decode(code, name)
            assert number.special == ("nan" if np.isnan(value) else "inf" if np.isinf(value) else "")
            assert number.special or float(number.value) == value


# ---- misreadings -------------------------------------------------------------------------------------------

HOPPER = Case(tensor_core("hopper-wgmma", "fp8"), "e4m3", "e4m3")
# what a reading cannot change: the sum keeps 23 bits anyway; BF16's subnormals have exponent -126, as zeros
NO_CHANGE = {
    "hopper-wgmma-bf16-bf16-bf16": {"uncut result", "zero product lifts"},
    "ampere-bf16-bf16-bf16": {"uncut result", "zero product lifts"},
}


def changed(case: Case, reading: str) -> tuple[int, int]:
    """How many of the results drawn a misreading changes, and of how many."""
    several, all_ = 0, 0
    for i, kind in enumerate(KINDS):
        drawn = draw(case, kind, np.random.default_rng([0, i]), 5)
        misread = by_oracle(case, drawn, rules_of(case.unit).read_as(reading))
        several += int((misread != by_emulator(case, drawn)).sum())
        all_ += misread.size
    return several, all_


@pytest.mark.parametrize(
    "case",
    [
        HOPPER,
        Case(tensor_core("hopper-wgmma", "fp8"), "e5m2", "e5m2"),
        Case(tensor_core("ada", "fp8"), "e4m3", "e4m3"),
        Case(tensor_core("hopper-wgmma", "bf16"), "bf16", "bf16"),
        Case(tensor_core("ampere", "bf16"), "bf16", "bf16"),
    ],
    ids=str,
)
def test_every_misreading_is_caught(case: Case) -> None:
    """The numbers of the test above are such that no way to misread the rules passes it."""
    print(f"\n{case}")
    for reading, words in READINGS.items():
        several, all_ = changed(case, reading)
        print(f"  {several:4} of {all_} changed   {reading}: {words}")
        assert bool(several) != (reading in NO_CHANGE.get(str(case), set())), reading


def test_another_unit_is_another_result() -> None:
    """The rows of the data matter: each field of Hopper's FP8 changed by hand changes results."""
    drawn = draw(HOPPER, "ordinary", np.random.default_rng(0), 8)
    here = by_emulator(HOPPER, drawn)
    for change in (
        {"fraction_bits": 12}, {"fraction_bits": 14}, {"output_fraction_bits": 23}, {"terms": 16},
        {"rounding": "nearest-even"}, {"terms": 64, "depth": 64},
    ):  # fmt: skip
        unit = replace(HOPPER.unit, **change)  # type: ignore[arg-type]
        case = Case(unit, "e4m3", "e4m3")
        np.testing.assert_array_equal(by_emulator(case, drawn), by_oracle(case, drawn, rules_of(unit)))
        assert (by_emulator(case, drawn) != here).any(), change


# ---- by hand -----------------------------------------------------------------------------------------------

FP8 = load_hardware("h800").tensor_core["fp8"]


def one(
    a: list[float], b: list[float], c: float = 0.0, unit: TensorCore = FP8, zeros: str = ZEROS[0]
) -> float:
    """One element; operands padded with zeros to an instruction."""
    fmt = FORMATS[unit.operands[0]]
    codes = (fmt.encode(np.array(x, np.float32))[None] for x in (a, b))
    start = np.full((1, 1), c, np.float32)
    return float(mma(next(codes), next(codes).T, start, unit, zeros=zeros, pad=True)[0, 0])


def test_examples_by_hand() -> None:
    # 1.75 x 1.75 = 3.0625 aligns at 2^0, not at 2^1: 2^-13 beside it survives the alignment, and the sum,
    # 1.53.. x 2^1, is cut at 2^-12
    assert one([1.75, 2**-6], [1.75, 2**-7]) == 3.0625
    assert one([1.75, 2**-6, 2**-6], [1.75, 2**-7, 2**-7]) == 3.0625 + 2**-12
    # below 2^(8 - 13) nothing is left, of either sign
    assert one([256, 2**-6], [1, 1]) == 256
    assert one([256, -(2**-6)], [1, 1]) == 256
    # toward zero, not down: the term is gone, not -1 unit
    assert one([256, -(2**-6), -256], [1, 1, 1]) == 0
    # the accumulator has its say in the largest exponent
    assert one([1.0], [1.0], c=2.0**14) == 2.0**14
    assert one([1.0], [1.0], c=2.0**13) == 2.0**13 + 1
    # A = B = 0 returns C with ten bits cleared
    assert one([0.0], [0.0], c=1 + 2**-13 + 2**-14) == 1 + 2**-13
    # cancellation leaves +0
    assert math.copysign(1, one([-1.0, 1.0], [1.0, 1.0], c=-0.0)) == 1


def test_specials() -> None:
    inf, nan, E5 = math.inf, math.nan, Case(FP8, "e5m2", "e5m2")
    table = [
        ([inf, 1], [1, 1], 0.0, inf),
        ([-inf, 1], [2, 1], 5.0, -inf),
        ([inf, -inf], [1, 1], 0.0, nan),
        ([inf], [0], 0.0, nan),
        ([nan], [0], 0.0, nan),
        ([inf], [1], -inf, nan),
        ([1], [1], -inf, -inf),
        ([1], [1], nan, nan),
        ([57344] * 32, [57344] * 32, 3.4e38, 3.4e38 - 0),
    ]
    for a, b, c, expected in table:
        codes = (E5M2.encode(np.array(x, np.float32), "nonsaturating") for x in (a, b))
        fmt = {"a_format": E5M2, "b_format": E5M2}
        start = np.full((1, 1), c, np.float32)
        found = mma(next(codes)[None], next(codes)[:, None], start, E5.unit, **fmt, pad=True)
        if math.isnan(expected):
            assert found.view(np.uint32)[0, 0] == 0x7FFFFFFF
        else:
            assert found[0, 0] == pytest.approx(expected, rel=2**-12)


def test_overflow_is_infinite() -> None:
    """Toward zero, and yet infinite beyond 2^128; just below, the largest number."""
    bf16 = tensor_core("hopper-wgmma", "bf16")
    top = np.float32(BF16.largest)
    assert one([2.0**64], [2.0**64], unit=bf16) == math.inf
    assert one([-(2.0**64)], [2.0**64], unit=bf16) == -math.inf
    assert one([2.0**64, -(2.0**64)], [2.0**64, 2.0**63], unit=bf16) == 2.0**127  # the sum decides
    largest = float(np.finfo(np.float32).max)
    assert one([top, 2.0**60], [1, 2.0**59], unit=bf16) == float(top) + 2.0**119 < largest
    assert one([2.0**64, -1], [2.0**64, 2.0**103], unit=bf16) == largest  # 2^128 - 2^103 is cut, not rounded


def test_order_within_an_instruction_cannot_matter_and_of_instructions_does() -> None:
    drawn = draw(HOPPER, "ordinary", np.random.default_rng(3), 8)
    here = by_emulator(HOPPER, drawn)
    shuffled = np.random.default_rng(4).permutation(32)
    within = np.concatenate([shuffled, 32 + shuffled])
    swapped = np.roll(np.arange(64), 32)
    for order, same in ((within, True), (swapped, False)):
        again = by_emulator(HOPPER, drawn._replace(a=drawn.a[:, order], b=drawn.b[order]))
        assert np.array_equal(here, again) == same


def test_sums_of_one_sign_come_out_low() -> None:
    rng = np.random.default_rng(0)
    a, b = E4M3.encode(rng.random((16, 512), np.float32)), E4M3.encode(rng.random((512, 16), np.float32))
    exact = E4M3.decode(a).astype(float) @ E4M3.decode(b)
    assert (mma(a, b, None, FP8) < exact).all()


# ---- zeros -------------------------------------------------------------------------------------------------


def test_contested_zeros() -> None:
    """Where the conventions differ, by hand; all three are the same where C is not tiny."""
    # a zero operand at -126 beside 2^8: the product stands at 2^-118, and C at 2^-120 loses its last two bits
    c = 2.0**-120 * (1 + 2**-13)
    found = {zeros: one([0.0], [256.0], c=c, zeros=zeros) for zeros in ZEROS}
    assert found == {"zero-operand": 2.0**-120, "zero-product": c, "dropped": c}
    # BF16: zero times something huge, at -126 + 127, beside something much smaller
    bf16 = tensor_core("hopper-wgmma", "bf16")
    found = {zeros: one([0.0, 2.0**-30], [2.0**127, 1.0], unit=bf16, zeros=zeros) for zeros in ZEROS}
    assert found == {"zero-operand": 0.0, "zero-product": 2.0**-30, "dropped": 2.0**-30}
    # deep underflow: C = 0 holds the exponent at -126, a floor at -133, and FP32 ends at 2^-149
    deep = [1.5 * 2.0**-75, 2.0**-80], [2.0**-60, 2.0**-71]  # 1.5 x 2^-135 and 2^-151, left out of FP32
    found = {zeros: one(*deep, unit=bf16, zeros=zeros) for zeros in ZEROS}
    assert set(found.values()) == {1.5 * 2.0**-135}
    for kind in ("ordinary", "any code", "cancelling", "C leads"):
        drawn = draw(HOPPER, kind, np.random.default_rng(1), 8)
        drawn.c[np.abs(drawn.c) < 2.0**-100] = 0
        results = [by_emulator(HOPPER, drawn, zeros) for zeros in ZEROS]
        assert all(np.array_equal(results[0], other) for other in results)


@pytest.mark.parametrize("zeros", ZEROS)
def test_conventions_for_zeros_follow_the_oracle_and_differ(zeros: str) -> None:
    case = Case(tensor_core("hopper-wgmma", "bf16"), "bf16", "bf16")
    count = compare(case, 0, zeros, 6)
    other = ZEROS[(ZEROS.index(zeros) + 1) % 3]
    differ = sum(
        int((by_emulator(case, drawn, zeros) != by_emulator(case, drawn, other)).sum())
        for i in range(40)
        for kind in ("zeros beside a tiny C", "specials", "deep")
        for drawn in [draw(case, kind, np.random.default_rng([7, i]), 6)]
    )
    print(f"\n{zeros}: {count} equal to the oracle's; {differ} of {40 * 3 * 36} differ from {other}")
    assert differ


# ---- the specification, shapes, memory ---------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in CASES if not case.unit.scale_block], ids=str)
def test_the_trace_is_the_emulators_twin(case: Case) -> None:
    """Element by element on finite numbers; what is kept and what is dropped make up the value."""
    if case.unit.accumulator != "aligned":
        with pytest.raises(ValueError, match="expected a unit without scales, C aligned"):
            mma_trace([0], [0], 0.0, case.unit)
        return
    formats = {"a_format": FORMATS[case.a_format], "b_format": FORMATS[case.b_format]}
    for i, kind in enumerate(KINDS[:-1]):
        drawn, zeros = draw(case, kind, np.random.default_rng([5, i]), 2), ZEROS[i % 3]
        found = by_emulator(case, drawn, zeros)
        for m, n in np.ndindex(found.shape):
            if not np.isfinite(found[m, n : n + 1].view(np.float32)).all():
                continue
            try:
                steps = mma_trace(
                    drawn.a[m], drawn.b[:, n], float(drawn.c[m, n]), case.unit, zeros=zeros, **formats
                )
            except ValueError:  # an infinity on the way
                assert kind == "overflow"
                continue
            assert steps[-1].result_bits == found[m, n]
            for step in steps:
                assert step.total == sum(term.kept for term in step.terms)
                for term in step.terms:
                    assert Fraction(term.value) == term.kept * Fraction(2) ** step.last + Fraction(
                        term.dropped
                    )
                    assert abs(term.dropped) < Fraction(2) ** step.last
                    assert term.value == term.a * term.b


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 70), (70, 3), (33, 34)])
@pytest.mark.parametrize("name", ["fp8", "bf16"])
def test_blocks_and_panels_do_not_show(
    name: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = tensor_core("hopper-wgmma", name)
    rng, K = np.random.default_rng(0), 4 * unit.depth
    a, b = (operand("any code", unit.operands[0], size, rng) for size in ((shape[0], K), (K, shape[1])))
    c = rng.standard_normal(shape).astype(np.float32)
    whole = mma(a, b, c, unit)
    assert whole.flags.c_contiguous
    monkeypatch.setattr(emulator, "PANEL", (unit.depth, 16, 20))
    monkeypatch.setattr(emulator, "BLOCK", (36, 7))
    monkeypatch.setattr(fused_step, "CHUNK", 3 * unit.terms * 7)
    np.testing.assert_array_equal(mma(a, b, c, unit).view(np.uint32), whole.view(np.uint32))
    turned = mma(np.asfortranarray(a), np.asfortranarray(b), np.asfortranarray(c), unit)
    np.testing.assert_array_equal(turned, whole)
    one_by_one = np.array(
        [[mma(a[[m]], b[:, [n]], c[[m]][:, [n]], unit)[0, 0] for n in range(shape[1])] for m in (0, -1)]
    )
    np.testing.assert_array_equal(one_by_one, whole[[0, -1]])


@pytest.mark.parametrize(
    ("M", "N", "K"),
    [
        *((1, 128, 1 << 16), (2, 1 << 16, 32), (1 << 16, 2, 32), (2048, 2048, 32)),
        pytest.param(520, 2100, 512, marks=pytest.mark.slow),
    ],
)
def test_memory_is_bounded(M: int, N: int, K: int) -> None:
    """Beside operands and result some 35 MB, whichever side is long."""
    a, b = np.ones((M, K), np.uint8), np.ones((K, N), np.uint8)
    tracemalloc.start()
    result = mma(a, b, None, FP8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - 2 * result.nbytes < 35e6


def test_padding_is_zeros() -> None:
    rng = np.random.default_rng(0)
    a, b = operand("ordinary", "e4m3", (3, 40), rng), operand("ordinary", "e4m3", (40, 3), rng)
    filled = mma(np.pad(a, ((0, 0), (0, 24))), np.pad(b, ((0, 24), (0, 0))), None, FP8)
    np.testing.assert_array_equal(mma(a, b, None, FP8, pad=True), filled)


def test_nothing_to_add() -> None:
    c = np.float32([[1.1, -0.0]])
    np.testing.assert_array_equal(mma(np.zeros((1, 0), np.uint8), np.zeros((0, 2), np.uint8), c, FP8), c)
    assert mma(np.zeros((0, 32), np.uint8), np.zeros((32, 5), np.uint8), None, FP8).shape == (0, 5)
    assert mma(np.zeros((5, 32), np.uint8), np.zeros((32, 0), np.uint8), None, FP8).shape == (5, 0)


def test_the_accumulator_given_is_left_alone() -> None:
    c = np.ones((1, 1), np.float32)
    mma(E4M3.encode(np.ones((1, 32), np.float32)), E4M3.encode(np.ones((32, 1), np.float32)), c, FP8)
    assert c == 1


# ---- bad input ---------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "a_codes": np.zeros((2, 32), np.uint8),
    "b_codes": np.zeros((32, 3), np.uint8),
    "c": None,
    "unit": FP8,
}
MX = tensor_core("blackwell-tcgen05", "mxf8f6f4")
ONES = {"a_scale": np.full((2, 1), 127, np.uint8), "b_scale": np.full((1, 3), 127, np.uint8)}


def test_good_input_is_good() -> None:
    assert mma(**GOOD).shape == (2, 3)
    assert mma(**GOOD | {"unit": MX}, **ONES).shape == (2, 3)


MATRIX = r"expected a_codes \[M, K\]"
HALF = {
    "unit": tensor_core("hopper-mma", "fp16").to_half(),
    "a_codes": np.zeros((2, 32), np.uint16),
    "b_codes": np.zeros((32, 3), np.uint16),
    "c": np.full((2, 3), 1e-9, np.float32),
}
RAGGED = {"a_codes": np.zeros((2, 33), np.uint8), "b_codes": np.zeros((33, 3), np.uint8)}
INT8 = {"unit": replace(FP8, format="int8", operands=())}
WIDE = {"a_scale": np.full((2, 2), 127, np.uint8)}
NO_NUMBER = {"b_scale": np.full((1, 3), 255, np.uint8)}


@pytest.mark.parametrize(
    ("change", "expectation"),
    [
        ({"a_codes": np.zeros((2, 32), np.float32)}, MATRIX + " as integer codes of e4m3, got float32"),
        ({"a_codes": np.full((2, 32), 256)}, MATRIX + " codes of e4m3, 0 .. 255, got 256 .. 256"),
        ({"a_codes": np.full((2, 32), -1)}, MATRIX + " codes of e4m3, 0 .. 255, got -1 .. -1"),
        ({"a_codes": np.zeros(32, np.uint8)}, MATRIX + r", got shape \(32,\)"),
        ({"b_codes": np.zeros((64, 3), np.uint8)}, r"with one K, got \(2, 32\) and \(64, 3\)"),
        (RAGGED, r"expected K a multiple of the depth 32, got 33 \(or pad=True\)"),
        ({"c": np.zeros((2, 3))}, r"expected c float32 \(2, 3\), got float64 \(2, 3\)"),
        ({"c": np.zeros((3, 2), np.float32)}, r"expected c float32 \(2, 3\), got float32 \(3, 2\)"),
        ({"zeros": "none"}, "expected zeros one of .*, got 'none'"),
        ({"a_format": BF16}, "expected a_format one of e4m3, e5m2, got bf16"),
        ({"b_format": "e4m3"}, "expected b_format one of e4m3, e5m2, got 'e4m3'"),
        ({"unit": "fp8"}, "expected a unit, .*, got 'fp8'"),
        ({"unit": replace(FP8, operands=("e9",))}, "expected operands among fp32, .*, got e9"),
        (INT8, "expected a unit with operand formats, got format 'int8'"),
        ({"unit": MX}, "expected a_scale .* in ue8m0 for mxf8f6f4, got none"),
        (dict(ONES), "expected no a_scale .* for fp8, got one"),
        ({"unit": MX} | ONES | WIDE, r"expected a_scale .* \(2, 1\), got \(2, 2\)"),
        ({"unit": MX} | ONES | NO_NUMBER, "expected b_scale .* above zero, got nan"),
        (HALF, "expected c of FP16 values"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], expectation: str) -> None:
    with pytest.raises(ValueError, match=expectation):
        mma(**{**GOOD, **change})


@pytest.mark.parametrize("scale", [0x00, 0x81, 0x7F])
def test_scales_of_nvfp4_are_above_zero(scale: int) -> None:
    unit = tensor_core("blackwell-tcgen05", "nvf4")
    a_scale, b_scale = np.full((1, 4), 0x38, np.uint8), np.full((4, 1), scale, np.uint8)
    with pytest.raises(ValueError, match=r"expected b_scale .* above zero, got"):
        mma(
            np.zeros((1, 64), np.uint8),
            np.zeros((64, 1), np.uint8),
            None,
            unit,
            a_scale=a_scale,
            b_scale=b_scale,
        )


def test_the_trace_refuses_what_it_cannot_show() -> None:
    with pytest.raises(ValueError, match="expected finite numbers, got nan in e4m3"):
        mma_trace([0x7F], [0], 0.0, FP8)
    with pytest.raises(ValueError, match="expected finite numbers, got inf in fp32"):
        mma_trace([0], [0], math.inf, FP8)
    with pytest.raises(ValueError, match="expected a_row and b_column of one length K, got 1 and 2"):
        mma_trace([0], [0, 0], 0.0, FP8)
    with pytest.raises(ValueError, match="expected zeros one of"):
        mma_trace([0], [0], 0.0, FP8, zeros="some")
    with pytest.raises(ValueError, match=r"expected c a single float32, got shape \(2,\)"):
        mma_trace([0], [0], np.zeros(2, np.float32), FP8)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected numbers, got object"):
        mma_trace([0], [0], None, FP8)  # type: ignore[arg-type]
