"""The recipe of an extension, its plans, the measure by position, and retrieval in batches."""

from dataclasses import replace

import numpy as np
import pytest

from minidsv3 import Model
from minidsv3.config import ExtensionConfig, ModelConfig, RopeScaling, TrainConfig
from minidsv3.corpus.needle import WORDS, documents, haystack, spoken
from minidsv3.model.parameters import Parameters
from minidsv3.tokenizer import Tokenizer
from minidsv3.training import Trainer, bits_by_position, extended_config, phase_plan, retrieval, token_sizes
from minidsv3.training.extension import under
from minidsv3.training.preparation import made_text, prepare
from minidsv3.training.retrieval import DISTRACTORS

SMALL = ModelConfig.preset(
    "needle", vocab_size=len(WORDS), dim=16, inter_dim=16, moe_inter_dim=8, q_lora_rank=8, kv_lora_rank=8
)


def small_parameters() -> Parameters:
    return Parameters.initialise(SMALL, np.random.default_rng(0))


# ---- the recipe -------------------------------------------------------------------------------------------


def test_v3s_recipe_is_the_reports() -> None:
    recipe = ExtensionConfig.preset("v3")
    assert (recipe.factor, recipe.beta_slow, recipe.beta_fast) == (40, 1, 32)
    assert [(p.seq_len, p.steps, p.batch_sequences) for p in recipe.phases] == [
        (32 * 1024, 1000, 1920),
        (128 * 1024, 1000, 480),
    ]
    assert recipe.learning_rate == TrainConfig.v3().last_rate
    assert recipe.rope_scaling(4096) == ModelConfig.preset("v3").rope_scaling
    assert ExtensionConfig.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize("name", ["nano", "needle", "v3"])
def test_every_recipe_fits_its_preset(name: str) -> None:
    config, plan = ModelConfig.preset(name, rope_scaling=None), TrainConfig.preset(name)
    recipe = ExtensionConfig.preset(name)
    extended = extended_config(config, recipe, plan.seq_len)
    assert extended.max_seq_len >= recipe.phases[-1].seq_len
    with pytest.raises(ValueError, match="extended already"):
        extended_config(extended, recipe, plan.seq_len)
    for i, phase in enumerate(recipe.phases):
        later = phase_plan(plan, recipe, i)
        assert (later.steps, later.seq_len, later.batch_sequences) == (
            phase.steps, phase.seq_len, phase.batch_sequences,
        )  # fmt: skip
        assert later.learning_rate == later.last_rate == (recipe.learning_rate or plan.last_rate)
        assert later.bias_speed == 0  # where pre-training ended
        assert later.mtp_weight == plan.mtp_weight_late


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"factr": 2}, "unknown field 'factr'; did you mean 'factor'"),
        ({"factor": 1}, "factor > 1"),
        ({"factor": "x"}, "expected factor to be a number"),
        ({"factor": float("nan")}, "expected factor to be a number"),
        ({"beta_slow": 32}, "beta_fast > beta_slow"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"warmup_steps": -1}, "warmup_steps >= 0"),
        ({"phases": []}, "phases of growing seq_len"),
        ({"phases": [{"seq_len": 8, "steps": 1}]}, "missing field 'batch_sequences'"),
        ({"phases": [{"seq_len": 8.5, "steps": 1, "batch_sequences": 1}]}, "seq_len of a phase"),
        ({"phases": 2 * [{"seq_len": 8, "steps": 1, "batch_sequences": 1}]}, r"got \[8, 8\]"),
    ],
)
def test_recipes_that_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ExtensionConfig.from_dict(ExtensionConfig.preset("needle").to_dict() | changes)


def test_phases_must_fit_the_trained_length() -> None:
    recipe = ExtensionConfig.preset("needle")
    with pytest.raises(ValueError, match="longer than the trained 512"):
        recipe.check_room(512)
    with pytest.raises(ValueError, match="set factor=16"):
        recipe.check_room(32)
    with pytest.raises(ValueError, match=r"'mini': give its recipe by --set factor=4 'phases="):
        ExtensionConfig.preset("mini")


# ---- the measures -----------------------------------------------------------------------------------------


def test_bits_by_position_are_those_of_the_logits() -> None:
    parameters, T, width = small_parameters(), 24, 10
    rng = np.random.default_rng(1)
    stream = rng.integers(0, len(WORDS), 3 * T + 5).astype(np.int32)
    sizes = rng.integers(0, 4, len(WORDS))
    found = bits_by_position(parameters, stream, sizes, T, width)
    bits, size = np.zeros(T), np.zeros(T, int)
    for start in (0, T, 2 * T):
        row = stream[start : start + T + 1]
        logits = Model(SMALL, parameters).logits(row[None, :-1])[0].astype(np.float64)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        bits -= np.log2(p[np.arange(T), row[1:]])
        size += sizes[row[1:]]
    assert found.edges == [0, 10, 20, 24]
    parts = [slice(0, 10), slice(10, 20), slice(20, 24)]
    assert found.sizes == [size[part].sum() for part in parts]
    assert found.bits == pytest.approx([bits[part].sum() for part in parts], rel=1e-5)
    assert found.overall == pytest.approx(bits.sum() / size.sum(), rel=1e-5)
    assert found.bits_per_byte[1] == pytest.approx(bits[10:20].sum() / size[10:20].sum(), rel=1e-5)
    with pytest.raises(ValueError, match="at least 25 tokens"):
        bits_by_position(parameters, stream[:24], sizes, T, width)


