"""The `tidegate` command. Exit codes: 0 done, 1 refused or failed (the reason is printed), 2 wrong usage."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import click

from serving.client import DEFAULT_URL, AdminClient, Refused, Unreachable
from serving.commands.keys import keys
from serving.errors import TidegateError
from serving.settings import read_settings

FOLDER = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="tidegate")
def main() -> None:
    """Model serving with a way back."""


main.add_command(keys)


@main.command()
@click.option("--repository", type=FOLDER, help="The models.  [default: model_repository]")
@click.option("--state", type=FOLDER, help="Where it is kept who is live.  [default: the user's state folder]")
@click.option("--host", help="Where callers reach it.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="[default: 8080; 0 takes a free one]")
@click.option("--admin-host", help="Where operators reach it.  [default: 127.0.0.1]")
@click.option("--admin-port", type=int, help="[default: 8081; 0 takes a free one]")
@click.option("--keys", type=FOLDER, help="Who may call.  [default: keys.json in the state folder]")
@click.option("--engine", help="What runs the models.  [default: onnx]")
def serve(**given: Any) -> None:
    """Serve the models of a repository until SIGTERM or Ctrl-C. Every option is also a variable TIDEGATE_*."""
    from serving.bootstrap import run  # noqa: PLC0415  (the other commands start without it)

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = read_settings(**given)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run(settings))
    except TidegateError as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.option("--url", help=f"The gateway's admin port.  [default: {DEFAULT_URL}]")
@click.option("--repository", type=FOLDER, help="Read this repository instead, with no gateway.")
@click.option("--state", type=FOLDER, help="The state that goes with --repository.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, like GET /v1/models.")
def models(url: str | None, repository: Path | None, state: Path | None, as_json: bool) -> None:
    """List models, their versions and which are live."""
    if url and repository:
        raise click.UsageError("Give --url or --repository, not both.")
    try:
        listing = _offline(repository, state) if repository else _online(url or DEFAULT_URL)
    except (TidegateError, Unreachable, Refused) as error:
        raise click.ClickException(str(error)) from None
    click.echo(json.dumps(listing, indent=2) if as_json else _table(listing["models"]))


def _online(url: str) -> dict[str, Any]:
    with AdminClient(url) as client:
        return client.models()


def _offline(repository: Path, state: Path | None) -> dict[str, Any]:
    from serving.ledgers.file import FileLedger  # noqa: PLC0415
    from serving.repository.layout import scan  # noqa: PLC0415
    from serving.versions.catalog import describe  # noqa: PLC0415

    settings = read_settings(repository=repository, state=state)
    index = scan(settings.repository)
    for problem in index.problems:
        click.echo(f"left out: {problem}", err=True)
    pointers = asyncio.run(FileLedger(settings.state).read())
    return describe(index, pointers, {}).model_dump(mode="json")


def _table(rows: list[dict[str, Any]]) -> str:
    columns = ("name", "task", "versions", "stable", "canary", "shadow", "previous", "ready")
    lines = [[column.upper() for column in columns], *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return f"{value['version']} ({value['percent']} %)"
    return str(value)


def _loop_factory() -> Any:
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:  # where there is none, asyncio's own loop serves, more slowly
        return None
    return uvloop.new_event_loop
