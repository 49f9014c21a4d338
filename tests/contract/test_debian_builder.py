"""The builder of Debian packages as a process: what it takes, what it refuses, and that it ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from demo.processes import processes_under
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.debian_roots import user_namespace
from reconciler.image.debian_roots.builder import MOST_ARCHIVES
from reconciler.image.debian_roots.builder_client import MODULE, DebianRoots, as_child, by_socket
from reconciler.image.debian_roots.root_request import RootRequest
from tests.eventually import eventually

ARCHIVE = "0" * 64


def has_namespaces() -> bool:
    """Whether this host lets its root make a user namespace: not in a chroot, nor in many containers."""
    argv = ("unshare", "--user", "--mount", "true")
    return subprocess.run(argv, check=False, capture_output=True).returncode == 0


NEEDED = pytest.mark.skipif(
    shutil.which("mmdebstrap") is None or os.geteuid() != 0 or not has_namespaces(),
    reason="mmdebstrap is not installed, or not root, or this host allows no user namespaces",
)


def asked(mirror: str = "", packages: tuple[str, ...] = (), seconds: float = 60.0) -> RootRequest:
    return RootRequest(
        archive_id=ARCHIVE,
        suite="bookworm",
        components=["main"],
        packages=list(packages),
        mirror=mirror,
        seconds=seconds,
    )


@pytest.fixture
def roots(tmp_path: Path) -> DebianRoots:
    return DebianRoots(as_child(tmp_path / "home"))


@contextmanager
def silent_mirror() -> Iterator[tuple[str, Callable[[], bool]]]:
    """An archive that takes connections and never answers; and whether it has one."""
    taken: list[socket.socket] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)  # noqa: FBT003

        def reached() -> bool:
            with suppress(BlockingIOError):
                taken.append(listener.accept()[0])
            return bool(taken)

        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/debian", reached
        finally:
            for one in taken:
                one.close()


def builders(tmp_path: Path) -> list[str]:
    return [one.command for one in processes_under(tmp_path)]


async def test_a_request_of_packages_without_a_base_is_refused(
    roots: DebianRoots, tmp_path: Path
) -> None:
    with pytest.raises(BuildFailed, match="not the descriptors of a request"):
        await roots.make(asked(packages=("nginx-light",)), tmp_path / "root.tar")


async def test_what_is_no_request_is_refused(roots: DebianRoots, tmp_path: Path) -> None:
    forged = asked().model_copy(update={"suite": "--option", "packages": ["-o", "x"]})
    with pytest.raises(BuildFailed, match="not a request"):
        await roots.make(forged, tmp_path / "root.tar")
    assert not (tmp_path / "home").exists()


async def test_a_builder_that_is_not_there_is_named(tmp_path: Path) -> None:
    nowhere = DebianRoots(by_socket(tmp_path / "build.sock"))
    with pytest.raises(BuildUnavailable, match="no builder listens") as failure:
        await nowhere.make(asked(), tmp_path / "root.tar")
    assert failure.value.hint == "systemctl restart reconciler-build.socket"


async def test_a_builder_that_ends_without_an_answer_is_no_verdict(tmp_path: Path) -> None:
    path = tmp_path / "build.sock"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.setblocking(False)  # noqa: FBT003
        made = asyncio.create_task(
            DebianRoots(by_socket(path)).make(asked(), tmp_path / "root.tar")
        )
        served, _ = await asyncio.get_running_loop().sock_accept(listener)
        served.close()
        with pytest.raises(BuildUnavailable, match="the builder died"):
            await made


@NEEDED
async def test_a_mirror_that_is_gone_is_said_and_may_come_back(
    roots: DebianRoots, tmp_path: Path
) -> None:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        mirror = f"http://127.0.0.1:{unused.getsockname()[1]}/debian"
        with pytest.raises(BuildUnavailable, match="Connection refused") as failure:
            await roots.make(asked(mirror), tmp_path / "root.tar")
    assert failure.value.kind == "network"
    assert not (tmp_path / "home" / ARCHIVE / "work").exists()


@NEEDED
async def test_a_cancelled_request_ends_all_that_it_started(
    roots: DebianRoots, tmp_path: Path
) -> None:
    with silent_mirror() as (mirror, reached):
        made = asyncio.create_task(roots.make(asked(mirror), tmp_path / "root.tar"))
        await eventually(reached, 60)
        made.cancel()
        with pytest.raises(asyncio.CancelledError):
            await made
        await eventually(lambda: not builders(tmp_path))


@NEEDED
async def test_a_builder_ends_with_the_connection_whoever_started_it(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with silent_mirror() as (mirror, reached), (tmp_path / "root.tar").open("wb") as out:
        argv = (sys.executable, "-P", "-m", MODULE, str(tmp_path / "home"))
        builder = await asyncio.create_subprocess_exec(*argv, stdin=theirs.fileno())
        theirs.close()
        packet = asked(mirror, seconds=600.0).model_dump_json().encode()
        socket.send_fds(ours, [packet], [out.fileno()])
        await eventually(reached, 60)
        ours.close()
        assert await asyncio.wait_for(builder.wait(), 30) == 1
    assert builders(tmp_path) == []


@NEEDED
async def test_a_mirror_that_stalls_costs_the_deadline_and_no_more(
    roots: DebianRoots, tmp_path: Path
) -> None:
    late = pytest.raises(BuildUnavailable, match="was not done after 3 s")
    with silent_mirror() as (mirror, _), late as failure:
        await roots.make(asked(mirror, seconds=3.0), tmp_path / "root.tar")
    assert failure.value.kind == "deadline"
    await eventually(lambda: not builders(tmp_path))


@NEEDED
async def test_what_is_left_of_it_on_disk_belongs_to_no_user_of_this_host(
    roots: DebianRoots, tmp_path: Path
) -> None:
    with pytest.raises(BuildUnavailable):
        await roots.make(asked("http://127.0.0.1:9/debian"), tmp_path / "root.tar")
    left = list((tmp_path / "home").rglob("*"))
    assert left
    assert {path.lstat().st_uid for path in left} & {0, os.geteuid()} == set()


LEAVING = """
import os, sys
from pathlib import Path
from reconciler.image.debian_roots import builder, user_namespace

