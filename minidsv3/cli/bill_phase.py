"""`minidsv3 bill --phase`: what a phase of a model that no laptop runs costs one GPU of a deployment.

Nothing is computed but counts: the rows of a trace are made from the config and priced. `--deployment`
names the layout (`data/deployments.toml`); `--set` changes values of the hardware
(chip.hbm.bandwidth=8TB/s) or of the layout (deployment.sequences=64) and prints what becomes of the bill;
`--explain` says where each number is from.

Does: V3, the other presets, a folder's or a config.json's sizes. Does not: read weights.

    >>> config, label, source = named_config("v3")
    >>> config.dim, label, source
    (7168, 'DeepSeek-V3', 'arXiv 2412.19437, abstract and section 4.2')

Next: minidsv3.cli.reproduce
"""

import argparse
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidsv3.config import ModelConfig
    from minidsv3.cost import Bill, Comparison, PhaseBill
    from minidsv3.cost.deployment import Deployment
    from minidsv3.cost.explained import Explained
    from minidsv3.cost.what_if import Effect
    from minidsv3.hardware import Hardware

__all__ = [
    "changed_accumulators",
    "changes_of",
    "explained_bill",
    "named_config",
    "phase_arguments",
    "phase_main",
    "spelled_changes",
    "traced_hardware",
    "write_chrome_trace",
]

LAYOUT = "deployment."  # in front of a field's name, for --set
FIXED = {"phase": "ask with --phase", "as_traced": "what is traced is priced without --phase"}


def phase_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a phase's bill alone."""
    group = parser.add_argument_group("a phase of any model, counted from its config")
    group.add_argument(
        "--phase", metavar="PHASE", help="train, prefill or decode; --model is then a preset, or a folder"
    )
    group.add_argument("--deployment", metavar="NAME", help="the layout on GPUs (the phase's default)")
    group.add_argument(
        "--gpus", type=int, metavar="N", help="spread the experts over so many, without redundant ones"
    )
    group.add_argument("--attention", metavar="HOW", help="decode's: absorbed or naive (the deployment's)")
    group.add_argument("--layers", action="store_true", help="a line for each layer too")


def phase_main(args: argparse.Namespace) -> int:
    """Price the phase, and once more with what `--set` changes."""
    from minidsv3.cli.terminal import print_json
    from minidsv3.cost import phase_bill
    from minidsv3.hardware import load_hardware, with_values

    if args.rows < 1:
        raise ValueError(f"expected --rows >= 1, got {args.rows}")
    if args.model and args.preset:
        raise ValueError(f"expected --preset or --model, got both: {args.preset} and {args.model}")
    hardware, deployment = load_hardware(args.hardware), _deployment(args)
    config, label, source = named_config(args.model or args.preset or "v3")
    values, layout = changes_of(args.set)
    before = phase_bill(config, hardware, deployment, label)
    found = None
    if args.set:
        from minidsv3.cost.scenarios import changed_sums
        from minidsv3.cost.what_if import compare

        machine = with_values(hardware, values)
        after = phase_bill(config, machine, _changed_layout(deployment, layout), label)
        found = compare(before, after, errors=changed_sums(hardware, machine))
    shown = found.after if found else before
    if args.chrome_trace:
        write_chrome_trace(args.chrome_trace, shown)
    if args.json:
        print_json(_plain(args, shown, found, source))
    else:
        _print(args, shown, found, source)
    return 0


def named_config(name: str | Path) -> "tuple[ModelConfig, str, str]":
    """A preset's or a config.json's sizes, what to call them, and where they are from.

    name: a preset, a run or model folder, or a config.json; ValueError with near names.
    """
    from minidsv3.config import ModelConfig, near, preset_names, published_figures

    if str(name) in preset_names():
        published = published_figures(str(name))
        ours = f"data/models/{name}.toml, ours"
        return ModelConfig.preset(str(name)), published.get("title", str(name)), published.get("source", ours)
    path = Path(name)
    places = [path, path / "config.json", path / "model" / "config.json"]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        expected = "a preset, a folder with a config.json or such a file"
        raise ValueError(f"expected {expected}, got {str(name)!r}: {near(str(name), preset_names())}")
    from minidsv3.checkpoint import CheckpointError, from_hugging_face
    from minidsv3.checkpoint.folder import load_json

    try:
        return from_hugging_face(load_json(file), str(file)), str(name), str(file)
    except CheckpointError as error:  # sizes that cannot be priced: an option's value, not a broken model
        raise ValueError(str(error)) from None


