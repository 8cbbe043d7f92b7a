"""The key file and the live view of it: what is kept, what is refused, and what a change does to a running gateway."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import NotFound, SettingsInvalid
from serving.keys import KEY, NAME, REFRESH_S, Key, KeyFile, Keyring, digest_of, make_key

DIGEST = "ab" * 32
ENTRY = {"name": "ci", "scopes": ["predict"], "digest": DIGEST, "created": "2026-01-01T00:00:00Z"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "keys.json"


@pytest.fixture
def file(path):
    return KeyFile(path)


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def pass_time(self) -> None:
        self.now_s += REFRESH_S


@pytest.fixture
def clock():
    return Clock()


# Keys


def test_a_key_has_256_random_bits_and_is_never_the_same():
    made = {make_key() for _ in range(1000)}
    assert len(made) == 1000
    assert all(KEY.fullmatch(key.encode()) for key in made)
    assert len(next(iter(made)).removeprefix("tg_")) * 6 >= 256


def test_a_key_is_kept_as_its_digest_only(file, path):
    secret, key = file.add("ci", ["predict"])
    assert secret.encode() not in path.read_bytes()
    assert json.loads(path.read_text()) == {
        "schema": 1,
        "keys": [
            {
                "name": "ci",
                "scopes": ["predict"],
                "digest": hashlib.sha256(secret.encode()).hexdigest(),
                "created": key.created.isoformat().replace("+00:00", "Z"),
            }
        ],
    }


def test_limits_are_kept_and_a_file_from_before_there_were_any_is_read(file, path):
    file.add("limited", ["predict"], rate=0.5, concurrency=8)
    limited = json.loads(path.read_text())["keys"][0]
    assert (limited["rate"], limited["concurrency"]) == (0.5, 8)
    path.write_text(json.dumps({"schema": 1, "keys": [ENTRY]}))
    (key,) = file.read()
    assert (key.rate, key.concurrency) == (None, None)
    file.add("other", ["predict"])
    assert json.loads(path.read_text())["keys"][0] == ENTRY, "and stays readable by the release that wrote it"


@pytest.mark.parametrize(
    "limit", [{"rate": 0}, {"rate": -1}, {"rate": 1e-320}, {"rate": "fast"}, {"concurrency": 0}, {"concurrency": 1.5}]
)
def test_limits_that_cannot_be_are_named(file, path, limit):
    path.parent.mkdir()
    for text in (
        json.dumps({"keys": [ENTRY | limit]}),
        json.dumps({"keys": [ENTRY]}).replace("}", ', "rate": 1e400}', 1),
    ):
        path.write_text(text)
        with pytest.raises(SettingsInvalid, match=r"keys\.0\.(rate|concurrency)"):
            file.read()


def test_neither_key_nor_digest_is_in_a_repr(file, path):
    secret, key = file.add("ci", ["predict"])
    keyring = Keyring(path)
    for shown in (
        repr(key),
        str(key),
        repr(file),
        repr(keyring),
        repr(file.read()),
        repr(keyring.find(secret.encode())),
    ):
        assert secret not in shown
        assert key.digest not in shown


# The file


def test_no_file_has_no_keys_and_reading_makes_none(file, path):
    assert file.read() == ()
    assert file.stamp() is None
    assert not path.parent.exists()


def test_what_is_added_is_there_and_what_is_revoked_is_not(file):
    file.add("a", ["predict"])
    file.add("b", ["metrics", "admin", "metrics"])
    assert [(key.name, key.scopes) for key in file.read()] == [("a", ("predict",)), ("b", ("admin", "metrics"))]
    file.revoke("a")
    assert [key.name for key in file.read()] == ["b"]


def test_a_name_is_given_once(file):
    first = file.add("a", ["predict"])
    with pytest.raises(SettingsInvalid, match="a key named a already"):
        file.add("a", ["admin"])
    assert file.read() == (first[1],)


def test_what_is_not_there_cannot_be_revoked(file):
    file.add("a", ["predict"])
    with pytest.raises(NotFound, match="no key named b") as caught:
        file.revoke("b")
    assert "tidegate keys list" in caught.value.remedy
    assert len(file.read()) == 1


def test_only_its_owner_may_read_it(file, path):
    before = os.umask(0)
    try:
        file.add("a", ["predict"])
        path.chmod(0o666)
        path.with_name(".keys.json.new").write_text("left by a writer who died")
        file.add("b", ["predict"])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.with_name(".keys.json.new").exists()


def test_a_staged_file_that_is_a_link_is_not_written_through(file, path, tmp_path):
    path.parent.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    path.with_name(".keys.json.new").symlink_to(victim)
    file.add("a", ["predict"])
    assert victim.read_text() == "as it was"


def test_a_link_to_the_file_stays_one(file, path, tmp_path):
    file.add("a", ["predict"])
    link = tmp_path / "link.json"
    link.symlink_to(path)
    KeyFile(link).add("b", ["predict"])
    assert link.is_symlink()
    assert len(file.read()) == 2


def test_its_stamp_changes_with_every_write(file):
    stamps = []
    for name in "abcdef":
        file.add(name, ["predict"])
        stamps.append(file.stamp())
    assert len(set(stamps)) == 6


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "keys: Invalid JSON"),
        ("{", "keys: Invalid JSON"),
        ("[]", "keys: "),
        ('{"schema": 2}', "schema: "),
        ('{"kyes": []}', "kyes: "),
        ('{"keys": {}}', "keys: "),
        *(
            (json.dumps({"keys": [{**ENTRY, **change}]}), f"keys.0.{field}")
            for field, change in {
                "name": {"name": "../x"},
                "scopes": {"scopes": []},
                "scopes.0": {"scopes": ["root"]},
                "digest": {"digest": DIGEST[:-1]},
                "created": {"created": "2026-01-01T00:00:00"},
                "key": {"key": "tg_" + "x" * 43},
            }.items()
        ),
        (json.dumps({"keys": [{**ENTRY, "digest": DIGEST.upper()}]}), "keys.0.digest"),
        (json.dumps({"keys": [ENTRY, {**ENTRY, "digest": "cd" * 32}]}), "keys: .*the same name"),
        (json.dumps({"keys": [ENTRY, {**ENTRY, "name": "other"}]}), "keys: .*the same digest"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do_and_never_overwritten(file, path, text, field):
    path.parent.mkdir()
    path.write_text(text)
    for use in (file.read, lambda: file.add("a", ["predict"]), lambda: file.revoke("ci"), lambda: Keyring(path)):
        with pytest.raises(SettingsInvalid, match=re.escape(str(path)) + ": " + field) as caught:
            use()
        assert "move it away" in caught.value.remedy
        for secret in (DIGEST, DIGEST.upper(), "x" * 43):
            assert secret not in str(caught.value)
    assert path.read_text() == text


@pytest.mark.parametrize("block", ["", ".keys.json.new", ".keys.json.lock"], ids=["file", "staged", "lock"])
def test_a_file_that_cannot_be_written_is_named(file, path, block):
    (path.with_name(block) if block else path).mkdir(parents=True)
    with pytest.raises(SettingsInvalid, match="Is a directory") as caught:
        file.add("a", ["predict"])
    assert str(path) in caught.value.detail
    assert "--keys" in caught.value.remedy


def test_writers_take_turns(file, path):
    other = threading.Thread(target=KeyFile(path).add, args=("other", ["predict"]))
    with file._locked():
        other.start()
        other.join(0.2)
        assert file.read() == (), "it waits"
    other.join(10)
    assert [key.name for key in file.read()] == ["other"]


@given(st.text(st.characters(), max_size=70))
def test_a_name_is_what_surface_md_says(name):
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    fits = 1 <= len(name) <= 63 and set(name) <= allowed and name[0] not in "-_"
    assert bool(NAME.fullmatch(name)) == fits
    entry = json.dumps({**ENTRY, "name": name.encode(errors="replace").decode()})
    try:
        Key.model_validate_json(entry)
    except ValueError:
        assert not fits
    else:
        assert fits


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=64))
def test_a_name_that_nearly_fits(name):
    assert bool(NAME.fullmatch(name)) == (len(name) <= 63 and name[0] not in "-_")


# The live view


def test_without_keys_none_is_needed(path, clock):
    keyring = Keyring(path, clock)
    assert not keyring.required
    assert keyring.find(make_key().encode()) is None


def test_a_known_key_is_found_and_no_other(file, path, clock):
    secret, key = file.add("a", ["predict"])
    file.add("b", ["admin"])
    keyring = Keyring(path, clock)
    assert keyring.required
    assert keyring.find(secret.encode()) == key
    for other in (make_key(), secret[:-1], secret + "x", secret.swapcase(), key.digest, ""):
        assert keyring.find(other.encode()) is None
    assert keyring.find(digest_of(secret.encode())) is None


def test_nobody_has_the_digest_of_zeros(path, file, clock):
    file.add("a", ["predict"])
    assert Keyring(path, clock)._keys.get(bytes(32)) is None


def test_a_change_is_seen_when_it_is_time_to_look(file, path, clock):
    keyring = Keyring(path, clock)
    secret, _ = file.add("a", ["predict"])
    assert not keyring.required, "it has looked just now"
    clock.pass_time()
    assert keyring.required
    assert keyring.find(secret.encode()).name == "a"
    more, _ = file.add("b", ["predict"])
    clock.pass_time()
    assert keyring.required
    assert keyring.find(more.encode()).name == "b"


def test_when_the_last_key_is_revoked_nobody_is_let_in(file, path, clock):
    secret, _ = file.add("a", ["predict"])
    keyring = Keyring(path, clock)
    file.revoke("a")
    clock.pass_time()
    assert keyring.required
    assert keyring.find(secret.encode()) is None


def damage(path):
    path.write_text("{")


def remove(path):
    path.unlink()


def take_its_place(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [damage, remove, take_its_place])
def test_a_file_that_is_harmed_leaves_the_keys_as_they_were(file, path, clock, caplog, harm):
    secret, _ = file.add("a", ["predict"])
    keyring = Keyring(path, clock)
    harm(path)
    for _ in range(3):
        clock.pass_time()
        assert keyring.required
        assert keyring.find(secret.encode()).name == "a"
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "the keys stay as they were" in record.getMessage()
    assert str(path) in record.getMessage()


def test_a_file_that_is_mended_counts_again(file, path, clock):
    secret, _ = file.add("a", ["predict"])
    keyring = Keyring(path, clock)
    path.write_text("{")
    clock.pass_time()
    assert keyring.required
    path.unlink()
    fresh, _ = file.add("b", ["predict"])
    clock.pass_time()
    assert keyring.required
    assert keyring.find(secret.encode()) is None
    assert keyring.find(fresh.encode()).name == "b"


def test_a_file_that_stays_is_read_once(file, path, clock, caplog):
    caplog.set_level(logging.INFO)
    file.add("a", ["predict"])
    keyring = Keyring(path, clock)
    for _ in range(5):
        clock.pass_time()
        assert keyring.required
    assert not caplog.records
