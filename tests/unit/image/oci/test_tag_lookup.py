"""Lookups of tags: by the same settings and bounds as pulls, of registries that are ill or mean harm too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import BuildFailed, BuildUnavailable, ReconcilerError
from reconciler.image.build_site import BuildTools, Sources
from reconciler.image.oci.tag_lookup import RegistryTags
from reconciler.image.store import ImageStore
from reconciler.image_registries import RegistryConfig
from reconciler.model.image_tags import Tag
from tests.registry.images import Layout, program, write_layer
from tests.registry.serving import Face, serving_registry
from tests.unit.image.oci import hostile
from tests.unit.image.oci.hostile import Answer, hostile_registry

SECONDS = 3.0


@pytest.fixture
async def tools(tmp_path: Path) -> AsyncIterator[BuildTools]:
    program("skopeo")
    store = ImageStore(tmp_path / "state", SystemClock())
    await store.open()
    yield store.tools
    await store.close()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "layout")
    layout.add("1", write_layer(tmp_path / "layer.tar", {"bin/": "", "bin/app": "an application"}))
    return layout


def asked_of(
    tools: BuildTools, folder: Path, *registries: RegistryConfig, seconds: float = 90.0
) -> RegistryTags:
    known = BuildTools(
        tools.programs, tools.debian, tools.downloads, tools.nix, Sources(registries=registries)
    )
    return RegistryTags(folder / "lookups", known, seconds)


def app(host: str) -> Tag:
    return Tag(f"{host}/acme/app", "1", "daily")


@pytest.mark.parametrize("face", ["password", "certificate", "token"])
async def test_the_login_and_the_certificate_of_a_pull_are_those_of_a_lookup(
    tmp_path: Path, tools: BuildTools, layout: Layout, face: Face
) -> None:
    with serving_registry(tmp_path / face, face) as registry:
        registry.push(layout, "1", "acme/app")
        tags = asked_of(tools, tmp_path, registry.settings())
        assert await tags.look_up(app(registry.host)) == layout.digest("1")
        stranger = asked_of(tools, tmp_path / "stranger")
        with pytest.raises(BuildUnavailable) as refused:
            await stranger.look_up(app(registry.host))
        assert refused.value.kind in ("auth", "refused")


async def test_a_mirror_is_asked_first_and_the_registry_where_it_is_gone(
    tmp_path: Path, tools: BuildTools, layout: Layout
) -> None:
    with serving_registry(tmp_path / "registry") as registry:
        registry.push(layout, "1", "acme/app")
        settings = registry.settings()
        with serving_registry(tmp_path / "mirror") as mirror:
            older = Layout(tmp_path / "older")
            older.add(
                "1", write_layer(tmp_path / "older.tar", {"bin/": "", "bin/app": "an older one"})
            )
            mirror.push(older, "1", "acme/app")
            mirrored = RegistryConfig(name=registry.host, mirrors=[mirror.host], insecure=True)
            tags = asked_of(tools, tmp_path, mirrored)
            assert await tags.look_up(app(registry.host)) == older.digest("1")
        assert await tags.look_up(app(registry.host)) == layout.digest("1")
        assert settings.name == registry.host


async def test_of_an_index_its_own_digest_is_meant_and_no_layer_is_fetched(
    tmp_path: Path, tools: BuildTools, layout: Layout
) -> None:
    with serving_registry(tmp_path / "registry") as registry:
        digest = registry.push(layout, "1", "acme/app").rpartition("@")[2]
        kind = "application/vnd.oci.image.index.v1+json"
        one = {
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
            "size": layout.blob(digest).stat().st_size,
            "platform": {"os": "linux", "architecture": "amd64"},
        }  # fmt: skip
        body = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [one]}).encode()
        registry.put("acme/app", kind, body)
        before = len(registry.served())
        tags = asked_of(tools, tmp_path, registry.settings())
        found = await tags.look_up(Tag(f"{registry.host}/acme/app", "put", "commit"))
        assert found == f"sha256:{hashlib.sha256(body).hexdigest()}"
        assert registry.blob_bytes(before) == 0


async def test_the_digest_is_that_of_the_bytes_whatever_the_registry_claims(
    tmp_path: Path, tools: BuildTools
) -> None:
    def claims(to: hostile.HostileHandler, content: bytes) -> None:
        to.say(200, content, Docker_Content_Digest=f"sha256:{'0' * 64}")

    with hostile_registry({"manifest": claims}) as registry:
        tags = asked_of(tools, tmp_path, RegistryConfig(name=registry.host, insecure=True))
        assert await tags.look_up(app(registry.host)) == hostile.digest_of(registry.manifest)


@pytest.mark.parametrize(
    ("what", "answer", "words"),
    [
        ("manifest", hostile.endless, "sends more|bytes, and 4194304"),
        ("manifest", hostile.truncated, "the registry broke off"),
        ("manifest", hostile.shortened, "cannot be read|skopeo"),
        ("manifest", hostile.silent, "sent nothing for 3 s"),
        ("manifest", hostile.status(403, "DENIED"), "refuses this host"),
        ("manifest", hostile.status(404, "MANIFEST_UNKNOWN"), "does not have it"),
        ("manifest", hostile.status(500), "the registry is in trouble"),
        ("ping", hostile.silent, "sent nothing for 3 s"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_registry_that_is_ill_is_left_with_a_line_that_says_why(
    tmp_path: Path, tools: BuildTools, what: str, answer: Answer, words: str
) -> None:
    with hostile_registry({what: answer}) as registry:
        settings = RegistryConfig(name=registry.host, insecure=True)
        tags = asked_of(tools, tmp_path, settings, seconds=SECONDS)
        with pytest.raises(ReconcilerError, match=words) as refused:
            await tags.look_up(app(registry.host))
    assert "\n" not in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert list((tmp_path / "lookups").iterdir()) == [], "nothing is left of it"


async def test_what_is_no_image_is_not_meant_by_a_tag(tmp_path: Path, tools: BuildTools) -> None:
    def chart(to: hostile.HostileHandler, content: bytes) -> None:
        to.say(200, content.replace(b"vnd.oci.image.config", b"vnd.cncf.helm.config"))

    with hostile_registry({"manifest": chart}) as registry:
        tags = asked_of(tools, tmp_path, RegistryConfig(name=registry.host, insecure=True))
        with pytest.raises(BuildFailed, match="is no image that a machine can run"):
            await tags.look_up(app(registry.host))
