"""What documents get wrong together, and what the host allows; on real commits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconciler.config import PolicyConfig
from reconciler.errors import ManifestErrors
from reconciler.model.desired import DesiredState
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.machine import ANY_ADDRESS
from tests.unit.source.repositories import (
    InProcess,
    Link,
    Program,
    Repository,
    Submodule,
    forwarded,
    group,
    vm,
)


@pytest.fixture
def resolve(repository: Repository) -> Any:
    readers = [InProcess(repository)]

    async def of(files: dict[Any, Any], policy: PolicyConfig | None = None) -> DesiredState:
        if policy is not None:
            readers[:] = [InProcess(repository, policy)]
        return readers[0].read(files)

    return of


async def problems_of(
    resolve: Any, files: dict[Any, Any], policy: PolicyConfig | None = None
) -> list[str]:
    with pytest.raises(ManifestErrors) as caught:
        await resolve(files, policy)
    assert len(caught.value.revision) == 40
    return [str(problem) for problem in caught.value.problems]


async def test_a_name_declared_twice_names_both_places(resolve: Any) -> None:
    files = {
        "a.yaml": vm("web"),
        "b.yaml": "# two\n" + vm("web") + "---\n" + group("g") + "---\n" + group("g"),
    }
    assert await problems_of(resolve, files) == [
        "b.yaml:4:18: VM web is declared twice (first declared at a.yaml:3:18)",
        "b.yaml:15:18: group g is declared twice (first declared at b.yaml:10:18)",
    ]


async def test_a_port_taken_twice_names_both_places(resolve: Any) -> None:
    files = {"a.yml": vm("a", spec=forwarded(8080)), "b.yml": vm("b", spec=forwarded(8080))}
    assert await problems_of(resolve, files) == [
        "b.yml:6:46: tcp port 8080 of the host is taken by a (first declared at a.yml:6:46)"
    ]


async def test_a_port_on_all_addresses_collides_with_one_on_any(resolve: Any) -> None:
    policy = PolicyConfig(forward_addresses=["127.0.0.1", "127.0.0.2", ANY_ADDRESS])
    apart = {
        "a.yaml": vm("a", spec=forwarded(8080)),
        "b.yaml": vm("b", spec=forwarded(8080, "127.0.0.2")),
        "c.yaml": vm("c", spec=forwarded(8080, protocol="udp")),
    }
    assert len((await resolve(apart, policy)).vms) == 3
    apart["d.yaml"] = vm("d", spec=forwarded(8080, ANY_ADDRESS))
    assert "taken by a" in (await problems_of(resolve, apart))[0]


async def test_a_mac_given_twice_names_both_places(resolve: Any) -> None:
    spec = "interfaces: [{type: user, mac: '52:54:00:00:00:01'}]"
    found = await problems_of(resolve, {"a.yaml": vm("a", spec=spec), "b.yaml": vm("b", spec=spec)})
    assert found == [
        "b.yaml:6:34: MAC 52:54:00:00:00:01 is taken by a (first declared at a.yaml:6:34)"
    ]


async def test_a_cycle_is_shown_whole(resolve: Any) -> None:
    files = {
        f"{n}.yaml": vm(n, spec=f"update: {{after: [{after}]}}")
        for n, after in zip("abcd", "bcaa", strict=True)
    }
    assert await problems_of(resolve, files) == [
        "a.yaml:6:20: a cycle: a -> b -> c -> a (remove one of them (b at b.yaml:6:19, c at c.yaml:6:19))"
    ]


async def test_an_order_without_a_cycle_is_well(resolve: Any) -> None:
    afters = {"a": "", "b": "a", "c": "a, b", "d": "b, c"}
    files = {f"{n}.yaml": vm(n, spec=f"update: {{after: [{a}]}}") for n, a in afters.items()}
    assert (await resolve(files)).vms["d"].update.after == ("b", "c")


async def test_a_former_name_is_read_and_does_not_change_what_runs(resolve: Any) -> None:
    before = (await resolve({"a.yaml": vm("shop")})).vms["shop"]
    moved = (await resolve({"a.yaml": vm("shop", moved_from="web")})).vms["shop"]
    assert moved.moved_from == "web"
    assert moved.digest == before.digest


async def test_a_former_name_that_is_still_declared_or_claimed_twice_is_refused_with_both_places(
    resolve: Any,
) -> None:
    files = {
        "a.yaml": vm("web"),
        "b.yaml": vm("shop", moved_from="web"),
        "c.yaml": vm("one", moved_from="old"),
        "d.yaml": vm("two", moved_from="old"),
    }
    assert await problems_of(resolve, files) == [
        "b.yaml:3:35: metadata.movedFrom: web is still declared (remove it at a.yaml:3:18, or this field)",
        "d.yaml:3:34: metadata.movedFrom: old can become one VM only (one takes it over at c.yaml:3:34)",
    ]


async def test_a_chain_of_former_names_in_one_commit_is_refused(resolve: Any) -> None:
    files = {"a.yaml": vm("b", moved_from="a"), "b.yaml": vm("c", moved_from="b")}
    assert await problems_of(resolve, files) == [
        "b.yaml:3:32: metadata.movedFrom: b is still declared (remove it at a.yaml:3:18, or this field)"
    ]


async def test_a_vm_that_was_moved_from_itself_is_refused(resolve: Any) -> None:
    assert await problems_of(resolve, {"a.yaml": vm("web", moved_from="web")}) == [
        "a.yaml:3:34: metadata.movedFrom is this VM itself (remove it)"
    ]


async def test_unknown_names_get_a_suggestion(resolve: Any) -> None:
    files = {
        "a.yaml": vm("webserver", spec="update: {after: [databse]}", group="g"),
        "b.yaml": vm("database"),
        "g.yaml": group("g", "{canary: [websever, database]}"),
    }
    assert await problems_of(resolve, files) == [
        "a.yaml:6:20: no VM is named databse (did you mean database?)",
        "g.yaml:4:17: no VM is named websever (did you mean webserver?)",
        "g.yaml:4:27: database is not a member of g (it is declared at b.yaml:3:11)",
    ]


async def test_a_group_that_nobody_declares_is_refused_with_the_nearest_name(resolve: Any) -> None:
    problems = await problems_of(
        resolve,
        {"a.yaml": vm("a", group="fronted"), "g.yaml": group("frontend", "{}")},
    )
    assert problems == [
        "a.yaml:3:28: no group is named fronted (did you mean frontend?)",
    ]
    (problem,) = await problems_of(resolve, {"a.yaml": vm("a", group="back"), "g.yaml": vm("b")})
    assert problem == "a.yaml:3:28: no group is named back (declare it, as kind: Group)"


async def test_what_documents_get_wrong_together_is_told_beside_what_each_does(
    resolve: Any,
) -> None:
    """And nothing is called missing that a document with faults of its own declares."""
    order = "update: {after: [db, nobody]}\n" + forwarded(8080)
    files = {
        "a.yaml": vm("a", group="g", spec=order) + "---\n" + vm("b", spec=forwarded(8080)),
        "db.yaml": vm("db", spec="memry: 1GiB") + "---\n" + group("g", "{canary: [a, wob]}"),
    }
    assert await problems_of(resolve, files) == [
        "a.yaml:6:24: no VM is named nobody (known: a, b)",
        "a.yaml:14:46: tcp port 8080 of the host is taken by a (first declared at a.yaml:7:46)",
        "db.yaml:6:3: spec.memry: unknown field (did you mean memory?)",
        "db.yaml:11:20: no VM is named wob (known: a, b)",
    ]


async def test_nothing_is_called_missing_while_a_file_cannot_be_read(resolve: Any) -> None:
    files = {
        "a.yaml": vm("a", group="g", spec="update: {after: [db]}"),
        "b.yaml": "kind: [",
        "c.yaml": vm("a"),
    }
    first, second = await problems_of(resolve, files)
    assert first.startswith("b.yaml:")
    assert second == "c.yaml:3:18: VM a is declared twice (first declared at a.yaml:3:18)"


async def test_a_percentage_is_of_the_members(resolve: Any) -> None:
    files = {f"{n}.yaml": vm(f"vm-{n}", group="g") for n in range(10)}
    state = await resolve({**files, "g.yaml": group("g", "{maxUnavailable: 25%}")})
    assert state.groups["g"].max_unavailable == 2


@pytest.mark.shows(row=37)
async def test_the_hosts_policy_bounds_what_a_repository_asks_for(resolve: Any) -> None:
    policy = PolicyConfig(max_memory_mib=512, max_vcpu=2, max_volume_gib=1, min_forward_port=2000)
    spec = (
        "memory: 1GiB\nvcpu: 3\n" + forwarded(1999, "10.0.0.1") + "\n"
        "volumes: [{name: d, mountPoint: /d, size: 2GiB}]\n"
        "kernel: {path: /boot/k, initrd: /etc/shadow}"
    )  # fmt: skip
    assert await problems_of(resolve, {"a.yaml": vm("a", spec=spec)}, policy) == [
        "a.yaml:6:11: spec.memory: 1024MiB is more than the host's policy allows (512MiB at most)",
        "a.yaml:7:9: spec.vcpu: 3 is more than the host's policy allows (2 at most)",
        "a.yaml:8:46: spec.interfaces[0].forward[0].host: 1999 is less than the host's policy allows (2000 or more)",
        "a.yaml:8:72: spec.interfaces[0].forward[0].address: 10.0.0.1 is not allowed by the host's policy (allowed: 127.0.0.1)",
        "a.yaml:9:45: spec.volumes[0].size: 2048MiB is more than the host's policy allows (1GiB at most)",
        "a.yaml:10:11: spec.kernel: /boot/k is not below a host path that the policy allows (policy.host_paths allows: none)",
    ]


async def test_a_kernel_of_the_host_is_named_by_its_content(resolve: Any, tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    for name in ("vmlinuz", "initrd"):
        (tmp_path / "boot" / name).write_text(name)
    (tmp_path / "boot" / "link").symlink_to("vmlinuz")
    policy = PolicyConfig(host_paths=[str(tmp_path / "boot")])
    files = f"kernel: {{path: {tmp_path}/boot/{{}}, initrd: {tmp_path}/boot/initrd}}"
    state = await resolve(
        {
            "a.yaml": vm(
                "a", spec=files.replace("{}", "vmlinuz").replace("{{", "{").replace("}}", "}")
            )
        },
        policy,
    )
    first = state.vms["a"].kernel.key
    (tmp_path / "boot" / "vmlinuz").write_text("another")
    again = await resolve(
        {"a.yaml": vm("a", spec=files.replace("{}", "vmlinuz") + " #"), "b.yaml": vm("b")}
    )
    assert again.vms["a"].kernel.key != first
    found = await problems_of(resolve, {"a.yaml": vm("a", spec=files.replace("{}", "link"))})
    assert "links are not followed" in found[0]


async def test_layers_are_relative_to_their_manifest(resolve: Any) -> None:
    files = {
        "fleet/a.yaml": vm("a", layers="[tree: ./root, tree: ../shared]"),
        "fleet/root/sbin/init": Program(),
        "shared/f": "2",
    }
    layers = (await resolve(files)).vms["a"].layers
    sources = [layer.source for layer in layers]
    assert all(isinstance(source, TreeSource) and len(source.tree) == 40 for source in sources)
    assert [layer.title for layer in layers] == ["tree ./root", "tree ../shared"]
    moved = {
        "x/a.yaml": vm("a", layers="[tree: ./root, tree: ../shared]"),
        "x/root/sbin/init": Program(),
        "shared/f": "2",
    }
    assert (await resolve(moved)).vms["a"].digest == (await resolve(files)).vms["a"].digest


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ("./none", "none does not exist in the repository"),
        ("./file", "file is a file"),
        ("./link", "link is a symbolic link"),
        ("./sub", "sub is a submodule"),
        ("./holds", "holds holds the submodule inner"),
        ("../../etc", "../../etc is outside of the repository"),
        ("x/../../up", "x/../../up is outside of the repository"),
        ("/etc", '"/etc" is absolute'),
    ],
)
async def test_a_layer_that_is_no_folder_of_the_repository(
    resolve: Any, tree: str, says: str
) -> None:
    files = {
        "a.yaml": vm("a", layers=f"[tree: {tree}]"),
        "file": "", "link": Link("real"), "real/f": "", "holds/inner": Submodule(),
    }  # fmt: skip
    if tree == "./sub":
        files["sub"] = Submodule()
    found = await problems_of(resolve, files)
    assert any(f"a.yaml:5:26: spec.store.layers[0].tree: {says}" in one for one in found)


async def test_yaml_in_a_layers_folder_is_the_guests_own(resolve: Any) -> None:
    files = {
        "a.yaml": vm("a", layers="[tree: ./web]"),
        "web/sbin/init": Program(),
        "web/etc/app.yaml": "a: !tag [",
        "web/link.yaml": Link("etc/app.yaml"),
        "web/Name": "", "web/name": "",
    }  # fmt: skip
    assert list((await resolve(files)).vms) == ["a"]
    files["web/b.yaml"] = vm("b")
    assert await problems_of(resolve, files) == [
        "web/b.yaml:1:1: a manifest inside the folder of a layer (move it out of that folder)"
    ]


async def test_all_problems_of_all_files_come_at_once_and_sorted(resolve: Any) -> None:
    files = {
        "b.yaml": "a: [",
        "a.yaml": vm("A") + "---\n" + vm("b", spec="x: 1"),
        "c.yaml": vm("c"),
    }
    found = await problems_of(resolve, files)
    assert [one.split(": ")[0] for one in found] == ["a.yaml:3:18", "a.yaml:12:3", "b.yaml:2:1"]


def tapped(*fields: str, bridge: str = "br0") -> str:
    return f"interfaces: [{{{', '.join(('type: tap', f'bridge: {bridge}', *fields))}}}]"


BRIDGED = PolicyConfig(bridges=["br0", "br1"])


async def test_what_two_taps_claim_names_both_places(resolve: Any) -> None:
    spec = tapped("id: web0", "mac: '02:00:00:00:00:01'", "address: 10.20.0.5/24")
    other = tapped("id: web0", "mac: '02:00:00:00:00:01'", "address: 10.20.0.5/16", bridge="br1")
    files = {"a.yaml": vm("a", spec=spec), "b.yaml": vm("b", spec=other)}
    assert await problems_of(resolve, files, BRIDGED) == [
        "b.yaml:6:45: tap web0 is taken by a (first declared at a.yaml:6:45)",
        "b.yaml:6:56: MAC 02:00:00:00:00:01 is taken by a (first declared at a.yaml:6:56)",
        "b.yaml:6:86: address 10.20.0.5 is taken by a (first declared at a.yaml:6:86)",
    ]


async def test_a_tap_and_a_user_network_do_not_share_a_mac(resolve: Any) -> None:
    user = "interfaces: [{type: user, mac: '02:00:00:00:00:01'}]"
    files = {
        "a.yaml": vm("a", spec=user),
        "b.yaml": vm("b", spec=tapped("mac: '02:00:00:00:00:01'")),
    }
    (found,) = await problems_of(resolve, files, BRIDGED)
    assert "MAC 02:00:00:00:00:01 is taken by a (first declared at a.yaml:6:34)" in found


async def test_a_name_that_was_derived_may_be_what_another_vm_claims(resolve: Any) -> None:
    files = {"a.yaml": vm("a", spec=tapped()), "b.yaml": vm("b", spec=tapped("id: t0-a"))}
    (found,) = await problems_of(resolve, files, BRIDGED)
    assert found.startswith("b.yaml:6:45: tap t0-a is taken by a (first declared at a.yaml:6:")


async def test_a_repository_cannot_choose_its_bridge(resolve: Any) -> None:
    files = {"a.yaml": vm("a", spec=tapped(bridge="br9"))}
    where = "a.yaml:6:36: spec.interfaces[0].bridge: br9 is not allowed by the host's policy"
    assert await problems_of(resolve, files, BRIDGED) == [f"{where} (policy.bridges: br0, br1)"]
    (found,) = await problems_of(resolve, files, PolicyConfig())
    assert found.endswith("(policy.bridges: none)")


async def test_taps_are_named_and_asked_where_the_manifest_says(resolve: Any) -> None:
    long = "a-name-of-more-than-15-characters"
    mixed = (
        "interfaces: [{type: tap, bridge: br0, address: 10.20.0.5/24, gateway: 10.20.0.1},"
        " {type: user, forward: [{host: 8080, guest: 80}]}, {type: tap, bridge: br1}]\n"
        "health: {checks: [{http: {port: 80}}, {tcp: {port: 8080}}]}"
    )
    state = await resolve(
        {"a.yaml": vm("a", spec=mixed), "b.yaml": vm(long, spec=tapped())}, BRIDGED
    )
    spec, other = state.vms["a"], state.vms[long]
    assert [(t.name, t.interface, t.ip) for t in spec.taps] == [
        ("t0-a", 0, "10.20.0.5"), ("t2-a", 2, ""),
    ]  # fmt: skip
    assert [(c.host, c.port) for c in spec.health.checks] == [
        ("10.20.0.5", 80),
        ("127.0.0.1", 8080),
    ]
    assert [place for place, _ in spec.user_interfaces] == [1]
    assert all(int(tap.mac[:2], 16) & 3 == 2 for tap in (*spec.taps, *other.taps))
    assert len({tap.mac for tap in (*spec.taps, *other.taps)}) == 3
    assert len(other.taps[0].name) == 15
    assert spec.digest != other.digest


async def test_a_vm_without_taps_keeps_the_digest_that_it_had(resolve: Any) -> None:
    (spec,) = (await resolve({"a.yaml": vm("a", spec=forwarded(8080))})).vms.values()
    assert "taps" not in spec.restart_inputs()
