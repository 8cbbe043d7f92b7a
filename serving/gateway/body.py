"""Reading a body under a limit that holds while it arrives, whatever its head announces."""

from __future__ import annotations

from serving.errors import BodyInvalid, BodyTooLarge, MediaTypeUnsupported
from serving.gateway.departure import CallerLeft
from serving.gateway.http import Inbound


async def read_body(request: Inbound, limit: int) -> bytes:
    """The whole body, at most `limit` bytes. BodyTooLarge: nothing more of it is read; CallerLeft: it never ended."""
    if encoding_of(request):
        raise MediaTypeUnsupported("The body is compressed.", remedy="Send it without Content-Encoding.")
    return await read_encoded(request, limit)


def encoding_of(request: Inbound) -> bytes:
    """How the body is compressed, in lower case; empty if it is not."""
    encoding = request.headers.get(b"content-encoding", b"").strip().lower()
    return b"" if encoding == b"identity" else encoding


async def read_encoded(request: Inbound, limit: int) -> bytes:
    """As `read_body`, of a body that may be compressed, and is given as it came."""
    if b"upgrade" in request.headers and b"upgrade" in request.headers.get(b"connection", b"").lower():
        # What follows such a head is of the other protocol, says HTTP, and our parser does not read it.
        raise BodyInvalid("The request asks for another protocol.", remedy="Send it as HTTP/1.1, without Upgrade.")
    _check_announced(request.headers.get(b"content-length"), limit)
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await request.receive()
        if message["type"] != "http.request":
            raise CallerLeft
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_large(limit)
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body has more than {limit:,} bytes.", remedy="Send less, for example a smaller picture.")


def _check_announced(length: bytes | None, limit: int) -> None:
    if length is None:
        return
    if not length.isdigit() or len(length) > 18:
        raise BodyInvalid("Content-Length is not a number of bytes.", remedy="Leave it to your HTTP library.")
    if int(length) > limit:
        raise too_large(limit)
