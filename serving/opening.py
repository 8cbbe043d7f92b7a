"""What the settings name, opened: keys, ledger, claims, engine."""

from __future__ import annotations

import secrets

from serving import engine as engines
from serving import index as indexes
from serving import job_store as job_stores
from serving import ledger as ledgers
from serving import plugins
from serving.claim import FOLDER as CLAIMS
from serving.claim import ClaimOptions, Claims
from serving.engine import Engine, EngineOptions
from serving.errors import NotFound, SettingsInvalid
from serving.index import Index, IndexOptions
from serving.job_store import JobStore, JobStoreOptions
from serving.keys import Keyring
from serving.ledger import Ledger, LedgerOptions
from serving.settings import Settings, option
from serving.tensorrt import Host, read_host
from serving.threads import Threads


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


def open_index(settings: Settings) -> Index:
    """Redis if the settings name one, else files."""
    plugin = plugins.find(indexes.FOLDER, "redis" if settings.redis else "local", "PLUGIN")
    index: Index = plugin(IndexOptions(settings.state, settings.redis or ""))
    return index


def open_jobs(settings: Settings) -> JobStore:
    """Redis if the settings name one, else a file."""
    plugin = plugins.find(job_stores.FOLDER, "redis" if settings.redis else "local", "PLUGIN")
    options = JobStoreOptions(
        settings.state,
        settings.redis or "",
        most=settings.job_queue_limit,
        lease_s=settings.job_lease_s,
        keep_s=settings.job_result_ttl_s,
    )
    jobs: JobStore = plugin(options)
    return jobs


def open_engine(settings: Settings, threads: Threads) -> Engine:
    """The engine that the settings name. SettingsInvalid when there is none of that name, or it lacks something."""
    try:
        plugin = plugins.find(engines.FOLDER, settings.engine, "PLUGIN")
    except NotFound as error:
        raise SettingsInvalid(error.detail, remedy=error.remedy) from None
    engine: Engine = plugin(
        EngineOptions(threads, settings.triton_url or "", open_claims(settings), open_host(settings))
    )
    return engine


def open_host(settings: Settings) -> Host | None:
    """What Triton runs on, as far as somebody said."""
    return read_host(settings.triton_host) if settings.triton_host else None


def open_claims(settings: Settings) -> Claims:
    """Redis if the settings name one, else files."""
    plugin = plugins.find(CLAIMS, "redis" if settings.redis else "file", "PLUGIN")
    claims: Claims = plugin(ClaimOptions(secrets.token_hex(8), settings.state, settings.redis or ""))
    return claims
