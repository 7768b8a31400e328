"""Numbers as machines hold them: formats, and rounding to them.

A format is a row of `data/formats.toml`: how many bits of exponent and fraction, which bias, which codes are
no numbers. From the row follow codes, values and rounding, for arrays bit by bit and, as the specification
beside it, for one number by exact fractions. FORMATS has them all, from FP32 to FP4, by lower-case name.

Does: rounding, scaling and summing as the hardware and DeepSeek's recipes do. Does not: say what of a
model is rounded (`minidsv3.machine`).

    >>> import numpy as np
    >>> x = np.float32([1 / 3, 65520, 3e-8])
    >>> FP16.round(x).tolist()                    # beyond the largest: infinity; below half the smallest: 0
    [0.333251953125, inf, 5.960464477539063e-08]
    >>> BF16.round(x).tolist()
    [0.333984375, 65536.0, 3.003515303134918e-08]

Next: minidsv3.numerics.formats
"""

from minidsv3.numerics.accumulator import mma_trace
from minidsv3.numerics.block_formats import (
    BLOCK_FORMATS,
    MXFP4,
    MXFP6_E2M3,
    MXFP6_E3M2,
    MXFP8_E4M3,
    MXFP8_E5M2,
    NVFP4,
    BlockFormat,
)
from minidsv3.numerics.formats import (
    BF16,
    E2M1,
    E2M3,
    E3M2,
    E4M3,
    E5M2,
    E5M6,
    FORMATS,
    FP16,
    FP22,
    FP32,
    OVERFLOWS,
    ROUNDINGS,
    TF32,
    UE8M0,
    NumberFormat,
)
from minidsv3.numerics.gemm import gemm_fp8
from minidsv3.numerics.integers import INT4, TERNARY, IntegerFormat
from minidsv3.numerics.logfmt import LogFMT
from minidsv3.numerics.scaling import (
    RECIPES,
    Quantized,
    power_of_two_ceil,
    quantize,
    tile_round,
    tile_round_both,
    tile_round_groups,
)
from minidsv3.numerics.tensor_core import ZEROS, mma

__all__ = [
    "BF16",
    "BLOCK_FORMATS",
    "E2M1",
    "E2M3",
    "E3M2",
    "E4M3",
    "E5M2",
    "E5M6",
    "FORMATS",
    "FP16",
    "FP22",
    "FP32",
    "INT4",
    "MXFP4",
    "MXFP6_E2M3",
    "MXFP6_E3M2",
    "MXFP8_E4M3",
    "MXFP8_E5M2",
    "NVFP4",
    "OVERFLOWS",
    "RECIPES",
    "ROUNDINGS",
    "TERNARY",
    "TF32",
    "UE8M0",
    "ZEROS",
    "BlockFormat",
    "IntegerFormat",
    "LogFMT",
    "NumberFormat",
    "Quantized",
    "gemm_fp8",
    "mma",
    "mma_trace",
    "power_of_two_ceil",
    "quantize",
    "tile_round",
    "tile_round_both",
    "tile_round_groups",
]
