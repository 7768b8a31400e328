"""`minidsv3 show absorption`, `mtp`, `merges`, `fim`, `rope`: what they say, and what they refuse."""

import json
from pathlib import Path

import pytest

from minidsv3.cli import main


def json_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    capsys.readouterr()
    assert main(["show", *arguments, "--json"]) == 0, capsys.readouterr().err
    table: dict[str, object] = json.loads(capsys.readouterr().out)
    return table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["absorption", "--cached", "4", "--new", "5"],
            "1 <= --new <= --cached <= 1,073,741,824, got 5 and 4",
        ),
        (["absorption", "--model", "v4"], "a folder with a config.json or such a file, got 'v4'"),
        (["mtp", "--new", "0"], "--new from 1 to 200, got 0"),
        (["merges", "--merges", "-1"], "--merges from 0 to 64, got -1"),
        (["merges", ""], "a text of 1 to 20,000 characters, got 0"),
        (["merges", "x", "--learn", "y", "--tokenizer", "z"], "expected --learn or --tokenizer, got both"),
        (["fim", "x", "--file", "y"], "expected TEXT or --file, got both"),
        (["fim", "--seed", "-1"], "--seed >= 0, got -1"),
        (["rope", "--seed", "-1"], "--seed >= 0, got -1"),
    ],
)
def test_bad_requests(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["show", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert not said.out


def test_absorption_computes_what_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    small = json_of(["absorption", "--model", "nano", "--cached", "64"], capsys)
    assert 0 < small["largest_difference"] < 1e-5 * small["largest_output"]  # type: ignore[operator]
    large = json_of(["absorption"], capsys)
    assert large["largest_difference"] is None
    assert large["break_even_new_tokens"] == 164


def test_drafts_are_counted(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["show", "mtp", "--model", str(finished_run), "--new", "4", "--drafts", "9"]
    assert main(words) == 2
    assert "expected drafts 1 .. 7, got 9" in capsys.readouterr().err


@pytest.mark.slow  # 3 s
def test_without_a_run_a_small_model_learns_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    table = json_of(["mtp", "--new", "6"], capsys)
    assert table["model"] == "a small model after 80 steps of training"
    assert table["same_without_drafts"] is True
    assert len(table["tokens"]) == 6  # type: ignore[arg-type]


def test_a_runs_own_tokenizer_cuts(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from minidsv3.tokenizer import Tokenizer

    table = json_of(["merges", "def scale_1", "--tokenizer", str(finished_run)], capsys)
    pieces: list[dict[str, list[int]]] = table["pieces"]  # type: ignore[assignment]
    ids = [token for piece in pieces for token in piece["ids"]]
    assert ids == Tokenizer.load(finished_run).encode("def scale_1")
    assert table["merges"] == []


def test_fim_parts_are_the_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.py").write_text("def area(r):\n    return r * r\n")
    for seed in ("0", "5"):
        table = json_of(["fim", "--file", str(tmp_path / "text.py"), "--seed", seed], capsys)
        parts: dict[str, str] = table["parts"]  # type: ignore[assignment]
        assert parts["prefix"] + parts["middle"] + parts["suffix"] == "def area(r):\n    return r * r\n"


def test_rope_names_its_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "rope", "--model", "nano"]) == 0
    assert capsys.readouterr().out.startswith("nano: 16 numbers a head turn, 8 pairs, theta 10000")
    assert json_of(["rope"], capsys)["yarn"]["ends"] == [10, 23]  # type: ignore[index]
