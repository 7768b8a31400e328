"""One row for every primitive that ran: what it was, how large, what it moved, how long it took.

A `Trace` is a list of `Row`s with sums over them. FLOPs and bytes come from the op's signature and the sizes
that its arrays bound, never from a second formula: matrix FLOPs are 2 for each combination of the axes,
vector FLOPs a constant an element, bytes every operand read once and every result written once, by kind.

`forward_row` and `backward_rows` make rows from shapes and a precision recipe alone: a recorder calls them
with what ran, `minidsv3.cost.rows` with what would run. A row may stand for `times` rows alike.

Does: rows, sums, filters by pattern, plain dictionaries for JSON. Does not: price anything (`minidsv3.cost`).

    >>> row = Row(op="mla.out", phase="forward", matrix_flops=100, vector_flops=0)
    >>> Trace([row, replace(row, times=5)]).matrix_flops
    600

Next: minidsv3.machine.watch
"""

import fnmatch
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Protocol, Self

import numpy as np

from minidsv3.machine.blocks import RowBlocks, Stack
from minidsv3.machine.catalogue import Op, look_up, primitives
from minidsv3.machine.operands import Stored, backward_operands, forward_operands, quantised_operands
from minidsv3.machine.precision import Precision
from minidsv3.machine.primitives import Array
from minidsv3.machine.signature import Sizes
from minidsv3.machine.watch import Watch, operands, report

__all__ = ["Row", "Trace", "backward_rows", "forward_row"]

QUIET = ("quantise", "keep", "copy_weight")  # primitives that do nothing on a machine that does not narrow


