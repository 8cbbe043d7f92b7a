"""POST /v2/models/.../infer: the Open Inference Protocol, for callers who bring tensors, in JSON or as bytes behind it.

Source: https://github.com/kserve/open-inference-protocol, and Triton's extension of it for binary data:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from serving.codecs.tensor_body import Asked, read_body, write_body
from serving.deadline import by_deadline
from serving.engine import Call
from serving.errors import BodyInvalid, BodyTooLarge
from serving.gateway.compression import LEAST_ANSWER, accepted, compressed, read_unfolded
from serving.gateway.departure import Presence
from serving.gateway.direct import DirectRoute
from serving.gateway.errors import protocol_error
from serving.gateway.http import JSON, Inbound, Outbound, deadline_of
from serving.gateway.open_inference import OpenInference, priority_of, timeout_of
from serving.gateway.payload import read_json, read_version, sticky_of
from serving.gateway.routes.v1 import identity_headers
from serving.gateway.traffic import Endpoint, Traffic
from serving.threads import Threads

PATHS: Final = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
STATUSES: Final = (400, 401, 403, 404, 413, 415, 429, 503, 504)
JSON_HAS: Final = "Tensors in JSON have"
NOTHING: Final = memoryview(b"")
BINARY: Final = b"application/octet-stream"
JSON_LENGTH: Final = b"inference-header-content-length"
SIDE: Final = 32
# A thick upright stroke, for the committed digits-cnn: a 1.
STROKE: Final = [255 if 14 <= i % SIDE < 18 and 4 <= i // SIDE < 28 else 0 for i in range(SIDE * SIDE)]
EXAMPLE: Final = {
    "inputs": [{"name": "pixels", "shape": [1, SIDE, SIDE, 1], "datatype": "UINT8", "data": STROKE}],
    "outputs": [{"name": "probabilities"}],
}
DESCRIPTION: Final = (
    "Tensors stand in the JSON, or as little-endian bytes behind it, in the order of the inputs that have"
    " `parameters.binary_data_size`; then `Inference-Header-Content-Length` is the length of the JSON, before"
    " compression. Outputs with `parameters.binary_data` come back likewise. Bodies may be compressed with gzip or"
    " deflate."
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes of a whole request, bytes of its JSON, and the longest it may take."""

    body: int
    json: int
    request_s: float


def infer_routes(protocol: OpenInference, traffic: Traffic, threads: Threads, bounds: Bounds) -> list[DirectRoute]:
    """POST .../infer, with and without a version in the path."""
    handler = _Inference(protocol, traffic.presence, threads, bounds)
    return [
        DirectRoute(
            path,
            Endpoint(path, handler, traffic, protocol_error),
            need="predict",
            methods=["POST"],
            name="infer",
            operation_id=f"infer_{i}",
            summary="Run a model on tensors" if i == 0 else "Run one version of a model on tensors",
            description=DESCRIPTION,
            tags=["Open Inference Protocol"],
            responses={
                200: {
                    "description": "Output tensors.",
                    "content": {"application/json": {"example": _example_reply()}, BINARY.decode(): {}},
                },
                **{status: {"description": 'An error, as {"error": "..."}.'} for status in STATUSES},
            },
            openapi_extra={
                "parameters": [
                    *(
                        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "example": value}
                        for name, value in (("model", "digits-cnn"), ("version", "1"))
                        if f"{{{name}}}" in path
                    ),
                    {
                        "name": "Inference-Header-Content-Length",
                        "in": "header",
                        "description": "Bytes of JSON, where raw tensors follow it.",
                        "schema": {"type": "integer", "minimum": 1},
                    },
                ],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"example": EXAMPLE},
                        BINARY.decode(): {"schema": {"type": "string", "format": "binary"}},
                    },
                },
            },
        )
        for i, path in enumerate(PATHS)
    ]


class _Inference:
    """The handler. Tensors are views of the body from here to the engine."""

    def __init__(self, protocol: OpenInference, presence: Presence, threads: Threads, bounds: Bounds) -> None:
        self._protocol = protocol
        self._presence = presence
        self._threads = threads
        self._bounds = bounds

    async def __call__(self, request: Inbound) -> Outbound:
        deadline_s = deadline_of(request.headers, self._bounds.request_s)
        asked = await by_deadline(deadline_s, self._read(request))
        if timeout_s := timeout_of(asked.parameters):
            deadline_s = min(deadline_s, time.monotonic() + timeout_s)
        path = request.path_parameters
        run = self._protocol.infer(
            path["model"],
            read_version(path["version"]) if "version" in path else None,
            asked.inputs,
            asked.wanted.names,
            Call(deadline_s, priority_of(asked.parameters), request_id=request.request_id, trace=request.trace),
            sticky=sticky_of(request),
        )
        inference = await self._presence.hold(request.receive, run)
        reply = {"model_name": inference.graph, "model_version": str(inference.version)}
        if asked.id is not None:
            reply["id"] = asked.id
        body, json_length = write_body(reply, inference.outputs, asked.wanted)
        headers = identity_headers(inference.graph.partition(".")[0], inference.version, inference.stages)
        if json_length is not None:
            headers += ((JSON_LENGTH, b"%d" % json_length),)
        if len(body) >= LEAST_ANSWER and (encoding := accepted(request)):
            body = await compressed(body, encoding, self._threads)
            headers += ((b"content-encoding", encoding),)
        media_type = JSON if json_length is None else BINARY
        return Outbound(body, media_type=media_type, headers=headers, afterwards=inference.afterwards)

    async def _read(self, request: Inbound) -> Asked:
        length = _json_length(request)
        whole = length is None  # the body is JSON to its end
        bounds = self._bounds
        if length is not None and length > bounds.json:
            raise _too_large(JSON_HAS, bounds.json)
        try:
            body = await read_unfolded(request, bounds.json if whole else bounds.body, self._threads)
        except BodyTooLarge:
            raise (_too_large(JSON_HAS, bounds.json) if whole else _too_large("A request has", bounds.body)) from None
        if length is None:
            return read_body(read_json(body), NOTHING)
        if length > len(body):
            detail = f"Inference-Header-Content-Length is {length}; the body has {len(body)} bytes."
            raise BodyInvalid(detail, remedy="It is the length of the JSON, before compression.")
        view = memoryview(body)
        return read_body(read_json(view[:length]), view[length:])


def _json_length(request: Inbound) -> int | None:
    text = request.headers.get(JSON_LENGTH)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 18:
        raise BodyInvalid(
            "Inference-Header-Content-Length is not a number of bytes.", remedy="It is the length of the JSON."
        )
    return int(text)


def _too_large(what: str, limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"{what} at most {limit:,} bytes.", remedy="Send fewer rows.")


def _example_reply() -> dict[str, Any]:
    scores = [0.0, 0.91, 0.01, 0.0, 0.02, 0.0, 0.0, 0.03, 0.03, 0.0]
    outputs = [{"name": "probabilities", "datatype": "FP32", "shape": [1, 10], "data": scores}]
    return {"model_name": "digits-cnn", "model_version": "1", "outputs": outputs}
