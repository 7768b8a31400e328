"""`minidsv3 tokenize`: any file of the family, offsets, stages, decoding."""

import json
from pathlib import Path

import pytest

from minidsv3.cli import main
from minidsv3.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    Tokenizer.train(["the low, the lowest 図"] * 3, 275, split="gpt2").save(place / "tokenizer.json")
    return place


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["tokenize", *words]) == 0
    return capsys.readouterr().out


def test_offsets_and_decoding(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--tokenizer", str(folder), "--json"]
    table = json.loads(said(["the 図!", "--offsets", *words], capsys))
    assert len(table["offsets"]) == len(table["ids"])
    assert table["offsets"][-1] == [5, 6]
    ids = ",".join(map(str, table["ids"]))
    again = json.loads(said(["--decode", ids, *words], capsys))
    assert (again["text"], again["bytes"]) == ("the 図!", table["bytes"])
    assert said(["--decode", f"0 {ids}", "--skip-special", *words[:2]], capsys) == "the 図!\n"
    assert "5:6" in said(["the 図!", "--offsets", *words[:2]], capsys)


def test_stages(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["the 12", "--stages", "--tokenizer", str(folder / "tokenizer.json")]
    (stage,) = json.loads(said([*words, "--json"], capsys))["stages"]
    assert (stage["kind"], stage["pieces"]) == ("ByteLevel", ["the", " 12"])
    assert "1 ByteLevel 's|'t" in said(words, capsys)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "TEXT or --decode IDS, got none"),
        (["a", "--decode", "1"], 2, "TEXT or --decode IDS, got both"),
        (["--decode", "1,x"], 2, "ids such as 1,2,3, got '1,x'"),
        (["--decode", "99999999"], 2, "token ids from 0 to 261, got 99999999"),
        (["a", "--stages", "--offsets"], 2, "--stages alone"),
        (["a", "--skip-special"], 2, "with --decode"),
        (["a", "--tokenizer", "no/such"], 2, "got no/such: no such file"),
        (["a", "--tokenizer", "."], 3, "expected a tokenizer.json in the folder, got none"),
    ],
)
def test_bad_input(
    words: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["tokenize", *words]) == code
    assert message in capsys.readouterr().err
