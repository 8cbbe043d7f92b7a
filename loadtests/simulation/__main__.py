"""`make scaling`: measures this machine, simulates many, and writes the tables and pictures of docs/scaling.md."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import click

from loadtests.server_process import ServerFailed
from loadtests.simulation import page, plots, study
from loadtests.simulation.figures import Kind, Measured, read_measured, write_measured
from loadtests.simulation.measure import measure
from loadtests.simulation.validation import levels

DOCS: Final = Path("docs")


@click.command(context_settings={"show_default": True})
@click.option("--repository", type=click.Path(path_type=Path), default=Path("model_repository"))
@click.option("--docs", type=click.Path(path_type=Path), default=DOCS, help="Has scaling.md and scaling/measured.json.")
@click.option("--measure/--no-measure", "anew", default=True, help="Or go by docs/scaling/measured.json.")
def main(repository: Path, docs: Path, *, anew: bool) -> None:
    """Four minutes to measure, three to simulate."""
    file = docs / "scaling" / "measured.json"
    try:
        measured = _measured(repository) if anew else read_measured(file)
    except (ServerFailed, OSError) as error:
        raise click.ClickException(str(error)) from None
    write_measured(file, measured)
    kind = Kind()
    click.echo("simulating")
    shared = list(study.shared(measured))
    scales = list(study.scales(measured, kind))
    balanced = list(study.balancers(measured, kind))
    plots.draw(docs / "scaling", measured, kind, scales, shared)
    tables = page.tables(measured, kind, scales, balanced, shared)
    text = docs / "scaling.md"
    text.write_text(page.put(text.read_text(), tables))
    for name, table in tables.items():
        click.echo(f"\n{name}\n{table}")


def _measured(repository: Path) -> Measured:
    click.echo("measuring what a request costs")
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        found = measure(repository, Path(folder))
    click.echo("measuring a gateway at several loads, to compare with")
    return found.model_copy(update={"levels": tuple(levels(repository))})


if __name__ == "__main__":
    main()
