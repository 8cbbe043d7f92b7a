"""Graphs inside of a graph, which loops run: they do not tell either where they were made."""

import re

import numpy as np
import onnx
import torch

from exporters.nms import keep_best
from exporters.to_onnx import export
from serving.repository.config import TensorSpec
from serving.task import Signature


def test_nothing_inside_of_a_loop_tells_where_or_with_what_it_was_made():
    class Survivors(torch.nn.Module):
        def forward(self, rivals, valid):
            return keep_best(rivals, valid)

    signature = Signature(
        inputs=(TensorSpec("rivals", "BOOL", (-1, -1)), TensorSpec("valid", "BOOL", (-1,))),
        outputs=(TensorSpec("kept", "BOOL", (-1,)),),
    )
    rivals = np.triu(np.ones((2, 4, 4), np.bool_), 1)
    graph = export(Survivors(), signature, {"rivals": rivals, "valid": np.ones((2, 4), np.bool_)})
    nodes = onnx.load_from_string(graph).graph.node
    (loop,) = [node for node in nodes if node.op_type == "Loop"]
    inner = next(attribute.g for attribute in loop.attribute if attribute.HasField("g"))
    assert not re.search(rb"/root|/home|/tmp|/work|\.py|site-packages|torch|File \"", graph)
    names = [node.name for node in (*nodes, *inner.node)]
    assert len(set(names)) == len(names)
