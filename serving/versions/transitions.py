"""What pointers may do: pure edits of one model's pointers. Each refuses what would lose or mix anything.

A promotion is two of them, `want` and `commit`, with the loading on all gateways between. A way back is one, `retreat`,
while its target is loaded, and else the same two. `unload` takes the model out of service; `load`, or the promotion of
another version, puts it back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from serving.errors import ChangeRefused
from serving.ledger import Canary, Document, Edit, Pointers, Record, Wanted
from serving.timestamp import timestamp
from serving.trial import Policy

MOST_STACKED: Final = 32  # ways back
MOST_HISTORY: Final = 200  # records


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes a change, why, and when: Unix seconds."""

    who: str
    why: str
    now_s: float

    @property
    def time(self) -> str:
        return timestamp(self.now_s, "milliseconds")


@dataclass(frozen=True, slots=True)
class WayBack:
    """What a rollback does. pops 0: it drops what is on trial, and `to` stays stable. from_: what is left."""

    from_: int
    to: int
    pops: int


def seeded(firsts: Mapping[str, int]) -> Edit:
    """Records where models start that have no pointers yet; those that have some keep them."""

    def edit(document: Document) -> Document:
        missing = {name: Pointers(stable=version) for name, version in firsts.items() if name not in document.models}
        return _replaced(document, missing)

    return edit


def of_model(model: str, edit: Callable[[Pointers], Pointers]) -> Edit:
    """An edit of one model's pointers as an edit of the document."""

    def edit_document(document: Document) -> Document:
        pointers = document.models.get(model)
        if pointers is None:
            raise ChangeRefused(f"The ledger does not know {model} yet.", remedy="Start a gateway on its repository.")
        return _replaced(document, {model: edit(pointers)})

    return edit_document


def want(pointers: Pointers, wanted: Wanted, now_s: float) -> Pointers:
    """The first phase. Refused while another change goes on, or another version is on trial.

    A way back ends whatever goes on, and is refused if the pointers moved since it was found. A model that is unloaded
    only gets another stable version.
    """
    if pointers.unloaded and wanted.role != "stable":
        raise _out_of_service()
    if wanted.pops:
        _check_unmoved(pointers, WayBack(wanted.leaves or pointers.stable, wanted.version, wanted.pops))
    else:
        _check_free(pointers, wanted.version, now_s)
    if wanted.version == pointers.stable:
        why = " already" if wanted.role == "stable" else ": it cannot be on trial"
        remedy = "Load the model: it is unloaded." if pointers.unloaded else ""
        raise ChangeRefused(f"Version {wanted.version} is stable{why}.", remedy=remedy)
    trial = _on_trial(pointers)
    if not wanted.pops and trial not in (None, wanted.version):
        raise ChangeRefused(f"Version {trial} is on trial.", remedy="Promote it or roll back first.")
    return pointers.model_copy(update={"wanted": wanted})


def commit(pointers: Pointers, attempt: str, author: Author) -> Pointers:
    """The second phase: the pointer moves. Refused if the attempt was ended meanwhile."""
    wanted = _going_on(pointers, attempt)
    if wanted is None:
        raise _ended()
    changes: dict[str, Any] = {"canary": None, "shadow": None, "unloaded": False}
    if wanted.role == "canary":
        changes["canary"] = Canary(version=wanted.version, percent=wanted.percent or 1)
    elif wanted.role == "shadow":
        changes["shadow"] = wanted.version
    else:
        changes |= {"stable": wanted.version, "stack": _moved_stack(pointers, wanted.pops)}
    record = Record(
        time=author.time,
        action=wanted.action,
        from_=None if pointers.unloaded else pointers.stable,
        to=wanted.version,
        percent=wanted.percent,
        who=author.who,
        why=author.why,
        verdict=wanted.verdict,
    )
    return _recorded(pointers, changes, record)


def renew(pointers: Pointers, attempt: str, until: float) -> Pointers:
    """Keeps an attempt that is still loading; one that was ended stays so."""
    wanted = _going_on(pointers, attempt)
    if wanted is None:
        raise _ended()
    return pointers.model_copy(update={"wanted": wanted.model_copy(update={"until": until})})


def withdraw(pointers: Pointers, attempt: str) -> Pointers:
    """Ends an attempt that came to nothing. No pointer has moved."""
    return pointers.model_copy(update={"wanted": None}) if _going_on(pointers, attempt) else pointers


def sweep(left: Mapping[str, Wanted]) -> Edit:
    """Ends attempts that whoever made them has left, by model; one that was renewed meanwhile goes on."""

    def edit(document: Document) -> Document:
        found = {name: document.models[name] for name in left if name in document.models}
        mended = {
            name: one.model_copy(update={"wanted": None}) for name, one in found.items() if one.wanted == left[name]
        }
        return _replaced(document, mended)

    return edit


