"""Traces as a collector gets them: trees, parents, batches that link, and callers who decide."""

from __future__ import annotations

import asyncio
import socket
import time
from functools import wraps

import grpc
import pytest
import tiny
from grpc_rig import refusal, request, rpc_serving, trailers
from http_rig import PATIENCE_S, serving, until
from job_rig import begin, ended
from otlp_rig import Collector, Told, collecting

from serving.engines.fake import FakeEngine
from serving.keys import KeyFile
from serving.observation import outbox

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
NOT_SAMPLED = f"00-{TRACE}-{SPAN}-00"
INTERNAL, SERVER, CONSUMER = 1, 2, 5


def in_a_loop(test):
    """Runs the test to its end."""

    @wraps(test)
    def run(*given, **named):
        asyncio.run(test(*given, **named))

    return run


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(outbox, "PAUSE_S", 0.02)


@pytest.fixture
def collector():
    with collecting() as collector:
        yield collector


def traced(collector: Collector, ratio: float = 0.0, **settings) -> dict:
    return {"otlp_endpoint": collector.url, "trace_ratio": ratio, "trace_per_s": 1000, **settings}


async def span(collector: Collector, name: str, **attributes) -> Told:
    """The one span of a name that has these attributes, when it has come."""

    def found() -> list[Told]:
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}.items()
        return [one for one in collector.named(name) if wanted <= one.attributes.items()]

    await until(found, f"{name} comes")
    (only,) = found()
    return only


@in_a_loop
async def test_a_request_is_a_tree_in_its_callers_trace(tmp_path, collector):
    before_ns = time.time_ns()
    async with serving(tmp_path, settings=traced(collector)) as live:
        answer = await live.classify(traceparent=SAMPLED, tracestate="congo=t61", x_request_id="mine")
        whole = await span(collector, "POST /v1/classify")
    assert answer.headers["traceresponse"] == f"00-{TRACE}-{whole.span_id}-01"
    assert (whole.trace_id, whole.parent, whole.state, whole.kind) == (TRACE, SPAN, "congo=t61", SERVER)
    assert whole.attributes | {
        "http.request.method": "POST",
        "http.route": "/v1/classify",
        "http.response.status_code": 200,
        "tidegate.request_id": "mine",
        "tidegate.model": "colours",
        "tidegate.version": 1,
    } == whole.attributes  # fmt: skip
    parts = collector.below(whole)
    assert [one.name for one in parts if one.name != "queue"] == ["pre", "run", "post"]
    assert {one.kind for one in parts} == {INTERNAL}
    for one in (whole, *parts):
        assert before_ns <= whole.start_ns <= one.start_ns <= one.end_ns <= whole.end_ns <= time.time_ns()
        assert not one.failed
    for name in ("pre", "run", "post"):
        (part,) = (one for one in parts if one.name == name)
        assert (part.end_ns - part.start_ns) / 1e9 == pytest.approx(whole.attributes[f"tidegate.{name}_s"], abs=1e-5)
    assert collector.paths[0] == "/v1/traces"


@in_a_loop
async def test_a_batch_links_to_the_requests_in_it_and_they_to_it(tmp_path, collector):
    engine = FakeEngine()
    async with serving(tmp_path, engine, traced(collector)) as live:
        engine.gate.clear()
        first = asyncio.create_task(live.classify())
        await until(lambda: len(engine.runs) > 0 and not live.waiting_rows, "the first one runs")
        others = [asyncio.create_task(live.classify(**given)) for given in ({"traceparent": SAMPLED},) * 2 + ({},)]
        await until(lambda: live.waiting_rows == 3, "the others wait")
        engine.gate.set()
        await asyncio.gather(first, *others)
        batch = await span(collector, "batch")
    runs = collector.named("run")
    assert len(runs) == 2  # of those that are traced
    assert {(one.trace_id, one.span_id) for one in runs} == set(batch.links)
    assert {one.links for one in runs} == {((batch.trace_id, batch.span_id),)}
    assert (batch.parent, batch.trace_id == TRACE) == ("", False)
    assert (batch.attributes["tidegate.batch.rows"], batch.attributes["tidegate.batch.requests"]) == (3, 3)
    assert all(one.attributes["tidegate.batch.rows"] == 3 for one in runs)


