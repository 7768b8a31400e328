"""The whole model: embedding, blocks, head, multi-token prediction, and the training loss with its backward.

    L = L_main + lambda/D sum_k L_k + alpha sum f P          (eqs. 17, 24, 25)

A row of T + 1 tokens is T inputs and T targets. The main head predicts token i + 1 from position i and its
loss is the mean over B T. Depth k has T - k terms; eq. 24 divides their sum by T as printed ("T"), others by
their number ("T-k"): the gradient uses the one asked for, the report gives both.

Does: logits, losses, all gradients, expert loads. Does not: update anything, sample, cache.

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.model.parameters import Parameters
    >>> parameters = Parameters.initialise(ModelConfig.preset("nano"), np.random.default_rng(0))
    >>> options = LossOptions(mtp_weight=0.3)
    >>> losses, saved = loss_forward(Machine(), parameters, np.zeros((1, 5), int), options)
    >>> sorted(losses)
    ['balance', 'main', 'mtp_1', 'mtp_1_mean', 'total']

Next: minidsv3.inference
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidsv3.config import ModelConfig
from minidsv3.machine import Machine
from minidsv3.model.block import BlockSaved, MoESaved, Options, block_backward, block_forward
from minidsv3.model.experts import ExpertGradients
from minidsv3.model.mapped import MappedParameters
from minidsv3.model.mtp import MTPSaved, mtp_backward, mtp_forward
from minidsv3.model.parameters import LayerWeights, ModelWeights, MoEWeights, Parameters
from minidsv3.model.rope import rotations_for

__all__ = [
    "LossOptions",
    "LossSaved",
    "all_logits",
    "all_states",
    "expert_loads",
    "loss_backward",
    "loss_forward",
]

Array = NDArray[Any]


class LossOptions(NamedTuple):
    """Weights of the loss's parts."""

    mtp_weight: float = 0.0  # lambda of eq. 25; 0: the modules do not run
    mtp_divisor: str = "T"  # eq. 24 as printed, or "T-k"
    balance_weight: float = 0.0  # alpha of eq. 17
    balance_counts: str = "top-k of scores"
    share: float = 1.0  # this shard's part of a batch: scales gradients, not the losses reported

    @property
    def block(self) -> Options:
        """The part that concerns the blocks."""
        return Options(self.balance_weight, self.balance_counts, self.share)


class MainSaved(NamedTuple):
    """The main model's part."""

    ids: NDArray[np.intp]  # [N]
    blocks: list[BlockSaved]
    x: Array  # [N, D] in front of the final norm
    r: Array  # [N, 1]
    h: Array  # [N, D] behind it
    batch: int


class HeadSaved(NamedTuple):
    """One use of the shared head in the loss."""

    h: Array  # [N, D]
    p: Array  # [N, V] probabilities
    targets: NDArray[np.intp]  # [N]
    d_loss: float  # what a token's loss counts in the total
    ops: tuple[str, str]


class LossSaved(NamedTuple):
    """What the whole backward needs."""

    parameters: Parameters
    main: MainSaved
    heads: list[HeadSaved]  # the main head's, then each depth's
    mtp: list[MTPSaved]
    mtp_ids: list[NDArray[np.intp]]
    options: LossOptions


# ---- forward ----------------------------------------------------------------------------------------------


def main_states(
    machine: Machine,
    w: ModelWeights,
    tokens: NDArray[np.intp],
    config: ModelConfig,
    options: Options,
    keep: bool,
    on_state: Callable[[Array], object] = lambda _: None,
) -> MainSaved:
    """tokens: [B, T]  ->  states in front of and behind the final norm; blocks only if kept.

    on_state: called with the state [N, D] in front of each block, which must not be written to.
    """
    B, T = tokens.shape
    machine.follow(config.fp8_block, w.in_blocks)
    rotation = _rotation(config, T, machine)
    ids = tokens.ravel()  # [N]
    x = machine.embedding(w.embedding, ids, at="embed.tokens")  # [N, D]
    blocks = []
    for machine.layer, layer in enumerate(w.layers):
        on_state(x)
        x, saved = block_forward(machine, x, layer, rotation, config, B, options)
        if keep:
            blocks.append(saved)
        del saved  # its weights too, before the next layer's are read
    machine.layer = None
    h, r = machine.rmsnorm(x, w.g_final, config.norm_eps, at="final.norm")  # [N, D]
    return MainSaved(ids, blocks, x, r, h, B)


def _rotation(config: ModelConfig, length: int, machine: Machine) -> Array:
    dtype = np.complex64 if machine.dtype == np.float32 else np.complex128
    return rotations_for(config, dtype, length)[:length]


