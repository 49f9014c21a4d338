"""The ledger against a shadow of it: any changes, any reopening between them, the same record."""

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings, strategies as st

from reconciler.ledger.sqlite import SqliteLedger, open_ledger
from reconciler.model.change import (
    AddEvent,
    BeginIntent,
    Change,
    DropBuild,
    DropGroup,
    DropVM,
    EndIntent,
    PutBuild,
    PutGroup,
    PutSource,
    PutSuspension,
    PutVM,
    apply,
)
from reconciler.model.event import Event
from reconciler.model.names import GroupName, VMName
from reconciler.model.record import (
    BuildTrouble,
    GroupRecord,
    Intent,
    Record,
    SourceRecord,
    Suspension,
    VMRecord,
)
from tests.unit.ledger.ledger_samples import StillClock, as_text

# Few names, so that changes meet.
NAMES = st.sampled_from(["a", "b", "web-1"])

CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(
        lambda vm, name: PutVM(replace(vm, name=VMName(name))), st.from_type(VMRecord), NAMES
    ),
    st.builds(lambda name: DropVM(VMName(name)), NAMES),
    st.builds(
        lambda group, name: PutGroup(replace(group, name=GroupName(name))),
        st.from_type(GroupRecord),
        NAMES,
    ),
    st.builds(lambda name: DropGroup(GroupName(name)), NAMES),
    st.builds(
        lambda build, key: PutBuild(replace(build, key=key)), st.from_type(BuildTrouble), NAMES
    ),
    st.builds(DropBuild, NAMES),
    st.builds(PutSource, st.from_type(SourceRecord)),
    st.builds(PutSuspension, st.none() | st.from_type(Suspension)),
    st.builds(AddEvent, st.builds(replace, st.from_type(Event), sequence=st.just(0))),
    st.builds(
        lambda intent, name: BeginIntent(replace(intent, id=name)), st.from_type(Intent), NAMES
    ),
    st.builds(EndIntent, NAMES, st.text()),
)
STEPS = st.lists(st.lists(CHANGES, max_size=4) | st.just("reopen"), max_size=8)


class Shadow:
    """What a ledger should hold, in plain values."""

    def __init__(self) -> None:
        self.record = Record()
        self.events: list[str] = []
        self.open: dict[str, Intent] = {}

    def write(self, changes: list[Change]) -> None:
        self.record = apply(self.record, tuple(changes))
        for change in changes:
            match change:
                case AddEvent(event):
                    self.events.append(repr(replace(event, sequence=len(self.events) + 1)))
                case BeginIntent(intent):
                    self.open[intent.id] = intent
                case EndIntent(name):
                    self.open.pop(name, None)
                case _:
                    pass


async def same(ledger: SqliteLedger, shadow: Shadow) -> None:
    assert as_text(ledger.record()) == as_text(shadow.record)
    assert [repr(event) for event in await ledger.events(0, 1000)] == shadow.events
    found = {intent.id: repr(intent) for intent in await ledger.intents_open()}
    assert found == {name: repr(intent) for name, intent in shadow.open.items()}


async def run(path: Path, steps: list[list[Change] | str]) -> None:
    shadow = Shadow()
    ledger = open_ledger(path, StillClock()).ledger
    try:
        for step in steps:
            if isinstance(step, str):
                await ledger.close()
                opened = open_ledger(path, StillClock())
                assert opened.recovered is None
                ledger = opened.ledger
            else:
                await ledger.write(step)
                shadow.write(step)
            await same(ledger, shadow)
    finally:
        await ledger.close()


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(STEPS)
def test_any_changes_with_any_reopening_give_the_record_of_the_model(
    steps: list[list[Change] | str],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder) / "ledger.db", steps))
