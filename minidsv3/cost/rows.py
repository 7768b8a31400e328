"""The trace that a model would leave, op by op, without computing anything: for V3, which no laptop runs.

A model is written down as a list of `Use`s, an op of the catalogue with the shapes it meets; rows come from
the functions that a recorder calls (`minidsv3.machine.trace`), so signature, formats and bytes are counted by
one rule. The backward is the same list from its end: the catalogue says which rows each op's backward has.
Alike layers, experts and sequences are one row with `times`. Tests hold the rows of `alone` equal to traces,
row by row, in every precision.

In a deployment a GPU has its own tokens in attention and gate and its own experts, evenly loaded with the
copies that all GPUs send. Dispatch and combine get rows of phase "communication", with bytes by wire. Attention
is one kernel, whose scores never leave the chip; the layers are all counted, of which a pipeline's GPU has a
part.

Does: rows. Does not: price them; the optimiser, pipeline transfers, tensor parallelism.

    >>> from minidsv3.cost.deployment import alone
    >>> from minidsv3.config import ModelConfig
    >>> trace = rows_of(ModelConfig.preset("nano"), alone("decode", sequences=1, length=100, precision="bf16"))
    >>> trace.matrix_flops, trace.bytes["kv"]
    (2733568, 90496)

Next: minidsv3.cost.phase_bill
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import NamedTuple

from minidsv3.config import ModelConfig
from minidsv3.cost.deployment import Deployment
from minidsv3.machine import Precision, Row, Trace, load_precision, look_up
from minidsv3.machine.catalogue import primitives
from minidsv3.machine.operands import Stored, backward_operands, forward_operands
from minidsv3.machine.primitives import QUERY_BLOCK
from minidsv3.machine.trace import backward_rows, forward_row

__all__ = ["Use", "copies_sent", "rows_of"]

Shape = tuple[int, ...]
Loads = Sequence[Sequence[int]]
# what lies in memory under a symbol, where it is no number of the model's precision
DTYPES = {"t": "int64", "chosen": "int64", "kept groups": "int64", "rotation": "complex64"}
# operands of an attention kernel that stay on the chip
ON_CHIP = {
    "mla.scores": {2},
    "mla.softmax": {0, 1},
    "mla.values": {0},
    "mla.absorbed_scores": {2},
    "mla.absorbed_values": {0},
}


class Use(NamedTuple):
    """An op, and the shapes it meets."""

    op: str
    shapes: tuple[Shape, ...]  # operands, then the result
    times: int = 1
    expert: int | None = None
    seen: tuple[int, int] | None = None  # of an attention kernel: pairs of query and key computed, of so many
    read_once: int = 0  # of an attention kernel: numbers of the cache that its other product counts


class Segment(NamedTuple):
    """A stretch of the model: one layer, several layers alike, or what lies outside the layers."""

    uses: list[Use]
    layer: int | None = None  # the first of them
    layers: int = 1


@dataclass(frozen=True)
class _Part:
    """What the shapes of a layer depend on."""

    c: ModelConfig
    d: Deployment
    recipe: Precision
    B: int  # sequences of a micro-batch
    T: int  # new tokens of each
    S: int  # tokens each attends over

    @property
    def N(self) -> int:
        """Tokens of a micro-batch."""
        return self.B * self.T

    def shorter(self, k: int) -> "_Part":
        """With k positions less, as MTP module k sees them."""
        return replace(self, T=self.T - k, S=self.S - k)


def rows_of(config: ModelConfig, deployment: Deployment, loads: Loads | None = None) -> Trace:
    """The rows of a training micro-batch (forward and backward), a prefill or a decode step, of one GPU.

    loads: for each MoE layer (MTP modules last) the copies that each of this GPU's experts gets; evenly spread
    if not given. Raises ValueError for a config, a length or a precision that does not fit the deployment.
    """
    d, recipe = deployment, load_precision(deployment.precision)
    _check(config, d)
    T, S = (1, d.length + 1) if d.phase == "decode" else (d.length, d.length)
    part = _Part(config, d, recipe, d.sequences // d.micro_batches, T, S)
    segments = list(_segments(part, loads))
    trace = Trace()
    for segment in segments:
        trace += _forward(part, segment)
    if d.phase == "train":
        for segment in reversed(segments):
            trace += _backward(part, segment)
    return trace


def _check(c: ModelConfig, d: Deployment) -> None:
    last = d.length + (d.phase == "decode")
    if last > c.max_seq_len:
        raise ValueError(
            f"deployment {d.name}: expected at most {c.max_seq_len} positions, max_seq_len of the model, got {last}"
        )
    if d.phase == "train" and d.mtp and d.length <= c.n_mtp_layers:
        raise ValueError(
            f"deployment {d.name}: expected length > {c.n_mtp_layers} MTP modules, got {d.length}"
        )
    if d.expert_parallel == 1:
        return
    if c.n_dense_layers == c.n_layers and not c.n_mtp_layers:
        raise ValueError(
            f"deployment {d.name}: expected a mixture of experts to spread over {d.expert_parallel} GPUs, "
            f"got a model whose {c.n_layers} layers are all dense"
        )
    if (hosted := c.n_routed_experts + d.redundant_experts) % d.expert_parallel:
        raise ValueError(
            f"deployment {d.name}: expected experts divisible among {d.expert_parallel} GPUs, "
            f"got {c.n_routed_experts} + {d.redundant_experts} redundant = {hosted}"
        )


# ---- the model, as uses of ops ----------------------------------------------------------------------------


def _segments(p: _Part, loads: Loads | None) -> Iterator[Segment]:
    """The model from token ids to logits, and in training to the losses."""
    c, d, N = p.c, p.d, p.N
    yield Segment([_use("embed.tokens", (c.vocab_size, c.dim), (N,))])
    if c.n_dense_layers:
        yield Segment(_block(p, _dense(p)), 0, c.n_dense_layers)
    modules = c.n_mtp_layers if d.phase == "train" and d.mtp else 0
    each = _loads(c, modules, loads)
    moe_layers = c.n_layers - c.n_dense_layers
    if moe_layers and loads is None:
        yield Segment(_block(p, _moe(p, None)), c.n_dense_layers, moe_layers)
    elif loads is not None:
        for layer in range(c.n_dense_layers, c.n_layers):
            yield Segment(_block(p, _moe(p, next(each))), layer)
    yield Segment([_use("final.norm", (N, c.dim), (c.dim,)), *_head(p, "head.logits", "loss.main")])
    for k in range(1, modules + 1):
        yield from _module(p.shorter(k), c.n_layers + k - 1, next(each))


def _loads(c: ModelConfig, modules: int, loads: Loads | None) -> Iterator[Sequence[int] | None]:
    count = c.n_layers - c.n_dense_layers + modules
    if loads is not None and len(loads) != count:
        raise ValueError(f"expected loads of {count} MoE layers, got {len(loads)}")
    return iter([None] * count if loads is None else loads)


def _head(p: _Part, logits: str, loss: str) -> list[Use]:
    """Logits of every token, or of each sequence's last; the loss in training."""
    c, d = p.c, p.d
    N = p.N if d.phase == "train" or d.as_traced else p.B
    uses = [_use(logits, (N, c.dim), (c.vocab_size, c.dim))]
    return [*uses, _use(loss, (N, c.vocab_size), (N,))] if d.phase == "train" else uses


