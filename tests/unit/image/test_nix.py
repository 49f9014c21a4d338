"""Runners by `nix build`, with a program of that name that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.store import ImageStore
from reconciler.model.image import KernelSpec, NixRunner
from tests.eventually import eventually
from tests.microvm_nix import make_runner
from tests.unit.image.trees import Repository

pytestmark = pytest.mark.shows(fault=78)

Told = Callable[[str], Path]

# As `nix build`: what is built is linked, by the word after --out-link.
BUILDS = """\
while [ "$1" != --out-link ]; do shift; done
ln -sfn "{runner}" "$2"
"""


@pytest.fixture
def nix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """Lets `nix` be a script; returns where it writes how it was called."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    def told(script: str) -> Path:
        calls = tmp_path / "calls"
        opens = '[ "$1" = build ] || exit 0'
        text = f'#!/bin/sh\necho "$@" >>{calls}\n{opens}\nenv >{tmp_path}/env\n{script}\n'
        (programs / "nix").write_text(text)
        (programs / "nix").chmod(0o755)
        return calls

    return told


def spec(repository: Repository) -> KernelSpec:
    tree = repository.tree({"flake.nix": "{ }"})
    return KernelSpec.of("./web#a", NixRunner("./web", "a", tree))


async def test_a_runner_is_built_of_the_folder_and_found_again(
    store: ImageStore, repository: Repository, nix: Told, tmp_path: Path
) -> None:
    runner = make_runner(tmp_path / "store/web")
    staged = tmp_path / "staged"
    calls = nix(
        f'for last; do :; done; last=${{last#path:}}; cat "${{last%#*}}/flake.nix" >{staged}\n'
        + BUILDS.format(runner=runner)
    )
    wanted = spec(repository)
    await store.build_kernel(wanted, repository.content)
    assert staged.read_text() == "{ }"
    assert store.kernels() == {wanted.key}
    assert "--no-update-lock-file" in calls.read_text()
    again = ImageStore(tmp_path / "state", SystemClock())
    await again.open()
    assert again.kernels() == {wanted.key}
    await again.close()
    left = {path.name for path in (tmp_path / "state/runners").iterdir()}
    assert left == {".home", wanted.key, f"{wanted.key}.made"}


async def test_what_nobody_pins_is_left_to_nix(
    store: ImageStore, repository: Repository, nix: Told, tmp_path: Path
) -> None:
    runner = make_runner(tmp_path / "store/web")
    nix(BUILDS.format(runner=runner))
    wanted = spec(repository)
    await store.build_kernel(wanted, repository.content)
    await store.collect(frozenset({wanted.key}))
    link = tmp_path / "state/runners" / wanted.key
    assert link.is_symlink()
    await store.collect(frozenset())
    assert not link.is_symlink()
    assert (runner / "bin/microvm-run").exists(), "not ours to delete"
    assert store.kernels() == frozenset()


async def test_a_runner_that_somebody_deleted_is_missed(
    store: ImageStore, repository: Repository, nix: Told, tmp_path: Path
) -> None:
    runner = make_runner(tmp_path / "store/web")
    nix(BUILDS.format(runner=runner))
    wanted = spec(repository)
    await store.build_kernel(wanted, repository.content)
    (runner / "bin/microvm-run").unlink()
    assert await store.look() == {wanted.key}
    assert store.kernels() == frozenset()


@pytest.mark.parametrize(
    "said",
    [
        "error: flake 'path:X' does not provide attribute 'a'",
        "error: undefined variable 'pkgs'",
        "error: builder for 'x.drv' failed with exit code 1;\n   > cc: Permission denied",
    ],
)
async def test_a_flake_that_cannot_be_built_waits_for_another(
    store: ImageStore, repository: Repository, nix: Told, said: str
) -> None:
    nix(f'echo "{said}" >&2; exit 1')
    with pytest.raises(BuildFailed, match="nix build: error: ") as caught:
        await store.build_kernel(spec(repository), repository.content)
    assert caught.value.hint == "mend the flake and push"


@pytest.mark.parametrize(
    "script",
    [
        "echo 'error: cannot connect to socket at /nix/var/nix/daemon-socket/socket' >&2; exit 1",
        "echo 'error: unable to download https://example.org: HTTP error 502' >&2; exit 1",
        "echo 'error: writing to file: No space left on device' >&2; exit 1",
        "echo 'error: /nix/var/nix/db/schema is corrupt' >&2; exit 1",
        "echo 'error: the group nixbld specified in build-users-group does not exist' >&2; exit 1",
        "kill -9 $$",
    ],
)
async def test_trouble_of_the_host_is_tried_again(
    store: ImageStore, repository: Repository, nix: Told, script: str
) -> None:
    nix(script)
    with pytest.raises(BuildUnavailable) as caught:
        await store.build_kernel(spec(repository), repository.content)
    assert caught.value.kind == "nix"


