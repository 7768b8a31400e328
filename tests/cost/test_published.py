"""Every figure of models and training is there, as printed, and comes out or is shown not to."""

import copy
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.cost import published
from minidsv3.cost.figures import KINDS, figures, groups, implied_tolerance, read_figures
from minidsv3.cost.published import Recomputed, calculator, choose, recompute
from minidsv3.hardware import hardware_names, load_hardware


@pytest.fixture(scope="module")
def found() -> dict[str, Recomputed]:
    return {id_: recompute(figure) for id_, figure in figures().items()}


# What papers and slides print of models and training, in their own digits: id -> (printed, verdict)
PRINTED = {
    # arXiv 2505.09343, Table 1
    "kv.v3": ("70.272 KB", "equal"),
    "kv.qwen": ("327.680 KB", "equal"),
    "kv.llama": ("516.096 KB", "equal"),
    "kv.ratio.qwen": ("4.66x", "equal"),
    "kv.ratio.llama": ("7.28x", "contradicts"),
    "kv.fp8.layer": ("656 B", "equal"),
    # Table 2
    "flops.v2": ("155 GFLOP", "equal"),
    "flops.v3": ("250 GFLOP", "equal"),
    "flops.qwen": ("394 GFLOP", "contradicts"),
    "flops.llama": ("2448 GFLOP", "contradicts"),
    "flops.saving": ("36 %", "contradicts"),
    # sizes
    "counts.v3": ("671B", "equal"),
    "counts.v3.active": ("37B", "equal"),
    "counts.v3.active.weights": ("36.7B", "contradicts"),
    "counts.mtp": ("14B", "equal"),
    "counts.mtp.weights": ("11.5B", "equal"),
    "counts.files": ("685B", "equal"),
    "counts.files.exact": ("684,531,386,000", "equal"),
    "counts.files.tensors": ("91,991", "equal"),
    "counts.files.bytes": ("688,574,839,360 B", "equal"),
    "counts.v2": ("236B", "equal"),
    "counts.v2.active": ("21B", "equal"),
    "counts.v2-lite": ("15.7B", "equal"),
    "counts.v2-lite.active": ("2.4B", "equal"),
    "counts.moonlight": ("15.29B", "equal"),
    "counts.moonlight.active": ("2.24B", "equal"),
    "counts.qwen": ("72.7B", "equal"),
    "counts.llama": ("405B", "equal"),
    # Table 4
    "table4.mpft.tokens": ("272.80B", "measured"),
    "table4.mrft.tokens": ("272.52B", "measured"),
    "table4.mpft.step": ("19.926 s", "equal"),
    "table4.mrft.step": ("19.946 s", "equal"),
    "table4.mpft.tflops.causal": ("385 TFLOPS", "equal"),
    "table4.mrft.tflops.causal": ("385 TFLOPS", "equal"),
    "table4.mpft.tflops.square": ("432 TFLOPS", "equal"),
    "table4.mrft.tflops.square": ("432 TFLOPS", "equal"),
    "table4.mpft.mfu.causal": ("38.94 %", "equal"),
    "table4.mrft.mfu.causal": ("38.90 %", "equal"),
    "table4.mpft.mfu.square": ("43.73 %", "equal"),
    "table4.mrft.mfu.square": ("43.68 %", "equal"),
    "table4.mpft.forward": ("1.13 s", "measured"),
    "table4.mrft.forward": ("1.13 s", "measured"),
    "table4.mpft.bubble": ("2.06 s", "measured"),
    "table4.mrft.bubble": ("2.03 s", "measured"),
    "table4.mpft.backward": ("1.99 s", "measured"),
    "table4.mrft.backward": ("1.99 s", "measured"),
    "table4.mpft.weights": ("0.48 s", "measured"),
    "table4.mrft.weights": ("0.48 s", "measured"),
    "table4.mpft.pairs": ("13.95 s", "measured"),
    "table4.mrft.pairs": ("14.00 s", "measured"),
    "table4.mpft.optimizer": ("0.29 s", "measured"),
    "table4.mrft.optimizer": ("0.31 s", "measured"),
    # DeepSeek-V3 report, Table 1
    "cost.price": ("$2/h", "constant"),
    "cost.hours.pretraining": ("2664K", "equal"),
    "cost.hours.context": ("119K", "constant"),
    "cost.hours.post": ("5K", "constant"),
    "cost.hours.all": ("2788K", "equal"),
    "cost.hours.trillion": ("180K", "equal"),
    "cost.days.trillion": ("3.7 days", "equal"),
    "cost.dollars.pretraining": ("$5.328M", "equal"),
    "cost.dollars.context": ("$0.238M", "equal"),
    "cost.dollars.post": ("$0.01M", "equal"),
    "cost.dollars.all": ("$5.576M", "equal"),
    "run.v3.tokens": ("14.8T", "constant"),
    "run.v3.sequences": ("15360", "constant"),
    "run.llama.hours": ("30.84M", "constant"),
    "run.llama.tokens": ("15.6T", "constant"),
    "run.llama.flops": ("3.8 x 10^25 FLOP", "equal"),
    # slides
    "slides.detailed": ("37.2 %", "contradicts"),
    "slides.attention.six": ("34 %", "contradicts"),
    "slides.attention.eight": ("43 %", "contradicts"),
    "slides.v3.six": ("32.96 %", "equal"),
    "slides.v3.eight": ("43.94 %", "equal"),
    "slides.llama.six": ("34.57 %", "equal"),
    "slides.llama.eight": ("46.09 %", "equal"),
    # machine and layout
    "cluster.gpus": ("2048", "constant"),
    "cluster.nodes": ("256", "equal"),
    "cluster.sms": ("132", "constant"),
    "cluster.sms.communication": ("20", "constant"),
    "cluster.sms.share": ("15 %", "equal"),
    "cluster.channels": ("10", "constant"),
    "cluster.nvlink.h800": ("400 GB/s", "constant"),
    "cluster.nvlink.h100": ("900 GB/s", "constant"),
    "cluster.nvlink.direction": ("200 GB/s", "equal"),
    "cluster.nvlink.usable": ("160 GB/s", "measured"),
    "cluster.nic.line": ("50 GB/s", "equal"),
    "cluster.nic.effective": ("40 GB/s", "measured"),
    "cluster.hbm": ("3.35 TB/s", "constant"),
    "cluster.bf16": ("990 TFLOPS", "constant"),
    "cluster.throttled": ("865 TFLOPS", "equal"),
    "cluster.clock": ("1.6 GHz", "measured"),
    "cluster.balance": ("128", "contradicts"),
    "cluster.flashmla.memory": ("3000 GB/s", "measured"),
    "cluster.flashmla.compute": ("660 TFLOPS", "measured"),
    "cluster.flashmla.first": ("580 TFLOPS", "measured"),
    "cluster.deepgemm": ("1550 TFLOPS", "measured"),
    "cluster.deepgemm.first": ("1350+ TFLOPS", "measured"),
    "cluster.memory": ("84,943,110,144 B", "measured"),
    "layout.pipeline": ("16", "constant"),
    "layout.experts": ("64", "constant"),
    "layout.nodes": ("8", "equal"),
    "profile.pair": ("129.0 ms", "measured"),
    "profile.compute": ("118.2 ms", "measured"),
    "profile.communication": ("114.5 ms", "measured"),
    "profile.ratio": ("1:1", "equal"),
}
# What follows from these and is printed nowhere: id -> its digits
OURS = {
    "kv.ratio.llama.right": "7.34x",
    "kv.mha": "3.998 MB",
    "kv.mha.ratio": "56.9x",
    "kv.fp8": "40,016 B",
    "flops.v2.exact": "155.0 GFLOP",
    "flops.v2.router": "155.3 GFLOP",
    "flops.v3.exact": "249.81 GFLOP",
    "flops.v3.router": "250.45 GFLOP",
    "flops.v3.square": "280.514 GFLOP",
    "flops.v3.upper": "30.7 GFLOP",
    "flops.v3.mtp": "10.2 GFLOP",
    "flops.v3.mtp.share": "4.1 %",
    "flops.qwen.rule": "444.9 GFLOP",
    "flops.qwen.six": "65.7B",
    "flops.qwen.conjecture": "393.9 GFLOP",
    "flops.llama.rule": "2473.2 GFLOP",
    "flops.llama.conjecture": "2447.9 GFLOP",
    "flops.ratio.llama": "9.8x",
    "counts.v3.exact": "671,026,419,200",
    "counts.v3.active.exact": "36,625,618,432",
    "counts.v3.active.all": "37,552,297,472",
    "counts.mtp.exact": "13,463,426,304",
    "counts.mtp.own": "11,610,068,224",
    "counts.moonlight.exact": "15,960,110,208",
    "run.v3.step": "62,914,560",
    "table4.more.tflops.causal": "385.1 TFLOPS",
    "table4.more.tflops.square": "432.5 TFLOPS",
    "table4.fp8.causal": "19.5 %",
    "table4.fp8.square": "21.9 %",
    "table4.closure": "38.98 %",
    "table4.mpft.sum": "19.90 s",
    "table4.mpft.rest": "0.026 s",
    "table4.mrft.sum": "19.94 s",
    "table4.mrft.rest": "0.006 s",
    "cost.days.trillion.table4": "3.67 days",
    "cost.days.pretraining": "54.2 days",
    "cost.days.all": "56.7 days",
    "slides.flops.extra": "0.0014 %",
    "slides.detailed.slip": "37.2 %",
    "slides.six.alone": "34.6 %",
    "slides.six.slip": "33.8 %",
    "slides.v3.six.right": "34.64 %",
    "slides.right": "38.98 %",
    "cluster.sms.back": "17.9 %",
    "cluster.sm.flops": "4094.2",
    "layout.experts.gpu": "4",
    "layout.pipelines": "128",
    "layout.sequences": "120",
    "layout.weights.routed": "0.639B",
    "layout.weights.rest": "0.954B",
    "layout.weights": "3.19B",
    "layout.weights.bytes": "3.2 GB",
    "dualpipe.count.forward": "23",
    "dualpipe.count.backward": "23",
    "dualpipe.count.input": "15",
    "dualpipe.count.weights": "15",
    "dualpipe.count.pairs": "97",
    "dualpipe.count.middle": "103",
    "dualpipe.forward": "49 ms",
    "dualpipe.input": "75 ms",
    "dualpipe.weights": "32 ms",
    "dualpipe.pair": "144 ms",
    "dualpipe.pair.middle": "135 ms",
    "dualpipe.bubble": "1.09 s",
    "profile.ratio.exact": "1.03:1",
}
# What contradicts its inputs, in the figure's unit
INSTEAD = {
    "kv.ratio.llama": 7.344,
    "flops.qwen": 444.856,
    "flops.llama": 2473.222,
    "flops.saving": 43.844,
    "counts.v3.active.weights": 37.552,
    "slides.detailed": 38.961,
    "slides.attention.six": 39.411,
    "slides.attention.eight": 50.952,
    "cluster.balance": 129.104,
}


