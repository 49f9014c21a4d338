"""Layers that programs of the host write: what they get, what of theirs is refused, and that nothing outlives them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.config import ScriptConfig
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.build_site import Sources
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.script_layer import ScriptSource
from reconciler.model.layers import LayerSpec
from tests.eventually import eventually
from tests.unit.image.test_tree_layers import listing
from tests.unit.image.trees import Repository

SECONDS = 60.0
CONNECT = 'exec python3 -c "import socket, sys; socket.create_connection((\'127.0.0.1\', int(sys.argv[1])))" "$1"'


@dataclass
class Stage:
    folder: Path
    scripts: dict[str, ScriptConfig]
    store: ImageStore
    repository: Repository

    def allow(self, body: str, *, network: bool = False, seconds: float = SECONDS) -> Path:
        path = self.folder / "make"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        self.scripts["make"] = ScriptConfig(path=str(path), network=network, seconds=seconds)
        return path

    def spec(self, *args: str, tree: str = "") -> LayerSpec:
        digest = hashlib.sha256((self.folder / "make").read_bytes()).hexdigest()
        source = ScriptSource("make", args, "./in" if tree else "", tree, digest)
        return LayerSpec.of(source, "squashfs")

    async def built(self, body: str, *args: str, tree: str = "") -> dict[str, str]:
        """What the layer has: the content of each file by its path."""
        self.allow(body)
        spec = self.spec(*args, tree=tree)
        await self.store.build_layer(spec, self.repository.content)
        out = self.folder / f"unpacked-{spec.key}"
        argv = ("unsquashfs", "-q", "-n", "-d", out, self.store.layer_path(spec.key))
        await asyncio.to_thread(subprocess.run, argv, check=True, capture_output=True, timeout=20)
        files = (path for path in out.rglob("*") if path.is_file() and not path.is_symlink())
        return {str(path.relative_to(out)): path.read_text() for path in files}

    async def failing(self, body: str) -> BuildFailed | BuildUnavailable:
        self.allow(body)
        with pytest.raises((BuildFailed, BuildUnavailable)) as failed:
            await self.store.build_layer(self.spec(), self.repository.content)
        assert self.store.layers() == frozenset()
        error = failed.value
        assert isinstance(error, BuildFailed | BuildUnavailable)
        return error


@pytest.fixture
async def stage(tmp_path: Path, repository: Repository) -> AsyncIterator[Stage]:
    scripts: dict[str, ScriptConfig] = {}
    sources = Sources(scripts=scripts)
    store = ImageStore(tmp_path / "state", SystemClock(), sources=sources)
    await store.open()
    yield Stage(tmp_path, scripts, store, repository)
    await store.close()
    for pid in marked(f"sleep\0{os.getpid()}."):  # where the test failed
        os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> list[int]:
    """Processes that have a text among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if mark.encode() in (entry / "cmdline").read_bytes() and state != "Z":
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


async def test_a_program_gets_arguments_and_inputs_and_what_it_writes_is_the_layer(
    stage: Stage,
) -> None:
    tree = stage.repository.tree({"greeting": "hello\n", "sub": {"x": "y"}})
    body = 'mkdir -p "$OUT/etc"; cp -r "$IN" "$OUT/in"; printf "%s|" "$@" >"$OUT/etc/args"'
    found = await stage.built(body, "a b", "$HOME", "", "'; rm -rf /", tree=tree)
    assert found == {
        "etc/args": "a b|$HOME||'; rm -rf /|", "in/greeting": "hello\n", "in/sub/x": "y",
    }  # fmt: skip


async def test_its_environment_is_small_and_the_same_everywhere(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "1")
    found = await stage.built(
        'env | cut -d= -f1 | sort >"$OUT/names"; pwd >"$OUT/pwd"; umask >"$OUT/umask"'
    )
    names = set(found["names"].split()) - {"PWD", "_", "SHLVL", "OLDPWD"}
    assert names == {"PATH", "LC_ALL", "TZ", "SOURCE_DATE_EPOCH", "HOME", "TMPDIR", "OUT"}
    assert found["pwd"].strip().endswith("/home")
    assert found["umask"].strip() == "0022"


@pytest.mark.parametrize("network", [False, True])
async def test_it_reaches_the_network_only_if_the_policy_says_so(
    stage: Stage, *, network: bool
) -> None:
    stage.allow(CONNECT, network=network)
    with socket.create_server(("127.0.0.1", 0)) as server:
        spec = stage.spec(str(server.getsockname()[1]))
        work = stage.store.build_layer(spec, stage.repository.content)
        if network:
            await work
            return
        with pytest.raises(BuildFailed, match="PermissionError"):
            await work


async def test_the_same_inputs_give_the_same_bytes(stage: Stage) -> None:
    stage.allow('mkdir "$OUT/a"; echo 1 >"$OUT/a/1"; ln -s /etc/passwd "$OUT/link"; sleep 0.01')
    first = await stage.store.build_layer(stage.spec(), stage.repository.content)
    await stage.store.collect(frozenset())
    again = await stage.store.build_layer(stage.spec(), stage.repository.content)
    assert (first.sha256, again.differs) == (again.sha256, "")


