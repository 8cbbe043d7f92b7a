"""From a folder to a version that can answer, and what becomes of those that cannot."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager

import numpy as np
import pytest
import tiny
from http_rig import until

from serving.engine import EngineOptions, Loaded
from serving.engines.fake import FakeEngine
from serving.engines.onnx import OnnxEngine
from serving.errors import EngineFailed, LedgerUnavailable, ModelNotReady, RepositoryInvalid
from serving.ledger import HEARTBEAT_S, LedgerOptions, Pointers
from serving.ledgers.file import FileLedger
from serving.repository.layout import SINGLE_GRAPH, scan
from serving.shadow import Tally
from serving.telemetry import Meters
from serving.threads import Threads
from serving.versions.catalog import ModelState, describe
from serving.versions.loader import Loader
from serving.versions.reconciler import Reconciler
from serving.versions.router import Router, Target
from serving.versions.transitions import seeded


class Recording(FakeEngine):
    """Notes what it was warmed up with; fails to load graphs of the names it is told."""

    def __init__(self, *failing: str) -> None:
        super().__init__()
        self.warm_ups: dict[str, list] = {}
        self.loaded: set[str] = set()
        self._failing = failing

    async def load(self, graph, warm_up, *, quietly: bool = False) -> Loaded:
        if graph.key.name in self._failing:
            raise EngineFailed("told to")
        self.warm_ups[graph.key.name] = list(warm_up)
        self.loaded.add(str(graph.key))
        return await super().load(graph, warm_up, quietly=quietly)

    async def unload(self, key) -> None:
        self.loaded.discard(str(key))
        await super().unload(key)


def load(root, model: str, engine, number: int = 1):
    return asyncio.run(Loader(engine, Meters()).load(scan(root).models[model].versions[number]))


def test_a_version_is_warmed_up_with_its_tasks_example_at_several_sizes(tmp_path):
    tiny.add_classifier(tmp_path)
    engine = Recording()
    resident = load(tmp_path, "colours", engine)
    sizes = [len(batch["pixels"]) for batch in engine.warm_ups["colours"]]
    assert sizes == [1, 2, 4, 8]
    first = engine.warm_ups["colours"][0]["pixels"]
    assert first.any(), "the example, not zeros"
    assert all((row == first[0]).all() for batch in engine.warm_ups["colours"] for row in batch["pixels"])
    assert resident.task.labels == tiny.COLOURS


@pytest.mark.parametrize(
    ("fields", "shapes"),
    [
        ({"max_batch_size": 3}, [(1, 1), (2, 1), (3, 1)]),
        ({"max_batch_size": 0}, [(1,)]),
        ({"max_batch_size": 1, "input": []}, []),
    ],
    ids=["sizes up to the largest", "no batch axis", "nothing is known of its inputs"],
)
def test_a_plain_model_is_warmed_up_with_zeros_as_it_states_its_inputs(tmp_path, fields, shapes):
    tiny.add_plain(tmp_path)
    inputs = fields.pop("input", [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}])
    tiny.write_config(tmp_path / "double/config.pbtxt", tiny.config("double", input=inputs, **fields))
    engine = Recording()
    resident = load(tmp_path, "double", engine)
    assert [batch["x"].shape for batch in engine.warm_ups["double"]] == shapes
    assert resident.task is None


def test_texts_are_warmed_up_with_empty_ones(tmp_path):
    tiny.add_plain(tmp_path)
    inputs = [{"name": "x", "data_type": "TYPE_STRING", "dims": [1]}]
    tiny.write_config(tmp_path / "double/config.pbtxt", tiny.config("double", input=inputs, max_batch_size=1))
    engine = Recording()
    load(tmp_path, "double", engine)
    assert engine.warm_ups["double"][0]["x"].tolist() == np.array([[b""]], np.object_).tolist()


def test_a_changed_file_is_found_before_anything_is_loaded(tmp_path):
    (tiny.add_classifier(tmp_path) / "labels.txt").write_text("a\nb\nc\n")
    engine = Recording()
    with pytest.raises(RepositoryInvalid, match=r"colours/1/labels\.txt"):
        load(tmp_path, "colours", engine)
    assert engine.loaded == set()


def test_labels_that_are_not_there_are_found_before_anything_is_loaded(tmp_path):
    tiny.write_classifier_manifest(tiny.add_classifier(tmp_path), labels="lables.txt")
    engine = Recording()
    with pytest.raises(RepositoryInvalid, match=r"colours/1/manifest\.json: labels: .*'lables.txt'"):
        load(tmp_path, "colours", engine)
    assert engine.loaded == set()


def test_warm_up_batches_really_run(tmp_path):
    """The embedded engine tells of each size what a row cost in it."""
    tiny.add_classifier(tmp_path, max_batch_size=5)

    async def main():
        threads = Threads(1, 0)
        engine = OnnxEngine(EngineOptions(threads))
        resident = await Loader(engine, Meters()).load(scan(tmp_path).models["colours"].versions[1])
        await engine.close()
        threads.close()
        return resident.loaded[SINGLE_GRAPH].row_costs_s

    assert set(asyncio.run(main())) == {1, 2, 4, 5}


def test_a_graph_that_no_task_warms_up_is_warmed_up_with_zeros(tmp_path):
    folder = tiny.add_classifier(tmp_path, "captioner")
    tiny.add_plain(tmp_path, "captioner.step")
    tiny.write_graphs_manifest(folder, {"model": "captioner", "step": "captioner.step"})
    engine = Recording()
    resident = load(tmp_path, "captioner", engine)
    assert engine.warm_ups["captioner"][0]["pixels"].any()
    assert [batch["x"].tolist() for batch in engine.warm_ups["captioner.step"]] == [[[0.0]] * n for n in (1, 2, 4, 8)]
    assert str(resident.key("step")) == "captioner.step/1"


def test_an_unknown_task_lists_those_that_exist(tmp_path):
    folder = tiny.add_classifier(tmp_path)
    tiny.write_classifier_manifest(folder, task="levitate")
    with pytest.raises(RepositoryInvalid, match=r"manifest\.json: task: expected one of .*classify"):
        load(tmp_path, "colours", Recording())


def test_when_one_graph_fails_none_stays_loaded(tmp_path):
    folder = tiny.add_classifier(tmp_path, "captioner")
    tiny.add_plain(tmp_path, "captioner.step")
    tiny.write_graphs_manifest(folder, {"model": "captioner", "step": "captioner.step"})
    version = scan(tmp_path).models["captioner"].versions[1]
    for failing in ("captioner", "captioner.step"):
        engine = Recording(failing)
        with pytest.raises(EngineFailed):
            asyncio.run(Loader(engine, Meters()).load(version))
        assert engine.loaded == set()


def test_unloading_waits_for_the_last_lease(tmp_path):
    tiny.add_classifier(tmp_path)

    async def main():
        engine = Recording()
        loader = Loader(engine, Meters())
        resident = await loader.load(scan(tmp_path).models["colours"].versions[1])
        with resident:
            unloading = asyncio.create_task(loader.unload(resident))
            await asyncio.sleep(0.01)
            assert engine.loaded == {"colours/1"}
        await unloading
        assert engine.loaded == set()

    asyncio.run(main())


@asynccontextmanager
async def started(root, state, engine):
    """A reconciler that has started, its router and its meters."""
    meters, router = Meters(), Router({})
    reconciler = Reconciler(root, FileLedger(LedgerOptions(state)), Loader(engine, meters), router)
    await reconciler.start()
    try:
        yield reconciler, router, meters
    finally:
        await reconciler.close()


def listed(reconciler) -> dict[str, ModelState]:
    return {state.name: state for state in reconciler.models(lambda *_: Tally()).models}


def test_each_models_stable_version_is_loaded_and_routed_to(tmp_path):
    root = tmp_path / "models"
    tiny.add_classifier(root, number=1)
    tiny.write_classifier_manifest(tiny.add_classifier(root, number=2), seed=True)
    tiny.add_plain(root)
    engine = Recording()
    ready = {"model": "colours", "version": "2"}

    async def main():
        async with started(root, tmp_path / "state", engine) as (reconciler, router, meters):
            assert engine.loaded == {"colours/2", "double/1"}
            assert router.resolve(Target(), "classify").version.name == "colours/2"
            states = listed(reconciler)
            assert (states["colours"].stable, states["colours"].versions, states["colours"].ready) == (2, [1, 2], True)
            assert states["colours"].card["licence"]["spdx"] == "Apache-2.0"
            assert (states["double"].task, states["double"].card) == (None, None)
            assert meters.registry.get_sample_value("tidegate_model_ready", ready) == 1
        assert engine.loaded == set()
        assert meters.registry.get_sample_value("tidegate_model_ready", ready) is None
        with pytest.raises(ModelNotReady):
            router.resolve(Target(), "classify")

    asyncio.run(main())


def test_a_newer_version_does_not_go_live_by_lying_there(tmp_path):
    root = tmp_path / "models"
    tiny.add_classifier(root, number=1)

    async def main():
        async with started(root, tmp_path / "state", Recording()):
            pass
        tiny.write_classifier_manifest(tiny.add_classifier(root, number=2), seed=True)
        async with started(root, tmp_path / "state", Recording()) as (_, router, _):
            assert router.resolve(Target(), "classify").version.number == 1

    asyncio.run(main())


class Buggy(Recording):
    async def load(self, graph, warm_up, *, quietly: bool = False) -> Loaded:
        if graph.key.name == "double":
            raise ZeroDivisionError
        return await super().load(graph, warm_up, quietly=quietly)


@pytest.mark.parametrize("failure", ["engine", "bug", "folder gone", "broken folder"])
def test_one_model_that_cannot_be_loaded_leaves_the_others(tmp_path, caplog, failure):
    root, state = tmp_path / "models", tmp_path / "state"
    tiny.add_classifier(root)
    tiny.add_plain(root)
    engine = {"engine": Recording("double"), "bug": Buggy()}.get(failure) or Recording()

    async def main():
        if failure == "folder gone":
            async with started(root, state, Recording()):
                pass
            (root / "double/1").rename(root / "double/2")
        if failure == "broken folder":
            (root / "double/1/model.onnx").unlink()
        async with started(root, state, engine) as (reconciler, router, _):
            assert reconciler.settled
            assert router.resolve(Target(), "classify").version.name == "colours/1"
            states = listed(reconciler)
            if failure == "broken folder":
                assert "double" not in states
            else:
                assert not states["double"].ready
                with pytest.raises(ModelNotReady):
                    router.resolve(Target("double"), None)

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert "double" in caplog.text


def test_closing_waits_for_the_requests_that_are_on_their_way(tmp_path):
    root = tmp_path / "models"
    tiny.add_classifier(root)
    tiny.add_plain(root)

    async def main():
        engine = Recording()
        async with started(root, tmp_path / "state", engine) as (reconciler, router, _):
            with router.resolve(Target("colours"), "classify"):
                closing = asyncio.create_task(reconciler.close())
                while engine.loaded != {"colours/1"}:
                    await asyncio.sleep(0.001)
                with pytest.raises(ModelNotReady):
                    router.resolve(Target("colours"), "classify")
                assert not closing.done()
            await closing
            assert engine.loaded == set()

    asyncio.run(main())


def test_before_the_start_nothing_is_known(tmp_path):
    router = Router({})
    ledger = FileLedger(LedgerOptions(tmp_path / "state"))
    reconciler = Reconciler(tmp_path, ledger, Loader(Recording(), Meters()), router)
    assert not reconciler.settled
    assert listed(reconciler) == {}
    with pytest.raises(ModelNotReady, match="still starting"):
        router.resolve(Target("colours"), None)


def test_the_ledger_and_not_the_repository_says_which_version_is_live(tmp_path):
    root, state = tmp_path / "models", tmp_path / "state"
    for number in (1, 2, 3):
        tiny.add_classifier(root, number=number)

    async def main():
        await FileLedger(LedgerOptions(state)).change(seeded({"colours": 2}))
        engine = Recording()
        async with started(root, state, engine) as (reconciler, router, _):
            assert engine.loaded == {"colours/2"}
            assert router.resolve(Target(), "classify").version.number == 2
            assert listed(reconciler)["colours"].stable == 2

    asyncio.run(main())


def test_a_live_version_that_is_gone_is_told_as_such(tmp_path):
    tiny.add_classifier(tmp_path, number=4)
    (state,) = describe(scan(tmp_path), {"colours": Pointers(stable=9)}, {}).models
    assert (state.stable, state.ready, state.card, state.versions) == (9, False, None, [4])


def test_without_pointers_the_catalog_says_where_a_model_would_start(tmp_path):
    tiny.add_classifier(tmp_path, number=4)
    (state,) = describe(scan(tmp_path), {}, {}).models
    assert (state.stable, state.ready) == (4, False)


# How many gateways there are


class Counting(FileLedger):
    """Notes how often its members were asked for; cannot be reached when it is told so."""

    def __init__(self, options: LedgerOptions) -> None:
        super().__init__(options)
        self.asked = 0
        self.reachable = True

    async def members(self):
        self.asked += 1
        if not self.reachable:
            raise LedgerUnavailable("It is away.")
        return await super().members()


def test_gateways_know_how_many_they_are(tmp_path):
    """Those who come and go are seen with the next heartbeat; while the ledger is away the last number stays."""
    root, ledger = tmp_path / "models", Counting(LedgerOptions(tmp_path / "state"))
    tiny.add_plain(root)

    async def main():
        one = Reconciler(root, ledger, Loader(Recording(), Meters()), Router({}))
        assert one.gateways == 1
        await one.start()
        async with started(root, tmp_path / "state", Recording()) as (other, _, _):
            await until(lambda: (one.gateways, other.gateways) == (2, 2), "they have met")
            ledger.reachable = False
            asked = ledger.asked
        await until(lambda: ledger.asked > asked + 1, "it was asked in vain")
        assert one.gateways == 2
        ledger.reachable = True
        await until(lambda: one.gateways == 1, "the other one left")
        await one.close()

    asyncio.run(main())


def test_news_do_not_make_gateways_count_each_other(tmp_path):
    root, ledger = tmp_path / "models", Counting(LedgerOptions(tmp_path / "state"))
    tiny.add_plain(root)

    async def main():
        reconciler = Reconciler(root, ledger, Loader(Recording(), Meters()), Router({}))
        await reconciler.start()
        begun_s = time.monotonic()
        while time.monotonic() < begun_s + HEARTBEAT_S / 2:
            await reconciler.refresh()  # news
            await asyncio.sleep(0.005)
        assert 1 <= ledger.asked <= 2
        await reconciler.close()

    asyncio.run(main())
