"""The collector that the settings name: where it is, and what it wants to be told with each message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from prometheus_client import CollectorRegistry, Counter

from serving.errors import SettingsInvalid
from serving.observation.outbox import Outbox
from serving.settings import Settings, option

TRACES: Final = "/v1/traces"  # where a collector takes them that is named without a path
HEADER: Final = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)[ \t]*")


def open_outbox(settings: Settings, registry: CollectorRegistry) -> Outbox | None:
    """What takes spans to the collector; None where none is named. SettingsInvalid."""
    if settings.otlp_endpoint is None:
        return None
    endpoint = endpoint_of(settings.otlp_endpoint)
    headers = {} if settings.otlp_headers_file is None else read_headers(settings.otlp_headers_file)
    try:
        from serving.observation.otlp import OtlpDelivery  # noqa: PLC0415  (megabytes, which few want)
    except ImportError:
        remedy = "pip install 'tidegate[otlp]'"
        raise SettingsInvalid(f"{option('otlp_endpoint')}: OpenTelemetry is not installed.", remedy=remedy) from None
    spans = Counter("tidegate_spans", "Spans by outcome: exported, dropped.", ("outcome",), registry=registry)
    return Outbox(OtlpDelivery(endpoint, headers), spans)


def endpoint_of(given: str) -> str:
    """The whole URL. SettingsInvalid for what is none, and for one with a secret in it: it would be seen by all."""
    try:
        parts = urlsplit(given)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise _no_url() from None
    if not usable or "@" in parts.netloc or parts.query or parts.fragment or not given.isprintable():
        raise _no_url()
    return urlunsplit(parts._replace(path=parts.path if parts.path.strip("/") else TRACES))


def read_headers(file: Path) -> Mapping[str, str]:
    """The file's lines, `Name: value` each. SettingsInvalid never says what stands there."""
    name = option("otlp_headers_file")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsInvalid(f"{name}: {file}: {error.strerror or 'it cannot be read'}.") from None
    except UnicodeDecodeError:
        raise SettingsInvalid(f"{name}: {file}: it is no text.") from None
    headers: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            match = HEADER.fullmatch(line)
            if match is None:
                raise SettingsInvalid(f"{name}: {file}: line {number}: expected Name: value.")
            headers[match[1]] = match[2]
    return headers


def _no_url() -> SettingsInvalid:
    remedy = f"Secrets belong into the file of {option('otlp_headers_file')}."
    return SettingsInvalid(f"{option('otlp_endpoint')}: expected an http or https URL without a user.", remedy=remedy)
