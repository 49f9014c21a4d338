"""Doing what a plan says. No choice is left here: if you are about to decide something, it belongs in `planning`."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, assert_never

from reconciler.engine.interfaces import Adapters
from reconciler.engine.stop_guest import stop_guest
from reconciler.engine.workers import Workers
from reconciler.model.actions import (
    Action,
    BuildKernel,
    BuildLayer,
    CancelBuild,
    Collect,
    CreateGeneration,
    DropGenerations,
    DropSnapshots,
    DropTaps,
    ForgetGuest,
    HandOver,
    Lead,
    LookUp,
    MoveVM,
    OpenPorts,
    PlugTaps,
    RemoveVM,
    RestoreVolumes,
    SnapshotVolumes,
    StartBeside,
    StartGuest,
    StopGuest,
    VMOperation,
)
from reconciler.model.change import BeginIntent, Change, EndIntent
from reconciler.model.machine import Launch, Machine
from reconciler.model.observed import (
    ActionResult,
    Collected,
    Outcome,
    PortsOpened,
    TagFound,
    VolumesSaved,
)
from reconciler.model.plan import Plan
from reconciler.model.record import Intent


class Executor:
    def __init__(self, adapters: Adapters, workers: Workers) -> None:
        self._adapters = adapters
        self._workers = workers
        self._count = 0
        self._doubtful: set[str] = set()
        """Intents of writes that failed: nothing was begun, but the disk may have taken them."""
        self._unbegun: tuple[EndIntent, ...] = ()

    async def settle(self) -> None:
        """After a write that failed, ask the disk what it took. Raises LedgerUnwritable."""
        if self._doubtful:
            left = await self._adapters.ledger.intents_open()
            self._doubtful &= {intent.id for intent in left}
            self._unbegun = tuple(EndIntent(name, "interrupted") for name in sorted(self._doubtful))

    async def execute(self, plan: Plan, outcomes: tuple[Outcome, ...]) -> None:
        """Make the plan's changes durable together with the intent of every action, then act.

        Raises LedgerUnwritable before anything was done.
        """
        intents = [self._intent(action) for action in plan.actions]
        ended = self._workers.ended()
        begun = [BeginIntent(intent) for intent in intents]
        changes: list[Change] = [*self._unbegun, *ended, *plan.changes, *begun]
        if changes:
            began = self._adapters.clock.now().boot
            self._doubtful |= {intent.id for intent in intents}
            await self._adapters.ledger.write(changes)
            self._doubtful, self._unbegun = set(), ()
            self._adapters.meter.state_written(self._adapters.clock.now().boot - began)
        self._workers.seen(outcomes, ended)
        self._adapters.prober.watch(plan.probes, plan.trial_probes)
        self._adapters.inventory.used(plan.named)
        for action, intent in zip(plan.actions, intents, strict=True):
            self._begin(action, intent.id)

    def _begin(self, action: Action, intent: str) -> None:
        adapters, workers = self._adapters, self._workers
        match action:
            case BuildLayer() | BuildKernel() | Collect():
                workers.build(action.kind, action.subject, intent, self._in_store(action))
            case LookUp():
                workers.look_up(action.subject, intent, self._look_up(action))
            case CancelBuild(key):
                workers.cancel(key, intent)
            case ForgetGuest(_, instance):
                workers.aside(intent, adapters.supervisor.forget(instance))
            case DropGenerations(vm, numbers):
                workers.aside(intent, adapters.generations.drop(vm, numbers))
            case DropSnapshots(_, paths):
                workers.aside(intent, adapters.volumes.drop(paths))
            case _:
                workers.operate(action.vm, action.kind, intent, self._operation(action))

    def _in_store(
        self, action: BuildLayer | BuildKernel | Collect
    ) -> Coroutine[Any, Any, ActionResult]:
        images, content = self._adapters.images, self._adapters.source
        match action:
            case BuildLayer(spec):
                return images.build_layer(spec, content)
            case BuildKernel(spec):
                return images.build_kernel(spec, content)
            case Collect(pinned):
                return self._collect(pinned)
            case _:
                assert_never(action)

    async def _look_up(self, action: LookUp) -> TagFound:
        digest = await self._adapters.tags.look_up(action.tag)
        return TagFound(action.tag, digest, action.revision, action.asked)

    async def _collect(self, pinned: frozenset[str]) -> Collected:
        return Collected(await self._adapters.images.collect(pinned))

    def _operation(self, action: VMOperation) -> Coroutine[Any, Any, ActionResult]:
        adapters = self._adapters
        match action:
            case CreateGeneration():
                return self._create(action)
            case StartGuest():
                return self._start(action)
            case StartBeside():
                return self._start_beside(action)
            case OpenPorts() | HandOver() | Lead():
                return self._ports_of(action)
            case StopGuest(vm, instance, ladder, slot=slot):
                return stop_guest(adapters, vm, instance, slot, ladder)
            case SnapshotVolumes(_, pairs):
                return self._snapshot(pairs)
            case RestoreVolumes(_, pairs):
                return adapters.volumes.restore(pairs)
            case RemoveVM(vm):
                return adapters.generations.remove(vm)
            case MoveVM(vm, to):
                return adapters.generations.move(vm, to)
            case PlugTaps() | DropTaps():
                return self._taps(action)
            case _:
                assert_never(action)

    def _ports_of(self, action: OpenPorts | HandOver | Lead) -> Coroutine[Any, Any, ActionResult]:
        match action:
            case OpenPorts():
                return self._open_ports(action)
            case HandOver():
                return self._hand_over(action)
            case Lead():
                return self._adapters.proxy.route(action.vm, action.target)

    async def _open_ports(self, action: OpenPorts) -> PortsOpened:
        driver = self._adapters.drivers.of(action.endpoint.hypervisor)
        # A guest that serves by the ports of its manifest gives them up only to a proxy that answers.
        return PortsOpened(await driver.open_ports(action.endpoint, self._adapters.proxy.reach))

    async def _snapshot(self, pairs: tuple[tuple[str, str], ...]) -> VolumesSaved:
        return VolumesSaved(await self._adapters.volumes.snapshot(pairs))

    def _taps(self, action: PlugTaps | DropTaps) -> Coroutine[Any, Any, None]:
        if isinstance(action, DropTaps):
            return self._adapters.taps.drop(action.names)
        return self._adapters.taps.plug(action.vm, action.taps)

    async def _create(self, action: CreateGeneration) -> None:
        driver = self._adapters.drivers.of(action.machine.hypervisor)
        launch = driver.launch(action.machine)
        # Before anything is stopped for it: what no start could do is found out now.
        await self._adapters.volumes.can_grow(action.machine, action.volume_sizes)
        await self._adapters.generations.create(action.machine, launch, action.generation)

    async def _start(self, action: StartGuest) -> None:
        adapters, machine = self._adapters, action.machine
        launch = await self._describe(machine, current=True)
        await adapters.volumes.prepare(machine, action.volume_sizes, action.kept)
        await adapters.drivers.of(machine.hypervisor).prepare(machine)
        await adapters.taps.make(machine.vm, machine.taps)
        await adapters.supervisor.start(machine, launch)
        await adapters.generations.set_booted(action.vm, machine.generation)

    async def _start_beside(self, action: StartBeside) -> None:
        launch = await self._describe(action.machine, current=False)
        await self._adapters.drivers.of(action.machine.hypervisor).prepare(action.machine)
        await self._adapters.supervisor.start(action.machine, launch)

    async def _describe(self, machine: Machine, *, current: bool) -> Launch:
        """See that the generation's folder tells of this start."""
        adapters = self._adapters
        launch = adapters.drivers.of(machine.hypervisor).launch(machine)
        generation = adapters.ledger.record().vms[machine.vm].generation(machine.generation)
        if generation is not None:
            await adapters.generations.create(machine, launch, generation, current=current)
        return launch

    async def _hand_over(self, action: HandOver) -> None:
        front = self._adapters.proxy
        await front.route(action.vm, action.target)
        await front.drained(action.vm, action.predecessor, action.drain)
        await self._describe(action.machine, current=True)
        await self._adapters.generations.set_booted(action.vm, action.machine.generation)

    def _intent(self, action: Action) -> Intent:
        self._count += 1
        now = self._adapters.clock.now()
        number = f"{now.boot_id[:8]}-{now.boot:.6f}-{self._count}"
        return Intent(number, action.kind, action.subject, now.wall)


async def end_interrupted(adapters: Adapters) -> int:
    """Close the intents of a daemon that died: the next pass looks at the world and carries on."""
    left = await adapters.ledger.intents_open()
    await adapters.ledger.write([EndIntent(intent.id, "interrupted") for intent in left])
    return len(left)
