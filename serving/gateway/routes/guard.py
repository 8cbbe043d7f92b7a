"""/admin/models/M/guard: how versions on trial are guarded, and how the trial stands."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from pydantic import BaseModel

from serving.gateway.routes.admin import ADMIN, PROBLEMS, Said, by_no_web_page, who_asks
from serving.guard.guard import Guard
from serving.guard.watched import TrialState
from serving.trial import Policy
from serving.versions.changes import Changes


class GuardState(BaseModel):
    """policy: that is followed; said: whether an operator set it; trial: what is on trial, if anything is.

    leads: whether this gateway's guard is the one that acts.
    """

    model: str
    policy: Policy
    said: bool
    trial: TrialState | None
    leads: bool


class GuardOrder(Said):
    """policy: all of it; null: as the manifests of the versions say."""

    policy: Policy | None


def guard_router(changes: Changes, guard: Guard) -> APIRouter:
    """To be read, and set."""
    router = APIRouter(prefix="/admin/models/{model}", responses=PROBLEMS)
    order: Any = {"dependencies": [Depends(by_no_web_page)], **ADMIN}

    @router.get("/guard", summary="How versions on trial are guarded, and how the trial stands", **ADMIN)
    async def show(model: str) -> GuardState:
        pointers = await changes.pointers(model)
        trial = guard.states().get(model)
        policy = pointers.guard or guard.policy(model)
        return GuardState(model=model, policy=policy, said=pointers.guard is not None, trial=trial, leads=guard.leads)

    @router.put("/guard", summary="Says how versions on trial are guarded from now on", **order)
    async def change(model: str, request: Request, given: Annotated[GuardOrder, Body()]) -> GuardState:
        await changes.guard(model, given.policy, who_asks(request, given), given.why)
        return await show(model)

    return router
