"""The guards around disks that firmware boots: which files an image may name, and what a guest may write to."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

HEADER = ("tests/unit/image/test_qcow2_header.py",)
SOURCE = ("tests/unit/source/test_boot_disks.py",)
ARGV = ("tests/unit/vmm/test_argv.py",)

MUTANTS = (
    Mutant(
        "a disk image may have a backing file",
        "reconciler/image/qcow2_header.py",
        "    if backing:\n",
        "    if backing and version == 2:\n",
        HEADER,
    ),
    Mutant(
        "a disk image may keep its data in another file",
        "reconciler/image/qcow2_header.py",
        "    if features & EXTERNAL_DATA:\n",
        "    if features & EXTERNAL_DATA and encryption:\n",
        HEADER,
    ),
    Mutant(
        "features of a disk image that nobody here knows are taken",
        "reconciler/image/qcow2_header.py",
        "HARMLESS = DIRTY | COMPRESSION | SUBCLUSTERS",
        "HARMLESS = DIRTY | COMPRESSION | SUBCLUSTERS | EXTERNAL_DATA | 32",
        HEADER,
    ),
    Mutant(
        "a manifest names any file of the host as its disk",
        "reconciler/source/manifests/policy_bounds.py",
        "    if (refused := image.file.refusal(policy)) is not None:\n",
        "    if (refused := image.file.refusal(policy)) is not None and not image.file.path:\n",
        SOURCE,
    ),
    Mutant(
        "guests write to the disk that they share",
        "reconciler/vmm/qemu/argv.py",
        'return f"snapshot=on,{WRITABLE},file={_value(booted.path)}"',
        'return f"{WRITABLE},file={_value(booted.path)}"',
        ARGV,
    ),
    Mutant(
        "the overlay of a disk is in the host's temporary folder",
        "reconciler/vmm/qemu/driver.py",
        'env = (("TMPDIR", str(layout.run(PurePath(machine.folder)))),)',
        "env = ()",
        ARGV,
    ),
    Mutant(
        "volumes that nothing mounts are accepted",
        "reconciler/model/boot_disk.py",
        "if any(name != kept for name in volumes) and disk.cloud_init is None:",
        "if any(name == kept for name in volumes) and disk.cloud_init is None:",
        SOURCE,
    ),
    Mutant(
        "what was written above one image is put above another",
        "reconciler/planning/machines.py",
        "return layout.overlay(home, volume.name, booted.file.sha256)",
        'return layout.overlay(home, volume.name, "")',
        ("tests/scenario/test_volumes.py", "tests/simulation"),
    ),
    Mutant(
        "the header of a kept disk says what is below it",
        "reconciler/vmm/qemu/argv.py",
        'return f"{WRITABLE},file={_value(booted.overlay)},{below}"',
        'return f"{WRITABLE},file={_value(booted.overlay)}"',
        ARGV,
    ),
    Mutant(
        "a kept disk that names another file for its data is grown",
        "reconciler/vmm/volumes/overlay.py",
        "if features & ~DIRTY:",
        "if features & DIRTY:",
        ("tests/unit/vmm/test_overlays.py",),
    ),
    Mutant(
        "a kept disk is smaller than its image",
        "reconciler/vmm/volumes/overlay.py",
        "size = max(size_mib * MIB, await asyncio.to_thread(disk_bytes, image))",
        "size = min(size_mib * MIB, await asyncio.to_thread(disk_bytes, image))",
        ("tests/unit/vmm/test_overlays.py",),
    ),
)
