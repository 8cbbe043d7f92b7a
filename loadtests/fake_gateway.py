"""A real gateway whose engine is the shipped fake one: what is measured of it is all of tidegate but the model.

    python -m loadtests.fake_gateway BASE_S ROW_S --repository DIR --state DIR --port 0 --admin-port 0

A run of n rows takes BASE_S + n * ROW_S seconds.
"""

from __future__ import annotations

from pathlib import Path

import click
import uvloop

from serving.engines.fake import FakeEngine
from serving.running import run
from serving.settings import read_settings


@click.command()
@click.argument("base_s", type=float)
@click.argument("row_s", type=float)
@click.option("--repository", type=click.Path(path_type=Path), required=True)
@click.option("--state", type=click.Path(path_type=Path), required=True)
@click.option("--port", type=int, default=0)
@click.option("--admin-port", type=int, default=0)
def main(*, base_s: float, row_s: float, repository: Path, state: Path, port: int, admin_port: int) -> None:
    """Serves until a signal ends it."""
    settings = read_settings(repository=repository, state=state, port=port, admin_port=admin_port)
    uvloop.run(run(settings, engine=FakeEngine(service_s=lambda rows: base_s + rows * row_s)))


if __name__ == "__main__":
    main()
