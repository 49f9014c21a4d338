"""A network namespace for one thread, which ends with it."""

from __future__ import annotations

import ctypes
import os

import pytest

from reconciler.vmm.netlink import TUN, hindrance

CLONE_NEWNET = 0x40000000


def leave() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")


def needs_the_kernel() -> None:
    if os.geteuid() != 0 or hindrance():
        pytest.skip(f"a network namespace takes root and {TUN}: {hindrance() or 'not root'}")
