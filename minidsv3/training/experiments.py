"""Experiments on a model's own numbers: its activations in other codecs, its gradients in other formats.

What combine sends is the weighted output of each expert (`experts.down`), a residual branch; the paper on
DeepSeek-V3's hardware imitates LogFMT by rounding those. For gradients a policy rounds what enters each
linear's backward, once, for Dgrad and Wgrad alike: E4M3 against E5M2, and 1 x b tiles against b x b blocks,
which V3's report found to make a 16B model diverge (appendix B.2). Embedding, head and gate stay as they are.

Does: run forward and backward, compare. Does not: train with the rounding (`run --compare` does).

    >>> from minidsv3.config import ModelConfig
    >>> config = ModelConfig.preset("nano", n_layers=2, n_mtp_layers=0)
    >>> parameters = Parameters.initialise(config, np.random.default_rng(0))
    >>> ids = np.arange(18, dtype=np.intp).reshape(2, 9)
    >>> {op: x.shape for op, x in activations(parameters, ids, ["mla.out", "dense.down"]).items()}
    {'mla.out': (32, 128), 'dense.down': (16, 128)}

Next: minidsv3.interpreter
"""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.config import near
from minidsv3.machine import Machine, Policy, catalogue
from minidsv3.model.parameters import Parameters
from minidsv3.model.transformer import LossOptions, loss_forward
from minidsv3.numerics.formats import BF16, E4M3, E5M2
from minidsv3.numerics.scaling import tile_round
from minidsv3.numerics.tile_errors import CODECS, Codec, TileError, codec_errors, tile_error
from minidsv3.training.gradients import accumulate

__all__ = [
    "BRANCHES",
    "CodecRow",
    "GradientRow",
    "activation_codecs",
    "activations",
    "gradient_errors",
    "gradient_ways",
    "linear_gradients",
]

Values = NDArray[np.float32]
BRANCHES = (
    "experts.down",
    "shared.down",
    "dense.down",
    "mla.out",
    "experts.swiglu",
    "mla.kv_norm",
    "ffn.norm",
)
"""What combine sends, the other residual branches, a Linear's inputs, the cached latent."""
BACKWARDS = ("linear_backward", "grouped_linear_backward")
KEPT_HIGH = ("head.*", "gate.*")  # linears whose gradients V3 leaves alone
LOSS = LossOptions(mtp_weight=0.3, balance_weight=1e-4)


# ---- activations ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CodecRow:
    """Every codec's error on what one op wrote, in all layers and experts."""

    op: str
    shape: tuple[int, int]
    errors: Mapping[str, TileError]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        errors = {name: error.to_dict() for name, error in self.errors.items()}
        return {"op": self.op, "shape": list(self.shape), "errors": errors}


def activations(parameters: Parameters, ids: NDArray[np.intp], patterns: Sequence[str]) -> dict[str, Values]:
    """What ops wrote in a forward pass, the rows of all layers and experts under each other: op -> [R, C].

    ids: [B, T + 1], the last column only targets. In the order of the patterns. An op that wrote rows of
    several widths, as attention scores are, has an entry for each, `mla.scores [64]`. ValueError for a
    pattern that fits no op that ran.
    """
    machine = Machine(trace=True, keep=patterns)
    with np.errstate(over="ignore"):
        loss_forward(machine, parameters, ids, LOSS)
    found: dict[str, dict[int, list[Values]]] = {}
    for row in machine.trace:
        if row.value is not None and row.value.dtype == np.float32 and row.value.ndim:
            width = row.value.shape[-1]
            found.setdefault(row.op, {}).setdefault(width, []).append(row.value.reshape(-1, width))
    named: dict[str, Values] = {}
    for pattern in patterns:
        ops = fnmatch.filter(found, pattern)
        if not ops:
            known = near(pattern, sorted({row.op for row in machine.trace}))
            raise ValueError(f"expected ops of a forward pass, got none that match {pattern!r}: {known}")
        for op in ops:
            for width, values in found[op].items():
                named[op if len(found[op]) == 1 else f"{op} [{width}]"] = np.concatenate(values)
    return named


def activation_codecs(
    parameters: Parameters,
    ids: NDArray[np.intp],
    patterns: Sequence[str] = BRANCHES,
    codecs: Mapping[str, Codec] = CODECS,
) -> list[CodecRow]:
    """The codecs on each op's activations, in the order of the patterns."""
    found = activations(parameters, ids, patterns)
    return [CodecRow(op, (len(x), x.shape[1]), codec_errors(x, codecs)) for op, x in found.items()]


