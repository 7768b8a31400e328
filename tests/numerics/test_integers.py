"""INT4 and ternary: every code, the rounding by exact fractions, packing, and what is refused."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from minidsv3.numerics import INT4, TERNARY, IntegerFormat

BOTH = [INT4, TERNARY]
both = pytest.mark.parametrize("fmt", BOTH, ids=lambda fmt: fmt.name)
floats = st.floats(-1e6, 1e6, width=32)
scales = st.floats(2**-20, 1e6, width=32)


@both
def test_every_code_comes_back(fmt: IntegerFormat) -> None:
    codes = np.arange(fmt.base, dtype=np.uint8)
    values = fmt.decode(codes, 0.5)
    assert sorted(values.tolist()) == [number / 2 for number in range(fmt.low, fmt.high + 1)]
    for rounding in ("nearest-even", "toward-zero", "stochastic"):
        np.testing.assert_array_equal(fmt.encode(values, 0.5, rounding), codes)


def test_int4_is_twos_complement() -> None:
    numbers = np.arange(-8, 8, dtype=np.int8)
    np.testing.assert_array_equal(INT4.encode(numbers.astype("f"), 1.0), numbers.view(np.uint8) & 15)
    assert TERNARY.encode([-1.0, 0.0, 1.0], 1.0).tolist() == [2, 0, 1]


def _nearest(x: float, scale: float, fmt: IntegerFormat) -> int:
    """By the definition: Python rounds a fraction to the nearest integer, ties to even."""
    return min(max(round(Fraction(x) / Fraction(scale)), fmt.low), fmt.high) % fmt.base


@both
@given(x=floats, scale=scales)
def test_the_quotient_is_rounded_once(fmt: IntegerFormat, x: float, scale: float) -> None:
    assert int(fmt.encode(x, scale)) == _nearest(x, scale, fmt)
    cut = min(max(math.trunc(Fraction(x) / Fraction(scale)), fmt.low), fmt.high)
    assert int(fmt.encode(x, scale, "toward-zero")) == cut % fmt.base


@both
@given(scale=scales, number=st.integers(-9, 8))
def test_around_ties(fmt: IntegerFormat, scale: float, number: int) -> None:
    """Half-way between two numbers, as near as float32 comes, and one step to either side."""
    tie = np.float32((number + 0.5) * scale)
    for x in (tie, np.nextafter(tie, np.float32(-np.inf)), np.nextafter(tie, np.float32(np.inf))):
        assert int(fmt.encode(x, scale)) == _nearest(float(x), scale, fmt)


@both
def test_stochastic_rounding_is_right_on_average(fmt: IntegerFormat) -> None:
    codes = fmt.encode(np.full(40_000, -0.3, "f"), 1.0, "stochastic", np.random.default_rng(0))
    assert set(codes.tolist()) == {0, fmt.base - 1}
    assert (codes > 0).mean() == pytest.approx(0.3, abs=0.012)


@both
@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(0, 9)), elements=floats))
def test_scales_of_rows(fmt: IntegerFormat, x: np.ndarray) -> None:
    scale = fmt.scale_of(x)
    assert scale.shape == (len(x), 1)
    out = fmt.decode(fmt.encode(x, scale), scale)
    assert (out[(x == 0).all(axis=1)] == 0).all()
    if fmt is INT4:  # nothing is cut off, so no error is above half a step, a rounding of the scale aside
        assert (np.abs(out.astype(np.float64) - x) <= scale * (0.5 + 1e-5)).all()


def test_ternary_scale_is_the_mean_magnitude() -> None:
    x = np.float32([[1, -2, 3, 0], [0, 0, 0, 0]])
    assert TERNARY.scale_of(x).tolist() == [[1.5], [1.0]]
    assert INT4.scale_of(x).tolist() == [[float(np.float32(3) / np.float32(7))], [1.0]]


@both
@given(st.data())
def test_packing_there_and_back(fmt: IntegerFormat, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 23)))
    codes = data.draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, fmt.base - 1)))
    packed = fmt.pack(codes)
    assert packed.shape == (shape[0], -(-shape[1] // fmt.per_byte))
    np.testing.assert_array_equal(fmt.unpack(packed, shape[1]), codes)


def test_the_packing() -> None:
    """Low nibble first; base 3, lowest digit first, 242 at most."""
    assert INT4.per_byte == 2
    assert TERNARY.per_byte == 5
    assert INT4.pack([0x1, 0xF, 0x3]).tolist() == [0xF1, 0x03]
    assert TERNARY.pack([2] * 5 + [1, 0, 2]).tolist() == [242, 1 + 2 * 9]


@both
@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_scales_must_be_above_zero(fmt: IntegerFormat, scale: float) -> None:
    with pytest.raises(ValueError, match="expected scales above zero and finite, got"):
        fmt.encode(1.0, scale)
    with pytest.raises(ValueError, match="expected scales above zero and finite, got"):
        fmt.decode([0], scale)


@both
def test_bad_input(fmt: IntegerFormat) -> None:
    with pytest.raises(ValueError, match="expected finite numbers"):
        fmt.encode(np.float32([1, np.nan]), 1.0)
    with pytest.raises(ValueError, match="expected float32"):
        fmt.encode(np.zeros(2), 1.0)
    with pytest.raises(ValueError, match="expected rounding one of"):
        fmt.encode(1.0, 1.0, "up")
    for codes, arrived in ((fmt.base, str(fmt.base)), (-1, "-1"), (0.5, "float64")):
        with pytest.raises(
            ValueError, match=rf"expected codes of {fmt.name}, 0 .. {fmt.base - 1}, got {arrived}"
        ):
            fmt.decode([codes], 1.0)
        with pytest.raises(ValueError, match="expected codes of"):
            fmt.pack([codes])
    for packed, count in ((np.zeros(2, np.int64), 1), (np.zeros(2, np.uint8), 2 * fmt.per_byte + 1)):
        with pytest.raises(ValueError, match=f"expected uint8 that hold {count} codes of {fmt.name}"):
            fmt.unpack(packed, count)


@both
def test_rows_are_wanted(fmt: IntegerFormat) -> None:
    with pytest.raises(ValueError, match="got a single number"):
        fmt.scale_of(np.float32(3))
    with pytest.raises(ValueError, match="got a single one"):
        fmt.pack(np.uint8(1))
    with pytest.raises(ValueError, match="expected uint8 that hold 1 codes"):
        fmt.unpack(np.uint8(1), 1)


def test_bytes_that_are_no_five_digits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected bytes of ternary, 0 .. 242, got 243"):
        TERNARY.unpack(np.uint8([3, 243]), 10)
