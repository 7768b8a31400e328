"""A model's phase on a machine: one GPU's rows of a deployment, priced, computing and communicating apart.

Where a deployment overlaps, one micro-batch computes while another communicates, and the phase takes as
long as the longer of the two; otherwise as long as both. Every kernel runs at its peak or at the memory's
full rate, nothing is launched or waited for, so these seconds are a lower bound for kernels cut like the
rows. `against_profile` puts them beside what DeepSeek measured of the same pair of chunks.

A pipeline's micro-batch visits all its GPUs; the bill is that of the whole visit, in seconds of a GPU, of
which each of them has a part. Bubbles, the optimiser and transfers between stages are not in it.

    >>> from minidsv3.hardware import load_hardware
    >>> v3 = phase_bill(ModelConfig.preset("v3"), load_hardware("h800"), load_deployment("decode"))
    >>> v3.tokens, v3.bound, f"{v3.kv_bytes / 1e9:.1f} GB of cache"
    (128, 'network', '36.9 GB of cache')

Next: minidsv3.cost.explained
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from minidsv3.config import ModelConfig
from minidsv3.cost.bill import Bill, Line, bill
from minidsv3.cost.deployment import Deployment, default_deployment, load_deployment
from minidsv3.cost.held_weights import held_weight_bytes
from minidsv3.cost.nvlink import on_machine
from minidsv3.cost.per_token import kv_bytes_per_token
from minidsv3.cost.rates import Rates, rates
from minidsv3.cost.rows import rows_of
from minidsv3.cost.uses import Loads
from minidsv3.hardware import Hardware
from minidsv3.machine import Trace, load_precision

__all__ = ["PhaseBill", "ProfileLine", "against_profile", "phase_bill", "price"]


@dataclass(frozen=True)
class PhaseBill:
    """One GPU's bill of a phase.  Seconds are lower bounds."""

    model: str
    config: ModelConfig
    deployment: Deployment
    bill: Bill
    rates: Rates
    trace: Trace
    tokens: int  # that one GPU puts through
    compute_seconds: float  # of all rows but communication
    communication_seconds: float
    kv_bytes: int  # cache of the sequences of one GPU
    weight_bytes: int  # held by one GPU, in the formats that products read

    @property
    def serial_seconds(self) -> float:
        """Computing and communicating one after the other."""
        return self.compute_seconds + self.communication_seconds

    @property
    def overlapped_seconds(self) -> float:
        """The longer of the two, where the deployment overlaps them."""
        if not self.deployment.overlap:
            return self.serial_seconds
        return max(self.compute_seconds, self.communication_seconds)

    @property
    def seconds(self) -> float:
        """How long the phase takes as deployed."""
        return self.overlapped_seconds

    @property
    def tokens_per_second(self) -> float:
        """Of one GPU: of a pipeline's, too, whose GPUs share both the seconds and the tokens."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def dollars(self) -> float | None:
        """Rent of the GPUs for a million tokens, at least; None where the hardware has no price an hour."""
        if "price.gpu_hour" not in self.rates.hardware.values or not self.tokens:
            return None
        return 1e6 * self.rates.hardware["price.gpu_hour"].si * self.seconds / self.tokens

    @property
    def bound(self) -> str:
        """What the phase waits for: "network", "nvlink", or what bounds most of its computing."""
        if self.communication_seconds <= self.compute_seconds:
            return _bound(line for line in self.bill.lines if line.phase != "communication")
        return _bound(line for line in self.bill.lines if line.phase == "communication")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the fields and properties above by their names, seconds and bytes.

        deployment: its fields. bill: as `Bill.to_dict`, its lines left out. ridges: FLOP a byte by format.
        dollars_a_million_tokens: `dollars`. profile: what was measured, where the deployment has it.
        """
        said: dict[str, Any] = {
            "schema": "minidsv3.phase_bill/1",
            "model": self.model,
            "phase": self.deployment.phase,
        }
        said |= {"deployment": self.deployment.to_dict()}
        names = ("tokens", "compute_seconds", "communication_seconds", "serial_seconds", "overlapped_seconds")
        said |= {name: getattr(self, name) for name in (*names, "tokens_per_second", "bound")}
        said |= {"kv_bytes": self.kv_bytes, "weight_bytes": self.weight_bytes}
        said |= {"dollars_a_million_tokens": self.dollars}
        said |= {"bill": {name: value for name, value in self.bill.to_dict().items() if name != "lines"}}
        said |= {"ridges": {name: self.rates.ridge(name) for name in self.rates.peaks}}
        profile = [asdict(line) for line in against_profile(self)]
        return said | ({"profile": profile} if profile else {})


