"""Matrices cut into tiles, a cache-full at a time: where tiles lie, their largest magnitude, their rounding.

A tile is `height` rows of `width` columns; the last of a row or column of tiles may be smaller. Work goes by
patches of whole tiles that stay in a core's cache, so that ten NumPy calls in a row read memory once.

Rounding uses the adder, as `rounding` explains. At magnitudes from 2^e to 2^(e+1) a format with f fraction
bits has steps of 2^(e-f); float32 has steps of the same size from 2^(e-f+23) on. That power of two is the
magic number m: (a + m) - m is a rounded, and the low bits of a + m hold the code. Scaled magnitudes need no
limit and no sign, so these kernels are shorter than `rounding`'s.

Does: magnitudes in float32, in place. Does not: choose scales; take infinity, NaN or more than the largest.

    >>> import numpy as np
    >>> from minidsv3.numerics import E4M3
    >>> a, m = np.float32([0.3, 17.0, 0.0011]), np.empty(3, np.float32)
    >>> magic_numbers(a, m, grid(E4M3)).tolist()
    [262144.0, 16777216.0, 16384.0]
    >>> ((a + m) - m).tolist()
    [0.3125, 16.0, 0.001953125]

Next: minidsv3.numerics.tile_passes
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.numerics.formats import NumberFormat

__all__ = [
    "PATCH",
    "TAME",
    "Grid",
    "Patch",
    "cells",
    "encode_magnitudes",
    "grid",
    "magic_numbers",
    "matrices",
    "patches",
    "spread",
    "tile_amax",
]

Values = NDArray[np.float32]
PATCH = 1 << 17  # values worked on together: the four arrays of a patch take two megabytes
_EXPONENT, _STEP = np.uint32(0x7F80_0000), 23  # float32: its exponent field, its fraction bits
_ROW = 4096  # values of a row of constants
TAME = 2.0**-90, 2.0**90  # scales and magnitudes between these are far from any edge of float32


class Patch(NamedTuple):
    """Whole tiles of one matrix, worked on together."""

    layer: int  # which matrix
    rows: slice
    columns: slice
    tile_rows: slice
    tile_columns: slice
    height: int  # of each tile
    width: int

    @property
    def values(self) -> tuple[int, slice, slice]:
        """Index of its values in [L, R, C]."""
        return self.layer, self.rows, self.columns

    @property
    def tiles(self) -> tuple[int, slice, slice]:
        """Index of its tiles in [L, ceil(R/height), ceil(C/width)]."""
        return self.layer, self.tile_rows, self.tile_columns


def cells(shape: tuple[int, ...], block: tuple[int, int]) -> tuple[int, ...]:
    """Shape of one number a tile: [..., R, C] -> [..., ceil(R/height), ceil(C/width)]."""
    if len(shape) < 2:
        raise ValueError(f"expected values [..., R, C], got shape {shape}")
    whole = np.shape(block) == (2,) and all(isinstance(n, int | np.integer) for n in block)
    if not whole or min(block) < 1:
        raise ValueError(f"expected block = (rows, columns), both whole and positive, got {block}")
    return (*shape[:-2], -(-shape[-2] // block[0]), -(-shape[-1] // block[1]))


def matrices(x: NDArray[np.generic], height: int) -> tuple[int, int, int]:
    """[L, R, C] as which [..., R, C] is walked: one tall matrix if no tile crosses from one to the next."""
    L, R, C = math.prod(x.shape[:-2]), x.shape[-2], x.shape[-1]
    return (1, L * R, C) if R % height == 0 else (L, R, C)


def patches(L: int, R: int, C: int, block: tuple[int, int], values: int = 0) -> Iterator[Patch]:
    """Every tile of L matrices [R, C] once, in patches of about PATCH values, or as many as said.

    Ragged edges come in patches of their own.
    """
    values = values or PATCH
    height, width = max(1, min(block[0], R)), max(1, min(block[1], C))
    across = max(1, min(-(-C // width), values // (height * width)))  # tiles side by side
    down = max(1, values // (height * width * across))
    for layer in range(L):
        for rows, tile_rows, tall in _strips(R, height, down):
            for columns, tile_columns, wide in _strips(C, width, across):
                yield Patch(layer, rows, columns, tile_rows, tile_columns, tall, wide)


def _strips(length: int, size: int, at_most: int) -> Iterator[tuple[slice, slice, int]]:
    """An axis in groups of whole tiles, then what is left over: values, tiles, size of a tile."""
    whole = length // size
    for first in range(0, whole, at_most):
        last = min(first + at_most, whole)
        yield slice(first * size, last * size), slice(first, last), size
    if length % size:
        yield slice(whole * size, length), slice(whole, whole + 1), length % size


def tile_amax(a: Values, height: int, width: int) -> Values:
    """Largest of each tile of magnitudes; NaN where there is one.  [r*height, c*width] -> [r, c].

    Magnitudes are in the order of their bits read as integers, infinity and NaN at the top. Columns of tiles
    fall together row by row, rows of them by halves or, if the tile is wide, by one reduction a tile.
    """
    rows = a.view(np.int32)
    if height > 1:
        rows = np.maximum.reduce(rows.reshape(-1, height, a.shape[1]), axis=1)  # [r, c*width]
    flat = rows.reshape(-1)
    while width <= 16 and width % 2 == 0:
        flat, width = np.maximum(flat[0::2], flat[1::2]), width // 2
    if width > 1:
        flat = np.maximum.reduceat(flat, np.arange(0, flat.size, width))
    return flat.view(np.float32).reshape(len(rows), -1)


def spread(s: Values, width: int) -> Values:
    """One number a tile, for each of its columns.  [r, c] -> [r, 1, c*width], beside [r, height, c*width]."""
    return (np.repeat(s, width, axis=1) if width > 1 else s)[:, None, :]


# ---- rounding magnitudes -----------------------------------------------------------------------------------


class Grid(NamedTuple):
    """What rounding to a format needs to know of it, as NumPy's own scalars."""

    largest: np.float32
    smallest_normal: np.float32
    floor: Values  # [_ROW] times the smallest normal number: NumPy's maximum is quicker with two arrays
    lift: np.uint32  # added to the bits of 2^e gives those of m
    code_lift: np.uint32  # the same, and with it the constant that `encode_magnitudes` wants
    shift: np.uint32
    serves: bool  # whether the kernels here can round to this format


