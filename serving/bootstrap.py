"""Where the parts meet, and the only reader of settings."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from serving import engine as engines
from serving import ledger as ledgers
from serving import plugins
from serving.batching.batcher import Batch, Batcher
from serving.engine import Engine, EngineOptions
from serving.errors import NotFound, SettingsInvalid
from serving.gateway.access import Access
from serving.gateway.app import Gateway, Limits, admin_app, public_app
from serving.gateway.quota import Quotas
from serving.gateway.server import Listener, bind, serve
from serving.gateway.traffic import Traffic
from serving.keys import Keyring
from serving.ledger import Ledger, LedgerOptions
from serving.pipeline import Pipeline
from serving.repository.layout import Index, scan
from serving.settings import Settings, option
from serving.shadow import Shadows
from serving.telemetry import Meters
from serving.threads import Threads
from serving.versions.changes import Changes, Gatekeeper
from serving.versions.examiner import Examiner
from serving.versions.loader import Loader
from serving.versions.reconciler import Reconciler
from serving.versions.router import Router
from serving.versions.transitions import seeded

DECODES_WAITING = 64  # for each thread: some seconds of work, beyond which waiting serves nobody


@dataclass(frozen=True, slots=True)
class Parts:
    """A gateway, built and not yet started. Tests reach for what they need."""

    settings: Settings
    engine: Engine
    meters: Meters
    router: Router
    reconciler: Reconciler
    changes: Changes
    shadows: Shadows
    pipeline: Pipeline
    threads: Threads
    traffic: Traffic
    public: Gateway
    admin: Gateway

    async def start(self) -> None:
        """Loads what is to be live."""
        await self.reconciler.start()

    async def close(self) -> None:
        """Ends when the last request has."""
        await self.shadows.close()
        await self.reconciler.close()
        await self.engine.close()
        self.threads.close()


def build(
    settings: Settings,
    *,
    engine: Engine | None = None,
    ledger: Ledger | None = None,
    keyring: Keyring | None = None,
    gate: Gatekeeper | None = None,
) -> Parts:
    """A gateway of these settings; what else is given takes the place of what the settings name."""
    meters = Meters()

    def observe(batch: Batch) -> None:
        meters.batch_cut(batch.key.name, batch.key.version, batch.rows, batch.reason, batch.waiting_rows)

    threads = Threads(settings.cores, DECODES_WAITING * settings.cores)
    inner = engine or _engine(settings, threads)
    batching = inner if inner.batches_itself else Batcher(inner, observe)
    router = Router(settings.default_models)
    ledger = ledger or open_ledger(settings)
    reconciler = Reconciler(settings.repository, ledger, Loader(batching, meters), router)
    changes = Changes(ledger, gate or Examiner(), reconciler.refresh, settings.load_timeout_s)
    known = keyring or open_keyring(settings)
    access = Access(known, meters, Quotas(lambda: reconciler.gateways, lambda: known.names))
    shadows = Shadows(meters)
    pipeline = Pipeline(router, batching, threads, shadows)
    models = partial(reconciler.models, shadows.tally)
    traffic = Traffic(meters, settings.max_in_flight)

    meters.ledger_connected.set_function(lambda: float(ledger.connected))
    meters.ledger_revision.set_function(lambda: reconciler.revision)

    def ready() -> bool:
        return reconciler.settled and not traffic.draining

    limits = Limits(settings.body_limit, settings.tensor_json_limit, settings.request_timeout_s)
    return Parts(
        settings=settings,
        engine=batching,
        meters=meters,
        router=router,
        reconciler=reconciler,
        changes=changes,
        shadows=shadows,
        pipeline=pipeline,
        threads=threads,
        traffic=traffic,
        public=public_app(pipeline, traffic, models, ready, limits, access=access),
        admin=admin_app(models, changes, ready, meters, access=access),
    )


@dataclass(frozen=True, slots=True)
class Offline:
    """What commands work with that are told a repository and a state."""

    changes: Changes
    look: Callable[[], Awaitable[Index]]  # what the repository holds
    refresh: Callable[[], Awaitable[Index]]  # the same, its new models given pointers
    ledger: Ledger


async def run(settings: Settings, *, engine: Engine | None = None) -> None:
    """Serves until a signal ends it, by `engine` if one is given.

    SettingsInvalid or RepositoryInvalid when it cannot start.
    """
    keyring = open_keyring(settings)  # first: no address is taken that could not be kept
    with ExitStack() as sockets:  # closed whatever happens: a second address that cannot be had gives back the first
        addresses = ((settings.host, settings.port), (settings.admin_host, settings.admin_port))
        bound = [sockets.enter_context(bind(host, port)) for host, port in addresses]
        parts = build(settings, engine=engine, keyring=keyring)
        listeners = [Listener(app, at) for app, at in zip((parts.public, parts.admin), bound, strict=True)]

        async def start() -> None:
            await parts.start()
            _calm_collector()
            names = ", ".join(resident.version.name for resident in parts.router.stables())
            print(f"tidegate serves {names or 'no model'} on {listeners[0].url} (admin {listeners[1].url})", flush=True)  # noqa: T201

        try:
            await serve(
                listeners,
                parts.traffic,
                start,
                drain_delay_s=settings.drain_delay_s,
                drain_timeout_s=settings.drain_timeout_s,
            )
        finally:
            await parts.close()


def _calm_collector() -> None:
    """Keeps Python's cycle collector off the request path, where it took a seventh of a tiny model's request.

    What start-up made stays, so it is never walked again; and requests leave no cycles, so it need not look often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def open_keyring(settings: Settings) -> Keyring:
    """The keys there are; SettingsInvalid when there are none and these settings need some."""
    keyring = Keyring(settings.keys_file)
    if keyring.required:
        return keyring
    remedy = f"Make one first: tidegate keys add NAME --scope predict --keys {settings.keys_file}"
    for name, host in settings.exposed.items():
        detail = (
            f"{option(name)}: {host} is no loopback address: whoever reaches it could use every model, with no key."
        )
        raise SettingsInvalid(detail, remedy=remedy)
    if settings.keys:
        raise SettingsInvalid(f"{option('keys')}: there is no key in {settings.keys_file}.", remedy=remedy)
    return keyring


def open_ledger(settings: Settings) -> Ledger:
    """Redis if the settings name one, else a file."""
    plugin = plugins.find(ledgers.FOLDER, "redis" if settings.redis else "file", "PLUGIN")
    ledger: Ledger = plugin(LedgerOptions(settings.state, settings.redis or ""))
    return ledger


def open_changes(settings: Settings) -> Offline:
    """Changes with no gateway of one's own: gateways that run on this state follow them, others at their start."""
    ledger = open_ledger(settings)

    async def look() -> Index:
        return await asyncio.to_thread(scan, settings.repository)

    async def refresh() -> Index:
        index = await look()
        await ledger.change(seeded({name: model.first_version for name, model in index.models.items()}))
        return index

    return Offline(Changes(ledger, Examiner(), refresh, settings.load_timeout_s), look, refresh, ledger)


def _engine(settings: Settings, threads: Threads) -> Engine:
    try:
        plugin = plugins.find(engines.FOLDER, settings.engine, "PLUGIN")
    except NotFound as error:
        raise SettingsInvalid(error.detail, remedy=error.remedy) from None
    engine: Engine = plugin(EngineOptions(threads))
    return engine
