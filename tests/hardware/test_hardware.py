"""Hardware files: what is read, what is refused, and with which words."""

import copy
import re
import time
import tomllib
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from minidsv3.hardware import (
    TENSOR_CORES,
    TensorCore,
    hardware_names,
    load_hardware,
    read_hardware,
    tensor_core,
)
from minidsv3.hardware.schema import KEYS, expected_names
from minidsv3.hardware.units import STATUSES, UNITS
from minidsv3.hardware.values import check_value


def h800_text() -> str:
    return (resources.files("minidsv3") / "data" / "hardware" / "h800.toml").read_text(encoding="utf-8")


def h800_table() -> dict[str, Any]:
    return tomllib.loads(h800_text())


def changed(path: str, **fields: Any) -> dict[str, Any]:
    """The H800's table with some fields of one value changed; None leaves a field out."""
    table = copy.deepcopy(h800_table())
    *parents, last = path.split(".")
    at = table
    for key in parents:
        at = at.setdefault(key, {})
    unit = {"rounding": "name", "fraction_bits": "bit"}.get(last, "count")
    leaf = at.setdefault(last, {"value": 1, "unit": unit, "source": "test", "status": "assumed"})
    leaf |= fields
    at[last] = {key: value for key, value in leaf.items() if value is not None}
    return table


def test_the_h800_of_the_papers() -> None:
    h800 = load_hardware("h800")
    assert h800["chip.sm.count"].value == 132
    assert h800["chip.sm.communication"].value == 20
    assert h800["chip.peak.bf16"].si == 989e12
    assert h800["chip.hbm.bandwidth"].si == 3.35e12
    assert h800["chip.hbm.capacity"].si == 84_943_110_144
    assert h800["fabric.latency.ib.cross_leaf"].si == pytest.approx(3.7e-6)
    assert h800["price.gpu_hour"].si * 3600 == pytest.approx(2)
    assert h800["node.nvlink.both_directions"].si == 2 * h800["node.nvlink.one_direction"].si


def test_clocks_and_peaks_agree() -> None:
    """4096 dense BF16 FLOP and 256 float32 FLOP a cycle and SM, at the clocks the file gives."""
    h800 = load_hardware("h800")
    sms = h800["chip.sm.count"].si
    assert sms * 4096 * h800["chip.clock.tensor"].si == pytest.approx(h800["chip.peak.bf16"].si, rel=1e-3)
    assert sms * 4096 * h800["chip.clock.throttled"].si == pytest.approx(865e12, rel=1e-3)
    assert sms * 256 * h800["chip.clock.boost"].si == pytest.approx(h800["chip.peak.fp32"].si, rel=1e-3)


def test_the_tensor_core_as_numerics_will_read_it() -> None:
    units = load_hardware("h800").tensor_core
    assert sorted(units) == ["bf16", "fp16", "fp8", "tf32"]
    assert {f: (u.terms, u.fraction_bits, u.output_fraction_bits) for f, u in units.items()} == {
        "fp8": (32, 13, 13),
        "bf16": (16, 25, 23),
        "fp16": (16, 25, 23),
        "tf32": (8, 25, 23),
    }
    assert {u.rounding for u in units.values()} == {"toward-zero"}


def test_the_h800_is_hopper() -> None:
    """It names the family and repeats none of its numbers; they are readable by path all the same."""
    h800 = load_hardware("h800")
    assert h800.tensor_core == dict(TENSOR_CORES["hopper-wgmma"])
    assert not set(h800_table()["tensor_core"]) & set(h800.tensor_core)
    bits = h800["tensor_core.fp8.fraction_bits"]
    assert (bits.value, bits.unit, bits.status) == (13, "bit", "measured")
    assert bits.source == tensor_core("hopper-wgmma", "fp8").source


