"""Jobs over HTTP, on each store: accepted, followed, fetched, cancelled, and given back."""

from __future__ import annotations

import asyncio
import base64
import itertools
import signal
import time
from contextlib import asynccontextmanager

import httpx
import openai
import pytest
import tiny
from http_rig import connect, gateway_process, request_bytes, reset, serving, until, wait_until
from job_rig import ASYNC, MODEL, begin, ended, ended_now, events, events_now, order
from openai.types import ImagesResponse
from redis_rig import redis_server

from serving.codecs.pixels import pixels_of
from serving.engines.fake import FakeEngine
from serving.gateway.errors import IMAGES_PATH
from serving.keys import KeyFile

STEP_S = 0.05


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis"), "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture(params=["local", "redis"])
def store(request):
    """The settings of a gateway that keeps its jobs there."""
    if request.param == "local":
        return {}
    server = request.getfixturevalue("server")
    server.ask("FLUSHALL")
    return {"redis": server.url}


@asynccontextmanager
async def drawing(folder, store=None, engine=None, **settings):
    """A gateway whose steps take STEP_S, and its engine."""
    engine = engine or FakeEngine(service_s=lambda _: STEP_S)
    tiny.add_diffusion(folder / "repository")
    async with serving(folder, engine, {**(store or {}), **settings}) as live:
        yield live, engine


def steps_run(engine) -> int:
    return sum(key.name == MODEL for key, _ in engine.runs)


def test_a_job_comes_to_the_pictures_that_the_waiting_route_gives(tmp_path, store):
    async def main():
        async with drawing(tmp_path, store, FakeEngine()) as (live, _):
            waited = await live.client.post(IMAGES_PATH, json=order(n=2))
            answer = await live.client.post(IMAGES_PATH, json=order(n=2), headers=ASYNC)
            assert answer.status_code == 202
            job = answer.json()
            assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
            assert answer.headers["preference-applied"] == "respond-async"
            assert (job["object"], job["status"], job["attempts"]) == ("job", "queued", 0)
            assert [job[name] for name in ("progress", "result", "error", "ended", "expires_at")] == [None] * 5
            await ended(live.client, job["id"])
            done = (await live.client.get(answer.headers["location"])).json()
            assert (done["status"], done["attempts"], done["error"]) == ("succeeded", 1, None)
            assert done["progress"] == {"step": 10, "of": 10}
            assert done["result"]["data"] == waited.json()["data"]
            assert {**done["result"], "created": 0} == {**waited.json(), "created": 0}
            assert done["created"] <= done["result"]["created"] == done["ended"] <= time.time()
            assert done["expires_at"] - done["ended"] == 86_400

    asyncio.run(main())


def test_the_official_client_of_openais_api_orders_and_fetches(tmp_path):
    async def main():
        async with (
            drawing(tmp_path, {}, FakeEngine()) as (live, _),
            openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none needed", max_retries=0) as client,
        ):
            asked = await client.images.with_raw_response.generate(prompt="a red disc", extra_headers=ASYNC)
            assert asked.status_code == 202
            await ended(live.client, asked.headers["location"].rpartition("/")[2])
            fetched = (await live.client.get(asked.headers["location"])).json()["result"]
            assert ImagesResponse.model_validate(fetched).data[0].b64_json

    asyncio.run(main())


