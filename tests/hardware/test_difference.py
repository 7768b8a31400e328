"""What differs between two machines."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidsv3.hardware import difference, hardware_names, load_hardware, read_hardware, with_values

NAMES = st.sampled_from(hardware_names())


def of_memory(value: float, unit: str) -> dict[str, object]:
    leaf = {"value": value, "unit": unit, "source": "test", "status": "assumed"}
    return {"name": "one", "chip": {"hbm": {"capacity": leaf}}}


def test_the_h100_is_an_h800_with_nvlink_and_fp64() -> None:
    found = {one.path: one for one in difference(load_hardware("h800"), load_hardware("h100"))}
    assert found["node.nvlink.both_directions"].ratio == 900 / 400
    assert found["chip.peak.fp64"].ratio == pytest.approx(66.9)
    assert not {path for path in found if path.startswith(("chip.hbm", "chip.clock", "tensor_core"))}
    assert found["host.cores"].a is None
    assert found["host.cores"].ratio is None


def test_the_unit_makes_no_difference() -> None:
    one, other = (read_hardware(of_memory(*leaf)) for leaf in ((80, "GB"), (80000, "MB")))
    assert difference(one, other) == ()
    (found,) = difference(one, read_hardware(of_memory(160, "GB")))
    assert (found.path, found.ratio) == ("chip.hbm.capacity", 2)


def test_words_and_zeros_have_no_ratio() -> None:
    found = {one.path: one for one in difference(load_hardware("a100"), load_hardware("an-ai-pc"))}
    assert found["tensor_core.family"].ratio is None
    found = {one.path: one for one in difference(load_hardware("an-ai-pc"), load_hardware("a100"))}
    assert found["chip.sm.communication"].ratio is None  # of nothing


@given(NAMES, NAMES)
def test_a_difference_reads_both_ways(a: str, b: str) -> None:
    there = difference(load_hardware(a), load_hardware(b))
    back = difference(load_hardware(b), load_hardware(a))
    assert [(one.path, one.a, one.b) for one in there] == [(one.path, one.b, one.a) for one in back]
    for one, other in zip(there, back, strict=True):
        if one.ratio and other.ratio:
            assert one.ratio * other.ratio == pytest.approx(1)
    assert bool(there) == (a != b)


def test_a_change_is_the_only_difference() -> None:
    h800 = load_hardware("h800")
    (found,) = difference(h800, with_values(h800, {"tensor_core.fp8.fraction_bits": "25"}))
    assert found.path == "tensor_core.fp8.fraction_bits"
    assert json.loads(json.dumps(found.to_dict()))["ratio"] == pytest.approx(25 / 13)
