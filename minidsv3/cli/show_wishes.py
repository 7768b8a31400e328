"""`minidsv3 show what-ifs`, `co-design`, `compare`: wishes to hardware, what answers save, models compared.

A what-if is one of `data/scenarios.toml`; without a name all of them. On another model, machine or deployment
than its own it is priced if these have what it changes. Changes of one's own are `minidsv3 bill --set`.

Does: find model, machine, scenario; price; hand over. Does not: draw.

    >>> from minidsv3.cli import main as minidsv3
    >>> minidsv3(["show", "what-ifs", "in-network"])
    2
    >>> minidsv3(["show", "compare", "gpt"])
    2

Next: minidsv3.cli.show_training
"""

import argparse
from typing import TYPE_CHECKING, Any

from minidsv3.cli.show import Subject, present

if TYPE_CHECKING:
    from minidsv3.config import ModelConfig
    from minidsv3.cost.scenarios import Beyond
    from minidsv3.hardware import Hardware
    from minidsv3.show.what_if_table import WhatIf

__all__ = ["SUBJECTS"]


def _where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="v3", help="a preset, or a folder with a config.json (v3)")


def _what_if_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a what-if (none: all of them)")
    _where(parser)
    parser.add_argument("--hardware", help="a name or a file (the what-if's own: h800, but for one)")
    parser.add_argument("--deployment", help="on whose bill it is shown (the what-if's own)")


def _what_ifs(args: argparse.Namespace) -> int:
    from minidsv3.cost.scenarios import scenario_named, what_if
    from minidsv3.show.what_if_table import WhatIf, WhatIfCard, WhatIfList, what_ifs_json

    (config, title), hardware = _config(args.model), _hardware(args.hardware)
    if args.name:
        scenario = scenario_named(args.name)
        one = WhatIf(scenario, what_if(config, scenario, hardware, args.deployment, title))
        return present(args, f"what-ifs {args.name}", WhatIfCard(one), what_ifs_json([one], ()))
    priced, left = _every_what_if(config, title, hardware, args.deployment)
    return present(args, "what-ifs", WhatIfList(priced, left), what_ifs_json(priced, left))


def _every_what_if(
    config: "ModelConfig", title: str, hardware: "Hardware | None", deployment: str | None
) -> "tuple[list[WhatIf], list[Beyond]]":
    """Those that a model on a machine can be priced for; the others with the reason; ValueError if none."""
    from minidsv3.cost.scenarios import Beyond, beyond, scenario_named, scenario_names, what_if
    from minidsv3.show.what_if_table import WhatIf

    priced, left = [], list(beyond())
    for scenario in map(scenario_named, scenario_names()):
        try:
            found = what_if(config, scenario, hardware, deployment, title)
        except ValueError as error:
            left.append(Beyond(scenario.name, scenario.source, str(error)))
        else:
            priced.append(WhatIf(scenario, found))
    if not priced:
        raise ValueError(f"expected a model and a machine that a what-if can be priced for: {left[-1].why}")
    return priced, left


def _config(name: str) -> "tuple[ModelConfig, str]":
    """A model's config by preset, folder or file, and its title; ValueError for any other."""
    from minidsv3.cli.bill_phase import named_config

    return named_config(name)[:2]


def _hardware(name: str | None) -> "Hardware | None":
    from minidsv3.hardware import load_hardware

    return load_hardware(name) if name else None


def _co_design_arguments(parser: argparse.ArgumentParser) -> None:
    _where(parser)
    parser.add_argument("--hardware", default="h800", help="a name or a file (h800)")


def _co_design(args: argparse.Namespace) -> int:
    from minidsv3.cost.co_design import co_design
    from minidsv3.hardware import load_hardware
    from minidsv3.show.co_design_table import CoDesignTable, co_design_json

    (config, title), hardware = _config(args.model), load_hardware(args.hardware)
    table = CoDesignTable(co_design(config, hardware), title, hardware.name)
    return present(args, "co-design", table, co_design_json(table))


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    from minidsv3.cost.compare import CONTENDERS

    default = " ".join(CONTENDERS)
    parser.add_argument("names", nargs="*", metavar="MODEL", help=f"presets and dense models ({default})")


def _compare(args: argparse.Namespace) -> int:
    from minidsv3.cost.compare import CONTENDERS, contenders
    from minidsv3.show.contender_table import ContenderTable, contenders_json

    table: Any = ContenderTable(contenders(args.names or CONTENDERS))
    return present(args, "compare", table, contenders_json(table))


SUBJECTS = {
    "what-ifs": Subject(
        "Wishes to hardware, each priced before and after: bytes, seconds, and errors where numbers change.",
        [
            "minidsv3 show what-ifs",
            "minidsv3 show what-ifs logfmt",
            "minidsv3 show what-ifs fused-cast --deployment decode",
            "minidsv3 show what-ifs group-scaling --hardware h100 --json",
        ],
        _what_if_arguments,
        _what_ifs,
    ),
    "co-design": Subject(
        "Challenge, method, what it saves, the wish, what that would save; every figure calculated.",
        [
            "minidsv3 show co-design",
            "minidsv3 show co-design --hardware h100 --json",
            "minidsv3 show co-design --svg co-design.svg",
        ],
        _co_design_arguments,
        _co_design,
    ),
    "compare": Subject(
        "Models by one rule: parameters, cache, FLOPs, GPU hours, dollars, clusters.",
        [
            "minidsv3 show compare",
            "minidsv3 show compare v3 llama-3.1-405b --json",
            "minidsv3 show compare v3 v2 moonlight",
        ],
        _compare_arguments,
        _compare,
    ),
}
