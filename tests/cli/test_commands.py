"""The small commands on a model that a tiny run left, and what all commands share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minidsv3.cli import COMMANDS, main


def out_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 0
    return capsys.readouterr().out


def json_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    table = json.loads(out_of([*arguments, "--json"], capsys))
    assert table["schema"].startswith("minidsv3.")
    return table


def test_run_leaves_its_folder(finished_run: Path) -> None:
    names = {path.name for path in finished_run.iterdir()}
    files = {"run.json", "tokenizer.json", "data.safetensors", "metrics.jsonl", "checkpoints", "model"}
    assert names == files | {"report.txt", "report.svg", "report.json"}
    assert (finished_run / "model" / "tokenizer.json").is_file()
    report = json.loads((finished_run / "report.json").read_text())
    assert report["schema"] == "minidsv3.report/1"
    assert {"main head", "MTP depth 1", "gzip -9", "xz -9", "untrained"} <= set(report["bits_per_byte"])
    assert all(sample["same_text"] for sample in report["samples"].values())
    assert report["samples"]["fill in the middle"]["drafted"] > 0
    text = (finished_run / "report.txt").read_text(encoding="utf-8")
    assert "mla.kv_down" in text or "more ops" in text
    assert "KV cache" in text


def test_run_prints_json_and_nothing_else(
    tiny_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = json_of([*tiny_run, "--steps", "2", "--out", str(tmp_path / "run")], capsys)
    assert table["folder"] == str(tmp_path / "run")


def test_runs_are_numbered(
    tiny_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main([*tiny_run, "--steps", "1"]) == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["nano-0", "nano-1"]
    assert "runs/nano-1/model" in str(json_of(["predict", "def"], capsys)["model"])


def test_minutes_fix_the_steps(
    tiny_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*tiny_run, "--minutes", "0.005", "--out", str(out)]) == 0
    steps = json.loads((out / "run.json").read_text())["plan"]["steps"]
    assert f"so {steps} steps" in capsys.readouterr().err
    assert len((out / "metrics.jsonl").read_text().splitlines()) == steps


def test_two_mtp_depths(tiny_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*tiny_run, "n_mtp_layers=2", "--steps", "2", "--out", str(tmp_path / "run")]
    bits = json_of(arguments, capsys)["bits_per_byte"]
    assert isinstance(bits, dict)
    assert "MTP depth 2" in bits


def test_no_mtp(tiny_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*tiny_run, "n_mtp_layers=0", "--steps", "2", "--out", str(tmp_path / "run")]
    assert "main head" in out_of(arguments, capsys)


def test_predict_is_the_same_with_drafts(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["predict", "def scale", "--model", str(finished_run), "--tokens", "12"]
    plain, guessed = json_of(arguments, capsys), json_of([*arguments, "--speculative"], capsys)
    assert plain["ids"] == guessed["ids"]
    assert guessed["drafted"]
    assert out_of(arguments, capsys).rstrip("\n") == f"def scale{plain['text']}".rstrip("\n")
    drawn = json_of([*arguments, "--temperature", "1", "--top-p", "0.9", "--seed", "3"], capsys)
    assert drawn["ids"] != plain["ids"]


def test_predict_takes_a_model_folder(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json_of(["predict", "x", "--model", str(finished_run / "model"), "--tokens", "2"], capsys)["ids"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", ""], "empty text"),
        (["predict", "x", "--tokens", "9999"], "at most"),
        (["predict", "x", "--temperature", "-1"], "temperature"),
        (["trace", "x", "--op", "mla.kv_dwn"], "did you mean 'mla.kv_down'"),
        (["predict", "x", "--tokens", "99999"], "at most 2047 new tokens, got 99999"),
        (["predict", "x", "--tokens", "0"], "max_new_tokens >= 1"),
        (["predict", "x", "--seed", "-1"], "--seed >= 0, got -1"),
        (["trace", "x", "--layer", "9"], "layer 9 of 0 .. 1"),
        (["trace", "x", "--layer", "0", "--op", "head.*"], "match 'head.*' in layer 0"),
        (["bill", "--preset", "mini"], "got both: mini"),
    ],
)
def test_bad_requests(
    arguments: list[str], words: str, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--model", str(finished_run)]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert not said.out


def test_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], finished_run: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "x"]) == 2
    assert "minidsv3 run" in capsys.readouterr().err
    assert main(["predict", "x", "--model", "nowhere"]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_trace(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["trace", "def", "--model", str(finished_run), "--op", "mla.*", "--layer", "1"]
    rows = json_of(arguments, capsys)["rows"]
    assert isinstance(rows, list)
    assert {row["layer"] for row in rows} == {1}
    text = out_of(arguments, capsys)
    assert all(row["op"] in text for row in rows)


def test_tokenize(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    learned = json_of(["tokenize", "def scale", "--model", str(finished_run)], capsys)
    bare = json_of(["tokenize", "é", "--special"], capsys)
    assert isinstance(learned["ids"], list)
    assert len(learned["ids"]) < len("def scale")
    assert bare["bytes"] == ["c3", "a9"]
    assert "<c3>" in out_of(["tokenize", "é"], capsys)


def test_ops(capsys: pytest.CaptureFixture[str]) -> None:
    assert "c_KV = W_DKV h" in out_of(["ops", "mla.kv_down"], capsys)
    ops, symbols = json_of(["ops"], capsys)["ops"], json_of(["ops", "--symbols"], capsys)["symbols"]
    assert isinstance(ops, list)
    assert len(ops) > 40
    assert isinstance(symbols, dict)
    assert "W_DKV" in symbols
    assert "W_DKV" in out_of(["ops", "--symbols"], capsys)


def test_bill(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = json_of(["bill", "--model", str(finished_run), "--batch", "2", "--seq", "16"], capsys)
    step = table["training_step"]
    assert isinstance(step, dict)
    assert step["total"]["matrix_flops"] > 0
    assert "attention" in out_of(["bill", "--model", str(finished_run), "--seq", "16"], capsys)
    assert table["decode_cached"] == 16
    whole = out_of(["bill", "--preset", "mini", "--seq", "256"], capsys)
    assert "behind 256 cached tokens" in whole
    assert main(["bill", "--preset", "v3"]) == 2
    assert "laptop" in capsys.readouterr().err


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ("lesson", "check")])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = out_of([command, "--help"], capsys)
    assert f"minidsv3 {command}" in text.split("examples:")[1]


@pytest.mark.parametrize("command", [["step"], ["show", "value"]])
def test_fresh_weights_fit_in_memory(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--preset", "v2-lite", "--ids", "1,2"]) == 2
    assert "expected at most 100,000,000 parameters, got 15,706,484,224" in capsys.readouterr().err


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=os.environ | environment
    )
    return done.stdout.decode("latin-1")


def test_a_missing_package_is_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "minidsv3.cli.ops", None)
    with pytest.raises(ModuleNotFoundError):  # a part of ours that is missing is a defect, and shown as one
        main(["ops"])
    monkeypatch.delitem(sys.modules, "minidsv3.cli.ops")

    def gone(args: object) -> int:
        raise ModuleNotFoundError("No module named 'rich'", name="rich")

    import minidsv3.cli.ops

    monkeypatch.setattr(minidsv3.cli.ops, "main", gone)
    assert main(["ops"]) == 3
    assert "the package rich" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    commands = ["", *COMMANDS, "show models", "show needle", "class new", "class grade", "class report"]
    code = f"""
