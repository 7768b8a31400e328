"""Formats on all codes, on all midpoints and the numbers beside them, and against exact fractions."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.numerics import (
    BF16,
    E2M1,
    E4M3,
    E5M2,
    FORMATS,
    FP16,
    FP22,
    FP32,
    OVERFLOWS,
    UE8M0,
    NumberFormat,
)
from minidsv3.numerics.formats import chances_one, decode_one, encode_one
from minidsv3.numerics.rounding import CHUNK

SMALL = [fmt for fmt in FORMATS.values() if fmt.bits <= 8]
NARROW = [fmt for fmt in FORMATS.values() if fmt.bits <= 16]
SIGNED = [fmt for fmt in NARROW if fmt.signed]


def each(formats: list[NumberFormat]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fmt", formats, ids=lambda fmt: fmt.name)


every = each(list(FORMATS.values()))
overflows = pytest.mark.parametrize("overflow", OVERFLOWS)
any_bits = st.integers(0, 2**32 - 1)
any_float32 = any_bits.map(lambda bits: np.uint32(bits).view(np.float32))


def roundings(fmt: NumberFormat) -> list[str]:
    return ["nearest-even", "toward-zero"] + ["up"] * (not fmt.signed)


def all_codes(fmt: NumberFormat) -> np.ndarray:
    return np.arange(1 << fmt.bits).astype(fmt.dtype)


def edges(fmt: NumberFormat) -> np.ndarray:
    """Values, the midpoints between them and behind the last, and the float32 next to each; both signs."""
    exact = np.array([float(decode_one(code, fmt)) for code in range(fmt.top + 2)])
    exact = np.concatenate([exact, [float(decode_one(fmt.top, fmt))], [fmt.overflow_threshold]])
    exact = np.sort(np.concatenate([exact, exact[:-1] + np.diff(exact) / 2]))
    x = exact[exact < 2.0**128].astype(np.float32)
    near = [x, np.nextafter(x, np.float32(0)), np.nextafter(x, np.float32(np.inf))]
    far = np.float32([0, 1e-45, 1e-40, 1e9, np.finfo(np.float32).max, np.inf, np.nan])
    both = np.concatenate([*near, far])
    return np.concatenate([both, -both])


# ---- the rows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bits", "largest", "smallest_normal", "smallest", "infinity", "nan"),
    [
        ("e4m3", 8, 448, 2**-6, 2**-9, None, 0x7F),
        ("e5m2", 8, 57344, 2**-14, 2**-16, 0x7C, 0x7E),
        ("e5m6", 12, 65024, 2**-14, 2**-20, 0x7C0, 0x7E0),
        ("fp16", 16, 65504, 2**-14, 2**-24, 0x7C00, 0x7E00),
        ("bf16", 16, (2 - 2**-7) * 2.0**127, 2.0**-126, 2.0**-133, 0x7F80, 0x7FC0),
        ("fp22", 22, (2 - 2**-13) * 2.0**127, 2.0**-126, 2.0**-139, 255 << 13, 511 << 12),
        ("tf32", 19, (2 - 2**-10) * 2.0**127, 2.0**-126, 2.0**-136, 255 << 10, 511 << 9),
        ("fp32", 32, (2 - 2**-23) * 2.0**127, 2.0**-126, 2.0**-149, 0x7F800000, 0x7FC00000),
        ("e3m2", 6, 28, 0.25, 0.0625, None, None),
        ("e2m3", 6, 7.5, 1, 0.125, None, None),
        ("e2m1", 4, 6, 1, 0.5, None, None),
        ("ue8m0", 8, 2.0**127, 2.0**-127, 2.0**-127, None, 0xFF),
    ],
)
def test_the_table(name, bits, largest, smallest_normal, smallest, infinity, nan) -> None:
    fmt = FORMATS[name]
    assert (fmt.bits, fmt.infinity, fmt.nan) == (bits, infinity, nan)
    assert (fmt.largest, fmt.smallest_normal, fmt.smallest) == (largest, smallest_normal, smallest)
    assert fmt.decode(fmt.top) == largest
    assert (fmt.status == "assumed") == (name == "e5m6")
    assert fmt.overflow == ("saturate" if bits <= 8 else "nonsaturating")


# ---- all codes ---------------------------------------------------------------------------------------------


@each(NARROW)
@overflows
@pytest.mark.parametrize("rounding", ["nearest-even", "toward-zero", "stochastic"])
def test_every_code_comes_back(fmt: NumberFormat, overflow: str, rounding: str) -> None:
    """Signalling NaNs come back quiet, infinity saturates where it must; all else as it was."""
    codes = all_codes(fmt)
    expected = codes.copy()
    magnitude = codes & ((1 << (fmt.bits - fmt.signed)) - 1)
    if fmt.infinity is not None:
        expected[magnitude > fmt.infinity] |= 1 << (fmt.fraction_bits - 1)
        expected[magnitude == fmt.infinity] -= overflow == "saturate"
    np.testing.assert_array_equal(fmt.encode(fmt.decode(codes), overflow, rounding), expected)


@each(NARROW)
def test_values_are_exact_fractions(fmt: NumberFormat) -> None:
    codes = np.arange(0, fmt.top + 1, 1 if fmt.bits <= 12 else 7).astype(fmt.dtype)
    for code, value in zip(codes.tolist(), fmt.decode(codes).tolist(), strict=True):
        assert Fraction(value) == decode_one(code, fmt)
    if fmt.signed:
        negative = codes | fmt.dtype.type(1 << (fmt.bits - 1))
        np.testing.assert_array_equal(fmt.decode(negative), -fmt.decode(codes))
        assert np.signbit(fmt.decode(negative)).all()


@each(NARROW)
def test_codes_that_are_no_numbers(fmt: NumberFormat) -> None:
    values = fmt.decode(np.arange(fmt.top + 1, 1 << (fmt.bits - fmt.signed)).astype(fmt.dtype))
    if fmt.special == "ieee":
        assert values[0] == np.inf
        assert np.isnan(values[1:]).all()
        assert len(values) == 1 << fmt.fraction_bits
    else:
        assert np.isnan(values).all()
        assert len(values) == (fmt.special == "nan-only")


def test_half_precision_is_numpys() -> None:
    codes = all_codes(FP16)
    values = codes.view(np.float16).astype(np.float32)
    np.testing.assert_array_equal(FP16.decode(codes), values)
    assert (np.signbit(FP16.decode(codes)) == (codes >> 15)).all()


@settings(max_examples=300)
@given(st.lists(any_float32, min_size=1, max_size=50))
def test_half_precision_rounds_as_numpy_does(numbers: list[np.float32]) -> None:
    x = np.array(numbers, np.float32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        np.testing.assert_array_equal(FP16.round(x), x.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(("fmt", "low"), [(BF16, 16), (FP22, 10), (FORMATS["tf32"], 13)])
def test_wide_codes_are_the_upper_bits_of_float32(fmt: NumberFormat, low: int) -> None:
    codes = np.random.default_rng(0).integers(0, 1 << fmt.bits, 5000).astype(fmt.dtype)
    np.testing.assert_array_equal(fmt.decode(codes).view(np.uint32), codes.astype(np.uint32) << low)


@given(any_bits)
def test_fp22_toward_zero_clears_ten_bits(bits: int) -> None:
    x = np.uint32(bits).view(np.float32)
    if not np.isnan(x):
        assert FP22.round(x, "toward-zero").view(np.uint32) == bits & ~0x3FF


# ---- rounding ----------------------------------------------------------------------------------------------


def test_what_everybody_asks() -> None:
    """Ties to even; where E4M3 ends; where it begins; where E5M2 overflows."""
    above = np.nextafter(np.float32(464), np.float32(500))
    x = np.float32([4.25, 4.75, 464, above, -above, 2**-10, 2**-10 * 1.0001, 2**-9, 1e9, np.inf])
    saturated = [4, 5, 448, 448, -448, 0, 2**-9, 2**-9, 448, 448]
    assert E4M3.round(x).tolist() == saturated
    out = E4M3.round(x, overflow="nonsaturating")
    assert np.isnan(out[[3, 4, 8, 9]]).all()
    assert out[[0, 1, 2, 5, 6, 7]].tolist() == [4, 5, 448, 0, 2**-9, 2**-9]
    assert E4M3.encode(x, "nonsaturating")[[3, 4]].tolist() == [0x7F, 0xFF]
    just_under = np.nextafter(np.float32(61440), np.float32(0))
    assert E5M2.encode([61440, -61440, just_under], "nonsaturating").tolist() == [0x7C, 0xFC, 0x7B]
    assert E5M2.encode([61440, np.inf, -np.inf]).tolist() == [0x7B, 0x7B, 0xFB]


@each(SIGNED)
@overflows
def test_midpoints_go_to_even_and_their_neighbours_to_the_nearer(fmt: NumberFormat, overflow: str) -> None:
    """Between every two finite codes, and between the largest and what would follow it."""
    codes = np.arange(fmt.top + 1)
    below = fmt.decode(codes).astype(np.float64)
    above = np.append(below[1:], float(decode_one(fmt.top + 1, fmt)))
    middle = ((below + above) / 2).astype(np.float32)
    assert (middle == (below + above) / 2).all()  # float32 holds them all
    beyond = fmt.top + (overflow == "nonsaturating" and fmt.special != "none")
    even, up = np.minimum(codes + (codes & 1), beyond), np.minimum(codes + 1, beyond)
    just_under, just_over = np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(np.inf))
    for sign, bit in ((1, 0), (-1, 1 << (fmt.bits - 1))):
        for x, nearest in ((middle, even), (just_under, codes), (just_over, up)):
            np.testing.assert_array_equal(fmt.encode(sign * x, overflow), nearest | bit)
            np.testing.assert_array_equal(fmt.encode(sign * x, overflow, "toward-zero"), codes | bit)


@each([*SMALL, FORMATS["e5m6"]])
@overflows
def test_arrays_round_as_the_definition_does_at_every_edge(fmt: NumberFormat, overflow: str) -> None:
    x = edges(fmt)[:: 1 if fmt.bits <= 8 else 7]
    for rounding in roundings(fmt):
        expected = [encode_one(float(value), fmt, rounding, overflow) for value in x]
        np.testing.assert_array_equal(fmt.encode(x, overflow, rounding), expected)


@every
@settings(max_examples=100)
@given(x=any_float32, data=st.data())
def test_arrays_round_as_the_definition_does(fmt: NumberFormat, x: np.float32, data: st.DataObject) -> None:
    rounding, overflow = data.draw(st.sampled_from(roundings(fmt))), data.draw(st.sampled_from(OVERFLOWS))
    if np.isnan(x):
        x = np.copysign(np.float32(np.nan), x)  # a payload stays, where there is room
    code = int(fmt.encode(x, overflow, rounding))
    assert code == encode_one(float(x), fmt, rounding, overflow)
    out = fmt.round(x, rounding, overflow=overflow)
    assert out.view(np.uint32) == fmt.decode(fmt.dtype.type(code)).view(np.uint32)


@given(any_float32)
def test_float32_is_itself(x: np.float32) -> None:
    if not np.isnan(x):
        for rounding in ("nearest-even", "toward-zero", "stochastic"):
            assert int(FP32.encode(x, None, rounding)) == int(x.view(np.uint32)) == encode_one(float(x), FP32)
        assert FP32.round(x).view(np.uint32) == x.view(np.uint32)


@every
def test_what_is_no_number_stays_none(fmt: NumberFormat) -> None:
    """Signalling NaNs too, and without a warning."""
    payloads = np.uint32([0x7F800001, 0x7FBFFFFF, 0x7FC00000, 0x7FFFFFFF])
    x = np.concatenate([payloads, payloads | np.uint32(1 << 31)]).view(np.float32)
    for overflow in OVERFLOWS:
        for rounding in ("nearest-even", "toward-zero", "stochastic"):
            out = fmt.round(x, rounding, overflow=overflow)
            if fmt.nan is None:
                assert (out == fmt.largest).all()
            else:
                assert np.isnan(out).all()
                assert (np.signbit(out) == (np.signbit(x) & fmt.signed)).all()


@each([fmt for fmt in FORMATS.values() if fmt.signed])
@overflows
def test_infinity_and_zero(fmt: NumberFormat, overflow: str) -> None:
    x = np.float32([np.inf, -np.inf, 0.0, -0.0])
    for rounding in ("nearest-even", "toward-zero", "stochastic"):
        out = fmt.round(x, rounding, overflow=overflow)
        assert (np.signbit(out) == np.signbit(x)).all()
        assert (out[2:] == 0).all()
        if overflow == "saturate" or fmt.special == "none":
            assert out[0] == fmt.largest
        else:
            assert np.isinf(out[0]) if fmt.special == "ieee" else np.isnan(out[0])


def test_scales_that_are_no_powers_of_two() -> None:
    """Nearest in value, ties up; or up; and what has no logarithm."""
    x = np.float32([1, 1.25, 1.5, 1.75, 3, 2**-127, 1.25 * 2**-127, 1.5 * 2**-127, 2**-140])
    assert UE8M0.encode(x).tolist() == [127, 127, 128, 128, 129, 0, 0, 1, 0]
    assert UE8M0.encode(x, None, "up").tolist() == [127, 128, 128, 128, 129, 0, 1, 1, 0]
    assert UE8M0.encode(x, None, "toward-zero").tolist() == [127, 127, 127, 127, 128, 0, 0, 0, 0]
    odd = np.float32([0, -0.0, -1, -np.inf, np.inf, np.nan, 3e38])
    assert UE8M0.encode(odd).tolist() == [0, 0, 255, 255, 254, 255, 254]
    assert UE8M0.encode(odd, "nonsaturating").tolist() == [255] * 7


# ---- stochastic --------------------------------------------------------------------------------------------


class Comb:
    """In place of a generator: 64 draws at equal distances, again and again."""

    def random(self, size: int) -> np.ndarray:
        return np.arange(size) % 64 / 64

    def integers(self, low: int, high: int, size: int, dtype: type) -> np.ndarray:
        return (np.arange(size) % 64 * (high // 64)).astype(dtype)


@each([fmt for fmt in FORMATS.values() if fmt is not FP32])
@overflows
def test_stochastic_rounding_has_the_probabilities_of_the_definition(fmt, overflow: str) -> None:
    """64ths of the way between neighbours: of 64 draws at equal distances, so many go up."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, fmt.top, 40).tolist()
    for code in [0, 1, fmt.top - 1, fmt.top, 1 << fmt.fraction_bits, *drawn]:
        low, high = decode_one(code, fmt), decode_one(code + 1, fmt)
        for k in (0, 1, 31, 32, 33, 63):
            x = np.float32(float(low + Fraction(k, 64) * (high - low)))
            got = fmt.encode(np.full(64, x), overflow, "stochastic", Comb())
            found, counts = np.unique(got, return_counts=True)
            ours = {int(c): Fraction(int(n), 64) for c, n in zip(found, counts, strict=True)}
            assert ours == chances_one(float(x), fmt, overflow)


