"""`Model`: parameters, machine, gradients and decoding in one object, for users.

A loaded model is mapped: files are opened, not read. At the first use of the weights a model that fits the
memory is read as a whole; a larger one is read piece by piece as it runs (`minidsv3.model.mapped`).

Does: initialise, load, save, logits, states, losses with gradients, generation. Splits a batch over the cores
where the BLAS allows it. Does not: train (`minidsv3.training`), price (`minidsv3.cost`).

    >>> import numpy as np
    >>> from minidsv3.config import ModelConfig
    >>> model = Model.initialise(ModelConfig.preset("nano"), seed=0)
    >>> model.logits(np.array([[1, 2, 3]])).shape
    (1, 3, 2048)

Next: minidsv3.cost
"""

import contextlib
import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidsv3.config import ModelConfig
from minidsv3.machine import Machine
from minidsv3.machine.parallel import blas_threads, run_shards, workers
from minidsv3.model.mapped import MappedParameters
from minidsv3.model.memory import available_memory, memory_bytes
from minidsv3.model.parameters import Parameters
from minidsv3.model.transformer import LossOptions, all_logits, all_states
from minidsv3.training.gradients import accumulate, shares

if TYPE_CHECKING:
    from minidsv3.checkpoint import Folder
    from minidsv3.inference import Generation

__all__ = ["Model"]

Array = NDArray[Any]


