"""Turn text into token ids and back: DeepSeek-V3's byte-level BPE, learned and applied.

A text is cut into **pieces** by regular expressions, one after the other (`pieces`); a piece is UTF-8
bytes, each of which is a token (`alphabet`); **merges**, learned once by counting neighbours (`training`),
join tokens to longer ones inside a piece (`merging`). What was learned is kept in a `tokenizer.json` as
Hugging Face's `tokenizers` reads it (`files`); `Tokenizer` ties these together (`codec`), and
`StreamDecoder` decodes as tokens arrive.

It reads the published tokenizers of the DeepSeek family, from Coder and V2 to V4 and the distillations, as
well as those trained here. What a file asks for and is not computed is refused, not approximated. Nothing
here imports more than NumPy.

>>> tokenizer = Tokenizer.train(["low lower lowest"] * 3, vocab_size=266)
>>> ids = tokenizer.encode("lowest low")
>>> [tokenizer.token_bytes(i) for i in ids]
[b'low', b'e', b's', b't', b' low']
>>> tokenizer.decode(ids)
'lowest low'

Next: minidsv3.tokenizer.alphabet
"""

from .codec import Tokenizer
from .files import TokenizerFileError
from .streaming import StreamDecoder
from .vocabulary import BOS, EOS, FIM_BEGIN, FIM_END, FIM_HOLE, PAD

__all__ = [
    "BOS", "EOS", "FIM_BEGIN", "FIM_END", "FIM_HOLE", "PAD", "StreamDecoder", "Tokenizer",
    "TokenizerFileError",
]  # fmt: skip
