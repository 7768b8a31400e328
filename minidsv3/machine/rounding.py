"""The policy that makes a machine compute as a precision recipe says: primitives wrapped in rounding.

A product with weights takes its operands in the recipe's format: in FP8 the activations in 1 x b tiles,
the weights in b x b blocks; the backward needs activations and gradients once more, in tiles along the
tokens (b x 1), because Wgrad sums over tokens. What an op writes, and gradients, are rounded to BF16 where
the recipe says so; sums are float32 inside an op. `quantise` puts an activation into tiles once for every
product that reads it: the array it returns is marked, made read-only, and not rounded again.

`accumulate`: "ideal" multiplies the rounded values in float32, as fast as the BLAS can; "promoted" and
"hardware" go through `minidsv3.numerics.gemm_fp8` with codes and scales, slow and for small models.

Does: rounding around primitives. Does not: narrow storage; a rounded number still lies in a float32.

    >>> from minidsv3.machine import Machine
    >>> machine, x = Machine(precision="fp8"), np.float32([[0.1, 1.0, 300.0]])
    >>> machine.quantise(x, at="mla.quantise_h").tolist()        # scale 300/448
    [[0.1046316996216774, 1.0044642686843872, 300.0]]

Next: minidsv3.machine.trace
"""

import weakref
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from minidsv3.hardware import Hardware
from minidsv3.machine.blocks import RowBlocks, Stack
from minidsv3.machine.catalogue import catalogue
from minidsv3.machine.precision import Precision
from minidsv3.numerics import (
    BF16,
    FORMATS,
    LogFMT,
    Quantized,
    gemm_fp8,
    quantize,
    tile_round,
    tile_round_both,
    tile_round_groups,
)

__all__ = ["ACCUMULATE", "Rounding", "place_of"]

Array = NDArray[Any]
Primitive = Callable[..., Any]
ACCUMULATE = ("ideal", "promoted", "hardware")
INTERVAL = 128  # N_C of the report, terms between two promotions
PIECE = 1 << 18  # numbers rounded at a time, so that they stay in the cache
# float32 to BF16: the upper 16 bits stay
_CUT, _ONE, _BELOW_HALF, _KEPT = np.uint32(16), np.uint32(1), np.uint32(0x7FFF), np.uint32(0xFFFF_0000)


class Owner(Protocol):
    """The machine, as far as rounding reads it."""

    fp8_block: int

    @property
    def hardware(self) -> Hardware:
        """Where the tensor core is described."""


