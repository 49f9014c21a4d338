"""The network interfaces in a VM's manifest: user networking, or a tap in a bridge of the host."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface
from typing import Literal, Self

from pydantic import Field, model_validator

from reconciler.model.fields import (
    Address,
    Face,
    FieldConflict,
    InterfaceName,
    Mac,
    NetworkAddress,
    Port,
    refuse,
)
from reconciler.model.machine import HOST_END


class Forward(Face):
    """A port of the host that is forwarded to the guest."""

    host: Port = Field(description="A port of the host, unique on its address.")
    guest: Port = Field(description="The port of the guest that it is forwarded to.")
    protocol: Literal["tcp", "udp"] = Field(default="tcp", description="What is forwarded.")
    address: Address = Field(
        default="127.0.0.1", description="The host's address; the policy bounds it."
    )


class Interface(Face):
    """One network interface of a VM."""

    type: Literal["user", "tap"] = Field(
        description="user: a network inside the VMM, which needs no rights on the host. tap: a port of"
        " one of the host's bridges."
    )
    forward: list[Forward] = Field(
        default=[],
        max_length=64,
        description="user: ports of the host that are forwarded to the guest.",
    )
    mac: Mac | None = Field(default=None, description="None: derived from the VM's name.")
    bridge: InterfaceName | None = Field(
        default=None, description="tap: the bridge of the host; the host's policy must allow it."
    )
    id: InterfaceName | None = Field(
        default=None,
        description="tap: the interface's name on the host, at most 15 characters; none: derived from"
        " the VM's name.",
    )
    address: NetworkAddress | None = Field(
        default=None,
        description="tap: the guest's address with its prefix, as 10.20.0.5/24, at which checks ask"
        " it; none: the guest configures it itself, and checks reach only forwarded ports.",
    )
    gateway: Address | None = Field(default=None, description="tap: the gateway to other networks.")
    nameservers: list[Address] = Field(
        default=[], max_length=3, description="tap: the guest's DNS servers."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[FieldConflict]:
        if self.type == "user":
            yield from self._user_faults()
            return
        if self.bridge is None:
            yield FieldConflict(
                ("type",), "tap names no bridge", "write the host's bridge: `bridge: br0`"
            )
        if self.forward:
            yield FieldConflict(
                ("forward",), "has an effect only with type user",
                "remove it: a tap's guest is reached at its own address",
            )  # fmt: skip
        if self.mac is not None and self.mac.startswith(HOST_END):
            yield FieldConflict(
                ("mac",), f"begins with {HOST_END}, as the host's ends of taps do",
                "let it begin with 02: or 52:54:00",
            )  # fmt: skip
        yield from self._address_faults()

    def _user_faults(self) -> Iterator[FieldConflict]:
        for field in ("bridge", "id", "address", "gateway", "nameservers"):
            if getattr(self, field):
                yield FieldConflict((field,), "has an effect only with type tap", "remove it")

    def _address_faults(self) -> Iterator[FieldConflict]:
        if self.address is None:
            for field in ("gateway", "nameservers"):
                if getattr(self, field):
                    yield FieldConflict((field,), "has an effect only with an address", "add one")
            return
        network = IPv4Interface(self.address).network
        if self.gateway is None:
            return
        if IPv4Address(self.gateway) not in network or self.address.startswith(f"{self.gateway}/"):
            yield FieldConflict(
                ("gateway",), f"{self.gateway} is not another address of {network}",
                "name the bridge's own address, or that of a router behind it",
            )  # fmt: skip
