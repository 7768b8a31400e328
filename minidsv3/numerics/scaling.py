"""Tile and block scaling: a scale for every tile of a matrix, and the values divided by it in a small format.

The scale of a tile takes its largest magnitude to the largest value of the format. V3 scales activations by
1x128 tiles (one token, 128 channels) and weights by 128x128 blocks. The stored scale is what one multiplies
by to come back; the weight files call it `weight_scale_inv`. What published recipes do differently is rows
of `data/scaling.toml`.

Does: any block, ragged edges (as if padded with zeros), leading axes, scales in float32 or powers of two.
Does not: keep a history of scales; let a tile of zeros become NaN, except where a named recipe does.

    >>> import numpy as np
    >>> q = quantize(np.float32([[1.0, -3.0, 7.0, 0.1]]), block=(1, 4), scale="power-of-two")
    >>> q.scale.tolist(), [hex(code) for code in q.codes[0]]
    ([[0.015625]], ['0x68', '0xf4', '0x7e', '0x4d'])
    >>> q.dequantize().tolist()
    [[1.0, -3.0, 7.0, 0.1015625]]

Next: minidsv3.numerics.block_formats
"""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import InitVar, dataclass, replace
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidsv3.numerics.formats import E4M3, NumberFormat, as_float32, check_out
from minidsv3.numerics.tile_passes import SMALL, round_both, round_turned, round_whole
from minidsv3.numerics.tiles import (
    TAME,
    Grid,
    Patch,
    cells,
    encode_magnitudes,
    grid,
    magic_numbers,
    matrices,
    patches,
    spread,
    tile_amax,
)

__all__ = [
    "RECIPES",
    "SCALES",
    "Quantized",
    "Recipe",
    "power_of_two_ceil",
    "quantize",
    "tile_round",
    "tile_round_groups",
]

Values = NDArray[np.float32]
Codes = NDArray[np.unsignedinteger[Any]]
Block = tuple[int, int]
SCALES = ("float32", "power-of-two")
_SIGN, _ONE, _SMALLEST_NORMAL = np.uint32(0x8000_0000), np.float32(1), np.float32(2.0**-126)
_LARGEST = float(np.finfo(np.float32).max)
_LOWEST, _HIGHEST = np.uint32(1 << 23), np.uint32(254 << 23)  # exponent fields 1 and 254


# ---- scales ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """A row of `data/scaling.toml`: from the amax of a tile to its scale and its elements."""

    name: str
    amax_floor: float
    scale: str
    element: str
    zero_tile: str
    scales: tuple[str, ...]
    source: str
    power_of_two: str = ""


