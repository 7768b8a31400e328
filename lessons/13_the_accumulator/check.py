"""What the tensor core's adder has to give, bit for bit; the package's own is `minidsv3.numerics.mma`."""

import dataclasses
from functools import lru_cache

import numpy as np

from minidsv3.hardware import load_hardware
from minidsv3.learn.properties import Difference, arrays, close, prop
from minidsv3.numerics import E4M3, FP22, mma

FP8 = load_hardware("h800").tensor_core["fp8"]
LARGEST_CODE = 0x7E  # of E4M3 without its sign; 0x7F is NaN
TERMS, INTERVAL = 2, 4  # a tensor core so small that its sums can be read


def as_values(inputs):
    """Whole numbers -126 .. 126 as the numbers of E4M3 in their order; c to a register's number."""
    found = {}
    for name, x in inputs.items():
        codes = np.abs(x).astype(np.uint8) | np.where(x < 0, 0x80, 0).astype(np.uint8)
        found[name] = FP22.round(np.float32(x) / 64) if name == "c" else E4M3.decode(codes)
    return found


def e4m3(signature, at_most, **more):
    """a and b of E4M3, and a register c where the signature has it."""
    codes = dict.fromkeys(("a", "b"), (-LARGEST_CODE, LARGEST_CODE, "int64"))
    drawn = arrays(signature, at_most, **codes, **more)
    return drawn.map(as_values)


PRODUCTS = e4m3("K, K", 8)
LENGTHS = arrays("", n=(1, 2, "int64"))
WITH_C = e4m3("K, K,", 3, c=(-(2**26), 2**26, "int64"))


def core(a, b, c, terms=FP8.terms):
    """The package's register after one instruction (or more, of a small tensor core)."""
    return known(a.tobytes(), b.tobytes(), float(c), terms)


@lru_cache(maxsize=4096)  # the same inputs are drawn at each check
def known(a, b, c, terms):
    unit = dataclasses.replace(FP8, terms=terms, depth=terms)
    a, b = (E4M3.encode(np.frombuffer(x, np.float32)) for x in (a, b))
    return mma(a[None], b[:, None], np.array([[c]], np.float32), unit, pad=True)[0, 0]


def promoted(a, b, terms, interval):
    """The package's registers, added in FP32."""
    total = np.float32(0)
    for start in range(0, len(a), interval):
        part = slice(start, start + interval)
        total = total + core(a[part], b[part], 0, terms)
    return total


def number(yours):
    """None if it is one finite number."""
    if np.ndim(yours) or not isinstance(yours, float | int | np.number | np.ndarray):
        return Difference(f"expected a float, got {type(yours).__name__}")
    return None if np.isfinite(yours) else Difference(f"expected a finite number, got {float(yours)}")


@prop("both functions return one number", PRODUCTS)
def shape(fused_step, promoted_sum, a, b):
    return number(fused_step(a, b, 0.0)) or number(promoted_sum(a, b, TERMS, INTERVAL))


@prop("the first product alone comes out exactly", PRODUCTS)
def one_product(fused_step, a, b):
    return close(np.float32(fused_step(a[:1], b[:1], 0.0)), np.float32(a[0] * b[0]), 0)


@prop("from a register of 0, the sum has the bits of the tensor core", PRODUCTS, points=2)
def from_zero(fused_step, a, b):
    return close(np.float32(fused_step(a, b, 0.0)), core(a, b, 0), 0)


@prop("the register joins as one more term, aligned and cut like the products", WITH_C, points=2)
def from_c(fused_step, a, b, c):
    return close(np.float32(fused_step(a, b, float(c))), core(a, b, c), 0)


@prop("steps of 2 products, to FP32 every 4: the sum has the bits of the tensor core", PRODUCTS, points=2)
def promotes(promoted_sum, a, b):
    yours = promoted_sum(a, b, TERMS, INTERVAL)
    return close(np.float32(yours), promoted(a, b, TERMS, INTERVAL), 0)


@prop("promotion every 128 bounds the error that grows with K: 512 n products", LENGTHS)
def bounds_the_error(promoted_sum, n):
    K = 512 * int(n)
    codes = np.random.default_rng(K).integers(0x30, LARGEST_CODE, (2, K)).astype(np.uint8)
    a, b = E4M3.decode(codes)  # positive: every cut goes down
    exact = float(a.astype(np.float64) @ b)
    alone, yours = (promoted_sum(a, b, 32, interval) for interval in (K, 128))
    errors = np.array([(exact - alone) / exact, (exact - yours) / exact])
    expected = np.array([(exact - core(a, b, 0)) / exact, (exact - promoted(a, b, FP8.terms, 128)) / exact])
    return close(errors, expected, 1e-7)
