"""Keys with limits: what is over them is refused before a body is read, and whoever keeps to them notices nothing."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import pytest
from http_rig import connect, picture, read_answer, request_bytes, reset, serving, until

from serving.engines.fake import FakeEngine
from serving.keys import KeyFile

IMAGE = {"content-type": "image/png"}


@pytest.fixture
def file(tmp_path):
    return KeyFile(tmp_path / "state" / "keys.json")


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}", **IMAGE}


def test_over_the_rate_is_a_429_that_says_when_to_come_again(tmp_path, file):
    secret, _ = file.add("slow", ["predict"], rate=2)

    async def main():
        async with serving(tmp_path) as live:
            answers = [
                await live.client.post("/v1/classify", content=picture(), headers=bearer(secret)) for _ in range(4)
            ]
            assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
            problem = answers[2].json()
            assert problem["code"] == "quota_exceeded"
            assert "2 requests a second" in problem["detail"]
            assert int(answers[2].headers["retry-after"]) in {1, 2, 3, 4, 5}
            assert "connection" not in answers[2].headers, "a good caller keeps its connection"
            tensors = await live.client.post("/v2/models/double/infer", content=b"{}", headers=bearer(secret))
            assert tensors.status_code == 429
            assert set(json.loads(tensors.content)) == {"error"}
            assert (await live.client.get("/livez")).status_code == 200
            metrics = live.parts.meters.exposition().decode()
            assert 'tidegate_access_refusals_total{code="quota_exceeded"} 3.0' in metrics
            assert "slow" not in metrics

    asyncio.run(main())


@pytest.mark.parametrize("ending", ["an answer", "a caller who hangs up"])
def test_what_runs_at_once_counts_until_it_ends(tmp_path, file, ending):
    secret, _ = file.add("narrow", ["predict"], concurrency=1)

    async def main():
        engine = FakeEngine()
        async with serving(tmp_path, engine) as live:
            engine.gate.clear()
            connection = connect(live.url)
            connection.sendall(request_bytes("/v1/classify", picture(), authorization=f"Bearer {secret}"))
            await until(lambda: engine.runs, "it runs")
            second = await live.client.post("/v1/classify", content=picture(), headers=bearer(secret))
            assert second.status_code == 429
            if ending == "an answer":
                engine.gate.set()
                await asyncio.to_thread(connection.recv, 1)
                connection.close()
            else:
                reset(connection)
                await until(lambda: not live.parts.traffic.in_flight, "it is gone")
                engine.gate.set()
            third = await live.client.post("/v1/classify", content=picture(), headers=bearer(secret))
            assert third.status_code == 200

    asyncio.run(main())


def test_one_key_far_over_its_rate_leaves_another_s_goodput_alone(tmp_path, file):
    """R9: 20 times over; the other one's requests are all answered."""
    greedy, _ = file.add("greedy", ["predict"], rate=20)
    modest, _ = file.add("modest", ["predict"], rate=100)

    async def ask(client: httpx.AsyncClient, secret: str, count: int, pause_s: float) -> list[int]:
        statuses = []
        for _ in range(count):
            answer = await client.post("/v1/classify", content=picture(), headers=bearer(secret))
            statuses.append(answer.status_code)
            await asyncio.sleep(pause_s)
        return statuses

    async def main():
        async with serving(tmp_path, FakeEngine(service_s=lambda _: 0.001)) as live:
            began_s = time.monotonic()
            good, bad = await asyncio.gather(ask(live.client, modest, 50, 0.02), ask(live.client, greedy, 400, 0.0))
            lasted_s = time.monotonic() - began_s
            assert set(good) == {200}
            assert set(bad) == {200, 429}
            assert 20 <= bad.count(200) <= 20 * (lasted_s + 2)

    asyncio.run(main())