# ---- what is there ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("id_", PRINTED)
def test_what_is_printed_is_there_in_its_own_digits(id_: str, found: dict[str, Recomputed]) -> None:
    printed, verdict = PRINTED[id_]
    assert (found[id_].figure.printed, found[id_].verdict) == (printed, verdict)
    assert not found[id_].figure.ours


def test_what_is_ours_says_so_and_comes_out(found: dict[str, Recomputed]) -> None:
    for id_, printed in OURS.items():
        one = found[id_]
        assert (one.figure.printed, one.verdict, one.figure.ours) == (printed, "equal", True), id_
        assert one.figure.source.startswith("ours")


def test_what_contradicts_its_inputs_is_shown_with_what_comes_out(found: dict[str, Recomputed]) -> None:
    for id_, instead in INSTEAD.items():
        one = found[id_]
        assert one.verdict == "contradicts"
        assert one.computed is not None
        assert one.figure.in_unit(one.computed) == pytest.approx(instead, abs=6e-4)
        assert one.figure.why
    models = {"kv", "flops", "counts", "run", "table4", "cost", "slides", "cluster", "layout", "dualpipe"}
    others = [
        id_ for id_, one in found.items() if one.verdict == "contradicts" and one.figure.group in models
    ]
    assert sorted(others) == sorted(INSTEAD)


