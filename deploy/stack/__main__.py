"""`make stack`: the compose file's services without Docker. Ctrl-C ends them in order, a second one at once."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from deploy.stack import programs
from deploy.stack.compose_file import read_services
from deploy.stack.places import HERE, USUAL, Ports, free_ports, taken
from deploy.stack.processes import Kept, NotStarted, write_pids
from deploy.stack.programs import ROOT, Layout
from serving.keys import KeyFile, KeyScope

KEYS: Final[dict[str, KeyScope]] = {"predict_key": "predict", "admin_key": "admin", "metrics_key": "metrics"}
LOOK_S: Final = 0.2


@click.command(context_settings={"show_default": True})
@click.option("--folder", type=click.Path(path_type=Path), default=ROOT / "build/stack", help="State, keys, logs.")
@click.option("--repository", type=click.Path(path_type=Path), default=ROOT / "model_repository")
@click.option("--free-ports", "free", is_flag=True, help="Ports that are free, in place of the usual ones.")
def main(folder: Path, repository: Path, free: bool) -> None:
    """Start Triton, Redis, Prometheus and two gateways, as docker-compose.yml says, and keep them running."""
    ports = free_ports() if free else USUAL
    if busy := taken(ports):
        raise click.ClickException(f"these ports are taken: {', '.join(map(str, busy))}; try --free-ports")
    folder.mkdir(parents=True, exist_ok=True)
    layout = Layout(folder.absolute(), repository, ports)
    make_secrets(layout)
    try:
        asyncio.run(run(layout))
    except NotStarted as error:
        raise click.ClickException(str(error)) from None


def make_secrets(layout: Layout) -> None:
    """Passwords as `make secrets` makes them, and a key of each scope, kept as files where the stack lies."""
    layout.secrets.mkdir(mode=0o700, exist_ok=True)
    script = ROOT / "deploy/secrets.sh"
    subprocess.run([script, layout.secrets], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    keys = KeyFile(layout.keys)
    for name, scope in KEYS.items():
        file = layout.secrets / name
        if not file.exists():
            secret, _ = keys.add(name, [scope])
            file.write_text(secret, encoding="utf-8")


async def run(layout: Layout) -> None:
    """Starts them in the order of the compose file's `depends_on`, and ends them when a signal comes."""
    kept = open_stack(layout)
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    watching = asyncio.create_task(_watch(kept, layout))
    try:
        starting = asyncio.create_task(_start(kept, layout))
        stopped = asyncio.create_task(stop.wait())
        tasks: list[asyncio.Task[Any]] = [starting, stopped]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await stopped
        starting.cancel()
    finally:
        watching.cancel()
        print("stopping: gateways drain first ...", flush=True)
        await end(kept, hurry)


def open_stack(layout: Layout) -> list[Kept]:
    """All of them, gateways last; Prometheus only where there is one."""
    services = read_services(ROOT / "docker-compose.yml")
    folder = layout.folder

    def clear() -> None:
        for left in Path("/dev/shm").glob(f"{programs.shared_memory(layout)}*"):  # noqa: S108  (Triton's place)
            left.unlink(missing_ok=True)

    kept = [
        Kept(programs.triton(services["triton"], layout), folder, clear),
        Kept(programs.redis(services["redis"], layout), folder),
    ]
    if watcher := programs.prometheus(services["prometheus"], layout):
        kept.append(Kept(watcher, folder))
    else:
        print("no prometheus here, so nothing is scraped: apt-get install prometheus", flush=True)
    numbers = range(len(layout.ports.gateways))
    gateways = [Kept(programs.gateway(services["gateway"], layout, number), folder) for number in numbers]
    return [*kept, *gateways]


async def _start(kept: list[Kept], layout: Layout) -> None:
    gateways = [one for one in kept if one.program.name.startswith("gateway")]
    await asyncio.gather(*(one.start() for one in kept if one not in gateways))
    await asyncio.gather(*(one.start() for one in gateways))
    write_pids(kept, layout.folder / "pids.json")
    (layout.folder / "ports.json").write_text(json.dumps(asdict(layout.ports)), encoding="utf-8")
    print(told(layout.ports, layout.secrets), flush=True)


async def end(kept: list[Kept], hurry: asyncio.Event) -> None:
    """Gateways first, as long as what they need is there; all at once, and without a drain, when `hurry` is set."""
    gateways = [one for one in kept if one.program.name.startswith("gateway")]
    others = [one for one in kept if one not in gateways]
    draining = asyncio.ensure_future(asyncio.gather(*(one.stop() for one in gateways)))
    hurrying = asyncio.create_task(hurry.wait())
    futures: list[asyncio.Future[Any]] = [draining, hurrying]
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        for one in gateways:
            one.signal(signal.SIGINT)  # to a gateway: do not wait for balancers
        await draining
    hurrying.cancel()
    await asyncio.gather(*(one.stop() for one in others))


async def _watch(kept: list[Kept], layout: Layout) -> None:
    """Writes the process ids anew when one of them has changed."""
    before: list[int | None] = []
    while True:
        now = [one.pid for one in kept]
        if now != before:
            write_pids(kept, layout.folder / "pids.json")
        before = now
        await asyncio.sleep(LOOK_S)


def told(ports: Ports, secrets: Path) -> str:
    """Where everything is."""
    lines = [
        f"gateway {number}: http://{HERE}:{one.public} (admin http://{HERE}:{one.admin}, gRPC {HERE}:{one.grpc})"
        for number, one in enumerate(ports.gateways, 1)
    ]
    lines.append(
        f"Triton {HERE}:{ports.triton_grpc}, Redis {HERE}:{ports.redis}, Prometheus http://{HERE}:{ports.prometheus}"
    )
    lines.append(f"keys in {secrets}: {', '.join(KEYS)}. Ctrl-C ends all.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
