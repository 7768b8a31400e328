"""Decoding: a prompt's ids in, new ids out, over the latent cache, plainly or with MTP speculation.

*Cache*: what a token leaves behind. *Decode*: tokens through the model over the cache. *Sampling*: from
logits to a token. *Speculative*: drafts from the MTP modules, verified. *Generation*: the loop around them.

Does: one process, one model, prompts of equal length. Does not: serve requests (`minidsv3.cluster`).

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.interpreter import Model
    >>> model = Model.initialise(ModelConfig.preset("nano"), seed=0)
    >>> result = generate(model, [4, 5], max_new_tokens=3, temperature=0.8)
    >>> len(result.tokens), result.prompt
    (3, [4, 5])

Next: minidsv3.inference.cache
"""

from minidsv3.inference.cache import LatentCache
from minidsv3.inference.decode import Decoder
from minidsv3.inference.generation import Generation, generate
from minidsv3.inference.sampling import Sampler, draw, probabilities
from minidsv3.inference.speculative import Drafter, verify

__all__ = [
    "Decoder",
    "Drafter",
    "Generation",
    "LatentCache",
    "Sampler",
    "draw",
    "generate",
    "probabilities",
    "verify",
]
