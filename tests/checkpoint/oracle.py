"""Weights from FP8 codes and scales by integers alone: what the package has to give, bit for bit."""

import numpy as np

from minidsv3.numerics import E4M3


def whole(code: int, fraction_bits: int = 3) -> int:
    """The value of a code, counted in its format's smallest steps: 2^-9 of E4M3, 2^-16 of E5M2."""
    sign, field, fraction = code >> 7, (code & 0x7F) >> fraction_bits, code & ((1 << fraction_bits) - 1)
    steps = fraction if field == 0 else ((1 << fraction_bits) + fraction) << (field - 1)
    return -steps if sign else steps


def whole_float(bits: int) -> int:
    """A non-negative float32, counted in its smallest steps, 2^-149."""
    field, fraction = bits >> 23, bits & 0x7F_FFFF
    return fraction if field == 0 else (0x80_0000 | fraction) << (field - 1)


def rounded(steps: int, power: int) -> int:
    """Bits of the float32 nearest to steps x 2^power, ties to even.  power <= -149."""
    sign, steps = (0x8000_0000, -steps) if steps < 0 else (0, steps)
    cut = max(steps.bit_length() - 24, -149 - power)  # what lies below the last place
    kept, rest = steps >> cut, steps & ((1 << cut) - 1)
    half = 1 << (cut - 1) if cut else 1
    kept += rest > half or (cut > 0 and rest == half and kept % 2 == 1)
    if kept == 1 << 24:
        kept, cut = 1 << 23, cut + 1
    place = cut + power + 149  # the exponent field, less one, of what has 24 bits
    bits = kept if kept < 1 << 23 else ((place + 1) << 23) + (kept - (1 << 23))
    return sign | min(bits, 0x7F80_0000)


def product(code: int, scale: int, fmt=E4M3) -> int:
    """Bits of code x scale.  scale: bits of a float32."""
    step = -9 if fmt is E4M3 else -16
    steps = whole(code, fmt.fraction_bits) * whole_float(scale)
    if steps == 0:
        return 0x8000_0000 if code >> 7 else 0
    return rounded(steps, step - 149)


def by_oracle(codes: np.ndarray, scale: np.ndarray, block: tuple[int, int], fmt=E4M3) -> np.ndarray:
    """Bits of the weight: every pair of code and scale that occurs, once, by integers."""
    bits = scale.view(np.uint32)
    table = np.array([[product(c, int(s), fmt) for c in range(256)] for s in bits.reshape(-1)], np.uint64)
    rows, columns = np.arange(codes.shape[0]) // block[0], np.arange(codes.shape[1]) // block[1]
    which = rows[:, None] * scale.shape[1] + columns  # [R, C]
    return table[which, codes].astype(np.uint32)


def codes_of(shape: tuple[int, int], draw: np.random.Generator) -> np.ndarray:
    """All codes but NaN's."""
    codes = draw.integers(0, 254, shape).astype(np.uint8)
    return np.where(codes >= 0x7F, codes + np.uint8(1), codes)
