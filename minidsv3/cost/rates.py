"""The rates that a trace is priced at, and the rule that turns one row into seconds.

A laptop computes in float32 what the priced machine would run in a narrower format. The rule is said, not
hidden: matrix products run at the tensor cores' peak for `format` (for "fp32", which they do not have, at the
CUDA cores'), everything else at the CUDA cores' float32 peak, every number of forward and backward is as wide
as `format`; whole numbers and the optimiser's rows (report, 3.3.3: FP32) are as wide as traced. Rows of a
machine that rounds (`Machine(precision="fp8")`) say their formats themselves and are priced as traced, each
product at the peak of its wider factor's format. `Rates.rule` is that sentence.

A row takes as long as the slowest of computing, moving its bytes, and sending over each wire; whichever it is
*bounds* it. Network bytes go at `fabric.effective`, one network card's share, NVLink's at
`node.nvlink.usable`, both in one direction. Every primitive is a kernel of its own, operands read and the
result written once: a fused kernel moves less, so this is an upper bound on bytes.

Does: the roofline of one row. Does not: launch times, latency, overlap of kernels.

    >>> from minidsv3.hardware import load_hardware
    >>> h800 = rates(load_hardware("h800"))
    >>> round(h800.matrix / h800.memory), h800.number_bytes  # FLOPs a byte at which both take equally long
    (295, 2)
    >>> fewer = rates(load_hardware("h800"), reserve_communication_sms=True)  # 112 of 132 SMs
    >>> round(fewer.matrix / h800.matrix, 3)
    0.848

Next: minidsv3.cost.bill
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from minidsv3.config import near
from minidsv3.hardware import Hardware, Quantity
from minidsv3.machine import Row

__all__ = ["FORMATS", "Rates", "rates"]

# bytes a number; a format's peak is `chip.peak.<format>`
FORMATS = {"fp8": 1, "bf16": 2, "fp16": 2, "tf32": 4, "fp32": 4}
# a factor's format in a trace -> the format of the peak, the narrowest first
PEAKS = {"e2m1": "fp4", "e4m3": "fp8", "e5m2": "fp8", "bf16": "bf16", "fp32": "fp32"}
# a kind of bytes that leave the chip -> the path of its rate
WIRES = {"network": "fabric.effective", "nvlink": "node.nvlink.usable"}


@dataclass(frozen=True)
class Rates:
    """What a row is priced at.  matrix, vector: FLOP/s.  memory, wires: B/s."""

    format: str
    number_bytes: int
    matrix: float
    vector: float
    memory: float
    wires: Mapping[str, float]  # "network", "nvlink", of those that the hardware has
    rule: str
    peaks: Mapping[str, float]  # FLOP/s by format, of those that the chip has
    hardware: Hardware
    values: Mapping[str, Quantity]  # of the hardware file, all that was read

    @property
    def network(self) -> float | None:
        """B/s of one GPU's network card; None if the hardware has none."""
        return self.wires.get("network")

    def ridge(self, format: str) -> float:
        """FLOP a byte of device memory at which both take equally long."""
        return self.peaks[format] / self.memory

    def precision(self, row: Row) -> str:
        """The format at whose peak a row's product runs; "wire" or "vector" for a row without a product."""
        if not row.matrix_flops:
            return "wire" if set(row.bytes) & set(WIRES) else "vector"
        if not as_traced(row):
            return self.format
        order = list(PEAKS)
        return PEAKS[max(row.formats[:2], key=order.index)]

    def products(self, row: Row) -> float:
        """FLOP/s of a row's matrix product."""
        format = self.precision(row)
        if not as_traced(row):
            return self.matrix
        if format not in self.peaks:
            known = ", ".join(self.peaks)
            raise ValueError(
                f"{self.hardware.id}: expected a chip.peak.{format} to price {row.op!r}, "
                f"the file has peaks of {known}"
            )
        return self.peaks[format]

    def bytes(self, row: Row) -> dict[str, int]:
        """Bytes of a row by kind, its numbers as wide as `format`; an update's, and a rounding machine's, as
        traced.
        """
        if row.phase == "update" or as_traced(row):
            return dict(row.bytes)
        traced = _traced_width(row)
        moved = {}
        for kind, n in row.bytes.items():
            whole = _whole_number_bytes(row) if kind == "activation" else 0
            moved[kind] = whole + (n - whole) * self.number_bytes // traced
        return moved

    def seconds(self, row: Row) -> tuple[float, str]:
        """How long a row takes, and what bounds it: "compute", "memory", "network", "nvlink", or "none"."""
        moved = self.bytes(row)
        sent = {wire: moved.pop(wire) for wire in WIRES if wire in moved}
        times = {
            "compute": self._multiplying(row) + row.vector_flops / self.vector,
            "memory": sum(moved.values()) / self.memory,
        } | {wire: self._sending(row, wire, n) for wire, n in sent.items()}
        bound = max(times, key=lambda kind: times[kind])
        return times[bound], bound if times[bound] else "none"

    def _sending(self, row: Row, wire: str, sent: int) -> float:
        if sent and wire not in self.wires:
            what = "a fabric rate" if wire == "network" else "an NVLink rate"
            raise ValueError(
                f"{self.hardware.id}: expected {what} to price the {sent} {wire} bytes of {row.op!r}, "
                f"the file has no {WIRES[wire]}"
            )
        return sent / self.wires[wire] if sent else 0.0

    def _multiplying(self, row: Row) -> float:
        return row.matrix_flops / self.products(row) if row.matrix_flops else 0.0


