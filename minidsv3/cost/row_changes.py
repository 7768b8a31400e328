"""What a better chip would do to the rows of a trace: each wish as a function from rows to rows.

A chip of today moves bytes that a better one would not: FP8 copies written only to be read again, tiles
turned by way of memory, partial sums carried out of the tensor core. A change takes the rows of a trace and
returns rows with other bytes; the bill prices both.

Changes never raise a trace's bytes of any kind, and leave matrix FLOPs alone; where they take vector FLOPs
away (a cast that a copy engine does) they say so. `promote_partial_sums` goes the other way: it makes visible
what the bill leaves out, so that a wish can take it away. Formats of a row stay those in which it multiplies.

Does: rows of one chip. Does not: price, measure errors (`minidsv3.cost.wish_figures`).

    >>> from minidsv3.machine import Row, Trace
    >>> product = Row("mla.out", "forward", shapes=((4, 256), (8, 256), (4, 8)), matrix_flops=2 * 4 * 8 * 256,
    ...               formats=("e4m3", "e4m3", "bf16"), blocks=((1, 128), (128, 128), None))
    >>> partial_sums(product)                              # two stretches of 128 for 4 x 8 results
    64
    >>> promote_partial_sums(Trace([product])).vector_flops
    128

Next: minidsv3.cost.wire_changes
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from minidsv3.machine import Row, Trace, look_up
from minidsv3.machine.operands import Stored
from minidsv3.numerics import NVFP4

__all__ = [
    "READERS",
    "Change",
    "cast_near_memory",
    "fp4_products",
    "fp4_weights",
    "fuse_quantisation",
    "moving",
    "operand_bytes",
    "partial_sums",
    "promote_partial_sums",
    "scale_inside_tensor_core",
    "transposed_reads",
]

Change = Callable[[Trace], Trace]

EIGHT_BITS = ("e4m3", "e5m2")
# who reads what a pass of quantisation has written
READERS: Mapping[str, tuple[str, ...]] = {
    "mla.quantise_h": ("mla.q_down", "mla.q_full", "mla.kv_down", "mla.k_rope_down"),
    "mla.quantise_c_Q": ("mla.q_up",),
    "mla.quantise_c_KV": ("mla.kv_up",),
    "mla.quantise_o": ("mla.out",),
    "dense.quantise_u": ("dense.gate_up",),
    "dense.quantise_a": ("dense.down",),
    "experts.quantise_u": ("experts.dispatch", "shared.gate_up"),
    "experts.quantise_a": ("experts.down",),
    "shared.quantise_a": ("shared.down",),
}


# ---- online quantisation (report, 3.5.2) ------------------------------------------------------------------


def fuse_quantisation(trace: Trace) -> Trace:
    """The cast to FP8 joins the copy from memory to the tensor core: no pass reads BF16 and writes FP8.

    Today 2 B are read, 1 written, 1 read again; then 2 are read. Products that share an FP8 copy read BF16
    each. In a trace with a backward the copy is still written, since it waits there; only where one product
    reads it something is saved. Of a backward the casts of d_y go. Their vector FLOPs go with the passes.
    """
    passes, turning = _fusable(trace), _turning(trace)
    readers = {reader for op in passes for reader in READERS[op]}
    waits = _has_backward(trace)
    rows = Trace()
    for row in trace:
        if row.phase == "forward" and row.op in passes:
            continue
        if row.direction == "quantise":
            rows += _without(row, "d_y")
        elif row.phase == "forward" and row.op in readers:
            copy = operand_bytes(row, 0)
            rows.append(moving(row, _in_bf16(row, 0) - copy + (copy if waits else 0)))
        elif row.op in turning and row.direction in ("dgrad", "wgrad"):
            rows.append(moving(row, _in_bf16(row, 0) - operand_bytes(row, 0)))
        else:
            rows.append(row)
    return rows


def cast_near_memory(trace: Trace) -> Trace:
    """Memory itself casts BF16 to FP8 as it is read: over its bus goes 1 B where 2 + 1 + 1 went.

    No pass of quantisation is left in the forward, and of the backward's none of d_y. Their vector FLOPs go.
    """
    rows = Trace()
    for row in trace:
        if row.phase == "forward" and row.op in READERS:
            continue
        rows += _without(row, "d_y") if row.direction == "quantise" else [row]
    return rows


def transposed_reads(trace: Trace) -> Trace:
    """Wgrad reads the forward's activations turned, as they lie: no pass dequantises, turns and writes them.

    The round trip of x goes, with its vector FLOPs; what Wgrad reads is the kept copy itself, E5M6 for the
    input of W_O.
    """
    kept = {row.op: _kept_activation(row) for row in trace if row.direction == "quantise"}
    rows = Trace()
    for row in trace:
        if row.direction == "quantise":
            rows += _without(row, "x")
        elif row.direction == "wgrad" and (stored := kept.get(row.op)):
            rows.append(moving(row, stored.nbytes(row.shapes[1]) - operand_bytes(row, 1)))
        else:
            rows.append(row)
    return rows


def _fusable(trace: Trace) -> set[str]:
    """The forward's passes of quantisation that fusing saves something on."""
    ops = {row.op for row in trace if row.phase == "forward"}
    found = {op for op in READERS if op in ops}
    if not _has_backward(trace):
        return found
    return {op for op in found if len(ops.intersection(READERS[op])) == 1}


def _turning(trace: Trace) -> set[str]:
    """Products whose backward is preceded by a pass that quantises d_y."""
    return {row.op for row in trace if row.direction == "quantise" and len(row.shapes) != len(_X)}


