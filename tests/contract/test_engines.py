"""What every engine must do, on one tiny repository. What only one of them does is in tests/unit/engines."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import tiny
from tiny import add_loop, graph_of, turns

from serving import plugins
from serving.batching.admission import Admission
from serving.batching.batcher import Batcher
from serving.engine import FOLDER
from serving.errors import EngineFailed, ModelNotReady
from serving.repository.config import TensorSpec

ENGINES = plugins.names(FOLDER)
ROW = {"pixels": np.zeros((1, 8, 8, 3), np.uint8)}
SLOW_TURNS = 200_000  # of the graph `loop`: a tenth of a second


def test_loads_runs_and_unloads(bench):
    tiny.add_classifier(bench.root, instance_group=[{"count": 3}])
    graph = graph_of(bench.root)

    async def main():
        async with bench.engine() as engine:
            loaded = await engine.load(graph, [ROW])
            assert engine.available
            assert loaded.slots == 3
            assert loaded.inputs == (TensorSpec("pixels", "UINT8", (8, 8, 3)),)
            assert loaded.outputs == (TensorSpec("probabilities", "FP32", (3,)),)
            rng = np.random.default_rng(0)
            pixels = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
            run = await engine.run(graph.key, {"pixels": pixels})
            assert run.outputs["probabilities"].shape == (5, 3)
            assert run.batch_rows == 5
            assert run.run_s >= 0
            alone = [await engine.run(graph.key, {"pixels": pixels[i : i + 1]}) for i in range(5)]
            together = run.outputs["probabilities"]
            np.testing.assert_allclose(np.concatenate([one.outputs["probabilities"] for one in alone]), together, 1e-6)
            await engine.unload(graph.key)
            await engine.unload(graph.key)
            with pytest.raises(ModelNotReady):
                await engine.run(graph.key, ROW)

    asyncio.run(main())


def test_runs_that_meet_get_their_own_rows(bench):
    tiny.add_classifier(bench.root, instance_group=[{"count": 2}], dynamic_batching={})
    graph = graph_of(bench.root)
    rows = [{"pixels": np.full((1, 8, 8, 3), (i, 0, 255 - i), np.uint8)} for i in range(0, 250, 10)]

    async def main():
        async with bench.engine() as engine:
            await engine.load(graph, [])
            one_by_one = [(await engine.run(graph.key, row)).outputs["probabilities"] for row in rows]
            at_once = await asyncio.gather(*(engine.run(graph.key, row) for row in rows))
            for alone, run in zip(one_by_one, at_once, strict=True):
                np.testing.assert_allclose(run.outputs["probabilities"], alone, rtol=1e-6)

    asyncio.run(main())


@pytest.mark.parametrize("ending", ["unload", "close"])
def test_a_graph_goes_when_its_runs_have_ended_and_takes_none_meanwhile(bench, ending):
    add_loop(bench.root)
    graph = graph_of(bench.root, "loop")

    async def main():
        async with bench.engine() as engine:
            await engine.load(graph, [])
            release = bench.hold(engine)
            runs = [asyncio.create_task(engine.run(graph.key, turns(SLOW_TURNS))) for _ in range(2)]
            await asyncio.sleep(0)
            end = asyncio.create_task(engine.unload(graph.key) if ending == "unload" else engine.close())
            await asyncio.sleep(0)
            with pytest.raises(ModelNotReady):
                await engine.run(graph.key, turns(1))
            assert not end.done()
            release()
            await end
            assert [run.result().batch_rows for run in runs] == [1, 1]

    asyncio.run(main())


def test_what_was_let_go_can_be_loaded_again(bench):
    tiny.add_classifier(bench.root)
    graph = graph_of(bench.root)

    async def main():
        async with bench.engine() as engine:
            for _ in range(2):
                await engine.load(graph, [])
                await engine.run(graph.key, ROW)
                await engine.unload(graph.key)

    asyncio.run(main())


def test_versions_of_one_graph_stand_beside_each_other(bench):
    tiny.add_classifier(bench.root, number=1)
    tiny.add_classifier(bench.root, number=2, bias=9.0)
    first, second = (graph_of(bench.root, number=number) for number in (1, 2))

    async def main():
        async with bench.engine() as engine:
            await engine.load(first, [])
            await engine.load(second, [])
            one, two = [(await engine.run(graph.key, ROW)).outputs["probabilities"] for graph in (first, second)]
            if bench.name != "fake":  # which computes nothing
                assert two[0, 0] > one[0, 0], "each version answers with its own weights"
            await engine.unload(first.key)
            with pytest.raises(ModelNotReady):
                await engine.run(first.key, ROW)
            await engine.run(second.key, ROW)

    asyncio.run(main())


def test_versions_without_a_batch_axis_take_what_they_are_given(bench):
    add_loop(bench.root)
    graph = graph_of(bench.root, "loop")

    async def main():
        async with bench.engine() as engine:
            loaded = await engine.load(graph, [])
            run = await engine.run(graph.key, turns(2))
            if bench.name != "fake":
                assert loaded.inputs == (TensorSpec("n", "INT64", (1,)),), "as the model itself says"
                assert run.outputs["y"] == pytest.approx(np.sin(np.sin(1)))

    asyncio.run(main())


@pytest.mark.parametrize("wrapper", [Batcher, Admission])
def test_statistics_add_up_behind_what_wraps_the_engine(bench, wrapper):
    """The embedded ones are counted by the batcher, and Triton by itself."""
    if (wrapper is Admission) != (bench.name == "triton"):
        pytest.skip("is not wrapped so")
    tiny.add_classifier(bench.root, dynamic_batching={})
    graph = graph_of(bench.root)

    async def main():
        async with bench.engine() as inner:
            engine = Admission(inner) if wrapper is Admission else Batcher(inner, lambda _: None)
            await engine.load(graph, [])
            before = await engine.statistics(graph.key)
            assert (before.answered, before.rows, before.runs) == (0, 0, 0)
            for rows in (1, 3):
                await engine.run(graph.key, {"pixels": np.zeros((rows, 8, 8, 3), np.uint8)})
            async with asyncio.timeout(5):
                while (after := await engine.statistics(graph.key)).answered < 2:  # Triton counts a little later
                    await asyncio.sleep(0.01)
            assert (after.answered, after.rows, after.runs, after.failed) == (2, 4, 2, 0)
            assert {rows: runs for rows, (runs, _) in after.batches.items()} == {1: 1, 3: 1}
            assert after.run_s > 0 or bench.name == "fake"
            assert after.last > 1.7e9
            await engine.unload(graph.key)
            with pytest.raises(ModelNotReady):
                await engine.statistics(graph.key)

    asyncio.run(main())


def test_a_file_that_is_no_model_is_refused_with_no_path_in_the_words(bench):
    if bench.name == "fake":
        pytest.skip("reads no files")
    (tiny.add_plain(bench.root) / "model.onnx").write_bytes(b"not a model")
    graph = graph_of(bench.root, "double")

    async def main():
        async with bench.engine() as engine:
            with pytest.raises(EngineFailed) as caught:
                await engine.load(graph, [])
            assert str(bench.root) not in str(caught.value)
            with pytest.raises(ModelNotReady):
                await engine.run(graph.key, {"x": np.zeros((1, 1), np.float32)})

    asyncio.run(main())
