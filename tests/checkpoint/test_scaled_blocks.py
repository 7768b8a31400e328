"""FP8 weights: code times scale, bit for bit, against integers."""

import numpy as np
import pytest
from checkpoint.oracle import by_oracle, codes_of, product
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.checkpoint import decode_blocks, encode_blocks
from minidsv3.checkpoint.scaled_blocks import blocks_of, decode_rows
from minidsv3.numerics import E4M3, E5M2


def test_the_oracle_knows_some_products_by_heart():
    one, third = int(np.float32(1).view(np.uint32)), int(np.float32(1 / 3).view(np.uint32))
    assert np.uint32(product(0x7E, one)).view(np.float32) == 448
    assert np.uint32(product(0x81, one)).view(np.float32) == -(2.0**-9)
    assert np.uint32(product(0x44, third)).view(np.float32) == np.float32(1)  # 3 x fl(1/3) is a tie
    assert product(0x38, 1) == 1  # the smallest subnormal
    assert product(0x30, 1) == 0  # half of it: a tie, to the even 0
    assert product(0x34, 1) == 1  # three quarters
    assert product(0x7E, 0x7F7F_FFFF) == 0x7F80_0000


# ---- exact -------------------------------------------------------------------------------------------------

SHAPES = [
    ((1, 1), (128, 128)),
    ((127, 129), (128, 128)),
    ((130, 257), (128, 128)),
    ((128, 128), (128, 128)),
    ((576, 7168), (128, 128)),
    ((40, 300), (7, 9)),
    ((5, 3), (1, 1)),
    ((9, 300), (1, 128)),
    ((300, 9), (128, 1)),
    ((33, 20), (1000, 10**12)),
]


@pytest.mark.parametrize(("shape", "block"), SHAPES)
def test_every_weight_is_the_float32_nearest_to_code_times_scale(shape, block):
    draw = np.random.default_rng(0)
    cells = blocks_of(shape, block)
    assert shape != (576, 7168) or cells == (5, 56)
    codes, scale = codes_of(shape, draw), draw.lognormal(-9, 1, cells).astype(np.float32)
    scale.flat[0] = 0
    came = decode_blocks(codes, scale, block)
    np.testing.assert_array_equal(came.view(np.uint32), by_oracle(codes, scale, block))


@pytest.mark.parametrize("fmt", [E4M3, E5M2])
def test_scales_of_every_size_are_exact(fmt):
    """Subnormal scales and products, powers of two, scales where a shifted exponent would overflow."""
    fields = np.arange(255, dtype=np.uint32) << 23
    fractions = np.uint32([0, 1, 0x2A_AAAA, 0x40_0000, 0x7F_FFFF])
    scale = (fields[:, None] + fractions).reshape(-1, 1).view(np.float32)
    scale = scale[scale <= np.float32(np.finfo(np.float32).max / fmt.largest)].reshape(-1, 1)
    codes = np.tile(np.arange(256, dtype=np.uint8), (len(scale), 1))
    codes[(codes & 0x7F) > fmt.top] = 0
    came = decode_blocks(codes, scale, (1, 256), fmt=fmt)
    np.testing.assert_array_equal(came.view(np.uint32), by_oracle(codes, scale, (1, 256), fmt))


sides = st.integers(1, 40)


@settings(max_examples=40)
@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1), st.integers(1, 300))
def test_any_rows_of_any_blocks_are_exact(rows, columns, r, c, seed, piece):
    draw = np.random.default_rng(seed)
    codes = codes_of((rows, columns), draw)
    scale = draw.integers(0, 200 << 23, blocks_of((rows, columns), (r, c))).astype(np.uint32).view(np.float32)
    wanted = by_oracle(codes, scale, (r, c))
    first, last = sorted(draw.integers(0, rows + 1, 2))
    out = np.full((last - first, columns), np.nan, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minidsv3.checkpoint.scaled_blocks.PIECE", piece)
        decode_rows(codes[first:last], scale, int(first), (r, c), out)
    np.testing.assert_array_equal(out.view(np.uint32), wanted[first:last])


# ---- encoding ----------------------------------------------------------------------------------------------


@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1), st.floats(-30, 30))
def test_the_largest_of_a_block_is_kept_and_the_rest_within_half_a_step(rows, columns, r, c, seed, octave):
    draw = np.random.default_rng(seed)
    values = (draw.standard_normal((rows, columns)) * 2.0**octave).astype(np.float32)
    codes, scale = encode_blocks(values, (r, c))
    assert scale.shape == blocks_of(values.shape, (r, c))
    back = decode_blocks(codes, scale, (r, c))
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            here = np.s_[i * r : (i + 1) * r, j * c : (j + 1) * c]
            amax = np.abs(values[here]).max()
            assert scale[i, j] == np.float32(amax) / np.float32(448)
            assert np.abs(back[here]).max() == pytest.approx(amax, rel=1e-6)
            nearest = E4M3.encode(values[here] / scale[i, j])  # divided, not times a reciprocal
            np.testing.assert_array_equal(codes[here], nearest)
            steps = np.maximum(np.abs(values[here]) / 16, scale[i, j] * np.float32(2.0**-10))
            assert (np.abs(back[here] - values[here]) <= steps * np.float32(1 + 1e-6)).all()


@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1))
def test_what_was_decoded_is_encoded_to_the_same_weights(rows, columns, r, c, seed):
    values = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    once = decode_blocks(*encode_blocks(values, (r, c)), (r, c))
    twice = decode_blocks(*encode_blocks(once, (r, c)), (r, c))
    np.testing.assert_array_equal(once, twice)


def test_a_block_of_zeros_stays_zeros():
    values = np.zeros((130, 140), np.float32)
    values[:, 128:] = 3
    values[0, 0] = -0.0
    codes, scale = encode_blocks(values, (128, 128))
    assert scale[0, 0] == scale[1, 0] == np.float32(2.0**-126)
    back = decode_blocks(codes, scale, (128, 128))
    np.testing.assert_array_equal(back.view(np.uint32), values.view(np.uint32))  # the zero's sign too


def test_a_block_with_scale_zero_is_zeros():
    assert not decode_blocks(np.full((2, 2), 0x7E, np.uint8), np.zeros((1, 1), "f"), (2, 2)).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_fp8_cannot_scale_is_not_encoded(bad):
    values = np.ones((3, 3), np.float32)
    values[1, 2] = bad
    with pytest.raises(ValueError, match="expected finite values"):
        encode_blocks(values, (2, 2))


@pytest.mark.parametrize(
    ("codes", "scale"),
    [
        (np.zeros((3, 3), np.uint8), np.ones((1, 2), "f")),
        (np.zeros((3, 3), np.int8), np.ones((2, 2), "f")),
        (np.zeros(3, np.uint8), np.ones((2, 2), "f")),
    ],
)
def test_shapes_that_do_not_meet_are_refused(codes, scale):
    with pytest.raises(ValueError, match=r"expected codes uint8 \[R, C\] and a scale for each block"):
        decode_blocks(codes, scale, (2, 2))
