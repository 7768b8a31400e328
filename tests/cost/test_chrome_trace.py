"""The timeline: events of the right length, one behind the other in each thread, layers in their order."""

import json
from itertools import groupby, pairwise
from typing import Any

import pytest

from minidsv3.config import ModelConfig
from minidsv3.cost import bill, phase_bill
from minidsv3.cost.chrome_trace import THREADS, chrome_trace
from minidsv3.cost.deployment import alone, default_deployment, load_deployment, with_fields
from minidsv3.cost.rows import rows_of
from minidsv3.hardware import load_hardware
from minidsv3.machine import Row

V3, H800 = ModelConfig.preset("v3"), load_hardware("h800")


def events(said: dict[str, Any]) -> list[dict[str, Any]]:
    return [event for event in said["traceEvents"] if event["ph"] == "X"]


def threads_of(said: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Events by the name of their thread."""
    threads: dict[str, list[dict[str, Any]]] = {}
    for event in events(said):
        threads.setdefault(THREADS[event["tid"]], []).append(event)
    return threads


def end_of(thread: list[dict[str, Any]]) -> float:
    """Seconds at which the last event of a thread is over."""
    last = max(thread, key=lambda event: event["ts"] + event["dur"])
    return float(last["ts"] + last["dur"]) / 1e6


@pytest.mark.parametrize("phase", ["train", "prefill", "decode"])
def test_threads_are_as_long_as_the_bill(phase: str) -> None:
    priced = phase_bill(V3, H800, phase)
    said = json.loads(json.dumps(chrome_trace(priced)))
    threads = threads_of(said)
    for thread in threads.values():
        for one, following in pairwise(thread):
            assert following["ts"] >= (one["ts"] + one["dur"]) * (1 - 1e-12)
    compute = threads.pop("compute")
    assert sum(event["dur"] for event in compute) / 1e6 == pytest.approx(priced.compute_seconds)
    assert end_of(compute) == pytest.approx(priced.compute_seconds)
    assert max(map(end_of, threads.values())) == pytest.approx(priced.communication_seconds)
    assert sum(event["args"]["FLOPs"] for event in events(said)) == (
        priced.bill.total.matrix_flops + priced.bill.total.vector_flops
    )


@pytest.mark.parametrize("phase", ["train", "prefill", "decode"])
def test_each_wire_is_as_busy_as_its_bytes(phase: str) -> None:
    """What goes over two wires is on both, for as long as each takes."""
    priced = phase_bill(V3, H800, phase)
    threads = threads_of(chrome_trace(priced))
    sent = {wire: n for wire, n in priced.bill.total.bytes.items() if wire in THREADS and n}
    assert set(threads) - {"compute"} == set(sent)
    for wire, n in sent.items():
        busy = sum(event["dur"] for event in threads[wire]) / 1e6
        assert busy == pytest.approx(n / priced.rates.wires[wire])
        moved = sum(event["args"]["bytes"][wire] for event in threads[wire])
        assert moved == pytest.approx(n, rel=1e-6)  # layers alike have a whole number of bytes each
        assert all(set(event["args"]["bytes"]) == {wire} for event in threads[wire])


def test_two_wires_begin_together() -> None:
    threads = threads_of(chrome_trace(phase_bill(V3, H800, "train")))
    network, nvlink = threads["network"], threads["nvlink"]
    assert [(e["name"], e["args"]["layer"], e["ts"]) for e in network] == [
        (e["name"], e["args"]["layer"], e["ts"]) for e in nvlink
    ]
    assert (network[0]["ts"], network[0]["name"], network[0]["cat"]) == (
        0,
        "experts.dispatch",
        "communication,layer 3",
    )
    assert threads["compute"][0]["cat"] == "forward"  # the embedding, of no layer


def test_the_timeline_says_what_runs_beside_what() -> None:
    beside = chrome_trace(phase_bill(V3, H800, "decode"))["otherData"]["timeline"]
    assert beside.startswith("steady state of two micro-batches")
    serial = with_fields(load_deployment("decode"), {"overlap": False})
    after = chrome_trace(phase_bill(V3, H800, serial))["otherData"]["timeline"]
    assert after == "one micro-batch: nothing computes while something is sent"


def test_layers_forward_and_back() -> None:
    said = events(chrome_trace(phase_bill(V3, H800, "train")))
    out = [event for event in said if event["name"] == "mla.out" and event["args"]["direction"] != "quantise"]
    layers = [event["args"]["layer"] for event in out if event["args"]["direction"] in ("fprop", "dgrad")]
    assert layers == [*range(62), *reversed(range(62))]
    moe = [event["args"]["layer"] for event in said if event["name"] == "experts.dispatch"]
    assert set(moe) == set(range(3, 62))


@pytest.mark.parametrize("phase", ["train", "decode"])
def test_without_overlap_nothing_runs_side_by_side(phase: str) -> None:
    serial = with_fields(default_deployment(phase), {"overlap": False})
    priced = phase_bill(V3, H800, serial)
    said = events(chrome_trace(priced))
    assert sorted(said, key=lambda event: event["ts"]) == said
    at = 0.0
    for start, together in groupby(said, key=lambda event: event["ts"]):
        parts = list(together)
        assert start == pytest.approx(at)
        busy = {THREADS[event["tid"]] for event in parts if event["dur"]}
        assert busy <= {"compute"} or busy <= {"network", "nvlink"}
        at = max(event["ts"] + event["dur"] for event in parts)
    assert at == pytest.approx(priced.serial_seconds * 1e6)


def test_a_trace_without_deployment() -> None:
    nano = ModelConfig.preset("nano")
    priced = bill(rows_of(nano, alone("train", 1, 8, "fp8")), H800)
    said = chrome_trace(priced)
    assert {event["tid"] for event in events(said)} == {0}
    last = events(said)[-1]
    assert last["ts"] + last["dur"] == pytest.approx(priced.total.seconds * 1e6)
    names = [event["args"]["name"] for event in said["traceEvents"] if event["ph"] == "M"]
    assert names == ["one GPU: a trace", "compute", "network", "nvlink"]


def test_a_bill_alone_has_the_wires_that_it_waits_for() -> None:
    """Without a deployment no rates are at hand: a wire is drawn where the line takes as long as it."""
    sent = Row(
        op="experts.dispatch", phase="communication", formats=("e4m3",), bytes={"network": 4, "nvlink": 1}
    )
    (event,) = events(chrome_trace(bill([sent], H800)))
    assert (THREADS[event["tid"]], event["args"]["bytes"]) == ("network", {"network": 4})
