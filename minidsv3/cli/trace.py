"""`minidsv3 trace`: one row for every op of a prompt's forward pass, priced.

The model runs the prompt once on a machine that writes down what it does: op, equation, layer, shapes,
FLOPs, bytes, and what these would cost on the machine of a hardware file. `--op` and `--layer` choose rows.

With `--backward` it is the prompt's loss and its gradients; with `--precision fp8` every row says in which
formats its operands lie and what of them shares a scale. Weights that are read from a folder as they are
used (`--memory`) lie as its files have them.

Does: trace, price, filter, print. Does not: the optimiser's update (`minidsv3 bill` has it).

Next: minidsv3.cli.step
"""

import argparse
from dataclasses import asdict
from typing import Any

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "One row for every op of a prompt's forward pass, or of its loss and gradients, priced."
EXAMPLES = [
    'minidsv3 trace "def main("',
    'minidsv3 trace "def main(" --op "mla.*" --layer 0',
    'minidsv3 trace "import os" --model runs/nano-0 --json',
    'minidsv3 trace "import os" --precision fp8 --backward --op "*.out" --layer 1',
    "minidsv3 trace --ids 0,671 --model DeepSeek-V3 --memory 2GiB --layer 3  # all layers run",
]
SCHEMA = "minidsv3.trace/1"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from minidsv3.cli.model_arguments import (
        memory_argument,
        model_argument,
        precision_arguments,
        prompt_argument,
    )

    prompt_argument(parser, "run")
    model_argument(parser)
    memory_argument(parser)
    precision_arguments(parser)
    parser.add_argument("--backward", action="store_true", help="the prompt's loss, forward and backward")
    parser.add_argument("--op", default="*", metavar="PATTERN", help="only ops that match, such as mla.*")
    parser.add_argument("--layer", type=int, metavar="N", help="only this layer")
    parser.add_argument("--hardware", default="h800", help="a name or a file to price on (h800)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not text")


def main(args: argparse.Namespace) -> int:
    """Trace the prompt."""
    import numpy as np

    from minidsv3.cli.models import open_prompt
    from minidsv3.cli.terminal import print_json, results, talk
    from minidsv3.cli.weights import Reading
    from minidsv3.cost import bill
    from minidsv3.hardware import load_hardware
    from minidsv3.machine import Machine
    from minidsv3.show.tables import TraceTable, bill_summary

    hardware = load_hardware(args.hardware)
    prompt = open_prompt(args)
    model, ids = prompt.model, prompt.ids
    machine = Machine(hardware, args.precision, trace=True, accumulate=args.accumulate)
    with Reading(model, machine, talk()) as reading:
        if args.backward:
            model.loss_and_gradients(np.array([ids]), machine=machine)
        else:
            model.logits(np.array([ids]), machine)
        reading.token()
    rows = machine.trace.select(args.op, layer=args.layer)
    if not rows:
        raise ValueError(_no_rows(args, model.config.n_layers))
    priced = bill(rows, hardware, config=model.config)
    if args.json:
        said: dict[str, Any] = {"schema": SCHEMA, "model": str(prompt.folder), "ids": ids}
        said["weights"] = reading.summary()
        said |= {"hardware": hardware.id, "precision": machine.precision, "accumulate": machine.accumulate}
        print_json(said | {"rule": priced.rule, "rows": [asdict(line) for line in priced.lines]})
        return 0
    console = results()
    console.print(TraceTable(priced))
    console.print(bill_summary(priced))
    reading.print_summary()
    return 0


def _no_rows(args: argparse.Namespace, layers: int) -> str:
    from minidsv3.config import near
    from minidsv3.machine import catalogue

    if args.layer is None:
        known = near(args.op, sorted(catalogue()))
        return f"expected ops of this pass, got none that match {args.op!r}: {known}"
    if not 0 <= args.layer < layers:
        return f"expected ops of this pass, got none in layer {args.layer} of 0 .. {layers - 1}"
    return f"expected ops of this pass, got none that match {args.op!r} in layer {args.layer}"
