"""Decoding: a prompt's ids in, new ids out, over the latent cache, plainly or with MTP speculation.

*Cache*: what a token leaves behind, *packed latents*: in how many bytes. *Decode*: tokens through the model
over the cache. *Sampling*: from logits to a token. *Speculative*: drafts from the MTP modules, verified.
*Generation*: the loop around them. *Cache error*: what a narrower cache changes.

Does: one process, one model, prompts of equal length. Does not: serve requests (`minidsv3.cluster`).

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.interpreter import Model
    >>> model = Model.initialise(ModelConfig.preset("nano"), seed=0)
    >>> result = generate(model, [4, 5], max_new_tokens=3, temperature=0.8)
    >>> len(result.tokens), result.prompt
    (3, [4, 5])

Next: minidsv3.inference.cache
"""

from minidsv3.inference.cache import CACHE_FORMATS, LatentCache
from minidsv3.inference.cache_error import CacheError, cache_errors
from minidsv3.inference.decode import Decoder
from minidsv3.inference.generation import Generation, generate
from minidsv3.inference.sampling import Sampler, draw, probabilities
from minidsv3.inference.speculative import Drafter, verify

__all__ = [
    "CACHE_FORMATS",
    "CacheError",
    "Decoder",
    "Drafter",
    "Generation",
    "LatentCache",
    "Sampler",
    "cache_errors",
    "draw",
    "generate",
    "probabilities",
    "verify",
]
