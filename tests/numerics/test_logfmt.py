"""LogFMT: against the specification, the published rules, the measured errors."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from minidsv3.numerics import BF16, E4M3, E5M2, E5M6, LogFMT, NumberFormat, tile_round
from minidsv3.numerics.logfmt import decode_one, encode_one, sides_of

Array = NDArray[Any]
conventions = pytest.mark.parametrize("convention", ["paper", "deepep"])


def gaussian(seed: int = 0, rows: int = 4000) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, 128)).astype(np.float32)


def relative_rms(y: Array, x: Array) -> float:
    wide = x.astype(np.float64)
    return math.sqrt(np.sum((y - wide) ** 2) / np.sum(wide**2))


@st.composite
def codecs(draw: st.DrawFn) -> LogFMT:
    return LogFMT(
        bits=draw(st.integers(3, 12)),
        tile=draw(st.integers(1, 20)),
        convention=draw(st.sampled_from(["paper", "deepep"])),
        chunk=draw(st.integers(1, 3)),
    )


@st.composite
def rows(draw: st.DrawFn) -> Array:
    """Rows with zeros of both signs, equal magnitudes and ranges beyond 2^32; below 1 more often than not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 50))
    spread = draw(st.sampled_from([0, 0.5, 3, 10]))
    x = np.exp(spread * rng.standard_normal(shape)) * rng.choice([-1, 1], shape)
    x *= 10.0 ** draw(st.sampled_from([-20, -3, -1, 0, 5]))
    x[rng.random(shape) < draw(st.sampled_from([0, 0.1, 0.6, 1]))] *= 0
    return np.asarray(np.clip(x, -3e38, 3e38), np.float32)


@settings(max_examples=200)
@given(codecs(), rows())
def test_the_codec_is_its_specification(fmt: LogFMT, x: Array) -> None:
    encoded = fmt.encode(x)
    values = fmt.decode(encoded)
    for r, row in enumerate(x):
        for t, first in enumerate(range(0, len(row), fmt.tile)):
            tile = row[first : first + fmt.tile].tolist()
            log_min, step = encoded.log_min[r, t].item(), encoded.step[r, t].item()
            assert (log_min, step) == sides_of(tile, fmt)
            codes = encoded.codes[r, first : first + fmt.tile].tolist()
            back = values[r, first : first + fmt.tile]
            if encoded.plain[r, t]:
                assert codes == BF16.encode(np.float32(tile)).tolist()
                continue
            assert codes == [encode_one(number, log_min, step, fmt) for number in tile]
            expected = [np.float32(decode_one(code, log_min, step, fmt)) for code in codes]
            np.testing.assert_allclose(back, expected, rtol=2e-7)  # an ulp: two libraries' powers of two
            np.testing.assert_array_equal(np.signbit(back), np.signbit(tile))


@settings(max_examples=50)
@given(codecs(), rows())
def test_what_came_back_comes_back(fmt: LogFMT, x: Array) -> None:
    """Rounding twice is rounding once, under the sides of the first time."""
    encoded = fmt.encode(x)
    values = fmt.decode(encoded)
    for r, t in np.argwhere(~encoded.plain):
        log_min, step = encoded.log_min[r, t].item(), encoded.step[r, t].item()
        where = slice(t * fmt.tile, (t + 1) * fmt.tile)
        if step < 2e-6 or not np.isfinite(values[r, where]).all():
            continue  # levels closer than float32 can tell
        again = [encode_one(value, log_min, step, fmt) for value in values[r, where].tolist()]
        assert again == encoded.codes[r, where].tolist()


# ---- the published rules -----------------------------------------------------------------------------------


def test_ends_of_the_scale() -> None:
    """The smallest magnitude has code 1, the largest the top code, zero 0; the sign in front."""
    x = np.float32([[0.02, -3.0, 0.0, -0.0, 0.5]])
    codes = LogFMT(8, tile=5).encode(x).codes
    assert codes[0, :4].tolist() == [0b0_0000001, 0b1_1111111, 0, 0b1_0000000]
    assert 1 < codes[0, 4] < 127
    values = LogFMT(8, tile=5).round(x)
    np.testing.assert_allclose(values[0, :2], x[0, :2], rtol=1e-6)
    assert np.signbit(values[0, :4]).tolist() == [False, True, False, True]


