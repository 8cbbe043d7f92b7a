"""What all gateways together saw since they were last asked. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from serving.ledger import Member
from serving.trial import Counts, total


@dataclass(slots=True)
class Pool:
    """The counts of one model's trial. A gateway's first word is where it is counted from."""

    model: str
    _last: dict[tuple[str, int], Counts] = field(default_factory=dict)

    def together(self, members: Collection[Member], version: int) -> Counts:
        """What they say of a version, all of it."""
        return total(one.trials[self.model][version] for one in members if self._says(one, version))

    def fresh(self, members: Collection[Member], version: int) -> Counts:
        """What came since this was last asked."""
        blocks = []
        for member in members:
            if not self._says(member, version):
                continue
            said = member.trials[self.model][version]
            before = self._last.get((member.id, version))
            self._last[member.id, version] = said
            if before is not None:
                blocks.append(said.since(before))
        return total(blocks)

    def _says(self, member: Member, version: int) -> bool:
        return version in member.trials.get(self.model, {})