def all_logits(
    machine: Machine, parameters: Parameters | MappedParameters, tokens: NDArray[np.intp], depths: int = 0
) -> list[Array]:
    """Logits of the main head and of the first `depths` MTP modules.

    tokens: [B, T]  ->  [B, T, V], then [B, T - k, V] for k = 1, 2, …
    """
    config, w = parameters.config, parameters.weights
    (B, T), V = tokens.shape, config.vocab_size
    main = main_states(machine, w, tokens, config, Options(), keep=False)
    out = [machine.linear(main.h, w.head, at="head.logits").reshape(B, T, V)]
    state = main.h if config.mtp_state_after_norm else main.x
    for k in range(1, depths + 1):
        normed, state, _, _ = _depth_forward(machine, w, tokens, state, k, config, Options())
        out.append(machine.linear(normed, w.head, at="head.mtp_logits").reshape(B, T - k, V))
    return out


def all_states(
    machine: Machine, parameters: Parameters | MappedParameters, tokens: NDArray[np.intp]
) -> list[Array]:
    """The residual stream in front of each block, and the state behind the final norm.

    tokens: [B, T]  ->  L + 1 arrays [B, T, D].
    """
    states: list[Array] = []
    main = main_states(
        machine, parameters.weights, tokens, parameters.config, Options(), keep=False, on_state=states.append
    )
    return [state.reshape(*tokens.shape, -1) for state in (*states, main.h)]


def _depth_forward(
    machine: Machine,
    w: ModelWeights,
    tokens: NDArray[np.intp],
    state: Array,
    k: int,
    config: ModelConfig,
    options: Options,
) -> tuple[Array, Array, MTPSaved, NDArray[np.intp]]:
    """MTP module k on the states of depth k - 1, which have one position more.  tokens: [B, T]."""
    B, T = tokens.shape
    ids = tokens[:, k:].ravel()  # t_{i+k} for the T - k positions i
    state = state.reshape(B, T - k + 1, -1)[:, :-1].reshape(B * (T - k), -1)  # [N, D]
    machine.layer = config.n_layers + k - 1
    embedded = machine.embedding(w.embedding, ids, at="mtp.embedding")  # [N, D]
    rotation = _rotation(config, T - k, machine)
    normed, passed, saved = mtp_forward(machine, embedded, state, w.mtp[k - 1], rotation, config, B, options)
    machine.layer = None
    return normed, passed, saved, ids


def loss_forward(
    machine: Machine, parameters: Parameters, tokens: NDArray[np.intp], options: LossOptions
) -> tuple[dict[str, float], LossSaved]:
    """tokens: [B, T + 1]  ->  losses by name (nats a token; "total" is what the gradient is of), saved."""
    config, w = parameters.config, parameters.weights
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    B, T = inputs.shape
    main = main_states(machine, w, inputs, config, options.block, keep=True)
    nll, head = _head_forward(
        machine, main.h, w.head, targets, options.share / (B * T), ("head.logits", "loss.main")
    )
    losses, heads, mtp, mtp_ids = {"main": float(nll.mean())}, [head], [], []
    total = losses["main"]
    depths = config.n_mtp_layers if options.mtp_weight else 0
    state = main.h if config.mtp_state_after_norm else main.x
    for k in range(1, depths + 1):
        normed, state, saved, ids = _depth_forward(machine, w, inputs, state, k, config, options.block)
        divisor = B * (T if options.mtp_divisor == "T" else T - k)
        d_loss = options.mtp_weight / depths / divisor
        ops = ("head.mtp_logits", "loss.mtp")
        nll, head = _head_forward(machine, normed, w.head, targets[:, k:], options.share * d_loss, ops)
        losses[f"mtp_{k}"] = float(nll.sum()) / (B * T)  # eq. 24 as printed
        losses[f"mtp_{k}_mean"] = float(nll.mean())
        total += d_loss * float(nll.sum())
        heads.append(head)
        mtp.append(saved)
        mtp_ids.append(ids)
    losses["balance"] = options.balance_weight * _balance(main.blocks, mtp)
    losses["total"] = total + losses["balance"]
    return losses, LossSaved(parameters, main, heads, mtp, mtp_ids, options)


def _head_forward(
    machine: Machine, h: Array, W: Array, targets: NDArray[np.intp], d_loss: float, ops: tuple[str, str]
) -> tuple[Array, HeadSaved]:
    targets = targets.ravel()
    logits = machine.linear(h, W, at=ops[0])  # [N, V]
    nll, p = machine.cross_entropy(logits, targets, at=ops[1])  # [N], [N, V] in the logits' place
    return nll, HeadSaved(h, p, targets, d_loss, ops)