def test_no_entry_is_tuned_to_its_figure() -> None:
    """The doubtful rows of a table take the very rule that gives the sound ones."""
    rule = figures()["flops.qwen.rule"]
    for id_ in ("flops.qwen", "flops.llama"):
        assert figures()[id_].calculation == rule.calculation
        assert set(figures()[id_].inputs) == {"config", "length"}
        assert figures()[id_].formula == figures()["flops.v3"].formula


def test_one_printed_figure_has_one_reading(found: dict[str, Recomputed]) -> None:
    """37B is rounded, so it leaves the embedding out; with it there is a figure of our own."""
    read = [one for one in found.values() if one.figure.printed == "37B" and one.verdict == "equal"]
    assert [(one.figure.id, one.figure.style) for one in read] == [("counts.v3.active", "rounded")]
    assert found["notes.experts.8"].figure.ours
    fourteen = found["counts.mtp"]
    assert fourteen.computed == figures()["counts.files"].si - figures()["counts.v3"].si
    assert not figures()["counts.mtp"].holds(found["counts.mtp.exact"].computed or 0)


def test_what_is_ours_is_printed_as_it_comes_out(found: dict[str, Recomputed]) -> None:
    """Nobody rounded these but us: no wording that would leave room."""
    assert {one.figure.style for one in found.values() if one.figure.ours} <= {"rounded", "exact"}


