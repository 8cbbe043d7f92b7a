"""A task's request out of an HTTP request: raw body, multipart part or JSON, with its parameters.

Parameters stand in the query, in form fields or in JSON keys; where one stands twice, the body's counts.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from serving.codecs.text import read_text
from serving.errors import BodyInvalid, MediaTypeUnsupported, ParameterInvalid
from serving.gateway.form import field_text, read_form
from serving.gateway.http import Inbound
from serving.versions.router import Target

MAX_QUERY_FIELDS: Final = 64
VERSION: Final = re.compile(r"[1-9][0-9]{0,9}")
LABELS: Final = ("stable", "canary")
TEXT: Final = "text"
RAW: Final = {"image": (b"image/", "image/jpeg"), TEXT: (b"text/plain", "text/plain")}  # a beginning, an example
JSON_VALUES: Final = {"image": '"<base64>"', TEXT: '"..."'}


def read_payload(request: Inbound, body: bytes, kinds: Sequence[str]) -> tuple[str, bytes, dict[str, Any]]:
    """The payload's kind, its bytes and all parameters. `kinds`: what it may be, `image` or `text`; the first unless
    the content type or the name of a part or key says another.
    """
    fields: dict[str, Any] = read_query(request)
    header = request.headers.get(b"content-type", b"")
    media_type = header.partition(b";")[0].strip().lower()
    if media_type == b"application/json":
        kind, payload, given = _read_json(body, kinds)
    elif media_type == b"multipart/form-data":
        kind, payload, given = _read_multipart(body, header, kinds)
    else:
        kind, payload, given = _kind_of(media_type, kinds), body, {}
    if kind == TEXT:
        read_text(payload)
    return kind, payload, fields | given


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


def read_base64(text: str, name: str) -> bytes:
    """The bytes of base64, or of a data URL of it; BodyInvalid says whose it is."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        remedy = "Encode the file's bytes as standard base64, with its padding and without line breaks."
        raise BodyInvalid(f"{name} is not base64.", remedy=remedy) from None


def _kind_of(media_type: bytes, kinds: Sequence[str]) -> str:
    """What a raw body is."""
    if not media_type or media_type == b"application/octet-stream":
        return kinds[0]
    for kind in kinds:
        if media_type.startswith(RAW[kind][0]):
            return kind
    raw = " or ".join(RAW[kind][1] for kind in kinds)
    keys = " or ".join(f'{{"{kind}": {JSON_VALUES[kind]}}}' for kind in kinds)
    named = " or ".join(kinds)
    raise MediaTypeUnsupported(
        "This content type is not accepted here.",
        remedy=f"Send the {named} as the body with Content-Type: {raw}, as a multipart part named {named}, "
        f"or in JSON: {keys}.",
    )


def _only(given: Mapping[str, Any], kinds: Sequence[str], where: str) -> str:
    """The one kind that is there under its name."""
    found = [kind for kind in kinds if kind in given]
    if not found:
        names = " or ".join(kinds)
        raise BodyInvalid(f"The {where} named {names}.", remedy=f"Name what you send {names}.")
    if len(found) > 1:
        detail = f"There are both {' and '.join(found)}."
        raise BodyInvalid(detail, remedy="Send one of them with each request.")
    return found[0]


def _read_json(body: bytes, kinds: Sequence[str]) -> tuple[str, bytes, dict[str, Any]]:
    fields = read_json(body)
    kind = _only(fields, kinds, "JSON has no key")
    text = fields.pop(kind)
    if not isinstance(text, str):
        raise BodyInvalid(f"{kind} is no text.", remedy=f'Send {{"{kind}": {JSON_VALUES[kind]}}}.')
    if kind == TEXT:
        return kind, text.encode(), fields
    return kind, read_base64(text, kind), fields


def _read_multipart(body: bytes, header: bytes, kinds: Sequence[str]) -> tuple[str, bytes, dict[str, Any]]:
    parts = read_form(body, header)
    kind = _only(parts, kinds, "form has no part")
    payload = parts.pop(kind)
    return kind, payload, {name: field_text(value) for name, value in parts.items()}
