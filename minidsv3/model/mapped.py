"""A model larger than the memory: its weights are read from the folder's files when they are used.

`MappedParameters` stands where `Parameters` stand. Its `.weights` have the same fields, made when asked for:
`.layers[i].attention` is an `MLAWeights`, `.layers[i].ffn` a dense network or a mixture of experts. Matrices
in it are `RowBlocks`, the experts' are `Stack`s of them: rows are read, and dequantised, when a product
takes them, of experts only those that a token has chosen, a block of rows at a time, by two threads. What
was dequantised stays in a cache with a budget; what was used longest ago makes room.

Two matrices are not in blocks: W_KV, whose halves the absorbed attention folds head by head, and the gains.
They are held in the cache whole. The embedding is not cached: only the rows looked up are read.

Does: forward passes and decoding, in the dtype asked for. Does not: gradients, which need as much memory
again; know formats (`minidsv3.checkpoint`).

    >>> import tempfile
    >>> from minidsv3.checkpoint import open_folder, write_folder
    >>> config = ModelConfig.preset("nano")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     parameters = Parameters.initialise(config, np.random.default_rng(0))
    ...     write_folder(folder, config, parameters, weights="fp8")
    ...     mapped = MappedParameters(config, open_folder(folder).tensors, budget=100_000)
    ...     head = mapped.weights.head
    ...     head.shape, len(head.spans), mapped.ledger.bytes_read, head[np.array([5])].shape
    ((2048, 128), 64, 0, (1, 128))

Next: minidsv3.model.one_token
"""

import contextlib
import math
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minidsv3.checkpoint import StoredTensor
from minidsv3.config import ModelConfig
from minidsv3.machine import RowBlocks, Stack
from minidsv3.machine.parallel import workers
from minidsv3.model.memory import in_words
from minidsv3.model.parameters import FFNWeights, MLAWeights, ModelWeights, MoEWeights, Parameters
from minidsv3.model.weight_cache import Ledger, WeightCache

__all__ = ["MappedParameters", "stored_bytes"]

Array = NDArray[Any]
T = TypeVar("T")
BLOCK = 9 << 20  # bytes of a block of rows at most: 128 rows of V3's widest matrix, 18432 columns
SMALLEST = 8  # so many blocks at least fit in a budget
PIECE = 1 << 16  # numbers converted at a time to another dtype than float32
FORMATS = {"F8_E4M3": "e4m3", "F8_E5M2": "e5m2", "BF16": "bf16", "F16": "fp16"}  # as data/formats.toml


