"""The bill: what it adds up, what bounds a row, and what may not depend on what."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.config import ModelConfig
from minidsv3.cost import bill, rates
from minidsv3.hardware import Hardware, load_hardware, read_hardware
from minidsv3.interpreter import Model
from minidsv3.machine import Machine, Row, Trace

NANO = ModelConfig.preset("nano")
H800 = load_hardware("h800")
RATES = ("chip.peak.bf16", "chip.peak.fp8", "chip.peak.fp32", "chip.hbm.bandwidth", "fabric.effective")


@pytest.fixture(scope="module")
def training_trace() -> Trace:
    machine = Machine(trace=True)
    tokens = np.random.default_rng(0).integers(NANO.vocab_size, size=(1, 17))
    Model.initialise(NANO).loss_and_gradients(tokens, mtp_weight=0.3, balance_weight=1e-4, machine=machine)
    return machine.trace


def scaled(path: str, factor: float) -> Hardware:
    """The H800 with one value scaled, whatever the file's own checks would say of it."""
    changed = replace(H800[path], value=float(H800[path].value) * factor)
    return replace(H800, values={**H800.values, path: changed})


def without(prefix: str) -> Hardware:
    """The H800 with nothing said about some paths."""
    kept = {path: value for path, value in H800.values.items() if not path.startswith(prefix)}
    return replace(H800, id="lonely", values=kept)


ROWS = st.builds(
    Row,
    op=st.sampled_from(["mla.out", "mla.softmax", "experts.dispatch"]),
    phase=st.sampled_from(["forward", "backward", "update", "communication"]),
    layer=st.none() | st.integers(0, 3),
    matrix_flops=st.integers(0, 10**15),
    vector_flops=st.integers(0, 10**12),
    bytes=st.dictionaries(st.sampled_from(["weight", "activation", "kv", "network"]), st.integers(0, 10**12)),
)


@settings(deadline=None, max_examples=50)
@given(
    rows=st.lists(ROWS, max_size=5),
    path=st.sampled_from(RATES),
    factor=st.floats(1, 100),
    reserve=st.booleans(),
)
def test_seconds_never_rise_when_a_rate_rises(
    rows: list[Row], path: str, factor: float, reserve: bool
) -> None:
    for format in ("bf16", "fp8"):
        slow = bill(rows, H800, format, reserve)
        fast = bill(rows, scaled(path, factor), format, reserve)
        assert all(new.seconds <= old.seconds for new, old in zip(fast.lines, slow.lines, strict=True))
        assert fast.total.seconds <= slow.total.seconds * (1 + 1e-12)


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(ROWS, max_size=5), path=st.sampled_from(RATES), factor=st.floats(0.01, 100))
def test_no_rate_changes_flops_or_bytes(rows: list[Row], path: str, factor: float) -> None:
    before, after = bill(rows, H800).total, bill(rows, scaled(path, factor)).total
    assert (before.matrix_flops, before.vector_flops) == (after.matrix_flops, after.vector_flops)
    assert before.bytes == after.bytes


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(ROWS, max_size=8))
def test_every_roll_up_adds_up_to_the_total(rows: list[Row]) -> None:
    b = bill(rows, H800)
    for groups in (b.by_op, b.by_part, b.by_phase, b.by_layer):
        assert sum(group.matrix_flops for group in groups) == b.total.matrix_flops
        assert sum(group.vector_flops for group in groups) == b.total.vector_flops
        assert sum(sum(group.bytes.values()) for group in groups) == sum(b.total.bytes.values())
        assert sum(group.rows for group in groups) == len(rows)
        assert sum(group.seconds for group in groups) == pytest.approx(b.total.seconds)
        assert sum(group.share for group in groups) == pytest.approx(1 if b.total.seconds else 0)


def test_flops_are_the_traces(training_trace: Trace) -> None:
    for format in ("bf16", "fp32"):
        total = bill(training_trace, H800, format).total
        assert total.matrix_flops == training_trace.matrix_flops
        assert total.vector_flops == training_trace.vector_flops
    assert bill(training_trace, H800, "fp32").total.bytes == training_trace.bytes


