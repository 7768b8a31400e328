"""Rounds the sum to 14 bits to nearest, where the hardware cuts."""

import math

import numpy as np

FRACTION_BITS = 13


def parts(x):
    """An E4M3 number as (integer, exponent): x = integer / 8 x 2^exponent; subnormals stay at -6."""
    exponent = max(math.frexp(x)[1] - 1, -6)
    return int(math.ldexp(x, 3 - exponent)), exponent


def cut(integer, places):
    """So many binary places moved to the left, or to the right and cut toward zero."""
    magnitude = abs(integer) << places if places >= 0 else abs(integer) >> -places
    return magnitude if integer > 0 else -magnitude


def fused_step(a, b, c):
    """a, b: [K] numbers of E4M3, c: the register before  ->  the register after."""
    terms = []  # (integer, exponent of its unit, exponent it is aligned by)
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        (m, e), (n, f) = parts(x), parts(y)
        terms.append((m * n, e + f - 6, e + f))
    fraction, exponent = math.frexp(c)  # c = fraction x 2^exponent, fraction in [0.5, 1)
    terms.append((int(fraction * 2**14), exponent - 14, exponent - 1))
    largest = max((top for integer, _, top in terms if integer), default=0)
    last = largest - FRACTION_BITS  # exponent of the last bit kept
    total = sum(cut(integer, unit - last) for integer, unit, _ in terms)
    places = max(abs(total).bit_length() - 1 - FRACTION_BITS, 0)
    return math.ldexp(round(total / 2**places), last + places)


def promoted_sum(a, b, terms=32, interval=128):
    """a, b: [K] numbers of E4M3  ->  their sum of products, promoted to FP32 after every interval."""
    total = np.float32(0)
    for start in range(0, len(a), interval):
        register = 0.0
        for first in range(start, min(start + interval, len(a)), terms):
            step = slice(first, min(first + terms, start + interval))
            register = fused_step(a[step], b[step], register)
        total += np.float32(register)
    return float(total)
