"""Right, but makes the keys and values of every cached token."""

import numpy as np


def absorbed_weights(q_C, q_R, c_KV, k_R, W_UK):
    """The folded query [H, d_c], the softmax's scale, and its weights p [H, S]."""
    scale = np.float32((q_C.shape[1] + q_R.shape[1]) ** -0.5)  # of the width before folding
    folded = np.einsum("he,hec->hc", q_C, W_UK)  # [H, d_c] W_UK^T q_C
    a = (folded @ c_KV.T + q_R @ k_R.T) * scale  # [H, S]
    e = np.exp(a - a.max(axis=1, keepdims=True))
    return folded, scale, e / e.sum(axis=1, keepdims=True)


def absorbed_forward(q_C, q_R, c_KV, k_R, W_UK, W_UV):
    """->  o [H, d_v]."""
    k_C = np.einsum("hec,sc->hse", W_UK, c_KV)  # [H, S, d_h]
    v_C = np.einsum("hvc,sc->hsv", W_UV, c_KV)  # [H, S, d_v]
    a = np.einsum("he,hse->hs", q_C, k_C) + q_R @ k_R.T  # [H, S]
    a *= np.float32((q_C.shape[1] + q_R.shape[1]) ** -0.5)
    e = np.exp(a - a.max(axis=1, keepdims=True))
    return np.einsum("hs,hsv->hv", e / e.sum(axis=1, keepdims=True), v_C)


def absorbed_backward(d_o, q_C, q_R, c_KV, k_R, W_UK, W_UV):
    """d_o: [H, d_v]  ->  d_c_KV [S, d_c], d_k_R [S, d_R]."""
    folded, scale, p = absorbed_weights(q_C, q_R, c_KV, k_R, W_UK)
    d_o_latent = np.einsum("hv,hvc->hc", d_o, W_UV)  # [H, d_c]
    d_p = d_o_latent @ c_KV.T  # [H, S]
    d_a = p * (d_p - (p * d_p).sum(axis=1, keepdims=True)) * scale  # [H, S]
    d_c_KV = p.T @ d_o_latent + d_a.T @ folded  # as a value, and as a key
    return d_c_KV, d_a.T @ q_R