class Rounding:
    """Wraps the primitives of one machine."""

    def __init__(self, recipe: Precision, owner: Owner, accumulate: str) -> None:
        self.recipe, self.owner, self.accumulate = recipe, owner, accumulate
        self.held: dict[Any, Array] | None = None  # narrow copies of weights that do not change for now
        self._marks: dict[int, tuple[weakref.ref[Array], str]] = {}
        self._logfmt = LogFMT(bits=int(recipe.combine[7:])) if recipe.combine.startswith("logfmt-") else None

    def wrap(self, name: str, function: Primitive) -> Primitive:
        """The primitive (or backward) `name` with this recipe's rounding around it."""
        own = getattr(self, f"_{name}", None)
        return partial(own, function) if own else function

    # ---- arrays that are on a grid already ----

    def _mark(self, x: Array, kind: str) -> Array:
        """Remember that x, and its rows, need no rounding; nobody may write to it from here on."""
        owner = _owner(x)
        key = id(owner)
        self._marks[key] = (weakref.ref(owner, lambda _: self._marks.pop(key, None)), kind)
        owner.flags.writeable = x.flags.writeable = False
        return x

    def _marked(self, x: Array, kind: str) -> bool:
        owner = _owner(x)
        found = self._marks.get(id(owner))
        if found is None or found[1] != kind or found[0]() is not owner:
            return False
        return x.flags.c_contiguous and x.shape[-1] == owner.shape[-1]

    # ---- rounding ----

    def _tiles(self, x: Array, role: str, at: str, turned: bool = False) -> Array:
        """x [..., R, C] in tiles along its rows, or along its columns if turned; x itself if it is marked."""
        if not turned and self._marked(x, "fp8"):
            return x
        block, fmt, scale = self._block(x, role, turned), self._format(role), self.recipe.scale(at, role)
        return tile_round(x, block, fmt, scale, self._floor())

    def _block(self, x: Array, role: str, turned: bool = False) -> tuple[int, int]:
        block = self.recipe.blocks(self.owner.fp8_block)[role] or (max(x.shape[-2], 1), x.shape[-1])
        return (block[1], block[0]) if turned else block

    def _format(self, role: str) -> Any:
        return FORMATS[self.recipe.fp8("gradient_format" if role == "gradient" else "format")]

    def _floor(self) -> float:
        return float(self.recipe.fp8("amax_floor"))

    def narrow(self, W: Array, at: str) -> Array:
        """The copy of weights [..., R, D] that a product reads: in blocks, each stacked tensor by itself."""
        return self._narrow(W, at, self.recipe.stacked(at))

    def _narrow(self, W: Array, at: str, parts: int) -> Array:
        product = self.recipe.product(at)
        if product == "fp8" and self.accumulate == "ideal":
            stacked = np.ascontiguousarray(W).reshape(*W.shape[:-2], parts, -1, W.shape[-1])
            return self._tiles(stacked, "weight", at).reshape(W.shape)
        return BF16.round(W) if product == "bf16" else W

    def _weight(self, W: Any, at: str) -> Any:
        """The narrow copy, made here, or before if the machine's weights are frozen.

        Of weights that come in blocks, each block's copy is made when the block is used.
        """
        if isinstance(W, Stack):
            return W.then(partial(self._weight, at=at))
        if isinstance(W, RowBlocks):
            if not self._blocks_alike(W, at):
                return self.narrow(W.whole(), at)
            return W.each(lambda rows: self._narrow(rows, at, 1))
        if self._marked(W, self.recipe.product(at)):
            return W
        if self.held is None:
            return self.narrow(W, at)
        key = place_of(W)
        if key not in self.held:
            self.held[key] = self.narrow(W, at)
        return self.held[key]

    def _blocks_alike(self, W: RowBlocks, at: str) -> bool:
        """Whether each block of rows by itself is rounded as within the whole matrix."""
        side = (
            self.recipe.blocks(self.owner.fp8_block)["weight"] if self.recipe.product(at) == "fp8" else (1, 1)
        )
        return side is not None and W.step % side[0] == 0

    def _bf16(self, x: Array) -> Array:
        return x if self._marked(x, "bf16") else BF16.round(x)

    def _write(self, y: Array, at: str) -> Array:
        """What an op writes, rounded in place."""
        return _round_in_place(y) if self.recipe.result(at) == "bf16" else y

    def _descend(self, d: Array, at: str) -> Array:
        """The gradient of what an op reads, rounded in place."""
        return _round_in_place(d) if self.recipe.gradient(at) == "bf16" else d

    # ---- products with weights ----

    def _linear(
        self, function: Primitive, x: Array, W: Array, at: str = "", out: Array | None = None
    ) -> Array:
        product = self.recipe.product(at)
        if product == "fp8" and self.accumulate != "ideal":
            y = self._gemm(x, np.asarray(W), "activation", "weight", at)
            if out is not None:
                out[...] = y
                y = out
        elif product == "fp8":
            y = function(self._tiles(x, "activation", at), self._weight(W, at), at, out)
        elif product == "bf16":
            y = function(self._bf16(x), self._weight(W, at), at, out)
        else:
            y = function(x, W, at, out)
        return self._write(y, at)

    def _linear_backward(
        self, function: Primitive, d_y: Array, x: Array, W: Array, at: str = "",
        d_x: Array | None = None, d_W: Array | None = None,
    ) -> tuple[Array, Array]:  # fmt: skip
        product = self.recipe.product(at)
        if product == "fp8":
            multiply = self._fp8_backward if self.accumulate == "ideal" else self._emulated_backward
            d_x, d_W = multiply(d_y, x, W, at, d_x, d_W)
        elif product == "bf16":
            d_x, d_W = function(BF16.round(d_y), self._bf16(x), self._weight(W, at), at, d_x, d_W)
        else:
            d_x, d_W = function(d_y, x, W, at, d_x, d_W)
        return self._descend(d_x, at), d_W

    def _grouped_linear(
        self, function: Primitive, x: Array, W: Array, bounds: list[int], at: str = ""
    ) -> Array:
        product = self.recipe.product(at)
        if product == "fp8" and self.accumulate != "ideal":
            y = np.empty((len(x), W.shape[1]), x.dtype)
            for e, here in _groups(bounds):
                y[here] = self._gemm(x[here], np.asarray(W[e]), "activation", "weight", at)
        elif product == "fp8":
            y = function(self._tiles(x, "activation", at), self._weight(W, at), bounds, at)
        elif product == "bf16":
            y = function(self._bf16(x), self._weight(W, at), bounds, at)
        else:
            y = function(x, W, bounds, at)
        return self._write(y, at)

    def _grouped_linear_backward(
        self, function: Primitive, d_y: Array, x: Array, W: Array, bounds: list[int], at: str = "",
        d_W: Array | None = None,
    ) -> tuple[Array, Array]:  # fmt: skip
        product = self.recipe.product(at)
        if product == "fp8":
            d_x, d_W = self._fp8_grouped_backward(d_y, x, W, bounds, at, d_W)
        elif product == "bf16":
            d_x, d_W = function(BF16.round(d_y), self._bf16(x), self._weight(W, at), bounds, at, d_W)
        else:
            d_x, d_W = function(d_y, x, W, bounds, at, d_W)
        return self._descend(d_x, at), d_W

    def _fp8_grouped_backward(
        self, d_y: Array, x: Array, W: Array, bounds: list[int], at: str, d_W: Array | None
    ) -> tuple[Array, Array]:
        """As `_fp8_backward` of each expert; tiles along the tokens begin anew with each expert's rows."""
        d_x = np.empty(x.shape, x.dtype)
        d_W = np.empty(W.shape, W.dtype) if d_W is None else d_W
        for e in set(range(len(W))) - {e for e, _ in _groups(bounds)}:
            d_W[e] = 0
        if self.accumulate != "ideal" or not self._tiled("gradient", "activation"):
            multiply = self._fp8_backward if self.accumulate == "ideal" else self._emulated_backward
            for e, here in _groups(bounds):
                multiply(d_y[here], x[here], W[e], at, d_x[here], d_W[e])
            return d_x, d_W
        rows, turned_d_y = self._both_tilings(d_y, "gradient", at, bounds)
        kept, weights = self._tiles(x, "activation", at), self._weight(W, at)
        turned_x = self._turned(kept, "activation", at, bounds)
        for e, here in _groups(bounds):
            np.matmul(rows[here], weights[e], out=d_x[here])
            np.matmul(turned_d_y[here].T, turned_x[here], out=d_W[e])
        return d_x, d_W

    def _tiled(self, *roles: str) -> bool:
        return all(self.recipe.fp8(role) == "tile" for role in roles)

    def _turned(self, x: Array, role: str, at: str, bounds: list[int]) -> Array:
        """x [P, C] in tiles along the columns that begin anew at each bound."""
        height, scale = self.owner.fp8_block, self.recipe.scale(at, role)
        return tile_round_groups(x, bounds, height, self._format(role), scale, self._floor())

    def _fp8_backward(
        self, d_y: Array, x: Array, W: Array, at: str, d_x: Array | None, d_W: Array | None
    ) -> tuple[Array, Array]:
        """Dgrad on tiles along the rows, Wgrad on the same numbers in tiles along the tokens."""
        rows, turned = self._both_tilings(d_y, "gradient", at)
        d_x = np.matmul(rows, self._weight(W, at), out=d_x)
        kept = self._tiles(x, "activation", at)  # [N, D] as the forward had it, 1 x b
        again = self._tiles(kept, "activation", at, turned=True)  # [N, D] dequantised, quantised b x 1
        d_W = np.matmul(turned.T, again, out=d_W)
        return d_x, d_W

    def _both_tilings(
        self, x: Array, role: str, at: str, bounds: list[int] | None = None
    ) -> tuple[Array, Array]:
        """x [N, R] in tiles along its rows, and in tiles along the tokens that begin anew at each bound."""
        if self._tiled(role) and not self._marked(x, "fp8"):
            fmt, scale = self._format(role), self.recipe.scale(at, role)
            return tile_round_both(x, self.owner.fp8_block, fmt, scale, self._floor(), bounds)
        rows = self._tiles(x, role, at)
        if bounds is None:
            return rows, self._tiles(x, role, at, turned=True)
        return rows, self._turned(x, role, at, bounds)

    def _emulated_backward(
        self, d_y: Array, x: Array, W: Array, at: str, d_x: Array | None, d_W: Array | None
    ) -> tuple[Array, Array]:
        """The same through codes and scales."""
        new_x = self._gemm(d_y, np.ascontiguousarray(W.T), "gradient", "weight", at)
        kept = self._tiles(x, "activation", at)
        new_W = self._gemm(
            np.ascontiguousarray(d_y.T), np.ascontiguousarray(kept.T), "gradient", "activation", at
        )
        for out, new in ((d_x, new_x), (d_W, new_W)):
            if out is not None:
                out[...] = new
        return new_x if d_x is None else d_x, new_W if d_W is None else d_W

    def _gemm(self, a: Array, b: Array, role_a: str, role_b: str, at: str) -> Array:
        """a [M, K], b [N, K]  ->  [M, N], summed as `accumulate` says."""
        floor = self._floor()

        def tiled(x: Array, role: str) -> Quantized:
            return quantize(x, self._block(x, role), self._format(role), self.recipe.scale(at, role), floor)

        one, other = tiled(a, role_a), tiled(b, role_b)
        width, unit = min(INTERVAL, one.block[1], other.block[1]), self.owner.hardware.tensor_core["fp8"]
        y: Array = gemm_fp8(one, other, self.accumulate, interval=width, unit=unit)
        return y

    def _quantise(self, function: Primitive, x: Array, at: str = "") -> Array:
        if self.recipe.multiplies_fp8 and self.accumulate == "ideal" and not self._marked(x, "fp8"):
            return self._mark(self._tiles(x, "activation", at), "fp8")
        return x

    def _copy_weight(self, function: Primitive, W: Any, at: str = "") -> Any:
        if isinstance(W, Stack):  # the products that read it narrow what they use of it
            return W
        copy = self._weight(W, at)
        return copy if copy is W else self._mark(copy, self.recipe.product(at))

    def _keep(self, function: Primitive, x: Array, at: str = "") -> Array:
        kept = self.recipe.kept(at)
        if not kept:
            return x
        block = self._block(x, "activation")
        y = tile_round(x, block, FORMATS[kept], scale=self.recipe.scale(at), amax_floor=self._floor())
        return self._mark(y, "fp8")

    # ---- exchange ----

    def _dispatch(self, function: Primitive, x: Array, plan: Any, at: str = "") -> Array:
        if self.recipe.dispatch == "fp8":
            return self._mark(function(self._tiles(x, "activation", at), plan, at), "fp8")
        return self._write(function(x, plan, at), at)

    def _combine_backward(self, function: Primitive, d_out: Array, plan: Any, at: str = "") -> Array:
        """Sends gradients out as dispatch sends activations."""
        if self.recipe.dispatch == "fp8":
            return self._mark(function(self._tiles(d_out, "gradient", at), plan, at), "fp8")
        return self._descend(function(d_out, plan, at), at)

    def _combine(self, function: Primitive, y: Array, plan: Any, at: str = "") -> Array:
        return self._write(function(self._on_the_way_back(y, at), plan, at), at)

    def _dispatch_backward(self, function: Primitive, d_y: Array, plan: Any, at: str = "") -> Array:
        return self._descend(function(self._on_the_way_back(d_y, at), plan, at), at)

    def _on_the_way_back(self, y: Array, at: str) -> Array:
        """As combine sends it.  BF16 is what the experts wrote already."""
        if self._logfmt:
            coded: Array = self._logfmt.round(y)
            return coded
        return self._tiles(y, "activation", at) if self.recipe.combine == "fp8" else y

    # ---- everything else: computed in float32, written in the recipe's format ----

    def _first(self, function: Primitive, *args: Any, at: str = "", **options: Any) -> Any:
        """Of (result, what the backward needs) round the result."""
        y, *rest = function(*args, at=at, **options)
        return (self._write(y, at), *rest)

    def _result(self, function: Primitive, *args: Any, at: str = "", **options: Any) -> Any:
        return self._write(function(*args, at=at, **options), at)

    def _first_gradient(self, function: Primitive, *args: Any, at: str = "", **options: Any) -> Any:
        d_x, *rest = function(*args, at=at, **options)
        return (self._descend(d_x, at), *rest)

    def _gradient(self, function: Primitive, *args: Any, at: str = "", **options: Any) -> Any:
        return self._descend(function(*args, at=at, **options), at)

    def _contract_backward(self, function: Primitive, d_y: Array, a: Array, b: Array, at: str = "") -> Any:
        d_a, d_b = function(d_y, a, b, at)
        return self._descend(d_a, at), d_b if _multiplies_weights(at) else self._descend(d_b, at)

    def _adamw(
        self, function: Primitive, w: Array, g: Array, m: Array, v: Array, *args: Any, at: str = ""
    ) -> Any:
        function(w, g, m, v, *args, at=at)
        if self.recipe.moments == "bf16":
            _round_in_place(m)
            _round_in_place(v)
        return w

    _rmsnorm = _swiglu = _first
    _contract = _embedding = _rope = _softmax = _row_softmax = _sigmoid = _add = _scale = _result
    _rmsnorm_backward = _scale_backward = _first_gradient
    _rope_backward = _softmax_backward = _row_softmax_backward = _gradient
    _swiglu_backward = _sigmoid_backward = _gradient


