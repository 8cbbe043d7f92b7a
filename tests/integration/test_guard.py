"""The guard at real gateways, over HTTP: what it sees, does, advises and tells, alone and in company."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
import tiny
from http_rig import picture, serving
from versions_rig import FakeGate

from serving.engines.fake import FakeEngine
from serving.errors import EngineFailed

POLICY = {"mode": "act", "steps": [50, 100], "step_s": 2, "step_requests": 20}
GUARD = "/admin/models/colours/guard"
PICTURES = [picture(200, 20, 20), picture(20, 200, 20), picture(20, 20, 200)]


class Failing(FakeEngine):
    """Version 2 fails now and then; others never."""

    def __init__(self) -> None:
        super().__init__()
        self.share = 0.3

    async def run(self, key, inputs, call=None):
        if key.version == 2 and random.random() < self.share:
            raise EngineFailed("It was told to fail.")
        return await super().run(key, inputs)


@contextmanager
def listener(status: int = 204) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Somebody who is told: a URL, and what came there."""
    heard: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", heard
    finally:
        server.shutdown()
        server.server_close()


async def tried(live, over, seconds: float = 20.0) -> None:
    """Sends pictures until it is over."""
    deadline_s = time.monotonic() + seconds
    while not await over():
        assert time.monotonic() < deadline_s, (await ask(live, GUARD)).text
        answers = [
            live.client.post("/v1/classify", content=random.choice(PICTURES), headers={"content-type": "image/png"})
            for _ in range(5)
        ]
        await asyncio.gather(*answers)
        await asyncio.sleep(0.05)


async def ask(live, path: str, order: Any = None, method: str = "POST") -> httpx.Response:
    async with httpx.AsyncClient(base_url=live.admin_url) as client:
        return await (client.get(path) if order is None else client.request(method, path, json=order))


def two_versions(folder) -> None:
    for number in (1, 2):
        tiny.add_classifier(folder / "repository", number=number)


async def last_change(live) -> dict[str, Any]:
    history = (await ask(live, "/admin/models/colours/history")).json()
    return history[-1]


def test_a_canary_that_fails_is_taken_back_with_a_verdict_and_somebody_is_told(tmp_path):
    two_versions(tmp_path)

    async def main(url: str, heard: list[dict[str, Any]]) -> None:
        async with serving(tmp_path, Failing(), {"webhook": url}, FakeGate()) as live:
            answer = await ask(live, GUARD, {"policy": POLICY, "why": "a try", "who": "me"}, "PUT")
            assert answer.status_code == 200, answer.text
            assert answer.json()["said"] is True
            assert (await ask(live, "/admin/models/colours/canary", {"version": 2, "percent": 50})).status_code == 200

            async def back() -> bool:
                return (await last_change(live))["action"] == "rollback"

            await tried(live, back)
            change = await last_change(live)
            assert (change["who"], change["from"], change["to"]) == ("guard", 2, 1)
            assert change["why"].startswith("errors: ")
            while not heard:  # the verdict is kept when the version is back, and then it is told
                await asyncio.sleep(0.02)
            [verdict, *_] = (await ask(live, "/admin/models/colours/verdicts")).json()
            assert (verdict["version"], verdict["passed"], verdict["stable"]) == (2, False, 1)
            failed = [check["name"] for check in verdict["checks"] if check["passed"] is False]
            assert "guard_errors" in failed
            assert heard[0]["event"] == "guard.rollback"
            assert (heard[0]["model"], heard[0]["version"], heard[0]["why"]) == ("colours", 2, change["why"])
            while (await ask(live, GUARD)).json()["trial"] is not None:
                await asyncio.sleep(0.1)
            text = (await ask(live, "/metrics")).text
            assert 'tidegate_guard_decisions_total{action="rollback",model="colours"} 1.0' in text
            assert "tidegate_guard_evidence{" not in text, "the trial is over"

    with listener() as (url, heard):
        asyncio.run(main(url, heard))


