"""The work inside: mmdebstrap makes a base, or has apt add packages to one, and the tar is written.

Runs as root of the namespaces of `user_namespace.py`, in a working folder that the archive has for itself:

    HOME/ARCHIVE/lists      apt's lists
    HOME/ARCHIVE/cache      what apt made of them, and downloaded packages in archives/
    HOME/ARCHIVE/work/      the root that is being made

A script can leave its root. So HOME is closed to all that runs here, and scripts of one archive cannot prepare
packages of another. There is one build at a time.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import BinaryIO

from reconciler.image.debian_roots import guest_settings, host_archives, user_namespace
from reconciler.image.debian_roots.root_request import RootAnswer, RootRequest, Trouble
from reconciler.image.debian_roots.tree_difference import EPOCH, look, write_difference
from reconciler.safe_text import clean_lines

WORK = "work"
MOST_CACHE_BYTES = 2 << 30
MEMORY_BYTES, PLENTY_BYTES = 1 << 30, 4 << 30
"""What a RAM disk may hold, and what the host must have available for one."""
FULL_BYTES = 256 * 1024
SHOWN_CHARACTERS = 1500
CACHED = {"lists": "var/lib/apt/lists", "cache": "var/cache/apt"}
INDEX = "pkgcache.bin"
"""Of apt's lists: while it is there, mmdebstrap takes them as they are."""
FRESH_SECONDS = 3600.0
"""How long lists are not looked for again."""
# Names are patterns of apt that match one package, since it reads a plain name that it does not know
# as a regular expression, or as a task.
EXACTLY = "?exact-name({})"
UNKNOWN = re.compile(r"\?exact-name\(([^)]+)\)")
SETTINGS = ('APT::Sandbox::User "root";\n', 'Acquire::Retries "2";\n')
NO_NETWORK = (
    "Temporary failure resolving", "Could not resolve", "Could not connect", "Unable to connect",
    "Connection timed out", "Connection refused", "Network is unreachable", "Failed to fetch",
)  # fmt: skip
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    # Makes the times of accounts reproducible, and Python check its caches by content: images have
    # other times than packages.
    "SOURCE_DATE_EPOCH": str(EPOCH),
}


class MakingFailed(Exception):
    """With what is to be answered."""

    def __init__(self, answer: RootAnswer) -> None:
        super().__init__(answer.failed)
        self.answer = answer


def clear() -> int:
    """Remove all that is in the working folder."""
    for entry in os.scandir():
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)  # noqa: PTH108
    return 0


def make_root(request: RootRequest, out: BinaryIO, base: int | None) -> RootAnswer:
    """Write the tar of a base, or of what packages add to the image behind the descriptor `base`."""
    remove_work()  # of a builder that was killed
    # A base is unpacked for each set of packages: in a RAM disk that takes a tenth of the time.
    in_memory = base is not None and user_namespace.memory_available() >= PLENTY_BYTES
    answer = _make(request, out, base, in_memory=in_memory)
    if in_memory and answer.kind == "disk-full":
        out.seek(0)
        out.truncate()
        answer = _make(request, out, base, in_memory=False)
    _bound_cache(Path("cache/archives"))
    return answer


def remove_work() -> int:
    """Remove the root that was being made; nothing is mounted in it any more."""
    shutil.rmtree(WORK, ignore_errors=True)
    return 0


def _make(request: RootRequest, out: BinaryIO, base: int | None, *, in_memory: bool) -> RootAnswer:
    work = Path(WORK).absolute()
    root = work / "root"
    work.mkdir()
    if in_memory:
        user_namespace.mount_memory(work, MEMORY_BYTES)
    root.mkdir()
    try:
        before = {}
        if base is not None:
            _unpack(base, root)
            before = look(root)
        _run(_mmdebstrap(request, root, added=base is not None), "mmdebstrap")
        if base is None:
            guest_settings.set_up_base(root)
        guest_settings.take_out(root)
        write_difference(root, before, out)
        out.flush()
        return RootAnswer(versions=guest_settings.versions(root))
    except MakingFailed as error:
        # unsquashfs does not say so.
        full = shutil.disk_usage(work).free < FULL_BYTES
        return error.answer.model_copy(update={"kind": "disk-full"}) if full else error.answer
    except host_archives.NoArchive as error:
        hint = "name a `mirror` in the manifest, or a source of that release in /etc/apt"
        return RootAnswer(failed=str(error), kind="missing-package", hint=hint)
    except OSError as error:
        kind: Trouble = "disk-full" if error.errno == errno.ENOSPC else "disk"
        return RootAnswer(failed=f"{error.filename or root}: {error.strerror}", kind=kind)
    finally:
        # Before anything is removed: the cache is mounted in there.
        user_namespace.detach_below(work)
        shutil.rmtree(work, ignore_errors=True)


def _unpack(image: int, root: Path) -> None:
    """Unpack the base's image. The descriptor is read by its link, so no path of the daemon's is needed."""
    file = f"/proc/self/fd/{image}"
    with open(file, "rb") as opened:  # noqa: PTH123
        squashfs = opened.read(4) == b"hsqs"
    argv = (
        ("unsquashfs", "-quiet", "-no-progress", "-force", "-dest", str(root), file)
        if squashfs
        else ("fsck.erofs", f"--extract={root}", "--preserve", "--overwrite", file)
    )
    _run(argv, argv[0], keep=image)


