"""A machine, two machines and all machines, in every form that a picture has."""

import json
from pathlib import Path

import pytest
from pictures import WIDTHS, check_ascii, check_golden, check_svg
from rich.console import RenderableType

from minidsv3.hardware import difference, hardware_names, load_hardware, with_values
from minidsv3.show import plain_text
from minidsv3.show.hardware_difference import HALF, DifferenceTable
from minidsv3.show.hardware_table import HardwareList, HardwareTable, hardware_json
from minidsv3.show.numbers import size

GOLDEN = Path(__file__).parent / "golden"
H800 = load_hardware("h800")
WISH = with_values(H800, {"chip.hbm.bandwidth": "8TB/s", "tensor_core.fp8.fraction_bits": "25"})


def against(a: str, b: str) -> DifferenceTable:
    one, other = load_hardware(a), load_hardware(b)
    return DifferenceTable(one, other, difference(one, other))


PICTURES: dict[str, RenderableType] = {
    "hardware": HardwareTable(H800),
    "hardware_wish": DifferenceTable(H800, WISH, difference(H800, WISH)),
    "hardware_difference": against("h800", "gb200-nvl72"),
    "hardware_list": HardwareList([load_hardware(name) for name in hardware_names()]),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PICTURES)
def test_golden(name: str, width: int) -> None:
    check_golden(GOLDEN, name, PICTURES[name], width)
    check_ascii(PICTURES[name], width)


@pytest.mark.parametrize("name", PICTURES)
def test_svg_and_words(name: str) -> None:
    check_svg(PICTURES[name])
    said = PICTURES[name].describe()  # type: ignore[union-attr]
    assert "----" not in said
    assert "│" not in said


@pytest.mark.parametrize("name", hardware_names())
def test_every_value_and_every_source_is_there(name: str) -> None:
    """Nothing is cut at any width, and every number in brackets has its source."""
    machine = load_hardware(name)
    table = HardwareTable(machine)
    for width in WIDTHS:
        text = " ".join(plain_text(table, width).split())
        for source, number in table.numbers().items():
            assert f"[{number}] {source}"[:40] in text
        for path, q in machine.values.items():
            assert q.text.removesuffix(" bit") in text, path
    said = table.describe()
    assert all(f"{path}: {q.text} ({q.status}: {q.source})" in said for path, q in machine.values.items())


@pytest.mark.parametrize("width", [40, 55, *WIDTHS, 77, 78, 99, 100])
def test_differences_fit_and_are_whole(width: int) -> None:
    for a in ("h800", "an-ai-pc"):
        for b in hardware_names():
            table = against(a, b)
            lines = plain_text(table, width).splitlines()
            assert max(map(len, lines)) <= width
            rows = [line for line in lines if line.startswith("  ") and line[2:3].isalnum()]
            assert len(rows) == len(table.differences)


@pytest.mark.parametrize("width", [56, *WIDTHS, 77, 78, 90, 104])
@pytest.mark.parametrize("pair", [("a100", "an-ai-pc"), ("h800", "gb200-nvl72"), ("an-ai-pc", "a100")])
def test_no_value_breaks(pair: tuple[str, str], width: int) -> None:
    """Both values of a row and their ratio stand whole on its line; "x 0.0952" is the longest ratio."""
    table = against(*pair)
    drawn = plain_text(table, width).splitlines()
    rows = [" ".join(line.split()) for line in drawn if line[:2] == "  " and line[2:3].isalnum()]
    for line, one in zip(rows, table.differences, strict=True):
        texts = [size(q.si) if q.unit == "B" else q.text for q in (one.a, one.b) if q]
        ratio = [f"x {one.ratio:.3g}"] if one.ratio is not None else []
        assert line.startswith(one.path.rpartition(".")[2])
        assert all(text in line for text in [*texts, *ratio]), line


def test_a_bar_is_as_long_as_the_ratios_logarithm() -> None:
    table = against("h800", "h100")
    end = table.furthest()
    assert table.bar(end, plain=True) == "." * HALF + "|" + "#" * HALF
    assert table.bar(1 / end, plain=True) == "#" * HALF + "|" + "." * HALF
    assert table.bar(end**0.5, plain=True) == "." * HALF + "|#####....."
    assert table.bar(1.0001, plain=True) == "." * HALF + "|#........."  # a difference is always seen
    assert table.bar(None, plain=True) == ""


def test_machines_that_do_not_differ() -> None:
    table = against("h800", "h800")
    assert "no value differs" in plain_text(table, 60)
    assert table.describe().endswith("no value differs.")


def test_a_machine_that_says_little() -> None:
    from minidsv3.hardware import read_hardware

    leaf = {"value": 0, "unit": "count", "source": "test", "status": "assumed"}
    small = read_hardware({"name": "small", "node": {"nics": leaf}}, "small")
    other = read_hardware({"name": "other", "node": {"planes": leaf}}, "other")
    assert "nics" in plain_text(HardwareTable(small), 60)
    assert "only b" in plain_text(DifferenceTable(small, other, difference(small, other)), 60)
    assert plain_text(HardwareTable(read_hardware({"name": "nothing"}, "nothing")), 60)
    assert plain_text(HardwareList([small]), 60)  # no peak and no memory


def test_json() -> None:
    said = json.loads(json.dumps(hardware_json(WISH)))
    bandwidth = said["values"]["chip.hbm.bandwidth"]
    assert (bandwidth["si"], bandwidth["status"]) == (8e12, "assumed")
    assert bandwidth["source"].startswith("what if: 8 TB/s instead of 3.35 TB/s")
    assert said["values"]["tensor_core.family"]["si"] is None
