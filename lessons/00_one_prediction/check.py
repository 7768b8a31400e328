"""What a causal softmax has to satisfy, from the shape to the value; see minidsv3.learn.properties."""

import numpy as np

from minidsv3.learn.properties import Difference, arrays, close, like, prop
from minidsv3.machine import primitives

SCORES = arrays("T T", scores=(-100, 100))
package_softmax = primitives.softmax


@prop("the result is a new float32 array [T, T]; the scores stay as they came", SCORES)
def shape(softmax, scores):
    before = scores.copy()
    yours = softmax(scores)
    if isinstance(yours, np.ndarray) and np.shares_memory(yours, scores):
        return Difference("expected a new array, got the scores themselves, or a view of them")
    return like(yours, before) or close(scores, before, 0)


@prop("each row of the result sums to 1", SCORES)
def rows_sum_to_one(softmax, scores):
    return close(softmax(scores).sum(axis=1), np.ones(len(scores), "f"))


@prop("a query gives keys that come after it exactly 0", SCORES)
def causal(softmax, scores):
    yours = softmax(scores)
    return close(np.triu(yours, 1), np.zeros_like(scores), 0)


@prop("adding a constant to a row of scores changes nothing", SCORES)
def shift_invariant(softmax, scores):
    return close(softmax(scores + np.float32(64)), softmax(scores), 1e-4)


@prop("the result is the softmax of eq. 10", SCORES)
def value(softmax, scores):
    return close(softmax(scores), package_softmax(scores.copy()))
