"""`minidsv3 show`: value, heatmap, attention, difference, timeline, router, load, and what they say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidsv3.cli import main
from minidsv3.cli.models import open_model
from minidsv3.cost import bill
from minidsv3.hardware import load_hardware
from minidsv3.machine import Machine

IDS = [5, 9, 17, 33, 65, 129]
ASKED = ["--ids", ",".join(map(str, IDS))]


def json_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["show", *arguments, "--json"]) == 0, capsys.readouterr().err
    table: dict[str, Any] = json.loads(capsys.readouterr().out)
    return table


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_run_fresh_weights_are_said(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "attention", "--layer", "2"]) == 0
    said = capsys.readouterr().out
    assert "nano, UNTRAINED weights of seed 0" in said
    assert "layer 2" in said
    table = json_of(["value", "--text", "ab"], capsys)
    assert table["ids"] == [97, 98]


def test_values_are_those_of_the_pass(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, _, _ = open_model(finished_run)
    machine = Machine(trace=True, keep="mla.*")
    model.logits(np.array([IDS]), machine)
    for op in ("mla.kv_norm", "mla.q_rope", "mla.scores"):
        expected = machine.trace.value(op, layer=1)
        for subject in ("value", "heatmap"):
            options = [subject, "--model", str(finished_run), "--op", op, "--layer", "1", *ASKED]
            found = json_of(options, capsys)
            np.testing.assert_array_equal(np.array(found["values"], np.float32), expected)
            assert found["shape"] == list(expected.shape)


def test_attention_rows_are_entropies_of_probabilities(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = json_of(["attention", "--model", str(finished_run), *ASKED], capsys)
    p = np.array(table["values"])  # [H, T, S]
    np.testing.assert_allclose(p.sum(axis=2), 1, atol=1e-5)
    assert len(table["heads"]) == len(p)
    for head in table["heads"]:
        rows = p[head["head"]]
        np.testing.assert_allclose(head["most"], rows.max(axis=1))
        logs = np.log2(np.where(rows > 0, rows, 1))
        np.testing.assert_allclose(head["entropy_bits"], -(rows * logs).sum(axis=1), atol=1e-9)


def test_the_router_chooses_what_the_model_chose(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _, _ = open_model(finished_run)
    machine = Machine(trace=True, keep="gate.*")
    model.logits(np.array([IDS]), machine)
    for token in (0, 5):
        table = json_of(["router", "--model", str(finished_run), "--token", str(token), *ASKED], capsys)
        assert table["chosen"] == machine.trace.value("gate.top_k")[token].tolist()
        assert table["kept_groups"] == sorted(machine.trace.value("gate.groups")[token].tolist())
        np.testing.assert_allclose(table["weights"], machine.trace.value("gate.renormalise")[token])
        np.testing.assert_allclose(table["scores"], machine.trace.value("gate.sigmoid")[token])


def test_a_runs_loads_are_its_own_and_its_bias_is_replayed(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from minidsv3.training import RunFolder

    rows = RunFolder.open(finished_run).metrics()
    found = json_of(["load", "--model", str(finished_run)], capsys)
    assert found["from_run"]
    assert found["loads"] == [row["loads"][0] for row in rows]
    np.testing.assert_allclose(found["max_violation"], [row["max_violation"][0] for row in rows])
    others = json_of(["load", "--model", str(finished_run), "--layer", "2"], capsys)["bias"]  # the MTP module
    for step, row in enumerate(rows):  # the range that the run wrote down is over all layers
        both = [*found["bias"][step], *others[step]]
        np.testing.assert_allclose([min(both), max(both)], row["bias_range"], atol=1e-7)


def test_routing_alone_moves_the_bias_from_zero(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--route", "--steps", "5", "--tokens", "32", "--speed", "0.5"]
    found = json_of(["load", "--model", str(finished_run), *small], capsys)
    assert not found["from_run"]
    assert {sum(row) for row in found["loads"]} == {32 * 4}
    assert set(np.abs(found["bias"][0])) <= {0.0, 0.5}


def test_the_timeline_is_the_bill_in_order(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, _, _ = open_model(finished_run)
    machine = Machine(trace=True)
    model.logits(np.array([IDS]), machine)
    priced = bill(machine.trace, load_hardware("h100"))
    table = json_of(["timeline", "--model", str(finished_run), "--hardware", "h100", *ASKED], capsys)
    assert [op["op"] for op in table["ops"]] == [line.op for line in priced.lines]
    assert table["seconds"] == pytest.approx(priced.total.seconds)
    assert table["ops"][-1]["end"] == table["seconds"]
    backward = json_of(["timeline", "--model", str(finished_run), "--backward", *ASKED], capsys)
    assert {"forward", "backward"} == {op["phase"] for op in backward["ops"]}


def test_the_difference_of_precisions(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["difference", "--model", str(finished_run), "--op", "mla.out", *ASKED]
    errors = [
        json_of([*asked, "--precision", name], capsys)["relative_rms"] for name in ("fp32", "bf16", "fp8")
    ]
    assert errors[0] == 0
    assert 0 < errors[1] < errors[2] < 0.2
    worst = json_of([*asked], capsys)["worst"]
    assert len(worst) == 2


def test_a_weight_by_the_end_of_its_name(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, _, _ = open_model(finished_run)
    found = json_of(["heatmap", "--model", str(finished_run), "--tensor", "mlp.gate.weight"], capsys)
    name = "model.layers.1.mlp.gate.weight"
    assert found["tensor"] == name
    np.testing.assert_array_equal(np.array(found["values"], np.float32), model.parameters[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["value", "--op", "mla.outt"], "did you mean 'mla.out'"),
        (["value", "--op", "gqa.q"], "got gqa.q, which does not run in it"),
        (["value", "--op", "gate.sigmoid", "--layer", "0"], "of some layer that has it (1, 2, 3), got 0"),
        (["value", "--op", "mla.kv_norm", "--head", "0"], "places of mla.kv_norm, [token, C], got --head"),
        (["value", "--op", "mla.scores", "--head", "4"], "expected head 0 .. 3, got 4"),
        (["value", "--op", "experts.down", "--expert", "99"], "of some expert that has it"),
        (["heatmap", "--tensor", "mlp.gate.weigth"], "did you mean"),
        (["attention", "--head", "-1"], "expected a head 0 .. 3, got -1"),
        (["attention", "--text", ""], "expected a text, got an empty one"),
        (["attention", "--text", "a", "--ids", "1"], "expected --text or --ids, got both"),
        (["attention", "--ids", "1;2"], "whole numbers with commas between, got '1;2'"),
        (["attention", "--ids", "99999"], "expected token ids 0 .. 2047"),
        (["attention", "--preset", "v3"], "at most 100,000,000 parameters"),
        (["attention", "--preset", "nano", "--model", "x"], "got both: nano and x"),
        (["router", "--token", "99"], "expected --token 0 .. 13, got 99"),
        (["load", "--steps", "0"], "expected --steps and --tokens >= 1"),
        (["load", "--steps", "100000", "--tokens", "1000"], "at most 4,000,000 tokens in all"),
        (["difference", "--precision", "fp9"], "fp9"),
        (["timeline", "--hardware", "h900"], "h900"),
    ],
)
def test_bad_requests(
    arguments: list[str], message: str, nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert not said.out


def test_a_speed_is_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    for speed in ("nan", "inf"):
        assert main(["show", "load", "--preset", "nano", "--route", "--speed", speed]) == 2
        assert f"got 100, 256, {speed} and 0" in capsys.readouterr().err