def _module(p: _Part, layer: int, load: Sequence[int] | None) -> Iterator[Segment]:
    """An MTP module, then the shared head once more (eqs. 21-25)."""
    D, N = p.c.dim, p.N
    front = [
        _use("mtp.embedding", (p.c.vocab_size, D), (N,)),
        _use("mtp.embedding_norm", (N, D), (D,)),
        _use("mtp.state_norm", (N, D), (D,)),
        _use("mtp.join", (N, 2 * D), (D, 2 * D)),
    ]
    yield Segment([*front, *_block(p, _moe(p, load)), _use("mtp.norm", (N, D), (D,))], layer)
    yield Segment(_head(p, "head.mtp_logits", "loss.mtp"))


def _block(p: _Part, ffn: list[Use]) -> list[Use]:
    """A Transformer block."""
    D, N = p.c.dim, p.N
    return [
        _use("attn.norm", (N, D), (D,)),
        *_attention(p),
        _use("attn.residual", (N, D), (N, D)),
        _use("ffn.norm", (N, D), (D,)),
        *ffn,
        _use("ffn.residual", (N, D), (N, D)),
    ]


def _attention(p: _Part) -> list[Use]:
    """Eqs. 1-11."""
    c, N, O = p.c, p.N, p.c.n_heads * p.c.v_head_dim
    uses = [*_projections(p)]
    if p.d.phase == "decode":
        uses += _absorbed_core(p) if p.d.attention == "absorbed" else _unfolded_core(p)
        return [*uses, _use("mla.out", (N, O), (c.dim, O))]
    U = c.n_heads * (c.qk_nope_head_dim + c.v_head_dim)
    uses += [*_tiles(p, "mla.quantise_c_KV", (N, c.kv_lora_rank))]
    uses += [_use("mla.kv_up", (N, c.kv_lora_rank), (U, c.kv_lora_rank)), *_core(p)]
    uses += [*_tiles(p, "mla.quantise_o", (N, O)), _use("mla.out", (N, O), (c.dim, O))]
    return [*uses, *_kept(p, "mla.keep_o", (N, O))]