def _owner(x: Array) -> Array:
    """The array that x is a view of, or x."""
    return x.base if isinstance(x.base, np.ndarray) else x


def place_of(W: Array) -> tuple[Any, ...]:
    """Where an array lies and how: what tells weights apart, of which there are new views at every use."""
    return W.ctypes.data, W.shape, W.strides


def _groups(bounds: list[int]) -> Iterator[tuple[int, slice]]:
    """Every expert that has rows, and which."""
    for e, (start, stop) in enumerate(pairwise(bounds)):
        if start < stop:
            yield e, slice(start, stop)


def _round_in_place(x: Array) -> Array:
    """To BF16; views too, as long as they can be written to.

    The same as `BF16.round(x, out=x)` with fewer calls, which counts for the many small arrays of a model.
    """
    if not x.flags.c_contiguous:
        if x.ndim > 1 and x.swapaxes(-1, -2).flags.c_contiguous:
            _round_in_place(x.swapaxes(-1, -2))
        else:
            x[...] = BF16.round(x)
        return x
    flat = x.reshape(-1)
    for start in range(0, flat.size, PIECE):
        piece = flat[start : start + PIECE]
        if np.isnan(np.maximum.reduce(piece)):
            BF16.round(piece, out=piece)
            continue
        bits = piece.view(np.uint32)
        half = bits >> _CUT  # the last place kept
        half &= _ONE
        half += _BELOW_HALF
        bits += half  # to nearest; at a tie a carry only where the last place is odd
        bits &= _KEPT
    return x


@lru_cache
def _multiplies_weights(op: str) -> bool:
    """Whether an op's second operand is a weight, whose gradient stays in float32."""
    return op in catalogue() and catalogue()[op].kinds[1] == "weight"
