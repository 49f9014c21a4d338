"""Images of a real registry: what is had of them, what is fetched, and who is let in."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image_registries import RegistryConfig
from tests.registry.images import Layout, write_layer
from tests.registry.serving import Face, Registry, serving_registry
from tests.unit.image.oci.pulling import Puller, pulling

SETTINGS = {
    "config.entrypoint": ["/bin/app", "--serve"],
    "config.cmd": "now",
    "config.env": ["PATH=/bin", "MODE=a b"],
    "config.user": "1000:1000",
    "config.workingdir": "/srv",
    "config.stopsignal": "SIGINT",
    "config.exposedports": ["80/tcp", "53/udp"],
    "config.label": "maker=us",
}


@pytest.fixture
async def puller(tmp_path: Path) -> AsyncIterator[Puller]:
    async with pulling(tmp_path) as puller:
        yield puller


@pytest.fixture
def tars(tmp_path: Path) -> list[Path]:
    """Two layers: some 60 KB that compress badly, and a small one."""
    noise = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(2000))
    return [
        write_layer(tmp_path / "lower.tar", {"bin/": "", "bin/app": noise}),
        write_layer(tmp_path / "upper.tar", {"etc/": "", "etc/motd": "hello\n"}),
    ]


@pytest.fixture
def layout(tmp_path: Path, tars: list[Path]) -> Layout:
    layout = Layout(tmp_path / "layout")
    layout.add("one", *tars, settings=SETTINGS)
    return layout


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with serving_registry(tmp_path / "registry") as registry:
        yield registry


def diff_id(tar: Path) -> str:
    return f"sha256:{hashlib.sha256(tar.read_bytes()).hexdigest()}"


async def test_an_image_is_had_with_its_config_and_layers(
    registry: Registry, layout: Layout, tars: list[Path], puller: Puller
) -> None:
    reference = registry.push(layout, "one", "acme/app")
    image = await puller.pull(reference, registry.settings())
    assert image.digest == layout.digest("one")
    config = image.config
    assert (config.entrypoint, config.cmd) == (("/bin/app", "--serve"), ("now",))
    assert config.env == ("PATH=/bin", "MODE=a b")
    assert (config.user, config.working_dir, config.stop_signal) == ("1000:1000", "/srv", "SIGINT")
    assert set(config.exposed_ports) == {"80/tcp", "53/udp"}
    assert config.labels == {"maker": "us"}
    assert config.healthcheck is None
    assert [one.layer.diff_id for one in image.layers] == [diff_id(tar) for tar in tars]
    for one, tar in zip(image.layers, tars, strict=True):
        assert one.blob is not None
        assert gzip.decompress(one.blob.read_bytes()) == tar.read_bytes()


async def test_a_known_layer_is_not_fetched(
    registry: Registry, layout: Layout, tars: list[Path], puller: Puller
) -> None:
    reference = registry.push(layout, "one", "acme/app")
    before = len(registry.served())
    image = await puller.pull(reference, registry.settings(), known={diff_id(tars[0])})
    lower, upper = image.layers
    assert lower.blob is None
    assert upper.blob is not None
    asked = [one.path for one in registry.served()[before:]]
    assert not any(lower.layer.digest in path for path in asked)
    assert sum(upper.layer.digest in path for path in asked) == 1


async def test_a_layer_that_two_pulls_need_at_once_is_fetched_once(
    registry: Registry, layout: Layout, tars: list[Path], puller: Puller, tmp_path: Path
) -> None:
    other = write_layer(tmp_path / "other.tar", {"etc/": "", "etc/motd": "bye\n"})
    layout.add("two", tars[0], other)
    references = [registry.push(layout, tag, "acme/app") for tag in ("one", "two")]
    before = len(registry.served())
    first, second = await asyncio.gather(
        *(puller.pull(reference, registry.settings()) for reference in references)
    )
    third = await puller.pull(references[0], registry.settings())
    asked = [one.path for one in registry.served()[before:]]
    for image in (first, second, third):
        for one in image.layers:
            assert sum(one.layer.digest in path for path in asked) == 1
            assert one.blob is not None
            assert gzip.decompress(one.blob.read_bytes())[:4] in (b"bin/", b"etc/")


async def test_no_byte_of_a_layer_is_fetched_where_all_are_known(
    registry: Registry, layout: Layout, tars: list[Path], puller: Puller
) -> None:
    reference = registry.push(layout, "one", "acme/app")
    before = len(registry.served())
    image = await puller.pull(reference, registry.settings(), known=set(map(diff_id, tars)))
    assert [one.blob for one in image.layers] == [None, None]
    config = layout.manifest(image.digest)["config"]
    assert registry.blob_bytes(before) == config["size"]


async def test_an_image_in_dockers_form_is_had_too(
    registry: Registry, layout: Layout, tars: list[Path], puller: Puller
) -> None:
    reference = registry.push(layout, "one", "acme/app", "--format", "v2s2")
    image = await puller.pull(reference, registry.settings(), known={diff_id(tars[0])})
    assert image.config.entrypoint == ("/bin/app", "--serve")
    lower, upper = image.layers
    assert lower.blob is None
    assert upper.blob is not None
    assert gzip.decompress(upper.blob.read_bytes()) == tars[1].read_bytes()


async def test_layers_come_as_they_were_pushed(
    registry: Registry, layout: Layout, puller: Puller
) -> None:
    reference = registry.push(layout, "one", "acme/app", "--dest-compress-format", "zstd")
    image = await puller.pull(reference, registry.settings())
    assert {one.layer.media_type.partition("+")[2] for one in image.layers} == {"zstd"}
    assert all(
        one.blob and one.blob.read_bytes()[:4] == b"\x28\xb5\x2f\xfd" for one in image.layers
    )


@pytest.fixture
def index(registry: Registry, layout: Layout, tars: list[Path]) -> str:
    """The reference of an index of two platforms, as `docker buildx` pushes it."""
    layout.add("arm", tars[1], settings={"architecture": "arm64", "config.entrypoint": "/bin/arm"})
    manifests = []
    for tag, machine in (("one", "amd64"), ("arm", "arm64")):
        digest = registry.push(layout, tag, "acme/app").rpartition("@")[2]
        manifests.append({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
            "size": layout.blob(digest).stat().st_size,
            "platform": {"os": "linux", "architecture": machine},
        })  # fmt: skip
    kind = "application/vnd.oci.image.index.v1+json"
    body = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).encode()
    return registry.put("acme/app", kind, body)


async def test_of_an_index_the_image_of_the_platform_is_had(
    registry: Registry, index: str, layout: Layout, puller: Puller
) -> None:
    image = await puller.pull(index, registry.settings(), platform="linux/arm64")
    assert image.digest == layout.digest("arm")
    assert image.config.entrypoint == ("/bin/arm",)


async def test_a_platform_that_is_missing_is_said_with_those_that_are_there(
    registry: Registry, index: str, puller: Puller
) -> None:
    with pytest.raises(
        BuildFailed, match="no image for linux/s390x; there are: linux/amd64, linux/arm64"
    ):
        await puller.pull(index, registry.settings(), platform="linux/s390x")


async def test_an_image_of_another_platform_is_refused(
    registry: Registry, layout: Layout, puller: Puller
) -> None:
    reference = registry.push(layout, "one", "acme/app")
    with pytest.raises(BuildFailed, match="the image is for linux/amd64, not for linux/arm64"):
        await puller.pull(reference, registry.settings(), platform="linux/arm64")


@pytest.mark.parametrize("face", ["password", "certificate", "token"])
async def test_a_registry_that_asks_for_more_is_given_it(
    tmp_path: Path, layout: Layout, puller: Puller, face: Face
) -> None:
    with serving_registry(tmp_path / face, face) as registry:
        reference = registry.push(layout, "one", "acme/app")
        image = await puller.pull(reference, registry.settings())
        assert image.digest == layout.digest("one")


async def test_without_credentials_or_with_wrong_ones_the_registry_refuses(
    tmp_path: Path, layout: Layout, puller: Puller
) -> None:
    with serving_registry(tmp_path / "registry", "password") as registry:
        reference = registry.push(layout, "one", "acme/app")
        for given in ("", str(registry.credentials_of("stranger", "sesame"))):
            settings = RegistryConfig(name=registry.host, insecure=True, credentials_file=given)
            with pytest.raises(BuildUnavailable, match="the registry refuses this host") as refused:
                await puller.pull(reference, settings)
            assert refused.value.kind == "auth"
            assert "credentials_file" in refused.value.hint
            assert "sesame" not in str(refused.value)


async def test_a_token_server_that_refuses_or_gives_what_has_expired_is_said_so(
    tmp_path: Path, layout: Layout, puller: Puller
) -> None:
    with serving_registry(tmp_path / "registry", "token") as registry:
        reference = registry.push(layout, "one", "acme/app")
        assert registry.tokens is not None
        assert "repository:acme/app:pull" in " ".join(registry.tokens.asked)
        none = RegistryConfig(name=registry.host, insecure=True)
        with pytest.raises(BuildUnavailable, match="the registry refuses this host") as refused:
            await puller.pull(reference, none)
        assert refused.value.kind == "auth"
        registry.tokens.lifetime = -300
        with pytest.raises(BuildUnavailable, match="the registry refuses this host") as refused:
            await puller.pull(reference, registry.settings())
        assert refused.value.kind == "auth"


async def test_credentials_that_everyone_can_read_are_not_used(
    registry: Registry, layout: Layout, puller: Puller
) -> None:
    reference = registry.push(layout, "one", "acme/app")
    open_to_all = registry.credentials
    open_to_all.chmod(0o644)
    settings = RegistryConfig(name=registry.host, insecure=True, credentials_file=str(open_to_all))
    with pytest.raises(BuildUnavailable, match="can be read by everyone") as refused:
        await puller.pull(reference, settings)
    assert refused.value.kind == "auth"


async def test_a_certificate_that_is_not_trusted_is_refused(
    tmp_path: Path, layout: Layout, puller: Puller
) -> None:
    with serving_registry(tmp_path / "registry", "certificate") as registry:
        reference = registry.push(layout, "one", "acme/app")
        with pytest.raises(BuildUnavailable, match="certificate is not trusted") as refused:
            await puller.pull(reference, None)
        assert refused.value.kind == "refused"
        assert "ca_file" in refused.value.hint


async def test_plain_http_is_not_used_unless_it_is_allowed(
    registry: Registry, layout: Layout, puller: Puller
) -> None:
    reference = registry.push(layout, "one", "acme/app")
    with pytest.raises(BuildUnavailable, match="speaks plain http"):
        await puller.pull(reference, None)


async def test_what_the_registry_does_not_have_is_said_so(
    registry: Registry, layout: Layout, puller: Puller
) -> None:
    reference = registry.push(layout, "one", "acme/app")
    nowhere = reference.partition("@")[0] + f"@sha256:{'0' * 64}"
    for absent in (nowhere, reference.replace("acme/app", "acme/other")):
        with pytest.raises(BuildUnavailable, match="the registry does not have it") as refused:
            await puller.pull(absent, registry.settings())
        assert refused.value.kind == "missing"


async def test_a_registry_that_is_gone_is_said_so(
    tmp_path: Path, layout: Layout, puller: Puller
) -> None:
    with serving_registry(tmp_path / "registry") as registry:
        reference = registry.push(layout, "one", "acme/app")
    with pytest.raises(BuildUnavailable, match="cannot be reached") as refused:
        await puller.pull(reference, registry.settings())
    assert refused.value.kind == "network"


async def test_a_mirror_is_asked_first_and_the_registry_where_it_is_gone(
    tmp_path: Path, registry: Registry, layout: Layout, puller: Puller
) -> None:
    with serving_registry(tmp_path / "mirror") as mirror:
        mirror.push(layout, "one", "acme/app")
        reference = registry.push(layout, "one", "acme/app")
        before = len(registry.served())
        settings = RegistryConfig(name=registry.host, mirrors=[mirror.host], insecure=True)
        image = await puller.pull(reference, settings)
        assert image.digest == layout.digest("one")
        assert mirror.blob_bytes() > 0
        assert registry.blob_bytes(before) == 0
    image = await puller.pull(reference, settings)
    assert image.digest == layout.digest("one")
    assert registry.blob_bytes(before) > 0
