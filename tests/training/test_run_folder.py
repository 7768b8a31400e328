"""A run folder: what it refuses, which checkpoint counts, and that going on is going on."""

import json
from pathlib import Path

import numpy as np
import pytest

from minidsv3.config import ModelConfig, TrainConfig
from minidsv3.corpus import Document
from minidsv3.training import Prepared, RunFolder, Trainer, plan_for_steps, prepare, train_tokenizer
from minidsv3.training.preparation import split_text
from minidsv3.training.run_folder import check_new, free_run_path, newest_run

PLAN = TrainConfig(steps=6, seq_len=16, batch_sequences=2, warmup_steps=2, checkpoint_every=2)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    split = split_text([Document(f"{i}.py", f"x = {i}\n" * 60) for i in range(5)], seed=0)
    tokenizer = train_tokenizer(split, 300)
    config = ModelConfig.preset("nano", dim=16, n_layers=2, vocab_size=tokenizer.vocab_size, inter_dim=16)
    return RunFolder.create(
        tmp_path / "run", config, PLAN, tokenizer, prepare(split, tokenizer, PLAN), {"seed": 0}
    )


def steps(run: RunFolder, trainer: Trainer, count: int) -> Trainer:
    for _ in range(count):
        run.append(trainer.step())
    return trainer


def test_a_start_that_fails_leaves_nothing(run: RunFolder, tmp_path: Path) -> None:
    tokenizer, data = run.tokenizer(), Prepared(run.stream(), run.held_out(), [], 1)
    with pytest.raises(TypeError):
        RunFolder.create(tmp_path / "other", run.config, run.plan, tokenizer, data, {"not JSON": object()})
    assert not (tmp_path / "other").exists()


def test_what_is_opened_is_what_was_made(run: RunFolder) -> None:
    again = RunFolder.open(run.path)
    assert (again.config, again.plan, again.facts) == (run.config, run.plan, run.facts)
    documents = [run.tokenizer().decode(ids[1:]) for ids in again.held_out()]
    assert len(documents) == len(run.facts["held_out_names"])
    assert all(text.startswith("x = ") and len(text) == 360 for text in documents)
    assert all(ids[0] == run.tokenizer().eos for ids in again.held_out())


def test_resuming_equals_never_having_stopped(run: RunFolder) -> None:
    whole = steps(run, run.trainer(), 6)
    trainer = steps(run, run.trainer(), 3)
    run.save(trainer)
    steps(run, trainer, 1)  # after the checkpoint: lost, and run again
    again = run.trainer()
    assert again.steps_done == 3
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    steps(run, again, 3)
    assert again.parameters.buffer.tobytes() == whole.parameters.buffer.tobytes()
    assert again.optimizer.average.buffer.tobytes() == whole.optimizer.average.buffer.tobytes()
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4, 5, 6]


def test_the_last_two_checkpoints_stay_and_a_damaged_one_is_passed_over(run: RunFolder) -> None:
    trainer = run.trainer()
    for _ in range(3):
        run.save(steps(run, trainer, 1))
    assert [path.name for path in run.checkpoints()] == ["step-000002", "step-000003"]
    weights = run.checkpoints()[-1] / "average.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert run.trainer().steps_done == 2
    (run.checkpoints()[0] / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="no checkpoint can be read"):
        run.trainer()


def test_a_line_cut_off_by_a_kill_is_dropped(run: RunFolder) -> None:
    trainer = steps(run, run.trainer(), 2)
    run.save(trainer)
    with run.metrics_path.open("a") as file:
        file.write('{"step": 3, "loss')
    again = run.trainer()
    steps(run, again, 1)
    assert [json.loads(line)["step"] for line in run.metrics_path.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "run.json"),
        ("[]", "run.json"),
        ("{}", "no field 'schema'"),
        ('{"schema": "other/1"}', "got 'other/1'"),
        (
            '{"schema": "minidsv3.run/1", "model": {"dimm": 3}, "plan": {}, "facts": {}}',
            "unknown field 'dimm'",
        ),
    ],
)
def test_a_folder_that_is_no_run(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(ValueError, match="an empty folder"):
        RunFolder.open(tmp_path)
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        RunFolder.open(tmp_path)


def test_a_run_does_not_begin_in_a_full_folder(run: RunFolder) -> None:
    with pytest.raises(ValueError, match="--resume goes on"):
        check_new(run.path)
    assert free_run_path(run.path.parent, "nano") == run.path.parent / "nano-0"
    assert newest_run(run.path.parent) is None
    run.write_model(run.trainer().optimizer.average)
    assert newest_run(run.path.parent) == run.path


def test_a_plan_for_other_steps_keeps_its_shape() -> None:
    plan = TrainConfig(steps=600, warmup_steps=20, ramp_steps=60)
    short = plan_for_steps(plan, 30)
    assert (short.steps, short.warmup_steps, short.ramp_steps) == (30, 1, 3)
    assert plan_for_steps(plan, 600) == plan
    with pytest.raises(ValueError, match="steps >= 1"):
        plan_for_steps(plan, 0)


def test_splits_of_small_texts() -> None:
    lines = Document("a.txt", "line\n" * 100)
    split = split_text([lines], seed=0)
    assert split.training[0].text + split.held_out[0].text == lines.text
    assert split.held_out[0].text.startswith("line")
    one_line = split_text([Document("a.txt", "word " * 100)], seed=0)
    assert len(one_line.held_out[0].text) == 50
    with pytest.raises(ValueError, match="white space"):
        split_text([Document("a.txt", "\n \n")], seed=0)


def test_only_as_much_is_tokenised_as_the_plan_consumes() -> None:
    split = split_text([Document(f"{i}.py", f"x = {i}\n" * 60) for i in range(50)], seed=0)
    tokenizer = train_tokenizer(split, 300)
    short, long = (prepare(split, tokenizer, plan_for_steps(PLAN, steps)) for steps in (6, 5000))
    assert short.documents < 10 < long.documents == len(split.training)
    assert short.stream.size >= 6 * 2 * 16 + 1
    assert np.array_equal(short.stream, prepare(split, tokenizer, plan_for_steps(PLAN, 6)).stream)
