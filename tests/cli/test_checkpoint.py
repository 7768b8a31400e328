"""`minidsv3 checkpoint`: what it prints, its exit codes, and that its help imports nothing heavy."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minidsv3.cli import main
from minidsv3.cli.checkpoint import ACTIONS, Ticker
from minidsv3.tokenizer import Tokenizer

SYNTHESISE = ["checkpoint", "synthesise"]
NANO = ["--preset", "nano", "--layers", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small FP8 folder."""
    path = tmp_path_factory.mktemp("synthetic") / "model"
    assert main([*SYNTHESISE, str(path), *NANO]) == 0
    return path


@pytest.fixture
def wrong(folder: Path, tmp_path: Path) -> Path:
    """The same with a config of another vocabulary."""
    (tmp_path / "model").mkdir()
    for path in folder.iterdir():
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace('"vocab_size": 2048', '"vocab_size": 2049'))
    return tmp_path / "model"


def said_by(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    capsys.readouterr()
    assert main(["checkpoint", *words]) == code, capsys.readouterr().err
    captured = capsys.readouterr()
    return captured.out if code in (0, 1) else captured.err


def json_by(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(said_by([*words, "--json"], capsys, code))
    return table


# ---- show -------------------------------------------------------------------------------------------------


def test_show(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said_by(["show", str(folder), "--verify"], capsys)
    assert re.search(r"main model +1,403,760 +equal", text)
    assert re.search(r"all +265 +2,649,200 +3.74 MB +equal", text)
    assert "what the config says; all numbers read" in text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_show_fits(
    width: int, wrong: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = said_by(["show", str(wrong), "--tensors", "layers.1.mlp.gate"], capsys, 1)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_show_names_what_is_wrong(wrong: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said_by(["show", str(wrong)], capsys, 1)
    assert "4 findings: 4 shape" in text
    assert "shape: lm_head.weight: expected [2049, 128] by config.json, got BF16 [2048, 128]" in text
    table = json_by(["show", str(wrong)], capsys, 1)
    assert table["schema"] == "minidsv3.checkpoint.show/1"
    assert {finding["kind"] for finding in table["findings"]} == {"shape"}
    assert table["ok"] is False


def test_show_shows_few_unless_all_are_asked_for(wrong: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = wrong / "config.json"
    config.write_text(
        config.read_text().replace('"moe_intermediate_size": 96', '"moe_intermediate_size": 97')
    )
    few = said_by(["show", str(wrong)], capsys, 1)
    every = said_by(["show", str(wrong), "--all"], capsys, 1)
    assert "more (--all)" in few
    assert "more (--all)" not in every
    assert len(every.splitlines()) > len(few.splitlines()) + 80


def test_show_lists_tensors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said_by(["show", str(folder), "--tensors", "*.1.mlp.gate.*"], capsys)
    assert re.search(r"model.layers.1.mlp.gate.weight +BF16 +16x128 +4.10 kB +model.safetensors", text)
    assert "2 tensors, 4.16 kB" in text
    assert "no tensor fits 'nonsense'" in said_by(["show", str(folder), "--tensors", "nonsense"], capsys)
    table = json_by(["show", str(folder), "--tensors"], capsys)
    assert len(table["tensors"]) == table["totals"]["tensors"] == 265


def test_words_for_a_screen_reader(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIDSV3_SCREEN_READER", "1")
    text = said_by(["show", str(folder)], capsys)
    assert (
        "part attention; tensors 10; numbers 114,688; bytes 115 kB; formats F8_E4M3; by config equal" in text
    )
    assert "----" not in text


# ---- convert ----------------------------------------------------------------------------------------------


def test_convert(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = ["convert", str(folder), str(tmp_path / "wide"), "--to", "fp32", "--shard-size", "1MB"]
    table = json_by(wide, capsys)
    assert table["schema"] == "minidsv3.checkpoint.convert/1"
    assert table["files"] > 3
    text = said_by(["convert", str(tmp_path / "wide"), str(tmp_path / "own"), "--to", "bf16",
                    "--names", "official", "--mp", "2"], capsys)  # fmt: skip
    assert "note: left out: MTP modules (1)" in text
    text = said_by(["show", str(tmp_path / "own")], capsys)
    assert "DeepSeek's own layout, 2 ranks" in text
    json_by(["convert", str(tmp_path / "own"), str(tmp_path / "back"), "--to", "bf16"], capsys)
    assert json_by(["show", str(tmp_path / "back")], capsys)["ok"]


def test_a_stopped_conversion_says_how_to_go_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("minidsv3.checkpoint.convert.convert", stop)
    target = tmp_path / "half"
    said = said_by(["convert", str(folder), str(target), "--to", "bf16"], capsys, 130)
    assert f"finished files are kept in {target}: the same command goes on" in said
    assert said.endswith("interrupted\n")


def test_deepseeks_own_layout_is_called_that_where_it_cannot_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    said_by(["convert", str(folder), str(own), "--to", "bf16", "--names", "official"], capsys)
    assert main(["predict", "--ids", "1", "--model", str(own)]) == 3
    assert "got DeepSeek's own: `minidsv3 checkpoint convert`" in capsys.readouterr().err


def test_findings_are_whole_in_a_pipe(wrong: Path) -> None:
    words = [sys.executable, "-m", "minidsv3", "checkpoint", "show", str(wrong)]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    findings = [line for line in done.stdout.splitlines() if "expected" in line]
    assert findings
    assert all(line.endswith(f"({wrong / 'model.safetensors'})") for line in findings)


def test_what_is_no_tokenizer_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.md").write_text("# no tokenizer")
    words = ["synthesise", str(tmp_path / "model"), *NANO, "--tokenizer", str(tmp_path / "plan.md")]
    assert "plan.md" in said_by(words, capsys, 3)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("preset", "latents"),
    [("nano", "latents of 64 for q and 48 for kv"), ("v2-lite", "a latent of 512 for kv, none for q")],
)
def test_latents_in_words(
    preset: str, latents: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["synthesise", str(tmp_path / "m"), "--preset", preset, "--layers", "1", "--fill", "none"]
    said = said_by(words, capsys)
    assert latents in said
    assert "in 1 file" in said


def test_a_converted_model_computes_the_same(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    from minidsv3.interpreter import Model

    json_by(["convert", str(folder), str(tmp_path / "wide"), "--to", "fp32"], capsys)
    tokens = np.array([[3, 1, 4, 1, 5, 9]])
    assert np.array_equal(Model.load(folder).logits(tokens), Model.load(tmp_path / "wide").logits(tokens))


# ---- synthesise -------------------------------------------------------------------------------------------


def test_synthesise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = tmp_path / "mine.json"
    Tokenizer.train(["low lower lowest"] * 3, vocab_size=266).save(tokenizer)
    target = tmp_path / "model"
    words = ["synthesise", str(target), *NANO, "--no-mtp", "--dense-layers", "0", "--weights", "bf16"]
    table = json_by([*words, "--tokenizer", str(tokenizer), "--files", "2"], capsys)
    assert table["schema"] == "minidsv3.checkpoint.synthesise/1"
    assert (table["config"]["n_dense_layers"], table["config"]["n_mtp_layers"]) == (0, 0)
    assert (table["files"], table["published"]) == (2, None)
    assert (target / "tokenizer.json").read_bytes() == tokenizer.read_bytes()
    assert json_by(["show", str(target), "--verify"], capsys)["ok"]


@pytest.mark.slow
def test_the_whole_of_v3_beside_the_published_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from minidsv3.checkpoint import synthesise

    monkeypatch.setattr(synthesise, "write_shard", lambda *_: None)  # tests/checkpoint write them
    text = said_by(["synthesise", str(tmp_path / "v3"), "--preset", "v3", "--fill", "none"], capsys)
    for figure in ("91,991", "684,531,386,000", "688,574,839,360", "163"):
        assert re.search(rf" {figure} +{figure} +equal", text)


# ---- requests and files that are refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected an action: show, convert, synthesise"),
        (["shwo"], "did you mean 'show'"),
        (["show"], "the following arguments are required: DIR"),
        (["show", "no/such/folder"], "no such folder"),
        (["convert", "a", "b"], "the following arguments are required: --to"),
        (["convert", "a", "b", "--to", "fp16"], "weights fp8, bf16 or fp32, got 'fp16'"),
        (["convert", "a", "b", "--to", "fp8", "--shard-size", "much"], "a size such as 5GB or 512MiB"),
        (["convert", "a", "b", "--to", "fp8", "--no-mtp", "--mtp-copies"], "got both"),
        (["convert", "a", "b", "--to", "fp8", "--names", "gguf"], "a layout among"),
        (["synthesise", "x"], "the following arguments are required: --preset"),
        (["synthesise", "x", "--preset", "v33"], "did you mean 'v3'"),
        (["synthesise", "x", "--preset", "v3", "--layers", "0"], "expected n_layers >= 1, got 0"),
        (
            ["synthesise", "x", "--preset", "v3", "--layers", "9" * 12],
            "expected at most 1000 layers, got 9999",
        ),
        (["synthesise", "x", "--preset", "v3", "--fill", "some"], "fill one of"),
        (["synthesise", "x", "--preset", "v3", "--tokenizer", "none.json"], "no such file"),
        (["synthesise", ".", "--preset", "nano"], "a new or an empty folder"),
    ],
)
def test_bad_requests(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in said_by(words, capsys, 2)


def test_a_refused_file_is_exit_code_3(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad").mkdir()
    for path in folder.iterdir():
        (tmp_path / "bad" / path.name).write_bytes(
            path.read_bytes()[: -10 if "tensors" in path.name else None]
        )
    for words in (["show"], ["convert", "--to", "bf16", str(tmp_path / "out")]):
        said = said_by([words[0], str(tmp_path / "bad"), *words[3:], *words[1:3]], capsys, 3)
        assert "model.safetensors: " in said
        assert "bytes of data" in said
    pickle = tmp_path / "model.bin"
    pickle.write_bytes(b"\x80\x04.")
    assert "which is not opened" in said_by(["show", str(pickle)], capsys, 3)


def test_a_full_disk_is_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 10**6))  # type: ignore[attr-defined]
    said = said_by(["synthesise", str(tmp_path / "m"), *NANO], capsys, 3)
    assert "bytes free on this disk, got 1,000,000" in said


@pytest.mark.parametrize("action", ACTIONS)
def test_help_has_examples(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = said_by([action, "--help"], capsys)
    examples = text.split("examples:")[1].strip().splitlines()
    assert len(examples) >= 3
    assert all(line.strip().startswith(f"minidsv3 checkpoint {action}") for line in examples)


def test_a_look_at_the_help_imports_nothing_heavy() -> None:
    look = "main(['checkpoint', '--help']); print(sorted(sys.modules))"
    code = f"import sys; from minidsv3.cli import main; {look}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1]
    assert not [name for name in ("numpy", "scipy", "rich", "hypothesis") if f"'{name}'" in modules]
    assert "synthesise" in done.stdout


def test_progress_is_said_in_lines_where_nothing_can_be_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ticker = Ticker("writing")
    ticker(1, 10, "a")
    monkeypatch.setattr(ticker, "said", ticker.said - 11)
    ticker(5, 10, "b")
    ticker(6, 10, "c")
    ticker.end()
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"writing 5 B of 10 B, .*/s, .* left: b", line)
