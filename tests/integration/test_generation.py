"""Pictures drawn at the same time: whose steps meet, what that saves, and that nobody sees it in a picture."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import onnxruntime
import pytest
import tiny
import unet_rig
from http_rig import gateway_process, serving

from serving.engines.fake import FakeEngine
from serving.gateway.errors import IMAGES_PATH

RUN_S = 0.02
AS_MANY = 8  # rows that cost a GPU no more than one


class Watched(FakeEngine):
    """Runs the tiny graphs, at the price of a GPU. timesteps: of each of the network's batches, in order."""

    def __init__(self, repository, together: int = AS_MANY, run_s: float = RUN_S) -> None:
        super().__init__(service_s=lambda rows: run_s * math.ceil(rows / together), compute=self._look)
        self.timesteps: list[list[int]] = []
        self._sessions = {
            path.parts[-3]: onnxruntime.InferenceSession(path) for path in repository.glob("generate*/1/model.onnx")
        }

    def _look(self, key, inputs):
        if "timestep" in inputs:
            self.timesteps.append(inputs["timestep"].ravel().astype(int).tolist())
        session = self._sessions[key.name]
        return dict(zip([one.name for one in session.get_outputs()], session.run(None, dict(inputs)), strict=True))


async def ask(live, **fields) -> str:
    """A picture as base64."""
    answer = await live.client.post(IMAGES_PATH, json={"prompt": "a red disc", "seed": 3, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"][0]["b64_json"]


@pytest.mark.parametrize(
    ("guidance", "most_rows", "together"),
    [(1, 8, 8), (4, 16, 16), (4, 8, 8)],
    ids=["a row each", "two rows each, and batches of twice as many", "two rows each"],
)
def test_eight_at_once_are_much_faster_than_eight_in_a_row_where_a_batch_costs_what_a_row_does(
    tmp_path, guidance, most_rows, together
):
    async def main() -> float:
        tiny.add_diffusion(tmp_path / "repository", most_rows=most_rows)
        async with serving(tmp_path, Watched(tmp_path / "repository", together)) as live:
            orders = [{"guidance": guidance, "steps": 20, "seed": seed} for seed in range(8)]
            began_s = time.monotonic()
            alone = [await ask(live, **order) for order in orders]
            in_a_row_s = time.monotonic() - began_s
            began_s = time.monotonic()
            assert list(await asyncio.gather(*(ask(live, **order) for order in orders))) == alone
            return in_a_row_s / (time.monotonic() - began_s)

    # 16 rows in batches of 8 are two runs where eight in a row are eight.
    assert asyncio.run(main()) >= 5 * together / (8 if guidance == 1 else 16)


def test_a_batch_has_steps_of_different_callers_at_different_timesteps(tmp_path):
    async def main():
        tiny.add_diffusion(tmp_path / "repository", most_rows=16)
        engine = Watched(tmp_path / "repository", 16, 0.004)
        async with serving(tmp_path, engine) as live:

            async def late(i: int) -> None:
                await asyncio.sleep(0.012 * i)
                await ask(live, prompt=f"a {tiny.COLOURS[i % 3]} disc", guidance=(1, 2, 6)[i % 3], steps=25 + i)

            await asyncio.gather(*(late(i) for i in range(8)))
        return engine.timesteps

    batches = asyncio.run(main())
    rows = sum((25 + i) * (1 if i % 3 == 0 else 2) for i in range(8))
    assert sum(map(len, batches)) == rows
    assert max(len(set(batch)) for batch in batches) >= 6
    assert len(batches) <= 75, "somebody is alone at the beginning and at the end only"


def test_the_row_with_the_prompt_and_that_without_never_part(tmp_path):
    async def main():
        tiny.add_diffusion(tmp_path / "repository", most_rows=3)
        engine = Watched(tmp_path / "repository")
        async with serving(tmp_path, engine) as live:
            await asyncio.gather(*(ask(live, steps=5 + i) for i in range(4)))
        return engine.timesteps

    assert {len(batch) for batch in asyncio.run(main())} == {2}


def test_a_newcomer_joins_at_the_next_step(tmp_path):
    async def main():
        tiny.add_diffusion(tmp_path / "repository")
        engine = Watched(tmp_path / "repository", run_s=0.02)
        async with serving(tmp_path, engine) as live:
            first = asyncio.create_task(ask(live, steps=20))
            while len(engine.timesteps) < 5:
                await asyncio.sleep(0.001)
            await ask(live, steps=4)
            await first
        return engine.timesteps

    sizes = [len(batch) for batch in asyncio.run(main())]
    assert len(sizes) == 20, "none was run for the newcomer alone"
    begun = sizes.index(4)
    assert 5 <= begun <= 8
    assert sizes == [2] * begun + [4] * 4 + [2] * (16 - begun)


def test_the_meters_show_steps_that_share_batches(tmp_path):
    async def main():
        tiny.add_diffusion(tmp_path / "repository")
        async with serving(tmp_path, Watched(tmp_path / "repository", run_s=0.005)) as live:
            await asyncio.gather(*(ask(live, guidance=1, steps=20, seed=seed) for seed in range(8)))
            exposition = live.parts.meters.exposition().decode()
        found = {}
        for line in exposition.splitlines():
            if line.startswith("tidegate_batch_rows") and 'graph="generate-images"' in line:
                found[line.split("{")[0] + line.partition('le="')[2].partition('"')[0]] = float(line.split()[-1])
        return found

    found = asyncio.run(main())
    assert found["tidegate_batch_rows_sum"] == 160
    assert found["tidegate_batch_rows_count"] <= 30
    assert found["tidegate_batch_rows_bucket8.0"] - found["tidegate_batch_rows_bucket4.0"] >= 15


def test_what_has_begun_is_finished_though_queues_are_full(tmp_path):
    async def main() -> list[int]:
        tiny.add_diffusion(tmp_path / "repository", queue_rows=8)
        engine = Watched(tmp_path / "repository", run_s=0.002)
        async with serving(tmp_path, engine) as live:

            async def status() -> int:
                answer = await live.client.post(IMAGES_PATH, json={"prompt": "a red disc", "steps": 20})
                return answer.status_code

            statuses = await asyncio.gather(*(status() for _ in range(60)))
            assert sum(map(len, engine.timesteps)) == statuses.count(200) * 40, "no step was run for nobody"
            return statuses

    assert set(asyncio.run(main())) == {200, 503}


@pytest.mark.parametrize("side", [16, 20])
def test_a_picture_is_the_same_to_the_bit_whoever_is_drawn_beside_it(tmp_path, side):
    """A U-Net on the engine itself, at mixed steps, guidance, samplers and prompts."""
    unet_rig.add_unet(tmp_path / "repository", side=side, instances=2)
    orders = [
        {
            "prompt": f"a {tiny.COLOURS[i % 3]} disc", "guidance": (1, 3, 7.5)[i // 3 % 3], "steps": 6 + i, "seed": i,
            "sampler": ("ddim", "dpm-solver++", "ddpm")[i // 2 % 3],
        }
        for i in range(12)
    ]  # fmt: skip
    with gateway_process(tmp_path / "repository", tmp_path / "state") as gateway:
        alone = [drawn(gateway.url, order) for order in orders]
        before = rows_and_runs(gateway.url)
        for _ in range(2):
            with ThreadPoolExecutor(len(orders)) as pool:
                assert list(pool.map(lambda order: drawn(gateway.url, order), orders)) == alone
        rows, runs = (after - earlier for after, earlier in zip(rows_and_runs(gateway.url), before, strict=True))
    assert len(set(alone)) == len(orders)
    steps = 2 * sum(order["steps"] for order in orders)
    assert rows == 2 * sum(order["steps"] * (1 if order["guidance"] == 1 else 2) for order in orders)
    assert runs < 0.9 * steps, "steps did share batches"


def drawn(url: str, order) -> str:
    answer = httpx.post(f"{url}{IMAGES_PATH}", json=order, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"][0]["b64_json"]


def rows_and_runs(url: str) -> tuple[int, int]:
    """Of the network."""
    found = httpx.get(f"{url}/v2/models/generate-images/versions/1/stats").json()["model_stats"][0]
    return found["inference_count"], found["execution_count"]
