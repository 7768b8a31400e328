"""`minidsv3 show`: every subject draws, fits its columns, speaks JSON and SVG, and refuses what it cannot."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from minidsv3.cli import main
from minidsv3.cli.show import SUBJECTS

RUN = "RUN"  # stands for the folder of a finished run
SMALL = {
    "bits": ["0.3"],
    "numberline": [],
    "formats": [],
    "quantise": ["--size", "8x256"],
    "outliers": ["--size", "16x256"],
    "logfmt": [],
    "accumulator": ["--k", "512", "--side", "8"],
    "microscope": ["--k", "128"],
    "codecs": ["--model", RUN, "--batch", "1", "--seq", "8"],
    "precision": [],
    "models": ["v3", "moonlight"],
    "roofline": ["--phase", "decode"],
    "waterfall": ["--phase", "prefill"],
    "kv": [],
    "memory": [],
    "hardware": ["h800"],
    "what-ifs": ["logfmt"],
    "co-design": [],
    "compare": ["v3", "qwen2.5-72b"],
    "gradients": ["--model", RUN, "--batch", "1", "--seq", "8", "--block", "32"],
    "absorption": ["--model", "nano", "--cached", "64"],
    "mtp": ["--model", RUN, "--new", "8"],
    "merges": [],
    "fim": [],
    "rope": [],
    "value": ["--model", RUN],
    "heatmap": ["--model", RUN, "--op", "mla.kv_norm"],
    "attention": ["--model", RUN],
    "difference": ["--model", RUN],
    "timeline": ["--model", RUN],
    "router": ["--model", RUN],
    "load": ["--model", RUN],
}
"""Subjects, and the accumulator's other picture, with options that take no time."""
SLOW = ("co-design",)  # seconds a picture; test_show_wishes draws it too
TRIED = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in SMALL]


def words(name: str, run: Path, *more: str) -> list[str]:
    front = ["accumulator", "--microscope"] if name == "microscope" else [name]
    return ["show", *front, *(str(run) if word == RUN else word for word in SMALL[name]), *more]


def out_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def json_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    table: dict[str, object] = json.loads(out_of([*arguments, "--json"], capsys))
    return table


