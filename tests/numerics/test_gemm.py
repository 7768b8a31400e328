"""FP8 products: against the definition, the published orders of operations, and the figures they show."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from minidsv3.hardware import tensor_core
from minidsv3.numerics import BF16, E4M3, E5M2, Quantized, gemm_fp8, mma, quantize
from minidsv3.numerics import gemm as room
from minidsv3.numerics.gemm import ACCUMULATE, ORDERS

Values = NDArray[np.float32]
FP8 = tensor_core("hopper-wgmma", "fp8")


def normal(*shape: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def by_definition(x: Quantized, w: Quantized, accumulate: str, interval: int, order: str) -> Values:
    """Element by element, in float32 scalars; partial sums exact or by `mma`."""
    M, N, K = len(x.codes), len(w.codes), x.codes.shape[1]
    result = np.zeros((M, N), np.float32)
    values_x, values_w = x.fmt.decode(x.codes), w.fmt.decode(w.codes)
    for m, n in np.ndindex(M, N):
        final = np.float32(0)
        for k in range(0, K, interval):
            here = slice(k, min(k + interval, K))
            if accumulate == "hardware":
                codes = x.codes[[m], here], w.codes[[n], here].T
                partial = mma(*codes, None, FP8, a_format=x.fmt, b_format=w.fmt, pad=True)[0, 0]
            else:  # exact for so few terms
                partial = np.float32(values_x[m, here].astype(float) @ values_w[n, here].astype(float))
            sa = x.scale[m // x.block[0], k // x.block[1]]
            sb = w.scale[n // w.block[0], k // w.block[1]]
            if order == "triton":
                final = final + (partial * sa) * sb
            elif order == "deepgemm":
                final = final + (sa * sb) * partial
            else:
                fused = Fraction(float(sa * sb)) * Fraction(float(partial)) + Fraction(float(final))
                final = nearest_float32(fused)
        result[m, n] = final
    return result


def nearest_float32(x: Fraction) -> np.float32:
    """To nearest even, in one step; float(x) would round to float64 first."""
    if x == 0:
        return np.float32(0)
    exponent = math.floor(math.log2(abs(x)))
    exponent += (abs(x) >= Fraction(2) ** (exponent + 1)) - (abs(x) < Fraction(2) ** exponent)
    unit = Fraction(2) ** (max(exponent, -126) - 23)
    return np.float32(float(round(x / unit) * unit))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("block", [128, 32, 16, 24])
def test_bit_by_bit_is_the_definition(block: int, order: str) -> None:
    """Whole instructions or not, ragged K, rows of a block cut off."""
    x, w = quantize(normal(5, 200), (1, block)), quantize(normal(7, 200, seed=1), (4, block))
    found = gemm_fp8(x, w, "hardware", interval=block, order=order)
    expected = by_definition(x, w, "hardware", block, order)
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("order", ORDERS)
def test_promoted_is_the_definition(order: str) -> None:
    """Few terms, so that float32 sums them exactly in any order."""
    x, w = quantize(normal(6, 48), (1, 8)), quantize(normal(5, 48, seed=1), (8, 8))
    found = gemm_fp8(x, w, "promoted", order=order)
    np.testing.assert_array_equal(found, by_definition(x, w, "promoted", 8, order))


def test_ideal_is_the_product_of_what_was_dequantised() -> None:
    x, w = quantize(normal(6, 256)), quantize(normal(130, 256, seed=1), (128, 128))
    exact = x.dequantize().astype(float) @ w.dequantize().astype(float).T
    np.testing.assert_allclose(gemm_fp8(x, w, "ideal"), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("accumulate", ACCUMULATE)
def test_float32_operands_are_quantised_here(accumulate: str) -> None:
    x, w = normal(3, 300), normal(130, 300, seed=1)
    quantised = quantize(x, (1, 128)), quantize(w, (128, 128))
    np.testing.assert_array_equal(gemm_fp8(x, w, accumulate), gemm_fp8(*quantised, accumulate))
    np.testing.assert_array_equal(
        gemm_fp8(quantised[0], w, accumulate), gemm_fp8(x, quantised[1], accumulate)
    )
    powers = quantize(x, (1, 64), scale="power-of-two"), quantize(w, (64, 64), scale="power-of-two")
    found = gemm_fp8(x, w, accumulate, block_x=(1, 64), block_w=(64, 64), scale="power-of-two")
    np.testing.assert_array_equal(found, gemm_fp8(*powers, accumulate))


def test_the_three_ways_agree_where_nothing_is_lost() -> None:
    """Small whole numbers: every sum fits in 13 bits."""
    rng = np.random.default_rng(0)
    codes_x, codes_w = (E4M3.encode(rng.integers(-3, 4, (9, 256)).astype(np.float32)) for _ in range(2))
    x = Quantized(codes_x, np.full((9, 2), 0.5, np.float32), (1, 128), E4M3)
    w = Quantized(codes_w, np.full((1, 2), 2.0, np.float32), (128, 128), E4M3)
    exact = E4M3.decode(codes_x) @ E4M3.decode(codes_w).T
    for accumulate in ACCUMULATE:
        for order in ORDERS:
            np.testing.assert_array_equal(gemm_fp8(x, w, accumulate, order=order), exact)


def test_gradients_in_e5m2() -> None:
    x, w = quantize(normal(4, 128), (1, 128), E5M2), quantize(normal(4, 128, seed=1), (128, 128))
    found = gemm_fp8(x, w, "hardware")
    np.testing.assert_array_equal(found, by_definition(x, w, "hardware", 128, "deepgemm"))
    assert (found != gemm_fp8(x, w, "promoted")).any()


def test_bf16_output_is_rounded_once_at_the_end() -> None:
    x, w = normal(4, 512), normal(9, 512, seed=1)
    for accumulate in ACCUMULATE:
        wide = gemm_fp8(x, w, accumulate)
        np.testing.assert_array_equal(gemm_fp8(x, w, accumulate, output="bf16"), BF16.round(wide))


def test_another_unit() -> None:
    """Ada cuts twice where Hopper cuts once; Blackwell keeps 25 bits, and nearly all of the sum."""
    rng = np.random.default_rng(0)
    x, w = rng.random((16, 128), np.float32), rng.random((16, 128), np.float32)
    exact = gemm_fp8(x, w, "ideal")
    error = {
        family: float(np.median(1 - gemm_fp8(x, w, "hardware", unit=tensor_core(family, "fp8")) / exact))
        for family in ("ada", "hopper-wgmma", "blackwell-tcgen05")
    }
    assert abs(error["blackwell-tcgen05"]) < 1e-6
    assert 1e-4 < error["hopper-wgmma"] < error["ada"]


def test_rows_at_once_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = normal(50, 256), normal(9, 256, seed=1)
    whole = gemm_fp8(x, w, "hardware")
    monkeypatch.setattr(room, "ROWS", 7)
    np.testing.assert_array_equal(gemm_fp8(x, w, "hardware"), whole)


def test_nothing_to_multiply() -> None:
    empty = np.zeros((3, 0), np.float32)
    for accumulate in ACCUMULATE:
        np.testing.assert_array_equal(gemm_fp8(empty, empty, accumulate), np.zeros((3, 3)))


# ---- published figures -------------------------------------------------------------------------------------


def errors(draw: Any, interval: int | None) -> NDArray[np.float64]:
    """Signed relative error of 1,024 sums of 4,096 products, one scale a matrix, against the exact sum."""
    rng = np.random.default_rng(0)
    x, w = (quantize(draw(rng, (32, 4096)).astype(np.float32), (32, 4096)) for _ in range(2))
    exact = x.dequantize().astype(float) @ w.dequantize().astype(float).T
    error: NDArray[np.float64] = gemm_fp8(x, w, "hardware", interval=interval) / exact - 1
    return error


def uniform(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return rng.random(shape)


def absolute_normal(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return np.abs(rng.standard_normal(shape))


@pytest.mark.parametrize(
    ("draw", "interval", "median", "most"),
    [
        (uniform, None, 0.0745, 0.0783),
        (uniform, 128, 0.00055, 0.00066),
        (uniform, 512, 0.0058, None),
        (absolute_normal, None, 0.0711, 0.0748),
        (absolute_normal, 128, 0.00066, 0.00076),
    ],
)
def test_what_promotion_saves(draw: Any, interval: int | None, median: float, most: float | None) -> None:
    """K = 4096 of one sign: always low; 7.45 % without promotion, 0.055 % with, for uniform operands."""
    error = errors(draw, interval)
    assert (error < 0).all()
    assert np.median(-error) == pytest.approx(median, rel=0.02)
    assert most is None or (-error).max() == pytest.approx(most, rel=0.05)


def test_orders_differ_with_float32_scales_and_not_with_powers_of_two() -> None:
    x, w = normal(32, 512), normal(16, 512, seed=1)
    differ = {}
    for scale in ("float32", "power-of-two"):
        found = [gemm_fp8(x, w, "hardware", order=order, scale=scale) for order in ORDERS]
        differ[scale] = [int((found[0] != other).sum()) for other in found[1:]]
    assert differ["power-of-two"] == [0, 0]
    assert all(count > 100 for count in differ["float32"])


def test_an_interval_is_as_good_as_it_is_short() -> None:
    rng = np.random.default_rng(0)
    x, w = (quantize(rng.random((16, 2048), np.float32), (16, 2048)) for _ in range(2))
    ideal = gemm_fp8(x, w, "ideal")
    median = [
        np.median(1 - gemm_fp8(x, w, "hardware", interval=i) / ideal) for i in (64, 128, 256, 512, None)
    ]
    assert median == sorted(median)


# ---- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expectation"),
    [
        ({"accumulate": "exact"}, "expected accumulate one of ideal, promoted, hardware, got 'exact'"),
        ({"order": "cuda"}, "expected order one of deepgemm, deepgemm-fma, triton, got 'cuda'"),
        ({"output": "fp16"}, "expected output one of fp32, bf16, got 'fp16'"),
        ({"x": np.zeros((2, 128))}, r"expected x \[M, K\] float32 or Quantized, got float64 \(2, 128\)"),
        ({"w": np.zeros(128, np.float32)}, r"expected w \[N, K\] float32 or Quantized, got float32 \(128,\)"),
        ({"w": [[0.0]]}, r"expected w \[N, K\] float32 or Quantized, got list"),
        ({"w": normal(3, 64)}, r"with one K, got \(2, 256\) and \(3, 64\)"),
        ({"interval": 96}, "expected an interval that divides the block of 128 along K, got 96"),
        ({"interval": 0}, "expected an interval that divides the block of 128 along K, got 0"),
        ({"interval": 64.0}, "expected an interval that divides the block of 128 along K, got 64.0"),
        ({"unit": "fp8"}, "expected a unit, .*, got 'fp8'"),
        ({"interval": None}, "expected one block along K = 256 without promotion, got 128 and 128"),
        ({"block_x": (1, 64)}, "expected equal blocks along K, got 64 for x and 128 for w"),
        ({"unit": tensor_core("ampere", "bf16")}, "expected a_format one of bf16, got e4m3"),
        ({"x": quantize(normal(2, 256), fmt=BF16)}, "expected a_format one of e4m3, e5m2, got bf16"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], expectation: str) -> None:
    good: dict[str, Any] = {"x": normal(2, 256), "w": normal(3, 256), "accumulate": "hardware"}
    assert gemm_fp8(**good).shape == (2, 3)
    with pytest.raises(ValueError, match=expectation):
        gemm_fp8(**{**good, **change})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("accumulate", ["ideal", "promoted", "hardware"])
def test_what_overflows_is_infinity_without_a_warning(accumulate: str) -> None:
    """As on a GPU, which has nobody to tell."""
    huge = np.full((1, 128), 3e38, np.float32)
    assert gemm_fp8(huge, np.abs(huge), accumulate) == np.inf


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_scales_are_above_zero_and_finite(scale: float) -> None:
    """`Quantized` refuses them, and so nothing else reaches a product."""
    with pytest.raises(ValueError, match="expected scale"):
        Quantized(np.zeros((1, 128), np.uint8), np.full((1, 1), scale, np.float32), (1, 128), E4M3)
