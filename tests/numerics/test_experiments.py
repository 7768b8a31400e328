"""The experiments find what they are there to show, and the figures that others measured."""

from itertools import pairwise

import numpy as np
import pytest

from minidsv3.hardware import TENSOR_CORES, load_hardware
from minidsv3.numerics import E4M3, FORMATS, mma
from minidsv3.numerics.experiments import accumulation_errors, dot_trace, rounded_operands, with_fraction_bits

FP8 = load_hardware("h800").tensor_core["fp8"]


def medians(**options: object) -> dict[tuple[str, int, int | None], float]:
    rows = accumulation_errors(FP8, **options)  # type: ignore[arg-type]
    return {(row.operands, row.k, row.interval): row.median for row in rows}


@pytest.mark.slow
def test_the_errors_of_long_sums_are_those_that_were_measured_elsewhere() -> None:
    """Medians at K = 4096 of an independent emulator on the same distributions, another draw."""
    found = medians(lengths=[4096])
    expected = {
        ("uniform [0, 1)", None): 7.45e-2,
        ("uniform [0, 1)", 128): 5.5e-4,
        ("absolute normal", None): 7.11e-2,
        ("absolute normal", 128): 6.6e-4,
        ("normal", None): 8.7e-4,
        ("normal", 128): 1.2e-4,
    }
    for (kind, interval), median in expected.items():
        assert found[kind, 4096, interval] == pytest.approx(median, rel=0.15), (kind, interval)
    promoted_late = medians(lengths=[4096], operands=["uniform [0, 1)"], intervals=[512])
    assert promoted_late["uniform [0, 1)", 4096, 512] == pytest.approx(5.8e-3, rel=0.1)


def test_promotion_bounds_the_error_and_one_accumulator_does_not() -> None:
    lengths = [128, 256, 512, 1024, 2048]
    found = medians(lengths=lengths, operands=["uniform [0, 1)"], side=16)
    alone = [found["uniform [0, 1)", k, None] for k in lengths]
    promoted = [found["uniform [0, 1)", k, 128] for k in lengths]
    assert all(b > 1.8 * a for a, b in pairwise(alone))
    assert max(promoted) < 1.5 * min(promoted)
    assert alone[0] == promoted[0]  # nothing is promoted before the first interval is over


def test_truncation_makes_sums_of_one_sign_smaller_and_no_others() -> None:
    rows = {row.operands: row for row in accumulation_errors(FP8, [1024], intervals=[None])}
    assert rows["uniform [0, 1)"].low == 1.0
    assert 0.3 < rows["normal"].low < 0.8
    assert rows["normal"].normwise < rows["normal"].worst


def test_more_bits_less_error() -> None:
    errors = [
        accumulation_errors(with_fraction_bits(FP8, bits), [1024], ["uniform [0, 1)"], [None], 8)[0].median
        for bits in (8, 10, 12, 13, 14, 16, 20)
    ]
    assert all(a > b for a, b in pairwise(errors))


def test_a_narrower_unit_keeps_its_habits() -> None:
    other = with_fraction_bits(FP8, 16)
    assert (other.output_fraction_bits, other.silicon, other.status) == (16, "", "assumed")
    assert with_fraction_bits(FP8, 13) is FP8
    assert with_fraction_bits(FP8, 30).output_fraction_bits == 23
    bf16 = load_hardware("h800").tensor_core["bf16"]
    assert with_fraction_bits(bf16, 13).output_fraction_bits == 13
    for bits in (0, 36):
        with pytest.raises(ValueError, match=r"1 \.\. 35"):
            with_fraction_bits(FP8, bits)


@pytest.mark.parametrize("lengths", [[33], [100, 300], [128, 130], [32, 5]])
def test_sums_of_any_length_are_those_of_the_emulator(lengths: list[int]) -> None:
    """The walk along K against one call of `mma` for each length."""
    rng = np.random.default_rng(0)
    a, b = (rounded_operands("normal", (4, max(lengths)), E4M3, rng) for _ in range(2))
    x, y = (E4M3.decode(codes).astype(np.float64) for codes in (a, b))
    rows = accumulation_errors(FP8, lengths, ["normal"], [None], side=4)
    for row, k in zip(rows, lengths, strict=True):
        got, exact = mma(a[:, :k], b[:, :k].T, None, FP8, pad=True), x[:, :k] @ y[:, :k].T
        assert row.median == np.median(np.abs(got - exact) / np.abs(exact))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lengths": []}, "lengths of at least 1"),
        ({"lengths": [0]}, "lengths of at least 1"),
        ({"lengths": [64], "intervals": [48]}, "whole instructions of K = 32, got 48"),
    ],
)
def test_bad_requests(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        accumulation_errors(FP8, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("interval", [None, 128])
@pytest.mark.parametrize("name", ["fp8", "bf16", "tf32"])
def test_a_traced_sum_is_the_emulators(name: str, interval: int | None) -> None:
    unit, rng = TENSOR_CORES["hopper-wgmma"][name], np.random.default_rng(3)
    fmt = FORMATS[unit.operands[0]]
    a, b = (rounded_operands("normal", (1, 256), fmt, rng) for _ in range(2))
    trace = dot_trace(a[0], b[0], unit, interval)
    if interval is None:
        expected = mma(a, b.T, None, unit)
    else:
        expected = sum(
            (mma(a[:, i : i + 128], b[:, i : i + 128].T, None, unit) for i in (0, 128)), np.float32(0)
        )
    assert trace.result == float(np.asarray(expected)[0, 0])
    assert [step.first for step in trace.steps] == list(range(0, 256, unit.terms))
    assert (trace.totals[-1] is None) == (interval is None)
