"""Changes of rows never raise what they promise to lower; scenarios come out where the papers say."""

import dataclasses
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.config import ModelConfig, TrainConfig
from minidsv3.cost.claims import accumulation_error
from minidsv3.cost.deployment import alone, load_deployment, with_fields
from minidsv3.cost.phase_bill import phase_bill, price
from minidsv3.cost.row_changes import READERS, operand_bytes, partial_sums
from minidsv3.cost.rows import rows_of
from minidsv3.cost.scenarios import (
    CHANGES,
    TODAY,
    beyond,
    changed_sums,
    read_scenario,
    scenario_named,
    scenario_names,
    what_if,
)
from minidsv3.cost.what_if import Comparison, Effect, compare, effects, unread
from minidsv3.cost.wire_changes import BACK, OUT, carries
from minidsv3.cost.wish_figures import ERRORS, MEASURES, measure_named
from minidsv3.hardware import load_hardware, with_values
from minidsv3.machine import Machine, Row, Trace, catalogue
from minidsv3.machine.catalogue import primitives
from minidsv3.machine.operands import Stored

V3, H800 = ModelConfig.preset("v3"), load_hardware("h800")
UNDONE = {"scale_inside_tensor_core": "promote_partial_sums", "forward_in_hardware": "stage_forwarding"}


@lru_cache
def priced(name: str) -> Comparison:
    return what_if(V3, name)


@lru_cache
def rows(name: str) -> Trace:
    return rows_of(V3, load_deployment(name))


@lru_cache
def recorded() -> Trace:
    """A training step that really ran, in FP8."""
    from minidsv3.training import Trainer

    config = ModelConfig.preset("nano")
    plan = TrainConfig.preset("nano", seq_len=64, precision="fp8", batch_sequences=1)
    plan = dataclasses.replace(plan, steps=1, ramp_steps=0, warmup_steps=0)
    stream = np.random.default_rng(0).integers(0, config.vocab_size, 65, dtype=np.int32)
    machine = Machine(H800, "fp8", trace=True)
    Trainer(config, plan, stream).step(machine)
    return machine.trace


def catalogue_vector_flops() -> int:
    """Of a value that is quantised."""
    return primitives()["quantise"].vector


def check_lighter(before: Trace, after: Trace) -> None:
    assert after.matrix_flops == before.matrix_flops
    assert after.vector_flops <= before.vector_flops
    assert set(after.bytes) <= set(before.bytes)
    assert all(n <= before.bytes[kind] for kind, n in after.bytes.items())
    assert all(n >= 0 for row in after for n in row.bytes.values())


# ---- changes of rows --------------------------------------------------------------------------------------

DEPLOYMENTS = st.builds(
    lambda name, precision, ranks, length, sequences, mtp: with_fields(
        load_deployment(name),
        {
            "precision": precision,
            "expert_parallel": ranks,
            "redundant_experts": 0,
            "shared_as_routed": False,
            "length": length,
            "sequences": 2 * sequences,
            "mtp": mtp,
        },
    ),
    st.sampled_from(["train", "prefill", "decode", "decode-production"]),
    st.sampled_from(["fp8", "bf16", "fp8-per-tensor", "fp8-logfmt10"]),
    st.sampled_from([1, 8, 16, 64]),
    st.integers(2, 300),
    st.integers(1, 3),
    st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(CHANGES)), DEPLOYMENTS)
def test_no_change_raises_bytes_or_touches_products(name: str, deployment: object) -> None:
    before = rows_of(V3, deployment)  # type: ignore[arg-type]
    after = CHANGES[name](before)
    check_lighter(before, after)
    check_lighter(after, CHANGES[name](after))  # and once more


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_recorded_trace_gets_lighter_too(name: str) -> None:
    check_lighter(recorded(), CHANGES[name](recorded()))


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_rows_of_a_laptop_stay_as_they_are(name: str) -> None:
    """Nothing is FP8 there, and nothing leaves the machine."""
    plain = rows_of(ModelConfig.preset("nano"), alone("train", 1, 40, precision="fp32"))
    assert CHANGES[name](plain) == plain


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(sorted(UNDONE)), DEPLOYMENTS)
def test_what_today_adds_a_wish_takes_away(wish: str, deployment: object) -> None:
    before = rows_of(V3, deployment)  # type: ignore[arg-type]
    visible = TODAY[UNDONE[wish]](before)
    check_lighter(visible, before)
    back = CHANGES[wish](visible)
    assert (back.bytes.get("activation"), back.vector_flops) == (
        before.bytes.get("activation"),
        before.vector_flops,
    )


