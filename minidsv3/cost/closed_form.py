"""Closed forms: what forward, backward and a decode step cost, by arithmetic on a `ModelConfig`.

These are the counts a trace would show, for models that no laptop runs. They are written from the report's
equations, part by part, without the op catalogue; tests hold them equal to the trace at several sizes,
number for number, and to the rows that `minidsv3.cost.rows` makes from the catalogue. Symbols: N = B T
tokens, D width, H heads, C = d_c, R = d_R, K experts a token, E experts.

One thing depends on the data: how many experts of a layer are reached, since an expert's weights are read
once if any token chose it. It is given for each MoE layer, or taken as "as many as can be".

Does: FLOPs (matrix and vector apart) and bytes by kind, by part. Scores are counted as they are computed:
blocks of 64 queries against the keys up to the block's end. Does not: recomputation, communication, the
optimiser.

    >>> from minidsv3.config import ModelConfig
    >>> v3 = ModelConfig.preset("v3")
    >>> step = decode_absorbed_work(v3, sequences=1, cached=4095)
    >>> total = sum(step.values(), Work())
    >>> f"{total.matrix_flops / 1e9:.1f} GFLOP, {total.bytes(2)['weight'] / 1e9:.1f} GB of weights"
    '142.8 GFLOP, 73.3 GB of weights'

Next: minidsv3.cost.deployment
"""

from collections.abc import Iterator, Sequence

from minidsv3.config import ModelConfig
from minidsv3.cost.work import Pass, Work, elements, matrices, norm, products, swiglu
from minidsv3.machine.primitives import QUERY_BLOCK

__all__ = ["decode_absorbed_work", "decode_naive_work", "prefill_work", "training_work"]

Parts = dict[str, Work]
Reached = Iterator[int | None]


def prefill_work(c: ModelConfig, sequences: int, length: int, reached: Sequence[int] | None = None) -> Parts:
    """The forward to logits, by part.

    sequences: B  length: T  reached: experts that got a token, for each MoE layer of the main model.
    """
    N = sequences * length
    parts = {"embedding": _look_up(c, N), "norm": norm(N, c.dim), "head": products(N, (c.dim, c.vocab_size))}
    experts = _reached(c, c.n_layers, reached)
    for layer in range(c.n_layers):
        parts = _sum(parts, _block(c, layer, sequences, length, experts))
    return {name: part.forward for name, part in parts.items()}


def training_work(
    c: ModelConfig,
    sequences: int,
    length: int,
    reached: Sequence[int] | None = None,
    mtp: bool = True,
    balance: bool = True,
) -> tuple[Parts, Parts]:
    """Forward and backward of the training loss, each by part.

    sequences: B  length: T, one less than the tokens of a row  reached: for each MoE layer, the MTP modules'
    last  mtp, balance: whether these losses have a weight.
    """
    N, V, layers = sequences * length, c.vocab_size, c.n_layers + (c.n_mtp_layers if mtp else 0)
    parts = {"embedding": _look_up(c, N), "norm": norm(N, c.dim), "head": products(N, (c.dim, V))}
    parts["loss"] = _loss(N, V)
    experts = _reached(c, layers, reached)
    for layer in range(layers):
        depth = max(0, layer - c.n_layers + 1)  # module k sees T - k positions
        if depth:
            parts = _sum(parts, {"mtp": _module(c, sequences * (length - depth))})
        parts = _sum(parts, _block(c, layer, sequences, length - depth, experts))
        if balance and c.is_moe(layer):
            parts = _sum(parts, {"loss": _balance(c, sequences, length - depth)})
    return {n: p.forward for n, p in parts.items()}, {n: p.backward for n, p in parts.items()}


def decode_absorbed_work(
    c: ModelConfig, sequences: int, cached: int, reached: Sequence[int] | None = None
) -> Parts:
    """One new token for each of B sequences that have `cached` tokens behind them; attention over latents."""
    return _decode(c, sequences, _absorbed_core(c, cached + 1), reached)


def decode_naive_work(
    c: ModelConfig, sequences: int, cached: int, reached: Sequence[int] | None = None
) -> Parts:
    """The same, unfolding the keys and values of the whole cache."""
    return _decode(c, sequences, _unfolded_core(c, cached + 1), reached)


