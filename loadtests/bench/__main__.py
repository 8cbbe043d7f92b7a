"""`make bench`: tidegate beside a plain FastAPI server and beside the machine's bound, in one run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click

from loadtests.bench import behind, photo, protocol, report, search, tiny, watched
from loadtests.bench.comparison import AnswersDiffer, Comparison, Turns
from loadtests.bench.perf_analyzer import PerfAnalyzerFailed
from loadtests.bench.wrk import INSTALL, WrkFailed
from loadtests.server_process import ServerFailed

COMPARISONS = ("tiny", "photo", "triton", "protocol", "search", "watched")


@click.command(context_settings={"show_default": True})
@click.option("--seconds", type=click.IntRange(1), default=5, help="Of each measurement.")
@click.option("--rounds", type=click.IntRange(1), default=3, help="How often each is taken.")
@click.option("--only", type=click.Choice(COMPARISONS), multiple=True, help="Leave the others out.")
@click.option("--repository", type=click.Path(path_type=Path), default=Path("model_repository"))
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all figures there too.")
@click.option("--check", is_flag=True, help="Exit code 1 when a bar is missed or a comparison does not count.")
def main(*, seconds: int, rounds: int, only: tuple[str, ...], repository: Path, file: Path | None, check: bool) -> None:
    """Measure, print tables, say which bars were reached."""
    if shutil.which("wrk") is None:
        raise click.ClickException(f"wrk, which makes the load, is missing: {INSTALL}")
    turns, found = Turns(seconds, rounds), report.machine()
    click.echo(report.head(found, turns))
    comparisons = []
    try:
        for name in only or COMPARISONS:
            comparisons.append(_compare(name, turns, repository))
            click.echo(f"\n{report.table(comparisons[-1])}")
    except (WrkFailed, PerfAnalyzerFailed, ServerFailed, AnswersDiffer, subprocess.CalledProcessError) as error:
        raise click.ClickException(str(error)) from None
    bars = [bar for comparison in comparisons for bar in comparison.bars]
    doubts = [doubt for comparison in comparisons for doubt in report.doubts(comparison)]
    click.echo("\n" + "\n".join([*map(report.verdict, bars), *doubts]))
    if file is not None:
        file.write_text(json.dumps(report.as_data(found, turns, comparisons), indent=2) + "\n")
    sys.exit(1 if check and (doubts or not all(bar.passed for bar in bars)) else 0)


def _compare(name: str, turns: Turns, repository: Path) -> Comparison:
    if name == "photo":
        return photo.compare(turns, repository)
    if name == "triton":
        return behind.compare(turns, repository)
    if name == "protocol":
        return protocol.compare(turns, repository)
    if name == "search":
        return search.compare(turns, search.in_clusters())
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise click.ClickException(f"{name} wants two cores: one for the server, one for the load.")
    if name == "watched":
        return watched.compare(turns, repository, cores)
    return tiny.compare(turns, cores)


if __name__ == "__main__":
    main()
