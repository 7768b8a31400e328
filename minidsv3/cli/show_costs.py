"""`minidsv3 show roofline`, `waterfall`, `kv`, `memory`: what a model costs on a machine, as pictures.

The model is a preset, a folder or a config.json, the machine a name or a .toml file; `--set PATH=VALUE` makes
a machine that is not there yet. A phase is priced as one GPU of a deployment pays it, by default DeepSeek's.

Does: load, price, hand over. Does not: draw.

    >>> from minidsv3.cli import main as minidsv3
    >>> minidsv3(["show", "roofline", "--phase", "trian"])
    2
    >>> minidsv3(["show", "kv", "--set", "chip.hbm.capacity=8TB/s"])
    2

Next: minidsv3.cli.show_wishes
"""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from minidsv3.cli.show import Subject, present

if TYPE_CHECKING:
    from rich.console import RenderableType

    from minidsv3.config import ModelConfig
    from minidsv3.cost import Deployment, PhaseBill
    from minidsv3.hardware import Hardware

__all__ = ["SUBJECTS"]

LENGTHS = "1024,4096,32768,131072"
LONGEST = 2**30  # tokens of a sequence
MOST_LETTERS = 26
# of a memory budget, by whether it is of training
LEFT_OUT = {
    True: "left out: buffers of communication, what a kernel works in",
    False: "left out: activations, of which a forward alone keeps none past its layer; buffers of "
    "communication, what a kernel works in",
}
# what a forward keeps, by the name of its recipe
KEPT = {"v3": "as V3 does", "no-scores": "all but scores", "everything": "everything"}


# ---- options ----------------------------------------------------------------------------------------------


def _model_and_machine(parser: argparse.ArgumentParser, layout: str = "") -> None:
    parser.add_argument(
        "--model", default="v3", metavar="NAME", help="a preset, a model folder, or a config.json (v3)"
    )
    parser.add_argument("--hardware", default="h800", metavar="NAME", help="a machine or a .toml file (h800)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help=f"another value of the machine, such as chip.hbm.bandwidth=8TB/s{layout} (several)",
    )


def _phase(parser: argparse.ArgumentParser) -> None:
    _model_and_machine(parser, ", or of the layout, such as deployment.sequences=64")
    parser.add_argument("--phase", metavar="PHASE", help="train, prefill or decode (the deployment's; train)")
    parser.add_argument("--deployment", metavar="NAME", help="how the model is laid out (the phase's own)")


def _roofline_arguments(parser: argparse.ArgumentParser) -> None:
    _phase(parser)
    parser.add_argument("--rows", type=int, default=10, metavar="N", help="ops to name (10)")


def _waterfall_arguments(parser: argparse.ArgumentParser) -> None:
    _phase(parser)
    parser.add_argument("--by", default="part", metavar="WHAT", help="part, phase, precision or op (part)")


def _kv_arguments(parser: argparse.ArgumentParser) -> None:
    _model_and_machine(parser)
    parser.add_argument("--lengths", default=LENGTHS, metavar="A,B,C", help=f"tokens ({LENGTHS})")


# ---- what is asked about ----------------------------------------------------------------------------------


def _hardware(args: argparse.Namespace) -> "Hardware":
    from minidsv3.cli.bill_phase import changes_of
    from minidsv3.hardware import load_hardware, with_values

    return with_values(load_hardware(args.hardware), changes_of(args.set)[0])


def _deployment(args: argparse.Namespace) -> "Deployment":
    """The one that is named, of the phase that is asked for, with what is changed of it."""
    from minidsv3.cli.bill_phase import changes_of
    from minidsv3.cost.deployment import default_deployment, load_deployment, with_fields

    chosen = (
        load_deployment(args.deployment) if args.deployment else default_deployment(args.phase or "train")
    )
    if args.phase not in (None, chosen.phase):
        said = f"{chosen.name!r}, which is of {chosen.phase!r}"
        raise ValueError(f"expected a deployment of phase {args.phase!r}, got {said}")
    changes = changes_of(args.set)[1]
    return with_fields(chosen, changes) if changes else chosen


def _priced(args: argparse.Namespace) -> "PhaseBill":
    from minidsv3.cli.bill_phase import named_config
    from minidsv3.cost import phase_bill

    config, label, _ = named_config(args.model)
    return phase_bill(config, _hardware(args), _deployment(args), label)


def _asked(args: argparse.Namespace, subject: str, *more: str) -> str:
    """The subject and what was asked of it: a picture's title."""
    from minidsv3.cli.bill_phase import spelled_changes

    return " ".join([subject, str(args.model), *more, "on", str(args.hardware), *spelled_changes(args)])


def _page(
    args: argparse.Namespace, title: str, picture: "RenderableType", deployment: "Deployment", *remarks: str
) -> "RenderableType":
    """The picture under what it is about, above what it needs to be read with."""
    from minidsv3.cli.bill_phase import spelled_changes
    from minidsv3.show.measurements import Page
    from minidsv3.show.phase_page import layout

    said = [f"what if: {change}" for change in spelled_changes(args)]
    return Page(f"{title}, {deployment.phase}", {layout(deployment): picture}, [*remarks, *said])


