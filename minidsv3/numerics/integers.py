"""Integers with a scale: INT4 and ternary.

Where a float carries its own exponent, an integer format leaves it to the neighbours: one scale for many
numbers, and all of them on one even grid. Steps are then equally wide everywhere: small numbers next to a
large one are lost, which is why the scale's group is kept small.

A code is the number modulo how many numbers there are, for INT4 two's complement: -1 is 15, in ternary 2.
Codes are packed as digits, the first one lowest: two of base 16 a byte, or five of base 3 (1.6 bits each,
where log2(3) = 1.585 is the least possible).

Does: codes, values, scales of rows, packing. Does not: choose groups (`minidsv3.numerics.scaling`).

    >>> import numpy as np
    >>> x = np.float32([[0.7, -0.14, 0.05, 0.01]])
    >>> scale = INT4.scale_of(x)                                # [1, 1]
    >>> INT4.encode(x, scale), INT4.decode(INT4.encode(x, scale), scale)
    (array([[ 7, 15,  0,  0]], dtype=uint8), array([[ 0.7, -0.1,  0. ,  0. ]], dtype=float32))
    >>> TERNARY.decode(TERNARY.encode(x, 0.2), 0.2)
    array([[ 0.2, -0.2,  0. ,  0. ]], dtype=float32)
    >>> TERNARY.pack(np.uint8([2, 1, 0, 0, 0, 1])).tolist()     # 2 + 1 x 3, and one on its own
    [5, 1]

Next: minidsv3.numerics.tiles
"""

import tomllib
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidsv3.numerics.formats import ROUNDINGS, as_float32

__all__ = ["INT4", "INTEGERS", "TERNARY", "IntegerFormat"]

Values = NDArray[np.float32]
Codes = NDArray[np.uint8]


@dataclass(frozen=True)
class IntegerFormat:
    """A row of `data/integers.toml`."""

    name: str
    low: int
    high: int
    scale: str  # "amax" or "mean"
    source: str

    @property
    def base(self) -> int:
        """How many numbers there are."""
        return self.high - self.low + 1

    @property
    def per_byte(self) -> int:
        """Codes that fit into a byte."""
        count = 1
        while self.base ** (count + 1) <= 256:
            count += 1
        return count

    def scale_of(self, x: ArrayLike) -> Values:
        """Scale of every row, by the format's rule; 1 for a row of zeros.  [..., C] -> [..., 1]."""
        magnitude = np.abs(_finite(x))
        if magnitude.ndim < 1:
            raise ValueError("expected values [..., C], got a single number")
        if self.scale == "amax":
            scale = magnitude.max(axis=-1, keepdims=True, initial=0) / np.float32(self.high)
        else:
            total = magnitude.sum(axis=-1, keepdims=True, dtype=np.float64)
            scale = (total / max(magnitude.shape[-1], 1)).astype(np.float32)
        return np.where(scale > 0, scale, np.float32(1))

    def encode(
        self,
        x: ArrayLike,
        scale: ArrayLike,
        rounding: str = "nearest-even",
        rng: np.random.Generator | None = None,
    ) -> Codes:
        """Codes of x / scale, rounded once and held between low and high.

        x: [...] float32.  scale: above zero, broadcast to x.  rounding, rng: as in `NumberFormat.encode`.
        """
        if rounding not in ROUNDINGS:
            raise ValueError(f"expected rounding one of {ROUNDINGS}, got {rounding!r}")
        # float64 is wide enough for a quotient of two float32 never to seem a tie, nor to miss one
        quotient = np.divide(_finite(x), _positive(scale), dtype=np.float64)  # [...]
        if rounding == "nearest-even":
            number = np.rint(quotient)
        elif rounding == "toward-zero":
            number = np.trunc(quotient)
        else:
            number = np.floor(quotient)
            number += (rng or np.random.default_rng()).random(quotient.shape) < quotient - number
        return (np.clip(number, self.low, self.high).astype(np.int16) % self.base).astype(np.uint8)

    def decode(self, codes: ArrayLike, scale: ArrayLike) -> Values:
        """Numbers times scale, in float32.  [...] -> [...]."""
        number = self._checked(codes).astype(np.int16)
        number -= np.where(number > self.high, self.base, 0).astype(np.int16)
        return np.multiply(number, _positive(scale), dtype=np.float32)

    def pack(self, codes: ArrayLike) -> Codes:
        """Codes as digits of bytes, the first one lowest; the last byte is filled up with zeros.

        [..., C] -> [..., ceil(C / per_byte)].
        """
        given = self._checked(codes)
        if given.ndim < 1:
            raise ValueError("expected codes [..., C], got a single one")
        *rows, count = given.shape
        size = -(-count // self.per_byte)
        padded = np.pad(given, [*[(0, 0)] * len(rows), (0, size * self.per_byte - count)])
        digits = padded.reshape(*rows, size, self.per_byte)  # [..., bytes, per_byte]
        packed: Codes = (digits * self._places()).sum(axis=-1, dtype=np.uint8)
        return packed

    def unpack(self, packed: ArrayLike, count: int) -> Codes:
        """The first `count` codes of every row of bytes.  [..., bytes] uint8 -> [..., count]."""
        given = np.asarray(packed)
        room = given.shape[-1] * self.per_byte if given.ndim else -1
        if given.dtype != np.uint8 or not 0 <= count <= room:
            raise ValueError(
                f"expected uint8 that hold {count} codes of {self.name}, got {given.dtype} {given.shape}"
            )
        most = self.base**self.per_byte - 1
        if given.size and given.max() > most:
            raise ValueError(f"expected bytes of {self.name}, 0 .. {most}, got {given.max()}")
        digits = given[..., None] // self._places() % np.uint8(self.base)  # [..., bytes, per_byte]
        *rows, size, _ = digits.shape
        return digits.reshape(*rows, size * self.per_byte)[..., :count]

    def _places(self) -> Codes:
        """1, base, base^2, ...  [per_byte]."""
        return np.array([self.base**place for place in range(self.per_byte)], np.uint8)

    def _checked(self, codes: ArrayLike) -> Codes:
        given = np.asarray(codes)
        span = f"expected codes of {self.name}, 0 .. {self.base - 1}, got "
        if given.size and given.dtype.kind not in "iu":
            raise ValueError(f"{span}{given.dtype}")
        if given.size and (given.min() < 0 or given.max() >= self.base):
            raise ValueError(f"{span}{given.min() if given.min() < 0 else given.max()}")
        return given.astype(np.uint8, copy=False)


def _finite(x: ArrayLike) -> Values:
    """As float32, none of them infinity or NaN: an integer has no code for those."""
    values = as_float32(x)
    if not np.isfinite(values).all():
        raise ValueError("expected finite numbers, got infinity or NaN")
    return values


def _positive(scale: ArrayLike) -> Values:
    values = as_float32(scale)
    if not ((values > 0) & (values < np.inf)).all():
        raise ValueError(f"expected scales above zero and finite, got {values.min()} .. {values.max()}")
    return values


def _rows() -> dict[str, IntegerFormat]:
    text = (resources.files("minidsv3") / "data" / "integers.toml").read_text(encoding="utf-8")
    return {name: IntegerFormat(name=name, **row) for name, row in tomllib.loads(text).items()}


INTEGERS = _rows()
INT4, TERNARY = INTEGERS["int4"], INTEGERS["ternary"]
