"""Roofline, waterfall, KV growth and memory budget: golden text, every form, and what holds of any data."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pictures import WIDTHS, check_ascii, check_golden, check_svg
from rich.console import Console, RenderableType
from rich.text import Text

from minidsv3.cost import Bill, bill, rates
from minidsv3.hardware import load_hardware
from minidsv3.machine import Row, Trace
from minidsv3.show import plain_text
from minidsv3.show.axes import Chart, LogScale, ruler, ticks
from minidsv3.show.kv_growth import KVGrowth, tokens
from minidsv3.show.memory_budget import MemoryBudget
from minidsv3.show.roofline import Roofline, per_byte, roofs_of
from minidsv3.show.waterfall import Step, Waterfall, waterfall_of

GOLDEN = Path(__file__).parent / "golden"
FP8 = ("e4m3", "e4m3", "bf16")
BF16 = ("bf16",) * 3
GIGA = 10**9


def row(op: str, phase: str, formats: Sequence[str], matrix: float, vector: float, **moved: float) -> Row:
    return Row(
        op=op,
        phase=phase,
        layer=3,
        shapes=((8, 8),) * 3,
        formats=tuple(formats),
        matrix_flops=int(matrix),
        vector_flops=int(vector),
        bytes={kind: int(n) for kind, n in moved.items()},
    )


def a_bill() -> Bill:
    """Ops on every roof and on the slope, two of them at one place, one that only looks up, two that send."""
    rows = [
        row("experts.gate_up", "forward", FP8, 4e12, 0, weight=1e9, activation=5e8),
        row("experts.gate_up", "backward", FP8, 8e12, 2e9, weight=3e9, activation=6e9),
        row("experts.swiglu", "forward", BF16, 0, 3e9, activation=5e9),
        row("mla.scores", "forward", BF16, 1e12, 1e9, activation=4e8),
        row("mla.values", "forward", BF16, 1e12, 1e9, activation=4.2e8),
        row("mla.out", "forward", FP8, 6e11, 0, weight=2e9),
        row("attn.norm", "forward", BF16, 0, 4e8, activation=2e9),
        row("gate.logits", "forward", ("fp32",) * 3, 1e11, 0, activation=1e9),
        row("embed.tokens", "forward", ("bf16", "int64", "bf16"), 0, 0, activation=1e8),
        row("experts.dispatch", "communication", ("e4m3",), 0, 0, network=9e7, nvlink=2e8),
        row("experts.combine", "communication", ("bf16",), 0, 0, network=2e8, nvlink=4e8),
    ]
    return bill(Trace(rows), load_hardware("h800"))


def a_roofline(named: int = 10) -> Roofline:
    return Roofline(a_bill(), rates(load_hardware("h800")), named)


KV = {"MLA": 70_272, "MQA": 31_232, "GQA 8": 249_856, "a dense model, GQA 8": 516_096, "MHA": 3_997_696}
TRAINING = {"weights": 3 * GIGA, "gradients": 13 * GIGA, "optimiser": 3 * GIGA, "activations": 41 * GIGA}
BUDGETS = {
    "recomputed": TRAINING,
    "all kept": TRAINING | {"activations": 80 * GIGA},
    "scores too": TRAINING | {"activations": 280 * GIGA},
}
PICTURES: dict[str, RenderableType] = {
    "roofline": a_roofline(),
    "roofline_few": a_roofline(named=3),
    "waterfall": waterfall_of(a_bill()),
    "waterfall_beside": waterfall_of(a_bill(), overlap=True),
    "kv_growth": KVGrowth(KV, [1024, 4096, 131_072], 85 * GIGA, "memory of a GPU"),
    "memory_budget": MemoryBudget({"": TRAINING}, 85 * GIGA, "memory of a GPU"),
    "memory_budgets": MemoryBudget(BUDGETS, 85 * GIGA, "memory of a GPU"),
}


# ---- forms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PICTURES)
def test_golden(name: str, width: int) -> None:
    check_golden(GOLDEN, name, PICTURES[name], width)


@pytest.mark.parametrize("width", [40, 50, 72, *WIDTHS, 200])
@pytest.mark.parametrize("name", PICTURES)
def test_every_width_and_ascii(name: str, width: int) -> None:
    check_ascii(PICTURES[name], width)
    text = plain_text(PICTURES[name], width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


@pytest.mark.parametrize("name", PICTURES)
def test_svg(name: str) -> None:
    check_svg(PICTURES[name])


@pytest.mark.parametrize("colours", ["standard", "truecolor"])
@pytest.mark.parametrize("name", PICTURES)
def test_colour_says_nothing_that_the_characters_do_not(
    name: str, colours: Literal["standard", "truecolor"]
) -> None:
    file = io.StringIO()
    Console(file=file, width=80, force_terminal=True, color_system=colours, _environ={}).print(PICTURES[name])
    assert "\x1b[" in file.getvalue()
    lines = Text.from_ansi(file.getvalue()).plain.splitlines()
    assert "\n".join(line.rstrip() for line in lines).rstrip() == plain_text(PICTURES[name], 80)


@pytest.mark.parametrize("name", PICTURES)
def test_words_have_no_drawing(name: str) -> None:
    said = PICTURES[name].describe()  # type: ignore[union-attr]
    assert len(said.splitlines()) >= 2
    assert said.isascii()
    assert "  " not in said


# ---- the roofline -----------------------------------------------------------------------------------------


def test_points_are_the_bill_s_numbers() -> None:
    drawn = a_roofline()
    points = {(p.name, p.phase): p for p in drawn.points()}
    gate_up = points["experts.gate_up", "forward"]
    assert gate_up.intensity == 4e12 / 1.5e9
    assert gate_up.format == "fp8"
    assert gate_up.bound == "compute"
    assert gate_up.achieved == pytest.approx(gate_up.attainable) == drawn.rates.peaks["fp8"]
    norm = points["attn.norm", "forward"]
    assert (norm.intensity, norm.format, norm.bound) == (0.2, "fp32", "memory")
    assert norm.achieved == pytest.approx(0.2 * drawn.rates.memory)
    # an op that only looks up, and two that only send, are no points
    assert not {"embed.tokens", "experts.dispatch", "experts.combine"} & {name for name, _ in points}
    said = drawn.describe()
    assert "not drawn, because it only sends: 2 ops, 37% of the time" in said
    assert "not drawn, because it has no FLOPs or no bytes: 1 op, 0% of the time" in said


def test_letters_go_to_the_longest() -> None:
    seconds = [point.seconds for point in a_roofline().points()]
    assert seconds == sorted(seconds, reverse=True)
    assert [point.letter for point in a_roofline(named=3).points()][:5] == ["A", "B", "C", "", ""]


def test_a_ridge_is_peak_over_bandwidth() -> None:
    h800 = rates(load_hardware("h800"))
    ridges = dict(a_roofline().ridges())
    assert ridges["fp8",] == h800.peaks["fp8"] / h800.memory
    assert ridges["bf16", "fp16"] == h800.ridge("bf16")
    assert list(ridges.values()) == sorted(ridges.values(), reverse=True)


def test_equal_peaks_are_one_roof() -> None:
    assert list(roofs_of(rates(load_hardware("h800"))).values()) == [
        ("fp8",),
        ("bf16", "fp16"),
        ("tf32",),
        ("fp32",),
    ]


amounts = st.integers(0, 10**13)


@st.composite
def bills(draw: st.DrawFn) -> Bill:
    ops = ["experts.gate_up", "mla.out", "mla.scores", "attn.norm", "experts.swiglu"]
    rows = []
    for _ in range(draw(st.integers(1, 8))):
        formats = draw(st.sampled_from([FP8, BF16, ("fp32",) * 3]))
        phase = draw(st.sampled_from(["forward", "backward"]))
        moved = {"activation": draw(amounts), "weight": draw(amounts)}
        rows.append(row(draw(st.sampled_from(ops)), phase, formats, draw(amounts), draw(amounts), **moved))
    for op in draw(st.sets(st.sampled_from(["experts.dispatch", "experts.combine"]))):
        rows.append(row(op, "communication", ("bf16",), 0, 0, network=draw(amounts)))
    return bill(Trace(rows), load_hardware("h800"))


@settings(max_examples=40, deadline=None)
@given(bills(), st.sampled_from([40, 60, 80, 120]))
def test_no_op_is_above_its_roof(priced: Bill, width: int) -> None:
    drawn = Roofline(priced, rates(load_hardware("h800")))
    for point in drawn.points():
        assert point.achieved <= point.attainable * (1 + 1e-9)
    lines = plain_text(drawn, width).splitlines()
    assert max(map(len, lines)) <= width
    if points := drawn.points():
        grid = "".join(line.partition("┤")[2] or line.partition("│")[2] for line in lines)
        letters = [point.letter for point in points if point.letter]
        assert all(letter in grid for letter in letters), "each has a cell of its own"


def test_nothing_to_draw_is_said() -> None:
    empty = bill(Trace([]), load_hardware("h800"))
    assert "nothing to draw" in plain_text(Roofline(empty, rates(load_hardware("h800"))), 60)
    assert plain_text(waterfall_of(empty), 60) == "nothing takes any time"


def test_numbers_are_short() -> None:
    assert [per_byte(x) for x in (0.5, 295.22, 999.4, 1477.6)] == ["0.5", "295", "999", "1,478"]


# ---- the waterfall ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(bills(), st.booleans())
def test_no_second_is_lost(priced: Bill, overlap: bool) -> None:
    drawn = waterfall_of(priced, overlap)
    sent = sum(line.seconds for line in priced.lines if line.phase == "communication")
    assert sum(step.total for step in drawn.steps) == pytest.approx(priced.total.seconds)
    assert sum(drawn.amounts().values()) == pytest.approx(priced.total.seconds)
    rest = priced.total.seconds - sent
    if overlap and sent:
        assert drawn.total == pytest.approx(max(rest, sent))
        assert drawn.hidden == pytest.approx(min(rest, sent), abs=1e-12)
    else:
        assert drawn.total == pytest.approx(priced.total.seconds)


def test_what_is_hidden_is_said() -> None:
    compute = Step("experts", {"compute": 3.0})
    longer = Waterfall([compute, Step("combine", {"network": 4.0}, beside=True)])
    assert longer.communication() == "communication 4 s: 3 s hidden by computation, 1 s not"
    shorter = Waterfall([compute, Step("combine", {"network": 2.0}, beside=True)])
    assert shorter.communication() == "communication 2 s, all of it hidden by computation"
    after = Waterfall([compute, Step("combine", {"network": 2.0})])
    assert after.communication() == "communication 2 s, none of it hidden: nothing runs beside it"
    assert Waterfall([compute]).communication() == ""


def test_bars_follow_each_other_and_the_last_lane_begins_again() -> None:
    steps = [Step("one", {"compute": 2.0}), Step("two", {"memory": 2.0})]
    beside = Step("sent", {"network": 1.0}, beside=True)
    lines = plain_text(Waterfall([*steps, beside]), 80, ascii_only=True).splitlines()
    one, two, sent = (
        next(line for line in lines if line.startswith(name)) for name in ("one", "two", "sent")
    )
    assert two.index("=") == one.rindex("#", 0, one.index("2 s")) + 1
    assert sent.index("/") == one.index("#")


@pytest.mark.parametrize("overlap", [False, True])
def test_phases_follow_each_other_as_they_run(overlap: bool) -> None:
    rows = [
        row("experts.combine", "communication", ("bf16",), 0, 0, network=2e9),
        row("experts.gate_up", "backward", FP8, 8e12, 0),
        row("experts.gate_up", "forward", FP8, 4e12, 0),
    ]
    falls = waterfall_of(bill(Trace(rows), load_hardware("h800")), overlap, "phase").steps
    assert [step.name for step in falls] == ["forward", "backward", "combine"]
    assert falls[0].total < falls[1].total < falls[2].total


def test_small_steps_stand_together() -> None:
    rows = [row("experts.gate_up", "forward", FP8, 4e15, 0), row("attn.norm", "forward", BF16, 0, 1e9)]
    rows += [row("gate.logits", "forward", FP8, 1e9, 0)]
    drawn = waterfall_of(bill(Trace(rows), load_hardware("h800")))
    assert [step.name for step in drawn.steps] == ["experts", "2 others"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=6), st.sampled_from([40, 60, 80, 120]))
def test_a_waterfall_fits(seconds: list[float], width: int) -> None:
    steps = [
        Step(f"step {i}", {"compute": s / 2, "memory": s / 2}, beside=i % 3 == 2)
        for i, s in enumerate(seconds)
    ]
    check_ascii(Waterfall(steps), width)


# ---- axes -------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-9, 1e9), st.integers(1, 12))
def test_ticks_are_round_and_few(whole: float, most: int) -> None:
    found = ticks(whole, most)
    assert found[0] == 0
    assert found == sorted(set(found))
    assert found[-1] <= whole * (1 + 1e-9)
    assert len(found) <= most + 1
    assert len(found) >= 2 or most == 1


def test_a_ruler_s_labels_stand_over_their_ticks() -> None:
    labels, rule = ruler(40.0, 48, lambda amount: f"{amount:g}", plain=True)
    assert labels == "0          10          20          30"
    assert [i for i, c in enumerate(rule) if c == "+"] == [0, 12, 24, 36]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1.0, 80.0, 9e3]), st.floats(1, 1e4)), max_size=26))
def test_marks_never_share_a_cell(points: list[tuple[float, float]]) -> None:
    chart = Chart(LogScale(1, 1e4), LogScale(1, 1e4), 40, 14, plain=True)
    places = [chart.mark(x, y, "A", "") for x, y in points]
    assert len(set(places)) == len(places)
    assert all(0 <= r < 14 and 0 <= c < 40 for r, c in places)


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 1e6), st.floats(1.01, 1e6), st.floats(1e-3, 1e6), st.floats(1e-3, 1e6))
def test_a_logarithmic_scale_keeps_the_order(low: float, ratio: float, a: float, b: float) -> None:
    scale = LogScale(low, low * ratio)
    assume(a < b)
    assert scale.share(a) <= scale.share(b)
    assert scale.share(low) == 0
    assert scale.share(low * ratio) == pytest.approx(1)


def test_a_line_of_slope_one_has_no_gaps() -> None:
    chart = Chart(LogScale(1, 100), LogScale(1, 100), 30, 9, plain=False)
    chart.line([(1, 1), (100, 100)])
    drawn = [line.plain for line in chart.drawn(str, str)][:9]
    columns = {i for line in drawn for i, c in enumerate(line) if "⠁" <= c <= "⣿"}
    assert len(columns) == 30


# ---- KV growth and memory ---------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(100, 10**7), min_size=1, max_size=8), st.integers(10**9, 10**12))
def test_what_fits_is_the_last_that_does(each: list[int], capacity: int) -> None:
    drawn = KVGrowth({f"model {i}": n for i, n in enumerate(each)}, [1024, 4096], capacity)
    for name, n in drawn.models.items():
        assert drawn.fits(name) * n <= capacity < (drawn.fits(name) + 1) * n
    check_ascii(drawn, 60)


def test_the_longest_length_is_kept() -> None:
    drawn = KVGrowth(KV, [1024, 4096, 131_072], 85 * GIGA)
    assert [name for name in drawn.rows(200)[0] if name.startswith("at")] == ["at 1K", "at 4K", "at 128K"]
    assert [name for name in drawn.rows(66)[0] if name.startswith("at")] == ["at 128K"]
    assert drawn.rows(66)[0]["at 128K"] == "9.21 GB"
    assert "MLA: 70,272 bytes a token" in drawn.describe()
    assert "MHA: 3,997,696 bytes a token, 56.89 times MLA" in drawn.describe()


def test_lengths_are_written_as_people_say_them() -> None:
    assert [tokens(n) for n in (1000, 1024, 163_840, 2**20, 1_208_776)] == [
        "1,000",
        "1K",
        "160K",
        "1M",
        "1,208,776",
    ]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 10**12), min_size=1, max_size=9), min_size=1, max_size=3),
    st.integers(10**9, 10**12),
)
def test_together_and_free_are_the_capacity(amounts: list[list[int]], capacity: int) -> None:
    budgets = {f"way {i}": {f"part {j}": n for j, n in enumerate(row)} for i, row in enumerate(amounts)}
    drawn = MemoryBudget(budgets, capacity)
    for name in budgets:
        assert drawn.total(name) + drawn.free(name) == capacity
    check_ascii(drawn, 60)
    text = plain_text(drawn, 120)
    for name in budgets:
        assert (f"{name}: does not fit" in text) == (drawn.total(name) > capacity)


def test_a_bar_far_too_long_ends_in_an_arrow() -> None:
    bars = {
        line.split("  ")[0]: line for line in plain_text(PICTURES["memory_budgets"], 100).splitlines()[2:5]
    }
    assert bars["scores too"].endswith("»")
    assert "»" not in bars["recomputed"] + bars["all kept"]
    said = "the bar is longer than there is room: its bytes are in the table"
    assert f"» {said}" in plain_text(PICTURES["memory_budgets"], 100)
    assert f"> {said}" in plain_text(PICTURES["memory_budgets"], 100, ascii_only=True)
    assert said not in plain_text(PICTURES["memory_budget"], 100)  # nothing to explain
    ends = {line.index("┃") for line in bars.values()}
    assert len(ends) == 1
