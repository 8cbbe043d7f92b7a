"""What a gateway says of itself to those who wait for it, in a ledger's words."""

from __future__ import annotations

from collections.abc import Mapping

from serving.ledger import Document, Member, Trials
from serving.versions.dependents import Dependents
from serving.versions.keeper import Keeper
from serving.versions.policy import wanted_versions


async def describe_member(
    ident: str, document: Document, keepers: Mapping[str, Keeper], dependents: Dependents, trials: Trials
) -> Member:
    """The gateway as it follows this very document: what has loaded since is said with the next one. trials: what it
    has seen of versions on trial.
    """
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
    preparing: dict[str, str] = {}
    for name, version in _to_be_stable(document).items():
        if version not in ready.get(name, ()):
            continue
        if (unready := await dependents.unready(name, document.models[name])) is not None:
            ready[name] = tuple(one for one in ready[name] if one != version)
            if unready.hopeless:
                failed[name] = {**failed[name], version: unready.reason}
            else:
                preparing[name] = unready.reason
    return Member(
        id=ident,
        epoch=document.epoch,
        revision=document.revision,
        preparing=preparing,
        trials=trials,
        ready=ready,
        failed={name: reasons for name, reasons in {**failed, **unknown}.items() if reasons},
    )


def _to_be_stable(document: Document) -> dict[str, int]:
    wanted = {name: pointers.wanted for name, pointers in document.models.items()}
    return {name: one.version for name, one in wanted.items() if one is not None and one.role == "stable"}
