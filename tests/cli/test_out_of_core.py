"""`predict` and `trace` on folders that are read as they run: the same text, and what was read."""

import json
import shutil
from pathlib import Path

import pytest

from minidsv3 import Model
from minidsv3.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def published(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of a run as if another library had written it: FP8, and no word of ours in config.json."""
    folder = tmp_path_factory.mktemp("published")
    Model.load(finished_run / "model").save(folder, weights="fp8")
    config = json.loads((folder / "config.json").read_text())
    del config["minidsv3"]
    (folder / "config.json").write_text(json.dumps(config | {"bos_token_id": 7}))
    return folder


@pytest.fixture(scope="module")
def with_tokenizer(published: Path, finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    shutil.copytree(published, folder)
    found = next(
        place for place in (finished_run, finished_run / "model") if (place / "tokenizer.json").is_file()
    )
    shutil.copy(found / "tokenizer.json", folder)
    return folder


def run(capsys: Capture, *arguments: str) -> tuple[dict, str]:
    assert main([*arguments, "--json"]) == 0
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def test_the_same_ids_from_less_memory(published: Path, capsys: Capture) -> None:
    arguments = ["predict", "--ids", "7,8,9", "--model", str(published), "--tokens", "5"]
    resident, _ = run(capsys, *arguments)
    mapped, _ = run(capsys, *arguments, "--memory", "20KB")
    assert mapped["ids"] == resident["ids"]
    assert mapped["prompt_ids"] == [7, 8, 9]
    assert resident["weights"]["mapped"] is False
    weights = mapped["weights"]
    assert weights["mapped"] is True
    assert weights["budget"] == 20_000
    assert weights["bytes_read"] == weights["prompt"]["bytes_read"] + 4 * weights["bytes_per_token"]
    assert weights["peak_memory"] > 0
    assert weights["whole"] is None


def test_ids_are_said_where_there_is_no_tokenizer(published: Path, capsys: Capture) -> None:
    arguments = ["predict", "--ids", "7,8", "--model", str(published), "--tokens", "3", "--memory", "20KB"]
    ids = run(capsys, *arguments)[0]["ids"]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert said.out == " ".join(map(str, [7, 8, *ids])) + "\n"
    assert "weights: " in said.err
    assert "19.53 KiB held" in said.err
    assert "resident in all" in said.err


def test_published_models_begin_with_their_begin_token(
    with_tokenizer: Path, finished_run: Path, capsys: Capture
) -> None:
    theirs, _ = run(
        capsys, "predict", "def", "--model", str(with_tokenizer), "--tokens", "1", "--memory", "20KB"
    )
    ours, _ = run(capsys, "predict", "def", "--model", str(finished_run), "--tokens", "1")
    assert theirs["prompt_ids"][0] == 7
    assert ours["prompt_ids"][0] != 7
    assert theirs["prompt_ids"][1:] == ours["prompt_ids"][1:]
    assert main(["predict", "def", "--model", str(with_tokenizer), "--tokens", "2"]) == 0
    assert capsys.readouterr().out.startswith("def")


def test_a_trace_of_a_mapped_model(published: Path, capsys: Capture) -> None:
    arguments = ["trace", "--ids", "7,8", "--model", str(published)]
    resident, _ = run(capsys, *arguments)
    mapped, _ = run(capsys, *arguments, "--memory", "20KB")
    assert [row["op"] for row in mapped["rows"]] == [row["op"] for row in resident["rows"]]
    assert mapped["weights"]["bytes_read"] == mapped["weights"]["bytes_per_token"] > 0
    assert main([*arguments, "--memory", "20KB"]) == 0
    assert "weights: " in capsys.readouterr().err


def test_a_folder_without_a_tokenizer_is_refused_for_text(published: Path, capsys: Capture) -> None:
    for command in ("predict", "trace"):
        assert main([command, "def", "--model", str(published)]) == 3
        said = capsys.readouterr().err
        assert f"expected a tokenizer.json in {published}, got none" in said
        assert "--ids" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ids", "1,x"], "expected --ids as whole numbers with commas between, got '1,x'"),
        (["--ids", "1,,2"], "expected --ids as whole numbers"),
        (["--ids", "999"], "expected token ids 0 .. 313, got 999"),
        (["--ids", "1", "text"], "expected a prompt or --ids, got both"),
        ([], "expected a prompt or --ids, got neither"),
        (
            ["--ids", "1", "--memory", "lots"],
            "expected memory such as 8GiB, 800MB or a number of bytes, got 'lots'",
        ),
        (["--ids", "1", "--memory", "0"], "expected memory of at least one byte"),
    ],
)
def test_bad_options(published: Path, capsys: Capture, arguments: list[str], said: str) -> None:
    for command in ("predict", "trace"):
        assert main([command, "--model", str(published), *arguments]) == 2
        assert said in capsys.readouterr().err


def test_gradients_of_a_mapped_model_are_refused(published: Path, capsys: Capture) -> None:
    assert main(["trace", "--ids", "1,2,3", "--model", str(published), "--memory", "20KB", "--backward"]) == 2
    assert "expected a model within the memory for gradients" in capsys.readouterr().err


def test_a_line_comes_every_so_often(
    published: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minidsv3.cli.weights.LINE_SECONDS", 0.0)
    assert (
        main(["predict", "--ids", "7", "--model", str(published), "--tokens", "2", "--memory", "20KB"]) == 0
    )
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("layer 1 of 2: ")
    assert any(line.startswith("layer 2 of 2: ") and "left of this pass" in line for line in said)
    assert all("of 19.53 KiB held" in line for line in said if line.startswith("layer"))


def test_a_line_of_progress_begins_a_line_where_text_goes_to_the_same_place(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minidsv3.cli.weights.LINE_SECONDS", 0.0)
    with (tmp_path / "said").open("w+") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        patch.setattr("sys.stderr", file)
        arguments = ["--ids", "7,8", "--model", str(published), "--tokens", "3", "--memory", "20KB"]
        assert main(["predict", *arguments]) == 0
        file.seek(0)
        lines = file.read().splitlines()
    progress = [line for line in lines if "MiB/s" in line or "KiB/s" in line]
    assert len(progress) > 3
    assert all(line.startswith(("layer ", "MTP ")) for line in progress)


def test_one_token_has_no_speed(published: Path, capsys: Capture) -> None:
    assert main(["predict", "--ids", "7", "--model", str(published), "--tokens", "1"]) == 0
    assert f"{published}: 1 token, without drafts" in capsys.readouterr().err
