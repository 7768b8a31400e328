"""Extending a model's context: YaRN, then short phases of training at growing length (section 4.3).

The model gets YaRN's constants with the length it was trained at and room for `factor` times that. Each
phase is a run of its own that starts from the averaged weights of the one before, at the rate at which
pre-training ended, constant; gamma and lambda stay where they ended too. The optimiser's moments start
anew (ours): a published model has none, and old ones belong to another length.

`bits_by_position` says what longer context is worth: held-out text in windows of the new length, joined as
training packs it, and the bits per byte of what stands at each stretch of positions.

Does: configs, plans, the measure. Does not: train (`Trainer` does), choose the recipe (`ExtensionConfig`).

    >>> from minidsv3.config import ExtensionConfig, ModelConfig, TrainConfig
    >>> recipe = ExtensionConfig.preset("v3")
    >>> short = ModelConfig.preset("v3", rope_scaling=None, max_seq_len=4096)
    >>> extended_config(short, recipe, 4096) == ModelConfig.preset("v3")
    True
    >>> [phase_plan(TrainConfig.v3(), recipe, i).learning_rate for i in range(2)]
    [7.3e-06, 7.3e-06]

Next: minidsv3.training.retrieval
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from minidsv3.config import ExtensionConfig, ModelConfig, TrainConfig
from minidsv3.machine import Machine
from minidsv3.machine.parallel import run_shards, workers
from minidsv3.model.parameters import Parameters
from minidsv3.model.transformer import all_logits
from minidsv3.tokenizer import Tokenizer
from minidsv3.training.gradients import shares

__all__ = ["Positions", "bits_by_position", "extended_config", "phase_plan", "token_sizes", "under"]

MOST_TOKENS = 65_536  # of held-out text that are evaluated
MOST_LOGITS = 1 << 24  # computed together


def extended_config(config: ModelConfig, recipe: ExtensionConfig, seq_len: int) -> ModelConfig:
    """The config with YaRN; ValueError if it has YaRN already.  seq_len: the length it was trained at."""
    if config.rope_scaling is not None:
        factor = config.rope_scaling.factor
        raise ValueError(f"expected a model without YaRN, got one that is extended already, by {factor:g}")
    recipe.check_room(seq_len)
    scaling = recipe.rope_scaling(seq_len)
    return replace(config, rope_scaling=scaling, max_seq_len=int(recipe.factor * seq_len))


def phase_plan(plan: TrainConfig, recipe: ExtensionConfig, number: int) -> TrainConfig:
    """The plan of phase `number`, from 0: every schedule stands where that of `plan` ended."""
    phase = recipe.phases[number]
    rate = plan.last_rate if recipe.learning_rate is None else recipe.learning_rate
    return replace(
        plan,
        steps=phase.steps,
        seq_len=phase.seq_len,
        batch_sequences=phase.batch_sequences,
        ramp_start_sequences=phase.batch_sequences,
        ramp_steps=0,
        learning_rate=rate,
        final_rate=rate,
        last_rate=rate,
        constant_until=1.0,
        warmup_steps=min(recipe.warmup_steps, phase.steps),
        bias_speed=plan.bias_speed if plan.bias_until >= 1 else 0.0,
        mtp_weight=plan.mtp_weight_late if plan.mtp_until < 1 else plan.mtp_weight,
    )


def under(parameters: Parameters, config: ModelConfig) -> Parameters:
    """The same weights, not copied, under a config that differs in lengths and rotations alone."""
    return Parameters(config, parameters.buffer)


@dataclass(frozen=True)
class Positions:
    """Bits of what stands at stretches of positions, and its bytes.  edges: [n + 1], bits and sizes: [n]."""

    edges: list[int]
    bits: list[float]
    sizes: list[int]

    @property
    def bits_per_byte(self) -> list[float]:
        """Of each stretch."""
        return [bits / max(size, 1) for bits, size in zip(self.bits, self.sizes, strict=True)]

    @property
    def overall(self) -> float:
        """Of all positions."""
        return sum(self.bits) / max(sum(self.sizes), 1)


def token_sizes(tokenizer: Tokenizer, vocab_size: int) -> NDArray[np.int64]:
    """Bytes that each token stands for; none for markers, and for ids beyond the tokenizer's.  -> [V]"""
    sizes = np.zeros(vocab_size, np.int64)
    spelled = [len(data) for data in tokenizer.vocabulary.token_bytes()]
    sizes[: len(spelled)] = spelled
    sizes[[token.id for token in tokenizer.vocabulary.added]] = 0
    return sizes


def bits_by_position(
    parameters: Parameters,
    stream: NDArray[np.int32],
    sizes: NDArray[np.int64],
    T: int,
    width: int,
    progress: Callable[[int], None] = lambda windows: None,
) -> Positions:
    """What the main head pays at positions 0 .. width, width .. 2 width, … of windows of T tokens.

    stream: [S] held-out ids, documents behind each other, S > T; sizes: [V] bytes that each token stands for.
    The last stretch may be shorter. progress: told how many windows are done.
    """
    count = min((len(stream) - 1) // T, max(MOST_TOKENS // T, 1))
    if count < 1:
        raise ValueError(f"expected at least {T + 1} tokens of held-out text, got {len(stream)}")
    at = np.arange(count)[:, None] * T + np.arange(T + 1)  # [N, T + 1]
    rows = stream[at].astype(np.intp)  # [N, T + 1]
    together = max(1, MOST_LOGITS // (T * parameters.config.vocab_size))
    groups = [rows[i : i + together] for i in range(0, count, together)]
    parts, bits = shares(len(groups), workers()), np.zeros((len(groups), T))

    def shard(i: int) -> None:
        for g in range(parts[i].start, parts[i].stop):
            bits[g] = _bits(parameters, groups[g])
            progress(len(groups[g]))

    run_shards(shard, len(parts), len(parts))
    starts = np.arange(0, T, width)
    size = np.add.reduceat(sizes[rows[:, 1:]].sum(axis=0), starts)  # [n]
    sums = np.add.reduceat(bits.sum(axis=0), starts)  # [n]
    return Positions([*starts.tolist(), T], sums.tolist(), size.tolist())


def _bits(parameters: Parameters, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Bits of the targets at each position, summed over the rows.  rows: [B, T + 1] -> [T]"""
    with np.errstate(over="ignore"):
        (logits,) = all_logits(Machine(), parameters, rows[:, :-1])  # [B, T, V]
    target = np.take_along_axis(logits, rows[:, 1:, None], axis=2)[..., 0]  # [B, T]
    most = logits.max(axis=2)  # [B, T]
    logits -= most[..., None]
    total = np.log(np.exp(logits, out=logits).sum(axis=2, dtype=np.float64)) + most  # [B, T]
    bits: NDArray[np.float64] = ((total - target) / np.log(2)).sum(axis=0)  # [T]
    return bits