@pytest.mark.parametrize("bits", [3, 8, 10])
def test_a_tile_of_zeros(bits: int) -> None:
    x = np.zeros((2, 256), np.float32)
    x[1, 200] = -0.0
    for convention in ("paper", "deepep"):
        fmt = LogFMT(bits, convention=convention)
        encoded = fmt.encode(x)
        assert not (encoded.codes & fmt.top).any()
        assert encoded.plain.all() == (convention == "deepep")
        np.testing.assert_array_equal(fmt.decode(encoded).view(np.uint32), x.view(np.uint32))


def test_a_single_magnitude() -> None:
    x = np.float32([[0.3, -0.3, 0.0, 0.3]])
    encoded = LogFMT(8, tile=4).encode(x)
    assert encoded.step.item() == 0
    assert encoded.codes.tolist() == [[127, 255, 0, 127]]
    np.testing.assert_allclose(LogFMT(8, tile=4).decode(encoded), x, rtol=2e-7)


def test_the_lowest_level_is_two_to_the_32_below_the_largest() -> None:
    """What is smaller takes the nearer of that level and zero; in DeepEP's convention nearly always zero."""
    largest, lowest = 0.5, 0.5 * 2.0**-32
    x = np.float32([[largest, lowest / 1e3, lowest * 0.51, lowest * 0.49, lowest * 0.95]])
    paper = LogFMT(8, tile=5).encode(x)
    assert paper.log_min.item() == -33
    assert paper.codes.tolist() == [[127, 0, 1, 0, 1]]
    deepep = LogFMT(8, tile=5, convention="deepep").encode(x)
    assert deepep.log_min.item() == -33
    assert deepep.codes.tolist() == [[127, 0, 0, 0, 1]]  # a level lower would be at 0.84; halfway at 0.92


def test_nearest_in_linear_space_not_in_the_logarithm() -> None:
    """Levels 1, 2, 4: 1.45 is nearer to 1 but above sqrt(2), and a tie at 1.5 goes up."""
    x = np.float32([[1.0, 4.0, 1.45, 1.5, 2.9, 3.0]])
    assert LogFMT(3, tile=6).encode(x).codes.tolist() == [[1, 3, 1, 2, 2, 3]]
    assert LogFMT(3, tile=6, rounding="log").encode(x).codes.tolist() == [[1, 3, 2, 2, 3, 3]]


def test_rounding_in_the_logarithm_is_biased() -> None:
    """Magnitudes spread evenly within each step: their mean stays in one rounding and grows in the other."""
    x = np.linspace(2.0**-16, 1, 1 << 16, dtype=np.float32)[None]
    bias = {
        rounding: float(LogFMT(6, x.size, rounding=rounding).round(x).mean(dtype=np.float64)) / x.mean() - 1
        for rounding in ("linear", "log")
    }
    assert abs(bias["linear"]) < 5e-4
    assert bias["log"] > 4 * abs(bias["linear"])


def test_the_encoder_uses_what_the_decoder_gets() -> None:
    """log_min and step are float32 (in DeepEP's convention those of two BF16 numbers), and codes agree."""
    x = gaussian(1, 50) * np.float32(0.1)
    for fmt in (LogFMT(10), LogFMT(10, convention="deepep")):
        encoded = fmt.encode(x)
        assert encoded.log_min.dtype == encoded.step.dtype == np.float32
        values = fmt.decode(encoded)
        for code in (-1, 1):  # no neighbouring level is nearer
            codes = encoded.codes.astype(np.int64)
            other = codes + code
            inside = ((other & fmt.top) >= 1) & ((other & ~fmt.top) == (codes & ~fmt.top))
            other &= 2 * fmt.top + 1
            neighbour = type(encoded)(other.astype(fmt.dtype), encoded.log_min, encoded.step, encoded.plain)
            further = np.abs(fmt.decode(neighbour) - x) >= np.abs(values - x) * (1 - 1e-4) - 1e-9
            assert further[inside].all()


def test_deepep_sends_bf16_where_it_must() -> None:
    """One tile with a 1 in it, or of one magnitude, takes its chunk of tiles along, and no other."""
    x = gaussian(2, 4).reshape(1, 512) * np.float32(0.05)
    fmt = LogFMT(10, convention="deepep", chunk=2)
    assert not fmt.encode(x).plain.any()
    x[0, 130] = 1.0
    assert fmt.encode(x).plain.tolist() == [[True, True, False, False]]
    x[0, 130], x[0, 384:] = 0.5, 0.25
    encoded = fmt.encode(x)
    assert encoded.plain.tolist() == [[False, False, True, True]]
    values = fmt.decode(encoded)
    np.testing.assert_array_equal(values[0, 256:], BF16.round(x[0, 256:]))
    assert (values[0, :256] != BF16.round(x[0, :256])).any()
    assert not LogFMT(10).encode(x).plain.any()


