"""Operands for the tensor core: at random, and where descriptions of it differ.

A case is a batch of tiles of one unit. A tile is 64 rows of A against 8 columns of B over S instructions, of
32 bytes along K each, and a C or none. All arrays hold codes; a column of B is a row here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.numerics import BF16, E4M3, E5M2, FP16, TF32
from minidsv3.numerics.formats import NumberFormat

Array = NDArray[Any]
Rng = np.random.Generator
ROWS, COLUMNS, BYTES = 64, 8, 32


class Unit(NamedTuple):
    """What one instruction multiplies; `number` is its place in wgmma.cu's list."""

    number: int
    a: NumberFormat
    b: NumberFormat
    core: str  # the row of `load_hardware("h800").tensor_core` that describes it
    depth: int  # K of one instruction
    stored: str  # NumPy type of a code in memory
    shift: int = 0  # TF32 lies in the upper bits of its 32


UNITS = {
    "e4m3": Unit(0, E4M3, E4M3, "fp8", 32, "<u1"),
    "e5m2": Unit(1, E5M2, E5M2, "fp8", 32, "<u1"),
    "e4m3.e5m2": Unit(2, E4M3, E5M2, "fp8", 32, "<u1"),
    "e5m2.e4m3": Unit(3, E5M2, E4M3, "fp8", 32, "<u1"),
    "bf16": Unit(4, BF16, BF16, "bf16", 16, "<u2"),
    "fp16": Unit(5, FP16, FP16, "fp16", 16, "<u2"),
    "tf32": Unit(6, TF32, TF32, "tf32", 8, "<u4", 13),
}


@dataclass(frozen=True)
class Case:
    """Operands of one kind for one unit."""

    name: str
    unit: str
    a: Array  # [tiles, S, 64, K] codes
    b: Array  # [tiles, S, 8, K] codes
    c: NDArray[np.float32] | None  # [tiles, 64, 8]; None: the first instruction ignores its accumulator

    @property
    def id(self) -> str:
        """Name in tables and files."""
        return f"{self.unit}/{self.name}"

    def first_rows(self, rows: int) -> "Case":
        """Of the first tile, the first rows of A: each row's results depend on no other row."""
        c = self.c if self.c is None else self.c[:1, :rows]
        return Case(self.name, self.unit, self.a[:1, :, :rows], self.b[:1], c)


# ---- numbers to draw from ----------------------------------------------------------------------------------


def finite_codes(fmt: NumberFormat) -> Array:
    """Every code of a format (19 bits at most) that is a number."""
    codes = np.arange(1 << fmt.bits).astype(fmt.dtype)
    return codes[np.isfinite(fmt.decode(codes))]


def log_uniform(rng: Rng, shape: tuple[int, ...], low: int, high: int) -> NDArray[np.float32]:
    """Both signs, all significands, magnitudes 2^low .. 2^high; below 2^-126 they are subnormal float32."""
    exponent = rng.integers(low, high, shape)
    value = rng.choice([-1.0, 1.0], shape) * rng.uniform(1, 2, shape)
    return np.ldexp(value, exponent).astype(np.float32)


def sprinkle(rng: Rng, into: Array, values: Array, share: float) -> Array:
    """Put some of `values` at random places."""
    chosen = rng.random(into.shape) < share
    return np.where(chosen, rng.choice(values, into.shape), into).astype(into.dtype)


