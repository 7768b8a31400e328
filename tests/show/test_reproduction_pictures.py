"""Figures beside what comes out: golden renderings, an ASCII form, SVG, sentences."""

import io
import itertools
import re
from pathlib import Path

import pytest
from pictures import WIDTHS, check_ascii, check_golden, check_svg
from rich.console import Console

from minidsv3.cost.published import VERDICTS, choose, recompute
from minidsv3.show import plain_text
from minidsv3.show.reproduction import AGREES, COLOURS, MARKS, Explained, ReproductionTable, summary

GOLDEN = Path(__file__).parent / "golden"
TABLE = ReproductionTable(
    [recompute(figure) for figure in choose(["kv", "cost.hours", "slides", "cluster.hbm"])]
)
ONE = Explained(recompute(choose(["cost.hours.all"])[0]))
OFF = Explained(recompute(choose(["flops.qwen"])[0]))
ALL = ReproductionTable([recompute(figure) for figure in choose([])])


@pytest.mark.parametrize("width", [40, *WIDTHS])
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


@pytest.mark.parametrize("width", [40, 60, 80, 120, 170])
def test_no_number_is_broken_and_no_line_ends_in_blanks(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    console.print(ALL)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width
    assert not [line for line in lines if line != line.rstrip()]
    text = "\n".join(lines)
    for one in ALL.found:
        assert one.text in text, one.figure.id
        for number in re.findall(r"\d[\d,.]*\d", one.figure.printed):
            assert number in text, one.figure.id


def test_ids_and_figures_stand_below_each_other_where_a_table_does_not_fit() -> None:
    table = ReproductionTable([recompute(choose([id_])[0]) for id_ in ("counts.v3", "counts.v3.exact")])
    assert plain_text(table, 40).splitlines()[:9] == [
        "parameters",
        "counts.v3",
        "  printed   671B",
        "  computed  671.03",
        "  verdict   = equal",
        "counts.v3.exact",
        "  stated    671,026,419,200",
        "  computed  671,026,419,200",
        "  verdict   =* agrees, ours",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_legend_says_what_ours_means(width: int) -> None:
    assert f"=* agrees, ours: derived here, printed nowhere; {AGREES}" in " ".join(
        plain_text(TABLE, width).split()
    )


def test_titles_and_sources_come_with_room() -> None:
    heads = {width: plain_text(TABLE, width).splitlines()[1].split() for width in (80, 119, 120, 160)}
    assert heads[80] == heads[119] == ["id", "printed", "computed", "verdict"]
    assert heads[120] == ["id", "title", "printed", "computed", "verdict"]
    assert heads[160] == [*heads[120], "source"]


def test_a_b_after_a_blank_is_a_byte() -> None:
    facts = {one.figure.id: Explained(one).describe() for one in ALL.found}
    assert "computed 671.03B parameters" in facts["counts.v3"]
    assert "computed 656 B;" in facts["kv.fp8.layer"]
    assert "computed 2,788K GPU h" in facts["cost.hours.all"]
    assert not [
        id_ for id_, said in facts.items() if re.search(r"\d ([KMT] [a-zA-Z]|B (parameters|tokens))", said)
    ]


def test_an_inverse_is_told_as_one() -> None:
    said = Explained(recompute(choose(["notes.tenth"])[0])).describe()
    assert "printed 1/10, rounded to the nearest: the inverse, 10, within 0.5; computed 1/11.06;" in said


def test_all_is_ascii_where_that_is_all_there_is() -> None:
    pictures = itertools.chain([ALL], map(Explained, ALL.found))
    assert all(plain_text(picture, 80, ascii_only=True).isascii() for picture in pictures)
    assert "120.96 us" in plain_text(ALL, 80)


def test_what_is_ours_was_not_printed() -> None:
    for one in ALL.found:
        if one.figure.ours:
            said = Explained(one)._facts()
            assert said["stated here"].startswith(one.figure.printed.partition(" ")[0])
            assert "printed" not in said
            assert "comes out as printed" not in " ".join(said.values())


def test_sentences() -> None:
    said = TABLE.describe().splitlines()
    assert len(said) == len(TABLE.found) + 1
    assert said[0] == (
        "KV cache a token, DeepSeek-V3 (MLA): printed 70.272 KB, computed 70.272 KB, comes out as printed."
    )
    assert OFF.describe().startswith("training FLOPs a token, Qwen-72B: printed 394 GFLOP")


def test_no_figures_are_no_error() -> None:
    assert plain_text(ReproductionTable([])) == "0 figures: none"
