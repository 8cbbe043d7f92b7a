"""What settings need keys, and what is said where there are none."""

from __future__ import annotations

import pytest

from serving.errors import SettingsInvalid
from serving.keys import KeyFile
from serving.opening import open_keyring
from serving.settings import read_settings


@pytest.mark.parametrize("name", ["host", "admin_host"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "fe80::1"])  # noqa: S104  (refused)
@pytest.mark.parametrize("emptied", [False, True], ids=["no file", "no key in it"])
def test_others_reach_a_gateway_only_when_it_has_keys(tmp_path, name, host, emptied):
    file = KeyFile(tmp_path / "keys.json")
    if emptied:
        file.add("gone", ["predict"])
        file.revoke("gone")
    settings = read_settings(state=tmp_path, **{name: host})
    with pytest.raises(SettingsInvalid, match=f"TIDEGATE_{name.upper()}.*{host} is no loopback address") as caught:
        open_keyring(settings)
    assert f"tidegate keys add NAME --scope predict --keys {file.path}" in caught.value.remedy
    file.add("a", ["predict"])
    assert open_keyring(settings).required


def test_a_key_file_that_is_named_has_keys(tmp_path):
    settings = read_settings(state=tmp_path, keys=tmp_path / "named.json")
    KeyFile(tmp_path / "keys.json").add("elsewhere", ["predict"])
    with pytest.raises(SettingsInvalid, match=r"TIDEGATE_KEYS.*there is no key in .*named\.json"):
        open_keyring(settings)


def test_on_loopback_the_state_folder_decides(tmp_path):
    settings = read_settings(state=tmp_path)
    assert not open_keyring(settings).required
    KeyFile(tmp_path / "keys.json").add("a", ["metrics"])
    assert open_keyring(settings).required


def test_a_damaged_file_keeps_a_gateway_from_starting(tmp_path):
    (tmp_path / "keys.json").write_text("{")
    with pytest.raises(SettingsInvalid, match="Invalid JSON"):
        open_keyring(read_settings(state=tmp_path))
