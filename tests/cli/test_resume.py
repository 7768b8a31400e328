"""A run that is killed, interrupted or out of disk goes on bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minidsv3.cli import main
from minidsv3.training import RunFolder, Trainer

KILLS = 10


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "minidsv3", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def same_weights(one: Path, other: Path, steps: int) -> bool:
    files = ["model/model.safetensors", *(f"checkpoints/step-{steps:06d}/{n}.safetensors" for n in FILES)]
    return all((one / file).read_bytes() == (other / file).read_bytes() for file in files)


FILES = ("model", "average", "optimiser")


def lines(run: Path) -> int:
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


@pytest.mark.slow
def test_killed_ten_times_gives_the_weights_of_an_unbroken_run(tiny_run: list[str], tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main([*tiny_run, "--steps", "150", "--out", str(whole)]) == 0
    random.seed(int.from_bytes(os.urandom(4)))
    command = [*tiny_run, "--steps", "150", "--out", str(broken)]
    killed = 0
    while killed < KILLS:
        before = lines(broken)
        process = start(command)
        while process.poll() is None and lines(broken) <= before:
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.15))
        process.kill()
        process.communicate()
        killed += 1
        command = ["run", "--resume", str(broken)]
    assert main(command) == 0
    assert same_weights(whole, broken, 150)
    steps = [json.loads(line)["step"] for line in (broken / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 151))


def test_a_run_repeats_bit_for_bit(tiny_run: list[str], tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        assert main([*tiny_run, "--steps", "5", "--out", str(folder)]) == 0
    assert same_weights(one, other, 5)
    reports = [json.loads((folder / "report.json").read_text()) for folder in (one, other)]
    assert without_wall(reports[0]) == without_wall(reports[1])


def without_wall(value: object) -> object:
    if isinstance(value, dict):
        return {name: without_wall(v) for name, v in value.items() if not name.startswith("wall")}
    return [without_wall(v) for v in value] if isinstance(value, list) else value


def test_ctrl_c_saves_and_the_run_goes_on(
    tiny_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main([*tiny_run, "--steps", "7", "--out", str(whole)]) == 0
    step = Trainer.step

    def interrupted(self: Trainer, *args: object) -> object:
        if self.steps_done == 4:
            signal.raise_signal(signal.SIGINT)  # in the middle of step 5, which is still finished
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        assert main([*tiny_run, "--steps", "7", "--out", str(broken)]) == 130
    assert f"--resume {broken}" in capsys.readouterr().err
    assert (broken / "checkpoints" / "step-000005" / "state.json").is_file()
    assert main(["run", "--resume", str(broken)]) == 0
    assert same_weights(whole, broken, 7)


def test_a_loss_that_is_no_number_keeps_the_last_checkpoint(
    tiny_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Trainer.step

    def poisoned(self: Trainer, *args: object) -> object:
        if self.steps_done == 5:
            self.parameters["model.norm.weight"][3] = float("nan")
        return step(self)

    monkeypatch.setattr(Trainer, "step", poisoned)
    out = tmp_path / "run"
    assert main([*tiny_run, "--steps", "9", "--out", str(out)]) == 3
    said = capsys.readouterr().err
    assert "model.norm.weight" in said
    assert "step 6" in said
    assert f"the last good checkpoint is {out / 'checkpoints' / 'step-000004'}" in said
    assert "--set learning_rate=" in said
    assert [path.name for path in RunFolder.open(out).checkpoints()] == ["step-000002", "step-000004"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files here")
def test_a_full_disk_keeps_the_last_checkpoint(tiny_run: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    script = (
        "import resource, sys; from minidsv3.cli import main; from minidsv3.training import RunFolder\n"
        "save = RunFolder.save\n"
        "def limited(self, trainer):\n"
        "    if trainer.steps_done == 4: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))\n"
        "    return save(self, trainer)\n"
        "RunFolder.save = limited\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, *tiny_run, "--steps", "6", "--out", str(out)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 3, result.stderr
    assert "step-000002; go on with" in result.stderr
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-000002"]
    assert main(["run", "--resume", str(out)]) == 0
    assert (out / "report.txt").is_file()


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_an_older_one_serves(
    tiny_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*tiny_run, "--steps", "4", "--out", str(out)]) == 0
    weights = out / "checkpoints" / "step-000004" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    assert main(["run", "--resume", str(out)]) == 0
    assert "at step 2 of 4\n  step-000004 cannot be read" in capsys.readouterr().err
    assert weights.read_bytes() == whole
