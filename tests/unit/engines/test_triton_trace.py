"""What Triton is told of a trace: a run of ours as what is above, or the caller's own span, passed on as it came."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from serving.engine import Call, Engine, Run
from serving.repository.layout import GraphKey
from serving.trace import Place, Trace, read_place
from serving.traced import traced_run
from serving.triton.link import TritonLink
from serving.triton.messages import infer_request

KEY = GraphKey("double", 1)
INPUTS = {"x": np.zeros((1, 2), np.float32)}
CALLERS = Place(1, 2, 1, "congo=t61")


class Listening(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers nothing of use, and keeps what came beside the request."""

    def __init__(self) -> None:
        self.heard: list[dict[str, str]] = []

    async def ModelInfer(self, request, context):  # noqa: N802  (gRPC's name)
        self.heard.append(dict(context.invocation_metadata()))
        return pb.ModelInferResponse()


class LinkEngine(Engine):
    """Runs over a link, without the rest of the Triton engine."""

    def __init__(self, link: TritonLink) -> None:
        self._link = link

    async def run(self, key, inputs, call=None):
        await self._link.infer(key, infer_request(key, inputs, 0), call.deadline_s, trace=call.trace)
        return Run({}, 0.0, 0.0, 1)

    async def load(self, graph, warm_up, *, quietly=False): ...

    async def unload(self, key): ...

    async def close(self): ...


@asynccontextmanager
async def listening():
    server = grpc.aio.server()
    servicer = Listening()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    link = TritonLink(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    link.up = True
    await server.start()
    try:
        yield servicer, LinkEngine(link)
    finally:
        await link.close()
        await server.stop(None)


def test_a_run_that_is_traced_is_what_triton_s_own_spans_stand_below():
    async def main():
        trace = Trace(CALLERS.within(), CALLERS)
        async with listening() as (servicer, engine):
            await traced_run(engine, KEY, INPUTS, Call(), trace)
        (heard,) = servicer.heard
        (run,) = trace.parts
        assert read_place([heard["traceparent"].encode()]) == Place(1, run.place.span_id, 1)
        assert (heard["tracestate"], run.name, run.parent) == ("congo=t61", "run", trace.place)

    asyncio.run(main())


def test_what_is_not_traced_here_is_passed_on_as_it_came():
    async def main():
        async with listening() as (servicer, engine):
            await traced_run(engine, KEY, INPUTS, Call(), Trace(CALLERS, recorded=False))
            await engine.run(KEY, INPUTS, Call())
        passed, none = servicer.heard
        assert passed["traceparent"] == CALLERS.traceparent
        assert "traceparent" not in none

    asyncio.run(main())
