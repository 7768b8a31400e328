"""The bytes of a packed cache: laid out as published, all that is kept, the same whatever way they came."""

import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from strategies import configs, parameters_of, rngs

from minidsv3 import Machine, Model, ModelConfig
from minidsv3.inference import Decoder, LatentCache, cache_error, cache_errors, generate
from minidsv3.inference import cache as cache_module
from minidsv3.inference.decode import ATTENTION
from minidsv3.inference.packed_latents import PackedRows, RowLayout
from minidsv3.machine.primitives import FEW
from minidsv3.numerics import BF16

V3 = RowLayout("fp8", latent=512, key=64)
FORMATS = st.sampled_from(["bf16", "fp8"])


# ---- a reader that shares nothing with the package --------------------------------------------------------


def e4m3(code: int) -> Fraction:
    sign, field, fraction = -1 if code >> 7 else 1, code >> 3 & 15, code & 7
    if field == 0:
        return sign * Fraction(fraction, 2**9)
    return sign * Fraction(8 + fraction, 8) * Fraction(2) ** (field - 7)


def bf16(low: int, high: int) -> float:
    return struct.unpack("<f", bytes([0, 0, low, high]))[0]


def read_row(row: bytes, d_c: int, d_R: int, tile: int) -> list[float]:
    """FlashMLA's row: E4M3 codes, float32 scales, BF16 key."""
    scales = struct.unpack_from(f"<{-(-d_c // tile)}f", row, d_c)
    latent = [float(np.float32(e4m3(row[i]) * Fraction(scales[i // tile]))) for i in range(d_c)]
    key = row[len(row) - 2 * d_R :]
    return latent + [bf16(key[2 * i], key[2 * i + 1]) for i in range(d_R)]


def test_a_row_made_by_hand_is_read_as_published():
    row = bytearray(656)
    row[0], row[1], row[127], row[128], row[511] = 0x38, 0xB9, 0x7E, 0x01, 0x38  # 1, -1.125, 448, 2^-9, 1
    struct.pack_into("<4f", row, 512, 0.5, 3.0, 7.0, 0.1)
    struct.pack_into("<HH", row, 528, 0x3F80, 0xC020)  # 1, -2.5
    struct.pack_into("<H", row, 654, 0x4049)
    packed = np.frombuffer(bytes(row), np.uint8)
    latent, key = V3.read_latent(packed[:528]), V3.read_key(packed[528:])
    assert latent[[0, 1, 127, 128]].tolist() == [0.5, -0.5625, 224.0, 3 * 2.0**-9]
    assert latent[511] == np.float32(0.1)
    assert np.count_nonzero(latent) == 5
    assert key[[0, 1, 63]].tolist() == [1.0, -2.5, 3.140625]
    assert [*latent, *key] == read_row(bytes(row), 512, 64, 128)


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 140), rngs, st.floats(1e-6, 1e3))
def test_what_is_packed_is_read_back_by_another_reader(d_c, d_R, tile, rng, size):
    layout = RowLayout("fp8", d_c, d_R, tile)
    c, k = (rng.normal(0, size, (2, n)).astype(np.float32) for n in (d_c, d_R))
    rows = np.concatenate((layout.pack_latent(c), layout.pack_key(k)), axis=1)  # [2, row_bytes]
    assert rows.dtype == np.uint8
    assert rows.shape[1] == layout.row_bytes == d_c + 4 * -(-d_c // tile) + 2 * d_R
    kept = np.concatenate(
        (layout.read_latent(rows[:, : layout.latent_bytes]), layout.read_key(rows[:, -2 * d_R :])), 1
    )
    assert kept.tolist() == [read_row(row.tobytes(), d_c, d_R, tile) for row in rows]


def test_sizes_are_the_published_ones():
    assert V3.row_bytes == 512 + 4 * 4 + 64 * 2 == 656
    assert RowLayout("bf16", 512, 64).row_bytes == 2 * 576
    v3 = ModelConfig.preset("v3")
    assert LatentCache(v3, format="fp8").bytes_per_token == 61 * 656 == 40016
    assert LatentCache(v3, format="bf16").bytes_per_token == 70272
    cache = LatentCache(v3, batch=3, layers=2, format="fp8")
    cache.reserve(5)
    cache.advance(5)
    assert cache.nbytes == 3 * 2 * 5 * 656
    assert sum(cache.packed(layer).nbytes for layer in range(2)) == cache.nbytes


# ---- how far off -------------------------------------------------------------------------------------------


@given(
    npst.arrays(np.float32, (2, 200), elements=st.floats(-(2.0**20), 2.0**20, width=32)),
    st.sampled_from([32, 128]),
)
def test_rounding_stays_within_half_a_step(x, tile):
    kept = RowLayout("fp8", 200, 2, tile)
    back = kept.read_latent(kept.pack_latent(x)).astype(np.float64)
    tiles = [slice(i, i + tile) for i in range(0, 200, tile)]
    amax = np.stack([np.abs(x[:, t]).max(axis=1) for t in tiles], axis=1)
    part, power = np.frexp(np.maximum(amax / np.float32(448), np.float32(1e-4)).astype(np.float64))
    scale = np.repeat(np.ldexp(1.0, power - (part == 0.5)), tile, axis=1)[:, :200]  # the power of two above
    # three fraction bits: half a step is 1/16 of the power of two below, or 2^-10 of the scale if subnormal
    bound = np.maximum(np.abs(x) / 16, scale * 2.0**-10) * (1 + 2.0**-20)
    assert (np.abs(back - x) <= bound).all()
    key = np.abs(kept.read_key(kept.pack_key(x)).astype(np.float64) - x)
    assert (key <= np.maximum(np.abs(x) * 2.0**-8, 2.0**-134)).all()


def test_gaussian_latents_are_off_by_the_known_error():
    x = np.random.default_rng(0).normal(size=(400, 512)).astype(np.float32)
    error = {}
    for name in ("fp8", "bf16"):
        layout = RowLayout(name, 512, 64)
        back = layout.read_latent(layout.pack_latent(x))
        error[name] = np.sqrt(np.square(back - x).mean() / np.square(x).mean())
    assert error["fp8"] == pytest.approx(0.0265, abs=0.0004)  # E4M3 on Gaussian 1x128 tiles, scales 2^n
    assert error["bf16"] == pytest.approx(0.00166, abs=0.00002)


def test_zeros_are_kept_and_a_large_number_does_not_reach_the_next_tile():
    x = np.zeros((1, 512), np.float32)
    x[0, 5], x[0, 128:256] = 2.0**100, 0.75
    back = V3.read_latent(V3.pack_latent(x))
    assert (back[0, 256:] == 0).all()
    np.testing.assert_array_equal(back[0, 128:256], 0.75)
    assert back[0, 5] == 2.0**100


def test_scales_are_flashmlas() -> None:
    x = np.zeros((1, 512), np.float32)
    x[0, :128], x[0, 128:256], x[0, 256] = 448, 449, 1e-3
    scales = V3.pack_latent(x)[0, 512:528].view("<f4")
    assert scales.tolist() == [1, 2, 2.0**-13, 2.0**-13]  # s of at least 1e-4, then up to a power of two
    assert (BF16.round(V3.read_latent(V3.pack_latent(x))) == V3.read_latent(V3.pack_latent(x))).all()


# ---- rows --------------------------------------------------------------------------------------------------


@given(FORMATS, rngs, st.integers(1, 9))
def test_rows_together_have_the_bytes_of_rows_alone(name, rng, n):
    layout = RowLayout(name, 70, 6, tile=32)
    x = rng.normal(size=(n, 70)).astype(np.float32)
    alone = [layout.pack_latent(x[i : i + 1]) for i in range(n)]
    assert np.array_equal(layout.pack_latent(x), np.concatenate(alone))
    assert np.array_equal(
        layout.read_latent(np.concatenate(alone)), layout.read_latent(layout.pack_latent(x))
    )


@given(FORMATS, rngs, st.sampled_from(["float32", "float64"]))
def test_parts_and_whole_rows_pack_alike(name, rng, dtype):
    layout = RowLayout(name, 10, 4, tile=4)
    x = rng.normal(size=(2, 3, 14)).astype(dtype)
    one, other = (PackedRows(layout, 2, 5, dtype) for _ in range(2))
    one[:, 1:4] = x
    other[:, 1:4, 10:] = x[..., 10:]
    other[:, 1:4, :10] = x[..., :10]
    assert np.array_equal(one.packed, other.packed)
    assert np.array_equal(one[:], other[:])
    assert one[:].dtype == dtype
    assert np.array_equal(one.grown(4, 9)[:, :4], one[:, :4])


class PackedText(RuleBasedStateMachine):
    """A text grown and cut through a packed cache: the bytes of the text run alone, token by token."""

    @initialize(
        config=configs(max_seq_len=30),
        seed=st.integers(0, 2**32),
        attention=st.sampled_from(sorted(ATTENTION)),
        name=FORMATS,
        dtype=st.sampled_from(["float32", "float64"]),
        batch=st.integers(1, 2),
    )
    def start(self, config, seed, attention, name, dtype, batch) -> None:
        self.batch, self.parameters = batch, parameters_of(config, np.random.default_rng(seed), dtype)
        self.fresh = lambda: Decoder(Machine(dtype=dtype), self.parameters, batch, ATTENTION[attention], name)
        self.decoder = self.fresh()
        self.text = np.empty((batch, 0), int)  # [B, T]
        self.logits = None

    @rule(tokens=st.lists(st.integers(0, 4), min_size=1, max_size=FEW))
    def append(self, tokens) -> None:
        tokens = tokens[: FEW // self.batch]  # more rows at once are sums in another order
        if self.text.shape[1] + len(tokens) <= 30:
            new = (np.array([tokens] * self.batch) + np.arange(self.batch)[:, None]) % 5
            self.logits = self.decoder.step(new)[0]
            self.text = np.concatenate((self.text, new), axis=1)

    @precondition(lambda self: self.text.size)
    @rule(share=st.floats(0, 1))
    def roll_back(self, share) -> None:
        self.text = self.text[:, : int(share * self.text.shape[1])]
        self.decoder.cache.truncate(self.text.shape[1])
        self.logits = None

    @invariant()
    def bytes_are_those_of_the_text_alone(self) -> None:
        if not hasattr(self, "decoder") or self.batch * self.text.shape[1] == 0 or self.logits is None:
            return
        alone, n = self.fresh(), self.text.shape[1]
        for i in range(n):
            last = alone.step(self.text[:, [i]])[0]
        for layer in range(self.decoder.config.n_layers):
            held, rows = self.decoder.cache.packed(layer), self.decoder.cache.latents(layer)
            layout = rows.layout
            assert np.array_equal(held, alone.cache.packed(layer))
            assert np.array_equal(
                rows[:, :n, : layout.latent], layout.read_latent(held[..., : layout.latent_bytes])
            )
            assert np.array_equal(
                rows[:, :n, layout.latent :], layout.read_key(held[..., layout.latent_bytes :])
            )
        assert np.array_equal(self.logits[:, -1], last[:, 0])


PackedText.TestCase.settings = settings(max_examples=40, stateful_step_count=10, deadline=None)
test_packed_text = PackedText.TestCase


@pytest.fixture(autouse=True)
def small_first_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room at first, so that growing happens."""
    monkeypatch.setattr(cache_module, "FIRST_ROWS", 3)


def test_attention_reads_what_the_bytes_say():
    """A byte changed behind the decoder's back, read anew when the cache grows, changes the logits."""
    model = sharp_model(0)
    decoders = [Decoder(Machine(), model.parameters, cache="fp8") for _ in range(2)]
    for decoder in decoders:
        decoder.step(np.array([[1, 2, 3]]))
    decoders[1].cache.packed(0)[0, 1, 0] ^= 0x80
    one, other = (decoder.step(np.array([[4]]))[0] for decoder in decoders)
    assert decoders[0].cache.capacity == 6
    assert not np.array_equal(one, other)


# ---- generation --------------------------------------------------------------------------------------------


def sharp_model(depth: int) -> Model:
    """Text that does not settle on one token."""
    config = ModelConfig.preset("nano", n_layers=2, vocab_size=12, n_mtp_layers=depth)
    model = Model.initialise(config, seed=depth)
    model.parameters.buffer[: model.parameters.decayed] *= 3
    return model


@pytest.mark.parametrize("name", ["bf16", "fp8"])
@pytest.mark.parametrize(("depth", "drafts"), [(1, None), (2, 2), (1, 7)])
def test_a_speculated_text_is_the_plain_one(name, depth, drafts):
    model = sharp_model(depth)
    head = model.parameters["lm_head.weight"]
    head[6:] = head[
        :6
    ]  # two tokens of each logit to the last bit but one: only the same bits choose the same text
    head[6:] *= np.float32(1 + 2**-23)
    for prompt in ([1], [1, 2, 3, 4, 5, 6, 7]):
        options = {"prefill_chunk": 3, "cache": name}
        plain = generate(model, prompt, 60, **options)
        guessed = generate(model, prompt, 60, speculative=True, drafts=drafts, **options)
        assert guessed.tokens == plain.tokens
        assert guessed.drafted > 0
        assert len(set(plain.tokens)) > 2


def test_modules_hold_their_latents_in_the_same_format():
    from minidsv3.inference import Drafter

    drafter = Drafter(Decoder(Machine(), sharp_model(2).parameters, cache="fp8"))
    assert [module.cache.format for module in drafter.modules] == ["fp8", "fp8"]


def test_a_batch_is_its_rows():
    model, prompts = sharp_model(0), [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    together = generate(model, prompts, 12, cache="fp8")
    assert together.sequences == [generate(model, row, 12, cache="fp8").tokens for row in prompts]


def test_both_attentions_agree_over_packed_latents():
    model, tokens = sharp_model(0), np.random.default_rng(0).integers(0, 12, (2, 40))
    logits = [
        Decoder(Machine(), model.parameters, 2, attention, "fp8").prefill(tokens, 40)
        for attention in ATTENTION.values()
    ]
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-3, atol=1e-3)


# ---- what it costs -----------------------------------------------------------------------------------------


def test_errors_are_those_of_two_runs(monkeypatch):
    model, text = sharp_model(0), np.random.default_rng(1).integers(0, 12, 50)
    monkeypatch.setattr(cache_error, "CHUNK", 7)
    same, bf16, fp8 = cache_errors(model, text, ["float32", "bf16", "fp8"])
    assert (same.latents, same.logits, same.largest_logit, same.changed) == (0, 0, 0, 0)
    assert 0.001 < bf16.latents < 0.002 < 0.02 < fp8.latents < 0.03
    assert 0 < bf16.logits < fp8.logits
    config = model.config
    assert fp8.bytes_per_token == config.n_layers * (config.kv_lora_rank + 4 + 2 * config.qk_rope_head_dim)
    # the same by hand, in other chunks
    exact, narrow = (Decoder(Machine(), model.parameters, cache=name) for name in ("float32", "fp8"))
    expected, got = (decoder.step(text[None])[0][0] for decoder in (exact, narrow))
    assert fp8.logits == pytest.approx(np.linalg.norm(got - expected) / np.linalg.norm(expected), rel=0.02)
    assert fp8.largest_logit == pytest.approx(np.abs(got - expected).max(), rel=0.02)
    assert abs(fp8.changed - int((got.argmax(1) != expected.argmax(1)).sum())) <= 1
    assert fp8.positions == 50


# ---- what does not fit -------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused():
    config = ModelConfig.preset("nano")
    with pytest.raises(ValueError, match="cache format, got 'fp16'"):
        LatentCache(config, format="fp16")
    with pytest.raises(ValueError, match="cache format, got 'fp9': did you mean 'fp8'"):
        generate(sharp_model(0), [1], 2, cache="fp9")
    with pytest.raises(ValueError, match="tile of at least one number, got 0"):
        LatentCache(config, format="fp8", tile=0)
    with pytest.raises(ValueError, match="packed format bf16 or fp8, got 'float32'"):
        RowLayout("float32", 4, 2)
    with pytest.raises(ValueError, match="expected a packed cache, bf16 or fp8, got float32"):
        LatentCache(config).packed(0)
    rows = PackedRows(V3, 1, 2, np.float32)
    with pytest.raises(ValueError, match="whole latents 0:512 or whole keys 512:576, got 0:100:1"):
        rows[:, 0:1, :100] = np.zeros((1, 1, 100), np.float32)
