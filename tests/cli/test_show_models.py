"""`minidsv3 show models`: presets, folders, files, and what is none of these."""

import json
from pathlib import Path

import pytest

from minidsv3.checkpoint import to_hugging_face
from minidsv3.cli import main
from minidsv3.config import ModelConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(to_hugging_face(ModelConfig.preset("nano"))))
    return tmp_path


def test_the_family_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "models"]) == 0
    out = capsys.readouterr().out
    assert "684,531,386,000" in out
    assert all(name in out for name in ("v2", "v2-lite", "v3", "moonlight"))


def test_a_preset_a_folder_and_a_file_stand_side_by_side(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["nano", str(folder), str(folder / "config.json"), "nano"]
    assert main(["show", "models", *names, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "minidsv3.show.models/1"
    assert [one["name"] for one in said["models"]] == names[:3]
    assert said["models"][0]["counts"] == said["models"][1]["counts"] == said["models"][2]["counts"]


def test_svg_and_screen_reader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["show", "models", "v3", "--svg", str(tmp_path / "v3.svg")]) == 0
    assert "671,026,419,200" in (tmp_path / "v3.svg").read_text(encoding="utf-8")
    capsys.readouterr()
    monkeypatch.setenv("MINIDSV3_SCREEN_READER", "1")
    assert main(["show", "models", "v2-lite"]) == 0
    assert "DeepSeek-V2-Lite: layers (dense) 27 (1); width 2,048" in " ".join(capsys.readouterr().out.split())


def test_what_is_no_model_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "models", "v4"]) == 2
    assert (
        "expected a preset, a folder with a config.json or such a file, got 'v4'" in capsys.readouterr().err
    )
    table = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(table | {"num_hidden_layers": 10**12}))
    assert main(["show", "models", str(folder)]) == 3
    assert "expected at most about 1,000,000 tensors to count" in capsys.readouterr().err
    (folder / "config.json").write_text(json.dumps(table | {"model_type": "llama"}))
    assert main(["show", "models", str(folder)]) == 3
    assert "expected model_type one of" in capsys.readouterr().err