def changes_of(texts: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """`--set` values in two: those of the hardware by path, those of the deployment by field."""
    from minidsv3.hardware import parse_changes

    layout: dict[str, str] = {}
    rest = []
    for text in texts:
        if not text.startswith(LAYOUT):
            rest.append(text)
            continue
        field, equals, value = (part.strip() for part in text.removeprefix(LAYOUT).partition("="))
        if not equals or not field or not value:
            raise ValueError(f"expected {LAYOUT}FIELD=VALUE, such as {LAYOUT}sequences=64, got {text!r}")
        if field in FIXED:
            raise ValueError(f"expected a field that can change, got {LAYOUT}{field}: {FIXED[field]}")
        if field in layout:
            raise ValueError(f"{LAYOUT}{field}: expected one new value, got {layout[field]!r} and {value!r}")
        layout[field] = value
    return parse_changes(rest), layout


def spelled_changes(args: argparse.Namespace) -> list[str]:
    """`--set` as it was read, each value with its unit."""
    from minidsv3.hardware import load_hardware, spelled

    values, layout = changes_of(args.set)
    fields = [f"{LAYOUT}{field}={value}" for field, value in layout.items()]
    return [*spelled(load_hardware(args.hardware), values), *fields]


def traced_hardware(args: argparse.Namespace) -> "tuple[Hardware, Hardware]":
    """For steps that run here: the hardware, and the same with what `--set` changes."""
    from minidsv3.config import preset_names
    from minidsv3.hardware import load_hardware, with_values

    if args.model and not args.model.exists() and str(args.model) in preset_names():
        name = args.model
        raise ValueError(
            f"expected a folder for --model without --phase, got the preset {str(name)!r}: "
            f"--phase train, prefill or decode counts it from its sizes"
        )
    for name in ("attention", "gpus"):
        if (value := getattr(args, name)) is not None:
            raise ValueError(f"expected --phase or --deployment with --{name}, got --{name} {value} alone")
    hardware, (values, layout) = load_hardware(args.hardware), changes_of(args.set)
    if layout:
        raise ValueError(
            f"expected --phase or --deployment with {LAYOUT}{next(iter(layout))}, got neither: "
            "what runs here has no deployment"
        )
    return hardware, with_values(hardware, values)


def changed_accumulators(args: argparse.Namespace) -> "tuple[Effect, ...]":
    """What `--set` changes of a tensor core does to its sums; nothing where it changes none."""
    from minidsv3.cost.scenarios import changed_sums

    return changed_sums(*traced_hardware(args))


def explained_bill(
    args: argparse.Namespace, bills: "Mapping[str, Bill]", config: "ModelConfig"
) -> "list[Explained]":
    """Sources of steps that ran here."""
    from minidsv3.cost.explained import explain_hardware, explain_model, explain_rules
    from minidsv3.cost.rates import rates

    _, changed = traced_hardware(args)
    lines = [line for bill in bills.values() for line in bill.lines]
    source = named_config(args.model or args.preset or "nano")[2]
    rules = explain_rules(deployed=False)
    return [*explain_hardware(lines, rates(changed)), *explain_model(config, source), *rules]


def _deployment(args: argparse.Namespace) -> "Deployment":
    """The layout asked for, with the options that change it."""
    from minidsv3.cost.deployment import default_deployment, load_deployment, with_fields

    chosen = load_deployment(args.deployment) if args.deployment else default_deployment(args.phase)
    if args.phase and chosen.phase != args.phase:
        raise ValueError(
            f"expected a deployment of phase {args.phase!r}, got {chosen.name!r}, a {chosen.phase!r} one"
        )
    asked = {"sequences": args.batch, "length": args.seq, "precision": args.precision}
    asked |= {"attention": args.attention, "expert_parallel": args.gpus}
    changes = {name: value for name, value in asked.items() if value is not None}
    if args.gpus is not None:
        changes |= {"redundant_experts": 0, "shared_as_routed": False}
    if args.batch is not None:
        changes["micro_batches"] = together = math.gcd(max(args.batch, 1), chosen.micro_batches)
        if together < chosen.micro_batches and together == 1:  # nothing to compute meanwhile
            changes["overlap"] = False
    return with_fields(chosen, changes, "the command line") if changes else chosen


def _changed_layout(deployment: "Deployment", changes: Mapping[str, str]) -> "Deployment":
    from minidsv3.cost.deployment import with_fields

    return with_fields(deployment, changes) if changes else deployment


def write_chrome_trace(path: Path, priced: "Bill | PhaseBill") -> None:
    """A file for chrome://tracing."""
    import json

    from minidsv3.checkpoint import writing
    from minidsv3.cost.chrome_trace import chrome_trace

    if str(path) == "-" or path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"expected --chrome-trace a file in a folder that exists, got {path}")
    with writing(path) as file:
        file.write(json.dumps(chrome_trace(priced)).encode())


def _plain(
    args: argparse.Namespace, shown: "PhaseBill", found: "Comparison | None", source: str
) -> dict[str, Any]:
    """The JSON object: the bill, or the changed one with the one before and what changed."""
    from minidsv3.cost.explained import explain
    from minidsv3.cost.what_if import unread

    said = shown.to_dict()
    if found:
        said |= {"set": spelled_changes(args), "before": found.before.to_dict(), "changes": found.to_dict()}
        said |= {"unread": unread(changes_of(args.set)[0], shown)}
    if args.explain:
        said |= {"explained": [one._asdict() for one in explain(shown, source)]}
    return said


def _print(args: argparse.Namespace, shown: "PhaseBill", found: "Comparison | None", source: str) -> None:
    from minidsv3.cli.terminal import reads_aloud, results
    from minidsv3.cost.explained import explain
    from minidsv3.cost.what_if import unread
    from minidsv3.show.phase_page import changes_table, explained_table, phase_page

    console = results()
    console.print(phase_page(shown, args.rows, args.layers, pictures=not reads_aloud()))
    if found:
        console.print(f"\nwith {', '.join(spelled_changes(args))}", style="bold cyan")
        console.print(changes_table(found))
        for line in unread(changes_of(args.set)[0], shown):
            console.print(line)
    if args.explain:
        console.print("\nwhere the numbers are from", style="bold cyan")
        console.print(explained_table(explain(shown, source)))
    if args.chrome_trace:
        console.print(f"\nwritten: {args.chrome_trace}, for chrome://tracing or ui.perfetto.dev")
