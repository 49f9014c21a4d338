"""The manifest of a VM that boots a disk image by firmware, and the other fields that may stand beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from reconciler.model.fields import Face, FieldConflict
from reconciler.model.image import DiskFormat, DiskImage
from reconciler.model.layer_kinds.image_layer import ImagePlace
from reconciler.model.machine import Firmware
from reconciler.model.network_interfaces import Interface
from reconciler.model.quantity import refusal
from reconciler.model.writable_root import RootVolume, WritableDisk

FIXED = ("kernel", "store")
"""Fields that a disk replaces."""
MOST_TEXT = 32 * 1024
"""Characters of a text for cloud-init; each generation's record holds it."""
KNOWN_BEGINNINGS = (
    "#cloud-config", "#!", "#cloud-boothook", "#include", "#cloud-config-archive", "## template: jinja",
    "#part-handler", "Content-Type: multipart/", "MIME-Version:",
)  # fmt: skip
"""Of user data. cloud-init warns of any other in its log, and does nothing."""


def _user_data(value: str) -> str:
    if not value.startswith(KNOWN_BEGINNINGS):
        raise refusal("is nothing that cloud-init acts on", "begin it with #cloud-config or #!")
    return value


class CloudInit(Face):
    """What cloud-init finds in the guest, on a read-only disk named `cidata` (its source NoCloud)."""

    user_data: Annotated[str, Field(max_length=MOST_TEXT), AfterValidator(_user_data)] = Field(
        description="A text that begins with `#cloud-config` or `#!`, at most 32768 characters."
    )
    network_config: Annotated[str, Field(min_length=1, max_length=MOST_TEXT)] | None = Field(
        default=None,
        description="A network configuration of cloud-init's, version 1 or 2; none: DHCP.",
    )


class GuestDisk(ImagePlace):
    """A disk image with its own kernel and boot loader, as clouds and appliances have them."""

    format: DiskFormat = Field(
        description="The file's; a qcow2 must stand alone, without a backing file."
    )
    firmware: Firmware = Field(default="bios", description="What boots it; uefi is OVMF.")
    writable: WritableDisk = Field(
        default="temporary",
        description="Where the guest's writes to the disk go. temporary: to a file that ends with the guest."
        " `{volume: NAME}`: they are kept on that volume, for this image alone: another sha256 begins with"
        " nothing, and finds its own again when it comes back. The disk is as large as the volume's `size`, or"
        " as the image if that is larger.",
    )
    cloud_init: CloudInit | None = Field(
        default=None,
        description="For images with cloud-init. A changed text is a new generation.",
    )

    def source(self) -> DiskImage:
        """What is booted."""
        return DiskImage(self.file(), self.format, self.firmware)


def beside_faults(
    disk: GuestDisk,
    written: Collection[str],
    volumes: Sequence[str],
    interfaces: Sequence[Interface],
) -> Iterator[FieldConflict]:
    """Conflicts of a spec with its disk. `written` has the names of the fields that the spec gives, `volumes` those of its volumes."""
    for name in FIXED:
        if name in written:
            yield FieldConflict(
                (name,), "has no effect beside a disk, which brings its own", "remove it"
            )
    kept = disk.writable.volume if isinstance(disk.writable, RootVolume) else ""
    if any(name != kept for name in volumes) and disk.cloud_init is None:
        yield FieldConflict(
            ("volumes",), "nothing mounts a volume in the guest of a disk without cloudInit",
            "add disk.cloudInit for an image with cloud-init, or remove the volumes; disk.writable needs none",
        )  # fmt: skip
    configured = disk.cloud_init is not None and disk.cloud_init.network_config is not None
    for index, interface in enumerate(interfaces):
        if interface.address is not None and not configured:
            yield FieldConflict(
                ("interfaces", index, "address"), "nothing gives the guest of a disk this address",
                "write disk.cloudInit.networkConfig with the same address",
            )  # fmt: skip
        for name in ("gateway", "nameservers"):
            if getattr(interface, name):
                yield FieldConflict(
                    ("interfaces", index, name), "has no effect on the guest of a disk",
                    "remove it, and write it in disk.cloudInit.networkConfig",
                )  # fmt: skip
