"""Which accelerator really runs guests on this host: proven, not believed, once a boot."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from reconciler.hypervisors import QemuConfig
from reconciler.model.machine import Accel
from reconciler.model.observed import KvmState

log = logging.getLogger(__name__)

PROOF_DEADLINE = 1.0
"""Seconds; the firmware needs 0.1 s under TCG, and less under a KVM that works."""
MOST_PROOF_BYTES = 4096

# mov al, 0x2a; mov dx, 0xf4; out dx, al; hlt; jmp to the hlt
_PROGRAM = bytes((0xB0, 0x2A, 0xBA, 0xF4, 0x00, 0xEE, 0xF4, 0xEB, 0xFD))
_BOOT_SECTOR = _PROGRAM.ljust(510, b"\0") + b"\x55\xaa"
_PROVEN_STATUS = 0x2A << 1 | 1
"""isa-debug-exit's status for the byte that the program writes."""

KVM = Path("/dev/kvm")


class Proof(BaseModel):
    """What was found, and under which circumstances it holds."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    boot_id: str
    binary: str
    cpu: str
    accel: Literal["kvm", "tcg"]


async def choose_accel(config: QemuConfig, boot_id: str, memory: Path) -> Accel:
    """The configured accelerator; for `auto` KVM if it is proven, else TCG.

    `memory` is the file that keeps the answer: a proof that hangs costs a second at each start of
    the daemon otherwise.
    """
    if config.accel != "auto":
        return config.accel
    if not await asyncio.to_thread(KVM.exists):
        return "tcg"
    known = await asyncio.to_thread(_recall, memory)
    if known and (known.boot_id, known.binary, known.cpu) == (boot_id, config.binary, config.cpu):
        return known.accel
    accel: Accel = "kvm" if await kvm_works(config) else "tcg"
    log.info("accelerator chosen", extra={"fields": {"accel": accel}})
    proof = Proof(boot_id=boot_id, binary=config.binary, cpu=config.cpu, accel=accel)
    await asyncio.to_thread(_remember, memory, proof)
    return accel


async def state_of_kvm(config: QemuConfig) -> KvmState:
    """Looked at now, and proven by running a guest."""
    if not await asyncio.to_thread(KVM.exists):
        return "absent"
    if not os.access(KVM, os.R_OK | os.W_OK):
        return "forbidden"
    return "proven" if await kvm_works(config) else "broken"


async def kvm_works(config: QemuConfig) -> bool:
    """Whether a boot sector runs to its end under KVM.

    /dev/kvm may open, create VMs and run a few instructions of real mode, and still hang in the
    first protected-mode code: so the firmware runs too, which a bare ROM would leave out.
    """
    with tempfile.NamedTemporaryFile(prefix="reconciler-kvm-") as disk:
        disk.write(_BOOT_SECTOR)
        disk.flush()
        return await _exit_status(_proof_argv(config, disk.name)) == _PROVEN_STATUS


def _proof_argv(config: QemuConfig, disk: str) -> tuple[str, ...]:
    return (
        *(config.binary, "-M", "pc", "-accel", "kvm", "-cpu", config.cpu or "host", "-m", "16M"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-boot", "a"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"),
        *("-drive", f"if=floppy,format=raw,read-only=on,file={disk.replace(',', ',,')}"),
    )


async def _exit_status(argv: tuple[str, ...]) -> int | None:
    """None if it could not be started or did not end in time."""
    devnull = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=devnull, stdout=devnull, stderr=devnull
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(PROOF_DEADLINE):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _recall(memory: Path) -> Proof | None:
    try:
        with memory.open("rb") as file:
            return Proof.model_validate_json(file.read(MOST_PROOF_BYTES))
    except (OSError, ValidationError):
        return None


def _remember(memory: Path, proof: Proof) -> None:
    temporary = memory.with_name(f".{memory.name}.tmp")
    try:
        temporary.write_text(proof.model_dump_json(), encoding="utf-8")
        temporary.replace(memory)
    except OSError as error:
        fields = {"file": str(memory), "error": error.strerror}
        log.warning("the accelerator is not remembered", extra={"fields": fields})
