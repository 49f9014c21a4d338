"""The checks of `doctor`, each for one thing on the host, with a remedy."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.cli.daemon_client import DaemonError, find_daemon
from reconciler.cli.doctor_findings import Finding, Result, user_name
from reconciler.config import Config, NotificationConfig, config_path, load_config
from reconciler.control.responses import VersionAnswer
from reconciler.errors import ConfigError, SupervisorError
from reconciler.hypervisors import HYPERVISORS, HypervisorTables
from reconciler.image_registries import RegistryConfig
from reconciler.model.observed import Fingerprint, KvmState
from reconciler.model.status import HostStatus

OLDEST_PYTHON = (3, 11)
LEAST_MEMORY_MIB = 512
"""MiB that one small guest and the daemon need."""
IMAGES_NAMED = 3
CREDENTIALS = Path("/run/credentials")
MEMINFO = Path("/proc/meminfo")
KVM = Path("/dev/kvm")
MIB = 1024 * 1024
SYSTEM_FOLDERS = ("/usr/sbin", "/sbin", "/usr/local/sbin")
"""Folders in the daemon's PATH that a user's PATH often lacks."""
NOT_MADE_YET = ("missing", "empty")
"""Kinds of errors of a repository that was not created yet, or has no commits."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that the daemon starts. Without a `needed` one the daemon cannot work."""

    name: str
    purpose: str
    package: str
    needed: bool = True


PROGRAMS = (
    Program("mkfs.erofs", "builds store images", "erofs-utils"),
    Program("mksquashfs", "builds store images of tars", "squashfs-tools", needed=False),
    Program("mmdebstrap", "builds layers of Debian packages", "mmdebstrap", needed=False),
    Program("veritysetup", "appends trees of hashes to images", "cryptsetup-bin", needed=False),
    Program("lz4", "unpacks kernels", "lz4"),
    Program("mkfs.ext4", "formats volumes", "e2fsprogs"),
    Program("flock", "holds a guest's lock", "util-linux"),
    Program("apt-get", "fetches kernel packages", "apt"),
    Program("dpkg-deb", "unpacks kernel packages", "dpkg"),
    Program("git", "makes repositories to try things with", "git", needed=False),
)
PROGRAMS_OF_DISKS = (
    Program("qemu-img", "converts disks that firmware boots", "qemu-utils", needed=False),
    Program("xorriso", "makes the seed that cloud-init reads", "xorriso", needed=False),
)
"""Of use only where manifests may name files of the host."""


SKOPEO = Program("skopeo", "fetches OCI images", "skopeo")
"""Needed where the policy allows images of registries."""


def examine(config: Path | None, socket: Path | None) -> list[Finding]:
    """All findings, in the order in which to fix them."""
    settings, configured = _check_config(config)
    vmms = fingerprints(settings)
    return [
        _check_python(),
        configured,
        *map(_check_vmm, vmms),
        *(check_program(program) for program in PROGRAMS),
        *(check_accelerator(vmm.kvm) for vmm in vmms),
        check_memory(settings.policy.memory_reserve_mib if settings else 0),
        *(_check_configured(settings) if settings else ()),
        *(check_sink(sink) for sink in (settings.notifications if settings else ())),
        _check_daemon(socket, config),
        *check_source(socket, config),
    ]


def _check_configured(settings: Config) -> list[Finding]:
    """Checks that need a readable config."""
    kept = settings.supervisor == "systemd"
    found = [check_owner(settings.state) if kept else _check_state_dir(settings.state)]
    found.append(check_space(settings.state, settings.policy.disk_reserve_mib))
    found.append(check_images(settings.state))
    from reconciler.cli.doctor_sources import check_repository  # noqa: PLC0415 - loads libgit2

    found += check_repository(settings.source)
    if settings.policy.host_paths or settings.policy.image_urls:
        found += map(check_program, PROGRAMS_OF_DISKS)
    if settings.policy.runners:
        from reconciler.cli.doctor_sources import check_nix  # noqa: PLC0415 - most hosts do without

        found.append(check_nix())
    for name, script in settings.policy.scripts.items():
        from reconciler.cli.doctor_sources import check_script  # noqa: PLC0415 - as above

        found.append(check_script(name, script.path))
    if settings.policy.registries or settings.registries:
        found.append(check_program(SKOPEO))
        found += map(check_registry, settings.registries)
    if settings.http.token_file:
        found.append(check_token(Path(settings.http.token_file)))
    if settings.policy.bridges:
        from reconciler.cli.doctor_bridges import check_bridges  # noqa: PLC0415 - few hosts have some

        found += check_bridges(settings.policy.bridges, kept=kept)
    if kept:
        from reconciler.cli.doctor_systemd import check_service  # noqa: PLC0415 - loads dbus-fast

        found += check_service()
    return found


def _check_python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return Finding("python", "ok", version)
    return Finding("python", "failed", f"{version} is too old", "apt-get install python3")