@lru_cache(maxsize=64)
def grid(fmt: NumberFormat) -> Grid:
    """The row of constants of a format."""
    cut = _STEP - fmt.fraction_bits
    lift = cut << _STEP
    lowest = (1 - fmt.bias + 127 + cut) << fmt.fraction_bits  # exponent field of the smallest m, shifted
    constant = -lowest % (1 << 8 * fmt.dtype.itemsize)
    floor = np.full(_ROW, fmt.smallest_normal, np.float32)
    floor.flags.writeable = False
    return Grid(
        largest=np.float32(fmt.largest),
        smallest_normal=np.float32(fmt.smallest_normal),
        floor=floor,
        lift=np.uint32(lift),
        code_lift=np.uint32(lift + constant),
        shift=np.uint32(cut),
        serves=fmt.signed and fmt.bits <= 16 and constant < 1 << cut and fmt.largest < TAME[1],
    )


def magic_numbers(a: Values, m: Values, to: Grid, floor: Values | None = None, coded: bool = False) -> Values:
    """m, for which (a + m) - m is magnitude a rounded to the format.  [n] -> [n], in m.

    floor: the smallest normal number for each, if not the format's own.  coded: for `encode_magnitudes`.
    """
    field = m.view(np.uint32)
    np.bitwise_and(a.view(np.uint32), _EXPONENT, out=field)
    if floor is None:
        whole = m.size // _ROW * _ROW
        rows, rest = m[:whole].reshape(-1, _ROW), m[whole:]
        np.maximum(rows, to.floor, out=rows)
        np.maximum(rest, to.floor[: rest.size], out=rest)
    else:
        np.maximum(m, floor, out=m)
    np.add(field, to.code_lift if coded else to.lift, out=field)
    return m


def encode_magnitudes(a: Values, m: Values, to: Grid) -> NDArray[np.uint32]:
    """Codes of magnitudes, in the low bits of words.  a, m: [n], both overwritten, a by the words.

    The sum a + m ends in the integer significand k of the rounded value k x 2^(e-f). Its code is k plus 2^f
    for every exponent above the lowest: m shifted right by 23 - f, but for a constant, which comes along
    in m.
    """
    magic_numbers(a, m, to, coded=True)
    np.add(a, m, out=a)
    words, fields = a.view(np.uint32), m.view(np.uint32)
    np.right_shift(fields, to.shift, out=fields)
    return np.add(words, fields, out=words)