class Model:
    """A DeepSeek-V3-shaped model that can be looked at, asked, and differentiated."""

    def __init__(
        self, config: ModelConfig, parameters: Parameters | MappedParameters, folder: "Folder | None" = None
    ) -> None:
        self.config, self._parameters = config, parameters
        self.folder = folder  # that it was loaded from

    def __repr__(self) -> str:
        c = self.config
        size = f"{_numbers(c):,} parameters"
        return f"Model of {size}: {c.n_layers} layers, D={c.dim}, V={c.vocab_size}"

    def __getstate__(self) -> dict[str, Any]:
        """What `copy` and `pickle` take: the weights in memory. TypeError for a model that does not fit."""
        if self.mapped is not None:
            raise TypeError("expected a model within its memory, got a mapped one, which cannot be copied")
        return {**self.__dict__, "_parameters": self.parameters}

    @classmethod
    def initialise(cls, config: ModelConfig, seed: int = 0) -> Self:
        """Random weights (report section 4.2)."""
        return cls(config, Parameters.initialise(config, np.random.default_rng(seed)))

    @classmethod
    def load(cls, folder: str | Path, memory: int | str | None = None) -> Self:
        """Open a Hugging Face folder: config.json and safetensors. Nothing of the weights is read yet.

        memory: for weights, in bytes or in words ("8GiB"); half of what is available if not given. A model
        whose float32 weights fit in it is read whole at first use, another piece by piece as it runs.
        """
        from minidsv3.checkpoint import open_folder

        budget = available_memory() // 2 if memory is None else memory_bytes(memory)
        opened = open_folder(Path(folder))
        return cls(opened.config, MappedParameters(opened.config, opened.tensors, budget), opened)

    @property
    def parameters(self) -> Parameters:
        """The weights, in memory from here on if they fit; otherwise `MappedParameters` in their place."""
        own = self._parameters
        if isinstance(own, MappedParameters) and self.mapped is None:
            own = self._parameters = own.read_all()
        return cast("Parameters", own)

    @property
    def mapped(self) -> MappedParameters | None:
        """The weights of a model that does not fit its memory, with the ledger of what was read."""
        own = self._parameters
        if not isinstance(own, MappedParameters) or 4 * _numbers(self.config) <= own.ledger.budget:
            return None
        return own

    def save(self, folder: str | Path, weights: str = "float32", block: int | None = None) -> None:
        """Write a Hugging Face folder with the published tensor names.

        weights: "float32", "bfloat16" or "fp8".  block: side of FP8's blocks, as in `write_folder`.
        Into the folder it was loaded from: only a model that fits its memory, which is read first.
        """
        from minidsv3.checkpoint import write_folder

        if self.folder and Path(folder).resolve() == self.folder.path.resolve() and not self.mapped:
            _ = self.parameters
        own = self._parameters  # stored tensors go from file to file, one at a time
        tensors = own.tensors if isinstance(own, MappedParameters) else dict(own)
        write_folder(Path(folder), self.config, tensors, weights=weights, block=block)

    def check_tokens(self, tokens: ArrayLike, longest: int | None = None) -> NDArray[np.intp]:
        """Tokens as an integer array [B, T]; ValueError for another shape, dtype, range or length."""
        array = np.asarray(tokens)
        if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "iu":
            raise ValueError(f"expected integer tokens [B, T], got {array.dtype.name} {array.shape}")
        low, high, V = int(array.min()), int(array.max()), self.config.vocab_size
        if low < 0 or high >= V:
            raise ValueError(f"expected token ids 0 .. {V - 1}, got {low if low < 0 else high}")
        longest = longest or self.config.max_seq_len
        if array.shape[1] > longest:
            raise ValueError(f"expected at most {longest} tokens in a sequence, got {array.shape[1]}")
        return array.astype(np.intp, copy=False)

    def logits(self, tokens: ArrayLike, machine: Machine | None = None) -> Array:
        """Logits of the main head.  tokens: [B, T]  ->  [B, T, V]."""
        return self._all_logits(tokens, machine, 0)[0]

    def mtp_logits(self, tokens: ArrayLike, machine: Machine | None = None) -> list[Array]:
        """Logits of each MTP depth k = 1 .. D.  tokens: [B, T]  ->  D arrays [B, T - k, V]."""
        return self._all_logits(tokens, machine, self.config.n_mtp_layers)[1:]

    def hidden_states(self, tokens: ArrayLike, machine: Machine | None = None) -> list[Array]:
        """The residual stream in front of each layer, and the state behind the final norm.

        tokens: [B, T]  ->  L + 1 arrays [B, T, D], as transformers' `output_hidden_states` has them.
        """
        ids, own = self.check_tokens(tokens), machine or Machine()
        with np.errstate(over="ignore"), self._threads():
            return all_states(own, self.parameters.astype(own.dtype), ids)

    def _threads(self) -> contextlib.AbstractContextManager[None]:
        """Of mapped weights two threads multiply blocks, each with a BLAS of one."""
        return contextlib.nullcontext() if self.mapped is None else blas_threads(1)

    def _all_logits(self, tokens: ArrayLike, machine: Machine | None, depths: int) -> list[Array]:
        ids = self.check_tokens(tokens)
        if depths >= ids.shape[1]:
            raise ValueError(f"expected more than {depths} tokens for MTP depth {depths}, got {ids.shape[1]}")
        parameters = self.parameters
        parts = shares(len(ids), 1 if machine or self.mapped else workers())  # mapped: read once for all rows

        def shard(i: int) -> list[Array]:
            own = machine or Machine()
            with np.errstate(over="ignore"), self._threads():
                return all_logits(own, parameters.astype(own.dtype), ids[parts[i]], depths)

        shards = run_shards(shard, len(parts), len(parts))
        return shards[0] if len(shards) == 1 else [np.concatenate(part) for part in zip(*shards, strict=True)]

    def loss_and_gradients(
        self,
        tokens: ArrayLike,
        mtp_weight: float = 0.0,
        balance_weight: float = 0.0,
        machine: Machine | None = None,
        *,
        mtp_divisor: str = "T",
        balance_counts: str = "top-k of scores",
    ) -> tuple[dict[str, float], Parameters]:
        """Losses in nats a token and the gradient of losses["total"], by published tensor name.

        tokens: [B, T + 1]; inputs are all but the last column, targets all but the first.  ValueError for a
        model that does not fit its memory.
        """
        options = LossOptions(mtp_weight, mtp_divisor, balance_weight, balance_counts)
        ids = self.check_tokens(tokens, self.config.max_seq_len + 1)
        least = 2 + (self.config.n_mtp_layers if mtp_weight else 0)
        if ids.shape[1] < least:
            raise ValueError(f"expected rows of at least {least} tokens, got {ids.shape[1]}")
        gradients = self.parameters.like(machine.dtype if machine else np.float32)
        losses, _ = accumulate(self.parameters, ids, options, gradients, machine)
        return losses, gradients

    def generate(self, prompt_ids: ArrayLike, max_new_tokens: int, **options: Any) -> "Generation":
        """Continue a prompt; see `minidsv3.inference.generate` for the options."""
        from minidsv3.inference import generate

        return generate(self, prompt_ids, max_new_tokens, **options)


@lru_cache
def _numbers(config: ModelConfig) -> int:
    """Parameters of main model, router biases and MTP modules."""
    return sum(map(math.prod, config.tensor_shapes().values()))
