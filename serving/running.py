"""A gateway that is served: at its addresses, until a signal ends it."""

from __future__ import annotations

import gc
import logging
import socket
from collections.abc import Sequence
from contextlib import ExitStack

from serving.bootstrap import Parts, build
from serving.engine import Engine
from serving.errors import SettingsInvalid
from serving.gateway.rpc.inference import Bounds
from serving.gateway.rpc.server import RpcServer
from serving.gateway.server import Listener, bind, serve
from serving.log_lines import Lines
from serving.opening import open_keyring
from serving.settings import Settings, option

log = logging.getLogger(__name__)


async def run(settings: Settings, *, engine: Engine | None = None, lines: Lines | None = None) -> None:
    """Serves until a signal ends it, by `engine` if one is given. lines: where each request is logged.

    SettingsInvalid or RepositoryInvalid when it cannot start.
    """
    keyring = open_keyring(settings)  # first: no address is taken that could not be kept
    with ExitStack() as sockets:  # closed whatever happens: a second address that cannot be had gives back the first
        addresses = ((settings.host, settings.port), (settings.admin_host, settings.admin_port))
        bound = [sockets.enter_context(bind(host, port)) for host, port in addresses]
        grpc_port = _grpc_port(settings, bound)
        parts = build(settings, engine=engine, keyring=keyring, lines=lines)
        rpc = None if grpc_port is None else open_rpc(parts, bound[0].getsockname()[0], grpc_port)
        listeners = [Listener(app, at) for app, at in zip((parts.public, parts.admin), bound, strict=True)]

        async def start() -> None:
            await parts.start()
            _calm_collector()
            names = ", ".join(resident.version.name for resident in parts.router.stables())
            grpc = f"gRPC {rpc.address}" if rpc is not None else f"no gRPC: port {settings.grpc_port} is taken"
            where = f"{listeners[0].url} (admin {listeners[1].url}, {grpc})"
            print(f"tidegate serves {names or 'no model'} on {where}", flush=True)  # noqa: T201

        try:
            await serve(
                listeners,
                parts.traffic,
                start,
                finish=parts.worker.drain,
                rpc=rpc,
                drain_delay_s=settings.drain_delay_s,
                drain_timeout_s=settings.drain_timeout_s,
            )
        finally:
            await parts.close()


def open_rpc(parts: Parts, host: str, port: int) -> RpcServer:
    """The gateway's gRPC, at its address and not yet started. SettingsInvalid when that cannot be had."""
    settings = parts.settings
    bounds = Bounds(settings.tensor_json_limit, settings.request_timeout_s)
    rpc = RpcServer(parts.protocol, parts.access, parts.traffic, body_limit=settings.body_limit, bounds=bounds)
    try:
        rpc.bind(host, port)
    except OSError:
        remedy = f"Choose another {option('grpc_port')} or stop what uses it."
        raise SettingsInvalid(f"{host}:{port}: address already in use.", remedy=remedy) from None
    return rpc


def _grpc_port(settings: Settings, bound: Sequence[socket.socket]) -> int | None:
    """The port for gRPC; None when nobody asked for the default one and another program has it.

    bound: our own sockets, which are not seen to be taken before they listen. SettingsInvalid: it was asked for.
    """
    port = settings.grpc_port
    try:
        if port and port in (at.getsockname()[1] for at in bound):
            raise SettingsInvalid(f"{option('grpc_port')}: {port} is this gateway's own for HTTP.")
        bind(bound[0].getsockname()[0], port).close()
    except SettingsInvalid as error:
        if settings.grpc_port_is_asked_for:
            raise
        log.warning("no gRPC: %s", error)
        return None
    return port


def _calm_collector() -> None:
    """Keeps Python's cycle collector off the request path, where it took a seventh of a tiny model's request.

    What start-up made stays, so it is never walked again; and requests leave no cycles, so it need not look often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
