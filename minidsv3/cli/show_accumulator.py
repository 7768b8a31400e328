"""`minidsv3 show accumulator`: what a tensor core's sum loses along K, or, bit by bit, where.

The unit is that of a hardware file, or a family's by name (`hopper-wgmma`, `ada`, …), with any number of
fraction bits that one asks for.

Does: find the unit, run the experiment or one dot product, hand over. Does not: sum, draw.

    >>> find_unit("ampere", "bf16")[0]
    'ampere'

Next: minidsv3.cli.show_precision
"""

import argparse
from typing import TYPE_CHECKING

from minidsv3.cli.show import Subject, present

if TYPE_CHECKING:
    from minidsv3.hardware import TensorCore

__all__ = ["SUBJECTS", "checked_interval", "find_unit"]

MOST_PRODUCTS, MOST_K, MOST_SIDE, MOST_TRACED = 1 << 24, 1 << 16, 1024, 4096
WIDTHS = (8, 10, 12, 13, 14, 16, 20, 23, 25)  # fraction bits side by side


def find_unit(hardware: str, format_: str) -> "tuple[str, TensorCore]":
    """Where it is, and the tensor core; ValueError naming what is there."""
    from minidsv3.config import near
    from minidsv3.hardware import TENSOR_CORES, load_hardware, tensor_core

    if hardware in TENSOR_CORES:
        return hardware, tensor_core(hardware, format_)
    try:
        machine = load_hardware(hardware)
    except ValueError as error:
        families = near(hardware, list(TENSOR_CORES)).replace("known: ", "")
        raise ValueError(f"{error}; or a tensor core family: {families}") from None
    if format_ not in machine.tensor_core:
        known = near(format_, list(machine.tensor_core))
        raise ValueError(f"{machine.id}: expected a format of its tensor core, got {format_!r}: {known}")
    return machine.name, machine.tensor_core[format_]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--k", type=int, metavar="K", help="longest sum (4096; of the microscope 256)")
    parser.add_argument("--hardware", default="h800", help="a name, a file, or a tensor core family (h800)")
    parser.add_argument("--unit", default="fp8", metavar="FORMAT", help="of the operands (fp8)")
    parser.add_argument("--fraction-bits", type=int, metavar="N", help="kept in the alignment (the unit's)")
    parser.add_argument(
        "--interval", default="128", metavar="N", help="products between FP32 sums, or none (128)"
    )
    parser.add_argument("--side", type=int, default=32, metavar="N", help="N x N sums are measured (32)")
    parser.add_argument("--seed", type=int, default=0, help="of the operands (0)")
    parser.add_argument("--microscope", action="store_true", help="one dot product, bit by bit")
    parser.add_argument("--operands", metavar="KIND", help="of the microscope (normal)")
    parser.add_argument("--step", type=int, metavar="N", help="which step the microscope draws (2)")


def _main(args: argparse.Namespace) -> int:
    from minidsv3.numerics.experiments import with_fraction_bits

    where, unit = find_unit(args.hardware, args.unit)
    if unit.scale_block:
        raise ValueError(f"expected a unit without block scales, got {where} {unit.format}")
    if args.fraction_bits is not None:
        unit = with_fraction_bits(unit, args.fraction_bits)
        where += f" with {args.fraction_bits} fraction bits"
    if args.seed < 0:
        raise ValueError(f"expected --seed >= 0, got {args.seed}")
    return (_microscope if args.microscope else _errors)(args, where, unit)


def checked_interval(text: str, depth: int) -> int | None:
    """Products between FP32 sums; None for "none"; ValueError for what is no whole number of instructions."""
    if text.lower() == "none":
        return None
    if not text.isdecimal() or not int(text) or int(text) % depth:
        raise ValueError(f"expected --interval a multiple of {depth} products, or none, got {text!r}")
    return int(text)


def _errors(args: argparse.Namespace, where: str, unit: "TensorCore") -> int:
    from minidsv3.numerics.experiments import OPERANDS, accumulation_errors, with_fraction_bits
    from minidsv3.show.accumulator import AccumulatorPage

    if args.operands is not None or args.step is not None:
        raise ValueError("expected --operands and --step with --microscope only")
    k, side = 4096 if args.k is None else args.k, args.side
    if not (1 <= k <= MOST_K and 1 <= side <= MOST_SIDE and k * side * side <= MOST_PRODUCTS):
        most = f"--k up to {MOST_K:,}, --side up to {MOST_SIDE:,}"
        product = f"--k x --side x --side from 1 to {MOST_PRODUCTS:,}"
        raise ValueError(f"expected {most}, {product}, got {k} x {side} x {side}")
    interval = checked_interval(args.interval, unit.depth)
    intervals = [None] if interval is None else [None, interval]
    lengths = [*(1 << i for i in range(7, k.bit_length()) if 1 << i < k), k]
    errors = accumulation_errors(unit, lengths, intervals=intervals, side=side, seed=args.seed)
    first = next(iter(OPERANDS))
    widths = []
    for bits in sorted({*WIDTHS, unit.fraction_bits}):
        other = with_fraction_bits(unit, bits)
        widths += accumulation_errors(other, [k], [first], intervals, side, args.seed)
    page = AccumulatorPage(where, unit, errors, widths, side * side)
    return present(args, "accumulator", page, page.to_dict())


def _microscope(args: argparse.Namespace, where: str, unit: "TensorCore") -> int:
    import numpy as np

    from minidsv3.config import near
    from minidsv3.numerics import FORMATS
    from minidsv3.numerics.experiments import OPERANDS, dot_trace, rounded_operands
    from minidsv3.show.microscope import Microscope

    asked = "normal" if args.operands is None else args.operands
    kinds = [name for name in OPERANDS if asked and name.startswith(asked)]
    if not kinds:
        raise ValueError(f"expected operands, got {asked!r}: {near(asked, list(OPERANDS))}")
    k = 256 if args.k is None else args.k
    if not 1 <= k <= MOST_TRACED:
        raise ValueError(f"expected --k from 1 to {MOST_TRACED} under the microscope, got {k}")
    rng = np.random.default_rng(args.seed)
    a, b = (rounded_operands(kinds[0], (1, k), FORMATS[unit.operands[0]], rng)[0] for _ in range(2))  # [K]
    trace = dot_trace(a, b, unit, checked_interval(args.interval, unit.depth))
    step = min(2, len(trace.steps)) if args.step is None else args.step
    if not 1 <= step <= len(trace.steps):
        raise ValueError(f"expected --step from 1 to {len(trace.steps)}, got {step}")
    picture = Microscope(where, unit, trace, f"{kinds[0]} operands, seed {args.seed}", step)
    return present(args, "accumulator --microscope", picture, picture.to_dict())


SUBJECTS = {
    "accumulator": Subject(
        "What a tensor core's sum loses: error against K, with promotion to FP32 and without.",
        [
            "minidsv3 show accumulator",
            "minidsv3 show accumulator --microscope --operands uniform --step 4",
            "minidsv3 show accumulator --k 16384 --side 16 --interval 512",
            "minidsv3 show accumulator --hardware ada --fraction-bits 16 --json",
        ],
        _arguments,
        _main,
    ),
}
