"""Formats against ml_dtypes 0.6 and torch 2.13: all codes, a million bit patterns, every midpoint.

What differs on purpose, each in a test of its own: NaN in formats without one; UE8M0 below 2^-126; negative
numbers and zero in torch's UE8M0; which stack saturates.
"""

import warnings

import numpy as np
import pytest

from minidsv3.numerics import E2M1, E4M3, E5M2, FORMATS, UE8M0, NumberFormat
from minidsv3.numerics.formats import decode_one

pytestmark = pytest.mark.peer
ml_dtypes = pytest.importorskip("ml_dtypes")
torch = pytest.importorskip("torch")

NAMES = {
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "bf16": ml_dtypes.bfloat16,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "ue8m0": ml_dtypes.float8_e8m0fnu,
    "fp16": np.float16,
}
each = pytest.mark.parametrize("name", NAMES)
MILLION = 1_000_000


@pytest.fixture(scope="module")
def patterns() -> np.ndarray:
    """A million float32, any bits whatever, and a million between 2^-24 and 2^18, where small ones live."""
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 1 << 32, MILLION, dtype=np.uint32)
    sign, field = rng.integers(0, 2, MILLION), rng.integers(127 - 24, 127 + 18, MILLION)
    fraction = rng.integers(0, 1 << 23, MILLION) & -(1 << rng.integers(0, 23, MILLION))  # many on a tie
    near = (sign << 31 | field << 23 | fraction).astype(np.uint32)
    return np.concatenate([bits, near]).view(np.float32)


def midpoints(fmt: NumberFormat) -> np.ndarray:
    """Every one, the one behind the largest included, and the float32 next to each; both signs."""
    values = np.append(
        fmt.decode(np.arange(fmt.top + 1)).astype(np.float64), float(decode_one(fmt.top + 1, fmt))
    )
    middle = (values[:-1] + np.diff(values) / 2).astype(np.float32)
    x = np.concatenate([middle, *(np.nextafter(middle, np.float32(to)) for to in (0, np.inf))])
    return np.concatenate([x, -x])


def theirs(x: np.ndarray, name: str) -> np.ndarray:
    """Codes by ml_dtypes (FP16: by NumPy)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflow, NaN
        return x.astype(NAMES[name]).view(FORMATS[name].dtype)


def by_torch(x: np.ndarray, dtype: object) -> np.ndarray:
    return torch.from_numpy(x).to(dtype).view(torch.uint8).numpy()


def comparable(x: np.ndarray, name: str) -> np.ndarray:
    """Without NaN; for UE8M0 without what lies between 2^-127 and 2^-126."""
    kept = ~np.isnan(x)
    if name == "ue8m0":
        kept &= ~((x > 2.0**-127) & (x < 2.0**-126))
    return x[kept]


@each
def test_a_million_patterns(name: str, patterns: np.ndarray) -> None:
    fmt, x = FORMATS[name], comparable(patterns, name)
    np.testing.assert_array_equal(fmt.encode(x, "nonsaturating"), theirs(x, name))
    nan = patterns[np.isnan(patterns)]
    assert len(nan) > 3000
    if fmt.nan is not None:
        assert np.isnan(fmt.round(nan, overflow="nonsaturating")).all()
        assert np.isnan(theirs(nan, name).view(NAMES[name]).astype(np.float32)).all()


@each
def test_midpoints_and_their_neighbours(name: str) -> None:
    x = comparable(midpoints(FORMATS[name]), name)
    np.testing.assert_array_equal(FORMATS[name].encode(x, "nonsaturating"), theirs(x, name))


@each
def test_all_codes_decode_alike(name: str) -> None:
    fmt = FORMATS[name]
    codes = np.arange(1 << fmt.bits).astype(fmt.dtype)
    ours, other = fmt.decode(codes), codes.view(NAMES[name]).astype(np.float32)
    np.testing.assert_array_equal(ours, other)
    if fmt.signed:
        np.testing.assert_array_equal(np.signbit(ours), np.signbit(other))


@each
def test_quiet_nan_has_the_same_code(name: str) -> None:
    nan = np.float32([np.nan, -np.nan])
    if FORMATS[name].nan is not None:
        np.testing.assert_array_equal(FORMATS[name].encode(nan, "nonsaturating"), theirs(nan, name))


def test_torch_saturates_e4m3_from_2_12_on(patterns: np.ndarray) -> None:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    overflow = "saturate" if version >= (2, 12) else "nonsaturating"
    x = np.concatenate([patterns, midpoints(E4M3)])
    np.testing.assert_array_equal(E4M3.encode(x, overflow), by_torch(x, torch.float8_e4m3fn))


def test_torch_does_not_saturate_e5m2(patterns: np.ndarray) -> None:
    x = np.concatenate([patterns, midpoints(E5M2)])
    x = x[~np.isnan(x)]
    np.testing.assert_array_equal(E5M2.encode(x, "nonsaturating"), by_torch(x, torch.float8_e5m2))


@pytest.mark.parametrize("name", ["e2m1", "e2m3", "e3m2"])
def test_nan_in_formats_without_nan(name: str) -> None:
    """Ours is plus the largest, as CUDA's conversions have it; ml_dtypes makes it zero, of the other sign."""
    fmt, nan = FORMATS[name], np.float32([np.nan, -np.nan])
    assert fmt.encode(nan, "nonsaturating").tolist() == [fmt.top] * 2
    assert theirs(nan, name).tolist() == [1 << (fmt.bits - 1), 0]
    assert E2M1.round(np.float32(np.inf)) == 6


def test_scales_below_the_normal_numbers_of_float32() -> None:
    """Both peers take all that is above 2^-127 up to 2^-126, though 2^-127 is nearer up to 1.5 x 2^-127.

    Everywhere else they round to the nearest, as we do here too. (ml_dtypes from float64, where 2^-127 is no
    subnormal, does the same.)
    """
    x = np.uint32([0x400000, 0x400001, 0x5FFFFF, 0x600000, 0x7FFFFF, 0x800000]).view(np.float32)
    assert UE8M0.encode(x).tolist() == [0, 0, 0, 1, 1, 1]
    assert UE8M0.encode(x, None, "up").tolist() == [0, 1, 1, 1, 1, 1]
    assert theirs(x, "ue8m0").tolist() == theirs(x.astype(np.float64), "ue8m0").tolist() == [0, 1, 1, 1, 1, 1]
    assert by_torch(x, torch.float8_e8m0fnu).tolist() == [0, 1, 1, 1, 1, 1]


def test_torch_ignores_the_sign_of_a_scale(patterns: np.ndarray) -> None:
    """torch: |x|, and zero is 2^-127 as in our saturating convention; ml_dtypes: NaN, as in our other one."""
    x = comparable(patterns, "ue8m0")
    x = np.abs(x[np.isfinite(x)])
    x = x[(x == 0) | ((x >= 2.0**-126) & (x < 1.5 * 2.0**127))]
    np.testing.assert_array_equal(UE8M0.encode(x), by_torch(x, torch.float8_e8m0fnu))
    np.testing.assert_array_equal(UE8M0.encode(x), by_torch(-x, torch.float8_e8m0fnu))
    zero = np.zeros(1, np.float32)
    assert (UE8M0.encode(zero), by_torch(zero, torch.float8_e8m0fnu)) == ([0], [0])
    assert (UE8M0.encode(zero, "nonsaturating"), theirs(zero, "ue8m0")) == ([255], [255])
    assert (UE8M0.encode(-1.0), theirs(-np.ones(1, "f"), "ue8m0")) == (255, [255])
