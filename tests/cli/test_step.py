"""`step` in a pipe and with keys: what it prints is what the model computes."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from minidsv3 import Model, ModelConfig
from minidsv3.cli import main
from minidsv3.cli.step_compare import _play
from minidsv3.cli.step_player import ASK, HELP, KEYS, play
from minidsv3.cli.step_view import Looking, View
from minidsv3.learn.stepping import Pass, Stepper
from minidsv3.learn.stepping.compare import Comparison
from minidsv3.machine import Machine

IDS = "1,2,3,4,5"
PRESET = ["step", "--preset", "nano", "--ids", IDS]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.initialise(ModelConfig.preset("nano"), seed=0)


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*PRESET, *arguments]) == 0
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(ran(capsys, *arguments, "--json"))
    return said


# ---- without keys ----


def test_json_has_every_op_with_what_the_model_computed(
    capsys: pytest.CaptureFixture[str], model: Model
) -> None:
    said = as_json(capsys, "--values", "--break", "mla.softmax", "--break", "head.logits")
    machine = Machine(trace=True, keep="*")
    model.logits([[1, 2, 3, 4, 5]], machine)
    assert said["schema"] == "minidsv3.step/1"
    assert (said["ops"], said["pass"]) == (len(machine.trace), "forward")
    layers = model.config.n_layers
    assert [stop["layer"] for stop in said["stops"]] == [*range(layers), None]
    for stop in said["stops"]:
        row = machine.trace[stop["index"]]
        assert row.value is not None
        assert (row.op, row.layer) == (stop["op"], stop["layer"])
        assert np.allclose(stop["value"]["values"], row.value, rtol=1e-5, atol=1e-7)
        assert [one["shape"] for one in stop["operands"]] == [list(shape) for shape in row.shapes]
        assert stop["code"]["file"].startswith("minidsv3/model/")
        assert f'at="{row.op}"' in stop["code"]["text"]
    assert said["stops"][-1]["seconds_so_far"] == said["seconds"]


def test_every_stop_says_everything(capsys: pytest.CaptureFixture[str]) -> None:
    text = ran(capsys, "--break", "mla.softmax[layer=0]", "--head", "1")
    assert "[12]  mla.softmax  forward, layer 0, eq. 10: p = Softmax(a)" in text
    assert re.search(r"minidsv3/model/mla.py:\d+  p = machine.softmax\(a, first", text)
    assert "p  H=4 T=5 S=5  float32  attention probabilities" in text
    assert "element by element; 400 B activation" in text
    assert re.search(r"ns on NVIDIA H800 SXM, bound by memory; [\d.]+ ns so far", text)
    assert "head 1  5x5, queries down, keys across" in text  # the map
    assert re.search(r"token 0 +1.00 +0", text)  # and, small enough, the numbers
    assert "head 0" not in text


def test_a_pipe_gets_every_op_plainly(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "--ids", IDS, "--model", str(finished_run)]) == 0
    text = capsys.readouterr().out
    numbers = [int(found) for found in re.findall(r"^\[(\d+)\]  ", text, re.MULTILINE)]
    assert numbers == list(range(len(numbers)))
    assert f"{len(numbers)} ops, " in text.splitlines()[-1]
    assert "\x1b" not in text


def test_words_for_a_screen_reader(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIDSV3_SCREEN_READER", "1")
    text = ran(capsys, "--break", "mla.kv_down[layer=0]")
    assert "reads W_DKV: C=48 D=128, float32, down-projection to the latent of keys and values" in text
    assert text.isascii() or not re.search(r"[│█▀┌]", text)


def test_a_training_step_ends_in_its_update(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--break", "update.*", "--break", "loss.*", "--json"]
    assert main(["step", "--ids", IDS, "--model", str(finished_run), "--train", *chosen]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [stop["op"] for stop in said["stops"]][-1] == "update.average"
    assert {stop["phase"] for stop in said["stops"]} == {"forward", "backward", "update"}
    notes = [stop["note"] for stop in said["stops"] if stop["op"] == "loss.main"]
    assert notes[0].endswith("nats a token")


def test_speculation_says_its_drafts(capsys: pytest.CaptureFixture[str]) -> None:
    text = ran(capsys, "--speculative", "--new", "3", "--break", "head.*")
    assert "== token 2, drafting" in text
    assert re.search(r"drafts token \d+", text)
    assert re.search(r"drafted \d+, accepted \d of 1, then token \d+", text)


def test_a_change_changes_what_is_behind(capsys: pytest.CaptureFixture[str]) -> None:
    plain = as_json(capsys, "--values", "--break", "mla.values[layer=0]", "--break", "head.logits")
    change = "mla.softmax[layer=0,head=2] = 0"
    other = as_json(
        capsys, "--values", "--break", "mla.values[layer=0]", "--break", "head.logits", "--set", change
    )
    assert other["changes"] == [change]
    one, two = (np.array(said["stops"][0]["value"]["values"]) for said in (plain, other))
    assert not two[2].any()
    assert np.array_equal(np.delete(one, 2, axis=0), np.delete(two, 2, axis=0))
    assert plain["stops"][1]["value"] != other["stops"][1]["value"]


def test_a_run_of_ones_own_with_a_prompt(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["step", "def scale", "--model", str(finished_run), "--break", "head.logits"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert re.search(r"highest at token \d+ \(", text)  # spelled, row by row
    assert (
        main(
            [
                "trace",
                "def",
                "--model",
                str(finished_run),
                "--op",
                "mla.softmax",
                "--layer",
                "0",
                "--head",
                "1",
            ]
        )
        == 0
    )
    assert "head 1" in capsys.readouterr().out


def test_trace_in_json_has_the_stops_of_step(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["def", "--model", str(finished_run), "--layer", "1", "--head", "1", "--values", "--json"]
    assert main(["trace", *common, "--op", "mla.softmax", "--backward"]) == 0
    traced = json.loads(capsys.readouterr().out)["rows"]
    assert main(["step", *common, "--break", "mla.softmax", "--backward"]) == 0
    stepped = json.loads(capsys.readouterr().out)["stops"]
    for row in (*traced, *stepped):
        del row["wall_seconds"]
    assert len(traced) == 2
    assert traced == stepped


# ---- two machines ----


def test_two_machines_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    said = as_json(capsys, "--against", "fp8", "--tolerance", "0.02")
    assert said["schema"] == "minidsv3.comparison/1"
    assert said["machines"] == ["fp32", "fp8"]
    first = next(pair for pair in said["pairs"] if pair["parted"])
    assert said["first_parting"] == first
    assert first["difference"]["relative"] > 0.02
    assert said["parted"] == sum(pair["parted"] for pair in said["pairs"])
    text = ran(capsys, "--against", "fp8", "--tolerance", "0.02")
    assert f"fp32 and fp8 part first at op {first['index'][0]}, prompt" in text
    assert "units in the last place" in text
    assert f"{said['parted']} of {len(said['pairs'])} ops that both have part by more than 0.02" in text
    assert re.search(r"fp8: \d+ ops, [\d.]+ us on NVIDIA H800 SXM", text)


def test_alike_machines_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    text = ran(capsys, "--against", "b200")
    assert re.search(r"^0 of (\d+) ops that both have part by more than 0", text)
    assert "numbers alike, bit for bit" in text
    assert re.search(r"b200: \d+ ops, ", text)


# ---- what does not fit ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--break", "gate.topk"], "did you mean 'gate.top_k'"),
        (
            ["--break", "mla.softmax[layer=9]"],
            "expected stops at mla.softmax[layer=9] in this pass of 4 layers",
        ),
        (["--set", "mla.softmax"], "expected OP[head=1] = expression"),
        (
            ["--set", "mla.softmax[head=0] = np.ones(99)"],
            "expected mla.softmax[head=0] (5, 5), got float64 (99,)",
        ),
        (["--head", "x"], "expected a number or a stretch such as 2:5, got 'x'"),
        (["--break", "mla.softmax", "--head", "7"], "expected head 0 .. 3, got 7"),
        (["--against", "absorbed"], "expected decoding steps to compare with absorbed attention"),
        (["--against", "fp9"], "did you mean 'fp8'"),
        (["--against", "fp8", "--set", "mla.softmax = 0"], "expected --set or --against, got both"),
        (["--against", "fp8", "--tolerance", "-1"], "expected a tolerance >= 0"),
        (["--train", "--new", "2"], "expected --new N >= 1 with a forward pass"),
        (["--new", "0"], "expected --new N >= 1"),
        (["--hardware", "h9"], "h9"),
    ],
)
def test_bad_input_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([*PRESET, *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_preset_needs_ids(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "text", "--preset", "nano"]) == 2
    assert "expected --ids" in capsys.readouterr().err


# ---- with keys ----


def played(model: Model, *commands: str, width: int = 80, **options: Any) -> list[str]:
    """What each key says, the footer's lines left out."""
    console = Console(width=width, record=True, markup=False, highlight=False, file=io.StringIO())
    said: list[str] = []

    def typed() -> Iterator[str]:
        for command in commands:
            said.append(console.export_text())
            yield command
        said.append(console.export_text())

    with Stepper(Pass(model, (1, 2, 3, 4, 5), **options)) as stepper:
        assert play(View(stepper, Looking((1, 2, 3, 4, 5))), console, typed()) == 0
    return said


