"""Weights that lie on one GPU of a deployment, whatever its batch reads of them.

Every layer's attention, gate, norms and dense or shared experts, the routed experts that it hosts (second
copies too), embedding and head; each in the format that its product reads: FP8 codes with their scales, BF16
where the recipe keeps it, the gate in float32. While decoding, the up-projections of keys and values are
held in BF16, the operands of an attention core in BF16. A pipeline's GPUs divide all of it evenly.

Does: bytes. Does not: read them (`minidsv3.cost.rows`), count master weights and gradients
(`minidsv3.cost.memory`) or the second copy of a stage that DualPipe keeps.

    >>> from minidsv3.cost.deployment import load_deployment, with_fields
    >>> v3, decode = ModelConfig.preset("v3"), load_deployment("decode")
    >>> for gpus in (128, 1):
    ...     print(f"{held_weight_bytes(v3, with_fields(decode, {'expert_parallel': gpus})) / 1e9:.1f} GB")
    25.4 GB
    674.4 GB

Next: minidsv3.cost.phase_bill
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from minidsv3.config import ModelConfig
from minidsv3.cost.deployment import Deployment
from minidsv3.machine import Row, load_precision, look_up
from minidsv3.machine.operands import Stored, forward_operands

__all__ = ["Held", "held_weight_bytes", "held_weights"]

Shape = tuple[int, ...]
BIAS = Stored("fp32")  # of the gate: no op reads it as a weight


class Held(NamedTuple):
    """Matrices or vectors alike.  op: that reads them."""

    op: str
    shape: Shape
    times: int
    stored: Stored

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return self.times * self.stored.nbytes(self.shape)


def held_weight_bytes(config: ModelConfig, deployment: Deployment, trace: Iterable[Row] = ()) -> int:
    """Bytes of weights on one GPU; of a pipeline's, its even part.

    trace: rows of the deployment; where a what-if has one read its weights in another size, they are held so.
    """
    otherwise = _read_otherwise(trace)
    total = 0
    for held in held_weights(config, deployment):
        read, usual = otherwise.get(held.op, (1, 1))
        total += held.nbytes * read // usual
    return total // deployment.pipeline


def _read_otherwise(trace: Iterable[Row]) -> dict[str, tuple[int, int]]:
    """By op the bytes of weights that a row reads, and those of its shape and format, where they differ."""
    found = {}
    for row in trace:
        if row.phase == "forward" and row.matrix_flops and "weight" in row.bytes:
            i = look_up(row.op).kinds.index("weight")
            usual = Stored(row.formats[i], row.blocks[i]).nbytes(row.shapes[i])
            if row.bytes["weight"] != usual:
                found[row.op] = row.bytes["weight"], usual
    return found


def held_weights(config: ModelConfig, deployment: Deployment) -> Iterator[Held]:
    """What lies on one GPU, of all layers."""
    c, d = config, deployment
    recipe = load_precision(d.precision)
    for op, shape, count in _tensors(c, d):
        kinds = look_up(op).kinds
        stored = forward_operands(recipe, c.fp8_block, look_up(op), ["float32"] * len(kinds))
        if count:
            yield Held(op, shape, count, stored[kinds.index("weight")])
    if c.has_router_bias:
        yield Held("gate.top_k", (c.n_routed_experts,), _moe_layers(c, d), BIAS)


def _modules(c: ModelConfig, d: Deployment) -> int:
    """MTP modules that run."""
    return c.n_mtp_layers if d.phase == "train" and d.mtp else 0


def _moe_layers(c: ModelConfig, d: Deployment) -> int:
    return c.n_layers - c.n_dense_layers + _modules(c, d)


def _tensors(c: ModelConfig, d: Deployment) -> Iterator[tuple[str, Shape, int]]:
    """Op that reads them, shape of one, how many."""
    D, M, modules, moe = c.dim, c.moe_inter_dim, _modules(c, d), _moe_layers(c, d)
    yield from (("embed.tokens", (c.vocab_size, D), 1), ("final.norm", (D,), 1))
    yield ("head.logits", (c.vocab_size, D), 1)
    for op, shape in _attention(c, d):
        yield op, shape, c.n_layers + modules
    yield from _ffn("dense", D, c.inter_dim, c.n_dense_layers)
    yield "gate.logits", (c.n_routed_experts, D), moe
    hosted = (c.n_routed_experts + d.redundant_experts) // d.expert_parallel
    yield from _ffn("experts", D, M, moe * hosted)
    if c.n_shared_experts and not d.shared_as_routed:
        yield from _ffn("shared", D, c.n_shared_experts * M, moe)
    for op in ("mtp.embedding_norm", "mtp.state_norm", "mtp.norm"):
        yield op, (D,), modules
    yield "mtp.join", (D, 2 * D), modules


def _ffn(part: str, dim: int, width: int, count: int) -> Iterator[tuple[str, Shape, int]]:
    """Gate, up, down."""
    yield f"{part}.gate_up", (width, dim), 2 * count
    yield f"{part}.down", (dim, width), count


def _attention(c: ModelConfig, d: Deployment) -> Iterator[tuple[str, Shape]]:
    """Of one layer, with the two norms of its block."""
    D, Q, C, H = c.dim, c.q_lora_rank, c.kv_lora_rank, c.n_heads
    queries, values = H * c.qk_head_dim, H * c.v_head_dim
    yield from (("attn.norm", (D,)), ("ffn.norm", (D,)))
    if Q:
        yield from (("mla.q_down", (Q, D)), ("mla.q_norm", (Q,)), ("mla.q_up", (queries, Q)))
    else:
        yield "mla.q_full", (queries, D)
    yield from (("mla.kv_down", (C, D)), ("mla.kv_norm", (C,)), ("mla.k_rope_down", (c.qk_rope_head_dim, D)))
    if d.phase == "decode":
        yield from (("mla.absorb_q", (H, c.qk_nope_head_dim, C)), ("mla.absorb_v", (H, C, c.v_head_dim)))
    else:
        yield "mla.kv_up", (H * (c.qk_nope_head_dim + c.v_head_dim), C)
    yield "mla.out", (D, values)
