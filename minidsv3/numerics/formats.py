"""Floating-point formats as table rows: codes, values, and rounding from float32 in one step.

A float32 is sign, exponent and a significand of 24 bits. To put it into a narrower format is to shift the
significand right, by as many bits as the format's fraction is shorter and, below its smallest normal number,
by the missing exponent as well; then to look at the bits that fell out. A carry out of the fraction runs into
the exponent field by itself, and out of the highest exponent into infinity: codes are in the order of their
magnitudes.

Does: IEEE-like formats no wider than float32. Does not: round twice; values that are not float32 are refused.

    >>> BF16.encode(np.float32([1.0, -2.5])).tolist() == [0x3F80, 0xC020]
    True
    >>> BF16.largest, FP16.largest, FP16.smallest
    (3.3895313892515355e+38, 65504.0, 5.960464477539063e-08)
    >>> FP16.round([2049.0, 2051.0]).tolist(), FP16.round([2049.0, 2051.0], "toward-zero").tolist()
    ([2048.0, 2052.0], [2048.0, 2050.0])
    >>> hex(encode_one(2051.0, FP16)), hex(FP16.encode(2051.0))
    ('0x6802', '0x6802')

Next: minidsv3.machine
"""

import math
import tomllib
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BF16", "FP16", "FP32", "ROUNDINGS", "NumberFormat", "decode_one", "encode_one"]

Codes = NDArray[np.unsignedinteger[Any]]
Values = NDArray[np.float32]
ROUNDINGS = ("nearest-even", "toward-zero", "stochastic")

# float32 itself
_FRACTION, _BIAS, _INFINITY, _HIDDEN = 23, 127, 0x7F80_0000, 0x80_0000


