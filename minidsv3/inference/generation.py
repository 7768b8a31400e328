"""`generate`: a prompt in, new tokens out, plainly or with MTP speculation.

Prefill runs the prompt in chunks and yields the first new token; each decode step then yields one more, or,
speculating, one and as many drafts as the main model agrees with. With few drafts (the default: one a
module) a speculated greedy text is the plain greedy text bit for bit; see `minidsv3.inference.decode`.
The BLAS is held to one thread: waking a second costs more than it brings to a single row, and stalls a prompt
where another program has the core.

Does: check the input, loop, stop, time. Does not: turn text into ids (`minidsv3.tokenizer`).

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.interpreter import Model
    >>> model = Model.initialise(ModelConfig.preset("nano"), seed=0)
    >>> plain = generate(model, [1, 2, 3], 8)
    >>> guessed = generate(model, [1, 2, 3], 8, speculative=True)
    >>> plain.tokens == guessed.tokens, len(plain.tokens), guessed.drafted >= 1
    (True, 8, True)

Next: minidsv3.inference.cache_error
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidsv3.config import ModelConfig, near
from minidsv3.inference.decode import ATTENTION, Decoder
from minidsv3.inference.sampling import Sampler, check_sampling
from minidsv3.inference.speculative import Drafter, verify
from minidsv3.machine import Machine
from minidsv3.machine.parallel import blas_threads
from minidsv3.machine.primitives import FEW
from minidsv3.model.parameters import Parameters

__all__ = ["Generation", "generate"]

Array = NDArray[Any]
Ids = NDArray[np.intp]


class Model(Protocol):
    """What generation needs; `minidsv3.interpreter.Model` has it, and is read later."""

    config: ModelConfig

    @property
    def parameters(self) -> Parameters:
        """The weights."""
        ...

    def check_tokens(self, tokens: ArrayLike) -> Ids:
        """Token ids [B, T] of the vocabulary, or ValueError."""
        ...


@dataclass(frozen=True)
class Generation:
    """What came out, and how long it took."""

    prompts: list[list[int]]  # one for each sequence
    sequences: list[list[int]]  # the new tokens of each, up to and with its stop token
    drafted: int  # drafts that the main model verified
    accepted: int  # drafts that it agreed with
    prefill_seconds: float  # up to the first new token
    decode_seconds: float  # all the others

    @property
    def prompt(self) -> list[int]:
        """The (first) prompt."""
        return self.prompts[0]

    @property
    def tokens(self) -> list[int]:
        """The (first) sequence's new tokens, without the prompt."""
        return self.sequences[0]

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all sequences but the first of each, which prefill pays for, a second of decoding."""
        decoded = sum(len(tokens) - 1 for tokens in self.sequences)
        return decoded / self.decode_seconds if self.decode_seconds > 0 else 0.0


def generate(
    model: Model,
    prompt_ids: ArrayLike,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    attention: str = "absorbed",
    speculative: bool = False,
    *,
    drafts: int | None = None,
    cache: str = "float32",
    stop_ids: Collection[int] = (),
    prefill_chunk: int = 256,
    machine: Machine | None = None,
    on_token: Callable[[int], object] | None = None,
) -> Generation:
    """Continue a prompt of token ids.

    prompt_ids: [T], or [B, T] for B prompts of one length (not speculative)  attention: how decoding attends,
    "absorbed" or "naive"  drafts: tokens to draft a step, one for each MTP module if not given, at most 7
    cache: how latents are held, "float32", "bf16" or "fp8" (of MTP modules as well)
    stop_ids: end a sequence behind any of these  prefill_chunk: prompt tokens in memory at once
    on_token: called with each new token of the (first) sequence.  ValueError for anything that does not fit.
    """
    prompts = _check_prompt(model, prompt_ids, max_new_tokens)
    check_sampling(temperature, top_p)
    if attention not in ATTENTION:
        raise ValueError(f"expected an attention, got {attention!r}: {near(attention, sorted(ATTENTION))}")
    if prefill_chunk < 1:
        raise ValueError(f"expected prefill_chunk >= 1, got {prefill_chunk}")
    count = _check_drafts(model, drafts, len(prompts)) if speculative else 0
    machine = machine or Machine()
    sampler = Sampler(temperature, top_p, np.random.default_rng(seed))
    parameters = model.parameters.astype(machine.dtype)
    decoder = Decoder(machine, parameters, len(prompts), ATTENTION[attention], cache)
    run = _Run(prompts, max_new_tokens, frozenset(stop_ids), sampler, on_token or (lambda _: None))
    start = perf_counter()
    # sigmoid of a large negative number is 0: right
    with np.errstate(over="ignore"), blas_threads(1), machine.frozen_weights():
        drafter = Drafter(decoder) if speculative else None
        _prefill(run, decoder, drafter, prefill_chunk)
        between = perf_counter()
        if drafter is None:
            _decode(run, decoder)
        else:
            _speculate(run, decoder, drafter, count)
    end = perf_counter()
    return Generation(prompts.tolist(), run.new, run.drafted, run.accepted, between - start, end - between)


# ---- checks ------------------------------------------------------------------------------------------------


def _check_prompt(model: Model, prompt_ids: ArrayLike, new: int) -> Ids:
    """->  [B, T]."""
    ids, longest = np.asarray(prompt_ids), model.config.max_seq_len
    ids = ids[None] if ids.ndim == 1 else ids
    if ids.size == 0:
        raise ValueError(f"expected a prompt of at least one token id, got {np.shape(prompt_ids)}")
    if not float(new).is_integer() or new < 1:
        raise ValueError(f"expected a whole number max_new_tokens >= 1, got {new!r}")
    ids = model.check_tokens(ids)
    if ids.shape[1] + new > longest:
        raise ValueError(f"expected prompt and new tokens <= {longest} together, got {ids.shape[1]} + {new}")
    return ids


def _check_drafts(model: Model, drafts: int | None, batch: int) -> int:
    modules = model.config.n_mtp_layers
    if not modules:
        raise ValueError("expected a model with MTP modules to speculate with, got n_mtp_layers=0")
    if batch != 1:
        raise ValueError(f"expected one prompt to speculate on, got {batch}")
    drafts = modules if drafts is None else drafts
    # a step verifies FEW tokens at most, so that each is bit for bit the token that would have come alone
    if not 1 <= drafts < FEW:
        raise ValueError(f"expected drafts 1 .. {FEW - 1}, got {drafts}")
    return drafts


# ---- the loops ---------------------------------------------------------------------------------------------


class _Run:
    """What a generation has so far."""

    def __init__(
        self,
        prompts: Ids,
        limit: int,
        stops: frozenset[int],
        sampler: Sampler,
        on_token: Callable[[int], object],
    ) -> None:
        self.prompts, self.limit, self.stops = prompts, limit, stops
        self.sampler, self.on_token = sampler, on_token
        self.new: list[list[int]] = [[] for _ in prompts]
        self.stopped = [False] * len(prompts)
        self.drafted = self.accepted = 0

    @property
    def left(self) -> int:
        """How many more tokens are wanted."""
        return 0 if all(self.stopped) else self.limit - max(len(tokens) for tokens in self.new)

    def add(self, b: int, token: int) -> None:
        """A token of sequence b; nothing once that has stopped."""
        if self.stopped[b]:
            return
        self.new[b].append(token)
        self.stopped[b] = token in self.stops
        if b == 0:
            self.on_token(token)

    def choose(self, logits: Array) -> Ids:
        """A token for each sequence.  logits: [B, V]  ->  [B, 1]."""
        tokens = [self.sampler.choose(row) for row in logits]
        for b, token in enumerate(tokens):
            self.add(b, token)
        return np.array(tokens, np.intp)[:, None]


def _prefill(run: _Run, decoder: Decoder, drafter: Drafter | None, chunk: int) -> None:
    """The prompt, chunk by chunk, through the model and the drafting modules; chooses the first tokens."""
    known: list[int] = run.prompts[0].tolist()

    def catch_up(states: Array) -> None:
        if drafter is not None:
            drafter.catch_up(known, states)

    logits = decoder.prefill(run.prompts, chunk, catch_up)  # [B, V]
    run.choose(logits)


def _decode(run: _Run, decoder: Decoder) -> None:
    """A token of each sequence a step; a sequence that has stopped goes along unheard."""
    tokens = np.array([[new[-1]] for new in run.new], np.intp)  # [B, 1]
    while run.left > 0:
        logits, _ = decoder.step(tokens)  # [B, 1, V]
        tokens = run.choose(logits[:, 0])


def _speculate(run: _Run, decoder: Decoder, drafter: Drafter, count: int) -> None:
    """Draft, verify, keep what is right."""
    known = run.prompts[0].tolist() + run.new[0]
    while run.left > 0:
        drafts, q = drafter.draft(known, min(count, run.left - 1), run.sampler)
        logits, states = decoder.step(np.array([[known[-1], *drafts]], np.intp))  # [1, n + 1, V], [n + 1, D]
        accepted, token = verify(logits[0], drafts, q, run.sampler)
        decoder.cache.truncate(len(known) + accepted)  # t_n and the accepted drafts have been run
        drafter.keep(accepted, len(known), states[: accepted + 1])
        for new in (*drafts[:accepted], token):
            known.append(new)
            run.add(0, new)
        run.drafted += len(drafts)
        run.accepted += accepted
