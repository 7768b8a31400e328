"""From logits to a token: greedy, temperature, top-p.

    p = Softmax(logits / temperature), cut to the smallest set of best tokens that holds top_p of the whole

Temperature 0 is greedy: all of the probability lies on the best token, the lowest id among equals.
Probabilities are float64 so that their sums, which drawing and the rejection rule use, are exact enough.

Does: probabilities, draws from a NumPy generator. Does not: penalties for repetition, beams.

    >>> probabilities(np.log([0.5, 0.3, 0.2]), temperature=1.0, top_p=0.7).round(3).tolist()
    [0.625, 0.375, 0.0]
    >>> probabilities(np.array([1.0, 3.0, 2.0]), temperature=0.0).tolist()
    [0.0, 1.0, 0.0]

Next: minidsv3.inference.speculative
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Sampler", "draw", "probabilities"]

Array = NDArray[Any]


def probabilities(logits: ArrayLike, temperature: float = 1.0, top_p: float = 1.0) -> NDArray[np.float64]:
    """What the next token is drawn from.  logits: [..., V]  ->  [..., V], rows sum to 1."""
    check_sampling(temperature, top_p)
    logits = np.asarray(logits, np.float64)  # [..., V]
    if temperature == 0:
        return np.asarray(np.arange(logits.shape[-1]) == logits.argmax(axis=-1)[..., None], np.float64)
    p = logits - logits.max(axis=-1, keepdims=True)  # [..., V]
    with np.errstate(over="ignore"):  # minus infinity is right where the temperature is all but zero
        p /= temperature
    np.exp(p, out=p)
    p /= p.sum(axis=-1, keepdims=True)
    return p if top_p == 1 else _nucleus(p, top_p)


def _nucleus(p: Array, top_p: float) -> Array:
    """Keep the best tokens up to and with the one at which their sum reaches top_p.  p: [..., V]."""
    order = np.argsort(-p, axis=-1, kind="stable")  # [..., V] best first
    best = np.take_along_axis(p, order, axis=-1)  # [..., V]
    best[np.cumsum(best, axis=-1) - best >= top_p] = 0  # those that better ones reach top_p without
    kept = np.zeros_like(p)  # [..., V]
    np.put_along_axis(kept, order, best, axis=-1)
    kept /= kept.sum(axis=-1, keepdims=True)
    return kept


def check_sampling(temperature: float, top_p: float) -> None:
    """ValueError unless temperature >= 0 and 0 < top_p <= 1."""
    if not (temperature >= 0 and np.isfinite(temperature)):
        raise ValueError(f"expected temperature >= 0, got {temperature}")
    if not 0 < top_p <= 1:
        raise ValueError(f"expected top_p in (0, 1], got {top_p}")


def draw(p: Array, rng: np.random.Generator) -> int:
    """A token with probability p, by the inverse of the running sum.  p: [V]."""
    total = np.cumsum(p)  # [V]
    # a draw lies strictly below the last sum, so a token of probability zero is never reached
    return int(np.searchsorted(total, rng.random() * total[-1], side="right"))


class Sampler(NamedTuple):
    """How tokens are chosen, with the random numbers to do it."""

    temperature: float
    top_p: float
    rng: np.random.Generator

    def probabilities(self, logits: Array) -> NDArray[np.float64]:
        """As the function of that name, with this temperature and top_p."""
        return probabilities(logits, self.temperature, self.top_p)

    def choose(self, logits: Array) -> int:
        """One token.  logits: [V]."""
        if self.temperature == 0:
            return int(logits.argmax())
        return draw(self.probabilities(logits), self.rng)
