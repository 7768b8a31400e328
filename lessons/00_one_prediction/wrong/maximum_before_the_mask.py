"""Takes each row's maximum before later keys are masked away."""

import numpy as np


def softmax(scores):
    """scores: [T, T], row t is the query at position t  ->  probabilities [T, T]."""
    T = len(scores)
    later = np.arange(T) > np.arange(T)[:, None]  # [T, T] key s comes after query t
    seen = np.where(later, -np.inf, scores - scores.max(axis=1, keepdims=True))
    weights = np.exp(seen)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