@every
@settings(max_examples=100)
@given(x=any_float32, seed=st.integers(0, 9), overflow=st.sampled_from(OVERFLOWS))
def test_stochastic_rounding_gives_a_neighbour(fmt, x: np.float32, seed: int, overflow: str) -> None:
    code = int(fmt.encode(x, overflow, "stochastic", np.random.default_rng(seed)))
    if not np.isnan(x):
        assert code in chances_one(float(x), fmt, overflow)


def test_stochastic_rounding_does_not_depend_on_the_layout() -> None:
    x = np.random.default_rng(0).standard_normal((300, 200)).astype("f")
    turned = np.asfortranarray(x)
    for fmt in (E4M3, BF16, UE8M0):
        a, b = (fmt.encode(y, None, "stochastic", np.random.default_rng(1)) for y in (x, turned))
        np.testing.assert_array_equal(a, b)


@each([E4M3, BF16])
@pytest.mark.parametrize("where", [1.0, 2.0**-6, 2.0**-8, 0.03])
def test_stochastic_rounding_is_right_on_average(fmt: NumberFormat, where: float) -> None:
    low = int(fmt.encode(np.float32(where), None, "toward-zero"))
    a, b = fmt.decode([low, low + 1]).astype(np.float64)
    x = np.full(40_000, a + 0.3 * (b - a), np.float32)
    up = fmt.encode(x, None, "stochastic", np.random.default_rng(0)) == low + 1
    share = (float(x[0]) - a) / (b - a)
    assert up.mean() == pytest.approx(share, abs=5 * (share * (1 - share) / x.size) ** 0.5)


