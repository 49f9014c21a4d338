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
        'mode = f"format=qcow2,snapshot=on,{WRITABLE}"',
        'mode = f"format=qcow2,{WRITABLE}"',
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
        'if "volumes" in written and disk.cloud_init is None:',
        'if "volumes" not in written and disk.cloud_init is None:',
        SOURCE,
    ),
)
