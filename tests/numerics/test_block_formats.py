"""MX formats and NVFP4: against exact fractions, block by block, and the rules by name."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from minidsv3.numerics import (
    BLOCK_FORMATS,
    E4M3,
    MXFP4,
    MXFP6_E2M3,
    MXFP6_E3M2,
    MXFP8_E4M3,
    MXFP8_E5M2,
    NVFP4,
    UE8M0,
    BlockFormat,
    quantize,
)
from minidsv3.numerics.block_formats import Blocks, round_one

Array = NDArray[Any]
MX = [MXFP8_E4M3, MXFP8_E5M2, MXFP6_E3M2, MXFP6_E2M3, MXFP4]
ALL = [*MX, NVFP4]
formats = pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)
mx_formats = pytest.mark.parametrize("fmt", MX, ids=lambda fmt: fmt.name)


def gaussian(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@settings(max_examples=150)
@given(
    st.sampled_from(MX),
    st.sampled_from(["floor", "round-up"]),
    st.lists(st.floats(-1e6, 1e6, width=32, allow_subnormal=False), min_size=1, max_size=40),
)
def test_blocks_are_as_in_exact_fractions(fmt: BlockFormat, rule: str, numbers: list[float]) -> None:
    values = fmt.round(np.float32(numbers), rule)
    for first in range(0, len(numbers), fmt.block):
        block = numbers[first : first + fmt.block]
        if 0 < max(map(abs, block)) < 1e-30:
            continue  # the scale's own end; see below
        assert [Fraction(value.item()) for value in values[first : first + fmt.block]] == round_one(
            block, fmt, rule
        )


def test_the_rules_differ_between_the_largest_and_the_next_power() -> None:
    """amax 7 over FP4's 6: the floor rule keeps the step and cuts 7 to 6, rounding up doubles the step."""
    x = np.float32([7.0, 1.0, -0.5, 0.0])
    assert MXFP4.round(x).tolist() == [6.0, 1.0, -0.5, 0.0]
    assert MXFP4.round(x, "round-up").tolist() == [8.0, 1.0, 0.0, 0.0]
    assert UE8M0.decode(MXFP4.encode(x).scales).tolist() == [1.0]
    assert UE8M0.decode(MXFP4.encode(x, "round-up").scales).tolist() == [2.0]


@mx_formats
def test_rounding_up_is_what_tiles_with_power_of_two_scales_do(fmt: BlockFormat) -> None:
    x = gaussian(7, 100)
    q = quantize(x, (1, fmt.block), fmt.element, "power-of-two", amax_floor=0)
    blocks = fmt.encode(x, "round-up")
    np.testing.assert_array_equal(blocks.codes, q.codes)
    np.testing.assert_array_equal(UE8M0.decode(blocks.scales), q.scale)


@mx_formats
def test_the_scale_takes_amax_below_twice_the_largest(fmt: BlockFormat) -> None:
    x = gaussian(50, 320) * np.exp(gaussian(50, 1, seed=1) * 20)
    amax = np.abs(x.reshape(50, -1, 32)).max(-1).astype(np.float64)
    over = amax / UE8M0.decode(fmt.encode(x).scales)
    _, exponent = np.frexp(fmt.element.largest)
    assert ((over >= 2.0 ** (exponent - 1)) & (over < 2.0**exponent)).all()


@formats
def test_zeros_and_signs(fmt: BlockFormat) -> None:
    x = np.zeros((2, 50), np.float32)
    x[:, ::3] = -0.0
    np.testing.assert_array_equal(fmt.round(x).view(np.uint32), x.view(np.uint32))
    assert not fmt.encode(x).scales.any()  # the lowest scale there is
    x[1] = gaussian(50)
    assert (np.signbit(fmt.round(x)) == np.signbit(x)).all()


@mx_formats
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_ends_of_the_scale(fmt: BlockFormat) -> None:
    """Subnormal blocks share 2^-127; the largest float32 is met within the format's own error."""
    for magnitude in (1e-45, 1e-40, 3e-38, 3.4e38):
        x = np.full(32, magnitude, np.float32)
        blocks = fmt.encode(x)
        assert blocks.scales.max() < 255
        smallest = 2.0**-127 * fmt.element.smallest
        assert np.abs(fmt.decode(blocks) - x).max() <= max(0.25 * magnitude, smallest)


@mx_formats
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rule", ["floor", "round-up"])
def test_a_block_with_no_number_is_nan(fmt: BlockFormat, rule: str, bad: float) -> None:
    x = np.ones(96, np.float32)
    x[40] = bad
    blocks = fmt.encode(x, rule)
    assert blocks.scales.tolist()[1] == 0xFF
    values = fmt.decode(blocks)
    assert np.isnan(values[32:64]).all()
    assert (values[:32] == 1).all()
    assert (values[64:] == 1).all()


# ---- NVFP4 -------------------------------------------------------------------------------------------------


def test_nvfp4_has_two_levels() -> None:
    """The tensor's scale takes the largest block scale to 448; each value is within a step of its block."""
    x = gaussian(20, 160) * np.float32(30)
    blocks = NVFP4.encode(x)
    assert blocks.tensor_scale == np.abs(x).max() / np.float32(448 * 6)
    scales = E4M3.decode(blocks.scales)
    assert scales.max() == 448
    assert blocks.scales.shape == (20, 10)
    steps = np.repeat(scales * np.float32(blocks.tensor_scale), 16, axis=1)  # FP4's widest step is 2, 4 to 6
    assert (np.abs(NVFP4.decode(blocks) - x) <= steps * 1.2).all()