def test_its_events_are_told_as_they_happen_and_go_on_where_a_listener_was(tmp_path, store):
    async def main():
        async with drawing(tmp_path, store) as (live, engine):
            job = await begin(live.client, steps=12)
            seen, steps = [], []
            async with live.client.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
                assert answer.headers["content-type"] == "text/event-stream"
                assert answer.headers["cache-control"] == "no-store"
                async for event in events(answer):
                    seen.append(event)
                    if event.kind == "progress":
                        steps.append(steps_run(engine) - event.data["step"])
            assert [event.id for event in seen] == list(range(1, len(seen) + 1))
            kinds = [event.kind for event in seen]
            assert (kinds[0], kinds[-1], kinds.count("preview")) == ("started", "done", 2)
            progress = [event.data for event in seen if event.kind == "progress"]
            assert progress == [{"step": step, "of": 12} for step in range(1, 13)]
            assert max(steps) <= 2, "not all at the end"
            for event, step in zip((one for one in seen if one.kind == "preview"), (5, 10), strict=True):
                assert (event.data["step"], event.data["of"], event.data["index"]) == (step, 12, 0)
                assert pixels_of(base64.b64decode(event.data["b64_json"])).shape == (8, 8, 3)
            assert seen[-1].data == (await live.client.get(f"/v1/jobs/{job['id']}")).json()
            for after in (0, 7, len(seen) - 1, len(seen)):
                headers = {"last-event-id": str(after)}
                async with live.client.stream("GET", f"/v1/jobs/{job['id']}/events", headers=headers) as answer:
                    assert [event async for event in events(answer)] == seen[after:]
            headers = {"last-event-id": "x"}
            refused = await live.client.get(f"/v1/jobs/{job['id']}/events", headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (422, "parameter_invalid")

    asyncio.run(main())


def test_whoever_asks_again_with_the_same_key_gets_the_same_job(tmp_path, store):
    async def main():
        async with drawing(tmp_path, store, FakeEngine()) as (live, _):
            key = {"idempotency-key": "3f8a:1"}
            first = await begin(live.client, key)
            assert (await begin(live.client, key))["id"] == first["id"]
            await ended(live.client, first["id"])
            again = await begin(live.client, key)
            assert (again["id"], again["status"]) == (first["id"], "succeeded")
            for path, body in ((IMAGES_PATH, order(n=2)), (f"{IMAGES_PATH}?steps=3", order())):
                other = await live.client.post(path, json=body, headers={**ASYNC, **key})
                assert other.status_code == 409
                assert other.json()["error"]["code"] == "idempotency_key_reused"
                assert other.headers["x-should-retry"] == "false"
            for wrong in ("", "é".encode(), "x" * 256):
                headers = {**ASYNC, "idempotency-key": wrong}
                refused = await live.client.post(IMAGES_PATH, json=order(), headers=headers)
                assert (refused.status_code, refused.json()["error"]["code"]) == (400, "parameter_invalid")
            samples = [sample for family in live.parts.meters.registry.collect() for sample in family.samples]
            assert [one.value for one in samples if one.name == "tidegate_jobs_accepted_total"] == [1]

    asyncio.run(main())


def test_a_cancelled_job_stops_within_a_step_and_one_that_waits_never_begins(tmp_path, store):
    async def main():
        async with drawing(tmp_path, store, job_concurrency=1) as (live, engine):
            running, waiting = await begin(live.client, steps=500), await begin(live.client)
            await until(lambda: steps_run(engine) >= 5, "it runs")
            following = asyncio.create_task(ended(live.client, running["id"]))
            for job in (waiting, running):
                answer = await live.client.delete(f"/v1/jobs/{job['id']}")
                assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
            begun = steps_run(engine)
            assert (await following)["status"] == "cancelled"
            await asyncio.sleep(5 * STEP_S)
            assert steps_run(engine) <= begun + 1
            again = await live.client.delete(f"/v1/jobs/{running['id']}")
            assert (again.status_code, again.json()["status"], again.json()["result"]) == (200, "cancelled", None)
            after = await begin(live.client, steps=2)
            assert (await ended(live.client, after["id"]))["status"] == "succeeded", "its place is free"
            assert steps_run(engine) <= begun + 1 + 2

    asyncio.run(main())


def test_a_job_is_cancelled_at_whichever_gateway(tmp_path, store):
    async def main():
        async with (
            drawing(tmp_path, store) as (one, engine),
            serving(tmp_path, FakeEngine(), {**store, "job_concurrency": 0}) as other,
        ):
            job = await begin(other.client, steps=500)
            await until(lambda: steps_run(engine) >= 3, "the one that works runs it")
            answer = await other.client.delete(f"/v1/jobs/{job['id']}")
            assert answer.json()["status"] == "cancelled"
            begun = steps_run(engine)
            await asyncio.sleep(5 * STEP_S)
            assert steps_run(engine) <= begun + 1
            job = await begin(other.client, steps=3)
            assert (await ended(other.client, job["id"]))["status"] == "succeeded", "and is followed there"
            assert one.parts.traffic.in_flight == 0

    asyncio.run(main())


def test_steps_of_jobs_meet_in_batches(tmp_path, store):
    async def main():
        async with drawing(tmp_path, store) as (live, engine):
            jobs = [await begin(live.client, guidance=1, steps=6, seed=seed) for seed in range(6)]
            for job in jobs:
                assert (await ended(live.client, job["id"]))["status"] == "succeeded"
            assert max(rows for key, rows in engine.runs if key.name == MODEL) >= 4
            assert steps_run(engine) < 6 * 6 / 2

    asyncio.run(main())


def test_what_goes_wrong_is_said_by_the_job_or_at_once(tmp_path, store):
    tiny.add_classifier(tmp_path / "repository")

    async def main():
        async with drawing(tmp_path, store, FakeEngine()) as (live, _):
            job = await begin(live.client, prompt="")
            failed = await ended(live.client, job["id"])
            assert (failed["status"], failed["result"]) == ("failed", None)
            assert failed["error"]["code"] == "text_invalid"
            assert failed["error"]["message"]
            for fields, status, code in (
                ({"model": "x"}, 404, "model_not_found"),
                ({"model": "colours"}, 409, "task_mismatch"),
                ({"version": 7}, 404, "version_not_found"),
                ({"steps": 0}, 400, "parameter_invalid"),
                ({"prompt": "red " * 300_000}, 413, "body_too_large"),
            ):
                answer = await live.client.post(IMAGES_PATH, json=order(**fields), headers=ASYNC)
                assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
            for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
                answer = await live.client.request(method, f"/v1/jobs/nobody{path}")
                assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
                assert answer.headers["content-type"] == "application/problem+json"
            assert (await live.client.post(f"/v1/jobs/{job['id']}")).status_code == 405

    asyncio.run(main())


def test_no_more_jobs_are_taken_than_may_wait(tmp_path, store):
    async def main():
        async with drawing(tmp_path, store, job_queue_limit=3, job_concurrency=1) as (live, engine):
            engine.gate.clear()
            for _ in range(3):
                await begin(live.client)
            refused = await live.client.post(IMAGES_PATH, json=order(), headers=ASYNC)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "jobs_full")
            assert 1 <= int(refused.headers["retry-after"]) <= 30
            engine.gate.set()
            await until(lambda: engine.runs and steps_run(engine) > 5, "the first is done")
            await begin(live.client)

    asyncio.run(main())


