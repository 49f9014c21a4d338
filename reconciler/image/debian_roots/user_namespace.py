"""A child whose root owns nothing on this host: user, mount, process and IPC namespaces of its own.

Maintainer scripts of packages run as root. Here that root, and every other user that a package makes, is
an id that owns nothing: it can mount, change owners and change its root inside, and none of the host's.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from reconciler.children.process_tree import end_descendants

FIRST_ID = 1_878_982_656
"""On the host: the last 65,536 ids of those that systemd leaves to containers (systemd's UIDS-GIDS)."""
IDS = 65_536
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
MS_REC, MS_PRIVATE, MS_BIND, MS_NOSUID, MS_NODEV = 0x4000, 0x40000, 0x1000, 2, 4
MNT_DETACH = 2
LIMITS = (
    (resource.RLIMIT_FSIZE, 8 << 30),
    (resource.RLIMIT_CPU, 3600),
    (resource.RLIMIT_CORE, 0),
)
LIBC = ctypes.CDLL(None, use_errno=True)


class NoNamespace(Exception):
    """None can be had on this host."""


def owner() -> int:
    """The id on the host that is root inside."""
    return FIRST_ID if os.geteuid() == 0 else os.geteuid()


def start_inside(work: Callable[[], int]) -> int:
    """Run `work` as root of new namespaces, in the working folder; returns the pid of the child.

    The child's exit status is what `work` returned. All processes inside end with the child, and the child
    with its parent; orphans of what runs inside are this process's. Raises NoNamespace.
    """
    _call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ready, entered = os.pipe()
    mapped, map_written = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _call(
                "unshare", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC
            )
            os.write(entered, b".")
            os.close(map_written)
            if os.read(mapped, 1):
                status = _become_root(work)
        except OSError as error:
            os.write(entered, str(error).encode()[:200])
        finally:
            os._exit(status)
    os.close(entered)
    os.close(mapped)
    try:
        _entered(os.read(ready, 256))
        _map_ids(pid)
        os.write(map_written, b".")
    except (OSError, NoNamespace) as error:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise NoNamespace(str(error)) from error
    finally:
        os.close(ready)
        os.close(map_written)
    return pid


def end_inside(child: int) -> None:
    """End the child of `start_inside` and all that runs inside.

    Also where root inside saw to it that the end of the child is no signal any more.
    """
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    end_descendants()


def _entered(said: bytes) -> None:
    if said != b".":
        raise NoNamespace(said.decode(errors="replace") or "the child died")


def _become_root(work: Callable[[], int]) -> int:
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _die_with_parent()
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for kind, most in LIMITS:
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))
    os.umask(0o022)
    first = os.fork()  # the first process of the new process namespace: the others end with it
    if first == 0:
        _die_with_parent()
        status = 1
        try:
            _own_mounts()
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])


def _own_mounts() -> None:
    """Mounts here stay here, and the temporary files of the host are not seen."""
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY)
    _mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV)  # noqa: S108 - its own
    home = Path("/tmp/home")  # noqa: S108
    home.mkdir()
    # By descriptor: the folders above it may be closed to the root of this place.
    os.fchdir(here)
    _mount(".", str(home), None, MS_BIND)
    os.close(here)
    os.chdir(home)


def memory_available() -> int:
    """Bytes that the host could give out without swapping."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def mount_memory(folder: Path, most_bytes: int) -> None:
    """Mount a RAM disk; with what is in it, it ends with the namespace."""
    _mount("tmpfs", str(folder), "tmpfs", MS_NOSUID, f"size={most_bytes},mode=0755")


def detach_below(root: Path) -> None:
    """Detach what is mounted on a folder and below it, as a program leaves it that failed half way."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(mounted):
        if f"{point}/".startswith(f"{root}/"):
            _call("umount2", point.encode(), MNT_DETACH)


def _map_ids(pid: int) -> None:
    if os.geteuid() == 0:
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(f"0 {FIRST_ID} {IDS}\n", encoding="ascii")
        return
    for program, own, file in (
        ("newuidmap", os.geteuid(), "/etc/subuid"),
        ("newgidmap", os.getegid(), "/etc/subgid"),
    ):
        first = _subordinate(Path(file))
        argv = [program, str(pid), "0", str(own), "1", "1", str(first), str(IDS - 1)]
        if shutil.which(program) is None:
            raise NoNamespace(f"{program} is not installed (package uidmap)")
        ended = subprocess.run(argv, capture_output=True, timeout=10, check=False)
        if ended.returncode != 0:
            raise NoNamespace(f"{program}: {ended.stderr.decode(errors='replace').strip()[-200:]}")


def _subordinate(file: Path) -> int:
    """The first of this user's ids that are his to give to a namespace."""
    import pwd  # noqa: PLC0415 - not for root, whose names it would have looked up

    names = {str(os.geteuid()), pwd.getpwuid(os.geteuid()).pw_name}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if name in names and first.isdigit() and count.isdigit() and int(count) >= IDS - 1:
            return int(first)
    raise NoNamespace(f"{file} gives this user no {IDS - 1} ids")


def _die_with_parent() -> None:
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str = ""
) -> None:
    source_b = source.encode() if source else None
    kind_b = kind.encode() if kind else None
    _call(
        "mount", source_b, target.encode(), kind_b, ctypes.c_ulong(flags), options.encode() or None
    )


def _call(name: str, *arguments: object) -> None:
    if getattr(LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