def _decode(c: ModelConfig, B: int, core: Work, reached: Sequence[int] | None) -> Parts:
    parts = {"embedding": _look_up(c, B), "norm": norm(B, c.dim), "head": products(B, (c.dim, c.vocab_size))}
    experts = _reached(c, c.n_layers, reached)
    for layer in range(c.n_layers):
        parts = _sum(parts, {"attention": _projections(c, B, 1) + Pass(core * B)})
        parts = _sum(parts, {"norm": _block_norms(c, B)} | _feed_forward(c, layer, B, experts))
    return {name: part.forward for name, part in parts.items()}


# ---- one block --------------------------------------------------------------------------------------------


def _block(c: ModelConfig, layer: int, B: int, T: int, reached: Reached) -> dict[str, Pass]:
    """A Transformer block over B sequences of T."""
    N = B * T
    unfold = products(N, (c.kv_lora_rank, c.n_heads * (c.qk_nope_head_dim + c.v_head_dim)))  # eqs. 2, 5
    attention = _projections(c, B, T) + unfold + _core(c, T) * B
    return {"attention": attention, "norm": _block_norms(c, N)} | _feed_forward(c, layer, N, reached)


def _projections(c: ModelConfig, B: int, T: int) -> Pass:
    """Eqs. 1, 3, 6-8 and 11: what naive and absorbed attention share."""
    N, queries = B * T, c.n_heads * c.qk_head_dim
    query = ((c.dim, c.q_lora_rank), (c.q_lora_rank, queries)) if c.q_lora_rank else ((c.dim, queries),)
    latent = (c.dim, c.kv_lora_rank)
    position = (c.dim, c.qk_rope_head_dim)
    out = (c.n_heads * c.v_head_dim, c.dim)
    return products(N, *query, latent, position, out) + _rope(c, N * c.n_heads, T) + _rope(c, N, T)


def _rope(c: ModelConfig, vectors: int, T: int) -> Pass:
    """3 FLOPs an element (a complex product for two), in place; reads T rows of R/2 complex rotations."""
    table = Work(activations=T * c.qk_rope_head_dim)
    return elements(vectors * c.qk_rope_head_dim, flops=(3, 3), passes=(2, 2)) + Pass(table, table)


def _core(c: ModelConfig, T: int) -> Pass:
    """Eq. 10 for one sequence, every head: scores, softmax, weighted values, a block of queries at a time."""
    work = Pass()
    for first in range(0, T, QUERY_BLOCK):
        seen = min(first + QUERY_BLOCK, T)  # keys up to the block's last query
        block = seen - first
        scores, values = matrices(block, c.qk_head_dim, seen), matrices(block, seen, c.v_head_dim)
        work += scores + _softmax(block * seen) + values
    return work * c.n_heads


def _softmax(n: int) -> Pass:
    return elements(n, flops=(5, 4), passes=(2, 3))


def _sigmoid(n: int) -> Pass:
    return elements(n, flops=(4, 3), passes=(2, 3))


def _absorbed_core(c: ModelConfig, S: int) -> Work:
    """One query over S cached latents: W_UK to the query, scores and values on latents, W_UV behind."""
    H, C, A = c.n_heads, c.kv_lora_rank, c.kv_lora_rank + c.qk_rope_head_dim
    fold_key = products(1, (c.qk_nope_head_dim, C)).forward * H  # q~ = W_UK^T q_C
    fold_value = products(1, (C, c.v_head_dim)).forward * H  # o = W_UV o~
    scores = Work(matrix_flops=2 * H * A * S, activations=H * (A + S), cache=A * S)
    values = Work(matrix_flops=2 * H * S * C, activations=H * (S + C), cache=S * C)
    return fold_key + scores + _softmax(H * S).forward + values + fold_value


def _unfolded_core(c: ModelConfig, S: int) -> Work:
    """One query over S cached latents, their keys and values unfolded first."""
    H, C, U = c.n_heads, c.kv_lora_rank, c.n_heads * (c.qk_nope_head_dim + c.v_head_dim)
    unfold = Work(matrix_flops=2 * S * C * U, weights=C * U, activations=S * U, cache=S * C)
    core = matrices(1, c.qk_head_dim, S).forward + _softmax(S).forward + matrices(1, S, c.v_head_dim).forward
    return unfold + core * H


def _block_norms(c: ModelConfig, N: int) -> Pass:
    """Both norms of the stream, both latents' norms, both residual sums (which have no backward)."""
    latents = norm(N, c.kv_lora_rank) + (norm(N, c.q_lora_rank) if c.q_lora_rank else Pass())
    return norm(N, c.dim) * 2 + latents + elements(N * c.dim, flops=(1, 0), passes=(3, 0)) * 2