home, mine, other = Path(sys.argv[1]), "a" * 64, "b" * 64
good = builder.prepare(home, other) / "nginx.deb"
good.write_text("good")
os.chown(good, user_namespace.owner(), -1)
os.chdir(builder.prepare(home, mine))

def script():
    os.mkdir("root")
    os.chroot("root")
    # From here on as a script of a package does that leaves its root.
    os.mkdir("/inner")
    os.chroot("/inner")
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    print(Path("/etc/hostname").exists())
    folders = [str(home), "/tmp/home", "/tmp/home/..", *(f"/proc/{pid}/cwd/.." for pid in os.listdir("/proc"))]
    for path in folders:
        try:
            Path(path, other, "nginx.deb").write_text("evil")
            print("written by", path)
        except OSError:
            pass
    sys.stdout.flush()
    return 0

os.waitpid(user_namespace.start_inside(script), 0)
print(good.read_text())
"""


@NEEDED
def test_a_script_that_leaves_its_root_reaches_no_packages_of_another_archive() -> None:
    # Outside of /tmp, which a namespace has of its own, and in a folder that is open to all.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        argv = (sys.executable, "-P", "-c", LEAVING, f"{folder}/home")
        said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
    assert said.stdout.split("\n") == ["True", "good", ""], said.stderr


@NEEDED
async def test_folders_of_archives_that_are_not_used_any_more_are_removed(
    roots: DebianRoots, tmp_path: Path
) -> None:
    """Each date of `refresh` is an archive of its own."""
    names = [f"{number:064}" for number in range(1, MOST_ARCHIVES + 3)]
    for number, name in enumerate(names):
        lists = tmp_path / "home" / name / "lists"
        lists.mkdir(parents=True)
        (lists / "Packages").write_text("Package: nginx")
        for path in (lists / "Packages", lists, lists.parent):
            os.chown(path, user_namespace.owner(), -1)
        os.utime(lists.parent, (number, number))
    with pytest.raises(BuildUnavailable):
        await roots.make(asked("http://127.0.0.1:9/debian"), tmp_path / "root.tar")
    kept = sorted(path.name for path in (tmp_path / "home").iterdir())
    assert kept == [ARCHIVE, *names[1 - MOST_ARCHIVES :]]


OUTLIVING = """
import ctypes, os, sys
from reconciler.image.debian_roots import user_namespace

read, write = os.pipe()

def script():
    # What root inside can have its first process do, by ptrace.
    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
    os.setsid()
    os.write(write, b".")
    os.execvp("sleep", ["sleep", sys.argv[1]])

child = user_namespace.start_inside(script)
os.read(read, 1)
user_namespace.end_inside(child)
"""


@NEEDED
def test_a_script_that_does_not_hear_of_the_end_is_ended_too() -> None:
    # A time that no other program sleeps for.
    seconds = f"60.{os.getpid()}"
    subprocess.run((sys.executable, "-P", "-c", OUTLIVING, seconds), check=True, timeout=30)
    asleep = ("pgrep", "-f", f"^sleep {seconds}$")
    assert subprocess.run(asleep, check=False, capture_output=True).stdout == b""
