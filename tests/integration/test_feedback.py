"""Answers meet the truth at a real gateway: what counts, what is refused, and whose truths are heard."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager

import httpx
import PIL.Image
import pytest
import tiny
from http_rig import picture, serving

from serving.engine import EngineOptions
from serving.engines.onnx import OnnxEngine
from serving.keys import KeyFile
from serving.threads import Threads

JSON = {"content-type": "application/json"}
PNG = {"content-type": "image/png"}


@asynccontextmanager
async def gateway(folder, **settings):
    repository = folder / "repository"
    if not repository.exists():
        tiny.add_classifier(repository)
        tiny.add_dark(repository, "detect")
        tiny.add_plain(repository)
    threads = Threads(1, 8)
    engine = OnnxEngine(EngineOptions(threads))
    engine.gate = asyncio.Event()  # as the fake's
    try:
        async with serving(folder, engine, settings) as live:
            yield live
    finally:
        threads.close()


async def tell(live, request_id, truth, **headers) -> httpx.Response:
    body = {"request_id": request_id, "truth": truth}
    return await live.client.post("/v1/feedback", json=body, headers=headers)


async def answered(live, content=None, **headers) -> str:
    answer = await live.classify(picture(200, 0, 0) if content is None else content, **headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"]


def sample(live, name: str, **labels: str) -> float:
    return live.parts.meters.registry.get_sample_value(name, labels) or 0.0


def test_a_live_metric_of_each_version(tmp_path):
    async def main():
        async with gateway(tmp_path) as live:
            blue = picture(0, 0, 200)
            for truth in ("blue", "blue", "red"):
                told = await tell(live, await answered(live, blue), truth)
                assert told.status_code == 202
            assert told.json() == {
                "request_id": told.json()["request_id"], "status": "scored", "model": "colours", "version": 1,
                "metric": "accuracy", "quality": 0.0,
            }  # fmt: skip
            assert live.parts.watch.feedback.sums("colours", 1) == (3, 2.0, 2.0, 0.0)
            assert live.parts.watch.feedback.totals("colours", 1) == (3, 2.0)
            assert live.parts.watch.feedback.totals_by("colours", 1) == {"blue": (2, 2.0), "red": (1, 0.0)}
            assert live.parts.watch.feedback.totals("colours", 2) == (0, 0.0)
            assert live.parts.watch.feedback.totals_by("colours", 2) == {}
            labels = {"model": "colours", "version": "1", "metric": "accuracy"}
            assert sample(live, "tidegate_feedback_scored_total", **labels) == 3
            assert sample(live, "tidegate_feedback_score_sum_total", **labels) == 2
            assert sample(live, "tidegate_feedback_score", **labels) == pytest.approx(2 / 3)
            assert sample(live, "tidegate_feedback_total", model="colours", outcome="scored") == 3
            assert sample(live, "tidegate_feedback_answers") == 3
            async with httpx.AsyncClient(base_url=live.admin_url) as admin:
                shown = (await admin.get("/admin/models/colours/feedback")).json()
            assert shown == {
                "versions": [
                    {"version": 1, "metric": "accuracy", "count": 3, "mean": pytest.approx(2 / 3),
                     "latest": pytest.approx(2 / 3), "mean_error": None}
                ]
            }  # fmt: skip

    asyncio.run(main())


def test_a_truth_counts_once(tmp_path):
    async def main():
        async with gateway(tmp_path) as live:
            name = await answered(live)
            first = await tell(live, name, "red")
            again = await tell(live, name, "red")
            other = await tell(live, name, "blue")
            assert [one.status_code for one in (first, again, other)] == [202, 202, 409]
            assert first.json() == again.json()
            assert other.json()["code"] == "truth_given"
            assert other.json()["remedy"]
            assert live.parts.watch.feedback.totals("colours", 1) == (1, 1.0)
            both = [tell(live, await answered(live), truth) for truth in ("red", "red")]
            await asyncio.gather(*both)
            picture_of_boxes = await live.client.post("/v1/detect", content=_page(), headers=PNG)
            name = picture_of_boxes.headers["x-request-id"]
            met = await asyncio.gather(*(tell(live, name, []) for _ in range(8)))
            assert [one.status_code for one in met] == [202] * 8
            assert live.parts.watch.feedback.totals("detect", 1)[0] == 1, "however many come while one is scored"

    asyncio.run(main())


def _page() -> bytes:
    page = PIL.Image.new("RGB", (32, 32), "white")
    page.paste((0, 0, 0), (4, 4, 20, 20))
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def test_boxes_in_pixels_of_the_picture(tmp_path):
    async def main():
        async with gateway(tmp_path) as live:
            answer = await live.client.post("/v1/detect?score_threshold=0.5", content=_page(), headers=PNG)
            truth = [{"label": "ink", "box": {"xmin": 4, "ymin": 4, "xmax": 20, "ymax": 20}}]
            told = await tell(live, answer.headers["x-request-id"], truth)
            assert (told.status_code, told.json()["metric"], told.json()["quality"]) == (202, "f1", 1.0)

    asyncio.run(main())


def test_what_is_not_remembered_is_not_found(tmp_path):
    async def main():
        async with gateway(tmp_path, feedback_answers=2) as live:
            names = [await answered(live) for _ in range(3)]
            told = [await tell(live, name, "red") for name in (*names, "nobody")]
            assert [one.status_code for one in told] == [404, 202, 202, 404]
            assert told[0].json()["code"] == "answer_not_found"
            assert told[0].json()["remedy"]
            assert sample(live, "tidegate_feedback_total", model="_other", outcome="unknown") == 2
        async with gateway(tmp_path, feedback_answers=0) as live:
            assert (await tell(live, await answered(live), "red")).status_code == 404
            assert live.parts.watch.feedback not in live.parts.watch.witnesses
        async with gateway(tmp_path, feedback_age_s=0.001) as live:
            name = await answered(live)
            await asyncio.sleep(0.01)
            assert (await tell(live, name, "red")).status_code == 404

    asyncio.run(main())


def test_several_in_one_call(tmp_path):
    async def main():
        async with gateway(tmp_path) as live:
            names = [await answered(live) for _ in range(70)]
            truths = [{"request_id": name, "truth": "red"} for name in names]
            truths[1] = {"request_id": "nobody", "truth": "red"}
            truths[2]["truth"] = "purple"
            answer = await live.client.post("/v1/feedback", json={"truths": truths})
            assert answer.status_code == 202
            results = answer.json()["results"]
            assert [one["request_id"] for one in results] == [one["request_id"] for one in truths]
            assert [one["status"] for one in results] == ["scored", "refused", "refused", *["scored"] * 67]
            assert [one["code"] for one in results[1:3]] == ["answer_not_found", "truth_invalid"]
            assert live.parts.watch.feedback.totals("colours", 1)[0] == 68

    asyncio.run(main())


DEEP = b"[" * 900 + b"]" * 900
HOSTILE = {
    "not JSON": (b"{", 400),
    "no object": (b"[]", 400),
    "NaN": (b'{"request_id": "ID", "truth": NaN}', 400),
    "a half surrogate": (b'{"request_id": "ID", "truth": "\\ud800"}', 400),
    "not UTF-8": (b'{"request_id": "ID", "truth": "\xff"}', 400),
    "too deep to be read": (b'{"request_id": "ID", "truth": ' + b"[" * 10**6 + b"]" * 10**6 + b"}", 400),
    "deep": (b'{"request_id": "ID", "truth": ' + DEEP + b"}", 422),
    "huge": (b'{"request_id": "ID", "truth": [' + b"0," * 10**6 + b"0]}", 422),
    "too large": (b'{"request_id": "ID", "truth": [' + b"0," * 2**21 + b"0]}", 413),
    "a huge number": (b'{"request_id": "ID", "truth": ' + b"9" * 300 + b"}", 422),
    "no truth": (b'{"request_id": "ID"}', 422),
    "no id": (b'{"truth": "red"}', 422),
    "another key": (b'{"request_id": "ID", "truth": "red", "model": "colours"}', 422),
    "an id that is none": (b'{"request_id": "a b", "truth": "red"}', 422),
    "an id with a line end": (b'{"request_id": "ID\\n", "truth": "red"}', 422),
    "a long id": (b'{"request_id": "' + b"x" * 10**6 + b'", "truth": "red"}', 422),
    "an id that is a number": (b'{"request_id": 7, "truth": "red"}', 422),
    "no list": (b'{"truths": {}}', 422),
    "an empty list": (b'{"truths": []}', 422),
    "a list of nothing": (b'{"truths": [null]}', 422),
    "too many": (b'{"truths": [' + b",".join([b'{"request_id":"a","truth":1}'] * 1001) + b"]}", 422),
    "both": (b'{"request_id": "ID", "truth": 1, "truths": []}', 422),
}


def test_hostile_truths_are_refused_and_count_nothing(tmp_path):
    async def main():
        async with gateway(tmp_path) as live:
            name = await answered(live)
            for what, (body, status) in HOSTILE.items():
                sent = body.replace(b'"ID', f'"{name}'.encode())
                answer = await live.client.post("/v1/feedback", content=sent, headers=JSON)
                assert answer.status_code == status, (what, answer.text)
                assert len(answer.text) < 2000, what
                assert answer.json()["remedy"], what
            assert live.parts.watch.feedback.totals("colours", 1)[0] == 0
            assert (await tell(live, name, "red")).status_code == 202

    asyncio.run(main())


def test_a_caller_tells_the_truth_of_its_own_answers_alone(tmp_path):
    async def main():
        keys = KeyFile(tmp_path / "state" / "keys.json")
        (tmp_path / "state").mkdir()
        mine, other = (f"Bearer {keys.add(name, ['predict'])[0]}" for name in ("mine", "other"))
        async with gateway(tmp_path) as live:
            name = await answered(live, authorization=mine)
            by_other = await tell(live, name, "blue", authorization=other)
            by_nobody = await tell(live, name, "blue")
            by_me = await tell(live, name, "red", authorization=mine)
            assert [one.status_code for one in (by_other, by_nobody, by_me)] == [404, 401, 202]

    asyncio.run(main())


def test_the_later_answer_with_an_id_that_its_caller_chose_counts(tmp_path):
    async def main():
        async with gateway(tmp_path) as live:
            for colour in ((200, 0, 0), (0, 0, 200)):
                assert await answered(live, picture(*colour), x_request_id="order-17") == "order-17"
            assert (await tell(live, "order-17", "blue")).json()["quality"] == 1.0

    asyncio.run(main())
