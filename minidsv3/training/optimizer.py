"""AdamW, clipping and the moving average, as passes over flat buffers; the router's bias by the sign rule.

One step: scale the gradient so that its norm is at most `clip_norm`; AdamW with decay on the matrices and
none on the norms' gains (which tensors decay is not published: ours); an exponential moving average of the
parameters beside them. The router's bias moves by gamma x sign(mean load - load) (section 2.1.2, arXiv
2408.15664): up for an expert with too few tokens, down for one with too many.

Does: updates in place. Does not: schedules, gradients.

    >>> bias = np.zeros(3, "f")
    >>> move_bias(bias, np.array([9, 1, 5]), 0.5)
    >>> bias.tolist()
    [-0.5, 0.5, 0.0]

Next: minidsv3.training.trainer
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from minidsv3.config import TrainConfig
from minidsv3.machine import Machine
from minidsv3.machine.parallel import run_shards, workers
from minidsv3.model.parameters import MoEWeights, Parameters
from minidsv3.training.gradients import shares

CACHED = 1 << 19  # elements of a block; in smaller ones the threads wait for each other

__all__ = ["Optimizer", "max_violation", "move_bias", "move_biases"]


class Optimizer:
    """AdamW's two moments and the average, each laid out like the parameters.

    With `ema_decay` 0 there is no average: `.average` is the parameters themselves.
    """

    def __init__(self, parameters: Parameters, config: TrainConfig) -> None:
        self.parameters, self.config = parameters, config
        self.m, self.v = parameters.like(), parameters.like()
        averaging = config.ema_decay > 0
        self.average = Parameters(parameters.config, parameters.buffer.copy()) if averaging else parameters

    def norm(self, gradients: Parameters) -> float:
        """Norm of the whole gradient."""
        parts = shares(gradients.trained, workers())

        def square(i: int) -> float:
            stretch = gradients.buffer[parts[i]]
            with np.errstate(over="ignore", invalid="ignore"):  # the trainer looks whether the norm is finite
                return float(np.dot(stretch, stretch))

        return float(np.sqrt(sum(run_shards(square, len(parts), len(parts)))))

    def step(
        self,
        gradients: Parameters,
        norm: float,
        number: int,
        rate: float,
        machine: Machine | None = None,
        make: Callable[[], Machine] = Machine,
    ) -> None:
        """Step `number` (from 1) of AdamW at a learning rate, then the average.

        norm: of the gradient, which is scaled to at most `clip_norm` on the way.
        machine: one of the caller's, which may trace, takes the buffer whole; if there is none, `make` makes
        one, whose precision says how the moments are stored.
        """
        p, own = self.parameters, machine or make()
        clip = min(1.0, self.config.clip_norm / max(norm, 1e-30))
        parts = shares(p.buffer.size, 1 if machine else workers())

        def shard(i: int) -> None:
            size = p.buffer.size if machine else CACHED
            for start in range(parts[i].start, parts[i].stop, size):
                block = slice(start, min(start + size, parts[i].stop))
                self._step_block(own, gradients, block, number, rate, clip)

        run_shards(shard, len(parts), len(parts))

    def _step_block(
        self, machine: Machine, gradients: Parameters, block: slice, number: int, rate: float, clip: float
    ) -> None:
        """All that happens to one stretch of the buffer, while it is in the cache."""
        c, p = self.config, self.parameters
        for first, last, decay in ((0, p.decayed, c.weight_decay), (p.decayed, p.trained, 0.0)):
            here = slice(max(first, block.start), min(last, block.stop))
            if here.start < here.stop:
                w, g, m, v = (x.buffer[here] for x in (p, gradients, self.m, self.v))
                machine.adamw(
                    w, g, m, v, rate, c.beta1, c.beta2, c.eps, decay, number, clip, at="update.adamw"
                )
        if self.average is not p:  # biases have no gradient but an average; early steps forget faster
            part = 1 - min(c.ema_decay, number / (number + 10))
            machine.average(self.average.buffer[block], p.buffer[block], part, at="update.average")


def move_bias(bias: NDArray[np.float32], load: NDArray[np.int64], speed: float) -> None:
    """The sign rule, in place.  bias, load: [E]."""
    bias += bias.dtype.type(speed) * np.sign(load.mean() - load).astype(bias.dtype)


def move_biases(parameters: Parameters, loads: NDArray[np.int64], speed: float) -> None:
    """The sign rule on every MoE layer that has a row in loads [MoE layers, E]; MTP modules come last."""
    w = parameters.weights
    blocks = [*w.layers, *(module.block for module in w.mtp)]
    moe = [block.ffn for block in blocks if isinstance(block.ffn, MoEWeights)]
    for ffn, load in zip(moe, loads, strict=False):
        if ffn.bias is not None:  # V2's routers have none
            move_bias(ffn.bias, load, speed)


def max_violation(loads: NDArray[np.int64]) -> NDArray[np.float64]:
    """MaxVio of each layer: largest load over the mean load, minus one.  [layers, E] -> [layers]."""
    loads = np.atleast_2d(loads)
    return np.asarray(loads.max(axis=1) / np.maximum(loads.mean(axis=1), 1e-9) - 1)
