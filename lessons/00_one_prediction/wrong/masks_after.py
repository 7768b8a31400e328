"""Sets later keys to 0 after the division: the rows no longer sum to 1."""

import numpy as np


def softmax(scores):
    """scores: [T, T], row t is the query at position t  ->  probabilities [T, T]."""
    T = len(scores)
    later = np.arange(T) > np.arange(T)[:, None]  # [T, T] key s comes after query t
    seen = scores.copy()
    seen -= seen.max(axis=1, keepdims=True)  # the largest becomes 0: nothing can overflow
    weights = np.exp(seen)
    p = weights / weights.sum(axis=1, keepdims=True)
    return np.where(later, 0, p).astype(np.float32)