def test_a_refusal_comes_before_the_body_and_leaves_the_connection_to_the_next_request(tmp_path, file):
    secret, _ = file.add("slow", ["predict"], rate=1)
    named = {"authorization": f"Bearer {secret}"}

    async def main():
        async with serving(tmp_path) as live:

            def talk() -> list[int]:
                body = b"x" * 1_000_000
                with connect(live.url) as connection, connection.makefile("rb") as stream:
                    connection.sendall(request_bytes("/v1/classify", picture(), **named))
                    statuses = [read_answer(stream).status]
                    head = request_bytes("/v1/classify", b"", **named).replace(
                        b"content-length: 0", b"content-length: %d" % len(body)
                    )
                    connection.sendall(head)
                    statuses.append(read_answer(stream).status)  # nothing of the body was sent yet
                    connection.sendall(body)
                    time.sleep(1.1)
                    connection.sendall(request_bytes("/v1/classify", picture(), **named))
                    return [*statuses, read_answer(stream).status]

            assert await asyncio.to_thread(talk) == [200, 429, 200]

    asyncio.run(main())


def test_a_caller_who_leaves_amid_its_body_gives_its_place_back(tmp_path, file):
    secret, _ = file.add("narrow", ["predict"], concurrency=1)

    async def main():
        async with serving(tmp_path) as live:
            for path in ("/v1/classify", "/v2/models/double/infer"):
                connection = connect(live.url)
                connection.sendall(request_bytes(path, picture(), authorization=f"Bearer {secret}")[:-1])
                await until(lambda: live.parts.traffic.in_flight, "its body is waited for")
                assert (await live.classify(authorization=f"Bearer {secret}")).status_code == 429
                reset(connection)
                await until(lambda: not live.parts.traffic.in_flight, "it is gone")
                assert (await live.classify(authorization=f"Bearer {secret}")).status_code == 200

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/v1/classify", "/v2/models/nothing/infer", "/v1/models/nothing"])
def test_what_ends_in_an_error_gives_its_place_back(tmp_path, file, path):
    secret, _ = file.add("narrow", ["predict"], concurrency=1)

    async def main():
        async with serving(tmp_path) as live:
            for _ in range(3):
                answer = await live.client.post(path, content=b"no picture", headers=bearer(secret))
                assert 400 <= answer.status_code < 500
                assert answer.status_code != 429

    asyncio.run(main())


def test_only_what_predicts_is_counted(tmp_path, file):
    secret, _ = file.add("operator", ["predict", "admin", "metrics"], rate=1, concurrency=1)

    async def main():
        async with serving(tmp_path) as live:
            for _ in range(5):
                for url in (f"{live.admin_url}/admin/models", f"{live.admin_url}/metrics", f"{live.url}/readyz"):
                    assert (await live.client.get(url, headers=bearer(secret))).status_code == 200
            assert (await live.client.get("/v1/models", headers=bearer(secret))).status_code == 200
            assert (await live.client.get("/v1/models", headers=bearer(secret))).status_code == 429

    asyncio.run(main())


def test_a_key_made_anew_has_its_new_limits_within_a_second(tmp_path, file):
    secret, _ = file.add("phone", ["predict"], rate=1)

    async def statuses(live, secret: str) -> list[int]:
        return [(await live.classify(authorization=f"Bearer {secret}")).status_code for _ in range(4)]

    async def main():
        async with serving(tmp_path) as live:
            assert await statuses(live, secret) == [200, 429, 429, 429]
            file.revoke("phone")
            anew, _ = file.add("phone", ["predict"], rate=100)
            await asyncio.sleep(1)
            assert await statuses(live, anew) == [200] * 4

    asyncio.run(main())


def test_gateways_that_share_a_ledger_share_a_rate(tmp_path, file):
    secret, _ = file.add("phone", ["predict"], rate=10)

    async def main():
        async with serving(tmp_path) as live:
            async with serving(tmp_path) as other:
                both = (live, other)
                await until(lambda: all(one.parts.reconciler.gateways == 2 for one in both), "they have met")
                begun_s = time.monotonic()
                for one in both:
                    statuses = [(await one.classify(authorization=f"Bearer {secret}")).status_code for _ in range(10)]
                    most = 5 + 5 * (time.monotonic() - begun_s) + 1
                    assert 5 <= statuses.count(200) <= min(most, 9)
                    assert 429 in statuses
            await until(lambda: live.parts.reconciler.gateways == 1, "the other one left")

    asyncio.run(main())
