"""What is looked up at a scrape: graphs by Triton's names, padding, who is live and who follows, loads and memory."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import tiny
from http_rig import metrics, picture, serving
from versions_rig import FakeGate, TellingEngine

from serving.codecs.text import TextCodec, TextPreprocessing
from serving.engine import Statistics
from serving.ledger import Canary, Pointers
from serving.load_meters import LoadMeters, resident_bytes
from serving.repository.layout import GraphKey
from serving.scrape import TRITONS, Graphs, Live, roles
from serving.telemetry import Meters


def values(collector):
    return {(one.name, *one.labels.values()): one.value for family in collector.collect() for one in family.samples}


def test_graphs_are_told_as_triton_tells_its_own():
    one = Statistics(answered=3, failed=2, rows=7, runs=2, queue_s=0.5, run_s=0.25, waiting=4)
    assert values(Graphs(lambda: {GraphKey("m.text", 5): one})) == {
        ("nv_inference_request_success", "m.text", "5"): 3,
        ("nv_inference_request_failure", "m.text", "5"): 2,
        ("nv_inference_count", "m.text", "5"): 7,
        ("nv_inference_exec_count", "m.text", "5"): 2,
        ("nv_inference_request_duration_us", "m.text", "5"): 750_000,
        ("nv_inference_queue_duration_us", "m.text", "5"): 500_000,
        ("nv_inference_compute_infer_duration_us", "m.text", "5"): 250_000,
        ("nv_inference_pending_request_count", "m.text", "5"): 4,
    }


def test_their_names_are_tritons_to_the_letter():
    """A counter of the client library would be named ..._total."""
    meters = Meters()
    meters.registry.register(Graphs(lambda: {GraphKey("m", 1): Statistics(answered=3)}))
    lines = meters.exposition().decode().splitlines()
    for name in TRITONS:
        assert any(line.startswith(f'{name}{{model="m",version="1"}} ') for line in lines), name


@pytest.mark.parametrize(
    ("pointers", "expected"),
    [
        (Pointers(stable=1), {"stable": 1}),
        (Pointers(stable=3, stack=(1, 2)), {"stable": 3, "previous": 2}),
        (Pointers(stable=1, canary=Canary(version=2, percent=5)), {"stable": 1, "canary": 2}),
        (Pointers(stable=1, shadow=4), {"stable": 1, "shadow": 4}),
    ],
)
def test_roles(pointers, expected):
    assert roles(pointers) == expected


def test_a_model_that_is_unloaded_has_nobody_live():
    assert values(Live(lambda: {"m": Pointers(stable=1, unloaded=True)})) == {}


def test_rows_of_text_say_how_much_of_them_is_padding():
    words = TextCodec(tiny.word_tokenizer(), TextPreprocessing(max_tokens=16, pad_to=4))
    words.encode("red red red red red")
    words.encode("blue")
    assert (words.positions.tokens, words.positions.padding) == (6, 6)


def test_loads_are_counted_by_how_they_ended():
    meters = Meters()
    loads = meters.loads
    with loads.timed("m"):
        pass
    with pytest.raises(OSError, match="no"), loads.timed("m"):
        raise OSError("no")
    with pytest.raises(asyncio.CancelledError), loads.timed("m"):
        raise asyncio.CancelledError
    value = meters.registry.get_sample_value
    assert value("tidegate_loads_total", {"model": "m", "outcome": "ok"}) == 1
    assert value("tidegate_loads_total", {"model": "m", "outcome": "failed"}) == 1
    assert value("tidegate_load_duration_seconds_count") == 1


def test_a_version_takes_what_the_process_grew_by_and_its_files_at_least():
    meters = Meters()
    loads: LoadMeters = meters.loads
    with loads.timed("m"):
        kept = b"x" * (64 << 20)  # written, so that it lies in RAM
    loads.taken("m", 1, 1000)
    with loads.timed("m"):
        pass
    loads.taken("m", 2, 1 << 40)
    value = meters.registry.get_sample_value
    assert 0.5 * len(kept) < value("tidegate_model_memory_bytes", {"model": "m", "version": "1"}) < resident_bytes()
    assert value("tidegate_model_memory_bytes", {"model": "m", "version": "2"}) == 1 << 40
    loads.gone("m", 2)
    assert value("tidegate_model_memory_bytes", {"model": "m", "version": "2"}) is None


def test_a_gateway_tells_all_of_it(tmp_path):
    """Requests, a canary that comes a model that cannot be loaded, and a text."""
    for number in (1, 2):
        tiny.add_classifier(tmp_path / "repository", number=number)
    tiny.add_plain(tmp_path / "repository", "broken")
    tiny.add_embedder(tmp_path / "repository")
    tiny.add_plain(tmp_path / "repository")
    engine = TellingEngine()
    engine.failing.add("broken/1")

    async def main():
        async with (
            serving(tmp_path, engine, {}, FakeGate()) as live,
            httpx.AsyncClient(base_url=live.admin_url) as admin,
        ):
            for _ in range(3):
                assert (await live.classify(picture())).is_success
            await live.client.post("/v1/embed", json={"text": "red red blue"})
            assert (await admin.post("/admin/models/colours/promote", json={"version": 2, "canary": 25})).is_success
            return {
                (one.name, *sorted(one.labels.values())): one.value
                for one in await asyncio.to_thread(metrics, live.admin_url)
            }

    found = asyncio.run(main())
    assert found["nv_inference_request_success", "1", "colours"] == 3
    assert found["nv_inference_count", "1", "colours"] == 3
    assert 1 <= found["nv_inference_exec_count", "1", "colours"] <= 3
    assert (
        found["nv_inference_request_duration_us", "1", "colours"]
        >= (found["nv_inference_compute_infer_duration_us", "1", "colours"])
    )
    assert found["nv_inference_pending_request_count", "1", "colours"] == 0
    assert found["tidegate_live_version", "colours", "stable"] == 1
    assert found["tidegate_live_version", "canary", "colours"] == 2
    assert found["tidegate_canary_percent", "colours"] == 25
    assert found["tidegate_canary_percent", "embed"] == 0
    assert found["tidegate_loads_total", "colours", "ok"] == 2
    assert found["tidegate_loads_total", "broken", "failed"] >= 1
    assert found["tidegate_model_memory_bytes", "2", "colours"] >= 100
    assert found["tidegate_token_positions_total", "1", "embed"] >= 3
    assert found["tidegate_padding_positions_total", "1", "embed"] >= 1
    assert (found["tidegate_gateways",], found["tidegate_gateways_behind",]) == (1, 0)
    assert found["process_resident_memory_bytes",] > 1 << 20
    assert found["process_cpu_seconds_total",] > 0


def test_a_gateway_that_follows_older_pointers_is_seen(tmp_path):
    from versions_rig import parts, publish

    from serving.ledger import Member

    publish(tmp_path / "repository", [1])

    async def main():
        rig = parts(tmp_path / "repository", tmp_path / "state")
        await rig.reconciler.start()
        await rig.ledger.announce(Member(id="late", revision=0))
        try:
            async with asyncio.timeout(10):
                while (rig.reconciler.gateways, rig.reconciler.behind) != (2, 1):
                    await asyncio.sleep(0.05)
        finally:
            await rig.reconciler.close()

    asyncio.run(main())
