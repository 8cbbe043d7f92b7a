"""What every task must be: everything that is made from a task is made from what is checked here."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import tiny
from pydantic import ValidationError

from serving import plugins
from serving.engine import check_inputs
from serving.errors import InvalidInput, OutputInvalid, RepositoryInvalid
from serving.repository.layout import scan
from serving.task import FOLDER, Parameters, Reply, Request, Task

TASKS = {name: plugins.find(FOLDER, name, "PLUGIN") for name in plugins.names(FOLDER)}
each = pytest.mark.parametrize(("name", "task"), TASKS.items(), ids=TASKS.keys())


def versions_of(root, verb: str):
    """A tiny version of each task; a new task adds its own here, or to tests/tiny.py."""
    if verb == "classify":
        tiny.add_classifier(root, verb)
    elif verb == "embed":
        tiny.add_embedder(root, verb)
    elif verb == "caption":
        tiny.add_captioner(root, verb)
    elif verb == "generate-images":
        tiny.add_diffusion(root, verb)
    else:
        assert verb in ("detect", "segment"), f"tests/contract/test_tasks.py has no tiny model for {verb} yet"
        tiny.add_dark(root, verb)
    return scan(root).models[verb].versions[1]


class Steps:
    """Each step at once, on the engine."""

    watcher = None

    def __init__(self, engine, graphs) -> None:
        self.engine, self.graphs = engine, graphs

    async def pre(self, function):
        return function()

    async def run(self, role, inputs):
        return (await self.engine.run(self.graphs[role].key, inputs)).outputs

    def post(self, function):
        return function()

    async def post_aside(self, function):
        return function()


@each
def test_says_what_it_is(name, task):
    assert issubclass(task, Task)
    assert task.verb == name
    assert task.summary
    assert task.__doc__
    assert issubclass(task.parameters, Parameters)
    assert issubclass(task.reply, Reply)
    for parameter, field in task.parameters.model_fields.items():
        assert field.description, f"{parameter} is described"
        assert not field.is_required(), f"{parameter} may be left out"


@each
def test_its_example_is_a_request_and_a_reply(name, task):
    example = task.example()
    assert example.payload
    assert example.kind in task.payloads
    task.parameters.model_validate(dict(example.parameters))
    task.reply.model_validate(dict(example.reply))


@each
def test_its_example_goes_the_whole_way(bench, name, task):
    bound = task(versions_of(bench.root, name))
    graphs = scan(bench.root).models[bound.model].versions[1].graphs

    async def main():
        async with bench.engine() as engine:
            for graph in graphs.values():
                await engine.load(graph, [])
            return await bound.answer(bound.sample(), Steps(engine, graphs))

    reply = asyncio.run(main())
    assert (reply.model, reply.version) == (bound.model, 1)
    task.reply.model_validate(reply.model_dump())
    assert bound.agreement(reply, reply) == 1
    for features in (bound.features(bound.sample(), bound.encode(bound.sample())), bound.outcome(reply)):
        assert all(isinstance(value, str) or np.isfinite(value) for value in features.values())
    assert bound.features(bound.sample(), bound.encode(bound.sample())), "there is something to see drift in"
    assert all(feature.startswith("reply_") for feature in bound.outcome(reply))


@each
def test_its_tensors_are_those_of_its_signature(tmp_path, name, task):
    bound = task(versions_of(tmp_path, name))
    rows = bound.warm_up()
    assert set(rows) == set(task.signatures), "each graph is warmed up"
    for role, row in rows.items():
        check_inputs(row, task.signatures[role].inputs, batched=True)
        assert {len(array) for array in row.values()} == {1}


@each
def test_its_signature_gives_what_its_tiny_model_gives(tmp_path, name, task):
    version = versions_of(tmp_path, name)
    for role, signature in task.signatures.items():
        config = version.graphs[role].config
        for stated, found in ((signature.inputs, config.inputs), (signature.outputs, config.outputs)):
            assert [(spec.name, spec.datatype) for spec in stated] == [(spec.name, spec.datatype) for spec in found]
            assert [len(spec.shape) for spec in stated] == [len(spec.shape) for spec in found]


@pytest.mark.parametrize("payload", [b"", b"\0" * 100, b"{}", b"GIF89a"], ids=["none", "zeros", "JSON", "half a GIF"])
@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if "image" in task.payloads])
def test_what_is_no_picture_is_the_callers_mistake(tmp_path, name, payload):
    task = TASKS[name]
    bound = task(versions_of(tmp_path, name))
    with pytest.raises(InvalidInput):
        bound.encode(Request(payload, task.parameters()))


@each
def test_it_refuses_parameters_that_it_does_not_know(name, task):
    with pytest.raises(ValidationError, match="extra_forbidden"):
        task.parameters.model_validate({"no_such_parameter": 1})


@each
def test_a_version_without_its_graphs_is_refused(tmp_path, name, task):
    version = versions_of(tmp_path, name)
    folder = version.folder
    tiny.write_classifier_manifest(folder, task=name, graphs={"other": version.model})
    with pytest.raises(RepositoryInvalid) as caught:
        task(scan(tmp_path).models[version.model].versions[1])
    assert caught.value.field == "graphs"


def classifier(root, **changes):
    folder = tiny.add_classifier(root)
    tiny.write_classifier_manifest(folder, **changes)
    return TASKS["classify"](scan(root).models["colours"].versions[1])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"labels": None}, "labels"),
        ({"preprocessing": {"resize": None}}, "preprocessing.size"),
        ({"preprocessing": {"resize": None, "size": 8, "mean": 0.5}}, "preprocessing.mean"),
        ({"labels": "lables.txt"}, "labels"),
        ({"labels": "model.onnx"}, "labels"),
    ],
    ids=["no labels", "half a preprocessing", "an unknown key", "labels that are not there", "labels that are no text"],
)
def test_classify_names_what_is_wrong_with_a_manifest(tmp_path, changes, field):
    with pytest.raises(RepositoryInvalid) as caught:
        classifier(tmp_path, **changes)
    assert (caught.value.file, caught.value.field) == ("colours/1/manifest.json", field)


@pytest.mark.parametrize(
    ("scores", "top_k", "labels"),
    [
        ([0.2, 0.5, 0.3], 2, ["green", "blue"]),
        ([0.2, 0.5, 0.3], 3, ["green", "blue", "red"]),
        ([0.2, 0.5, 0.3], 1000, ["green", "blue", "red"]),
        ([0.4, 0.2, 0.4], 1, ["red"]),
        ([0.3, 0.3, 0.4], 2, ["blue", "red"]),
        ([0.3, 0.3, 0.3], 3, ["red", "green", "blue"]),
    ],
    ids=["two", "all", "more than there are", "equal: by place", "equal at the cut", "all equal"],
)
def test_classify_gives_the_most_probable_first(tmp_path, scores, top_k, labels):
    task = classifier(tmp_path)
    request = Request(b"", task.parameters(top_k=top_k))
    reply = task.decode({"probabilities": np.array([scores], np.float32)}, request)
    assert [prediction.label for prediction in reply.predictions] == labels
    assert [prediction.class_id for prediction in reply.predictions] == [tiny.COLOURS.index(one) for one in labels]
    assert [prediction.score for prediction in reply.predictions] == sorted(
        (prediction.score for prediction in reply.predictions), reverse=True
    )


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([0.5, 0.5], "2 scores for 3 labels"),
        ([0.2, 0.2, 0.2, 0.4], "4 scores for 3 labels"),
        ([np.nan, 0.5, 0.5], "not finite"),
        ([0.5, np.inf, 0.5], "not finite"),
    ],
    ids=["too few", "too many", "not a number", "infinite"],
)
def test_classify_does_not_answer_with_scores_that_cannot_be_used(tmp_path, scores, said):
    task = classifier(tmp_path)
    with pytest.raises(OutputInvalid, match=said):
        task.decode({"probabilities": np.array([scores], np.float32)}, Request(b"", task.parameters()))


def test_classify_keeps_scores_between_0_and_1_where_rounding_left_them_outside(tmp_path):
    task = classifier(tmp_path)
    scores = np.array([[1.0000001, -1e-9, 0.0]], np.float32)
    reply = task.decode({"probabilities": scores}, Request(b"", task.parameters()))
    assert [prediction.score for prediction in reply.predictions] == [1.0, 0.0, 0.0]