def way_back(pointers: Pointers, to: int | None, versions: Sequence[int]) -> WayBack:
    """What a rollback would do. versions: those that could be promoted instead, where there is no way back."""
    if pointers.unloaded:
        raise _out_of_service()
    dropped = _forward(pointers)
    if dropped is not None and to in (None, pointers.stable):
        return WayBack(dropped, pointers.stable, 0)
    if to == pointers.stable:
        raise ChangeRefused(f"Version {to} is stable already.")
    if to is None:
        to = pointers.previous
    if to is None or to not in pointers.stack:
        ways = ", ".join(map(str, reversed(pointers.stack)))
        others = ", ".join(str(version) for version in versions if version != pointers.stable)
        detail = "This is the bottom of the history" if not ways else f"Version {to} is not on the way back ({ways})"
        raise ChangeRefused(f"{detail}.", remedy=f"Promote one instead: {others or 'publish another version first'}.")
    place = len(pointers.stack) - 1 - pointers.stack[::-1].index(to)
    return WayBack(pointers.stable, to, len(pointers.stack) - place)


def retreat(pointers: Pointers, way: WayBack, author: Author) -> Pointers:
    """Goes the way back. Refused if the pointers moved since it was found: two who call at once go back once."""
    _check_unmoved(pointers, way)
    changes: dict[str, Any] = {"canary": None, "shadow": None}
    if way.pops:
        changes |= {"stable": way.to, "stack": _moved_stack(pointers, way.pops)}
    record = Record(time=author.time, action="rollback", from_=way.from_, to=way.to, who=author.who, why=author.why)
    return _recorded(pointers, changes, record)


def guarded(pointers: Pointers, policy: Policy | None, author: Author) -> Pointers:
    """With this policy for what is on trial. What is under way goes on; the same policy changes nothing."""
    if policy == pointers.guard:
        return pointers
    action = f"guard {policy.mode}" if policy else "guard as published"
    record = Record(time=author.time, action=action, who=author.who, why=author.why)
    return _recorded(pointers, {"guard": policy, "wanted": pointers.wanted}, record)


def unload(pointers: Pointers, author: Author) -> Pointers:
    """Out of service, with an end to what is on trial or under way. Where nothing is left to end, nothing changes."""
    ended = pointers.candidate if pointers.unloaded else pointers.stable
    if ended is None:
        return pointers
    record = Record(time=author.time, action="unload", from_=ended, who=author.who, why=author.why)
    return _recorded(pointers, {"canary": None, "shadow": None, "unloaded": True}, record)


def load(pointers: Pointers, author: Author, *, anew: bool) -> Pointers:
    """Back into service as it was; what is under way goes on. anew: gateways shall try what failed again, even if the
    model is in service, and else nothing changes.
    """
    loads = pointers.loads + 1
    if not pointers.unloaded:
        return pointers.model_copy(update={"loads": loads}) if anew else pointers
    record = Record(time=author.time, action="load", to=pointers.stable, who=author.who, why=author.why)
    return _recorded(pointers, {"unloaded": False, "loads": loads, "wanted": pointers.wanted}, record)


def _replaced(document: Document, changed: Mapping[str, Pointers]) -> Document:
    """With these models' pointers; the same document if there are none."""
    return document.model_copy(update={"models": {**document.models, **changed}}) if changed else document


def _check_free(pointers: Pointers, version: int, now_s: float) -> None:
    """ChangeRefused while another change goes on."""
    busy = pointers.wanted
    if busy is not None and busy.until > now_s:
        raise ChangeRefused(
            f"{busy.who} is on the way to {busy.action} version {busy.version}; version {version} must wait.",
            remedy="Wait for it, or roll back, which ends it.",
        )


def _going_on(pointers: Pointers, attempt: str) -> Wanted | None:
    """The attempt; None if it was ended."""
    wanted = pointers.wanted
    return wanted if wanted is not None and wanted.id == attempt else None


def _check_unmoved(pointers: Pointers, way: WayBack) -> None:
    found = pointers.stable if way.pops else _forward(pointers)
    if found != way.from_ or way_back(pointers, way.to, ()) != way:
        raise ChangeRefused(
            f"Version {way.from_} is not live any more: someone else was quicker.", remedy="Look again."
        )


def _forward(pointers: Pointers) -> int | None:
    """The version that a rollback drops: on trial or about to be live. One that is loaded as a way back is none."""
    back = pointers.wanted is not None and pointers.wanted.pops
    return _on_trial(pointers) if back else pointers.candidate


def _ended() -> ChangeRefused:
    return ChangeRefused("The change was ended by someone else before it was made.", remedy="See the history.")


def _out_of_service() -> ChangeRefused:
    return ChangeRefused("The model is unloaded.", remedy="Load it first, or promote another version.")


def _moved_stack(pointers: Pointers, pops: int) -> tuple[int, ...]:
    return pointers.stack[:-pops] if pops else (*pointers.stack, pointers.stable)[-MOST_STACKED:]


def _on_trial(pointers: Pointers) -> int | None:
    return pointers.canary.version if pointers.canary else pointers.shadow


def _recorded(pointers: Pointers, changes: Mapping[str, Any], record: Record) -> Pointers:
    history = (*pointers.history, record)[-MOST_HISTORY:]
    return pointers.model_copy(update={"wanted": None, **changes, "history": history})
