"""FP8 weights as published: codes, and a scale for each block of rows and columns.

    weight[i, j] = code[i, j] x scale[i // r, j // c]      codes [R, C] E4M3, scale [ceil(R/r), ceil(C/c)] F32

The scale's published name, `weight_scale_inv`, says inverse; its use is a multiplication. Blocks at the edge
are as if padded with zeros and cut after, so 576 x 7168 in blocks of 128 has 5 x 56 scales, and the block
must be known: the shapes do not give it (576 / 5 is not even whole).

Does: both ways, exactly: a weight is the float32 next to code x scale, ties to even. A block of zeros is
given the scale 2^-126 (ours; the published files are not known to have one), which decodes to zeros.
Does not: files; know which tensors are FP8.

    >>> codes, scale = encode_blocks(np.float32([[1, -2, 0], [4, 0.5, 0]]), (2, 2))
    >>> scale.shape, decode_blocks(codes, scale, (2, 2)).tolist()
    ((1, 2), [[1.0, -2.0, 0.0], [4.0, 0.5, 0.0]])

Next: minidsv3.checkpoint.stored
"""

import numpy as np
from numpy.typing import NDArray

from minidsv3.numerics import E4M3, E5M2, NumberFormat, quantize

__all__ = ["blocks_of", "decode_blocks", "decode_rows", "encode_blocks", "finite_codes"]

Values = NDArray[np.float32]
Codes = NDArray[np.uint8]
PIECE = 1 << 18  # codes worked on together: 1.25 MB with their values
_TABLES = {fmt.name: fmt.decode(np.arange(256, dtype=np.uint8)) for fmt in (E4M3, E5M2)}
# E4M3's bits, moved to float32's place, are the number times 2^-120: that is how far the biases lie apart
_SHIFT, _SIGN_AND_NUMBER, _BIASES = np.int32(20), np.int32(-0x7810_0000), np.float32(2.0**120)
_LARGEST_SHIFTED = 2.0**7  # scales from here on would overflow when multiplied by 2^120


def blocks_of(shape: tuple[int, int], block: tuple[int, int]) -> tuple[int, int]:
    """How many blocks a matrix has: rows and columns of its scales."""
    return -(-shape[0] // block[0]), -(-shape[1] // block[1])


def encode_blocks(values: Values, block: tuple[int, int]) -> tuple[Codes, Values]:
    """Codes and scales of a matrix: amax / 448 a block, values divided by it.

    values: float32 [R, C], finite  ->  codes uint8 [R, C], scale float32 [ceil(R / r), ceil(C / c)].
    """
    if values.ndim != 2 or values.dtype != np.float32:
        raise ValueError(f"expected values float32 [R, C], got {values.dtype} {values.shape}")
    quantized = quantize(values, block, E4M3, amax_floor=0)
    if not np.isfinite(quantized.scale).all():  # a scale is its block's largest magnitude
        raise ValueError("expected finite values, which alone FP8 can scale, got infinity or NaN")
    return quantized.codes.astype(np.uint8, copy=False), quantized.scale


def decode_blocks(
    codes: Codes,
    scale: Values,
    block: tuple[int, int],
    out: Values | None = None,
    fmt: NumberFormat = E4M3,
) -> Values:
    """Code times the scale of its block.

    codes: uint8 [R, C]  scale: float32 [ceil(R / r), ceil(C / c)]  ->  float32 [R, C], `out` if given.
    """
    wanted = blocks_of((codes.shape[0], codes.shape[1]), block) if codes.ndim == 2 else None
    if codes.dtype != np.uint8 or scale.shape != wanted:
        got = f"{codes.dtype} {codes.shape} and {scale.shape}"
        raise ValueError(f"expected codes uint8 [R, C] and a scale for each block {block}, got {got}")
    out = np.empty(codes.shape, np.float32) if out is None else out
    decode_rows(codes, scale, 0, block, out, fmt)
    return out


def decode_rows(
    codes: Codes, scale: Values, first: int, block: tuple[int, int], out: Values, fmt: NumberFormat = E4M3
) -> None:
    """out = rows first .. first + n of a weight.  codes: [n, C] of these rows  scale: of the whole weight."""
    rows, columns = codes.shape
    step = max(PIECE // max(columns, 1), 1)
    at = 0
    while at < rows:
        i = (first + at) // block[0]
        band = min((i + 1) * block[0] - first, rows)  # where this row of blocks ends
        along = np.repeat(scale[i], min(block[1], columns))[:columns]  # [C], the last block cut
        for begin in range(at, band, step):
            here = slice(begin, min(begin + step, band))
            _decode(codes[here], along, out[here], fmt)
        at = band


def _decode(codes: Codes, along: Values, out: Values, fmt: NumberFormat) -> None:
    """out [n, C] = codes [n, C] x along [C]."""
    if fmt is not E4M3 or not np.max(along, initial=0) < _LARGEST_SHIFTED:  # also where a scale is NaN
        np.take(_TABLES[fmt.name], codes, out=out, mode="clip")
        np.multiply(out, along, out=out)
        return
    bits = out.view(np.int32)
    bits[...] = codes.view(np.int8)  # the sign in all the upper bits
    np.left_shift(bits, _SHIFT, out=bits)
    np.bitwise_and(bits, _SIGN_AND_NUMBER, out=bits)
    np.multiply(out, along * _BIASES, out=out)


def finite_codes(codes: Codes, fmt: NumberFormat = E4M3) -> bool:
    """Whether all codes are numbers, neither NaN nor infinity."""
    return codes.size == 0 or int(np.bitwise_and(codes, 0x7F).max()) <= fmt.top
