"""The seed of cloud-init: the same texts are the same image, and a changed one is another."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import BuildUnavailable
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.seed_layer import SeedSource
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import Mount
from reconciler.model.names import VMName
from reconciler.source.git.clients import TreeExporter

pytestmark = pytest.mark.skipif(
    shutil.which("xorriso") is None, reason="xorriso is missing: apt-get install xorriso"
)

NOWHERE = TreeExporter(Path("/nowhere"))
USER = "#cloud-config\nhostname: wëb\n"
NETWORK = "version: 2\nethernets: {}\n"


def seed(user: str = USER, network: str = NETWORK) -> LayerSpec:
    return LayerSpec.of(SeedSource(VMName("web"), user, network), "iso9660")


def extracted(image: Path, folder: Path) -> dict[str, str]:
    subprocess.run(
        ["xorriso", "-osirrox", "on", "-indev", image, "-extract", "/", folder],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


async def test_cloud_init_finds_the_manifests_texts_by_the_names_that_it_reads(
    store: ImageStore, tmp_path: Path
) -> None:
    spec = seed()
    await store.build_layer(spec, NOWHERE)
    files = extracted(store.layer_path(spec.key), tmp_path / "files")
    meta = json.loads(files.pop("meta-data"))
    assert files == {"user-data": USER, "network-config": NETWORK}
    assert meta["local-hostname"] == "web"
    assert len(meta["instance-id"]) == 32
    with store.layer_path(spec.key).open("rb") as file:
        file.seek(32_768)
        assert file.read(48)[40:] == b"cidata  "


async def test_volumes_are_mounted_by_what_a_vendor_says(store: ImageStore, tmp_path: Path) -> None:
    mounts = (Mount("vol-data", "/srv/data", "ext4"),)
    spec = LayerSpec.of(SeedSource(VMName("web"), USER, mounts=mounts), "iso9660")
    await store.build_layer(spec, NOWHERE)
    first, text = extracted(store.layer_path(spec.key), tmp_path / "files")["vendor-data"].split(
        "\n", 1
    )
    assert first == "#cloud-config"
    line = ["/dev/disk/by-id/virtio-vol-data", "/srv/data", "ext4", "defaults,nofail", "0", "2"]
    assert json.loads(text) == {"mounts": [line]}


async def test_without_a_network_configuration_there_is_none_to_be_read(
    store: ImageStore, tmp_path: Path
) -> None:
    spec = seed(network="")
    await store.build_layer(spec, NOWHERE)
    files = extracted(store.layer_path(spec.key), tmp_path / "files")
    assert set(files) == {"meta-data", "user-data"}


async def test_the_same_texts_are_the_same_bytes_in_another_folder_on_another_day(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ImageStore(tmp_path / "other", SystemClock())
    await other.open()
    first = await store.build_layer(seed(), NOWHERE)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    second = await other.build_layer(seed(), NOWHERE)
    await other.close()
    assert first.sha256 == second.sha256


def test_another_text_is_another_seed_and_another_instance() -> None:
    specs = [seed(), seed(user=f"{USER}#\n"), seed(network=f"{NETWORK}#\n")]
    assert len({spec.key for spec in specs}) == 3
    sources = [spec.source for spec in specs]
    assert len({one.instance for one in sources if isinstance(one, SeedSource)}) == 3


async def test_a_host_without_xorriso_says_what_to_install(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BuildUnavailable) as caught:
        await store.build_layer(seed(), NOWHERE)
    assert caught.value.kind == "missing-program"
    assert "apt-get install xorriso" in caught.value.hint
