"""One honest fake for each port: small worlds in memory, on a clock that only the test moves."""

from tests.fakes.clock import FakeClock
from tests.fakes.faults import Crash, Faults
from tests.fakes.front import FakeFront
from tests.fakes.hypervisor import FakeHypervisor
from tests.fakes.images import FakeImages
from tests.fakes.ledger import FakeLedger
from tests.fakes.meter import FakeMeter
from tests.fakes.source import FakeHost, FakeSource
from tests.fakes.tags import FakeTags
from tests.fakes.taps import FakeTaps
from tests.fakes.volumes import FakeVolumes

__all__ = [
    "Crash",
    "FakeClock",
    "FakeFront",
    "FakeHost",
    "FakeHypervisor",
    "FakeImages",
    "FakeLedger",
    "FakeMeter",
    "FakeSource",
    "FakeTags",
    "FakeTaps",
    "FakeVolumes",
    "Faults",
]
