"""`minidsv3 bill --phase`: the page, what changes, sources, the timeline, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minidsv3.checkpoint.config_json import to_hugging_face
from minidsv3.cli import main
from minidsv3.config import ModelConfig
from minidsv3.cost import phase_bill
from minidsv3.hardware import load_hardware
from minidsv3.show import plain_text
from minidsv3.show.phase_page import phase_page

H800 = load_hardware("h800")
PHASES = ("train", "prefill", "decode")


def out_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 0
    return capsys.readouterr().out


def json_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(out_of([*words, "--json"], capsys))
    return said


@pytest.mark.parametrize("phase", PHASES)
def test_the_page(phase: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = out_of(["bill", "--model", "v3", "--hardware", "h800", "--phase", phase], capsys)
    for part in (
        "DeepSeek-V3",
        "NVIDIA H800 SXM",
        "by part",
        "by phase",
        "by precision",
        "FLOP a byte",
        "totals",
    ):
        assert part in said
    assert ("beside the published profile" in said) == (phase == "train")
    assert "by layer" not in said
    assert "by layer" in out_of(["bill", "--model", "v3", "--phase", phase, "--layers"], capsys)


def test_the_profile_stands_beside_the_bound(capsys: pytest.CaptureFixture[str]) -> None:
    said = out_of(["bill", "--model", "v3", "--phase", "train"], capsys)
    rows = {line.split()[0]: line.split() for line in said.splitlines() if "%" in line and "ms" in line}
    assert rows["compute"][1:] == ["65.9", "ms", "118", "ms", "56%"]
    assert rows["communication"][-1] == "54%" or rows["communication"][1:3] == ["62.3", "ms"]
    assert "a lower bound" in said


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("phase", PHASES)
def test_the_page_fits(phase: str, width: int) -> None:
    page = phase_page(phase_bill(ModelConfig.preset("v3"), H800, phase, "DeepSeek-V3"), layers=True)
    for plain in (False, True):
        text = plain_text(page, width, ascii_only=plain)
        assert max(map(len, text.splitlines())) <= width
        assert not plain or text.isascii()


def test_under_a_second() -> None:
    """A process of its own, imports and all: 0.5 s here; a busy machine gets four times that."""
    code = "import sys; from minidsv3.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["bill", "--model", "v3", "--hardware", "h800", "--phase", "train"]
    before = os.times()
    subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)
    after = os.times()
    assert after.children_user - before.children_user < 2


def test_what_set_changes(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bill", "--model", "v3", "--phase", "decode", "--set", "chip.hbm.bandwidth=8TB/s"]
    said = json_of(words, capsys)
    assert said["before"]["compute_seconds"] > said["compute_seconds"]
    assert said["before"]["bill"]["total"]["bytes"] == said["bill"]["total"]["bytes"]
    changes = {effect["name"]: effect for effect in said["changes"]["totals"]}
    assert changes["computing"]["ratio"] < 1
    assert changes["network"]["ratio"] == 1
    text = out_of(words, capsys)
    assert "before" in text
    assert "as before: " in text


@pytest.mark.parametrize(
    "words", [["--model", "v3", "--phase", "decode"], ["--preset", "nano", "--seq", "16"]]
)
def test_a_changed_tensor_core_sums_otherwise(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bill", *words, "--set", "tensor_core.fp8.fraction_bits=25"]
    errors = json_of(words, capsys)["changes"]["errors"]
    assert {effect["unit"] for effect in errors} == {"share"}
    assert errors[0]["after"] < errors[0]["before"]
    assert main(words) == 0
    assert "fp8: K = 4096, uniform [0, 1), one accumulator" in capsys.readouterr().out


def test_a_path_that_no_price_reads_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bill", "--model", "v3", "--phase", "train", "--set", "node.nvlink.both_directions=900GB/s"]
    out = " ".join(out_of(words, capsys).split())
    said = "no price reads node.nvlink.both_directions; NVLink is priced at node.nvlink.usable"
    assert f"nothing changes {said}" in out
    assert json_of(words, capsys)["unread"] == [said]
    assert json_of([*words[:-1], "node.nvlink.usable=360GB/s"], capsys)["unread"] == []


def test_set_changes_the_deployment_too(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bill", "--model", "v3", "--phase", "decode", "--set", "deployment.sequences=64"]
    said = json_of(words, capsys)
    assert (said["before"]["tokens"], said["tokens"]) == (128, 64)
    two = json_of([*words, "fabric.effective=50GB/s", "--set", "chip.sm.communication=0"], capsys)
    hardware = ["fabric.effective=50 GB/s", "chip.sm.communication=0"]
    assert two["set"] == [*hardware, "deployment.sequences=64"]
    assert two["communication_seconds"] == pytest.approx(said["communication_seconds"] * 40 / 50)


def test_nothing_computed_again(capsys: pytest.CaptureFixture[str]) -> None:
    said = json_of(["bill", "--phase", "train", "--set", "deployment.recompute=none"], capsys)
    assert said["deployment"]["recompute"] == []
    assert said["compute_seconds"] < said["before"]["compute_seconds"]


def test_options_change_the_deployment(capsys: pytest.CaptureFixture[str]) -> None:
    said = json_of(["bill", "--phase", "decode", "--batch", "32", "--seq", "1000", "--precision", "bf16",
                    "--attention", "naive"], capsys)  # fmt: skip
    d = said["deployment"]
    assert (d["sequences"], d["length"], d["precision"], d["attention"]) == (32, 1000, "bf16", "naive")
    assert said["model"] == "DeepSeek-V3"
    report = json_of(["bill", "--deployment", "decode-report"], capsys)
    assert report["deployment"]["expert_parallel"] == 320


def test_a_changed_layout_says_what_changed(capsys: pytest.CaptureFixture[str]) -> None:
    """A title of 128 requests does not stand over one; a batch of one has nothing to compute meanwhile."""
    text = out_of(["bill", "--model", "v3", "--phase", "decode", "--batch", "1", "--gpus", "32"], capsys)
    assert "128 requests" not in text
    assert "sequences 1 instead of 128, micro_batches 1 instead of 2, expert_parallel 32" in text
    assert "one after the other" in text.splitlines()[3]
    assert "128 requests" in out_of(["bill", "--model", "v3", "--phase", "decode"], capsys)


def test_what_does_not_fit_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bill", "--model", "v3", "--phase", "decode"]
    assert "does not fit" not in out_of(words, capsys)
    assert "does not fit: " in out_of([*words, "--set", "deployment.length=65536"], capsys)


def test_words_instead_of_pictures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIDSV3_SCREEN_READER", "1")
    text = out_of(["bill", "--model", "v3", "--phase", "decode"], capsys)
    assert set(filter(lambda c: not c.isascii(), text)) <= {"…"}
    assert "mla.out, forward: 126 FLOP a byte" in text


@pytest.mark.parametrize(
    "change", [{"num_hidden_layers": -1}, {"hidden_act": "gelu"}, {"model_type": "qwen2"}]
)
def test_a_config_that_cannot_be_priced(
    change: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = to_hugging_face(ModelConfig.preset("nano")) | change
    (tmp_path / "config.json").write_text(json.dumps(table))
    assert main(["bill", "--model", str(tmp_path), "--phase", "decode"]) == 2
    said = capsys.readouterr().err
    assert next(iter(change)).removeprefix("num_hidden_") in said
    assert "config.json" in said


def test_every_number_has_a_source(capsys: pytest.CaptureFixture[str]) -> None:
    said = json_of(["bill", "--model", "v3", "--phase", "train", "--explain"], capsys)["explained"]
    assert all(one["source"] and one["status"] for one in said)
    text = out_of(["bill", "--model", "v3", "--phase", "train", "--explain"], capsys)
    assert "chip.hbm.bandwidth = 3.35 TB/s\n  datasheet: NVIDIA H800 datasheet" in text
    assert "expert_parallel = 64\n  report: DeepSeek-V3 report, 3.2: 64-way over 8 nodes" in text


def test_a_timeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "decode.json"
    said = out_of(["bill", "--model", "v3", "--phase", "decode", "--chrome-trace", str(file)], capsys)
    assert str(file) in said
    table = json.loads(file.read_text())
    assert {event["ph"] for event in table["traceEvents"]} == {"M", "X"}
    traced = tmp_path / "nano.json"
    out_of(["bill", "--preset", "nano", "--seq", "8", "--chrome-trace", str(traced)], capsys)
    assert any(event["name"] == "update.adamw" for event in json.loads(traced.read_text())["traceEvents"])


def test_folders_and_files(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (finished_run, finished_run / "model", finished_run / "model" / "config.json"):
        words = ["bill", "--model", str(place), "--phase", "decode", "--seq", "16"]
        assert main(words) == 2
        assert "divisible among 128 GPUs, got 16 + 0 redundant = 16" in capsys.readouterr().err
        said = json_of([*words, "--gpus", "1", "--explain"], capsys)
        assert said["communication_seconds"] == 0
        assert said["model"] == str(place)
        sources = {one["source"] for one in said["explained"] if one["kind"] == "model"}
        assert len(sources) == 1
        assert sources.pop().endswith("config.json")


def test_set_prices_traced_steps_again(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bill", "--preset", "nano", "--seq", "16", "--set", "chip.hbm.bandwidth=6.7TB/s"]
    said = json_of(words, capsys)
    for step in ("training_step", "decode_step"):
        old, new = said["before"][step]["total"], said[step]["total"]
        assert old["bytes"] == new["bytes"]
        assert old["matrix_flops"] == new["matrix_flops"]
        assert new["seconds"] < old["seconds"]
        assert {effect["name"] for effect in said["changes"][step]} >= {"seconds", "matrix FLOPs"}
    text = out_of([*words, "--layers", "--explain"], capsys)
    assert text.count("with chip.hbm.bandwidth=6.7 TB/s") == 2
    assert "chip.hbm.bandwidth = 6.7 TB/s" in text
    assert "before" not in json_of(["bill", "--preset", "nano", "--seq", "16"], capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--phase", "trian"], "expected a phase, got 'trian': did you mean 'train'"),
        (["--deployment", "decode-prod"], "expected a deployment, got 'decode-prod': did you mean"),
        (
            ["--phase", "train", "--deployment", "decode"],
            "expected a deployment of phase 'train', got 'decode'",
        ),
        (["--phase", "train", "--hardware", "a100"], "a100: expected a chip.peak.fp8 to price 'mla.q_down'"),
        (
            ["--phase", "train", "--model", "v4"],
            "expected a preset, a folder with a config.json or such a file",
        ),
        (
            ["--phase", "train", "--model", "nano"],
            "expected at most 2048 positions, the model's max_seq_len, got",
        ),
        (
            ["--phase", "decode", "--set", "deployment.sequences=3"],
            "expected sequences divisible by 2 micro-batches, got 3",
        ),
        (["--phase", "decode", "--precision", "fp9"], "expected a precision, got 'fp9'"),
        (["--phase", "decode", "--attention", "flash"], "expected attention absorbed | naive, got 'flash'"),
        (["--phase", "decode", "--rows", "0"], "expected --rows >= 1, got 0"),
        (["--phase", "decode", "--set", "chip.hbm.bandwith=8TB/s"], "did you mean 'chip.hbm.bandwidth'"),
        (["--phase", "decode", "--set", "chip.hbm.bandwidth=8TB"], "expected a unit of B/s, got 'TB' (B)"),
        (["--phase", "decode", "--set", "deployment.gpus=8"], "unknown field 'gpus'"),
        (["--phase", "decode", "--set", "deployment.phase=train"], "got deployment.phase: ask with --phase"),
        (["--phase", "decode", "--model", "v3", "--preset", "v2"], "expected --preset or --model, got both"),
        (["--rows", "0"], "expected --rows >= 1, got 0"),
        (
            ["--phase", "train", "--set", "deployment.recompute=mla.q_upp"],
            "none, got 'mla.q_upp': did you",
        ),
        (["--phase", "decode", "--set", "deployment.sequences"], "expected deployment.FIELD=VALUE, such as"),
        (["--set", "deployment.sequences=3"], "what runs here has no deployment"),
        (
            ["--attention", "naive"],
            "expected --phase or --deployment with --attention, got --attention naive",
        ),
        (["--gpus", "8"], "expected --phase or --deployment with --gpus, got --gpus 8 alone"),
        (["--phase", "decode", "--gpus", "0"], "expected expert_parallel >= 1, got 0"),
        (["--phase", "decode", "--gpus", "96"], "divisible among 96 GPUs, got 256 + 0 redundant = 256"),
        (["--model", "v3"], "got the preset 'v3': --phase train, prefill or decode counts it"),
    ],
)
def test_bad_input(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bill", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert len(said.err.splitlines()) == 1
