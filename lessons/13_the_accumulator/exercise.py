"""Exercise 13: the adder of the tensor core, bit for bit, and the promoted sum.

Fill in `fused_step`, then `promoted_sum`; `parts` is given. Then run:  minidsv3 check 13
"""

import math

import numpy as np

FRACTION_BITS = 13  # kept of a term below the largest exponent, and of the sum below its own


def parts(x):
    """An E4M3 number as (integer, exponent): x = integer / 8 x 2^exponent; subnormals stay at -6."""
    exponent = max(math.frexp(x)[1] - 1, -6)
    return int(math.ldexp(x, 3 - exponent)), exponent


def fused_step(a, b, c):
    """One instruction: a[0] b[0] + a[1] b[1] + ... + c, as the adder sees it.

    a, b: [K], float32, K up to 32; every number is one that E4M3 has
    c:    a float, the register before; a number with 13 fraction bits, or 0
    ->    a float: the register after. A term that is 0 has no say in the largest exponent.
    """
    # TODO: align to the largest exponent, cut toward zero, add whole numbers, cut the sum
    return 0.0


def promoted_sum(a, b, terms=32, interval=128):
    """The sum of a[k] b[k] over all k, as V3 lets it run.

    a, b:     [K], float32, any K; numbers that E4M3 has
    terms:    products of one fused_step
    interval: after so many products (a multiple of terms) the register goes to an FP32 sum, np.float32,
              and begins again at 0; what is left in it at the end goes there too
    ->        a float: the FP32 sum
    """
    total = np.float32(0)
    # TODO: a loop over intervals, and one over steps inside it
    return float(total)
