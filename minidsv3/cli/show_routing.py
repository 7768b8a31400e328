"""`minidsv3 show router` and `show load`: one token's way to its experts, and how evenly tokens fall on them.

`load` of a run shows what its steps wrote down, the bias replayed from the loads by the rule that moved it.
Of a model without such a run, or with `--route`, the weights stay as they are: the text's tokens are routed
again and again while the bias starts at zero and follows the loads.

Does: run the router, read a run's metrics. Does not: train (`minidsv3 run`).

    >>> replayed([[3, 1], [2, 2]], [0.5, 0.5])[-1].tolist()
    [-0.5, 0.5]

Next: minidsv3.cli.lesson
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidsv3.cli.kept_values import kept, open_source, place_arguments, source_arguments
from minidsv3.cli.show import Subject, present

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from minidsv3.cli.kept_values import Source
    from minidsv3.show.expert_load import ExpertLoad

__all__ = ["SUBJECTS", "replayed"]

MOST_ROUTED = 4_000_000  # tokens in all


def _bias(source: "Source", layer: int) -> "NDArray[np.float32] | None":
    """The router's bias of a layer; None if it has none."""
    name = f"model.layers.{layer}.mlp.gate.e_score_correction_bias"
    return source.model.parameters[name] if source.model.config.has_router_bias else None


# ---- router -----------------------------------------------------------------------------------------------


def _router_arguments(parser: argparse.ArgumentParser) -> None:
    source_arguments(parser)
    place_arguments(parser, "", "token")


def _router(args: argparse.Namespace) -> int:
    from minidsv3.show.router_card import router_card

    source = open_source(args)
    row = kept(source, "gate.logits", args.layer)
    assert row.value is not None
    assert row.layer is not None
    token = len(source.ids) - 1 if args.token is None else args.token
    if not 0 <= token < len(source.ids):
        raise ValueError(f"expected --token 0 .. {len(source.ids) - 1}, got {token}")
    spelled = f" {source.labels[token]!r}" if source.labels else ""
    title = f"router of layer {row.layer}, token {token}{spelled}; {source.said}"
    card = router_card(row.value[token], _bias(source, row.layer), source.model.config, title)
    table: dict[str, Any] = {"source": source.said, "ids": source.ids, "layer": row.layer, "token": token}
    table |= {"scores": card.s.tolist(), "bias": card.b.tolist(), "group_sums": card.sums.tolist()}
    table |= {"kept_groups": card.kept, "chosen": card.chosen, "weights": card.weights}
    return present(args, f"router layer {row.layer}", card, table | {"without_bias": card.unbiased})


# ---- load -------------------------------------------------------------------------------------------------


def _load_arguments(parser: argparse.ArgumentParser) -> None:
    source_arguments(parser)
    place_arguments(parser)
    parser.add_argument("--route", action="store_true", help="not the run's own steps, but routing alone")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="of routing alone (100)")
    parser.add_argument("--tokens", type=int, default=256, metavar="N", help="routed at each (256)")
    parser.add_argument("--speed", type=float, default=0.01, metavar="G", help="of the bias, a step (0.01)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which tokens are drawn (0)")


def _load(args: argparse.Namespace) -> int:
    import numpy as np

    source = open_source(args)
    run = source.folder.parent if source.folder else None
    logged = run is not None and (run / "metrics.jsonl").is_file() and not args.route
    layer, load = _of_run(args, source, run) if logged and run else _routed(args, source)
    bias = None if load.bias is None else np.asarray(load.bias, dtype=np.float64).tolist()
    table: dict[str, Any] = {"source": source.said, "layer": layer, "from_run": logged, "first": load.first}
    table |= {"max_violation": load.max_violation.tolist(), "loads": np.asarray(load.loads).tolist()}
    return present(args, f"load layer {layer}", load, table | {"bias": bias})


def _of_run(args: argparse.Namespace, source: "Source", run: Path) -> "tuple[int, ExpertLoad]":
    """What the steps of a run wrote down of one layer."""
    from minidsv3.show.expert_load import ExpertLoad
    from minidsv3.training import RunFolder, Schedule

    folder, config = RunFolder.open(run), source.model.config
    rows = [row for row in folder.metrics() if row["loads"]]
    if not rows:
        raise ValueError(f"expected a run that wrote loads of experts, got {run}")
    first = next(i for i in range(config.n_layers + 1) if config.is_moe(i))
    layer = first if args.layer is None else args.layer
    if not first <= layer < first + len(rows[0]["loads"]):
        last = first + len(rows[0]["loads"]) - 1
        raise ValueError(f"expected --layer {first} .. {last}, which have experts, got {layer}")
    loads = [row["loads"][layer - first] for row in rows]
    schedule, start = Schedule(folder.plan), run / "start"
    speeds = [schedule.bias_speed(row["step"] - 1) for row in rows]
    whole = config.has_router_bias and not start.is_dir() and rows[0]["step"] == 1
    title = f"load of layer {layer}'s experts, step by step, {source.said.partition(';')[0]}"
    bias = replayed(loads, speeds) if whole else None
    return layer, ExpertLoad(loads, bias, config.n_expert_groups, title, rows[0]["step"])


def replayed(loads: Sequence[Sequence[int]], speeds: Sequence[float]) -> "NDArray[np.float32]":
    """Each step's bias, from zero, by the rule that moves it.  loads: [steps, E]  ->  [steps, E]"""
    import numpy as np

    from minidsv3.training.optimizer import move_bias

    bias, found = np.zeros(len(loads[0]), np.float32), []
    for load, speed in zip(loads, speeds, strict=True):
        move_bias(bias, np.array(load, np.int64), speed)
        found.append(bias.copy())
    return np.array(found)


def _routed(args: argparse.Namespace, source: "Source") -> "tuple[int, ExpertLoad]":
    """The text's tokens through one layer's router, again and again."""
    from minidsv3.show.expert_load import balanced

    if args.steps < 1 or args.tokens < 1 or not 0 < args.speed < float("inf") or args.seed < 0:
        raise ValueError(
            "expected --steps and --tokens >= 1, --speed above 0 and --seed >= 0, "
            f"got {args.steps}, {args.tokens}, {args.speed} and {args.seed}"
        )
    if args.steps * args.tokens > MOST_ROUTED:
        raise ValueError(f"expected at most {MOST_ROUTED:,} tokens in all, got {args.steps} x {args.tokens}")
    row = kept(source, "gate.logits", args.layer)
    assert row.value is not None
    assert row.layer is not None
    title = f"routing alone, layer {row.layer}, bias moved by {args.speed:g}; {source.said}"
    config = source.model.config
    return row.layer, balanced(row.value, config, args.steps, args.tokens, args.speed, args.seed, title)


SUBJECTS = {
    "router": Subject(
        "One token's way through the router: scores, bias, groups, the chosen and their weights.",
        [
            "minidsv3 show router",
            "minidsv3 show router --layer 2 --token 3 --text 'import os'",
            "minidsv3 show router --model runs/nano-0 --json",
        ],
        _router_arguments,
        _router,
    ),
    "load": Subject(
        "How evenly tokens fall on experts, step after step, and the bias that evens them out.",
        [
            "minidsv3 show load --model runs/nano-0",
            "minidsv3 show load --route --steps 200 --speed 0.005",
            "minidsv3 show load --layer 2 --json",
        ],
        _load_arguments,
        _load,
    ),
}
