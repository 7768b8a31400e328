"""What a causal softmax has to satisfy, from the shape to the cost; see minidsv3.learn.properties."""

import numpy as np

from minidsv3.learn.properties import arrays, close, cost, fresh, like, prop
from minidsv3.machine import primitives

SCORES = arrays("T T", scores=(-1000, 1000))


@prop("the result is a new float32 array [T, T]; the scores stay as they came", SCORES)
def shape(softmax, scores):
    return like(softmax(scores), scores) or fresh(softmax)


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


@prop("the result is the softmax of eq. 10", SCORES, points=4)
def value(softmax, scores):
    return close(softmax(scores), primitives.softmax(scores.copy()))


@prop("the work grows with the scores and no faster", stage="cost")
def whole_arrays(softmax):
    scores = np.random.default_rng(0).normal(size=(64, 64)).astype("f")
    return cost(softmax, {"scores": scores}, at_most={"flops": 3, "bytes": 4, "memory": 4})
