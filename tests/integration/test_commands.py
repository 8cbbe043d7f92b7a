"""The `tidegate` command as a person types it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny

TIDEGATE = Path(sys.executable).with_name("tidegate")


@pytest.fixture
def models(tmp_path):
    tiny.add_classifier(tmp_path / "models")
    tiny.add_plain(tmp_path / "models")
    return tmp_path / "models"


def tidegate(*arguments, **environment) -> subprocess.CompletedProcess:
    command = [TIDEGATE, *map(str, arguments)]
    env = {**os.environ, **environment}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=env)


@contextmanager
def serving(models: Path, state: Path):
    """A gateway on free ports: its admin URL."""
    ports = ["--port", "0", "--admin-port", "0", "--grpc-port", "0"]
    command = [TIDEGATE, "serve", "--repository", models, "--state", state, *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("tidegate serves colours/1, double/1 on http://127.0.0.1:")
        try:
            yield re.search(r"admin (\S+),", line).group(1)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0


def test_models_of_a_gateway(models, tmp_path):
    with serving(models, tmp_path / "state") as url:
        listed = tidegate("models", "--url", url)
        as_json = tidegate("models", "--url", url, "--json")
        wrong_port = tidegate("models", "--url", f"{url}/nothing")
    assert listed.returncode == 0
    assert [line.split() for line in listed.stdout.splitlines()] == [
        ["NAME", "TASK", "VERSIONS", "STABLE", "CANARY", "SHADOW", "PREVIOUS", "READY"],
        ["colours", "classify", "1", "1", "-", "-", "-", "yes"],
        ["double", "-", "1", "1", "-", "-", "-", "yes"],
    ]
    assert [model["name"] for model in json.loads(as_json.stdout)["models"]] == ["colours", "double"]
    assert wrong_port.returncode == 1
    assert "nothing at this path" in wrong_port.stderr


def test_models_of_a_folder_with_no_gateway(models, tmp_path):
    (models / "Wrong").mkdir()
    listed = tidegate("models", "--repository", models, "--state", tmp_path / "state")
    assert listed.returncode == 0
    assert "colours  classify  1         1       -       -       -         no" in listed.stdout
    assert "left out: Wrong" in listed.stderr


def test_no_gateway_there():
    asked = tidegate("models", "--url", "http://127.0.0.1:9")
    assert asked.returncode == 1
    assert "No gateway answers" in asked.stderr


@pytest.mark.parametrize("url", ["http://[", "http://" + "a" * 70 + ".test"], ids=["no URL", "no host name"])
def test_an_address_that_is_none(url):
    asked = tidegate("models", "--url", url)
    assert asked.returncode == 1
    assert "Traceback" not in asked.stderr


def test_wrong_usage_has_exit_code_2(models):
    assert tidegate("models", "--url", "http://127.0.0.1:9", "--repository", models).returncode == 2
    assert tidegate("serve", "--nope").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--repository", "nowhere"], {}, "expected a folder"),
        (["--host", "0.0.0.0"], {}, "tidegate keys add NAME"),  # noqa: S104  (refused)
        (["--engine", "steam"], {}, "There are: fake, onnx, triton."),
        ([], {"TIDEGATE_PORT": "many"}, "TIDEGATE_PORT"),
        (["--state", "/proc/state"], {}, "--state"),
    ],
    ids=["no repository", "not loopback", "no such engine", "a wrong variable", "no state folder"],
)
def test_what_cannot_be_started_says_why(models, tmp_path, arguments, environment, said):
    given = ["--repository", models, "--state", tmp_path, "--port", "0", "--admin-port", "0", *arguments]
    if "TIDEGATE_PORT" in environment:
        given = given[:4]
    started = tidegate("serve", *given, **environment)
    assert started.returncode == 1
    assert said in started.stderr
    assert "Traceback" not in started.stderr


def test_a_port_that_is_taken(models, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        started = tidegate("serve", "--repository", models, "--state", tmp_path, "--port", port, "--admin-port", "0")
    assert started.returncode == 1
    assert f"127.0.0.1:{port}: address already in use" in started.stderr
