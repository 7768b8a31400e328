"""Exercise 05: attention over the latents (eqs. 2, 5 and 10), keys and values never unfolded.

Fill in `absorbed_forward`, then `absorbed_backward`. Then run:  minidsv3 check 05

One query, the last token's, looks at S cached tokens and sees them all. Everything is float32:

    q_C   [H, d_h]   the query without position    W_UK  [H, d_h, d_c]   unfolds a key:   W_UK[h] c
    q_R   [H, d_R]   the query with position       W_UV  [H, d_v, d_c]   unfolds a value: W_UV[h] c
    c_KV  [S, d_c]   the cached latents
    k_R   [S, d_R]   the cached keys with position, shared by all heads

The score of head h for token s is (q_C[h] . (W_UK[h] c_KV[s]) + q_R[h] . k_R[s]) / sqrt(d_h + d_R).
"""

import numpy as np


def absorbed_forward(q_C, q_R, c_KV, k_R, W_UK, W_UV):
    """Attend over the latents  ->  o [H, d_v], float32.

    Fold W_UK into the query, score, softmax over the S tokens, sum the latents, and only then apply W_UV:
    no array of S x H x d_h or S x H x d_v numbers may be made.
    """
    # TODO
    H, d_v, _ = W_UV.shape
    return np.zeros((H, d_v), np.float32)


def absorbed_backward(d_o, q_C, q_R, c_KV, k_R, W_UK, W_UV):
    """The gradient of what the cache holds.

    d_o: [H, d_v], the gradient of o  ->  d_c_KV [S, d_c], d_k_R [S, d_R], float32.
    Softmax backward: where p = softmax(a), d_a = p (d_p - sum of p d_p over the S tokens).
    """
    # TODO: a latent is read twice, as a key and as a value
    return np.zeros_like(c_KV), np.zeros_like(k_R)