@in_a_loop
async def test_a_share_of_the_rest_is_traced_and_what_a_caller_decides_holds(tmp_path, collector):
    async with serving(tmp_path, settings=traced(collector, 1.0)) as live:
        passed_by = await live.classify(traceparent=NOT_SAMPLED)
        garbage = await live.classify(traceparent="00-zz", x_request_id="garbage")
        probe = await live.client.get("/readyz")
        by_itself = await live.client.get("/v1/models", headers={"x-request-id": "models"})
        whole = await span(collector, "POST /v1/classify", tidegate__request_id="garbage")
        models = await span(collector, "GET /v1/models", tidegate__request_id="models")
    assert "traceresponse" not in {**passed_by.headers, **probe.headers}
    assert (whole.parent, models.parent) == ("", "")
    assert garbage.headers["traceresponse"].split("-")[1:3] == [whole.trace_id, whole.span_id]
    assert by_itself.headers["traceresponse"].split("-")[1:3] == [models.trace_id, models.span_id]
    assert {one.name for one in collector.spans if one.kind == SERVER} == {"POST /v1/classify", "GET /v1/models"}


@in_a_loop
async def test_errors_have_their_status_and_code_and_only_the_gateways_own_are_marked(tmp_path, collector):
    engine = FakeEngine()
    async with serving(tmp_path, engine, traced(collector, 1.0)) as live:
        await live.classify(b"no picture")
        await live.client.get("/nowhere/secret-path")
        engine.gate.clear()
        await live.classify(x_request_timeout_ms="30")
        late = await span(collector, "POST /v1/classify", http__response__status_code=504)
        refused = await span(collector, "POST /v1/classify", http__response__status_code=422)
        nowhere = await span(collector, "GET", http__response__status_code=404)
    assert (late.failed, late.attributes["error.type"]) == (True, "deadline_passed")
    assert (late.attributes["tidegate.model"], late.attributes["tidegate.version"]) == ("colours", 1)
    assert (refused.failed, refused.attributes["error.type"]) == (False, "image_invalid")
    assert (nowhere.failed, nowhere.attributes["error.type"]) == (False, "route_not_found")


@in_a_loop
async def test_who_is_not_let_in_has_no_trace(tmp_path, collector):
    file = KeyFile(tmp_path / "keys.json")
    key, _ = file.add("me", ["predict"])
    async with serving(tmp_path, settings=traced(collector, 1.0, keys=file.path)) as live:
        refused = await live.classify(traceparent=SAMPLED, authorization="Bearer canary-wrong-key")
        assert refused.status_code == 401
        assert (await live.classify(authorization=f"Bearer {key}")).status_code == 200
        await span(collector, "POST /v1/classify")
    assert "traceresponse" not in refused.headers
    assert not [one for one in collector.spans if one.trace_id == TRACE]
    for body in collector.bodies:
        assert key.encode() not in body
        assert b"canary" not in body


@in_a_loop
async def test_nothing_that_was_sent_is_in_a_trace(tmp_path, collector):
    async with serving(tmp_path, settings=traced(collector, 1.0)) as live:
        for content in (b"canary-payload", None):
            await live.classify(content, cookie="canary=1", user_agent="canary", baggage="canary=1")
        await live.client.post("/v1/classify?canary=1&model=canary", content=b"canary-payload")
        await live.client.post("/v2/models/canary/infer", json={"inputs": [{"name": "canary"}]})
        await live.client.request("PROPFIND", "/canary")
        await until(lambda: len({one.trace_id for one in collector.spans if one.kind == SERVER}) == 5, "all come")
    assert b"canary" not in b"".join(collector.bodies).lower()


@in_a_loop
async def test_grpc_takes_part(tmp_path, collector):
    async with rpc_serving(tmp_path, settings=traced(collector)) as live:
        call = live.infer(metadata=(("traceparent", SAMPLED), ("x-request-id", "mine")))
        await call
        told = trailers(await call.trailing_metadata())
        error = await refusal(live.infer(request(name="none"), metadata=(("traceparent", SAMPLED),)))
        await live.infer(metadata=(("traceparent", "garbage"),))
        name = "inference.GRPCInferenceService/ModelInfer"
        whole = await span(collector, name, rpc__response__status_code="OK")
        refused = await span(collector, name, rpc__response__status_code="NOT_FOUND")
    assert told["traceresponse"] == f"00-{TRACE}-{whole.span_id}-01"
    assert (whole.trace_id, whole.parent, whole.kind) == (TRACE, SPAN, SERVER)
    assert (whole.attributes["tidegate.model"], whole.attributes["tidegate.request_id"]) == ("double", "mine")
    assert "run" in [one.name for one in collector.below(whole)]
    assert trailers(error)["traceresponse"].split("-")[2] == refused.span_id
    assert refused.attributes["error.type"] == "model_not_found"
    assert len([one for one in collector.spans if one.kind == SERVER]) == 2


