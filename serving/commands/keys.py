"""`tidegate keys`: who may call, and what for. A running gateway takes a change within a second."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from serving.errors import TidegateError
from serving.keys import NAME, SCOPES, Key, KeyFile
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


@click.group()
def keys() -> None:
    """Make, list and revoke API keys. Once there is one, every port asks for it."""


@keys.command()
@click.argument("name", callback=_name)
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, required=True, help="May be repeated.")
@KEYS
@AS_JSON
def add(name: str, scopes: tuple[Any, ...], file: Path | None, as_json: bool) -> None:
    """Make a key and print it, this once. It goes into Authorization: Bearer KEY."""
    with _refusing():
        secret, key = _file(file).add(name, scopes)
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
    rows = [("NAME", "SCOPES", "CREATED"), *((key["name"], ",".join(key["scopes"]), key["created"]) for key in found)]
    name, scopes = (max(len(row[i]) for row in rows) for i in (0, 1))
    for row in rows:
        click.echo(f"{row[0]:{name}}  {row[1]:{scopes}}  {row[2]}")


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
    return {"name": key.name, "scopes": list(key.scopes), "created": key.created.isoformat()}


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except TidegateError as error:
        raise click.ClickException(str(error)) from None
