"""`minidsv3 show models`: V2, V2-Lite, V3, Moonlight, or any other model, side by side.

A name is a preset, a folder with a config.json, or a config.json; weights are not touched.

Does: find configs, hand over. Does not: draw.

    >>> from minidsv3.cli import main as minidsv3
    >>> minidsv3(["show", "models", "v4"])
    2

Next: minidsv3.cli.show_hardware
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from minidsv3.cli.show import Subject, present

if TYPE_CHECKING:
    from minidsv3.show.models import Member

__all__ = ["SUBJECTS"]

MOST_TENSORS = 1_000_000  # V3 has some 46,000
FAMILY = ["v2", "v2-lite", "v3", "moonlight"]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="MODEL",
        help=f"presets, folders with a config.json, or such files ({' '.join(FAMILY)})",
    )


def _main(args: argparse.Namespace) -> int:
    from minidsv3.show.models import ModelTable, models_json

    table = ModelTable([_member(name) for name in dict.fromkeys(args.names or FAMILY)])
    return present(args, "models", table, models_json(table))


def _member(name: str) -> "Member":
    from minidsv3.config import ModelConfig, near, preset_names, published_figures
    from minidsv3.show.models import member

    if name in preset_names():
        return member(name, ModelConfig.preset(name), published_figures(name))
    path = Path(name)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        expected = "a preset, a folder with a config.json or such a file"
        raise ValueError(f"expected {expected}, got {name!r}: {near(name, preset_names())}")
    from minidsv3.checkpoint import CheckpointError, from_hugging_face
    from minidsv3.checkpoint.folder import load_json

    config = from_hugging_face(load_json(file), str(file))
    tensors = (config.n_layers + config.n_mtp_layers) * (3 * config.n_routed_experts + 20)
    if tensors > MOST_TENSORS:
        expected = f"at most about {MOST_TENSORS:,} tensors to count"
        raise CheckpointError(f"{file}: expected {expected}, got {tensors:,}")
    return member(name, config)


SUBJECTS = {
    "models": Subject(
        "Models of the family side by side: sizes, router, cache, exact parameters, active ones by K.",
        [
            "minidsv3 show models",
            "minidsv3 show models v3 nano --json",
            "minidsv3 show models v3 path/to/folder",
        ],
        _arguments,
        _main,
    )
}
