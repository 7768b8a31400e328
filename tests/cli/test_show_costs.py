"""`minidsv3 show roofline`, `waterfall`, `kv`, `memory`: V3 on machines, what-ifs, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from minidsv3.cli import main
from minidsv3.config import ModelConfig
from minidsv3.cost import load_deployment, phase_bill
from minidsv3.hardware import load_hardware


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["show", *words, "--json"]) == 0, capsys.readouterr().err
    table: dict[str, Any] = json.loads(capsys.readouterr().out)
    return table


def seen(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(["show", *words]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("phase", ["train", "prefill", "decode"])
def test_pictures_are_of_the_phase_s_bill(phase: str, capsys: pytest.CaptureFixture[str]) -> None:
    priced = phase_bill(ModelConfig.preset("v3"), load_hardware("h800"), phase)
    falls, roof = told(capsys, "waterfall", "--phase", phase), told(capsys, "roofline", "--phase", phase)
    assert falls["phase"] == roof["phase"] == phase
    assert falls["seconds"] == pytest.approx(priced.seconds)
    by_part = {step["name"]: sum(step["amounts"].values()) for step in falls["steps"]}
    sent = by_part["dispatch"] + by_part["combine"]
    assert sent == pytest.approx(priced.communication_seconds)
    assert sum(by_part.values()) == pytest.approx(priced.serial_seconds)
    assert falls["hidden_seconds"] == pytest.approx(min(sent, priced.compute_seconds))
    longest = roof["points"][0]
    assert longest["achieved"] <= longest["attainable"] * (1 + 1e-9)
    assert roof["ridges"]["fp8"] == priced.rates.ridge("fp8")


def test_a_faster_memory_moves_the_ridge(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("roofline", "--phase", "decode")
    before, after = told(capsys, *words), told(capsys, *words, "--set", "chip.hbm.bandwidth=6.7TB/s")
    assert after["set"] == ["chip.hbm.bandwidth=6.7 TB/s"]
    assert after["ridges"]["bf16"] == pytest.approx(before["ridges"]["bf16"] / 2)
    intensities = [
        {(p["name"], p["phase"]): p["intensity"] for p in table["points"]} for table in (before, after)
    ]
    assert intensities[0] == intensities[1]
    text = seen(capsys, *words, "--set", "chip.hbm.bandwidth=6.7", "--set", "deployment.sequences=64")
    assert "what if: chip.hbm.bandwidth=6.7 TB/s" in text
    assert "what if: deployment.sequences=64" in text


def test_a_deployment_says_its_phase(capsys: pytest.CaptureFixture[str]) -> None:
    table = told(capsys, "waterfall", "--deployment", "decode-production")
    assert (table["phase"], table["deployment"]) == ("decode", "decode-production")
    changed = told(capsys, "waterfall", "--phase", "decode", "--set", "deployment.overlap=false")
    assert changed["hidden_seconds"] == 0
    assert all(not step["beside"] for step in changed["steps"])


@pytest.mark.parametrize("by", ["part", "phase", "precision", "op"])
def test_however_it_is_grouped_it_is_the_same_time(by: str, capsys: pytest.CaptureFixture[str]) -> None:
    table, parts = told(capsys, "waterfall", "--by", by), told(capsys, "waterfall")
    assert table["by"] == by
    assert table["seconds"] == pytest.approx(parts["seconds"])
    names = {step["name"] for step in table["steps"]}
    expected = {"part": "attention", "phase": "backward", "precision": "fp8", "op": "mla.scores"}
    assert {expected[by], "dispatch", "combine"} <= names


def test_kv_is_the_paper_s_table(capsys: pytest.CaptureFixture[str]) -> None:
    table = told(capsys, "kv")
    each = table["bytes_a_token"]
    assert each["DeepSeek-V3, MLA"] == 70_272
    assert each["Qwen2.5-72B, GQA 8"] == 327_680
    assert each["LLaMA-3.1-405B, GQA 8"] == 516_096
    assert each["its heads, MHA"] == 2 * 128 * 128 * 61 * 2
    assert list(each.values())[1:] == sorted(list(each.values())[1:])
    assert table["tokens_that_fit"]["DeepSeek-V3, MLA"] == table["capacity"] // 70_272


def test_a_model_without_enough_heads_has_no_groups(capsys: pytest.CaptureFixture[str]) -> None:
    heads = ModelConfig.preset("nano").n_heads
    groups = [
        name for name in told(capsys, "kv", "--model", "nano")["bytes_a_token"] if "its heads, G" in name
    ]
    assert bool(groups) == (heads % 8 == 0 and heads > 8)


def test_v3_trains_in_an_h800_because_it_keeps_little(capsys: pytest.CaptureFixture[str]) -> None:
    table = told(capsys, "memory")
    totals = {name: sum(parts.values()) for name, parts in table["budgets"].items()}
    assert totals["as V3 does"] < table["capacity"] < totals["all but scores"] < totals["everything"]
    without = [{**parts, "activations": 0} for parts in table["budgets"].values()]
    assert without[0] == without[1] == without[2]


def test_weights_are_as_wide_as_the_recipe_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    narrow, *others = (
        told(capsys, "memory", "--set", f"deployment.precision={name}")["budgets"]["as V3 does"]["weights"]
        for name in ("fp8", "bf16", "fp32")
    )
    assert others == pytest.approx([2 * narrow, 4 * narrow], abs=4)
    serving = [
        told(capsys, "memory", "--phase", "decode", "--set", f"deployment.{change}")["budgets"]["MLA"][
            "weights"
        ]
        for change in ("sequences=128", "sequences=2", "length=100", "attention=naive")
    ]
    assert len(set(serving)) == 1


def test_v3_decodes_in_an_h800_because_of_mla(capsys: pytest.CaptureFixture[str]) -> None:
    table = told(capsys, "memory", "--phase", "decode")
    deployment = load_deployment("decode")
    cached = deployment.sequences * (deployment.length + 1)
    assert table["budgets"]["MLA"]["KV cache"] == cached * 70_272
    assert sum(table["budgets"]["MLA"].values()) < table["capacity"] < sum(table["budgets"]["GQA 8"].values())
    half = told(capsys, "memory", "--phase", "decode", "--set", "deployment.sequences=64")
    assert 2 * half["budgets"]["MLA"]["KV cache"] == table["budgets"]["MLA"]["KV cache"]
    text = seen(capsys, "memory", "--phase", "decode")
    assert "GQA 8: does not fit" in text
    assert "MLA: does not fit" not in text


def test_what_is_not_counted_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(seen(capsys, "kv").split())
    assert "tokens fit: of the cache alone, no weights beside it" in text
    assert "DeepSeek-V3 reads at most 163,840 positions" in text
    assert told(capsys, "kv")["positions_at_most"] == ModelConfig.preset("v3").max_seq_len
    for phase in ("prefill", "decode"):
        assert "left out: activations" in " ".join(seen(capsys, "memory", "--phase", phase).split())
    assert "left out: activations" not in seen(capsys, "memory")


def test_kv_s_help_has_no_layout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "kv", "--help"]) == 0
    assert "deployment." not in capsys.readouterr().out
    assert main(["show", "memory", "--help"]) == 0
    assert "deployment.sequences=64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "title"),
    [
        (["memory", "--phase", "decode"], "memory v3 decode on h800"),
        (["waterfall", "--by", "op"], "waterfall v3 train by op on h800"),
        (["kv", "--hardware", "h200"], "kv v3 on h200"),
        (
            ["roofline", "--set", "chip.hbm.bandwidth=8"],
            "roofline v3 train on h800 chip.hbm.bandwidth=8 TB/s",
        ),
    ],
)
def test_a_file_s_title_says_what_was_asked(words: list[str], title: str, tmp_path: Path) -> None:
    assert main(["show", *words, "--svg", str(tmp_path / "picture.svg")]) == 0
    assert f"<title>minidsv3 show {title}</title>" in (tmp_path / "picture.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["roofline", "--phase", "trian"], "did you mean 'train'"),
        (["roofline", "--rows", "27"], "expected --rows from 1 to 26, got 27"),
        (["waterfall", "--deployment", "decode-production", "--phase", "train"], "of phase 'train'"),
        (["waterfall", "--deployment", "decode-prod"], "did you mean 'decode-production'"),
        (["waterfall", "--by", "layers"], "expected seconds by part, phase, precision, op, got 'layers'"),
        (["waterfall", "--hardware", "h80"], "did you mean 'h800'"),
        (["waterfall", "--model", "v4"], "expected a preset, a folder with a config.json or such a file"),
        (["roofline", "--set", "chip.hbm.bandwith=8TB/s"], "did you mean 'chip.hbm.bandwidth'"),
        (["memory", "--set", "chip.hbm.capacity=8TB/s"], "expected a unit of B"),
        (["memory", "--set", "deployment.sequence=64"], "unknown field 'sequence'"),
        (["kv", "--lengths", "4096,1024"], "expected --lengths growing numbers from 1"),
        (["kv", "--lengths", "0"], "expected --lengths growing numbers from 1 to 1,073,741,824, as A,B,C"),
        (["kv", "--set", "deployment.sequences=4"], "got deployment.sequences: one sequence's cache has no"),
        (["roofline", "--hardware", "a100"], "expected a"),
        (["roofline", "--phase", "decode", "--model", "nano"], "deployment decode"),
    ],
)
def test_refusals(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_changed_layout_has_no_title_of_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "waterfall", "--phase", "decode", "--set", "deployment.sequences=64"]) == 0
    text = capsys.readouterr().out
    assert "as decode, but sequences 64 instead of 128" in text
    assert "128 requests" not in text