def test_no_printed_value_is_written_out_where_an_entry_has_it() -> None:
    """A large input is a reference, but for room of digits and the 72B of a model's name."""
    for figure in figures().values():
        for name, value in figure.inputs.items():
            for number in value if isinstance(value, list) else [value]:
                small = not isinstance(number, int | float) or number < 10_000
                assert small or name == "margins" or figure.id == "notes.six", (figure.id, number)


def test_every_entry_is_borne_out(found: dict[str, Recomputed]) -> None:
    assert [id_ for id_, one in found.items() if one.verdict == "differs"] == []


def test_at_least_seventy_published_figures_are_derived(found: dict[str, Recomputed]) -> None:
    derived = [one for one in found.values() if one.verdict == "equal" and not one.figure.ours]
    assert all(one.figure.kind == "derivable" and one.computed is not None for one in derived)
    assert len(derived) >= 70


def test_every_input_has_a_source(found: dict[str, Recomputed]) -> None:
    for id_, one in found.items():
        for given_ in one.sourced:
            assert given_.source, (id_, given_.name)
            assert given_.status, (id_, given_.name)


def test_no_number_of_a_machine_stands_in_an_entry() -> None:
    """An input that is a chip's is read from its file, or is a figure with a source of its own."""
    known = {
        q.si for name in hardware_names() for q in load_hardware(name).values.values() if q.unit != "name"
    }
    large = {number for number in known if isinstance(number, int | float) and number > 1024}
    for figure in figures().values():
        for value in figure.inputs.values():
            numbers = value if isinstance(value, list) else [value]
            assert not large & {n for n in numbers if isinstance(n, int | float)}, figure.id


def test_every_calculation_is_public_and_says_what_it_does() -> None:
    for name in {figure.calculation for figure in figures().values() if figure.calculation}:
        assert (calculator(name).__doc__ or "").strip(), name


def test_groups_are_all_used_and_kinds_known() -> None:
    assert set(groups()) == {figure.group for figure in figures().values()}
    assert {figure.kind for figure in figures().values()} == set(KINDS)


