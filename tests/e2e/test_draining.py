"""How a gateway ends: told by a signal, with nobody's answer lost, exit code 0."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import tiny
from http_rig import PATIENCE_S, Process, connect, gateway_process, picture, read_answer, request_bytes, wait_until

POST = request_bytes("/v1/classify", picture(red=64))
LONG = {"TIDEGATE_DRAIN_DELAY_S": "3600"}


@pytest.fixture
def start(tmp_path):
    tiny.add_classifier(tmp_path / "repository")

    def started(**environment: str):
        return gateway_process(tmp_path / "repository", tmp_path / "state", **environment)

    return started


def ready(process: Process) -> int:
    return httpx.get(f"{process.url}/readyz").status_code


def takes_connections(process: Process) -> bool:
    try:
        with connect(process.url):
            return True
    except ConnectionError:
        return False


def test_it_turns_away_balancers_first_and_callers_later(start):
    with start(**LONG) as process, connect(process.url) as kept, kept.makefile("rb") as stream:
        kept.sendall(POST)
        assert read_answer(stream).status == 200
        assert ready(process) == 200
        process.signal(signal.SIGTERM)
        wait_until(lambda: ready(process) == 503, "it is not ready")
        assert httpx.get(f"{process.admin_url}/readyz").status_code == 503
        assert httpx.get(f"{process.url}/livez").status_code == 200
        answer = httpx.post(
            f"{process.url}/v1/classify", content=picture(red=64), headers={"content-type": "image/png"}
        )
        assert answer.json()["predictions"][0]["label"] == "red"
        kept.sendall(POST)  # callers who were connected before are served as well
        assert read_answer(stream).status == 200
        assert process.popen.poll() is None
        process.signal(signal.SIGTERM)
        assert process.exit_code() == 0
        assert stream.read() == b""
        assert "Traceback" not in process.log.read_text()


@pytest.mark.parametrize(
    ("signals", "delay"),
    [
        ([signal.SIGTERM], "0"),
        ([signal.SIGTERM], "0.2"),
        ([signal.SIGINT], "3600"),
        ([signal.SIGTERM, signal.SIGINT], "3600"),
    ],
    ids=["no delay", "a delay that ends", "SIGINT", "SIGTERM, then SIGINT"],
)
def test_it_ends_with_exit_code_0(start, signals, delay):
    with start(TIDEGATE_DRAIN_DELAY_S=delay) as process:
        for number in signals:
            process.signal(number)
        assert process.exit_code() == 0
        assert "Traceback" not in process.log.read_text()


def test_what_was_begun_is_finished(start):
    """Ten requests are half sent when the signal comes; their callers send the rest and are answered."""
    with start() as process:
        connections = [connect(process.url) for _ in range(10)]
        for connection in connections:
            connection.sendall(POST[:-10])
        text = f"{process.admin_url}/metrics"
        wait_until(lambda: "tidegate_in_flight_requests 10.0" in httpx.get(text).text, "all are inside")
        process.signal(signal.SIGTERM)
        wait_until(lambda: not takes_connections(process), "no further caller is taken")
        assert process.popen.poll() is None
        for connection in connections:
            connection.sendall(POST[-10:])
        for connection in connections:
            with connection, connection.makefile("rb") as stream:
                answer = read_answer(stream)
                assert answer.status == 200
                assert answer.json["predictions"][0]["label"] == "red"
                assert answer.headers["connection"] == "close"
                assert stream.read() == b""
        assert process.exit_code() == 0


def test_idle_connections_do_not_hold_it_up(start):
    with start(TIDEGATE_DRAIN_TIMEOUT_S="3600") as process:
        idle = [connect(process.url) for _ in range(3)]
        idle[1].sendall(POST)
        with idle[1].makefile("rb") as stream:
            assert read_answer(stream).status == 200
        process.signal(signal.SIGTERM)
        assert process.exit_code() == 0
        for connection in idle:
            assert connection.recv(1) == b""
            connection.close()


def test_a_port_that_is_taken_is_said_plainly(start, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        program = Path(sys.executable).with_name("tidegate")
        options = ["--repository", tmp_path / "repository", "--state", tmp_path / "state", "--port", port]
        done = subprocess.run(
            [sys.executable, program, "serve", *options, "--admin-port", "0", "--grpc-port", "0"],
            capture_output=True, text=True, timeout=4 * PATIENCE_S, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"127.0.0.1:{port}: address already in use" in done.stderr
    assert "Traceback" not in done.stderr
