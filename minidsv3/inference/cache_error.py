"""What a narrower cache costs and saves: bytes a token, and how far latents, logits and choices move.

One text is run twice, over a cache that holds float32 and over one that holds less, the same tokens in both
(teacher-forced), so that position i can be compared with position i. Three distances, each against float32:

    latents    RMS(kept - c) / RMS(c) over the rows of all layers: the rounding alone
    logits     the same for the logits behind every token: what comes of it through all layers
    choices    positions at which the greedy token is another

Does: measure a text. Does not: say what an error does to a long answer, which goes its own way from the
first other choice on.

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.interpreter import Model
    >>> model = Model.initialise(ModelConfig.preset("nano"), seed=0)
    >>> bf16, fp8 = cache_errors(model, list(range(40)))
    >>> bf16.bytes_per_token, fp8.bytes_per_token, bf16.latents < fp8.latents < 0.03
    (512, 336, True)

Next: minidsv3.training
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidsv3.inference.cache import LatentCache
from minidsv3.inference.decode import Decoder
from minidsv3.inference.generation import Model
from minidsv3.inference.packed_latents import PACKED_FORMATS
from minidsv3.machine import Machine
from minidsv3.machine.parallel import blas_threads

__all__ = ["CacheError", "cache_errors"]

Array = NDArray[Any]
CHUNK = 256  # tokens whose logits are in memory at once


@dataclass(frozen=True)
class CacheError:
    """A cache format beside float32, on one text."""

    format: str
    bytes_per_token: int  # in all layers of the main model
    latents: float  # relative RMS error of the rows
    logits: float  # relative RMS error of the logits
    largest_logit: float  # largest difference of one logit
    changed: int  # positions with another greedy choice
    positions: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def cache_errors(
    model: Model, ids: ArrayLike, formats: Sequence[str] = PACKED_FORMATS, machine: Machine | None = None
) -> list[CacheError]:
    """Compare cache formats with float32 on a text of token ids [T]."""
    text = model.check_tokens(np.atleast_2d(ids))  # [1, T]
    machine = machine or Machine()
    parameters = model.parameters.astype(machine.dtype)
    decoders = [Decoder(machine, parameters, cache=name) for name in ("float32", *formats)]
    sums = [_Sums() for _ in formats]
    with np.errstate(over="ignore"), blas_threads(1):
        for start in range(0, text.shape[1], CHUNK):
            part = text[:, start : start + CHUNK]
            expected, *logits = (decoder.step(part)[0][0] for decoder in decoders)  # [T, V] each
            for total, got in zip(sums, logits, strict=True):
                total.add(expected, got)
    exact = decoders[0].cache
    return [
        CacheError(
            decoder.cache.format, decoder.cache.bytes_per_token, _rounding_error(exact, decoder.cache),
            total.error, total.largest, total.changed, text.shape[1],
        )
        for decoder, total in zip(decoders[1:], sums, strict=True)
    ]  # fmt: skip


class _Sums:
    """Differences of logits, gathered chunk by chunk."""

    def __init__(self) -> None:
        self.squares, self.errors, self.largest, self.changed = 0.0, 0.0, 0.0, 0

    def add(self, expected: Array, got: Array) -> None:
        """[T, V] both."""
        difference = got - expected  # [T, V]
        self.squares += float(np.square(expected, dtype=np.float64).sum())
        self.errors += float(np.square(difference, dtype=np.float64).sum())
        self.largest = max(self.largest, float(np.abs(difference).max()))
        self.changed += int((got.argmax(axis=1) != expected.argmax(axis=1)).sum())

    @property
    def error(self) -> float:
        """Relative RMS error."""
        return float((self.errors / self.squares) ** 0.5) if self.squares else 0.0


def _rounding_error(exact: LatentCache, narrow: LatentCache) -> float:
    """Relative RMS error of the exact cache's rows, written to the narrow cache in place of its own."""
    squares = errors = 0.0
    for row, kept in _rows(exact, narrow):  # [1, T, d_c + d_R]
        squares += float(np.square(row, dtype=np.float64).sum())
        errors += float(np.square(kept - row, dtype=np.float64).sum())
    return float((errors / squares) ** 0.5) if squares else 0.0


def _rows(exact: LatentCache, narrow: LatentCache) -> Iterator[tuple[Array, Array]]:
    held = slice(0, exact.length)
    for layer in range(exact.config.n_layers):
        rows = exact.latents(layer)[:, held]
        narrow.latents(layer)[:, held] = rows
        yield rows, narrow.latents(layer)[:, held]
