"""How much memory a message would take, told from its bytes before it is parsed.

Raw tensors take what they have in bytes; all else may take fifty times that: an empty input has two bytes on the wire
and a hundred as an object. So everything but raw tensors is held to the bound that JSON tensors have.
"""

from __future__ import annotations

from typing import Final

from serving.errors import BodyInvalid, BodyTooLarge

RAW_TAG: Final = 7 << 3 | 2  # ModelInferRequest.raw_input_contents, bytes with their length before them
MAX_FIELDS: Final = 1024  # of a large message: inputs, outputs, parameters and raw tensors
# Wire types to bytes of the value; Source: https://protobuf.dev/programming-guides/encoding/
FIXED: Final = {1: 8, 5: 4}


def check_weight(message: bytes, limit: int) -> None:
    """BodyTooLarge when a ModelInferRequest holds more than `limit` bytes beside its raw tensors; BodyInvalid."""
    if len(message) <= limit:
        return
    position = raw = fields = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == 2:
            length, position = _varint(message, position)
            raw += length if tag == RAW_TAG else 0
        elif kind == 0:
            length = 0
            _, position = _varint(message, position)
        else:
            length = FIXED.get(kind, len(message))
        position += length
        fields += 1
        if fields > MAX_FIELDS:
            raise BodyTooLarge(f"A large message has more than {MAX_FIELDS:,} fields.", remedy="Send fewer tensors.")
    if position != len(message):
        raise BodyInvalid("The message is no ModelInferRequest.")
    if len(message) - raw > limit:
        raise BodyTooLarge(
            f"A request has at most {limit:,} bytes beside its raw tensors.",
            remedy="Send tensors as raw_input_contents.",
        )


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """The number at a position, and the position after it."""
    value = shift = 0
    while position < len(message) and shift < 64:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise BodyInvalid("The message is no ModelInferRequest.")