def test_keys_lead_forward_over_out_and_back(model: Model) -> None:
    said = played(model, "n", "down", "u", "b", "left", "c")
    heads = [next(line for line in text.splitlines() if line.startswith("[")) for text in said[:-1]]
    ops = [re.split(r" +", head)[1] for head in heads]
    assert ops == ["embed.tokens", "attn.norm", "mla.q_down", "attn.norm", "ffn.residual", "dense.down"]
    assert "the pass is over: 171 ops, 1.2 us on NVIDIA H800 SXM" in said[-1]
    assert "highest at token 468" in said[-1]


def test_the_footer_names_every_key_and_fits(model: Model) -> None:
    for width in (60, 80, 120):
        text = played(model, width=width)[-1]
        assert all(f"{key}:{what}" in text.replace("\n", " ") for key, what in KEYS.items())
        assert max(map(len, text.splitlines())) <= width
    assert set(ASK) < set(KEYS)
    assert all(
        re.search(rf"^{re.escape(key)}\b|^{re.escape(key)},", HELP, re.MULTILINE)
        for key in KEYS
        if key != "?"
    )


def test_keys_look_pick_break_and_change(model: Model) -> None:
    said = played(
        model, "k gate.top_k", "c", "k", "i gate.sigmoid[token=1]", "p token=2", "v",
        "s gate.sigmoid = 0 * x", "x", "i nonsense", "g 3", "g mla.sofmax", "e", "zz", "?", "k -gate.top_k",
        "g mla.softmax", "s mla.softmax[head=9] = 0", "f",
    )[1:]  # fmt: skip
    assert "breaks: gate.top_k" in said[0]
    assert "gate.top_k  forward, layer 1" in said[1]
    assert "breaks: gate.top_k" in said[2]
    assert "gate.sigmoid" in said[3]
    assert "picked: token=2" in said[4]
    assert re.search(r"s \+ b: 5x16 float32, ", said[5])
    assert re.search(r"gate.sigmoid  forward, layer 1.*its result was changed by hand", said[6], re.DOTALL)
    assert "undone: gate.sigmoid = 0 * x" in said[7]
    assert "expected an op that has run or a symbol of this one" in said[8]
    assert "[3]  mla.q_norm" in said[9]
    assert "did you mean 'mla.softmax'" in said[10]
    assert "def rmsnorm(" in said[11]
    assert "no key 'zz'" in said[12]
    assert "continue to the next break" in said[13]
    assert "breaks: none" in said[14]
    assert "expected head 0 .. 3, got 9" in said[16]