def _feed_forward(c: ModelConfig, layer: int, N: int, reached: Reached) -> dict[str, Pass]:
    if c.is_moe(layer):
        return {"gate": _gate(c, N), "experts": _experts(c, N, next(reached)) + _shared(c, N)}
    return {"dense": _ffn(c, N, c.inter_dim)}


def _ffn(c: ModelConfig, N: int, M: int, copies: int = 1) -> Pass:
    """Gate and up in one product, SwiGLU, down."""
    return products(N, (c.dim, 2 * M), (M, c.dim), copies=copies) + swiglu(N * M)


def _gate(c: ModelConfig, N: int) -> Pass:
    """Eqs. 13-16: scores of all experts, the best groups, the best K of these, their weights."""
    E, K, G = c.n_routed_experts, c.n_activated_experts, c.n_expert_groups
    work = products(N, (c.dim, E)) + (_softmax(N * E) if c.score_func == "softmax" else _sigmoid(N * E))
    work += Pass(Work(vector_flops=N * E, activations=N * E, indices=N * K))  # top K
    if c.limits_groups:
        work += Pass(Work(vector_flops=N * G, activations=N * G, indices=N * c.n_limited_groups))
    if c.norm_topk_prob:
        work += elements(N * K, flops=(2, 4), passes=(2, 3))
    return work


def _experts(c: ModelConfig, N: int, reached: int | None) -> Pass:
    """Eq. 12: P = N K copies sent out, three matrices an expert, weighted in front of W_down, added up."""
    P, D, M = N * c.n_activated_experts, c.dim, c.moe_inter_dim
    most = min(c.n_routed_experts, P)
    reached = most if reached is None else reached
    if not c.n_activated_experts <= reached <= most:
        raise ValueError(f"expected {c.n_activated_experts} .. {most} experts reached, got {reached}")
    carried = Work(activations=(N + P) * D)
    sent = Pass(carried, carried)
    returned = Pass(carried + Work(vector_flops=P * D), carried)
    weighted = elements(P * M, flops=(1, 3), passes=(2, 4)) + Pass(
        Work(activations=P), Work(activations=2 * P)
    )
    return sent + _ffn(c, P, M, copies=reached) + weighted + returned


def _shared(c: ModelConfig, N: int) -> Pass:
    if not c.n_shared_experts:
        return Pass()
    add = elements(N * c.dim, flops=(1, 0), passes=(3, 0))
    return _ffn(c, N, c.n_shared_experts * c.moe_inter_dim) + add


def _reached(c: ModelConfig, layers: int, reached: Sequence[int] | None) -> Reached:
    """Experts reached in each MoE layer in turn; None where not given."""
    count = layers - c.n_dense_layers
    if reached is not None and len(reached) != count:
        raise ValueError(f"expected reached experts of {count} MoE layers, got {len(reached)}")
    return iter([None] * count if reached is None else reached)


# ---- outside the blocks -----------------------------------------------------------------------------------


def _look_up(c: ModelConfig, N: int) -> Pass:
    """N rows read out of the table; backward writes a gradient as large as the table."""
    ids, rows, table = Work(indices=N), Work(activations=N * c.dim), Work(weights=c.vocab_size * c.dim)
    return Pass(ids + rows + Work(weights=N * c.dim), ids + rows + table)


def _loss(N: int, V: int) -> Pass:
    """Cross-entropy: 5 FLOPs a logit forward, 2 backward; a target and a loss a token."""
    ids = Work(indices=N)
    return elements(N * V, flops=(5, 2), passes=(1, 2)) + Pass(ids + Work(activations=N), ids)


def _balance(c: ModelConfig, B: int, T: int) -> Pass:
    """Eqs. 17-20 of one MoE layer: scores against the loads of each sequence."""
    loads = Work(activations=B * c.n_routed_experts)
    scores = elements(B * T * c.n_routed_experts, flops=(4, 4), passes=(1, 2))
    return scores + Pass(loads + Work(activations=B), loads)


def _module(c: ModelConfig, N: int) -> Pass:
    """An MTP module outside its block: embedding, two norms, M_k, the head's norm, head, loss."""
    join = norm(N, c.dim) * 3 + products(N, (2 * c.dim, c.dim))
    return _look_up(c, N) + join + products(N, (c.dim, c.vocab_size)) + _loss(N, c.vocab_size)


def _sum(parts: dict[str, Pass], more: dict[str, Pass]) -> dict[str, Pass]:
    return parts | {name: parts.get(name, Pass()) + part for name, part in more.items()}