@dataclass(frozen=True)
class NumberFormat:
    """A row of `data/formats.toml`."""

    name: str
    exponent_bits: int
    fraction_bits: int
    bias: int
    special: str  # "ieee": the highest exponent field is infinity or NaN
    source: str

    @property
    def bits(self) -> int:
        """Width of a code, the sign included."""
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def infinity(self) -> int:
        """Code of plus infinity; finite magnitudes have smaller codes."""
        return ((1 << self.exponent_bits) - 1) << self.fraction_bits

    @property
    def largest(self) -> float:
        """Largest finite value."""
        return float(decode_one(self.infinity - 1, self))

    @property
    def smallest(self) -> float:
        """Smallest value above zero, a subnormal."""
        return float(decode_one(1, self))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Unsigned integers that hold a code."""
        return np.dtype(np.uint16 if self.bits <= 16 else np.uint32)

    def encode(
        self, x: ArrayLike, rounding: str = "nearest-even", rng: np.random.Generator | None = None
    ) -> Codes:
        """Codes of float32 values.

        x: any shape, float32 or what fits into it.  rounding: one of ROUNDINGS. "stochastic" rounds up in
        magnitude with the probability of the part cut off, drawn from rng (a fresh generator if None).
        Beyond the largest value: infinity; the largest value when rounding toward zero. NaN stays a
        (quiet) NaN.
        """
        if rounding not in ROUNDINGS:
            raise ValueError(f"expected rounding one of {ROUNDINGS}, got {rounding!r}")
        values = _float32(x)
        bits = np.atleast_1d(values).view(np.uint32)  # [...]
        magnitude = bits & np.uint32(0x7FFF_FFFF)
        code = self._magnitude_code(magnitude, rounding, rng)
        special = magnitude >= _INFINITY
        code = np.where(special, self._special_code(magnitude), code)
        code |= (bits >> np.uint32(31)) << np.uint32(self.bits - 1)
        return code.astype(self.dtype).reshape(values.shape)

    def _magnitude_code(
        self, magnitude: NDArray[np.uint32], rounding: str, rng: np.random.Generator | None
    ) -> NDArray[np.uint32]:
        """Code without sign of finite float32 magnitudes given as bits.  [...] -> [...]."""
        field = (magnitude >> np.uint32(_FRACTION)).astype(np.int32)
        significand = (magnitude & np.uint32(_HIDDEN - 1)) | np.where(
            field > 0, np.uint32(_HIDDEN), np.uint32(0)
        )
        exponent = np.maximum(field, 1) - _BIAS  # value = significand x 2^(exponent - 23)
        lowest = 1 - self.bias  # exponent of the smallest normal number
        cut = _FRACTION - self.fraction_bits + np.maximum(lowest - exponent, 0)  # bits that fall out
        shift = np.minimum(cut, _FRACTION + 2).astype(np.uint32)  # a longer shift leaves nothing either
        kept = significand >> shift
        rest = significand - (kept << shift)
        if rounding == "nearest-even":
            twice, unit = rest << np.uint32(1), np.uint32(1) << shift
            kept += (twice > unit) | ((twice == unit) & (kept & np.uint32(1) == 1))
        elif rounding == "stochastic":
            rng = rng or np.random.default_rng()
            kept += rng.random(rest.shape) < np.ldexp(rest.astype(np.float64), -cut)
        above = (np.maximum(exponent, lowest) - lowest).astype(np.uint32)
        code = (
            above << np.uint32(self.fraction_bits)
        ) + kept  # the hidden bit adds one to the exponent field
        top = self.infinity - (rounding == "toward-zero")
        capped: NDArray[np.uint32] = np.minimum(code, np.uint32(top))
        return capped

    def _special_code(self, magnitude: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Code without sign of infinity, and of NaN with as much of its payload as fits, made quiet."""
        payload = (magnitude & np.uint32(_HIDDEN - 1)) >> np.uint32(_FRACTION - self.fraction_bits)
        quiet = payload | np.uint32(1 << (self.fraction_bits - 1))
        return np.uint32(self.infinity) + np.where(magnitude == _INFINITY, np.uint32(0), quiet)

    def decode(self, codes: ArrayLike) -> Values:
        """Values of codes, exactly.  Integers of any shape -> float32."""
        wide = np.asarray(codes)
        fits = wide.dtype == self.dtype and self.bits == 8 * wide.itemsize  # then every number is a code
        if wide.dtype.kind not in "iu" or not (
            fits or not wide.size or (wide.min() >= 0 and not wide.max() >> self.bits)
        ):
            raise ValueError(f"expected codes of {self.name}, 0 .. {(1 << self.bits) - 1}, got {wide.dtype}")
        bits = self._float32_bits(np.atleast_1d(wide).astype(np.uint32))
        return bits.view(np.float32).reshape(wide.shape)

    def _float32_bits(self, wide: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """The float32 with the value of each code, as bits.  [...] -> [...]."""
        if self.bias == _BIAS and self.exponent_bits == 8:  # the upper bits of a float32
            return wide << np.uint32(32 - self.bits)
        field = (wide >> np.uint32(self.fraction_bits)) & np.uint32((1 << self.exponent_bits) - 1)
        fraction = wide & np.uint32((1 << self.fraction_bits) - 1)
        significand = fraction | np.where(field > 0, np.uint32(1 << self.fraction_bits), np.uint32(0))
        power = np.maximum(field, 1).astype(np.int32) - self.bias - self.fraction_bits
        finite = np.ldexp(significand.astype(np.float32), power).astype(np.float32)  # exact
        special = np.uint32(_INFINITY) | (fraction << np.uint32(_FRACTION - self.fraction_bits))
        full = field == (1 << self.exponent_bits) - 1
        bits: NDArray[np.uint32] = np.where(full, special, finite.view(np.uint32))
        bits |= (wide >> np.uint32(self.bits - 1)) << np.uint32(31)
        return bits

    def round(
        self, x: ArrayLike, rounding: str = "nearest-even", rng: np.random.Generator | None = None
    ) -> Values:
        """The values of the format that x rounds to; arguments as `encode`."""
        return self.decode(self.encode(x, rounding, rng))


def _float32(x: ArrayLike) -> Values:
    """As float32 without a rounding; numbers of Python's own are taken as they come."""
    if isinstance(x, np.ndarray | np.generic) and not np.can_cast(x.dtype, np.float32):
        raise ValueError(f"expected float32 (another rounding would come first), got {x.dtype}")
    return np.asarray(x, np.float32)


# ---- the specification: one number at a time, in exact fractions -------------------------------------------


def decode_one(code: int, fmt: NumberFormat) -> Fraction:
    """Value of a finite code without sign; that of infinity's code is the power of two it stands for."""
    field, fraction = divmod(code, 1 << fmt.fraction_bits)
    significand = fraction + (1 << fmt.fraction_bits if field else 0)
    return significand * Fraction(2) ** (max(field, 1) - fmt.bias - fmt.fraction_bits)


def encode_one(x: float, fmt: NumberFormat, rounding: str = "nearest-even") -> int:
    """Code of one number that is not NaN: the nearer of the codes around it, between both the even one."""
    sign = (1 << (fmt.bits - 1)) if math.copysign(1, x) < 0 else 0
    if math.isinf(x):
        return sign | fmt.infinity
    exact = abs(Fraction(x))
    codes = range(fmt.infinity + 1)
    below = bisect_right(codes, exact, key=lambda code: decode_one(code, fmt)) - 1
    if rounding == "toward-zero":
        return sign | min(below, fmt.infinity - 1)
    if below == fmt.infinity:
        return sign | below
    down, up = exact - decode_one(below, fmt), decode_one(below + 1, fmt) - exact
    return sign | (below + (up < down or (up == down and below % 2 == 1)))


def _rows() -> dict[str, NumberFormat]:
    text = (resources.files("minidsv3") / "data" / "formats.toml").read_text(encoding="utf-8")
    return {name: NumberFormat(name=name, **row) for name, row in tomllib.loads(text).items()}


_FORMATS = _rows()
BF16, FP16, FP32 = (_FORMATS[name] for name in ("bf16", "fp16", "fp32"))
