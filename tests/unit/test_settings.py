"""Options over environment over defaults, and errors that name both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from serving import settings as module
from serving.errors import SettingsInvalid
from serving.settings import read_settings


def test_defaults():
    settings = read_settings()
    assert (settings.host, settings.port, settings.admin_port) == ("127.0.0.1", 8080, 8081)
    assert settings.grpc_port == 8090
    assert settings.state.name == "tidegate"
    assert settings.cores == len(os.sched_getaffinity(0))
    assert settings.default_models == {
        "caption": "captioner",
        "classify": "efficientnet-lite0",
        "detect": "nanodet",
        "embed": "clip",
        "generate-images": "diffusion",
        "segment": "selfie",
    }


def test_options_over_environment_over_defaults(monkeypatch):
    monkeypatch.setenv("TIDEGATE_PORT", "9000")
    monkeypatch.setenv("TIDEGATE_STATE", "/tmp/elsewhere")  # noqa: S108  (never made)
    assert read_settings().port == 9000
    assert read_settings(port=1234, host=None).port == 1234
    assert read_settings().state == Path("/tmp/elsewhere")  # noqa: S108


def test_a_port_for_grpc_is_asked_for_by_option_or_variable_and_not_by_default(monkeypatch):
    assert not read_settings().grpc_port_is_asked_for
    assert read_settings(grpc_port=8090).grpc_port_is_asked_for
    monkeypatch.setenv("TIDEGATE_GRPC_PORT", "8090")
    assert read_settings().grpc_port_is_asked_for


def test_where_a_system_cannot_say_which_cores_are_ours(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert module._cores() == os.cpu_count()


@pytest.mark.parametrize(
    ("text", "models"),
    [("classify=a,detect=b", {"classify": "a", "detect": "b"}), (" classify = a , ", {"classify": "a"}), ("", {})],
    ids=["two", "with spaces", "none"],
)
def test_default_models_are_pairs(monkeypatch, text, models):
    monkeypatch.setenv("TIDEGATE_DEFAULT_MODELS", text)
    assert read_settings().default_models == models


def test_a_variable_is_read_whatever_its_case(monkeypatch):
    monkeypatch.setenv("tidegate_port", "9001")
    assert read_settings().port == 9001


def test_every_setting_can_be_given_as_a_variable(monkeypatch):
    values = {"cores": 3, "engine": "fake", "max_in_flight": 5, "drain_delay_s": 0.5, "admin_host": "::1"}
    for name, value in values.items():
        monkeypatch.setenv(f"TIDEGATE_{name.upper()}", str(value))
    settings = read_settings()
    assert {name: getattr(settings, name) for name in values} == values


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        read_settings().port = 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_not_exposed(host):
    settings = read_settings(host=host, admin_host=host)
    assert (settings.host, settings.exposed) == (host, {})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "192.0.2.1", "fe80::1", "::ffff:127.0.0.1"])  # noqa: S104
@pytest.mark.parametrize("name", ["host", "admin_host"])
def test_any_other_address_is(name, host):
    assert read_settings(**{name: host}).exposed == {name: host}


def test_keys_are_in_the_state_folder_unless_told_otherwise(monkeypatch, tmp_path):
    assert read_settings(state=tmp_path).keys_file == tmp_path / "keys.json"
    monkeypatch.setenv("TIDEGATE_KEYS", str(tmp_path / "elsewhere.json"))
    assert read_settings(state=tmp_path).keys_file == tmp_path / "elsewhere.json"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"port": 70_000}, "--port (TIDEGATE_PORT)"),
        ({"port": "http"}, "--port (TIDEGATE_PORT)"),
        ({"admin_host": "example.org"}, "--admin-host (TIDEGATE_ADMIN_HOST)"),
        ({"host": "example.org"}, "an IP address"),
        ({"default_models": "classify"}, "task=model pairs"),
        ({"default_models": "classify=,detect=b"}, "task=model pairs"),
        ({"request_timeout_s": 0}, "--request-timeout-s"),
        ({"request_timeout_s": "nan"}, "--request-timeout-s"),
        ({"cores": 0}, "--cores (TIDEGATE_CORES)"),
        ({"drain_delay_s": -1}, "--drain-delay-s"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_an_error_names_option_and_variable(given, said):
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(**given)
    assert said in str(caught.value)