def test_a_value_beside_the_family_goes_before_it() -> None:
    core = read_hardware(changed("tensor_core.fp8.fraction_bits", value=14), "mine").tensor_core
    assert core["fp8"].fraction_bits == 14
    assert core["fp8"].terms == 32
    assert core["bf16"] == tensor_core("hopper-wgmma", "bf16")
    row = tensor_core("hopper-wgmma", "fp8")
    assert (core["fp8"].silicon, core["fp8"].status) == ("", "assumed")  # what was measured is another unit
    assert core["fp8"].source == f"fraction_bits: test; the rest: {row.source}"
    same = read_hardware(changed("tensor_core.fp8.fraction_bits", value=13), "mine").tensor_core["fp8"]
    assert same == row
    mine = changed("tensor_core.fp8.fraction_bits", value=14, status="measured")
    assert read_hardware(mine, "mine").tensor_core["fp8"].status == "measured"
    assert read_hardware(mine, "mine").tensor_core["fp8"].silicon == ""
    with pytest.raises(ValueError, match=r"mine.toml: tensor_core.fp8: expected a depth of a multiple of 5"):
        read_hardware(changed("tensor_core.fp8.terms", value=5), "mine")


@pytest.mark.parametrize(
    ("change", "expectation"),
    [
        ({"terms": 0}, "expected a depth of a multiple of 0 terms, got 32"),
        (
            {"fraction_bits": 0},
            "expected terms and fraction bits whose sum float64 holds exactly, got 32 and 0",
        ),
        (
            {"fraction_bits": 46},
            "expected terms and fraction bits whose sum float64 holds exactly, got 32 and 46",
        ),
        ({"rounding": "up"}, r"expected rounding toward-zero \| nearest-even, got 'up'"),
        ({"accumulator": "late"}, r"expected accumulator aligned \| added, got 'late'"),
        ({"output": "bf16"}, r"expected output fp32 \| fp16, got 'bf16'"),
        ({"depth": -32}, "expected depth a whole number, at least 0, got -32"),
        ({"terms": 32.0}, "expected terms a whole number, at least 0, got 32.0"),
        ({"group": 0}, "expected a depth of a multiple of 0 terms"),
        ({"output_fraction_bits": 24}, "expected output fraction bits of 1 .. 23, got 24"),
        ({"scale_block": 16}, "expected scales that change between steps, got a block of 16"),
    ],
)
def test_a_tensor_core_that_cannot_be(change: dict[str, Any], expectation: str) -> None:
    with pytest.raises(ValueError, match=expectation):
        replace(tensor_core("hopper-wgmma", "fp8"), **change)


def test_a_file_may_give_its_values_without_a_family() -> None:
    def leaf(value: int | str, unit: str) -> dict[str, Any]:
        return {"value": value, "unit": unit, "source": "test", "status": "assumed"}

    four = {
        "terms": leaf(32, "count"),
        "fraction_bits": leaf(13, "bit"),
        "output_fraction_bits": leaf(13, "bit"),
        "rounding": leaf("toward-zero", "name"),
    }
    core = read_hardware({"name": "mine", "tensor_core": {"fp8": four}}, "mine").tensor_core["fp8"]
    assert core == TensorCore("fp8", 32, 13, 13, "toward-zero")
    assert (core.depth, core.operands) == (32, ("e4m3", "e5m2"))
    del four["terms"]
    with pytest.raises(ValueError, match=r"mine.toml: tensor_core.fp8.terms: expected a value"):
        read_hardware({"name": "mine", "tensor_core": {"fp8": four}}, "mine")


def test_tensor_cores_from_volta_to_blackwell() -> None:
    """Terms, depth, fraction bits and output of every row, as published."""
    sixteen = {"fp16": (16, 16, 25, 23), "bf16": (16, 16, 25, 23)}
    ampere = {"fp16": (8, 16, 24, 23), "bf16": (8, 16, 24, 23)}
    assert {
        family: {f: (u.terms, u.depth, u.fraction_bits, u.output_fraction_bits) for f, u in rows.items()}
        for family, rows in TENSOR_CORES.items()
    } == {
        "volta": {"fp16": (4, 4, 23, 23)},
        "turing": {"fp16": (8, 8, 24, 23)},
        "ampere": ampere | {"tf32": (4, 8, 24, 23)},
        "ada": ampere | {"fp8": (16, 32, 13, 13)},
        "hopper-mma": sixteen,
        "hopper-wgmma": sixteen | {"tf32": (8, 8, 25, 23), "fp8": (32, 32, 13, 13)},
        "blackwell-tcgen05": sixteen
        | {"tf32": (8, 8, 25, 23), "fp8": (32, 32, 25, 23), "mxf8f6f4": (32, 32, 25, 23)}
        | {"mxf4": (4, 64, 35, 23), "nvf4": (4, 64, 35, 23)},
        "blackwell-rtx": {"fp8": (32, 32, 25, 23)},
        "mma-sync-fp8": {"fp8": (32, 32, 25, 23)},
    }
    for rows in TENSOR_CORES.values():
        for unit in rows.values():
            assert unit.source
            assert unit.silicon
            assert unit.status in ("measured", "assumed")
            assert unit.status == "assumed" or "5000/5000" in unit.silicon


