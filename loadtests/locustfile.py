"""Load of a scenario on a running gateway, in locust: its web page, its CSV files, its headless mode, its workers.

    locust -f loadtests/locustfile.py --host http://127.0.0.1:8080 --scenario loadtests/scenarios/default.toml

A user here is no caller but a source of many: requests are sent when they are due, and nobody waits for answers
before the next (arrivals.py). Locust's times therefore count from when a request was due. The scenario says how long
and how much; of --users and --run-time nothing is taken. TIDEGATE_KEY is sent where it is set.

With --processes N and --sources N the load is made by N processes, which more than some hundred requests a second need.
"""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import astuple
from pathlib import Path
from typing import Any, Final

import gevent
import httpx
from locust import LoadTestShape, User, events, task
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from loadtests import payloads
from loadtests.arrivals import due_times
from loadtests.changes import make_changes
from loadtests.connection import ANSWER_LIMIT_S, Connections, documented, ready_models
from loadtests.outcome import Made, Outcome, Recording, ordered, write_recording
from loadtests.payloads import NothingToAsk
from loadtests.scenario import Scenario, read_scenario
from loadtests.source import Source
from loadtests.toml_file import FileInvalid
from serving.client import AdminClient, Refused, Unreachable

log = logging.getLogger(__name__)
DEFAULT: Final = Path(__file__).with_name("scenarios") / "default.toml"
SPARE_S: Final = 15.0  # for workers to start, and to tell of their last answers
CHANNEL: Final = "tidegate"  # of what workers report


class Plan:
    """What this process is about to do, and what it has seen."""

    def __init__(self, host: str, scenario: Scenario, admin_url: str) -> None:
        self.host = host
        self.scenario = scenario
        self.aims = payloads.aims(scenario, ready_models(host), documented(host))
        self.admin = AdminClient(admin_url) if scenario.change else None
        self.numbers = itertools.count()  # of the sources in this process


class Recorder:
    """What came of the test, here and at the workers. ended: sources that have their last answer."""

    def __init__(self) -> None:
        self.ended = 0
        self.outcomes: list[Outcome] = []
        self.changes: list[Made] = []

    def packed(self) -> tuple[int, list[Any], list[Any]]:
        """What there is, for the way to the master; it is forgotten here."""
        packed = self.ended, list(map(astuple, self.outcomes)), list(map(astuple, self.changes))
        self.ended = 0
        self.outcomes.clear()
        self.changes.clear()
        return packed

    def unpack(self, packed: tuple[int, list[Any], list[Any]]) -> None:
        self.ended += packed[0]
        self.outcomes += [Outcome(*values) for values in packed[1]]
        self.changes += [Made(*values) for values in packed[2]]


class Arrivals(User):  # type: ignore[misc]  # locust's types are not followed
    """A source of requests: with others, of a share."""

    @task  # type: ignore[untyped-decorator]
    def send(self) -> None:
        """The whole scenario, once. Locust's users would begin again; this one has said all it has to say."""
        environment = self.environment
        plan, recorder = environment.tidegate_plan, environment.tidegate_recorder
        worker = environment.runner.worker_index if isinstance(environment.runner, WorkerRunner) else 0
        seed = plan.scenario.seed + 1000 * worker + next(plan.numbers)
        connections = Connections(plan.host)
        source = Source(connections.ask, lambda outcome: _tell(environment, outcome))
        changing = gevent.spawn(lambda: None)
        if plan.admin and seed == plan.scenario.seed:
            changes = plan.scenario.change
            changing = gevent.spawn(
                make_changes, changes, plan.admin, source.clock, source.begun_s, recorder.changes.append
            )
        dues = due_times(plan.scenario.phases, seed, 1 / environment.parsed_options.sources)
        try:
            source.open_loop(dues, payloads.drawn(plan.aims, seed))
            source.finish()
            changing.join()
            recorder.ended += 1
        finally:
            source.stop()
            connections.close()
        raise StopUser


