"""The gradient of a batch, computed on as many cores as the BLAS was given: data parallelism over shards.

Each shard runs the whole model on its part of the sequences and writes into a gradient buffer of its own; the
buffers are weighted by the shards' sizes and added in a fixed order, so that the bits do not depend on
timing, nor on whether shards are threads (`accumulate`, for one batch) or processes (`Shards`, for training:
no lock of Python's between them). Every loss is a mean over sequences, hence the sum over shards is the loss
of the batch.

Does: losses, gradients, expert loads of a batch. Does not: update anything.

    >>> shares(5, 2)
    [slice(0, 2, None), slice(2, 5, None)]

Next: minidsv3.training.optimizer
"""

import json
import mmap
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.machine import Machine
from minidsv3.machine.crew import Crew, crew_size, shared_array
from minidsv3.machine.parallel import run_shards, workers
from minidsv3.model.parameters import Parameters, product_weights
from minidsv3.model.transformer import LossOptions, expert_loads, loss_backward, loss_forward

__all__ = ["Shards", "accumulate", "part_of_batch", "shared", "shares"]

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
    make: Callable[[], Machine] = Machine,
) -> tuple[dict[str, float], Loads]:
    """Write the gradient of losses["total"] into `gradients`; return losses and loads [MoE layers, E].

    ids: [B, T + 1]. A machine of the caller's, which may trace, runs the batch whole; otherwise `make` makes
    one for each shard.
    """
    parts = shares(len(ids), 1 if machine is not None else workers())
    buffers = [gradients, *(gradients.like() for _ in parts[1:])]

    def shard(i: int) -> Part:
        own, share = machine or make(), (parts[i].stop - parts[i].start) / len(ids)
        return part_of_batch(own, parameters, ids[parts[i]], options._replace(share=share), buffers[i])

    results = run_shards(shard, len(parts), len(parts))
    _add_up(buffers[: len(parts)])
    return _together(results)


Part = tuple[dict[str, float], Loads]


def part_of_batch(
    machine: Machine,
    parameters: Parameters,
    ids: NDArray[np.intp],
    options: LossOptions,
    gradients: Parameters,
) -> Part:
    """One shard: its share of the batch's losses, its loads; its gradient goes into `gradients`."""
    # a NaN is found by its loss; narrow copies of weights serve forward and backward
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"), machine.frozen_weights():
        losses, saved = loss_forward(machine, parameters.astype(machine.dtype), ids, options)
        loss_backward(machine, saved, gradients)
    return {name: loss * options.share for name, loss in losses.items()}, expert_loads(saved)


def _together(results: Sequence[Part]) -> Part:
    losses = {name: sum(loss[name] for loss, _ in results) for name in results[0][0]}
    return losses, np.sum([load for _, load in results], axis=0)


def shared(parameters: Parameters) -> Parameters:
    """The same values in memory that processes forked later share."""
    buffer = shared_array(parameters.buffer.shape, parameters.buffer.dtype)
    buffer[...] = parameters.buffer
    return Parameters(parameters.config, buffer)


class Shards:
    """The gradient of batch after batch, each shard in a process of its own where that can be.

    parameters: in memory that all processes see (`shared`), since they change between the batches.
    make: a machine of the precision wanted. Narrow copies of the weights are made once a batch, each process
    making a part of them, as V3 makes them once a step.
    """

    def __init__(self, parameters: Parameters, make: Callable[[], Machine] = Machine) -> None:
        self.parameters, self._make = parameters, make
        self._count = crew_size(workers())
        self.gradients = shared(parameters.like())
        self._others: list[Parameters] = []
        self._copies: list[tuple[str, Any, mmap.mmap]] = []
        self._crew: Crew | None = None

    def _gather(self) -> Crew:
        """The crew, hired at the first batch."""
        if self._crew is None or not self._crew.open:
            while len(self._others) < self._count - 1:
                self._others.append(shared(self.parameters.like()))
            if self._make().recipe.rounds and not self._copies:
                products = product_weights(self.parameters.weights)
                self._copies = [
                    (at, W, mmap.mmap(-1, W.size * 4))
                    for at, W in sorted(products, key=lambda product: -product[1].size)
                ]
            self._crew = Crew(self._work, self._count)
        return self._crew

    def accumulate(
        self, ids: NDArray[np.intp], options: LossOptions, machine: Machine | None = None
    ) -> tuple[dict[str, float], Loads]:
        """As the function `accumulate`, into `.gradients`."""
        if machine is not None or self._count == 1:  # traced, or no processes here: threads
            return accumulate(self.parameters, ids, options, self.gradients, machine, self._make)
        parts = shares(len(ids), self._count)
        crew = self._gather()
        if self._copies:
            crew.run(b"narrow")
        job = {"ids": ids.tolist(), "options": options._asdict(), "parts": len(parts)}
        answers = [json.loads(answer) for answer in crew.run(json.dumps(job).encode(), len(parts))]
        _add_up([self.gradients, *self._others][: len(parts)])
        return _together([(losses, np.array(loads, np.int64)) for losses, loads in answers])

    def close(self) -> None:
        """Let the processes go; another batch would hire others."""
        if self._crew is not None:
            self._crew.close()

    def _work(self, member: int, job: bytes) -> bytes:
        """What each process does."""
        machine = self._make()
        machine.follow(self.parameters.config.fp8_block)
        if job == b"narrow":
            for at, W, memory in self._copies[member :: self._count]:
                _array(W, memory)[...] = machine.narrow(W, at)
            return b""
        task = json.loads(job)
        ids = np.array(task["ids"], np.intp)
        part = shares(len(ids), task["parts"])[member]
        options = LossOptions(**task["options"])._replace(share=(part.stop - part.start) / len(ids))
        machine.hold((W, _array(W, memory)) for _, W, memory in self._copies)
        into = [self.gradients, *self._others][member]
        losses, loads = part_of_batch(machine, self.parameters, ids[part], options, into)
        return json.dumps((losses, loads.tolist())).encode()


def _array(W: NDArray[np.float32], memory: mmap.mmap) -> NDArray[np.float32]:
    """Shared memory as an array like W.  A new one every time: a machine makes what it holds read-only."""
    return np.ndarray(W.shape, np.float32, memory)


def _add_up(buffers: list[Parameters]) -> None:
    """Add the other shards' gradients to the first's, each core a stretch of the buffer."""
    first, *others = buffers
    parts = shares(first.buffer.size, len(buffers))

    def stretch(i: int) -> None:
        for other in others:
            first.buffer[parts[i]] += other.buffer[parts[i]]

    run_shards(stretch, len(parts) if others else 0, len(parts))