def test_sizes_of_tokens_add_up_to_the_text() -> None:
    text = "x = 1\ny = é\n" * 9
    tokenizer = Tokenizer.train([text], 280)
    sizes = token_sizes(tokenizer, 300)
    ids = [tokenizer.eos, *tokenizer.encode(text)]
    assert sizes[ids].sum() == len(text.encode())
    assert sizes[tokenizer.vocab_size :].sum() == 0


def test_retrieval_in_batches_is_retrieval_one_by_one() -> None:
    """A model of random weights that ranks one of four things first in a quarter of all cases or less."""
    parameters, lengths, depths = small_parameters(), [36, 70], [0.0, 0.4, 1.0]
    roomy = under(parameters, replace(SMALL, max_seq_len=70))
    ids = np.random.default_rng(3).permutation(len(WORDS)).astype(np.int32)
    found = retrieval(roomy, ids, lengths, depths, samples=40, seed=5)
    model = Model(roomy.config, roomy)
    for i, length in enumerate(lengths):
        for j, depth in enumerate(depths):
            right = 0
            for k in range(40):
                stack = haystack(length, depth, np.random.default_rng((5, length, k)), DISTRACTORS)
                logits = model.logits(ids[stack.words][None])[0, -1]
                right += int(logits.argmax() == ids[stack.answer])
            assert found[i, j] == right / 40
    with pytest.raises(ValueError, match="up to the model's 70"):
        retrieval(roomy, ids, [71], depths)


def test_retrieval_of_a_model_that_always_says_the_same() -> None:
    """Its accuracy is the share of haystacks with that answer, at every depth."""
    parameters = small_parameters()
    parameters.buffer[...] = 0
    parameters["model.norm.weight"][...] = 1
    parameters["model.embed_tokens.weight"][...] = 1
    answers = [haystack(40, 0.5, np.random.default_rng((0, 40, k)), DISTRACTORS).answer for k in range(30)]
    parameters["lm_head.weight"][answers[0]] = 1
    found = retrieval(parameters, np.arange(len(WORDS), dtype=np.int32), [40], [0.0, 1.0], samples=30)
    assert found.tolist() == [2 * [answers.count(answers[0]) / 30]]


# ---- made text --------------------------------------------------------------------------------------------


def test_every_sequence_of_made_text_is_one_document() -> None:
    plan = replace(TrainConfig.preset("needle"), steps=5, seq_len=40)
    split = made_text(plan)
    tokenizer = Tokenizer.train([document.text for document in split.training], 425)
    data = prepare(split, tokenizer, plan)
    assert data.documents == 5 * plan.batch_sequences
    assert data.stream.size == data.documents * 40 + 1
    assert (data.stream[::40] == tokenizer.eos).all()
    assert sum(map(len, data.held_out)) == 40 * len(split.held_out)
    assert [tokenizer.decode(ids[1:]) for ids in data.held_out] == [d.text for d in split.held_out]
    trainer = Trainer(replace(SMALL, vocab_size=425), plan, data.stream)
    assert (trainer.batch(3)[:, [0, -1]] == tokenizer.eos).all()
    assert spoken(documents(1, 40, np.random.default_rng(0))[0]).startswith(" ")


def test_a_trainer_begins_from_given_weights() -> None:
    plan = replace(
        TrainConfig.preset("needle"), steps=2, seq_len=16, batch_sequences=2, ramp_start_sequences=2
    )
    trainer = Trainer(SMALL, plan, (np.arange(90) % len(WORDS)).astype(np.int32))
    start = Parameters.initialise(SMALL, np.random.default_rng(9))
    before = start.buffer.copy()
    trainer.begin_from(start)
    assert np.array_equal(trainer.optimizer.average.buffer, before)
    trainer.step()
    assert np.array_equal(start.buffer, before)  # copied
    assert not np.array_equal(trainer.parameters.buffer, before)


def test_yarn_changes_what_the_model_says_and_not_its_weights() -> None:
    parameters = small_parameters()
    stretched = under(parameters, replace(SMALL, rope_scaling=RopeScaling(4.0, 32)))
    ids = np.arange(60)[None] % len(WORDS)
    plain, yarn = (Model(p.config, p).logits(ids) for p in (parameters, stretched))
    assert stretched.buffer is parameters.buffer
    assert np.abs(plain - yarn)[0, -1].max() > 1e-3