class Draw:
    """One unit's operands of given sizes."""

    def __init__(self, unit: str, rng: Rng, tiles: int, steps: int = 1) -> None:
        self.unit, self.rng = UNITS[unit], rng
        self.A = (tiles, steps, ROWS, self.unit.depth)
        self.B = (tiles, steps, COLUMNS, self.unit.depth)
        self.C = (tiles, ROWS, COLUMNS)

    def values(self, a: Array, b: Array) -> tuple[Array, Array]:
        """Codes nearest to values."""
        return self.unit.a.encode(a.astype(np.float32)), self.unit.b.encode(b.astype(np.float32))

    def codes(self) -> tuple[Array, Array]:
        """Any finite codes at all; with float32's exponents, those whose products float32 can hold."""
        if self.unit.a.exponent_bits == 8:
            return self.values(*(log_uniform(self.rng, shape, -62, 62) for shape in (self.A, self.B)))
        a = self.rng.choice(finite_codes(self.unit.a), self.A)
        return a, self.rng.choice(finite_codes(self.unit.b), self.B)

    def normal(self, spread: float = 1.0) -> tuple[Array, Array]:
        """Gaussian numbers, as after scaling."""
        return self.values(self.rng.normal(0, spread, self.A), self.rng.normal(0, spread, self.B))

    def product(self, a: Array, b: Array) -> NDArray[np.float64]:
        """A B in double precision.  [tiles, 64, 8]."""
        x, y = self.unit.a.decode(a).astype(np.float64), self.unit.b.decode(b).astype(np.float64)
        total: NDArray[np.float64] = (x @ y.swapaxes(-1, -2)).sum(axis=1)
        return total


Operands = tuple[Array, Array, Array | None]


# ---- kinds of operands for every unit ----------------------------------------------------------------------


def exact(d: Draw) -> Operands:
    """Small integers: right in any arithmetic, so that an error here is one of layout, not of numerics."""
    a, b = d.values(d.rng.integers(-3, 4, d.A), d.rng.integers(-3, 4, d.B))
    return a, b, d.rng.integers(-8, 9, d.C).astype(np.float32)


def normal(d: Draw) -> Operands:
    """Gaussian, from nothing."""
    return *d.normal(), None


def carried(d: Draw) -> Operands:
    """Gaussian, on an accumulator of the size of an earlier sum, with all of float32's 23 bits."""
    return *d.normal(), (d.rng.normal(0, d.unit.depth**0.5, d.C)).astype(np.float32)


def any_codes(d: Draw) -> Operands:
    """All finite codes alike: mostly a few large terms over many that vanish."""
    return *d.codes(), None


def any_codes_carried(d: Draw) -> Operands:
    """The same, C anywhere from far below the products to far above."""
    return *d.codes(), log_uniform(d.rng, d.C, -24, 24)


def large_c(d: Draw) -> Operands:
    """C sets the largest exponent and the products lose bits or all."""
    return *d.normal(), log_uniform(d.rng, d.C, 6, 20)


def cancelling(d: Draw) -> Operands:
    """Each large term comes again with the other sign, a few places off by one code; C small."""
    a, b = d.normal(4.0)
    half = d.unit.depth // 2
    b[..., half:] = b[..., :half]
    sign = np.asarray(1 << (d.unit.a.bits - 1), a.dtype)
    near = a[..., :half] ^ (d.rng.random(a[..., :half].shape) < 0.1).astype(a.dtype)
    a[..., half:] = near ^ sign
    return a, b, log_uniform(d.rng, d.C, -16, 4)


def c_cancels(d: Draw) -> Operands:
    """C is minus the sum, but for its last bits."""
    a, b = d.normal()
    c = -d.product(a, b) * (1 + d.rng.integers(-3, 4, d.C) * 2.0 ** -d.rng.integers(10, 24, d.C))
    return a, b, c.astype(np.float32)


def one_sign(d: Draw) -> Operands:
    """Positive numbers through a chain of instructions: each cut takes something away."""
    return *d.values(d.rng.random(d.A), d.rng.random(d.B)), None


def falling(d: Draw) -> Operands:
    """A chain whose later instructions add ever smaller terms."""
    steps = 2.0 ** -np.arange(0, 2 * d.A[1], 2)[:, None, None]  # [S, 1, 1]
    return *d.values(d.rng.normal(0, 8, d.A) * steps, d.rng.normal(0, 1, d.B)), None


