"""Changed values: what they read, what they rebuild, what they refuse."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.hardware import (
    Hardware,
    hardware_names,
    load_hardware,
    parse_change,
    parse_changes,
    spelled,
    tensor_core,
    with_values,
)
from minidsv3.hardware.schema import KEYS
from minidsv3.hardware.units import UNITS

H800 = load_hardware("h800")


def test_a_changed_value_says_what_it_was() -> None:
    wish = with_values(H800, {"chip.hbm.bandwidth": "8TB/s"})
    assert wish["chip.hbm.bandwidth"].si == 8e12
    assert wish["chip.hbm.bandwidth"].status == "assumed"
    assert wish["chip.hbm.bandwidth"].source == "what if: 8 TB/s instead of 3.35 TB/s (NVIDIA H800 datasheet)"
    assert (wish.id, wish.name) == (H800.id, H800.name)
    assert H800["chip.hbm.bandwidth"].si == 3.35e12  # the file's own is untouched


def test_no_change_is_the_machine_itself() -> None:
    assert with_values(H800, {}) is H800


@pytest.mark.parametrize(
    ("path", "text", "si"),
    [
        ("chip.hbm.bandwidth", "8", 8e12),  # in the file's own unit
        ("chip.hbm.bandwidth", " 8.5 TB/s ", 8.5e12),
        ("chip.hbm.bandwidth", "8e3GB/s", 8e12),
        ("chip.hbm.bandwidth", ".5TB/s", 5e11),
        ("chip.sm.communication", "0", 0),
        ("chip.sm.count", "152", 152),
        ("fabric.latency.ib.same_leaf", "900ns", 9e-7),
        ("price.gpu_hour", "3USD/h", 3 / 3600),
        ("tensor_core.fp8.fraction_bits", "25", 25),
        ("chip.peak.fp4", "4PFLOPS", 4e15),  # that the file leaves out
        ("price.machine", "250000", 250000),  # a dimension of one unit needs none
    ],
)
def test_numbers_with_and_without_a_unit(path: str, text: str, si: float) -> None:
    assert with_values(H800, {path: text})[path].si == pytest.approx(si, rel=1e-12)


def test_a_value_that_the_file_has_not() -> None:
    assert with_values(H800, {"chip.peak.fp4": "4PFLOPS"})["chip.peak.fp4"].source == (
        "what if: 4 PFLOPS where the file has none"
    )


def test_the_tensor_core_is_rebuilt() -> None:
    wish = with_values(
        H800, {"tensor_core.fp8.fraction_bits": "25", "tensor_core.fp8.rounding": "nearest-even"}
    )
    core = wish.tensor_core["fp8"]
    assert (core.fraction_bits, core.rounding, core.terms) == (25, "nearest-even", 32)
    assert (core.status, core.silicon) == ("assumed", "")
    assert wish.tensor_core["bf16"] == H800.tensor_core["bf16"]
    assert H800.tensor_core["fp8"].fraction_bits == 13


def test_another_family_brings_its_own_rows() -> None:
    """Not a mixture: what was the old family's goes with it, what was set beside it stays."""
    wish = with_values(
        H800, {"tensor_core.family": "blackwell-tcgen05", "tensor_core.bf16.fraction_bits": "24"}
    )
    assert wish.tensor_core["fp8"] == tensor_core("blackwell-tcgen05", "fp8")
    assert wish.tensor_core["bf16"].fraction_bits == 24
    assert "nvf4" in wish.tensor_core
    volta = with_values(H800, {"tensor_core.family": "volta"})
    assert list(volta.tensor_core) == ["fp16"]
    assert "tensor_core.fp8.fraction_bits" not in volta.values


def test_changes_of_changes_remember_the_last() -> None:
    twice = with_values(with_values(H800, {"chip.hbm.bandwidth": "8TB/s"}), {"chip.hbm.bandwidth": "9"})
    assert twice["chip.hbm.bandwidth"].si == 9e12
    assert twice["chip.hbm.bandwidth"].source.startswith("what if: 9 TB/s instead of 8 TB/s (what if: 8 TB/s")


