"""Rotary positions: the angles, plain and stretched by YaRN.

Pair i of a head's d_R positional values turns by position x theta^(-2i/d_R) (eqs. 3 and 8). Pairs are
neighbours, (0, 1), (2, 3), …, as the published weights store them; the cached k_R has that order too (the
`transformers` library writes it as two halves). YaRN (section 4.3) slows the slow pairs down by `factor`,
leaves the fast ones, and ramps between; it also scales the softmax (`ModelConfig.softmax_scale`) and, where a
config asks for it, cos and sin (`RopeScaling.rotation_scale`; 1 in every published DeepSeek model). It acts
whenever the config has it, at any length, as in transformers and the code published with the weights;
DeepSeek's inference code leaves it out below the trained length.

Does: the table of rotations. Does not: turn anything (the `rope` primitive does).

    >>> import numpy as np
    >>> table = rotations(3, 4, theta=100.0)
    >>> table.shape, np.angle(table[2]).round(3).astype(str).tolist()
    ((3, 2), ['2.0', '0.2'])

Next: minidsv3.model.mla
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.config import ModelConfig, RopeScaling

__all__ = ["frequencies", "ramp_ends", "rotations", "rotations_for"]


def frequencies(dim: int, theta: float, scaling: RopeScaling | None = None) -> NDArray[np.float64]:
    """Radians a position for each pair.  ->  [d_R / 2]."""
    plain = theta ** (-np.arange(0, dim, 2) / dim)  # [d_R / 2]
    if scaling is None or scaling.factor <= 1:
        return plain
    low, high = ramp_ends(dim, theta, scaling)
    past = (np.arange(dim // 2) - low) / (high - low or 0.001)  # [d_R / 2]
    ramp = np.minimum(np.maximum(past, 0.0), 1.0)  # 0: keep, 1: slow down
    stretched: NDArray[np.float64] = plain * (1 - ramp) + plain / scaling.factor * ramp
    return stretched


def ramp_ends(dim: int, theta: float, scaling: RopeScaling) -> tuple[float, float]:
    """The last pair that YaRN leaves as it is and the first that it slows down by the whole factor.

    Whole pairs (rounded down, up) unless `truncate` is false. V3: 10 and 23.
    """
    low = _turning_pair(scaling.beta_fast, dim, theta, scaling.original_seq_len)
    high = _turning_pair(scaling.beta_slow, dim, theta, scaling.original_seq_len)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    return max(low, 0), min(high, dim - 1)


def _turning_pair(turns: float, dim: int, theta: float, length: int) -> float:
    """The (fractional) pair that turns `turns` times over the trained length."""
    return dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))


def rotations(
    length: int, dim: int, theta: float, scaling: RopeScaling | None = None, dtype: Any = np.complex64
) -> NDArray[Any]:
    """e^{i m f} for positions m = 0 .. length - 1 and each pair's frequency f, times YaRN's scale.

    ->  [length, d_R / 2], complex.
    """
    angles = np.arange(length)[:, None] * frequencies(dim, theta, scaling)  # [length, d_R / 2]
    turns = np.exp(1j * angles)
    if scaling is not None and scaling.rotation_scale != 1:
        turns *= scaling.rotation_scale
    table: NDArray[Any] = turns.astype(dtype)
    return table


def rotations_for(config: ModelConfig, dtype: Any = np.complex64, length: int | None = None) -> NDArray[Any]:
    """A config's rotations for `length` positions or more, all it allows if not given; read-only.

    Made for a power of two of them: what a config allows may be more than any memory holds.
    """
    longest = config.max_seq_len
    wanted = longest if length is None else min(1 << max(length - 1, 255).bit_length(), longest)
    return _made_once(config, dtype, wanted)


@lru_cache(maxsize=8)
def _made_once(config: ModelConfig, dtype: Any, length: int) -> NDArray[Any]:
    table = rotations(length, config.qk_rope_head_dim, config.rope_theta, config.rope_scaling, dtype)
    table.flags.writeable = False
    return table