def test_jobs_are_their_owners_alone(tmp_path, store):
    file = KeyFile(tmp_path / "keys.json")
    ann, bob = ({"authorization": f"Bearer {file.add(name, ['predict'])[0]}"} for name in ("ann", "bob"))

    async def main():
        async with drawing(tmp_path, store, FakeEngine(), keys=file.path) as (live, _):
            key = {"idempotency-key": "k"}
            job = await begin(live.client, {**ann, **key})
            other = await begin(live.client, {**bob, **key}, n=2)
            assert other["id"] != job["id"], "keys of different callers have nothing to do with each other"
            for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
                url = f"/v1/jobs/{job['id']}{path}"
                assert (await live.client.request(method, url)).status_code == 401
                foreign = await live.client.request(method, url, headers=bob)
                assert (foreign.status_code, foreign.json()["code"]) == (404, "job_not_found")
                own = await live.client.request(method, url, headers=ann)
                assert own.status_code == 200
            assert (await live.client.get(f"/v1/jobs/{job['id']}", headers=ann)).json()["status"] == "succeeded"

    asyncio.run(main())


def test_whoever_stops_listening_leaves_nothing_behind(tmp_path):
    async def main():
        async with drawing(tmp_path, {}) as (live, engine):
            job = await begin(live.client, steps=500)
            path = f"/v1/jobs/{job['id']}/events"
            listeners = [connect(live.url) for _ in range(3)]
            for listener in listeners:
                listener.sendall(request_bytes(path, method="GET"))
            await until(lambda: live.parts.jobs._followers == 3, "they listen")
            await until(lambda: steps_run(engine) > 3, "it runs")
            assert live.parts.traffic.in_flight == 0, "nobody waits for an answer"
            reset(listeners.pop())
            for listener in listeners:
                listener.close()
            await until(lambda: live.parts.jobs._followers == 0, "they are gone")
            assert (await live.client.get(f"/v1/jobs/{job['id']}")).json()["status"] == "running"

    asyncio.run(main())


def test_only_so_many_listen(tmp_path, monkeypatch):
    monkeypatch.setattr("serving.jobs.MOST_FOLLOWERS", 1)

    async def main():
        async with drawing(tmp_path, {}) as (live, _):
            job = await begin(live.client, steps=500)
            async with live.client.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
                seen = events(answer)  # kept: with it the stream would end
                assert await anext(seen)
                refused = await live.client.get(f"/v1/jobs/{job['id']}/events")
                assert (refused.status_code, refused.json()["code"]) == (503, "busy")
                assert refused.headers["retry-after"]

    asyncio.run(main())


