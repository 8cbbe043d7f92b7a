"""`tidegate models`: what there is and who is live."""

from __future__ import annotations

from typing import Any

import click

from serving.commands.target import ask, options, show
from serving.commands.text import models_text


@click.command()
@options
def models(as_json: bool, **given: Any) -> None:
    """List models, their versions and which are live."""
    show(ask(given, lambda client: client.models(), _offline), as_json, models_text)


async def _offline(parts: Any) -> Any:
    from serving.versions.catalog import describe  # noqa: PLC0415

    index = await parts.look()
    for problem in index.problems:
        click.echo(f"left out: {problem}", err=True)
    return describe(index, (await parts.ledger.read()).models, {}).without_tables().model_dump(mode="json")