def _projections(p: _Part) -> Iterator[Use]:
    """Queries, latent, positional key."""
    c, N, D = p.c, p.N, p.c.dim
    queries, R = c.n_heads * c.qk_head_dim, c.qk_rope_head_dim
    yield from _tiles(p, "mla.quantise_h", (N, D))
    if c.q_lora_rank:
        Q = c.q_lora_rank
        yield _use("mla.q_down", (N, D), (Q, D))
        yield _use("mla.q_norm", (N, Q), (Q,))
        yield from _tiles(p, "mla.quantise_c_Q", (N, Q))
        yield _use("mla.q_up", (N, Q), (queries, Q))
    else:
        yield _use("mla.q_full", (N, D), (queries, D))
    yield _use("mla.q_rope", (p.B, p.T, c.n_heads, R), (p.T, R // 2))
    yield _use("mla.kv_down", (N, D), (c.kv_lora_rank, D))
    yield _use("mla.kv_norm", (N, c.kv_lora_rank), (c.kv_lora_rank,))
    yield _use("mla.k_rope_down", (N, D), (R, D))
    yield _use("mla.k_rope", (p.B, p.T, R), (p.T, R // 2))


def _core(p: _Part) -> list[Use]:
    """Eq. 10 over whole sequences: queries in blocks that see no key behind their last."""
    blocks = [(first, min(first + QUERY_BLOCK, p.T)) for first in range(0, p.T, QUERY_BLOCK)]
    if p.d.as_traced:
        return [use for first, last in blocks for use in _attend(p, last - first, last)]
    pairs = sum((last - first) * last for first, last in blocks)
    return [use._replace(seen=(pairs, p.T * p.T)) for use in _attend(p, p.T, p.T)]


def _attend(p: _Part, T: int, S: int) -> list[Use]:
    """T queries against S keys, every head, of each sequence."""
    c, H = p.c, p.c.n_heads
    uses = [
        _use("mla.scores", (H, T, c.qk_head_dim), (H, c.qk_head_dim, S)),
        _use("mla.softmax", (H, T, S)),
        _use("mla.values", (H, T, S), (H, S, c.v_head_dim)),
    ]
    return [use._replace(times=p.B) for use in uses]


def _absorbed_core(p: _Part) -> list[Use]:
    """A query of each sequence over its cached latents; W_UK and W_UV meet all sequences at once on a GPU."""
    c, H, C, S = p.c, p.c.n_heads, p.c.kv_lora_rank, p.S
    A, d_h, d_v = C + c.qk_rope_head_dim, c.qk_nope_head_dim, c.v_head_dim
    together, times = (1, p.B) if p.d.as_traced else (p.B, 1)
    first = S * C // 2  # a kernel reads a latent once, for both products: half of it counts in each
    return [
        _use("mla.absorb_q", (H, together, d_h), (H, d_h, C))._replace(times=times),
        _use("mla.absorbed_scores", (H, A), (A, S))._replace(times=p.B, read_once=S * C - first),
        _use("mla.softmax", (H, 1, S))._replace(times=p.B),
        _use("mla.absorbed_values", (H, S), (S, C))._replace(times=p.B, read_once=first),
        _use("mla.absorb_v", (H, together, C), (H, C, d_v))._replace(times=times),
    ]


def _unfolded_core(p: _Part) -> list[Use]:
    """The same, the keys and values of the whole cache unfolded first."""
    c = p.c
    U = c.n_heads * (c.qk_nope_head_dim + c.v_head_dim)
    unfold = _use("mla.cached_kv_up", (p.S, c.kv_lora_rank), (U, c.kv_lora_rank))
    return [unfold._replace(times=p.B), *_attend(p, 1, p.S)]


def _dense(p: _Part) -> list[Use]:
    return [*_tiles(p, "dense.quantise_u", (p.N, p.c.dim)), *_ffn(p, "dense", p.c.inter_dim)]


def _ffn(p: _Part, part: str, M: int) -> list[Use]:
    """Gate and up in one product, SwiGLU, down."""
    N, D = p.N, p.c.dim
    return [
        _use(f"{part}.gate_up", (N, D), (2 * M, D)),
        _use(f"{part}.swiglu", (N, M), (N, M)),
        *_tiles(p, f"{part}.quantise_a", (N, M)),
        _use(f"{part}.down", (N, M), (D, M)),
        *_kept(p, f"{part}.keep", (N, 2 * M)),
    ]


def _moe(p: _Part, load: Sequence[int] | None) -> list[Use]:
    """Gate, routed experts, shared experts, balance loss (eqs. 12-20)."""
    c, d, N = p.c, p.d, p.N
    shared = c.n_shared_experts and not d.shared_as_routed
    uses = [*_gate(p), *_tiles(p, "experts.quantise_u", (N, c.dim)), *_experts(p, load)]
    if shared:
        uses += _ffn(p, "shared", c.n_shared_experts * c.moe_inter_dim)
        uses += [_use("experts.add_shared", (N, c.dim), (N, c.dim))]
    if d.phase == "train" and d.balance:
        E = c.n_routed_experts
        uses += [_use("balance.loss", (p.B, p.T, E), (p.B, E))]
    return uses


def _gate(p: _Part) -> Iterator[Use]:
    """Eqs. 13-16."""
    c, N, E, K = p.c, p.N, p.c.n_routed_experts, p.c.n_activated_experts
    yield _use("gate.logits", (N, c.dim), (E, c.dim))
    yield _use(f"gate.{'softmax' if c.score_func == 'softmax' else 'sigmoid'}", (N, E))
    if c.limits_groups:
        yield _use("gate.groups", (N, c.n_expert_groups), result=(N, c.n_limited_groups))
    yield _use("gate.top_k", (N, E), result=(N, K))
    if c.norm_topk_prob:
        yield _use("gate.renormalise", (N, K))


def _experts(p: _Part, load: Sequence[int] | None) -> Iterator[Use]:
    """Eq. 12 over the copies that come to this GPU's experts: as many as its tokens send out."""
    c, d, D, M = p.c, p.d, p.c.dim, p.c.moe_inter_dim
    copies = p.N * (c.n_activated_experts + (c.n_shared_experts if d.shared_as_routed else 0))
    one_token = d.phase == "decode" and p.N == 1  # which a laptop takes without ceremony
    hosted = (c.n_routed_experts + d.redundant_experts) // d.expert_parallel
    each = _spread(copies, hosted) if load is None else _given(load, copies, hosted)
    yield _use("experts.dispatch", (p.N, D), result=(copies, D))
    if d.as_traced and not one_token:
        yield from _narrowed(p, "experts.copy_gate_up", (hosted, 2 * M, D))
        yield from _narrowed(p, "experts.copy_down", (hosted, D, M))
    for n, times, expert in each:
        yield _use("experts.gate_up", (n, D), (2 * M, D))._replace(times=times, expert=expert)
    yield _use("experts.swiglu", (copies, M), (copies, M))
    yield _use("experts.scale", (copies, M), (copies,))
    yield from _tiles(p, "experts.quantise_a", (copies, M))
    for n, times, expert in each:
        yield _use("experts.down", (n, M), (D, M))._replace(times=times, expert=expert)
    if not one_token:
        yield from _kept(p, "experts.keep", (copies, 2 * M))
    yield _use("experts.combine", (copies, D), result=(p.N, D))


class _Share(NamedTuple):
    """What comes to one expert, or to several alike."""

    copies: int
    times: int = 1
    expert: int | None = None


def _spread(copies: int, hosted: int) -> list[_Share]:
    """Copies over experts as evenly as whole numbers go."""
    low, more = divmod(copies, hosted)
    return [_Share(n, times) for times, n in ((more, low + 1), (hosted - more, low)) if times and n]


def _given(load: Sequence[int], copies: int, hosted: int) -> list[_Share]:
    if len(load) != hosted or sum(load) != copies:
        raise ValueError(
            f"expected loads of {hosted} experts, {copies} copies together, got {len(load)} and {sum(load)}"
        )
    return [_Share(n, expert=expert) for expert, n in enumerate(load) if n]


def _use(op: str, *operands: Shape, result: Shape | None = None) -> Use:
    """The result's shape follows from the signature, unless it has an axis of its own."""
    if result is None:
        signature = look_up(op).signature
        sizes = signature.bind(operands, look_up(op).symbols)
        result = tuple(sizes[axis] for axis in signature.result)
    return Use(op, (*operands, result))


# what a machine that does not narrow leaves out
def _tiles(p: _Part, op: str, shape: Shape) -> Iterator[Use]:
    if p.recipe.multiplies_fp8:
        yield _use(op, shape)


def _kept(p: _Part, op: str, shape: Shape) -> Iterator[Use]:
    if p.recipe.kept(op) and (p.d.as_traced or p.d.phase == "train"):
        yield _use(op, shape)


def _narrowed(p: _Part, op: str, shape: Shape) -> Iterator[Use]:
    if p.recipe.product(op) != "fp32":
        yield _use(op, shape)


# ---- rows of uses -----------------------------------------------------------------------------------------


def _forward(p: _Part, segment: Segment) -> Iterator[Row]:
    for use in segment.uses:
        yield _forward_row(p, segment, use)
        if use.op in EXCHANGED and p.d.expert_parallel > 1:
            yield _exchange(p, segment, use, "fprop")


def _forward_row(p: _Part, segment: Segment, use: Use) -> Row:
    row = forward_row(p.recipe, p.c.fp8_block, look_up(use.op), use.shapes, _dtypes(use))
    if not p.d.as_traced:
        row = _in_one_kernel(row, use, range(len(use.shapes)))
    return _placed(p, segment, use, row)


def _backward(p: _Part, segment: Segment) -> Iterator[Row]:
    """What runs again, then every op from the last to the first."""
    for use in segment.uses:
        if _runs_again(p, use.op):
            yield replace(_forward_row(p, segment, use), phase="backward")
    for use in reversed(segment.uses):
        if use.op in EXCHANGED and p.d.expert_parallel > 1:
            yield _exchange(p, segment, use, "dgrad")
        yield from _backward_rows(p, segment, use)


def _backward_rows(p: _Part, segment: Segment, use: Use) -> Iterator[Row]:
    op = look_up(use.op)
    rows = backward_rows(p.recipe, p.c.fp8_block, op, use.shapes, _dtypes(use))
    if not p.d.as_traced and use.op in ON_CHIP:
        steps = primitives()[op.primitive].backward
        which = [(*step.reads, step.writes) for step in steps]
        rows = [_in_one_kernel(row, use, numbers) for row, numbers in zip(rows, which, strict=True)]
    for row in rows:
        yield _placed(p, segment, use, row)


def _runs_again(p: _Part, op: str) -> bool:
    """Whether the backward computes an op once more: what was kept narrowed, or what the deployment says."""
    part, _, name = op.partition(".")
    narrowed = name in ("swiglu", "scale", "quantise_a") and p.recipe.kept(f"{part}.keep")
    return bool(narrowed) or any(fnmatchcase(op, pattern) for pattern in p.d.recompute)


def _placed(p: _Part, segment: Segment, use: Use, row: Row) -> Row:
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


# ---- dispatch and combine between GPUs --------------------------------------------------------------------

EXCHANGED = ("experts.dispatch", "experts.combine")


class Copies(NamedTuple):
    """Copies of a token that leave a GPU, or come to it, on the mean."""

    network: float
    nvlink: float


def copies_sent(config: ModelConfig, deployment: Deployment) -> Copies:
    """How often dispatch sends a token over each wire; combine moves as many back.

    Experts are picked evenly inside the groups that the router keeps, each of which is reached. Node-limited: a
    copy for each other node, then one over NVLink for each GPU with an expert but the one where it arrived.
    Otherwise each pick is a copy of its own, over the network wherever it goes.
    Source: DeepSeek-V3 report, 3.2.2 and 3.4.2; the means are ours.
    """
    c, d = config, deployment
    gpus, per_node = d.expert_parallel, min(d.gpus_per_node, d.expert_parallel)
    nodes, K = gpus // per_node, c.n_activated_experts
    picks = K + (c.n_shared_experts if d.shared_as_routed else 0)
    elsewhere = picks * (gpus - 1) / gpus
    if not d.node_limited:
        return Copies(elsewhere, 0.0) if nodes > 1 else Copies(0.0, elsewhere)
    reached = nodes * _reached(c, 1 / nodes, spread=True)
    holding = gpus * _reached(c, 1 / gpus, spread=False)
    return Copies(reached * (nodes - 1) / nodes, holding * (per_node - 1) / per_node)


def _reached(c: ModelConfig, part: float, spread: bool) -> float:
    """Chance that a token has an expert among a stretch of them.

    part: of all experts that lie there  spread: a kept group is reached for sure where it lies there whole.
    """
    E, K = c.n_routed_experts, c.n_activated_experts
    groups, kept = (c.n_expert_groups, c.n_limited_groups) if c.limits_groups else (1, 1)
    whole = round(part * groups)  # groups that lie there
    if spread and groups > 1 and whole >= 1:
        return 1 - math.comb(groups - whole, kept) / math.comb(groups, kept)
    held, room = part * E, kept * E / groups  # experts there; experts in the kept groups
    if held <= E / groups:  # inside one group
        return kept / groups * (1 - _missed(room, held, K))
    chances = 0.0
    for there in range(min(whole, kept) + 1):  # kept groups among those that lie there
        ways = math.comb(whole, there) * math.comb(groups - whole, kept - there)
        chances += ways / math.comb(groups, kept) * (1 - _missed(room, there * E / groups, K))
    return chances


def _missed(room: float, held: float, picks: int) -> float:
    """Chance that none of `picks` different experts out of `room` is among the `held`."""
    return math.prod(max(0.0, 1 - held / (room - i)) for i in range(picks))


def _exchange(p: _Part, segment: Segment, use: Use, direction: str) -> Row:
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
