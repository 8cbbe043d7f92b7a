"""docs/deploy.md: every command in it is one that there is."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from click import Group
from tool_rig import ROOT

from exporters.cli import main as exporters
from serving.cli import main as tidegate

PAGE = (ROOT / "docs/deploy.md").read_text()
BLOCKS = [
    [line.removeprefix("$ ").split("  #")[0].strip() for line in block.splitlines() if line.startswith("$ ")]
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
]
IN_TEXT = re.findall(r"`((?:tidegate|exporters|make|docker compose) [^`]+)`", PAGE)
COMMANDS = [part for line in (*IN_TEXT, *(line for block in BLOCKS for line in block)) for part in line.split(" && ")]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_a_gpu_host_takes_ten_commands():
    assert len(BLOCKS[0]) <= 10


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.startswith("make ")])
def test_make_has_the_target(command):
    assert command.split()[1] in TARGETS


@pytest.mark.parametrize("command", [one for one in COMMANDS if re.search(r"\b(tidegate|exporters) [a-z]", one)])
def test_our_programs_have_the_command_and_its_options(command):
    name, *words = shlex.split(re.search(r"\b((tidegate|exporters) .*)", command)[1])
    group: Group = {"tidegate": tidegate, "exporters": exporters}[name]
    found = group.commands[words[0]]
    known = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize(
    "command", [one for one in COMMANDS if re.match(r"docker compose (run|exec|build|up|rm)", one)]
)
def test_compose_has_the_service(command):
    words = shlex.split(command.split(" > ")[0])[2:]
    if words[0] in ("run", "exec", "build"):
        assert set(words) & SERVICES.keys()
    assert not [word for word in words if word.startswith("gateway") and word not in SERVICES]


def test_ports_and_volumes_are_those_of_the_compose_file():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for name in re.findall(r"`([a-z]+-(?:state|cache|data))`", PAGE):
        assert name in compose["volumes"]
    ports = " ".join(SERVICES["gateway"]["ports"])
    assert all(port in ports for port in ("8080:8080", "8090:8090", "127.0.0.1:8081:8081"))
