"""An answered request as those see it who look on: drift, feedback, capture."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from serving.engine import Call
from serving.task import Reply, Request
from serving.telemetry import Stages
from serving.tensors import Tensors
from serving.versions.resident import Resident

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """A task's request and the reply that its caller gets.

    resident: the version that answered, leased no longer than the call lasts. inputs: of its first run, as encoded, one
    row or more; nobody may change them. duration_s: from routing to reply.
    """

    resident: Resident
    request: Request[Any]
    inputs: Tensors
    reply: Reply
    call: Call
    stages: Stages
    duration_s: float


class Witness(Protocol):
    """Somebody who looks on."""

    def saw(self, seen: Seen) -> None:
        """Called on the event loop before the answer is sent: microseconds, or a decision to look closer later."""
        ...


def tell(witnesses: Sequence[Witness], seen: Seen) -> None:
    """Shows all of them; what one makes of it is logged and hurts nobody else."""
    for witness in witnesses:
        try:
            witness.saw(seen)
        except Exception:
            log.exception("%s met a bug", type(witness).__name__)