# ---- arrays ------------------------------------------------------------------------------------------------


def patterns(size: int) -> np.ndarray:
    """Any bits whatever, one half; the other in the range of the small formats."""
    rng = np.random.default_rng(size)
    any_at_all = rng.integers(0, 1 << 32, size, dtype=np.uint32).view(np.float32)
    near_one = (rng.standard_normal(size) * np.exp2(rng.integers(-20, 18, size))).astype(np.float32)
    return np.where(rng.random(size) < 0.5, any_at_all, near_one)


@every
@overflows
def test_rounding_in_place_is_decoding_what_was_encoded(fmt: NumberFormat, overflow: str) -> None:
    """Across the borders of chunks, and whatever the layout."""
    for x in (
        patterns(3 * CHUNK + 5),
        patterns(6000).reshape(60, 100).T,
        patterns(6000)[::-3].reshape(40, 50),
        patterns(4096).reshape(2, 32, 64)[:, ::2, 5:],
    ):
        codes = fmt.encode(x, overflow)
        assert codes.shape == x.shape
        expected = fmt.decode(codes)
        np.testing.assert_array_equal(fmt.round(x, overflow=overflow), expected)
        assert (np.signbit(fmt.round(x, overflow=overflow)) == np.signbit(expected)).all()
        turned = fmt.round(x, overflow=overflow, out=np.empty(x.shape[::-1], np.float32).T)
        np.testing.assert_array_equal(turned, expected)
        assert fmt.round(x, overflow=overflow, out=x) is x
        np.testing.assert_array_equal(x, expected)


