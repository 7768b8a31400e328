"""What one token reads: the arithmetic of running a model that lies on a disk.

A token meets every tensor of the main model but most of the routed experts, and of the embedding one row.
All that is read from the files and dequantised, unless it is in memory still. A cache that lets the least
recently used go keeps nothing from token to token until it holds everything that a token meets: the layers
come round in the same order. From there on, what is left to read are experts that the last tokens did not
choose.

Does: bytes and numbers by part, from the config alone; seconds, from measured rates. Does not: measure.

    >>> reads = token_reads(ModelConfig.preset("v3"))
    >>> reads.numbers == ModelConfig.preset("v3").parameter_counts()["active_without_embedding"] + 7168
    True
    >>> round(reads.bytes / 1e9, 1), round(reads.always_bytes / 2**30), round(reads.bytes_in_memory / 2**30)
    (37.7, 60, 136)

Next: minidsv3.model.rope
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from minidsv3.config import ModelConfig, preset_names

__all__ = ["TokenReads", "published_layout", "token_reads", "whole_model"]

PARTS = {
    "embed_tokens": "embedding",
    "lm_head": "head",
    ".mlp.experts.": "routed",
    ".shared_experts.": "shared",
    ".mlp.gate.": "gate",
    "norm": "norm",
    ".self_attn.": "attention",
    ".mlp.": "dense",
}
Stored = Callable[[str, tuple[int, ...]], int]  # a tensor's bytes in the files, by name and shape


class TokenReads(NamedTuple):
    """Numbers and bytes that a token meets, by part."""

    numbers_by_part: dict[str, int]
    bytes_by_part: dict[str, int]

    @property
    def numbers(self) -> int:
        """Numbers dequantised."""
        return sum(self.numbers_by_part.values())

    @property
    def bytes(self) -> int:
        """Bytes read."""
        return sum(self.bytes_by_part.values())

    @property
    def always_bytes(self) -> int:
        """Memory that holds what every token meets, in float32: all but routed experts and embedding."""
        return 4 * sum(n for part, n in self.numbers_by_part.items() if part not in ("routed", "embedding"))

    @property
    def bytes_in_memory(self) -> int:
        """Memory that holds all that a token meets, in float32: from here on a cache begins to keep it."""
        return 4 * self.numbers

    def seconds(self, numbers_per_second: float, bytes_per_second: float = math.inf) -> float:
        """A token with nothing in memory; files are read while numbers are dequantised, the slower counts."""
        return max(self.numbers / numbers_per_second, self.bytes / bytes_per_second)


def published_layout(config: ModelConfig) -> Stored:
    """Bytes as in the published files: FP8 with scales, the rest BF16, the router's bias float32."""
    narrow, side = set(config.fp8_tensors()), config.fp8_block

    def stored(name: str, shape: tuple[int, ...]) -> int:
        if name in narrow:
            return math.prod(shape) + 4 * math.prod(-(-size // side) for size in shape)
        return math.prod(shape) * (4 if name.endswith("correction_bias") else 2)

    return stored


def token_reads(config: ModelConfig, stored: Stored | None = None) -> TokenReads:
    """What one token of the main model reads.  stored: bytes of each tensor; as published if not given."""
    stored = stored or published_layout(config)
    numbers, taken = dict.fromkeys(PARTS.values(), 0), dict.fromkeys(PARTS.values(), 0)
    shared_by = {"routed": config.n_routed_experts, "embedding": config.vocab_size}
    used = {"routed": config.n_activated_experts}
    last = f"model.layers.{config.n_layers}."
    for name, shape in config.tensor_shapes().items():
        if name.startswith(last):  # MTP modules follow the main model
            break
        part = next(part for key, part in PARTS.items() if key in name)
        numbers[part] += math.prod(shape)
        taken[part] += stored(name, shape)
    for part, count in shared_by.items():
        numbers[part] = numbers[part] * used.get(part, 1) // count
        taken[part] = taken[part] * used.get(part, 1) // count
    return TokenReads(numbers, taken)


def whole_model(config: ModelConfig) -> tuple[str, ModelConfig] | None:
    """The preset of which this model is the first layers, and its name: all widths alike, fewer layers."""
    for name in preset_names():
        preset = ModelConfig.preset(name)
        if preset.n_layers > config.n_layers and _widths(preset) == _widths(config):
            return name, preset
    return None


def _widths(config: ModelConfig) -> list[object]:
    depths = (
        "n_layers",
        "n_dense_layers",
        "n_mtp_layers",
        "max_seq_len",
        "initializer_range",
        "rope_scaling",
    )
    return [value for name, value in sorted(config.to_dict().items()) if name not in depths]