def test_asking_for_a_tensor_core_that_is_not_there() -> None:
    with pytest.raises(
        ValueError, match=r"expected a tensor core family, got 'hoper-wgmma': did you mean 'hopper"
    ):
        tensor_core("hoper-wgmma", "fp8")
    with pytest.raises(ValueError, match=r"expected a format of volta \(fp16\), got 'fp8'"):
        tensor_core("volta", "fp8")
    with pytest.raises(ValueError, match=r"expected a unit with FP16 output, got ampere bf16"):
        tensor_core("ampere", "bf16").to_half()


@pytest.mark.parametrize("name", hardware_names())
def test_shipped_files_have_known_paths_and_sources(name: str) -> None:
    hardware = load_hardware(name)
    assert set(hardware.values) <= set(KEYS)
    for quantity in hardware.values.values():
        assert quantity.source
        assert quantity.status in STATUSES
        assert quantity.unit in UNITS
    assert set(hardware.to_dict()["values"]) == set(hardware.values)
    assert sum(map(len, hardware.sources.values())) == len(hardware.values)


@pytest.mark.parametrize(
    ("path", "fields", "expectation"),
    [
        ("chip.hbm.bandwidth", {"unit": "GB"}, r"expected a unit of B/s, got 'GB' \(B\)"),
        ("chip.hbm.bandwidth", {"unit": "GiB/s"}, "expected a unit such as .*, got 'GiB/s'"),
        ("chip.hbm.bandwidth", {"source": None}, "expected exactly the fields .*, got no source"),
        ("chip.hbm.bandwidth", {"source": " "}, "expected a non-empty source"),
        ("chip.hbm.bandwidth", {"status": "rumour"}, "expected status datasheet"),
        ("chip.hbm.bandwidth", {"value": -1}, "expected a number > 0, got -1"),
        ("chip.hbm.bandwidth", {"value": 0}, "expected a number > 0, got 0"),
        ("node.gpus", {"value": 0}, "expected a number > 0, got 0"),
        ("tensor_core.fp8.terms", {"value": 0}, "expected a number > 0, got 0"),
        ("chip.hbm.bandwidth", {"value": float("nan")}, "expected a number > 0, got nan"),
        ("chip.hbm.bandwidth", {"value": "fast"}, "expected a number > 0, got 'fast'"),
        ("chip.sm.count", {"value": 1.5}, "expected a whole number, got 1.5"),
        ("tensor_core.fp8.rounding", {"value": "down"}, "expected toward-zero | nearest-even, got 'down'"),
        ("tensor_core.family", {"value": "hopper"}, "expected volta | turing | .*, got 'hopper'"),
        ("tensor_core.fp8.rounding", {"note": "x"}, "expected exactly the fields .*, got also note"),
    ],
)
def test_a_wrong_value_is_named(path: str, fields: dict[str, Any], expectation: str) -> None:
    with pytest.raises(ValueError, match=f"^mine.toml: {re.escape(path)}: {expectation}"):
        read_hardware(changed(path, **fields), "mine")


@pytest.mark.parametrize("path", KEYS)
def test_each_path_takes_the_units_of_its_dimension_alone(path: str) -> None:
    dimension = KEYS[path][0]
    value = expected_names(path)[0] if dimension == "name" else 1
    for unit, (measures, _) in UNITS.items():
        if measures == dimension:
            check_value(path, value, unit)
        else:
            with pytest.raises(ValueError, match=f"expected a unit of {dimension}, got '{unit}'"):
                check_value(path, value, unit)


