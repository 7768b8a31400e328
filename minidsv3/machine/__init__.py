"""The machine that interprets the model: hardware, a precision policy and, when asked, a trace.

`Machine()` computes in float32 as fast as NumPy can: its methods *are* the primitives. A machine of another
precision, or one that traces, shadows them with rounding or recording ones; plain machines pay nothing
for it. `Machine(precision="fp8")` runs V3's recipe; `Machine(dtype="float64")` is for gradient checks.

Does: precisions as data, traces, kept values, policies of your own (functions that wrap a primitive by name).
Does not: narrow storage: a number rounded to FP8 still lies in a float32.

    >>> import numpy as np
    >>> machine = Machine(trace=True, keep="mla.out")
    >>> y = machine.linear(np.ones((2, 3), "f"), np.ones((4, 3), "f"), at="mla.out")
    >>> row = machine.trace[0]
    >>> row.op, row.matrix_flops, row.bytes
    ('mla.out', 48, {'activation': 56, 'weight': 48})

Next: minidsv3.machine.signature
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minidsv3.hardware import Hardware, load_hardware
from minidsv3.machine import primitives as p
from minidsv3.machine.blocks import IN_BLOCKS, RowBlocks, Stack
from minidsv3.machine.catalogue import Op, catalogue, look_up, symbols
from minidsv3.machine.precision import Precision, load_precision, precision_names
from minidsv3.machine.rounding import ACCUMULATE, Rounding, place_of
from minidsv3.machine.trace import Recorder, Row, Trace
from minidsv3.machine.watch import Event, Watch, watched, watching

__all__ = [
    "Event", "Machine", "Op", "Policy", "Precision", "Row", "RowBlocks", "Stack", "Trace", "Watch",
    "catalogue", "load_precision", "look_up", "precision_names", "symbols", "watched",
]  # fmt: skip

Policy = Callable[[str, Callable[..., Any]], Callable[..., Any]]
"""Takes a primitive's name and function, gives the function to run in its place."""


