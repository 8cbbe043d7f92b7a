"""`tidegate keys`: what is printed where, and its exit codes."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from serving.cli import main
from serving.keys import KEY, KeyFile, digest_of


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.json"


@pytest.fixture
def keys(path):
    def run(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(main, ["keys", *arguments], env={"TIDEGATE_KEYS": str(path), **environment})

    return run


def test_the_key_alone_is_on_standard_output(keys, path):
    result = keys("add", "ci", "--scope", "predict", "--scope", "metrics")
    assert result.exit_code == 0
    secret = result.stdout.removesuffix("\n")
    assert KEY.fullmatch(secret.encode())
    assert "ci may predict, metrics" in result.stderr
    (key,) = KeyFile(path).read()
    assert (key.name, key.scopes) == ("ci", ("predict", "metrics"))
    assert key.digest == digest_of(secret.encode()).hex()


def test_as_json(keys):
    made = json.loads(keys("add", "ci", "--scope", "admin", "--json").stdout)
    assert set(made) == {"name", "scopes", "created", "rate", "concurrency", "key"}
    listed = {"name": "ci", "scopes": ["admin"], "created": made["created"], "rate": None, "concurrency": None}
    assert json.loads(keys("list", "--json").stdout) == {"keys": [listed]}
    assert json.loads(keys("revoke", "ci", "--json").stdout) == {"revoked": "ci"}
    assert json.loads(keys("list", "--json").stdout) == {"keys": []}


def test_the_list_shows_neither_keys_nor_digests(keys, path):
    secret = keys("add", "ci", "--scope", "predict").stdout.strip()
    keys("add", "a-longer-name", "--scope", "admin", "--scope", "metrics")
    listed = keys("list").output
    assert [line.split()[:2] for line in listed.splitlines()] == [
        ["NAME", "SCOPES"], ["ci", "predict"], ["a-longer-name", "admin,metrics"],
    ]  # fmt: skip
    assert secret not in listed
    assert all(key.digest not in listed for key in KeyFile(path).read())


def test_limits_are_kept_and_listed(keys, path):
    keys("add", "app", "--scope", "predict", "--rate", "2.5", "--concurrency", "4")
    (key,) = KeyFile(path).read()
    assert (key.rate, key.concurrency) == (2.5, 4)
    assert keys("list").output.splitlines()[1].split()[:4] == ["app", "predict", "2.5", "4"]
    keys("add", "much", "--scope", "predict", "--rate", "1234567")
    assert keys("list").output.splitlines()[2].split()[2:4] == ["1234567", "-"]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        *((["--rate", wrong], "at least 0.000010 a second") for wrong in ("0", "-1", "nan", "inf", "-inf", "1e-320")),
        (["--rate", "fast"], "not a valid float"),
        *((["--concurrency", wrong], "--concurrency") for wrong in ("0", "-1", "1.5", "nan")),
    ],
)
def test_a_limit_that_cannot_be_is_wrong_usage(keys, path, limits, said):
    result = keys("add", "other", "--scope", "predict", *limits)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert not path.exists()


@pytest.mark.parametrize("limits", [["--rate", "1"], ["--concurrency", "1"]])
def test_a_limit_that_would_limit_nothing_is_refused(keys, limits):
    assert "--scope predict" in keys("add", "ops", "--scope", "admin", *limits).stderr
    assert keys("add", "ops", "--scope", "admin", "--scope", "predict", *limits).exit_code == 0


def test_revoke_takes_one_away(keys, path):
    for name in ("a", "b"):
        keys("add", name, "--scope", "predict")
    assert keys("revoke", "a").output == "revoked a\n"
    assert [key.name for key in KeyFile(path).read()] == ["b"]


def test_the_option_is_over_the_variable_and_that_over_the_state_folder(keys, path, tmp_path):
    other, state = tmp_path / "other.json", tmp_path / "state"
    keys("add", "option", "--scope", "predict", "--keys", str(other))
    keys("add", "variable", "--scope", "predict")
    CliRunner().invoke(main, ["keys", "add", "state", "--scope", "predict"], env={"TIDEGATE_STATE": str(state)})
    named = [KeyFile(file).read()[0].name for file in (other, path, state / "keys.json")]
    assert named == ["option", "variable", "state"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["add", "there", "--scope", "predict"], 1, "a key named there already"),
        (["revoke", "nobody"], 1, "no key named nobody"),
        (["list", "--keys", "/proc"], 1, "The key file /proc"),
        (["add", "x", "--scope", "predict", "--keys", "/proc/x/keys.json"], 1, "The key file /proc/x/keys.json"),
        (["add", "x"], 2, "--scope"),
        (["add", "x", "--scope", "root"], 2, "'predict', 'admin', 'metrics'"),
        (["add", "Upper", "--scope", "predict"], 2, "1 to 63"),
        (["add", "x" * 64, "--scope", "predict"], 2, "1 to 63"),
        (["add", "a/b", "--scope", "predict"], 2, "1 to 63"),
        (["add", "a\n", "--scope", "predict"], 2, "1 to 63"),
        (["revoke", "../x"], 2, "1 to 63"),
        (["add"], 2, "NAME"),
        (["forget", "x"], 2, "No such command"),
    ],
)
def test_what_cannot_be_done_has_a_code_and_a_reason(keys, path, arguments, exit_code, said):
    keys("add", "there", "--scope", "predict")
    before = path.read_bytes()
    result = keys(*arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert path.read_bytes() == before
