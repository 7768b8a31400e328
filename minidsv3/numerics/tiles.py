"""Matrices cut into tiles, a cache-full at a time: where tiles lie, their largest magnitude, their rounding.

A tile is `height` rows of `width` columns; the last of a row or column of tiles may be smaller. Work goes by
patches of whole tiles that stay in a core's cache, so that ten NumPy calls in a row read memory once.

Rounding uses the adder. At magnitudes from 2^e to 2^(e+1) a format with f fraction bits has steps of
2^(e-f); float32 has steps of the same size from 2^(e-f+23) on. So add that power of two (the magic number
m) and the sum is rounded, ties to even; take it away again and what is left is the rounded value. Below the
smallest normal number e stops falling, which is all there is to subnormals. The low bits of the sum hold the
code.

Does: magnitudes in float32, in place. Does not: choose scales; take infinity, NaN or more than the largest.

    >>> import numpy as np
    >>> from minidsv3.numerics import E4M3
    >>> a, m = np.float32([[0.3, 17.0, 0.0011]]), np.empty((1, 3), np.float32)
    >>> magic_numbers(a, E4M3, m).tolist()
    [[262144.0, 16777216.0, 16384.0]]
    >>> ((a + m) - m).tolist()
    [[0.3125, 16.0, 0.001953125]]

Next: minidsv3.numerics.scaling
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.numerics.formats import NumberFormat

__all__ = [
    "Patch",
    "cells",
    "encode_magnitudes",
    "magic_numbers",
    "matrices",
    "patches",
    "spread",
    "tile_amax",
]

Values = NDArray[np.float32]
PATCH = 1 << 15  # values worked on together: four arrays of them fit into half a megabyte
_EXPONENT, _STEP = np.uint32(0x7F80_0000), 23  # float32: its exponent field, its fraction bits
_ROW = 4096  # values of a row of constants


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
    if np.shape(block) != (2,) or min(block) < 1 or any(n != int(n) for n in block):
        raise ValueError(f"expected block = (rows, columns), both whole and positive, got {block}")
    return (*shape[:-2], -(-shape[-2] // block[0]), -(-shape[-1] // block[1]))


def matrices(x: NDArray[np.generic], height: int) -> tuple[int, int, int]:
    """[L, R, C] as which [..., R, C] is walked: one tall matrix if no tile crosses from one to the next."""
    L, R, C = math.prod(x.shape[:-2]), x.shape[-2], x.shape[-1]
    return (1, L * R, C) if R % height == 0 else (L, R, C)


def patches(L: int, R: int, C: int, block: tuple[int, int]) -> Iterator[Patch]:
    """Every tile of L matrices [R, C] once, in patches of about PATCH values; ragged edges in their own."""
    height, width = max(1, min(block[0], R)), max(1, min(block[1], C))
    across = max(1, min(-(-C // width), PATCH // (height * width)))  # tiles side by side
    down = max(1, PATCH // (height * width * across))
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


def spread(s: Values, height: int, width: int) -> Values:
    """One number a tile, for each of its columns.  [r, c] -> [r, 1, c*width], beside [r, height, c*width]."""
    return (np.repeat(s, width, axis=1) if width > 1 else s)[:, None, :]


def magic_numbers(
    a: Values, fmt: NumberFormat, out: Values, floor: Values | None = None, low: int = 0
) -> Values:
    """m, for which (a + m) - m is magnitude a rounded to the format.  [...] -> [...], in out.

    floor: the smallest normal number, if not the format's own.  low: an even number to be found in the low
    bits of m, and with it in those of a + m.
    """
    field = out.view(np.uint32)
    np.bitwise_and(a.view(np.uint32), _EXPONENT, out=field)
    if floor is not None:
        np.maximum(out, floor, out=out)
    else:
        _raise_to(out.reshape(-1), fmt.smallest_normal)
    np.add(field, np.uint32((_STEP - fmt.fraction_bits << _STEP) + low), out=field)
    return out


def _raise_to(flat: Values, floor: float) -> None:
    """flat = max(flat, floor), against a row of constants, which NumPy does faster than against one."""
    row = _constants(floor)
    whole = flat.size // _ROW * _ROW
    body, rest = flat[:whole].reshape(-1, _ROW), flat[whole:]
    np.maximum(body, row, out=body)
    np.maximum(rest, row[: rest.size], out=rest)


@lru_cache(maxsize=32)
def _constants(value: float) -> Values:
    return np.full(_ROW, value, np.float32)


def encode_magnitudes(a: Values, fmt: NumberFormat, m: Values) -> NDArray[np.uint32]:
    """Codes of magnitudes, in the low bits of a word; in place of a.  m: as large as a, overwritten.

    The sum a + m ends in the integer significand k of the rounded value k x 2^(e-f). Its code is k plus 2^f
    for every exponent above the lowest: m shifted right by 23 - f, but for a constant, which comes along
    in m. (The constant has to fit below that shift: no more than 16 bits a code, 7 of fraction.)
    """
    f = fmt.fraction_bits
    lowest = 1 - fmt.bias + 127 + _STEP - f  # exponent field of the smallest m
    magic_numbers(a, fmt, m, low=-(lowest << f) % (1 << 8 * fmt.dtype.itemsize))
    np.add(a, m, out=a)
    words, fields = a.view(np.uint32), m.view(np.uint32)
    np.right_shift(fields, np.uint32(_STEP - f), out=fields)
    return np.add(words, fields, out=words)
