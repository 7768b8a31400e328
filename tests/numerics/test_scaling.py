"""Tiles and their scales: against one tile at a time, against the published recipes, against bad input."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from minidsv3.numerics import (
    BF16,
    E2M1,
    E2M3,
    E3M2,
    E4M3,
    E5M2,
    E5M6,
    FP16,
    FP32,
    RECIPES,
    UE8M0,
    NumberFormat,
    Quantized,
    power_of_two_ceil,
    quantize,
    tile_round,
    tile_round_both,
    tile_round_groups,
    tiles,
)

Array = NDArray[Any]
MADE_UP = replace(FP16, name="made up", bias=10)  # its codes need a constant that m has no room for
FORMATS = [E4M3, E5M2, E5M6, E2M1, E2M3, E3M2, BF16, FP16, MADE_UP]
SCALES = ["float32", "power-of-two"]
ONE = np.float32(1)
both_scales = pytest.mark.parametrize("scale", SCALES)


def tile_by_tile(x: Array, block: tuple[int, int], fmt: NumberFormat, scale: str, floor: float) -> Any:
    """The specification: codes, scales, values, one tile at a time and by the format's own encoder."""
    R, C = x.shape[-2:]
    codes, values = np.empty(x.shape, fmt.dtype), np.empty_like(x)
    scales = np.empty((*x.shape[:-2], math.ceil(R / block[0]), math.ceil(C / block[1])), np.float32)
    for layer in np.ndindex(x.shape[:-2]):
        for r, c in np.ndindex(scales.shape[-2:]):
            where = (*layer, slice(r * block[0], (r + 1) * block[0]), slice(c * block[1], (c + 1) * block[1]))
            s = np.maximum(np.max(np.abs(x[where])), np.float32(floor)) / np.float32(fmt.largest)
            s = power_of_two_ceil(s) if scale == "power-of-two" else np.maximum(s, np.float32(2.0**-126))
            codes[where] = fmt.encode(x[where] / s, "saturate")
            scales[(*layer, r, c)], values[where] = s, fmt.decode(codes[where]) * s
    return codes, scales, values


def same_bits(a: Array, b: Array) -> None:
    """Bit for bit, the payload of NaN aside."""
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    kept = ~np.isnan(a)
    np.testing.assert_array_equal(a.view(np.uint32)[kept], b.view(np.uint32)[kept])


