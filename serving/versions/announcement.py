"""What a gateway says of itself to those who wait for it, in a ledger's words."""

from __future__ import annotations

from collections.abc import Mapping

from serving.ledger import Document, Member
from serving.versions.dependents import Dependents
from serving.versions.keeper import Keeper
from serving.versions.policy import wanted_versions


async def describe_member(
    ident: str, document: Document, keepers: Mapping[str, Keeper], dependents: Dependents
) -> Member:
    """The gateway as it follows this very document: what has loaded since is said with the next one."""
    unknown = {
        name: dict.fromkeys(wanted_versions(pointers), "This gateway's repository does not hold the model.")
        for name, pointers in document.models.items()
        if name not in keepers
    }
    failed = {
        name: {version: failure.reason for version, failure in keeper.failures.items()}
        for name, keeper in keepers.items()
    }
    ready = {name: keeper.ready for name, keeper in keepers.items()}
    return Member(
        id=ident,
        epoch=document.epoch,
        revision=document.revision,
        preparing=await _take_out_unready(ready, document, dependents),
        ready=ready,
        failed={name: reasons for name, reasons in {**failed, **unknown}.items() if reasons},
    )


async def _take_out_unready(
    ready: dict[str, tuple[int, ...]], document: Document, dependents: Dependents
) -> dict[str, str]:
    """What wanted versions still wait for though they are loaded, by model; they are taken out of `ready`."""
    found = {}
    for name, pointers in document.models.items():
        wanted = pointers.wanted
        if wanted is None or wanted.role != "stable" or wanted.version not in ready.get(name, ()):
            continue
        if (reason := await dependents.unready(name, pointers)) is not None:
            found[name] = reason
            ready[name] = tuple(version for version in ready[name] if version != wanted.version)
    return found
