"""Floating-point formats as table rows: codes, values, and rounding from float32 in one step.

Codes without their sign, read as integers, are in the order of their values. To round is to choose between
two neighbours; in the middle between them the even code is taken, so that ties go up as often as down. E4M3
has 4 = 1.000b x 4 and 4.5 = 1.001b x 4, and 4.25 becomes 4; but 4.75 becomes 5 = 1.010b x 4.

What is too large has no single answer. E4M3 has no infinity: its authors spent the highest exponent field on
numbers, 256 .. 448, all but the last code, which is NaN. So 1000 "saturates" to 448 (CUDA's satfinite; torch
from 2.12 on) or becomes NaN ("nonsaturating": ml_dtypes; torch up to 2.11 on a CPU), and who writes "as
PyTorch does" must say the version. Both are here by name, and each format has a default.

Does: formats no wider than float32, and each function twice: for arrays, and for one number as the exact
definition (`decode_one`, `encode_one`, `chances_one`). Does not: round twice; float64 is refused.

    >>> E4M3.round([4.25, 4.75, 464, 1000]).tolist(), E4M3.round(1000, overflow="nonsaturating").item()
    ([4.0, 5.0, 448.0, 448.0], nan)
    >>> hex(E4M3.encode(-448)), hex(E5M2.encode(61440, "nonsaturating"))       # a tie to even: infinity
    ('0xfe', '0x7c')
    >>> BF16.largest, FP16.largest, FP16.smallest
    (3.3895313892515355e+38, 65504.0, 5.960464477539063e-08)

Next: minidsv3.numerics.rounding
"""

import math
import tomllib
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidsv3.numerics import rounding as rounding_in_bits

__all__ = [
    "BF16",
    "E2M1",
    "E2M3",
    "E3M2",
    "E4M3",
    "E5M2",
    "E5M6",
    "FORMATS",
    "FP16",
    "FP22",
    "FP32",
    "OVERFLOWS",
    "ROUNDINGS",
    "TF32",
    "UE8M0",
    "NumberFormat",
    "as_float32",
    "chances_one",
    "check_out",
    "decode_one",
    "encode_one",
]

Codes = NDArray[np.unsignedinteger[Any]]
Values = NDArray[np.float32]
ROUNDINGS = ("nearest-even", "toward-zero", "stochastic")
OVERFLOWS = ("saturate", "nonsaturating")
HALF = Fraction(1, 2)


