"""Where the parts meet, and the only reader of settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from serving.batching.admission import Admission
from serving.batching.batcher import Batcher
from serving.batching.lane import Batch
from serving.embedder import Embedder
from serving.engine import Engine
from serving.gateway.access import Access
from serving.gateway.app import Gateway, Limits, admin_app, public_app
from serving.gateway.open_inference import OpenInference
from serving.gateway.quota import Quotas
from serving.gateway.traffic import Traffic
from serving.guard.guard import Guard
from serving.guard.opening import open_guard
from serving.guard.tallies import Tallies
from serving.index import Index
from serving.job_store import JobStore
from serving.jobs import Jobs
from serving.keys import Keyring
from serving.ledger import Ledger, Pointers
from serving.log_lines import Lines
from serving.observation.watch import Watch, open_watch
from serving.opening import (
    open_claims,
    open_engine,
    open_host,
    open_index,
    open_jobs,
    open_keyring,
    open_ledger,
)
from serving.pipeline import Pipeline
from serving.readiness import Readiness
from serving.reembedding import Reembedding
from serving.scrape import register
from serving.search import Search
from serving.settings import Settings
from serving.shadow import Shadows
from serving.telemetry import Meters
from serving.threads import Threads
from serving.versions.changes import Changes, Gatekeeper
from serving.versions.examiner import Examiner
from serving.versions.loader import Loader
from serving.versions.reconciler import Reconciler
from serving.versions.router import Router
from serving.worker import Worker, WorkerOptions

DECODES_WAITING = 64  # for each thread: some seconds of work, beyond which waiting serves nobody


@dataclass(frozen=True, slots=True)
class Parts:
    """A gateway, built and not yet started. Tests reach for what they need."""

    settings: Settings
    engine: Engine
    meters: Meters
    router: Router
    reconciler: Reconciler
    search: Search
    reembedding: Reembedding
    changes: Changes
    shadows: Shadows
    guard: Guard
    watch: Watch
    pipeline: Pipeline
    worker: Worker
    jobs: Jobs
    threads: Threads
    traffic: Traffic
    access: Access
    protocol: OpenInference
    public: Gateway
    admin: Gateway

    async def start(self) -> None:
        """Loads what is to be live."""
        await self.reembedding.start()  # first: it is known then which versions collections need
        await self.reconciler.start()
        await self.worker.start()
        await self.watch.start()
        await self.guard.start()

    async def close(self) -> None:
        """Ends when the last request has."""
        await self.guard.close()
        await self.watch.close()
        await self.worker.close()
        await self.shadows.close()
        await self.reembedding.close()
        await self.reconciler.close()
        await self.search.index.close()
        await self.engine.close()
        self.threads.close()


def build(
    settings: Settings,
    *,
    engine: Engine | None = None,
    ledger: Ledger | None = None,
    keyring: Keyring | None = None,
    gate: Gatekeeper | None = None,
    index: Index | None = None,
    job_store: JobStore | None = None,
    lines: Lines | None = None,
) -> Parts:
    """A gateway of these settings; what else is given takes the place of what the settings name.

    lines: where each request is logged; without them nowhere.
    """
    meters = Meters()

    def observe(batch: Batch) -> None:
        meters.batch_cut(batch.key.name, batch.key.version, batch.rows, batch.reason, batch.waiting_rows)

    threads = Threads(settings.cores, DECODES_WAITING * settings.cores)
    router = Router(settings.default_models)
    ledger = ledger or open_ledger(settings)
    watch = open_watch(settings, meters, threads, router, connected=lambda: ledger.connected, lines=lines)
    traffic = Traffic(meters, settings.max_in_flight, watch.records)
    inner = engine or open_engine(settings, threads)
    batching = Admission(inner) if inner.batches_itself else Batcher(inner, observe, lambda: traffic.quiet_turns)
    shadows = Shadows(meters)
    pipeline = Pipeline(router, batching, threads, shadows, watch.witnesses)

    def pointers(model: str) -> Pointers | None:
        return reconciler.pointers(model)

    index = index or open_index(settings)
    readiness = Readiness(index, pointers)
    search = Search(index, Embedder(pipeline, router), readiness, pointers)
    tallies = Tallies(router, shadows, settings.guard, truths=watch.feedback, inputs=watch.drift)
    reconciler = Reconciler(
        settings.repository,
        ledger,
        Loader(batching, meters),
        router,
        dependents=readiness,
        trials=tallies.announced,
    )
    claims = open_claims(settings)
    reembedding = Reembedding(search, claims, pointers, reconciler.look_again)
    changes = Changes(ledger, gate or Examiner(host=open_host(settings)), reconciler.refresh, settings.load_timeout_s)
    guard = open_guard(
        settings,
        reconciler,
        changes,
        ledger=ledger,
        claims=claims,
        shadows=shadows,
        drift=watch.drift,
        registry=meters.registry,
    )
    known = keyring or open_keyring(settings)
    access = Access(known, meters, Quotas(lambda: reconciler.gateways, lambda: known.names))
    models = partial(reconciler.models, shadows.tally)

    meters.ledger_connected.set_function(lambda: float(ledger.connected))
    meters.ledger_revision.set_function(lambda: reconciler.revision)
    register(meters.registry, batching.tallies, router, reconciler)

    def ready() -> bool:
        return reconciler.settled and not traffic.draining and batching.available

    job_store = job_store or open_jobs(settings)
    options = WorkerOptions(settings.job_concurrency, settings.job_timeout_s)
    worker = Worker(job_store, pipeline, meters, ready, options, tracing=watch.records.tracing)
    jobs = Jobs(job_store, worker, router, meters)
    protocol = OpenInference(pipeline, router, batching, ready)
    limits = Limits(settings.body_limit, settings.tensor_json_limit, settings.request_timeout_s)
    return Parts(
        settings=settings,
        engine=batching,
        meters=meters,
        router=router,
        reconciler=reconciler,
        search=search,
        reembedding=reembedding,
        changes=changes,
        shadows=shadows,
        guard=guard,
        watch=watch,
        pipeline=pipeline,
        worker=worker,
        jobs=jobs,
        threads=threads,
        traffic=traffic,
        access=access,
        protocol=protocol,
        public=public_app(
            pipeline,
            search,
            jobs,
            protocol,
            models,
            truths=watch.truths,
            traffic=traffic,
            threads=threads,
            limits=limits,
            access=access,
        ),
        admin=admin_app(
            protocol,
            search,
            models,
            reconciler.states,
            changes,
            guard=guard,
            drift=watch.drift,
            feedback=watch.feedback,
            meters=meters,
            access=access,
            records=watch.records,
        ),
    )
