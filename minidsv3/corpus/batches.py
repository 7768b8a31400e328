"""Batches: windows of the stream, in an order fixed by the seed, at any position at once.

The stream is cut into sequences of T tokens. Window i holds T + 1 + D of them, since position t is trained
on token t + 1 and, with multi-token prediction of depth D, on those up to t + 1 + D; the last 1 + D of a
window are the first of the next. Every epoch goes through all windows once, in an order drawn anew from
(seed, epoch).

So sequence number i, counted from the start of training, is a function of (stream, seed, i) and nothing
else. A position is one integer, the number of sequences consumed; a batch may have any size, also one that
grows while training; and resuming gives the same batches bit for bit. The few tokens after the last whole
window are unused. The order (ours) shuffles windows, not documents; `pack` has shuffled these.

>>> batches = Batches(np.arange(14, dtype=np.int32), length=4, depth=1, seed=0)
>>> batches.sequences(0, 3)
array([[ 8,  9, 10, 11, 12, 13],
       [ 0,  1,  2,  3,  4,  5],
       [ 4,  5,  6,  7,  8,  9]], dtype=int32)
>>> batches.resume(batches.state(consumed=2))
2

Next: minidsv3.checkpoint
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from .fill_in_the_middle import Tokens

_MOST_SEQUENCES = 1 << 62  # numbers of sequences are int64


@dataclass(frozen=True, eq=False)
class Batches:
    """Sequences of `length` tokens and the 1 + `depth` after them, from a packed stream [N]."""

    stream: Tokens
    length: int  # T
    depth: int = 0  # D, of multi-token prediction
    seed: int = 0

    def __post_init__(self) -> None:
        if self.length < 1 or self.depth < 0 or self.seed < 0:
            raise ValueError(
                f"expected length >= 1, depth >= 0, seed >= 0, got {self.length}, {self.depth}, {self.seed}"
            )
        if self.stream.ndim != 1 or self.stream.dtype != np.int32:
            raise ValueError(
                f"expected a stream [N] of int32, got {self.stream.shape} of {self.stream.dtype}"
            )
        if self.stream.size < self.width:
            raise ValueError(
                f"expected at least {self.width} tokens for one sequence "
                f"(T={self.length} + 1 + D={self.depth}), got {self.stream.size}"
            )

    @property
    def width(self) -> int:
        """The tokens of one window, T + 1 + D."""
        return self.length + 1 + self.depth

    @property
    def per_epoch(self) -> int:
        """The number of sequences in one pass over the stream."""
        return (self.stream.size - 1 - self.depth) // self.length

    def sequences(self, start: int, count: int) -> Tokens:
        """Give `count` sequences from number `start` of the whole training on.  -> [count, T + 1 + D]"""
        if start < 0 or count < 1:
            raise ValueError(f"expected start >= 0 and count >= 1, got {start} and {count}")
        number = np.arange(start, start + count)  # [count]
        epoch, slot = np.divmod(number, self.per_epoch)  # [count] each
        window = np.empty(count, np.int64)  # [count]
        for now in range(int(epoch[0]), int(epoch[-1]) + 1):
            here = epoch == now  # [count]
            window[here] = epoch_order(self.seed, now, self.per_epoch)[slot[here]]
        at = window[:, None] * self.length + np.arange(self.width)  # [count, T + 1 + D]
        sequences: Tokens = self.stream[at]  # [count, T + 1 + D]
        return sequences

    def at(self, step: int, batch_size: int) -> Tokens:
        """Give the batch of a step when all batches have one size.  -> [batch_size, T + 1 + D]"""
        return self.sequences(step * batch_size, batch_size)

    def state(self, consumed: int) -> dict[str, int]:
        """Describe a position for a checkpoint: small, and plain JSON."""
        return {
            "consumed": consumed,
            "seed": self.seed,
            "length": self.length,
            "depth": self.depth,
            "tokens": self.stream.size,
            "checksum": self._checksum,
        }

    def resume(self, state: Mapping[str, object]) -> int:
        """Return the sequences consumed; the state of other batches, which count other text, is refused."""
        consumed = state.get("consumed")
        if type(consumed) is not int or not 0 <= consumed < _MOST_SEQUENCES:
            raise ValueError(f"expected consumed to be an integer from 0 to 2**62, got {consumed!r}")
        for name, value in self.state(consumed).items():
            if state.get(name) != value:
                raise ValueError(
                    f"expected a position in the same batches, {name} {value}, got {state.get(name)!r}"
                )
        return consumed

    @cached_property
    def _checksum(self) -> int:
        return crc32(np.ascontiguousarray(self.stream, dtype="<i4").data)


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Draw the order of an epoch's windows from (seed, epoch).  -> [count]"""
    return np.random.default_rng((seed, epoch)).permutation(count)  # [count]
