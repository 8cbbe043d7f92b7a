"""caption through a gateway: greedy and by beams, alone and among others, and after its caller has gone."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import onnxruntime
import pytest
import tiny
from http_rig import connect, gateway_process, picture, request_bytes, reset, serving, until
from triton_gateways import beside_triton

from serving.engines.fake import FakeEngine

PICTURES = {"red": picture(red=255), "green": picture(green=255), "blue": picture(blue=255)}
CALLERS = [
    *((colour, beams, model) for colour in ("red", "green") for beams in (1, 2, 8) for model in ("caption", "endless")),
    *(("blue", beams, "endless") for beams in (1, 3, 5, 7)),
]


@pytest.fixture(scope="module", params=["onnx", "triton"])
def gateway(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions")
    tiny.add_captioner(folder / "repository")
    tiny.add_captioner(folder / "repository", "endless", longest=24, ends=False)
    with (
        beside_triton(folder / "repository", request.param) as environment,
        gateway_process(
            folder / "repository", folder / "state", TIDEGATE_DEFAULT_MODELS="caption=caption", **environment
        ) as process,
    ):
        yield process


def caption(url: str, colour: str = "red", **parameters) -> httpx.Response:
    headers = {"content-type": "image/png"}
    return httpx.post(f"{url}/v1/caption", params=parameters, content=PICTURES[colour], headers=headers, timeout=30)


@pytest.mark.parametrize("colour", PICTURES)
@pytest.mark.parametrize(("beams", "thing", "chances"), [(1, "disc", (0.55, 0.4)), (3, "spot", (0.45, 0.99))])
def test_a_picture_is_captioned(gateway, colour, beams, thing, chances):
    answer = caption(gateway.url, colour, num_beams=beams)
    assert answer.status_code == 200, answer.text
    reply = answer.json()
    assert set(reply) == {"model", "version", "text", "score", "tokens"}
    assert (reply["model"], reply["version"], reply["text"]) == ("caption", 1, f"a {colour} {thing}")
    assert reply["tokens"] == 4
    seen = np.exp(4) / (np.exp(4) + 2)
    assert reply["score"] == pytest.approx(np.log([1, seen, *chances]).mean(), abs=1e-5)
    assert {"tidegate-model", "tidegate-version", "server-timing"} <= set(answer.headers)


def test_a_caption_is_no_longer_than_its_caller_wants(gateway):
    reply = caption(gateway.url, num_beams=2, max_tokens=2).json()
    assert (reply["text"], reply["tokens"]) == ("a red", 2)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"num_beams": 0}, "num_beams"),
        ({"num_beams": 9}, "num_beams"),
        ({"num_beams": "many"}, "num_beams"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1025}, "max_tokens"),
        ({"temperature": 1}, "unknown name"),
    ],
)
def test_parameters_out_of_range_are_refused(gateway, parameters, said):
    answer = caption(gateway.url, **parameters)
    assert (answer.status_code, answer.json()["code"]) == (422, "parameter_invalid")
    assert said in answer.json()["detail"]


def test_what_is_no_picture_is_refused(gateway):
    answer = httpx.post(f"{gateway.url}/v1/caption", content=b"no", headers={"content-type": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (422, "image_invalid")


def test_mixed_callers_get_exactly_what_they_get_alone(gateway):
    """Those whose captions end beside those whose do not, greedy ones beside beams."""
    wanted = [(colour, {"num_beams": beams, "model": model}) for colour, beams, model in CALLERS]
    alone = [caption(gateway.url, colour, **parameters).json() for colour, parameters in wanted]
    for _ in range(3):
        with ThreadPoolExecutor(len(wanted)) as pool:
            futures = [pool.submit(caption, gateway.url, colour, **parameters) for colour, parameters in wanted]
        assert [future.result().json() for future in futures] == alone


def test_steps_of_different_callers_share_batches(gateway):
    """Greedy ones have one row a step, so that whatever shares a batch is of different callers."""
    rows, runs = decoder_runs(gateway)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(caption, gateway.url, model="endless") for _ in range(32)]
    assert {future.result().json()["tokens"] for future in futures} == {24}
    more_rows, more_runs = (after - before for after, before in zip(decoder_runs(gateway), (rows, runs), strict=True))
    assert more_rows == 32 * 24
    assert more_rows / more_runs > 1.2


def decoder_runs(gateway) -> tuple[float, float]:
    """Rows that the decoder has run, and in how many batches."""
    answer = httpx.get(f"{gateway.url}/v2/models/endless.decoder/versions/1/stats").json()["model_stats"][0]
    return answer["inference_count"], answer["execution_count"]


# On an engine that can be watched, each of whose runs takes a while


class Watched(FakeEngine):
    """Runs the tiny graphs. lengths: of each of the decoder's runs, how far the texts of its rows had come."""

    def __init__(self, repository, run_s: float) -> None:
        super().__init__(service_s=lambda _: run_s, compute=self._look)
        self.lengths: list[list[int]] = []
        self._sessions = {
            path.parts[-3]: onnxruntime.InferenceSession(path) for path in repository.glob("endless*/1/model.onnx")
        }

    def _look(self, key, inputs):
        if "length" in inputs:
            self.lengths.append(inputs["length"].ravel().tolist())
        session = self._sessions[key.name]
        return dict(zip([one.name for one in session.get_outputs()], session.run(None, dict(inputs)), strict=True))


