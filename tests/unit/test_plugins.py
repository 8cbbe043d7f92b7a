"""Plugins are files; a new one is found with nothing else edited."""

from __future__ import annotations

import pytest

from serving import plugins
from serving.errors import NotFound


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two plugins, one of which breaks when it is imported."""
    folder = tmp_path / "kinds_of_tests"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "two_words.py").write_text("PLUGIN = 'found'\n")
    (folder / "broken.py").write_text("raise ZeroDivisionError\n")
    (folder / "notes.txt").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield folder.name
    plugins.names.cache_clear()


def test_a_file_put_into_the_folder_is_a_plugin(package):
    assert plugins.names(package) == ("broken", "two-words")
    assert plugins.find(package, "two-words", "PLUGIN") == "found"


def test_a_plugin_is_imported_when_it_is_asked_for_and_not_before(package):
    plugins.names(package)
    plugins.find(package, "two-words", "PLUGIN")
    with pytest.raises(ZeroDivisionError):
        plugins.find(package, "broken", "PLUGIN")


@pytest.mark.parametrize("name", ["two_words", "two words", "two-words ", "os", "..two-words", "Two-Words"])
def test_a_name_is_the_files_name_and_nothing_like_it(package, name):
    with pytest.raises(NotFound) as caught:
        plugins.find(package, name, "PLUGIN")
    assert caught.value.detail == f"There is no {name!r} among the {package}."
    assert caught.value.remedy == "There are: broken, two-words."


@pytest.mark.parametrize("kind", ["tasks", "engines", "ledgers"])
def test_every_file_of_a_plural_folder_has_a_plugin(kind):
    package = f"serving.{kind}"
    assert plugins.names(package)
    for name in plugins.names(package):
        assert callable(plugins.find(package, name, "PLUGIN"))
