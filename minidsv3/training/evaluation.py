"""Bits per byte on text the model has not seen, beside what compressors make of the same files.

A document is read in windows of T tokens that overlap by half, so that every token but the first ones is
predicted from at least T/2 tokens of its own document; each token is counted once. Bits per byte is the sum
of
-log2 p over the tokens, divided by the bytes of the text: it does not depend on the tokenizer.

An MTP depth k predicts token i + k + 1 from position i and the true tokens up to i + k; its bits are those of
the tokens it has a prediction for, scaled to all tokens.

Does: bits per byte of each head, expert loads, gzip and xz of the same files one by one. Does not: judge.

    >>> windows(10, 4)
    [(0, 4, 0), (2, 6, 4), (4, 8, 6), (6, 10, 8)]

Next: minidsv3.training.preparation
"""

import gzip
import lzma
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minidsv3.machine import Machine
from minidsv3.machine.parallel import run_shards, workers
from minidsv3.model.parameters import Parameters
from minidsv3.model.transformer import LossOptions, expert_loads, loss_forward
from minidsv3.training.gradients import shares

__all__ = ["Evaluation", "compressed_bits_per_byte", "evaluate", "windows"]

BATCH = 8  # windows evaluated together


@dataclass(frozen=True)
class Evaluation:
    """Held-out bits per byte: the main head's, then each MTP depth's."""

    bits_per_byte: list[float]
    tokens: int
    text_bytes: int
    loads: NDArray[np.int64]  # [MoE layers, E] tokens each expert got


def windows(length: int, T: int) -> list[tuple[int, int, int]]:
    """(start, stop, first counted target) of overlapping windows over targets 0 .. length."""
    if length <= T:
        return [(0, length, 0)]
    starts = [*range(0, length - T, max(T // 2, 1)), length - T]
    stops = [0] + [start + T for start in starts]
    return [(start, start + T, counted) for start, counted in zip(starts, stops, strict=False)]


def evaluate(
    parameters: Parameters,
    documents: Sequence[NDArray[np.int32]],
    text_bytes: int,
    T: int,
    make: Callable[[], Machine] = Machine,
) -> Evaluation:
    """documents: token ids of each, with the end-of-sequence token in front of the text.  make: a machine."""
    jobs = [(d, w) for d, ids in enumerate(documents) for w in windows(len(ids) - 1, T)]
    full = [job for job in jobs if job[1][1] - job[1][0] == T]
    odd = [[job] for job in jobs if job[1][1] - job[1][0] != T]
    groups = [full[i : i + BATCH] for i in range(0, len(full), BATCH)] + odd
    parts = shares(len(groups), workers())

    def shard(i: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]]:
        return [_evaluate_group(make(), parameters, documents, group) for group in groups[parts[i]]]

    results = [result for part in run_shards(shard, len(parts), len(parts)) for result in part]
    bits, counts, loads = zip(*results, strict=True)
    tokens = sum(len(ids) - 1 for ids in documents)
    mean = np.sum(bits, axis=0) / np.maximum(np.sum(counts, axis=0), 1)  # [1 + D] bits a token
    return Evaluation((mean * tokens / text_bytes).tolist(), tokens, text_bytes, np.sum(loads, axis=0))


def _evaluate_group(
    machine: Machine,
    parameters: Parameters,
    documents: Sequence[NDArray[np.int32]],
    group: list[tuple[int, tuple[int, int, int]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Bits and counted tokens of each head over some windows of one length.  -> [1 + D], [1 + D], loads."""
    rows = np.stack([documents[d][start : stop + 1] for d, (start, stop, _) in group]).astype(
        np.intp
    )  # [B, T + 1]
    skip = np.array([counted - start for _, (start, _, counted) in group])  # [B] targets counted before
    B, T = rows.shape[0], rows.shape[1] - 1
    depths = parameters.config.n_mtp_layers if parameters.config.n_mtp_layers < T else 0
    with np.errstate(over="ignore"):
        _, saved = loss_forward(machine, parameters, rows, LossOptions(mtp_weight=float(depths > 0)))
    bits, counts = np.zeros(1 + parameters.config.n_mtp_layers), np.zeros(1 + parameters.config.n_mtp_layers)
    for k, head in enumerate(saved.heads):
        p = head.p[np.arange(len(head.targets)), head.targets].reshape(B, T - k)  # [B, T - k]
        counted = np.arange(k, T) >= skip[:, None]  # target j is predicted by depth k if j >= k
        bits[k] = -np.log2(np.maximum(p[counted], 1e-30), dtype=np.float64).sum()
        counts[k] = counted.sum()
    idle = parameters.config.n_mtp_layers - depths  # modules that a window too short for them did not run
    return bits, counts, np.pad(expert_loads(saved), ((0, idle), (0, 0)))  # [MoE layers, E]


def compressed_bits_per_byte(texts: Sequence[bytes]) -> dict[str, float]:
    """Bits per byte of `gzip -9` and `xz -9`, each file compressed by itself."""
    total = max(sum(map(len, texts)), 1)
    packed = {
        "gzip -9": sum(len(gzip.compress(text, 9)) for text in texts),
        "xz -9": sum(len(lzma.compress(text, preset=9)) for text in texts),
    }
    return {name: 8 * size / total for name, size in packed.items()}