def _facts(args: argparse.Namespace, deployment: "Deployment | None" = None) -> dict[str, object]:
    """The question, for JSON."""
    from minidsv3.cli.bill_phase import spelled_changes

    facts = {"model": args.model, "hardware": args.hardware, "set": spelled_changes(args)}
    return facts | ({"phase": deployment.phase, "deployment": deployment.name} if deployment else {})


# ---- the subjects -----------------------------------------------------------------------------------------


def _roofline(args: argparse.Namespace) -> int:
    from minidsv3.show.roofline import Roofline

    if not 1 <= args.rows <= MOST_LETTERS:
        raise ValueError(f"expected --rows from 1 to {MOST_LETTERS}, got {args.rows}")
    phase = _priced(args)
    picture = Roofline(phase.bill, phase.rates, args.rows)
    said: dict[str, object] = {"ridges": {name: phase.rates.ridge(name) for name in phase.rates.peaks}}
    said |= {"memory": phase.rates.memory, "points": [asdict(point) for point in picture.points()]}
    page = _page(args, f"{phase.model} on {phase.bill.hardware_name}", picture, phase.deployment)
    return present(
        args, _asked(args, "roofline", phase.deployment.name), page, _facts(args, phase.deployment) | said
    )


def _waterfall(args: argparse.Namespace) -> int:
    from minidsv3.show.waterfall import waterfall_of

    phase, remarks = _priced(args), []
    picture = waterfall_of(phase.bill, phase.deployment.overlap, args.by)
    said: dict[str, object] = {"seconds": picture.total, "steps": [asdict(step) for step in picture.steps]}
    said |= {"by": args.by, "hidden_seconds": picture.hidden if picture.beside else 0.0}
    if (stages := phase.deployment.pipeline) > 1:
        remarks.append(f"seconds of a micro-batch's way through all {stages} stages of the pipeline")
    page = _page(args, f"{phase.model} on {phase.bill.hardware_name}", picture, phase.deployment, *remarks)
    title = _asked(args, "waterfall", phase.deployment.name, "by", args.by)
    return present(args, title, page, _facts(args, phase.deployment) | said)


def _kv(args: argparse.Namespace) -> int:
    from minidsv3.cli.bill_phase import named_config, spelled_changes
    from minidsv3.cli.show_needle import grid
    from minidsv3.show.kv_growth import KVGrowth
    from minidsv3.show.measurements import Page

    _no_layout(args)
    lengths = grid(args.lengths, int, "--lengths", 1, LONGEST)
    config, label, _ = named_config(args.model)
    hardware, models = _hardware(args), _caches(label, config)
    picture = KVGrowth(
        models, lengths, int(hardware["chip.hbm.capacity"].si), f"memory of the {hardware.name}"
    )
    remarks = [f"{label} reads at most {config.max_seq_len:,} positions"]
    remarks += [f"what if: {change}" for change in spelled_changes(args)]
    said = {"bytes_a_token": models, "lengths": lengths, "capacity": picture.capacity}
    said |= {"tokens_that_fit": {name: picture.fits(name) for name in models}}
    page = Page("the KV cache, in BF16", {"one sequence, by its length": picture}, remarks)
    said |= {"positions_at_most": config.max_seq_len}
    return present(args, _asked(args, "kv"), page, _facts(args) | said)


def _no_layout(args: argparse.Namespace) -> None:
    """ValueError for a change that one sequence's cache does not depend on."""
    from minidsv3.cli.bill_phase import LAYOUT, changes_of

    if fields := changes_of(args.set)[1]:
        raise ValueError(
            f"expected values of the machine, got {LAYOUT}{next(iter(fields))}: "
            "one sequence's cache has no layout; `minidsv3 show memory --phase decode` has"
        )


def _caches(label: str, config: "ModelConfig") -> dict[str, int]:
    """Bytes a token: the model's own, then dense models' and the model's heads with other attention."""
    from minidsv3.cost import kv_bytes_mha, kv_bytes_mqa, kv_bytes_per_token
    from minidsv3.cost.dense import dense_names, load_dense

    others = {"its heads, MQA": kv_bytes_mqa(config)}
    others |= {f"its heads, {name}": each for name, each in _grouped(config).items()}
    for dense in map(load_dense, dense_names()):
        others[f"{dense.title}, GQA {dense.n_kv_heads}"] = dense.kv_bytes_per_token
    others["its heads, MHA"] = kv_bytes_mha(config)
    ascending = dict(sorted(others.items(), key=lambda pair: pair[1]))
    return {f"{label}, MLA": kv_bytes_per_token(config)} | ascending


