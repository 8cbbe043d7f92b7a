"""The admin port's orders over HTTP, and what callers meet at the public port meanwhile."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager

import httpx
import pytest
import tiny
from http_rig import PATIENCE_S, picture, serving, until
from versions_rig import FakeGate, TellingEngine

JSON = {"content-type": "application/json"}
PNG = {"content-type": "image/png"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00")


class Desk:
    """A gateway with three versions, and an operator at its admin port."""

    def __init__(self, live, admin, gate, engine):
        self.live = live
        self.admin = admin
        self.gate = gate
        self.engine = engine

    async def post(self, verb: str, model: str = "colours", **body) -> httpx.Response:
        return await self.admin.post(f"/admin/models/{model}/{verb}", json=body)

    async def ok(self, verb: str, **body):
        answer = await self.post(verb, **body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def get(self, what: str, model: str = "colours") -> httpx.Response:
        return await self.admin.get(f"/admin/models/{model}/{what}")

    async def version(self, **params) -> int:
        """Of the answer to a picture."""
        answer = await self.live.client.post(
            "/v1/classify", content=picture(), params=params, headers={"content-type": "image/png"}
        )
        assert answer.status_code == 200, answer.text
        assert answer.headers["tidegate-version"] == str(answer.json()["version"])
        return answer.json()["version"]

    async def listed(self):
        (colours, _) = (await self.admin.get("/admin/models")).json()["models"]
        assert colours == (await self.live.client.get("/v1/models/colours")).json()
        return colours


@asynccontextmanager
async def desk(folder, engine=None, **settings):
    for number in (1, 2, 3):
        tiny.add_classifier(folder / "repository", number=number, bias=float(number))
    tiny.add_plain(folder / "repository")
    gate, engine = FakeGate(), engine or TellingEngine()
    async with (
        serving(folder, engine, settings, gate) as live,
        httpx.AsyncClient(base_url=live.admin_url, timeout=PATIENCE_S) as admin,
    ):
        yield Desk(live, admin, gate, engine)


def test_forward_and_back(tmp_path):
    async def main():
        async with desk(tmp_path) as at:
            assert await at.version() == 1
            outcome = await at.ok("promote", version=2, who="ada", why="better")
            assert outcome | {"seconds": 0, "verdict": None} == {
                "model": "colours",
                "action": "promote",
                "from": 1,
                "to": 2,
                "stable": 2,
                "previous": 1,
                "canary": None,
                "shadow": None,
                "cold": True,
                "gateways": 1,
                "late": [],
                "seconds": 0,
                "verdict": None,
            }
            assert outcome["verdict"]["passed"]
            assert await at.version() == 2
            assert await at.version(version=1) == 1, "the way back is warm"
            outcome = await at.ok("rollback", who="bea", why="worse")
            assert (outcome["action"], outcome["from"], outcome["to"], outcome["cold"]) == ("rollback", 2, 1, False)
            assert await at.version() == 1

    asyncio.run(main())


def test_history_and_verdicts_have_the_shape_that_clients_rely_on(tmp_path):
    async def main():
        async with desk(tmp_path) as at:
            at.gate.failing[2] = ("latency",)
            await at.ok("promote", version=2, canary=10, force=True, who="ada", why="try it")
            await at.ok("rollback")
            first, second = (await at.get("history")).json()
            assert TIME.fullmatch(first.pop("time"))
            assert first == {
                "action": "canary",
                "from": 1,
                "to": 2,
                "percent": 10,
                "who": "ada",
                "why": "try it",
                "verdict": {"passed": False, "failed": ["latency"], "forced": True},
            }
            assert TIME.fullmatch(second.pop("time"))
            assert second == {
                "action": "rollback",
                "from": 2,
                "to": 1,
                "percent": None,
                "who": "admin port",
                "why": "",
                "verdict": None,
            }
            checked = await at.ok("check", version=3)
            newest, older = (await at.get("verdicts")).json()
            assert newest == checked
            assert set(older) >= {"model", "version", "passed", "checks", "time"}
            assert (older["model"], older["version"], older["passed"]) == ("colours", 2, False)
            assert older["checks"][1] == {
                "name": "latency",
                "passed": False,
                "measured": None,
                "limit": None,
                "detail": "latency is not as it should be",
            }

    asyncio.run(main())


def test_a_canary_by_its_own_route_or_by_promote_is_the_same(tmp_path):
    async def main():
        async with desk(tmp_path) as at:
            by_route = await at.ok("canary", version=2)
            assert by_route["canary"] == {"version": 2, "percent": 10}
            assert (await at.listed())["canary"] == {"version": 2, "percent": 10}
            by_promote = await at.ok("promote", canary=50)
            assert by_promote["canary"] == {"version": 2, "percent": 50}
            assert by_promote["action"] == "canary"
            assert (await at.ok("canary", percent=100))["canary"] == {"version": 2, "percent": 100}
            assert await at.version() == 2
            assert await at.version(label="stable") == 1
            finished = await at.ok("promote")
            assert (finished["stable"], finished["canary"]) == (2, None)

    asyncio.run(main())


def test_callers_who_say_who_they_are_keep_their_version(tmp_path):
    async def main():
        async with desk(tmp_path) as at:
            await at.ok("canary", version=2, percent=50)

            async def ask(caller: int) -> str:
                answer = await at.live.classify(tidegate_sticky=f"caller {caller}")
                return answer.headers["tidegate-version"]

            first = [await ask(caller) for caller in range(20)]
            assert set(first) == {"1", "2"}
            assert [await ask(caller) for caller in range(20)] == first

    asyncio.run(main())


def test_a_shadow_gets_copies_and_answers_nobody(tmp_path):
    async def main():
        async with desk(tmp_path) as at:
            await at.ok("shadow", version=2)
            nothing = {"version": 2, "compared": 0, "agreement": None, "failed": 0, "passed_by": 0}
            assert (await at.listed())["shadow"] == nothing
            assert await at.version() == 1
            tally = at.live.parts.shadows.tally
            await until(lambda: tally("colours", 2).compared == 1, "a copy was compared")
            assert {key.version for key, _ in at.engine.runs} == {1, 2}
            assert (await at.listed())["shadow"] == nothing | {"compared": 1, "agreement": 1.0}
            await at.version(version=2)
            await asyncio.sleep(0.05)
            assert tally("colours", 2).compared == 1, "what other versions answer is not copied"

    asyncio.run(main())


def test_a_shadow_that_fails_or_hangs_touches_no_caller(tmp_path):
    class Limping(TellingEngine):
        broken = False
        free = asyncio.Event()

        async def run(self, key, inputs, call):
            if key.version == 2 and self.broken:
                raise ZeroDivisionError
            if key.version == 2:
                await self.free.wait()
            return await super().run(key, inputs, call)

    async def main():
        engine = Limping()
        engine.free.set()
        async with desk(tmp_path, engine) as at:
            await at.ok("shadow", version=2)
            tally = at.live.parts.shadows.tally("colours", 2)
            try:
                engine.broken = True
                assert await at.version() == 1
                await until(lambda: tally.failed == 1, "the copy failed")
                engine.broken = False
                engine.free.clear()
                for _ in range(5):
                    assert await at.version() == 1
                assert tally.passed_by >= 1
            finally:
                engine.free.set()
            await until(lambda: tally.compared, "the copy ended")

    asyncio.run(main())


def test_the_gate_s_no_comes_with_its_verdict(tmp_path):
    async def main():
        async with desk(tmp_path) as at:
            at.gate.failing[2] = ("latency",)
            answer = await at.post("promote", version=2)
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (409, "gate_failed")
            assert answer.headers["content-type"] == "application/problem+json"
            assert problem["verdict"]["version"] == 2
            assert [check["name"] for check in problem["verdict"]["checks"]] == ["load", "latency"]
            assert problem["remedy"] == "--force overrules this."
            assert (await at.ok("promote", version=2, force=True))["stable"] == 2
            at.gate.failing[3] = ("digests",)
            answer = await at.post("promote", version=3, force=True)
            assert (answer.status_code, answer.json()["code"]) == (409, "gate_failed")
            assert await at.version() == 2

    asyncio.run(main())


def test_what_no_gateway_can_load_is_said(tmp_path):
    async def main():
        async with desk(tmp_path) as at:
            at.engine.failing.add("colours/2")
            answer = await at.post("promote", version=2)
            assert (answer.status_code, answer.json()["code"]) == (409, "load_failed")
            assert "told to" in answer.json()["detail"]
            assert await at.version() == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("verb", "body", "status", "code"),
    [
        ("promote", {"version": 1}, 409, "change_refused"),
        ("promote", {}, 409, "change_refused"),
        ("promote", {"version": 9}, 404, "version_not_found"),
        ("check", {"version": 9}, 404, "version_not_found"),
        ("rollback", {}, 409, "change_refused"),
        ("rollback", {"to": 2}, 409, "change_refused"),
        ("rollback", {"live": 2}, 409, "change_refused"),
    ],
)
def test_refusals(tmp_path, verb, body, status, code):
    async def main():
        async with desk(tmp_path) as at:
            answer = await at.post(verb, **body)
            problem = answer.json()
            assert (answer.status_code, problem["code"], problem["status"]) == (status, code, status)
            assert problem["instance"] == f"/admin/models/colours/{verb}"
            assert (await at.get("history")).json() == []

    asyncio.run(main())


def test_of_an_unknown_model_every_route_says_so(tmp_path):
    bodies = {"check": {"version": 1}, "promote": {"version": 1}, "canary": {"version": 1}, "shadow": {"version": 1}}

    async def main():
        async with desk(tmp_path) as at:
            for verb in ("check", "promote", "canary", "shadow", "rollback", "load", "unload"):
                answer = await at.post(verb, model="nobody", **bodies.get(verb, {}))
                assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found"), verb
            for what in ("history", "verdicts"):
                answer = await at.get(what, model="nobody")
                assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found"), what

    asyncio.run(main())


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("check", "{}"),
        ("check", '{"version": 0}'),
        ("check", '{"version": "one"}'),
        ("check", '{"version": 2, "force": true}'),
        ("promote", '{"version": -1}'),
        ("promote", '{"version": 2, "canary": 0}'),
        ("promote", '{"version": 2, "canary": 101}'),
        ("promote", '{"version": 2, "canary": 5, "shadow": true}'),
        ("promote", '{"version": 2, "nope": 1}'),
        ("promote", '{"version": 2, "who": "two\\nlines"}'),
        ("promote", '{"version": 2, "why": "%s"}' % ("x" * 501)),
        ("promote", "[1]"),
        ("promote", ""),
        ("canary", '{"version": 2, "percent": 0}'),
        ("canary", '{"version": 2, "percent": NaN}'),
        ("shadow", '{"version": 2, "percent": 5}'),
        ("rollback", '{"to": 0}'),
        ("rollback", '{"version": 1}'),
        ("load", '{"version": 1}'),
        ("load", '{"who": "two\\nlines"}'),
        ("load", ""),
        ("unload", '{"why": 1}'),
        ("unload", "null"),
        ("rollback", "null"),
        ("rollback", ""),
    ],
)
def test_orders_that_cannot_be_understood_are_422_and_change_nothing(tmp_path, verb, body):
    async def main():
        async with desk(tmp_path) as at:
            answer = await at.admin.post(f"/admin/models/colours/{verb}", content=body, headers=JSON)
            assert answer.status_code == 422, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            problem = answer.json()
            assert {"type", "title", "status", "detail", "instance", "code"} <= set(problem)
            assert problem["status"] == 422
            assert (await at.get("history")).json() == []
            assert at.gate.asked == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        (JSON | {"origin": "https://evil.example"}, 403, "forbidden"),
        (JSON | {"origin": "null"}, 403, "forbidden"),
        ({"content-type": "text/plain"}, 415, "media_type_unsupported"),
        ({"content-type": "application/x-www-form-urlencoded"}, 415, "media_type_unsupported"),
        ({}, 415, "media_type_unsupported"),
    ],
    ids=["a web page", "a web page in a sandbox", "text", "a form", "no type"],
)
def test_web_pages_give_no_orders(tmp_path, headers, status, code):
    async def main():
        async with desk(tmp_path) as at:
            for verb in ("check", "promote", "canary", "shadow", "rollback", "load", "unload"):
                path = f"/admin/models/colours/{verb}"
                answer = await at.admin.post(path, content=b'{"version": 2}', headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (status, code), verb
            assert at.gate.asked == []

    asyncio.run(main())


def test_json_may_say_its_charset(tmp_path):
    async def main():
        async with desk(tmp_path) as at:
            headers = {"content-type": "application/JSON; charset=utf-8"}
            answer = await at.admin.post("/admin/models/colours/check", content=b'{"version": 2}', headers=headers)
            assert answer.status_code == 200

    asyncio.run(main())


def test_models_show_who_is_live_on_both_ports(tmp_path):
    async def main():
        async with desk(tmp_path) as at:
            await at.ok("promote", version=2)
            await at.ok("canary", version=3, percent=2.5)
            state = await at.listed()
            assert {name: state[name] for name in state if name != "card"} == {
                "name": "colours",
                "task": "classify",
                "versions": [1, 2, 3],
                "stable": 2,
                "previous": 1,
                "canary": {"version": 3, "percent": 2.5},
                "shadow": None,
                "ready": True,
                "unloaded": False,
            }

    asyncio.run(main())


def test_orders_stand_at_no_public_port(tmp_path):
    async def main():
        async with desk(tmp_path) as at:
            for verb in ("check", "promote", "rollback", "load", "unload"):
                answer = await at.live.client.post(f"/admin/models/colours/{verb}", json={"version": 2})
                assert answer.status_code == 404

    asyncio.run(main())


def test_requests_during_switches_never_fail_and_are_never_mixed(tmp_path):
    async def main():
        async with desk(tmp_path) as at:
            done = asyncio.Event()
            seen: list[int] = []

            async def ask() -> None:
                while not done.is_set():
                    seen.append(await at.version())

            asking = [asyncio.create_task(ask()) for _ in range(4)]
            for _ in range(5):
                await at.ok("promote", version=2)
                await at.ok("rollback")
            done.set()
            await asyncio.gather(*asking)
            assert set(seen) == {1, 2}
            assert at.engine.most <= 3

    asyncio.run(main())


# Out of service, and back


def test_a_model_is_taken_out_of_service_and_back_under_traffic(tmp_path):
    async def main():
        async with (
            desk(tmp_path) as at,
            # Of their own: in httpx's pool, whoever asks without a pause would keep the operator waiting.
            httpx.AsyncClient(base_url=at.live.url, timeout=PATIENCE_S) as callers,
        ):
            done = asyncio.Event()
            seen: list[tuple[int, str | None]] = []

            async def ask() -> None:
                while not done.is_set():
                    answer = await callers.post("/v1/classify", content=picture(), headers=PNG)
                    seen.append((answer.status_code, answer.json().get("code")))
                    await asyncio.sleep(0)

            asking = [asyncio.create_task(ask()) for _ in range(4)]
            try:
                for _ in range(3):
                    out = await at.ok("unload", who="ada", why="it melts")
                    assert (out["action"], out["from"], out["to"], out["stable"], out["late"]) == (
                        "unload",
                        1,
                        None,
                        1,
                        [],
                    )
                    answer = await at.live.classify()
                    problem = answer.json()
                    assert (answer.status_code, problem["code"]) == (503, "model_not_ready"), "from the answer on"
                    assert "retry-after" in answer.headers
                    assert problem["detail"] == "colours was unloaded."
                    assert "/admin/models/colours/load" in problem["remedy"]
                    listed = await at.listed()
                    assert (listed["stable"], listed["ready"], listed["unloaded"]) == (1, False, True)
                    back = await at.ok("load", who="bea")
                    assert (back["action"], back["from"], back["to"], back["stable"]) == ("load", None, 1, 1)
                    assert await at.version() == 1, "from the answer on"
            finally:
                done.set()
                await asyncio.gather(*asking)
            assert set(seen) == {(200, None), (503, "model_not_ready")}
            history = (await at.get("history")).json()
            assert [(one["action"], one["from"], one["to"], one["who"], one["why"]) for one in history] == [
                ("unload", 1, None, "ada", "it melts"),
                ("load", None, 1, "bea", ""),
            ] * 3

    asyncio.run(main())


def test_what_is_being_answered_is_answered(tmp_path):
    async def main():
        async with desk(tmp_path) as at:
            at.engine.gate.clear()
            asking = asyncio.create_task(at.live.classify())
            await until(lambda: at.engine.runs, "it runs")
            await at.ok("unload")
            await asyncio.sleep(0.05)
            assert "colours/1" in at.engine.loaded, "a lease holds it"
            at.engine.gate.set()
            assert (await asking).status_code == 200
            await until(lambda: at.engine.loaded == {"double/1"}, "then it is let go, and nothing else is")

    asyncio.run(main())


def test_other_models_answer_on(tmp_path):
    async def main():
        async with desk(tmp_path) as at:
            await at.ok("unload")
            body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}
            assert (await at.live.client.post("/v2/models/double/infer", json=body)).status_code == 200
            assert (await at.live.client.get("/readyz")).status_code == 200

    asyncio.run(main())


def test_a_restart_keeps_it_out_of_service(tmp_path):
    async def main():
        async with desk(tmp_path) as at:
            await at.ok("promote", version=2)
            await at.ok("unload")
        async with serving(tmp_path, engine := TellingEngine()) as live:
            assert (await live.classify()).json()["code"] == "model_not_ready"
            assert engine.tried == ["double/1"]
            async with httpx.AsyncClient(base_url=live.admin_url, timeout=PATIENCE_S) as admin:
                assert (await admin.post("/admin/models/colours/load", json={})).json()["stable"] == 2
            assert (await live.classify()).headers["tidegate-version"] == "2"

    asyncio.run(main())


def test_while_unloaded_only_a_promotion_or_a_load_goes(tmp_path):
    async def main():
        async with desk(tmp_path) as at:
            await at.ok("promote", version=2)
            await at.ok("unload")
            for verb, body in {"canary": {"version": 3}, "shadow": {"version": 3}, "rollback": {}}.items():
                answer = await at.post(verb, **body)
                assert (answer.status_code, answer.json()["code"]) == (409, "change_refused"), verb
                assert "Load it first" in answer.json()["remedy"], verb
            at.engine.failing.add("colours/2")
            answer = await at.post("load")
            assert (answer.status_code, answer.json()["code"]) == (409, "load_failed")
            assert "told to" in answer.json()["detail"]
            await at.ok("unload")
            promoted = await at.ok("promote", version=3)
            assert (promoted["from"], promoted["to"], promoted["previous"]) == (None, 3, 2)
            assert await at.version() == 3

    asyncio.run(main())
