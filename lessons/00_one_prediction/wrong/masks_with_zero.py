"""Multiplies the scores by the mask: later keys get a score of 0, and exp(0) is 1."""

import numpy as np


def softmax(scores):
    """scores: [T, T], row t is the query at position t  ->  probabilities [T, T]."""
    seen = np.tril(scores)
    seen -= seen.max(axis=1, keepdims=True)  # the largest becomes 0: nothing can overflow
    weights = np.exp(seen)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
