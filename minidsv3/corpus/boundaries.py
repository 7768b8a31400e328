"""Split some joined tokens at random, so that a prompt may end where a token would not.

DeepSeek's pieces join punctuation with the line breaks after it: `:\\n` may be one token. A prompt that
ends in `:` then asks for something never seen in training, a `:` alone before a line break. The report
takes a share of such tokens apart during training. The share is not published; **ours** is a tenth of them,
each by its own draw.

A joined token is, by its bytes, any spaces, then punctuation or symbols, then line breaks.
It is replaced by the encodings of what stands before its line breaks and of these; the text it decodes to
is the same. `split_one_by_one` is the specification, `split_joined` the same with arrays, draw for draw.

>>> import numpy as np
>>> from minidsv3.tokenizer import Tokenizer
>>> tokenizer = Tokenizer.train(["if x:\\n"] * 2, vocab_size=263)
>>> stream = tokenizer.encode_array("a:\\n")
>>> split = split_joined(stream, joined_tokens(tokenizer), np.random.default_rng(0), rate=1.0)
>>> [tokenizer.token_bytes(token) for token in stream], [tokenizer.token_bytes(token) for token in split]
([b'a', b':\\n'], [b'a', b':', b'\\n'])

Next: minidsv3.corpus.packing
"""

import unicodedata
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..tokenizer import Tokenizer
from .fill_in_the_middle import Tokens


class JoinedTokens(NamedTuple):
    """The parts of every joined token, end to end; a token that is not joined has length 0."""

    starts: NDArray[np.int64]  # [V] where its parts begin
    lengths: NDArray[np.int64]  # [V] how many there are
    parts: Tokens  # [sum of lengths]


def joined_tokens(tokenizer: Tokenizer) -> JoinedTokens:
    """Find the joined tokens of a vocabulary and encode their parts."""
    added = {token.id for token in tokenizer.vocabulary.added}
    parts = [
        [] if token in added else _parts(data, tokenizer)
        for token, data in enumerate(tokenizer.vocabulary.token_bytes())
    ]
    lengths = np.array([len(ids) for ids in parts], np.int64)  # [V]
    flat = np.array([part for ids in parts for part in ids], np.int32)  # [sum of lengths]
    return JoinedTokens(np.cumsum(lengths) - lengths, lengths, flat)


def _parts(data: bytes, tokenizer: Tokenizer) -> list[int]:
    if not data.endswith((b"\r", b"\n")):
        return []
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return []
    head = text.rstrip("\r\n")
    signs = head.lstrip(" ")
    if not signs or any(unicodedata.category(sign)[0] not in "PS" for sign in signs):
        return []
    return tokenizer.encode(head) + tokenizer.encode(text[len(head) :])


def split_one_by_one(stream: Tokens, joined: JoinedTokens, rng: np.random.Generator, rate: float) -> Tokens:
    """Replace each joined token, with probability `rate`, by its parts: the specification."""
    replaced = list[int]()
    for token in stream.tolist():
        start, length = joined.starts[token], joined.lengths[token]
        if length and rng.random() < rate:
            replaced += joined.parts[start : start + length].tolist()
        else:
            replaced.append(token)
    return np.array(replaced, np.int32)  # [N']


def split_joined(stream: Tokens, joined: JoinedTokens, rng: np.random.Generator, rate: float = 0.1) -> Tokens:
    """Replace each joined token, with probability `rate` (ours), by its parts.

    stream: [N] tokens.  Returns [N'], with the same bytes.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"expected a rate from 0 to 1, got {rate}")
    candidates = np.flatnonzero(joined.lengths[stream])  # [J]
    chosen = candidates[rng.random(candidates.size) < rate]  # [C]
    lengths = np.ones(stream.size, np.int64)  # [N]
    lengths[chosen] = joined.lengths[stream[chosen]]
    starts = np.cumsum(lengths) - lengths  # [N] where each token's place begins in the result
    replaced = np.repeat(stream, lengths)  # [N']
    # all places of the chosen tokens, and which part of its token stands in each
    owner = np.repeat(chosen, lengths[chosen])  # [P]
    part = np.arange(owner.size) - np.repeat(
        np.cumsum(lengths[chosen]) - lengths[chosen], lengths[chosen]
    )  # [P]
    replaced[starts[owner] + part] = joined.parts[joined.starts[stream[owner]] + part]
    return replaced
