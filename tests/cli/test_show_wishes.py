"""`minidsv3 show what-ifs`, `co-design`, `compare`: every form, and what is asked wrongly."""

import json
from pathlib import Path

import pytest

from minidsv3.checkpoint import to_hugging_face
from minidsv3.cli import main
from minidsv3.config import ModelConfig
from minidsv3.cost.scenarios import scenario_names


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert main(["show", *words, "--json"]) == 0
    said: dict[str, object] = json.loads(capsys.readouterr().out)
    return said


@pytest.mark.slow
def test_all_what_ifs(capsys: pytest.CaptureFixture[str]) -> None:
    said = asked(capsys, "what-ifs")
    assert said["schema"] == "minidsv3.show.what-ifs/1"
    rows = said["what_ifs"]
    assert isinstance(rows, list)
    assert [row["scenario"]["name"] for row in rows] == scenario_names()
    assert said["beyond"]


@pytest.mark.slow
def test_what_cannot_be_priced_is_listed_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """V2's 160 experts do not divide among 64 GPUs, but among prefill's 32."""
    said = asked(capsys, "what-ifs", "--model", "v2")
    priced = {row["scenario"]["name"] for row in said["what_ifs"]}
    left = {row["wish"]: row["why"] for row in said["beyond"]}
    assert "fused-cast" in priced
    assert priced | set(left) >= set(scenario_names())
    assert "expected experts divisible among 64 GPUs, got 160" in left["co-processor"]
    assert main(["show", "what-ifs", "--hardware", "a100"]) == 2
    assert "chip.peak.fp8" in capsys.readouterr().err


def test_one_what_if_with_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = asked(capsys, "what-ifs", "logfmt")["what_ifs"]  # type: ignore[misc]
    totals = {effect["name"]: effect for effect in row["totals"]}
    assert totals["network"]["ratio"] == pytest.approx(0.7629, abs=0.0001)
    assert row["errors"][0]["name"] == "relative RMS error, Gaussian tiles"
    assert main(["show", "what-ifs", "logfmt"]) == 0
    assert "14.8 ms  11.2 ms" in capsys.readouterr().out


def test_a_what_if_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = asked(capsys, "what-ifs", "fused-cast", "--deployment", "decode", "--hardware", "h100")[
        "what_ifs"
    ]  # type: ignore[misc]
    assert row["bill"] == "decode on NVIDIA H100 SXM"
    (tmp_path / "config.json").write_text(json.dumps(to_hugging_face(ModelConfig.preset("v3"))))
    (row,) = asked(capsys, "what-ifs", "fused-cast", "--model", str(tmp_path))["what_ifs"]  # type: ignore[misc]
    assert row["bill"] == "prefill on NVIDIA H800 SXM"


def test_co_design(capsys: pytest.CaptureFixture[str]) -> None:
    said = asked(capsys, "co-design")
    assert (said["model"], said["hardware"]) == ("DeepSeek-V3", "NVIDIA H800 SXM")
    rows = said["rows"]
    assert isinstance(rows, list)
    assert rows[0]["saves"][0]["before"] == 3_997_696


def test_co_design_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "co-design", "--hardware", "h100"]) == 0
    assert "co-design of DeepSeek-V3 on NVIDIA H100 SXM" in capsys.readouterr().out


def test_compare(capsys: pytest.CaptureFixture[str]) -> None:
    models = asked(capsys, "compare")["models"]
    assert isinstance(models, list)
    assert [one["name"] for one in models] == ["v3", "v2", "qwen2.5-72b", "llama-3.1-405b"]
    assert main(["show", "compare", "v3", "nano"]) == 0
    assert "GPU hours" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["what-ifs", "co-processor"], ["co-design"], ["compare", "v3", "v2"]])
def test_svg_and_words(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["show", *words, "--svg", str(tmp_path / "one.svg")]) == 0
    assert 'role="img"' in (tmp_path / "one.svg").read_text(encoding="utf-8")
    capsys.readouterr()
    monkeypatch.setenv("MINIDSV3_SCREEN_READER", "1")
    assert main(["show", *words]) == 0
    out = " ".join(capsys.readouterr().out.split())
    said = {
        "what-ifs": "SMs that compute: 112 -> 132",
        "co-design": "/ 56.9",
        "compare": "met by a token 37.55B",
    }
    assert said[words[0]] in out


BAD = [
    (["what-ifs", "logfm"], 2, "did you mean 'logfmt'"),
    (["what-ifs", "logfmt", "--deployment", "decoding"], 2, "expected a deployment, got 'decoding'"),
    (["what-ifs", "logfmt", "--hardware", "h8000"], 2, "did you mean 'h800'"),
    (["what-ifs", "--model", "v5"], 2, "expected a preset"),
    (["what-ifs", "co-processor", "--hardware", "an-ai-pc"], 2, "expected a value for 'chip.peak.fp8'"),
    (
        ["co-design", "--model", "nano"],
        2,
        "MLA: one latent a token for all heads: deployment decode: expected at most",
    ),
    (["compare", "qwen"], 2, "expected a model to compare, got 'qwen'"),
]


@pytest.mark.parametrize(("words", "code", "message"), BAD, ids=[" ".join(words) for words, _, _ in BAD])
def test_bad_input(words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", *words]) == code
    assert message in " ".join(capsys.readouterr().err.split())