def test_every_subject_is_tried() -> None:
    tried_elsewhere = {"needle"}  # asks a model that learned needles: test_extend
    assert set(SMALL) | tried_elsewhere == set(SUBJECTS) | {"microscope"}


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("name", TRIED)
def test_pictures_fit(
    name: str,
    width: int,
    finished_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = out_of(words(name, finished_run), capsys).splitlines()
    assert len(lines) > 8
    assert max(map(len, lines)) <= width
    if name not in ("precision", "logfmt") or width > 40:  # whose longest names are cut there
        assert not [line for line in lines if "…" in line]


@pytest.mark.parametrize("name", TRIED)
def test_json_is_one_object_and_the_same_twice(
    name: str, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = json_of(words(name, finished_run), capsys)
    subject = "accumulator" if name == "microscope" else name
    assert str(table["schema"]).startswith(f"minidsv3.show.{subject}")
    if name != "gradients":  # sums of threads
        assert table == json_of(words(name, finished_run), capsys)


@pytest.mark.parametrize("name", TRIED)
def test_svg(name: str, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "picture.svg"
    assert out_of(words(name, finished_run, "--svg", str(file)), capsys) == ""
    root = ET.fromstring(file.read_text(encoding="utf-8"))
    space = "{http://www.w3.org/2000/svg}"
    assert (root.findtext(f"{space}title") or "").startswith("minidsv3 show ")
    assert len(root.findtext(f"{space}desc") or "") > 40


@pytest.mark.parametrize("name", TRIED)
def test_words_for_a_screen_reader(
    name: str, finished_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIDSV3_SCREEN_READER", "1")
    said = out_of(words(name, finished_run), capsys)
    assert said.strip()
    assert not re.search(r"[│┌└├█▁▄●]", said)
    assert "----" not in said


@pytest.mark.parametrize("name", SUBJECTS)
def test_help_has_examples_that_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name, "--help"]) == 0
    text = capsys.readouterr().out
    examples = text.split("examples:")[1].strip().splitlines()
    assert len(examples) >= 3
    assert all(line.strip().startswith(f"minidsv3 show {name}") for line in examples)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a subject: bits, numberline"),
        (["numberlin"], "did you mean 'numberline'"),
        (["bits", "0.3", "--format", "e4m4"], "did you mean 'e4m3'"),
        (["bits", "zero"], "such as 0.3 or 2^-9, or a code such as 0x2A, got 'zero'"),
        (["bits", "0x100"], "expected a code of e4m3, 0x0 .. 0xFF, got 0x100"),
        (["bits", "1", "--rounding", "up"], "expected rounding one of"),
        (["numberline", "--from", "2", "--to", "1"], "--from below --to, got 2 and 1"),
        (["numberline", "--value", "0x2A"], "a value such as 0.3 or 2^-9, got the code 0x2A"),
        (["formats", "e4m33"], "did you mean 'e4m3'"),
        (["formats", "e4m3,e5m2"], "expected one number format, got 'e4m3,e5m2'"),
        (["quantise", "--format", "e4m3,e5m2"], "expected one number format"),
        (["quantise", "--growth", "nan"], "--growth above 0, at most 1e+30, got nan"),
        (["quantise", "--growth", "1e300"], "--growth above 0, at most 1e+30, got 1e+300"),
        (["quantise", "--size", "4000000x1"], "at most 200,000 tiles, got 4000000x1 in 1x128"),
        (["quantise", "--block", "128"], "a tile such as 1x128, got '128'"),
        (["quantise", "--block", "0x128"], "a tile such as 1x128, got '0x128'"),
        (["quantise", "--recipe", "deepgem"], "did you mean 'deepgemm'"),
        (["quantise", "--recipe", "v3-2024-12", "--scale", "power-of-two"], "expected scale one of"),
        (["quantise", "--scale", "double"], "expected scale one of"),
        (["quantise", "--values", ","], "values such as 1,-2.5,3e-4"),
        (["quantise", "--random", "cauchy"], "expected a kind of random values, got 'cauchy'"),
        (["quantise", "--size", "100000x100000"], "at most 4,000,000 values"),
        (["logfmt", "--bits", "2"], "LogFMT bits 3 .. 16"),
        (["logfmt", "--values", "1,nan"], "expected finite values for LogFMT"),
        (["logfmt", "--size", "2x128"], "expected one tile"),
        (["outliers", "--share", "2"], "--share between 0 and 1"),
        (["accumulator", "--k", "0"], "got 0 x 32 x 32"),
        (["accumulator", "--k", "1000000", "--side", "1"], "--k up to 65,536"),
        (["accumulator", "--k", "1", "--side", "4096"], "--side up to 1,024"),
        (["accumulator", "--operands", "normal"], "with --microscope only"),
        (["accumulator", "--microscope", "--operands", ""], "expected operands, got ''"),
        (["accumulator", "--interval", "48"], "a multiple of 32 products, or none, got '48'"),
        (["accumulator", "--interval", "often"], "or none, got 'often'"),
        (["accumulator", "--hardware", "adda"], "a tensor core family: did you mean 'ada'? volta, turing"),
        (["accumulator", "--hardware", "volta"], "expected a format of volta"),
        (["accumulator", "--unit", "fp9"], "did you mean 'fp8'"),
        (["accumulator", "--fraction-bits", "99"], "1 .. 35 fraction bits, got 99"),
        (["accumulator", "--microscope", "--step", "99"], "--step from 1 to 8, got 99"),
        (["accumulator", "--microscope", "--operands", "cauchy"], "expected operands, got 'cauchy'"),
        (["accumulator", "--hardware", "blackwell-tcgen05", "--unit", "mxf8f6f4"], "without block scales"),
        (["codecs", "--preset", "nano", "--model", "x"], "got both: nano and x"),
        (["codecs", "--preset", "nano", "--seq", "2", "--op", "mla.outt"], "did you mean 'mla.out'"),
        (["codecs", "--preset", "v3"], "at most 100,000,000 parameters"),
        (["gradients", "--preset", "nano", "--block", "0"], "--block >= 1, got 0"),
        (["gradients", "--preset", "nano", "--seq", "1"], "--seq >= 2"),
    ],
)
def test_bad_requests(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert not said.out


def test_no_model_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["show", "codecs"]) == 2
    assert "make one with `minidsv3 run`" in capsys.readouterr().err
    assert main(["show", "bits", "1", "--svg", "nowhere/x.svg"]) == 2
    assert "a folder that exists" in capsys.readouterr().err
    assert main(["show", "bits", "1", "--svg", "."]) == 2
    assert "expected --svg a file, got the folder ." in capsys.readouterr().err


