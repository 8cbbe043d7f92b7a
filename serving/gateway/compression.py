"""Bodies and answers that are compressed, with gzip or deflate, as clients of the Open Inference Protocol send them.

What a body unfolds to is held to the same limit as one that is not compressed, while it unfolds: a small bomb costs as
much as a body of the limit, and that on a worker thread.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import partial
from typing import Final

from serving.errors import BodyInvalid, MediaTypeUnsupported
from serving.gateway.accept import weight
from serving.gateway.body import encoding_of, read_encoded, too_large
from serving.gateway.http import Inbound
from serving.threads import Threads

# zlib's window bits. "deflate" means zlib's format (RFC 9110, 8.4.1.2), as tritonclient sends it.
FORMATS: Final[Mapping[bytes, int]] = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
AT_ONCE: Final = 64 * 1024  # bytes that are so soon done that a thread would cost more
LEAST_ANSWER: Final = 1024  # what fits one packet is not made smaller
LEVEL: Final = 1  # tensors shrink little more at higher ones, which take several times as long
OWNER: Final = "compression"  # of the work, among models


async def read_unfolded(request: Inbound, limit: int, threads: Threads) -> bytes:
    """The body, not compressed any more, at most `limit` bytes. As body.read_body; BodyInvalid when it is damaged."""
    encoding = encoding_of(request)
    if encoding and encoding not in FORMATS:
        raise MediaTypeUnsupported(
            "The body is compressed in a way that is not known here.",
            remedy="Use gzip or deflate, or send it as it is.",
        )
    body = await read_encoded(request, limit)
    if not encoding:
        return body
    unfolded, complete = _inflate(body, encoding, min(AT_ONCE, limit + 1))
    if len(unfolded) == AT_ONCE <= limit and not complete:  # begun anew, which costs less than putting it together
        work = partial(_inflate, body, encoding, limit + 1)
        unfolded, complete = (await threads.prepare(OWNER, work))[0]
    if len(unfolded) > limit:
        raise too_large(limit)
    if not complete:
        raise BodyInvalid("The compressed body ends too early, or goes on behind its end.", remedy="Send it whole.")
    return unfolded


def accepted(request: Inbound) -> bytes | None:
    """How the answer may be compressed: gzip or deflate, whichever the caller likes better; None for neither."""
    header = request.headers.get(b"accept-encoding")
    if header is None:
        return None
    weights = dict.fromkeys(FORMATS, 0.0)
    for part in header.lower().split(b","):
        name, _, parameter = part.partition(b";")
        if (name := name.strip()) in weights:
            weights[name] = weight(parameter)
    best = max(weights, key=lambda name: weights[name])  # of equals the first, gzip
    return best if weights[best] > 0 else None


async def compressed(body: bytes, encoding: bytes, threads: Threads) -> bytes:
    """The body in that encoding."""
    work = partial(zlib.compress, body, LEVEL, FORMATS[encoding])
    return work() if len(body) <= AT_ONCE else (await threads.prepare(OWNER, work))[0]


def _inflate(body: bytes, encoding: bytes, most: int) -> tuple[bytes, bool]:
    """At most so many bytes of what the body unfolds to, and whether that and the body ended together."""
    inflating = zlib.decompressobj(FORMATS[encoding])
    try:
        unfolded = inflating.decompress(body, most)
    except zlib.error:
        raise BodyInvalid("The body is not compressed as its Content-Encoding says.", remedy="Send it whole.") from None
    return unfolded, inflating.eof and not inflating.unused_data