def _moe_parts(blocks: list[BlockSaved], mtp: list[MTPSaved]) -> list[MoESaved]:
    every = blocks + [saved.block for saved in mtp]
    return [block.ffn for block in every if isinstance(block.ffn, MoESaved)]


def _balance(blocks: list[BlockSaved], mtp: list[MTPSaved]) -> float:
    """sum(f P), summed over layers, averaged over sequences, without alpha."""
    return sum(
        float(part.balance_loss.mean()) for part in _moe_parts(blocks, mtp) if part.balance is not None
    )


def expert_loads(saved: LossSaved) -> NDArray[np.int64]:
    """Tokens each expert got, a row for each MoE layer, the MTP modules' last.  -> [layers, E]."""
    E = saved.parameters.config.n_routed_experts
    parts = _moe_parts(saved.main.blocks, saved.mtp)
    rows = [np.bincount(part.routing.indices.ravel(), minlength=E) for part in parts]
    return np.array(rows, np.int64).reshape(-1, E)


# ---- backward ---------------------------------------------------------------------------------------------


def loss_backward(machine: Machine, saved: LossSaved, gradients: Parameters) -> None:
    """Write the gradient of losses["total"] into `gradients`, whatever it held."""
    w, g, options = saved.parameters.weights, gradients.weights, saved.options.block
    config, main = saved.parameters.config, saved.main
    g.head[...] = 0
    g.embedding[...] = 0
    gradients.buffer[gradients.trained :] = 0
    _zero_idle_modules(g, len(saved.mtp))
    d_state = None  # gradient of the state passed to the module above
    for k in range(len(saved.mtp), 0, -1):
        machine.layer = None  # the head is outside the layers
        d_normed = _head_backward(machine, saved.heads[k], w.head, g.head)
        machine.layer = config.n_layers + k - 1
        module = g.mtp[k - 1]
        d_embedded, d_passed, d_w = mtp_backward(
            machine, d_normed, d_state, saved.mtp[k - 1], options, _expert_views(module.block)
        )
        _store(module, d_w)
        ids = saved.mtp_ids[k - 1]
        g.embedding[...] += machine.embedding_backward(d_embedded, w.embedding, ids, at="mtp.embedding")
        d_state = _longer(d_passed, main.batch)
    machine.layer = None
    d_h = _head_backward(machine, saved.heads[0], w.head, g.head)
    if d_state is not None and config.mtp_state_after_norm:
        d_h += d_state
    d_x, g.g_final[...] = machine.rmsnorm_backward(d_h, main.x, w.g_final, main.r, at="final.norm")
    if d_state is not None and not config.mtp_state_after_norm:
        d_x += d_state
    for machine.layer in reversed(range(config.n_layers)):
        layer = g.layers[machine.layer]
        d_x, d_layer = block_backward(machine, d_x, main.blocks[machine.layer], options, _expert_views(layer))
        _store(layer, d_layer)
    machine.layer = None
    g.embedding[...] += machine.embedding_backward(d_x, w.embedding, main.ids, at="embed.tokens")


def _head_backward(machine: Machine, head: HeadSaved, W: Array, d_W: Array) -> Array:
    d_logits = machine.cross_entropy_backward(head.d_loss, head.p, head.targets, at=head.ops[1])  # [N, V]
    d_h, d_head = machine.linear_backward(d_logits, head.h, W, at=head.ops[0])
    d_W += d_head
    return d_h


def _longer(d_state: Array, batch: int) -> Array:
    """A depth has one position fewer than the one below: its last position gets no gradient."""
    n, D = d_state.shape
    out = np.zeros((batch, n // batch + 1, D), d_state.dtype)
    out[:, :-1] = d_state.reshape(batch, -1, D)
    return out.reshape(-1, D)


def _expert_views(layer: LayerWeights) -> ExpertGradients | None:
    return (
        ExpertGradients(layer.ffn.W_gate_up, layer.ffn.W_down) if isinstance(layer.ffn, MoEWeights) else None
    )


def _store(into: Any, values: Any) -> None:
    """Copy gradients into the views of the flat buffer; what was computed there already stays."""
    for view, value in zip(into, values, strict=True):
        if isinstance(view, tuple):
            _store(view, value)
        elif view is not None and view is not value:
            view[...] = value


def _zero_idle_modules(g: ModelWeights, used: int) -> None:
    """Modules that did not run have gradient zero, not missing."""

    def zero(views: Any) -> None:
        for view in views:
            if isinstance(view, tuple):
                zero(view)
            elif view is not None:
                view[...] = 0

    zero(g.mtp[used:])
