"""Whatever a registry sends as a manifest or config, it is parsed or refused: nothing else happens."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, strategies as st

from reconciler.errors import BuildFailed
from reconciler.image.oci import image_manifest as forms
from reconciler.image_references import parse_reference

DIGEST = f"sha256:{'0' * 64}"
KEYS = (
    "schemaVersion", "mediaType", "manifests", "config", "layers", "digest", "size", "urls", "platform", "os",
    "architecture", "variant", "rootfs", "diff_ids", "Entrypoint", "Cmd", "Env", "User", "WorkingDir", "StopSignal",
    "ExposedPorts", "Labels", "Healthcheck", "Test", "Interval", "Timeout", "StartPeriod", "Retries",
)  # fmt: skip
WORDS = (DIGEST, "linux", "amd64", *forms.INDEXES, *forms.MANIFESTS, *forms.CONFIGS, *forms.LAYERS)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20) | st.sampled_from(WORDS)
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=20,
)
MANIFEST = forms.Manifest.model_validate(
    {
        "config": {"digest": DIGEST, "size": 1},
        "layers": [{"mediaType": forms.LAYERS[0], "digest": DIGEST, "size": 1}],
    }
)


@given(VALUES)
def test_any_json_is_a_manifest_or_is_refused(value: Any) -> None:
    content = json.dumps(value).encode()
    with suppress(BuildFailed):
        index = forms.parse_index(content)
        if index is not None:
            forms.choose(index, "linux/amd64")
    with suppress(BuildFailed):
        manifest = forms.parse_manifest(content)
        assert 0 < len(manifest.layers) <= forms.MOST_LAYERS
        assert manifest.bytes <= forms.MOST_IMAGE_BYTES


@given(VALUES)
def test_any_json_is_a_config_or_is_refused(value: Any) -> None:
    whole = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [DIGEST]}}
    for candidate in (value, {**whole, "config": value}):
        with suppress(BuildFailed):
            config, layers = forms.parse_config(
                json.dumps(candidate).encode(), MANIFEST, "linux/amd64"
            )
            assert len(layers) == len(MANIFEST.layers)
            texts = (*config.entrypoint, *config.cmd, *config.env, config.user, config.working_dir)
            assert not any("\0" in text for text in texts)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_without_a_crash(content: bytes) -> None:
    for parse in (forms.parse_index, forms.parse_manifest):
        with suppress(BuildFailed):
            parse(content)


@given(
    st.from_regex(r"[a-z0-9./:@_-]{0,30}(@sha256:[0-9a-f]{64})?", fullmatch=True)
    | st.text(max_size=40)
)
def test_a_reference_names_one_registry_one_repository_and_no_option(text: str) -> None:
    found = parse_reference(text)
    if found is not None:
        assert not found.repository.startswith(("-", "/", ".", "@"))
        assert "/" in found.repository
        assert not {"..", "//", " ", "\n", "@"} & set(found.repository.split("/"))
        assert "//" not in found.repository
        assert found.digest in ("", text.rpartition("@")[2])
