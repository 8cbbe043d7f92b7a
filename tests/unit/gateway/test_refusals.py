"""What a refusal leaves behind: nothing that only Python's cycle collector would find. Under overload most are refused,
and looking for cycles took the time that answers needed.
"""

from __future__ import annotations

import asyncio
import gc

import pytest
from http_rig import Exchange

from serving.errors import QueueFull
from serving.gateway.http import Inbound, Outbound
from serving.gateway.traffic import Endpoint, Traffic
from serving.observation.records import no_records
from serving.telemetry import Meters

REFUSALS = 200


async def full(request: Inbound) -> Outbound:
    raise QueueFull("As many wait as may wait.")


async def broken(request: Inbound) -> Outbound:
    raise ZeroDivisionError


@pytest.mark.parametrize(("handler", "status"), [(full, 503), (broken, 500)])
def test_a_refusal_leaves_no_cycles(handler, status, caplog):
    caplog.set_level("CRITICAL")  # which else keeps what it caught

    async def main() -> int:
        endpoint = Endpoint("/v1/x", handler, Traffic(Meters(), 8, no_records()))
        gc.collect()
        gc.disable()
        try:
            for _ in range(REFUSALS):
                exchange = Exchange()
                await endpoint(exchange.scope, exchange.receive, exchange.send)
                assert exchange.answer.status == status
                del exchange
            return gc.collect()
        finally:
            gc.enable()

    assert asyncio.run(main()) < REFUSALS
