"""Rotations, and YaRN's numbers for V3."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import rngs, turns

from minidsv3.config import ModelConfig, RopeScaling
from minidsv3.machine.primitives import rope
from minidsv3.model.rope import frequencies, rotations, rotations_for


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


def test_a_ratio_of_magnitudes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected mscale = mscale_all_dim, got 1\.0 and 0\.5"):
        frequencies(8, 1e4, RopeScaling(factor=40, original_seq_len=64, mscale=1.0, mscale_all_dim=0.5))


def test_the_shared_table_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        rotations_for(ModelConfig.preset("nano"))[0] = 0
