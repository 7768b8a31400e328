"""Codecs have the errors that others measured; outliers cost what they should."""

import numpy as np
import pytest

from minidsv3.numerics.experiments import OPERANDS
from minidsv3.numerics.tile_errors import CODECS, codec_errors, draw, outlier_errors, tile_error


def test_codecs_on_gaussian_tiles() -> None:
    """Relative RMS errors measured elsewhere on 4,000 Gaussian tiles."""
    x = np.random.default_rng(0).standard_normal((4000, 128), np.float32)
    expected = {
        "E5M2": 5.13e-2, "E4M3": 2.57e-2, "LogFMT-8": 1.41e-2, "LogFMT-10": 3.49e-3, "E5M6": 3.32e-3,
        "BF16": 1.66e-3,
    }  # fmt: skip
    found = {name: error.relative_rms for name, error in codec_errors(x).items()}
    assert set(found) == set(CODECS) == set(expected)
    for name, error in expected.items():
        assert found[name] == pytest.approx(error, rel=0.01), name


def test_an_error_by_hand() -> None:
    x, back = np.float32([[3.0, 4.0, 0.0, 1e-3]]), np.float32([[3.0, 3.0, 0.0, 0.0]])
    error = tile_error(x, back, tile=2)
    assert error.relative_rms == pytest.approx(1 / 5)
    assert error.median == pytest.approx(0.25)
    assert error.worst_tile == 1.0
    assert (error.flushed, error.amax) == (1, 4.0)
    zeros = np.zeros((1, 2), np.float32)
    assert tile_error(zeros, zeros).relative_rms == 0.0
    assert np.isnan(tile_error(zeros, np.full_like(zeros, np.nan)).relative_rms)


def test_outliers_cost_their_tile_and_not_the_tensor() -> None:
    rows = {(row.growth, row.scaling): row for row in outlier_errors([1.0, 1e5], (64, 512))}
    small, large = ({way: rows[growth, way] for way in ("one scale", "1x128")} for growth in (1.0, 1e5))
    assert small["one scale"].relative_rms < 0.03
    assert large["one scale"].relative_rms > 5 * large["1x128"].relative_rms
    assert large["one scale"].flushed_share > 20 * large["1x128"].flushed_share


def test_what_is_drawn() -> None:
    rng = np.random.default_rng(0)
    x = draw("outliers", (64, 512), rng, growth=1000.0)
    large = np.abs(x).mean(axis=0) > 100
    assert large.sum() == 2
    assert (draw("uniform [0, 1)", (4, 4), rng) >= 0).all()
    assert set(OPERANDS) == {"uniform [0, 1)", "absolute normal", "normal"}
    with pytest.raises(ValueError, match="did you mean 'gaussian'"):
        draw("gausian", (4, 4), rng)
