"""The most photos a second that this machine can do: no HTTP, no queue, a thread for each core that does it all.

    python -m loadtests.bench.bound model_repository efficientnet-lite0 photo.jpg --seconds 5

Each thread decodes with libjpeg-turbo, preprocesses as the version wants it, and runs the graph on one intra-op thread.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime as ort

from loadtests.bench.wrk import Load
from serving import plugins
from serving.repository.layout import scan
from serving.task import FOLDER, Request, Task


@click.command()
@click.argument("repository", type=click.Path(path_type=Path))
@click.argument("model")
@click.argument("photo", type=click.Path(path_type=Path))
@click.option("--seconds", type=int, default=5)
def main(repository: Path, model: str, photo: Path, seconds: int) -> None:
    """Prints a Load as JSON: images a second, and seconds an image."""
    work = classification(repository, model, photo.read_bytes())
    click.echo(json.dumps(asdict(measure(work, len(os.sched_getaffinity(0)), seconds))))


def classification(repository: Path, model: str, photo: bytes) -> Callable[[], None]:
    """All that one photo costs with the first version of the model."""
    found = scan(repository).models[model]
    version = found.versions[found.first_version]
    task: Task[Any] = plugins.find(FOLDER, "classify", "PLUGIN")(version)
    request = Request(photo, task.parameters())
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(version.folder / "model.onnx"), options)
    return lambda: session.run(None, dict(task.encode(request)))


def measure(work: Callable[[], None], thread_count: int, seconds: float) -> Load:
    """The work over and over on so many threads at once."""
    taken_s: list[float] = []
    start = threading.Barrier(thread_count)

    def repeat() -> None:
        work()  # the first run, which plans memory, does not count
        start.wait()
        now_s = time.perf_counter()
        end_s = now_s + seconds
        while now_s < end_s:
            work()
            before_s, now_s = now_s, time.perf_counter()
            taken_s.append(now_s - before_s)

    threads = [threading.Thread(target=repeat) for _ in range(thread_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = thread_count / (sum(taken_s) / len(taken_s))
    return Load(rate, float(np.percentile(taken_s, 50)), float(np.percentile(taken_s, 99)))


if __name__ == "__main__":
    main()