class Machine:
    """Runs primitives.

    hardware: a name or path for `load_hardware`, read when first asked for.
    precision: a recipe's name ("fp32", "bf16", "fp8", …) or a path to a file like those of data/precision.
    accumulate: how FP8 products are summed: "ideal" float32; "promoted", partial sums of 128 terms promoted
    to FP32; "hardware", these partial sums by the tensor core, bit by bit.
    block: width of FP8 tiles and blocks; if not given, the model's config says it.
    policy: wraps every primitive (what-ifs). trace: write one row per primitive to `.trace`; keep: op
    patterns whose values the rows hold. watch: is told of every primitive with its arrays, and may change the
    result (`minidsv3.machine.watch`); such a machine traces. dtype: "float32" or "float64", of parameters.
    """

    def __init__(
        self,
        hardware: str | Path | Hardware = "h800",
        precision: str | Path | Precision = "fp32",
        trace: bool = False,
        keep: str | Iterable[str] = (),
        dtype: str = "float32",
        policy: Policy | None = None,
        accumulate: str = "ideal",
        block: int | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.recipe = precision if isinstance(precision, Precision) else load_precision(precision)
        if dtype not in ("float32", "float64"):
            raise ValueError(f"expected dtype 'float32' or 'float64', got {dtype!r}")
        if self.recipe.rounds and dtype != "float32":
            raise ValueError(f"expected dtype 'float32' for precision {self.recipe.name!r}, got {dtype!r}")
        if accumulate not in ACCUMULATE:
            raise ValueError(f"expected accumulate one of {ACCUMULATE}, got {accumulate!r}")
        if accumulate != "ideal" and not self.recipe.multiplies_fp8:
            expected = f"a precision with FP8 products for accumulate={accumulate!r}"
            raise ValueError(f"expected {expected}, got {self.recipe.name!r}")
        if block is not None and block < 1:
            raise ValueError(f"expected block >= 1, got {block}")
        self.dtype, self.accumulate, self._block = np.dtype(dtype), accumulate, block
        self.fp8_block = block or (self.recipe.fp8("block") if self.recipe.multiplies_fp8 else 0)
        self.layer: int | None = None  # where the model stands; set by the model, read by a trace
        self.expert: int | None = None
        self.recomputing = False  # a forward primitive runs in the backward
        self._hardware = hardware
        self._rounding = Rounding(self.recipe, self, accumulate) if self.recipe.rounds else None
        watch = watch or (watching() if trace else None)
        patterns = [keep] if isinstance(keep, str) else keep
        self._recorder = Recorder(self, patterns, watch) if trace or watch else None
        rounding = self._rounding.wrap if self._rounding else None
        wraps = (rounding, policy, self._recorder.wrap if self._recorder else None)
        self._wraps = [wrap for wrap in wraps if wrap is not None]  # from the inside out
        self._in_blocks = False  # whether the model at hand has such weights
        self._takes_blocks = False  # whether primitives are shadowed for them
        if self._wraps:
            self._wrap_primitives()

    @property
    def precision(self) -> str:
        """Name of the recipe."""
        return self.recipe.name

    def follow(self, fp8_block: int, in_blocks: bool = False) -> None:
        """Take a model's block size, unless the machine was given one.

        in_blocks: the model's weights come in blocks of rows (`minidsv3.machine.blocks`); innermost of all,
        so that a recipe rounds block by block and a trace has one row an op.
        """
        if self._block is None and self.recipe.multiplies_fp8:
            self.fp8_block = fp8_block
        self._in_blocks = in_blocks
        if in_blocks and not self._takes_blocks:
            self._takes_blocks = True
            for name, wrap in IN_BLOCKS.items():
                self._shadow(name, wrap(getattr(p, name)))

    def narrow(self, W: p.Array, at: str) -> p.Array:
        """The narrow copy that a product reads of weights [..., R, D]; W itself where there is none."""
        return W if self._rounding is None else self._rounding.narrow(W, at)

    def hold(self, copies: Iterable[tuple[p.Array, p.Array]]) -> None:
        """Read these copies in place of the weights they are of, which must not change from here on.

        copies: weights and the narrow copy of each.
        """
        if self._rounding is not None:
            self._rounding.held = {place_of(W): copy for W, copy in copies}

    @contextlib.contextmanager
    def frozen_weights(self) -> Iterator[None]:
        """Within this, weights must not change: their narrow copies are made once, as for decoding.

        Not of weights that come in blocks: memory would not hold the copies.
        """
        if self._rounding is None or self._rounding.held is not None or self._in_blocks:
            yield
            return
        self._rounding.held = {}
        try:
            yield
        finally:
            self._rounding.held = None

    def _wrap_primitives(self) -> None:
        """Shadow each primitive, and its backward, on this instance alone."""
        for name in p.PRIMITIVES:
            for full in (name, f"{name}_backward"):
                if hasattr(self, full):
                    self._shadow(full, getattr(self, full))

    def _shadow(self, name: str, function: Callable[..., Any]) -> None:
        for wrap in self._wraps:
            function = wrap(name, function)
        setattr(self, name, function)

    @property
    def hardware(self) -> Hardware:
        """The machine's hardware description."""
        if not isinstance(self._hardware, Hardware):
            self._hardware = load_hardware(self._hardware)
        return self._hardware

    @property
    def tracing(self) -> bool:
        """Whether primitives write rows."""
        return self._recorder is not None

    @property
    def trace(self) -> Trace:
        """The rows so far; ValueError if the machine does not trace."""
        if self._recorder is None:
            raise ValueError("expected a tracing machine; make it with Machine(trace=True)")
        return self._recorder.rows

    linear, linear_backward = staticmethod(p.linear), staticmethod(p.linear_backward)
    grouped_linear, grouped_linear_backward = (
        staticmethod(p.grouped_linear),
        staticmethod(p.grouped_linear_backward),
    )
    contract, contract_backward = staticmethod(p.contract), staticmethod(p.contract_backward)
    embedding, embedding_backward = staticmethod(p.embedding), staticmethod(p.embedding_backward)
    rmsnorm, rmsnorm_backward = staticmethod(p.rmsnorm), staticmethod(p.rmsnorm_backward)
    rope, rope_backward = staticmethod(p.rope), staticmethod(p.rope_backward)
    softmax, softmax_backward = staticmethod(p.softmax), staticmethod(p.softmax_backward)
    row_softmax, row_softmax_backward = staticmethod(p.row_softmax), staticmethod(p.row_softmax_backward)
    sigmoid, sigmoid_backward = staticmethod(p.sigmoid), staticmethod(p.sigmoid_backward)
    swiglu, swiglu_backward = staticmethod(p.swiglu), staticmethod(p.swiglu_backward)
    add, top_k = staticmethod(p.add), staticmethod(p.top_k)
    dispatch, dispatch_backward = staticmethod(p.dispatch), staticmethod(p.dispatch_backward)
    scale, scale_backward = staticmethod(p.scale), staticmethod(p.scale_backward)
    combine, combine_backward = staticmethod(p.combine), staticmethod(p.combine_backward)
    renormalise, renormalise_backward = staticmethod(p.renormalise), staticmethod(p.renormalise_backward)
    balance, balance_backward = staticmethod(p.balance), staticmethod(p.balance_backward)
    cross_entropy, cross_entropy_backward = (
        staticmethod(p.cross_entropy),
        staticmethod(p.cross_entropy_backward),
    )
    adamw, average = staticmethod(p.adamw), staticmethod(p.average)
    quantise, keep, copy_weight = staticmethod(p.quantise), staticmethod(p.keep), staticmethod(p.copy_weight)