def _rows() -> dict[str, Recipe]:
    text = (resources.files("minidsv3") / "data" / "scaling.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)
    return {name: Recipe(name=name, **{**row, "scales": tuple(row["scales"])}) for name, row in rows.items()}


RECIPES = _rows()


def power_of_two_ceil(s: ArrayLike) -> Values:
    """The power of two at or above each positive float32.  [...] -> [...].

    The exponent field, one more if any bit of the fraction is set, held within 1..254: subnormals and zero
    give 2^-126; what lies above 2^127, infinity and NaN give 2^127. A rounded logarithm would miss by a
    factor of two just above a power of two.
    """
    bits = as_float32(s).view(np.uint32)
    up = bits + np.uint32(0x7F_FFFF)  # any bit of the fraction carries into the exponent
    field = np.minimum(np.maximum(up, _LOWEST), _HIGHEST) & np.uint32(0x7F80_0000)
    powers: Values = field.view(np.float32)
    return powers


@lru_cache(maxsize=64)
def _recipe(scale: str, amax_floor: float, name: str | None) -> Recipe:
    """The row by its name; without a name, V3's later rule with the floor given."""
    if name is None:
        return replace(RECIPES["v3-2025-08"], amax_floor=amax_floor)
    if scale not in RECIPES[name].scales:
        raise ValueError(f"expected scale one of {RECIPES[name].scales} in recipe {name}, got {scale!r}")
    return RECIPES[name]


class _Rule(NamedTuple):
    """A recipe for one format and one kind of scale."""

    recipe: Recipe
    powers: bool  # power-of-two scales
    to: Grid

    def scales(self, amax: Values) -> tuple[Values, np.ufunc, Values]:
        """Scale of each tile, and how an element is brought to it: by dividing or multiplying, with what."""
        recipe, top = self.recipe, self.to.largest
        amax = np.maximum(amax, np.float32(recipe.amax_floor))  # NaN stays
        s = amax / top if recipe.scale == "amax / largest" else amax * (_ONE / top)
        if self.powers:
            s = power_of_two_ceil(s)
        elif recipe.zero_tile == "zero":
            s = np.maximum(s, _SMALLEST_NORMAL)
        if recipe.element == "x / s":
            return s, np.divide, s
        of_amax = recipe.element == "x * (largest / amax)" and not self.powers
        return s, np.multiply, top / amax if of_amax else _ONE / s


# ---- patch by patch ----------------------------------------------------------------------------------------


class _Work(NamedTuple):
    """What is known of one patch before anything is rounded."""

    patch: Patch
    x: Values  # [rows, columns]
    a: Values  # magnitudes [rows * columns], to be overwritten
    m: Values  # room for as many
    s: Values  # scale of each tile [r, c]
    apply: np.ufunc
    factor: Values  # [r, c]
    tame: bool  # finite, and s times anything in the format is as well

    def tall(self, values: Values) -> Values:
        """As [r, height, columns]."""
        return values.reshape(-1, self.patch.height, self.x.shape[1])

    def spread(self, tiles: Values) -> Values:
        """[r, c] -> [r, 1, columns]."""
        return spread(tiles, self.patch.width)


def _walk(x: Values, shape: tuple[int, int, int], block: Block, rule: _Rule) -> Iterator[_Work]:
    """Magnitudes and scales of every patch of x [L, R, C]; the two buffers are used again and again."""
    room = np.empty((2, 0), np.float32)
    for patch in patches(*shape, block):
        here = x[patch.values]  # [rows, columns]
        if here.size > room.shape[1]:
            room = np.empty((2, here.size), np.float32)
        a, m = room[0, : here.size], room[1, : here.size]
        amax = tile_amax(np.abs(here, out=a.reshape(here.shape)), patch.height, patch.width)  # [r, c]
        s, apply, factor = rule.scales(amax)
        tame = rule.to.serves and bool(
            np.maximum.reduce(amax, axis=None) < TAME[1] and np.minimum.reduce(s, axis=None) > TAME[0]
        )
        yield _Work(patch, here, a, m, s, apply, factor, tame)


def quantize(
    x: ArrayLike,
    block: Block = (1, 128),
    fmt: NumberFormat = E4M3,
    scale: str = "float32",
    amax_floor: float = 1e-4,
    recipe: str | None = None,
) -> "Quantized":
    """Codes and scales of x, a scale for each block of rows and columns.

    x: float32 [..., R, C]; edges may be ragged.  block: (rows, columns).  scale: one of SCALES.
    amax_floor: a tile with a smaller amax is scaled as if it had this one, and loses range by it. 0 = none.
    recipe: a row of RECIPES, which then gives the floor and the operations; None: amax/largest, x/s.

    With float32 scales a NaN or infinity anywhere makes its whole tile NaN. With powers of two (2^127 then)
    a NaN stays where it is and an infinity takes the largest code, which comes back as infinity; the rest of
    the tile is lost.
    """
    values, shape, rule = _arguments(x, block, fmt, scale, amax_floor, recipe)
    codes = np.empty(shape, fmt.dtype)  # [L, R, C]
    scales = np.empty(cells(shape, block), np.float32)
    with np.errstate(all="ignore"):
        for work in _walk(values.reshape(shape), shape, block, rule):
            scales[work.patch.tiles] = work.s
            _encode(work, fmt, rule.to, codes[work.patch.values])
    return Quantized(
        codes.reshape(values.shape), scales.reshape(cells(values.shape, block)), block, fmt, check=False
    )


def _encode(work: _Work, fmt: NumberFormat, to: Grid, codes: Codes) -> None:
    """codes [rows, columns] = those of one patch."""
    factor = work.spread(work.factor)  # [r, 1, columns]
    if not work.tame:
        y = work.apply(work.tall(work.x), factor)
        codes[...] = fmt.encode(y, "saturate").reshape(codes.shape)
        return
    a = work.tall(work.a)  # [r, height, columns]
    work.apply(a, factor, out=a)
    codes[...] = encode_magnitudes(work.a, work.m, to).reshape(codes.shape)
    negative = np.less(work.x.view(np.int32), 0).view(np.uint8)  # the sign bit, of -0 too
    codes |= np.left_shift(negative, fmt.bits - 1, dtype=codes.dtype)


def tile_round(
    x: ArrayLike,
    block: Block,
    fmt: NumberFormat = E4M3,
    scale: str = "float32",
    amax_floor: float = 1e-4,
    recipe: str | None = None,
    out: Values | None = None,
) -> Values:
    """`quantize(x, …).dequantize()`, bit for bit, without making codes.  [..., R, C] -> [..., R, C].

    Arguments as `quantize`.  out: where to put the values; may be x itself. With power-of-two scales nothing
    is scaled at all: rounding x/s to the format and multiplying by s is rounding x, with the smallest normal
    number at s times the format's.
    """
    values, shape, rule = _arguments(x, block, fmt, scale, amax_floor, recipe)
    if out is not None:
        check_out(out, values.shape)
        if np.may_share_memory(out, values) and not _same_place(out, values):
            values = values.copy()  # lest a tile be read after a part of it is written
    if recipe is None and out is None and values.flags.c_contiguous:
        quick = _round_in_passes(values.reshape(shape), block, rule, amax_floor)
        if quick is not None:
            return quick.reshape(values.shape)
    target = out if out is not None and out.flags.c_contiguous else np.empty(values.shape, np.float32)
    goal = target.reshape(shape)  # [L, R, C]
    with np.errstate(all="ignore"):
        for work in _walk(values.reshape(shape), shape, block, rule):
            _round(work, fmt, rule, goal[work.patch.values])
    if out is None or out is target:
        return target
    out[...] = target
    return out


def _same_place(x: Values, y: Values) -> bool:
    """Whether both are the same numbers in memory, in the same order."""
    return x.ctypes.data == y.ctypes.data and x.strides == y.strides


def _round_in_passes(x: Values, block: Block, rule: _Rule, amax_floor: float) -> Values | None:
    """x [L, R, C] rounded without walking, where that is quicker; None elsewhere."""
    L, R, C = x.shape
    tall = x.reshape(L * R, C)
    if x.size <= SMALL and L == 1:
        quick = round_whole(tall, block, rule.to, rule.powers, amax_floor)
        if quick is not None:
            return quick
    if block[0] == 1:
        return None
    bounds = range(0, L * R + 1, R) if R else ()
    return round_turned(tall, bounds, block, rule.to, rule.powers, amax_floor)


def tile_round_groups(
    x: Values,
    bounds: Sequence[int],
    height: int,
    fmt: NumberFormat = E4M3,
    scale: str = "float32",
    amax_floor: float = 1e-4,
) -> Values:
    """`tile_round` in tiles of height x 1, of each group of rows by itself.

    x: [P, C]  bounds: group e has the rows bounds[e] .. bounds[e + 1], from 0 to P  ->  [P, C].
    """
    values, _, rule = _arguments(x, (height, 1), fmt, scale, amax_floor, None)
    _check_groups(values, bounds)
    quick = round_turned(values, bounds, (height, 1), rule.to, rule.powers, amax_floor)
    if quick is not None:
        return quick
    out = np.empty(values.shape, np.float32)
    for first, last in pairwise(bounds):
        if first < last:
            out[first:last] = tile_round(values[first:last], (height, 1), fmt, scale, amax_floor)
    return out


def tile_round_both(
    x: Values,
    size: int,
    fmt: NumberFormat = E4M3,
    scale: str = "float32",
    amax_floor: float = 1e-4,
    bounds: Sequence[int] | None = None,
) -> tuple[Values, Values]:
    """`tile_round` in tiles of 1 x size, and of size x 1 as `tile_round_groups`: what Dgrad and Wgrad read.

    x: [P, C]  bounds: of groups of rows; all rows are one if not given  ->  [P, C], [P, C].
    """
    values, _, rule = _arguments(x, (1, size), fmt, scale, amax_floor, None)
    bounds = (0, len(values)) if bounds is None else bounds
    _check_groups(values, bounds)
    both = round_both(values, bounds, size, rule.to, rule.powers, amax_floor)
    if both is not None:
        return both
    along = tile_round(values, (1, size), fmt, scale, amax_floor)
    return along, tile_round_groups(values, bounds, size, fmt, scale, amax_floor)


def _check_groups(x: Values, bounds: Sequence[int]) -> None:
    """ValueError if x is not [P, C], or bounds do not lead from 0 to P without a step back."""
    ends = np.asarray(bounds)
    whole = x.ndim == 2 and ends.ndim == 1 and ends.size > 0 and ends.dtype.kind in "iu"
    if not whole or ends[0] != 0 or ends[-1] != len(x) or bool((ends[1:] < ends[:-1]).any()):
        raise ValueError(f"expected x [P, C] and bounds from 0 up to P, got {x.shape} and {list(bounds)}")


def _round(work: _Work, fmt: NumberFormat, rule: _Rule, out: Values) -> None:
    """out [rows, columns] = one patch, rounded."""
    s = work.spread(work.s)  # [r, 1, columns]
    if not work.tame:
        y = work.apply(work.tall(work.x), work.spread(work.factor))
        out[...] = (fmt.decode(fmt.encode(y, "saturate")) * s).reshape(out.shape)
        return
    a, m, tall = work.a, work.m, work.tall(work.a)  # [n], [n], [r, height, columns]
    if rule.powers:
        magic_numbers(tall, work.tall(m), rule.to, floor=s * rule.to.smallest_normal)
    else:
        work.apply(tall, s if work.factor is work.s else work.spread(work.factor), out=tall)
        magic_numbers(a, m, rule.to)
    np.add(a, m, out=a)
    np.subtract(a, m, out=a)
    if not rule.powers:
        np.multiply(tall, s, out=tall)
    signs = np.bitwise_and(work.x.view(np.uint32), _SIGN, out=m.view(np.uint32).reshape(out.shape))
    np.bitwise_or(a.view(np.uint32).reshape(out.shape), signs, out=out.view(np.uint32))


def _arguments(
    x: ArrayLike, block: Block, fmt: NumberFormat, scale: str, amax_floor: float, recipe: str | None
) -> tuple[Values, tuple[int, int, int], _Rule]:
    """x as float32, the [L, R, C] it is walked as, the rule."""
    values = as_float32(x)
    cells(values.shape, block)
    _check_choices(fmt, scale, amax_floor, recipe)
    rule = _Rule(_recipe(scale, amax_floor, recipe), scale == "power-of-two", grid(fmt))
    return values, matrices(values, block[0]), rule


def _check_choices(fmt: Any, scale: Any, amax_floor: Any, recipe: Any) -> None:
    """ValueError for what is no choice; whether scale and recipe go together, `_recipe` says."""
    if not isinstance(fmt, NumberFormat) or not fmt.signed:
        raise ValueError(f"expected a NumberFormat with a sign, got {getattr(fmt, 'name', fmt)!r}")
    if scale not in SCALES:
        raise ValueError(f"expected scale one of {SCALES}, got {scale!r}")
    if recipe is not None and recipe not in tuple(RECIPES):
        raise ValueError(f"expected recipe one of {tuple(RECIPES)}, got {recipe!r}")
    number = isinstance(amax_floor, int | float | np.integer | np.floating)
    if not number or not 0 <= amax_floor <= _LARGEST:
        raise ValueError(f"expected amax_floor at least 0 and a finite float32, got {amax_floor!r}")


# ---- the result --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantized:
    """Codes with a scale for each block.

    Made by `quantize`, or from codes and scales read elsewhere, which are then checked: ValueError for codes
    that are none of the format, for a scale that is zero, negative, infinite or NaN, for shapes that do not
    meet.
    """

    codes: Codes  # [..., R, C]
    scale: Values  # [..., ceil(R/rows), ceil(C/columns)]: multiply by it (`weight_scale_inv` in weight files)
    block: Block  # (rows, columns)
    fmt: NumberFormat
    check: InitVar[bool] = True

    def __post_init__(self, check: bool) -> None:
        if not check:
            return
        for what, given in (("codes", self.codes), ("scale", self.scale)):
            if not hasattr(given, "dtype"):
                raise ValueError(f"expected {what} as an array, got {type(given).__name__}")
        if not hasattr(self.fmt, "dtype"):
            raise ValueError(f"expected a NumberFormat, got {self.fmt!r}")
        expected = cells(self.codes.shape, self.block)
        if self.codes.dtype != self.fmt.dtype:
            raise ValueError(f"expected codes of {self.fmt.name} in {self.fmt.dtype}, got {self.codes.dtype}")
        if self.codes.size and int(self.codes.max()) >> self.fmt.bits:
            raise ValueError(
                f"expected codes of {self.fmt.name} below {1 << self.fmt.bits}, got {self.codes.max()}"
            )
        if self.scale.shape != expected or self.scale.dtype != np.float32:
            raise ValueError(
                f"expected scale float32 {expected} for codes {self.codes.shape} in blocks {self.block}, "
                f"got {self.scale.dtype} {self.scale.shape}"
            )
        if not bool(np.all((self.scale > 0) & (self.scale < np.inf))):
            raise ValueError("expected scales above zero and finite, got zero, negative, infinite or NaN")

    def dequantize(self) -> Values:
        """Value of each code times the scale of its block.  -> float32 [..., R, C]."""
        shape = matrices(self.codes, self.block[0])  # [L, R, C]
        codes, scale = self.codes.reshape(shape), self.scale.reshape(cells(shape, self.block))
        values = np.empty(shape, np.float32)
        with np.errstate(all="ignore"):
            for patch in patches(*shape, self.block):
                here = self.fmt.decode(codes[patch.values])  # [rows, columns]
                tall = here.reshape(-1, patch.height, here.shape[1])
                np.multiply(tall, spread(scale[patch.tiles], patch.width), out=tall)
                values[patch.values] = here
        return values.reshape(self.codes.shape)

    def regroup(self, block: Block, scale: str | None = None, amax_floor: float = 1e-4) -> "Quantized":
        """The same values in other blocks, dequantised and quantised again: 1x128 into 128x1 in the backward.

        scale: one of SCALES; None: powers of two if all scales here are.

        Powers of two make it exact: a value is k x 2^e with k of at most four bits (E4M3), and dividing it by
        another power of two leaves k alone. It changes only where the new block's scale is so much larger
        that the value falls among the subnormals and k no longer fits. A float32 scale changes k itself, and
        nearly every value is rounded a second time.
        """
        if scale is None:
            powers = not bool(np.any(self.scale.view(np.uint32) & np.uint32(0x807F_FFFF)))
            scale = "power-of-two" if powers else "float32"
        return quantize(self.dequantize(), block, self.fmt, scale, amax_floor)