def test_a_value_as_its_file_writes_it() -> None:
    h800 = load_hardware("h800")
    paths = ("chip.hbm.bandwidth", "chip.sm.count", "chip.hbm.capacity", "tensor_core.fp8.fraction_bits")
    said = [h800[path].text for path in (*paths, "tensor_core.family")]
    assert said == ["3.35 TB/s", "132", "84,943,110,144 B", "13 bit", "hopper-wgmma"]


LEAF_LINES = ("value = 4", 'unit = "count"', 'source = "test"', 'status = "assumed"')
LEAF = {"value": 1, "unit": "count", "source": "test", "status": "assumed"}


@pytest.mark.parametrize(
    ("table", "expectation"),
    [
        (
            {"name": "x", "chip": {"tdp": 700}},
            r"chip.tdp: expected \{ value, unit, source, status \}, got 700",
        ),
        ({"chip": {}}, "name: expected a string of one line, got None"),
        ({"name": ""}, "name: expected a string of one line, got ''"),
        ({"name": "x\x1b[31m"}, "name: expected a string of one line"),
        ({"name": "x\n"}, "name: expected a string of one line"),
        ({"name": "x" * 1001}, "name: expected a string of one line"),
        ({"name": ["x"]}, "name: expected a string of one line, got \\['x'\\]"),
        (
            {"name": "x", "chip": {"peak": {"fp9": LEAF}}},
            "unknown key 'chip.peak.fp9'; did you mean 'chip.peak.fp",
        ),
        ({"name": "x", "chipp": {}}, "unknown table 'chipp'; did you mean 'chip'"),
        ({"name": "x", "chip": {"hmb": {}}}, "unknown table 'chip.hmb'; did you mean 'chip.hbm'"),
        (
            {"name": "x", "chip": {"hbm": {"capacity": {}}}},
            "chip.hbm.capacity: expected exactly .*, got no value, unit, source, status",
        ),
        (
            {"name": "x", "chip": {"sm": {"count": {"vlue": 1}}}},
            "chip.sm.count: expected exactly .*, got vlue but no value, unit",
        ),
        ({"name": "x", "chip": {"sm": LEAF}}, "unknown key 'chip.sm'; did you mean 'chip.sm.count'"),
        (
            {"name": "x", "node": {"gpus": LEAF | {"value": True}}},
            "node.gpus: expected a number > 0, got True",
        ),
        ({"name": "x", "node": {"gpus": LEAF | {"value": 10**400}}}, "node.gpus: expected 1e-30 to 1e"),
        (
            {"name": "x", "node": {"gpus": LEAF | {"source": "a\x07b"}}},
            "node.gpus: expected a non-empty source",
        ),
        ({"name": "x", "node": {"gpus": LEAF | {"source": 7}}}, "node.gpus: expected a non-empty source"),
    ],
)
def test_wrong_tables_are_named(table: dict[str, Any], expectation: str) -> None:
    with pytest.raises(ValueError, match=f"^mine.toml: {expectation}"):
        read_hardware(table, "mine")


@pytest.mark.parametrize(
    ("path", "value", "expectation"),
    [
        (
            "chip.sm.communication",
            132,
            "expected at most|expected fewer than the 132 of chip.sm.count, got 132",
        ),
        (
            "chip.peak.bf16_throttled",
            990,
            "expected at most the 989 TFLOPS of chip.peak.bf16, got 990 TFLOPS",
        ),
        ("chip.clock.throttled", 2000, "expected at most the 1,980 MHz of chip.clock.boost, got 2,000 MHz"),
        (
            "node.nvlink.usable",
            201,
            "expected at most the 200 GB/s of node.nvlink.one_direction, got 201 GB/s",
        ),
        (
            "node.nvlink.one_direction",
            400,
            "expected at most half of the 400 GB/s of node.nvlink.both_directions, got 400 GB/s",
        ),
        ("node.nvlink.one_direction", 201, "expected at most half of the 400 GB/s"),
        ("node.planes", 9, "expected at most the 8 of node.nics, got 9"),
        ("fabric.effective", 51, "expected at most the 50 GB/s of fabric.line, got 51 GB/s"),
    ],
)
def test_a_share_is_at_most_the_whole(path: str, value: int, expectation: str) -> None:
    with pytest.raises(ValueError, match=f"^mine.toml: {re.escape(path)}: ({expectation})"):
        read_hardware(changed(path, value=value), "mine")


