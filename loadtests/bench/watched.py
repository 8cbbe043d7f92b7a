"""watched: what it costs that requests are looked at: drift, the guard, a log line each, traces, capture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from loadtests.bench import bodies, tiny_model, wrk
from loadtests.bench.comparison import WARM_UP_S, Bar, Comparison, Contender, Turns, ask, shares, take_turns
from loadtests.bench.wrk import Load, Target, pinned
from loadtests.gateway_process import Addresses, gateway_ports, part_of

CONNECTIONS: Final = 32
LEAST: Final = 0.95  # of what a gateway that looks at nothing answers
MOST_MB: Final = 50.0
DIGITS: Final = "digits-cnn"
UNWATCHED: Final = "unwatched"
AS_IT_COMES: Final = "as it comes"
ALL: Final = "traces and capture too"
SETTINGS: Final[Mapping[str, Mapping[str, str]]] = {
    UNWATCHED: {"TIDEGATE_GUARD": "off", "TIDEGATE_DRIFT_RATE": "0", "TIDEGATE_REQUEST_LOG": "0"},
    AS_IT_COMES: {},
    ALL: {"TIDEGATE_CAPTURE": "0.01"},
}


def compare(turns: Turns, repository: Path, cores: Sequence[int]) -> Comparison:
    """Gateways on the first core, the rest on the second. AnswersDiffer, WrkFailed, ServerFailed."""
    with ExitStack() as stack:
        models = stack.enter_context(part_of(repository, [DIGITS], {}))  # a copy, which may be added to
        tiny_model.publish(models)
        collector = stack.enter_context(_collector())
        gateways: dict[str, Addresses] = {}
        for name, settings in SETTINGS.items():
            traced = {"TIDEGATE_OTLP_ENDPOINT": collector} if name == ALL else {}
            opened = gateway_ports(models, pinned(cores[0]), {**settings, **traced})
            gateways[name] = stack.enter_context(opened)
        loads = take_turns(_contenders(gateways, turns.seconds, cores[1]), turns.rounds)
        megabytes = {name: _resident_mb(one.admin) for name, one in gateways.items()}
    of_unwatched = shares(loads, lambda one: Contender(f"{_asked(one.name)}, {UNWATCHED}", CONNECTIONS))
    reached = {one.name: median(rounds) for one, rounds in of_unwatched.items()}
    more_mb = megabytes[ALL] - megabytes[UNWATCHED]
    return Comparison(
        name="watched",
        title="the same gateway, looking at nothing, at what it comes with, and at everything, on one core",
        unit="requests/s",
        share_of=UNWATCHED,
        loads=loads,
        shares=of_unwatched,
        bars=[
            *[
                Bar(f"watched: share of {UNWATCHED}, {name}", LEAST, share)
                for name, share in reached.items()
                if not name.endswith(UNWATCHED)
            ],
            Bar(f"watched: left of {MOST_MB:g} MB", 0.0, MOST_MB - more_mb),
        ],
    )


def _contenders(gateways: Mapping[str, Addresses], seconds: int, core: int) -> Mapping[Contender, Callable[[], Load]]:
    """The tiny model as numbers, and a picture for one that has a reference; each at every gateway, warmed up."""
    found: dict[Contender, Callable[[], Load]] = {}
    for asked in ("numbers", "a picture"):
        for name, addresses in gateways.items():
            target = _target(asked, addresses.public)
            ask(target)
            wrk.run(target, CONNECTIONS, WARM_UP_S, core)
            found[Contender(f"{asked}, {name}", CONNECTIONS)] = _measured(target, seconds, core)
    return found


def _measured(target: Target, seconds: int, core: int) -> Callable[[], Load]:
    return lambda: wrk.run(target, CONNECTIONS, seconds, core)


def _target(asked: str, url: str) -> Target:
    if asked == "numbers":
        return Target(f"{url}/v2/models/{tiny_model.NAME}/infer", bodies.protocol_json(), bodies.JSON)
    return Target(f"{url}/v1/classify?model={DIGITS}", bodies.small_png(), bodies.PNG)


def _asked(name: str) -> str:
    return name.rpartition(", ")[0]


def _resident_mb(admin_url: str) -> float:
    families = text_string_to_metric_families(httpx.get(f"{admin_url}/metrics", timeout=30).text)
    [sample] = [one for family in families for one in family.samples if one.name == "process_resident_memory_bytes"]
    return float(sample.value) / 2**20


class _Taking(BaseHTTPRequestHandler):
    """Says that it has what it is sent."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def _collector() -> Iterator[str]:
    """The URL of a collector of traces that forgets them."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Taking) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
