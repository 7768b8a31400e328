"""Decode tokens as they come, never showing half a character.

A character of UTF-8 has up to four bytes and a token may end within one: `図` is often two or three tokens.
Decoding each token by itself would show U+FFFD three times. A `StreamDecoder` holds incomplete bytes back
until the rest arrives, and `finish` gives up on what never came. All it returned, joined, equals
`Tokenizer.decode` of all ids.

It holds back at most three bytes; it does not wait for words, graphemes or stop sequences.

>>> from minidsv3.tokenizer import Tokenizer
>>> tokenizer = Tokenizer.train(["abc"], vocab_size=262)
>>> stream = StreamDecoder(tokenizer)
>>> [stream.push(token) for token in tokenizer.encode("é!")]
['', 'é', '!']
>>> stream.push(tokenizer.encode("é")[0]), stream.finish()
('', '\ufffd')

Next: minidsv3.corpus
"""

import codecs

from .codec import Tokenizer


class StreamDecoder:
    """Turn ids into text one at a time."""

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = False) -> None:
        self._tokenizer, self._skip_special = tokenizer, skip_special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Take one token; return the characters that are now complete, perhaps none."""
        return self._decoder.decode(self._tokenizer.decode_bytes([token], self._skip_special))

    def finish(self) -> str:
        """Return what is held back, as U+FFFD, and begin anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
