"""What a manifest may say of an OCI image, and what its layer's key covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from pydantic import ValidationError

from reconciler.config import PolicyConfig
from reconciler.image_references import allowed, parse_reference
from reconciler.model.layer_kinds.oci_layer import Oci, OciSource

HEX = "0123456789abcdef" * 4
IMAGE = f"registry.example.org/acme/app@sha256:{HEX}"


def oci(**fields: str) -> Oci:
    return Oci.model_validate(fields)


def refusals(**fields: str) -> str:
    with pytest.raises(ValidationError) as refused:
        oci(**fields)
    found = refused.value.errors()
    conflicts = [str(c) for one in found for c in one.get("ctx", {}).get("faults", ())]
    return "; ".join([*(one["msg"] for one in found), *conflicts])


@pytest.mark.parametrize(
    "reference",
    [
        IMAGE,
        f"registry.example.org/acme/app:1.2@sha256:{HEX}",
        f"registry:5000/app@sha256:{HEX}",
        f"localhost/a/b/c@sha256:{HEX}",
        f"127.0.0.1:5000/a__b/c-d.e@sha256:{HEX}",
        f"docker.io/library/nginx@sha256:{HEX}",
    ],
)
def test_a_reference_with_registry_and_digest_is_taken(reference: str) -> None:
    source = oci(image=reference).source()
    assert source.digest == f"sha256:{HEX}"
    assert source.repository == reference.partition("@")[0].removesuffix(":1.2")


@pytest.mark.parametrize(
    "reference",
    [
        f"nginx@sha256:{HEX}",
        f"acme/app@sha256:{HEX}",
        f"https://registry.example.org/app@sha256:{HEX}",
        f"docker://registry.example.org/app@sha256:{HEX}",
        f"user:secret@registry.example.org/app@sha256:{HEX}",
        f"registry.example.org/App@sha256:{HEX}",
        f"registry.example.org/../app@sha256:{HEX}",
        f"registry.example.org//app@sha256:{HEX}",
        f"registry.example.org/app/@sha256:{HEX}",
        f"registry.example.org@sha256:{HEX}",
        f"registry.example.org:999999/app@sha256:{HEX}",
        f"-registry.example.org/app@sha256:{HEX}",
        f"registry.example.org/app@sha256:{HEX}\n",
        f"registry.example.org/app@sha256:{HEX[1:]}",
        f"registry.example.org/app@sha256:{HEX.upper()}",
        f"registry.example.org/app@md5:{HEX}",
        f"registry.example.org/app --all@sha256:{HEX}",
        f"registry.example.org/{'a' * 600}@sha256:{HEX}",
        "",
    ],
)
def test_all_else_is_no_reference(reference: str) -> None:
    assert parse_reference(reference) is None
    assert "is not a reference of an image" in refusals(image=reference)


def test_a_tag_alone_is_refused_with_what_to_write() -> None:
    said = refusals(image="registry.example.org/acme/app:1.2")
    assert "a tag may mean another image tomorrow" in said
    assert "@sha256:" in said
    assert "`resolve: commit`" in said


def test_an_image_without_digest_and_tag_is_refused() -> None:
    for resolve in ({}, {"resolve": "daily"}):
        said = refusals(image="registry.example.org/acme/app", **resolve)
        assert "neither a digest nor a tag" in said


def test_when_to_look_up_is_said_of_tags_alone() -> None:
    for other in ({"image": IMAGE}, {"layout": "./app"}):
        assert "belongs to an image that is named by a tag" in refusals(resolve="daily", **other)
    source = oci(image="registry.example.org/acme/app:1.2", resolve="daily").source()
    assert (source.repository, source.tag, source.digest, source.resolve) == (
        "registry.example.org/acme/app", "1.2", "", "daily",
    )  # fmt: skip


def test_the_key_of_a_tag_is_that_of_the_digest_that_it_means() -> None:
    tagged = oci(image="registry.example.org/acme/app:1.2", resolve="daily").source()
    named = oci(image=IMAGE).source()
    assert replace(tagged, digest=named.digest).key_inputs == named.key_inputs
    assert tagged.key_inputs != named.key_inputs


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "an image is exactly one of image, layout, archive"),
        ({"image": IMAGE, "layout": "./app"}, "exactly one of"),
        ({"image": IMAGE, "digest": f"sha256:{HEX}"}, "belongs to a layout"),
        ({"layout": "./app", "sha256": HEX}, "belongs to an archive on the host"),
        ({"archive": "./app/app.tar", "sha256": HEX}, "belongs to an archive on the host"),
        ({"layout": "/srv/app"}, "a folder of the host may change"),
        ({"archive": "/srv/app.tar"}, "a file of the host may change"),
        ({"archive": "./app.tar"}, "has no folder of its own"),
        ({"layout": "/srv/../etc", "digest": f"sha256:{HEX}"}, "is not a plain absolute path"),
        ({"layout": "./a b"}, "should match pattern"),
        ({"image": IMAGE, "platform": "windows/amd64"}, "should match pattern"),
    ],
)
def test_what_does_not_fit_together_is_refused(fields: Mapping[str, str], words: str) -> None:
    assert words in refusals(**fields)


def test_a_key_covers_the_digest_and_not_where_the_image_is_had_from() -> None:
    here = oci(image=IMAGE).source().key_inputs
    assert here == {"kind": "oci", "digest": f"sha256:{HEX}", "platform": "linux/amd64"}
    assert oci(image=f"mirror.lan:5000/x@sha256:{HEX}").source().key_inputs == here
    assert oci(layout="./app", digest=f"sha256:{HEX}").source().key_inputs == here
    assert oci(image=IMAGE, platform="linux/arm64").source().key_inputs != here


def test_a_key_covers_the_folder_of_what_the_repository_has() -> None:
    def key(written: Oci, tree: str) -> Mapping[str, str]:
        source = written.source()
        return source.resolved((tree,)).key_inputs

    layout, archive = oci(layout="./app"), oci(archive="./app/app.tar")
    assert layout.source().folders == archive.source().folders == ("./app",)
    assert key(layout, "1") != key(layout, "2")
    assert key(archive, "1") != key(archive, "2")
    assert key(archive, "1") != key(oci(archive="./app/other.tar"), "1")


def test_what_the_host_has_is_no_folder_of_the_repository() -> None:
    for source in (
        oci(layout="/srv/app", digest=f"sha256:{HEX}").source(),
        oci(archive="/srv/app.tar", sha256=HEX).source(),
        oci(image=IMAGE).source(),
    ):
        assert source.folders == ()
        assert source.resolved(()) == source


def test_a_registry_must_be_allowed_by_the_hosts_policy() -> None:
    source = oci(image=IMAGE).source()
    assert source.refusal(PolicyConfig(registries=["registry.example.org/acme/*"])) is None
    refused = source.refusal(PolicyConfig(registries=["registry.example.org/other/*"]))
    assert refused is not None
    assert refused.at == ("image",)
    assert "registry.example.org/acme/app is not allowed" in refused.message
    assert "policy.registries" in refused.hint
    assert source.refusal(PolicyConfig()) is not None


def test_a_pattern_reaches_no_other_registry() -> None:
    assert not allowed("registry.example.org.evil.net/acme/app", ["registry.example.org/*"])
    assert not allowed("registry.example.org/acmex/app", ["registry.example.org/acme/*"])
    assert allowed("registry.example.org/acme/a/b", ["registry.example.org/acme/*"])


@pytest.mark.parametrize(
    ("source", "field"),
    [
        (OciSource("linux/amd64", layout="/srv/images/app"), "layout"),
        (OciSource("linux/amd64", archive="/srv/images/app.tar"), "archive"),
    ],
)
def test_a_path_of_the_host_must_be_allowed_by_its_policy(source: OciSource, field: str) -> None:
    assert source.refusal(PolicyConfig(host_paths=["/srv/images"])) is None
    for prefixes in ((), ("/srv/imag",), ("/opt",)):
        refused = source.refusal(PolicyConfig(host_paths=list(prefixes)))
        assert refused is not None
        assert refused.at == (field,)
