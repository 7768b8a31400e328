"""`minidsv3 show hardware`: one machine, two, all, changed ones, and what is none of these."""

import json
from pathlib import Path

import pytest

from minidsv3.cli import main
from minidsv3.hardware import hardware_names

MINE = """
name = "mine"
[chip.hbm]
bandwidth = { value = 1, unit = "TB/s", source = "a test", status = "assumed" }
"""


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main(["show", "hardware", *words, "--json"]) == 0
    table: dict[str, object] = json.loads(capsys.readouterr().out)
    return table


def test_all_one_and_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "hardware"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in hardware_names())
    assert main(["show", "hardware", "h800"]) == 0
    assert "[13] deepseek-ai/profile-data" in capsys.readouterr().out
    assert main(["show", "hardware", "--diff", "h800", "h100"]) == 0
    assert "x 2.25" in capsys.readouterr().out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    everything = said([], capsys)
    assert everything["schema"] == "minidsv3.show.hardware/1"
    assert [one["id"] for one in everything["machines"]] == hardware_names()  # type: ignore[attr-defined]
    one = said(["h800", "--set", "chip.hbm.bandwidth=8TB/s"], capsys)
    assert one["values"]["chip.hbm.bandwidth"]["si"] == 8e12  # type: ignore[index]
    two = said(["--diff", "h800", "h800", "--set", "chip.hbm.bandwidth=6.7TB/s"], capsys)
    (found,) = two["differences"]  # type: ignore[misc]
    assert (found["path"], found["ratio"]) == ("chip.hbm.bandwidth", 2)


def test_a_file_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    assert main(["show", "hardware", str(path)]) == 0
    assert "mine: 1 value: 1 assumed" in capsys.readouterr().out
    assert main(["show", "hardware", "--diff", "h800", str(path)]) == 0
    assert "x 0.299" in capsys.readouterr().out


def test_svg_and_screen_reader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["show", "hardware", "h800", "--svg", str(tmp_path / "h800.svg")]) == 0
    assert "84,943,110,144" in (tmp_path / "h800.svg").read_text(encoding="utf-8")
    two = ["--diff", "h800", "h800", "--set", "chip.hbm.bandwidth=8", "--svg", str(tmp_path / "two.svg")]
    assert main(["show", "hardware", *two]) == 0
    title = "<title>minidsv3 show hardware --diff h800 h800 chip.hbm.bandwidth=8 TB/s</title>"
    assert title in (tmp_path / "two.svg").read_text(encoding="utf-8")
    capsys.readouterr()
    monkeypatch.setenv("MINIDSV3_SCREEN_READER", "1")
    assert main(["show", "hardware", "h800"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "chip.sm.communication: 20 (report: DeepSeek-V3 report, 3.2.2); of them, those that" in words


@pytest.mark.parametrize(
    ("words", "expectation"),
    [
        (["h8000"], "expected hardware by name or a path to a .toml file, got 'h8000': did you mean 'h800'?"),
        (["h800", "--diff", "h800", "h100"], "expected NAME or --diff A B, got both: h800 and h800 h100"),
        (["--set", "node.gpus=4"], "expected a machine to change, got --set node.gpus=4 alone"),
        (
            ["h800", "--set", "node.gpus"],
            "expected PATH=VALUE, such as chip.hbm.bandwidth=8TB/s, got 'node.gpus'",
        ),
        (["h800", "--set", "node.gpu=4"], "unknown key 'node.gpu'; did you mean 'node.gpus'"),
        (["h800", "--set", "node.gpus=-4"], "node.gpus: expected a number > 0, got -4"),
        (["h800", "--set", "chip.hbm.bandwidth=8GB"], "expected a unit of B/s, got 'GB' (B)"),
        (["--diff", "h800"], "expected 2 arguments"),
        (["h800", "h100"], "unrecognized arguments: h100"),
    ],
)
def test_bad_input(words: list[str], expectation: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "hardware", *words]) == 2
    assert expectation in capsys.readouterr().err


def test_a_folder_is_no_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder.toml").mkdir()
    assert main(["show", "hardware", str(tmp_path / "folder.toml")]) == 2
    assert "got the folder '" in capsys.readouterr().err


def test_a_wrong_file_is_named_with_its_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE.replace("TB/s", "TB"))
    assert main(["show", "hardware", str(path)]) == 2
    assert "mine.toml: chip.hbm.bandwidth: expected a unit of B/s, got 'TB' (B)" in capsys.readouterr().err
