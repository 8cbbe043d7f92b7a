"""A task's request out of an HTTP request: raw body, multipart part or base64 in JSON, with its parameters.

Parameters stand in the query, in form fields or in JSON keys; where one stands twice, the body's counts.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serving.errors import BodyInvalid, MediaTypeUnsupported, ParameterInvalid
from serving.gateway.http import Inbound
from serving.versions.router import Target

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS: Final = 64
MAX_PART_HEAD: Final = 8 * 1024
MAX_FIELD: Final = 64 * 1024  # of a form field that is not the payload
MAX_QUERY_FIELDS: Final = 64
VERSION: Final = re.compile(r"[1-9][0-9]{0,9}")
FORM_REMEDY: Final = "Let your HTTP library write the whole form and its Content-Type."
LABELS: Final = ("stable", "canary")


def read_payload(request: Inbound, body: bytes, part: str) -> tuple[bytes, dict[str, Any]]:
    """The payload's bytes and all parameters. `part`: the name of the payload's part or key, such as `image`."""
    fields: dict[str, Any] = read_query(request)
    header = request.headers.get(b"content-type", b"")
    media_type = header.partition(b";")[0].strip().lower()
    if not media_type or media_type.startswith(b"image/") or media_type == b"application/octet-stream":
        return body, fields
    if media_type == b"application/json":
        payload, given = _read_json(body, part)
    elif media_type == b"multipart/form-data":
        payload, given = _read_multipart(body, header, part)
    else:
        raise MediaTypeUnsupported(
            "This content type is not accepted here.",
            remedy=f"Send the {part} as the body with Content-Type: image/jpeg, as a multipart part named {part}, "
            f'or as base64 in JSON: {{"{part}": "..."}}.',
        )
    fields.update(given)
    return payload, fields


def read_query(request: Inbound) -> dict[str, Any]:
    """The query's parameters."""
    query: bytes = request.scope["query_string"]
    if not query:
        return {}
    try:
        return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS))
    except ValueError:
        detail = f"The query has more than {MAX_QUERY_FIELDS} parameters."
        raise ParameterInvalid(detail, remedy="Send fewer.") from None


def sticky_of(request: Inbound) -> bytes:
    """By what a canary tells callers apart: `Tidegate-Sticky`, such as a user's id, else the caller's key."""
    return request.headers.get(b"tidegate-sticky") or request.caller.encode()


def take_target(fields: dict[str, Any], sticky: bytes = b"") -> Target:
    """The model, version and label that the caller asked for, taken out of the fields."""
    model, version, label = fields.pop("model", None), fields.pop("version", None), fields.pop("label", None)
    if model is not None and (not isinstance(model, str) or not model):
        raise ParameterInvalid("model is not a name.", remedy="Leave it out for the default, or ask GET /v1/models.")
    if label is not None and label not in LABELS:
        raise ParameterInvalid("label is neither stable nor canary.", remedy="Leave it out to let the router decide.")
    return Target(model, None if version is None else read_version(version), label, sticky)


def read_version(value: object) -> int:
    """A version number; ParameterInvalid for anything but a whole number from 1."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not VERSION.fullmatch(text):
        raise ParameterInvalid("version is not a whole number of at least 1.", remedy="Ask GET /v1/models for them.")
    return int(text)


def read_json(body: bytes | memoryview) -> dict[str, Any]:
    """A JSON object. NaN, infinities, half surrogates and deep nesting are refused, as RFC 8259 has it."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        detail = f"The body is not JSON: {error.msg} at {error.pos}."
        raise BodyInvalid(detail, remedy="Send one JSON object, in UTF-8.") from None
    if not isinstance(value, dict):
        raise BodyInvalid("The body is not a JSON object.", remedy='It begins with "{".')
    return value


def _read_json(body: bytes, part: str) -> tuple[bytes, dict[str, Any]]:
    fields = read_json(body)
    text = fields.pop(part, None)
    if not isinstance(text, str):
        raise BodyInvalid(f"The JSON has no {part} of base64 text.", remedy=f'Send {{"{part}": "<base64>"}}.')
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True), fields
    except (binascii.Error, ValueError):
        remedy = "Encode the file's bytes as standard base64, with its padding and without line breaks."
        raise BodyInvalid(f"{part} is not base64.", remedy=remedy) from None


def _read_multipart(body: bytes, content_type: bytes, part: str) -> tuple[bytes, dict[str, Any]]:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary or len(boundary) > 70:  # RFC 2046, 5.1.1
        raise BodyInvalid("The content type has no boundary of 1 to 70 characters.", remedy=FORM_REMEDY)
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise BodyInvalid("The multipart body is damaged.", remedy=FORM_REMEDY) from None
    if not form.complete:
        raise BodyInvalid("The multipart body ends before its last boundary.", remedy=FORM_REMEDY)
    payload = form.parts.pop(part, None)
    if payload is None:
        raise BodyInvalid(f"The form has no part named {part}.", remedy=f"Name the file's part {part}.")
    return payload, {name: _text(value) for name, value in form.parts.items()}


def _text(value: bytes) -> str:
    if len(value) > MAX_FIELD:
        raise BodyInvalid(f"A form field has more than {MAX_FIELD:,} bytes.", remedy="Send less in it.")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ParameterInvalid("A form field is not UTF-8 text.", remedy="Encode it as UTF-8.") from None


class _Form:
    """Collects the parts of a multipart body by name; file names are never looked at."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}
        self.complete = False
        self._count = 0
        self._head: list[bytes] = []
        self._head_size = 0
        self._disposition = b""
        self._field = b""
        self._data: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header_end,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _begin(self) -> None:
        self._count += 1
        if self._count > MAX_PARTS:
            raise BodyInvalid(f"The form has more than {MAX_PARTS} parts.", remedy="Send fewer.")
        self._head_size, self._disposition, self._data = 0, b"", []

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_PART_HEAD:
            detail = f"A part's head has more than {MAX_PART_HEAD:,} bytes."
            raise BodyInvalid(detail, remedy="Give it shorter names.")

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._grow(end - start)
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._grow(end - start)
        self._head.append(data[start:end])

    def _on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = b"".join(self._head)
        self._field, self._head = b"", []

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def _on_part_end(self) -> None:
        name = parse_options_header(self._disposition)[1].get(b"name")
        if name is None:
            raise BodyInvalid(
                "A part of the form has no name.", remedy='Give it Content-Disposition: form-data; name="..."'
            )
        self.parts[name.decode(errors="replace")] = b"".join(self._data)

    def _on_end(self) -> None:
        self.complete = True
