"""The loop: resumes bit for bit, stops at what is not a number, repeats itself, and learns."""

from pathlib import Path

import numpy as np
import pytest

from minidsv3.config import ModelConfig, TrainConfig
from minidsv3.machine import parallel
from minidsv3.model.transformer import LossOptions
from minidsv3.training import gradients as gradients_module
from minidsv3.training.gradients import accumulate, shares
from minidsv3.training.trainer import Diverged, Trainer

CONFIG = ModelConfig.preset("nano", dim=32, vocab_size=64, inter_dim=48, moe_inter_dim=16, n_layers=2)
PLAN = TrainConfig(
    steps=6,
    seq_len=16,
    batch_sequences=5,
    ramp_start_sequences=2,
    ramp_steps=3,
    warmup_steps=2,
    mtp_until=0.5,
)
STREAM = np.random.default_rng(0).integers(64, size=2000).astype(np.int32)


def state(trainer: Trainer) -> list[np.ndarray]:
    optimizer = trainer.optimizer
    return [p.buffer for p in (trainer.parameters, optimizer.m, optimizer.v, optimizer.average)]


@pytest.mark.parametrize("stop", [0, 1, 4, 6])
def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(stop: int, tmp_path: Path) -> None:
    whole, first = Trainer(CONFIG, PLAN, STREAM), Trainer(CONFIG, PLAN, STREAM)
    reports = [whole.step() for _ in range(6)]
    for _ in range(stop):
        first.step()
    first.save(tmp_path / "state")
    second = Trainer.load(tmp_path / "state", CONFIG, PLAN, STREAM)
    assert second.steps_done == stop
    for report in reports[stop:]:
        again = second.step()
        assert (again.losses, again.gradient_norm) == (report.losses, report.gradient_norm)
    for a, b in zip(state(whole), state(second), strict=True):
        np.testing.assert_array_equal(a, b)
    assert second.finished


def test_a_state_of_another_plan_or_text_is_refused(tmp_path: Path) -> None:
    Trainer(CONFIG, PLAN, STREAM).save(tmp_path / "state")
    with pytest.raises(ValueError, match="expected the state of this run's plan"):
        Trainer.load(tmp_path / "state", CONFIG, TrainConfig(steps=7, seq_len=16), STREAM)
    with pytest.raises(ValueError, match="expected"):
        Trainer.load(tmp_path / "state", CONFIG, PLAN, STREAM[::-1].copy())


def test_saving_twice_keeps_the_later_state(tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, PLAN, STREAM)
    trainer.save(tmp_path / "state")
    trainer.step()
    trainer.save(tmp_path / "state")
    assert Trainer.load(tmp_path / "state", CONFIG, PLAN, STREAM).steps_done == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_weight_that_is_not_a_number_is_named_and_nothing_is_updated() -> None:
    trainer = Trainer(CONFIG, PLAN, STREAM)
    trainer.parameters["model.layers.1.self_attn.o_proj.weight"][0, 0] = np.nan
    before = [buffer.copy() for buffer in state(trainer)]
    with pytest.raises(
        Diverged, match=r"first not finite: weight of model\.layers\.1\.self_attn\.o_proj\.weight"
    ):
        trainer.step()
    for a, b in zip(before, state(trainer), strict=True):
        np.testing.assert_array_equal(a, b)
    assert trainer.steps_done == 0


@pytest.mark.parametrize("size", [1e18, 1e30])
def test_weights_so_large_that_gradients_overflow_are_named_without_a_warning(size: float) -> None:
    trainer = Trainer(CONFIG, PLAN, STREAM)
    trainer.parameters["lm_head.weight"][...] *= np.float32(size)
    trainer.parameters["model.norm.weight"][...] *= np.float32(size)
    with pytest.raises(Diverged, match="step 1: "):
        trainer.step()


