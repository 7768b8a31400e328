"""All parameters in one flat buffer, and the report's symbols as views of it.

The buffer holds the matrices first, then the norms' gains, then the router biases, so that the optimiser can
decay the first part, step over the first two and leave the third to the sign rule. Inside each part the
tensors stand in the order of the layers. Gate and up projections of an FFN follow one another, hence one
matrix `W_gate_up`; the experts of a layer follow one another, hence one stacked array. Nothing is copied.

| symbol | published name | shape |
| --- | --- | --- |
| W_DQ | q_a_proj | [d_c', D] |
| W_DKV, W_KR | kv_a_proj_with_mqa, first d_c rows, then d_R rows | [d_c, D], [d_R, D] |
| W_Q = [W_UQ; W_QR] a head | q_b_proj (q_proj without query latent) | [H, d_h + d_R, d_c'] |
| W_KV = [W_UK; W_UV] a head | kv_b_proj | [H, d_h + d_v, d_c] |
| W_O, e, M_k | o_proj, mlp.gate, eh_proj | [D, H d_v], [E, D], [D, 2 D] |

Does: layout, views, initial values. Does not: read or write files.

    >>> from minidsv3.config import ModelConfig
    >>> parameters = Parameters(ModelConfig.preset("nano"))
    >>> parameters.weights.layers[0].attention.W_KR.shape, parameters["lm_head.weight"].shape
    ((16, 128), (2048, 128))

Next: minidsv3.model.memory
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minidsv3.config import ModelConfig

__all__ = [
    "FFNWeights",
    "LayerWeights",
    "MLAWeights",
    "MTPWeights",
    "MoEWeights",
    "ModelWeights",
    "Parameters",
    "product_weights",
]

Array = NDArray[Any]


class MLAWeights(NamedTuple):
    """Attention, in the report's symbols; None without a query latent, or without norms of the latents."""

    W_DQ: Array | None  # [d_c', D]
    g_Q: Array | None  # [d_c']
    W_Q: Array  # [H, d_h + d_R, d_c'] or [H, d_h + d_R, D]
    W_DKV: Array  # [d_c, D]
    W_KR: Array  # [d_R, D]
    g_KV: Array | None  # [d_c]
    W_KV: Array  # [H, d_h + d_v, d_c]
    W_O: Array  # [D, H d_v]

    @property
    def v_dim(self) -> int:
        """d_v, width of a head's values."""
        return int(self.W_O.shape[1] // self.W_KV.shape[0])

    @property
    def nope_dim(self) -> int:
        """d_h, width of a head's keys without position."""
        return int(self.W_KV.shape[1]) - self.v_dim

    @property
    def W_UQ(self) -> Array:
        """[H, d_h, d_c']."""
        return self.W_Q[:, : self.nope_dim]

    @property
    def W_QR(self) -> Array:
        """[H, d_R, d_c']."""
        return self.W_Q[:, self.nope_dim :]

    @property
    def W_UK(self) -> Array:
        """[H, d_h, d_c]."""
        return self.W_KV[:, : self.nope_dim]

    @property
    def W_UV(self) -> Array:
        """[H, d_v, d_c]."""
        return self.W_KV[:, self.nope_dim :]


class FFNWeights(NamedTuple):
    """A SwiGLU feed-forward network of width M."""

    W_gate_up: Array  # [2 M, D]
    W_down: Array  # [D, M]


class MoEWeights(NamedTuple):
    """Router, routed experts stacked, shared experts as one wider FFN."""

    e: Array  # [E, D] the experts' centroids
    bias: Array | None  # [E] b of eq. 16; no gradient reaches it; None where the choice has none (V2)
    W_gate_up: Array  # [E, 2 M, D]
    W_down: Array  # [E, D, M]
    shared: FFNWeights | None


class LayerWeights(NamedTuple):
    """One Transformer block."""

    g_attn: Array  # [D]
    attention: MLAWeights
    g_ffn: Array  # [D]
    ffn: FFNWeights | MoEWeights


class MTPWeights(NamedTuple):
    """One multi-token prediction module; embedding and head are the main model's."""

    g_e: Array  # [D] norm of the embedding
    g_h: Array  # [D] norm of the state
    M_k: Array  # [D, 2 D]
    block: LayerWeights
    g_k: Array  # [D] norm in front of the shared head


class ModelWeights(NamedTuple):
    """Everything."""

    embedding: Array  # [V, D]
    layers: tuple[LayerWeights, ...]
    g_final: Array  # [D]
    head: Array  # [V, D]
    mtp: tuple[MTPWeights, ...]

    @property
    def in_blocks(self) -> bool:
        """Whether matrices come in blocks of rows; these are arrays."""
        return False


class Parameters(Mapping[str, Array]):
    """Tensors by published name, all of them views of `.buffer`; `.weights` are the same by symbol.

    buffer: [P] flat, float32 or float64; zeros if not given. Gradients, moments and averages use the same
    class.
    """

    def __init__(
        self, config: ModelConfig, buffer: Array | None = None, dtype: DTypeLike = np.float32
    ) -> None:
        shapes = config.tensor_shapes()
        parts: tuple[list[str], list[str], list[str]] = ([], [], [])
        for name, shape in shapes.items():
            parts[2 if name.endswith("correction_bias") else len(shape) == 1].append(name)
        sizes = [sum(math.prod(shapes[name]) for name in part) for part in parts]
        self.config = config
        self.decayed = sizes[0]  # the buffer's first part: matrices
        self.trained = sizes[0] + sizes[1]  # matrices and gains; router biases follow
        self.buffer: Array = np.zeros(sum(sizes), dtype) if buffer is None else buffer
        if self.buffer.shape != (sum(sizes),):
            raise ValueError(f"expected a buffer [{sum(sizes)}], got {self.buffer.shape}")
        self._views: dict[str, Array] = {}
        self._starts: dict[str, int] = {}
        start = 0
        for name in (name for part in parts for name in part):
            size = math.prod(shapes[name])
            self._starts[name] = start
            self._views[name] = self.buffer[start : start + size].reshape(shapes[name])
            start += size
        self.weights = _model_weights(self)

    @classmethod
    def initialise(cls, config: ModelConfig, rng: np.random.Generator) -> Self:
        """Matrices normal with std `initializer_range` (report section 4.2), gains one, biases zero."""
        self = cls(config)
        rng.standard_normal(out=self.buffer[: self.decayed], dtype=np.float32)
        self.buffer[: self.decayed] *= config.initializer_range
        self.buffer[self.decayed : self.trained] = 1
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """For `copy` and `pickle`: the views are made anew, of the copied buffer."""
        return type(self), (self.config, self.buffer)

    def like(self, dtype: DTypeLike | None = None) -> "Parameters":
        """The same layout, all zeros."""
        return Parameters(self.config, dtype=self.buffer.dtype if dtype is None else dtype)

    def astype(self, dtype: DTypeLike) -> "Parameters":
        """The same values in another dtype; itself if the dtype is the same."""
        if self.buffer.dtype == np.dtype(dtype):
            return self
        return Parameters(self.config, self.buffer.astype(dtype))

    def span(self, first: str, last: str) -> Array:
        """The flat stretch from tensor `first` to tensor `last`."""
        return self.buffer[self._starts[first] : self._starts[last] + self._views[last].size]

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


def _model_weights(p: Parameters) -> ModelWeights:
    n = p.config.n_layers
    return ModelWeights(
        embedding=p["model.embed_tokens.weight"],
        layers=tuple(_layer_weights(p, i) for i in range(n)),
        g_final=p["model.norm.weight"],
        head=p["lm_head.weight"],
        mtp=tuple(_mtp_weights(p, i) for i in range(n, n + p.config.n_mtp_layers)),
    )


def _mtp_weights(p: Parameters, layer: int) -> MTPWeights:
    at = f"model.layers.{layer}."
    return MTPWeights(
        g_e=p[f"{at}enorm.weight"],
        g_h=p[f"{at}hnorm.weight"],
        M_k=p[f"{at}eh_proj.weight"],
        block=_layer_weights(p, layer),
        g_k=p[f"{at}shared_head.norm.weight"],
    )


def _layer_weights(p: Parameters, layer: int) -> LayerWeights:
    at = f"model.layers.{layer}."
    return LayerWeights(
        g_attn=p[f"{at}input_layernorm.weight"],
        attention=_mla_weights(p, f"{at}self_attn."),
        g_ffn=p[f"{at}post_attention_layernorm.weight"],
        ffn=_moe_weights(p, f"{at}mlp.") if p.config.is_moe(layer) else _ffn_weights(p, f"{at}mlp."),
    )


def _mla_weights(p: Parameters, at: str) -> MLAWeights:
    c = p.config
    latent = c.q_lora_rank > 0
    W_Q = p[f"{at}q_b_proj.weight" if latent else f"{at}q_proj.weight"]
    down = p[f"{at}kv_a_proj_with_mqa.weight"]  # [d_c + d_R, D]
    return MLAWeights(
        W_DQ=p[f"{at}q_a_proj.weight"] if latent else None,
        g_Q=p[f"{at}q_a_layernorm.weight"] if latent else None,
        W_Q=W_Q.reshape(c.n_heads, c.qk_head_dim, -1),
        W_DKV=down[: c.kv_lora_rank],
        W_KR=down[c.kv_lora_rank :],
        g_KV=p[f"{at}kv_a_layernorm.weight"],
        W_KV=p[f"{at}kv_b_proj.weight"].reshape(c.n_heads, c.qk_nope_head_dim + c.v_head_dim, -1),
        W_O=p[f"{at}o_proj.weight"],
    )


def _ffn_weights(p: Parameters, at: str) -> FFNWeights:
    both = p.span(f"{at}gate_proj.weight", f"{at}up_proj.weight").reshape(-1, p.config.dim)
    return FFNWeights(both, p[f"{at}down_proj.weight"])


def _moe_weights(p: Parameters, at: str) -> MoEWeights:
    E, M, D = p.config.n_routed_experts, p.config.moe_inter_dim, p.config.dim
    stack = p.span(f"{at}experts.0.gate_proj.weight", f"{at}experts.{E - 1}.down_proj.weight").reshape(
        E, 3 * M * D
    )
    return MoEWeights(
        e=p[f"{at}gate.weight"],
        bias=p[f"{at}gate.e_score_correction_bias"] if p.config.has_router_bias else None,
        W_gate_up=stack[:, : 2 * M * D].reshape(E, 2 * M, D),
        W_down=stack[:, 2 * M * D :].reshape(E, D, M),
        shared=_ffn_weights(p, f"{at}shared_experts.") if p.config.n_shared_experts else None,
    )


def product_weights(w: ModelWeights) -> Iterator[tuple[str, Array]]:
    """The weights of every product that the model computes, as its calls have them, and the op's id."""
    yield "head.logits", w.head
    for layer in (*w.layers, *(module.block for module in w.mtp)):
        a = layer.attention
        flat_Q, flat_KV = (W.reshape(-1, W.shape[-1]) for W in (a.W_Q, a.W_KV))
        if a.W_DQ is None:
            yield "mla.q_full", flat_Q
        else:
            yield from (("mla.q_down", a.W_DQ), ("mla.q_up", flat_Q))
        yield from (
            ("mla.kv_down", a.W_DKV),
            ("mla.k_rope_down", a.W_KR),
            ("mla.kv_up", flat_KV),
            ("mla.out", a.W_O),
        )
        if isinstance(layer.ffn, MoEWeights):
            yield from (("experts.gate_up", layer.ffn.W_gate_up), ("experts.down", layer.ffn.W_down))
        dense = layer.ffn.shared if isinstance(layer.ffn, MoEWeights) else layer.ffn
        if dense is not None:
            yield from (("dense.gate_up", dense.W_gate_up), ("dense.down", dense.W_down))
    for module in w.mtp:
        yield "mtp.join", module.M_k
