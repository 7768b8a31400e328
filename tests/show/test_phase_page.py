"""The page of a phase's bill: what stands beside the profile, before and after, sources."""

from pathlib import Path

import pytest
from pictures import WIDTHS, check_ascii, check_golden, check_svg
from rich.console import Group

from minidsv3.config import ModelConfig
from minidsv3.cost import bill, phase_bill
from minidsv3.cost.deployment import alone
from minidsv3.cost.explained import explain
from minidsv3.cost.rows import rows_of
from minidsv3.cost.what_if import compare
from minidsv3.hardware import load_hardware, with_values
from minidsv3.show import plain_text
from minidsv3.show.phase_page import (
    bill_effects,
    changes_table,
    explained_table,
    layout,
    phase_page,
    profile_table,
    profile_title,
    summary,
    totals_table,
)

GOLDEN = Path(__file__).parent / "golden"
V3, H800 = ModelConfig.preset("v3"), load_hardware("h800")
FASTER = with_values(H800, {"chip.hbm.bandwidth": "8TB/s"})


def page(phase: str) -> Group:
    """What of a page is not the bill's table or the roofline."""
    one, other = (phase_bill(V3, hardware, phase, "DeepSeek-V3") for hardware in (H800, FASTER))
    beside = [profile_title(one), profile_table(one)] if one.deployment.profile else []
    return Group(
        summary(one),
        *beside,
        totals_table(one),
        changes_table(compare(one, other)),
        explained_table(explain(other)),
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("phase", ["train", "decode"])
def test_golden(phase: str, width: int) -> None:
    check_golden(GOLDEN, f"phase_{phase}", page(phase), width)


@pytest.mark.parametrize("phase", ["train", "prefill", "decode"])
def test_the_whole_page_in_every_form(phase: str) -> None:
    whole = phase_page(phase_bill(V3, H800, phase, "DeepSeek-V3"), rows=4)
    check_ascii(whole, 60)
    check_svg(whole)


def test_what_changes_nothing_says_so() -> None:
    nano = ModelConfig.preset("nano")
    priced = bill(rows_of(nano, alone("decode", 1, 8)), H800)
    assert plain_text(changes_table(bill_effects(priced, priced)), 80) == "nothing changes"


def test_another_node_is_named() -> None:
    """NVLink joins what the machine has: the layout says so where that is not what it was published for."""
    rack = load_hardware("gb200-nvl72")
    assert "gpus_per_node 64 instead of 8" in layout(phase_bill(V3, rack, "train").deployment)
    assert "gpus_per_node" not in layout(phase_bill(V3, H800, "train").deployment)
