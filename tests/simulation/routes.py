"""To which guests the proxy sends the requests of a VM, seen from outside."""

from __future__ import annotations

from reconciler.engine.reconcile_pass import Passed
from reconciler.model.actions import Lead
from reconciler.model.names import VMName
from tests.world import World


class Routes:
    """Law 2: requests come to no candidate on its trial."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._condemned: dict[VMName, Passed] = {}
        """VMs whose condemned candidate still has the ports, with the last pass before that was seen."""

    def look(self) -> str:
        """What is wrong, in words; empty where nothing is."""
        passed = self.world.reconciler.passed
        if passed is None:
            return ""  # the daemon died before it could lead back; the next one does, in its first pass
        wrong = {name: verdict for name in self.world.front.table if (verdict := self._wrong(name))}
        self._condemned = {
            name: self._condemned.get(name, passed)
            for name, verdict in wrong.items()
            if verdict == "condemned"
        }
        for name, verdict in wrong.items():
            if verdict != "condemned" or not self._is_led_back(name, passed):
                return f"law 2: requests to {name} come to a guest on its trial"
        return ""

    def _wrong(self, name: VMName) -> str:
        """The verdict of the candidate that has the ports and should not; empty where none has."""
        record = self.world.ledger.record().vms.get(name)
        candidate = record.candidate if record is not None else None
        if record is None or candidate is None:
            return ""
        if candidate.instance != self.world.front.table[name].instance:
            return ""
        if record.pending_transfer == candidate.instance:
            return ""
        generation = record.generation(candidate.generation)
        verdict = generation.verdict if generation is not None else "unknown"
        return "" if verdict == "committed" else verdict

    def _is_led_back(self, name: VMName, passed: Passed) -> bool:
        """A handover failed half way: the pass that saw it is not over, or has decided to lead back.

        If leading back fails too, it is tried again after a pause.
        """
        operation = passed.observed.busy.get(name)
        return (
            self._condemned.get(name) is passed
            or (operation is not None and operation.kind == "lead")
            or f"lead/{name}" in self.world.ledger.record().builds
            or any(isinstance(one, Lead) and one.vm == name for one in passed.plan.actions)
        )
