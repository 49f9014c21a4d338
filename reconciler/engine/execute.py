"""Doing what a plan says. No choice is left here: if you are about to decide something, it belongs in `planning`."""

from __future__ import annotations

from typing import assert_never

from reconciler.engine.ports import Ports
from reconciler.engine.stopping import stop_guest
from reconciler.engine.workers import Workers
from reconciler.model.observed import Outcome
from reconciler.model.plan import (
    Action,
    BuildKernel,
    BuildLayer,
    Collect,
    CreateGeneration,
    DropGenerations,
    ForgetGuest,
    Note,
    Plan,
    RemoveVM,
    StartGuest,
    StopGuest,
)
from reconciler.model.record import BeginIntent, Change, EndIntent, Intent

STORE = "store"


class Executor:
    def __init__(self, ports: Ports, workers: Workers) -> None:
        self._ports = ports
        self._workers = workers
        self._count = 0

    async def execute(self, plan: Plan, outcomes: tuple[Outcome, ...]) -> None:
        """Make the plan's changes durable together with the intent of every action, then act.

        Raises LedgerUnwritable before anything was done.
        """
        intents = [self._intent(action) for action in plan.actions if not isinstance(action, Note)]
        ended = self._workers.ended()
        changes: list[Change] = [*ended, *plan.changes, *(BeginIntent(i) for i in intents)]
        if changes:
            began = self._ports.clock.now().boot
            await self._ports.ledger.write(changes)
            self._ports.meter.state_written(self._ports.clock.now().boot - began)
        self._workers.seen(outcomes, ended)
        self._ports.prober.watch(plan.probes)
        waiting = iter(intents)
        for action in plan.actions:
            if not isinstance(action, Note):
                self._begin(action, next(waiting).id)

    def _begin(self, action: Action, intent: str) -> None:
        ports, workers = self._ports, self._workers
        match action:
            case BuildLayer(spec):
                work = ports.images.build_layer(spec, ports.source.repository)
                workers.build("build-layer", spec.key, intent, work)
            case BuildKernel(kernel):
                workers.build("build-kernel", kernel.key, intent, ports.images.build_kernel(kernel))
            case Collect(pinned):
                workers.build("collect", STORE, intent, ports.images.collect(pinned))
            case CreateGeneration(vm):
                workers.operate(vm, "create", intent, self._create(action))
            case StartGuest(vm, machine):
                workers.operate(vm, "start", intent, self._start(action), machine.instance)
            case StopGuest(vm, instance):
                workers.operate(vm, "stop", intent, stop_guest(ports, action), instance)
            case RemoveVM(vm):
                workers.operate(vm, "remove", intent, ports.generations.remove(vm))
            case ForgetGuest(_, instance):
                workers.aside(intent, ports.supervisor.forget(instance))
            case DropGenerations(vm, numbers):
                workers.aside(intent, ports.generations.drop(vm, numbers))
            case Note():
                pass
            case _:
                assert_never(action)

    async def _create(self, action: CreateGeneration) -> None:
        launch = self._ports.driver.launch(action.machine)
        await self._ports.generations.create(action.machine, launch, action.generation)

    async def _start(self, action: StartGuest) -> None:
        ports, machine = self._ports, action.machine
        launch = ports.driver.launch(machine)
        generation = ports.ledger.record().vms[action.vm].generation(machine.generation)
        if generation is not None:
            await ports.generations.create(machine, launch, generation)
        await ports.driver.volumes(machine, action.volume_sizes)
        await ports.supervisor.start(machine, launch)
        await ports.generations.set_booted(action.vm, machine.generation)

    def _intent(self, action: Action) -> Intent:
        self._count += 1
        now = self._ports.clock.now()
        kind, subject = describe(action)
        return Intent(f"{now.boot_id[:8]}-{now.boot:.6f}-{self._count}", kind, subject, now.wall)


def describe(action: Action) -> tuple[str, str]:
    """An action's kind and whom it is about, as intents, metrics and people name them."""
    match action:
        case BuildLayer(spec):
            return "build-layer", spec.key
        case BuildKernel(kernel):
            return "build-kernel", kernel.key
        case Collect():
            return "collect", STORE
        case CreateGeneration(vm):
            return "create", vm
        case StartGuest(vm):
            return "start", vm
        case StopGuest(vm):
            return "stop", vm
        case RemoveVM(vm):
            return "remove", vm
        case ForgetGuest(vm):
            return "forget", vm
        case DropGenerations(vm):
            return "drop", vm
        case Note(kind, subject):
            return kind, subject
        case _:
            assert_never(action)


async def end_interrupted(ports: Ports) -> int:
    """Close the intents of a daemon that died: the next pass looks at the world and carries on."""
    left = await ports.ledger.intents_open()
    await ports.ledger.write([EndIntent(intent.id, "interrupted") for intent in left])
    return len(left)
