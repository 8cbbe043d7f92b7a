"""`make loadtest`: the locustfile against a running gateway or one of its own. Exit code 0: no request failed."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import click

from loadtests.gateway_process import gateway
from loadtests.server_process import ServerFailed


@click.command(context_settings={"show_default": True})
@click.option("--url", default="", help="Of a running gateway; without it one is started on --repository.")
@click.option("--repository", type=click.Path(path_type=Path), default=Path("model_repository"))
@click.option("--users", type=click.IntRange(1), default=8, help="Callers at once.")
@click.option("--seconds", type=click.IntRange(1), default=20, help="How long.")
def main(url: str, repository: Path, users: int, seconds: int) -> None:
    """Put load on a gateway, from the tasks' own examples."""
    try:
        with nullcontext(url) if url else gateway(repository) as host:
            code = _locust(host, users, seconds)
    except ServerFailed as error:
        raise click.ClickException(str(error)) from None
    sys.exit(code)


def _locust(host: str, users: int, seconds: int) -> int:
    """Locust's exit code. Its table, which it would log to standard error, goes to standard output."""
    file = str(Path(__file__).with_name("locustfile.py"))
    options = ["--headless", "--only-summary", "--loglevel", "WARNING", "--host", host]
    load = ["--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds}s"]
    command = [sys.executable, "-m", "locust", "-f", file, *options, *load]
    return subprocess.run(command, stderr=subprocess.STDOUT, check=False).returncode  # noqa: S603  (our own)


if __name__ == "__main__":
    main()