def test_two_shards_are_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients, losses and loads; for a batch that does not divide evenly, with every part of the loss."""
    options = LossOptions(0.3, balance_weight=0.1)
    ids = np.random.default_rng(1).integers(64, size=(5, 17))
    results = []
    for count in (1, 2, 2, 3):
        monkeypatch.setattr(gradients_module, "workers", lambda count=count: count)
        trainer = Trainer(CONFIG, PLAN, STREAM)
        into = trainer.parameters.like()
        losses, loads = accumulate(trainer.parameters, ids, options, into)
        results.append((into.buffer, losses, loads))
    whole = results[0]
    for buffer, losses, loads in results[1:]:
        assert np.abs(buffer - whole[0]).max() <= 1e-6 * np.abs(whole[0]).max()
        assert losses == pytest.approx(whole[1], rel=1e-6)
        np.testing.assert_array_equal(loads, whole[2])
    np.testing.assert_array_equal(results[1][0], results[2][0])  # the same bits again
    assert results[1][1] == results[2][1]


def test_training_repeats_bit_for_bit() -> None:
    runs = []
    for _ in range(2):
        trainer = Trainer(CONFIG, PLAN, STREAM)
        for _ in range(3):
            trainer.step()
        runs.append(trainer.parameters.buffer)
    np.testing.assert_array_equal(*runs)


def test_shares_cover_everything_once() -> None:
    for count in range(12):
        for parts in range(1, 5):
            cuts = shares(count, parts)
            assert [i for cut in cuts for i in range(cut.start, cut.stop)] == list(range(count))


def test_shards_come_back_in_order_and_raise_what_they_raise() -> None:
    assert parallel.run_shards(lambda i: i, 5, workers=2) == list(range(5))
    with pytest.raises(ZeroDivisionError):
        parallel.run_shards(lambda i: 1 // i, 2, workers=2)


def test_sixty_four_tokens_are_learnt_by_heart() -> None:
    plan = TrainConfig(
        steps=150,
        seq_len=16,
        batch_sequences=4,
        learning_rate=1e-2,
        warmup_steps=5,
        clip_norm=1.0,
        final_rate=1e-3,
    )
    trainer = Trainer(CONFIG, plan, STREAM[:65])
    first = trainer.step().losses["main"]
    for _ in range(149):
        last = trainer.step().losses["main"]
    assert last < 0.1 * first


def test_a_step_reports_what_it_did() -> None:
    trainer = Trainer(CONFIG, PLAN, STREAM)
    report = trainer.step()
    assert (report.step, report.sequences, report.tokens) == (1, 2, 32)
    assert report.losses["main"] == pytest.approx(np.log(64), rel=0.05)
    assert report.mtp_weight == 0.3
    assert len(report.max_violation) == 2  # one MoE layer and the module's
    assert report.bias_range == pytest.approx([-PLAN.bias_speed, PLAN.bias_speed])
    for _ in range(5):
        report = trainer.step()
    assert (report.mtp_weight, report.sequences) == (0.1, 5)


@pytest.mark.parametrize(
    ("config", "plan", "stream", "message"),
    [
        (CONFIG, TrainConfig(seq_len=4096), STREAM, "expected seq_len <= max_seq_len=2048, got 4096"),
        (CONFIG, TrainConfig(seq_len=1), STREAM, "expected seq_len > 1 for the MTP modules, got 1"),
        (CONFIG, PLAN, STREAM + 1, r"expected token ids 0 \.\. 63, got 1 \.\. 64"),
        (CONFIG, PLAN, STREAM[:10], "expected at least 17 tokens for one sequence"),
    ],
)
def test_what_does_not_fit_is_named(
    config: ModelConfig, plan: TrainConfig, stream: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Trainer(config, plan, stream)


def test_the_average_follows_the_biases_of_the_same_step() -> None:
    """From 0 to +-gamma, of which the first step's average takes 1 - 1/11."""
    trainer = Trainer(CONFIG, PLAN, STREAM)
    trainer.step()
    average, parameters = trainer.optimizer.average, trainer.parameters
    biases = slice(parameters.trained, None)
    assert parameters.buffer[biases].any()
    np.testing.assert_allclose(average.buffer[biases], parameters.buffer[biases] * 10 / 11, rtol=1e-5)
