"""The driver of each hypervisor, by its name: the one list of those that this host can run.

The names are those of `hypervisors.CAPABILITIES`: a manifest names one of them, a start writes it into the
guest's file and environment, and every later daemon looks up by it who can talk to the guest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from reconciler.errors import DriverError
from reconciler.hypervisors import DEFAULT, NIX_RUNNER, HypervisorTables
from reconciler.model.observed import Fingerprint
from reconciler.vmm.driver_interface import VMMDriver
from reconciler.vmm.nix_runner.driver import NixRunnerDriver, RunCommand
from reconciler.vmm.qemu.driver import QemuDriver


class DriverRegistry:
    """Satisfies the engine's interface `Drivers`."""

    def __init__(self, drivers: Mapping[str, VMMDriver]) -> None:
        self._drivers = dict(drivers)

    def of(self, hypervisor: str) -> VMMDriver:
        """Raises DriverError for a name that this version does not know, as one that a newer version started."""
        try:
            return self._drivers[hypervisor]
        except KeyError:
            raise DriverError(
                f"this version has no driver for {hypervisor!r}", kind="hypervisor",
                hint="install the version that started this guest, or stop the guest by its pid",
            ) from None  # fmt: skip

    def __iter__(self) -> Iterator[str]:
        """The names, the default hypervisor's first."""
        return iter(self._drivers)

    async def fingerprints(self, state: Path, boot_id: str) -> dict[str, Fingerprint]:
        """What this host has of each. Cheap after the first time."""
        return {
            name: await driver.fingerprint(boot_id, state) for name, driver in self._drivers.items()
        }


def open_drivers(tables: HypervisorTables, run_command: RunCommand) -> DriverRegistry:
    """All drivers. `run_command` has a command ask a guest to end, with the guest's own rights."""
    default = QemuDriver(tables.qemu)
    return DriverRegistry(
        {
            DEFAULT: default,
            # A runner's own VMM is not known: it is taken to be the default one.
            NIX_RUNNER: NixRunnerDriver(run_command, default, default.power_button),
        }
    )
