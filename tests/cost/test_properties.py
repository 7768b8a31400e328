"""A value of a hardware file changes what depends on it, and nothing else."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.config import ModelConfig
from minidsv3.cost.bill import Line
from minidsv3.cost.deployment import default_deployment
from minidsv3.cost.phase_bill import PhaseBill, price
from minidsv3.cost.rows import rows_of
from minidsv3.hardware import Hardware, Quantity, load_hardware
from minidsv3.hardware.schema import KEYS
from minidsv3.machine import Trace

V3, H800 = ModelConfig.preset("v3"), load_hardware("h800")
PHASES = ("train", "prefill", "decode")
NUMBERS = [path for path, (dimension, _) in KEYS.items() if dimension != "name"]
RATES = [path for path in NUMBERS if KEYS[path][0] in ("B/s", "FLOP/s", "OP/s", "Hz")]
UNITS = {"USD/s": "USD/h", "FLOP/s": "FLOPS", "OP/s": "OPS"}


def computes(line: Line, reserved: bool) -> bool:
    """Whether a line's seconds depend on the SMs that communication kernels take."""
    return reserved and bool(line.matrix_flops + line.vector_flops)


# path -> the lines whose seconds may depend on it; second: whether communication kernels take SMs
DEPENDS: dict[str, Callable[[Line, bool], bool]] = {
    "chip.hbm.bandwidth": lambda line, _: bool(set(line.bytes) - {"network", "nvlink"}),
    "fabric.effective": lambda line, _: "network" in line.bytes,
    "node.nvlink.usable": lambda line, _: "nvlink" in line.bytes,
    "chip.peak.fp32": lambda line, _: bool(line.vector_flops) or line.precision == "fp32",
    "chip.sm.count": computes,
    "chip.sm.communication": computes,
} | {
    f"chip.peak.{name}": lambda line, _, name=name: line.precision == name  # type: ignore[misc]
    for name in ("fp4", "fp8", "bf16", "fp16", "tf32")
}


@lru_cache
def rows(phase: str) -> Trace:
    return rows_of(V3, default_deployment(phase))


def priced(phase: str, hardware: Hardware) -> PhaseBill:
    return price(rows(phase), V3, hardware, default_deployment(phase))


@lru_cache
def before(phase: str) -> PhaseBill:
    return priced(phase, H800)


def changed(path: str, factor: float) -> Hardware:
    """The H800 with one number scaled, or there where it was not; the file's own checks apart."""
    dimension = KEYS[path][0]
    old = H800.values.get(path) or Quantity(7, UNITS.get(dimension, dimension), "a test", "assumed")
    assert not isinstance(old.value, str)
    new = replace(old, value=old.value * factor)
    return replace(H800, values={**H800.values, path: new})


def counts(line: Line) -> tuple[object, ...]:
    return line.op, line.times, line.matrix_flops, line.vector_flops, tuple(line.bytes.items()), line.shapes


@pytest.mark.parametrize("path", NUMBERS)
def test_a_value_changes_only_what_depends_on_it(path: str) -> None:
    for phase in PHASES:
        old, new = before(phase), priced(phase, changed(path, 0.25))
        reserved = old.deployment.communication_sms
        depends = DEPENDS.get(path, lambda _line, _reserved: False)
        for was, now in zip(old.bill.lines, new.bill.lines, strict=True):
            assert counts(was) == counts(now)
            assert was.seconds == now.seconds or depends(was, reserved), f"{path} changes {was.op}"
        assert (old.weight_bytes, old.kv_bytes, old.tokens) == (new.weight_bytes, new.kv_bytes, new.tokens)


@pytest.mark.parametrize(
    "path", ["chip.hbm.bandwidth", "chip.peak.fp8", "chip.peak.bf16", "fabric.effective"]
)
def test_a_value_that_counts_does_count(path: str) -> None:
    assert any(priced(phase, changed(path, 0.25)).bill.total != before(phase).bill.total for phase in PHASES)


@settings(max_examples=30)
@given(path=st.sampled_from(RATES), factor=st.floats(1, 1000), phase=st.sampled_from(PHASES))
def test_seconds_never_rise_when_a_rate_rises(path: str, factor: float, phase: str) -> None:
    old, new = before(phase), priced(phase, changed(path, factor))
    for was, now in zip(old.bill.lines, new.bill.lines, strict=True):
        assert now.seconds <= was.seconds
    for name in ("compute_seconds", "communication_seconds", "serial_seconds", "overlapped_seconds"):
        assert getattr(new, name) <= getattr(old, name) * (1 + 1e-12)
    assert new.tokens_per_second >= old.tokens_per_second * (1 - 1e-12)


@settings(max_examples=20)
@given(taken=st.integers(0, 131), phase=st.sampled_from(PHASES))
def test_sms_for_communication_slow_computing_alone(taken: int, phase: str) -> None:
    hardware = changed("chip.sm.communication", 0)
    quantity = replace(H800["chip.sm.communication"], value=taken)
    slower = priced(phase, replace(hardware, values={**hardware.values, "chip.sm.communication": quantity}))
    faster = priced(phase, hardware)
    assert slower.compute_seconds >= faster.compute_seconds
    assert slower.communication_seconds == faster.communication_seconds