def test_a_zero_stretches_deepeps_tile() -> None:
    """Zeros count for its smallest magnitude: errors of 1.1 % become 4.9 % at 8 bits, 0.29 % 1.26 % at 10."""
    x = gaussian(3) * np.float32(0.1)
    x = np.where(np.abs(x) < 0.01, np.float32(0.01), x)
    zero = x.copy()
    zero[:, 7] = 0
    for bits, factor in ((8, 3.0), (10, 3.0)):
        fmt = LogFMT(bits, convention="deepep")
        assert relative_rms(fmt.round(zero), zero) > factor * relative_rms(fmt.round(x), x)
        paper = LogFMT(bits)
        assert relative_rms(paper.round(zero), zero) < 1.1 * relative_rms(paper.round(x), x)


# ---- measured ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "percent"), [(8, 1.41), (10, 0.349)])
def test_error_of_gaussian_tiles(bits: int, percent: float) -> None:
    x = gaussian()
    assert 100 * relative_rms(LogFMT(bits).round(x), x) == pytest.approx(percent, rel=0.02)


@pytest.mark.parametrize(
    ("fmt", "scale", "percent"),
    [(E4M3, "float32", 2.57), (E5M2, "float32", 5.13), (E5M6, "power-of-two", 0.332)],
)
def test_error_of_the_formats_beside_it(fmt: NumberFormat, scale: str, percent: float) -> None:
    x = gaussian()
    assert 100 * relative_rms(tile_round(x, (1, 128), fmt, scale), x) == pytest.approx(percent, rel=0.01)
    assert 100 * relative_rms(BF16.round(x), x) == pytest.approx(0.166, rel=0.01)


@pytest.mark.parametrize(("bits", "percent"), [(8, 4.9), (10, 1.26)])
def test_error_with_a_zero_in_the_smallest_magnitude(bits: int, percent: float) -> None:
    x = gaussian() * np.float32(0.1)
    x[:, 0] = 0
    y = LogFMT(bits, convention="deepep").round(x)
    assert 100 * relative_rms(y, x) == pytest.approx(percent, rel=0.05)


# ---- packing -----------------------------------------------------------------------------------------------


@given(st.integers(3, 16), st.integers(0, 100), st.integers(0, 2**32))
def test_packing_comes_back(bits: int, count: int, seed: int) -> None:
    fmt = LogFMT(bits)
    codes = np.random.default_rng(seed).integers(0, 1 << bits, count).astype(fmt.dtype)
    packed = fmt.pack(codes)
    assert packed.size == math.ceil(count / 16) * 2 * bits
    np.testing.assert_array_equal(fmt.unpack(packed, count), codes)


def test_sixteen_values_in_160_bits() -> None:
    """Nine bits of magnitude each, the first lowest, then the sixteen signs."""
    codes = np.random.default_rng(12).integers(0, 1024, 16).astype(np.uint16)
    word = int.from_bytes(LogFMT(10).pack(codes).tobytes(), "little")
    expected = sum((int(code) & 511) << 9 * i | (int(code) >> 9) << 144 + i for i, code in enumerate(codes))
    assert word == expected
    assert word.bit_length() <= 160


def test_long_arrays_are_packed_piece_by_piece() -> None:
    codes = np.random.default_rng(13).integers(0, 1024, (7, 5003)).astype(np.uint16)
    packed = LogFMT(10).pack(codes)
    np.testing.assert_array_equal(packed[: 16 * 20], LogFMT(10).pack(codes.reshape(-1)[:256]))
    np.testing.assert_array_equal(LogFMT(10).unpack(packed, codes.size), codes.reshape(-1))


def test_bits_per_value_count_the_sides() -> None:
    assert LogFMT(8).bits_per_value == 8.5
    assert LogFMT(10, convention="deepep").bits_per_value == 10.25


