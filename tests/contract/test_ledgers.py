"""What every ledger must do. What only one of them does is in tests/unit/ledgers."""

from __future__ import annotations

import asyncio
import threading

import pytest

from serving import plugins
from serving.ledger import FOLDER, Ledger, Pointers

NAMES = plugins.names(FOLDER)


@pytest.fixture(params=NAMES)
def another(request, tmp_path):
    """Makes ledgers over one and the same state, as gateways beside each other have them."""
    plugin = plugins.find(FOLDER, request.param, "PLUGIN")
    return lambda: plugin(tmp_path / "state" / "deep")


@pytest.fixture
def ledger(another):
    return another()


def seed(ledger: Ledger, **stables: int) -> dict[str, Pointers]:
    return dict(asyncio.run(ledger.seed(stables)))


def read(ledger: Ledger) -> dict[str, Pointers]:
    return dict(asyncio.run(ledger.read()))


def test_begins_empty(ledger):
    assert read(ledger) == {}


def test_records_where_models_start_and_keeps_what_it_has(ledger):
    assert seed(ledger, a=1, b=2) == {"a": Pointers(1), "b": Pointers(2)}
    assert seed(ledger, a=9, c=3) == {"a": Pointers(1), "b": Pointers(2), "c": Pointers(3)}
    assert read(ledger) == {"a": Pointers(1), "b": Pointers(2), "c": Pointers(3)}


def test_models_that_the_repository_holds_no_longer_keep_their_pointers(ledger):
    seed(ledger, gone=4)
    assert seed(ledger) == {"gone": Pointers(4)}
    assert seed(ledger, a=1) == {"gone": Pointers(4), "a": Pointers(1)}


def test_what_one_gateway_records_the_next_one_reads(another):
    seed(another(), a=1)
    assert read(another()) == {"a": Pointers(1)}
    assert seed(another(), a=2) == {"a": Pointers(1)}


def test_gateways_that_start_together_agree(another):
    answers: list[dict[str, Pointers]] = []
    together = threading.Barrier(4, timeout=30)

    def start(version: int) -> None:
        together.wait()
        answers.append(seed(another(), a=version))

    threads = [threading.Thread(target=start, args=(version,)) for version in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [read(another())] * 4


def test_writers_do_not_lose_each_others_changes(another):
    def write(i: int) -> None:
        for j in range(10):
            seed(another(), **{f"m{i}-{j}": 1})

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(another())) == 40
