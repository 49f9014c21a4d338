"""What a manifest may say of owners, where it is wrong, and which rule counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from reconciler.errors import ManifestErrors
from reconciler.model.layer_kinds.tree_layer import (
    OwnedTree,
    OwnerRule,
    Owners,
    TreeSource,
    source_of,
)
from reconciler.model.layers import LayerSpec
from reconciler.model.names import VMName
from reconciler.source.manifests.folder import load_folder
from reconciler.source.manifests.parse import parse_file
from tests.unit.source.repositories import vm


def loaded(folder: Path, owners: str) -> TreeSource:
    (folder / "web/sbin").mkdir(parents=True)
    (folder / "web/sbin/init").touch(0o755)
    (folder / "a.yaml").write_text(vm("a", layers=f"[tree: {{path: ./web, owners: {owners}}}]"))
    state, _ = load_folder(folder)
    (layer,) = state.vms[VMName("a")].layers
    assert isinstance(layer.source, TreeSource)
    return layer.source


def test_owners_are_rules_in_an_order_of_their_own(tmp_path: Path) -> None:
    source = loaded(tmp_path, '{/srv/**: "33:33 0640", /etc/a: 0:5, /: "1:2 4755"}')
    assert [str(rule) for rule in source.owners] == [
        "/ 1:2 4755",
        "/etc/a 0:5",
        "/srv/** 33:33 0640",
    ]
    assert source.path == "./web"


@pytest.mark.parametrize(
    ("owners", "says"),
    [
        ("{}", "owners: a mapping has too few entries (1 or more)"),
        ('{etc: "0:0"}', 'owners.etc: "etc" is not well formed (begin with /'),
        ('{/a/../b: "0:0"}', "is not a path of the layer"),
        ('{/a//b: "0:0"}', "is not a path of the layer"),
        ('{/a/: "0:0"}', "is not a path of the layer"),
        ('{/a/**/b: "0:0"}', "is not a path of the layer (write /etc/app.conf"),
        ('{/a/**.sh: "0:0"}', "`**` stands alone"),
        ("{/a: root}", 'owners./a: "root" is not well formed (numbers of user and group'),
        ("{/a: 5}", "owners./a: 5 is not a text"),
        ('{/a: "0:4294967295"}', "has an id that is too large"),
        ('{/a: "0:0 999"}', "is not well formed"),
        ('{/a: "0:0 07777"}', "is not well formed"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_at_its_place(tmp_path: Path, owners: str, says: str) -> None:
    with pytest.raises(ManifestErrors) as caught:
        loaded(tmp_path, owners)
    (problem,) = caught.value.problems
    assert str(problem).startswith("a.yaml:5:")
    assert says in str(problem)


def test_the_folder_of_a_tree_with_owners_is_known_whatever_else_is_wrong() -> None:
    good = vm("a", layers='[tree: {path: ./web, owners: {/a: "0:0"}}]')
    assert parse_file(good.encode()).trees == ("./web",)
    assert parse_file(good.replace('"0:0"', "no").encode()).trees == ("./web",)
    assert "./web" in parse_file((good + "\n[").encode()).likely_trees


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/srv/a.sh", "/srv/a.sh"),
        ("/srv/b.sh", "/srv/*.sh"),
        ("/srv/x/b.sh", "/srv/**"),
        ("/srv/x", "/srv/?"),
        ("/srv", ""),
        ("/srv.d", ""),
        ("/", ""),
        ("/srv/new\nline", "/srv/**"),
    ],
)
def test_of_several_rules_the_plain_one_counts_and_then_the_longest(path: str, rule: str) -> None:
    paths = ["/srv/**", "/srv/a.sh", "/srv/*.sh", "/srv/?", "/srv/[a-z].sh"]
    rules = [OwnerRule(path, number, 0) for number, path in enumerate(paths, 1)]
    expected = paths.index(rule) + 1 if rule else 0
    for order in (rules, rules[::-1]):
        assert Owners(order).of(path, is_folder=False).uid == expected


def test_folders_of_a_pattern_may_be_entered_by_those_who_may_read_them() -> None:
    rules = Owners([OwnerRule("/a/**", 1, 1, 0o640), OwnerRule("/a/b", 1, 1, 0o640)])
    assert rules.of("/a/c", is_folder=True).mode == 0o750
    assert rules.of("/a/c/d", is_folder=False).mode == 0o640
    assert rules.of("/a/b", is_folder=True).mode == 0o640


@given(
    st.lists(st.text("ab*?/.", min_size=1, max_size=6), max_size=6), st.text("ab*./", max_size=8)
)
def test_any_rules_answer_for_any_path_whatever_their_order(paths: list[str], path: str) -> None:
    rules = [OwnerRule(f"/{text}", n, n) for n, text in enumerate(dict.fromkeys(paths), 1)]
    found = Owners(rules).of(f"/{path}", is_folder=False)
    assert found == Owners(rules[::-1]).of(f"/{path}", is_folder=False)


def test_owners_are_part_of_the_key_and_a_tree_without_them_has_its_old_one() -> None:
    plain = TreeSource("a" * 40, "./web")
    owned = source_of(OwnedTree(path="./web", owners={"/a": "1:1"})).resolved(("a" * 40,))
    other = source_of(OwnedTree(path="./web", owners={"/a": "1:2"})).resolved(("a" * 40,))
    keys = {LayerSpec.of(source, "squashfs").key for source in (plain, owned, other)}
    assert len(keys) == 3
    assert (
        LayerSpec.of(plain).key
        == "0cc36f22121b035f89a98d85ee85d709399ea52391a391a5af7264db0f0b80b1"
    )
