"""The VMMs that manifests and the config may name: what each can do, and its table of settings.

Pure, and below everything: manifests are checked against it where no VMM is installed. `vmm/registry.py`
has the driver of each; `vmm/README.md` says how one is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

Hypervisor = Literal["qemu"]
"""What `spec.hypervisor` of a manifest may be."""
HYPERVISORS: tuple[Hypervisor, ...] = get_args(Hypervisor)
DEFAULT: Hypervisor = HYPERVISORS[0]
"""Of a manifest that names none, and of what was written before hypervisors had names."""
NIX_RUNNER = "nix-runner"
"""The driver of runners that Nix makes, which bring a VMM of their own: no manifest names it."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a VMM can do on any host, as this controller drives it."""

    user_networks: bool
    """Networks inside the VMM, which need no rights on the host and forward ports of it."""
    taps: bool
    open_ports: bool
    """A guest that runs gets other ports: a handover needs it."""
    power_button: bool
    """A guest is asked to shut down. Without it a stop begins with SIGTERM to the VMM."""
    figures: bool
    """It counts disk operations and knows the memory of a guest."""


CAPABILITIES: Mapping[str, Capabilities] = {
    "qemu": Capabilities(
        user_networks=True, taps=True, open_ports=True, power_button=True, figures=True
    ),
    NIX_RUNNER: Capabilities(
        user_networks=True, taps=False, open_ports=False, power_button=True, figures=False
    ),
}
"""By the name of the driver."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class QemuConfig(_Table):
    """The config table of this VMM."""

    binary: str = "qemu-system-x86_64"
    accel: Literal["auto", "kvm", "tcg"] = "auto"
    cpu: str = ""
    """-cpu; empty: host under kvm, max under tcg."""
    ovmf: str = "/usr/share/OVMF"
    """The folder with OVMF, the firmware of disks with `firmware: uefi`."""


class HypervisorTables(_Table):
    """The tables of the config file that are about one VMM each."""

    qemu: QemuConfig = QemuConfig()