@dataclass(frozen=True, slots=True)
class Row:
    """One primitive as it ran (or one direction of its backward)."""

    op: str
    phase: str  # forward, backward, update, communication
    direction: str = "fprop"  # fprop, dgrad, wgrad; quantise: operands put into tiles for both of these
    layer: int | None = None
    expert: int | None = None
    sizes: dict[str, int] = field(default_factory=dict)  # axis -> size
    shapes: tuple[tuple[int, ...], ...] = ()  # operands, then result
    formats: tuple[
        str, ...
    ] = ()  # of the same: "e4m3", "bf16", "fp32"; NumPy's names where nothing is rounded
    blocks: tuple[tuple[int, int] | None, ...] = ()  # of the same: rows and columns that share a scale
    matrix_flops: int = 0
    vector_flops: int = 0
    bytes: dict[str, int] = field(default_factory=dict)  # weight, activation, kv, network
    seconds: float = 0.0  # wall time here, of the whole primitive (the first row of a backward carries it)
    value: Array | None = None  # a copy of the result, where `keep` asked for it
    times: int = 1  # so many rows alike this one stands for; FLOPs and bytes above are of one of them
    layers: int = 1  # over which these are spread, `layer` and those that follow it

    @property
    def total_bytes(self) -> int:
        """Bytes of all kinds, of all the rows it stands for."""
        return self.times * sum(self.bytes.values())

    @property
    def stored(self) -> tuple[str, ...]:
        """Formats and blocks in words, `("e4m3 1x128", "e4m3 128x128", "bf16")`."""
        blocks = self.blocks or (None,) * len(self.formats)
        return tuple(str(Stored(*one)) for one in zip(self.formats, blocks, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the array."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "value"}


class Trace(list[Row]):
    """Rows in the order in which they ran."""

    def __repr__(self) -> str:
        return f"Trace of {len(self)} rows, {self.matrix_flops:,} matrix FLOPs"

    @property
    def matrix_flops(self) -> int:
        """FLOPs of all matrix products."""
        return sum(row.times * row.matrix_flops for row in self)

    @property
    def vector_flops(self) -> int:
        """FLOPs of everything element by element."""
        return sum(row.times * row.vector_flops for row in self)

    @property
    def bytes(self) -> dict[str, int]:
        """Bytes moved, by kind."""
        total: dict[str, int] = {}
        for row in self:
            for kind, n in row.bytes.items():
                total[kind] = total.get(kind, 0) + row.times * n
        return total

    def select(self, pattern: str = "*", phase: str | None = None, layer: int | None = None) -> Self:
        """Rows whose op matches a shell pattern such as `mla.*`, of one phase or layer if asked."""
        return type(self)(
            row
            for row in self
            if fnmatch.fnmatchcase(row.op, pattern)
            and phase in (None, row.phase)
            and layer in (None, row.layer)
        )

    def value(self, op: str, layer: int | None = None) -> Array:
        """The first kept value of an op; ValueError if none was kept."""
        for row in self.select(op, layer=layer):
            if row.value is not None:
                return row.value
        raise ValueError(f"expected a kept value of {look_up(op).id!r}; trace with keep={op!r}")


class Place(Protocol):
    """Where in the model the running primitive stands."""

    layer: int | None
    expert: int | None
    recomputing: bool
    fp8_block: int
    recipe: Precision


class Recorder:
    """Turns primitives into primitives that write rows, and tell `watch` of them. Belongs to one machine."""

    def __init__(self, owner: Place, keep: Iterable[str] = (), watch: Watch | None = None) -> None:
        self.rows = Trace()
        self.owner = owner
        self.keep = tuple(keep)
        self.watch = watch

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The primitive (or backward) `name`, which also records."""
        from time import perf_counter

        backward = name.endswith("_backward")
        if name.startswith("grouped_"):
            return self._wrap_grouped(name, function, backward)

        def recorded(*args: Any, at: str = "", **options: Any) -> Any:
            op = look_up(at)
            arrays = [a for a in args if isinstance(a, np.ndarray | RowBlocks | Stack)]
            shapes, formats = [a.shape for a in arrays], [_format(a) for a in arrays]
            # before it runs, so that a shape that does not fit is named by its symbol and not by NumPy
            sizes = {} if backward else op.signature.bind(shapes, op.symbols)
            inputs = operands(op, name, args) if self.watch else ()
            start, written = perf_counter(), len(self.rows)
            out = function(*args, at=at, **options)
            seconds = perf_counter() - start
            if name in QUIET and out is args[0]:
                return out  # this machine does not narrow here, or what came is narrow already
            if backward:
                self._record_backward(op, _backward_operands(op, args, out), seconds)
            else:
                self._record(op, sizes, shapes, formats, out[0] if isinstance(out, tuple) else out, seconds)
            return self._told(op, name, inputs, out, written)

        return recorded

    def _wrap_grouped(self, name: str, function: Callable[..., Any], backward: bool) -> Callable[..., Any]:
        """A product of every expert with its own rows: a row for each, as if each ran by itself."""
        from time import perf_counter

        def recorded(*args: Any, at: str = "", **options: Any) -> Any:
            op, (*d_y, x, W, bounds) = look_up(at), args
            if not backward:
                op.signature.bind([x.shape, W.shape[1:]], op.symbols)
            start = perf_counter()
            out = function(*args, at=at, **options)
            each = (perf_counter() - start) / max(len(x), 1)
            for self.owner.expert, (first, last) in enumerate(pairwise(bounds)):
                factors = [x[first:last], W[self.owner.expert]]
                shapes = [a.shape for a in factors]
                seconds, written = each * (last - first), len(self.rows)
                if first < last and backward:
                    gradient = (d_y[0][first:last].shape, d_y[0].dtype.name)
                    forward = [(a.shape, a.dtype.name) for a in factors]
                    self._record_backward(op, [*forward, gradient], seconds)
                elif first < last:
                    sizes = op.signature.bind(shapes, op.symbols)
                    self._record(op, sizes, shapes, list(map(_format, factors)), out[first:last], seconds)
                if first < last and self.watch:
                    mine = [*(d[first:last] for d in d_y), *factors]
                    here = (out[0][first:last], out[1][self.owner.expert]) if backward else out[first:last]
                    self._told(op, name, operands(op, name, mine), here, written)
            self.owner.expert = None
            return out

        return recorded

    def _told(self, op: Op, name: str, inputs: tuple[Any, ...], out: Any, written: int) -> Any:
        """What a primitive gave, once the watch has seen it.  written: rows there were before."""
        if self.watch is None:
            return out
        return report(self.watch, op, name, inputs, out, self.rows[written:])

    def _record(
        self,
        op: Op,
        sizes: Sizes,
        shapes: list[tuple[int, ...]],
        formats: list[str | Stored],
        result: Array,
        seconds: float,
    ) -> None:
        n = len(op.signature.operands)
        kept = any(fnmatch.fnmatchcase(op.id, pattern) for pattern in self.keep)
        row = forward_row(
            self.owner.recipe,
            self.owner.fp8_block,
            op,
            (*shapes[:n], result.shape),
            [*formats[:n], result.dtype.name],
            sizes,
            layer=self.owner.layer,
            expert=self.owner.expert,
            seconds=seconds,
            value=result.copy() if kept else None,
        )
        self.rows.append(replace(row, phase="backward") if self.owner.recomputing else row)

    def _record_backward(self, op: Op, operands: list[tuple[tuple[int, ...], str]], seconds: float) -> None:
        shapes, dtypes = [shape for shape, _ in operands], [format_ for _, format_ in operands]
        self.rows += backward_rows(
            self.owner.recipe,
            self.owner.fp8_block,
            op,
            shapes,
            dtypes,
            layer=self.owner.layer,
            expert=self.owner.expert,
            seconds=seconds,
        )


# ---- rows from shapes -------------------------------------------------------------------------------------


def forward_row(
    recipe: Precision,
    width: int,
    op: Op,
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[str | Stored],
    sizes: Sizes | None = None,
    **place: Any,
) -> Row:
    """The row of an op that runs forward.

    width: of FP8 tiles  shapes, dtypes: of the operands, then of the result, as NumPy has them  sizes: of the
    operands' axes, if they are bound already  place: further fields of the row (layer, expert, times, …).
    """
    kind, n = primitives()[op.primitive], len(op.signature.operands)
    sizes = op.signature.bind(shapes[:n], op.symbols) if sizes is None else sizes
    sizes |= zip(op.signature.result, shapes[-1], strict=True)
    elements = op.signature.elements(sizes)
    if kind.gather:
        elements[0] = elements[-1]
    stored = forward_operands(recipe, width, op, dtypes)
    return Row(
        op=op.id,
        phase=op.phase,
        direction="fprop",
        sizes=sizes,
        shapes=tuple(shapes),
        formats=tuple(one.format for one in stored),
        blocks=tuple(one.block for one in stored),
        matrix_flops=2 * op.signature.multiply_adds(sizes) if kind.matrix else 0,
        vector_flops=kind.vector * elements[kind.vector_over],
        bytes=_bytes(op.kinds, elements, shapes, stored, (*range(n + 1), *kind.also_writes)),
        **place,
    )


def backward_rows(
    recipe: Precision,
    width: int,
    op: Op,
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[str],
    seconds: float = 0.0,
    **place: Any,
) -> list[Row]:
    """The rows of an op's backward, as its primitive lists them; arguments as for `forward_row`.

    In front of an FP8 product's stands the pass that puts d_y and x into the tiles that it needs.
    """
    kind = primitives()[op.primitive]
    sizes = op.signature.bind(shapes, op.symbols)
    sizes |= zip(op.signature.result, shapes[-1], strict=True)
    elements = op.signature.elements(sizes)
    rows = []
    if kind.matrix and recipe.product(op.id) == "fp8" and op.primitive != "contract":
        rows.append(_quantising_row(recipe, width, op, sizes, shapes, place))
    for i, row in enumerate(kind.backward):
        stored, which = backward_operands(recipe, width, op, row, dtypes), (*row.reads, row.writes)
        rows.append(
            Row(
                op=op.id,
                phase="backward",
                direction=row.direction,
                sizes=sizes,
                shapes=tuple(shapes[j] for j in which),
                formats=tuple(one.format for one in stored),
                blocks=tuple(one.block for one in stored),
                matrix_flops=2 * op.signature.multiply_adds(sizes) if kind.matrix else 0,
                vector_flops=kind.vector_backward[i] * elements[kind.vector_over]
                if kind.vector_backward
                else 0,
                bytes=_bytes(op.kinds, elements, shapes, _spread(stored, which), which),
                seconds=0.0 if i else seconds,
                **place,
            )
        )
    return rows


def _quantising_row(
    recipe: Precision,
    width: int,
    op: Op,
    sizes: Sizes,
    shapes: Sequence[tuple[int, ...]],
    place: dict[str, Any],
) -> Row:
    """The pass that puts d_y and x into the tiles that Dgrad and Wgrad need."""
    stored, x, d_y = quantised_operands(recipe, width, op), shapes[0], shapes[-1]
    placed = (d_y, x, d_y, d_y, x)
    moved = sum(one.nbytes(shape) for one, shape in zip(stored, placed, strict=True))
    return Row(
        op=op.id,
        phase="backward",
        direction="quantise",
        sizes=sizes,
        shapes=placed,
        formats=tuple(one.format for one in stored),
        blocks=tuple(one.block for one in stored),
        vector_flops=primitives()["quantise"].vector * (2 * math.prod(d_y) + math.prod(x)),
        bytes={"activation": moved},
        **place,
    )


def _format(a: Array | RowBlocks | Stack) -> str | Stored:
    """NumPy's name of an array's format; of weights that are read as they are used, how a file has them."""
    return Stored(*a.format) if isinstance(a, RowBlocks) and a.format else a.dtype.name


def _spread(stored: list[Stored], which: tuple[int, ...]) -> list[Stored]:
    """As long as the op's operands, each in its place."""
    places = dict(zip(which, stored, strict=True))
    return [places.get(i, stored[0]) for i in range(max(which) + 1)]


def _bytes(
    kinds: tuple[str, ...],
    elements: list[int],
    shapes: Sequence[tuple[int, ...]],
    stored: Sequence[Stored],
    which: Iterable[int],
) -> dict[str, int]:
    moved: dict[str, int] = {}
    for i in which:
        moved[kinds[i]] = moved.get(kinds[i], 0) + stored[i].nbytes(shapes[i], elements[i])
    return moved


def _backward_operands(op: Op, args: tuple[Any, ...], out: Any) -> list[tuple[tuple[int, ...], str]]:
    """Shape and format of the forward's operands and result, as the backward's arguments show them."""
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    match op.primitive:
        case "rope":  # (d_x, rotation): the input looks like its gradient
            ordered = [*arrays[:2], arrays[0]]
        case "cross_entropy":  # (p, targets): a loss for each target
            ordered = [arrays[0], arrays[1], arrays[1]]
        case "balance":  # (share, load, total): a loss for each sequence
            ordered = [arrays[0], arrays[1], arrays[1][:, 0]]
        case "dispatch" | "combine":
            ordered = [out, arrays[0]]
        case _:  # (d_y, operands ...)
            ordered = [*arrays[1 : 1 + len(op.signature.operands)], arrays[0]]
    return [(a.shape, a.dtype.name) for a in ordered]
