"""A bill as a timeline for `chrome://tracing` or Perfetto: every priced row an event.

The format is the Trace Event Format's JSON object: events of phase "X" with `ts` and `dur` in microseconds,
in threads: one computes, one for each wire. Layers stand one behind the other, in the backward from the
last. What goes over two wires begins on both at once, is drawn on each for as long as that wire takes, and
is over when the slower one is. Of a deployment that overlaps, computing and sending each run through: one
micro-batch's work beside another's transfers, as in the steady state. Otherwise nothing computes while
something is sent. `otherData` says which.

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

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from minidsv3.cost.bill import Bill, Line, of_one_layer
from minidsv3.cost.phase_bill import PhaseBill
from minidsv3.cost.rates import WIRES

__all__ = ["chrome_trace"]

THREADS = ("compute", *WIRES)
# what a timeline shows, by whether the deployment overlaps
SHOWN = {
    True: "steady state of two micro-batches: the wires' threads are the communication of one, beside the "
    "computing of another; each side runs through from 0, so that an event does not wait for the one that it "
    "needs in its own micro-batch (the first layer that sends does so at 0)",
    False: "one micro-batch: nothing computes while something is sent",
}


def chrome_trace(priced: Bill | PhaseBill) -> dict[str, Any]:
    """A JSON object for chrome://tracing.  A bill of no deployment has one row of events behind the other."""
    whole, overlap, wires = priced, False, dict[str, float]()
    if isinstance(priced, PhaseBill):
        whole, overlap, wires = priced.bill, priced.deployment.overlap, dict(priced.rates.wires)
    assert isinstance(whole, Bill)
    said = {"hardware": whole.hardware_name, "rule": whole.rule, "timeline": SHOWN[overlap]}
    return {
        "displayTimeUnit": "ms",
        "otherData": said,
        "traceEvents": [*_names(priced), *_events(whole.lines, overlap, wires)],
    }


def _names(priced: Bill | PhaseBill) -> Iterator[dict[str, Any]]:
    """What the process and its threads are called."""
    of = priced.deployment.title or priced.deployment.name if isinstance(priced, PhaseBill) else "a trace"
    yield {"ph": "M", "pid": 0, "name": "process_name", "args": {"name": f"one GPU: {of}"}}
    for thread, name in enumerate(THREADS):
        yield {"ph": "M", "pid": 0, "tid": thread, "name": "thread_name", "args": {"name": name}}


def _events(lines: Iterable[Line], overlap: bool, wires: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    free = {"compute": 0.0, "wires": 0.0}  # when each side is free, in microseconds
    for line in _in_order(lines):
        taken = _seconds(line, wires)
        side = "compute" if "compute" in taken else "wires"
        start = free[side] if overlap else max(free.values())
        free[side] = start + line.seconds * 1e6
        for thread, seconds in taken.items():
            yield {
                "ph": "X",
                "pid": 0,
                "tid": THREADS.index(thread),
                "name": line.op,
                "cat": line.phase if line.layer is None else f"{line.phase},layer {line.layer}",
                "ts": start,
                "dur": seconds * 1e6,
                "args": _said(line, thread),
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


def _seconds(line: Line, wires: Mapping[str, float]) -> dict[str, float]:
    """The threads that a line is drawn on, and for how long: every wire that it uses, or the computing one.

    wires: B/s. Of a wire without a known rate nothing is drawn, unless the line takes as long as that wire.
    """
    if line.phase != "communication":
        return {"compute": line.seconds}
    sent = {wire: line.bytes[wire] for wire in WIRES if line.bytes.get(wire)}
    taken = {wire: n / wires[wire] for wire, n in sent.items() if wire in wires}
    if line.bound in sent:
        taken[line.bound] = line.seconds
    return taken or {"compute": line.seconds}


def _said(line: Line, thread: str) -> dict[str, Any]:
    """What an event is of; of a wire's, that wire's bytes."""
    return {
        "layer": line.layer,
        "direction": line.direction,
        "times": line.times,
        "shapes": [list(shape) for shape in line.shapes],
        "formats": list(line.formats),
        "FLOPs": line.matrix_flops + line.vector_flops,
        "bytes": {thread: line.bytes[thread]} if thread in WIRES else line.bytes,
        "bound": line.bound,
    }