def test_overlapping_arrays_are_rounded_as_if_they_were_apart() -> None:
    x = patterns(5 * CHUNK)
    expected = E4M3.round(x[:-7])
    np.testing.assert_array_equal(E4M3.round(x[:-7], out=x[7:]), expected)


def test_inputs_are_left_alone() -> None:
    x = patterns(1000)
    before = x.copy()
    for fmt in FORMATS.values():
        for overflow in OVERFLOWS:
            fmt.round(x, overflow=overflow)
            fmt.encode(x, overflow)
    assert (x.view(np.uint32) == before.view(np.uint32)).all()


def test_shapes_are_kept_and_codes_are_small() -> None:
    assert BF16.encode(np.zeros((2, 0, 3), "f")).shape == (2, 0, 3)
    assert E4M3.round(np.zeros((2, 0, 3), "f")).shape == (2, 0, 3)
    assert E4M3.round(np.float32(3.1)).shape == ()
    assert [FORMATS[n].encode(1.0).dtype.name for n in ("e2m1", "e4m3", "e5m6", "bf16", "fp22", "fp32")] == [
        *["uint8"] * 2,
        *["uint16"] * 2,
        *["uint32"] * 2,
    ]
    assert BF16.decode(np.zeros((2, 3), "<u2")).shape == (2, 3)
    big_endian = np.array([0x3F80], ">u2")
    assert BF16.decode(big_endian).tolist() == [1.0]
    assert BF16.encode(np.array([1.0], ">f4")).tolist() == [0x3F80]


