"""Rounding whole arrays, in bits: what `formats` defines one number at a time, a few passes a value.

To add a large power of two M and take it away again leaves x rounded to M's last place: the adder does it,
ties to even, as it does every sum. So M is chosen a number at a time, from the exponent field of x, such that
its last place is the format's; below the smallest normal number M stays where it is, and subnormals come out
right by themselves. The last bits of x + M, as an integer, are the fraction to be coded. Where the exponent
is as wide as float32's, the code is the upper part of the number: add half a unit to the integer, and cut.

Does: chunks that stay in the cache, in place where asked. Does not: check arguments (`NumberFormat` does).

    >>> import numpy as np
    >>> x, M = np.float32(0.3), np.float32(2**18)      # 0.25 <= x < 0.5: E4M3 has steps of 2^-5 there
    >>> (x + M) - M, float(x + M) - float(M) == 10 * 2**-5
    (np.float32(0.3125), True)
    >>> int(np.float32(x + M).view("u4") & 0xFF)               # 1.010 x 2^-2: hidden bit, fraction 2
    10

Next: minidsv3.numerics.integers
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from minidsv3.numerics.formats import NumberFormat

__all__ = ["decode", "encode", "round_nearest"]

Bits = NDArray[np.uint32]
Values = NDArray[np.float32]
Codes = NDArray[np.unsignedinteger[Any]]

CHUNK = 1 << 15  # numbers at a time: five arrays of 128 KiB stay in a second-level cache

# float32: its fields
_BITS, _FRACTION, _EXPONENT = 32, 23, 8
_SIGN, _INFINITY, _QUIET = np.uint32(0x8000_0000), np.uint32(0x7F80_0000), np.uint32(0x0040_0000)
_ONE = np.uint32(1)


def _chunks(source: NDArray[Any], target: NDArray[Any], order: str = "K") -> Iterator[Any]:
    """Pairs of one-dimensional pieces of both arrays, at most CHUNK long, in whatever layout they are."""
    flags, roles = ["external_loop", "buffered", "copy_if_overlap"], [["readonly"], ["writeonly"]]
    elementwise = [[*role, "overlap_assume_elementwise"] for role in roles]
    if source.size:
        with np.nditer([source, target], flags, elementwise, order=order, buffersize=CHUNK) as pieces:  # type: ignore[call-overload]
            yield from pieces


@dataclass(frozen=True, eq=False)
class _Plan:
    """What the kernels need to know of a format under an overflow convention, worked out once."""

    fmt: "NumberFormat"
    wide: bool  # the exponent is float32's own: a code is the upper part of a float32
    saturates: bool
    largest: np.float32
    beyond: int  # code of infinity and of what overflows
    cut: np.uint32  # bits of float32's fraction that the format has not
    lift: np.uint32  # makes the exponent field of x that of a number 2^cut times as large
    sign: Any  # place of the sign in a code, of the codes' type, as is
    offset: Any  # what is left in a lifted exponent field of the smallest normal number, where a code has 0
    limit: Values  # CHUNK times the largest magnitude that matters. As arrays, since NumPy's minimum and
    floor: Bits  # maximum are twice as quick with two; floor: the exponent field that no grid goes below


@lru_cache(maxsize=64)
def _plan(fmt: "NumberFormat", overflow: str) -> _Plan:
    saturates, small = overflow == "saturate" or fmt.special == "none", fmt.dtype.type
    cut = _FRACTION - fmt.fraction_bits
    lift = cut << _FRACTION
    floor = int(np.float32(fmt.smallest_normal).view(np.uint32))
    limit = fmt.largest if saturates else fmt.overflow_threshold
    with np.errstate(over="ignore"):  # the threshold of a wide exponent is 2^128
        limits = np.full(CHUNK, np.float32(limit))
    floors = np.full(CHUNK, floor, np.uint32)
    limits.flags.writeable = floors.flags.writeable = False
    return _Plan(
        fmt=fmt,
        wide=fmt.exponent_bits == _EXPONENT,
        saturates=saturates,
        largest=np.float32(fmt.largest),
        beyond=fmt.top + (not saturates),
        cut=np.uint32(cut),
        lift=np.uint32(lift),
        sign=small(fmt.bits - 1),
        offset=small((floor + lift >> cut) & np.iinfo(small).max),
        limit=limits,
        floor=floors,
    )


class _Work:
    """Room for a chunk: the magnitudes a, and the M that are added to them."""

    def __init__(self, size: int) -> None:
        self.a, self.m = np.empty(min(size, CHUNK), np.float32), np.empty(min(size, CHUNK), np.float32)

    def __call__(self, n: int) -> tuple[Values, Values]:
        return self.a[:n], self.m[:n]


# ---- to values ---------------------------------------------------------------------------------------------


def round_nearest(x: Values, fmt: "NumberFormat", overflow: str, out: Values) -> Values:
    """The nearest values of the format, ties to even, written to `out`, which may be x.  [...] -> [...]."""
    plan, work = _plan(fmt, overflow), _Work(x.size)
    kernel = _round_wide if plan.wide else _round_narrow
    with np.errstate(invalid="ignore"):  # signalling NaNs
        for numbers, target in _chunks(x, out):
            kernel(numbers, plan, target, *work(len(numbers)))
    return out


def _round_narrow(x: Values, plan: _Plan, out: Values, a: Values, m: Values) -> None:
    """By adding and taking away.  x: [n]  out, a, m: [n], the latter two for scratch."""
    n, a_bits, m_bits = len(x), a.view(np.uint32), m.view(np.uint32)
    np.abs(x, out=a)
    above = (plan.fmt.nan is None or not plan.saturates) and not a.max() <= plan.largest  # NaN too
    np.minimum(a, plan.limit[:n], out=a)  # NaN stays
    np.bitwise_and(a_bits, _INFINITY, out=m_bits)  # the power of two below
    np.maximum(m_bits, plan.floor[:n], out=m_bits)
    m_bits += plan.lift
    a += m
    a -= m
    np.bitwise_and(x.view(np.uint32), _SIGN, out=m_bits)
    if above:
        _mend_values(a, m_bits, plan)
    np.bitwise_or(a_bits, m_bits, out=out.view(np.uint32))


def _mend_values(a: Values, sign: Bits, plan: _Plan) -> None:
    """What stands for infinity and NaN in formats without one or both.  [n], in place."""
    a[a > plan.largest] = np.inf if plan.fmt.infinity is not None else np.nan
    if plan.fmt.nan is None:
        nan = np.isnan(a)
        a[nan], sign[nan] = plan.largest, 0


def _round_wide(x: Values, plan: _Plan, out: Values, a: Values, m: Values) -> None:
    """By integers; a carry out of the fraction counts the exponent up.  All [n]."""
    m_bits, mask = m.view(np.uint32), ~((_ONE << plan.cut) - _ONE)
    if plan.saturates:
        x = np.clip(x, -plan.largest, plan.largest, out=a)  # NaN stays
    nan = np.isnan(x) if np.isnan(x.max()) else None
    quiet = 0 if nan is None else (x[nan].view(np.uint32) | _QUIET) & mask  # a carry would make it a number
    _add_half(x.view(np.uint32), plan.cut, m_bits)
    np.bitwise_and(m_bits, mask, out=out.view(np.uint32))
    if nan is not None:
        out.view(np.uint32)[nan] = quiet


def _add_half(bits: Bits, cut: np.uint32, out: Bits) -> None:
    """Add half a unit of the last place kept, less one bit where that place is even: ties are then cut."""
    if cut:
        np.right_shift(bits, cut, out=out)
        out &= _ONE
        out += (_ONE << cut - _ONE) - _ONE
        out += bits
    else:
        np.copyto(out, bits)


# ---- to codes ----------------------------------------------------------------------------------------------


def encode(
    x: Values, fmt: "NumberFormat", overflow: str, rounding: str, rng: np.random.Generator | None
) -> Codes:
    """Codes of the numbers, in their layout.  [...] float32 -> [...] fmt.dtype."""
    # cutting what is finite never reaches infinity
    plan = _plan(fmt, "saturate" if rounding == "toward-zero" else overflow)
    codes, work = np.empty_like(x, fmt.dtype), _Work(x.size)
    kernel = _encode_scales if not fmt.signed else _encode_wide if plan.wide else _encode_narrow
    draw = (rng or np.random.default_rng()) if rounding == "stochastic" else None
    with np.errstate(invalid="ignore"):
        for numbers, target in _chunks(x, codes, "C" if draw is not None else "K"):
            a, m = work(len(numbers))
            special = not np.abs(numbers, out=a).max() < np.inf or not fmt.signed
            kernel(numbers, plan, rounding, draw, target, a, m)
            if special:
                _mend_codes(numbers, _plan(fmt, overflow), target)
    return codes


def _encode_narrow(
    x: Values, plan: _Plan, rounding: str, rng: np.random.Generator | None, out: Codes, a: Values, m: Values
) -> None:
    """The last bits of |x| + M, and the exponent field that M came from.  a: |x|; all [n]."""
    n, a_bits, m_bits = len(x), a.view(np.uint32), m.view(np.uint32)
    np.minimum(a, plan.limit[:n], out=a)
    np.bitwise_and(a_bits, _INFINITY, out=m_bits)
    np.maximum(m_bits, plan.floor[:n], out=m_bits)
    m_bits += plan.lift
    exact = None if rounding == "nearest-even" else a.copy()
    a += m  # its last bits are the significand, hidden bit and all, rounded to the nearest
    step = None if exact is None else _other_neighbour(exact, a, m, rng)
    m_bits >>= plan.cut
    a_bits += m_bits  # the hidden bit counts the exponent up by one
    np.copyto(out, a_bits, casting="unsafe")
    out -= plan.offset
    if step is not None:
        out += step.astype(out.dtype)  # all bits set for -1: the sum wraps round as it should
    sign = np.signbit(x).view(np.uint8).astype(out.dtype, copy=False)
    sign <<= plan.sign
    out |= sign


def _other_neighbour(
    exact: Values, lifted: Values, m: Values, rng: np.random.Generator | None
) -> NDArray[np.int8]:
    """Steps from the nearest code to the one wanted: down if it is above; or by chance.  [n] -> [n]."""
    nearest = lifted - m
    if rng is None:
        return -(nearest > exact).astype(np.int8)
    missing = (exact - nearest) / np.spacing(m)  # in units of the last place, -1/2 .. 1/2, exactly
    draw = rng.random(len(exact))
    return (draw < missing).astype(np.int8) - (draw < -missing)


def _encode_wide(
    x: Values, plan: _Plan, rounding: str, rng: np.random.Generator | None, out: Codes, a: Values, m: Values
) -> None:
    """The upper part of the number, sign and all.  All [n]."""
    m_bits = m.view(np.uint32)
    if plan.saturates and rounding != "toward-zero":  # cutting never goes up
        x = np.clip(x, -plan.largest, plan.largest, out=a)
    if rounding == "nearest-even":
        _add_half(x.view(np.uint32), plan.cut, m_bits)
    elif rng is None:
        np.copyto(m, x)
    else:  # a carry with just the probability of the part cut off
        draw = rng.integers(0, 1 << int(plan.cut), len(x), np.uint32)
        np.add(x.view(np.uint32), draw, out=m_bits)
    m_bits >>= plan.cut
    np.copyto(out, m_bits, casting="unsafe")


def _encode_scales(
    x: Values, plan: _Plan, rounding: str, rng: np.random.Generator | None, out: Codes, a: Values, m: Values
) -> None:
    """UE8M0: the exponent field, and one more if the fraction says so.  All [n]."""
    bits = x.view(np.uint32)
    fraction = bits & ~(_SIGN | _INFINITY)
    field = (bits & _INFINITY) >> plan.cut
    # code 0 is 2^-127, among float32's subnormals: from there to 2^-126 the fraction has a bit less
    low = (np.maximum(fraction, _QUIET) - _QUIET) << _ONE
    rest = np.where(field == 0, low, fraction)  # of 2^23
    if rounding == "nearest-even":
        field += rest >= _QUIET
    elif rounding == "up":
        field += rest > 0
    elif rng is not None:
        field += rest > rng.integers(0, 1 << int(plan.cut), len(x), np.uint32)
    np.copyto(out, np.minimum(field, np.uint32(plan.beyond)), casting="unsafe")


def _mend_codes(x: Values, plan: _Plan, out: Codes) -> None:
    """Codes of what is no finite number (for scales: no positive one).  x, out: [n]."""
    fmt, infinite, nan = plan.fmt, np.isinf(x), np.isnan(x)
    sign = np.signbit(x).astype(out.dtype) << out.dtype.type(fmt.bits - 1)
    out[infinite] = out.dtype.type(plan.beyond) | (sign[infinite] if fmt.signed else out.dtype.type(0))
    if not fmt.signed:
        out[nan | (x < 0) | ((x == 0) & (not plan.saturates))] = fmt.top + 1
    elif fmt.nan is None:
        out[nan] = fmt.top
    else:  # with its sign, and as much of its payload as fits, made quiet
        payload = (x[nan].view(np.uint32) & ~(_SIGN | _INFINITY)) >> plan.cut
        out[nan] = sign[nan] | out.dtype.type(fmt.nan) | payload.astype(out.dtype)


# ---- and back ----------------------------------------------------------------------------------------------


def decode(codes: Codes, fmt: "NumberFormat") -> Values:
    """Values of codes, exactly.  [...] fmt.dtype -> [...] float32."""
    values = np.empty_like(codes, np.float32)
    table = None if fmt.exponent_bits == _EXPONENT and fmt.signed else _table(fmt)
    for piece, target in _chunks(codes, values):
        if table is None:
            bits = target.view(np.uint32)
            np.copyto(bits, piece)
            bits <<= np.uint32(_BITS - fmt.bits)
        else:
            np.take(table, piece, out=target, mode="clip")
    return values


@lru_cache(maxsize=16)
def _table(fmt: "NumberFormat") -> Values:
    """Values of all codes.  [2^bits]."""
    code = np.arange(1 << fmt.exponent_bits + fmt.fraction_bits)
    field, fraction = code >> fmt.fraction_bits, code & ((1 << fmt.fraction_bits) - 1)
    if fmt.signed:
        fraction += np.where(field > 0, 1 << fmt.fraction_bits, 0)
        field = np.maximum(field, 1)
    else:
        fraction += 1
    values = np.ldexp(fraction.astype(np.float64), field - fmt.bias - fmt.fraction_bits)
    bits = np.where(code > fmt.top, 0, values).astype(np.float32).view(np.uint32)
    if fmt.special == "ieee":
        bits[fmt.top + 1 :] = (code[fmt.top + 1 :] << _FRACTION - fmt.fraction_bits) | _INFINITY
    else:
        bits[fmt.top + 1 :] = _INFINITY | _QUIET
    both = np.concatenate([bits, bits | _SIGN]) if fmt.signed else bits
    both.flags.writeable = False
    return both.view(np.float32)
