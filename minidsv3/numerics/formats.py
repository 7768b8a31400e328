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

Next: minidsv3.numerics.rounding
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

from minidsv3.numerics import rounding as rounding_in_bits

__all__ = ["FORMATS", "OVERFLOWS", "ROUNDINGS", "NumberFormat", "decode_one", "encode_one"]

Codes = NDArray[np.unsignedinteger[Any]]
Values = NDArray[np.float32]
ROUNDINGS = ("nearest-even", "toward-zero", "stochastic")
OVERFLOWS = ("saturate", "nonsaturating")


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

    def _convention(self, overflow: str | None) -> str:
        overflow = self.overflow if overflow is None else overflow
        if overflow not in OVERFLOWS:
            raise ValueError(f"expected overflow one of {OVERFLOWS}, got {overflow!r}")
        return overflow

    @property
    def overflow_threshold(self) -> float:
        """The value that would follow the largest, were there one: 480 in E4M3, 2^16 in float16."""
        return float(decode_one(self.top + 1, self))

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
        overflow = self._convention(overflow)
        return rounding_in_bits.encode(_float32(x), self, overflow, rounding, rng)

    def decode(self, codes: ArrayLike) -> Values:
        """Values of codes, exactly.  Integers of any shape -> float32."""
        return rounding_in_bits.decode(self._checked(codes), self)

    def _checked(self, codes: ArrayLike) -> Codes:
        """Integers as codes, none beyond the format.  [...] -> [...] of `dtype`."""
        given = np.asarray(codes)
        span = f"expected codes of {self.name}, 0 .. {(1 << self.bits) - 1}, got "
        if given.dtype.kind not in "iu" and given.size:
            raise ValueError(f"{span}{given.dtype}")
        every = given.dtype.kind == "u" and 8 * given.itemsize <= self.bits  # any such number is a code
        if not every and given.size:
            low, high = int(given.min()), int(given.max())
            if low < 0 or high >> self.bits:
                raise ValueError(f"{span}{low if low < 0 else high}")
        return given.astype(self.dtype, copy=False)

    def round(
        self,
        x: ArrayLike,
        rounding: str = "nearest-even",
        rng: np.random.Generator | None = None,
        overflow: str | None = None,
        out: Values | None = None,
    ) -> Values:
        """The values of the format that x rounds to, in `out` if given (it may be x itself)."""
        values = _float32(x)
        if out is None:
            out = np.empty_like(values)
        elif out.dtype != np.float32 or out.shape != values.shape:
            raise ValueError(f"expected out float32 {values.shape}, got {out.dtype} {out.shape}")
        if rounding == "nearest-even" and self.signed:
            return rounding_in_bits.round_nearest(values, self, self._convention(overflow), out)
        out[...] = self.decode(self.encode(values, overflow, rounding, rng))
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
