"""`predict` over a packed cache: what it says of bytes and errors, beside the text."""

import json
from pathlib import Path

import pytest

from minidsv3 import Model
from minidsv3.cli import main


def test_json_has_the_cache_and_what_it_changed(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", "def scale", "--model", str(finished_run), "--tokens", "6", "--json"]
    said = {}
    for name in ("float32", "bf16", "fp8"):
        assert main([*arguments, "--cache", name]) == 0
        said[name] = json.loads(capsys.readouterr().out)
        assert said[name]["cache"]["format"] == name
    config = Model.load(finished_run / "model").config
    latent, key = config.kv_lora_rank, config.qk_rope_head_dim
    row = {"float32": 4 * (latent + key), "bf16": 2 * (latent + key), "fp8": latent + 4 + 2 * key}
    for name, cache in ((name, said[name]["cache"]) for name in row):
        assert cache["bytes_per_token"] == config.n_layers * row[name]
    assert said["float32"]["cache"]["errors"] == []
    for cache in (said["bf16"]["cache"], said["fp8"]["cache"]):
        assert [row["format"] for row in cache["errors"]] == ["bf16", "fp8"]
    positions = {row["positions"] for row in said["fp8"]["cache"]["errors"]}
    assert positions == {len(said["fp8"]["prompt_ids"]) + len(said["fp8"]["ids"])}


def test_speculation_over_a_packed_cache_says_the_same_text(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", "def scale", "--model", str(finished_run), "--tokens", "12", "--cache", "fp8"]
    assert main(arguments) == 0
    plain = capsys.readouterr()
    assert main([*arguments, "--speculative"]) == 0
    assert capsys.readouterr().out == plain.out
    assert "cache in bf16: " in plain.err
    assert "cache in fp8: " in plain.err


def test_another_format_is_refused(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "x", "--model", str(finished_run), "--cache", "fp4"]) == 2
    assert "choose from 'float32', 'bf16', 'fp8'" in capsys.readouterr().err