def _has_backward(trace: Trace) -> bool:
    return any(row.phase == "backward" for row in trace)


# operands of the pass in front of an FP8 backward: d_y and x read; d_y in both tilings and x turned written
_X, _D_Y = (1, 4), (0, 2, 3)
# by their number in a row -> which are of x, which of d_y
_WHOSE = {5: {"x": _X, "d_y": _D_Y}, 3: {"d_y": (0, 1, 2), "x": ()}, 2: {"x": (0, 1), "d_y": ()}}


def _without(row: Row, operand: str) -> list[Row]:
    """The pass in front of a backward, without what it does to x, or to d_y; no row if nothing is left."""
    whose = _WHOSE[len(row.shapes)]
    left = sorted(set(range(len(row.shapes))) - set(whose[operand]))
    if not left:
        return []
    written = {"x": 1, "d_y": 2}
    elements = {name: written[name] * math.prod(row.shapes[at[0]]) for name, at in whose.items() if at}
    gone = elements.get(operand, 0) * row.vector_flops // sum(elements.values())
    lighter = moving(row, -sum(operand_bytes(row, i) for i in whose[operand]))
    rest = replace(
        lighter,
        shapes=tuple(row.shapes[i] for i in left),
        formats=tuple(row.formats[i] for i in left),
        blocks=tuple(row.blocks[i] for i in left),
        vector_flops=row.vector_flops - gone,
    )
    return [rest]


def _kept_activation(row: Row) -> Stored | None:
    """How x waits for the backward; None if the pass has nothing to do with it."""
    at = _WHOSE[len(row.shapes)]["x"]
    return Stored(row.formats[at[0]], row.blocks[at[0]]) if at else None


# ---- inside the tensor core (report, 3.5.2; arXiv 2505.09343, 3.1.2) ---------------------------------------


def partial_sums(row: Row) -> int:
    """Partial sums that a row's FP8 product carries out of the tensor core: M N ceil(K / N_C).

    N_C, the stretch of K under one scale, is that of the first operand's tiles. 0 for other products.
    """
    if not (row.matrix_flops and row.formats[0] in EIGHT_BITS and row.blocks and row.blocks[0]):
        return 0
    results = math.prod(row.shapes[-1])
    length = row.matrix_flops // (2 * results)
    return results * -(-length // max(row.blocks[0]))


def promote_partial_sums(trace: Trace) -> Trace:
    """Today, made visible: each partial sum is multiplied by its scales and added in FP32, 2 vector FLOPs.

    In V3's kernels one warpgroup promotes while another multiplies: a bill adds both up, an upper bound.
    """
    return Trace(replace(row, vector_flops=row.vector_flops + 2 * partial_sums(row)) for row in trace)


def scale_inside_tensor_core(trace: Trace) -> Trace:
    """The tensor core takes the scales and sums along all of K: undoes `promote_partial_sums`."""
    return Trace(replace(row, vector_flops=_less_promotion(row)) for row in trace)


def _less_promotion(row: Row) -> int:
    return max(row.vector_flops - 2 * partial_sums(row), 0) if partial_sums(row) else row.vector_flops


def fp4_weights(trace: Trace) -> Trace:
    """Weights of FP8 products lie in NVFP4, 0.5625 B each, and are widened on the way to the tensor core."""
    return Trace(_fp4_weight(row) for row in trace)


def fp4_products(trace: Trace) -> Trace:
    """Both factors of the forward's FP8 products in NVFP4, on a tensor core that has FP4.

    Wires carry FP8 as before: what dispatch sends or has brought is narrowed on the way to the product.
    """
    return Trace(_fp4_product(row) for row in fp4_weights(trace))


def _fp4_weight(row: Row) -> Row:
    reads_weight = row.matrix_flops and row.direction in ("fprop", "dgrad") and _is_fp8(row, 1)
    if not reads_weight or look_up(row.op).kinds[1] != "weight":
        return row
    return moving(row, _in_fp4(row, 1) - operand_bytes(row, 1), "weight")


# passes whose copies only products read, and these products
_NARROWED = {op: readers for op, readers in READERS.items() if "experts.dispatch" not in readers}
_NARROW_READERS = {reader for readers in _NARROWED.values() for reader in readers}


def _fp4_product(row: Row) -> Row:
    if row.op in _NARROWED and _is_fp8(row, 1):
        return moving(row, _in_fp4(row, 1) - operand_bytes(row, 1))
    if not (row.matrix_flops and row.direction == "fprop" and _is_fp8(row, 0) and _is_fp8(row, 1)):
        return row
    if row.op in _NARROW_READERS:
        row = moving(row, _in_fp4(row, 0) - operand_bytes(row, 0))
    return replace(row, formats=("e2m1", "e2m1", *row.formats[2:]))


# ---- bytes of operands ------------------------------------------------------------------------------------


def _is_fp8(row: Row, i: int) -> bool:
    return len(row.formats) > i and row.formats[i] in EIGHT_BITS


def operand_bytes(row: Row, i: int) -> int:
    """Bytes of an operand as it lies."""
    return Stored(row.formats[i], row.blocks[i]).nbytes(row.shapes[i])


def _in_fp4(row: Row, i: int) -> int:
    return math.ceil(math.prod(row.shapes[i]) * NVFP4.bytes_per_value)


def _in_bf16(row: Row, i: int) -> int:
    return Stored("bf16").nbytes(row.shapes[i])


def moving(row: Row, more: int, kind: str = "activation") -> Row:
    """The row with more, or less, bytes of a kind."""
    return replace(row, bytes=row.bytes | {kind: row.bytes.get(kind, 0) + more})