@pytest.mark.parametrize(
    ("changes", "expectation"),
    [
        (
            {"chip.hbm.bandwith": "8TB/s"},
            "unknown key 'chip.hbm.bandwith'; did you mean 'chip.hbm.bandwidth'",
        ),
        ({"hbm.bandwidth": "8TB/s"}, "unknown key 'hbm.bandwidth'; did you mean 'chip.hbm.bandwidth'"),
        ({"zzz": "8"}, "unknown key 'zzz'; known tables: chip.sm, chip.peak, "),
        ({"chip.hbm.bandwidth": "8GB"}, r"chip.hbm.bandwidth: expected a unit of B/s, got 'GB' \(B\)"),
        (
            {"chip.hbm.bandwidth": "8Tb/s"},
            r"expected a unit such as .* got 'Tb/s': did you mean 'TB/s'\? \(8",
        ),
        (
            {"chip.hbm.bandwidth": "8TiB/s"},
            r"got 'TiB/s': did you mean 'TB/s'\? \(prefixes are powers of 1000",
        ),
        ({"chip.hbm.bandwidth": "8tb/s"}, r"got 'tb/s': did you mean 'TB/s'\? \(8 bits a byte\)"),
        ({"chip.hbm.bandwidth": "8tB/S"}, r"got 'tB/S': did you mean 'TB/s'\?$"),
        ({"chip.hbm.bandwidth": "8tbps"}, r"got 'tbps': did you mean 'TB/s'\? \(8 bits a byte\)"),
        ({"chip.hbm.bandwidth": "8tib/s"}, r"got 'tib/s': did you mean 'TB/s'\? \(prefixes"),
        ({"chip.peak.bf16": "989tflops"}, r"got 'tflops': did you mean 'TFLOPS'\?$"),
        ({"chip.hbm.bandwidth": "8TB/sec"}, r"got 'TB/sec': did you mean 'TB/s'\?"),
        ({"chip.hbm.bandwidth": "-8TB/s"}, "chip.hbm.bandwidth: expected a number > 0, got -8"),
        ({"chip.hbm.bandwidth": "0"}, "chip.hbm.bandwidth: expected a number > 0, got 0"),
        ({"chip.hbm.bandwidth": "nan"}, "expected a number of B/s, such as 8TB/s, got 'nan'"),
        ({"chip.hbm.bandwidth": "inf TB/s"}, "expected a number of B/s, such as 8TB/s, got 'inf TB/s'"),
        ({"chip.hbm.bandwidth": "1e999TB/s"}, "chip.hbm.bandwidth: expected a number > 0, got inf"),
        ({"chip.hbm.bandwidth": "1e300TB/s"}, r"expected 1e-30 to 1e\+30 B/s, got 1e\+300 TB/s"),
        ({"chip.hbm.bandwidth": "9" * 79}, r"expected 1e-30 to 1e\+30 B/s"),
        ({"chip.hbm.bandwidth": "9" * 5000}, "expected a number of B/s"),
        ({"chip.hbm.bandwidth": ""}, "expected a number of B/s, such as 8TB/s, got ''"),
        ({"chip.hbm.bandwidth": "٣TB/s"}, "expected a number of B/s"),  # a digit elsewhere
        ({"chip.sm.count": "1.5"}, "chip.sm.count: expected a whole number, got 1.5"),
        (
            {"chip.sm.communication": "132"},
            "communication: expected fewer than the 132 of chip.sm.count, got 132",
        ),
        ({"chip.sm.count": "20"}, "communication: expected fewer than the 20 of chip.sm.count, got 20"),
        ({"chip.peak.fp4": "4"}, "chip.peak.fp4: expected a number with a unit, such as 989TFLOPS, got '4'"),
        ({"chip.peak.int8": "4TFLOPS"}, r"expected a unit of OP/s, got 'TFLOPS' \(FLOP/s\)"),
        ({"tensor_core.fp8.rounding": "up"}, "expected toward-zero | nearest-even, got 'up'"),
        (
            {"tensor_core.fp8.terms": "5"},
            r"^tensor_core.fp8: expected a depth of a multiple of 5 terms, got 32",
        ),
        ({"tensor_core.family": "hoper"}, "tensor_core.family: expected volta | turing"),
    ],
)
def test_a_wrong_change_is_named(changes: dict[str, str], expectation: str) -> None:
    with pytest.raises(ValueError, match=expectation):
        with_values(H800, changes)


def test_a_change_is_a_path_and_a_value() -> None:
    assert parse_change("chip.hbm.bandwidth=8TB/s") == ("chip.hbm.bandwidth", "8TB/s")
    assert parse_change(" chip.hbm.bandwidth = 8 TB/s ") == ("chip.hbm.bandwidth", "8 TB/s")
    assert parse_changes(["chip.sm.count=152", "node.gpus=72"]) == {"chip.sm.count": "152", "node.gpus": "72"}


