"""What is told of the server and its graphs, as the protocol's messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tritonclient.grpc import service_pb2 as pb

from serving.engine import Statistics
from serving.gateway.open_inference import EXTENSIONS, NAME, RELEASE, Metadata
from serving.repository.config import TensorSpec
from serving.repository.layout import GraphKey

ON_ANOTHER_PORT: Final = "model_repository"  # the extension that only the admin port has


def server_message() -> Any:
    """The ServerMetadataResponse."""
    extensions = [one for one in EXTENSIONS if one != ON_ANOTHER_PORT]
    return pb.ServerMetadataResponse(name=NAME, version=RELEASE, extensions=extensions)


def metadata_message(found: Metadata) -> Any:
    """The ModelMetadataResponse."""
    return pb.ModelMetadataResponse(
        name=found.name,
        versions=found.versions,
        platform=found.platform,
        inputs=[_spec(one) for one in found.inputs],
        outputs=[_spec(one) for one in found.outputs],
    )


def statistics_message(found: Sequence[tuple[GraphKey, Statistics]]) -> Any:
    """The ModelStatisticsResponse. What is not measured apart, copying in and out and the cache, has no time."""
    return pb.ModelStatisticsResponse(model_stats=[_statistics(key, one) for key, one in found])


def _spec(spec: TensorSpec) -> Any:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def _statistics(key: GraphKey, one: Statistics) -> Any:
    answered = one.answered
    return pb.ModelStatistics(
        name=key.name,
        version=str(key.version),
        last_inference=int(one.last * 1000),
        inference_count=one.rows,
        execution_count=one.runs,
        inference_stats=pb.InferStatistics(
            success=_duration(answered, one.queue_s + one.run_s),
            fail=_duration(one.failed, one.failed_s),
            queue=_duration(answered, one.queue_s),
            compute_input=_duration(answered),
            compute_infer=_duration(answered, one.run_s),
            compute_output=_duration(answered),
            cache_hit=_duration(0),
            cache_miss=_duration(0),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=rows,
                compute_input=_duration(runs),
                compute_infer=_duration(runs, seconds),
                compute_output=_duration(runs),
            )
            for rows, (runs, seconds) in one.batches.items()
        ],
    )


def _duration(count: int, seconds: float = 0.0) -> Any:
    return pb.StatisticDuration(count=count, ns=round(seconds * 1e9))
