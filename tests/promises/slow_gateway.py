"""A gateway whose model takes 2.5 ms a request and never batches: capacity is known, and so is any loss of it.

Usage: python slow_gateway.py REPOSITORY STATE. Prints the gateway's start line when it is ready.
"""

from __future__ import annotations

import sys

import uvloop

from serving.engines.fake import FakeEngine
from serving.running import run
from serving.settings import read_settings

SERVICE_S = 0.0025


def main() -> None:
    repository, state = sys.argv[1:]
    settings = read_settings(repository=repository, state=state, port=0, admin_port=0, grpc_port=0, drain_delay_s=0)
    uvloop.run(run(settings, engine=FakeEngine(service_s=lambda _: SERVICE_S)))


if __name__ == "__main__":
    main()
