"""Looking around at the start of a pass: what lives, what is built, what the host can give."""

from __future__ import annotations

from dataclasses import replace

from reconciler.engine.interfaces import Adapters
from reconciler.engine.workers import Workers
from reconciler.model.desired import DesiredState
from reconciler.model.guest_reports import NOTHING_ANNOUNCED
from reconciler.model.health import NEVER_ASKED
from reconciler.model.names import InstanceId, VMName
from reconciler.model.observed import Guest, HostFacts, Links, Observed, Process
from reconciler.model.record import Candidate, Generation, Start, VMRecord
from reconciler.planning.preflight.host_ports import to_ask_for

FACTS_LAST = 10.0
"""Seconds for which the host's facts may be used again while nothing else changed."""
IMAGES_LAST = 10.0
"""Seconds between looks for images that somebody took away. What a start or stop stands on is looked
for once more before it."""
LINKS_LAST = 4.0
"""Seconds for which the host's interfaces may be taken for what they were."""


class Observer:
    """Builds `Observed`; keeps what did not change, so that an idle pass costs little."""

    def __init__(self, adapters: Adapters, workers: Workers) -> None:
        self._adapters = adapters
        self._workers = workers
        self._guests: dict[InstanceId, Guest] = {}
        self._processes: tuple[Process, ...] = ()
        self._facts: HostFacts | None = None
        self._facts_at = 0.0
        self._links = Links()
        self._links_at = float("-inf")
        self._plugged: dict[VMName, float] = {}
        self._images_at: float | None = None

    async def observe(self, desired: DesiredState | None = None, *, fresh: bool) -> Observed:
        """`fresh` asks the host again, also for ports that `desired` wants; else its facts may be old."""
        adapters = self._adapters
        changed = adapters.supervisor.processes() is not self._processes
        facts = await self._host(desired, fresh=fresh or changed)
        await self._look_for_images()
        await self._look_at_links()
        front = await adapters.proxy.look()
        # From here to the end of the snapshot nothing may be awaited: a start that ended in
        # between would be neither among the busy nor among the guests, and be started twice.
        processes = self._processes = adapters.supervisor.processes()
        observed = Observed(
            guests=self._group(processes),
            layers=adapters.images.layers(),
            parts=adapters.images.parts(),
            hash_trees=adapters.images.hash_trees(),
            kernels=adapters.images.kernels(),
            stored=adapters.inventory.stored(),
            announcing=adapters.images.announcing(),
            host=facts,
            links=self._links,
            plugged=self._plugged,
            busy=self._workers.busy(),
            building=self._workers.building(),
            ending=self._workers.ending(),
            looking=self._workers.looking(),
            outcomes=self._workers.outcomes(),
            conflicts={c.vm: c for c in adapters.supervisor.conflicts()},
            front=front.targets,
            proxy_error=front.error,
        )
        found = await self._unknown(processes)
        return replace(observed, found=found) if found else observed

    def _group(self, processes: tuple[Process, ...]) -> dict[VMName, tuple[Guest, ...]]:
        health, trials = self._adapters.prober.health(), self._adapters.prober.trials()
        record = self._adapters.ledger.record()
        said = self._adapters.supervisor.said()
        former, self._guests = self._guests, {}
        grouped: dict[VMName, tuple[Guest, ...]] = {}
        for process in processes:
            answer = health.get(process.instance, NEVER_ASKED)
            trial = trials.get(process.instance, NEVER_ASKED)
            guest = former.get(process.instance)
            begun = begun_as(record.vms.get(process.vm), process.instance)
            heard = said.get(process.instance, NOTHING_ANNOUNCED)
            if begun is None:
                found = Guest(process, answer, trial, heard)
            else:
                heard = begun.said.merged(heard)
                found = Guest(process, answer, trial, heard, begun.announces, begun.passed)
            if guest is None or guest.process is not process or guest != found:
                guest = found
            self._guests[process.instance] = guest
            grouped[process.vm] = (*grouped.get(process.vm, ()), guest)
        return grouped

    async def _host(self, desired: DesiredState | None, *, fresh: bool) -> HostFacts:
        now = self._adapters.clock.now().boot
        if self._facts is None or fresh or now - self._facts_at > FACTS_LAST:
            guests = self._group(self._adapters.supervisor.processes())
            record, busy = self._adapters.ledger.record(), self._workers.busy()
            wanted = to_ask_for(desired, record, guests, busy)
            self._facts = await self._adapters.host.facts(wanted)
            self._facts_at = now
        return self._facts

    async def _look_at_links(self) -> None:
        """What we did ourselves is seen at once, and so is what a guest may not answer for."""
        now = self._adapters.clock.now().boot
        for outcome in self._workers.outcomes():
            if outcome.kind == "plug-taps" and outcome.error is None:
                self._plugged[VMName(outcome.subject)] = now
        at = self._links_at
        old = now - at > LINKS_LAST or self._workers.outcomes()
        if old or any(
            h.failures and h.asked >= at for h in self._adapters.prober.health().values()
        ):
            self._links_at = now
            self._links = await self._adapters.taps.look()
            known = self._adapters.ledger.record().vms
            self._plugged = {vm: at for vm, at in self._plugged.items() if vm in known}

    async def _look_for_images(self) -> None:
        now = self._adapters.clock.now().boot
        if self._images_at is None or now - self._images_at > IMAGES_LAST:
            self._images_at = now
            await self._adapters.images.look()

    async def _unknown(self, processes: tuple[Process, ...]) -> dict[InstanceId, Generation]:
        """Generations of living guests that the record does not know, read back from disk."""
        record = self._adapters.ledger.record()
        found: dict[InstanceId, Generation] = {}
        for process in processes:
            if process.alive and process.vm not in record.vms:
                generation = await self._adapters.generations.read(process.vm, process.generation)
                if generation is not None:
                    found[process.instance] = generation
        return found


def begun_as(record: VMRecord | None, instance: InstanceId) -> Start | Candidate | None:
    """What is remembered of the start of this guest."""
    begun = (record.start, record.candidate) if record is not None else ()
    return next((one for one in begun if one is not None and one.instance == instance), None)