@pytest.mark.parametrize("first", ["fuse_quantisation", "cast_near_memory"])
def test_turning_and_casting_do_not_meet(first: str) -> None:
    """Together they save what each saves alone: one is about x, the other about everything else."""
    train, one, other = rows("train"), CHANGES[first], CHANGES["transposed_reads"]
    saved = [train.bytes["activation"] - change(train).bytes["activation"] for change in (one, other)]
    both = [other(one(train)), one(other(train))]
    assert both[0].bytes == both[1].bytes
    assert train.bytes["activation"] - both[0].bytes["activation"] == sum(saved)
    assert not [row for row in both[0] if row.direction == "quantise"]


def test_the_turning_pass_is_what_a_trace_shows() -> None:
    """x read, x turned written, and Wgrad then reads the forward's copy: E5M6 in front of W_O."""
    before, after = recorded(), CHANGES["transposed_reads"](recorded())
    turns = [row for row in before if row.direction == "quantise"]
    saved = sum(operand_bytes(row, 1) + operand_bytes(row, 4) for row in turns)
    more = 0
    for row, turn in ((row, turn) for row in before for turn in turns if row.direction == "wgrad"):
        if (row.op, row.layer, row.expert) == (turn.op, turn.layer, turn.expert):
            kept = Stored(turn.formats[1], turn.blocks[1])
            more += kept.nbytes(row.shapes[1]) - operand_bytes(row, 1)
    assert before.bytes["activation"] - after.bytes["activation"] == saved - more
    each = catalogue_vector_flops() * sum(int(np.prod(row.shapes[1])) for row in turns)
    assert before.vector_flops - after.vector_flops == each


def test_every_pass_of_quantisation_has_readers() -> None:
    ops = catalogue()
    passes = {name for name, op in ops.items() if op.primitive == "quantise"}
    assert set(READERS) == passes
    assert {reader for readers in READERS.values() for reader in readers} <= set(ops)


def test_partial_sums_are_counted_by_stretches_of_k() -> None:
    def product(K: int, first: str = "e4m3") -> Row:
        shapes, blocks = ((3, K), (5, K), (3, 5)), ((1, 128), (128, 128), None)
        formats, flops = (first, first, "bf16"), 2 * 3 * 5 * K
        return Row("mla.out", "forward", shapes=shapes, formats=formats, blocks=blocks, matrix_flops=flops)

    assert [partial_sums(product(K)) for K in (1, 128, 129, 4096)] == [15, 15, 30, 15 * 32]
    assert partial_sums(product(256, "bf16")) == 0
    assert partial_sums(dataclasses.replace(product(256), matrix_flops=0)) == 0


def test_directions_of_an_exchange() -> None:
    found = {(row.op, row.direction): carries(row) for row in rows("train") if carries(row)}
    assert found == {
        ("experts.dispatch", "fprop"): OUT,
        ("experts.combine", "fprop"): BACK,
        ("experts.dispatch", "dgrad"): BACK,
        ("experts.combine", "dgrad"): OUT,
    }
    assert carries(Row("experts.dispatch", "forward")) == ""


def test_a_card_waits_for_its_busier_direction() -> None:
    """Dispatch 3.5 x 1 B, combine 3.5 x 2 B: one way alone changes nothing, both leave 1 + 7 of 10.5."""
    network = {name: CHANGES[name](rows("prefill")).bytes["network"] for name in CHANGES}
    whole = rows("prefill").bytes["network"]
    assert network["multicast"] == network["reduce_in_network"] == whole
    out, back = ([row for row in rows("prefill") if carries(row) == way] for way in (OUT, BACK))
    once = sum(row.times * operand_bytes(row, 0) for row in out)
    assert network["multicast_and_reduce"] == once + Trace(back).bytes["network"] < whole


# ---- comparisons ------------------------------------------------------------------------------------------