@pytest.mark.parametrize(
    ("content", "expectation"),
    [
        (b"chip = [", "expected TOML"),
        (b"\xff\xfe", "expected UTF-8 text: byte 0 is none"),
        (b"name = 'x'\0", "expected TOML"),
        (b"a = " + b"[" * 1990, "expected TOML"),
        (b"a = [\n" * 900, "expected TOML"),
        (b"a = " + b"[" * 5000, "line 1: expected at most 2,000 characters, got 5,004"),
        (b"\na = " + b"9" * 5000, "line 2: expected at most 2,000 characters, got 5,004"),
        (b"name = 'x'\nname = 'y'", "expected TOML"),
        (b"# " + b"x" * (1 << 20), "expected a hardware file of at most 262,144 bytes, got 1,048,578"),
        (b"name = 'x'\na" + b".a" * 8, "line 2: expected a key of at most 8 parts, got 9: 'a.a.a"),
        (b"[a" + b".a" * 8, "line 1: expected a key of at most 8 parts, got 9"),
        (b"['=\"='" + b".a" * 8, "line 1: expected a key of at most 8 parts, got 9"),
        (b'"\\"=" . ' + b"a." * 8 + b" = 1", "line 1: expected a key of at most 8 parts, got 10"),
        (b"", "name: expected a string"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes, expectation: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"mine.toml: {expectation}"):
        load_hardware(path)


@pytest.mark.parametrize("header", ["", "[" + ".".join("abcdefgh") + "]\n"])
def test_no_file_parses_for_long(header: str, tmp_path: Path) -> None:
    """The slowest that the bounds let through: as many of the deepest keys as there is room for."""
    path = tmp_path / "deep.toml"
    path.write_text(header + "".join(f"{i:x}.a.a.a.a.a.a.a=1\n" for i in range(12_000)), encoding="utf-8")
    begin = time.perf_counter()
    with pytest.raises(ValueError, match=r"^deep.toml: "):
        load_hardware(path)
    assert time.perf_counter() - begin < 10


def test_what_looks_deep_and_is_not(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    dots = "1.2.3.4.5.6.7.8.9.10"
    leaf = f'{{ value = 4, unit = "count", source = "{dots}", status = "assumed" }}'
    text = f"# {dots} = {dots}\nname = '{dots}'\nnode.gpus = {leaf} # {dots} = \n"
    path.write_text(text, encoding="utf-8")
    assert load_hardware(path)["node.gpus"].source == dots
    path.write_text("\n".join(["name = 'x'", *(f"node.gpus.{field}" for field in LEAF_LINES)]))
    assert load_hardware(path)["node.gpus"].value == 4


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "marked.toml"
    path.write_text(h800_text(), encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert load_hardware(path).values == load_hardware("h800").values


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.toml"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: nothing is stored
    with pytest.raises(ValueError, match=r"at most 262,144 bytes, got 1,099,511,627,776"):
        load_hardware(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "plain").write_text("name = 'x'")
    for name, expectation in (
        (tmp_path / "folder.toml", "got the folder '"),
        (tmp_path / "plain", "got a file without that ending, '"),
        (tmp_path / "absent.toml", "got '"),
        ("x" * 5000 + ".toml", "got 'xxx"),
        ("h\0800.toml", "got 'h"),
        ("", "got the folder ''|got ''"),
    ):
        with pytest.raises(
            ValueError, match=r"expected hardware by name or a path to a .toml file, "
        ) as found:
            load_hardware(name)
        assert re.search(expectation, str(found.value))
        assert len(str(found.value)) < 400


def test_an_edited_file_is_a_what_if(tmp_path: Path) -> None:
    path = tmp_path / "faster.toml"
    path.write_text(h800_text().replace("value = 3.35,", "value = 8,"), encoding="utf-8")
    assert load_hardware(path)["chip.hbm.bandwidth"].si == 8e12
    assert load_hardware(str(path)).id == "faster"
    path.write_text("chip = [", encoding="utf-8")
    with pytest.raises(ValueError, match=r"faster.toml: expected TOML"):
        load_hardware(path)


def test_a_machine_without_such_tensor_cores_says_so() -> None:
    with pytest.raises(
        ValueError, match="a100: expected tensor cores for 'fp8', the file describes fp16, bf16"
    ):
        load_hardware("a100").tensor_core["fp8"]
    with pytest.raises(
        ValueError, match="an-ai-pc: expected tensor cores for 'bf16', the file describes no form"
    ):
        load_hardware("an-ai-pc").tensor_core["bf16"]
    assert load_hardware("a100").tensor_core.get("fp8") is None


def test_the_shipped_machines() -> None:
    expected = ["a-consumer-server", "a100", "an-ai-pc", "b200", "gb200-nvl72", "h100", "h200", "h800"]
    assert hardware_names() == expected


@pytest.mark.parametrize(
    ("name", "tensor", "vector"),
    [
        ("a100", 2048, 128),
        ("h100", 4096, 256),
        ("h200", 4096, 256),
        ("h800", 4096, 256),
        ("b200", 8192, 256),
        ("gb200-nvl72", 8192, 256),
        ("a-consumer-server", 512, 256),
        ("an-ai-pc", 512, 128),
    ],
)
def test_peaks_follow_from_units_and_clocks(name: str, tensor: int, vector: int) -> None:
    """Dense BF16 and float32 operations a cycle and unit; a peak with sparsity would be twice that."""
    machine = load_hardware(name)
    sms, boost = machine["chip.sm.count"].si, machine["chip.clock.boost"].si
    clock = machine.values.get("chip.clock.tensor", machine["chip.clock.boost"]).si
    assert sms * tensor * clock == pytest.approx(machine["chip.peak.bf16"].si, rel=2e-3)
    assert sms * vector * boost == pytest.approx(machine["chip.peak.fp32"].si, rel=1e-2)


@pytest.mark.parametrize("name", hardware_names())
def test_rates_of_formats_are_the_usual_multiples(name: str) -> None:
    """Halving the operands doubles the rate; what a vendor prints for both directions is twice one."""
    v = load_hardware(name).values
    for fast, slow in (("fp4", "fp8"), ("fp8", "bf16"), ("bf16", "tf32")):
        if f"chip.peak.{fast}" in v and f"chip.peak.{slow}" in v:
            assert v[f"chip.peak.{fast}"].si / v[f"chip.peak.{slow}"].si == pytest.approx(2, rel=2e-3)
    assert v["chip.peak.fp16"].si == v["chip.peak.bf16"].si
    if "node.nvlink.usable" in v:
        assert v["node.nvlink.both_directions"].si == 2 * v["node.nvlink.one_direction"].si
        assert v["node.nvlink.usable"].si == pytest.approx(0.8 * v["node.nvlink.one_direction"].si)
    if "fabric.line" in v:
        assert v["fabric.effective"].si == pytest.approx(0.8 * v["fabric.line"].si)


@pytest.mark.parametrize("name", hardware_names())
def test_what_is_assumed_says_why(name: str) -> None:
    """A reason is longer than a word; an analogy names what it is to."""
    for path, quantity in load_hardware(name).given.items():
        if quantity.status == "assumed":
            assert len(quantity.source) > 15, path


def test_asking_for_what_is_not_there() -> None:
    small = read_hardware({"name": "no tensor cores"}, "small")
    with pytest.raises(ValueError, match=r"small: expected a value for 'chip.peak.fp8'"):
        small["chip.peak.fp8"]
    with pytest.raises(ValueError, match=r"unknown key 'chip.peak.fp'; did you mean 'chip.peak.fp"):
        small["chip.peak.fp"]
    with pytest.raises(ValueError, match="expected hardware by name"):
        load_hardware("nowhere.toml")
    with pytest.raises(ValueError, match="expected a number, got the name"):
        _ = load_hardware("h800")["tensor_core.fp8.rounding"].si
