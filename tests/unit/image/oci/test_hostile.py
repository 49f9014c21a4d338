"""Registries that lie, stall or break off: nothing half is believed, and a pull says what is wrong in a line."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.oci.registry_pull import Patience
from reconciler.image_registries import RegistryConfig
from tests.eventually import eventually
from tests.registry.images import program
from tests.unit.image.oci import hostile
from tests.unit.image.oci.hostile import Answer, hostile_registry
from tests.unit.image.oci.pulling import Puller, pulling

LITTLE = Patience(answer=3.0, stalled=1.5)


@pytest.fixture
async def puller(tmp_path: Path) -> AsyncIterator[Puller]:
    program("skopeo")
    async with pulling(tmp_path) as puller:
        yield puller


async def refusal(
    puller: Puller, answers: dict[str, Answer], declared: int | None = None
) -> BuildUnavailable:
    with hostile_registry(answers, declared) as registry:
        settings = RegistryConfig(name=registry.host, insecure=True)
        with pytest.raises(BuildUnavailable) as refused:
            await puller.pull(registry.reference, settings, patience=LITTLE)
    error = refused.value
    assert "\n" not in str(error)
    assert "\x1b" not in str(error)
    assert len(str(error)) < 500
    return error


async def test_a_sound_image_of_this_registry_is_had(puller: Puller) -> None:
    with hostile_registry({}) as registry:
        settings = RegistryConfig(name=registry.host, insecure=True)
        image = await puller.pull(registry.reference, settings)
        (layer,) = image.layers
        assert layer.blob is not None
        assert layer.blob.read_bytes() == registry.layer


@pytest.mark.parametrize(
    ("what", "answer", "kind", "words"),
    [
        ("manifest", hostile.flipped, "corrupt", "the manifest has other bytes than its digest says"),
        ("manifest", hostile.endless, "limit", "sends more than the manifest says|bytes, and 4194304"),
        ("manifest", hostile.truncated, "network", "the registry broke off"),
        ("manifest", hostile.silent, "timeout", "sent nothing for 3 s"),
        ("manifest", hostile.status(404, "MANIFEST_UNKNOWN"), "missing", "does not have it"),
        ("manifest", hostile.status(403, "DENIED"), "auth", "refuses this host"),
        ("manifest", hostile.status(500), "network", "the registry is in trouble"),
        ("config", hostile.flipped, "corrupt", "other bytes than"),
        ("config", hostile.endless, "limit", "sends more"),
        ("config", hostile.status(404, "BLOB_UNKNOWN"), "missing", "does not have it"),
        ("layer", hostile.flipped, "corrupt", "other bytes than the digest names"),
        ("layer", hostile.shortened, "corrupt", "other bytes than the digest names"),
        ("layer", hostile.truncated, "network", "the registry broke off"),
        ("layer", hostile.endless, "limit", "sends more than the manifest says"),
        ("layer", hostile.stalled, "timeout", "sent nothing for 1.5 s"),
        ("layer", hostile.silent, "timeout", "sent nothing for 1.5 s"),
        ("layer", hostile.in_a_circle, "network", "leads from one address to the next"),
        ("layer", hostile.to_a_guest, "network", "cannot be reached"),
        ("layer", hostile.status(404), "missing", "does not have it"),
        ("ping", hostile.silent, "timeout", "sent nothing for 3 s"),
        ("ping", hostile.status(500), "network", "the registry is in trouble"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
async def test_what_is_wrong_is_said_in_a_line(
    puller: Puller, what: str, answer: Answer, kind: str, words: str
) -> None:
    error = await refusal(puller, {what: answer})
    assert error.kind == kind, str(error)
    assert re.search(words, str(error)), str(error)


@pytest.mark.parametrize("declared", [1000, 300_000])
async def test_a_manifest_that_lies_about_a_size_is_not_believed(
    puller: Puller, declared: int
) -> None:
    error = await refusal(puller, {}, declared)
    assert error.kind == "corrupt"
    assert f"{declared} were declared" in str(error)


async def test_a_layer_beyond_all_bounds_is_not_even_asked_for(puller: Puller) -> None:
    with hostile_registry({}, declared=10 << 40) as registry:
        settings = RegistryConfig(name=registry.host, insecure=True)
        with pytest.raises(BuildFailed, match="layer 1 has 10995116277760 bytes"):
            await puller.pull(registry.reference, settings)
        assert not any(registry.layer_digest in path for path in registry.asked)


async def test_a_pull_that_is_cancelled_leaves_no_program_behind(puller: Puller) -> None:
    with hostile_registry({"layer": hostile.stalled}) as registry:
        settings = RegistryConfig(name=registry.host, insecure=True)
        pull = asyncio.create_task(puller.pull(registry.reference, settings))
        await eventually(lambda: running(registry.host), deadline=30.0)
        await eventually(
            lambda: any(registry.layer_digest in path for path in registry.asked), 30.0
        )
        pull.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pull
        assert running(registry.host) == []


def running(word: str) -> list[str]:
    """Processes whose arguments have this word, zombies excepted."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes():
                found.append(path.parent.name)
    return found
