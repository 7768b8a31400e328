"""`minidsv3 show precision`: which product runs in which format, and what is kept, sent and stored how.

Does: read options, hand over. Does not: draw.

    >>> from minidsv3.cli import main as minidsv3
    >>> minidsv3(["show", "precision", "fp9"])
    2

Next: minidsv3.cli.show_models
"""

import argparse

from minidsv3.cli.show import Subject, present

__all__ = ["SUBJECTS"]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default="fp8", help="a recipe's name or a .toml file (fp8)")
    parser.add_argument("--block", type=int, metavar="N", help="width of tiles and blocks (the recipe's)")


def _main(args: argparse.Namespace) -> int:
    from minidsv3.machine import load_precision
    from minidsv3.show.recipe_table import RecipeTable, recipe_json

    recipe = load_precision(args.name)
    if args.block is not None and args.block < 1:
        raise ValueError(f"expected --block >= 1, got {args.block}")
    width = args.block or (recipe.fp8("block") if recipe.multiplies_fp8 else 1)
    table = recipe_json(recipe, width)
    return present(args, f"precision {recipe.name}", RecipeTable(recipe, width), table)


SUBJECTS = {
    "precision": Subject(
        "A precision recipe: formats of every product, forward and backward.",
        [
            "minidsv3 show precision",
            "minidsv3 show precision bf16",
            "minidsv3 show precision fp8-logfmt10 --json",
        ],
        _arguments,
        _main,
    )
}