# ---- gradients --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GradientRow:
    """One way to keep the gradients that enter the linears' backward."""

    way: str
    by_op: Mapping[str, TileError]  # of the gradients themselves
    gradient: float  # relative error of the whole parameter gradient, | g' - g | / | g |
    worst_tensor: float  # the same of the tensor that suffers most
    worst_name: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def gradient_ways(width: int) -> dict[str, Codec]:
    """Formats and groupings by name.  width: b of the tiles, the model's `fp8_block`."""
    tile, block = (1, width), (width, width)
    return {
        f"E4M3 {tile[0]}x{width}": lambda d: tile_round(d, tile, E4M3, amax_floor=0.0),
        f"E5M2 {tile[0]}x{width}": lambda d: tile_round(d, tile, E5M2, amax_floor=0.0),
        f"E4M3 {width}x{width}": lambda d: tile_round(d, block, E4M3, amax_floor=0.0),
        f"E5M2 {width}x{width}": lambda d: tile_round(d, block, E5M2, amax_floor=0.0),
        "E4M3 one scale": lambda d: tile_round(d, d.shape, E4M3, amax_floor=0.0),
        "E4M3 no scale": E4M3.round,
        "E5M2 no scale": E5M2.round,
        "BF16": BF16.round,
    }


def _rounded(codec: Codec) -> Policy:
    """A policy that puts a codec in front of every linear's backward."""

    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if name not in BACKWARDS:
            return function

        def rounded(d_y: Values, *rest: Any, at: str = "", **options: Any) -> Any:
            if not _kept(at):
                parts = _parts(name, d_y, rest)
                d_y = np.concatenate([codec(np.ascontiguousarray(part)) for part in parts])
            return function(d_y, *rest, at=at, **options)

        return rounded

    return wrap


def _parts(name: str, d_y: Values, rest: tuple[Any, ...]) -> list[Values]:
    """The gradient of each product: all rows, or those of each expert that has any."""
    if name == "linear_backward":
        return [d_y]
    *_, bounds = rest  # x, W, bounds
    return [d_y[first:last] for first, last in pairwise(bounds) if first < last]


def _kept(op: str) -> bool:
    return any(fnmatch.fnmatchcase(op, pattern) for pattern in KEPT_HIGH)


def linear_gradients(parameters: Parameters, ids: NDArray[np.intp]) -> tuple[dict[str, Values], Values]:
    """Gradients entering each linear's backward, op -> [R, C]; and the gradient of all parameters [P].

    ids: [B, T + 1].
    """
    found: dict[str, list[Values]] = {}

    def keep(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if name not in BACKWARDS:
            return function

        def kept(d_y: Values, *rest: Any, at: str = "", **options: Any) -> Any:
            if not _kept(at):
                found.setdefault(at, []).extend(part.copy() for part in _parts(name, d_y, rest))
            return function(d_y, *rest, at=at, **options)

        return kept

    gradient = parameters.like()
    accumulate(parameters, ids, LOSS, gradient, Machine(policy=keep))
    return {op: np.concatenate(values) for op, values in found.items()}, gradient.buffer


def gradient_errors(parameters: Parameters, ids: NDArray[np.intp], width: int) -> list[GradientRow]:
    """Every way, on the same batch.  ids: [B, T + 1]."""
    entering, exact = linear_gradients(parameters, ids)
    order = [op for op in catalogue() if op in entering]
    rows = []
    for way, codec in gradient_ways(width).items():
        by_op = {op: tile_error(entering[op], codec(entering[op]), width) for op in order}
        gradient = parameters.like()
        make = lambda codec=codec: Machine(policy=_rounded(codec))  # noqa: E731
        accumulate(parameters, ids, LOSS, gradient, make=make)
        worst, name = _worst_tensor(gradient, exact)
        rows.append(GradientRow(way, by_op, _relative(gradient.buffer, exact), worst, name))
    return rows


def _relative(got: Values, exact: Values) -> float:
    return float(np.linalg.norm(got - exact) / max(float(np.linalg.norm(exact)), 1e-30))


def _worst_tensor(gradient: Parameters, exact: Values) -> tuple[float, str]:
    """The largest relative error of one tensor, and the tensor's name."""
    reference = gradient.like()
    reference.buffer[...] = exact
    errors = {
        name: _relative(view, reference[name]) for name, view in gradient.items() if reference[name].any()
    }
    worst = max(errors, key=lambda name: errors[name])
    return errors[worst], worst
