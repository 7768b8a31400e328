"""Dense models with grouped attention, counted by the same rules as DeepSeek-V3: for comparison only.

A `DenseConfig` is eight sizes out of `data/dense/*.toml`, each file with its source. What is counted for V3
is counted here in the same way: parameters by part, the matrix weights that a token meets, KV bytes, FLOPs of
training (three times the forward, the output head included, the embedding's look-up not).

Does: counts. Does not: run such a model; sliding windows, tied or parallel layers.

    >>> qwen = load_dense("qwen2.5-72b")
    >>> qwen.kv_bytes_per_token, f"{qwen.parameter_counts()['total'] / 1e9:.2f}B"
    (327680, '72.71B')
    >>> f"{dense_training_flops_per_token(qwen, 4096) / 1e9:.1f} GFLOP"
    '444.9 GFLOP'

Next: minidsv3.cost.training_run
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Self

from minidsv3.config import near

__all__ = [
    "DenseConfig",
    "dense_conjecture_flops",
    "dense_kv_bytes_per_token",
    "dense_names",
    "dense_parameters",
    "dense_training_flops_per_token",
    "load_dense",
]

BF16_BYTES = 2


@dataclass(frozen=True)
class DenseConfig:
    """Sizes of a decoder-only Transformer with GQA and SwiGLU, embedding and head apart."""

    name: str
    title: str
    source: str
    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    inter_dim: int
    vocab_size: int
    qkv_bias: bool = False

    def __post_init__(self) -> None:
        where = f"{self.name}.toml"
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if field.type is int and not (whole and value >= 1):
                raise ValueError(f"{where}: expected {field.name} to be a whole number >= 1, got {value!r}")
            if field.type is str and not (isinstance(value, str) and value.strip()):
                raise ValueError(f"{where}: expected {field.name} to be a non-empty text, got {value!r}")
        if self.n_heads % self.n_kv_heads:
            expected = f"n_heads divisible by n_kv_heads={self.n_kv_heads}"
            raise ValueError(f"{where}: expected {expected}, got {self.n_heads}")

    @classmethod
    def from_dict(cls, name: str, table: Mapping[str, Any]) -> Self:
        """Build from plain values; unknown and missing fields are errors that name the file."""
        fields = {field.name: field for field in dataclasses.fields(cls) if field.name != "name"}
        for key in table:
            if key not in fields:
                raise ValueError(f"{name}.toml: unknown field {key!r}; {near(key, sorted(fields))}")
        for key, field in fields.items():
            if key not in table and field.default is dataclasses.MISSING:
                raise ValueError(f"{name}.toml: missing field {key!r}")
        return cls(name=name, **table)

    @property
    def kv_bytes_per_token(self) -> int:
        """Cache bytes of a token in BF16: a key and a value for each KV head and layer."""
        return dense_kv_bytes_per_token(self)

    def parameter_counts(self) -> dict[str, int]:
        """Parameters by part, `total`, and `matrix`: those of the products that a token runs through."""
        D, heads, kv = self.dim, self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        attention = self.n_layers * D * (2 * heads + 2 * kv)
        ffn = self.n_layers * 3 * D * self.inter_dim
        table = self.vocab_size * D
        bias = self.n_layers * (heads + 2 * kv) if self.qkv_bias else 0
        parts = {"embedding": table, "head": table, "attention": attention, "ffn": ffn}
        parts |= {"bias": bias, "norm": (2 * self.n_layers + 1) * D}
        return parts | {"total": sum(parts.values()), "matrix": attention + ffn + table}


@lru_cache
def dense_names() -> list[str]:
    """Names of the models in `data/dense`, sorted."""
    folder = resources.files("minidsv3") / "data" / "dense"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


@lru_cache
def load_dense(name: str) -> DenseConfig:
    """A shipped model by name; ValueError with near names for any other."""
    if name not in dense_names():
        raise ValueError(f"expected a dense model, got {name!r}: {near(name, dense_names())}")
    text = (resources.files("minidsv3") / "data" / "dense" / f"{name}.toml").read_text(encoding="utf-8")
    return DenseConfig.from_dict(name, tomllib.loads(text))


def dense_parameters(config: DenseConfig, part: str = "total") -> int:
    """All parameters, or those of one part."""
    counts = config.parameter_counts()
    if part not in counts:
        raise ValueError(f"expected a part of the parameters, got {part!r}: {near(part, list(counts))}")
    return counts[part]


def dense_kv_bytes_per_token(config: DenseConfig, number_bytes: int = BF16_BYTES) -> int:
    """Cache bytes of a token: a key and a value of head_dim for each KV head and layer."""
    return 2 * config.n_kv_heads * config.head_dim * config.n_layers * number_bytes


def dense_training_flops_per_token(config: DenseConfig, length: int, causal: bool = True) -> int:
    """FLOPs of forward and backward for one token in a sequence of `length`, as for V3.

    causal: count the lower triangle of the scores; False: the whole square.
    """
    core = 2 * length * config.n_heads * 2 * config.head_dim * config.n_layers
    return 3 * (2 * config.parameter_counts()["matrix"] + (core // 2 if causal else core))


def dense_conjecture_flops(config: DenseConfig, length: int, layers: int) -> int:
    """Not our rule: attention core halved once more, and so many layers; what a source may have counted."""
    whole = dense_training_flops_per_token(config, length)
    core = 3 * length * config.n_heads * 2 * config.head_dim * config.n_layers  # the causal triangle's
    head = 3 * 2 * config.vocab_size * config.dim
    return head + (whole - core // 2 - head) * layers // config.n_layers
