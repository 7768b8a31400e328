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
    >>> E4M3.round([4.25, 1000.0]).tolist(), E4M3.decode(E4M3.encode(1000.0, "nonsaturating")).item()
    ([4.0, 448.0], nan)

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

__all__ = ["FORMATS", "OVERFLOWS", "ROUNDINGS", "NumberFormat", "decode_one", "encode_one"]

Codes = NDArray[np.unsignedinteger[Any]]
Values = NDArray[np.float32]
ROUNDINGS = ("nearest-even", "toward-zero", "stochastic")
OVERFLOWS = ("saturate", "nonsaturating")

# float32 itself
_FRACTION, _BIAS, _INFINITY, _HIDDEN = 23, 127, 0x7F80_0000, 0x80_0000


@dataclass(frozen=True)
class NumberFormat:
    """A row of `data/formats.toml`."""

    name: str
    exponent_bits: int
    fraction_bits: int
    bias: int
    special: str  # "ieee", "nan-only" or "none"
    overflow: str  # one of OVERFLOWS, where the caller says nothing
    status: str  # "published" or "assumed"
    source: str
    signed: bool = True

    @property
    def bits(self) -> int:
        """Width of a code, the sign included."""
        return self.signed + self.exponent_bits + self.fraction_bits

    @property
    def top(self) -> int:
        """Code of the largest finite value."""
        if self.special == "ieee":
            return (((1 << self.exponent_bits) - 1) << self.fraction_bits) - 1
        return (1 << (self.exponent_bits + self.fraction_bits)) - 1 - (self.special == "nan-only")

    @property
    def infinity(self) -> int | None:
        """Code of plus infinity, None if there is none; finite magnitudes have smaller codes."""
        return self.top + 1 if self.special == "ieee" else None

    @property
    def nan(self) -> int | None:
        """Code of the NaN that every NaN becomes (its sign aside), None if there is none."""
        quiet = 1 << (self.fraction_bits - 1) if self.special == "ieee" else 0
        return None if self.special == "none" else self.top + 1 + quiet

    @property
    def largest(self) -> float:
        """Largest finite value."""
        return float(decode_one(self.top, self))

    @property
    def smallest(self) -> float:
        """Smallest value above zero, a subnormal where there are any."""
        return float(decode_one(1 if self.signed else 0, self))

    @property
    def smallest_normal(self) -> float:
        """Smallest value with a full significand."""
        return float(decode_one(1 << self.fraction_bits if self.signed else 0, self))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Unsigned integers that hold a code."""
        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16 if self.bits <= 16 else np.uint32)

    def encode(
        self,
        x: ArrayLike,
        overflow: str | None = None,
        rounding: str = "nearest-even",
        rng: np.random.Generator | None = None,
    ) -> Codes:
        """Codes of float32 values.

        x: any shape, float32 or what fits into it.  overflow: one of OVERFLOWS, None for the format's own.
        rounding: one of ROUNDINGS, and "up" where there is no sign. "stochastic" rounds up in magnitude with
        the probability of the part cut off, drawn from rng (a fresh generator if None).
        """
        allowed = ROUNDINGS if self.signed else (*ROUNDINGS, "up")
        if rounding not in allowed:
            raise ValueError(f"expected rounding one of {allowed}, got {rounding!r}")
        overflow = self.overflow if overflow is None else overflow
        if overflow not in OVERFLOWS:
            raise ValueError(f"expected overflow one of {OVERFLOWS}, got {overflow!r}")
        values = _float32(x)
        bits = np.atleast_1d(values).view(np.uint32)  # [...]
        magnitude = bits & np.uint32(0x7FFF_FFFF)
        code = self._magnitude_code(magnitude, rounding, rng).astype(np.int64)
        beyond = self.top if overflow == "saturate" or self.special == "none" else self.top + 1
        largest = self.top if rounding == "toward-zero" else beyond
        code = np.minimum(code, largest)
        code[magnitude == _INFINITY] = beyond
        code[magnitude > _INFINITY] = self.top if self.nan is None else self.nan
        if self.signed:
            code |= (bits >> np.uint32(31)).astype(np.int64) << (self.bits - 1)
        else:
            code[(bits > 0x8000_0000)] = self.nan
            if overflow == "nonsaturating":
                code[magnitude == 0] = self.nan
        return code.astype(self.dtype).reshape(values.shape)

    def _magnitude_code(
        self, magnitude: NDArray[np.uint32], rounding: str, rng: np.random.Generator | None
    ) -> NDArray[np.uint32]:
        """Code without sign of finite float32 magnitudes given as bits.  [...] -> [...]."""
        value = (
            np.where(magnitude >= _INFINITY, 0, magnitude)
            .astype(np.uint32)
            .view(np.float32)
            .astype(np.float64)
        )
        _, exponent = np.frexp(value)
        lowest = 1 - self.bias if self.signed else -self.bias
        exponent = np.where(value == 0, lowest, np.maximum(exponent - 1, lowest))
        scaled = np.ldexp(value, self.fraction_bits - exponent)
        kept = np.floor(scaled)
        rest = scaled - kept
        if rounding == "nearest-even":
            kept += (rest > 0.5) | ((rest == 0.5) & (kept % 2 == 1))
        elif rounding == "up":
            kept += rest > 0
        elif rounding == "stochastic":
            rng = rng or np.random.default_rng()
            kept += rng.random(rest.shape) < rest
        code = (exponent - lowest) * float(1 << self.fraction_bits) + kept
        if not self.signed:
            code = np.maximum(code - 1, 0)
        return code.astype(np.uint32)

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
        if not self.signed:
            return np.where(
                wide == 0, 0x40_0000, np.where(wide == 255, 0x7FC0_0000, wide << np.uint32(23))
            ).astype(np.uint32)
        if self.bias == _BIAS and self.exponent_bits == 8:  # the upper bits of a float32
            return wide << np.uint32(32 - self.bits)
        code = wide & np.uint32((1 << (self.bits - 1)) - 1)
        field = code >> np.uint32(self.fraction_bits)
        fraction = code & np.uint32((1 << self.fraction_bits) - 1)
        significand = fraction | np.where(field > 0, np.uint32(1 << self.fraction_bits), np.uint32(0))
        power = np.maximum(field, 1).astype(np.int32) - self.bias - self.fraction_bits
        finite = np.ldexp(significand.astype(np.float32), power).astype(np.float32)  # exact
        bits: NDArray[np.uint32] = finite.view(np.uint32)
        if self.special == "ieee":
            special = np.uint32(_INFINITY) | (fraction << np.uint32(_FRACTION - self.fraction_bits))
            bits = np.where(code > self.top, special, bits)
        else:
            bits = np.where(code > self.top, np.uint32(0x7FC0_0000), bits)
        bits |= (wide >> np.uint32(self.bits - 1)) << np.uint32(31)
        return bits

    def round(
        self,
        x: ArrayLike,
        rounding: str = "nearest-even",
        rng: np.random.Generator | None = None,
        overflow: str | None = None,
        out: Values | None = None,
    ) -> Values:
        """The values of the format that x rounds to, in `out` if given (it may be x itself)."""
        values = self.decode(self.encode(x, overflow, rounding, rng))
        if out is None:
            return values
        out[...] = values
        return out


def _float32(x: ArrayLike) -> Values:
    """As float32 without a rounding; numbers of Python's own are taken as they come."""
    if isinstance(x, np.ndarray | np.generic) and not np.can_cast(x.dtype, np.float32):
        raise ValueError(f"expected float32 (another rounding would come first), got {x.dtype}")
    return np.asarray(x, np.float32)


