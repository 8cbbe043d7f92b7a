"""`exporters`: list the families, train one and publish it, import a checkpoint, describe what is published.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from click.core import ParameterSource

from exporters.errors import SettingInvalid, TrainingStopped
from exporters.provenance import INSTALL
from serving.client import DEFAULT_URL, AdminClient, Refused, Unreachable
from serving.errors import NotFound, TidegateError

if TYPE_CHECKING:
    from exporters.pipeline import Exported

FOLDER = click.Path(file_okay=False, path_type=Path)


class _Stopped(click.ClickException):
    exit_code = 130  # as shells say of a program that Ctrl-C ended


class _Commands(click.Group):
    """Turns our errors into one line on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            raise click.ClickException(f"The package {error.name} is not installed. Run: {INSTALL}") from error
        except (NotFound, SettingInvalid) as error:
            raise click.UsageError(str(error), ctx) from error
        except TrainingStopped as error:
            raise _Stopped(str(error)) from error
        except TidegateError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands)
def main() -> None:
    """Make models: train or convert, compare with the serving engine, publish."""


@main.command("list")
@click.option("--repository", type=FOLDER, default=Path("model_repository"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def list_families(repository: Path, as_json: bool) -> None:
    """The families, their floors, and what the newest published version of each reached."""
    from exporters.catalogue import as_text, entries

    found = entries(repository)
    click.echo(json.dumps([asdict(entry) for entry in found], indent=2) if as_json else as_text(found))


@main.command()
@click.option("--repository", type=FOLDER, default=Path("model_repository"), show_default=True)
@click.option("--docs", type=FOLDER, default=Path("docs"), show_default=True, help="Where models.md is to lie.")
def describe(repository: Path, docs: Path) -> None:
    """Write models.md: what each published model is for, how good it is, and pictures of what it answers."""
    from exporters.models_page import writing

    for file in writing.write(repository, docs):
        click.echo(f"wrote {file}")


@main.command()
@click.argument("family")
@click.option("--quick", is_flag=True, help="A run of seconds with lower floors; --repository must be named.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all that is random.")
@click.option(
    "--repository",
    type=FOLDER,
    default=Path("model_repository"),
    show_default=True,
    help="Where the version is published.",
)
@click.option(
    "--runs",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("runs.jsonl"),
    show_default=True,
    help="The log: a line of JSON for each run and each trial.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A field of the recipe, such as epochs=3; may be repeated. A wrong one lists them all.",
)
@click.option(
    "--search",
    type=click.IntRange(min=1),
    metavar="N",
    help="First try N random recipes with a third of the epochs.",
)
@click.option(
    "--checkpoint", type=FOLDER, help="Where to write after each epoch. [default: checkpoints/MODEL, not if --quick]"
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint of the same command.")
@click.option("--tensorrt", is_flag=True, help="Have Triton run it through TensorRT in half precision, on a GPU.")
@click.option("--plan", type=click.Choice(("fp16", "fp32")), help="Also build plans with the TensorRT of this host.")
@click.option("--promote", is_flag=True, help="Then have the running gateway take it through the gate, live.")
@click.option("--url", default=DEFAULT_URL, show_default=True, help="The gateway's admin port, for --promote.")
@click.pass_context
def train(
    ctx: click.Context,
    *,
    family: str,
    quick: bool,
    seed: int,
    repository: Path,
    runs: Path,
    settings: tuple[str, ...],
    search: int | None,
    checkpoint: Path | None,
    resume: bool,
    tensorrt: bool,
    plan: Literal["fp16", "fp32"] | None,
    promote: bool,
    url: str,
) -> None:
    """Train or convert FAMILY and publish it as its model's next version.

    FAMILY is a name that `exporters list` shows, a family's or a model's. Ctrl-C stops a training so that --resume
    goes on with it. More: docs/training.md.
    """
    if quick and ctx.get_parameter_source("repository") is ParameterSource.DEFAULT:
        raise click.UsageError("--quick makes models unfit for use: name a --repository to put them in.", ctx)
    if search and resume:
        raise click.UsageError("--search begins anew: to go on, give the recipe it found with --set.", ctx)
    from exporters import pipeline
    from exporters.options import Options

    options = Options(
        repository, runs, seed, quick, settings, search or 0, checkpoint, resume, say=_say, tensorrt=tensorrt, plan=plan
    )
    made = pipeline.export(family, options)
    for name, metric in made.metrics.items():
        baseline = f", {metric.baseline_name} {metric.baseline:.4f}" if metric.baseline is not None else ""
        floor = "no floor" if metric.floor is None else f"floor {metric.floor}"
        click.echo(f"{name}: {metric.value:.4f} on {metric.rows} rows ({floor}{baseline})")
    _tell(made)
    if promote:
        promote_published(made.folder, url)


@main.command("import-hub")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="The name that it is published and called by.")
@click.option("--repository", type=FOLDER, default=Path("model_repository"), show_default=True)
@click.option(
    "--licence", default="NOASSERTION", show_default=True, metavar="SPDX", help="Of the weights, such as MIT."
)
@click.option("--source", default="", help="Where the weights come from. [default: the folder's name]")
@click.option("--attribution", default="", help="Whom the licence wants named.")
@click.option("--intended-use", default="", help="What the model is for, and what it is not for.")
@click.option("--promote", is_flag=True, help="Then have the running gateway take it through the gate, live.")
@click.option("--url", default=DEFAULT_URL, show_default=True, help="The gateway's admin port, for --promote.")
def import_hub(
    *,
    folder: Path,
    model: str,
    repository: Path,
    licence: str,
    source: str,
    attribution: str,
    intended_use: str,
    promote: bool,
    url: str,
) -> None:
    """Publish a checkpoint in FOLDER, as transformers' save_pretrained writes it, as a model's next version.

    Nothing is downloaded, unpickled or run of it: it needs config.json and model.safetensors. More: docs/importing.md.
    """
    from exporters.hub import importing
    from serving.repository.manifest import Licence

    claims = importing.Claims(
        Licence(spdx=licence, source=source or folder.name, attribution=attribution), intended_use
    )
    made = importing.import_folder(folder, model, repository, claims)
    _tell(made)
    if promote:
        promote_published(made.folder, url)


@main.command()
@click.argument("model")
@click.option("--off", is_flag=True, help="Back to ONNX Runtime's own.")
@click.option("--repository", type=FOLDER, default=Path("model_repository"), show_default=True)
def tensorrt(model: str, off: bool, repository: Path) -> None:
    """Have Triton run a published MODEL through TensorRT, where there is a GPU. More: docs/deploy.md."""
    from exporters.accelerating import set_tensorrt

    for path in set_tensorrt(repository, model, on=not off):
        click.echo(f"wrote {path}")


@main.command()
@click.argument("model")
@click.option("--repository", type=FOLDER, default=Path("model_repository"), show_default=True)
def reference(model: str, repository: Path) -> None:
    """Write into a published MODEL's manifests what is usually asked, for drift to be seen against.

    Exports do it by themselves; this is for versions from before. More: docs/drift.md.
    """
    from exporters.reference import write_references

    written = write_references(repository, model)
    for path in written:
        click.echo(f"wrote {path}")
    if not written:
        click.echo(f"{model}: too few rows to tell what is usual; gateways learn it from the first requests")


def _tell(made: Exported) -> None:
    parity = made.parity
    differences = (
        f"{parity.max_abs_difference:.1e} from torch, {parity.batch_max_abs_difference:.1e} between batch sizes"
    )
    click.echo(f"parity: {differences} (tolerance {parity.tolerance:.0e}, {parity.engine})")
    click.echo(f"published {made.folder} ({made.model_bytes / 1e6:.2f} MB) in {made.seconds:.1f} s")


def _say(text: str) -> None:
    click.echo(text, err=True)


def promote_published(folder: Path, url: str) -> None:
    """Has the gateway take a published version through its gate, live; ClickException when it will not."""
    model, version = folder.parent.name, int(folder.name)
    if version == 1:
        click.echo(f"{model} is new: gateways begin with it")
        return
    order = {"version": version, "who": "exporters", "why": f"published as {model}/{version}"}
    try:
        with AdminClient(url) as client:
            client.promote(model, order)
    except (Refused, Unreachable) as error:
        raise click.ClickException(f"Published, and not promoted: {error}") from None
    click.echo(f"promoted: {model}/{version} is live; `tidegate rollback {model}` goes back")


if __name__ == "__main__":
    main()