def which_bits(d: Draw) -> Operands:
    """One term of 1 and others at 2^-9 .. 2^-17 (wider: 2^-26): the last kept bit and the first cut."""
    reach = 9 if d.unit.depth == 32 else 13
    a = np.ldexp(d.rng.choice([-1.0, 1.0], d.A), -d.rng.integers(reach - 5, reach + 1, d.A))
    b = np.ldexp(1.0, -d.rng.integers(reach - 5, reach + 1, d.B))
    a *= d.rng.random(d.A) < d.rng.choice([0.05, 0.3, 1.0], d.A[:3])[..., None]
    a[..., 0], b[..., 0] = d.rng.choice([-1.0, 1.0], d.A[:3]), 1.0
    return *d.values(a, b), None


def which_bits_of_c(d: Draw) -> Operands:
    """One product of 1, all others zero, and C at 2^-8 .. 2^-28 with random bits: how much of C is seen."""
    a, b = np.zeros(d.A), np.zeros(d.B)
    a[..., 3], b[..., 3] = d.rng.choice([-1.0, 1.0, 1.5], d.A[:3]), 1.0
    return *d.values(a, b), log_uniform(d.rng, d.C, -28, -8)


def subnormal(d: Draw) -> Operands:
    """Codes with exponent field 0 or 1, and some of the middle; C small."""
    a, b = d.codes()
    low = [np.arange(2 << fmt.fraction_bits).astype(fmt.dtype) for fmt in (d.unit.a, d.unit.b)]
    a, b = sprinkle(d.rng, a, low[0], 0.98), sprinkle(d.rng, b, low[1], 0.98)
    smallest = int(np.log2(d.unit.a.smallest) + np.log2(d.unit.b.smallest))
    return a, b, log_uniform(d.rng, d.C, max(smallest - 12, -148), max(smallest + 16, -130))


def zeros_beside_tiny_c(d: Draw) -> Operands:
    """A is zero, B anything, C down to subnormal float32: contested, the two zero conventions differ."""
    a, b = d.codes()
    return np.zeros_like(a), b, log_uniform(d.rng, d.C, -149, -100)


def zeros_beside_small_terms(d: Draw) -> Operands:
    """Zero against the largest codes, beside tiny products: contested in formats with many exponents."""
    a, b = d.codes()
    small = d.unit.a.encode(log_uniform(d.rng, d.A, *(-70, -50) if d.unit.a.exponent_bits == 8 else (-9, -4)))
    large = d.rng.random(d.B) < 0.5
    top = finite_codes(d.unit.b)[-4:] ^ np.asarray(1 << (d.unit.b.bits - 1), b.dtype)
    low = d.unit.b.encode(log_uniform(d.rng, d.B, *(-70, -50) if d.unit.b.exponent_bits == 8 else (-9, -4)))
    # one column of B for the whole tile decides where A is zero
    b = np.where(large[..., :1, :], d.rng.choice(top, d.B), low).astype(b.dtype)
    return np.where(large[..., :1, :], 0, small).astype(a.dtype), b, log_uniform(d.rng, d.C, -140, -100)


def c_alone(d: Draw) -> Operands:
    """A and B are zero; C of every exponent, with its specials: what a register keeps of it."""
    c = d.rng.integers(0, 1 << 32, d.C, dtype=np.uint32).view(np.float32)
    c = sprinkle(d.rng, c, np.float32([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4028235e38]), 0.1)
    return np.zeros(d.A, d.unit.a.dtype), np.zeros(d.B, d.unit.b.dtype), c


def signs_of_zero(d: Draw) -> Operands:
    """Zeros of both signs, exact cancellation, C of zero: which sign a zero sum gets."""
    choices = [-0.0, 0.0, 0.0, -0.0, 1.0, -1.0]
    a = d.rng.choice(choices, d.A, p=[0.3, 0.3, 0.15, 0.15, 0.05, 0.05])
    a[..., ::2, :] = d.rng.choice([-0.0, 0.0], a[..., ::2, :].shape)
    a[..., ::4, :] = -0.0  # rows in which every product has the sign of B's number
    b = d.rng.choice([1.0, -0.0, -1.0, 0.0], d.B)
    b[..., ::2, :] = 1.0
    c = d.rng.choice([-0.0, 0.0, -1.0, 1.0], d.C, p=[0.4, 0.4, 0.1, 0.1])
    return *d.values(a, b), c.astype(np.float32)


