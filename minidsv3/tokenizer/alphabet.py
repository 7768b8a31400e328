"""Write any byte as one printable character, as GPT-2 does, so that tokens can stand in a JSON file.

A token is a string of bytes and need not be valid UTF-8, but JSON holds text. GPT-2 gave each of the 256
bytes a character: the printable bytes of Latin-1 stand for themselves, the other 68 take U+0100 and up in
order. So a space is written `Ġ` (U+0120) and a line break `Ċ` (U+010A). The ids of the byte tokens follow
the order of these characters, not of the bytes: `!` comes first.

This is a way of writing only: nothing is compressed or merged here.

>>> to_characters(" é\\n".encode())
'ĠÃ©Ċ'
>>> to_bytes('ĠÃ©Ċ').decode()
' é\\n'
>>> BYTE_TOKENS[:3], len(BYTE_TOKENS)
(('!', '"', '#'), 256)

Next: minidsv3.tokenizer.newer
"""

_PRINTABLE = [
    *range(0x21, 0x7F),
    *range(0xA1, 0xAD),
    *range(0xAE, 0x100),
]  # U+00AD is a soft hyphen: not visible
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]

BYTE_TO_CHARACTER: dict[int, str] = {byte: chr(byte) for byte in _PRINTABLE} | {
    byte: chr(256 + rank) for rank, byte in enumerate(_OTHERS)
}
CHARACTER_TO_BYTE: dict[str, int] = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}
BYTE_TOKENS: tuple[str, ...] = tuple(sorted(CHARACTER_TO_BYTE))  # by code point: the order of their ids
_ALPHABET = frozenset(CHARACTER_TO_BYTE)

# bytes read as Latin-1 are characters 0..255, so one str.translate does the whole string
_TABLE = str.maketrans({chr(byte): character for byte, character in BYTE_TO_CHARACTER.items()})


def to_characters(data: bytes) -> str:
    """Write each byte as its GPT-2 character."""
    return data.decode("latin-1").translate(_TABLE)


def to_bytes(token: str) -> bytes:
    """Read GPT-2 characters back as bytes; a character outside the alphabet is a ValueError."""
    try:
        return bytes(map(CHARACTER_TO_BYTE.__getitem__, token))
    except KeyError:
        raise ValueError(
            f"expected only characters of the 256-character byte alphabet, got {token!r}"
        ) from None


def is_byte_level(token: str) -> bool:
    """Say whether every character of the token stands for a byte."""
    return _ALPHABET.issuperset(token)
