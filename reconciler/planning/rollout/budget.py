"""Who asks first, and how many may be down at once."""

from __future__ import annotations

from collections import Counter

from reconciler.model.names import GroupName, VMName
from reconciler.planning.context import Draft, Standing
from reconciler.planning.rollout.repair_budget import Repairs


def in_order(draft: Draft) -> list[Standing]:
    """Standings in the order in which they may ask for the budget.

    What is broken comes first, since repairing it costs nothing: who has no guest at all, then who
    was repaired least often, so that the hopeless take nobody's turn. Then canaries, then by name.
    """
    canaries: set[VMName] = set()
    if draft.desired is not None:
        for group in draft.desired.groups.values():
            canaries.update(group.canary)

    def turn(standing: Standing) -> tuple[bool, bool, int, bool, str]:
        backoff = standing.record.backoff
        repaired = 0 if standing.available or backoff is None else backoff.crashes
        here, last = standing.guest is not None, standing.called not in canaries
        return standing.available, here, repaired, last, standing.name

    return sorted(draft.standings.values(), key=turn)


class Budget:
    """How many serving VMs of each group may still be taken down in this pass.

    All members that do not serve count, whatever the cause (law 3). Repairing one of those costs
    nothing: a broken VM must not block its own fix.
    """

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self.repairs = Repairs(draft)
        self._left: dict[GroupName, int] = {}
        self._down: dict[GroupName, list[VMName]] = {}
        self._loops: Counter[GroupName] = Counter()
        """Members that count as down for nothing but their crash loop."""
        for standing in draft.standings.values():
            if standing.spec is None:
                continue
            group = standing.group
            if group not in self._left:
                limit = draft.desired.group(group).max_unavailable if draft.desired else 1
                self._left[group], self._down[group] = limit, []
            if not standing.available:
                self._left[group] -= 1
                self._down[group].append(standing.name)
                self._loops[group] += standing.serving

    def take(self, standing: Standing) -> bool:
        """Ask to take this VM down; a refusal becomes a wait."""
        if standing.down or standing.spec is None:
            return True
        group = standing.group
        if standing.looping and standing.serving:
            # It counts as down already, as all in a crash loop do; who serves all the same is bounded, too.
            if self._left[group] + self._loops[group] > 0:
                self._loops[group] -= 1
                return True
        elif self._left[group] > 0:
            self._left[group] -= 1
            self._down[group].append(standing.name)
            return True
        down = ", ".join(sorted(self._down[group])[:5]) or "nobody"
        self._draft.wait(
            "budget", standing.name, f"maxUnavailable of group {group} is used up by {down}"
        )
        return False
