"""`tidegate replay`: captured requests through a version that is not live yet."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

import click

from serving.commands.replay_text import report_text
from serving.commands.target import FOLDER, show
from serving.errors import TidegateError

KINDNESS: Final = 10  # beside whatever serves on this host
STABLE: Final = "stable"


class _Version(click.ParamType[int | None]):
    name = f"{STABLE}|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """None for the stable one."""
        text = str(value)
        if text == STABLE:
            return None
        if not text.isdecimal() or int(text) < 1:
            self.fail(f"expected {STABLE} or the number of a version", param, ctx)
        return int(text)


@click.command()
@click.argument("model")
@click.argument("version", type=click.IntRange(min=1))
@click.option("--against", type=_Version(), default=STABLE, help="The version to hold it against.  [default: stable]")
@click.option("--limit", type=click.IntRange(min=1), default=500, help="The latest so many.  [default: 500]")
@click.option("--min-agreement", type=click.FloatRange(0, 1), help="Exit 1 if the answers agree less, on average.")
@click.option("--max-slowdown", type=click.FloatRange(0, min_open=True), help="Exit 1 if the median takes longer: 1.2")
@click.option("--repository", type=FOLDER, help="The models.  [default: model_repository]")
@click.option("--state", type=FOLDER, help="Where requests were captured.  [default: the user's state folder]")
@click.option("--redis", help="URL of the Redis that has who is stable, if gateways share one.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def replay(model: str, version: int, as_json: bool, **given: Any) -> None:
    """Captured requests through VERSION: where its answers differ, and which were slower.

    Runs here, at a low priority, on a repository and a state; no gateway takes part.
    """
    from serving.monitoring.side_by_side import Limits  # noqa: PLC0415  (the other commands start without it)
    from serving.replay import Order  # noqa: PLC0415
    from serving.replay import replay as run  # noqa: PLC0415
    from serving.settings import read_settings  # noqa: PLC0415

    limits = Limits(min_agreement=given["min_agreement"], max_slowdown=given["max_slowdown"])
    order = Order(model, version, given["against"], given["limit"], limits)
    where: dict[str, Path | str | None] = {name: given[name] for name in ("repository", "state", "redis")}
    os.nice(KINDNESS)
    try:
        report = asyncio.run(run(read_settings(**where), order))
    except TidegateError as error:
        raise click.ClickException(str(error)) from None
    show(report.model_dump(mode="json"), as_json, report_text)
    if report.unmet:
        raise SystemExit(1)
