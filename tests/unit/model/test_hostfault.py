"""Whose fault it is that a VMM ended, by what real VMMs say."""

from __future__ import annotations

import pytest

from reconciler.model.host_fault import host_fault

pytestmark = pytest.mark.shows(fault=75)

QEMU = "qemu-system-x86_64: "


@pytest.mark.parametrize(
    "line",
    [
        f"{QEMU}-netdev user: Could not set up host forwarding rule 'tcp:127.0.0.1:80-:80'",
        f"{QEMU}cannot set up guest memory 'microvm.ram': Cannot allocate memory",
        f"{QEMU}-drive file=x.raw: Could not open '/state/layers/x/image': No such file or directory",
        f"{QEMU}-drive file=x.raw: Could not open '/state/layers/x/image': Permission denied",
        f'{QEMU}-drive file=x.raw: Failed to get "write" lock',
        f"{QEMU}Failed to initialize event notifier: Too many open files",
        f"{QEMU}could not configure /dev/net/tun (t0-web): Device or resource busy",
        f"{QEMU}-qmp unix:run/qmp.sock: Failed to bind socket to run/qmp.sock: Address already in use",
        "Could not access KVM kernel module: Permission denied",
        "qemu: qemu_thread_create: Resource temporarily unavailable",
        "qemu: could not open kernel file '/state/kernels/k/kernel': No such file or directory",
        "microvm@web: -netdev user: Could not set up host forwarding rule 'tcp::8080-:80'",
        "mkfs.ext4: No space left on device while creating data.img",
        'Error: CreateApiServerSocket(Os { code: 98, message: "Address already in use" })',
    ],
)
def test_what_the_host_lacks_is_no_fault_of_the_guest(line: str) -> None:
    assert host_fault(["something before", line, "something after"]) == line


@pytest.mark.parametrize(
    "line",
    [
        f"{QEMU}-device nosuch: 'nosuch' is not a valid device model name",
        "qemu: linux kernel too old to load a ram disk",
        "microvm-run: line 12: /nix/store/x/bin/tool: No such file or directory",
        "microvm@web: -chardev socket,path=web-virtiofs-x.sock: No such file or directory",
        "cannot bind port 8080",
        "",
    ],
)
def test_everything_else_is(line: str) -> None:
    assert host_fault([line]) == ""
