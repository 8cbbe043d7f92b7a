"""One line a request, whichever way it came and however it ended, and nothing in it that was sent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest
import tiny
from grpc_rig import doubled, refusal, request, rpc_serving
from http_rig import connect, exchange, gateway_process, picture, request_bytes, serving, until
from job_rig import begin, ended
from tritonclient.grpc import service_pb2 as pb

from serving.engines.fake import FakeEngine
from serving.keys import KeyFile
from serving.log_lines import Lines

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@dataclass
class Log:
    """What was written so far."""

    lines: Lines
    text: bytearray = field(default_factory=bytearray)

    @property
    def said(self) -> list[dict]:
        return [json.loads(line) for line in bytes(self.text).splitlines()]

    async def line(self, **wanted) -> dict:
        """The one line with these fields, when it has come."""
        await until(lambda: self._found(wanted), f"a line with {wanted}")
        (only,) = self._found(wanted)
        return only

    def _found(self, wanted: dict) -> list[dict]:
        whole = bytes(self.text).rpartition(b"\n")[0]
        return [one for line in whole.splitlines() if wanted.items() <= (one := json.loads(line)).items()]


@contextmanager
def logged() -> Iterator[Log]:
    reading, writing = os.pipe()
    log = Log(Lines(writing))

    def read() -> None:
        while data := os.read(reading, 65536):
            log.text.extend(data)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield log
    finally:
        log.lines.close()
        os.close(writing)
        thread.join()
        os.close(reading)


def test_http_has_a_line_for_each_request(tmp_path):
    async def main():
        engine = FakeEngine()
        with logged() as log:
            async with serving(tmp_path, engine, lines=log.lines) as live:
                await live.classify(x_request_id="one", traceparent=PARENT)
                said = await log.line(request_id="one")
                assert said | {
                    "level": "info", "logger": "request", "transport": "http", "method": "POST",
                    "route": "/v1/classify", "status": 200, "model": "colours", "version": 1,
                    "trace_id": PARENT.split("-")[1],
                } == said  # fmt: skip
                assert 0 < sum(said[f"{stage}_s"] for stage in ("queue", "pre", "run", "post")) <= said["duration_s"]
                assert "code" not in said

                await live.classify(b"nonsense", x_request_id="two")
                said = await log.line(request_id="two")
                assert (said["status"], said["code"], said["model"]) == (422, "image_invalid", "colours")

                await live.client.get("/v1/models/none", headers={"x-request-id": "three"})
                said = await log.line(request_id="three")
                assert (said["route"], said["status"], said["code"]) == ("/v1/models/{model}", 404, "model_not_found")

                await live.client.get("/nowhere", headers={"x-request-id": "four"})
                said = await log.line(request_id="four")
                assert ("route" in said, said["status"], said["code"]) == (False, 404, "route_not_found")

                async with httpx.AsyncClient() as operator:
                    await operator.get(f"{live.admin_url}/admin/models", headers={"x-request-id": "five"})
                assert (await log.line(request_id="five"))["route"] == "/admin/models"

                engine.gate.clear()
                await live.classify(x_request_id="six", x_request_timeout_ms="30")
                said = await log.line(request_id="six")
                assert (said["level"], said["status"], said["code"]) == ("error", 504, "deadline_passed")
                assert (said["model"], said["version"]) == ("colours", 1)

                with connect(live.url) as leaving:
                    leaving.sendall(request_bytes("/v1/classify", picture(), x_request_id="seven"))
                    await until(lambda: live.parts.traffic.in_flight, "it is there")
                said = await log.line(request_id="seven")
                assert ("status" in said, said["code"]) == (False, "caller_left")
                assert len(log.said) == 7
                for _ in range(3):
                    await live.client.get("/readyz")
                await live.client.get("/v1/models", headers={"x-request-id": "last"})
                await log.line(request_id="last")
                assert len(log.said) == 8  # probes are quiet

    asyncio.run(main())


def test_streams_have_theirs_when_they_end(tmp_path):
    async def main():
        tiny.add_diffusion(tmp_path / "repository", "painter")
        with logged() as log:
            async with serving(tmp_path, FakeEngine(), lines=log.lines) as live:
                job = await begin(live.client, {"x-request-id": "order"}, steps=2)
                assert (await log.line(request_id="order"))["status"] == 202
                await ended(live.client, job["id"])
                said = await log.line(route="/v1/jobs/{ident}/events")
                assert (said["method"], said["status"]) == ("GET", 200)
        assert "red disc" not in log.text.decode()

    asyncio.run(main())


def test_grpc_has_a_line_for_each_request(tmp_path):
    async def main():
        engine = FakeEngine(compute=doubled)
        with logged() as log:
            async with rpc_serving(tmp_path, engine, lines=log.lines) as live:
                await live.stub.ServerReady(pb.ServerReadyRequest())  # as probes ask: quiet
                await live.infer(metadata=(("x-request-id", "one"),))
                said = await log.line(request_id="one")
                assert said | {
                    "transport": "grpc", "method": "ModelInfer", "status": "OK", "model": "double", "version": 1,
                } == said  # fmt: skip
                assert "run_s" in said

                await refusal(live.infer(request(name="none"), metadata=(("x-request-id", "two"),)))
                said = await log.line(request_id="two")
                assert (said["status"], said["code"]) == ("NOT_FOUND", "model_not_found")

                metadata = (("x-request-id", "three"),)
                messages = iter([request(), request(name="none")])
                assert len([one async for one in live.stub.ModelStreamInfer(messages, metadata=metadata)]) == 2
                good = await log.line(request_id="three", status="OK")
                bad = await log.line(request_id="three", status="NOT_FOUND")
                assert {good["method"], bad["method"]} == {"ModelStreamInfer"}
                assert len(log.said) == 4

                engine.gate.clear()
                left = live.stub.ModelStreamInfer(iter([request()]), metadata=(("x-request-id", "four"),))
                await until(lambda: live.parts.traffic.in_flight, "it is there")
                left.cancel()
                said = await log.line(request_id="four")
                assert (said["status"], said["code"]) == ("CANCELLED", "caller_left")

    asyncio.run(main())


def test_who_is_not_let_in_has_one_and_no_key_is_in_it(tmp_path):
    file = KeyFile(tmp_path / "keys.json")
    key, _ = file.add("canary-name", ["predict"])

    async def main():
        with logged() as log:
            async with serving(tmp_path, settings={"keys": file.path}, lines=log.lines) as live:
                await live.classify(authorization="Bearer canary-wrong", x_request_id="no")
                said = await log.line(request_id="no")
                assert (said["route"], said["status"], said["code"]) == ("/v1/classify", 401, "unauthorized")
                await live.classify(authorization=f"Bearer {key}", x_request_id="yes")
                assert (await log.line(request_id="yes"))["status"] == 200
                await live.client.get("/v1/models", headers={"authorization": "Basic canary", "x-request-id": "list"})
                assert (await log.line(request_id="list"))["status"] == 401
        for secret in (key, "canary"):
            assert secret not in log.text.decode()

    asyncio.run(main())


@pytest.mark.parametrize(
    "given",
    [
        {"x_request_id": 'a"}\n{"forged":1'}, {"x_request_id": "\x1b[31m"}, {"x_request_id": "a b"},
        {"traceparent": PARENT + '\t{"forged":1}', "tracestate": "canary=1\x01"}, {"x_request_id": "\xe9" * 40},
        {"user_agent": '"}{"canary', "cookie": "canary", "referer": "canary", "x_forwarded_for": "canary"},
    ],
)  # fmt: skip
def test_hostile_headers_forge_nothing(tmp_path, given):
    async def main():
        with logged() as log:
            async with serving(tmp_path, lines=log.lines) as live:
                lines = request_bytes("/v1/classify?canary=%0d%0acanary", b"canary-payload", **given)
                answer = await asyncio.to_thread(exchange, live.url, lines)
                if answer.status != 400 or answer.headers["content-type"] == "application/json":
                    await log.line(route="/v1/classify")
                await live.client.get("/v1/models", headers={"x-request-id": "last"})
                await log.line(request_id="last")
        assert len(log.said) <= 2
        for forged in ("canary", "forged", "\x1b", "\\u001b"):
            assert forged not in log.text.decode()

    asyncio.run(main())


def test_more_than_so_many_a_second_are_counted_and_left_out_and_failures_are_not(tmp_path):
    async def main():
        engine = FakeEngine()
        with logged() as log:
            async with serving(tmp_path, engine, {"request_log_per_s": 5}, lines=log.lines) as live:
                for _ in range(40):
                    await live.classify()
                engine.gate.clear()
                await live.classify(x_request_timeout_ms="20", x_request_id="failed")
                await log.line(request_id="failed", status=504)
                exposition = live.parts.meters.exposition().decode()
        counted = {line.split('"')[1]: float(line.split()[-1]) for line in exposition.splitlines()
                   if line.startswith("tidegate_request_log_lines_total{")}  # fmt: skip
        assert counted["written"] == len(log.said)
        assert counted["written"] + counted["left_out"] == 41
        assert counted["left_out"] > 10

    asyncio.run(main())


def test_the_program_says_all_of_it_in_json_if_it_is_told_to(tmp_path):
    tiny.add_classifier(tmp_path / "repository")
    told = {"TIDEGATE_LOG_FORMAT": "json", "TIDEGATE_REQUEST_LOG": "1"}
    with gateway_process(tmp_path / "repository", tmp_path / "state", **told) as process:
        answer = httpx.post(f"{process.url}/v1/classify", content=picture(), headers={"content-type": "image/png"})
        assert answer.status_code == 200
        process.signal(signal.SIGINT)
        assert process.exit_code() == 0
        assert process.popen.stdout.read() == ""  # but for its first line nothing
        said = [json.loads(line) for line in process.log.read_text().splitlines()]
    assert [one["status"] for one in said if one["logger"] == "request"] == [200]
    assert any(one["logger"].startswith("serving.") for one in said)