def test_effects_of_both_sides() -> None:
    before, after = {"a": (2.0, "s"), "b": (1.0, "B")}, {"a": (1.0, "s"), "c": (3.0, "B")}
    found = {effect.name: effect for effect in effects(before, after)}
    assert found["a"].ratio == 0.5
    assert found["b"].after == 0
    assert found["c"].ratio is None
    assert found["c"].changed
    assert not Effect("x", "s", 0.1 + 0.2, 0.3).changed


def test_a_comparison_is_the_two_bills() -> None:
    before, after = phase_bill(V3, H800, "decode"), phase_bill(V3, H800, "decode-production")
    both = compare(before, after)
    assert both["seconds"] == Effect("seconds", "s", before.seconds, after.seconds)
    assert both["HBM, cache"].after == after.bill.total.bytes["kv"]
    parts = {effect.name: effect.before for effect in both.parts}
    assert sum(parts.values()) == pytest.approx(before.serial_seconds)
    assert parts["dispatch"] + parts["combine"] == pytest.approx(before.communication_seconds)
    with pytest.raises(ValueError, match="did you mean 'seconds'"):
        both["second"]


@pytest.mark.parametrize("path", [*H800.values, "chip.peak.fp4", "node.gpus"])
@pytest.mark.parametrize("phase", ["train", "decode"])
def test_what_no_price_reads_changes_nothing(path: str, phase: str) -> None:
    """And of what is read the bill says nothing of the kind."""
    before = phase_bill(V3, H800, phase)
    if not unread([path], before):
        assert path in before.rates.values or path.startswith(
            ("tensor_core.", "node.", "price.", "chip.hbm.")
        )
        return
    value = H800.values.get(path)
    changed = {path: f"{2 * value.value}{value.unit}" if value else "9PFLOPS"}
    after = phase_bill(V3, with_values(H800, changed), phase)
    assert not [effect for effect in compare(before, after) if effect.changed]


def test_bytes_do_not_depend_on_rates() -> None:
    for name in ("stacked-dram", "line-rate", "nvlink-900", "co-processor"):
        for effect in priced(name).totals:
            assert not (effect.unit in ("B", "FLOP") and effect.changed), (name, effect)
        seconds = priced(name)["seconds"]
        assert seconds.after < seconds.before or not seconds.changed


# ---- scenarios --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", scenario_names())
def test_every_wish_makes_a_difference_and_has_words(name: str) -> None:
    scenario, found = scenario_named(name), priced(name)
    assert any(effect.changed for effect in found), name
    assert "arXiv" in scenario.source or scenario.source.startswith("ours")
    assert found.before.deployment.phase == load_deployment(scenario.deployment).phase
    assert scenario.measure or scenario.set, "something must be there to see"


# what-ifs with an answer that can be checked by hand; name of effect, before, after
CHECKABLE = {
    "co-processor": ("SMs that compute", 112, 132),
    "scale-up-72": ("time of a token, bound by its exchange", 14.75712e-3, 2.915e-3),
    "logfmt": ("time of a token, bound by its exchange", 14.75712e-3, 11.2216e-3),
    "fp8-combine": ("time of a token, bound by its exchange", 14.75712e-3, 9.83808e-3),
    "in-network-multicast": ("dispatch: copies of a token sent", 3.46, 1),
    "in-network-reduction": ("combine: copies received", 3.46, 1),
    "no-node-limit": ("dispatch: copies of a token sent", 3.46, 5.294678 * 7 / 8),
    "switches-128": ("endpoints of all planes", 16_384, 65_536),
    "roce-latency": ("latency of a token", 4 * 61 * 5.6e-6, 4 * 61 * 3.7e-6),
    "memory-ordering": ("latency of a token", 3 * 4 * 61 * 3.7e-6, 4 * 61 * 3.7e-6),
    "fused-cast": ("of a value that one product reads", 4.0625, 2),
    "near-memory-cast": ("of a value that one product reads", 4.0625, 1.03125),
    "nic-in-io-die": ("link to the host, left", 14e9, 64e9),
    "transposed-reads": ("values changed by turning, FP32 scales", 0.99, 0),
    "line-rate": ("network busy", 1, 0.8),
}


@pytest.mark.parametrize("name", CHECKABLE)
def test_answers_that_can_be_checked(name: str) -> None:
    effect_name, before, after = CHECKABLE[name]
    effect = priced(name)[effect_name]
    whole = effect.before if name == "line-rate" else 1
    assert effect.before / whole == pytest.approx(before, rel=5e-3)
    assert effect.after / whole == pytest.approx(after, rel=5e-3)


