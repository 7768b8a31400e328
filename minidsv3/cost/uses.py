"""A model as a list of uses: each op of the catalogue, in the order of a forward, with the shapes it meets.

Written from the report's equations, as `minidsv3.model` runs them; what only a machine that narrows does
(tiles, kept copies, narrow weights) is there where a precision recipe asks for it. Layers alike are one
segment, alike sequences and experts one use with `times`. As a laptop traces it, attention runs in blocks
of queries, each sequence and expert by itself; on a GPU one kernel takes the whole sequence.

Does: shapes, and how often. Does not: count FLOPs or bytes, the backward (`minidsv3.cost.rows`).

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.cost.deployment import load_deployment
    >>> batch = batch_of(ModelConfig.preset("v3"), load_deployment("decode"))
    >>> [use for segment in segments(batch) for use in segment.uses if use.op == "experts.gate_up"]
    [Use(op='experts.gate_up', shapes=((256, 7168), (4096, 7168), (256, 4096)), times=2, expert=None, ...)]
    >>> [(segment.layer, segment.layers) for segment in segments(batch)]
    [(None, 1), (0, 3), (3, 58), (None, 1)]

Next: minidsv3.cost.rows
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import NamedTuple

from minidsv3.config import ModelConfig, near
from minidsv3.cost.deployment import Deployment
from minidsv3.machine import Precision, catalogue, load_precision, look_up
from minidsv3.machine.primitives import QUERY_BLOCK

__all__ = ["Batch", "Loads", "Segment", "Use", "batch_of", "segments"]

Shape = tuple[int, ...]
Loads = Sequence[Sequence[int]]
MOST_LAYERS = 10_000  # a bill has a line for each


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
class Batch:
    """A micro-batch of one GPU: what the shapes of a layer depend on."""

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

    def shorter(self, k: int) -> "Batch":
        """With k positions less, as MTP module k sees them."""
        return replace(self, T=self.T - k, S=self.S - k)


def batch_of(config: ModelConfig, deployment: Deployment) -> Batch:
    """A micro-batch; ValueError for a model, or a length, that does not fit the deployment."""
    d = deployment
    _check(config, d)
    T, S = (1, d.length + 1) if d.phase == "decode" else (d.length, d.length)
    return Batch(config, d, load_precision(d.precision), d.sequences // d.micro_batches, T, S)


def _check(c: ModelConfig, d: Deployment) -> None:
    last = d.length + (d.phase == "decode")
    if last > c.max_seq_len:
        raise ValueError(
            f"deployment {d.name}: expected at most {c.max_seq_len} positions, the model's max_seq_len, "
            f"got {last}"
        )
    if d.phase == "train" and d.mtp and d.length <= c.n_mtp_layers:
        raise ValueError(
            f"deployment {d.name}: expected length > {c.n_mtp_layers} MTP modules, got {d.length}"
        )
    for pattern in d.recompute:
        if not any(fnmatchcase(op, pattern) for op in catalogue()):
            raise ValueError(
                f"deployment {d.name}: expected recompute to name ops, or none, got {pattern!r}: "
                f"{near(pattern, list(catalogue()))}"
            )
    if c.n_layers > MOST_LAYERS:
        raise ValueError(f"expected at most {MOST_LAYERS} layers to list, got {c.n_layers}")
    if d.pipeline > c.n_layers:
        raise ValueError(
            f"deployment {d.name}: expected pipeline at most {c.n_layers}, the model's layers, "
            f"got {d.pipeline}"
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
            f"got {c.n_routed_experts} + {d.redundant_experts} redundant = {hosted}; "
            f"{_fewer(hosted, d.expert_parallel)} would do"
        )


def _fewer(hosted: int, gpus: int) -> int:
    """The most GPUs, fewer than asked for, that divide the experts."""
    return next(n for n in range(min(gpus - 1, hosted), 0, -1) if hosted % n == 0)


def segments(p: Batch, loads: Loads | None = None) -> Iterator[Segment]:
    """The model from token ids to logits, and in training to the losses.

    loads: for each MoE layer (MTP modules last) the copies that each of this GPU's experts gets; evenly
    spread if not given.
    """
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


def _head(p: Batch, logits: str, loss: str) -> list[Use]:
    """Logits of every token, or of each sequence's last; the loss in training."""
    c, d = p.c, p.d
    N = p.N if d.phase == "train" or d.as_traced else p.B
    uses = [_use(logits, (N, c.dim), (c.vocab_size, c.dim))]
    return [*uses, _use(loss, (N, c.vocab_size), (N,))] if d.phase == "train" else uses


def _module(p: Batch, layer: int, load: Sequence[int] | None) -> Iterator[Segment]:
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


def _block(p: Batch, ffn: list[Use]) -> list[Use]:
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


