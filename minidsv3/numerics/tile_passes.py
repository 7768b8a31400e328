"""Rounding to tiles in few passes over whole arrays: small matrices, and tiles along the rows.

A model rounds many small matrices, for each of which walking patch by patch costs more than the arithmetic.
Here a dozen NumPy calls do a matrix: magnitudes, the largest of each tile, scales, (a + m) - m as in
`minidsv3.numerics.tiles`, signs. Tiles of h x 1 may begin anew at given rows, as those of each expert's
tokens do in a mixture of experts.

Does: finite values far from the edges of float32, whole tiles (ragged only along rows). Does not: anything
else: the functions then say so by returning None, and `tile_round` walks.

    >>> from minidsv3.numerics.formats import E4M3
    >>> from minidsv3.numerics.tiles import grid
    >>> x = np.float32([[1.0, 100.0], [3.3, 5.0], [7.0, 0.1]])
    >>> round_turned(x, [0, 2, 3], (2, 1), grid(E4M3), powers=True, amax_floor=0.0).tolist()
    [[1.0, 96.0], [3.25, 5.0], [7.0, 0.1015625]]

Next: minidsv3.numerics.scaling
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.numerics.tiles import TAME, Grid

__all__ = ["SMALL", "round_both", "round_turned", "round_whole"]

Values = NDArray[np.float32]
Bits = NDArray[np.uint32]
SMALL = 1 << 18  # numbers that go through the passes together, so that they stay in the cache
_EXPONENT, _SIGN, _FRACTION = np.uint32(0x7F80_0000), np.uint32(0x8000_0000), np.uint32(0x7F_FFFF)


def round_whole(
    x: Values, block: tuple[int, int], to: Grid, powers: bool, amax_floor: float
) -> Values | None:
    """x [R, C] rounded in blocks that fill it, amax/largest for a scale; None if this is not the place."""
    R, C = x.shape
    height, width = min(block[0], R), min(block[1], C)
    if not to.serves or not x.size or R % height or C % width:
        return None
    a = np.abs(x)  # [R, C]
    rows: NDArray[np.int32] = a.view(np.int32)  # magnitudes are in the order of their bits
    if height > 1:
        rows = np.maximum.reduce(rows.reshape(-1, height, C), axis=1)
    if width > 1:
        rows = np.maximum.reduceat(rows.reshape(-1), _every(rows.size, width))
    s = _scales(rows.view(np.float32), to, powers, amax_floor)
    if s is None:
        return None
    tall = a.reshape(R // height, height, C // width, width)
    _add_and_take_away(tall, s.reshape(R // height, 1, C // width, 1), to, powers)
    return _signed(a, x)


def round_turned(
    x: Values, bounds: Sequence[int], block: tuple[int, int], to: Grid, powers: bool, amax_floor: float
) -> Values | None:
    """x [R, C] in blocks that begin anew at each bound (0 first, R last), ragged at will; None as above."""
    if not to.serves or not x.size:
        return None
    out = np.empty(x.shape, np.float32)
    for strip in _strips(bounds, block[0], x.shape[1]):
        a = np.abs(x[strip.here], out=out[strip.here])
        s = _scales(_amax(a, strip, block[1]), to, powers, amax_floor)
        if s is None:
            return None
        _add_and_take_away(a, _spread(s, strip, block[1], x.shape[1]), to, powers)
        _signed(a, x[strip.here])
    return out


def round_both(
    x: Values, bounds: Sequence[int], size: int, to: Grid, powers: bool, amax_floor: float
) -> tuple[Values, Values] | None:
    """x [R, C] in tiles of 1 x size, and of size x 1 that begin anew at each bound; None as above."""
    if not to.serves or not x.size or x.shape[1] % min(size, x.shape[1]):
        return None
    width = min(size, x.shape[1])
    along, turned = np.empty(x.shape, np.float32), np.empty(x.shape, np.float32)
    for strip in _strips(bounds, size, x.shape[1]):
        a = np.abs(x[strip.here], out=turned[strip.here])
        b = along[strip.here]
        np.copyto(b, a)
        rows = np.maximum.reduceat(a.view(np.int32).reshape(-1), _every(a.size, width)).view(np.float32)
        of_rows = _scales(rows, to, powers, amax_floor)
        of_columns = _scales(_amax(a, strip, 1), to, powers, amax_floor)
        if of_rows is None or of_columns is None:
            return None
        signs = np.bitwise_and(x[strip.here].view(np.uint32), _SIGN)
        _add_and_take_away(b.reshape(-1, width), of_rows[:, None], to, powers)
        _add_and_take_away(a, np.repeat(of_columns, strip.counts, axis=0), to, powers)
        for rounded in (a, b):
            bits = rounded.view(np.uint32)
            bits |= signs
    return along, turned


class _Strip(NamedTuple):
    """A few rows of tiles, worked on together."""

    here: slice
    counts: NDArray[np.intp]  # rows of each


def _strips(bounds: Sequence[int], height: int, columns: int) -> Iterator[_Strip]:
    """All rows of tiles, about SMALL numbers at a time."""
    starts = np.concatenate([np.arange(a, b, height) for a, b in pairwise(bounds)])  # [tiles] rows
    ends = np.append(starts[1:], bounds[-1])
    together = max(1, SMALL // (height * columns))
    for first in range(0, len(starts), together):
        begin, end = starts[first : first + together], ends[first : first + together]
        yield _Strip(slice(int(begin[0]), int(end[-1])), end - begin)


def _amax(a: Values, strip: _Strip, width: int) -> Values:
    """Largest magnitude of each tile; magnitudes are in the order of their bits.  -> [tiles, columns].

    Tiles of one height next to each other are reduced together: `reduceat` along the rows would be one call
    for all, and twenty times as slow.
    """
    rows = np.empty((len(strip.counts), a.shape[1]), np.int32)  # [tiles, C]
    first = row = 0
    for height, tiles in groupby(strip.counts.tolist()):
        last = first + len(list(tiles))
        block = a.view(np.int32)[row : row + (last - first) * height]
        np.maximum.reduce(block.reshape(last - first, height, -1), axis=1, out=rows[first:last])
        first, row = last, row + len(block)
    if width > 1:
        rows = np.maximum.reduceat(rows, np.arange(0, rows.shape[1], width), axis=1)
    return rows.view(np.float32)


def _spread(s: Values, strip: _Strip, width: int, columns: int) -> Values:
    """A scale for each number.  [tiles, columns of tiles] -> [r, C]."""
    if width > 1:
        s = np.repeat(s, width, axis=1)[:, :columns]
    return np.repeat(s, strip.counts, axis=0)


def _scales(amax: Values, to: Grid, powers: bool, amax_floor: float) -> Values | None:
    """amax/largest, perhaps up to a power of two; None if one is not finite, or near float32's edges."""
    s = np.maximum(amax, np.float32(amax_floor))
    highest = np.maximum.reduce(s, axis=None)
    s /= to.largest
    if not (highest < TAME[1] and np.minimum.reduce(s, axis=None) > TAME[0]):
        return None
    if powers:
        bits = s.view(np.uint32)
        bits += _FRACTION  # any bit of the fraction carries into the exponent
        bits &= _EXPONENT
    return s


def _add_and_take_away(a: Values, s: Values, to: Grid, powers: bool) -> None:
    """Magnitudes a to the nearest of the format times s, in place; s of a shape that spreads over a.

    With powers of two nothing is divided: the smallest normal number is s times the format's.
    """
    if powers:
        m = np.bitwise_and(a.view(np.uint32), _EXPONENT)
        np.maximum(m, (s * to.smallest_normal).view(np.uint32), out=m)
    else:
        a /= s
        m = np.bitwise_and(a.view(np.uint32), _EXPONENT)
        np.maximum(m, to.smallest_normal.view(np.uint32), out=m)
    m += to.lift
    a += m.view(np.float32)
    a -= m.view(np.float32)
    if not powers:
        a *= s


def _signed(a: Values, x: Values) -> Values:
    """The magnitudes with x's signs, in place."""
    bits = a.view(np.uint32)
    bits |= np.bitwise_and(x.view(np.uint32), _SIGN)
    return a


@lru_cache(maxsize=256)
def _every(size: int, width: int) -> NDArray[np.intp]:
    return np.arange(0, size, width)