# ---- bad input ---------------------------------------------------------------------------------------------


def test_what_would_be_rounded_twice_or_is_no_code_is_refused() -> None:
    with pytest.raises(ValueError, match="expected float32"):
        BF16.encode(np.zeros(3))
    with pytest.raises(ValueError, match="expected rounding one of"):
        BF16.encode(1.0, None, "up")
    with pytest.raises(ValueError, match=r"expected overflow one of .* got 'wrap'"):
        E4M3.encode(1.0, "wrap")
    with pytest.raises(ValueError, match=r"expected overflow one of .* got 'wrap'"):
        E4M3.round(1.0, overflow="wrap")
    for codes, arrived in (
        (np.array([1 << 16]), "65536"),
        (np.array([-1]), "-1"),
        (np.array([0.5]), "float64"),
    ):
        with pytest.raises(ValueError, match=rf"expected codes of bf16, 0 \.\. 65535, got {arrived}"):
            BF16.decode(codes)
    with pytest.raises(ValueError, match=r"expected codes of e2m1, 0 \.\. 15, got 16"):
        E2M1.decode(np.uint8([3, 16]))
    with pytest.raises(ValueError, match=r"expected codes of e4m3, 0 \.\. 255, got bool"):
        E4M3.decode(np.array([True]))
    for out in (np.empty(3, np.float64), np.empty(4, np.float32)):
        with pytest.raises(ValueError, match=r"expected out float32 \(3,\), got"):
            E4M3.round(np.zeros(3, "f"), out=out)


