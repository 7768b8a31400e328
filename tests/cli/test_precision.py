"""Precisions at the command line: run, compare, trace, bill."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from minidsv3.cli import main
from minidsv3.cli.run_comparing import relative, smooth
from minidsv3.machine.crew import crew_size
from minidsv3.machine.parallel import workers
from minidsv3.training import Trainer


def main_losses(run: Path) -> list[float]:
    rows = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(row)["losses"]["main"] for row in rows]


def test_run_in_fp8(tiny_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main([*tiny_run, "--steps", "3", "--precision", "fp8", "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["training"]["precision"] == "fp8"
    assert json.loads((out / "run.json").read_text())["plan"]["precision"] == "fp8"
    bits = report["bits_per_byte"]
    assert bits["main head"] != bits["main head, in fp8"]
    assert bits["main head, in fp8"] == pytest.approx(bits["main head"], rel=0.02)


def test_compare(tiny_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "both"
    command = [*tiny_run, "--steps", "4", "--compare", "bf16,fp8", "--out", str(out)]
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "minidsv3.comparison/1"
    assert said["reference"] == "bf16"
    runs = said["runs"]
    assert runs["bf16"]["relative_loss"] == runs["bf16"]["relative_held_out"] == 0
    losses = {name: main_losses(out / name) for name in ("bf16", "fp8")}
    assert losses["bf16"] != losses["fp8"]
    smoothed = {name: smooth(values, 0.9) for name, values in losses.items()}
    assert runs["fp8"]["relative_loss"] == smoothed["fp8"][-1] / smoothed["bf16"][-1] - 1
    assert runs["fp8"]["last_loss"] == smoothed["fp8"][-1]
    assert 0 < abs(runs["fp8"]["relative_loss"]) < 0.01
    assert main(["predict", "x", "--model", str(out)]) == 2
    assert str(out / "fp8") in capsys.readouterr().err
    assert main(["run", "--resume", str(out)]) == 0  # shows it again, training nothing
    page = capsys.readouterr().out
    assert f"{runs['fp8']['relative_loss']:+.3%}" in page
    assert "below 0.25%" in page


@pytest.mark.slow
def test_a_comparison_goes_on_where_it_stopped(
    tiny_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = [*tiny_run, "--steps", "4", "--compare", "bf16,fp8", "--json"]
    assert main([*command, "--out", str(whole)]) == 0
    expected = json.loads(capsys.readouterr().out)
    from minidsv3.cli import run_comparing

    begin, made = run_comparing.begin, []

    def interrupted(settings, talk):  # type: ignore[no-untyped-def]
        made.append(settings)
        if len(made) == 2:
            (settings.out).mkdir()
            (settings.out / "tokenizer.json").write_text("half a start")
            raise KeyboardInterrupt
        return begin(settings, talk)

    monkeypatch.setattr(run_comparing, "begin", interrupted)
    assert main([*command, "--out", str(broken)]) == 130
    assert f"--resume {broken}" in capsys.readouterr().err
    monkeypatch.setattr(run_comparing, "begin", begin)
    assert main(["run", "--resume", str(broken), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name in ("bf16", "fp8"):
        for field in ("last_loss", "relative_loss", "held_out_bits_per_byte"):
            assert found["runs"][name][field] == expected["runs"][name][field]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--compare", ""], "expected two or more different precisions A,B, got ''"),
        (["--set", "accumulate=hardware"], "expected a precision with FP8 products for accumulate"),
        (["--precision", "mine.toml"], "expected a precision, got"),
        (["--compare", "bf16"], "expected two or more different precisions A,B, got 'bf16'"),
        (["--compare", "bf16,bf16"], "expected two or more different precisions"),
        (["--compare", "bf16,fp9"], "expected a precision, got 'fp9': did you mean 'fp8'"),
        (["--compare", "bf16,fp8", "--minutes", "1"], "expected --steps with --compare"),
        (["--precision", "fp9"], "expected a precision, got 'fp9': did you mean 'fp8'"),
        (["--set", "accumulate=exact"], "expected accumulate one of"),
    ],
)
def test_bad_precisions(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--out", str(tmp_path / "x"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_trace_names_formats_forward_and_backward(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "trace",
        "def scale",
        "--model",
        str(finished_run),
        "--precision",
        "fp8",
        "--backward",
        "--json",
    ]
    assert main(command) == 0
    said = json.loads(capsys.readouterr().out)
    rows = [row for row in said["rows"] if row["op"] == "mla.out" and row["layer"] == 0]
    found = {row["direction"]: row["formats"] for row in rows}
    assert found["fprop"] == ["e4m3 1x32", "e4m3 32x32", "bf16"]
    assert found["wgrad"] == ["e4m3 32x1", "e4m3 32x1", "fp32"]
    assert set(found) == {"fprop", "dgrad", "wgrad", "quantise"}


def test_trace_shows_formats_as_a_column(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["trace", "def scale", "--model", str(finished_run), "--op", "mla.kv_up", "--layer", "0"]
    assert main([*command, "--precision", "fp8"]) == 0
    assert "e4m3 1x32, e4m3 32x32 -> bf16" in capsys.readouterr().out
    assert main(command) == 0
    forward = capsys.readouterr().out
    assert "e4m3" not in forward
    assert "pass" not in forward
    assert main([*command, "--backward"]) == 0
    backward = capsys.readouterr().out
    passes = re.findall(r"mla.kv_up .*?(fprop|dgrad|wgrad)", backward)
    assert passes == ["fprop", "dgrad", "wgrad"]


def test_an_fp8_step_costs_less_than_a_bf16_step(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = {}
    for precision in ("bf16", "fp8"):
        assert main(["bill", "--preset", "mini", "--seq", "64", "--precision", precision, "--json"]) == 0
        table = json.loads(capsys.readouterr().out)
        parts = {part["name"]: part for part in table["training_step"]["by_part"]}
        seconds[precision] = parts["dense"]["seconds"] + parts["experts"]["seconds"]
        assert table["precision"] == precision
    assert seconds["fp8"] < seconds["bf16"]


def test_relative_losses() -> None:
    assert relative([2.0, 2.0], [1.0, 1.0]) == [1.0, 1.0]
    assert smooth([1.0, 1.0, 1.0], 0.9) == pytest.approx([1.0, 1.0, 1.0])


def test_the_report_says_the_precision(
    tiny_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*tiny_run, "--steps", "2", "--precision", "fp8-logfmt10", "--out", str(out)]) == 0
    page = capsys.readouterr().out
    assert "tokens, in fp8-logfmt10" in page
    assert "main head, in fp8-logfmt10" in page


def test_a_worker_that_is_killed_leaves_a_run_to_go_on_with(
    tiny_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, step = tmp_path / "run", Trainer.step

    def killed_after_three(self: Trainer, machine: object = None) -> object:
        if self.steps_done == 3:
            assert self.shards._crew is not None
            for process, _ in self.shards._crew._members:
                os.kill(process, signal.SIGKILL)
            time.sleep(0.1)
        return step(self)

    if crew_size(workers()) < 2:
        pytest.skip("needs worker processes")
    monkeypatch.setattr(Trainer, "step", killed_after_three)
    assert main([*tiny_run, "--steps", "6", "--out", str(out)]) == 3
    said = capsys.readouterr().err
    assert "it has ended" in said
    assert f"minidsv3 run --resume {out}" in said
    monkeypatch.setattr(Trainer, "step", step)
    assert main(["run", "--resume", str(out)]) == 0