def test_sms_given_back_are_18_percent_of_computing() -> None:
    found = priced("co-processor")
    assert found["FP8 rate they reach"].ratio == pytest.approx(132 / 112)
    assert 112 / 132 <= found["computing"].ratio <= 1
    for effect in found.totals:  # rows are the same ones
        assert effect.unit not in ("B", "FLOP") or not effect.changed


def test_accumulation_is_measured_on_each_sides_unit() -> None:
    errors = {effect.name: effect for effect in priced("fp32-accumulation").errors}
    alone_ = errors["K = 4096, uniform [0, 1), one accumulator: median error"]
    promoted = errors["K = 4096, uniform [0, 1), promoted every 128: median error"]
    assert alone_.before == pytest.approx(0.0745, abs=0.001)
    assert promoted.before == pytest.approx(0.00055, abs=0.00002)
    assert alone_.after < promoted.before / 100
    assert priced("fp32-accumulation").after.bill.total == priced("fp32-accumulation").before.bill.total


def test_sums_of_a_changed_tensor_core() -> None:
    """Only of units that differ, in every format that does."""
    assert changed_sums(H800, with_values(H800, {"chip.hbm.bandwidth": "8TB/s"})) == ()
    wider = {"tensor_core.fp8.fraction_bits": "25", "tensor_core.fp8.output_fraction_bits": "23"}
    found = {effect.name: effect for effect in changed_sums(H800, with_values(H800, wider))}
    assert all(name.startswith("fp8: ") for name in found)
    today = priced("fp32-accumulation").errors
    assert [(e.before, e.after) for e in found.values()] == [(e.before, e.after) for e in today]
    both = changed_sums(H800, with_values(H800, wider | {"tensor_core.bf16.fraction_bits": "13"}))
    worse = next(e for e in both if e.name.startswith("bf16: ") and "uniform" in e.name)
    assert worse.after > worse.before


def test_errors_of_formats() -> None:
    logfmt, fp8 = (priced(name)["relative RMS error, Gaussian tiles"] for name in ("logfmt", "fp8-combine"))
    assert logfmt.before == fp8.before == pytest.approx(0.00166, rel=0.02)
    assert (logfmt.after, fp8.after) == (pytest.approx(0.00349, rel=0.02), pytest.approx(0.0257, rel=0.02))
    fp4 = priced("fp4-weights")["weights: relative RMS error"]
    assert fp4.before == pytest.approx(0.0264, rel=0.02)
    assert fp4.after > 3 * fp4.before
    both = priced("fp4-products")["product, K = 1024: relative RMS error"]
    assert both.after > priced("fp4-weights")["product, K = 1024: relative RMS error"].after


def test_a_wish_for_the_network_leaves_the_chip_alone() -> None:
    """Of a larger NVLink domain only the exchange gains; the rack as it is sold brings other chips too."""
    wish, rack = priced("scale-up-72"), priced("gb200-rack")
    exchange = {"communicating", "network", "NVLink", "dispatch", "combine"}
    assert {effect.name for effect in (*wish.totals, *wish.parts) if effect.changed} == exchange
    assert wish["communicating"].after == wish["NVLink"].after / 720e9
    assert wish["network"].after == 0
    assert all(path.startswith("node.") for path in scenario_named("scale-up-72").set)
    assert rack["communicating"].after == wish["communicating"].after
    assert rack["attention"].after < rack["attention"].before == wish["attention"].after


def test_what_makes_a_phase_slower_is_no_wish() -> None:
    """It is a price, and says so."""
    seconds = {name: priced(name)["seconds"] for name in scenario_names()}
    slower = [name for name, effect in seconds.items() if effect.changed and effect.after > effect.before]
    assert slower == ["no-node-limit"]
    assert "price" in scenario_named("no-node-limit").title
    assert scenario_named("no-node-limit").wish.startswith("none")


def test_figures_and_what_ifs_measure_sums_alike() -> None:
    errors = {effect.name: effect.before for effect in priced("fp32-accumulation").errors}
    for interval, how in ((0, "one accumulator"), (128, "promoted every 128")):
        said = errors[f"K = 4096, uniform [0, 1), {how}: median error"]
        assert accumulation_error(H800, 4096, interval) == said


