"""Pack documents into one stream of tokens, end to end, with nothing between them but the end token.

In pre-training DeepSeek-V3 packs documents without masks: a sequence is a window of the stream, may begin
inside one document and end in another, and attends across the border. So no token is padding and every
window costs the same.

The documents come in a random order, each is turned round for fill-in-the-middle with probability 0.1
(published) and joined tokens are split with probability 0.1 (ours). All draws come from one Generator: the
same seed gives the same stream. There is no mask and no begin token here; whoever needs them, as in
fine-tuning, packs otherwise.

>>> from minidsv3.tokenizer import Tokenizer
>>> documents = [Document("a", "one"), Document("b", "two")]
>>> tokenizer = Tokenizer.train(["one two"], vocab_size=262)
>>> tokenizer.decode(pack(documents, tokenizer, np.random.default_rng(0), fim_rate=0))
'one<｜end▁of▁sentence｜>two<｜end▁of▁sentence｜>'

Next: minidsv3.corpus.needle
"""

from collections.abc import Sequence

import numpy as np

from ..tokenizer import Tokenizer
from .boundaries import joined_tokens, split_joined
from .documents import Document
from .fill_in_the_middle import Tokens, document_ids, fim_ids, fim_psm


def pack(
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    rng: np.random.Generator,
    fim_rate: float = 0.1,
    split_rate: float = 0.1,
) -> Tokens:
    """Encode documents in random order as one stream.  -> [N]

    fim_rate: the share of documents turned round; split_rate: the share of joined tokens taken apart.
    """
    if not documents:
        raise ValueError("expected documents to pack, got none")
    if not 0 <= fim_rate <= 1:
        raise ValueError(f"expected a fim_rate from 0 to 1, got {fim_rate}")
    ordered = [documents[index] for index in rng.permutation(len(documents))]
    stream = np.concatenate([_ids(document.text, tokenizer, rng, fim_rate) for document in ordered])  # [N]
    return split_joined(stream, joined_tokens(tokenizer), rng, split_rate)  # [N']


def _ids(text: str, tokenizer: Tokenizer, rng: np.random.Generator, fim_rate: float) -> Tokens:
    if rng.random() < fim_rate:
        return fim_ids(fim_psm(text, rng), tokenizer)  # [T]
    return document_ids(text, tokenizer)  # [T]
