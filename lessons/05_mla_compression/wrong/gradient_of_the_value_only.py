"""Lets the latent's gradient come through the values alone."""

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
    _, _, p = absorbed_weights(q_C, q_R, c_KV, k_R, W_UK)
    o_latent = p @ c_KV  # [H, d_c] the latents summed, one sum a head
    return np.einsum("hc,hvc->hv", o_latent, W_UV)


def absorbed_backward(d_o, q_C, q_R, c_KV, k_R, W_UK, W_UV):
    """d_o: [H, d_v]  ->  d_c_KV [S, d_c], d_k_R [S, d_R]."""
    _, scale, p = absorbed_weights(q_C, q_R, c_KV, k_R, W_UK)
    d_o_latent = np.einsum("hv,hvc->hc", d_o, W_UV)  # [H, d_c]
    d_p = d_o_latent @ c_KV.T  # [H, S]
    d_a = p * (d_p - (p * d_p).sum(axis=1, keepdims=True)) * scale  # [H, S]
    d_c_KV = p.T @ d_o_latent
    return d_c_KV, d_a.T @ q_R