def watched(folder, run_s: float = 0.02, **options) -> Watched:
    tiny.add_captioner(folder / "repository", "endless", longest=24, ends=False, **options)
    return Watched(folder / "repository", run_s)


async def nothing_runs_on(engine: Watched, live) -> None:
    assert live.waiting_rows == 0
    runs = len(engine.runs)
    await asyncio.sleep(0.1)
    assert len(engine.runs) <= runs + 1, "at most what was being run is run to its end"
    assert max(engine.lengths[-1]) < 20, "it was not at its end"


@pytest.mark.parametrize("beams", [1, 4])
def test_a_deadline_that_passes_in_the_midst_of_a_caption_ends_it(tmp_path, beams):
    async def main():
        engine = watched(tmp_path)
        async with serving(tmp_path, engine) as live:
            headers = {"content-type": "image/png", "x-request-timeout-ms": "150"}
            started_s = time.monotonic()
            answer = await live.client.post(
                "/v1/caption", params={"num_beams": beams}, content=PICTURES["red"], headers=headers
            )
            assert (answer.status_code, answer.json()["code"]) == (504, "deadline_passed")
            assert time.monotonic() - started_s < 0.4
            assert len(engine.lengths) > 2
            await nothing_runs_on(engine, live)
            assert live.outcomes("endless") == {"ok": 0, "deadline_passed": 1}

    asyncio.run(main())


@pytest.mark.parametrize("beams", [1, 4])
def test_when_a_caller_leaves_the_steps_stop(tmp_path, beams):
    async def main():
        engine = watched(tmp_path)
        async with serving(tmp_path, engine) as live:
            connection = connect(live.url)
            connection.sendall(request_bytes(f"/v1/caption?num_beams={beams}", PICTURES["red"]))
            await until(lambda: len(engine.lengths) > 3, "some steps have run")
            reset(connection)
            await until(lambda: live.outcomes("endless").get("caller_left"), "it is noticed")
            await nothing_runs_on(engine, live)

    asyncio.run(main())


def test_a_batch_has_texts_of_different_callers_that_have_come_to_different_lengths(tmp_path):
    async def main():
        engine = watched(tmp_path, run_s=0.005)
        async with serving(tmp_path, engine) as live:

            async def late(seconds: float) -> None:
                await asyncio.sleep(seconds)
                answer = await live.client.post(
                    "/v1/caption", content=PICTURES["red"], headers={"content-type": "image/png"}
                )
                assert answer.json()["tokens"] == 24

            await asyncio.gather(*(late(0.01 * i) for i in range(8)))
        assert sum(map(len, engine.lengths)) == 8 * 24
        assert max(len(set(lengths)) for lengths in engine.lengths) >= 4
        assert len(engine.lengths) < 8 * 24 / 2

    asyncio.run(main())


def test_seconds_of_hypotheses_that_run_together_count_once(tmp_path):
    async def main():
        engine = watched(tmp_path, run_s=0.01)
        async with serving(tmp_path, engine) as live:
            began_s = time.monotonic()
            answer = await live.client.post(
                "/v1/caption?num_beams=8", content=PICTURES["red"], headers={"content-type": "image/png"}
            )
            took_ms = 1e3 * (time.monotonic() - began_s)
        stages = dict(stage.split(";dur=") for stage in answer.headers["server-timing"].split(", "))
        assert 25 * 10 <= float(stages["run"]) <= took_ms
        assert sum(map(float, stages.values())) <= took_ms

    asyncio.run(main())


def test_what_is_refused_under_overload_is_what_has_not_begun(tmp_path):
    """Else a full queue would throw away captions that are half done, and the more callers, the fewer answers."""

    async def main():
        engine = watched(tmp_path, run_s=0.002, queue_rows=8)
        async with serving(tmp_path, engine) as live:

            async def ask() -> int:
                headers = {"content-type": "image/png"}
                return (await live.client.post("/v1/caption", content=PICTURES["red"], headers=headers)).status_code

            statuses = []
            for _ in range(4):
                statuses += await asyncio.gather(*(ask() for _ in range(60)))
        assert set(statuses) == {200, 503}
        assert sum(map(len, engine.lengths)) == 24 * statuses.count(200), "no step was run for nobody"

    asyncio.run(main())
