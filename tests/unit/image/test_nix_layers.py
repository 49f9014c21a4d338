"""A package of Nix as a layer: its closure in parts, its program on top. Nix is real."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.config import PolicyConfig
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.inputs.nix import OWN_PARTS, grouped
from reconciler.image.nix_program import StorePath, age, parse_closure
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.nix_layer import NixSource
from reconciler.model.layers import LayerSpec
from reconciler.model.names import LayerKey
from tests import private_nix
from tests.registry.images import program
from tests.unit.image.trees import Repository

FLAKE = """\
{
  inputs = { };
  outputs = { self }: let
    made = name: script: derivation {
      inherit name;
      system = "x86_64-linux";
      builder = "/bin/sh";
      PATH = "/usr/bin:/bin";
      args = [ "-euc" script ];
    };
    library = made "library" "mkdir $out; head -c 2000000 /dev/zero >$out/data";
  in {
    app = made "app" ''
      mkdir -p $out/bin
      printf '%s' "${library}" >$out/bin/app
      chmod 755 $out/bin/app
    '';
  };
}
"""


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ImageStore]:
    program("mksquashfs")
    for name, value in private_nix.settings(tmp_path / "nix").items():
        monkeypatch.setenv(name, value)
    opened = ImageStore(tmp_path / "state", SystemClock())
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository.git")


async def built(
    store: ImageStore, repository: Repository, runs: str = "", arguments: tuple[str, ...] = ()
) -> LayerKey:
    tree = repository.tree({"flake.nix": FLAKE})
    spec = LayerSpec.of(NixSource("./app", "app", runs, arguments, tree))
    await store.build_layer(spec, repository.content)
    return spec.key


def listed(store: ImageStore, key: LayerKey) -> str:
    argv = (program("unsquashfs"), "-lln", str(store.layer_path(key)))
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_everything_of_a_flake_has_one_time_links_to_folders_too(tmp_path: Path) -> None:
    (tmp_path / "modules/web").mkdir(parents=True)
    (tmp_path / "modules/web/default.nix").write_text("{}")
    (tmp_path / "web").symlink_to("modules/web")
    (tmp_path / "gone").symlink_to("nowhere")
    age(tmp_path)
    found = {path: path.lstat().st_mtime for path in (tmp_path, *tmp_path.rglob("*"))}
    assert len(found) == 6
    assert set(found.values()) == {1}


@pytest.mark.timeout(120)
async def test_a_library_is_a_part_of_its_own_and_the_program_starts_with_its_arguments(
    store: ImageStore, repository: Repository
) -> None:
    key = await built(store, repository, "bin/app", ("two words",))
    library, rest, top = store.parts()[key]
    assert "-library/data" in listed(store, library)
    assert "-app/bin/app" in listed(store, rest)
    assert "-library" not in listed(store, rest)
    assert ".reconciler/init" in listed(store, top)
    other = await built(store, repository)
    assert store.parts()[other][:2] == (library, rest)
    assert "nix/current -> " in listed(store, store.parts()[other][2])


@pytest.mark.timeout(120)
async def test_a_program_that_the_output_lacks_is_a_fault_of_the_manifest(
    store: ImageStore, repository: Repository
) -> None:
    with pytest.raises(BuildFailed, match="bin/nothing: no such file"):
        await built(store, repository, "bin/nothing")


def path(number: int, size: int, referrers: int) -> StorePath:
    return StorePath(f"/nix/store/{number:032}-p{number}", size, referrers)


def test_the_most_used_large_paths_are_parts_and_all_others_are_one() -> None:
    small, unused = path(1, 100, 90), path(2, 1 << 30, 0)
    large = [path(10 + n, 1 << 20, n + 1) for n in range(OWN_PARTS + 3)]
    groups = grouped([small, unused, *large])
    assert len(groups) == OWN_PARTS + 1
    assert groups[0] == (large[-1],)
    assert groups[-1] == (small, unused, *large[:3])
    assert {one for group in groups for one in group} == {small, unused, *large}


def test_both_forms_in_which_nix_names_a_closure_are_read() -> None:
    library = {"narSize": 7, "references": ["/nix/store/l"]}
    app = {"narSize": 5, "references": ["/nix/store/l", "/nix/store/a"]}
    by_path = {"/nix/store/l": library, "/nix/store/a": app}
    listed = [{"path": name, **info} for name, info in by_path.items()]
    expected = (StorePath("/nix/store/a", 5, 0), StorePath("/nix/store/l", 7, 1))
    assert parse_closure(json.dumps(by_path).encode()) == expected
    assert parse_closure(json.dumps(listed).encode()) == expected
    with pytest.raises(BuildUnavailable):
        parse_closure(b"{]")


def test_builds_by_nix_need_the_hosts_consent() -> None:
    own, foreign = NixSource("./app", "app"), NixSource("github:acme/app", "app")
    refused = own.refusal(PolicyConfig())
    assert refused is not None
    assert "policy.runners" in refused.hint
    assert own.refusal(PolicyConfig(runners=True)) is None
    elsewhere = foreign.refusal(PolicyConfig(runners=True))
    assert elsewhere is not None
    assert elsewhere.at == ("flake",)
    assert foreign.refusal(PolicyConfig(runners=True, flakes=["github:acme/*"])) is None
