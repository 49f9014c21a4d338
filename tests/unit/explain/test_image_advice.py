"""What an image exposes and asks is compared with what a manifest says of ports and checks."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from reconciler.explain.image_advice import advice_of_stored, image_advice
from reconciler.model.checks import CheckSpec, HttpCheck, ProcessCheck, TcpCheck
from reconciler.model.desired import VMSpec
from reconciler.model.image import StoredImage
from reconciler.model.image_contents import ExposedPort, ImageHealthcheck, LayerContents
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import PortForward, Tap, UserNetwork
from reconciler.model.manifest import MicroVM
from tests.world import vm

MAC = "52:54:00:00:00:01"
TAP = Tap("t0-web", "br0", "02:00:00:00:00:01", 0, address="10.20.0.5/24")
WEB = (ExposedPort(80),)
CURL = ImageHealthcheck(("CMD-SHELL", "curl -f http://localhost/healthz || exit 1"))
SAFE = re.compile(r"[ -~]*")


def spec(
    *forwards: PortForward, checks: tuple[CheckSpec, ...] = (), taps: tuple[Tap, ...] = ()
) -> VMSpec:
    made = vm("web", checked=False)
    networks = () if taps else (UserNetwork(MAC, forwards),)
    return replace(made, networks=networks, taps=taps, health=replace(made.health, checks=checks))


def said(
    of: VMSpec,
    exposed: tuple[ExposedPort, ...] = (),
    check: ImageHealthcheck | None = None,
    taken: tuple[int, ...] = (),
) -> dict[str, str]:
    found = list(image_advice(of, [LayerContents(exposed=exposed, healthcheck=check)], taken))
    assert len({one.field for one in found}) == len(found)
    return {one.field: one.message for one in found}


def pasted(message: str) -> list[dict[str, Any]]:
    """What stands in it to be written."""
    return [yaml.safe_load(f"{{{part}}}") for part in re.findall(r"`([^`]*)`", message)]


def test_a_forward_to_a_port_that_the_image_does_not_expose_is_named_with_those_that_it_does() -> (
    None
):
    wrong = spec(PortForward(8080, 80), PortForward(8081, 81), PortForward(8082, 80, "udp"))
    assert said(wrong, WEB) == {
        "spec.interfaces[0].forward[1].guest": "the image does not expose 81/tcp, but 80/tcp",
        "spec.interfaces[0].forward[2].guest": "the image does not expose 80/udp, but 80/tcp",
    }
    many = tuple(ExposedPort(port) for port in range(1000, 1020))
    shown = said(spec(PortForward(8080, 80)), many)["spec.interfaces[0].forward[0].guest"]
    assert shown.endswith("1007/tcp and 12 more")


def test_a_check_at_the_guests_own_address_is_compared_and_one_through_a_forward_is_its_forward() -> (
    None
):
    at_tap = spec(checks=(HttpCheck(port=80), TcpCheck(port=81)), taps=(TAP,))
    assert said(at_tap, WEB) == {
        "spec.health.checks[1].tcp.port": "the image does not expose 81/tcp, but 80/tcp"
    }
    forwarded = spec(PortForward(8080, 80), checks=(HttpCheck(port=8080), ProcessCheck()))
    assert said(forwarded, WEB) == {}


def test_an_image_that_exposes_nothing_says_nothing_of_ports() -> None:
    assert said(spec(PortForward(8080, 80), checks=(HttpCheck(port=8080),))) == {}
    assert said(spec()) == {}


def test_exposed_ports_that_nothing_reaches_are_named_with_forwards_to_write() -> None:
    found = said(spec(), (*WEB, ExposedPort(53, "udp")), taken=(8080,))["spec.interfaces"]
    assert "the image exposes 53/udp 80/tcp, and nothing forwards to it" in found
    assert pasted(found) == [
        {"forward": [{"host": 8053, "guest": 53, "protocol": "udp"}, {"host": 8081, "guest": 80}]}
    ]
    assert "in spec.interfaces[0]" in found
    alone = said(replace(spec(), networks=()), WEB)["spec.interfaces"]
    assert pasted(alone) == [
        {"interfaces": [{"type": "user", "forward": [{"host": 8080, "guest": 80}]}]}
    ]
    assert said(spec(taps=(TAP,)), WEB) == {}, "its network reaches it"


def test_a_healthcheck_is_translated_to_a_check_of_the_forwarded_port() -> None:
    found = said(spec(PortForward(9000, 80)), WEB, CURL)
    assert list(found) == ["spec.health.checks"]
    assert pasted(found["spec.health.checks"]) == [
        {"health": {"checks": [{"http": {"port": 9000, "path": "/healthz"}}]}}
    ]
    at_tap = said(spec(taps=(TAP,)), WEB, CURL)["spec.health.checks"]
    assert pasted(at_tap) == [{"health": {"checks": [{"http": {"port": 80, "path": "/healthz"}}]}}]


def test_a_port_that_nothing_forwards_to_gets_a_forward_with_its_check_and_is_named_once() -> None:
    found = said(spec(), WEB, CURL)
    assert list(found) == ["spec.health.checks"]
    assert pasted(found["spec.health.checks"]) == [
        {"health": {"checks": [{"http": {"port": 8080, "path": "/healthz"}}]}},
        {"forward": [{"host": 8080, "guest": 80}]},
    ]


def test_a_vm_with_a_check_of_its_own_is_left_alone_and_process_asks_nothing() -> None:
    forward = PortForward(8080, 80)
    assert said(spec(forward, checks=(TcpCheck(port=8080),)), WEB, CURL) == {}
    assert said(spec(forward, checks=(ProcessCheck(),)), WEB, CURL).keys() == {"spec.health.checks"}


def test_times_are_taken_over_where_a_manifest_may_have_them() -> None:
    check = replace(CURL, interval=30.0, timeout=5.0, retries=5)
    found = said(spec(PortForward(8080, 80)), WEB, check)["spec.health.checks"]
    assert pasted(found) == [{"health": {
        "checks": [{"http": {"port": 8080, "path": "/healthz", "timeout": "5s"}}],
        "period": "30s", "failureThreshold": 5,
    }}]  # fmt: skip


@pytest.mark.parametrize(
    "check",
    [
        CURL,
        replace(CURL, interval=2.0, timeout=60.0, retries=1000),
        replace(CURL, interval=1e7, timeout=0.001, retries=0),
        replace(CURL, interval=1.5, timeout=1.2, retries=1),
        replace(CURL, interval=1.0, timeout=1.0, retries=1),
        ImageHealthcheck(("CMD", "curl", "http://localhost/a\"b\\c{d}[e],f:'g'&h")),
        ImageHealthcheck(("CMD", "redis-cli", "ping")),
    ],
)
def test_what_is_written_is_valid_as_it_stands(check: ImageHealthcheck) -> None:
    found = said(replace(spec(), networks=()), (), check)["spec.health.checks"]
    health, interfaces = pasted(found)
    MicroVM.model_validate(
        {
            "apiVersion": "reconciler/v1",
            "kind": "MicroVM",
            "metadata": {"name": "web"},
            "spec": {
                "memory": "256MiB",
                "store": {"layers": [{"busybox": {}}]},
                **health,
                **interfaces,
            },
        }
    )


def test_a_healthcheck_that_does_not_translate_is_said_not_to_run_and_cannot_write_to_a_terminal() -> (
    None
):
    odd = ImageHealthcheck(("CMD-SHELL", "\x1b[2J\u202e/check `id`\n" + "x" * 4000))
    found = said(spec(PortForward(8080, 80)), WEB, odd)["spec.health.checks"]
    assert "is not run in a guest: " in found
    assert "write a check that asks from outside, http or tcp" in found
    assert SAFE.fullmatch(found)
    assert len(found) < 300
    cut = said(spec(PortForward(8080, 80)), WEB, ImageHealthcheck(("CMD",)))["spec.health.checks"]
    assert "is not run in a guest; write" in cut


def test_a_daemon_says_nothing_before_all_images_of_the_vm_are_known() -> None:
    layers = tuple(
        LayerSpec.of(OciSource("linux/amd64", layout="./a", tree=one * 40)) for one in "ab"
    )
    web = replace(spec(PortForward(8080, 81)), layers=layers)
    contents = LayerContents(exposed=WEB)
    stored: dict[str, StoredImage] = {
        layer.key: StoredImage(layer.key, "composed", "", 1, contents=contents) for layer in layers
    }
    first: dict[str, StoredImage] = {layers[0].key: stored[layers[0].key]}
    assert advice_of_stored(web, first, ()) == ()
    assert [one.field for one in advice_of_stored(web, stored, ())] == [
        "spec.interfaces[0].forward[0].guest"
    ]