def test_all_of_it_is_json(found: dict[str, Recomputed]) -> None:
    said = json.loads(json.dumps([one.to_dict() for one in found.values()], allow_nan=False))
    mfu = next(one for one in said if one["id"] == "table4.mpft.mfu.causal")
    assert mfu["verdict"] == "equal"
    assert mfu["computed"] == pytest.approx(38.9418, abs=1e-4)
    assert [given_["name"] for given_ in mfu["inputs"]] == [
        "flops_per_token",
        "tokens_per_second",
        "gpus",
        "peak",
    ]


# ---- digits -----------------------------------------------------------------------------------------------

numbers = st.decimals(min_value=Decimal("0.001"), max_value=Decimal("99999"), allow_nan=False, places=4)


@settings(max_examples=60, deadline=None)
@given(numbers, st.integers(0, 3), st.sampled_from(["rounded", "cut", "up"]))
def test_a_number_holds_for_what_it_is_printed_as(number: Decimal, places: int, style: str) -> None:
    mode = {"rounded": "ROUND_HALF_EVEN", "cut": "ROUND_DOWN", "up": "ROUND_UP"}[style]
    unit = Decimal(1).scaleb(-places)
    printed = number.quantize(unit, rounding=mode)
    figure = _figures(
        printed=f"about {printed} B", value=float(printed), style=style, tolerance=_room(unit, style)
    )
    assert figure.holds(float(number))
    assert not figure.holds(float(number) + 1.01 * float(unit))
    assert not figure.holds(float(number) - 1.01 * float(unit))


def _room(unit: Decimal, style: str) -> float:
    return float(unit / 2 if style == "rounded" else unit)


@pytest.mark.parametrize(
    ("printed", "value", "style", "tolerance"),
    [
        ("70.272 KB", 70.272, "rounded", 0.0005),
        ("$5.576M", 5.576, "rounded", 0.0005),
        ("2,048", 2048, "exact", 0.0),
        ("67 tokens/s", 67, "cut", 1.0),
        ("13", 13, "up", 1.0),
        ("85-90 %", 87.5, "between", 2.5),
        ("about 1200", 1200, "about", None),
        ("272.80B", 272.8, "rounded", 0.005),
    ],
)
def test_the_tolerance_is_what_the_digits_imply(
    printed: str, value: float, style: str, tolerance: float | None
) -> None:
    assert implied_tolerance(printed, value, style) == tolerance


def test_a_count_to_the_unit_holds_for_no_other() -> None:
    """However long it is: 671,026,419,200 parameters are not one more."""
    counts = [f for f in figures().values() if f.style == "exact" and f.unit and f.unit.size == 1 and f.value]
    assert max(figure.si for figure in counts) > 1e11
    for figure in counts:
        assert figure.holds(figure.si)
        assert not figure.holds(figure.si + 1), figure.id


# ---- verdicts ---------------------------------------------------------------------------------------------

ENTRY: dict[str, Any] = {
    "title": "a size",
    "kind": "derivable",
    "source": "a paper",
    "printed": "3 B",
    "value": 3,
    "unit": "B",
    "style": "rounded",
    "tolerance": 0.5,
    "calculation": "arithmetic.total",
    "inputs": {"terms": [1, 2]},
    "formula": "1 + 2",
}


def _figures(**changes: Any) -> Any:
    return read_figures(_table(**changes))["a.size"]


def _table(**changes: Any) -> dict[str, Any]:
    entry = {key: value for key, value in (ENTRY | changes).items() if value is not None}
    return {"groups": {"a": "things"}, "units": {"KB": [1000, "B"]}, "figure": {"a.size": entry}}


