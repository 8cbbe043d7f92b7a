"""The `tidegate` command. Exit codes: 0 done, 1 refused or failed (the reason is printed), 2 wrong usage."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import click

from serving.commands.changes import check, history, promote, rollback
from serving.commands.drift import drift
from serving.commands.guard import guard
from serving.commands.keys import keys
from serving.commands.models import models
from serving.commands.replay import replay
from serving.errors import TidegateError
from serving.log_lines import logging_to_stderr
from serving.settings import read_settings

FOLDER = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="tidegate")
def main() -> None:
    """Model serving with a way back."""


for command in (models, check, replay, promote, rollback, history, guard, drift, keys):
    main.add_command(command)


@main.command()
@click.option("--repository", type=FOLDER, help="The models.  [default: model_repository]")
@click.option("--state", type=FOLDER, help="Where it is kept who is live.  [default: the user's state folder]")
@click.option("--host", help="Where callers reach it.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="[default: 8080; 0 takes a free one]")
@click.option("--grpc-port", type=int, help="On the same host.  [default: 8090, if it is free; 0 takes a free one]")
@click.option("--admin-host", help="Where operators reach it.  [default: 127.0.0.1]")
@click.option("--admin-port", type=int, help="[default: 8081; 0 takes a free one]")
@click.option("--keys", type=FOLDER, help="Who may call.  [default: keys.json in the state folder]")
@click.option("--redis", help="URL of the Redis in which several gateways share who is live.")
@click.option("--redis-password-file", type=FOLDER, help="Its password, where the URL shall not have it.")
@click.option("--engine", help="What runs the models: onnx in this process, or triton.  [default: onnx]")
@click.option("--triton-url", help="HOST:PORT of Triton's gRPC; the same text at all gateways that share it.")
@click.option("--triton-host", help="Its 'GPU, compute capability, TensorRT', as TensorRT's plans must be for.")
@click.option("--guard", type=click.Choice(["off", "advise", "act"]), help="Of versions on trial.  [default: advise]")
@click.option("--webhook", help="URL that is told what the guard did.  [default: none]")
@click.option("--capture", type=float, help="Share of requests kept in the state folder, for `replay`.  [default: 0]")
@click.option("--otlp-endpoint", help="URL of a collector of traces, by OTLP over HTTP.  [default: none]")
@click.option("--otlp-headers-file", type=FOLDER, help="'Name: value', a line each, sent to the collector.")
@click.option("--trace-ratio", type=float, help="Of requests whose callers did not decide.  [default: 0.01]")
@click.option("--request-log", type=float, help="Share of requests that are logged, a line each.  [default: 1]")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Of all other lines.  [default: text]")
def serve(**given: Any) -> None:
    """Serve the models of a repository until SIGTERM or Ctrl-C. Every option is also a variable TIDEGATE_*."""
    from serving.running import run  # noqa: PLC0415  (the other commands start without it)

    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = read_settings(**given)
        with logging_to_stderr(settings.log_format) as lines, asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run(settings, lines=lines))
    except TidegateError as error:
        raise click.ClickException(str(error)) from None


def _loop_factory() -> Any:
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:  # where there is none, asyncio's own loop serves, more slowly
        return None
    return uvloop.new_event_loop