def _bound(lines: Iterable[Line]) -> str:
    seconds = {"none": 0.0}
    for line in lines:
        seconds[line.bound] = seconds.get(line.bound, 0.0) + line.seconds
    return max(seconds, key=lambda bound: seconds[bound])


def phase_bill(
    config: ModelConfig,
    hardware: Hardware,
    deployment: Deployment | str,
    model: str = "",
    loads: Loads | None = None,
) -> PhaseBill:
    """Price one GPU of a deployment.

    deployment: or its name, or a phase, which has a default  model: its name, for the reader  loads: as for
    `rows_of`. NVLink joins as many GPUs as the hardware does (`on_machine`). Raises ValueError for a model
    that does not fit, and for rates that the hardware file leaves out.
    """
    if isinstance(deployment, str):
        phases = ("train", "prefill", "decode")
        chosen = default_deployment(deployment) if deployment in phases else load_deployment(deployment)
    else:
        chosen = deployment
    chosen = on_machine(chosen, hardware)
    return price(rows_of(config, chosen, loads), config, hardware, chosen, model)


def price(
    trace: Trace, config: ModelConfig, hardware: Hardware, deployment: Deployment, model: str = ""
) -> PhaseBill:
    """Price rows of a deployment as it is on this machine, such as `rows_of` made and a what-if changed."""
    reserve, format = deployment.communication_sms, _unnamed(deployment)
    priced = bill(trace, hardware, format, reserve, config)
    at = rates(hardware, format, reserve)
    computing, communicating = (
        sum(line.seconds for line in priced.lines if (line.phase == "communication") is sent)
        for sent in (False, True)
    )
    seen = deployment.length + (deployment.phase == "decode")
    cache = deployment.sequences * seen * kv_bytes_per_token(config, at.number_bytes)
    return PhaseBill(
        model=model,
        config=config,
        deployment=deployment,
        bill=replace(priced, rule=_rule(deployment, at)),
        rates=at,
        trace=trace,
        tokens=deployment.tokens,
        compute_seconds=computing,
        communication_seconds=communicating,
        kv_bytes=0 if deployment.phase == "train" else cache,
        weight_bytes=held_weight_bytes(config, deployment, trace),
    )


def _unnamed(deployment: Deployment) -> str:
    """The format that rows are priced in where they name none: float32 if nothing is rounded."""
    return "bf16" if load_precision(deployment.precision).rounds else "fp32"


def _rule(deployment: Deployment, at: Rates) -> str:
    """How the rows are priced, in words."""
    products = f"each product at the peak of its wider factor's format ({deployment.precision} recipe)"
    numbers = "bytes in the recipe's formats"
    if at.format == "fp32":
        products, numbers = "each product at the float32 peak, without tensor cores", "4 bytes a number"
    kernels = "each primitive a kernel of its own"
    if not deployment.as_traced:
        kernels = "attention one kernel, each other primitive one"
    _, some, sms = at.rule.rpartition("; ") if deployment.communication_sms else ("", "", "")
    return f"{products}, the rest at the float32 peak of the CUDA cores; {numbers}; {kernels}{some}{sms}"


# ---- beside what was measured -----------------------------------------------------------------------------


@dataclass(frozen=True)
class ProfileLine:
    """A measured time of a pair of chunks, and the bill's lower bound for the same."""

    name: str  # compute, communication, pair
    seconds: float  # the bill's
    measured: float
    source: str

    @property
    def share(self) -> float:
        """The bill's part of the measured time; how near to its bounds the machine ran."""
        return self.seconds / self.measured


def against_profile(phase: PhaseBill) -> tuple[ProfileLine, ...]:
    """The bill of as many MoE layers as were profiled, beside the profile; empty if there is none."""
    profile = phase.deployment.profile
    layers = phase.config.n_layers - phase.config.n_dense_layers
    if not profile or not layers:
        return ()
    part = profile["layers"].value / layers
    inside = [line for line in phase.bill.lines if line.layer == phase.config.n_dense_layers]
    sent = part * sum(line.seconds for line in inside if line.phase == "communication")
    computed = part * sum(line.seconds for line in inside if line.phase != "communication")
    seconds = {"compute": computed, "communication": sent, "pair": max(computed, sent)}
    return tuple(ProfileLine(name, seconds[name], profile[name].si, profile[name].source) for name in seconds)
