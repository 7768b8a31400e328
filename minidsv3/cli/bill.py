"""`minidsv3 bill`: what a training step and a decode step cost on a machine.

Both steps run here, traced, on the model of a folder or on random weights of a preset (costs do not depend
on the weights, except for which experts are reached), and the rows are priced with the rates of a hardware
file. `--set` prices the same rows once more with other rates.

With `--phase` or `--deployment` nothing runs: the rows are counted from a config, V3's too, for one GPU of a
deployment (`minidsv3.cli.bill_phase`).

Does: presets and models that a laptop can run. Does not: run V3.

Next: minidsv3.cli.bill_phase
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidsv3.config import ModelConfig, TrainConfig
    from minidsv3.cost import Bill
    from minidsv3.hardware import Hardware
    from minidsv3.machine import Trace
    from minidsv3.model.parameters import Parameters

    Bills = dict[str, Bill]

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "What a training step and a decode step cost on a machine; what a phase of V3 costs a GPU."
EXAMPLES = [
    "minidsv3 bill",
    "minidsv3 bill --preset mini --batch 4 --seq 256",
    "minidsv3 bill --preset mini --precision fp8",
    "minidsv3 bill --model runs/nano-0 --hardware my_cluster.toml --json",
    "minidsv3 bill --preset mini --set chip.hbm.bandwidth=8TB/s",
    "minidsv3 bill --model v3 --hardware h800 --phase train",
    "minidsv3 bill --model v3 --phase decode --deployment decode-production --explain",
    "minidsv3 bill --model nano --phase decode --gpus 1 --seq 512",
    "minidsv3 bill --model v3 --phase prefill --set fabric.effective=50GB/s --chrome-trace prefill.json",
]
SCHEMA = "minidsv3.bills/1"
MOST_PARAMETERS = 200_000_000
MOST_TOKENS = 65_536


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from minidsv3.cli.bill_phase import phase_arguments
    from minidsv3.cli.model_arguments import model_argument, precision_arguments

    parser.add_argument("--preset", help="sizes, with random weights (nano; v3 for a phase)")
    model_argument(parser, "none: the preset's sizes")
    parser.add_argument("--batch", type=int, metavar="B", help="sequences of the training step (1)")
    parser.add_argument(
        "--seq", type=int, metavar="T", help="tokens of a sequence, and cached ones (the plan's)"
    )
    parser.add_argument("--hardware", default="h800", help="a name or a file to price on (h800)")
    precision_arguments(parser)
    parser.set_defaults(precision=None)  # fp32 for what runs here, the deployment's for a phase
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH=VALUE",
        help="other values of the hardware, or of a deployment.FIELD",
    )
    parser.add_argument("--explain", action="store_true", help="say where every number is from")
    parser.add_argument(
        "--chrome-trace", type=Path, metavar="FILE", help="write the priced rows as a timeline"
    )
    parser.add_argument("--rows", type=int, default=15, metavar="N", help="ops to show of each bill (15)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not text")
    phase_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Price a phase from its config, or trace and price both steps."""
    if args.phase or args.deployment:
        from minidsv3.cli.bill_phase import phase_main

        return phase_main(args)
    return _traced_main(args)


def _traced_main(args: argparse.Namespace) -> int:
    """Run both steps, price them, and once more with what `--set` changes."""
    from minidsv3.cli.bill_phase import traced_hardware, write_chrome_trace
    from minidsv3.cli.terminal import print_json
    from minidsv3.cost import bill

    args.batch, args.precision = 1 if args.batch is None else args.batch, args.precision or "fp32"
    hardware, changed = traced_hardware(args)
    parameters, plan, name = _sizes(args)
    traces = _traces(parameters, plan, args.batch, hardware)
    config, cached = parameters.config, _cached(parameters, plan)
    before = {step: bill(rows, hardware, config=config) for step, rows in traces.items()}
    after = {step: bill(rows, changed, config=config) for step, rows in traces.items()}
    if args.chrome_trace:
        write_chrome_trace(args.chrome_trace, after["training_step"])
    facts = {"schema": SCHEMA, "model": name, "batch": args.batch, "seq_len": plan.seq_len}
    facts |= {"decode_cached": cached, "precision": plan.precision, "accumulate": plan.accumulate}
    if args.json:
        print_json(facts | _plain(args, before, after, config))
    else:
        titles = {
            "training_step": f"one training step of {args.batch} x {plan.seq_len} tokens",
            "decode_step": f"one decode step behind {cached} cached tokens",
        }
        _print(args, titles, before, after, config)
    return 0


