"""What `tidegate` prints and how it exits. As a program of its own: tests/integration/test_commands.py."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import socket
import sys

import http_rig
import pytest
import tiny
from click.testing import CliRunner, Result

from serving import cli
from serving.ledger import LedgerOptions
from serving.ledgers.file import FileLedger
from serving.versions.transitions import seeded


def tidegate(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def failed(result: Result, exit_code: int, said: str) -> None:
    """Exited so, with a reason for people: no traceback, nothing on standard output."""
    assert isinstance(result.exception, SystemExit)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert said in result.stderr


@pytest.fixture
def repository(tmp_path):
    tiny.add_classifier(tmp_path / "models", number=1)
    tiny.add_classifier(tmp_path / "models", number=3)
    tiny.add_plain(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def cells(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


HEAD = ["NAME", "TASK", "VERSIONS", "STABLE", "CANARY", "SHADOW", "PREVIOUS", "READY"]


def test_lists_a_repository_with_no_gateway(repository, state):
    result = tidegate("models", "--repository", repository, "--state", state)
    assert cells(result.output) == [
        HEAD,
        ["colours", "classify", "1,3", "1", "-", "-", "-", "no"],
        ["double", "-", "1", "1", "-", "-", "-", "no"],
    ]
    assert result.exit_code == 0
    assert not state.exists(), "looking changes nothing"


def test_lists_what_the_state_says_is_live(repository, state):
    asyncio.run(FileLedger(LedgerOptions(state)).change(seeded({"colours": 3})))
    result = tidegate("models", "--repository", repository, "--state", state)
    assert cells(result.output)[1][:4] == ["colours", "classify", "1,3", "3"]


def test_what_is_left_out_is_said_beside_the_list(repository, state):
    (repository / "double/config.pbtxt").unlink()
    result = tidegate("models", "--repository", repository, "--state", state, "--json")
    assert result.stderr.startswith("left out: double/config.pbtxt: expected this file")
    listing = json.loads(result.stdout)
    assert [model["name"] for model in listing["models"]] == ["colours"]
    assert listing["models"][0]["card"]["family"] == "tiny"


def test_lists_the_models_of_a_gateway(tmp_path):
    async def main():
        async with http_rig.serving(tmp_path) as live:
            table = await asyncio.to_thread(tidegate, "models", "--url", live.admin_url)
            as_json = await asyncio.to_thread(tidegate, "models", "--url", live.admin_url, "--json")
            public = (await live.client.get("/v1/models")).json()
            return table, as_json, public

    table, as_json, public = asyncio.run(main())
    assert cells(table.output)[1] == ["colours", "classify", "1", "1", "-", "-", "-", "yes"]
    assert json.loads(as_json.output) == public, "as /v1/models has it"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["models", "--url", "http://127.0.0.1:9"], 1, "No gateway answers at http://127.0.0.1:9"),
        (["models", "--url", "http://["], 1, "http://["),
        (["models", "--repository", "/nowhere"], 1, "expected a folder, the model repository"),
        (["models", "--url", "http://127.0.0.1:9", "--repository", "x"], 2, "--url or --repository, not both"),
        (["models", "--nope"], 2, "No such option"),
        (["levitate"], 2, "No such command"),
        (["serve", "--port", "many"], 2, "not a valid integer"),
        (["serve", "--port", "70000"], 1, "--port (TIDEGATE_PORT)"),
        (["serve", "--guard", "perhaps"], 2, "'off', 'advise', 'act'"),
        (["serve", "--capture", "3"], 1, "--capture (TIDEGATE_CAPTURE)"),
        (["serve", "--host", "0.0.0.0", "--keys", "/nowhere/keys.json"], 1, "tidegate keys add NAME"),  # noqa: S104  (refused)
        (["serve", "--engine", "steam", "--port", "0", "--admin-port", "0"], 1, "There are: fake, onnx, triton."),
    ],
    ids=[
        "nobody there",
        "no address",
        "no repository",
        "both",
        "an unknown option",
        "an unknown command",
        "a port of letters",
        "a port too high",
        "no such mode",
        "more than all requests",
        "not loopback",
        "an unknown engine",
    ],
)
def test_what_cannot_be_done_has_a_code_and_a_reason(arguments, exit_code, said):
    failed(tidegate(*arguments), exit_code, said)


def test_a_damaged_state_is_named(repository, state):
    state.mkdir()
    (state / "live.json").write_text("{")
    failed(tidegate("models", "--repository", repository, "--state", state), 1, "live.json")


def test_a_port_that_is_taken(repository, state):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = tidegate("serve", "--repository", repository, "--state", state, "--port", port, "--admin-port", 0)
    failed(result, 1, f"127.0.0.1:{port}: address already in use")


def test_says_its_version():
    assert importlib.metadata.version("tidegate") in tidegate("--version").output


@pytest.mark.parametrize("command", [[], ["serve"], ["models"]], ids=["tidegate", "serve", "models"])
def test_says_how_it_is_used(command):
    for option in ("-h", "--help"):
        assert tidegate(*command, option).output.startswith("Usage: ")


def test_where_there_is_no_uvloop_asyncios_own_loop_serves(monkeypatch):
    assert cli._loop_factory().__module__.startswith("uvloop")
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert cli._loop_factory() is None
