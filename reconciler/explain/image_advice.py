"""What the images of a VM say of ports and checks, and its manifest does not: advice, and never an error.

An image says what its author expects; a layer above it may change that. All its texts are untrusted: numbers are
numbers by then, and what is shown of a command is cleaned and cut.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconciler.explain.healthcheck import ANY_STATUS, OutsideCheck, asked_by
from reconciler.model.checks import ASKING_KINDS, NetworkCheck
from reconciler.model.desired import VMSpec
from reconciler.model.image import StoredImage
from reconciler.model.image_contents import ExposedPort, ImageHealthcheck, LayerContents
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.manifest_health import Health
from reconciler.model.quantity import format_duration
from reconciler.safe_text import clean

FORWARDS = 4
"""Exposed ports for which forwards are written."""
SHOWN_PORTS = 8
SHOWN_CHARACTERS = 80
FIRST_UNPRIVILEGED = 1024
OTHER_PORTS = 8000
"""What is added to a privileged port, for one of the host."""
HIGHEST_PORT = 65_535
LONGEST_SECONDS = 3600.0
MOST_FAILURES = 100
DEFAULTS = Health()
CHECKS, INTERFACES = "spec.health.checks", "spec.interfaces"


@dataclass(frozen=True, slots=True)
class Advice:
    """What to look at, in which field of the manifest."""

    field: str
    message: str


def advice_of_stored(
    spec: VMSpec, stored: Mapping[str, StoredImage], others: Iterable[VMSpec]
) -> tuple[Advice, ...]:
    """Of a VM whose images are in the store; nothing while one of them is not. `others` have ports, too."""
    keys = [layer.key for layer in spec.layers if isinstance(layer.source, OciSource)]
    known = [image.contents for key in keys if (image := stored.get(key)) and image.contents]
    if not keys or len(known) != len(keys):
        return ()
    return tuple(image_advice(spec, known, host_ports(others)))


def host_ports(specs: Iterable[VMSpec]) -> frozenset[int]:
    """The ports of the host that these VMs have."""
    return frozenset(
        forward.host for spec in specs for network in spec.networks for forward in network.forwards
    )


def image_advice(
    spec: VMSpec, contents: Sequence[LayerContents], taken: Container[int] = ()
) -> Iterator[Advice]:
    """By the contents of all its images, bottom first; `taken`: ports of the host that others have."""
    exposed = sorted({port for one in contents for port in one.exposed})
    checks = [one.healthcheck for one in contents if one.healthcheck is not None]
    asked = any(check.kind in ASKING_KINDS for check in spec.health.checks)
    if exposed:
        yield from _not_exposed(spec, exposed)
    new: list[int] = []
    if checks and not asked:
        yield _unasked(spec, checks[-1], taken, new)
    reached = asked or spec.taps or any(network.forwards for network in spec.networks)
    if exposed and not reached and not new:
        yield _unreached(spec, exposed, taken)


def _not_exposed(spec: VMSpec, exposed: Sequence[ExposedPort]) -> Iterator[Advice]:
    there = " ".join(map(str, exposed[:SHOWN_PORTS]))
    there += f" and {len(exposed) - SHOWN_PORTS} more" if len(exposed) > SHOWN_PORTS else ""
    for interface, network in spec.user_interfaces:
        for number, forward in enumerate(network.forwards):
            port = ExposedPort(forward.guest, forward.protocol)
            if port not in exposed:
                yield Advice(
                    f"{INTERFACES}[{interface}].forward[{number}].guest",
                    f"the image does not expose {port}, but {there}",
                )
    forwarded = _forwarded(spec).values()
    for index, check in enumerate(spec.health.checks):
        if isinstance(check, NetworkCheck) and check.port not in forwarded:
            port = ExposedPort(check.port)
            if port not in exposed:
                yield Advice(
                    f"{CHECKS}[{index}].{check.kind}.port",
                    f"the image does not expose {port}, but {there}",
                )


def _unreached(spec: VMSpec, exposed: Sequence[ExposedPort], taken: Container[int]) -> Advice:
    used: list[int] = []
    forwards = []
    for port in exposed[:FORWARDS]:
        used.append(_free(port.port, taken, used))
        protocol = "" if port.protocol == "tcp" else f", protocol: {port.protocol}"
        forwards.append(f"{{host: {used[-1]}, guest: {port.port}{protocol}}}")
    more = f" (and {len(exposed) - FORWARDS} more)" if len(exposed) > FORWARDS else ""
    what = " ".join(map(str, exposed[:FORWARDS]))
    return Advice(
        INTERFACES,
        f"the image exposes {what}{more}, and nothing forwards to it or checks it: write"
        f" {_forward(spec, ', '.join(forwards))}",
    )


def _unasked(
    spec: VMSpec, check: ImageHealthcheck, taken: Container[int], new: list[int]
) -> Advice:
    """Of a health check that nothing runs; a forward that it needs is added to `new`."""
    asked = asked_by(check)
    if asked is None:
        words = clean(" ".join(check.test[1:]))
        shown = words if len(words) <= SHOWN_CHARACTERS else f"{words[: SHOWN_CHARACTERS - 3]}..."
        return Advice(
            CHECKS,
            "the image's Healthcheck runs inside of a container, and is not run in a guest"
            f"{f': {shown}' if shown else ''}; write a check that asks from outside, http or tcp",
        )
    host = _forwarded(spec).get(asked.port)
    also = ""
    if host is None and any(tap.ip for tap in spec.taps):
        host = asked.port
    if host is None:
        host = _free(asked.port, taken, ())
        new.append(host)
        also = f" and {_forward(spec, f'{{host: {host}, guest: {asked.port}}}')}"
    return Advice(
        CHECKS,
        "the image's Healthcheck is not run in a guest; the same from outside is"
        f" `health: {_health(check, asked, host)}`{also}",
    )


def _forward(spec: VMSpec, forwards: str) -> str:
    """What to write for forwards, and where."""
    first = next((interface for interface, _ in spec.user_interfaces), None)
    if first is None:
        return f"`interfaces: [{{type: user, forward: [{forwards}]}}]`"
    return f"`forward: [{forwards}]` in {INTERFACES}[{first}]"


def _health(check: ImageHealthcheck, asked: OutsideCheck, host: int) -> str:
    parts = [f"port: {host}"]
    if asked.kind == "http" and asked.path != "/":
        parts.append(f"path: {json.dumps(asked.path)}")
    if asked.any_status:
        parts.append(f"status: {ANY_STATUS}")
    period = check.interval if _sensible(check.interval) else 0.0
    failures = check.retries if check.retries <= MOST_FAILURES else 0
    patience = (period or DEFAULTS.period) * (failures or DEFAULTS.failure_threshold)
    # A longer one would be refused.
    if _sensible(check.timeout) and check.timeout < patience:
        parts.append(f"timeout: {format_duration(check.timeout)}")
    fields = [f"checks: [{{{asked.kind}: {{{', '.join(parts)}}}}}]"]
    if period:
        fields.append(f"period: {format_duration(period)}")
    if failures:
        fields.append(f"failureThreshold: {failures}")
    return f"{{{', '.join(fields)}}}"


def _sensible(seconds: float) -> bool:
    """Whether a manifest may have it: a check's own timeout, a second, is shorter than any period."""
    return 1.0 < seconds <= LONGEST_SECONDS


def _forwarded(spec: VMSpec) -> dict[int, int]:
    """The port of the host for each TCP port of the guest that is forwarded."""
    return {
        forward.guest: forward.host
        for network in spec.networks
        for forward in network.forwards
        if forward.protocol == "tcp"
    }


def _free(port: int, taken: Container[int], used: Sequence[int]) -> int:
    """A port of the host for one of the guest: unprivileged, and of no other VM if there is one near."""
    first = port if port >= FIRST_UNPRIVILEGED else OTHER_PORTS + port
    near = range(first, min(first + 1000, HIGHEST_PORT + 1))
    return next((one for one in near if one not in taken and one not in used), first)