def test_a_comparison_has_keys_too(model: Model) -> None:
    work = Pass(model, (1, 2, 3))
    console = Console(width=80, record=True, markup=False, highlight=False, file=io.StringIO())
    with Comparison(work, work.against("fp8"), tolerance=0.02) as both:
        _play(console, both, ("fp32", "fp8"), iter(["n", "c", "b", "?", "zz", "q"]))
    text = console.export_text()
    assert text.count("embed.tokens") >= 1
    assert "no key 'zz'" in text
    assert "units in the last place" in text


def test_a_token_is_picked_where_rows_are_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    ops = ("--break", "mla.softmax", "--break", "experts.*", "--break", "head.*")
    at = {stop["op"]: stop["value"]["at"] for stop in as_json(capsys, "--token", "4", *ops)["stops"]}
    assert at["mla.softmax"] == at["head.logits"] == {"token": 4}
    assert at["experts.gate_up"] == at["experts.swiglu"] == {}
    said = as_json(capsys, "--token", "4", "--new", "2", "--break", "mla.softmax")
    assert all(not stop["value"]["at"] for stop in said["stops"] if stop["stage"] == "token 2")
    assert main([*PRESET, "--token", "5"]) == 2
    assert "expected token 0 .. 4 of the prompt, got 5" in capsys.readouterr().err


def test_a_stretch_of_experts_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    stops = as_json(capsys, "--expert", "2:7", "--break", "experts.gate_up[layer=1]")["stops"]
    assert {stop["expert"] for stop in stops} == {3, 5, 6}


def test_a_pick_that_fits_nothing_changes_nothing(model: Model) -> None:
    with Stepper(Pass(model, (1, 2, 3))) as stepper:
        view = View(stepper, Looking((1, 2, 3)))
        console = Console(file=io.StringIO(), width=100)
        play(view, console, iter(["g mla.softmax", "p head=1", "p head=99", "q"]))
        assert view.eye.at == {"head": 1}
