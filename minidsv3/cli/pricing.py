"""One training step and one decode step, traced and priced: what `run` and `bill` print.

The steps really run, on a machine that writes a row for every primitive. The training step takes one batch
through forward, backward and update, on copies: the model asked about is not changed. The decode step is
one token behind a prompt that is already in the latent cache, with absorbed MLA.

Does: trace, price. Does not: print.

    >>> from minidsv3.config import ModelConfig
    >>> config = ModelConfig.preset("nano")
    >>> from minidsv3.hardware import load_hardware
    >>> parameters = Parameters.initialise(config, np.random.default_rng(0))
    >>> priced = decode_step_bill(parameters, [1, 2, 3], load_hardware("h800"))
    >>> priced.total.bound, priced.kv_bytes_per_token
    ('memory', 512)

Next: minidsv3.cli.needles
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from minidsv3.config import ModelConfig, TrainConfig
from minidsv3.cost import Bill, bill
from minidsv3.hardware import Hardware
from minidsv3.inference import Decoder
from minidsv3.machine import Machine, Trace
from minidsv3.model.parameters import Parameters
from minidsv3.training import Trainer

__all__ = ["decode_step_bill", "decode_step_rows", "training_step_bill", "training_step_rows"]


def training_step_bill(
    parameters: Parameters, plan: TrainConfig, stream: NDArray[np.int32], sequences: int, hardware: Hardware
) -> Bill:
    """Price a step of the plan's precision and sequence length on the first sequences of a stream [S]."""
    rows = training_step_rows(parameters, plan, stream, sequences, hardware)
    return bill(rows, hardware, config=parameters.config)


def training_step_rows(
    parameters: Parameters, plan: TrainConfig, stream: NDArray[np.int32], sequences: int, hardware: Hardware
) -> Trace:
    """The rows of that step."""
    config: ModelConfig = parameters.config
    one = replace(plan, steps=1, batch_sequences=sequences, ramp_steps=0, warmup_steps=0)
    trainer = Trainer(config, one, stream)
    trainer.parameters.buffer[...] = parameters.buffer
    machine = Machine(hardware, plan.precision, trace=True, accumulate=plan.accumulate)
    trainer.step(machine)
    return machine.trace


def decode_step_bill(
    parameters: Parameters, prompt: Sequence[int], hardware: Hardware, precision: str = "fp32"
) -> Bill:
    """Price one token behind a prompt of ids; the prompt's own prefill is not in the bill."""
    rows = decode_step_rows(parameters, prompt, hardware, precision)
    return bill(rows, hardware, config=parameters.config)


def decode_step_rows(
    parameters: Parameters, prompt: Sequence[int], hardware: Hardware, precision: str = "fp32"
) -> Trace:
    """The rows of that token."""
    decoder = Decoder(Machine(), parameters)
    with np.errstate(over="ignore"):  # sigmoid of a large negative number is 0, and that is right
        logits = decoder.prefill(np.array([prompt], np.intp), chunk=256)  # [1, V]
        decoder.machine = machine = Machine(hardware, precision, trace=True)
        machine.follow(parameters.config.fp8_block)
        decoder.step(logits.argmax(axis=-1)[:, None])
    return machine.trace