def _check_config(config: Path | None) -> tuple[Config | None, Finding]:
    path = config_path(config)
    try:
        return load_config(path), Finding("config", "ok", str(path))
    except ConfigError as error:
        return None, Finding("config", "failed", str(error), error.hint)


def check_program(program: Program) -> Finding:
    """Whether a program is installed."""
    folders = os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS])
    found = shutil.which(program.name, path=folders)
    if found:
        return Finding(program.name, "ok", found)
    result: Result = "failed" if program.needed else "warning"
    detail = f"is not installed; it {program.purpose}"
    return Finding(program.name, result, detail, f"apt-get install {program.package}")


def fingerprints(settings: Config | None) -> list[Fingerprint]:
    """Look now at what this host has of the VMMs that its policy allows."""
    from reconciler.vmm.registry import open_drivers  # noqa: PLC0415 - starts children

    async def no_guest(*_: object) -> None:
        raise SupervisorError("doctor asks no guest to end")

    async def look() -> list[Fingerprint]:
        drivers = open_drivers(settings or HypervisorTables(), no_guest)
        return [await drivers.of(name).fingerprint("", None) for name in allowed]

    allowed = settings.policy.hypervisors if settings else HYPERVISORS
    return asyncio.run(look())


def _check_vmm(vmm: Fingerprint) -> Finding:
    found = check_program(Program(vmm.program, "runs guests", vmm.package))
    return replace(found, detail=f"{found.detail}, version {vmm.version}") if vmm.version else found


def check_accelerator(kvm: KvmState) -> Finding:
    """Whether guests run with KVM."""
    slow = "guests are emulated (TCG), which works and is slow"
    if kvm == "absent":
        return Finding(
            "kvm", "warning", f"there is no {KVM}: {slow}", "modprobe kvm_intel, or kvm_amd"
        )
    if kvm == "forbidden":
        return Finding(
            "kvm", "warning", f"{KVM} may not be opened: {slow}", f"usermod -aG kvm {user_name()}"
        )
    if kvm == "proven":
        return Finding("kvm", "ok", "proven: a guest ran")
    detail = f"{KVM} exists, but no guest ran on it: {slow}"
    return Finding(
        "kvm", "warning", detail, "on a nested host, allow nested virtualisation in the outer one"
    )


def check_owner(state: Path, owner: int = 0) -> Finding:
    """Whether the daemon may write the state directory: it is root without capabilities, so it must own it."""
    try:
        found = state.stat()
    except OSError as error:
        remedy = "systemd-tmpfiles --create reconciler.conf"
        return Finding("state", "failed", f"{state}: {error.strerror}", remedy)
    if found.st_uid != owner:
        detail = f"{state} belongs to uid {found.st_uid}, so the daemon may not write to it"
        return Finding("state", "failed", detail, f"chown -R --from={found.st_uid} {owner} {state}")
    if found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        detail = f"the daemon may not write to {state}"
        return Finding("state", "failed", detail, f"chmod u+rwx {state}")
    return _read_only(state) or Finding("state", "ok", f"{state} belongs to the daemon")


def _check_state_dir(state: Path) -> Finding:
    nearest = _nearest(state)
    if os.access(nearest, os.W_OK | os.X_OK):
        return Finding(
            "state", "ok", f"{state} is writable" if nearest == state else f"{state} can be created"
        )
    detail = f"{nearest} is not writable by {user_name()}"
    chown = Finding("state", "failed", detail, f"chown {user_name()} {nearest}")
    return _read_only(nearest) or chown


def _read_only(folder: Path) -> Finding | None:
    if not os.statvfs(folder).f_flag & os.ST_RDONLY:
        return None
    detail = f"the file system of {folder} is read-only"
    remedy = f"mount -o remount,rw $(findmnt -no TARGET -T {folder})"
    return Finding("state", "failed", detail, remedy)


def check_space(state: Path, reserve_mib: int) -> Finding:
    """Whether the disk of the state directory has more free space than the reserve (MiB)."""
    free = shutil.disk_usage(_nearest(state)).free // MIB
    if free > reserve_mib:
        return Finding("disk", "ok", f"{free} MiB free for {state}")
    detail = f"{free} MiB free for {state}, {reserve_mib} MiB are kept in reserve"
    return Finding("disk", "failed", detail, f"du -xhd2 {_nearest(state)} | sort -h | tail")


def check_memory(reserve_mib: int) -> Finding:
    """Whether memory for a small guest is available beyond the reserve (MiB)."""
    available = _available_mib()
    least = reserve_mib + LEAST_MEMORY_MIB
    if available >= least:
        return Finding("memory", "ok", f"{available} MiB available")
    detail = f"{available} MiB available, a small guest needs {least} MiB with the reserve"
    return Finding(
        "memory", "warning", detail, "stop what is not needed, or lower memory_reserve_mib"
    )