def test_shapes() -> None:
    x = np.random.default_rng(14).standard_normal((2, 3, 300)).astype(np.float32)
    encoded = LogFMT(8).encode(x)
    assert encoded.codes.shape == x.shape
    assert encoded.log_min.shape == encoded.step.shape == encoded.plain.shape == (2, 3, 3)
    np.testing.assert_array_equal(LogFMT(8).round(x[1, 2]), LogFMT(8).round(x)[1, 2])
    assert LogFMT(8).round(np.empty((0, 300), np.float32)).shape == (0, 300)


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e38, 3.4e38])
def test_ends_of_float32(scale: float) -> None:
    """The rounded sides may lead beyond the largest float32; nothing becomes infinite."""
    x = (np.linspace(0.4, 1, 128) * scale).astype(np.float32)
    np.testing.assert_allclose(LogFMT(8).round(x), x, rtol=0.01, atol=2e-45)


def test_the_largest_float32_alone() -> None:
    """Its logarithm rounds to 128, and 2^128 is infinity; it comes back as itself."""
    x = np.full((1, 128), np.finfo(np.float32).max)
    assert LogFMT(8).encode(x).log_min.item() == 128
    np.testing.assert_array_equal(LogFMT(8).round(x), x)


# ---- bad input ---------------------------------------------------------------------------------------------


@conventions
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_infinity_and_nan_are_refused(convention: str, bad: float) -> None:
    x = np.ones((2, 200), np.float32)
    x[1, 150] = bad
    with pytest.raises(ValueError, match="infinity or NaN"):
        LogFMT(10, convention=convention).encode(x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 2}, r"3 .. 16 .*got 2"),
        ({"bits": 17}, "got 17"),
        ({"tile": 0}, "tile"),
        ({"chunk": 0}, "chunk"),
        ({"convention": "isca"}, "convention"),
        ({"rounding": "up"}, "rounding"),
        ({"bits": 8.5}, "whole numbers, got 8.5, 128 and 8"),
        ({"bits": "8"}, "whole numbers, got '8'"),
        ({"tile": 64.0}, "whole numbers, got 8, 64.0 and 8"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogFMT(**arguments)


def test_arrays_are_checked() -> None:
    fmt = LogFMT(8)
    with pytest.raises(ValueError, match="float64"):
        fmt.encode(np.ones(4))
    with pytest.raises(ValueError, match="single number"):
        fmt.encode(np.float32(1))
    with pytest.raises(ValueError, match="tiles of 64"):
        LogFMT(8, tile=64).decode(fmt.encode(np.ones((1, 256), np.float32)))
    with pytest.raises(ValueError, match="uint16"):
        LogFMT(10).decode(fmt.encode(np.ones((1, 256), np.float32)))
    with pytest.raises(ValueError, match="LogFMT-4 codes"):
        LogFMT(4).pack(np.array([16], np.uint8))
    with pytest.raises(ValueError, match="expected 16 bytes"):
        fmt.unpack(np.zeros(15, np.uint8), 16)
    with pytest.raises(ValueError, match="for -1 codes"):
        fmt.unpack(np.zeros(0, np.uint8), -1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": np.full((1, 256), 1024, np.uint16)}, r"expected LogFMT-10 codes, 0 .. 1023, got 1024"),
        ({"step": np.ones((1, 1), np.float32)}, r"expected log_min, step and plain \(1, 2\)"),
        ({"plain": np.zeros((2, 1), bool)}, r"expected log_min, step and plain \(1, 2\)"),
        ({"step": np.float32([[-0.1, 0]])}, "step at least zero"),
        ({"step": np.float32([[np.nan, 0]])}, "step at least zero"),
        ({"log_min": np.float32([[0, -np.inf]])}, "log_min finite"),
    ],
)
def test_what_no_encoder_sends_is_refused(change: dict[str, Any], message: str) -> None:
    fmt = LogFMT(10)
    encoded = fmt.encode(np.ones((1, 256), np.float32))
    with pytest.raises(ValueError, match=message):
        fmt.decode(replace(encoded, **change))


def test_bf16_beyond_its_largest_is_held_at_both_ends() -> None:
    """DeepEP's sides in BF16: one magnitude that BF16 would round to infinity has a finite logarithm."""
    x = np.full((1, 128), np.finfo(np.float32).max)
    encoded = LogFMT(10, convention="deepep").encode(x)
    assert np.isfinite(encoded.log_min).all()
    assert (encoded.log_min.item(), encoded.step.item()) == sides_of(
        x[0].tolist(), LogFMT(10, convention="deepep")
    )
