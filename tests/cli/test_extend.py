"""`run --extend`: phase after phase, resumable bit for bit, and what it leaves and refuses."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from minidsv3 import Model
from minidsv3.cli import main
from minidsv3.training import RunFolder, Trainer

RECIPE = [
    "factor=4",
    'phases=[{"seq_len": 64, "steps": 3, "batch_sequences": 2},'
    ' {"seq_len": 128, "steps": 3, "batch_sequences": 1}]',
]
NEEDLES = [
    "dim=16", "inter_dim=16", "moe_inter_dim=8", "q_lora_rank=8", "kv_lora_rank=8", "qk_rope_head_dim=8",
    "v_head_dim=8", "seq_len=80", "max_seq_len=80", "batch_sequences=2", "ramp_start_sequences=2",
]  # fmt: skip


def extend(base: Path, out: Path, *more: str) -> list[str]:
    return ["run", "--extend", str(base), "--out", str(out), "--set", *RECIPE, *more]


@pytest.fixture(scope="module")
def extended(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("extended") / "run"
    assert main(extend(finished_run, out)) == 0
    return out


def report_of(folder: Path) -> dict[str, object]:
    return without_wall(json.loads((folder / "report.json").read_text()))  # type: ignore[return-value]


def without_wall(value: object) -> object:
    if isinstance(value, dict):
        return {name: without_wall(v) for name, v in value.items() if name != "wall"}
    return [without_wall(v) for v in value] if isinstance(value, list) else value


def test_the_report_says_what_was_done(extended: Path, finished_run: Path) -> None:
    report = json.loads((extended / "report.json").read_text())
    assert report["schema"] == "minidsv3.extension/1"
    assert (report["extended"], report["trained_seq_len"]) == (str(finished_run), 32)
    assert report["rope_scaling"]["original_seq_len"] == 32
    ratio = report["softmax_scale"]["after"] / report["softmax_scale"]["before"]
    assert ratio == pytest.approx((0.1 * np.log(4) + 1) ** 2)
    assert [(phase["seq_len"], phase["steps"], phase["tokens"]) for phase in report["phases"]] == [
        (64, 3, 3 * 2 * 64),
        (128, 3, 3 * 128),
    ]
    last_rate = RunFolder.open(finished_run).plan.last_rate
    assert {phase["learning_rate"] for phase in report["phases"]} == {last_rate}
    found = report["positions"]
    assert found["edges"] == [0, 32, 64, 96, 128]
    names = ["as trained", "YaRN, untrained", "after phase 1", "after phase 2"]
    assert list(found["bits_per_byte"]) == list(found["overall"]) == names
    for name in names:
        bits = np.dot(found["bits_per_byte"][name], found["bytes"])
        assert bits / sum(found["bytes"]) == pytest.approx(found["overall"][name])
    assert report["needle"] is None
    assert "phase 2" in (extended / "report.txt").read_text()
    assert "<svg" in (extended / "report.svg").read_text()


def test_the_result_is_a_run_folder_with_yarn(extended: Path, finished_run: Path) -> None:
    table = json.loads((extended / "model" / "config.json").read_text())
    assert table["max_position_embeddings"] == 128
    assert table["rope_scaling"]["type"] == "yarn"
    assert table["rope_scaling"]["original_max_position_embeddings"] == 32
    assert table["rope_scaling"]["factor"] == 4
    run, model = RunFolder.open(extended), Model.load(extended / "model")
    assert model.config == run.config
    last = run.weights("model").buffer
    assert np.array_equal(last, RunFolder.open(extended / "phase-2").weights("model").buffer)
    assert np.array_equal(run.weights("start").buffer, RunFolder.open(finished_run).weights("model").buffer)
    assert not np.array_equal(last, run.weights("start").buffer)
    steps = [(row["step"], row["phase"]) for row in run.metrics()]
    assert steps == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    assert (extended / "tokenizer.json").read_bytes() == (finished_run / "tokenizer.json").read_bytes()
    assert main(["predict", "def scale", "--model", str(extended)]) == 0


def test_an_extension_repeats_and_can_be_shown_again(
    extended: Path, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*extend(finished_run, tmp_path / "again"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("folder") == str(tmp_path / "again")
    assert without_wall(printed) == report_of(tmp_path / "again") == report_of(extended)
    assert main(["run", "--resume", str(tmp_path / "again")]) == 0
    assert "after phase 2" in capsys.readouterr().out


@pytest.mark.parametrize("when", [2, 4])
def test_ctrl_c_in_either_phase_and_the_extension_goes_on(
    when: int,
    extended: Path,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step, out, steps = Trainer.step, tmp_path / "broken", iter(range(1, 100))

    def interrupted(self: Trainer, *args: object) -> object:
        if next(steps) == when:
            signal.raise_signal(signal.SIGINT)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        assert main(extend(finished_run, out)) == 130
    assert f"go on with: minidsv3 run --resume {out}\n" in capsys.readouterr().err
    assert main(["run", "--resume", str(out / "phase-1")]) == 0  # a phase stands for the whole
    assert report_of(out) == report_of(extended)
    model = "model/model.safetensors"
    assert (out / model).read_bytes() == (extended / model).read_bytes()


@pytest.mark.parametrize("left", ["nothing", "half a start", "half a phase"])
def test_a_kill_between_steps_costs_nothing_but_time(left: str, extended: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    shutil.copytree(extended, out)
    for name in ("model", "phase-2", "report.json", "metrics.jsonl"):
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()
    if left == "half a start":
        (out / "phase-2" / "start").mkdir(parents=True)
        (out / "phase-2" / "start" / "config.json").write_text("{")
    if left == "half a phase":
        shutil.copytree(extended / "phase-2", out / "phase-2")
        for name in ("model", "checkpoints"):
            shutil.rmtree(out / "phase-2" / name)
    assert main(["run", "--resume", str(out)]) == 0
    assert report_of(out) == report_of(extended)


def test_a_model_folder_is_extended_with_text_of_its_own(
    finished_run: Path, text_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "alone"
    shutil.copytree(finished_run / "model", folder)
    table = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(table | {"max_position_embeddings": 32}))
    assert main(extend(folder, tmp_path / "out")) == 2
    assert "expected --text" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*extend(folder, tmp_path / "out"), "--text", str(text_folder), "--steps", "1"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["source"] == str(text_folder)
    assert [phase["steps"] for phase in report["phases"]] == [1, 1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--set", "factr=4"], "unknown field 'factr': did you mean 'factor'?"),
        (["--set", "factor"], "expected --set FIELD=VALUE"),
        (["--set", "factor=2"], "expected lengths up to factor 2 x 32 = 64, got 128; set factor=4"),
        (["--set", "factor=1"], "factor > 1"),
        (["--set", "learning_rate=-1"], "learning_rate to be a number above 0"),
        (["--set", 'phases=[{"seq_len": 64, "step": 3}]'], "unknown field 'step'"),
        (["--set", 'phases=[{"seq_len": 64, "steps": 0, "batch_sequences": 1}]'], "steps of a phase >= 1"),
        (
            ["--set", 'phases=[{"seq_len": 32, "steps": 1, "batch_sequences": 1}]'],
            "longer than the trained 32",
        ),
        (["--set", "phases=3"], "a list of tables"),
        (["--set", "phases=[]"], "phases of growing seq_len"),
        (["--steps", "0"], "expected --steps >= 1"),
        (["--minutes", "1"], "expected --extend without --minutes"),
        (["--precision", "fp8"], "expected --extend without --precision"),
        (["--compare", "bf16,fp8"], "expected --extend without --compare"),
        (["--seed", "-1"], "expected --seed >= 0"),
        (["--preset", "nana"], "did you mean 'nano'?"),
        (["--set", "factor=4000", 'phases=[{"seq_len": 99999, "steps": 1, "batch_sequences": 1}]'], "--text"),
    ],
)
def test_what_is_refused_leaves_nothing(
    more: list[str], words: str, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*extend(finished_run, tmp_path / "out"), *more]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_extended(
    extended: Path, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(finished_run / "run.json", unfinished)
    for base, words in {
        extended: "which is",
        extended / "phase-1": "which is",
        unfinished: "--resume",
        tmp_path / "nothing": "no such folder",
    }.items():
        assert main(extend(base, tmp_path / "out")) == 2
        assert words in capsys.readouterr().err
    assert main(["run", "--extend", str(finished_run), "--resume", str(extended)]) == 2
    assert "expected --resume alone" in capsys.readouterr().err
    assert main(extend(finished_run, extended)) == 2
    assert "expected a new or an empty folder" in capsys.readouterr().err


@pytest.mark.slow
def test_needles_from_training_to_heat_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short, long = tmp_path / "my short", tmp_path / "long"
    assert main(["run", "--preset", "needle", "--steps", "3", "--out", str(short), "--set", *NEEDLES]) == 0
    report = json.loads((short / "report.json").read_text())
    assert report["samples"] == {}
    assert report["needle"]["lengths"] == [40, 80, 160, 320, 640]
    said = capsys.readouterr().out
    assert "needle in a haystack" in said
    assert said.endswith(f"next: minidsv3 run --extend '{short}'\n")
    recipe = ["factor=2", 'phases=[{"seq_len": 160, "steps": 2, "batch_sequences": 1}]']
    assert main(["run", "--extend", str(short), "--out", str(long), "--set", *recipe, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)["needle"]
    assert table["lengths"] == [40, 80, 160]
    assert [entry["name"] for entry in table["maps"]] == ["as trained", "YaRN, untrained", "after phase 1"]
    assert [entry["learned"] for entry in table["maps"]] == [80, 80, 160]
    assert main(["show", "needle", "--model", str(long), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["schema"], shown["maps"]) == ("minidsv3.show.needle/1", table["maps"])
    asked = ["--lengths", "40,80,160", "--depths", "0,0.25,0.5,0.75,1", "--samples", "32"]
    assert main(["show", "needle", "--model", str(long), "--json", *asked]) == 0
    assert json.loads(capsys.readouterr().out)["maps"] == table["maps"]  # measured again: the same
    for more, words in {
        ("--lengths", "35,64"): "--lengths growing numbers from 36",
        ("--lengths", "64,64"): "growing",
        ("--depths", "0,2"): "from 0 to 1",
        ("--depths", "x"): "got 'x'",
        ("--samples", "0"): "--samples from 1",
        ("--seed", "-1"): "--seed >= 0",
    }.items():
        assert main(["show", "needle", "--model", str(long), *more]) == 2
        assert words in capsys.readouterr().err


def test_a_model_that_learned_other_text_has_no_words_for_needles(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "needle", "--model", str(finished_run), "--lengths", "64"]) == 2
    assert "minidsv3 run --preset needle" in capsys.readouterr().err