def _grouped(config: "ModelConfig") -> dict[str, int]:
    """The model's heads in as many groups as dense models have, if they divide evenly."""
    from minidsv3.cost import kv_bytes_grouped
    from minidsv3.cost.dense import dense_names, load_dense

    groups = load_dense(dense_names()[0]).n_kv_heads
    if config.n_heads % groups or config.n_heads == groups:
        return {}
    return {f"GQA {groups}": kv_bytes_grouped(config.n_layers, groups, config.v_head_dim)}


def _memory(args: argparse.Namespace) -> int:
    from minidsv3.cli.bill_phase import named_config
    from minidsv3.show.memory_budget import MemoryBudget

    config, label, _ = named_config(args.model)
    hardware, deployment = _hardware(args), _deployment(args)
    training = deployment.phase == "train"
    budgets = _training(config, deployment) if training else _serving(config, deployment, hardware)
    picture = MemoryBudget(budgets, int(hardware["chip.hbm.capacity"].si), f"memory of the {hardware.name}")
    page = _page(
        args, f"{label} on {hardware.name}", picture, deployment, _compared(deployment), LEFT_OUT[training]
    )
    said = {"capacity": picture.capacity, "budgets": budgets}
    return present(args, _asked(args, "memory", deployment.name), page, _facts(args, deployment) | said)


def _training(config: "ModelConfig", deployment: "Deployment") -> dict[str, dict[str, int]]:
    """Parts by what a forward keeps for the backward, V3's own way first."""
    from minidsv3.cost.memory import kept_recipes, training_memory
    from minidsv3.cost.rates import FORMATS
    from minidsv3.cost.training_run import load_run
    from minidsv3.machine import load_precision

    found = {}
    for kept in reversed(kept_recipes()):
        parts = training_memory(
            config,
            gpus=int(load_run("v3")["gpus"].si),
            stages=deployment.pipeline,
            expert_parallel=deployment.expert_parallel,
            length=deployment.length,
            sequences=deployment.sequences,
            kept=kept,
            weight_bytes=FORMATS[load_precision(deployment.precision).product("experts.down")],
        )
        found[KEPT.get(kept, kept)] = {name.replace("_", " "): round(n) for name, n in parts.items()}
    return found


def _serving(
    config: "ModelConfig", deployment: "Deployment", hardware: "Hardware"
) -> dict[str, dict[str, int]]:
    """Weights and cache with MLA, and what the cache of the same requests were with other attention."""
    from minidsv3.cost import kv_bytes_mha, kv_bytes_per_token, phase_bill

    phase, own = phase_bill(config, hardware, deployment), kv_bytes_per_token(config)
    caches = {"MLA": own} | _grouped(config) | {"MHA": kv_bytes_mha(config)}
    return {
        name: {"weights": phase.weight_bytes, "KV cache": phase.kv_bytes // own * each}
        for name, each in caches.items()
    }


def _compared(deployment: "Deployment") -> str:
    """What tells the bars apart."""
    if deployment.phase == "train":
        in_flight = deployment.pipeline + 1
        return f"activations of {in_flight} micro-batches in flight, by what a forward keeps for its backward"
    requests = f"{deployment.sequences} sequences of {deployment.length} tokens"
    return f"{requests}: as deployed, and if the same heads had other attention"


SUBJECTS = {
    "roofline": Subject(
        "A phase's ops over the FLOPs they do with a byte, under the peaks and the memory of a machine.",
        [
            "minidsv3 show roofline",
            "minidsv3 show roofline --phase decode --rows 16",
            "minidsv3 show roofline --hardware h200 --phase prefill --svg roofline.svg",
            "minidsv3 show roofline --phase decode --set chip.hbm.bandwidth=8TB/s",
        ],
        _roofline_arguments,
        _roofline,
    ),
    "waterfall": Subject(
        "Where a phase's seconds go: part by part, what bounds them, what communication is hidden.",
        [
            "minidsv3 show waterfall",
            "minidsv3 show waterfall --by op",
            "minidsv3 show waterfall --phase decode --deployment decode-production",
            "minidsv3 show waterfall --phase prefill --set fabric.effective=100GB/s",
        ],
        _waterfall_arguments,
        _waterfall,
    ),
    "kv": Subject(
        "How one sequence's cache grows with its length: MLA, MQA, GQA, MHA, dense models, a GPU's memory.",
        [
            "minidsv3 show kv",
            "minidsv3 show kv --model moonlight --lengths 4096,1048576",
            "minidsv3 show kv --hardware b200 --json",
        ],
        _kv_arguments,
        _kv,
    ),
    "memory": Subject(
        "What lies in one GPU's memory: weights, optimiser, activations or cache, against its capacity.",
        [
            "minidsv3 show memory",
            "minidsv3 show memory --phase decode",
            "minidsv3 show memory --phase train --hardware h200",
            "minidsv3 show memory --phase decode --set deployment.sequences=256",
        ],
        _phase,
        _memory,
    ),
}
