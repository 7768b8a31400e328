"""Tiles against the same steps in torch 2.13 and ml_dtypes 0.6; MX formats against ml_dtypes' elements."""

import numpy as np
import pytest

from minidsv3.numerics import MXFP4, MXFP6_E2M3, MXFP6_E3M2, MXFP8_E4M3, MXFP8_E5M2, BlockFormat, quantize

pytestmark = pytest.mark.peer
ml_dtypes = pytest.importorskip("ml_dtypes")
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    """Activations with outliers and tiles of very different size."""
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((512, 1024)) * np.exp(3 * rng.standard_normal((512, 8))).repeat(128, axis=1)
    wide[rng.random(wide.shape) < 0.001] *= 100
    return wide.astype(np.float32)


def test_tiles_are_torchs(x: np.ndarray) -> None:
    """V3's later act_quant, written with torch: the saturating cast of torch 2.12 and later."""
    tiles = torch.from_numpy(x).view(512, 8, 128)
    s = tiles.abs().amax(-1, keepdim=True).clamp(1e-4) / 448.0
    codes = (tiles / s).to(torch.float8_e4m3fn).view(torch.uint8).numpy().reshape(x.shape)
    q = quantize(x, recipe="v3-2025-08")
    np.testing.assert_array_equal(q.scale, s.numpy()[..., 0])
    np.testing.assert_array_equal(q.codes, codes)


def test_blocks_are_torchs(x: np.ndarray) -> None:
    blocks = torch.from_numpy(x).view(4, 128, 8, 128)
    s = blocks.abs().amax((1, 3), keepdim=True).clamp(1e-4) / 448.0
    codes = (blocks / s).to(torch.float8_e4m3fn).view(torch.uint8).numpy().reshape(x.shape)
    q = quantize(x, (128, 128))
    np.testing.assert_array_equal(q.scale, s.numpy()[:, 0, :, 0])
    np.testing.assert_array_equal(q.codes, codes)


def test_a_scaled_value_passes_the_largest_by_two_ulps_at_most(x: np.ndarray) -> None:
    """Why the overflow convention does not show: ml_dtypes' cast makes NaN of more than 464, and agrees."""
    for recipe in ("v3.2", "deepgemm", "deepep"):
        q = quantize(x, recipe=recipe)
        amax = np.maximum(np.abs(x).reshape(512, 8, 128).max(-1, keepdims=True), np.float32(1e-4))
        s = q.scale[..., None]
        tiles, top, one = x.reshape(512, 8, 128), np.float32(448), np.float32(1)
        y = {"v3.2": tiles / s, "deepgemm": tiles * (one / s), "deepep": tiles * (top / amax)}[recipe]
        assert np.abs(y).max() <= 448 * (1 + 2.0**-22)
        np.testing.assert_array_equal(
            q.codes, y.astype(ml_dtypes.float8_e4m3fn).view(np.uint8).reshape(x.shape)
        )


@pytest.mark.parametrize(
    ("fmt", "name"),
    [
        (MXFP8_E4M3, "float8_e4m3fn"),
        (MXFP8_E5M2, "float8_e5m2"),
        (MXFP6_E3M2, "float6_e3m2fn"),
        (MXFP6_E2M3, "float6_e2m3fn"),
        (MXFP4, "float4_e2m1fn"),
    ],
)
def test_mx_blocks_are_ml_dtypes_elements_under_a_power_of_two(
    x: np.ndarray, fmt: BlockFormat, name: str
) -> None:
    """OCP's floor rule in float64: 2^(floor(log2 amax) - exponent of the largest element), then cut."""
    blocks = x.astype(np.float64).reshape(512, 32, 32)
    _, above = np.frexp(np.abs(blocks).max(-1, keepdims=True))
    _, top = np.frexp(fmt.element.largest)
    y = np.clip(np.ldexp(blocks, top - above), -fmt.element.largest, fmt.element.largest)
    elements = y.astype(np.float32).astype(getattr(ml_dtypes, name)).astype(np.float64)
    np.testing.assert_array_equal(fmt.round(x), np.ldexp(elements, above - top).reshape(x.shape))
