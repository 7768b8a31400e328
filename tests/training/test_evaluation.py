"""Held-out bits on documents of every length."""

import numpy as np
import pytest

from minidsv3.config import ModelConfig
from minidsv3.model.parameters import Parameters
from minidsv3.training import evaluate


@pytest.mark.parametrize("depths", [0, 1, 2])
def test_a_document_too_short_for_the_modules_counts_too(depths: int) -> None:
    config = ModelConfig.preset("nano", dim=16, n_layers=2, vocab_size=300, inter_dim=16, n_mtp_layers=depths)
    parameters = Parameters.initialise(config, np.random.default_rng(0))
    documents = [np.arange(length, dtype=np.int32) for length in (2, 3, 40, 5)]
    result = evaluate(parameters, documents, 100, 16)
    assert result.loads.shape == (1 + depths, config.n_routed_experts)
    assert np.isfinite(result.bits_per_byte).all()
    assert result.tokens == 46
