"""More than can be served at once: refusals that are at once, deadlines that spare the engine, callers who leave.

An engine with a gate stands in for a slow model, so that each moment can be held as long as a test needs it.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest
from http_rig import PATIENCE_S, connect, picture, request_bytes, reset, serving, until
from tritonclient.grpc import model_config_pb2 as pb

from serving.engines.fake import FakeEngine
from serving.errors import EngineFailed

ROWS = {"parameters": {"max_queue_rows": pb.ModelParameter(string_value="3")}}
PNG = {"content-type": "image/png"}
TENSOR = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}


def rows_run(engine: FakeEngine) -> int:
    return sum(rows for _, rows in engine.runs)


def red_share(_, inputs) -> dict:
    """Probabilities that say how red each row is, so that rows cannot be mistaken for each other."""
    if "pixels" not in inputs:
        return {"y": inputs["x"] * 2}
    red = inputs["pixels"][..., 0].reshape(len(inputs["pixels"]), -1).mean(axis=1) / 255
    return {"probabilities": np.stack([red, 1 - red, np.zeros_like(red)], axis=1).astype(np.float32)}


def red_of(answer: httpx.Response) -> float:
    (score,) = [one["score"] for one in answer.json()["predictions"] if one["label"] == "red"]
    return score * 255


@asynccontextmanager
async def busy(folder, **config):
    """A gateway whose engine is at work on a first request and will not end it before the gate opens."""
    engine = FakeEngine(compute=red_share)
    async with serving(folder, engine, **config) as live:
        engine.gate.clear()
        first = asyncio.create_task(live.classify())
        await until(lambda: engine.runs, "the first request runs")
        yield live, engine, first


async def queued(live, count: int, start: int = 0) -> list[asyncio.Task[httpx.Response]]:
    """Requests of different reds that wait in the queue, in order."""
    tasks = []
    for i in range(start, start + count):
        before = live.waiting_rows
        tasks.append(asyncio.create_task(live.classify(picture(red=i + 1))))
        await until(lambda before=before: live.waiting_rows == before + 1, "it waits")
    return tasks


def test_a_full_queue_refuses_at_once_and_serves_those_who_wait(tmp_path):
    async def main():
        async with busy(tmp_path, **ROWS) as (live, engine, first):
            waiting = await queued(live, 3)
            for _ in range(10):
                refused = await live.classify()  # the gate is shut: an answer now is an answer at once
                assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
                assert 1 <= int(refused.headers["retry-after"]) <= 5
            assert not any(task.done() for task in (first, *waiting))
            engine.gate.set()
            answers = await asyncio.gather(first, *waiting)
            assert [answer.status_code for answer in answers] == [200] * 4
            assert [red_of(answer) for answer in answers] == pytest.approx([0, 1, 2, 3], abs=1e-4)
            assert rows_run(engine) == 4
            assert live.outcomes() == {"ok": 4, "queue_full": 10}
            assert (await live.classify()).status_code == 200

    asyncio.run(main())


def test_those_who_wait_together_run_together_and_get_their_own(tmp_path):
    async def main():
        async with busy(tmp_path) as (live, engine, first):
            waiting = await queued(live, 20)
            engine.gate.set()
            answers = await asyncio.gather(*waiting)
            assert [red_of(answer) for answer in answers] == pytest.approx(list(range(1, 21)), abs=1e-4)
            assert [rows for _, rows in engine.runs] == [1, 8, 8, 4]
            await first

    asyncio.run(main())


def test_too_many_requests_at_once_are_refused_on_every_model(tmp_path):
    async def main():
        async with busy(tmp_path, settings={"max_in_flight": 2}) as (live, engine, first):
            (second,) = await queued(live, 1)
            refused = await live.classify()
            assert (refused.status_code, refused.json()["code"]) == (503, "busy")
            tensors = await live.client.post("/v2/models/double/infer", json=TENSOR)
            assert (tensors.status_code, list(tensors.json())) == (503, ["error"])
            assert "retry-after" in tensors.headers
            assert (await live.client.get("/livez")).status_code == 200  # probes are never shed
            assert (await live.client.get("/readyz")).status_code == 200
            engine.gate.set()
            assert [(await task).status_code for task in (first, second)] == [200, 200]
            assert (await live.classify()).status_code == 200

    asyncio.run(main())


def test_a_deadline_that_passes_in_the_queue_spares_the_engine(tmp_path):
    async def main():
        async with busy(tmp_path) as (live, engine, first):
            late = await live.classify(x_request_timeout_ms="50")
            assert (late.status_code, late.json()["code"]) == (504, "deadline_passed")
            assert late.json()["remedy"]
            tensors = await live.client.post(
                "/v2/models/colours/infer",
                json={"inputs": [{"name": "pixels", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": [0] * 192}]},
                headers={"x-request-timeout-ms": "50"},
            )
            assert (tensors.status_code, list(tensors.json())) == (504, ["error"])
            assert live.waiting_rows == 0
            engine.gate.set()
            assert (await first).status_code == 200
            assert (await live.classify()).status_code == 200
            assert rows_run(engine) == 2
            assert live.outcomes()["deadline_passed"] == 2

    asyncio.run(main())


def test_a_deadline_that_passes_while_it_runs_is_answered_too(tmp_path):
    async def main():
        engine = FakeEngine()
        async with serving(tmp_path, engine) as live:
            engine.gate.clear()
            late = await live.classify(x_request_timeout_ms="50")
            assert (late.status_code, late.json()["code"]) == (504, "deadline_passed")
            engine.gate.set()
            assert (await live.classify()).status_code == 200

    asyncio.run(main())


def test_the_longest_a_caller_may_wait_is_set_by_the_gateway(tmp_path):
    async def main():
        async with busy(tmp_path, settings={"request_timeout_s": 0.05}) as (_, _, first):
            assert (await first).status_code == 504

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/v1/classify", "/v2/models/double/infer"])
def test_a_body_that_never_ends_gives_its_place_back(tmp_path, path):
    async def main():
        async with serving(tmp_path, settings={"max_in_flight": 1, "request_timeout_s": 0.2}) as live:
            reader, writer = await asyncio.open_connection(*live.url.removeprefix("http://").split(":"))
            writer.write(request_bytes(path, picture())[:-1])
            await until(lambda: live.parts.traffic.in_flight == 1, "it is inside")
            assert (await live.classify()).json()["code"] == "busy"
            assert b" 504 " in await asyncio.wait_for(reader.readline(), PATIENCE_S)
            await until(lambda: live.parts.traffic.in_flight == 0, "its place is free")
            assert (await live.classify()).status_code == 200
            writer.close()

    asyncio.run(main())


def leave(connection, how: str) -> None:
    if how == "RST":
        reset(connection)
    connection.close()


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_who_leaves_the_queue_is_never_run(tmp_path, how):
    async def main():
        async with busy(tmp_path) as (live, engine, first):
            connections = [await asyncio.to_thread(connect, live.url) for _ in range(50)]
            for connection in connections:
                connection.sendall(request_bytes("/v1/classify", picture()))
            await until(lambda: live.waiting_rows == 50, "all wait")
            (stays,) = await queued(live, 1)
            for connection in connections:
                leave(connection, how)
            await until(lambda: live.waiting_rows == 1, "those who left are forgotten")
            engine.gate.set()
            assert [(await task).status_code for task in (first, stays)] == [200, 200]
            assert rows_run(engine) == 2
            assert live.outcomes() == {"ok": 2, "caller_left": 50}
            assert live.parts.traffic.in_flight == 0

    asyncio.run(main())


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_who_leaves_a_batch_that_runs_takes_nobody_along(tmp_path, how):
    async def main():
        async with busy(tmp_path) as (live, engine, first):
            neighbours = await queued(live, 1)
            connection = await asyncio.to_thread(connect, live.url)
            connection.sendall(request_bytes("/v1/classify", picture(red=200)))
            await until(lambda: live.waiting_rows == 2, "it waits")
            neighbours += await queued(live, 1, start=1)
            engine.gate.set()
            engine.gate.clear()  # lets out the first run alone
            await until(lambda: len(engine.runs) == 2, "the three run together")
            assert rows_run(engine) == 4
            leave(connection, how)
            await until(lambda: live.outcomes().get("caller_left"), "its leaving is seen")
            assert not any(task.done() for task in neighbours)
            engine.gate.set()
            answers = await asyncio.gather(*neighbours)
            assert [red_of(answer) for answer in answers] == pytest.approx([1, 2], abs=1e-4)
            assert (await first).status_code == 200
            assert len(engine.runs) == 2

    asyncio.run(main())


def failing(error: Exception):
    def compute(_, inputs):
        raise error

    return compute


def of_value(value: float):
    def compute(_, inputs):
        if "pixels" in inputs:
            return {"probabilities": np.full((len(inputs["pixels"]), 3), value, np.float32)}
        return {"y": np.full_like(inputs["x"], value)}

    return compute


def of_two_classes(_, inputs):
    return {"probabilities": np.zeros((len(inputs["pixels"]), 2), np.float32), "y": np.full((1, 1), np.nan, np.float32)}


@pytest.mark.parametrize(
    ("compute", "status", "code"),
    [
        (of_value(np.nan), 502, "model_output_invalid"),
        (of_value(np.inf), 502, "model_output_invalid"),
        (failing(EngineFailed("The engine broke down.")), 503, "engine_failed"),
        (failing(KeyError("secret /etc/passwd")), 500, "internal_error"),
        (failing(MemoryError("secret")), 500, "internal_error"),
    ],
    ids=["NaN", "infinite", "engine failed", "bug", "out of memory"],
)
def test_what_the_engine_gets_wrong_has_a_code_and_no_inside(tmp_path, compute, status, code):
    async def main():
        async with serving(tmp_path, FakeEngine(compute=compute)) as live:
            answer = await live.classify()
            assert (answer.status_code, answer.json()["code"]) == (status, code)
            assert ("retry-after" in answer.headers) == (status == 503)
            tensors = await live.client.post("/v2/models/double/infer", json=TENSOR)
            assert (tensors.status_code, list(tensors.json())) == (status, ["error"])
            for said in (answer, tensors):
                assert said.headers["x-request-id"]
                assert "secret" not in said.text
                assert "Error" not in said.text
            assert (await live.client.get("/livez")).status_code == 200
            assert (await live.client.post("/v1/classify", content=b"x", headers=PNG)).status_code == 422

    asyncio.run(main())


def test_scores_that_do_not_fit_the_labels_are_the_model_s_fault(tmp_path):
    async def main():
        async with serving(tmp_path, FakeEngine(compute=of_two_classes)) as live:
            assert (await live.classify()).json()["code"] == "model_output_invalid"

    asyncio.run(main())


def test_only_those_to_blame_fail_when_a_batch_does(tmp_path):
    """A row that breaks the engine is found out: its neighbours are run again without it."""

    def compute(key, inputs):
        if (inputs["pixels"][..., 0] == 2).any():
            raise EngineFailed("The engine broke down.")
        return red_share(key, inputs)

    async def main():
        engine = FakeEngine(compute=compute)
        async with serving(tmp_path, engine) as live:
            engine.gate.clear()
            first = asyncio.create_task(live.classify())
            await until(lambda: engine.runs, "the first request runs")
            waiting = await queued(live, 3)
            engine.gate.set()
            answers = await asyncio.gather(first, *waiting)
            assert [answer.status_code for answer in answers] == [200, 200, 503, 200]

    asyncio.run(main())