import contextlib, io, sys
from minidsv3.cli import main
for command in {commands}:
    with contextlib.redirect_stdout(io.StringIO()):
        main([*command.split(), "--help"])
    heavy = {{"numpy", "scipy", "rich", "hypothesis"}} & set(sys.modules)
    if heavy:
        sys.exit(f"{{command}}: {{heavy}}")
print("none")
"""
    assert python(code) == "none\n"


@pytest.mark.parametrize("command", ["run", "show", "predict", "trace", "bill"])
def test_help_in_an_encoding_without_an_ellipsis(command: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "minidsv3", command, "--help"],
        capture_output=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"examples:" in done.stdout


def test_an_encoding_without_blocks(finished_run: Path) -> None:
    code = f"from minidsv3.cli import main; main(['trace', 'é', '--model', {str(finished_run)!r}])"
    code += f"; main(['bill', '--model', {str(finished_run)!r}, '--seq', '8', '--rows', '2'])"
    text = python(code, PYTHONIOENCODING="cp1252")
    assert text.isascii()
    assert "###" in text


def test_colour_only_where_asked(finished_run: Path) -> None:
    code = "from minidsv3.cli import main; main(['ops', 'mla.out'])"
    for unset in ("NO_COLOR", "FORCE_COLOR"):
        assert "\x1b" not in python(code, **{unset: ""})
    assert "\x1b[" in python(code, FORCE_COLOR="1", TERM="xterm")
    assert "\x1b[3" not in python(code, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm")


@pytest.mark.parametrize("word", ["gate", "gate.*"])
def test_the_first_part_of_an_op_or_a_pattern_gives_a_table(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [op["id"] for op in json_of(["ops", word], capsys)["ops"]]  # type: ignore[attr-defined]
    assert found
    assert all(op.startswith("gate.") for op in found)
