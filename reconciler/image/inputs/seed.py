"""The seed of cloud-init: an ISO 9660 image with the label `cidata`, always the same for the same texts."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from reconciler.errors import BuildUnavailable
from reconciler.image.build_site import BuildSite
from reconciler.image.layer_input import LayerInput
from reconciler.model.layer_kinds.seed_layer import SeedSource
from reconciler.model.machine import Mount

PROGRAM, PACKAGE = "xorriso", "xorriso"
LABEL = "cidata"
FIXED_DATE = "2020010100000000"
"""YYYYMMDDhhmmsscc, of all that the image tells a date of."""
ISO_SECONDS = 30.0


async def build_seed(source: SeedSource, site: BuildSite) -> None:
    if shutil.which(PROGRAM) is None:
        raise BuildUnavailable(
            f"{PROGRAM} is not installed, which makes {source.title}",
            kind="missing-program",
            hint=f"apt-get install {PACKAGE}; it is tried again",
        )
    await asyncio.to_thread(_write, site.folder, files_of(source))
    argv = iso_argv(str(site.image), str(site.folder))
    ended = await site.tools.programs.run(argv, seconds=ISO_SECONDS)
    if ended.status != 0:
        raise BuildUnavailable(f"{PROGRAM}: {ended.tail or f'status {ended.status}'}")


def files_of(source: SeedSource) -> Mapping[str, str]:
    """The texts by the names that NoCloud reads. JSON is YAML."""
    meta = json.dumps({"instance-id": source.instance, "local-hostname": source.vm})
    files = {"meta-data": f"{meta}\n", "user-data": source.user_data}
    if source.network_config:
        files["network-config"] = source.network_config
    if source.mounts:
        # What a vendor says counts where the user data says nothing of it.
        mounts = json.dumps({"mounts": list(map(_mount, source.mounts))})
        files["vendor-data"] = f"#cloud-config\n{mounts}\n"
    return files


def _mount(mount: Mount) -> list[str]:
    """A line of fstab. Without its disk a guest goes on, as its checks say what follows from that."""
    device = f"/dev/disk/by-id/virtio-{mount.serial}"
    return [device, mount.mount_point, mount.fs_type, "defaults,nofail", "0", "2"]


def iso_argv(image: str, folder: str) -> tuple[str, ...]:
    """The argv that makes `image` of `folder`; both paths are absolute."""
    # -no_rc: no settings of the host's or a user's. -r: owners and modes alike everywhere.
    # fmt: off
    return (
        PROGRAM, "-no_rc", "-as", "mkisofs", "-quiet", "-o", image, "-V", LABEL, "-J", "-r",
        f"--modification-date={FIXED_DATE}", "--set_all_file_dates", FIXED_DATE, folder,
    )
    # fmt: on


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


INPUT = LayerInput(build_seed, seconds=60.0)
