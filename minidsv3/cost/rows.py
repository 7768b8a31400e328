"""The trace that a model would leave, op by op, without computing anything: for V3, which no laptop runs.

A model is written down as uses of ops (`minidsv3.cost.uses`); rows come from the functions that a recorder
calls (`minidsv3.machine.trace`), so signature, formats and bytes are counted by one rule. The backward is
the same list from its end: the catalogue says which rows each op's backward has. Tests hold the rows of
`alone` equal to traces, row by row, in every precision.

In a deployment a GPU has its own tokens in attention and gate and its own experts, evenly loaded with the
copies that all GPUs send. Dispatch and combine get rows of phase "communication", with bytes by wire.
Attention is one kernel, whose scores never leave the chip. All layers are counted, a pipeline's GPU has a
part of them.

Does: rows. Does not: price them; the optimiser, pipeline transfers, tensor parallelism.

    >>> from minidsv3.cost.deployment import alone
    >>> nano = ModelConfig.preset("nano")
    >>> trace = rows_of(nano, alone("decode", sequences=1, length=100, precision="bf16"))
    >>> trace.matrix_flops, trace.bytes["kv"]
    (2733568, 90496)

Next: minidsv3.cost.held_weights
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

from minidsv3.config import ModelConfig
from minidsv3.cost.copies import copies_sent
from minidsv3.cost.deployment import Deployment
from minidsv3.cost.uses import Batch, Loads, Segment, Use, batch_of, segments
from minidsv3.machine import Row, Trace, load_precision, look_up
from minidsv3.machine.catalogue import primitives
from minidsv3.machine.operands import Stored, backward_operands, forward_operands
from minidsv3.machine.trace import backward_rows, forward_row

__all__ = ["rows_of"]

# what lies in memory under a symbol, where it is no number of the model's precision
DTYPES = {"t": "int64", "chosen": "int64", "kept groups": "int64", "rotation": "complex64"}
EXCHANGED = ("experts.dispatch", "experts.combine")  # what GPUs send each other
# a product whose factor is the cache, and the recipe that this is held in: nothing is narrowed to read it
UNFOLDED, CACHE = "mla.cached_kv_up", "bf16"
# operands of an attention kernel that stay on the chip
ON_CHIP = {
    "mla.scores": {2},
    "mla.softmax": {0, 1},
    "mla.values": {0},
    "mla.absorbed_scores": {2},
    "mla.absorbed_values": {0},
}


def rows_of(config: ModelConfig, deployment: Deployment, loads: Loads | None = None) -> Trace:
    """The rows of a training micro-batch (forward and backward), a prefill or a decode step, of one GPU.

    loads: for each MoE layer (MTP modules last) the copies that each of this GPU's experts gets; evenly
    spread if not given. Raises ValueError for a config, a length or a precision that does not fit the
    deployment.
    """
    batch = batch_of(config, deployment)
    stretches = list(segments(batch, loads))
    trace = Trace(row for segment in stretches for row in _forward(batch, segment))
    if deployment.phase == "train":
        trace += [row for segment in reversed(stretches) for row in _backward(batch, segment)]
    return trace


def _forward(p: Batch, segment: Segment) -> Iterator[Row]:
    for use in segment.uses:
        yield _forward_row(p, segment, use)
        if use.op in EXCHANGED and p.d.expert_parallel > 1:
            yield _exchange(p, segment, use, "fprop")


def _forward_row(p: Batch, segment: Segment, use: Use) -> Row:
    recipe = p.recipe
    if use.op == UNFOLDED and recipe.rounds and not p.d.as_traced:
        recipe = load_precision(CACHE)
    row = forward_row(recipe, p.c.fp8_block, look_up(use.op), use.shapes, _dtypes(use))
    if not p.d.as_traced:
        row = _in_one_kernel(row, use, range(len(use.shapes)))
    return _placed(p, segment, use, row)


def _backward(p: Batch, segment: Segment) -> Iterator[Row]:
    """What runs again, then every op from the last to the first."""
    for use in segment.uses:
        if _runs_again(p, use.op):
            yield replace(_forward_row(p, segment, use), phase="backward")
    for use in reversed(segment.uses):
        if use.op in EXCHANGED and p.d.expert_parallel > 1:
            yield _exchange(p, segment, use, "dgrad")
        yield from _backward_rows(p, segment, use)


def _backward_rows(p: Batch, segment: Segment, use: Use) -> Iterator[Row]:
    op = look_up(use.op)
    rows = backward_rows(p.recipe, p.c.fp8_block, op, use.shapes, _dtypes(use))
    if not p.d.as_traced and use.op in ON_CHIP:
        steps = primitives()[op.primitive].backward
        which = [(*step.reads, step.writes) for step in steps]
        rows = [_in_one_kernel(row, use, numbers) for row, numbers in zip(rows, which, strict=True)]
    for row in rows:
        yield _placed(p, segment, use, row)


def _runs_again(p: Batch, op: str) -> bool:
    """Whether the backward computes an op once more: what was kept narrowed, or what the deployment says."""
    part, _, name = op.partition(".")
    narrowed = name in ("swiglu", "scale", "quantise_a") and p.recipe.kept(f"{part}.keep")
    return bool(narrowed) or any(fnmatchcase(op, pattern) for pattern in p.d.recompute)


def _placed(p: Batch, segment: Segment, use: Use, row: Row) -> Row:
    """A row in its layers, so many times."""
    times = use.times * segment.layers * p.d.micro_batches
    return replace(row, layer=segment.layer, layers=segment.layers, expert=use.expert, times=times)


def _in_one_kernel(row: Row, use: Use, which: Iterable[int]) -> Row:
    """A row of an attention kernel, without what stays on the chip.  which: operands its shapes are of."""
    if use.op not in ON_CHIP:
        return row
    moved: Counter[str] = Counter()
    for i, shape, format_, block in zip(which, row.shapes, row.formats, row.blocks, strict=True):
        if i not in ON_CHIP[use.op]:
            kind = look_up(use.op).kinds[i]
            moved[kind] += Stored(format_, block).nbytes(shape)
            moved[kind] -= Stored(format_).nbytes((use.read_once,)) if kind == "kv" else 0
    computed, square = use.seen or (1, 1)
    products, others = (n * computed // square for n in (row.matrix_flops, row.vector_flops))
    return replace(row, bytes=dict(moved), matrix_flops=products, vector_flops=others)


def _dtypes(use: Use) -> list[str]:
    return [DTYPES.get(symbol, "float32") for symbol in look_up(use.op).symbols]


def _exchange(p: Batch, segment: Segment, use: Use, direction: str) -> Row:
    """What one GPU sends, and receives at the same time, for a layer's dispatch or combine."""
    op, N, D = look_up(use.op), p.N, p.c.dim
    if direction == "fprop":
        travels = forward_operands(p.recipe, p.c.fp8_block, op, _dtypes(use))[0]
    else:
        step = primitives()[op.primitive].backward[0]
        travels = backward_operands(p.recipe, p.c.fp8_block, op, step, ["float32", "float32"])[0]
    moved = {
        wire: round(N * copies * travels.nbytes((1, D)))
        for wire, copies in copies_sent(p.c, p.d)._asdict().items()
    }
    row = Row(
        op=use.op,
        phase="communication",
        direction=direction,
        sizes={"N": N, "D": D},
        shapes=((N, D),),
        formats=(travels.format,),
        blocks=(travels.block,),
        bytes={wire: n for wire, n in moved.items() if n},
    )
    return _placed(p, segment, use, row)
