"""`validate` reads images of the repository, made by real tools, and compares them with the manifests."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.registry.images import Layout, skopeo_copy, write_layer
from tests.unit.cli.conftest import Run

VM = """
apiVersion: reconciler/v1
kind: MicroVM
metadata: {{name: web}}
spec:
  memory: 256MiB
  store: {{layers: [{{oci: {source}}}]}}
{more}
"""
FORWARD = "  interfaces: [{type: user, forward: [{host: 8081, guest: 81}]}]"
SETTINGS = {"config.entrypoint": ["/app"], "config.exposedports": ["80/tcp"]}
NOT_EXPOSED = "the image does not expose 81/tcp, but 80/tcp"


@pytest.fixture(autouse=True)
def no_host_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECONCILER_CONFIG", raising=False)
    monkeypatch.setattr("reconciler.config.DEFAULT_PATH", tmp_path / "no-config.toml")


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    made = tmp_path / "fleet"
    (made / "app").mkdir(parents=True)
    return made


def layout(folder: Path, tmp_path: Path) -> Layout:
    """An image that umoci made."""
    shutil.rmtree(folder, ignore_errors=True)
    made = Layout(folder)
    made.add("one", write_layer(tmp_path / "layer.tar", {"app": "program"}), settings=SETTINGS)
    return made


def with_healthcheck(made: Layout, test: list[str]) -> None:
    """Give the image's config a Healthcheck, as docker's builder writes it; umoci has no option for it."""

    def put(content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        made.blob(digest).write_bytes(content)
        return digest

    manifest = made.manifest(made.digest("one"))
    config = json.loads(made.blob(manifest["config"]["digest"]).read_bytes())
    config["config"]["Healthcheck"] = {"Test": test}
    content = json.dumps(config).encode()
    manifest["config"] |= {"digest": put(content), "size": len(content)}
    document = json.dumps(manifest).encode()
    index = json.loads((made.folder / "index.json").read_bytes())
    index["manifests"][0] |= {"digest": put(document), "size": len(document)}
    (made.folder / "index.json").write_text(json.dumps(index))


async def warned(run: Run, fleet: Path, source: str, more: str = FORWARD) -> dict[str, str]:
    """The warnings by field; the folder is valid."""
    (fleet / "web.yaml").write_text(VM.format(source=source, more=more))
    shown = await run("validate", str(fleet), "-o", "json")
    assert shown.code == 0, shown.err
    return {one["field"]: one["message"] for one in json.loads(shown.out)["warnings"]}


async def test_a_forward_to_a_port_that_a_layout_does_not_expose_is_warned_of_and_is_no_error(
    run: Run, fleet: Path, tmp_path: Path
) -> None:
    layout(fleet / "app", tmp_path)
    found = await warned(run, fleet, "{layout: ./app}")
    assert found["spec.interfaces[0].forward[0].guest"] == NOT_EXPOSED
    shown = await run("validate", str(fleet))
    assert (shown.code, shown.out) == (0, "valid: 1 VM, 0 groups\n")
    assert f"web: spec.interfaces[0].forward[0].guest: {NOT_EXPOSED}" in shown.err


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
@pytest.mark.parametrize("packed", [False, True])
async def test_archives_that_skopeo_wrote_are_looked_into_plain_and_compressed(
    run: Run, fleet: Path, tmp_path: Path, kind: str, *, packed: bool
) -> None:
    made = layout(tmp_path / "layout", tmp_path)
    archive = fleet / "app/app.tar"
    skopeo_copy(f"oci:{made.folder}:one", f"{kind}:{archive}")
    if packed:
        archive.write_bytes(gzip.compress(archive.read_bytes()))
    found = await warned(run, fleet, "{archive: ./app/app.tar}")
    assert found["spec.interfaces[0].forward[0].guest"] == NOT_EXPOSED


async def test_a_healthcheck_is_written_as_a_check_and_pasting_it_ends_all_warnings(
    run: Run, fleet: Path, tmp_path: Path
) -> None:
    made = layout(fleet / "app", tmp_path)
    with_healthcheck(made, ["CMD-SHELL", "curl -f http://localhost/healthz || exit 1"])
    found = await warned(run, fleet, "{layout: ./app}", more="")
    advice = found["spec.health.checks"]
    health, interfaces = advice.split("`")[1], advice.split("`")[3]
    assert health == 'health: {checks: [{http: {port: 8080, path: "/healthz"}}]}'
    assert interfaces == "interfaces: [{type: user, forward: [{host: 8080, guest: 80}]}]"
    assert await warned(run, fleet, "{layout: ./app}", more=f"  {health}\n  {interfaces}") == {}


async def test_images_that_cannot_be_read_are_warned_of_with_why(
    run: Run, fleet: Path, tmp_path: Path
) -> None:
    place = "spec.store.layers[0].oci"
    made = layout(fleet / "app", tmp_path)
    blob = made.blob(made.digest("one"))
    blob.write_bytes(blob.read_bytes() + b" ")
    found = await warned(run, fleet, "{layout: ./app}")
    assert "has other bytes than its digest says" in found[place]
    (fleet / "app/index.json").write_text(json.dumps({"manifests": "\x1b[2J"}))
    found = await warned(run, fleet, "{layout: ./app}")
    assert found[place].startswith("./app: index.json cannot be read at manifests")
    assert "\x1b" not in found[place]
    (fleet / "app/index.json").unlink()
    (fleet / "app/index.json").symlink_to("/etc/passwd")
    assert "index.json" in (await warned(run, fleet, "{layout: ./app}"))[place]


async def test_an_archive_that_is_none_or_a_bomb_is_warned_of_and_ends_soon(
    run: Run, fleet: Path
) -> None:
    place, archive = "spec.store.layers[0].oci", fleet / "app/app.tar"
    archive.write_bytes(b"no archive at all" * 100)
    assert "no tar" in (await warned(run, fleet, "{archive: ./app/app.tar}"))[place]
    with tarfile.open(archive, "w"):
        pass
    found = await warned(run, fleet, "{archive: ./app/app.tar}")
    assert "neither index.json nor manifest.json" in found[place]
    archive.unlink()
    with tarfile.open(archive, "w") as made:
        for number in range(12):
            member = tarfile.TarInfo(f"blobs/sha256/{number:064}")
            member.size = 4 << 20
            with (fleet / "zeros").open("w+b") as zeros:
                zeros.write(b"{")
                zeros.truncate(member.size)
                zeros.seek(0)
                made.addfile(member, zeros)
    found = await warned(run, fleet, "{archive: ./app/app.tar}")
    assert "its documents have more than 32 MiB" in found[place]


async def test_images_of_a_registry_are_not_asked_for(run: Run, fleet: Path) -> None:
    source = f'{{image: "registry.example.org/app@sha256:{"1" * 64}"}}'
    config = fleet.parent / "config.toml"
    source_of = '[source]\nurl = "https://git.example.org/fleet.git"\n'
    config.write_text(f'{source_of}[policy]\nregistries = ["registry.example.org/*"]\n')
    (fleet / "web.yaml").write_text(VM.format(source=source, more=FORWARD))
    shown = await run("validate", str(fleet), "--config", str(config))
    assert (shown.code, "expose" in shown.err) == (0, False)
