"""A torch network as an ONNX file that holds its graph and its weights, and nothing of the machine that made it."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from serving.task import Signature
from serving.tensors import Tensors

if TYPE_CHECKING:
    import onnx

OPSET: Final = 18  # the oldest that torch's exporter writes natively
PRODUCER: Final = "tidegate"


def export(
    network: nn.Module, signature: Signature, example: Tensors, free_axes: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    """The network as ONNX, tensors named and ordered as in the signature, with a free batch axis.

    example: at least two rows, since an axis of length 1 would be taken for fixed. Sizes that the signature leaves
    free are fixed to the example's, but for axis 1 of the inputs in free_axes, by the axis' name: those of one name
    have one length. Batch norm and padding are folded into the convolutions by the exporter.
    """
    inputs = tuple(torch.from_numpy(example[spec.name]) for spec in signature.inputs)
    batch = torch.export.Dim("batch")
    free = [free_axes.get(spec.name) for spec in signature.inputs]
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network.eval(),
            inputs,
            dynamo=True,
            dynamic_shapes=tuple({0: batch, 1: torch.export.Dim(axis)} if axis else {0: batch} for axis in free),
            input_names=[spec.name for spec in signature.inputs],
            output_names=[spec.name for spec in signature.outputs],
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise TypeError("torch.onnx.export gave no program")
    _make_way(program.model.graph, {spec.name for spec in (*signature.inputs, *signature.outputs)})
    return serialise(program.model_proto)


def _make_way(graph: Any, taken: AbstractSet[str]) -> None:
    """Renames inner values that have a name of an input or output: torch calls what an Embedding gives `embedding`."""
    ends = {id(value) for value in (*graph.inputs, *graph.outputs)}
    made = [value for node in graph for value in node.outputs]
    for value in (*graph.initializers.values(), *made):
        if value.name in taken and id(value) not in ends:
            value.name = f"inner_{value.name}"


def serialise(model: onnx.ModelProto) -> bytes:
    """The model's bytes, checked and stripped of everything that says how, where and with what it was made."""
    from onnx import checker, helper

    strip(model)
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))  # so that older engines read it too
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def strip(model: onnx.ModelProto) -> None:
    """Removes stack traces, paths, documentation and inner shapes, and numbers the nodes anew, in place."""
    for part in _parts(model):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    model.producer_name, model.producer_version, model.domain, model.graph.name = PRODUCER, "", "", PRODUCER
    for graph in _graphs(model.graph):
        del graph.value_info[:]
    for i, node in enumerate(node for graph in _graphs(model.graph) for node in graph.node):
        node.name = f"{node.op_type}_{i}"


def _parts(model: onnx.ModelProto) -> Iterator[Any]:
    yield model
    for graph in _graphs(model.graph):
        yield graph
        for group in (graph.node, graph.initializer, graph.input, graph.output):
            yield from group
    yield from model.functions
    for function in model.functions:
        yield from function.node


def _graphs(graph: Any) -> Iterator[Any]:
    """The graph, and those inside it that its loops and branches run."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences what torch 2.13 says about itself during an export, and nothing else."""
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)  # torchvision is not installed, and is not needed
    with warnings.catch_warnings():
        # torch's own copies of its pytrees go through a name that it has deprecated.
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
        # Of several inputs, which share an axis.
        warnings.filterwarnings("ignore", message=r"# The axis name: \w+ will not be used", category=UserWarning)
        try:
            yield
        finally:
            registry.setLevel(level)
