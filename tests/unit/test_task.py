"""What every task inherits: binding to a version, the way from request to reply, warm-up from the example."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from serving.errors import RepositoryInvalid
from serving.repository.config import BatchRules, GraphConfig, TensorSpec
from serving.repository.layout import SINGLE_GRAPH, Graph, GraphKey, Version
from serving.task import Example, Parameters, Reply, Request, Signature, Task

X = TensorSpec("x", "INT64", ())


class Factor(Parameters):
    factor: int = 2


class Product(Reply):
    product: int


class Multiply(Task[Factor]):
    """A number as text, times the factor, by a graph that gives back what it gets."""

    verb = "multiply"
    summary = "Multiply"
    payloads = ("text",)
    parameters = Factor
    reply = Product
    signatures: ClassVar = {SINGLE_GRAPH: Signature((X,), (X,))}

    @classmethod
    def example(cls) -> Example:
        return Example(b"21", "text/plain", {"factor": "3"}, {"model": "m", "version": 1, "product": 63}, "text")

    def encode(self, request):
        return {"x": np.array([int(request.payload) * request.parameters.factor])}

    def decode(self, outputs, request):
        return Product(model=self.model, version=self.version, product=int(outputs["x"][0]))


def version(*roles: str) -> Version:
    config = GraphConfig("m", "onnxruntime", (), (), 1, None, BatchRules())
    graphs = {role: Graph(GraphKey("m", 7), Path("model.onnx"), config) for role in roles}
    return Version("m", 7, Path(), None, graphs)


class EchoSteps:
    """Steps that note themselves; graphs give back what they get."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def pre(self, function):
        self.done.append("pre")
        return function()

    async def run(self, graph, inputs):
        self.done.append(f"run {graph}")
        return inputs

    def post(self, function):
        self.done.append("post")
        return function()


def test_a_request_goes_through_its_steps_in_order():
    steps = EchoSteps()
    reply = asyncio.run(Multiply(version(SINGLE_GRAPH)).answer(Request(b"5", Factor(factor=4)), steps))
    assert reply == Product(model="m", version=7, product=20)
    assert steps.done == ["pre", "run model", "post"]


def test_warm_up_is_the_example_with_its_parameters():
    rows = Multiply(version(SINGLE_GRAPH)).warm_up()
    assert {role: row["x"].tolist() for role, row in rows.items()} == {SINGLE_GRAPH: [63]}


@pytest.mark.parametrize("roles", [(), ("encoder", "decoder")], ids=["no graph", "other graphs"])
def test_a_version_that_lacks_a_graph_is_refused(roles):
    with pytest.raises(RepositoryInvalid) as caught:
        Multiply(version(*roles))
    assert (caught.value.file, caught.value.field) == ("m/7/manifest.json", "graphs")
    assert "'model'" in caught.value.expected


def test_further_graphs_do_no_harm():
    assert Multiply(version(SINGLE_GRAPH, "extra")).version == 7


def test_parameters_cannot_be_changed_by_one_step_under_another():
    with pytest.raises(ValueError, match="frozen"):
        Factor().factor = 3