def check_images(state: Path) -> Finding:
    """Whether images that were built again came out the same."""
    from reconciler.image.build_record import differing  # noqa: PLC0415 - loads the models

    odd = [f"{made.title} ({made.differed} times)" for made in differing(state)]
    if not odd:
        return Finding("images", "ok", "every image that was built again came out the same")
    more = f" and {len(odd) - IMAGES_NAMED} more" if len(odd) > IMAGES_NAMED else ""
    detail = f"equal inputs gave different bytes: {', '.join(odd[:IMAGES_NAMED])}{more}"
    remedy = "pin versions (kernels.debian.version), and use neither clock nor network in builds"
    return Finding("images", "warning", detail, remedy)


def check_sink(sink: NotificationConfig) -> Finding:
    """Whether the secrets of a notification sink can be read."""
    from reconciler.notify.registry import missing_secrets  # noqa: PLC0415 - most hosts have no sink

    name = f"notify {sink.name}"
    if missing := missing_secrets(sink):
        result: Result = "failed" if any(one.sure for one in missing) else "warning"
        remedy = "write it there, readable by the daemon alone"
        if result == "warning":
            remedy += "; for certainty run this as the daemon's user while it runs"
        return Finding(name, result, "; ".join(one.words for one in missing), remedy)
    detail = f"{sink.type}, from severity {sink.severity} up; test it with `reconciler notify {sink.name}`"
    return Finding(name, "ok", detail)


def check_token(path: Path) -> Finding:
    """Whether the token file of the page can be read, and only by its owner."""
    from reconciler.secret_file import read_secret  # noqa: PLC0415 - most hosts have none

    try:
        read_secret("http.token_file", path, private=True)
    except ConfigError as error:
        # Credentials that systemd passes are readable by the daemon alone, and only while it runs.
        elsewhere = isinstance(error.__cause__, PermissionError) or CREDENTIALS in path.parents
        result: Result = "warning" if elsewhere else "failed"
        return Finding("page token", result, str(error), error.hint)
    return Finding("page token", "ok", f"anyone with the token in {path} can act on the page")


def check_registry(registry: RegistryConfig) -> Finding:
    """Whether the files of a registry can be read. No server is contacted."""
    from reconciler.secret_file import place_of, read_secret  # noqa: PLC0415 - as above

    name = f"registry {registry.name}"
    try:
        if registry.ca_file:
            Path(registry.ca_file).read_bytes()
        if registry.credentials_file:
            read_secret("credentials_file", place_of(registry.credentials_file), 2, 1 << 18, private=True)  # fmt: skip
    except OSError as error:
        detail = f"ca_file {registry.ca_file}: {error.strerror}"
        return Finding(name, "failed", detail, "correct `ca_file` in [[registries]]")
    except ConfigError as error:
        bare = "/" not in registry.credentials_file
        elsewhere = bare or isinstance(error.__cause__, PermissionError)
        remedy = "write it with `skopeo login --authfile FILE`, readable by the daemon alone"
        return Finding(name, "warning" if elsewhere else "failed", str(error), remedy)
    return Finding(name, "ok", "its settings can be read")


def _check_daemon(socket: Path | None, config: Path | None) -> Finding:
    from reconciler.cli.doctor_systemd import check_membership  # noqa: PLC0415 - as above

    try:
        daemon = find_daemon(socket, config)
        if denied := check_membership(daemon.path):
            return denied
        answer = daemon.get(VersionAnswer, "version")
    except (DaemonError, ConfigError) as error:
        return Finding("daemon", "warning", str(error), error.hint)
    return Finding("daemon", "ok", f"version {answer.version} answers on {daemon.path}")


def check_source(socket: Path | None, config: Path | None) -> list[Finding]:
    """What the daemon found when it last read the repository; empty if no daemon answers."""
    try:
        status = find_daemon(socket, config).get(HostStatus, "status")
    except (DaemonError, ConfigError):
        return []
    found = []
    for source in status.sources:
        name = f"source {source.name}"
        if source.error:
            words = f"cannot be read: {source.error}"
            # A new host waits for its first push, which is no fault.
            new = source.last_success_wall is None and source.error_kind in NOT_MADE_YET
            result: Result = "warning" if new else "failed"
            found.append(Finding(name, result, words, "reconciler reconcile"))
        elif source.last_success_wall is None:
            found.append(Finding(name, "warning", "not read yet"))
        else:
            found.append(Finding(name, "ok", f"{source.url} was read"))
    rejected = status.revision.rejected
    if rejected:
        words = f"revision {rejected[:8]} is refused: {'; '.join(status.revision.problems[:1])}"
        found.append(Finding("revision", "failed", words, "reconciler validate FOLDER"))
    return found


def _nearest(path: Path) -> Path:
    """The path itself, or the first folder above it that exists."""
    return next((p for p in (path, *path.absolute().parents) if p.exists()), Path("/"))


def _available_mib() -> int:
    for line in MEMINFO.read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(":")
        if key == "MemAvailable":
            return int(value.split()[0]) // 1024
    return 0
