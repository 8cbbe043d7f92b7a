"""`tidegate keys`: who may call, and what for. A running gateway takes a change within a second."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from serving.commands.text import table
from serving.errors import TidegateError
from serving.keys import LEAST_RATE, NAME, SCOPES, Key, KeyFile
from serving.settings import read_settings

AS_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
KEYS = click.option(
    "--keys",
    "file",
    type=click.Path(path_type=Path),
    help="The key file.  [default: TIDEGATE_KEYS, else keys.json in the state folder]",
)


def _name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    del context, parameter
    if not NAME.fullmatch(value):
        raise click.BadParameter("a name has 1 to 63 of a-z, 0-9, - and _, and begins with a letter or digit.")
    return value


def _rate(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    del context, parameter
    if value is not None and not LEAST_RATE <= value < math.inf:  # a FloatRange lets nan through
        raise click.BadParameter(f"a rate is a number of at least {LEAST_RATE:f} a second.")
    return value


@click.group()
def keys() -> None:
    """Make, list and revoke API keys. Once there is one, every port asks for it."""


@keys.command()
@click.argument("name", callback=_name)
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, required=True, help="May be repeated.")
@click.option("--rate", type=float, callback=_rate, help="Predict requests a second.  [default: as many as come]")
@click.option("--concurrency", type=click.IntRange(1), help="Predict requests at once.  [default: as many as come]")
@KEYS
@AS_JSON
def add(name: str, scopes: tuple[Any, ...], file: Path | None, as_json: bool, **limits: Any) -> None:
    """Make a key and print it, this once. It goes into Authorization: Bearer KEY."""
    if "predict" not in scopes and set(limits.values()) != {None}:
        raise click.UsageError("--rate and --concurrency limit predict requests: they need --scope predict.")
    with _refusing():
        secret, key = _file(file).add(name, scopes, **limits)
    if as_json:
        click.echo(json.dumps({**_shown(key), "key": secret}, indent=2))
        return
    click.echo(secret)
    click.echo(f"{name} may {', '.join(key.scopes)}. This is the only time that the key is shown.", err=True)


@keys.command(name="list")
@KEYS
@AS_JSON
def list_keys(file: Path | None, as_json: bool) -> None:
    """List names, scopes and when each key was made."""
    with _refusing():
        found = [_shown(key) for key in _file(file).read()]
    if as_json:
        click.echo(json.dumps({"keys": found}, indent=2))
        return
    rows = [["NAME", "SCOPES", "RATE", "AT ONCE", "CREATED"]]
    for key in found:
        limits = ["-" if key[name] is None else f"{key[name]:.10g}" for name in ("rate", "concurrency")]
        rows.append([key["name"], ",".join(key["scopes"]), *limits, key["created"]])
    click.echo(table(rows))


@keys.command()
@click.argument("name", callback=_name)
@KEYS
@AS_JSON
def revoke(name: str, file: Path | None, as_json: bool) -> None:
    """Take a key away."""
    with _refusing():
        _file(file).revoke(name)
    click.echo(json.dumps({"revoked": name}) if as_json else f"revoked {name}")


def _file(given: Path | None) -> KeyFile:
    return KeyFile(read_settings(keys=given).keys_file)


def _shown(key: Key) -> dict[str, Any]:
    shown = {"name": key.name, "scopes": list(key.scopes), "created": key.created.isoformat()}
    return {**shown, "rate": key.rate, "concurrency": key.concurrency}


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except TidegateError as error:
        raise click.ClickException(str(error)) from None
