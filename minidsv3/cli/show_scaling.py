"""`minidsv3 show quantise`, `outliers` and `logfmt`: a scale for each tile, and what it saves.

Values are given, or drawn from a seed. A tile is written 1x128: rows, then columns.

Does: read options, quantise, hand over. Does not: draw.

    >>> read_block("1x128")
    (1, 128)

Next: minidsv3.cli.show_accumulator
"""

import argparse
from typing import TYPE_CHECKING, Any

from minidsv3.cli.show import Subject, present
from minidsv3.cli.show_formats import read_format, read_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from minidsv3.numerics.scaling import Quantized
    from minidsv3.show.quantisation_map import RecipeRow

    Values = NDArray[np.float32]

__all__ = ["SUBJECTS", "read_block"]

ELEMENTS = 32  # so many values or fewer are laid out one by one
MOST_VALUES, MOST_SCALES = 4_000_000, 200_000
MOST_GROWTH = 1e30  # of what a float32 can hold


def read_block(text: str) -> tuple[int, int]:
    """Rows and columns of a tile."""
    rows, cross, columns = text.lower().partition("x")
    if not (cross and rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise ValueError(f"expected a tile such as 1x128, got {text!r}")
    return int(rows), int(columns)


def _source_arguments(parser: argparse.ArgumentParser, kind: str, rows: int, columns: int) -> None:
    parser.add_argument("--values", metavar="X,X,..", help="one row of values, in place of random ones")
    parser.add_argument("--random", default=kind, metavar="KIND", help=f"gaussian or outliers ({kind})")
    parser.add_argument(
        "--growth", type=float, default=1e5, help="how many times as large an outlier channel is (100000)"
    )
    parser.add_argument(
        "--size", metavar="RxC", default=f"{rows}x{columns}", help=f"rows, columns ({rows}x{columns})"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")


def _source(args: argparse.Namespace) -> "tuple[Values, str]":
    """The values [R, C], and what they are in words."""
    import numpy as np

    from minidsv3.numerics.tile_errors import draw
    from minidsv3.show.numbers import counted, shape

    if args.values is not None:
        with np.errstate(over="ignore"):
            row = [read_number(word) for word in args.values.split(",") if word.strip()]
            x = np.array([row]).astype(np.float32)  # [1, C]
        if not x.size:
            raise ValueError("expected values such as 1,-2.5,3e-4, got none")
        return x, counted(x.size, "value")
    size = read_block(args.size)
    if size[0] * size[1] > MOST_VALUES:
        raise ValueError(f"expected --size of at most {MOST_VALUES:,} values, got {shape(size)}")
    if args.seed < 0:
        raise ValueError(f"expected --seed >= 0, got {args.seed}")
    if not 0 < args.growth <= MOST_GROWTH:
        raise ValueError(f"expected --growth above 0, at most {MOST_GROWTH:g}, got {args.growth:g}")
    kind = "Gaussian values" if args.random == "gaussian" else f"{args.random} values"
    if args.random == "outliers":
        kind = f"Gaussian values, one channel of 256 times {args.growth:g}"
    said = f"{shape(size)} {kind}, seed {args.seed}"
    return draw(args.random, size, np.random.default_rng(args.seed), args.growth), said


# ---- quantise ---------------------------------------------------------------------------------------------


def _quantise_arguments(parser: argparse.ArgumentParser) -> None:
    _source_arguments(parser, "outliers", 16, 512)
    parser.add_argument("--block", default="1x128", metavar="RxC", help="rows and columns of a tile (1x128)")
    parser.add_argument("--format", default="e4m3", metavar="NAME", help="of the codes (e4m3)")
    parser.add_argument("--scale", default="float32", help="float32 or power-of-two (float32)")
    parser.add_argument("--recipe", metavar="NAME", help="a published recipe's floor and operations")


def _quantise(args: argparse.Namespace) -> int:
    from minidsv3.numerics.scaling import quantize
    from minidsv3.show.numbers import shape
    from minidsv3.show.quantisation_map import ElementTable, QuantisationMap, QuantisePage

    block, fmt = read_block(args.block), read_format(args.format)
    x, said = _source(args)
    if args.recipe is not None:
        _check_recipe(args.recipe)
    for size in (block, (1, 128), (128, 1)):
        if -(-x.shape[0] // size[0]) * -(-x.shape[1] // size[1]) > MOST_SCALES:
            given = f"{shape(x.shape)} in {shape(size)}"
            raise ValueError(f"expected at most {MOST_SCALES:,} tiles, got {given}")
    chosen = quantize(x, block, fmt, args.scale, recipe=args.recipe)
    picture: Any = (
        ElementTable(x, chosen) if x.size <= ELEMENTS and len(x) == 1 else QuantisationMap(x, chosen)
    )
    recipe = f"{args.recipe}, " if args.recipe else ""
    title = f"{said}, as {fmt.name.upper()} in {shape(block)} tiles, {recipe}{args.scale} scales"
    page = QuantisePage(title, picture, _recipes(x, block, chosen, args.scale))
    return present(args, "quantise", page, page.to_dict())


def _check_recipe(name: str) -> None:
    from minidsv3.config import near
    from minidsv3.numerics.scaling import RECIPES

    if name not in RECIPES:
        raise ValueError(f"expected a recipe, got {name!r}: {near(name, list(RECIPES))}")


def _recipes(x: "Values", block: tuple[int, int], chosen: "Quantized", scale: str) -> "list[RecipeRow]":
    """Other tiles with the same scales, then every published recipe with these tiles."""
    from minidsv3.numerics.scaling import RECIPES, SCALES, quantize

    fmt, rows = chosen.fmt, [_row("as above", x, chosen, None)]
    tiles = {"one scale": x.shape, "blocks": (128, 128), "tiles": (1, 128), "columns": (128, 1)}
    for name, size in tiles.items():
        if size != block:
            rows.append(_row(name, x, quantize(x, size, fmt, scale), None))
    for other in SCALES:
        if other != scale:
            rows.append(_row(other, x, quantize(x, block, fmt, other), chosen))
    for name, recipe in RECIPES.items():
        for kind in recipe.scales:
            if kind == scale or len(recipe.scales) == 1:
                same = chosen if kind == scale else None
                rows.append(_row(name, x, quantize(x, block, fmt, kind, recipe=name), same))
    return rows


def _row(name: str, x: "Values", q: "Quantized", chosen: "Quantized | None") -> "RecipeRow":
    import numpy as np

    from minidsv3.numerics.tile_errors import tile_error
    from minidsv3.show.quantisation_map import RecipeRow

    with np.errstate(invalid="ignore"):
        back = q.dequantize()
        error = tile_error(x, back)
    top = int(np.count_nonzero(np.abs(q.fmt.decode(q.codes)) == q.fmt.largest))
    powers = not np.any(q.scale.view(np.uint32) & np.uint32(0x7F_FFFF))
    differing = None if chosen is None else int(np.count_nonzero(q.codes != chosen.codes))
    scale = "power-of-two" if powers else "float32"
    return RecipeRow(name, q.block, scale, error.relative_rms, error.median, error.flushed, top, differing)


# ---- outliers ---------------------------------------------------------------------------------------------

GROWTHS = tuple(10.0 ** (i / 2) for i in range(13))  # 1 .. 10^6


def _outlier_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", default="e4m3", metavar="NAME", help="of the codes (e4m3)")
    parser.add_argument("--size", default="128x1024", metavar="RxC", help="rows, columns (128x1024)")
    parser.add_argument("--share", type=float, default=1 / 4096, help="of the values that grow (1/4096)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")


def _outliers(args: argparse.Namespace) -> int:
    from minidsv3.numerics.tile_errors import outlier_errors
    from minidsv3.show.measurements import Comparison, Page
    from minidsv3.show.numbers import shape
    from minidsv3.show.plot import LogPlot

    fmt, size = read_format(args.format), read_block(args.size)
    if not 0 < args.share < 1 or args.seed < 0 or size[0] * size[1] > MOST_VALUES:
        given = f"{args.share:g}, {args.seed} and {args.size}"
        raise ValueError(
            f"expected --share between 0 and 1, --seed >= 0 and at most {MOST_VALUES:,} values, got {given}"
        )
    errors = outlier_errors(GROWTHS, size, fmt, args.share, args.seed)
    ways = list(dict.fromkeys(row.scaling for row in errors))
    lines = {way: [(row.growth, row.relative_rms) for row in errors if row.scaling == way] for way in ways}
    whole = [row for row in errors if row.growth in (1.0, 1e2, 1e3, 1e4, 1e5, 1e6)]
    zeros: dict[str, dict[str, float]] = {}
    for row in whole:
        zeros.setdefault(f"{row.growth:,.0f}", {})[row.scaling] = row.flushed_share
    title = (
        f"{shape(size)} Gaussian values, one in {1 / args.share:,.0f} of them grown, as {fmt.name.upper()}"
    )
    parts: dict[str, Any] = {
        "relative RMS error of the others over the growth": LogPlot(lines, "growth"),
        "share of the others that becomes zero": Comparison("growth", zeros),
    }
    page = Page(title, parts, ["a scale for 1x128 loses what shares a tile with an outlier, and no more"])
    table = {"format": fmt.name.upper(), "share": args.share, "size": list(size), "seed": args.seed}
    return present(args, "outliers", page, table | {"errors": [row.to_dict() for row in errors]})


# ---- logfmt -----------------------------------------------------------------------------------------------


def _logfmt_arguments(parser: argparse.ArgumentParser) -> None:
    from minidsv3.numerics.logfmt import CONVENTIONS

    _source_arguments(parser, "gaussian", 1, 128)
    parser.add_argument("--bits", type=int, default=8, metavar="N", help="of a code, sign included (8)")
    parser.add_argument("--convention", default="paper", help=f"{' or '.join(CONVENTIONS)} (paper)")


def _logfmt(args: argparse.Namespace) -> int:
    from minidsv3.numerics.logfmt import LogFMT
    from minidsv3.numerics.tile_errors import CODECS, tile_error
    from minidsv3.show.logfmt_tile import LogFMTPage

    x, said = _source(args)
    if len(x) != 1:
        raise ValueError(f"expected one tile, --size 1xC, got {args.size}")
    fmt = LogFMT(bits=args.bits, tile=x.shape[1], convention=args.convention)
    own = {f"LogFMT-{args.bits} ({args.convention})": fmt.round}
    others = {name: codec for name, codec in CODECS.items() if name != f"LogFMT-{args.bits}"}
    if args.convention != "paper":
        others = {f"{name} (paper)" if "Log" in name else name: codec for name, codec in others.items()}
    errors = {name: tile_error(x, codec(x)) for name, codec in (own | others).items()}
    page = LogFMTPage(said, x, fmt, errors)
    return present(args, "logfmt", page, page.to_dict())


SUBJECTS = {
    "quantise": Subject(
        "A matrix in tiles: its scales, the error of each part, and other recipes side by side.",
        [
            "minidsv3 show quantise",
            "minidsv3 show quantise --block 16x512     # one scale for all",
            "minidsv3 show quantise --values 1,0.1,300,0.001 --block 1x4",
            "minidsv3 show quantise --random gaussian --recipe deepep --json",
        ],
        _quantise_arguments,
        _quantise,
    ),
    "outliers": Subject(
        "One scale for a tensor, for a block, for a tile: what outliers cost the other values as they grow.",
        [
            "minidsv3 show outliers",
            "minidsv3 show outliers --format e5m2 --share 0.01",
            "minidsv3 show outliers --size 256x4096 --json",
        ],
        _outlier_arguments,
        _outliers,
    ),
    "logfmt": Subject(
        "A tile in LogFMT: its levels by octave beside E4M3's, its codes, its errors.",
        [
            "minidsv3 show logfmt",
            "minidsv3 show logfmt --values 1,-0.5,0.3,0,0.001 --bits 10",
            "minidsv3 show logfmt --random outliers --growth 100 --json",
        ],
        _logfmt_arguments,
        _logfmt,
    ),
}
