"""Where the parts meet, and the only reader of settings."""

from __future__ import annotations

import gc
from contextlib import ExitStack
from dataclasses import dataclass

from serving import engine as engines
from serving import ledger as ledgers
from serving import plugins
from serving.batching.batcher import Batch, Batcher
from serving.engine import Engine, EngineOptions
from serving.errors import NotFound, SettingsInvalid
from serving.gateway.access import Access
from serving.gateway.app import Gateway, Limits, admin_app, public_app
from serving.gateway.server import Listener, bind, serve
from serving.gateway.traffic import Traffic
from serving.keys import Keyring
from serving.ledger import Ledger
from serving.pipeline import Pipeline
from serving.settings import Settings, option
from serving.telemetry import Meters
from serving.threads import Threads
from serving.versions.loader import Loader
from serving.versions.reconciler import Reconciler
from serving.versions.router import Router

DECODES_WAITING = 64  # for each thread: some seconds of work, beyond which waiting serves nobody


@dataclass(frozen=True, slots=True)
class Parts:
    """A gateway, built and not yet started. Tests reach for what they need."""

    settings: Settings
    engine: Engine
    meters: Meters
    router: Router
    reconciler: Reconciler
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
        await self.reconciler.close()
        await self.engine.close()
        self.threads.close()


def build(
    settings: Settings,
    *,
    engine: Engine | None = None,
    ledger: Ledger | None = None,
    keyring: Keyring | None = None,
) -> Parts:
    """A gateway of these settings; `engine`, `ledger`, `keyring` take the place of those that the settings name."""
    meters = Meters()
    access = Access(keyring or open_keyring(settings), meters)

    def observe(batch: Batch) -> None:
        meters.batch_cut(batch.key.name, batch.key.version, batch.rows, batch.reason, batch.waiting_rows)

    threads = Threads(settings.cores, DECODES_WAITING * settings.cores)
    inner = engine or _engine(settings, threads)
    batching = inner if inner.batches_itself else Batcher(inner, observe)
    router = Router(settings.default_models)
    reconciler = Reconciler(
        settings.repository,
        ledger or plugins.find(ledgers.FOLDER, "file", "PLUGIN")(settings.state),
        Loader(batching, meters),
        router,
    )
    pipeline = Pipeline(router, batching, threads)
    traffic = Traffic(meters, settings.max_in_flight)

    def ready() -> bool:
        return reconciler.settled and not traffic.draining

    limits = Limits(settings.body_limit, settings.tensor_json_limit, settings.request_timeout_s)
    return Parts(
        settings=settings,
        engine=batching,
        meters=meters,
        router=router,
        reconciler=reconciler,
        pipeline=pipeline,
        threads=threads,
        traffic=traffic,
        public=public_app(pipeline, traffic, reconciler.models, ready, limits, access=access),
        admin=admin_app(reconciler.models, ready, meters, access=access),
    )


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
            names = ", ".join(resident.version.name for resident in parts.router.residents())
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


def _engine(settings: Settings, threads: Threads) -> Engine:
    try:
        plugin = plugins.find(engines.FOLDER, settings.engine, "PLUGIN")
    except NotFound as error:
        raise SettingsInvalid(error.detail, remedy=error.remedy) from None
    engine: Engine = plugin(EngineOptions(threads))
    return engine