def test_half_as_wide_is_half_the_bytes_but_for_indices(training_trace: Trace) -> None:
    wide, narrow = (bill(training_trace, H800, format).total.bytes for format in ("fp32", "bf16"))
    assert narrow["weight"] * 2 == wide["weight"]
    indices = 2 * narrow["activation"] - wide["activation"]
    T = 16
    ids = 2 * (T + (T - 1))  # embedding and loss of the main model and of MTP depth 1
    chosen = (3 * T + (T - 1)) * (NANO.n_activated_experts + NANO.n_limited_groups)
    assert indices == 8 * (2 * ids + chosen)  # ids are read again by the backward; the choice is not


def test_float64_is_priced_like_float32() -> None:
    bills = []
    for dtype in ("float32", "float64"):
        machine = Machine(trace=True, dtype=dtype)
        Model.initialise(NANO).loss_and_gradients([[1, 2, 3, 4]], mtp_weight=0.3, machine=machine)
        bills.append(bill(machine.trace, H800))
    assert bills[0].total.bytes == bills[1].total.bytes
    assert bills[0].total.seconds == bills[1].total.seconds


def test_order_and_names(training_trace: Trace) -> None:
    b = bill(training_trace, H800, config=NANO)
    assert [total.name for total in b.by_phase] == ["forward", "backward"]
    assert [total.name for total in b.by_layer] == ["0", "1", "2", "3", "4", "outside"]
    seconds = [total.seconds for total in b.by_op]
    assert seconds == sorted(seconds, reverse=True)
    assert {"attention", "experts", "gate", "dense", "norm", "head", "mtp", "loss", "embedding"} == {
        total.name for total in b.by_part
    }
    assert b.kv_bytes_per_token == NANO.n_layers * (NANO.kv_lora_rank + NANO.qk_rope_head_dim) * 2
    [scores] = [op for op in b.by_op if op.name == "mla.scores" and op.phase == "forward"]
    assert scores.equations == ("4", "9", "10")
    assert scores.shapes == ((4, 16, 48), (4, 48, 16), (4, 16, 16))
    assert b.total.wall_seconds > 0


def test_bounds() -> None:
    def bound(**work: Any) -> str:
        return bill([Row(op="mla.out", phase="forward", **work)], H800).total.bound

    assert bound(matrix_flops=10**12, bytes={"weight": 10**6}) == "compute"
    assert bound(matrix_flops=10**9, bytes={"weight": 10**9}) == "memory"
    assert bound(bytes={"network": 10**9, "activation": 10**9}) == "network"
    assert bound() == "none"


def test_reserved_sms_slow_computing_alone() -> None:
    whole, left = rates(H800), rates(H800, reserve_communication_sms=True)
    assert whole.matrix / left.matrix == pytest.approx(132 / 112)
    assert whole.memory == left.memory
    assert "112 of 132 SMs" in left.rule
    assert "bf16" in left.rule


def test_json(training_trace: Trace) -> None:
    said = json.loads(json.dumps(bill(training_trace, H800, config=NANO).to_dict()))
    assert said["schema"] == "minidsv3.bill/1"
    assert len(said["lines"]) == len(training_trace)
    assert said["total"]["matrix_flops"] == training_trace.matrix_flops


def test_what_cannot_be_priced_is_named() -> None:
    rows = [Row(op="mla.out", phase="forward", bytes={"network": 8})]
    with pytest.raises(ValueError, match=r"expected a format, got 'bf17': did you mean 'bf16'"):
        bill(rows, H800, "bf17")
    with pytest.raises(ValueError, match=r"expected a fabric rate to price the 4 network bytes of 'mla.out'"):
        bill(rows, without("fabric."))
    with pytest.raises(ValueError, match=r"cpu: expected a value for 'chip.peak.bf16'"):
        bill(rows, read_hardware({"name": "cpu"}, "cpu"))
    with pytest.raises(ValueError, match=r"expected an op id, got 'mla.oot'"):
        bill([Row(op="mla.oot", phase="forward")], H800)
