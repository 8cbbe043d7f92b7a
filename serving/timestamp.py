"""Points in time as people and the ledger read them: ISO 8601, UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal


def timestamp(unix_s: float, precision: Literal["seconds", "milliseconds"]) -> str:
    """This many seconds after 1970, say `2026-11-23T03:45:05.790+00:00`."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec=precision)
