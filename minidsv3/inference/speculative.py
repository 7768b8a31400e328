"""Speculative decoding: MTP modules draft tokens, the main model verifies them in one step (section 5.4.3).

Let t_0 .. t_n be known, t_n not yet run. Module 1 drafts t_{n+1} from h^0_{n-1} and Emb(t_n); module k drafts
t_{n+k} from h^{k-1}_{n-1} and Emb(t_{n+k-1}), itself a draft. More drafts than modules come from the last
module again, each time with its own last state in place of the one below. Then t_n and the drafts go through
the main model together, and the rejection rule (Leviathan et al. 2023) takes draft d with probability
min(1, p(d) / q(d)), and at the first refusal draws from max(p - q, 0), normalised: what comes out is
distributed as p, whatever q is. Greedy is the case of one-hot p and q: exactly the main model's choice.

Each module has its own latent cache, in the main model's format and teacher-forced: positions whose token
t_{i+k} turned out otherwise are rolled back and run again with the token that came. The text never depends on
the modules.

Does: draft, verify, roll back. Does not: trees of drafts, batches.

    >>> from minidsv3.inference.sampling import Sampler
    >>> sampler = Sampler(0.0, 1.0, np.random.default_rng(0))
    >>> q = sampler.probabilities(np.array([[0.0, 2.0, 1.0]]))             # token 1 was drafted
    >>> verify(np.array([[0.0, 3.0, 1.0], [0.0, 0.0, 9.0]]), [1], q, sampler)
    (1, 2)
    >>> verify(np.array([[4.0, 3.0, 1.0], [0.0, 0.0, 9.0]]), [1], q, sampler)
    (0, 0)

Next: minidsv3.inference.generation
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.inference.cache import LatentCache
from minidsv3.inference.decode import Decoder
from minidsv3.inference.sampling import Sampler, draw
from minidsv3.machine.primitives import FEW
from minidsv3.model.mla import mla_absorbed_decode, mla_naive_decode
from minidsv3.model.mtp import mtp_decode

__all__ = ["Drafter", "verify"]

Array = NDArray[Any]


def verify(
    logits: Array, drafts: Sequence[int], q: Sequence[Array] | Array, sampler: Sampler
) -> tuple[int, int]:
    """Keep drafts by the rejection rule.

    logits: [n + 1, V] of the main model behind t_n and behind each draft  q: n times [V], what each draft was
    drawn from  ->  how many drafts are kept, the token that follows them.
    """
    for i, (d, q_i) in enumerate(zip(drafts, q, strict=True)):
        p = sampler.probabilities(logits[i])  # [V]
        if sampler.rng.random() * q_i[d] < p[d]:
            continue
        rest = np.maximum(p - q_i, 0)  # [V]; not all zero: p(d) < q(d), so p > q somewhere
        return i, draw(rest if rest.any() else p, sampler.rng)
    return len(drafts), sampler.choose(logits[len(drafts)])


class Module:
    """One MTP module at work: its cache and the states it has been given.

    inputs: [n, D] h^{k-1} at positions start .. start + n; those before the cache's end have been run and are
    kept only as far back as a rollback can reach.
    """

    def __init__(self, decoder: Decoder, depth: int) -> None:
        self.decoder, self.depth = decoder, depth
        config = decoder.config
        self.w = decoder.w.mtp[depth - 1]
        self.cache = LatentCache(config, 1, 1, decoder.machine.dtype, decoder.cache.format)
        self.start = 0
        self.inputs = np.empty((0, config.dim), decoder.machine.dtype)  # [n, D]

    def give(self, states: Array) -> None:
        """States of the depth below, of the positions that follow those already given.  [n, D]."""
        spent = max(self.cache.length - (self.depth - 1) - self.start, 0)  # a rollback never reaches these
        self.inputs = np.concatenate((self.inputs[spent:], states))
        self.start += spent

    def run(self, known: Sequence[int]) -> tuple[Array, Array]:
        """Run every position i that has its state and its token t_{i+k}.

        ->  [n, D] for the head, [n, D] to pass on.
        """
        first = self.cache.length
        last = min(self.start + len(self.inputs), len(known) - self.depth)
        states = self.inputs[first - self.start : max(last, first) - self.start]
        return self.run_on(known[first + self.depth : first + self.depth + len(states)], states)

    def run_on(self, tokens: Sequence[int], states: Array) -> tuple[Array, Array]:
        """The positions behind the cached ones.  tokens: n  states: [n, D]  ->  as `run`."""
        if not len(states):
            return states, states
        d, T, first = self.decoder, len(states), self.cache.length
        self.cache.reserve(first + T)
        machine = d.machine
        machine.layer = d.config.n_layers + self.depth - 1
        embedded = machine.embedding(d.w.embedding, np.array(tokens, np.intp), at="mtp.embedding")  # [n, D]
        attention = mla_naive_decode if T > FEW else mla_absorbed_decode
        turn, rows = d.rotation(first, T), self.cache.latents(0)
        out = mtp_decode(machine, embedded, states, self.w, turn, d.config, rows, first, attention)
        machine.layer = None
        self.cache.advance(T)
        return out

    def truncate(self, length: int) -> None:
        """Forget positions from `length` (which may be negative: all) on, inputs excepted."""
        self.cache.truncate(max(min(length, self.cache.length), 0))


class Drafter:
    """The chain of MTP modules beside a decoder."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.modules = [Module(decoder, k) for k in range(1, decoder.config.n_mtp_layers + 1)]

    def catch_up(self, known: Sequence[int], states: Array) -> None:
        """Teacher-forced, through all modules: h^0 of new positions [n, D], and all tokens known."""
        for module in self.modules:
            module.give(states)
            _, states = module.run(known)

    def draft(self, known: Sequence[int], count: int, sampler: Sampler) -> tuple[list[int], list[Array]]:
        """Propose the `count` tokens behind the known ones  ->  drafts, and what each was drawn from [V].

        Leaves the chain caught up except for positions that saw drafts; `keep` settles those.
        """
        drafts: list[int] = []
        q: list[Array] = []
        end = len(known) - 1  # positions 0 .. end - 1 have states
        for step in range(count):
            if step < len(self.modules):
                module = self.modules[step]
                normed, passed = module.run([*known, *drafts])
                if step + 1 < len(self.modules):
                    self.modules[step + 1].give(passed)
            else:  # the last module again, on its own state
                normed, passed = module.run_on(drafts[-1:], passed[-1:])
            logits = self.decoder.head(normed[-1:], at="head.mtp_logits")[0]  # [V]
            q.append(sampler.probabilities(logits))
            drafts.append(int(logits.argmax()) if sampler.temperature == 0 else draw(q[-1], sampler.rng))
        if count:
            module.truncate(end)
        return drafts, q

    def keep(self, accepted: int, known: int, states: Array) -> None:
        """After a verification: `accepted` drafts became tokens behind the `known` ones.

        states: [accepted + 1, D], h^0 of the positions that the verification ran and that stand.
        """
        for module, above in zip(self.modules, [*self.modules[1:], None], strict=True):
            module.truncate(known + accepted - module.depth)  # i + k <= index of the last accepted token
            if above is not None:
                above.inputs = above.inputs[: max(module.cache.length - above.start, 0)]
        self.modules[0].give(states)