def test_group_scaling_takes_the_promotion_away() -> None:
    found = priced("group-scaling")
    sums = sum(row.times * partial_sums(row) for row in rows("train"))
    assert found["vector FLOPs"].before - found["vector FLOPs"].after == 2 * sums
    carried = found["partial sums out of the tensor core"]
    assert (carried.before, carried.after) == (4 * sums, 0)
    assert found["matrix FLOPs"].ratio == 1


def test_fp4_weights_take_nine_sixteenths() -> None:
    before, after = rows("decode"), CHANGES["fp4_weights"](rows("decode"))
    for old, new in zip(before, after, strict=True):
        if old.bytes.get("weight") != new.bytes.get("weight"):
            assert new.bytes["weight"] == np.prod(old.shapes[1]) * 9 / 16
            assert old.formats[1] == "e4m3"


def test_a_scenario_may_be_asked_of_others() -> None:
    layout = with_fields(load_deployment("train"), {"expert_parallel": 32})
    v2 = what_if(ModelConfig.preset("v2"), "transposed-reads", load_hardware("h100"), layout)
    assert v2["HBM, activations"].after < v2["HBM, activations"].before
    own = with_values(H800, {"fabric.effective": "20GB/s"})
    assert what_if(V3, "line-rate", own)["network busy"].ratio == pytest.approx(0.4)
    with pytest.raises(ValueError, match="exchange between GPUs"):
        what_if(V3, "logfmt", deployment=alone("prefill", 1, 64, precision="fp8"))


BAD: dict[str, tuple[dict[str, object], str]] = {
    "unknown key": ({"sets": {}}, "unknown key 'sets'.*did you mean 'set'"),
    "unknown change": ({"change": ["multicasts"]}, "did you mean 'multicast'"),
    "change of today": ({"change": ["stage_forwarding"]}, "expected a change of rows"),
    "unknown measure": ({"measure": ["copy"]}, "measure: expected a measure, got 'copy'"),
    "not a list": ({"change": "multicast"}, "change: expected a list of names"),
    "not a table": ({"set": "chip.hbm.bandwidth=8TB/s"}, "set: expected a table"),
    "no source": ({"source": " "}, "expected a non-empty source"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_scenarios_are_named(case: str) -> None:
    good = {"title": "t", "wish": "w", "source": "s", "deployment": "train"}
    read_scenario("mine", good)
    more, message = BAD[case]
    with pytest.raises(ValueError, match=f"scenario mine: .*{message}"):
        read_scenario("mine", good | more)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="scenario mine: expected a wish, got none"):
        read_scenario("mine", {"title": "t", "source": "s", "deployment": "train"})
    with pytest.raises(ValueError, match="did you mean 'logfmt'"):
        scenario_named("logfm")
    with pytest.raises(ValueError, match="did you mean 'copies'"):
        measure_named("copie")
    table = {"title": "t", "wish": "w", "source": "s", "deployment": "train"}
    with pytest.raises(
        ValueError, match=r"unknown key 'chip.hbm.bandwith'.*did you mean 'chip.hbm.bandwidth'"
    ):
        what_if(V3, read_scenario("mine", table | {"set": {"chip.hbm.bandwith": "8TB/s"}}))
    with pytest.raises(ValueError, match="expected an input 'k'"):
        what_if(V3, read_scenario("mine", table | {"measure": ["accumulation"]}))
    with pytest.raises(ValueError, match="unknown field 'experts_parallel'"):
        what_if(V3, read_scenario("mine", table | {"given": {"experts_parallel": 8}}))


def test_every_change_and_measure_is_somebodys_wish() -> None:
    scenarios = [scenario_named(name) for name in scenario_names()]
    assert {name for one in scenarios for name in one.change} == set(CHANGES)
    assert {name for one in scenarios for name in one.today} == set(TODAY)
    assert {name for one in scenarios for name in one.measure} == {*MEASURES, *ERRORS}
    assert len(beyond()) >= 5
    assert all(one.why for one in beyond())


def test_a_changed_trace_is_priced_as_any() -> None:
    change: Callable[[Trace], Trace] = CHANGES["logfmt_combine"]
    decode = load_deployment("decode")
    mine = price(change(rows("decode")), V3, H800, decode)
    assert mine.communication_seconds == priced("logfmt")["communicating"].after
