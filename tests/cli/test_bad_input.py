"""Every bad input of a run ends with exit code 2 and a message that names what was expected and what came."""

import json
from pathlib import Path

import pytest

from minidsv3.cli import main


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str], *words: str) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    for word in ("expected", *words):
        assert word in said, said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--preset", "nana"], ("did you mean 'nano'",)),
        (["run", "--preset", "v3"], ("laptop",)),
        (["run", "--resume", "no/such/run"], ("run.json", "no such folder")),
        (["run", "--resume", "x", "--steps", "3"], ("--resume", "--steps")),
        (["run", "--text", "no/such/file"], ("nothing there",)),
        (["run", "--set", "n_routed_experts=10"], ("n_expert_groups", "10")),
        (["run", "--set", "n_activated_experts=9"], ("n_activated_experts <= 8", "9")),
        (["run", "--set", "qk_rope_head_dim=7"], ("even", "7")),
        (["run", "--set", "dim"], ("FIELD=VALUE", "dim")),
        (["run", "--steps", "0"], ("steps >= 1", "0")),
        (["run", "--seed", "-1"], ("--seed", "-1")),
        (["run", "--minutes", "0"], ("--minutes", "0")),
        (["run", "--text", ""], ("empty name",)),
        (["run", "--hardware", "h8000"], ("h800",)),
        (["run", "--set", "dim=wide"], ("whole number", "wide")),
    ],
)
def test_refused_at_once(
    arguments: list[str], words: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    refused(arguments if "--resume" in arguments else [*arguments, "--out", str(out)], capsys, *words)
    assert not out.exists()


def test_unknown_field_names_near_ones(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", "--set", "dimm=3", "--out", str(tmp_path / "x")]) == 2
    assert "did you mean 'dim'" in capsys.readouterr().err


def test_empty_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n\n")
    refused(["run", "--text", str(tmp_path), "--out", str(tmp_path / "run")], capsys, "white space")


def test_text_too_short_for_a_sequence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("a few words only\n" * 3)
    refused(["run", "--text", str(tmp_path), "--out", str(tmp_path / "run")], capsys, "257 tokens")


def test_sequence_over_the_maximum(
    capsys: pytest.CaptureFixture[str], tiny_run: list[str], tmp_path: Path
) -> None:
    long = [*tiny_run, "seq_len=4096", "--out", str(tmp_path / "run")]
    refused(long, capsys, "max_seq_len=2048", "4096")


def test_folder_that_holds_something(
    capsys: pytest.CaptureFixture[str], tiny_run: list[str], tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("mine")
    refused([*tiny_run, "--out", str(tmp_path)], capsys, "note.txt")
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_folder_that_is_no_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    refused(["run", "--resume", str(tmp_path)], capsys, "run.json", "note.txt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "line 1 column 1"),
        ("[]", "expected an object, got list"),
        ("null", "expected an object, got NoneType"),
        ("{}", "no field 'schema'"),
    ],
)
def test_a_run_json_that_is_none(
    content: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(content)
    assert main(["run", "--resume", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "run.json" in said
    assert words in said


def test_a_run_without_the_facts_of_its_start(
    capsys: pytest.CaptureFixture[str], tiny_run: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert main([*tiny_run, "--steps", "2", "--out", str(out)]) == 0
    table = json.loads((out / "run.json").read_text())
    del table["facts"]["held_out_bytes"]
    (out / "run.json").write_text(json.dumps(table))
    refused(["run", "--resume", str(out)], capsys, "run.json", "'held_out_bytes'")