def test_verdicts_follow_kind_and_arithmetic() -> None:
    off = {"inputs": {"terms": [1, 4]}}
    assert recompute(_figures()).verdict == "equal"
    assert recompute(_figures(**off)).verdict == "differs"
    assert recompute(_figures(kind="contradicts", why="5", **off)).verdict == "contradicts"
    assert recompute(_figures(kind="contradicts", why="5")).verdict == "differs"  # it agrees after all
    taken = dict.fromkeys(("calculation", "inputs", "formula", "style", "tolerance"))
    assert recompute(_figures(kind="measured", **{**taken, "inputs": {}})).verdict == "measured"
    claim = {**dict.fromkeys((*taken, "printed", "value", "unit")), "inputs": {}}
    said = recompute(_figures(kind="contradicts", says="four", correct="three", **claim))
    assert (said.verdict, said.computed, said.text) == ("corrected", None, "")


def test_what_is_computed_is_told_in_the_figures_unit() -> None:
    one = recompute(_figures(printed="3 KB", unit="KB", inputs={"terms": [1000, 2040]}))
    assert (one.verdict, one.text, one.to_dict()["computed"]) == ("equal", "3.04", 3.04)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tolerence": 1}, "unknown field 'tolerence'; did you mean 'tolerance'?"),
        ({"source": " "}, "source: expected a non-empty text"),
        ({"source": None}, "missing field 'source'"),
        ({"kind": "derived"}, "kind: expected derivable | constant | measured | contradicts, got 'derived'"),
        ({"unit": "GB/S"}, "unit: expected a known unit, got 'GB/S': did you mean 'GB/s'?"),
        ({"value": "3"}, "value: expected a number, got '3'"),
        ({"inputs": [1, 2]}, "inputs: expected a table, got [1, 2]"),
        ({"ours": 1}, "ours: expected true or false, got 1"),
        ({"value": 4}, "value: expected a value among the digits of '3 B', got 4"),
        ({"tolerance": 0.6}, "tolerance: expected 0.5, which '3 B' implies, got 0.6"),
        ({"tolerance": None}, "tolerance: expected one for kind 'derivable', got none"),
        ({"style": "about", "tolerance": None}, "tolerance: expected one"),
        ({"style": "nearest"}, "style: expected exact | rounded"),
        ({"calculation": "sum"}, "calculation: expected module.function, got 'sum'"),
        ({"formula": None}, "formula: expected one"),
        ({"kind": "contradicts"}, "why: expected one"),
        ({"inputs": {"terms": ["figure:a.siz"]}}, "inputs: expected a figure, got 'a.siz': did you mean"),
        ({"inputs": {"terms": ["figure:a.size"]}}, "expected inputs without the figure itself"),
        ({"inputs": {"terms": ["computed:a.size"]}}, "expected inputs without the figure itself"),
    ],
)
def test_an_entry_that_does_not_check_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"published\.toml: a\.size: ") as error:
        _figures(**changes)
    assert said in str(error.value)


def test_circles_are_refused() -> None:
    table = _table(inputs={"terms": ["computed:a.other"]})
    table["figure"]["a.other"] = ENTRY | {"inputs": {"terms": ["figure:a.size"]}}
    with pytest.raises(ValueError, match="expected inputs without the figure itself"):
        read_figures(table)
    table = copy.deepcopy(table)
    table["figure"]["a.other"]["inputs"]["terms"] = ["computed:a.third"]
    table["figure"]["a.third"] = ENTRY | {"inputs": {"terms": ["computed:a.other"]}}
    with pytest.raises(
        ValueError, match=r"a\.other: expected inputs without|expected inputs without a circle"
    ):
        read_figures(table)


