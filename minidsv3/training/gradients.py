"""The gradient of a batch, computed on as many cores as the BLAS was given: data parallelism over threads.

Each shard runs the whole model on its part of the sequences and writes into a gradient buffer of its own; the
buffers are weighted by the shards' sizes and added in a fixed order, so that the bits do not depend on
timing. Every loss is a mean over sequences, hence the sum over shards is the loss of the batch.

Does: losses, gradients, expert loads of a batch. Does not: update anything.

    >>> shares(5, 2)
    [slice(0, 2, None), slice(2, 5, None)]

Next: minidsv3.training.optimizer
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.machine import Machine
from minidsv3.machine.parallel import run_shards, workers
from minidsv3.model.parameters import Parameters, product_weights
from minidsv3.model.transformer import LossOptions, expert_loads, loss_backward, loss_forward

__all__ = ["accumulate", "shares"]

Loads = NDArray[np.int64]


def shares(count: int, parts: int) -> list[slice]:
    """Cut 0 .. count into at most `parts` stretches of nearly equal length."""
    parts = max(1, min(parts, count))
    cuts = [count * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(cuts)]


def accumulate(
    parameters: Parameters,
    ids: NDArray[np.intp],
    options: LossOptions,
    gradients: Parameters,
    machine: Machine | None = None,
    scratch: list[Parameters] | None = None,
    make: Callable[[], Machine] = Machine,
) -> tuple[dict[str, float], Loads]:
    """Write the gradient of losses["total"] into `gradients`; return losses and loads [MoE layers, E].

    ids: [B, T + 1]. A machine of the caller's, which may trace, runs the batch whole.
    scratch: gradient buffers of the other cores, reused from call to call; made here if not given.
    make: makes the machine of each core where the caller gives none.
    """
    parts = shares(len(ids), 1 if machine is not None else workers())
    scratch = [] if scratch is None else scratch
    while len(scratch) < len(parts) - 1:
        scratch.append(gradients.like())

    copies = _narrow_copies(make, parameters, len(parts)) if machine is None else {}

    def shard(i: int) -> tuple[dict[str, float], Loads]:
        own, into = machine or make(), scratch[i - 1] if i else gradients
        if machine is None:
            own.follow(parameters.config.fp8_block)
            own.hold(copies)
        share = (parts[i].stop - parts[i].start) / len(ids)
        mine = options._replace(share=share)
        # a NaN is found by its loss; narrow copies of weights serve forward and backward
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"), own.frozen_weights():
            losses, saved = loss_forward(own, parameters.astype(own.dtype), ids[parts[i]], mine)
            loss_backward(own, saved, into)
        return {name: loss * share for name, loss in losses.items()}, expert_loads(saved)

    results = run_shards(shard, len(parts), len(parts))
    _add_up(gradients, scratch[: len(parts) - 1])
    losses = {name: sum(loss[name] for loss, _ in results) for name in results[0][0]}
    return losses, np.sum([load for _, load in results], axis=0)


def _narrow_copies(make: Callable[[], Machine], parameters: Parameters, parts: int) -> dict[Any, Any]:
    """What all shards read of the weights in a narrow format, each core making a part of it."""
    if not make().recipe.rounds:
        return {}
    products = sorted(product_weights(parameters.weights), key=lambda product: -product[1].size)

    def part(i: int) -> dict[Any, Any]:
        machine = make()
        machine.follow(parameters.config.fp8_block)
        return machine.narrow_copies(products[i::parts])

    return {place: copy for made in run_shards(part, parts, parts) for place, copy in made.items()}


def _add_up(gradients: Parameters, others: list[Parameters]) -> None:
    """Add the other shards' gradients, each core a stretch of the buffer."""
    parts = shares(gradients.buffer.size, 1 + len(others))

    def stretch(i: int) -> None:
        for other in others:
            gradients.buffer[parts[i]] += other.buffer[parts[i]]

    run_shards(stretch, len(parts) if others else 0, len(parts))
