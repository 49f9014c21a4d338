"""What foreign manifests and configs may say, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.errors import BuildFailed
from reconciler.image.oci import image_manifest as forms

HEX = "0" * 64
CONFIG = {
    "mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": f"sha256:{HEX}",
    "size": 9,
}
LAYER = {
    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
    "digest": f"sha256:{HEX}",
    "size": 9,
}


def manifest(**changes: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "config": CONFIG, "layers": [LAYER], **changes}).encode()


def config(**changes: Any) -> bytes:
    whole = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [f"sha256:{HEX}"]}}
    return json.dumps({**whole, **changes}).encode()


def test_null_and_absence_mean_nothing_was_said() -> None:
    nulls = dict.fromkeys(
        [
            "Entrypoint",
            "Cmd",
            "Env",
            "User",
            "WorkingDir",
            "StopSignal",
            "ExposedPorts",
            "Labels",
            "Healthcheck",
        ]
    )
    parsed = forms.parse_manifest(manifest())
    with_nulls, _ = forms.parse_config(config(config=nulls), parsed, "linux/amd64")
    without, _ = forms.parse_config(config(config={}), parsed, "linux/amd64")
    absent, _ = forms.parse_config(config(config=None), parsed, "linux/amd64")
    assert with_nulls == without == absent == forms.ImageConfig()


def test_a_healthcheck_is_in_seconds() -> None:
    check = {
        "Test": ["CMD", "/bin/ok"],
        "Interval": 30_000_000_000,
        "Timeout": 500_000_000,
        "Retries": 3,
    }
    found, _ = forms.parse_config(
        config(config={"Healthcheck": check}), forms.parse_manifest(manifest()), "linux/amd64"
    )
    assert found.healthcheck is not None
    assert found.healthcheck.test == ("CMD", "/bin/ok")
    assert (found.healthcheck.interval, found.healthcheck.timeout) == (30.0, 0.5)
    assert (found.healthcheck.start_period, found.healthcheck.retries) == (0.0, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"config": 1}', "cannot be read at config"),
        (manifest(layers=[]), "cannot be read at layers"),
        (manifest(layers=[LAYER] * 128), "cannot be read at layers"),
        (manifest(layers=[{**LAYER, "size": -1}]), "cannot be read at layers.0.size"),
        (manifest(layers=[{**LAYER, "digest": "sha256:../../etc/passwd"}]), "layers.0.digest"),
        (manifest(layers=[{**LAYER, "digest": f"sha512:{HEX}"}]), "layers.0.digest"),
        (manifest(layers=[{**LAYER, "size": 17 << 30}]), "layer 1 has 18253611008 bytes"),
        (manifest(layers=[{**LAYER, "size": 12 << 30, "digest": f"sha256:{n}{HEX[1:]}"} for n in range(3)]), "its layers have"),
        (manifest(layers=[{**LAYER, "urls": ["http://elsewhere/x"]}]), "no layer that is had with its image"),
        (manifest(layers=[{**LAYER, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}]), "foreign"),
        (manifest(config={**CONFIG, "size": 5 << 20}), "the config has"),
        (manifest(config={**CONFIG, "mediaType": "application/vnd.cncf.helm.config.v1+json"}), "helm"),
    ],
    ids=range(14),
)  # fmt: skip
def test_a_manifest_beyond_bounds_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(BuildFailed, match=words):
        forms.parse_manifest(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (config(rootfs={"diff_ids": []}), "the config names 0 layers, and the manifest 1"),
        (config(rootfs={"diff_ids": ["x"]}), "rootfs.diff_ids.0"),
        (config(config={"Env": ["A=\x00"]}), "config.Env.0"),
        (config(config={"Cmd": "sh"}), "config.Cmd"),
        (config(config={"User": "x" * 200_000}), "config.User"),
        (config(config={"Healthcheck": {"Interval": 10**400}}), "config.Healthcheck.Interval"),
        (config(os="windows"), "the image is for windows/amd64, not for linux/amd64"),
        (config(os="\x1b[31m\u202e"), "not for linux/amd64"),
    ],
    ids=range(8),
)
def test_a_config_that_no_machine_can_follow_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(BuildFailed, match=words) as refused:
        forms.parse_config(content, forms.parse_manifest(manifest()), "linux/amd64")
    assert "\x1b" not in str(refused.value)


def test_an_index_is_known_by_its_type_or_its_form() -> None:
    for kind in ({"mediaType": forms.INDEXES[0]}, {"mediaType": forms.INDEXES[1]}, {}):
        assert forms.parse_index(json.dumps({**kind, "manifests": []}).encode()) is not None
    assert forms.parse_index(manifest()) is None
    assert forms.parse_index(manifest(mediaType=forms.MANIFESTS[1])) is None


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(BuildFailed, match="text/html is no image"):
        forms.parse_index(manifest(mediaType="text/html"))
    with pytest.raises(BuildFailed, match="the form of 2014"):
        forms.parse_index(json.dumps({"schemaVersion": 1, "fsLayers": []}).encode())


def test_of_an_index_the_first_that_fits_is_chosen_and_attestations_are_not_offered() -> None:
    def entry(
        number: int, os: str, architecture: str, variant: str | None = None
    ) -> dict[str, Any]:
        platform = {"os": os, "architecture": architecture, "variant": variant}
        return {**LAYER, "digest": f"sha256:{number}{HEX[1:]}", "platform": platform}

    raw = [
        entry(1, "linux", "arm64", "v8"),
        entry(2, "linux", "amd64"),
        entry(3, "unknown", "unknown"),
    ]
    index = forms.parse_index(json.dumps({"manifests": raw}).encode())
    assert index is not None
    assert forms.choose(index, "linux/arm64").digest.startswith("sha256:1")
    assert forms.choose(index, "linux/arm64/v8").digest.startswith("sha256:1")
    assert forms.choose(index, "linux/amd64").digest.startswith("sha256:2")
    with pytest.raises(BuildFailed, match=r"there are: linux/amd64, linux/arm64/v8$"):
        forms.choose(index, "linux/arm")