def test_nvfp4_scales_follow_amax_where_powers_of_two_cannot() -> None:
    x = gaussian(200, 64, seed=2)
    error = {fmt.name: float(np.mean((fmt.round(x) - x) ** 2)) for fmt in (NVFP4, MXFP4)}
    assert error["nvfp4"] < 0.8 * error["mxfp4"]


def test_nvfp4_block_whose_scale_vanishes_is_zero() -> None:
    x = np.full((1, 32), 1e6, np.float32)
    x[0, 16:] = -1e-3
    values = NVFP4.round(x)
    np.testing.assert_array_equal(values[0, :16], values[0, 0])
    assert not values[0, 16:].any()
    assert np.signbit(values[0, 16:]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nvfp4_refuses_what_has_no_scale(bad: float) -> None:
    with pytest.raises(ValueError, match="nvfp4, got infinity or NaN"):
        NVFP4.encode(np.float32([1, bad]))


# ---- storage -----------------------------------------------------------------------------------------------


def test_bytes_per_value() -> None:
    expected = {
        "mxfp8-e4m3": 1 + 1 / 32,
        "mxfp8-e5m2": 1 + 1 / 32,
        "mxfp6-e3m2": 0.75 + 1 / 32,
        "mxfp6-e2m3": 0.75 + 1 / 32,
        "mxfp4": 0.5 + 1 / 32,
        "nvfp4": 0.5 + 1 / 16,
    }
    assert {name: fmt.bytes_per_value for name, fmt in BLOCK_FORMATS.items()} == expected
    assert all(fmt.source for fmt in BLOCK_FORMATS.values())


def test_two_fp4_codes_a_byte_the_first_in_the_low_half() -> None:
    codes = np.array([[0x1, 0xA, 0xF], [0x3, 0x7, 0x0]], np.uint8)
    assert [hex(byte) for byte in MXFP4.pack(codes)] == ["0xa1", "0x3f", "0x7"]
    assert [hex(byte) for byte in MXFP6_E3M2.pack(np.array([1, 2, 3, 63], np.uint8))] == [
        "0x81",
        "0x30",
        "0xfc",
    ]


@given(st.sampled_from(ALL), st.integers(0, 70), st.integers(0, 2**32))
def test_packing_comes_back(fmt: BlockFormat, count: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << fmt.element.bits, count).astype(np.uint8)
    packed = fmt.pack(codes)
    assert packed.size == -(-count * fmt.element.bits // 8)
    np.testing.assert_array_equal(fmt.unpack(packed, count), codes)


@formats
def test_shapes(fmt: BlockFormat) -> None:
    x = gaussian(2, 3, 75)
    blocks = fmt.encode(x)
    assert blocks.codes.shape == x.shape
    assert blocks.scales.shape == (2, 3, -(-75 // fmt.block))
    if fmt is not NVFP4:
        np.testing.assert_array_equal(fmt.round(x[1, 2]), fmt.round(x)[1, 2])
    assert fmt.round(np.empty((0, 40), np.float32)).shape == (0, 40)


# ---- bad input ---------------------------------------------------------------------------------------------


def test_input_is_checked() -> None:
    x = np.ones(64, np.float32)
    blocks = MXFP4.encode(x)
    with pytest.raises(ValueError, match="float64"):
        MXFP4.encode(np.ones(4))
    with pytest.raises(ValueError, match="single number"):
        MXFP4.encode(np.float32(1))
    with pytest.raises(ValueError, match="scale rule of mxfp4"):
        MXFP4.encode(x, "nearest")
    with pytest.raises(ValueError, match="scale rule of nvfp4"):
        NVFP4.encode(x, "floor")
    with pytest.raises(ValueError, match="expected codes of e2m1"):
        MXFP4.decode(Blocks(blocks.codes + np.uint8(16), blocks.scales, 1.0))
    with pytest.raises(ValueError, match=r"expected scales \(2,\)"):
        MXFP4.decode(Blocks(blocks.codes, blocks.scales[:1], 1.0))
    for scale in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="expected a tensor_scale above zero and finite, got"):
            MXFP4.decode(Blocks(blocks.codes, blocks.scales, scale))
    for code, arrived in ((0xB8, "-1.0"), (0x7F, "nan")):
        with pytest.raises(ValueError, match=f"expected scales of nvfp4 at least zero, got {arrived}"):
            NVFP4.decode(Blocks(blocks.codes[:16], np.uint8([code]), 1.0))
    with pytest.raises(ValueError, match=r"expected codes \[..., C\], got a single one"):
        MXFP4.decode(Blocks(np.uint8(3), np.uint8(3), 1.0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="for -1 codes"):
        MXFP4.unpack(np.zeros(0, np.uint8), -1)
    with pytest.raises(ValueError, match=r"expected codes of e2m1, 0 .. 15, got 16"):
        MXFP4.pack(np.array([16], np.uint8))
    with pytest.raises(ValueError, match="expected 2 bytes for 3 codes"):
        MXFP4.unpack(np.zeros(3, np.uint8), 3)
