"""Sums, products and ratios: what remains to be done where a source gives both numbers itself.

Many published figures are one step away from two others: a price is hours times dollars an hour, a saving one
less a ratio. These steps have names here, so that an entry of `data/published.toml` can say which one it is.

Does: one operation each, on numbers in base units. Does not: know what they mean.

    >>> total([2664, 119, 5]), product([14.8, 180]), ratio(516_096, 70_272) > 7.3
    (2788, 2664.0, True)
    >>> round(less(250, 394), 3), inverse(0.02)
    (0.365, 50.0)

Next: minidsv3.cost.serving
"""

import math
from collections.abc import Sequence

__all__ = ["difference", "inverse", "less", "power", "product", "ratio", "total", "unchanged"]


def total(terms: Sequence[float]) -> float:
    """The sum of all terms."""
    return sum(terms)


def difference(whole: float, part: float) -> float:
    """What is left of the whole without a part."""
    return whole - part


def product(factors: Sequence[float]) -> float:
    """All factors multiplied."""
    return math.prod(factors)


def ratio(part: float, whole: float) -> float:
    """One number as so many times another; ValueError if that is zero."""
    if not whole:
        raise ValueError(f"expected a number to divide {part} by, got {whole}")
    return part / whole


def less(part: float, whole: float) -> float:
    """By which share the part is less than the whole: 1 - part / whole."""
    return 1 - ratio(part, whole)


def inverse(number: float) -> float:
    """So many in one: 1 / number."""
    return ratio(1.0, number)


def power(base: float, exponent: float) -> float:
    """A power, for counts such as 2 to the number of bits."""
    return float(base**exponent)


def unchanged(number: float) -> float:
    """The number itself, where a source repeats another's."""
    return number