def _mmdebstrap(request: RootRequest, root: Path, *, added: bool) -> list[str]:
    cache = Path.cwd()
    for name in ("lists/partial", "cache/archives/partial"):
        (cache / name).mkdir(parents=True, exist_ok=True)
    index = cache / "cache" / INDEX
    made_now = root.stat().st_mtime
    if index.exists() and made_now > index.stat().st_mtime + FRESH_SECONDS:
        index.unlink()
    mounts = [
        (f'mkdir -p "$1/{inner}" && mount --bind {shlex.quote(str(cache / name))} "$1/{inner}"')
        for name, inner in CACHED.items()
    ]
    unmounts = [f'umount "$1/{inner}"' for inner in CACHED.values()]
    install = []
    if added:
        names = " ".join(shlex.quote(EXACTLY.format(name)) for name in request.packages)
        install.append(f"{APT_IN_CHROOT} install {names}")
    else:
        install.append(f"{APT_IN_CHROOT} dist-upgrade")
    included = () if added else (f"--include={','.join(guest_settings.PACKAGES)}",)
    return [
        "mmdebstrap",
        "--mode=root",
        f"--variant={'custom' if added else 'minbase'}",
        "--format=directory",
        *included,
        # An existing root is added to; and what is downloaded stays, outside of it.
        "--skip=check/empty,essential/unlink,cleanup/apt",
        f"--aptopt={_write_settings(root.parent / 'apt.conf')}",
        "--dpkgopt=force-unsafe-io",
        *(f"--setup-hook={hook}" for hook in mounts),
        *(f"--customize-hook={hook}" for hook in (*install, *unmounts)),
        request.suite,
        str(root),
        *host_archives.lines(request),
    ]


def _write_settings(file: Path) -> Path:
    """How this host's apt reaches archives; a file, since a proxy's address may hold a password."""
    file.write_text("".join((*SETTINGS, *host_archives.connections())), encoding="utf-8")
    return file


APT_IN_CHROOT = (
    'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes -q -o DPkg::Use-Pty=false'
    " -o Dir::Bin::dpkg=env -o DPkg::Options::=--unset=TMPDIR -o DPkg::Options::=--unset=APT_CONFIG"
    ' -o DPkg::Options::=dpkg -o DPkg::Chroot-Directory="$1"'
)
"""As mmdebstrap calls apt: from outside of the root, with dpkg inside."""


def _run(argv: list[str] | tuple[str, ...], program: str, keep: int | None = None) -> None:
    log = Path(WORK) / "log"
    with log.open("wb") as said:
        try:
            status = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=ENVIRONMENT,
                pass_fds=() if keep is None else (keep,),
                check=False,
            ).returncode
        except FileNotFoundError as error:
            answer = RootAnswer(
                failed=f"{program} is not installed",
                kind="missing-program",
                hint="apt-get install mmdebstrap squashfs-tools",
            )
            raise MakingFailed(answer) from error
    if status != 0:
        with log.open("rb") as said:
            said.seek(max(0, log.stat().st_size - 64 * 1024))
            raise MakingFailed(explained(program, status, said.read()))


def explained(program: str, status: int, said: bytes) -> RootAnswer:
    """What a failed program printed, as an answer."""
    words = clean_lines(said.decode(errors="replace"))
    errors = [line for line in words.splitlines() if line.startswith("E: ")]
    errors = [
        line for line in errors if not line.startswith(("E: setup failed", "E: mmdebstrap failed"))
    ]
    tail = "; ".join(line.removeprefix("E: ") for line in errors)[:SHOWN_CHARACTERS]
    tail = tail or f"status {status}: {words[-SHOWN_CHARACTERS:]}"
    unknown = next((found for line in errors if (found := UNKNOWN.search(line))), None)
    if unknown is not None:
        return RootAnswer(
            failed=f"the archive has no package {unknown[1]}",
            definitive=True,
            hint="is its name right, and is its component among `components`?",
        )
    if any(sign in words for sign in NO_NETWORK):
        hint = "is the network up? does the mirror have this suite? it is tried again"
        return RootAnswer(failed=tail, kind="network", hint=hint)
    if "NO_PUBKEY" in words or "is not signed" in words:
        hint = "name the archive's `keyring`, or install its keyring package on this host"
        return RootAnswer(failed=tail, hint=hint)
    if "No space left on device" in words:
        return RootAnswer(failed=tail, kind="disk-full", hint="free some space; it is tried again")
    return RootAnswer(failed=f"{program}: {tail}", hint="it is tried again")


def _bound_cache(archives: Path) -> None:
    """Remove the oldest packages beyond what the cache may have."""
    try:
        found = [(entry.stat(), entry.path) for entry in os.scandir(archives) if entry.is_file()]
    except FileNotFoundError:
        return
    total = sum(stat.st_size for stat, _ in found)
    for stat, path in sorted(found, key=lambda one: one[0].st_mtime):
        if total <= MOST_CACHE_BYTES:
            return
        os.unlink(path)  # noqa: PTH108
        total -= stat.st_size