def as_traced(row: Row) -> bool:
    """Whether a row names the formats of a GPU, not those of the laptop that computed it."""
    return not {"float32", "float64"} & set(row.formats) and not set(row.formats) <= {"int64"}


def rates(hardware: Hardware, format: str = "bf16", reserve_communication_sms: bool = False) -> Rates:
    """Rates of one GPU.

    format: of the matrix products and of the numbers moved, one of `FORMATS`.
    reserve_communication_sms: compute with the SMs that communication kernels leave (V3: 112 of 132).
    Raises ValueError for an unknown format, or a rate that the hardware file leaves out.
    """
    if format not in FORMATS:
        raise ValueError(f"expected a format, got {format!r}: {near(format, list(FORMATS))}")
    left, sms, read = 1.0, "", dict[str, Quantity]()

    def value(path: str) -> float:
        read[path] = hardware[path]
        return read[path].si

    if reserve_communication_sms:
        count, taken = value("chip.sm.count"), value("chip.sm.communication")
        left, sms = (count - taken) / count, f"; {count - taken:.0f} of {count:.0f} SMs compute"
    return Rates(
        format=format,
        number_bytes=FORMATS[format],
        matrix=value(f"chip.peak.{format}") * left,
        vector=value("chip.peak.fp32") * left,
        memory=value("chip.hbm.bandwidth"),
        wires={wire: value(path) for wire, path in WIRES.items() if path in hardware.values},
        peaks={
            name: value(f"chip.peak.{name}") * left
            for name in dict.fromkeys([*PEAKS.values(), *FORMATS])
            if f"chip.peak.{name}" in hardware.values
        },
        rule=f"matrix products at the {format} peak, the rest at the float32 peak of the CUDA cores; "
        f"{FORMATS[format]} bytes a number (whole numbers and optimiser as traced); "
        f"rows that name their formats as traced; each primitive a kernel of its own{sms}",
        hardware=hardware,
        values=read,
    )


def _whole_number_bytes(row: Row) -> int:
    """Bytes of token ids, targets and chosen experts."""
    pairs = zip(row.shapes, row.formats, strict=True)
    return sum(math.prod(shape) * 8 for shape, format_ in pairs if format_ == "int64")


def _traced_width(row: Row) -> int:
    """Bytes a number had in the trace: 8 for float64 (and its complex), 4 for float32."""
    return 8 if {"float64", "complex128"} & set(row.formats) else 4
