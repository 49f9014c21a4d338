"""VMs whose runners Nix makes: what the host allows, and when they are new generations."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.config import PolicyConfig
from reconciler.errors import ManifestErrors
from reconciler.model.desired import VMSpec
from reconciler.model.image import NixRunner
from reconciler.planning.diff import differences
from tests.unit.source.repositories import InProcess, Repository, forwarded, vm

COMMIT = "1" * 40
ALLOWED = PolicyConfig(runners=True)
FLAKE = "{ outputs = _: { }; }"


def runner(name: str = "web", flake: str = "./flakes/web", ports: str = "[]") -> str:
    spec = f'{{memory: 512MiB, runner: {{flake: "{flake}", attribute: a.b, ports: {ports}}}}}'
    return f"apiVersion: reconciler/v1\nkind: MicroVM\nmetadata: {{name: {name}}}\nspec: {spec}\n"


@pytest.fixture
def resolve(repository: Repository) -> Any:
    async def of(files: dict[Any, Any], policy: PolicyConfig = ALLOWED) -> dict[str, VMSpec]:
        state = InProcess(repository, policy).read(files)
        return {str(name): spec for name, spec in state.vms.items()}

    return of


async def problem(resolve: Any, files: dict[Any, Any], policy: PolicyConfig = ALLOWED) -> str:
    with pytest.raises(ManifestErrors) as caught:
        await resolve(files, policy)
    (found,) = caught.value.problems
    return str(found)


async def test_a_host_that_says_nothing_allows_no_runner(resolve: Any) -> None:
    files = {"web.yaml": runner(), "flakes/web/flake.nix": FLAKE}
    assert await problem(resolve, files, PolicyConfig()) == (
        "web.yaml:4:32: spec.runner: runners made by Nix are not allowed by the host's policy"
        " (they run the repository's code on this host: policy.runners = true allows them)"
    )


async def test_a_flake_of_elsewhere_is_locked_and_allowed_by_name(resolve: Any) -> None:
    files = {"web.yaml": runner(flake=f"github:acme/vms/{COMMIT}")}
    assert "is not allowed by the host's policy (policy.flakes allows: none)" in await problem(
        resolve, files
    )
    (spec,) = (await resolve(files, PolicyConfig(runners=True, flakes=["github:acme/*"]))).values()
    assert spec.kernel.source == NixRunner(f"github:acme/vms/{COMMIT}", "a.b")
    other = await problem(resolve, files, PolicyConfig(runners=True, flakes=["github:other/*"]))
    assert "github:other/*" in other


async def test_only_another_flake_is_another_digest(resolve: Any) -> None:
    files = {"web.yaml": runner(), "flakes/web/flake.nix": FLAKE}
    first = (await resolve(files))["web"]
    same = (await resolve({**files, "README": "words"}))["web"]
    moved = {"web.yaml": runner(flake="./other/web"), "other/web/flake.nix": FLAKE}
    assert same.digest == first.digest == (await resolve(moved))["web"].digest
    new = (await resolve({**files, "flakes/web/flake.nix": f"{FLAKE} "}))["web"]
    assert new.digest != first.digest
    assert [str(change).split()[0] for change in differences(first, new)] == ["spec.runner"]
    assert new.image_keys == (new.kernel.key,)


async def test_a_port_of_a_runner_is_nobody_elses(resolve: Any) -> None:
    files = {
        "a.yaml": vm("a", spec=forwarded(8080)),
        "b.yaml": runner("b", ports="[8081, 8080]"),
        "flakes/web/flake.nix": FLAKE,
    }
    assert "b.yaml:4:86: tcp port 8080 of the host is taken by a" in await problem(resolve, files)


async def test_a_low_port_of_a_runner_is_refused_where_it_stands(resolve: Any) -> None:
    files = {"b.yaml": runner("b", ports="[80]"), "flakes/web/flake.nix": FLAKE}
    assert "b.yaml:4:80: spec.runner.ports[0]: 80 is less than" in await problem(resolve, files)


@pytest.mark.parametrize("flake", ["./nowhere", "../outside"])
async def test_a_folder_that_is_not_there_is_named(resolve: Any, flake: str) -> None:
    assert "spec.runner.flake" in await problem(resolve, {"web.yaml": runner(flake=flake)})


async def test_yaml_of_a_flake_is_the_flakes_own(resolve: Any) -> None:
    files = {
        "web.yaml": runner(),
        "flakes/web/flake.nix": FLAKE,
        "flakes/web/compose.yaml": "services: {}",
    }
    assert set(await resolve(files)) == {"web"}
