"""Fill-in-the-middle: turn a document round so that its middle comes last.

A model that only continues cannot write into a gap. For one document in ten the report cuts the text in
three and gives it in the order prefix, suffix, middle (PSM), with markers, before packing:

    <fim_begin> prefix <fim_hole> suffix <fim_end> middle <eos>

Predicting the next token of that is filling the hole. How the cuts are drawn is not published; **ours** are
two uniform points among the positions between characters, so each part may be empty and may begin inside a
word. The three parts are encoded each for itself, as text: a marker spelled out in a document stays text.

>>> import numpy as np
>>> psm = fim_psm("def f(x): return x", np.random.default_rng(2))
>>> psm
Psm(prefix='def ', suffix='n x', middle='f(x): retur')
>>> fim_text(psm)
'def f(x): return x'

Next: minidsv3.corpus.boundaries
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..tokenizer import Tokenizer

Tokens = NDArray[np.int32]


class Psm(NamedTuple):
    """A text in three parts, in the order in which the model sees them."""

    prefix: str
    suffix: str
    middle: str


def fim_psm(text: str, rng: np.random.Generator) -> Psm:
    """Cut a text at two uniform positions (ours)."""
    first, second = sorted(rng.integers(0, len(text) + 1, size=2).tolist())
    return Psm(text[:first], text[second:], text[first:second])


def fim_text(psm: Psm) -> str:
    """Put the parts back in order: the inverse of `fim_psm`."""
    return psm.prefix + psm.middle + psm.suffix


def document_ids(text: str, tokenizer: Tokenizer) -> Tokens:
    """Encode a document as it is, ended by the end token.  -> [T]"""
    return np.append(tokenizer.encode_array(text), np.int32(tokenizer.eos))  # [T]


def fim_ids(psm: Psm, tokenizer: Tokenizer) -> Tokens:
    """Encode a document turned round, with its markers.  -> [T]"""
    begin, hole, end = (
        np.array([marker], np.int32)
        for marker in (tokenizer.fim_begin, tokenizer.fim_hole, tokenizer.fim_end)
    )  # [1] each
    prefix, suffix, middle = (tokenizer.encode_array(part) for part in psm)  # [T_i] each
    eos = np.array([tokenizer.eos], np.int32)  # [1]
    return np.concatenate([begin, prefix, hole, suffix, end, middle, eos])  # [T]


def read_fim_ids(ids: Tokens, tokenizer: Tokenizer) -> Psm:
    """Read the three parts from the tokens of one document: the inverse of `fim_ids`."""
    markers = [tokenizer.fim_begin, tokenizer.fim_hole, tokenizer.fim_end, tokenizer.eos]
    at = np.flatnonzero(np.isin(ids, markers))  # [4]
    if ids[at].tolist() != markers or at[0] != 0 or at[-1] != len(ids) - 1:
        raise ValueError(
            f"expected ids [T] with the markers {markers} in order, got {ids[at].tolist()} at {at.tolist()}"
        )
    prefix, suffix, middle = (ids[start + 1 : stop] for start, stop in pairwise(at.tolist()))
    return Psm(tokenizer.decode(prefix), tokenizer.decode(suffix), tokenizer.decode(middle))