async def test_links_are_data_wherever_they_lead(stage: Stage) -> None:
    stage.allow('ln -s /etc/passwd "$OUT/a"; ln -s ../../.. "$OUT/b"; ln -s b "$OUT/c"')
    spec = stage.spec()
    await stage.store.build_layer(spec, stage.repository.content)
    shown = await asyncio.to_thread(listing, stage.store.layer_path(spec.key))
    assert [line.split("squashfs-root")[1] for line in shown.splitlines()] == [
        "", "/a -> /etc/passwd", "/b -> ../../..", "/c -> b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('mkfifo "$OUT/pipe"', "pipe is a pipe"),
        ('mknod "$OUT/null" c 0 0', "null is a device"),
        ('mkdir "$OUT/d"; touch "$OUT/d/su"; chmod 4755 "$OUT/d/su"', "d/su is setuid or setgid"),
        ('mkdir "$OUT/d"; chmod 2755 "$OUT/d"', "d is setuid or setgid"),
        ('touch "$OUT/x"; chmod 0 "$OUT/x"', "x may not be read by its own owner"),
        ('mkdir "$OUT/x"; chmod 0400 "$OUT/x"', "x may not be read by its own owner"),
        ('rmdir "$OUT"; ln -s /etc "$OUT"', "$OUT is no folder any more"),
        ('rmdir "$OUT"', "$OUT is no folder any more"),
        ('cd "$OUT"; for i in $(seq 70); do mkdir d; cd d; done', "more than 64 folders in folders"),
        ('cd "$OUT"; d=$(printf "\\377\\033[31m"); for i in $(seq 70); do mkdir "$d"; cd "$d"; done',
         r"\udcff\x1b[31m/: more than 64 folders in folders"),
        ('truncate -s 5G "$OUT/a" || truncate -s 3G "$OUT/a" && truncate -s 3G "$OUT/b"',
         "more than 4 GiB"),
        ("echo wrong input >&2; exit 3", "ended with status 3: wrong input"),
        ("exit 1", "ended with status 1 without a word"),
        ('cd "$OUT"; python3 -c "import socket; socket.socket(socket.AF_UNIX).bind(\'s\')"',
         "s is a socket"),
    ],
)  # fmt: skip
async def test_what_a_layer_cannot_be_is_refused_with_its_path(
    stage: Stage, body: str, says: str
) -> None:
    error = await stage.failing(body)
    assert isinstance(error, BuildFailed)
    assert error.hint
    assert says in str(error)
    assert str(error).startswith("script make: ")
    assert str(error).isprintable()


@pytest.mark.parametrize(
    ("body", "says", "kind"),
    [
        (
            "echo the server is away; exit 75",
            "cannot work now: the server is away",
            "build-unavailable",
        ),
        ("kill -9 $$", "was ended by signal 9", "limit"),
    ],
)
async def test_what_may_work_later_is_tried_again(
    stage: Stage, body: str, says: str, kind: str
) -> None:
    error = await stage.failing(body)
    assert isinstance(error, BuildUnavailable)
    assert (error.kind, says in str(error)) == (kind, True), error


async def test_endless_output_is_cut_to_its_end(stage: Stage) -> None:
    error = await stage.failing("head -c 5000000 /dev/zero | tr '\\0' x; echo the end; exit 1")
    assert str(error).endswith("the end")
    assert len(str(error)) < 3000


async def test_a_program_that_does_not_end_is_ended_with_all_that_it_started(stage: Stage) -> None:
    mark = f"{os.getpid()}.4321"
    stage.allow(
        f"setsid sleep {mark} & setsid setsid sleep {mark} & exec sleep {mark}", seconds=2.0
    )
    with pytest.raises(BuildUnavailable) as failed:
        await stage.store.build_layer(stage.spec(), stage.repository.content)
    assert failed.value.kind == "deadline"
    await eventually(lambda: not marked(mark))


async def test_a_cancelled_build_ends_sessions_of_its_own_too(stage: Stage) -> None:
    mark = f"{os.getpid()}.8765"
    stage.allow(f"setsid sleep {mark} & (setsid sleep {mark} &) ; exec sleep {mark}")
    work = asyncio.create_task(stage.store.build_layer(stage.spec(), stage.repository.content))
    await eventually(lambda: len(marked(mark)) >= 3)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await eventually(lambda: not marked(mark))


async def test_what_a_program_leaves_running_writes_nothing_after_it_was_judged(
    stage: Stage,
) -> None:
    mark = f"{os.getpid()}.2468"
    found = await stage.built(
        f'echo 1 >"$OUT/a"; setsid sh -c \'sleep {mark}; echo 2 >"$OUT/a"\' &'
    )
    assert found == {"a": "1\n"}
    assert not marked(mark)


async def test_a_program_that_changed_since_the_manifest_was_read_is_not_run(stage: Stage) -> None:
    path = stage.allow('echo 1 >"$OUT/a"')
    spec = stage.spec()
    path.write_text("#!/bin/sh\necho 2 >$OUT/a\n")
    with pytest.raises(BuildUnavailable, match="has changed since the manifest was read") as failed:
        await stage.store.build_layer(spec, stage.repository.content)
    assert failed.value.kind == "changed-file"


async def test_a_program_that_changes_itself_makes_no_layer(stage: Stage) -> None:
    error = await stage.failing('echo 1 >"$OUT/a"; echo "# more" >>"$0"')
    assert error.kind == "changed-file"


async def test_a_program_that_the_policy_lost_is_not_run(stage: Stage) -> None:
    stage.allow('echo 1 >"$OUT/a"')
    spec = stage.spec()
    stage.scripts.clear()
    with pytest.raises(BuildUnavailable, match=r"is not in policy\.scripts any more"):
        await stage.store.build_layer(spec, stage.repository.content)
