"""The timeline: events of the right length, one behind the other in each thread, layers in their order."""

import json
from itertools import pairwise
from typing import Any

import pytest

from minidsv3.config import ModelConfig
from minidsv3.cost import bill, phase_bill
from minidsv3.cost.chrome_trace import THREADS, chrome_trace
from minidsv3.cost.deployment import alone, load_deployment, with_fields
from minidsv3.cost.rows import rows_of
from minidsv3.hardware import load_hardware

V3, H800 = ModelConfig.preset("v3"), load_hardware("h800")


def events(said: dict[str, Any]) -> list[dict[str, Any]]:
    return [event for event in said["traceEvents"] if event["ph"] == "X"]


@pytest.mark.parametrize("phase", ["train", "prefill", "decode"])
def test_threads_are_as_long_as_the_bill(phase: str) -> None:
    priced = phase_bill(V3, H800, phase)
    said = json.loads(json.dumps(chrome_trace(priced)))
    threads: dict[int, list[dict[str, Any]]] = {}
    for event in events(said):
        threads.setdefault(event["tid"], []).append(event)
    for thread in threads.values():
        for one, following in pairwise(thread):
            assert following["ts"] == pytest.approx(one["ts"] + one["dur"])
    busy = {THREADS[tid]: sum(event["dur"] for event in thread) / 1e6 for tid, thread in threads.items()}
    assert busy.pop("compute") == pytest.approx(priced.compute_seconds)
    assert sum(busy.values()) == pytest.approx(priced.communication_seconds)
    assert sum(event["args"]["FLOPs"] for event in events(said)) == (
        priced.bill.total.matrix_flops + priced.bill.total.vector_flops
    )


def test_layers_forward_and_back() -> None:
    said = events(chrome_trace(phase_bill(V3, H800, "train")))
    out = [event for event in said if event["name"] == "mla.out" and event["args"]["direction"] != "quantise"]
    layers = [event["args"]["layer"] for event in out if event["args"]["direction"] in ("fprop", "dgrad")]
    assert layers == [*range(62), *reversed(range(62))]
    moe = [event["args"]["layer"] for event in said if event["name"] == "experts.dispatch"]
    assert set(moe) == set(range(3, 62))


def test_without_overlap_nothing_runs_side_by_side() -> None:
    serial = with_fields(load_deployment("decode"), {"overlap": False})
    said = events(chrome_trace(phase_bill(V3, H800, serial)))
    ordered = sorted(said, key=lambda event: event["ts"])
    assert ordered == said
    for one, following in pairwise(said):
        assert following["ts"] == pytest.approx(one["ts"] + one["dur"])


def test_a_trace_without_deployment() -> None:
    nano = ModelConfig.preset("nano")
    priced = bill(rows_of(nano, alone("train", 1, 8, "fp8")), H800)
    said = chrome_trace(priced)
    assert {event["tid"] for event in events(said)} == {0}
    last = events(said)[-1]
    assert last["ts"] + last["dur"] == pytest.approx(priced.total.seconds * 1e6)
    names = [event["args"]["name"] for event in said["traceEvents"] if event["ph"] == "M"]
    assert names == ["one GPU: a trace", "compute", "network", "nvlink"]
