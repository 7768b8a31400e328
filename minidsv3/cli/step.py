"""`minidsv3 step`: the debugger. A forward pass, gradients, a training step or decoding, op by op.

On a terminal keys move from op to op (`step_player`). Without one, or with --all, every op is printed as it
runs, or those alone that a --break matches; with --json one object. Each op stands with the line of the model
that called it, its equation and symbols, shapes, formats, its result as a picture, and what it costs on the
machine of a hardware file. `--against` runs a second machine in lock step (`step_compare`).

Does: options, the pass, the run without keys. Does not: step itself (`minidsv3.learn.stepping`).

Next: minidsv3.cli.step_view
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidsv3.cli.models import Prompt
    from minidsv3.cli.step_view import View
    from minidsv3.learn.selector import Place
    from minidsv3.learn.stepping import Pass, Stepper, Stop

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main", "pass_of", "selection"]

SUMMARY = "The debugger: step through a pass op by op, back, change values, compare two machines."
EXAMPLES = [
    'minidsv3 step "def main("                                    # keys; ? shows them',
    'minidsv3 step "def main(" --break gate.top_k --layer 2       # without a terminal: these ops alone',
    'minidsv3 step "def main(" --set "mla.softmax[layer=0,head=0] = 0"',
    'minidsv3 step "def main(" --against fp8 --tolerance 0.05',
    'minidsv3 step "def main(" --new 2 --attention naive --against absorbed',
    'minidsv3 step "def main(" --precision fp8 --accumulate hardware --against b200',
    "minidsv3 step --preset nano --ids 1,2,3,4 --train --json",
    'minidsv3 step "def main(" --speculative --new 4 --break "head.*"',
]
SCHEMA = "minidsv3.step/1"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from minidsv3.cli.model_arguments import (
        memory_argument,
        model_argument,
        precision_arguments,
        prompt_argument,
    )

    prompt_argument(parser, "step through")
    model_argument(parser)
    parser.add_argument(
        "--preset", metavar="NAME", help="fresh weights of a preset, such as nano; needs --ids"
    )
    memory_argument(parser)
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--backward", action="store_true", help="the prompt's loss and its gradients")
    kinds.add_argument("--train", action="store_true", help="a training step on the prompt, with its update")
    kinds.add_argument("--speculative", action="store_true", help="decode with drafts and their verification")
    parser.add_argument("--new", type=int, metavar="N", help="decode N new tokens (speculative: 4)")
    parser.add_argument("--drafts", type=int, metavar="N", help="drafts a step (one for each MTP module)")
    parser.add_argument(
        "--attention",
        choices=["absorbed", "naive"],
        default="absorbed",
        help="how decoding attends (absorbed)",
    )
    precision_arguments(parser)
    parser.add_argument("--hardware", default="h800", help="a name or a file: prices, tensor core (h800)")
    parser.add_argument(
        "--break", dest="breaks", action="append", default=[], metavar="OP",
        help="stop at such ops: gate.top_k, mla.*, mla.softmax[layer=2]; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--set", dest="changes", action="append", default=[], metavar='"OP[head=0] = 0"',
        help="change a result (d_OP: its gradients); x is what it was, np is NumPy; may be given again",
    )  # fmt: skip
    selection_arguments(parser)
    parser.add_argument("--against", metavar="MACHINE", help="compare: fp8, absorbed, b200, fp8+hardware, …")
    parser.add_argument(
        "--tolerance", type=float, default=0.0, metavar="X", help="relative; results further apart part (0)"
    )
    parser.add_argument("--all", action="store_true", help="every op without keys")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not text")


def selection_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that pick a part of a value."""
    parser.add_argument("--layer", type=int, metavar="N", help="only this layer")
    for word in ("head", "expert", "token"):
        parser.add_argument(f"--{word}", metavar="N", help=f"of values this {word}, or a stretch such as 2:5")
    parser.add_argument("--values", action="store_true", help="the numbers too, in JSON")


def selection(args: argparse.Namespace) -> dict[str, Any]:
    """What of values is picked, and which layer."""
    from minidsv3.learn.selector import position

    found: dict[str, Any] = {} if args.layer is None else {"layer": args.layer}
    words = {word: getattr(args, word) for word in ("head", "expert", "token")}
    return found | {word: position(place) for word, place in words.items() if place is not None}


def check_token(at: "Mapping[str, Place]", ids: Sequence[int]) -> None:
    """ValueError for a token that the prompt has not."""
    token = at.get("token")
    if isinstance(token, int) and not -len(ids) <= token < len(ids):
        raise ValueError(f"expected token 0 .. {len(ids) - 1} of the prompt, got {token}")


