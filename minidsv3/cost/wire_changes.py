"""What better wires would do to the rows of a trace: copies, sums and formats between GPUs.

Dispatch sends a token once for each node that it goes to, combine brings a result back from each. A network
that copies on the way needs one from the sender; one that adds up on the way leaves one for the receiver.
Neither alone helps a card that sends and receives alike: of both directions the other one stays as busy. Both
together do, if one micro-batch dispatches while another combines.

    rows of communication   sent by a GPU   received      with multicast   with reduction
    dispatch, 1 B a value   copies          copies        sends 1
    combine, 2 B a value    copies          copies                         receives 1

Does: rows of phase "communication", whose bytes are what a card sends. Does not: price.

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.cost.deployment import load_deployment
    >>> from minidsv3.cost.rows import rows_of
    >>> rows = rows_of(ModelConfig.preset("v3"), load_deployment("prefill"))
    >>> changes, whole = (multicast, multicast_and_reduce, logfmt_combine), rows.bytes["network"]
    >>> {change.__name__: round(change(rows).bytes["network"] / whole, 2) for change in changes}
    {'multicast': 1.0, 'multicast_and_reduce': 0.81, 'logfmt_combine': 0.76}

Next: minidsv3.cost.wish_figures
"""

from dataclasses import replace

from minidsv3.cost.row_changes import moving, operand_bytes
from minidsv3.machine import Row, Trace, load_precision
from minidsv3.machine.operands import Stored

__all__ = [
    "BACK",
    "OUT",
    "carries",
    "forward_in_hardware",
    "fp8_combine",
    "logfmt_combine",
    "multicast",
    "multicast_and_reduce",
    "reduce_in_network",
    "stage_forwarding",
]

OUT, BACK = "out", "back"


def carries(row: Row) -> str:
    """What a row of communication does: "out", tokens to experts; "back", results to tokens; "" for others.

    A backward goes the other way round: combine's sends gradients out, dispatch's brings them back.
    """
    if row.phase != "communication":
        return ""
    return OUT if (row.op == "experts.dispatch") == (row.direction == "fprop") else BACK


def multicast(trace: Trace) -> Trace:
    """The network copies a token for all its nodes: a GPU sends it once, and receives as many as ever."""
    return _busier(trace, {OUT})


def reduce_in_network(trace: Trace) -> Trace:
    """The network adds up a token's results: a GPU receives their sum, and sends as many as ever."""
    return _busier(trace, {BACK})


def multicast_and_reduce(trace: Trace) -> Trace:
    """Both. While one micro-batch dispatches and another combines, each direction of a card gets lighter."""
    return _busier(trace, {OUT, BACK})


def _busier(trace: Trace, once: set[str]) -> Trace:
    """Network bytes of the direction, sent or received, in which a card has more to do over the whole trace.

    once: what passes a card once a token on one side. Rows count what a card sends, which without help of the
    network is what it receives. Cards are full-duplex, and micro-batches fill both directions.
    """
    sent = Trace(_single(row) if carries(row) == OUT and OUT in once else row for row in trace)
    received = Trace(_single(row) if carries(row) == BACK and BACK in once else row for row in trace)
    return max(sent, received, key=lambda rows: rows.bytes.get("network", 0))


def _single(row: Row) -> Row:
    """One copy of each token, unless there are fewer already."""
    network = row.bytes.get("network", 0)
    return moving(row, min(operand_bytes(row, 0), network) - network, "network") if network else row


def logfmt_combine(trace: Trace) -> Trace:
    """Results come back in LogFMT of 10 bits, as DeepEP packs it, where BF16 did: 1.281 B a value for 2."""
    return _returning(trace, Stored("logfmt-10"))


def fp8_combine(trace: Trace) -> Trace:
    """Results come back in E4M3 tiles of 1x128, as tokens go out."""
    return _returning(trace, Stored("e4m3", (1, int(load_precision("fp8").fp8("block")))))


def _returning(trace: Trace, stored: Stored) -> Trace:
    return Trace(_travelling(row, stored) if carries(row) == BACK else row for row in trace)


def _travelling(row: Row, stored: Stored) -> Row:
    """The row in another format, where that is smaller."""
    (shape,), before = row.shapes, operand_bytes(row, 0)
    after = min(stored.nbytes(shape), before)
    if after == before:
        return row
    moved = {
        kind: n * after // before if kind in ("network", "nvlink") else n for kind, n in row.bytes.items()
    }
    return replace(row, bytes=moved, formats=(stored.format,), blocks=(stored.block,))


def stage_forwarding(trace: Trace) -> Trace:
    """Today, made visible: what NVLink passes on of the network's copies is written to memory and read."""
    return Trace(moving(row, 2 * _forwarded(row)) if _forwarded(row) else row for row in trace)


def forward_in_hardware(trace: Trace) -> Trace:
    """One network for both wires passes copies on itself: undoes `stage_forwarding`."""
    return Trace(_unstaged(row) if _forwarded(row) else row for row in trace)


def _unstaged(row: Row) -> Row:
    return moving(row, -min(2 * _forwarded(row), row.bytes.get("activation", 0)))


def _forwarded(row: Row) -> int:
    """Network bytes of a row that has both wires."""
    return row.bytes["network"] if {"network", "nvlink"} <= set(row.bytes) else 0