@pytest.mark.parametrize("bad", [None, "1.0", 1j, [None, 1.0], [object()]])
def test_what_is_no_number_is_refused(bad: Any) -> None:
    for function in (E4M3.encode, BF16.round):
        with pytest.raises(ValueError, match="expected numbers, got"):
            function(bad)


def test_out_is_an_array() -> None:
    with pytest.raises(ValueError, match=r"expected out float32 \(\), got list"):
        E4M3.round(1.0, out=[0.0])  # type: ignore[arg-type]


@pytest.mark.filterwarnings("error")
def test_a_number_beyond_float32_overflows_in_silence() -> None:
    assert [E4M3.encode(1e300).item(), E4M3.encode([-1e300], "nonsaturating").item()] == [0x7E, 0xFF]
    assert BF16.round(-1e300) == -np.inf


def test_what_fits_into_float32_is_taken() -> None:
    x = np.float32([[0.3, -17, 464]])
    for same in (x.astype(">f4"), x.tolist(), x.T.copy().T, np.repeat(x, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(E4M3.encode(same), E4M3.encode(x))
    half = x.astype(np.float16)
    np.testing.assert_array_equal(E4M3.round(half), E4M3.round(half.astype(np.float32)))
    np.testing.assert_array_equal(E5M2.round(np.int16([3, -300])), np.float32([3, -320]))


def test_the_definition_knows_that_nan_has_a_sign() -> None:
    assert encode_one(-math.nan, E4M3) == 0xFF
    assert encode_one(-math.nan, E2M1) == 7


@pytest.mark.parametrize("rounding", ["nearest-even", "toward-zero"])
def test_a_generator_changes_nothing_where_nothing_is_drawn(rounding: str) -> None:
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    for fmt in (E4M3, BF16, UE8M0):
        rng = np.random.default_rng(1)
        np.testing.assert_array_equal(
            fmt.encode(x, rounding=rounding, rng=rng), fmt.encode(x, rounding=rounding)
        )
        assert rng.random() == np.random.default_rng(1).random()