def main(args: argparse.Namespace) -> int:
    """Step, with keys or without."""
    from minidsv3.cli.step_compare import compare
    from minidsv3.cli.step_view import Looking, View
    from minidsv3.learn.stepping import Stepper

    prompt = open_it(args)
    work = pass_of(args, prompt)
    keyed = sys.stdin.isatty() and sys.stdout.isatty() and not (args.all or args.json)
    if args.against is not None:
        return compare(args, prompt, work, keyed)
    with Stepper(work) as stepper:
        for target in args.breaks:
            stepper.break_on(target)
        for text in args.changes:
            stepper.change(text)
        check_token(selection(args), prompt.ids)
        view = View(stepper, Looking(prompt.ids, prompt.tokenizer, selection(args)))
        if keyed:
            from minidsv3.cli.step_player import play

            return play(view)
        if args.json:
            return _as_json(args, prompt, view)
        return _printed(view)


def open_it(args: argparse.Namespace) -> "Prompt":
    """The model and the prompt: a folder's, or a preset's with fresh weights."""
    from minidsv3.cli.models import Prompt, fresh_model, given_ids, open_prompt

    room = _new(args) if args.new or args.speculative else 0
    if args.preset is None:
        return open_prompt(args, room)
    if args.ids is None or args.prompt is not None or args.model is not None:
        raise ValueError(
            "expected --ids and neither PROMPT nor --model with --preset, which has no tokenizer"
        )
    model = fresh_model(args.preset)
    return Prompt(model, None, Path(args.preset), "", given_ids(args.ids, model))


def _new(args: argparse.Namespace) -> int:
    return int(args.new or 4)


def pass_of(args: argparse.Namespace, prompt: "Prompt") -> "Pass":
    """What the options ask to run; ValueError where they do not fit together."""
    from minidsv3.hardware import load_hardware
    from minidsv3.learn.stepping import Pass

    kind = next((kind for kind in ("backward", "train", "speculative") if getattr(args, kind)), "forward")
    if args.new is not None:
        if kind in ("backward", "train") or args.new < 1:
            raise ValueError(f"expected --new N >= 1 with a forward pass or --speculative, got {args.new}")
        kind = "decode" if kind == "forward" else kind
    return Pass(
        prompt.model, tuple(prompt.ids), kind, load_hardware(args.hardware), args.precision, args.accumulate,
        args.attention, _new(args), args.drafts,
    )  # fmt: skip


# ---- without keys -----------------------------------------------------------------------------------------


def _wanted(view: "View") -> Iterator["Stop"]:
    """The stops asked for, as they run."""
    from minidsv3.learn.selector import Selector

    stepper, place = view.stepper, Selector("*", view.eye.at)
    while stepper.into() is not None:
        stop = stepper.stop
        assert stop is not None
        broken = not stepper.breaks or any(one.matches(stop.row) for one in stepper.breaks)
        if broken and place.matches(stop.row):
            yield stop


def _printed(view: "View") -> int:
    from minidsv3.cli.step_view import put
    from minidsv3.cli.terminal import results

    console, shown, stage = results(), 0, ""
    for stop in _wanted(view):
        if stop.stage != stage:
            stage = stop.stage
            console.print(f"== {stage}")
        put(console, view.card(stop))
        if note := view.note(stop):
            console.print(note)
        console.print()
        shown += 1
    _check_found(view, shown)
    console.print(ending(view))
    return 0


def ending(view: "View") -> str:
    """The whole pass in a line."""
    from minidsv3.show.numbers import counted, duration

    stepper = view.stepper
    ops = counted(len(stepper.stops), "op")
    return f"{ops}, {duration(stepper.stops[-1].so_far)} on {stepper.hardware.name}"


def _check_found(view: "View", shown: int) -> None:
    if not shown:
        breaks = ", ".join(map(str, view.stepper.breaks)) or "any op"
        layers = view.stepper.work.model.config.n_layers
        raise ValueError(f"expected stops at {breaks} in this pass of {layers} layers, got none")


def _as_json(args: argparse.Namespace, prompt: "Prompt", view: "View") -> int:
    from minidsv3.cli.terminal import print_json

    stops = [view.to_dict(stop, args.values) for stop in _wanted(view)]
    _check_found(view, len(stops))
    print_json(about(prompt, view.stepper) | {"stops": stops})
    return 0


def about(prompt: "Prompt", stepper: "Stepper") -> dict[str, Any]:
    """What ran, for JSON."""
    work = stepper.work
    said: dict[str, Any] = {
        "schema": SCHEMA,
        "model": str(prompt.folder),
        "ids": prompt.ids,
        "pass": work.kind,
    }
    said |= {"hardware": stepper.hardware.id, "precision": work.precision, "accumulate": work.accumulate}
    said |= {"attention": work.attention, "changes": [str(edit) for edit in stepper.edits]}
    last = stepper.stops[-1].so_far if stepper.stops else 0.0
    return said | {"ops": len(stepper.stops), "seconds": last}
