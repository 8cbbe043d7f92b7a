"""Photos classified without a gateway: callers who decode them and ask Triton with NVIDIA's own client.

    python -m loadtests.bench.direct model_repository efficientnet-lite0 photo.jpg 127.0.0.1:8001 --callers 8

They decode as the gateway does, with the same code, on a thread each; what differs is HTTP and the gateway.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import tritonclient.grpc as client

from loadtests.bench.bound import measure
from serving import plugins
from serving.repository.layout import scan
from serving.task import FOLDER, Request, Task
from serving.tensors import datatype


@click.command()
@click.argument("repository", type=click.Path(path_type=Path))
@click.argument("model")
@click.argument("photo", type=click.Path(path_type=Path))
@click.argument("url")
@click.option("--callers", type=int, default=8)
@click.option("--seconds", type=int, default=5)
def main(*, repository: Path, model: str, photo: Path, url: str, callers: int, seconds: int) -> None:
    """Prints a Load as JSON: images a second, and seconds an image."""
    work = classification(repository, model, photo.read_bytes(), url)
    click.echo(json.dumps(asdict(measure(work, callers, seconds))))


def classification(repository: Path, model: str, photo: bytes, url: str) -> Callable[[], None]:
    """All that one photo costs its caller, from the file to the five best labels."""
    found = scan(repository).models[model]
    version = found.versions[found.first_version]
    task: Task[Any] = plugins.find(FOLDER, "classify", "PLUGIN")(version)
    request = Request(photo, task.parameters())
    server = client.InferenceServerClient(url)
    [output] = version.graphs["model"].config.outputs

    def classify() -> None:
        inputs = []
        for name, values in task.encode(request).items():
            tensor = client.InferInput(name, values.shape, datatype(values.dtype))
            tensor.set_data_from_numpy(values)
            inputs.append(tensor)
        answer = server.infer(model, inputs, outputs=[client.InferRequestedOutput(output.name)])
        task.decode({output.name: answer.as_numpy(output.name)}, request)

    return classify


if __name__ == "__main__":
    main()
