"""A bill as a timeline for `chrome://tracing` or Perfetto: every priced row an event.

The format is the Trace Event Format's JSON object: events of phase "X" with `ts` and `dur` in microseconds,
in threads: one computes, one for each wire. Layers stand one behind the other, in the backward from the
last. Of a deployment that overlaps, each thread runs through without a gap: one micro-batch's work beside
another's transfers, as in the steady state. Otherwise nothing runs side by side.

Does: the JSON object. Does not: simulate (what waits for what is not known to a bill), draw.

    >>> from minidsv3.cost.bill import bill
    >>> from minidsv3.hardware import load_hardware
    >>> from minidsv3.machine import Row
    >>> rows = [Row(op="mla.out", phase="forward", layer=2, matrix_flops=989 * 10**9)]
    >>> said = chrome_trace(bill(rows, load_hardware("h800")))
    >>> [(event["name"], event["ts"], event["dur"]) for event in said["traceEvents"] if event["ph"] == "X"]
    [('mla.out', 0.0, 1000.0)]

Next: minidsv3.cost.what_if
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any

from minidsv3.cost.bill import Bill, Line, of_one_layer
from minidsv3.cost.phase_bill import PhaseBill
from minidsv3.cost.rates import WIRES

__all__ = ["chrome_trace"]

THREADS = ("compute", *WIRES)


def chrome_trace(priced: Bill | PhaseBill) -> dict[str, Any]:
    """A JSON object for chrome://tracing.  A bill of no deployment has one row of events behind the other."""
    whole, overlap = priced, False
    if isinstance(priced, PhaseBill):
        whole, overlap = priced.bill, priced.deployment.overlap
    assert isinstance(whole, Bill)
    return {
        "displayTimeUnit": "ms",
        "otherData": {"hardware": whole.hardware_name, "rule": whole.rule},
        "traceEvents": [*_names(priced), *_events(whole.lines, overlap)],
    }


def _names(priced: Bill | PhaseBill) -> Iterator[dict[str, Any]]:
    """What the process and its threads are called."""
    of = priced.deployment.title or priced.deployment.name if isinstance(priced, PhaseBill) else "a trace"
    yield {"ph": "M", "pid": 0, "name": "process_name", "args": {"name": f"one GPU: {of}"}}
    for thread, name in enumerate(THREADS):
        yield {"ph": "M", "pid": 0, "tid": thread, "name": "thread_name", "args": {"name": name}}


def _events(lines: Iterable[Line], overlap: bool) -> Iterator[dict[str, Any]]:
    free = dict.fromkeys(THREADS, 0.0)  # when each thread is free, in microseconds
    for line in _in_order(lines):
        thread, duration = _thread(line), line.seconds * 1e6
        start = free[thread] if overlap else max(free.values())
        free[thread] = start + duration
        yield {
            "ph": "X",
            "pid": 0,
            "tid": THREADS.index(thread),
            "name": line.op,
            "cat": line.phase,
            "ts": start,
            "dur": duration,
            "args": _said(line),
        }


def _in_order(lines: Iterable[Line]) -> Iterator[Line]:
    """Lines of layers alike, layer by layer."""
    for (first, layers, back), group in groupby(
        lines, key=lambda line: (line.layer, line.layers, _is_backward(line))
    ):
        ones = [of_one_layer(line) for line in group]
        if first is None or layers == 1:
            yield from ones
            continue
        order = range(first, first + layers)
        for layer in reversed(order) if back else order:
            yield from (replace(line, layer=layer) for line in ones)


def _is_backward(line: Line) -> bool:
    return line.phase == "backward" or (line.phase == "communication" and line.direction == "dgrad")


def _thread(line: Line) -> str:
    """A wire, for what is sent; of two wires the one that takes longer."""
    if line.phase != "communication":
        return "compute"
    return (
        line.bound
        if line.bound in WIRES
        else next((wire for wire in WIRES if line.bytes.get(wire)), "compute")
    )


def _said(line: Line) -> dict[str, Any]:
    return {
        "layer": line.layer,
        "direction": line.direction,
        "times": line.times,
        "shapes": [list(shape) for shape in line.shapes],
        "formats": list(line.formats),
        "FLOPs": line.matrix_flops + line.vector_flops,
        "bytes": line.bytes,
        "bound": line.bound,
    }
