"""The messages on the proxy's control socket: one line of JSON a question, one an answer, both bounded."""

from __future__ import annotations

import json
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from reconciler.model.machine import Route, RouteTarget
from reconciler.model.names import InstanceId, VMName

MOST_BYTES = 1024 * 1024
"""Of a line: the whole table of some thousand VMs."""
MOST_ROUTES = 64
"""Of one VM."""
MOST_NAME = 128
LAST_PORT = 65535


class MalformedMessage(ValueError):
    """A message that the protocol does not have."""


def encode(message: dict[str, Any]) -> bytes:
    """A message as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Raises MalformedMessage."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"not JSON: {error}"[:200]) from error
    if not isinstance(said, dict):
        raise MalformedMessage("not an object")
    return said


def pack(target: RouteTarget) -> dict[str, Any]:
    """A VM's routes as a message has them."""
    routes = [[r.protocol, r.address, r.port, r.target] for r in target.routes]
    return {"instance": target.instance, "routes": routes}


def unpack(said: dict[str, Any]) -> RouteTarget:
    """Raises MalformedMessage."""
    rows = said.get("routes")
    if not isinstance(rows, list) or len(rows) > MOST_ROUTES:
        raise MalformedMessage(f"routes: at most {MOST_ROUTES} of them")
    return RouteTarget(InstanceId(name(said, "instance")), tuple(_route(row) for row in rows))


def unpack_all(said: dict[str, Any]) -> dict[VMName, RouteTarget]:
    """Raises MalformedMessage."""
    rows = said.get("led")
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise MalformedMessage("led: not an object of VMs")
    return {VMName(vm): unpack(row) for vm, row in rows.items()}


def name(said: dict[str, Any], key: str) -> str:
    """Raises MalformedMessage."""
    value = said.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= MOST_NAME:
        raise MalformedMessage(f"{key}: not a name")
    return value


def _route(row: object) -> Route:
    match row:
        case ["tcp" | "udp" as protocol, str() as address, int() as port, int() as target]:
            try:
                IPv4Address(address)
            except AddressValueError as error:
                raise MalformedMessage(f"no address of IPv4: {error}") from error
            if 0 < port <= LAST_PORT and 0 < target <= LAST_PORT:
                return Route(protocol, address, port, target)
        case _:
            pass
    raise MalformedMessage("a route is [protocol, address, port, target]")
