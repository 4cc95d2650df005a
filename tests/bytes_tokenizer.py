"""The tokenizer of the tiny checkpoints once more, by hand: one token for each byte, and the chat markers."""

from checkpoints import BOS, IM_END, IM_START


def _alphabet() -> list[str]:
    """GPT-2's 256 printable spellings of bytes, by byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


_PLACES = {byte: sorted(_alphabet()).index(symbol) for byte, symbol in enumerate(_alphabet())}


def encode(text: str) -> list[int]:
    """Token ids of a text, without bos."""
    return [3 + _PLACES[byte] for byte in text.encode()]


def chat_prompt(*messages: tuple[str, str]) -> list[int]:
    """Token ids of a conversation of (role, content), up to where the assistant's reply begins."""
    ids = [BOS]
    for role, content in messages:
        ids += [IM_START, *encode(f"{role}\n{content}"), IM_END, *encode("\n")]
    return [*ids, IM_START, *encode("assistant\n")]
