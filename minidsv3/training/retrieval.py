"""Needle in a haystack: how often a model finds one fact, by the length of its context and the fact's depth.

Each cell of the map is the share of haystacks of one length, with the needle at one depth, whose right
answer the model ranks first. Haystack number i of a cell is drawn from (seed, length, i), so that a map is a
function of the model and of what is asked for, and models are asked the same.

Does: run the haystacks in batches, on all cores; only the last position meets the head. Does not: draw
(`minidsv3.show.needle`), train.

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.corpus.needle import WORDS
    >>> config = ModelConfig.preset("needle", vocab_size=len(WORDS))
    >>> untrained = Parameters.initialise(config, np.random.default_rng(0))
    >>> ids = np.arange(len(WORDS), dtype=np.int32)
    >>> retrieval(untrained, ids, [36], [0.0, 1.0], samples=4).shape
    (1, 2)

Next: minidsv3.training.experiments
"""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from minidsv3.corpus.needle import haystack
from minidsv3.machine import Machine
from minidsv3.machine.parallel import run_shards, workers
from minidsv3.model.block import Options
from minidsv3.model.parameters import Parameters
from minidsv3.model.transformer import main_states
from minidsv3.training.gradients import shares

__all__ = ["DISTRACTORS", "retrieval"]

DISTRACTORS = 3  # other needles in a haystack
TOGETHER = 4096  # tokens run together


def retrieval(
    parameters: Parameters,
    word_ids: NDArray[np.int32],
    lengths: Sequence[int],
    depths: Sequence[float],
    samples: int = 32,
    distractors: int = DISTRACTORS,
    seed: int = 0,
    progress: Callable[[int], None] = lambda haystacks: None,
) -> NDArray[np.float64]:
    """Share of right answers.  word_ids: [words] token of each word of the haystacks; -> [lengths, depths]

    progress: told how many haystacks are done.
    """
    most = parameters.config.max_seq_len
    if not lengths or max(lengths) > most:
        raise ValueError(f"expected lengths up to the model's {most}, got {list(lengths)}")
    jobs = _jobs(lengths, depths, samples)
    parts, right = shares(len(jobs), workers()), np.zeros((len(lengths), len(depths)), np.int64)

    def shard(i: int) -> list[tuple[int, int, int]]:
        found = []
        for row, column, first, count in jobs[parts[i]]:
            rngs = [np.random.default_rng((seed, lengths[row], first + k)) for k in range(count)]
            stacks = [haystack(lengths[row], depths[column], rng, distractors) for rng in rngs]
            words = np.stack([stack.words for stack in stacks])  # [B, T]
            said = _next(parameters, word_ids[words].astype(np.intp))  # [B]
            answers = word_ids[[stack.answer for stack in stacks]]  # [B]
            found.append((row, column, int((said == answers).sum())))
            progress(count)
        return found

    for part in run_shards(shard, len(parts), len(parts)):
        for row, column, count in part:
            right[row, column] += count
    return right / samples


def _next(parameters: Parameters, ids: NDArray[np.intp]) -> NDArray[np.intp]:
    """The token that the model ranks first behind each row.  ids: [B, T] -> [B]"""
    machine = Machine()
    with np.errstate(over="ignore"):
        states = main_states(machine, parameters.weights, ids, parameters.config, Options(), keep=False)
        last = np.ascontiguousarray(states.h.reshape(*ids.shape, -1)[:, -1])  # [B, D]
        logits = machine.linear(last, parameters.weights.head, at="head.logits")  # [B, V]
    first: NDArray[np.intp] = logits.argmax(axis=1)
    return first


def _jobs(lengths: Sequence[int], depths: Sequence[float], samples: int) -> list[tuple[int, int, int, int]]:
    """Batches of one cell each: (row, column, number of the first haystack, how many), dear ones spread."""
    jobs = []
    for row, column in product(range(len(lengths)), range(len(depths))):
        size = max(1, min(samples, TOGETHER // lengths[row]))
        jobs += [(row, column, first, min(size, samples - first)) for first in range(0, samples, size)]
    return [job for shard in range(workers()) for job in jobs[shard :: workers()]]