# ---- the specification: one number at a time, in exact fractions -------------------------------------------


def decode_one(code: int, fmt: NumberFormat) -> Fraction:
    """Value of a finite code without sign; that of infinity's code is the power of two it stands for."""
    field, fraction = divmod(code, 1 << fmt.fraction_bits)
    if not fmt.signed:
        return Fraction(2) ** (field - fmt.bias)
    significand = fraction + (1 << fmt.fraction_bits if field else 0)
    return significand * Fraction(2) ** (max(field, 1) - fmt.bias - fmt.fraction_bits)


def encode_one(x: float, fmt: NumberFormat, rounding: str = "nearest-even") -> int:
    """Code of one number that is not NaN: the nearer of the codes around it, between both the even one."""
    sign = (1 << (fmt.bits - 1)) if math.copysign(1, x) < 0 else 0
    if math.isinf(x):
        return sign | (fmt.top + 1)
    exact = abs(Fraction(x))
    codes = range(fmt.top + 2)
    below = bisect_right(codes, exact, key=lambda code: decode_one(code, fmt)) - 1
    if rounding == "toward-zero":
        return sign | min(below, fmt.top)
    if below == fmt.top + 1:
        return sign | below
    down, up = exact - decode_one(below, fmt), decode_one(below + 1, fmt) - exact
    return sign | (below + (up < down or (up == down and below % 2 == 1)))


def _rows() -> dict[str, NumberFormat]:
    text = (resources.files("minidsv3") / "data" / "formats.toml").read_text(encoding="utf-8")
    return {name: NumberFormat(name=name, **row) for name, row in tomllib.loads(text).items()}


FORMATS = _rows()
FP32, TF32, FP22 = FORMATS["fp32"], FORMATS["tf32"], FORMATS["fp22"]
BF16, FP16, E5M6 = FORMATS["bf16"], FORMATS["fp16"], FORMATS["e5m6"]
E4M3, E5M2, UE8M0 = FORMATS["e4m3"], FORMATS["e5m2"], FORMATS["ue8m0"]
E3M2, E2M3, E2M1 = FORMATS["e3m2"], FORMATS["e2m3"], FORMATS["e2m1"]
