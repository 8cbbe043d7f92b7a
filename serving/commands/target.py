"""What a command acts on: a running gateway's admin port, or a repository and a state with no gateway."""

from __future__ import annotations

import asyncio
import getpass
import json
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from serving.client import DEFAULT_URL, AdminClient, Refused, Unreachable
from serving.errors import TidegateError

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(path_type=Path)


def options(command: F) -> F:
    """Adds --url, --repository, --state, --redis and --json to a command."""
    for option in reversed(
        (
            click.option("--url", help=f"The gateway's admin port.  [default: {DEFAULT_URL}]"),
            click.option("--repository", type=FOLDER, help="Act on this repository instead, with no gateway."),
            click.option("--state", type=FOLDER, help="The state that goes with --repository."),
            click.option("--redis", help="The Redis that goes with --repository, if gateways share one."),
            click.option("--json", "as_json", is_flag=True, help="As JSON."),
        )
    ):
        command = option(command)
    return command


def who() -> str:
    """The person at this machine, for the history."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a user without a name, as in containers
        return f"cli@{socket.gethostname()}"


def ask(
    given: dict[str, Any],
    online: Callable[[AdminClient], Any],
    offline: Callable[[Any], Coroutine[Any, Any, Any]],
) -> Any:
    """What the gateway answers to `online`, or what `offline` gives for the parts of offline.open_changes.

    `given`: the options above, taken out of it. ClickException with the reason; a verdict in it is printed first.
    """
    url, repository, state, redis = (given.pop(name) for name in ("url", "repository", "state", "redis"))
    if url and repository:
        raise click.UsageError("Give --url or --repository, not both.")
    if (state or redis) and not repository:
        raise click.UsageError("--state and --redis go with --repository.")
    try:
        if not repository:
            with AdminClient(url or DEFAULT_URL) as client:
                return online(client)
        return asyncio.run(_offline(repository, state, redis, offline))
    except Refused as error:
        raise Failure(str(error), error.problem) from None
    except TidegateError as error:
        raise Failure(str(error), {**error.extension, "code": error.code}) from None
    except Unreachable as error:
        raise click.ClickException(str(error)) from None


class Failure(click.ClickException):
    """What was refused, and the problem's members: a verdict may be among them."""

    def __init__(self, message: str, problem: dict[str, Any]) -> None:
        super().__init__(message)
        self.problem = problem


def show(result: Any, as_json: bool, text: Callable[[Any], str]) -> None:
    """Prints JSON, or the text made of it."""
    click.echo(json.dumps(result, indent=2) if as_json else text(result))


async def _offline(
    repository: Path, state: Path | None, redis: str | None, act: Callable[[Any], Coroutine[Any, Any, Any]]
) -> Any:
    from serving.offline import open_changes  # noqa: PLC0415  (the other commands start without it)
    from serving.settings import read_settings  # noqa: PLC0415

    parts = open_changes(read_settings(repository=repository, state=state, redis=redis))
    try:
        return await act(parts)
    finally:
        await parts.ledger.close()