@pytest.mark.parametrize("text", ["", "=", "chip.hbm.bandwidth", "chip.hbm.bandwidth=", "=8TB/s", "8TB/s"])
def test_what_is_no_change(text: str) -> None:
    expected = re.escape(f"expected PATH=VALUE, such as chip.hbm.bandwidth=8TB/s, got {text!r}")
    with pytest.raises(ValueError, match=expected):
        parse_change(text)


def test_paths_of_changes_are_known_and_met_once() -> None:
    with pytest.raises(ValueError, match=r"unknown key 'chip.hbm.b'; did you mean 'chip.hbm"):
        parse_change("chip.hbm.b=1")
    with pytest.raises(ValueError, match=r"chip.sm.count: expected one new value, got '1' and '2'"):
        parse_changes(["chip.sm.count=1", "chip.sm.count=2"])


def test_the_shares_of_a_file_bind_no_what_if() -> None:
    """A file whose usable rate is above its line is wrong; asking what if it were is not."""
    assert with_values(H800, {"node.nvlink.usable": "900GB/s"})["node.nvlink.usable"].si == 9e11


NUMBERS = [path for path, (dimension, _) in KEYS.items() if dimension not in ("name", "count", "bit")]


@st.composite
def a_change(draw: st.DrawFn) -> tuple[Hardware, str, float, str]:
    """A machine, one of its numbers, and another value in any unit of that dimension."""
    hardware = load_hardware(draw(st.sampled_from(hardware_names())))
    path = draw(st.sampled_from([path for path in NUMBERS if path in hardware.values]))
    units = sorted(unit for unit, (dimension, _) in UNITS.items() if dimension == KEYS[path][0])
    return hardware, path, draw(st.floats(1e-3, 1e6)), draw(st.sampled_from(units))


@settings(max_examples=60)
@given(a_change())
def test_one_change_changes_one_value(change: tuple[Hardware, str, float, str]) -> None:
    hardware, path, number, unit = change
    changed = with_values(hardware, {path: f"{number!r} {unit}"})
    assert changed[path].si == pytest.approx(number * UNITS[unit][1])
    assert changed.tensor_core == hardware.tensor_core
    rest = {name: q for name, q in changed.values.items() if name != path}
    assert rest == {name: q for name, q in hardware.values.items() if name != path}
    assert list(changed.values) == list(hardware.values)  # the order of the schema


@settings(max_examples=100)
@given(st.text(max_size=30))
def test_no_text_gets_past(text: str) -> None:
    """Whatever is typed is a value or a ValueError that names the path."""
    said = ""
    try:
        assert 1e-30 <= with_values(H800, {"chip.hbm.bandwidth": text})["chip.hbm.bandwidth"].si <= 1e30
    except ValueError as error:
        said = str(error)
    assert not said or said.startswith("chip.hbm.bandwidth: expected")


def test_a_change_says_its_unit() -> None:
    typed = {
        "chip.hbm.bandwidth": "8",
        "fabric.effective": " 50GB/s",
        "chip.sm.count": "152",
        "tensor_core.fp8.fraction_bits": "25",
        "tensor_core.fp8.rounding": "nearest-even",
    }
    assert spelled(H800, typed) == [
        "chip.hbm.bandwidth=8 TB/s",
        "fabric.effective=50 GB/s",
        "chip.sm.count=152",
        "tensor_core.fp8.fraction_bits=25 bit",
        "tensor_core.fp8.rounding=nearest-even",
    ]
    assert spelled(H800, {}) == []
    with pytest.raises(ValueError, match=r"unknown key 'chip.hbm.b'"):
        spelled(H800, {"chip.hbm.b": "1"})


@settings(max_examples=40)
@given(a_change(), st.booleans())
def test_what_is_spelled_reads_back(change: tuple[Hardware, str, float, str], bare: bool) -> None:
    hardware, path, number, unit = change
    typed = {path: repr(number) if bare else f"{number!r}{unit}"}
    said = parse_changes(spelled(hardware, typed))
    assert with_values(hardware, said) == with_values(hardware, typed)
    assert said[path].endswith(f" {hardware[path].unit if bare else unit}")


def test_a_file_of_ones_own_can_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\n[chip.hbm]\n'
        'bandwidth = { value = 1, unit = "TB/s", source = "a test", status = "assumed" }\n'
    )
    assert with_values(load_hardware(path), {"chip.hbm.bandwidth": "2"})["chip.hbm.bandwidth"].si == 2e12