def stored_bytes(tensor: StoredTensor, first: int, last: int) -> int:
    """Bytes of a file that rows first .. last take, those of their scales included."""
    count = tensor.nbytes * (last - first) // max(tensor.shape[0], 1)
    if tensor.scale is not None and tensor.block is not None and last > first:
        rows = -(-last // tensor.block[0]) - first // tensor.block[0]
        count += tensor.scale.nbytes * rows // tensor.scale.shape[0]
    return count


class _Source:
    """The tensors of a folder, the cache in front of them, and the second thread."""

    def __init__(self, config: ModelConfig, tensors: Mapping[str, StoredTensor], budget: int) -> None:
        self.config, self.tensors = config, tensors
        self.block = max(min(BLOCK, budget // SMALLEST), 1)
        self.cache = WeightCache(budget, self.block)
        self.on_read: Callable[[], object] = lambda: None
        self._counting = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def fill(self, name: str, first: int, out: Array) -> None:
        """out [n, ...] = rows first .. first + n of a tensor, in out's dtype."""
        tensor, count = self.tensors[name], len(out)
        if out.dtype == np.float32:
            tensor.read(slice(first, first + count), out)
        else:
            step = max(PIECE // max(math.prod(tensor.shape[1:]), 1), 1)
            for i in range(0, count, step):
                n = min(step, count - i)
                out[i : i + n] = tensor.read(slice(first + i, first + i + n))
        with self._counting:
            self.cache.ledger.bytes_read += stored_bytes(tensor, first, first + count)
        self.on_read()

    def run(self, work: Callable[[int], None], count: int) -> None:
        """work(0) … work(count - 1), two at a time."""
        if count < 2 or workers() < 2:
            for i in range(count):
                work(i)
            return
        left, failed = iter(range(count)), list[BaseException]()

        def some() -> None:
            try:
                for i in left:  # both threads take from one iterator, which the interpreter's lock guards
                    work(i)
            except BaseException as error:  # the other thread must not go on alone
                failed.append(error)
                for _ in left:
                    pass

        other = self._hire().submit(some)
        some()
        other.result()
        for error in failed:
            raise error

    def _hire(self) -> ThreadPoolExecutor:
        with self._counting:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "weights")
                weakref.finalize(self, self._pool.shutdown, wait=False)
            return self._pool


@dataclass(frozen=True)
class _Rows:
    """Rows of tensors that stand below one another in one matrix: where a block's numbers are."""

    source: _Source
    parts: tuple[tuple[str, int, int], ...]  # tensor, its first row, rows
    width: int
    dtype: np.dtype[Any]

    def _part(self, row: int) -> tuple[str, int]:
        """The tensor in which a row of the matrix lies, and its number there."""
        for name, first, count in self.parts:
            if row < count:
                return name, first + row
            row -= count
        raise IndexError(f"expected a row of the matrix, got one {row} behind its end")

    def lend(self, span: slice) -> contextlib.AbstractContextManager[Array]:
        """See `minidsv3.machine.blocks.Rows`."""
        name, first = self._part(span.start)
        shape = (span.stop - span.start, self.width)
        key = (name, first, self.dtype.char)
        return self.source.cache.lend(key, shape, self.dtype, partial(self.source.fill, name, first))

    def gather(self, ids: NDArray[np.intp]) -> Array:
        """See `minidsv3.machine.blocks.Rows`.  Each row is read once, and not kept."""
        found, places = np.unique(ids, return_inverse=True)
        rows = np.empty((len(found), self.width), self.dtype)
        for i, row in enumerate(found.tolist()):
            name, first = self._part(row)
            self.source.fill(name, first, rows[i : i + 1])
        gathered: Array = rows[places.reshape(ids.shape)]
        return gathered

    def run(self, work: Callable[[int], None], count: int) -> None:
        """See `minidsv3.machine.blocks.Rows`."""
        self.source.run(work, count)


class _Lazy(Sequence[T], Generic[T]):
    """A sequence whose items are made when they are asked for."""

    def __init__(self, make: Callable[[int], T], first: int, count: int) -> None:
        self._make, self._numbers = make, range(first, first + count)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        numbers = self._numbers[index]
        return [self._make(i) for i in numbers] if isinstance(index, slice) else self._make(numbers)


class _Layer:
    """As `LayerWeights`, each part made when it is asked for."""

    def __init__(self, owner: "MappedParameters", layer: int) -> None:
        self._owner, self._layer, self._at = owner, layer, f"model.layers.{layer}."

    @property
    def g_attn(self) -> Array:
        """[D]."""
        return self._owner.array(f"{self._at}input_layernorm.weight")

    @property
    def g_ffn(self) -> Array:
        """[D]."""
        return self._owner.array(f"{self._at}post_attention_layernorm.weight")

    @property
    def attention(self) -> MLAWeights:
        """See `MLAWeights`; W_KV is held whole."""
        own, c, at = self._owner, self._owner.config, f"{self._at}self_attn."
        latent, down, d_c = c.q_lora_rank > 0, f"{at}kv_a_proj_with_mqa.weight", c.kv_lora_rank
        W_Q = own.matrix(f"{at}q_b_proj.weight" if latent else f"{at}q_proj.weight")
        W_KV = own.array(f"{at}kv_b_proj.weight")
        return MLAWeights(
            W_DQ=own.matrix(f"{at}q_a_proj.weight") if latent else None,
            g_Q=own.array(f"{at}q_a_layernorm.weight") if latent else None,
            W_Q=W_Q.reshape(c.n_heads, c.qk_head_dim, W_Q.shape[-1]),
            W_DKV=own.matrix((down, 0, d_c)),
            W_KR=own.matrix((down, d_c, c.qk_rope_head_dim)),
            g_KV=own.array(f"{at}kv_a_layernorm.weight"),
            W_KV=W_KV.reshape(c.n_heads, c.qk_nope_head_dim + c.v_head_dim, -1),
            W_O=own.matrix(f"{at}o_proj.weight"),
        )

    @property
    def ffn(self) -> FFNWeights | MoEWeights:
        """See `FFNWeights`, `MoEWeights`."""
        own, c, at = self._owner, self._owner.config, f"{self._at}mlp."
        if not c.is_moe(self._layer):
            return own.network(at)
        E, M, D = c.n_routed_experts, c.moe_inter_dim, c.dim
        bias = f"{at}gate.e_score_correction_bias"

        def stack(shape: tuple[int, ...], *names: str) -> Array:
            def make(e: int) -> Array:
                matrix: Array = own.matrix(*(f"{at}experts.{e}.{name}_proj.weight" for name in names))
                return matrix

            return cast("Array", Stack((E, *shape), own.dtype, make))

        return MoEWeights(
            e=own.matrix(f"{at}gate.weight"),
            bias=own.array(bias) if c.has_router_bias else None,
            W_gate_up=stack((2 * M, D), "gate", "up"),
            W_down=stack((D, M), "down"),
            shared=own.network(f"{at}shared_experts.") if c.n_shared_experts else None,
        )


class _Module:
    """As `MTPWeights`."""

    def __init__(self, owner: "MappedParameters", layer: int) -> None:
        at = f"model.layers.{layer}."
        self.block = _Layer(owner, layer)
        self.M_k = owner.matrix(f"{at}eh_proj.weight")
        self.g_e, self.g_h = owner.array(f"{at}enorm.weight"), owner.array(f"{at}hnorm.weight")
        self.g_k = owner.array(f"{at}shared_head.norm.weight")


class _Weights:
    """As `ModelWeights`."""

    in_blocks = True

    def __init__(self, owner: "MappedParameters") -> None:
        c, self._owner = owner.config, owner
        self.embedding = owner.matrix("model.embed_tokens.weight")
        self.head = owner.matrix("lm_head.weight")
        self.layers = _Lazy(partial(_Layer, owner), 0, c.n_layers)
        self.mtp = _Lazy(partial(_Module, owner), c.n_layers, c.n_mtp_layers)

    @property
    def g_final(self) -> Array:
        """[D]."""
        return self._owner.array("model.norm.weight")


class MappedParameters(Mapping[str, Array]):
    """Tensors by published name, read when they are asked for; `.weights` are the same by symbol.

    tensors: of a folder, by published name  budget: bytes for what was dequantised and is kept. `self[name]`
    reads a whole tensor, and does not keep it.
    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Mapping[str, StoredTensor],
        budget: int,
        dtype: DTypeLike = np.float32,
        source: _Source | None = None,
    ) -> None:
        self.config, self.tensors, self.dtype = config, tensors, np.dtype(dtype)
        self._source = source or _Source(config, tensors, budget)
        self.weights = cast("ModelWeights", _Weights(self))

    def __repr__(self) -> str:
        held, budget = in_words(self.ledger.held), in_words(self.ledger.budget)
        return f"MappedParameters of {len(self)} tensors, {held} of {budget} held"

    @property
    def ledger(self) -> Ledger:
        """What was read, held, found and let go so far; one for all dtypes."""
        return self._source.cache.ledger

    @property
    def cache(self) -> WeightCache:
        """What is in memory."""
        return self._source.cache

    def watch(self, on_read: Callable[[], object]) -> None:
        """Call this after every piece that was read, from either thread."""
        self._source.on_read = on_read

    def astype(self, dtype: DTypeLike) -> "MappedParameters":
        """The same weights, handed out in another dtype; files, budget and ledger are shared."""
        if self.dtype == np.dtype(dtype):
            return self
        return MappedParameters(self.config, self.tensors, self.ledger.budget, dtype, self._source)

    def read_all(self) -> Parameters:
        """All weights in memory, in one array."""
        parameters = Parameters(self.config, dtype=self.dtype)
        for name, view in parameters.items():
            self._source.fill(name, 0, view)
        return parameters

    @property
    def buffer(self) -> Array:
        """Not there: ValueError saying how large it would be."""
        raise ValueError(self.too_large("one array of all parameters"))

    def like(self, dtype: DTypeLike | None = None) -> Parameters:
        """Not there: ValueError saying how large it would be."""
        raise ValueError(self.too_large("gradients"))

    def too_large(self, what: str) -> str:
        """Why something is refused, in words."""
        size = in_words(4 * sum(map(math.prod, self.config.tensor_shapes().values())))
        return (
            f"expected a model within the memory for {what}, got one of {size} in float32 "
            f"and a budget of {in_words(self.ledger.budget)}: give Model.load a larger `memory` "
            "(on the command line, --memory), or take a smaller model; text and logits need neither"
        )

    # ---- by name ----

    def __getitem__(self, name: str) -> Array:
        out = np.empty(self.tensors[name].shape, self.dtype)
        self._source.fill(name, 0, out)
        return out

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def array(self, name: str) -> Array:
        """A tensor as a whole, held in the cache."""
        shape, cache = self.tensors[name].shape, self._source.cache
        array = cache.hold((name, None, self.dtype.char), shape, self.dtype, partial(self._fill_array, name))
        array.flags.writeable = False
        return array

    def _fill_array(self, name: str, out: Array) -> None:
        self._source.fill(name, 0, out)

    def matrix(self, *parts: str | tuple[str, int, int]) -> Any:
        """Tensors below one another, or (tensor, first row, rows) of one, as `RowBlocks`.

        Typed as an array, for which products take it.
        """
        placed = tuple((p, 0, self.tensors[p].shape[0]) if isinstance(p, str) else p for p in parts)
        first = self.tensors[placed[0][0]]
        width, step = first.shape[1], math.lcm(self.config.fp8_block, (first.block or (1, 1))[0])
        fitting = max(self._source.block // (width * self.dtype.itemsize) // step, 1) * step
        spans, start = list[slice](), 0
        for _, _, count in placed:
            spans += [slice(start + a, start + b) for a, b in _cut(count, fitting, step)]
            start += count
        rows = _Rows(self._source, placed, width, self.dtype)
        format = (FORMATS[first.dtype], first.block) if first.dtype in FORMATS else None
        return RowBlocks(rows, (start, width), self.dtype, tuple(spans), step, format)

    def network(self, at: str) -> FFNWeights:
        """The feed-forward network whose tensors' names begin so."""
        both = self.matrix(f"{at}gate_proj.weight", f"{at}up_proj.weight")
        return FFNWeights(both, self.matrix(f"{at}down_proj.weight"))


def _cut(count: int, fitting: int, step: int) -> Iterator[tuple[int, int]]:
    """Stretches of at most `fitting` rows, about equal, that start at multiples of `step`.

    A last row alone joins the stretch before it: NumPy would take its product for one of vectors, whose sum
    the BLAS orders otherwise.
    """
    stretches = -(-count // fitting)
    rows = -(-count // (stretches * step)) * step
    starts = [start for start in range(0, count, rows) if start < count - 1 or start == 0]
    yield from zip(starts, [*starts[1:], count], strict=True)
