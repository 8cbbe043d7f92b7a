"""`make loadtest`: load on a running gateway or one of its own, and a verdict.

Exit codes: 0 what was promised was kept, 1 it was not, 2 wrong usage, 3 the run says nothing of the server.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import click
import httpx

from loadtests import run as running
from loadtests.capacity_run import Effort, Route, compare
from loadtests.connection import ready_models
from loadtests.gateway_process import Addresses, Fake, gateway_ports, part_of
from loadtests.outcome import read_recording
from loadtests.payloads import TASKS, shot_at
from loadtests.report import capacity as capacity_text
from loadtests.run import LocustFailed, Order
from loadtests.scenario import PHOTO, read_scenario
from loadtests.server_process import ServerFailed
from loadtests.slo import Told, read_slo
from loadtests.toml_file import FileInvalid
from loadtests.verdict import INVALID

HERE: Final = Path(__file__).parent
FILE: Final = click.Path(path_type=Path, dir_okay=False)
DEFAULT_SCENARIO: Final = HERE / "scenarios" / "default.toml"


class SaysNothing(click.ClickException):
    """There was no run."""

    exit_code = INVALID


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Load tests of a gateway, with a verdict. TIDEGATE_KEY is sent where it is set."""


def at_a_gateway(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say whose load it is."""
    options = [
        click.option("--url", default="", help="Of a running gateway; without it one is started on --repository."),
        click.option("--admin-url", default="", help="Its admin port, for scenarios that change versions."),
        click.option("--repository", type=click.Path(path_type=Path), default=Path("model_repository")),
        click.option("--fake-ms", type=float, help="Start it on the fake engine, whose runs take so long."),
        click.option("--slo", "slo_file", type=FILE, default=HERE / "slo.toml", help="What is promised."),
        click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the report."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@at_a_gateway
@click.option("--scenario", "scenario_file", type=FILE, default=DEFAULT_SCENARIO)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests a second, in place of the scenario's.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Length, in place of the scenario's.")
@click.option("--processes", type=click.IntRange(1), default=1, help="That make the load.")
def run(
    *,
    url: str,
    admin_url: str,
    repository: Path,
    fake_ms: float | None,
    slo_file: Path,
    out: Path | None,
    scenario_file: Path,
    rate: float | None,
    seconds: float | None,
    processes: int,
) -> None:
    """A scenario, and whether what is promised was kept meanwhile."""
    with _said():
        slo, scenario = read_slo(slo_file), read_scenario(scenario_file)
        own = part_of(repository, scenario.models, scenario.copies)
        with _at(url, admin_url, own, fake_ms) as at:
            order = Order(at.public, at.admin, scenario_file, rate, seconds, processes)
            recording = running.record(order)
        text, verdict = running.judged(recording, slo, scenario.slo, out)
    click.echo(f"{recording.title}: {recording.url}, {recording.seconds:.0f} s\n{text}")
    if out is not None:
        click.echo(f"{out / 'report.html'}")
    sys.exit(verdict.exit_code)


@main.command()
@at_a_gateway
@click.option("--task", type=click.Choice(list(TASKS)), default="classify")
@click.option("--model", default="efficientnet-lite0")
@click.option("--picture", default=PHOTO, help="WIDTHxHEIGHT, a file, or `example`.")
@click.option("--seconds", type=click.FloatRange(1), default=8.0, help="The least that a rate is tried for.")
@click.option("--callers", type=click.IntRange(1), default=8, help="Who wait for answers, to compare with.")
@click.option("--first", type=click.FloatRange(0, min_open=True), default=16.0, help="Requests a second to begin with.")
@click.option("--resolution", type=click.FloatRange(0.01, 1), default=0.04, help="Of the search, as a share.")
@click.option("--within", type=click.FloatRange(0, 1), help="Exit code 1 if both are further apart, as a share.")
def capacity(
    *,
    url: str,
    admin_url: str,
    repository: Path,
    fake_ms: float | None,
    slo_file: Path,
    out: Path | None,
    task: str,
    model: str,
    picture: str,
    seconds: float,
    callers: int,
    first: float,
    resolution: float,
    within: float | None,
) -> None:
    """The largest rate of one route that is answered as promised, beside what callers who wait get."""
    with _said(), _at(url, admin_url, part_of(repository, {model}, {}), fake_ms) as at:
        slo = read_slo(slo_file)
        promise = slo.promise(task, model)
        effort = Effort(seconds, 4 * seconds, first, resolution, callers)
        if model not in ready_models(at.public).get(task, ()):
            raise SaysNothing(f"{model} is not ready to {task} at {at.public}.")
        click.echo(f"{task} {model}, {picture}, p99 at most {promise.p99_s * 1e3:.0f} ms, at {at.public}")
        click.echo(capacity_text.HEAD)
        route = Route(at.public, shot_at(task, model, picture))
        found = compare(route, promise.p99_s, effort, lambda step: click.echo(capacity_text.line(step)))
    late_limit_s = slo.generator.late_p99_ms / 1e3
    click.echo(capacity_text.sentence(found, late_limit_s))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "capacity.json").write_text(json.dumps(capacity_text.as_data(found), indent=2) + "\n")
    sys.exit(capacity_text.exit_code(found, late_limit_s, within))


@main.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--slo", "slo_file", type=FILE, default=HERE / "slo.toml", help="What is promised.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the report.")
def judge(file: Path, slo_file: Path, out: Path | None) -> None:
    """A recording.jsonl of before, by another SLO file."""
    with _said():
        try:
            recording = read_recording(file)
        except (ValueError, TypeError) as error:
            raise click.UsageError(f"{file} is no recording: {error}") from None
        told = Told.model_validate(recording.about["slo"]) if recording.about.get("slo") else None
        text, verdict = running.judged(recording, read_slo(slo_file), told, out)
    click.echo(text)
    sys.exit(verdict.exit_code)


@contextmanager
def _at(url: str, admin_url: str, own: AbstractContextManager[Path], fake_ms: float | None) -> Iterator[Addresses]:
    """The gateway that was named, or one on the repository that `own` makes."""
    if url:
        yield Addresses(url.rstrip("/"), admin_url)
        return
    fake = None if fake_ms is None else Fake(fake_ms / 1e3)
    with own as repository, gateway_ports(repository, fake=fake) as addresses:
        yield addresses


@contextmanager
def _said() -> Iterator[None]:
    """Failures as people read them."""
    try:
        yield
    except FileInvalid as error:
        raise click.UsageError(str(error)) from None
    except (ServerFailed, LocustFailed, httpx.HTTPError) as error:
        raise SaysNothing(str(error)) from None


if __name__ == "__main__":
    main()