# ---- what they say ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["-0.3", "-1e-3", "-inf", "-2^-9", "-2^-10", "-2^0.5", "-.5"])
def test_values_below_zero_are_no_options(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = json_of(["show", "bits", value, "--format", "e4m3"], capsys)["codes"]  # type: ignore[misc]
    assert code["sign"] == "1"


def test_bits_say_what_the_format_does(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["show", "bits", "465", "--format", "e4m3"]
    (kept,) = json_of(asked, capsys)["codes"]  # type: ignore[misc]
    (lost,) = json_of([*asked, "--overflow", "nonsaturating"], capsys)["codes"]  # type: ignore[misc]
    assert (kept["hexadecimal"], lost["hexadecimal"]) == ("0x7E", "0x7F")
    assert lost["value"] == "nan"


def test_every_rounding_is_the_one_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """0.3 lies between 0.28125 and 0.3125, nearer to the latter."""
    asked = ["show", "bits", "0.3", "--format", "e4m3"]
    found = {
        way: json_of([*asked, "--rounding", way], capsys)["codes"][0]["value"]  # type: ignore[index]
        for way in ("nearest-even", "toward-zero", "stochastic")
    }
    assert (found["nearest-even"], found["toward-zero"]) == (0.3125, 0.28125)
    assert found["stochastic"] in (0.28125, 0.3125)


def test_the_line_says_what_the_marked_value_becomes(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["show", "numberline", "--format", "e4m3,e2m1", "--value", "0.3"]
    line = json_of(arguments, capsys)["line"]
    assert line["rounded"] == {"E4M3": 0.3125, "E2M1": 0.5}  # type: ignore[index]
    assert "0.3 is rounded to E4M3 0.3125; E2M1 0.5" in out_of(arguments, capsys)
    assert "2^-127" in out_of(["show", "numberline", "--format", "ue8m0"], capsys)


def test_a_tile_of_zeros_in_a_recipe_that_makes_nan_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    text = out_of(["show", "quantise", "--values", "0,0", "--recipe", "v3-2024-12"], capsys)
    assert re.search(r"0 +NaN +0x[7F]F +NaN +lost", text)


def test_logfmts_levels_are_those_of_the_convention(capsys: pytest.CaptureFixture[str]) -> None:
    """DeepEP's zero stretches 511 levels over 32 octaves, 16 in each; the paper's do not meet it."""
    tile = ["show", "logfmt", "--values", "0.5,0.25,0.1,0", "--bits", "10"]
    for convention, most in (("deepep", 16), ("paper", 220)):
        table = json_of([*tile, "--convention", convention], capsys)
        assert max(table["levels_by_octave"]["LogFMT-10"]) == most  # type: ignore[index]
        assert f"{convention} convention" in out_of([*tile, "--convention", convention], capsys)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_recipe_is_cut_nowhere(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    flat = " ".join(out_of(["show", "precision"], capsys).split())
    assert flat.count("128x128 -> bf16") == 2 * flat.count("128x1 -> fp32") > 20
    assert "2^n, float32" in flat


def test_the_microscopes_step_fits_a_short_sum(capsys: pytest.CaptureFixture[str]) -> None:
    text = out_of(["show", "accumulator", "--microscope", "--k", "1"], capsys)
    assert "step 1 of 1" in text
    assert "1 product," in text


def test_evidence_is_said_to_be_others(capsys: pytest.CaptureFixture[str]) -> None:
    text = out_of(["show", "accumulator", "--k", "128", "--side", "2"], capsys)
    assert "nothing run by us" in text
    assert "zero-operand" in text


def test_the_accumulators_width_is_the_hardwares(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["show", "accumulator", "--k", "256", "--side", "4"]
    units = {
        hardware: json_of([*small, "--hardware", hardware], capsys)["unit"] for hardware in ("h800", "ada")
    }
    assert (units["h800"]["terms"], units["ada"]["terms"]) == (32, 16)  # type: ignore[index]
    wide = json_of([*small, "--fraction-bits", "20", "--interval", "none"], capsys)
    assert wide["unit"]["fraction_bits"] == 20  # type: ignore[index]
    assert {row["interval"] for row in wide["errors"]} == {None}  # type: ignore[attr-defined]


def test_the_microscope_loses_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    table = json_of(["show", "accumulator", "--microscope", "--k", "128"], capsys)
    steps = table["steps"]
    assert isinstance(steps, list)
    assert len(steps) == 4
    for step in steps:
        kept = sum(term["kept"] for term in step["terms"]) * 2.0 ** step["last"]
        dropped = sum(term["dropped"] for term in step["terms"])
        assert kept + dropped == step["exact"]
        assert step["total"] * 2.0 ** step["last"] == kept
    assert table["result"] == steps[-1]["result"]


@pytest.mark.parametrize("subject", ["codecs", "gradients"])
def test_a_trained_model(subject: str, finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["show", subject, "--model", str(finished_run), "--seq", "16", "--batch", "2"]
    table = json_of(arguments, capsys)
    assert "held-out text" in str(table["source"])
    if subject == "codecs":  # what the paper found on larger models
        errors = table["rows"][0]["errors"]  # type: ignore[index]
        assert errors["LogFMT-8"]["relative_rms"] < errors["E4M3"]["relative_rms"]
    assert "UNTRAINED" not in out_of(arguments, capsys)


def test_random_weights_are_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    bare = json_of(["show", "codecs", "--preset", "nano", "--seq", "4", "--batch", "1"], capsys)
    assert "UNTRAINED" in str(bare["source"])


def test_a_model_without_a_run_reads_other_text(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(finished_run / "model", tmp_path / "model")
    table = json_of(["show", "codecs", "--model", str(tmp_path / "model"), "--seq", "16"], capsys)
    assert "argparse.py" in str(table["source"])


# ---- terminals --------------------------------------------------------------------------------------------


def shown(arguments: list[str], **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    command = [sys.executable, "-m", "minidsv3", "show", *arguments]
    done = subprocess.run(command, capture_output=True, check=True, env=clean | environment)
    return done.stdout.decode("utf-8")


def test_colour_only_repeats_what_is_there() -> None:
    bits = ["bits", "0.3"]
    coloured = shown(bits, FORCE_COLOR="1", TERM="xterm-256color", COLUMNS="80")
    bare = shown(bits, NO_COLOR="1", FORCE_COLOR="1", TERM="xterm-256color", COLUMNS="80")
    assert "\x1b[1;36m" in coloured
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", bare)
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", text) for text in (coloured, bare)]
    assert plain[0] == plain[1] == shown(bits, COLUMNS="80")
    assert "\x1b" not in shown(bits, TERM="dumb", COLUMNS="80")


def test_an_encoding_without_blocks() -> None:
    text = shown(["numberline", "--value", "0.3"], PYTHONIOENCODING="cp1252")
    assert text.isascii()
    assert "E4M3" in text


def test_a_look_at_the_help_imports_nothing_heavy() -> None:
    code = "import sys; from minidsv3.cli import main; main(['show', '--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1]
    assert not [name for name in ("numpy", "scipy", "rich", "hypothesis") if f"'{name}'" in modules]
    assert "numberline" in done.stdout
