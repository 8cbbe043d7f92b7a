"""The Open Inference Protocol apart from how it travels: what REST and gRPC both ask, as plain data.

A name is a graph's: `digits-cnn`, or `captioner.decoder` of a model that has several. Without a version the router
decides over inference, and all else is told of the stable version.
Source: https://github.com/kserve/open-inference-protocol and Triton's extensions of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as release
from typing import Any, Final

from serving.engine import Call, Engine, Statistics
from serving.errors import ModelNotFound, ParameterInvalid, TensorInvalid, TidegateError
from serving.pipeline import Inference, Pipeline
from serving.repository.config import ModelConfig, TensorSpec, fill_config
from serving.repository.layout import GraphKey
from serving.tensors import Tensors
from serving.versions.resident import Resident
from serving.versions.router import Router, Target

NAME: Final = "tidegate"
RELEASE: Final = release("tidegate")
EXTENSIONS: Final = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a graph takes and gives. Shapes have the batch axis, as -1, where the graph has one."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class OpenInference:
    """Answers for both transports. `ready`: whether the gateway wants requests."""

    def __init__(self, pipeline: Pipeline, router: Router, engine: Engine, ready: Callable[[], bool]) -> None:
        self.ready = ready
        self._pipeline = pipeline
        self._router = router
        self._engine = engine

    def is_ready(self, name: str, version: int | None) -> bool:
        """Whether the graph can answer now."""
        try:
            self._find(name, version)
        except TidegateError:
            return False
        return self._engine.available

    def metadata(self, name: str, version: int | None) -> Metadata:
        """What the graph takes and gives. ModelNotFound, VersionNotFound, ModelNotReady."""
        resident, role = self._find(name, version)
        graph, loaded = resident.version.graphs[role], resident.loaded[role]
        batched = graph.config.rules.max_batch_size > 0
        numbers = sorted(one.version.number for one in self._router.residents(resident.version.model))
        return Metadata(
            name=graph.key.name,
            versions=tuple(map(str, numbers)),
            platform=graph.config.platform,
            inputs=tuple(_whole(spec, batched) for spec in loaded.inputs),
            outputs=tuple(_whole(spec, batched) for spec in loaded.outputs),
        )

    def config(self, name: str, version: int | None) -> ModelConfig:
        """The graph's configuration, a message of Triton's, with what its file leaves to the model."""
        resident, role = self._find(name, version)
        loaded = resident.loaded[role]
        return fill_config(resident.version.graphs[role].config, loaded.inputs, loaded.outputs)

    async def statistics(self, name: str = "", version: int | None = None) -> list[tuple[GraphKey, Statistics]]:
        """What became of requests, for each loaded version of the graph, or for one; without a name for all graphs."""
        if name:
            self._find(name, version)
        model = name.partition(".")[0] or None
        keys = [
            graph.key
            for resident in self._router.residents(model)
            for graph in resident.version.graphs.values()
            if version in (None, resident.version.number) and name in ("", graph.key.name)
        ]
        return [(key, await self._engine.statistics(key)) for key in keys]

    async def infer(
        self,
        name: str,
        version: int | None,
        inputs: Tensors,
        wanted: Sequence[str] | None,
        call: Call,
        *,
        sticky: bytes = b"",
    ) -> Inference:
        """One run on the caller's tensors. Gives the outputs that are wanted, in that order (None: all)."""
        owner, graph = _split(name)
        inference = await self._pipeline.infer(Target(owner, version, sticky=sticky), inputs, call, graph)
        if wanted is None or [*wanted] == [*inference.outputs]:
            return inference
        for one in wanted:
            if one not in inference.outputs:
                known = ", ".join(inference.outputs)
                raise TensorInvalid("The model has no output of a wanted name.", remedy=f"It has: {known}.")
        return replace(inference, outputs={one: inference.outputs[one] for one in wanted})

    def _find(self, name: str, version: int | None) -> tuple[Resident, str]:
        owner, graph = _split(name)
        resident = self._router.resolve(Target(owner, version, label=None if version else "stable"), None)
        return resident, resident.role(graph)


def _split(name: str) -> tuple[str, str]:
    """The model that a name is of, and the name itself if it is a graph's. ModelNotFound for one that is of none."""
    owner, dot, _ = name.partition(".")
    if not owner:  # to the router that would mean the default
        raise ModelNotFound("A model's name is missing.", remedy="GET /v2/models/stats lists those that are loaded.")
    return owner, name if dot else ""


def priority_of(parameters: Mapping[str, Any]) -> int:
    """Triton's `priority` parameter: 1 is the most urgent, 0 the model's default."""
    return _whole_number(parameters, "priority")


def timeout_of(parameters: Mapping[str, Any]) -> float | None:
    """Triton's `timeout` parameter, which is in microseconds, as seconds; None without one."""
    return _whole_number(parameters, "timeout") / 1e6 or None


def _whole_number(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ParameterInvalid(f"{name} is not a whole number from 0.")
    return value


def _whole(spec: TensorSpec, batched: bool) -> TensorSpec:
    return replace(spec, shape=(-1, *spec.shape)) if batched else spec
