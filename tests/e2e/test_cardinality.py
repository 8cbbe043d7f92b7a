"""Callers cannot make series: whatever they send, the labels of meters come from sets that are closed."""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import quote

import grpc
import pytest
from grpc_rig import LiveRpc, rpc_serving
from http_rig import picture, serving
from tritonclient.grpc import service_pb2 as pb

from serving.keys import KeyFile

MOST_SERIES = 2_000
REQUESTS = 500  # three times, with keys and without
AT_ONCE = 24
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "PROPFIND", "TRACE", "X")
PATHS = (
    "/{}",
    "/v1/{}",
    "/v1/classify?model={}",
    "/v1/classify?version={}",
    "/v1/classify?label={}&{}={}",
    "/v1/models/{}",
    "/v1/jobs/{}",
    "/v1/jobs/{}/events",
    "/v1/collections/{}",
    "/v1/collections/{}/items/{}",
    "/v1/collections/{}/search",
    "/v1/embeddings?{}",
    "/v2/models/{}",
    "/v2/models/{}/versions/{}/infer",
    "/v2/models/{}/infer",
    "/v2/models/colours/versions/{}/infer",
    "/v2/models/{}/stats",
    "/v2/{}",
)


ALPHABETS = (string.ascii_lowercase, "23456789", "äßøλ日本", "!$'()*+,;=~<>")


class Strange:
    """Requests that nobody expects. `forms` decides of what form each is, `fill` what its names are."""

    def __init__(self, forms: int, fill: int) -> None:
        self._forms = random.Random(forms)
        self._fill = random.Random(fill)

    def word(self) -> str:
        """A name that nobody has: of letters, of digits, of other scripts, of signs."""
        alphabet, length = self._forms.choice(ALPHABETS), self._forms.choice((6, 9, 40))
        return "".join(self._fill.choices(alphabet, k=length))

    def request(self) -> tuple[str, str, dict[str, str], bytes]:
        """Method, target, headers and body."""
        pattern = self._forms.choice(PATHS)
        target = pattern.format(*(quote(self.word(), safe="") for _ in range(pattern.count("{}"))))
        plain = "".join(self._fill.choices(string.ascii_letters, k=12))
        types = ("image/png", "application/json", f"text/{plain}")
        headers = {"user-agent": plain, "x-request-id": plain, "traceparent": plain, f"x-{plain}": plain}
        headers["content-type"] = self._forms.choice(types)
        bodies = (b"", picture(), b'{"model": "%b"}' % plain.encode(), b'{"inputs": "%b"}' % plain.encode())
        return self._forms.choice(METHODS), target, headers, self._forms.choice(bodies)

    def key(self, keys: Sequence[str]) -> str:
        """One of the keys, or of nobody."""
        return self._forms.choice((*keys, "".join(self._fill.choices(string.ascii_letters, k=40))))


async def sent(live, strange: Strange, keys: Sequence[str]) -> set[int]:
    """The statuses that they were answered with."""
    turns = iter(range(REQUESTS))
    statuses: set[int] = set()

    async def caller() -> None:
        for _ in turns:
            method, target, headers, body = strange.request()
            if keys:
                headers["authorization"] = f"Bearer {strange.key(keys)}"
            answer = await live.client.request(method, target, headers=headers, content=body)
            statuses.add(answer.status_code)

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return statuses


def series(live) -> set[str]:
    lines = live.parts.meters.exposition().decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


@pytest.mark.parametrize("closed", [False, True], ids=["open", "with keys"])
def test_thousands_of_strange_requests_make_no_series(tmp_path, closed):
    """The second thousand are like the first in form and new in every name: whatever a name makes shows there."""
    keys: tuple[str, ...] = ()
    if closed:
        file = KeyFile(tmp_path / "state" / "keys.json")
        keys = tuple(file.add(name, [scope])[0] for name, scope in (("a", "predict"), ("m", "metrics")))

    async def main():
        async with serving(tmp_path) as live:
            headers = {"authorization": f"Bearer {keys[0]}"} if keys else {}
            for content in (picture(), b"no picture"):
                await live.classify(content, **headers)
            statuses = await sent(live, Strange(1, 1), keys)
            before = series(live)
            for fill in (2, 3):
                statuses |= await sent(live, Strange(1, fill), keys)
            return before, series(live), statuses

    before, after, statuses = asyncio.run(main())
    assert {404, 405, 415, 422} <= statuses
    assert 401 in statuses or not closed
    assert after == before
    assert len(after) <= MOST_SERIES


def test_strange_calls_of_grpc_make_none_either(tmp_path):
    async def call(live: LiveRpc, strange: Strange) -> None:
        word, version = strange.word(), strange.word()
        asked = pb.ModelInferRequest(model_name=word, model_version=version, id=word)
        for work in (
            live.infer(asked),
            live.stub.ModelReady(pb.ModelReadyRequest(name=word, version=version)),
            live.stub.ModelMetadata(pb.ModelMetadataRequest(name=word)),
            live.bytes_to("ModelInfer", data=word.encode(), metadata=(("x-strange", "a"),)),
            live.bytes_to("".join(filter(str.isalpha, word.encode().hex())) + "X"),
        ):
            with suppress(grpc.aio.AioRpcError):
                await work

    async def main():
        async with rpc_serving(tmp_path) as live:
            found = []
            for fill in (1, 2, 3):
                strange = Strange(1, fill)
                for _ in range(100):
                    await call(live, strange)
                found.append(series(live))
            return found

    first, _, last = asyncio.run(main())
    assert any('ModelInfer"' in one for one in first)
    assert last == first