def test_a_healthy_canary_climbs_and_is_watched_when_it_is_stable(tmp_path):
    two_versions(tmp_path)

    async def main() -> None:
        engine = Failing()
        engine.share = 0.0
        async with serving(tmp_path, engine, {"guard": "act"}, FakeGate()) as live:
            policy = {**POLICY, "steps": [10, 40, 100], "step_s": 1, "step_requests": 5}
            await ask(live, GUARD, {"policy": policy}, "PUT")
            await ask(live, "/admin/models/colours/canary", {"version": 2, "percent": 10})

            async def stable() -> bool:
                return (await last_change(live))["action"] == "promote"

            await tried(live, stable)
            history = (await ask(live, "/admin/models/colours/history")).json()
            climbed = [(one["action"], one["percent"], one["who"]) for one in history if one["who"] == "guard"]
            assert climbed == [("canary", 40, "guard"), ("promote", None, "guard")]
            assert history[-1]["verdict"]["passed"] is True, "the gate's, of when it was put on trial"

            engine.share = 0.5  # it goes bad afterwards

            async def back() -> bool:
                return (await last_change(live))["action"] == "rollback"

            await tried(live, back)
            change = await last_change(live)
            assert (change["who"], change["from"], change["to"]) == ("guard", 2, 1)

    asyncio.run(main())


def test_where_it_advises_nothing_moves_and_it_says_so_once(tmp_path):
    two_versions(tmp_path)

    async def main(url: str, heard: list[dict[str, Any]]) -> None:
        async with serving(tmp_path, Failing(), {"webhook": url}, FakeGate()) as live:
            await ask(live, "/admin/models/colours/canary", {"version": 2, "percent": 50})

            async def said() -> bool:
                return bool(heard)

            await tried(live, said)
            assert heard[0]["event"] == "guard.advised_rollback"
            state = (await ask(live, GUARD)).json()
            assert (state["policy"]["mode"], state["said"], state["leads"]) == ("advise", False, True)
            assert (state["trial"]["decision"], state["trial"]["version"]) == ("back", 2)
            assert (
                'tidegate_guard_evidence{model="colours",signal="errors",version="2"}'
                in (await ask(live, "/metrics")).text
            )
            await asyncio.sleep(2.5)
            assert len(heard) == 1
            assert (await last_change(live))["action"] == "canary"

    with listener() as (url, heard):
        asyncio.run(main(url, heard))


def test_where_it_is_off_nothing_is_weighed_and_no_request_is_copied(tmp_path):
    two_versions(tmp_path)

    async def main() -> None:
        engine = Failing()
        async with serving(tmp_path, engine, {"guard": "off"}, FakeGate()) as live:
            await ask(live, "/admin/models/colours/canary", {"version": 2, "percent": 1})
            await asyncio.sleep(1.2)
            begun = len(engine.runs)
            answers = [
                await live.client.post(
                    "/v1/classify?label=stable", content=PICTURES[0], headers={"content-type": "image/png"}
                )
                for _ in range(20)
            ]
            assert len(engine.runs) == begun + len(answers)
            assert (await ask(live, GUARD)).json()["trial"] is None

    asyncio.run(main())


@pytest.mark.parametrize("asked", ["stable", "canary"])
def test_while_a_canary_is_guarded_each_version_gets_copies_of_the_other_one_s_requests(tmp_path, asked):
    two_versions(tmp_path)

    async def main() -> None:
        engine = Failing()
        engine.share = 0.0
        async with serving(tmp_path, engine, {"guard": "advise"}, FakeGate()) as live:
            await ask(live, "/admin/models/colours/canary", {"version": 2, "percent": 50})
            while (await ask(live, GUARD)).json()["trial"] is None:
                await asyncio.sleep(0.05)
            begun = len(engine.runs)
            url = f"/v1/classify?label={asked}"
            for _ in range(10):
                await live.client.post(url, content=PICTURES[0], headers={"content-type": "image/png"})
                await asyncio.sleep(0.06)
            versions = Counter(key.version for key, _ in engine.runs[begun:])
            assert versions[{"stable": 1, "canary": 2}[asked]] == 10
            assert versions[{"stable": 2, "canary": 1}[asked]] >= 5, "copies"

    asyncio.run(main())


@pytest.mark.parametrize(
    "policy", [{"mode": "maybe"}, {"steps": [50, 10]}, {"risk": 2}, {"unknown": 1}, {"step_s": "x"}, "act"]
)
def test_policies_that_mean_nothing_are_refused_with_the_reason(policy, tmp_path):
    async def main() -> None:
        async with serving(tmp_path) as live:
            answer = await ask(live, GUARD, {"policy": policy}, "PUT")
            assert answer.status_code == 422
            assert answer.json()["code"] == "parameter_invalid"
            assert (await ask(live, "/admin/models/nobody/guard", {"policy": None}, "PUT")).status_code == 404

    asyncio.run(main())
