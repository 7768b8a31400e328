"""Figures beside what comes out: golden renderings, an ASCII form, SVG, sentences."""

from pathlib import Path

import pytest
from pictures import WIDTHS, check_ascii, check_golden, check_svg

from minidsv3.cost.published import VERDICTS, choose, recompute
from minidsv3.show import plain_text
from minidsv3.show.reproduction import COLOURS, MARKS, Explained, ReproductionTable, summary

GOLDEN = Path(__file__).parent / "golden"
TABLE = ReproductionTable(
    [recompute(figure) for figure in choose(["kv", "cost.hours", "slides", "cluster.hbm"])]
)
ONE = Explained(recompute(choose(["cost.hours.all"])[0]))
OFF = Explained(recompute(choose(["flops.qwen"])[0]))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("name", "picture"), [("figures", TABLE), ("figure", ONE), ("figure_off", OFF)])
def test_golden(name: str, picture: ReproductionTable | Explained, width: int) -> None:
    check_golden(GOLDEN, name, picture, width)
    check_ascii(picture, width)


@pytest.mark.parametrize("picture", [TABLE, ONE])
def test_svg(picture: ReproductionTable | Explained) -> None:
    check_svg(picture)


def test_a_verdict_is_never_told_by_colour_alone() -> None:
    assert set(MARKS) == set(VERDICTS)
    assert len({MARKS[verdict] for verdict in COLOURS if verdict in ("equal", "contradicts", "differs")}) == 3


@pytest.mark.parametrize("width", [40, 60, 75, 76, 99, 100, 200])
def test_every_figure_and_every_reason_is_there_at_any_width(width: int) -> None:
    text = plain_text(TABLE, width)
    flat = "".join(text.split())
    assert max(map(len, text.splitlines())) <= width
    for one in TABLE.found:
        assert one.figure.id in flat
        if one.verdict == "contradicts":
            assert "".join(one.figure.why.split()) in flat
    assert "".join(summary(TABLE.found).split()) in flat


def test_all_figures_fit_a_screen_of_80() -> None:
    text = plain_text(ReproductionTable([recompute(figure) for figure in choose([])]), 80)
    assert max(map(len, text.splitlines())) <= 80


def test_sentences() -> None:
    said = TABLE.describe().splitlines()
    assert len(said) == len(TABLE.found) + 1
    assert said[0] == (
        "KV cache a token, DeepSeek-V3 (MLA): printed 70.272 KB, computed 70.272 KB, comes out as printed."
    )
    assert OFF.describe().startswith("training FLOPs a token, Qwen-72B: printed 394 GFLOP")


def test_no_figures_are_no_error() -> None:
    assert plain_text(ReproductionTable([])) == "0 figures: none"