class Phases(LoadTestShape):  # type: ignore[misc]
    """As many users as there are sources, until each has its last answer."""

    def tick(self) -> tuple[int, float] | None:
        environment = self.runner.environment
        sources = environment.parsed_options.sources
        if environment.tidegate_recorder.ended >= sources or self.get_run_time() > _longest_s(environment):
            return None
        return sources, sources


def _longest_s(environment: Any) -> float:
    try:
        return scenario_of(environment.parsed_options).seconds + ANSWER_LIMIT_S + SPARE_S
    except FileInvalid:
        return math.inf  # the test ends by itself, and says why


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_options(parser: Any) -> None:
    parser.add_argument("--scenario", default=str(DEFAULT), env_var="TIDEGATE_LOADTEST_SCENARIO", help="TOML file.")
    parser.add_argument("--rate", type=float, default=0.0, help="Requests a second, in place of the scenario's.")
    parser.add_argument("--seconds", type=float, default=0.0, help="Length, in place of the scenario's.")
    parser.add_argument("--sources", type=int, default=1, help="Users that share the load; one a process.")
    parser.add_argument("--admin-url", default="", help="Admin port, for scenarios that change versions.")
    parser.add_argument("--recording", default="", help="File for all that came of it.")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _prepare(environment: Any, **_: Any) -> None:
    recorder = environment.tidegate_recorder = Recorder()
    if isinstance(environment.runner, WorkerRunner):
        environment.events.report_to_master.add_listener(lambda data, **_: data.update({CHANNEL: recorder.packed()}))
    elif isinstance(environment.runner, MasterRunner):
        environment.events.worker_report.add_listener(lambda data, **_: recorder.unpack(data[CHANNEL]))


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def _take_aim(environment: Any, **_: Any) -> None:
    """Looks what the server has. With nothing to ask the test ends at once, as a failure."""
    environment.tidegate_recorder.packed()  # what is left of a test before, on locust's web page
    try:
        scenario = scenario_of(environment.parsed_options)
        environment.tidegate_plan = Plan(environment.host, scenario, environment.parsed_options.admin_url)
    except (FileInvalid, NothingToAsk) as error:
        _give_up(environment, str(error))
    except (Refused, Unreachable) as error:
        _give_up(environment, f"The scenario changes versions, for which it needs --admin-url: {error}")
    except (httpx.HTTPError, OSError) as error:
        _give_up(environment, f"{environment.host} cannot be asked: {error}")


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _write(environment: Any, **_: Any) -> None:
    """Locust fails a test in which a request failed by itself, but not one in which nothing was answered."""
    if isinstance(environment.runner, WorkerRunner):
        return
    if environment.stats.total.num_requests == 0:
        environment.process_exit_code = 1
    given, recorder = environment.parsed_options, environment.tidegate_recorder
    if given.recording and recorder.outcomes:
        scenario = scenario_of(given)
        recording = Recording(
            url=environment.host,
            title=scenario.title,
            seconds=scenario.seconds,
            outcomes=ordered(recorder.outcomes),
            changes=recorder.changes,
            about={"slo": scenario.slo.model_dump(exclude_none=True) if scenario.slo else None},
        )
        write_recording(Path(given.recording), recording)


def scenario_of(given: Any) -> Scenario:
    """As locust's options have it, which its web page may change. FileInvalid."""
    return read_scenario(Path(given.scenario)).at(given.rate or None, given.seconds or None)


def _tell(environment: Any, outcome: Outcome) -> None:
    environment.tidegate_recorder.outcomes.append(outcome)
    environment.events.request.fire(
        request_type="POST",
        name=f"{outcome.task} {outcome.model}",
        response_time=outcome.latency_s * 1000,
        response_length=0,
        exception=RuntimeError(outcome.code) if outcome.code else None,
        context={},
    )


def _give_up(environment: Any, reason: str) -> None:
    log.error(reason)
    environment.process_exit_code = 1
    environment.runner.quit()
