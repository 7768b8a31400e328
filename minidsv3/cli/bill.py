"""`minidsv3 bill`: what a training step and a decode step cost on a machine.

Both steps run here, traced, on the model of a folder or on random weights of a preset (costs do not depend
on the weights, except for which experts are reached), and the rows are priced with the rates of a hardware
file.

Does: presets and models that a laptop can run. Does not: V3 itself, whose 671 billion parameters have
closed forms in `minidsv3.cost`.

Next: minidsv3.cli.show
"""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidsv3.config import TrainConfig
    from minidsv3.cost import Bill
    from minidsv3.model.parameters import Parameters

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "What a training step and a decode step cost on a machine."
EXAMPLES = [
    "minidsv3 bill",
    "minidsv3 bill --preset mini --batch 4 --seq 256",
    "minidsv3 bill --preset mini --precision fp8",
    "minidsv3 bill --model runs/nano-0 --hardware my_cluster.toml --json",
]
SCHEMA = "minidsv3.bills/1"
MOST_PARAMETERS = 200_000_000
MOST_TOKENS = 65_536


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from minidsv3.cli.model_arguments import model_argument, precision_arguments

    parser.add_argument("--preset", help="sizes, with random weights (nano)")
    model_argument(parser, "none: the preset's sizes")
    parser.add_argument(
        "--batch", type=int, default=1, metavar="B", help="sequences of the training step (1)"
    )
    parser.add_argument(
        "--seq", type=int, metavar="T", help="tokens of a sequence, and cached ones (the plan's)"
    )
    parser.add_argument("--hardware", default="h800", help="a name or a file to price on (h800)")
    precision_arguments(parser)
    parser.add_argument("--rows", type=int, default=15, metavar="N", help="ops to show of each bill (15)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not text")


def main(args: argparse.Namespace) -> int:
    """Trace and price both steps."""
    from minidsv3.cli.terminal import print_json
    from minidsv3.hardware import load_hardware

    hardware = load_hardware(args.hardware)
    parameters, plan, name = _sizes(args)
    training, decode = _bills(parameters, plan, args.batch, hardware)
    cached = _cached(parameters, plan)
    facts = {"schema": SCHEMA, "model": name, "batch": args.batch, "seq_len": plan.seq_len}
    facts |= {"decode_cached": cached, "precision": plan.precision, "accumulate": plan.accumulate}
    if args.json:
        print_json(facts | {"training_step": _plain(training), "decode_step": _plain(decode)})
    else:
        _print(args, plan.seq_len, cached, training, decode)
    return 0


def _sizes(args: argparse.Namespace) -> "tuple[Parameters, TrainConfig, str]":
    """Weights, plan and name; ValueError before anything large is made."""
    import numpy as np

    from minidsv3.cli.models import find_model
    from minidsv3.config import ModelConfig, TrainConfig
    from minidsv3.interpreter import Model
    from minidsv3.model.parameters import Parameters

    if args.batch < 1 or (args.seq is not None and args.seq < 1) or args.rows < 1:
        raise ValueError(
            f"expected --batch, --seq and --rows >= 1, got {args.batch}, {args.seq} and {args.rows}"
        )
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
            f"{MOST_TOKENS:,} tokens, got {total:,} and {tokens:,}; larger models have closed forms, "
            "minidsv3.cost.training_work and decode_absorbed_work"
        )


def _cached(parameters: "Parameters", plan: "TrainConfig") -> int:
    """Tokens in the cache in front of the decoded one, which needs room too."""
    return min(plan.seq_len, parameters.config.max_seq_len - 1)


def _bills(parameters: "Parameters", plan: "TrainConfig", batch: int, hardware: Any) -> "tuple[Bill, Bill]":
    """Bills on random token ids."""
    import numpy as np

    from minidsv3.cli.pricing import decode_step_bill, training_step_bill

    rng, V, T = np.random.default_rng(0), parameters.config.vocab_size, plan.seq_len
    stream = rng.integers(0, V, batch * T + 1, dtype=np.int32)  # [B T + 1]
    prompt = stream[: _cached(parameters, plan)].tolist()
    return (
        training_step_bill(parameters, plan, stream, batch, hardware),
        decode_step_bill(parameters, prompt, hardware, plan.precision),
    )


def _plain(bill: "Bill") -> dict[str, Any]:
    return {name: value for name, value in bill.to_dict().items() if name != "lines"}


def _print(args: argparse.Namespace, length: int, cached: int, training: "Bill", decode: "Bill") -> None:
    from minidsv3.cli.terminal import results
    from minidsv3.show.numbers import size
    from minidsv3.show.tables import BillTable, RollUp, bill_summary

    console = results()
    titles = (
        f"one training step of {args.batch} x {length} tokens",
        f"one decode step behind {cached} cached tokens",
    )
    for title, bill in zip(titles, (training, decode), strict=True):
        console.print(title, style="bold cyan")
        console.print(bill_summary(bill))
        console.print(BillTable(bill, rows=args.rows))
        console.print(RollUp(bill))
        console.print()
    if decode.kv_bytes_per_token is not None:
        console.print(f"KV cache: {size(decode.kv_bytes_per_token)} a token")
    console.print(f"priced as: {training.rule}")
