"""Triton's messages, to and from tensors and plain data.

Source: https://github.com/triton-inference-server/common/blob/main/protobuf/grpc_service.proto
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from google.protobuf import json_format
from tritonclient.grpc import service_pb2 as pb

from serving.codecs.tensor_binary import read_raw, write_raw
from serving.engine import Statistics
from serving.errors import EngineFailed
from serving.repository.config import GraphConfig, TensorSpec, fill_config
from serving.repository.layout import GraphKey
from serving.tensors import DTYPES, Array, Tensors, datatype


def infer_request(key: GraphKey, inputs: Tensors, priority: int) -> Any:
    """A ModelInferRequest, all tensors raw."""
    request = pb.ModelInferRequest(model_name=key.name, model_version=str(key.version))
    for name, values in inputs.items():
        request.inputs.add(name=name, datatype=datatype(values.dtype), shape=values.shape)
        request.raw_input_contents.append(write_raw(values))
    if priority:
        request.parameters["priority"].uint64_param = priority
    return request


def read_outputs(key: GraphKey, response: Any) -> dict[str, Array]:
    """The tensors of a ModelInferResponse, as views of its bytes. EngineFailed when it is not what was asked for."""
    outputs = response.outputs
    if len(response.raw_output_contents) != len(outputs):
        raise EngineFailed(f"{key.name} gave outputs without their data.")
    tensors = {}
    for output, raw in zip(outputs, response.raw_output_contents, strict=True):
        if output.datatype not in DTYPES:
            raise EngineFailed(f"{key.name} gave an output of an unknown type.")
        tensors[output.name] = read_raw(output.name, raw, output.datatype, tuple(output.shape))
    return tensors


def metadata_request(key: GraphKey) -> Any:
    return pb.ModelMetadataRequest(name=key.name, version=str(key.version))


def statistics_request(key: GraphKey) -> Any:
    return pb.ModelStatisticsRequest(name=key.name, version=str(key.version))


def unload_request(name: str) -> Any:
    """For all versions of a graph."""
    return pb.RepositoryModelUnloadRequest(model_name=name)


def load_request(config: GraphConfig, versions: Collection[int]) -> Any:
    """A RepositoryModelLoadRequest for exactly these versions of a graph.

    The whole configuration goes along: a load without one falls back to the version policy of the file. It states the
    runs at once, too, which Triton would otherwise choose for itself.
    """
    message = fill_config(config, config.inputs, config.outputs)
    message.version_policy.specific.versions[:] = sorted(versions)
    request = pb.RepositoryModelLoadRequest(model_name=config.name)
    text = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None)
    request.parameters["config"].string_param = text
    return request


def read_specs(tensors: Any, *, batched: bool) -> tuple[TensorSpec, ...]:
    """What ModelMetadata says of inputs or outputs; the batch axis, if there is one, is left out."""
    first = 1 if batched else 0
    return tuple(TensorSpec(one.name, one.datatype, tuple(one.shape)[first:]) for one in tensors)


def read_statistics(found: Any) -> Statistics:
    """A ModelStatistics of one version."""
    stats = found.inference_stats
    return Statistics(
        answered=stats.success.count,
        failed=stats.fail.count,
        rows=found.inference_count,
        runs=found.execution_count,
        queue_s=stats.queue.ns / 1e9,
        run_s=(stats.compute_input.ns + stats.compute_infer.ns + stats.compute_output.ns) / 1e9,
        failed_s=stats.fail.ns / 1e9,
        batches={
            int(one.batch_size): (one.compute_infer.count, one.compute_infer.ns / 1e9) for one in found.batch_stats
        },
        last=found.last_inference / 1e3,
    )
