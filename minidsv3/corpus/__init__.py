"""From files to batches: documents, fill-in-the-middle, packing, and a position that can be resumed.

Files become documents and are split, by file, into those to learn from and those held out (`documents`).
One document in ten is turned round, so that the model learns to fill a gap (`fill_in_the_middle`); all are
joined to one long stream of tokens (`packing`), in which some joined punctuation and line breaks are taken
apart (`boundaries`). Batches are windows of the stream in an order that is a function of the seed alone
(`batches`).

Two rates and one law are not published and are ours: how fill-in-the-middle cuts, what share of joined
tokens is split, and how sequences are shuffled; each is marked "ours" where it stands. Nothing is filtered
by quality, deduplicated or weighted here.

>>> import numpy as np
>>> from minidsv3.tokenizer import Tokenizer
>>> documents = [Document("a.py", "x = 1\\n" * 9), Document("b.py", "y = 2\\n" * 9)]
>>> tokenizer = Tokenizer.train([document.text for document in documents], vocab_size=266)
>>> batches = Batches(pack(documents, tokenizer, np.random.default_rng(0)), length=8, depth=1)
>>> batches.at(0, batch_size=4).shape
(4, 10)

Next: minidsv3.corpus.documents
"""

from .batches import Batches
from .boundaries import JoinedTokens, joined_tokens, split_joined
from .documents import Document, library_documents, python_library_files, read_documents, split_documents
from .fill_in_the_middle import Psm, document_ids, fim_ids, fim_psm, fim_text, read_fim_ids
from .packing import pack

__all__ = [
    "Batches",
    "Document",
    "JoinedTokens",
    "Psm",
    "document_ids",
    "fim_ids",
    "fim_psm",
    "fim_text",
    "joined_tokens",
    "library_documents",
    "pack",
    "python_library_files",
    "read_documents",
    "read_fim_ids",
    "split_documents",
    "split_joined",
]
