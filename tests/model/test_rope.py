"""Rotations, and YaRN's numbers: the frequencies pair by pair, and what it scales."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import rngs, turns

from minidsv3.config import ModelConfig, RopeScaling
from minidsv3.machine.primitives import rope, rope_backward
from minidsv3.model.rope import frequencies, ramp_ends, rotations, rotations_for


@given(rngs, st.integers(1, 4), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_a_rotated_product_depends_on_the_distance_only(
    rng: np.random.Generator, half: int, m: int, n: int, shift: int
) -> None:
    q, k = rng.normal(size=(2, 2 * half))
    table = turns(64, 2 * half)

    def at(x: np.ndarray, position: int) -> np.ndarray:
        return rope(x[None, None].copy(), table[position : position + 1])[0, 0]

    assert at(q, m) @ at(k, n) == pytest.approx(at(q, m + shift) @ at(k, n + shift), abs=1e-12)
    np.testing.assert_allclose(np.linalg.norm(at(q, m)), np.linalg.norm(q))


def test_rope_turns_in_place_also_a_part_of_wider_rows() -> None:
    x = np.arange(2 * 3 * 2 * 7, dtype="f").reshape(2, 3, 2, 7)
    before = x.copy()
    part = x[..., 3:]
    assert rope(part, turns(3, 4, np.complex64)) is part
    np.testing.assert_array_equal(x[..., :3], before[..., :3])
    np.testing.assert_array_equal(x[:, 0], before[:, 0])
    assert not np.allclose(x[:, 1:, :, 3:], before[:, 1:, :, 3:])


def test_yarn_of_v3_ramps_from_pair_10_to_23() -> None:
    config = ModelConfig.preset("v3")
    assert config.rope_scaling is not None
    plain, stretched = frequencies(64, 1e4), frequencies(64, 1e4, config.rope_scaling)
    slowed = plain / stretched
    np.testing.assert_array_equal(slowed[:11], 1)
    np.testing.assert_allclose(slowed[23:], 40)
    assert ((slowed[11:23] > 1) & (slowed[11:23] < 40)).all()
    # the ramp is straight in the frequencies: 1 at pair 10, 1/40 at pair 23
    np.testing.assert_allclose(1 / slowed[10:24], np.linspace(1, 1 / 40, 14))


def test_yarn_scales_the_softmax_of_v3() -> None:
    assert ModelConfig.preset("v3").softmax_scale == pytest.approx(0.1352338, abs=5e-8)
    plain = ModelConfig.preset("v3", rope_scaling=None)
    assert plain.softmax_scale == pytest.approx(0.0721688, abs=5e-8)
    assert ModelConfig.preset("moonlight").softmax_scale == pytest.approx(192**-0.5)


def test_yarn_never_changes_lengths() -> None:
    table = rotations(50, 64, 1e4, ModelConfig.preset("v3").rope_scaling)
    np.testing.assert_allclose(np.abs(table), 1, atol=1e-6)


def m(scale: float, factor: float = 40.0) -> float:
    return 0.1 * scale * math.log(factor) + 1


SCALES = [  # mscale, mscale_all_dim, attention_factor -> what cos and sin, what the softmax is multiplied by
    (1.0, 1.0, None, 1.0, m(1) ** 2),
    (0.707, 0.707, None, 1.0, m(0.707) ** 2),
    (1.0, 0.5, None, m(1) / m(0.5), m(0.5) ** 2),
    (0.5, 2.0, None, m(0.5) / m(2), m(2) ** 2),
    (0.0, 0.0, None, m(1), 1.0),  # neither is given
    (0.7, 0.0, None, m(1), 1.0),
    (0.0, 0.7, None, m(1), m(0.7) ** 2),
    (0.7, 0.7, 1.25, 1.25, m(0.7) ** 2),
]


@pytest.mark.parametrize(("mscale", "all_dim", "factor", "turns_by", "scores_by"), SCALES)
def test_what_yarn_scales(
    mscale: float, all_dim: float, factor: float | None, turns_by: float, scores_by: float
) -> None:
    """cos and sin by the ratio, the softmax by the square of mscale_all_dim's, and by nothing else."""
    scaling = RopeScaling(40.0, 4096, mscale=mscale, mscale_all_dim=all_dim, attention_factor=factor)
    table = rotations(50, 64, 1e4, scaling, np.complex128)
    np.testing.assert_allclose(np.abs(table), turns_by, rtol=1e-12)
    plain = rotations(50, 64, 1e4, RopeScaling(40.0, 4096), np.complex128)
    np.testing.assert_allclose(table / turns_by, plain, rtol=1e-12)
    config = ModelConfig.preset("v3", rope_scaling=scaling)
    assert config.softmax_scale == pytest.approx(scores_by / math.sqrt(192), rel=1e-14)


def yarn_pair(pair: int, dim: int, theta: float, s: RopeScaling) -> float:
    """One frequency by the text of the YaRN paper (arXiv 2309.00071, section 3.2), pairs rounded outwards."""

    def turning(turns: float) -> float:
        return dim * math.log(s.original_seq_len / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = turning(s.beta_fast), turning(s.beta_slow)
    if s.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    slowed = min(max((pair - low) / (high - low), 0), 1)
    plain = theta ** (-2 * pair / dim)
    return plain * (1 - slowed) + plain / s.factor * slowed


@given(
    st.integers(1, 40),
    st.sampled_from([1e4, 5e4, 1e6, 10.0]),
    st.builds(
        RopeScaling,
        factor=st.floats(1, 64),
        original_seq_len=st.integers(8, 8192),
        beta_fast=st.floats(2, 64),
        beta_slow=st.floats(0.5, 2),
        truncate=st.booleans(),
    ),
)
def test_frequencies_are_the_papers_pair_by_pair(half: int, theta: float, scaling: RopeScaling) -> None:
    expected = [yarn_pair(pair, 2 * half, theta, scaling) for pair in range(half)]
    np.testing.assert_allclose(frequencies(2 * half, theta, scaling), expected, rtol=1e-12)


def test_an_unrounded_range_is_another_one() -> None:
    assert ramp_ends(64, 1e4, RopeScaling(40.0, 4096)) == (10, 23)
    ends = ramp_ends(64, 1e4, RopeScaling(40.0, 4096, truncate=False))
    assert ends == pytest.approx((10.472, 22.513), abs=2e-3)


def test_the_backward_of_a_scaled_rotation_is_its_adjoint() -> None:
    """<turn(x), y> = <x, turn_backward(y)>, also where YaRN scales cos and sin."""
    rng, table = np.random.default_rng(0), rotations(5, 8, 1e4, RopeScaling(4.0, 8, mscale=0), np.complex128)
    x, y = rng.normal(size=(2, 1, 5, 8))
    turned, back = rope(x.copy(), table), rope_backward(y.copy(), table)
    assert np.sum(turned * y) == pytest.approx(np.sum(x * back), rel=1e-12)
    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(x) * m(1, 4.0))


def test_the_shared_table_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        rotations_for(ModelConfig.preset("nano"))[0] = 0


def test_no_more_rotations_are_made_than_positions_are_asked_for() -> None:
    config = ModelConfig.preset("nano", max_seq_len=10**12)
    short, longer = (rotations_for(config, length=length) for length in (5, 300))
    assert 5 <= len(short) < 1000
    assert 300 <= len(longer) < 1000
    np.testing.assert_array_equal(short, longer[: len(short)])
    assert len(rotations_for(ModelConfig.preset("nano", max_seq_len=7), length=5)) == 7
