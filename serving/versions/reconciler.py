"""Makes what is loaded agree with what the ledger wants. One model that cannot be loaded takes no other down."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from serving.errors import RepositoryInvalid, TidegateError
from serving.ledger import Ledger, Pointers
from serving.repository.layout import Index, Model, scan
from serving.versions.catalog import ModelList, describe, task_of
from serving.versions.loader import Loader
from serving.versions.router import Route, Router

log = logging.getLogger(__name__)


class Reconciler:
    """Loads each model's stable version and routes to it."""

    def __init__(self, repository: Path, ledger: Ledger, loader: Loader, router: Router) -> None:
        self._repository = repository
        self._ledger = ledger
        self._loader = loader
        self._router = router
        self._index = Index({}, ())
        self._pointers: Mapping[str, Pointers] = {}
        self.settled = False  # whether all that is wanted was tried once

    async def start(self) -> None:
        """Reads the repository and the ledger, then loads. RepositoryInvalid or SettingsInvalid if they cannot be."""
        self._index = scan(self._repository)
        for problem in self._index.problems:
            log.error("left out: %s", problem)
        first = {name: model.first_version for name, model in self._index.models.items()}
        self._pointers = await self._ledger.seed(first)
        for name, model in self._index.models.items():
            self._router.set_route(name, Route(task_of(model), None))
        self._router.settled = True
        for name, model in self._index.models.items():
            await self._load(model, self._pointers[name].stable)
        self.settled = True

    async def close(self) -> None:
        """Unloads everything, each version when its last lease has ended."""
        for resident in self._router.residents():
            name = resident.version.model
            task = resident.task.verb if resident.task else None
            self._router.set_route(name, Route(task, None))
            await self._loader.unload(resident)

    def models(self) -> ModelList:
        """What there is and who is live."""
        ready = {resident.version.model: resident.version.number for resident in self._router.residents()}
        return describe(self._index, self._pointers, ready)

    async def _load(self, model: Model, number: int) -> None:
        try:
            if number not in model.versions:
                expected = f"expected version {number}, which is live by the ledger"
                raise RepositoryInvalid(model.name, "", expected, remedy="Publish it again, or promote another.")
            resident = await self._loader.load(model.versions[number])
        except TidegateError as error:
            log.error("%s is not ready: %s", model.name, error)  # noqa: TRY400  (the error says it all)
        except Exception:
            log.exception("%s is not ready", model.name)
        else:
            self._router.set_route(model.name, Route(task_of(model), resident))
            log.info("%s is ready", resident.version.name)