def specials(d: Draw) -> Operands:
    """NaN, and infinities where the format has them, in the operands and in C."""
    a, b = d.codes()
    strange = []
    for fmt in (d.unit.a, d.unit.b):
        every = np.arange(1 << fmt.bits).astype(fmt.dtype)
        strange.append(every[~np.isfinite(fmt.decode(every))])
    a, b = sprinkle(d.rng, a, strange[0], 0.004), sprinkle(d.rng, b, strange[1], 0.002)
    a[..., ::3, :] = sprinkle(d.rng, a[..., ::3, :], np.zeros(1, a.dtype), 0.5)  # inf x 0
    c = log_uniform(d.rng, d.C, -8, 8)
    return a, b, sprinkle(d.rng, c, np.float32([np.inf, -np.inf, np.nan, -np.nan]), 0.1)


# ---- kinds that only formats with float32's exponents have -------------------------------------------------


def overflowing(d: Draw) -> Operands:
    """Sums around float32's largest, reached and left again."""
    a, b = d.values(log_uniform(d.rng, d.A, 60, 64), log_uniform(d.rng, d.B, 60, 64))
    return a, b, log_uniform(d.rng, d.C, 124, 128)


def far_out(d: Draw) -> Operands:
    """Products beyond float32's range that cancel, so that the largest exponent is above 127."""
    a, b, _ = cancelling(d)
    a, b = d.unit.a.decode(a) * np.float32(2.0**63), d.unit.b.decode(b) * np.float32(2.0**63)
    return *d.values(a, b), log_uniform(d.rng, d.C, 100, 128)


def underflowing(d: Draw) -> Operands:
    """Products down to 2^-252 and C among the subnormal float32 numbers."""
    a, b = d.values(log_uniform(d.rng, d.A, -132, -60), log_uniform(d.rng, d.B, -80, -40))
    return a, b, log_uniform(d.rng, d.C, -149, -115)


def below_normal(d: Draw) -> Operands:
    """Sums among the subnormal float32 numbers, from nothing: does an empty accumulator count?"""
    return *d.values(log_uniform(d.rng, d.A, -74, -66), log_uniform(d.rng, d.B, -74, -66)), None


Kind = Callable[[Draw], Operands]
CHAINS: dict[Kind, int] = {one_sign: 16, falling: 8}  # instructions one after the other
EVERY: tuple[Kind, ...] = (
    exact, normal, carried, any_codes, any_codes_carried, large_c, cancelling, c_cancels, one_sign, falling,
    which_bits, which_bits_of_c, subnormal, zeros_beside_tiny_c, zeros_beside_small_terms, c_alone,
    signs_of_zero, specials,
)  # fmt: skip
WIDE: tuple[Kind, ...] = (overflowing, far_out, underflowing, below_normal)


def kinds_of(unit: str) -> tuple[Kind, ...]:
    """The kinds that a unit has."""
    return EVERY + (WIDE if UNITS[unit].a.exponent_bits == 8 else ())


def cases(seed: int = 0, tiles: int = 8, units: tuple[str, ...] = tuple(UNITS)) -> list[Case]:
    """Every kind for every unit; a case's numbers depend on the seed and on nothing but its own place."""
    found = []
    for unit in units:
        for i, kind in enumerate(kinds_of(unit)):
            rng = np.random.default_rng([seed, UNITS[unit].number, i])
            with np.errstate(over="ignore", under="ignore"):
                operands = kind(Draw(unit, rng, tiles, CHAINS.get(kind, 1)))
            found.append(Case(kind.__name__.replace("_", " "), unit, *operands))
    return found
