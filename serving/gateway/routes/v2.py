"""/v2: the Open Inference Protocol, for callers who bring tensors. Inference with JSON tensors, on every model.

Source: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from serving.codecs.tensor_json import read_tensors, write_tensors
from serving.deadline import by_deadline
from serving.engine import Call
from serving.errors import BodyTooLarge, ParameterInvalid, TensorInvalid
from serving.gateway.body import read_body
from serving.gateway.departure import Presence
from serving.gateway.direct import DirectRoute
from serving.gateway.errors import protocol_error
from serving.gateway.http import Handler, Inbound, Outbound, deadline_of
from serving.gateway.payload import read_json, read_version, sticky_of
from serving.gateway.routes.v1 import identity_headers
from serving.gateway.traffic import Endpoint, Traffic
from serving.pipeline import Inference, Pipeline
from serving.versions.router import Target

PATHS: Final = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
STATUSES: Final = (400, 401, 403, 404, 413, 429, 503, 504)
SIDE: Final = 32
# A thick upright stroke, for the committed digits-cnn: a 1.
STROKE: Final = [255 if 14 <= i % SIDE < 18 and 4 <= i // SIDE < 28 else 0 for i in range(SIDE * SIDE)]
EXAMPLE: Final = {
    "inputs": [{"name": "pixels", "shape": [1, SIDE, SIDE, 1], "datatype": "UINT8", "data": STROKE}],
    "outputs": [{"name": "probabilities"}],
}


def infer_routes(pipeline: Pipeline, traffic: Traffic, json_limit: int, longest_s: float) -> list[DirectRoute]:
    """POST .../infer, with and without a version in the path."""
    handler = _infer_handler(pipeline, traffic.presence, json_limit, longest_s)
    return [
        DirectRoute(
            path,
            Endpoint(path, handler, traffic, protocol_error),
            need="predict",
            methods=["POST"],
            name="infer",
            operation_id=f"infer_{i}",
            summary="Run a model on tensors" if i == 0 else "Run one version of a model on tensors",
            tags=["Open Inference Protocol"],
            responses={
                200: {"description": "Output tensors.", "content": {"application/json": {"example": _example_reply()}}},
                **{status: {"description": 'An error, as {"error": "..."}.'} for status in STATUSES},
            },
            openapi_extra={
                "parameters": [
                    {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "example": value}
                    for name, value in (("model", "digits-cnn"), ("version", "1"))
                    if f"{{{name}}}" in path
                ],
                "requestBody": {"required": True, "content": {"application/json": {"example": EXAMPLE}}},
            },
        )
        for i, path in enumerate(PATHS)
    ]


def _infer_handler(pipeline: Pipeline, presence: Presence, json_limit: int, longest_s: float) -> Handler:
    async def handle(request: Inbound) -> Outbound:
        deadline_s = deadline_of(request.headers, longest_s)
        try:
            body = read_json(await by_deadline(deadline_s, read_body(request, json_limit)))
        except BodyTooLarge:
            raise BodyTooLarge(
                f"Tensors in JSON have at most {json_limit:,} bytes.", remedy="Send fewer rows."
            ) from None
        path = request.path_parameters
        version = path.get("version")
        number = None if version is None else read_version(version)
        target = Target(path["model"], number, sticky=sticky_of(request))
        inputs, wanted = read_tensors(body.get("inputs")), _wanted(body.get("outputs"))
        call = Call(deadline_s, _priority(body.get("parameters")))
        inference = await presence.hold(request.receive, pipeline.infer(target, inputs, call))
        return _reply(inference, wanted, body.get("id"))

    return handle


def _wanted(outputs: object) -> list[str] | None:
    if outputs is None or outputs == []:
        return None
    if not isinstance(outputs, list) or not all(
        isinstance(one, dict) and isinstance(one.get("name"), str) for one in outputs
    ):
        raise TensorInvalid("outputs is not a list of objects with a name.")
    names = [one["name"] for one in outputs]
    if len(set(names)) < len(names):  # or a small request could ask for a reply of any size
        raise TensorInvalid("outputs names one of them twice.")
    return names


def _priority(parameters: object) -> int:
    """Triton's `priority` parameter: 1 is the most urgent, 0 the model's default."""
    priority = parameters.get("priority", 0) if isinstance(parameters, Mapping) else 0
    if not isinstance(priority, int) or isinstance(priority, bool) or priority < 0:
        raise ParameterInvalid("priority is not a whole number from 0.")
    return priority


def _reply(inference: Inference, wanted: list[str] | None, request_id: object) -> Outbound:
    reply: dict[str, Any] = {
        "model_name": inference.model,
        "model_version": str(inference.version),
        "outputs": write_tensors(inference.outputs, wanted),
    }
    if isinstance(request_id, str):
        reply["id"] = request_id
    headers = identity_headers(inference.model, inference.version, inference.stages)
    body = orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)
    return Outbound(body, headers=headers, afterwards=inference.afterwards)


def _example_reply() -> dict[str, Any]:
    scores = [0.0, 0.91, 0.01, 0.0, 0.02, 0.0, 0.0, 0.03, 0.03, 0.0]
    outputs = [{"name": "probabilities", "datatype": "FP32", "shape": [1, 10], "data": scores}]
    return {"model_name": "digits-cnn", "model_version": "1", "outputs": outputs}
