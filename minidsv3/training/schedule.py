"""The schedules of the report's section 4.2, as functions of a run's progress.

Batch: grows over the first steps in equal stairs (V3: 3072 to 15360 sequences, "gradually"; the shape is
ours). Learning rate: linear from 0, flat, cosine, flat, and a last flat stretch. Bias speed gamma: constant,
then 0. MTP weight lambda: 0.3, then 0.1. Progress is the share of the run's tokens consumed before a step.

Does: the numbers of a step. Does not: apply them.

    >>> config = TrainConfig(steps=4, ramp_steps=2, ramp_start_sequences=4, batch_sequences=8, warmup_steps=2)
    >>> plan = Schedule(config)
    >>> plan.sequences.tolist(), plan.consumed.tolist()
    ([4, 8, 8, 8], [0, 4, 12, 20])
    >>> plan.learning_rate(0) * 2 == plan.learning_rate(1)
    True

Next: minidsv3.training.gradients
"""

import math

import numpy as np

from minidsv3.config import TrainConfig

__all__ = ["Schedule"]


class Schedule:
    """What each step of a run does, numbered from 0."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        ramp = np.arange(config.steps) / max(config.ramp_steps - 1, 1)
        first, last = config.ramp_start_sequences, config.batch_sequences
        if config.ramp_steps == 0:
            first = last
        self.sequences = np.round(first + (last - first) * np.minimum(ramp, 1)).astype(np.int64)  # [steps]
        self.consumed = np.cumsum(self.sequences) - self.sequences  # [steps] before each step
        self.total_sequences = int(self.sequences.sum())

    def progress(self, step: int) -> float:
        """Share of the run's tokens consumed before a step."""
        return float(self.consumed[step]) / self.total_sequences

    def learning_rate(self, step: int) -> float:
        """Rate of a step; steps of the warm-up end at the full rate."""
        c, done = self.config, self.progress(step)
        if step < c.warmup_steps:
            return c.learning_rate * (step + 1) / c.warmup_steps
        if done < c.constant_until:
            return c.learning_rate
        if done < c.cosine_until:
            part = (done - c.constant_until) / (c.cosine_until - c.constant_until)
            return c.final_rate + (c.learning_rate - c.final_rate) * 0.5 * (1 + math.cos(math.pi * part))
        return c.final_rate if done < c.last_from else c.last_rate

    def bias_speed(self, step: int) -> float:
        """gamma of the sign rule."""
        return self.config.bias_speed if self.progress(step) < self.config.bias_until else 0.0

    def mtp_weight(self, step: int) -> float:
        """lambda of eq. 25."""
        c = self.config
        return c.mtp_weight if self.progress(step) < c.mtp_until else c.mtp_weight_late
