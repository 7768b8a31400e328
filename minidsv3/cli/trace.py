"""`minidsv3 trace`: one row for every op of a prompt's forward pass, priced.

The model runs the prompt once on a machine that writes down what it does: op, equation, layer, shapes,
FLOPs, bytes, and what these would cost on the machine of a hardware file. `--op` and `--layer` choose rows;
with `--head`, `--expert`, `--token` or `--values` each of them is a card with that part of its result.

With `--backward` it is the prompt's loss and its gradients; with `--precision fp8` every row says in which
formats its operands lie and what of them shares a scale. Weights that are read from a folder as they are
used (`--memory`) lie as its files have them. The rows of its JSON are the stops of `minidsv3 step --json`.

Does: trace, price, filter, print. Does not: the optimiser's update (`minidsv3 step --train` has it).

Next: minidsv3.cli.step
"""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidsv3.cli.step_view import Looking
    from minidsv3.cost import Bill
    from minidsv3.hardware import Hardware
    from minidsv3.learn.stepping import Stop
    from minidsv3.machine import Event, Row

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "One row for every op of a prompt's forward pass, or of its loss and gradients, priced."
EXAMPLES = [
    'minidsv3 trace "def main("',
    'minidsv3 trace "def main(" --op "mla.*" --layer 0',
    'minidsv3 trace "def main(" --op mla.softmax --layer 0 --head 1   # the matrix',
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
    from minidsv3.cli.step import selection_arguments

    prompt_argument(parser, "run")
    model_argument(parser)
    memory_argument(parser)
    precision_arguments(parser)
    parser.add_argument("--backward", action="store_true", help="the prompt's loss, forward and backward")
    parser.add_argument("--op", default="*", metavar="PATTERN", help="only ops that match, such as mla.*")
    selection_arguments(parser)
    parser.add_argument("--hardware", default="h800", help="a name or a file to price on (h800)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not text")


def main(args: argparse.Namespace) -> int:
    """Trace the prompt."""
    import numpy as np

    from minidsv3.cli.models import open_prompt
    from minidsv3.cli.step import check_token, selection
    from minidsv3.cli.step_view import Looking
    from minidsv3.cli.terminal import print_json, talk
    from minidsv3.cli.weights import Reading
    from minidsv3.cost import bill
    from minidsv3.hardware import load_hardware
    from minidsv3.machine import Machine

    hardware = load_hardware(args.hardware)
    prompt = open_prompt(args)
    model, ids = prompt.model, prompt.ids
    check_token(selection(args), ids)
    seen = _Seen(args, Looking(ids, prompt.tokenizer, selection(args)))
    watch = seen if args.json or seen.picks else None
    machine = Machine(hardware, args.precision, trace=True, accumulate=args.accumulate, watch=watch)
    with Reading(model, machine, talk()) as reading:
        if args.backward:
            model.loss_and_gradients(np.array([ids]), machine=machine)
        else:
            model.logits(np.array([ids]), machine)
        reading.token()
    rows = type(machine.trace)(row for row in machine.trace if seen.wants(row))
    if not rows:
        raise ValueError(_no_rows(args, model.config.n_layers))
    if args.json:
        said: dict[str, Any] = {"schema": SCHEMA, "model": str(prompt.folder), "ids": ids}
        said["weights"] = reading.summary()
        said |= {"hardware": hardware.id, "precision": machine.precision, "accumulate": machine.accumulate}
        priced = bill(machine.trace, hardware)
        print_json(said | {"rule": priced.rule, "rows": list(seen.to_dicts(priced, hardware))})
        return 0
    if seen.picks:
        seen.print_cards(bill(machine.trace, hardware), hardware)
    else:
        _print_table(bill(rows, hardware, config=model.config))
    reading.print_summary()
    return 0


def _print_table(priced: "Bill") -> None:
    from minidsv3.cli.terminal import results
    from minidsv3.show.tables import TraceTable, bill_summary

    console = results()
    console.print(TraceTable(priced))
    console.print(bill_summary(priced))


class _Seen:
    """A watch that keeps, of the ops asked for, the line of code and a picture or the numbers."""

    def __init__(self, args: argparse.Namespace, eye: "Looking") -> None:
        from minidsv3.learn.selector import Selector

        self.args, self.eye = args, eye
        self.which = Selector(args.op, eye.at)
        self.picks = bool(set(eye.at) - {"layer"}) or args.values
        self.stops: list[Stop] = []
        self.events: list[Event] = []  # without their arrays
        self.found: list[Any] = []  # of each stop: its picture, or its value for JSON
        self._count = 0

    def wants(self, row: "Row") -> bool:
        """Whether a row was asked for."""
        return self.which.matches(row)

    def __call__(self, event: "Event") -> None:
        """Look at an op."""
        from minidsv3.learn.stepping import Stop
        from minidsv3.machine.watch import called_from

        index, self._count = self._count, self._count + 1
        if self.wants(event.row):
            stage = "loss" if self.args.backward else "prompt"
            stop = Stop(index, event.op, event.row, event.primitive, called_from(), stage, 0.0, 0.0)
            names = tuple((name, None) for name, _ in event.inputs)
            self.events.append(event._replace(inputs=names, outputs=()))
            self.stops.append(stop)
            self.found.append(self._looked_at(stop, event))

    def _looked_at(self, stop: "Stop", event: "Event") -> Any:
        from minidsv3.cli.step_view import fitting, summary
        from minidsv3.learn.stepping import result_axes

        if event.result is None or not hasattr(event.result, "copy"):
            return None
        axes = result_axes(stop)
        if self.args.json:
            return summary(stop.op, event.result, axes, self.eye.at, self.args.values)
        name, result = event.outputs[0]
        op = stop.op.id if stop.row.direction == "fprop" else ""
        return self.eye.drawn(name, result.copy(), axes, fitting(self.eye.at, axes, result.shape), op)

    def _cards(self, priced: "Bill", hardware: "Hardware") -> Any:
        """Each stop with its card."""
        from itertools import accumulate

        from minidsv3.show.op_card import OpCard

        so_far = list(accumulate(line.seconds for line in priced.lines))
        for stop, event, found in zip(self.stops, self.events, self.found, strict=True):
            picture = None if self.args.json else found
            heading, time = f"[{stop.index}]", so_far[stop.index]
            yield stop, found, OpCard(event, hardware, time, picture, stop.code, heading)

    def print_cards(self, priced: "Bill", hardware: "Hardware") -> None:
        """A card for each op asked for."""
        from minidsv3.cli.step_view import put
        from minidsv3.cli.terminal import results

        console = results()
        for _, _, card in self._cards(priced, hardware):
            put(console, card)
            console.print()

    def to_dicts(self, priced: "Bill", hardware: "Hardware") -> Any:
        """The same for JSON."""
        from minidsv3.cli.step_view import stop_dict

        for stop, found, card in self._cards(priced, hardware):
            yield stop_dict(card, stop, found)


def _no_rows(args: argparse.Namespace, layers: int) -> str:
    from minidsv3.config import near
    from minidsv3.machine import catalogue

    if args.layer is None:
        known = near(args.op, sorted(catalogue()))
        return f"expected ops of this pass, got none that match {args.op!r}: {known}"
    if not 0 <= args.layer < layers:
        return f"expected ops of this pass, got none in layer {args.layer} of 0 .. {layers - 1}"
    return f"expected ops of this pass, got none that match {args.op!r} in layer {args.layer}"