def _attention(p: Batch) -> list[Use]:
    """Eqs. 1-11."""
    c, N, values = p.c, p.N, p.c.n_heads * p.c.v_head_dim
    uses = [*_projections(p)]
    if p.d.phase == "decode":
        uses += _absorbed_core(p) if p.d.attention == "absorbed" else _unfolded_core(p)
        return [*uses, _use("mla.out", (N, values), (c.dim, values))]
    U = c.n_heads * (c.qk_nope_head_dim + c.v_head_dim)
    uses += [*_tiles(p, "mla.quantise_c_KV", (N, c.kv_lora_rank))]
    uses += [_use("mla.kv_up", (N, c.kv_lora_rank), (U, c.kv_lora_rank)), *_core(p)]
    uses += [*_tiles(p, "mla.quantise_o", (N, values)), _use("mla.out", (N, values), (c.dim, values))]
    return [*uses, *_kept(p, "mla.keep_o", (N, values))]


def _projections(p: Batch) -> Iterator[Use]:
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


def _core(p: Batch) -> list[Use]:
    """Eq. 10 over whole sequences: queries in blocks that see no key behind their last."""
    blocks = [(first, min(first + QUERY_BLOCK, p.T)) for first in range(0, p.T, QUERY_BLOCK)]
    if p.d.as_traced:
        return [use for first, last in blocks for use in _attend(p, last - first, last)]
    pairs = sum((last - first) * last for first, last in blocks)
    return [use._replace(seen=(pairs, p.T * p.T)) for use in _attend(p, p.T, p.T)]


def _attend(p: Batch, T: int, S: int) -> list[Use]:
    """T queries against S keys, every head, of each sequence."""
    c, H = p.c, p.c.n_heads
    uses = [
        _use("mla.scores", (H, T, c.qk_head_dim), (H, c.qk_head_dim, S)),
        _use("mla.softmax", (H, T, S)),
        _use("mla.values", (H, T, S), (H, S, c.v_head_dim)),
    ]
    return [use._replace(times=p.B) for use in uses]


def _absorbed_core(p: Batch) -> list[Use]:
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


def _unfolded_core(p: Batch) -> list[Use]:
    """The same, the keys and values of the whole cache unfolded first; on a GPU all sequences' at once."""
    c = p.c
    U = c.n_heads * (c.qk_nope_head_dim + c.v_head_dim)
    together, times = (1, p.B) if p.d.as_traced else (p.B, 1)
    unfold = _use("mla.cached_kv_up", (together * p.S, c.kv_lora_rank), (U, c.kv_lora_rank))
    return [unfold._replace(times=times), *_attend(p, 1, p.S)]


def _dense(p: Batch) -> list[Use]:
    return [*_tiles(p, "dense.quantise_u", (p.N, p.c.dim)), *_ffn(p, "dense", p.c.inter_dim)]


def _ffn(p: Batch, part: str, M: int) -> list[Use]:
    """Gate and up in one product, SwiGLU, down."""
    N, D = p.N, p.c.dim
    return [
        _use(f"{part}.gate_up", (N, D), (2 * M, D)),
        _use(f"{part}.swiglu", (N, M), (N, M)),
        *_tiles(p, f"{part}.quantise_a", (N, M)),
        _use(f"{part}.down", (N, M), (D, M)),
        *_kept(p, f"{part}.keep", (N, 2 * M)),
    ]


def _moe(p: Batch, load: Sequence[int] | None) -> list[Use]:
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


def _gate(p: Batch) -> Iterator[Use]:
    """Eqs. 13-16."""
    c, N, E, K = p.c, p.N, p.c.n_routed_experts, p.c.n_activated_experts
    yield _use("gate.logits", (N, c.dim), (E, c.dim))
    yield _use(f"gate.{'softmax' if c.score_func == 'softmax' else 'sigmoid'}", (N, E))
    if c.limits_groups:
        yield _use("gate.groups", (N, c.n_expert_groups), result=(N, c.n_limited_groups))
    yield _use("gate.top_k", (N, E), result=(N, K))
    if c.norm_topk_prob:
        yield _use("gate.renormalise", (N, K))


def _experts(p: Batch, load: Sequence[int] | None) -> Iterator[Use]:
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
def _tiles(p: Batch, op: str, shape: Shape) -> Iterator[Use]:
    if p.recipe.multiplies_fp8:
        yield _use(op, shape)


def _kept(p: Batch, op: str, shape: Shape) -> Iterator[Use]:
    if p.recipe.kept(op) and (p.d.as_traced or p.d.phase == "train"):
        yield _use(op, shape)


def _narrowed(p: Batch, op: str, shape: Shape) -> Iterator[Use]:
    if p.recipe.product(op) != "fp32":
        yield _use(op, shape)
