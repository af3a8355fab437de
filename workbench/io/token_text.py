"""A token as text, also where it is no whole character: byte-level tokenisers cut characters such as 安 into bytes."""

from __future__ import annotations

import re
from typing import Any

#: What decoders write for bytes that are no character.
REPLACEMENT = "\ufffd"
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
#: GPT-2's letters for bytes, which byte-level tokenisers use: a printable byte is itself, the others follow from Ā on.
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + i): byte for i, byte in enumerate(_OTHERS)}


def token_text(tokenizer: Any, token: int) -> str:
    """A token's text; a byte that is no character of its own is ``<0xE6>``, where the tokeniser tells which it is."""
    text = str(tokenizer.decode(token))
    data = _bytes_of(tokenizer.convert_ids_to_tokens(token)) if REPLACEMENT in text else None
    return text if data is None else _written(data)


def _bytes_of(name: str) -> bytes | None:
    """The bytes of a token by its name in the vocabulary, ``<0xE6>`` or GPT-2's letters; None for other names."""
    if match := re.fullmatch(r"<0x([0-9A-F]{2})>", name):
        return bytes.fromhex(match[1])
    return bytes(_BYTES[letter] for letter in name) if all(letter in _BYTES for letter in name) else None


def _written(data: bytes) -> str:
    text = ""
    while data:
        try:
            return text + data.decode()
        except UnicodeDecodeError as error:
            wrong = "".join(f"<0x{byte:02X}>" for byte in data[error.start : error.end])
            text, data = text + data[: error.start].decode() + wrong, data[error.end :]
    return text
