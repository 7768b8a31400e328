"""`minidsv3 show hardware`: a machine's values with their sources, two machines' differences, all machines.

A machine is one that is shipped, by name, or a .toml file of one's own. `--set` changes values of it, as it
does for `bill`; with `--diff`, of the second.

Does: read options, hand over. Does not: draw.

    >>> from minidsv3.cli import main as minidsv3
    >>> minidsv3(["show", "hardware", "h8000"])
    2
    >>> minidsv3(["show", "hardware", "h800", "--set", "chip.hbm.bandwidth=8GB"])
    2

Next: minidsv3.cli.show_costs
"""

import argparse
from typing import TYPE_CHECKING

from minidsv3.cli.show import Subject, present

if TYPE_CHECKING:
    from minidsv3.hardware import Hardware

__all__ = ["SUBJECTS"]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a machine or a .toml file (none: all that are shipped)")
    parser.add_argument("--diff", nargs=2, metavar=("A", "B"), help="what differs from A to B")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="another value, such as chip.hbm.bandwidth=8TB/s; with --diff, of B (several)",
    )


def _main(args: argparse.Namespace) -> int:
    from minidsv3.hardware import load_hardware, parse_changes, with_values

    if args.name and args.diff:
        raise ValueError(f"expected NAME or --diff A B, got both: {args.name} and {' '.join(args.diff)}")
    changes = parse_changes(args.set)
    if args.diff:
        a, b = map(load_hardware, args.diff)
        return _difference(args, a, with_values(b, changes))
    if args.name:
        return _one(args, with_values(load_hardware(args.name), changes))
    if changes:
        raise ValueError(f"expected a machine to change, got --set {args.set[0]} alone")
    return _all(args)


def _asked(args: argparse.Namespace, *machines: str) -> str:
    """What was asked: a picture's title, a change with its unit."""
    from minidsv3.hardware import load_hardware, parse_changes, spelled

    changed = load_hardware(args.diff[1] if args.diff else args.name)
    return " ".join(["hardware", *machines, *spelled(changed, parse_changes(args.set))])


def _one(args: argparse.Namespace, hardware: "Hardware") -> int:
    from minidsv3.show.hardware_table import HardwareTable, hardware_json

    return present(args, _asked(args, hardware.id), HardwareTable(hardware), hardware_json(hardware))


def _difference(args: argparse.Namespace, a: "Hardware", b: "Hardware") -> int:
    from minidsv3.hardware import difference
    from minidsv3.show.hardware_difference import DifferenceTable

    found = difference(a, b)
    table = {"a": a.id, "b": b.id, "differences": [one.to_dict() for one in found]}
    return present(args, _asked(args, "--diff", a.id, b.id), DifferenceTable(a, b, found), table)


def _all(args: argparse.Namespace) -> int:
    from minidsv3.hardware import hardware_names, load_hardware
    from minidsv3.show.hardware_table import HardwareList, hardware_json

    machines = [load_hardware(name) for name in hardware_names()]
    return present(
        args, "hardware", HardwareList(machines), {"machines": [hardware_json(one) for one in machines]}
    )


SUBJECTS = {
    "hardware": Subject(
        "A machine's values, each with unit, source and status; or what differs between two.",
        [
            "minidsv3 show hardware",
            "minidsv3 show hardware h800",
            "minidsv3 show hardware --diff h800 h100",
            "minidsv3 show hardware --diff h800 h800 --set chip.hbm.bandwidth=8TB/s",
        ],
        _arguments,
        _main,
    )
}
