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

import numpy as np
from numpy.typing import NDArray

from minidsv3.config import TrainConfig
from minidsv3.machine import Machine
from minidsv3.machine.parallel import run_shards, workers
from minidsv3.model.parameters import MoEWeights, Parameters
from minidsv3.training.gradients import shares

AVERAGE_BLOCK = 1 << 15  # elements that stay in the cache

__all__ = ["Optimizer", "max_violation", "move_bias", "move_biases"]


class Optimizer:
    """AdamW's two moments and the average, each laid out like the parameters."""

    def __init__(self, parameters: Parameters, config: TrainConfig) -> None:
        self.parameters, self.config = parameters, config
        self.m, self.v = parameters.like(), parameters.like()
        self.average = Parameters(parameters.config, parameters.buffer.copy())

    def norm(self, gradients: Parameters) -> float:
        """Norm of the whole gradient."""
        parts = shares(gradients.trained, workers())

        def square(i: int) -> float:
            stretch = gradients.buffer[parts[i]]
            with np.errstate(over="ignore", invalid="ignore"):  # the trainer looks whether the norm is finite
                return float(np.dot(stretch, stretch))

        return float(np.sqrt(sum(run_shards(square, len(parts), len(parts)))))

    def step(
        self, gradients: Parameters, norm: float, number: int, rate: float, machine: Machine | None = None
    ) -> None:
        """Step `number` (from 1) of AdamW at a learning rate, then the average.

        norm: of the gradient, which is scaled to at most `clip_norm` on the way.
        """
        p, split = self.parameters, self.parameters.decayed
        parts = shares(p.trained, 1 if machine else workers())
        own, clip = machine or Machine(), min(1.0, self.config.clip_norm / max(norm, 1e-30))

        def shard(i: int) -> None:
            for first, last, decay in ((0, split, self.config.weight_decay), (split, p.trained, 0.0)):
                here = slice(max(first, parts[i].start), min(last, parts[i].stop))
                if here.start < here.stop:
                    self._adamw(own, gradients, here, number, rate, decay, clip)
            self._move_average(parts[i], number)

        run_shards(shard, len(parts), len(parts))
        self._move_average(
            slice(p.trained, p.buffer.size), number
        )  # the biases have no gradient but an average

    def _adamw(
        self,
        machine: Machine,
        gradients: Parameters,
        here: slice,
        number: int,
        rate: float,
        decay: float,
        clip: float,
    ) -> None:
        c = self.config
        w, g, m, v = (p.buffer[here] for p in (self.parameters, gradients, self.m, self.v))
        machine.adamw(w, g, m, v, rate, c.beta1, c.beta2, c.eps, decay, number, clip, at="update.adamw")

    def _move_average(self, here: slice, number: int) -> None:
        """average += (1 - decay) (w - average); early steps forget faster, lest the first values stay."""
        part = np.float32(1 - min(self.config.ema_decay, number / (number + 10)))
        for start in range(here.start, here.stop, AVERAGE_BLOCK):
            block = slice(start, min(start + AVERAGE_BLOCK, here.stop))
            step = self.parameters.buffer[block] - self.average.buffer[block]
            step *= part
            self.average.buffer[block] += step


def move_bias(bias: NDArray[np.float32], load: NDArray[np.int64], speed: float) -> None:
    """The sign rule, in place.  bias, load: [E]."""
    bias += bias.dtype.type(speed) * np.sign(load.mean() - load).astype(bias.dtype)


def move_biases(parameters: Parameters, loads: NDArray[np.int64], speed: float) -> None:
    """The sign rule on every MoE layer that has a row in loads [MoE layers, E]; MTP modules come last."""
    w = parameters.weights
    blocks = [*w.layers, *(module.block for module in w.mtp)]
    moe = [block.ffn for block in blocks if isinstance(block.ffn, MoEWeights)]
    for ffn, load in zip(moe, loads, strict=False):
        move_bias(ffn.bias, load, speed)


def max_violation(loads: NDArray[np.int64]) -> NDArray[np.float64]:
    """MaxVio of each layer: largest load over the mean load, minus one.  [layers, E] -> [layers]."""
    loads = np.atleast_2d(loads)
    return np.asarray(loads.max(axis=1) / np.maximum(loads.mean(axis=1), 1e-9) - 1)
