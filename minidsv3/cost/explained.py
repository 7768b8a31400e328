"""Where every number of a bill is from: hardware, model, deployment, rules, each with source and status.

A bill depends on the values of the hardware file that its lines are priced at, on the fields of the config
that shapes and copies are made of, on the deployment, and on rules of counting and pricing. Values that a
what-if changed say so.

Does: list. Does not: price.

    >>> from minidsv3.cost.phase_bill import phase_bill
    >>> from minidsv3.hardware import load_hardware
    >>> v3 = phase_bill(ModelConfig.preset("v3"), load_hardware("h800"), "decode")
    >>> [one.name for one in explain(v3) if one.kind == "hardware" and one.name.startswith("chip")]
    ['chip.peak.bf16', 'chip.peak.fp32', 'chip.hbm.bandwidth', 'chip.peak.fp8', 'chip.hbm.capacity']

Next: minidsv3.cost.chrome_trace
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from minidsv3.config import ModelConfig
from minidsv3.cost.bill import Line
from minidsv3.cost.deployment import Deployment
from minidsv3.cost.nvlink import domain_is_the_machines
from minidsv3.cost.phase_bill import PhaseBill
from minidsv3.cost.rates import WIRES, Rates
from minidsv3.hardware import Quantity
from minidsv3.machine import load_precision

__all__ = ["Explained", "explain", "explain_hardware", "explain_model", "explain_rules"]


class Explained(NamedTuple):
    """A number that went into a bill."""

    kind: str  # hardware, model, deployment, profile, precision, rule
    name: str
    value: str
    source: str
    status: str


def explain(phase: PhaseBill, model_source: str = "the model's config") -> tuple[Explained, ...]:
    """Every number used: values of the hardware file, fields of model and deployment, rules of pricing."""
    hardware = (*explain_hardware(phase.bill.lines, phase.rates), *_explain_domain(phase))
    model = explain_model(phase.config, model_source)
    deployment = _explain_deployment(phase.deployment)
    beside = (_explained(path, one) for path, one in phase.rates.hardware.values.items() if path in BESIDE)
    return (*hardware, *beside, *model, *deployment, _explain_precision(phase), *explain_rules(deployed=True))


def explain_hardware(lines: Iterable[Line], at: Rates) -> Iterator[Explained]:
    """Values of the hardware file that the seconds of these lines depend on."""
    products, wires = set[str](), set[str]()
    for line in lines:
        products |= {line.precision} if line.matrix_flops else set()
        wires |= {WIRES[kind] for kind in line.bytes if kind in WIRES}
    used = {f"chip.peak.{name}" for name in products} | wires | {"chip.peak.fp32", "chip.hbm.bandwidth"}
    for path, one in at.values.items():
        if path in used or path.startswith("chip.sm."):
            yield _explained(path, one)


def _explained(path: str, one: Quantity) -> Explained:
    return Explained("hardware", path, one.text, one.source, one.status)


def _explain_domain(phase: PhaseBill) -> Iterator[Explained]:
    """The machine's GPUs that NVLink joins, where the layout takes them from it."""
    one = phase.rates.hardware.values.get("node.gpus")
    if one and domain_is_the_machines(phase.deployment):
        yield _explained("node.gpus", one)


def explain_model(config: ModelConfig, source: str) -> Iterator[Explained]:
    """Fields of a config that shapes and copies are made of."""
    fields = config.to_dict()
    status = "assumed" if source.endswith("ours") else "given" if source.endswith(".json") else "report"
    for name in MODEL_FIELDS:
        yield Explained("model", name, str(fields[name]), source, status)


def _explain_deployment(deployment: Deployment) -> Iterator[Explained]:
    for name, said in deployment.sources.items():
        value = ", ".join(said.value) if isinstance(said.value, tuple | list) else str(said.value)
        yield Explained("deployment", name, value, said.source, said.status)
    for name, said in deployment.profile.items():
        yield Explained("profile", name, f"{said.value} {said.unit}", said.source, said.status)


def _explain_precision(phase: PhaseBill) -> Explained:
    """Which op multiplies in which format, and what is stored how: a recipe with its own source."""
    recipe = load_precision(phase.deployment.precision)
    return Explained("precision", recipe.name, recipe.title, recipe.source, "report")


def explain_rules(deployed: bool) -> Iterator[Explained]:
    """Rules of pricing.  deployed: with those that concern GPUs side by side."""
    for name, text, source in (*RULES, *(DEPLOYED if deployed else ())):
        yield Explained("rule", name, text, source, "report" if "report" in source else "assumed")


BESIDE = ("chip.hbm.capacity", "price.gpu_hour")  # what fits, and what it costs: no second depends on them

# fields of a model config that shapes and copies are made of
MODEL_FIELDS = (
    "vocab_size", "dim", "inter_dim", "moe_inter_dim", "n_layers", "n_dense_layers", "n_heads",
    "n_routed_experts", "n_shared_experts", "n_activated_experts", "n_expert_groups", "n_limited_groups",
    "score_func", "topk_method", "norm_topk_prob", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim",
    "qk_rope_head_dim", "v_head_dim", "n_mtp_layers", "fp8_block",
)  # fmt: skip

# name, rule, source
RULES = (
    ("FLOPs of a product", "2 for every combination of the axes of its signature", "data/ops.toml"),
    ("FLOPs of the rest", "so many an element, by primitive", "data/ops.toml"),
    ("bytes", "each operand read once, each result written once, in the recipe's formats", "data/precision"),
    ("kernels", "each primitive is one; none is launched, waited for, or slower than its bound", "ours"),
    ("seconds of a row", "the longest of computing, memory and each wire", "the roofline model"),
)
DEPLOYED = (
    ("attention", "one kernel: scores and probabilities stay on the chip; blocks of 64 queries", "ours"),
    (
        "experts",
        "evenly loaded; a GPU computes as many copies as its tokens send",
        "deepseek-ai/profile-data",
    ),
    (
        "copies",
        "means over tokens drawn with independent scores and routed by the model's own rule",
        "ours, on DeepSeek-V3 report 2.1.2 and 3.2.2",
    ),
    (
        "NVLink",
        "joins the largest divisor of expert_parallel that is at most node.gpus, unless "
        "deployment.gpus_per_node is set; decode's copies take it only where that is wider than the "
        "layout's node, or deployment.nvlink_inside is set",
        "ours",
    ),
    ("overlap", "the longer of computing and communicating", "DeepSeek-V3 report, 3.2.1"),
)