def test_an_id_belongs_to_a_group() -> None:
    with pytest.raises(ValueError, match="expected an id whose first part is a group"):
        read_figures(_table() | {"groups": {"b": "other things"}})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"calculation": "arithmetic.sum"}, "expected a function of arithmetic, got 'sum'"),
        ({"calculation": "adding.total"}, "expected a module of minidsv3.cost, got 'adding'"),
        ({"inputs": {"term": 1}}, "unexpected keyword argument 'term'"),
        ({"inputs": {"terms": ["model:v9:dim"]}}, "expected a preset, got 'v9'"),
        ({"inputs": {"terms": ["model:v3:dimm"]}}, "expected a field of ModelConfig, got 'dimm'"),
        ({"inputs": {"terms": ["dense:qwen"]}}, "expected a dense model, got 'qwen'"),
        ({"inputs": {"terms": ["run:v3:gpu"]}}, "expected a number, got 'gpu': did you mean 'gpus'?"),
        ({"inputs": {"terms": ["run:v4:gpus"]}}, "expected a training run, got 'v4'"),
        ({"inputs": {"terms": ["hardware:h800:chip.hbm.band"]}}, "unknown key 'chip.hbm.band'"),
        ({"inputs": {"terms": ["computed:table4.peak"]}}, "expected a figure, got 'table4.peak'"),
    ],
)
def test_what_cannot_be_computed_names_the_entry(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"published\.toml: a\.size: ") as error:
        recompute(_figures(**changes))
    assert said in str(error.value)


def test_inputs_are_found_wherever_they_lie() -> None:
    terms = ["model:v3:n_layers", "dense:qwen2.5-72b:n_layers", "run:v3:gpus", "hardware:h800:node.gpus"]
    one = recompute(_figures(printed="2197 B", value=2197, inputs={"terms": terms}))
    assert one.computed == 61 + 80 + 2048 + 8
    assert [leaf.name for leaf in one.sourced] == [f"terms[{i}]" for i in range(4)]
    assert one.sourced[3].status == "report"
    whole = published._input("config", "run:v3")
    assert "arXiv 2412.19437" in whole.source


def test_figures_are_chosen_by_id_and_by_first_parts() -> None:
    assert [figure.id for figure in choose(["kv.v3"])] == ["kv.v3"]
    assert [figure.id for figure in choose(["kv.v3", "kv.v3"])] == ["kv.v3"]
    assert {figure.group for figure in choose(["kv", "cost"])} == {"kv", "cost"}
    assert "kv.v3" not in [figure.id for figure in choose(["kv.ratio"])]
    assert {figure.kind for figure in choose([], "measured")} == {"measured"}
    assert len(choose([])) == len(figures())
    with pytest.raises(
        ValueError, match=r"expected a figure, the first part of some, or .*, got 'kv.v4': did you"
    ):
        choose(["kv.v4"])


def test_figures_are_found_by_a_word() -> None:
    """In ids, titles and printed digits, in any case; first parts of ids come before all that."""
    mfu = choose(["mfu"])
    assert choose(["MFU"]) == mfu
    assert {"table4.mpft.mfu.causal", "table4.mrft.mfu.square"} <= {figure.id for figure in mfu}
    assert "kv.ratio.llama" in [figure.id for figure in choose(["7.28"])]
    assert {figure.group for figure in choose(["kv"])} == {"kv"}
    assert any(figure.group != "kv" for figure in choose(["cache"]))
    assert all(figure.kind == "contradicts" for figure in choose(["llama"], "contradicts"))


# what the papers say of the H800, and where its file says the same
OF_THE_H800 = {
    "table4.peak": "chip.peak.bf16",
    "cluster.sms": "chip.sm.count",
    "cluster.sms.communication": "chip.sm.communication",
    "cluster.node": "node.gpus",
    "cluster.nics": "node.nics",
    "cluster.nic.storage": "node.storage_nics",
    "cluster.nvlink.h800": "node.nvlink.both_directions",
    "cluster.nvlink.direction": "node.nvlink.one_direction",
    "cluster.nvlink.usable": "node.nvlink.usable",
    "cluster.nic.line": "fabric.line",
    "cluster.nic.effective": "fabric.effective",
    "cluster.hbm": "chip.hbm.bandwidth",
    "cluster.memory": "chip.hbm.capacity",
    "cluster.clock": "chip.clock.throttled",
    "cluster.throttled": "chip.peak.bf16_throttled",
    "cost.price": "price.gpu_hour",
}


@pytest.mark.parametrize("id_", OF_THE_H800)
def test_the_hardware_file_says_what_the_papers_say(id_: str) -> None:
    assert figures()[id_].si == pytest.approx(load_hardware("h800")[OF_THE_H800[id_]].si)
