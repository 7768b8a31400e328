"""Rotary positions: the angles, plain and stretched by YaRN.

Pair i of a head's d_R positional values turns by position x theta^(-2i/d_R) (eqs. 3 and 8). Pairs are
neighbours, (0, 1), (2, 3), …, as the published weights store them; the cached k_R has that order too (the
`transformers` library writes it as two halves). YaRN (section 4.3) slows the slow pairs down by `factor`,
leaves the fast ones, and ramps between; it also scales the softmax (`ModelConfig.softmax_scale`), never cos
or sin.

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

__all__ = ["frequencies", "rotations", "rotations_for"]


def frequencies(dim: int, theta: float, scaling: RopeScaling | None = None) -> NDArray[np.float64]:
    """Radians a position for each pair.  ->  [d_R / 2]."""
    plain = theta ** (-np.arange(0, dim, 2) / dim)  # [d_R / 2]
    if scaling is None or scaling.factor <= 1:
        return plain
    if scaling.mscale != scaling.mscale_all_dim:
        raise ValueError(
            f"expected mscale = mscale_all_dim, got {scaling.mscale} and {scaling.mscale_all_dim}: "
            "their ratio would scale cos and sin, which no DeepSeek-V3 checkpoint asks for"
        )
    low = math.floor(_turning_pair(scaling.beta_fast, dim, theta, scaling.original_seq_len))
    high = math.ceil(_turning_pair(scaling.beta_slow, dim, theta, scaling.original_seq_len))
    low, high = max(low, 0), min(high, dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 0.001), 0, 1)  # 0: keep, 1: slow down
    return plain * (1 - ramp) + plain / scaling.factor * ramp


def _turning_pair(turns: float, dim: int, theta: float, length: int) -> float:
    """The (fractional) pair that turns `turns` times over the trained length."""
    return dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))


def rotations(
    length: int, dim: int, theta: float, scaling: RopeScaling | None = None, dtype: Any = np.complex64
) -> NDArray[Any]:
    """e^{i m f} for positions m = 0 .. length - 1 and each pair's frequency f.

    ->  [length, d_R / 2], complex.
    """
    angles = np.arange(length)[:, None] * frequencies(dim, theta, scaling)  # [length, d_R / 2]
    table: NDArray[Any] = np.exp(1j * angles).astype(dtype)
    return table


@lru_cache(maxsize=8)
def rotations_for(config: ModelConfig, dtype: Any = np.complex64) -> NDArray[Any]:
    """A config's rotations for positions up to the longest sequence it allows; read-only."""
    table = rotations(
        config.max_seq_len, config.qk_rope_head_dim, config.rope_theta, config.rope_scaling, dtype
    )
    table.flags.writeable = False
    return table