def test_a_quiet_stream_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr("serving.gateway.routes.jobs.QUIET_S", 0.1)

    async def main():
        async with drawing(tmp_path, {}, job_concurrency=0) as (live, _):
            job = await begin(live.client)
            async with live.client.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
                lines = answer.aiter_lines()
                said = [line async for line in _first(lines, 6)]
            assert said == ["retry: 1000", "", ":", "", ":", ""]

    async def _first(lines, count):
        for _ in range(count):
            yield await anext(lines)

    asyncio.run(main())


# What becomes of jobs when a gateway ends


@pytest.fixture
def repository(tmp_path):
    tiny.add_diffusion(tmp_path / "repository")
    return tmp_path / "repository"


def environment(store) -> dict[str, str]:
    return {f"TIDEGATE_{name.upper()}": value for name, value in store.items()}


def start_job(gateway, **fields) -> str:
    answer = httpx.post(f"{gateway.url}{IMAGES_PATH}", json=order(**fields), headers=ASYNC)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def runs(gateway, ident) -> bool:
    return (httpx.get(f"{gateway.url}/v1/jobs/{ident}").json()["progress"] or {"step": 0})["step"] > 0


def test_a_gateway_that_ends_gives_its_jobs_back_and_no_listener_holds_it_up(tmp_path, repository, store):
    given = environment(store)
    with gateway_process(repository, tmp_path / "state", TIDEGATE_DRAIN_TIMEOUT_S="0.5", **given) as gateway:
        ident = start_job(gateway, steps=1000, n=10)
        wait_until(lambda: runs(gateway, ident), "it runs")
        with httpx.stream("GET", f"{gateway.url}/v1/jobs/{ident}/events", timeout=20) as answer:
            seen = events_now(answer)
            before = list(itertools.islice(seen, 5))
            asked_s = time.monotonic()
            gateway.signal(signal.SIGTERM)
            before += list(seen)
        assert before[-1].kind != "done"
        assert gateway.exit_code() == 0
        assert time.monotonic() - asked_s < 5
        assert "Traceback" not in gateway.log.read_text()
    with gateway_process(repository, tmp_path / "state", **given) as gateway:
        asked_s = time.monotonic()
        wait_until(lambda: runs(gateway, ident), "it runs again")
        assert time.monotonic() - asked_s < 5, "no lease has to run out"
        with httpx.Client(base_url=gateway.url, timeout=20) as client:
            headers = {"last-event-id": str(before[-1].id)}
            with client.stream("GET", f"/v1/jobs/{ident}/events", headers=headers) as answer:
                assert next(events_now(answer)).id > before[-1].id
            assert client.get(f"/v1/jobs/{ident}").json()["attempts"] == 1, "what is given back is no attempt"
            assert client.delete(f"/v1/jobs/{ident}").json()["status"] == "cancelled"


def test_no_listener_holds_up_a_gateway_that_ends(tmp_path, repository):
    with gateway_process(repository, tmp_path / "state", TIDEGATE_JOB_CONCURRENCY="0") as gateway:
        ident = start_job(gateway)
        with httpx.stream("GET", f"{gateway.url}/v1/jobs/{ident}/events", timeout=20) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "retry: 1000"
            asked_s = time.monotonic()
            gateway.signal(signal.SIGTERM)
            assert list(lines) == [""], "its end is that of an answer"
        assert gateway.exit_code() == 0
        assert time.monotonic() - asked_s < 8, "far from the thirty seconds of an answer that is on its way"


def test_a_job_that_is_nearly_done_is_finished_first(tmp_path, repository, store):
    given = environment(store)
    with gateway_process(repository, tmp_path / "state", **given) as gateway:
        ident = start_job(gateway, steps=1000)
        wait_until(lambda: runs(gateway, ident), "it runs")
        gateway.signal(signal.SIGTERM)
        assert gateway.exit_code() == 0
    with (
        gateway_process(repository, tmp_path / "state", TIDEGATE_JOB_CONCURRENCY="0", **given) as gateway,
        httpx.Client(base_url=gateway.url) as client,
    ):
        assert ended_now(client, ident)["status"] == "succeeded"
