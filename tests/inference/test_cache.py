"""The cache under any order of appends and rollbacks agrees with recomputing the whole text."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from strategies import configs, parameters_of

from minidsv3.config import ModelConfig
from minidsv3.inference import Decoder, LatentCache
from minidsv3.inference import cache as cache_module
from minidsv3.inference.decode import ATTENTION
from minidsv3.machine import Machine
from minidsv3.model.parameters import Parameters
from minidsv3.model.transformer import all_logits

MACHINE = Machine(dtype="float64")


class CachedText(RuleBasedStateMachine):
    """A text grown and cut through the cache; after each rule the last logits are those of the whole text."""

    @initialize(
        config=configs(max_seq_len=40),
        seed=st.integers(0, 2**32),
        attention=st.sampled_from(sorted(ATTENTION)),
    )
    def start(self, config: ModelConfig, seed: int, attention: str) -> None:
        self.parameters: Parameters = parameters_of(config, np.random.default_rng(seed))
        self.decoder = Decoder(MACHINE, self.parameters, attention=ATTENTION[attention])
        self.text: list[int] = []
        self.logits: np.ndarray | None = None

    @rule(tokens=st.lists(st.integers(0, 4), min_size=1, max_size=12))
    def append(self, tokens: list[int]) -> None:
        if len(self.text) + len(tokens) <= 40:
            logits, _ = self.decoder.step(np.array([tokens]))
            self.text += tokens
            self.logits = logits[0]

    @rule(tokens=st.lists(st.integers(0, 4), min_size=1, max_size=12), chunk=st.integers(1, 13))
    def append_in_chunks(self, tokens: list[int], chunk: int) -> None:
        if len(self.text) + len(tokens) <= 40:
            self.logits = self.decoder.prefill(np.array([tokens]), chunk)
            self.text += tokens

    @precondition(lambda self: self.text)
    @rule(share=st.floats(0, 1))
    def roll_back(self, share: float) -> None:
        del self.text[int(share * len(self.text)) :]
        self.decoder.cache.truncate(len(self.text))
        self.logits = None

    @invariant()
    def length_is_the_texts(self) -> None:
        if hasattr(self, "decoder"):
            assert self.decoder.cache.length == len(self.text) <= self.decoder.cache.capacity

    @invariant()
    def logits_are_those_of_the_whole_text(self) -> None:
        if getattr(self, "logits", None) is not None:
            whole = all_logits(MACHINE, self.parameters, np.array([self.text]))[0][0]
            np.testing.assert_allclose(self.logits, whole[-len(self.logits) :], rtol=1e-9, atol=1e-9)


CachedText.TestCase.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)
test_cached_text = CachedText.TestCase


@pytest.fixture(autouse=True)
def small_first_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room at first, so that growing happens."""
    monkeypatch.setattr(cache_module, "FIRST_ROWS", 3)


def test_growing_doubles_and_keeps_the_rows():
    config = ModelConfig.preset("nano", max_seq_len=20)
    cache = LatentCache(config, batch=2)
    cache.latents(1)[:, :3] = 7
    cache.advance(3)
    capacities = []
    for length in range(4, 21):
        cache.reserve(length)
        capacities.append(cache.capacity)
    assert sorted(set(capacities)) == [6, 12, 20]
    assert (cache.latents(1)[:, :3] == 7).all()


def test_bytes_are_those_of_the_latents():
    config = ModelConfig.preset("v3")
    cache = LatentCache(config, dtype=np.float16)
    cache.advance(2)
    assert cache.bytes_per_token == 61 * (512 + 64) * 2 == 70272
    assert cache.nbytes == 2 * 70272


def test_what_does_not_fit_is_refused():
    cache = LatentCache(ModelConfig.preset("nano", max_seq_len=8))
    with pytest.raises(ValueError, match="at most 8 tokens in a cache, got 9"):
        cache.reserve(9)
    with pytest.raises(ValueError, match=r"0 \.\. 0, got 1"):
        cache.truncate(1)
    with pytest.raises(ValueError, match=r"expected 0 \.\. 3 new tokens, got 4"):
        cache.advance(4)