@in_a_loop
async def test_each_request_of_a_stream_has_its_own_span(tmp_path, collector):
    async with rpc_serving(tmp_path, settings=traced(collector)) as live:
        stream = live.stub.ModelStreamInfer(iter([request(), request()]), metadata=(("traceparent", SAMPLED),))
        assert [not answer.error_message async for answer in stream] == [True, True]
        await until(lambda: len(collector.named("inference.GRPCInferenceService/ModelStreamInfer")) == 2, "both come")
    wholes = collector.named("inference.GRPCInferenceService/ModelStreamInfer")
    assert {one.parent for one in wholes} == {SPAN}
    assert all(collector.below(one) for one in wholes)


@in_a_loop
async def test_a_job_is_run_in_the_trace_of_the_request_that_ordered_it(tmp_path, collector):
    tiny.add_diffusion(tmp_path / "repository", "painter")
    async with serving(tmp_path, FakeEngine(), traced(collector)) as live:
        job = await begin(live.client, {"traceparent": SAMPLED}, steps=2)
        unasked = await begin(live.client, steps=2)
        assert (await ended(live.client, job["id"]))["status"] == "succeeded"
        assert (await ended(live.client, unasked["id"]))["status"] == "succeeded"
        order = await span(collector, "POST /v1/images/generations")
        run = await span(collector, "job generate-images")
    assert (run.trace_id, run.parent, run.kind) == (TRACE, order.span_id, CONSUMER)
    assert run.attributes["tidegate.job_id"] == job["id"]
    assert len([one for one in collector.below(run) if one.name == "run"]) >= 3
    assert b"a red disc" not in b"".join(collector.bodies)


@pytest.mark.parametrize("hole", ["silent", "closed"])
@in_a_loop
async def test_a_collector_that_is_gone_costs_requests_nothing(tmp_path, hole):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if hole == "closed":
            listener.close()
        settings = {"otlp_endpoint": url, "trace_ratio": 1.0, "trace_per_s": 1000}
        async with serving(tmp_path, settings=settings) as live:
            started_s = time.monotonic()
            for _ in range(100):
                assert (await live.classify()).status_code == 200
            assert time.monotonic() - started_s < PATIENCE_S / 3  # a delivery would wait for five seconds
            leaving_s = time.monotonic()
        assert time.monotonic() - leaving_s < PATIENCE_S / 3


@in_a_loop
async def test_what_a_collector_refuses_is_counted(tmp_path, collector):
    collector.status = 400
    async with serving(tmp_path, settings=traced(collector, 1.0)) as live:
        await live.classify()
        await until(lambda: collector.paths, "it is asked")
        await live.parts.watch.close()
        exposition = live.parts.meters.exposition().decode()
    assert 'tidegate_spans_total{outcome="dropped"}' in exposition
    assert 'tidegate_spans_total{outcome="exported"} 0.0' in exposition


@in_a_loop
async def test_headers_of_the_operator_go_with_each_message(tmp_path, collector):
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer of-the-collector\n")
    async with serving(tmp_path, settings=traced(collector, 1.0, otlp_headers_file=file)) as live:
        await live.classify()
    assert {one["authorization"] for one in collector.headers} == {"Bearer of-the-collector"}


@in_a_loop
async def test_what_is_not_switched_on_is_not_there(tmp_path):
    async with serving(tmp_path) as live:
        answer = await live.classify(traceparent=SAMPLED)
        assert answer.status_code == 200
        assert "traceresponse" not in answer.headers
        assert "tidegate_spans" not in live.parts.meters.exposition().decode()


@in_a_loop
async def test_a_caller_who_leaves_is_told_of_as_such(tmp_path, collector):
    engine = FakeEngine()
    async with rpc_serving(tmp_path, engine, traced(collector)) as live:
        engine.gate.clear()
        call = live.infer(metadata=(("traceparent", SAMPLED),))
        await until(lambda: engine.runs, "it runs")
        call.cancel()
        with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
            await call
        whole = await span(collector, "inference.GRPCInferenceService/ModelInfer")
    assert (whole.failed, whole.attributes["error.type"]) == (False, "caller_left")
