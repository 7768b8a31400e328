"""Formats on all codes, on all midpoints, and against exact fractions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.numerics import BF16, FP16, FP32, NumberFormat
from minidsv3.numerics.formats import decode_one, encode_one

NARROW = [BF16, FP16]
ALL_CODES = np.arange(1 << 16, dtype=np.uint16)
formats = pytest.mark.parametrize("fmt", NARROW, ids=lambda fmt: fmt.name)
any_float32 = st.integers(0, 2**32 - 1).map(lambda bits: np.uint32(bits).view(np.float32))


def finite_codes(fmt: NumberFormat) -> np.ndarray:
    return np.arange(fmt.infinity, dtype=np.uint16)


@formats
def test_every_code_comes_back(fmt: NumberFormat) -> None:
    """Signalling NaNs come back quiet; all else as it was."""
    magnitude = ALL_CODES & 0x7FFF
    quiet = 1 << (fmt.fraction_bits - 1)
    expected = np.where(magnitude > fmt.infinity, ALL_CODES | quiet, ALL_CODES)
    np.testing.assert_array_equal(fmt.encode(fmt.decode(ALL_CODES)), expected)
    for rounding in ("toward-zero", "stochastic"):
        np.testing.assert_array_equal(fmt.encode(fmt.decode(ALL_CODES), None, rounding), expected)


def test_half_precision_is_numpys() -> None:
    values = ALL_CODES.view(np.float16).astype(np.float32)
    np.testing.assert_array_equal(FP16.decode(ALL_CODES), values)
    assert (np.signbit(FP16.decode(ALL_CODES)) == (ALL_CODES >> 15)).all()


@settings(max_examples=300)
@given(st.lists(any_float32, min_size=1, max_size=50))
def test_half_precision_rounds_as_numpy_does(numbers: list[np.float32]) -> None:
    x = np.array(numbers, np.float32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        np.testing.assert_array_equal(FP16.round(x), x.astype(np.float16).astype(np.float32))


def test_bf16_codes_are_the_upper_halves() -> None:
    np.testing.assert_array_equal(BF16.decode(ALL_CODES).view(np.uint32), ALL_CODES.astype(np.uint32) << 16)


@formats
def test_values_are_exact_fractions(fmt: NumberFormat) -> None:
    codes = finite_codes(fmt)[::7]
    for code, value in zip(codes.tolist(), fmt.decode(codes).tolist(), strict=True):
        assert value == decode_one(code, fmt)


@formats
def test_midpoints_go_to_even_and_their_neighbours_to_the_nearer(fmt: NumberFormat) -> None:
    """Between every two finite codes, and between the largest and the power of two behind it."""
    codes = finite_codes(fmt)
    below = fmt.decode(codes).astype(np.float64)
    above = np.append(below[1:], float(decode_one(fmt.infinity, fmt)))
    middle = ((below + above) / 2).astype(np.float32)
    assert (middle == (below + above) / 2).all()  # float32 holds them all
    even = codes + (codes & 1)
    just_under, just_over = np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(np.inf))
    for sign, bit in ((1, 0), (-1, 0x8000)):
        np.testing.assert_array_equal(fmt.encode(sign * middle), even | bit)
        np.testing.assert_array_equal(fmt.encode(sign * just_under), codes | bit)
        np.testing.assert_array_equal(fmt.encode(sign * just_over), (codes + 1) | bit)
        for x in (middle, just_under, just_over):
            np.testing.assert_array_equal(fmt.encode(sign * x, None, "toward-zero"), codes | bit)


@pytest.mark.parametrize("fmt", [BF16, FP16], ids=lambda fmt: fmt.name)
@settings(max_examples=300)
@given(x=any_float32, rounding=st.sampled_from(["nearest-even", "toward-zero"]))
def test_arrays_round_as_one_number_does(fmt: NumberFormat, x: np.float32, rounding: str) -> None:
    if np.isnan(x):
        assert np.isnan(fmt.round(x, rounding))
    else:
        assert int(fmt.encode(x, None, rounding)) == encode_one(float(x), fmt, rounding)


@given(any_float32)
def test_float32_is_itself(x: np.float32) -> None:
    if not np.isnan(x):
        for rounding in ("nearest-even", "toward-zero", "stochastic"):
            assert int(FP32.encode(x, None, rounding)) == int(x.view(np.uint32)) == encode_one(float(x), FP32)
        assert FP32.round(x).view(np.uint32) == x.view(np.uint32)


@formats
@settings(max_examples=100)
@given(x=any_float32, seed=st.integers(0, 9))
def test_stochastic_rounding_gives_a_neighbour(fmt: NumberFormat, x: np.float32, seed: int) -> None:
    if not np.isfinite(x):
        return
    down = int(fmt.encode(x, None, "toward-zero"))
    code = int(fmt.encode(x, None, "stochastic", np.random.default_rng(seed)))
    if abs(float(x)) < fmt.largest:
        assert code in (down, down + 1)
    if fmt.round(x) == x:
        assert code == down


@formats
@pytest.mark.parametrize("where", [1.0, 2.0**-14, 2.0**-20, 3e-5])
def test_stochastic_rounding_is_right_on_average(fmt: NumberFormat, where: float) -> None:
    low = int(fmt.encode(np.float32(where), None, "toward-zero"))
    a, b = fmt.decode([low, low + 1]).astype(np.float64)
    x = np.full(40_000, a + 0.3 * (b - a), np.float32)
    up = fmt.encode(x, None, "stochastic", np.random.default_rng(0)) == low + 1
    share = (float(x[0]) - a) / (b - a)
    assert up.mean() == pytest.approx(share, abs=5 * (share * (1 - share) / x.size) ** 0.5)


@formats
def test_what_is_no_number_stays_none(fmt: NumberFormat) -> None:
    x = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32)
    for rounding in ("nearest-even", "toward-zero", "stochastic"):
        out = fmt.round(x, rounding)
        assert np.isnan(out[:2]).all()
        assert (np.signbit(out) == np.signbit(x)).all()
        np.testing.assert_array_equal(out[2:], x[2:])


def test_shapes_are_kept_and_codes_are_small() -> None:
    assert BF16.encode(np.zeros((2, 0, 3), "f")).shape == (2, 0, 3)
    assert BF16.encode(1.0).dtype == np.uint16
    assert FP32.encode(1.0).dtype == np.uint32
    assert BF16.decode(np.zeros((2, 3), "<u2")).shape == (2, 3)


def test_what_would_be_rounded_twice_or_is_no_code_is_refused() -> None:
    with pytest.raises(ValueError, match="expected float32"):
        BF16.encode(np.zeros(3))
    with pytest.raises(ValueError, match="expected rounding one of"):
        BF16.encode(1.0, None, "up")
    for codes in (np.array([1 << 16]), np.array([-1]), np.array([0.5])):
        with pytest.raises(ValueError, match=r"expected codes of bf16, 0 \.\. 65535"):
            BF16.decode(codes)