async def test_a_host_without_nix_says_so(
    store: ImageStore, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildUnavailable, match="nix: could not be started") as caught:
        await store.build_kernel(spec(repository), repository.content)
    assert caught.value.kind == "missing-program"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("bin/tap-up", "tap interfaces"),
        ("bin/macvtap-up", "macvtap interfaces"),
        ("bin/pci-setup", "PCI devices"),
        ("bin/virtiofsd-run", "virtiofs shares"),
    ],
)
async def test_a_runner_that_wants_root_before_its_start_is_refused_and_not_kept(
    store: ImageStore, repository: Repository, nix: Told, tmp_path: Path, name: str, complaint: str
) -> None:
    nix(BUILDS.format(runner=make_runner(tmp_path / "store/web", more={name: "#!/bin/sh\n"})))
    with pytest.raises(BuildFailed, match=complaint):
        await store.build_kernel(spec(repository), repository.content)
    assert [path for path in (tmp_path / "state/runners").iterdir() if path.is_symlink()] == []


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"tap-interfaces": "vm-web\n"}, r"tap interfaces vm-web \(share/microvm/tap-interfaces\)"),
        (
            {"macvtap-interfaces": "mv0 02:00:00:00:00:01 eth0 bridge\n"},
            "macvtap interfaces mv0 02:",
        ),
        ({"pci-devices": "0000:06:00.1\n"}, "PCI devices 0000:06:00.1"),
        ({"usb-devices": "vendorid=0x1050,productid=0x0407\n"}, "USB devices vendorid=0x1050"),
        ({"vsock-cid": "42\n"}, "a vsock with CID 42"),
        (
            {"virtiofs/ro-store/source": "/nix/store\n", "virtiofs/ro-store/socket": "x.sock\n"},
            "the virtiofs share ro-store of /nix/store",
        ),
        ({"tap-interfaces": "\x1b[31m\n"}, "tap interfaces"),
        ({"tap-interfaces": "x" * 100_000}, "tap interfaces x{200} "),
    ],
    ids=["tap", "macvtap", "pci", "usb", "vsock", "virtiofs", "escapes", "huge"],
)
async def test_what_an_older_runner_declares_to_need_is_refused_by_name(
    store: ImageStore, repository: Repository, nix: Told, tmp_path: Path,
    files: dict[str, str], complaint: str,
) -> None:  # fmt: skip
    more = {f"share/microvm/{name}": text for name, text in files.items()}
    nix(BUILDS.format(runner=make_runner(tmp_path / "store/web", more=more)))
    with pytest.raises(BuildFailed, match=complaint):
        await store.build_kernel(spec(repository), repository.content)
    assert [path for path in (tmp_path / "state/runners").iterdir() if path.is_symlink()] == []


async def test_a_package_that_is_no_runner_is_refused(
    store: ImageStore, repository: Repository, nix: Told, tmp_path: Path
) -> None:
    (tmp_path / "store/hello/bin").mkdir(parents=True)
    nix(BUILDS.format(runner=tmp_path / "store/hello"))
    with pytest.raises(BuildFailed, match="no executable bin/microvm-run"):
        await store.build_kernel(spec(repository), repository.content)


async def test_nix_sees_its_own_variables_and_no_secret(
    store: ImageStore,
    repository: Repository,
    nix: Told,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NIX_REMOTE", "daemon")
    monkeypatch.setenv("NIX_CONFIG", "cores = 1")
    monkeypatch.setenv("TOKEN", "of somebody")
    nix(BUILDS.format(runner=make_runner(tmp_path / "store/web")))
    await store.build_kernel(spec(repository), repository.content)
    seen = (tmp_path / "env").read_text()
    assert "NIX_REMOTE=daemon" in seen
    assert "cores = 1\n" in seen
    assert "accept-flake-config = false" in seen
    assert "TOKEN" not in seen


async def test_a_build_that_is_cancelled_ends_with_all_that_it_started(
    store: ImageStore, repository: Repository, nix: Told, tmp_path: Path
) -> None:
    calls = nix("sleep 1000")
    build = asyncio.create_task(store.build_kernel(spec(repository), repository.content))
    await eventually(calls.exists)
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert [p.name for p in (tmp_path / "state/runners").iterdir() if p.name != ".home"] == []