def _sizes(args: argparse.Namespace) -> "tuple[Parameters, TrainConfig, str]":
    """Weights, plan and name; ValueError before anything large is made."""
    import numpy as np

    from minidsv3.cli.models import find_model
    from minidsv3.config import ModelConfig, TrainConfig
    from minidsv3.interpreter import Model
    from minidsv3.model.parameters import Parameters

    for name in ("batch", "seq", "rows"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise ValueError(f"expected --{name} >= 1, got {value}")
    if args.model and args.preset:
        raise ValueError(f"expected --preset or --model, got both: {args.preset} and {args.model}")
    preset = args.preset or "nano"
    plan, config = TrainConfig.preset(preset), ModelConfig.preset(preset)
    if args.model:
        model = Model.load(find_model(args.model))
        parameters, config, name = model.parameters, model.config, str(args.model)
    length = args.seq or min(plan.seq_len, config.max_seq_len)
    changes: dict[str, Any] = {"seq_len": length, "seed": 0}
    changes |= {"precision": args.precision, "accumulate": args.accumulate}
    plan = TrainConfig.from_dict(plan.to_dict() | changes)
    _check_laptop_size(config, args.batch * length)
    if not args.model:
        parameters, name = Parameters.initialise(config, np.random.default_rng(0)), preset
    return parameters, plan, name


def _check_laptop_size(config: Any, tokens: int) -> None:
    counts = config.parameter_counts()
    total = counts["total"] + counts["mtp"]
    if total > MOST_PARAMETERS or tokens > MOST_TOKENS:
        raise ValueError(
            f"expected a step that a laptop can trace, at most {MOST_PARAMETERS:,} parameters and "
            f"{MOST_TOKENS:,} tokens, got {total:,} and {tokens:,}; larger models are counted from their "
            "config: minidsv3 bill --model v3 --phase train"
        )


def _cached(parameters: "Parameters", plan: "TrainConfig") -> int:
    """Tokens in the cache in front of the decoded one, which needs room too."""
    return min(plan.seq_len, parameters.config.max_seq_len - 1)


def _traces(
    parameters: "Parameters", plan: "TrainConfig", batch: int, hardware: "Hardware"
) -> "dict[str, Trace]":
    """Rows of both steps, on random token ids."""
    import numpy as np

    from minidsv3.cli.pricing import decode_step_rows, training_step_rows

    rng, V, T = np.random.default_rng(0), parameters.config.vocab_size, plan.seq_len
    stream = rng.integers(0, V, batch * T + 1, dtype=np.int32)  # [B T + 1]
    prompt = stream[: _cached(parameters, plan)].tolist()
    return {
        "training_step": training_step_rows(parameters, plan, stream, batch, hardware),
        "decode_step": decode_step_rows(parameters, prompt, hardware, plan.precision),
    }


def _plain(
    args: argparse.Namespace, before: "Bills", after: "Bills", config: "ModelConfig"
) -> dict[str, Any]:
    """Both bills; with `--set` those before too, and what changed; with `--explain` the sources."""
    from minidsv3.cli.bill_phase import changed_accumulators, explained_bill, spelled_changes
    from minidsv3.show.phase_page import bill_effects

    said: dict[str, Any] = {step: _without_lines(one) for step, one in after.items()}
    if args.set:
        changes = {
            step: [effect.to_dict() for effect in bill_effects(before[step], after[step])] for step in after
        }
        old = {step: _without_lines(one) for step, one in before.items()}
        changes["errors"] = [effect.to_dict() for effect in changed_accumulators(args)]
        said |= {"set": spelled_changes(args), "before": old, "changes": changes}
    if args.explain:
        said |= {"explained": [one._asdict() for one in explained_bill(args, after, config)]}
    return said


def _without_lines(bill: "Bill") -> dict[str, Any]:
    return {name: value for name, value in bill.to_dict().items() if name != "lines"}


def _print(
    args: argparse.Namespace, titles: dict[str, str], before: "Bills", after: "Bills", config: "ModelConfig"
) -> None:
    from minidsv3.cli.bill_phase import changed_accumulators, explained_bill, spelled_changes
    from minidsv3.cli.terminal import results
    from minidsv3.show.numbers import size
    from minidsv3.show.phase_page import bill_effects, changes_table, explained_table
    from minidsv3.show.tables import BillTable, RollUp, bill_summary

    console = results()
    for step, bill in after.items():
        console.print(titles[step], style="bold cyan")
        console.print(bill_summary(bill))
        console.print(BillTable(bill, rows=args.rows))
        for by in ("part", *(("layer",) if args.layers else ())):
            console.print(RollUp(bill, by))
        if args.set:
            console.print(f"\nwith {', '.join(spelled_changes(args))}", style="bold cyan")
            console.print(changes_table(bill_effects(before[step], bill)))
        console.print()
    if errors := changed_accumulators(args):
        console.print("sums on the changed tensor core", style="bold cyan")
        console.print(changes_table(errors))
    decode = after["decode_step"]
    if decode.kv_bytes_per_token is not None:
        console.print(f"KV cache: {size(decode.kv_bytes_per_token)} a token")
    console.print(f"priced as: {decode.rule}")
    if args.explain:
        console.print("\nwhere the numbers are from", style="bold cyan")
        console.print(explained_table(explained_bill(args, after, config)))
    if args.chrome_trace:
        console.print(f"written: {args.chrome_trace}, for chrome://tracing or ui.perfetto.dev")
