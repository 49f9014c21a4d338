"""What an image says of itself is noted within bounds, and read as if anyone had written it."""

from __future__ import annotations

import json

import pytest

from reconciler.image.layer_notes import (
    LINEAGE,
    MOST_CHARACTERS,
    MOST_PORTS,
    about_image,
    contents_of,
    contents_of_config,
)
from reconciler.image.oci.image_manifest import ImageConfig
from reconciler.model.image_contents import ExposedPort, ImageHealthcheck, LayerContents

DIGEST = f"sha256:{'1' * 64}"


def config(**said: object) -> ImageConfig:
    return ImageConfig.model_validate_json(json.dumps(said))


def test_what_is_noted_is_what_is_read() -> None:
    said = config(
        ExposedPorts={"443/tcp": {}, "53/udp": {}, "80": {}},
        Healthcheck={
            "Test": ["CMD", "curl", "localhost"],
            "Interval": 30_000_000_000,
            "Retries": 3,
        },
    )
    found = contents_of(about_image(DIGEST, "/app", contents_of_config(said)))
    assert found == LayerContents(
        digest=DIGEST,
        program="/app",
        exposed=(ExposedPort(53, "udp"), ExposedPort(80), ExposedPort(443)),
        healthcheck=ImageHealthcheck(("CMD", "curl", "localhost"), interval=30.0, retries=3),
    )


@pytest.mark.parametrize(
    "port",
    ["0/tcp", "65536/tcp", "80/sctp", "80/", "-80", "80-90/tcp", "\uff18\uff10", "80/tcp\n", ""],
)
def test_what_is_no_port_is_left_out(port: str) -> None:
    assert contents_of_config(config(ExposedPorts={port: {}, "80/tcp": {}})).exposed == (
        ExposedPort(80),
    )


def test_ports_check_and_program_of_a_bomb_are_bounded() -> None:
    said = config(
        ExposedPorts={f"{port}/tcp": {} for port in range(1, 4000)},
        Healthcheck={"Test": ["CMD-SHELL", "x" * 100_000], "Retries": 10**30},
    )
    about = about_image(DIGEST, "y" * 1_000_000, contents_of_config(said))
    assert sum(map(len, about.values())) < 2 * MOST_CHARACTERS
    found = contents_of(about)
    assert len(found.exposed) == MOST_PORTS
    assert found.healthcheck is not None
    assert found.healthcheck.test == ("CMD-SHELL",)


@pytest.mark.parametrize("test", [None, [], ["NONE"], ["CMD"]])
def test_a_check_that_runs_nothing_is_none(test: object) -> None:
    assert contents_of_config(config(Healthcheck={"Test": test})).healthcheck is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"test": 1}', "null", "[" * 100_000])
def test_a_note_that_was_damaged_says_nothing(text: str) -> None:
    assert contents_of({"digest": DIGEST, "healthcheck": text}).healthcheck is None


def test_versions_of_packages_are_those_of_a_layer_with_a_lineage() -> None:
    assert contents_of({LINEAGE: "a", "digest": "1.0"}) == LayerContents({"digest": "1.0"})
    assert contents_of({"output": "/nix/store/x"}) == LayerContents()
