"""The routes: which port of the host goes to which guest. A VM's routes change all at once, or not at all."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.errors import ProxyError
from reconciler.model.machine import Protocol, Route, RouteTarget
from reconciler.model.names import InstanceId, VMName
from reconciler.proxy.tcp_relay import RelayState, TcpListener
from reconciler.proxy.udp_relay import UdpListener

BACKLOG = 1024
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@dataclass(frozen=True, slots=True)
class ListenPort:
    """A port of the host."""

    protocol: Protocol
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.protocol}-{self.address}-{self.port}"


Listener = TcpListener | UdpListener


class Keeping:
    """Keeps listening sockets and the table while the proxy restarts; this one keeps nothing."""

    def keep(self, name: str, sock: socket.socket) -> None:
        """Keep this listening socket under a name."""

    def drop(self, name: str) -> None:
        """Forget the socket of this name."""

    def write(self, targets: dict[VMName, RouteTarget]) -> None:
        """Keep the whole table, in place of the one before."""


class Table:
    """Holds the listeners. Every method runs to its end without giving way."""

    def __init__(self, keeping: Keeping, take: Callable[[str], socket.socket | None]) -> None:
        self._keeping = keeping
        self._take = take
        """A listening socket of before, by the name of its place."""
        self._lines: dict[VMName, RelayState] = {}
        self._held: dict[VMName, dict[ListenPort, Listener]] = {}
        self.targets: dict[VMName, RouteTarget] = {}
        self.version = 0

    @property
    def idle(self) -> bool:
        """Whether there are no routes and no connections."""
        return not self.targets and not any(line.open for line in self._lines.values())

    def open(self, vm: VMName, instance: InstanceId) -> int:
        """Connections to this guest that are under way."""
        line = self._lines.get(vm)
        return line.open[instance] if line is not None else 0

    def route(self, vm: VMName, target: RouteTarget | None) -> None:
        """Send new connections to these ports to this guest; None: give up the VM's ports.

        Raises ProxyError of kind `port` for a port that cannot be had, and then nothing has changed.
        """
        routes = {place_of(r): r.target for r in target.routes} if target is not None else {}
        held = self._held.get(vm, {})
        line = self._lines.setdefault(vm, RelayState())
        fresh = self._listen(vm, [place for place in routes if place not in held])
        if target is not None:
            line.instance = target.instance  # from here on new connections are counted as its
        kept: dict[ListenPort, Listener] = {}
        for place, port in routes.items():
            if place in held:
                kept[place] = held[place]
                kept[place].target = port
            else:
                sock = fresh[place]
                udp = place.protocol == "udp"
                kept[place] = UdpListener(sock, port) if udp else TcpListener(sock, line, port)
        self._remember(vm, target, kept)
        for place in held.keys() - kept.keys():
            self._keeping.drop(str(place))
            held[place].close()

    def _remember(
        self, vm: VMName, target: RouteTarget | None, kept: dict[ListenPort, Listener]
    ) -> None:
        if target is not None and kept:
            self._held[vm], self.targets[vm] = kept, target
        else:
            self._held.pop(vm, None)
            self.targets.pop(vm, None)
        for gone in [
            n for n, line in self._lines.items() if n not in self.targets and not line.open
        ]:
            del self._lines[gone]
        self.version += 1
        self._keeping.write(self.targets)

    def _listen(self, vm: VMName, places: list[ListenPort]) -> dict[ListenPort, socket.socket]:
        """Listen at all of them, or none. Raises ProxyError."""
        fresh: dict[ListenPort, socket.socket] = {}
        try:
            for place in places:
                self._refuse_others(place, vm)
                fresh[place] = self._take(str(place)) or _bound(place)
        except BaseException:
            for sock in fresh.values():
                sock.close()
            raise
        for place, sock in fresh.items():
            self._keeping.keep(str(place), sock)
        return fresh

    def _refuse_others(self, place: ListenPort, vm: VMName) -> None:
        for other, held in self._held.items():
            if place in held and other != vm:
                raise ProxyError(f"port {place.port} of the host is held for {other}", kind="port")

    def close(self) -> None:
        """Close all listeners; open connections go on until the process ends."""
        for held in self._held.values():
            for listener in held.values():
                listener.close()
        self._held.clear()


def place_of(route: Route) -> ListenPort:
    """The port of the host that a route listens at."""
    return ListenPort(route.protocol, route.address, route.port)


def _bound(place: ListenPort) -> socket.socket:
    sock = socket.socket(socket.AF_INET, KINDS[place.protocol] | socket.SOCK_NONBLOCK)
    try:
        if place.protocol == "tcp":
            # As servers do: connections that just ended do not hold the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((place.address, place.port))
        if place.protocol == "tcp":
            sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ProxyError(
            f"port {place.port} of the host cannot be had at {place.address}: {error.strerror}",
            kind="port",
            hint="`ss -anp` names who has it",
        ) from error
    return sock