@dataclass(frozen=True)
class NumberFormat:
    """A row of `data/formats.toml`.

    A number is (-1)^sign x 1.fraction x 2^(field - bias); with a field of 0, 0.fraction x 2^(1 - bias).
    fmt.special says which codes are no numbers, fmt.overflow what becomes of numbers beyond `largest` where
    the caller does not say, fmt.status whether all of it is published ("assumed" for E5M6).
    """

    name: str
    exponent_bits: int
    fraction_bits: int
    bias: int
    special: str  # "ieee", "nan-only" or "none"
    overflow: str  # one of OVERFLOWS, where the caller says nothing
    status: str  # "published" or "assumed"
    source: str
    signed: bool = True  # without a sign: a code is an exponent field and nothing else

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

    @cached_property
    def largest(self) -> float:
        """Largest finite value."""
        return float(decode_one(self.top, self))

    @cached_property
    def smallest(self) -> float:
        """Smallest value above zero, a subnormal where there are any."""
        return float(decode_one(1 if self.signed else 0, self))

    @cached_property
    def smallest_normal(self) -> float:
        """Smallest value with a full significand."""
        return float(decode_one(1 << self.fraction_bits if self.signed else 0, self))

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Unsigned integers that hold a code."""
        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16 if self.bits <= 16 else np.uint32)

    @cached_property
    def overflow_threshold(self) -> float:
        """The value after the largest, were there one: 480 in E4M3, 2^16 in FP16."""
        return float(decode_one(self.top + 1, self))

    def encode(
        self,
        x: ArrayLike,
        overflow: str | None = None,
        rounding: str = "nearest-even",
        rng: np.random.Generator | None = None,
    ) -> Codes:
        """Codes of float32 values.  [...] -> [...] of `dtype`.

        x: float32, or what fits into it without rounding.  overflow: one of OVERFLOWS, None for the format's
        own. Numbers are rounded first, as if there were no largest one. What is then too large, and infinity,
        becomes the largest ("saturate") or infinity, in formats without it NaN ("nonsaturating"). So in E4M3
        464, a tie between 448 and the missing 480, is 448 either way, and the float32 after it is not.

        rounding: "nearest-even"; "toward-zero", which from finite numbers never goes beyond the largest;
        "stochastic", up in magnitude with the probability of the part cut off, drawn from rng (from a fresh
        generator if None). Zeros and NaN keep their sign.

        FP4 and FP6 have neither infinity nor NaN: both conventions saturate, and NaN becomes plus the
        largest, as in CUDA's conversions (ml_dtypes makes it a zero).

        UE8M0 has no sign and no zero. It also takes rounding "up", to the next power of two: what DeepSeek
        and CUDA do with scales, so that nothing scaled overflows. Nearest is OCP's and ml_dtypes', where ties
        go up: its one-bit significand is 1 and hence odd. NaN and negative numbers are NaN (0xFF); zero is
        the smallest, 2^-127 ("saturate"), or NaN. Less than 2^-127 is 2^-127 in all cases.
        """
        allowed = ROUNDINGS if self.signed else (*ROUNDINGS, "up")
        if rounding not in allowed:
            raise ValueError(f"expected rounding one of {allowed}, got {rounding!r}")
        overflow = self._convention(overflow)
        return rounding_in_bits.encode(as_float32(x), self, overflow, rounding, rng)

    def _convention(self, overflow: str | None) -> str:
        overflow = self.overflow if overflow is None else overflow
        if overflow not in OVERFLOWS:
            raise ValueError(f"expected overflow one of {OVERFLOWS}, got {overflow!r}")
        return overflow

    def decode(self, codes: ArrayLike) -> Values:
        """Values of codes, exactly.  Integers of any type, 0 .. 2^bits - 1, [...] -> float32 [...]."""
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
        """The values of the format that x rounds to: `decode` of `encode`, without codes in between.

        Arguments as `encode`.  out: float32 of x's shape, written and returned; x itself for rounding in
        place, which is the quickest.  Raises ValueError for other shapes and types.
        """
        values = as_float32(x)
        if out is None:
            out = np.empty_like(values)
        else:
            check_out(out, values.shape)
        if rounding == "nearest-even" and self.signed:
            return rounding_in_bits.round_nearest(values, self, self._convention(overflow), out)
        out[...] = self.decode(self.encode(values, overflow, rounding, rng))
        return out


def as_float32(x: ArrayLike) -> Values:
    """As float32 without a rounding; numbers of Python's own are taken as they come. ValueError for the rest.

    float64 arrays are refused: they would be rounded twice, and 1 + 2^-4 + 2^-30, above the tie between 1 and
    1.125 of E4M3, would pass through float32 as the tie itself and come out as 1.
    """
    if isinstance(x, np.ndarray) and x.dtype == np.float32 and x.dtype.isnative:
        return x
    given = np.asarray(x)
    if hasattr(x, "dtype"):
        if not np.can_cast(given.dtype, np.float32):
            raise ValueError(f"expected float32 (another rounding would come first), got {given.dtype}")
    elif given.dtype.kind not in "biuf":
        raise ValueError(f"expected numbers, got {given.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32: infinity; signalling NaN
        return given.astype(np.float32, copy=False)


def check_out(out: Any, shape: tuple[int, ...]) -> None:
    """ValueError if `out` is no float32 array of that shape."""
    if not isinstance(out, np.ndarray):
        raise ValueError(f"expected out float32 {shape}, got {type(out).__name__}")
    if out.dtype != np.float32 or out.shape != shape:
        raise ValueError(f"expected out float32 {shape}, got {out.dtype} {out.shape}")


# ---- the specification: one number at a time, in exact fractions -------------------------------------------


def decode_one(code: int, fmt: NumberFormat) -> Fraction:
    """Value of a code without sign, 0 .. top; top + 1 has the value that would follow, were there one.

    >>> str(decode_one(1, E4M3)), str(decode_one(0x38, E4M3)), str(decode_one(0x7F, E4M3))
    ('1/512', '1', '480')
    """
    field, fraction = divmod(code, 1 << fmt.fraction_bits)
    if not fmt.signed:
        return Fraction(2) ** (field - fmt.bias)
    significand = fraction + (1 << fmt.fraction_bits if field else 0)
    return significand * Fraction(2) ** (max(field, 1) - fmt.bias - fmt.fraction_bits)


def encode_one(
    x: float, fmt: NumberFormat, rounding: str = "nearest-even", overflow: str | None = None
) -> int:
    """Code of one number, by looking for it among the values of the format.

    rounding: as in `NumberFormat.encode` except "stochastic", for which see `chances_one`.

    >>> encode_one(4.25, E4M3) == encode_one(4.0, E4M3)      # between 4 = 1.000b x 4 and 4.5 = 1.001b x 4
    True
    """
    code = _special_one(x, fmt, overflow)
    if code is None:
        below, part = _between_one(x, fmt)
        # the last place of a significand of one bit is that bit, which is 1: odd
        odd = below % 2 == 1 or not fmt.signed
        ups = {"nearest-even": part > HALF or (part == HALF and odd), "toward-zero": False, "up": part > 0}
        code = min(below + ups[rounding], fmt.top if rounding == "toward-zero" else _beyond(fmt, overflow))
    return code + _sign_one(x, fmt)


def chances_one(x: float, fmt: NumberFormat, overflow: str | None = None) -> dict[int, Fraction]:
    """The codes that stochastic rounding may give, and with which probability.

    >>> {code: str(chance) for code, chance in chances_one(4.25, E4M3).items()}
    {72: '1/2', 73: '1/2'}
    """
    code = _special_one(x, fmt, overflow)
    if code is not None:
        return {code + _sign_one(x, fmt): Fraction(1)}
    below, part = _between_one(x, fmt)
    chances: dict[int, Fraction] = {}
    for code, chance in ((below, 1 - part), (below + 1, part)):
        code = min(code, _beyond(fmt, overflow)) + _sign_one(x, fmt)
        if chance:
            chances[code] = chances.get(code, Fraction(0)) + chance
    return chances


def _between_one(x: float, fmt: NumberFormat) -> tuple[int, Fraction]:
    """Code at or below a finite magnitude, and how far it is on the way to the next, 0 <= part < 1."""
    exact, codes = abs(Fraction(x)), range(fmt.top + 2)
    below = bisect_right(codes, exact, key=lambda code: decode_one(code, fmt)) - 1
    if below < 0 or below == fmt.top + 1:  # less than the smallest scale; beyond all
        return max(below, 0), Fraction(0)
    low, high = decode_one(below, fmt), decode_one(below + 1, fmt)
    return below, (exact - low) / (high - low)


def _special_one(x: float, fmt: NumberFormat, overflow: str | None) -> int | None:
    """Code without sign of what is not rounded: NaN, infinity, and what has no logarithm among scales."""
    if math.isnan(x) or (not fmt.signed and x < 0):
        return fmt.top if fmt.nan is None else fmt.nan
    if math.isinf(x) or (not fmt.signed and x == 0):
        return 0 if x == 0 and _beyond(fmt, overflow) == fmt.top else _beyond(fmt, overflow)
    return None


def _beyond(fmt: NumberFormat, overflow: str | None) -> int:
    """Code without sign of all that is too large: the largest, or the next, which is infinity or NaN."""
    saturates = (overflow or fmt.overflow) == "saturate" or fmt.special == "none"
    return fmt.top if saturates else fmt.top + 1


def _sign_one(x: float, fmt: NumberFormat) -> int:
    """The sign bit, if the format has one and x is no NaN that must become a number."""
    lost = not fmt.signed or (math.isnan(x) and fmt.nan is None)
    return 0 if lost or math.copysign(1, x) > 0 else 1 << (fmt.bits - 1)


def _rows() -> dict[str, NumberFormat]:
    text = (resources.files("minidsv3") / "data" / "formats.toml").read_text(encoding="utf-8")
    return {name: NumberFormat(name=name, **row) for name, row in tomllib.loads(text).items()}


FORMATS = _rows()
FP32, TF32, FP22 = FORMATS["fp32"], FORMATS["tf32"], FORMATS["fp22"]
BF16, FP16, E5M6 = FORMATS["bf16"], FORMATS["fp16"], FORMATS["e5m6"]
E4M3, E5M2, UE8M0 = FORMATS["e4m3"], FORMATS["e5m2"], FORMATS["ue8m0"]
E3M2, E2M3, E2M1 = FORMATS["e3m2"], FORMATS["e2m3"], FORMATS["e2m1"]