@st.composite
def tensors(draw: st.DrawFn) -> Array:
    """Matrices, stacked or not, of numbers in a wide range of magnitudes, with zeros and at times a NaN."""
    leading = draw(st.lists(st.integers(1, 3), max_size=2))
    shape = (*leading, draw(st.integers(1, 40)), draw(st.integers(1, 150)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([0.1, 1, 4, 12]))
    wide = rng.standard_normal(shape) * np.exp(spread * rng.standard_normal(shape))
    wide *= 10.0 ** draw(st.sampled_from([0, 0, 0, -6, -30, 25]))
    x = np.clip(wide, -3e38, 3e38).astype(np.float32)
    x[rng.random(shape) < 0.1] *= rng.choice([0.0, -0.0])
    if draw(st.booleans()):
        x.flat[rng.integers(x.size)] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    return x


blocks = st.tuples(st.sampled_from([1, 2, 3, 16, 32, 128]), st.sampled_from([1, 3, 8, 16, 32, 48, 128]))


@pytest.mark.slow
@settings(max_examples=150)
@given(tensors(), blocks, st.sampled_from(FORMATS), st.sampled_from(SCALES), st.sampled_from([0, 1e-4]))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the specification overflows where it must
def test_all_tiles_are_as_each_alone(
    x: Array, block: tuple[int, int], fmt: NumberFormat, scale: str, floor: float
) -> None:
    codes, scales, values = tile_by_tile(x, block, fmt, scale, floor)
    q = quantize(x, block, fmt, scale, floor)
    np.testing.assert_array_equal(q.codes, codes)
    same_bits(q.scale, scales)
    same_bits(q.dequantize(), values)
    rounded = tile_round(x, block, fmt, scale, floor)
    same_bits(rounded, values)
    same_bits(tile_round(x, block, fmt, scale, floor, out=x), rounded)  # in place
    assert np.shares_memory(tile_round(x, block, fmt, out=x), x)


@settings(max_examples=40)
@given(tensors(), blocks, st.sampled_from(sorted(RECIPES)), st.data())
def test_rounding_is_quantising_in_every_recipe(
    x: Array, block: tuple[int, int], recipe: str, data: st.DataObject
) -> None:
    scale = data.draw(st.sampled_from(RECIPES[recipe].scales))
    q = quantize(x, block, scale=scale, recipe=recipe)
    same_bits(tile_round(x, block, scale=scale, recipe=recipe), q.dequantize())


@both_scales
@pytest.mark.parametrize("block", [(1, 32), (32, 1), (16, 16), (100, 500), (1, 1)])
def test_patches_meet(block: tuple[int, int], scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is worked on at once: neither the codes nor the values depend on it."""
    x = np.random.default_rng(3).standard_normal((3, 37, 151)).astype(np.float32)
    whole, rounded = quantize(x, block, scale=scale), tile_round(x, block, scale=scale)
    for size in (13, 700, 4096):
        monkeypatch.setattr(tiles, "PATCH", size)
        small = quantize(x, block, scale=scale)
        np.testing.assert_array_equal(small.codes, whole.codes)
        np.testing.assert_array_equal(small.scale, whole.scale)
        np.testing.assert_array_equal(tile_round(x, block, scale=scale), rounded)
        np.testing.assert_array_equal(small.dequantize(), rounded)


def test_every_layout_in_memory() -> None:
    x = np.random.default_rng(4).standard_normal((70, 90)).astype(np.float32)
    expected = quantize(x, (16, 8))
    for view in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(quantize(view, (16, 8)).codes, expected.codes)
        out = np.empty((90, 70), np.float32).T
        assert tile_round(view, (16, 8), out=out) is out
        np.testing.assert_array_equal(out, expected.dequantize())


def test_nothing_in_nothing_out() -> None:
    for shape in ((0, 5), (3, 0), (2, 0, 130), (0, 4, 4)):
        q = quantize(np.empty(shape, np.float32))
        assert (
            q.codes.shape == q.dequantize().shape == tile_round(np.empty(shape, np.float32), (1, 128)).shape
        )
        assert q.scale.shape == (*shape[:-1], math.ceil(shape[-1] / 128))


def test_an_edge_is_as_if_padded_with_zeros() -> None:
    x = np.random.default_rng(5).standard_normal((200, 300)).astype(np.float32)
    padded = np.zeros((256, 384), np.float32)
    padded[:200, :300] = x
    edge, whole = quantize(x, (128, 128)), quantize(padded, (128, 128))
    np.testing.assert_array_equal(edge.scale, whole.scale)
    np.testing.assert_array_equal(edge.codes, whole.codes[:200, :300])


# ---- scales ------------------------------------------------------------------------------------------------


def test_power_of_two_at_or_above() -> None:
    """Against exact arithmetic, at all powers and the eleven floats on either side of each."""
    powers = np.ldexp(ONE, np.arange(-126, 128)).astype(np.float32)
    bits = powers.view(np.uint32)[:, None].astype(np.int64) + np.arange(-11, 12)
    s = bits[bits < 0x7F80_0000].astype(np.uint32).view(np.float32)
    mantissa, exponent = np.frexp(s.astype(np.float64))
    expected = np.clip(exponent - (mantissa == 0.5), -126, 127)
    np.testing.assert_array_equal(power_of_two_ceil(s), np.ldexp(1.0, expected))


def test_a_rounded_logarithm_is_wrong_just_above_powers_of_two() -> None:
    """Why the exponent field: float32's ceil(log2 s) takes s for the power below, and every code doubles."""
    bits = np.ldexp(ONE, np.arange(-60, 60)).astype(np.float32).view(np.uint32)[:, None] + np.arange(
        1, 12, dtype=np.uint32
    )
    s = bits.view(np.float32)
    by_logarithm = np.exp2(np.ceil(np.log2(s)))
    assert (by_logarithm < s).mean() > 0.1
    assert (power_of_two_ceil(s) > s).all()


def test_ends_of_the_exponent_field() -> None:
    cases = [0.0, 1e-45, 2.0**-126, 2.0**127, 3e38, np.inf, np.nan]
    expected = [2.0**-126] * 3 + [2.0**127] * 4
    assert power_of_two_ceil(np.array(cases, np.float32)).tolist() == expected


def test_the_recipes_are_those_published() -> None:
    """Every float32 operation of each recipe, spelled out on values next to midpoints of codes."""
    rng, top = np.random.default_rng(6), np.float32(448)
    amax = rng.uniform(1, 2, (2000, 1)).astype(np.float32)
    values = E4M3.decode(np.arange(0x7F, dtype=np.uint8))
    x = rng.choice((values[1:] + values[:-1]) / 2, (2000, 128)) * (amax / top)
    x[:, :1] = amax
    plain, reciprocal = amax / top, amax * (ONE / top)
    expected = {
        "v3-2024-12": (plain, x / plain),
        "v3-2025-08": (plain, x / plain),
        "v3.2": (reciprocal, x / reciprocal),
        "deepgemm": (plain, x * (ONE / plain)),
        "deepep": (reciprocal, x * (top / amax)),
        "hf-finegrained": (plain, x / plain),
    }
    assert set(expected) == {name for name in RECIPES if "float32" in RECIPES[name].scales}
    two = power_of_two_ceil(np.maximum(plain, np.float32(1e-4)))  # FlashMLA: powers of two alone
    flashmla = quantize(x, scale="power-of-two", recipe="flashmla")
    np.testing.assert_array_equal(flashmla.scale, two)
    np.testing.assert_array_equal(flashmla.codes, E4M3.encode(x / two, "saturate"))
    with pytest.raises(ValueError, match="expected scale one of"):
        quantize(x, recipe="flashmla")
    for name, (s, y) in expected.items():
        q = quantize(x, recipe=name)
        np.testing.assert_array_equal(q.scale, s)
        np.testing.assert_array_equal(q.codes, E4M3.encode(y, "saturate"))
    names = sorted(expected)
    codes = {name: E4M3.encode(expected[name][1], "saturate") for name in names}
    alike = {(a, b) for a in names for b in names if a < b and np.array_equal(codes[a], codes[b])}
    assert alike == {
        ("hf-finegrained", "v3-2024-12"),
        ("hf-finegrained", "v3-2025-08"),
        ("v3-2024-12", "v3-2025-08"),
    }
    assert (plain != reciprocal).mean() > 0.2  # amax * (1/448) is another number than amax / 448


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_power_of_two_scales_leave_no_room_for_differences(recipe: str) -> None:
    if "power-of-two" not in RECIPES[recipe].scales:
        with pytest.raises(ValueError, match="recipe"):
            quantize(np.zeros((1, 1), np.float32), scale="power-of-two", recipe=recipe)
        return
    x = np.random.default_rng(7).standard_normal((100, 256)).astype(np.float32)
    ours, theirs = quantize(x, scale="power-of-two"), quantize(x, scale="power-of-two", recipe=recipe)
    np.testing.assert_array_equal(ours.codes, theirs.codes)
    np.testing.assert_array_equal(ours.scale, theirs.scale)


@pytest.mark.parametrize("recipe", [None, *RECIPES])
def test_a_tile_of_zeros(recipe: str | None) -> None:
    """Zero over zero in the first release and its copies; zeros everywhere else, whatever the floor."""
    x = np.zeros((1, 256), np.float32)
    x[0, 128:], x[0, 5] = 1, -0.0
    scale = RECIPES[recipe].scales[0] if recipe else "float32"
    values = quantize(x, scale=scale, recipe=recipe).dequantize()
    if recipe in ("v3-2024-12", "hf-finegrained"):
        assert np.isnan(values[0, :128]).all()
    else:
        np.testing.assert_array_equal(values.view(np.uint32), x.view(np.uint32))
    np.testing.assert_array_equal(values[0, 128:], 1)


@both_scales
def test_zeros_without_a_floor_are_zeros(scale: str) -> None:
    x = np.zeros((4, 128), np.float32)
    assert not quantize(x, scale=scale, amax_floor=0).dequantize().any()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@both_scales
def test_the_smallest_numbers_without_a_floor(scale: str) -> None:
    """Down to the smallest subnormal nothing overflows or turns NaN; half a step of the scale is lost."""
    x = np.ldexp(ONE, -np.arange(149, 20, -1)).astype(np.float32)[:, None]
    values = quantize(x, (1, 1), scale=scale, amax_floor=0).dequantize()
    assert (np.abs(values - x) <= np.maximum(x * np.float32(2.0**-4), np.float32(2.0**-136))).all()


def test_the_floor_is_on_amax() -> None:
    x = np.full((1, 4), 1e-5, np.float32)
    assert quantize(x).scale.item() == np.float32(1e-4) / np.float32(448)
    assert quantize(x, amax_floor=0).scale.item() == np.float32(1e-5) / np.float32(448)
    assert quantize(x, amax_floor=0).codes[0, 0] == E4M3.encode(448.0)
    assert quantize(x).codes[0, 0] < E4M3.encode(64.0)  # range lost


def test_infinity_and_nan() -> None:
    """As `quantize` says: a float32 scale loses the tile, with a power of two they stay in their places."""
    x = np.ones((3, 128), np.float32)
    x[0, 3], x[1, 3] = np.nan, -np.inf
    values = quantize(x).dequantize()
    assert np.isnan(values[:2]).all()
    assert (values[2] == 1).all()
    powers = quantize(x, scale="power-of-two")
    assert (powers.scale[:2] == 2.0**127).all()
    values = powers.dequantize()
    assert np.isnan(values[0, 3])
    assert values[1, 3] == -np.inf
    assert not np.delete(values[:2], 3, axis=1).any()


# ---- other blocks ------------------------------------------------------------------------------------------


def changed(scale: str, x: Array) -> float:
    """Share of values that going from 1x128 to 128x1 changes."""
    rows = quantize(x, (1, 128), scale=scale)
    return float(np.mean(rows.dequantize() != rows.regroup((128, 1)).dequantize()))


def test_regrouping_is_exact_with_powers_of_two() -> None:
    """Magnitudes from 0.01 to 5: no value falls among the subnormals of its new tile."""
    rng = np.random.default_rng(8)
    x = (rng.uniform(0.01, 5, (256, 512)) * rng.choice([-1, 1], (256, 512))).astype(np.float32)
    assert changed("float32", x) > 0.98
    assert changed("power-of-two", x) == 0


def test_regrouping_loses_only_what_turns_subnormal() -> None:
    """A row far larger than its neighbours pushes them below the smallest normal number; Gaussians hardly."""
    x = np.random.default_rng(9).standard_normal((128, 512)).astype(np.float32)
    assert changed("power-of-two", x) < 1e-4
    x[0] *= 1e5
    before = quantize(x, (1, 128), scale="power-of-two")
    after = before.regroup((128, 1))
    lost = before.dequantize() != after.dequantize()
    assert lost.mean() > 0.2
    assert (np.abs(E4M3.decode(after.codes))[lost] <= E4M3.smallest_normal).all()


def test_regrouping_keeps_the_kind_of_scale_and_takes_another() -> None:
    x = np.random.default_rng(10).standard_normal((5, 64, 64)).astype(np.float32)
    powers = quantize(x, (1, 64), E5M6, "power-of-two")
    again = powers.regroup((64, 1))
    assert again.fmt is E5M6
    assert again.scale.shape == (5, 1, 64)
    assert np.array_equal(again.scale, power_of_two_ceil(again.scale))
    assert not np.array_equal(powers.regroup((64, 1), "float32").scale, again.scale)


# ---- bad input ---------------------------------------------------------------------------------------------

CODES = np.zeros((4, 200), np.uint8)
GOOD = np.ones((4, 2), np.float32)


def test_given_codes_and_scales_come_back_as_values() -> None:
    q = Quantized(CODES + np.uint8(0x38), GOOD * np.float32(0.5), (1, 128), E4M3)
    assert (q.dequantize() == 0.5).all()


@pytest.mark.parametrize(
    ("codes", "scale", "fmt", "message"),
    [
        (CODES, GOOD * 0, E4M3, "above zero"),
        (CODES, -GOOD, E4M3, "above zero"),
        (CODES, GOOD * np.nan, E4M3, "above zero"),
        (CODES, GOOD * np.inf, E4M3, "above zero"),
        (CODES, GOOD[:, :1], E4M3, "expected scale float32"),
        (CODES, GOOD.astype(np.float64), E4M3, "expected scale float32"),
        (CODES.astype(np.int64), GOOD, E4M3, "expected codes of e4m3 in uint8"),
        (CODES, GOOD, E5M6, "expected codes of e5m6 in uint16"),
        (CODES + np.uint8(16), GOOD, E2M1, "below 16"),
        (CODES[0], GOOD[0], E4M3, r"expected values \[..., R, C\]"),
    ],
)
def test_given_codes_and_scales_are_checked(
    codes: Array, scale: Array, fmt: NumberFormat, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Quantized(codes, scale, (1, 128), fmt)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": np.ones((2, 2))}, "float64"),
        ({"x": np.ones(3, np.float32)}, r"\[..., R, C\]"),
        ({"block": (0, 128)}, "block"),
        ({"block": (1, 1.5)}, "block"),
        ({"block": 128}, "block"),
        ({"scale": "ue8m0"}, "scale"),
        ({"recipe": "v4"}, "recipe"),
        ({"amax_floor": -1.0}, "amax_floor"),
        ({"amax_floor": np.nan}, "amax_floor"),
        ({"amax_floor": 1e39}, "amax_floor at least 0 and a finite float32, got 1e[+]39"),
        ({"amax_floor": "small"}, "amax_floor .* got 'small'"),
        ({"scale": ["float32"]}, "expected scale one of"),
        ({"recipe": ["v3.2"]}, "expected recipe one of"),
        ({"fmt": "e4m3"}, "expected a NumberFormat with a sign, got 'e4m3'"),
        ({"fmt": UE8M0}, "expected a NumberFormat with a sign, got 'ue8m0'"),
        ({"block": (1.0, 128.0)}, "expected block"),
        ({"block": (1, np.inf)}, "expected block"),
        ({"block": ("1", "2")}, "expected block"),
        ({"x": [[1j]]}, "expected numbers, got complex128"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    arguments = {"x": np.ones((2, 2), np.float32), "block": (1, 2), **arguments}
    for function in (quantize, tile_round):
        with pytest.raises(ValueError, match=message):
            function(**arguments)


def test_out_has_to_fit() -> None:
    for out in (np.empty((2, 3), np.float32), np.empty((2, 2))):
        with pytest.raises(ValueError, match="expected out float32"):
            tile_round(np.ones((2, 2), np.float32), (1, 2), out=out)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected out float32 \(2, 2\), got list"):
        tile_round(np.ones((2, 2), np.float32), (1, 2), out=[])  # type: ignore[arg-type]


@both_scales
def test_out_may_lie_anywhere(scale: str) -> None:
    """In place, over a part of x, over x turned: never are values read that were written."""
    room = np.random.default_rng(12).standard_normal(2 * 40 * 40 + 40).astype(np.float32)
    for block in ((1, 32), (32, 1), (16, 16), (3, 40)):
        for start in (0, 1, 40):
            here = room.copy()
            x, out = here[:1600].reshape(40, 40), here[start : start + 1600].reshape(40, 40)
            expected = quantize(x, block, scale=scale).dequantize()
            same_bits(tile_round(x, block, scale=scale, out=out), expected)
        here = room[:1600].reshape(40, 40).copy()
        expected = quantize(here.T, block, scale=scale).dequantize()
        same_bits(tile_round(here.T, block, scale=scale, out=here), expected)


@pytest.mark.parametrize(
    "bounds", [[], [0, 3], [1, 4], [0, 3, 2, 4], [0, 9, 4], [0, -1, 4], [0, 1.5, 4], [[0, 4]]]
)
def test_groups_lead_from_the_first_row_to_the_last(bounds: Any) -> None:
    x = np.ones((4, 8), np.float32)
    with pytest.raises(ValueError, match=r"expected x \[P, C\] and bounds from 0 up to P, got \(4, 8\)"):
        tile_round_groups(x, bounds, 2)
    with pytest.raises(ValueError, match=r"expected x \[P, C\] and bounds from 0 up to P, got \(4, 8\)"):
        tile_round_both(x, 2, bounds=bounds)


def test_groups_are_of_one_matrix() -> None:
    with pytest.raises(ValueError, match=r"got \(1, 4, 8\)"):
        tile_round_both(np.ones((1, 4, 8), np.float32), 2)


def test_what_fits_into_float32_is_scaled() -> None:
    x = np.float32([[0.5, -3, 7, 100]])
    for same in (x.astype(np.float16), x.astype(">f4"), x.tolist()):
        np.testing.assert_array_equal(quantize(same).codes, quantize(x).codes)
        same_bits(tile_round(same, (1, 2)), tile_round(x, (1, 2)))


def test_codes_and_scales_are_arrays_and_a_format() -> None:
    q = quantize(np.ones((2, 2), np.float32), (1, 2))
    for change, message in (
        ({"codes": q.codes.tolist()}, "expected codes as an array, got list"),
        ({"scale": q.scale.tolist()}, "expected scale as an array, got list"),
        ({"fmt": "e4m3"}, "expected a NumberFormat, got 'e4m3'"),
    ):
        parts: dict[str, Any] = {"codes": q.codes, "scale": q.scale, "block": q.block, "fmt": q.fmt}
        with pytest.raises(ValueError, match=message):
            Quantized(**{**parts, **change})


def test_wide_formats_go_the_long_way() -> None:
    """FP32 has nothing to round: what comes back differs by the scaling's own roundings alone."""
    x = np.random.default_rng(11).standard_normal((3, 128)).astype(np.float32)
    same_bits(tile_round(x, (1, 128), FP32, "power-of-two"), x)
