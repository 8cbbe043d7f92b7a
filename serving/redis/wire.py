"""One connection to Redis: how it is made, how it is asked, and what its faults mean."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from redis import exceptions as faults
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from serving.away import Away
from serving.errors import SettingsInvalid

T = TypeVar("T")
Command = tuple[str | bytes | int, ...]
Connect = Callable[[], Awaitable[AbstractConnection]]

ANSWER_S: Final = 0.2  # for one reply, or for the connection
FAULTS: Final = (faults.RedisError, OSError, TimeoutError)  # OSError: of TLS, or of names
CHECK: Final = "See whether it runs, and whether this host may connect to it."
_EXPLAINED: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (faults.AuthenticationError, "Redis does not accept this gateway's password.", "Set the one in --redis right."),
    (faults.AuthorizationError, "Redis does not accept this gateway's password.", "Set the one in --redis right."),
    (faults.NoPermissionError, "Redis forbids its user a command or a key.", "docs/decisions/0007 has the rule."),
    (faults.BusyLoadingError, "Redis is loading its data.", "Try again in a moment."),
    (faults.ReadOnlyError, "Redis is a replica and read-only.", "Name the primary with --redis."),
    (faults.OutOfMemoryError, "Redis is out of memory.", "Raise its maxmemory."),
    (faults.ResponseError, "Redis refuses the command.", "Its own words are in the gateway's log."),
    (faults.TimeoutError, "Redis does not answer.", CHECK),
    (TimeoutError, "Redis does not answer.", CHECK),
)


class RedisAway(Away):
    """Redis cannot be reached, or refuses. `unsure`: the commands may have been carried out all the same."""

    def __init__(self, detail: str, remedy: str, *, unsure: bool = False) -> None:
        super().__init__(detail, remedy)
        self.unsure = unsure


class Wire:
    """Asks on one connection, and knows whether all that was asked has been answered."""

    def __init__(self) -> None:
        self.connection: AbstractConnection | None = None
        self.settled = True
        self.unsure = False

    async def ask(self, *commands: Command, commits: bool = False) -> list[Any]:
        """The replies, all commands sent at once. The first error among them is raised when all are read.

        commits: whether a lost answer leaves it open what was done.
        """
        if self.connection is None:
            raise RedisAway("There is no connection to Redis.", "Try again.")
        self.settled, self.unsure = False, commits
        try:
            packed = self.connection.pack_commands(commands)
            await heeded(self.connection.send_packed_command(packed, check_health=False))
        except RuntimeError:  # uvloop's, of a connection that was reset just now
            raise faults.ConnectionError("The connection was closed.") from None
        replies = [await self._reply(self.connection) for _ in commands]
        self.settled, self.unsure = True, False
        for reply in replies:
            for part in reply if isinstance(reply, list) else (reply,):
                if isinstance(part, faults.ResponseError):
                    raise part
        return replies

    async def _reply(self, connection: AbstractConnection) -> Any:
        try:
            return await connection.read_response()
        except faults.ResponseError as error:  # an answer like others: those behind it are still to be read
            return error


def dialler(url: str, answer_s: float = ANSWER_S) -> tuple[Connect, str]:
    """What makes connections, and where to. SettingsInvalid, without the URL: it may hold a password.

    answer_s: the longest that one reply may take.
    """
    try:
        parts: dict[str, Any] = {**parse_url(url)}
        kind = parts.pop("connection_class", Connection)
        # Last, so that no query of the URL can undo them.
        settings = {
            **parts,
            "socket_timeout": answer_s,
            "socket_connect_timeout": ANSWER_S,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_timeout": False,
            "socket_keepalive": True,
            "health_check_interval": 0,
            "protocol": 2,
            "driver_info": None,
        }
        if "path" in parts:
            del settings["socket_keepalive"]
        kind(**settings)
    except (ValueError, TypeError, faults.RedisError):
        remedy = "Write it as redis://[user:password@]host[:port][/database], or rediss:// for TLS."
        raise SettingsInvalid("--redis: this is no URL of a Redis.", remedy=remedy) from None

    async def connect() -> AbstractConnection:
        connection: AbstractConnection = kind(**settings)
        try:
            await heeded(connection.connect())  # type: ignore[no-untyped-call]
            if answer_s > ANSWER_S:  # something listens; whether it answers is not worth so long a wait
                async with asyncio.timeout(ANSWER_S):
                    await heeded(connection.send_command("PING"))
                    await connection.read_response()
        except BaseException:
            await hang_up(connection)
            raise
        return connection

    host = parts.get("path") or f"{parts.get('host', 'localhost')}:{parts.get('port', 6379)}"
    return connect, f"{host}/{parts.get('db', 0)}"


async def heeded(work: Awaitable[T]) -> T:
    """The work's result; CancelledError when somebody was told to end meanwhile, and the work kept it to itself.

    redis-py sends by asyncio.wait_for, which does so until Python 3.12, if what it waits for has just ended: a loop
    that was cancelled then went on for ever. https://github.com/python/cpython/issues/86296
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    result = await work
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return result


async def hang_up(connection: AbstractConnection | None) -> None:
    """Closes it without a word and without waiting."""
    if connection is not None:
        with suppress(*FAULTS, RuntimeError):  # RuntimeError: its event loop has ended
            await connection.disconnect(nowait=True)


def explain(error: Exception) -> RedisAway:
    """What a fault means to people, and what they can do."""
    text = str(error)
    if text.startswith("MISCONF"):
        return RedisAway("Redis cannot save and takes no changes.", "See its disk and its log.")
    if text.startswith("NOREPLICAS"):
        return RedisAway("Redis has too few replicas and takes no changes.", "See its replicas.")
    for kind, detail, remedy in _EXPLAINED:
        if isinstance(error, kind):
            return RedisAway(detail, remedy)
    return RedisAway("Redis cannot be reached.", CHECK)
