"""Which stacks of layers `validate` refuses, and the order that it proposes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import reconciler
from reconciler.errors import ManifestErrors
from reconciler.image.inputs.busybox import write_base
from reconciler.source.manifests.folder import load_folder
from reconciler.source.manifests.stack_check import BASE, INIT, OTHER_INITS
from tests.unit.source.repositories import InProcess, Link, Program, Repository, vm

LAYERS = "[busybox: {}, tree: ./a, tree: ./b]"


def problem_of(repository: Repository, layers: str, files: dict[str, Any]) -> str:
    """The one problem of a VM with these layers; empty if it is sound."""
    filler = {f"{name}/x": "" for name in ("a", "b") if f"./{name}" in layers}
    try:
        InProcess(repository).read({"web.yaml": vm(layers=layers), **filler, **files})
    except ManifestErrors as error:
        (problem,) = error.problems
        return f"{problem.message} ({problem.hint})".removeprefix("spec.store.")
    return ""


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"a/etc/rc.local": Program(), "b/www/x": ""}, ""),
        ({"a/sbin/init": Program()}, ""),
        ({"a/sbin": Link("usr/sbin")}, "layers[1]: it hides what a guest starts from"),
        ({"a/sbin": Link("usr/sbin"), "b/usr/sbin/init": Program()}, ""),
        ({"a/bin": Link("usr/bin")}, "layers[1]: it hides what a guest starts from"),
        ({"b/bin": "a file"}, "layers[2]: it hides what a guest starts from"),
        ({"a/bin": Link("usr/bin"), "b/usr/bin/busybox": Program(), "b/usr/bin/sh": Program()}, ""),
        ({"a/bin/busybox/x": ""}, "layers[1]: bin/busybox is a folder"),
        ({"a/sbin/init/x": ""}, "layers[1]: sbin/init is a folder, and every guest starts it"),
        ({"a/sbin/init": "no mode"}, "layers[1]: sbin/init is not executable"),
        ({"b/sbin/init": Link("init")}, "layers[2]: it hides what a guest starts from"),
        ({"a/etc": Link("conf"), "a/conf/rc.local": Program()}, "layers[1]: it hides what"),
        ({"a/etc": "a file"}, "layers[1]: etc is a file, and must be a folder"),
        ({"a/etc": "a file", "b/etc/rc.local": Program()}, "layers[1]: it hides what"),
        ({"a/etc/inittab": Link("/nowhere")}, "layers[1]: it hides what"),
        ({"a/etc/init.d": "a file"}, "layers[1]: it hides what"),
        ({"a/proc": "a file"}, "layers[1]: proc is a file, and must be a folder"),
        ({"b/run": Link("/var/run")}, "layers[2]: run is a link, and must be a folder"),
        ({"a/run": Link("var/run"), "b/var/run/x": ""}, ""),
        ({"a/run": Link("var/run")}, "layers[1]: run is a link, and must be a folder"),
        ({"a/tmp": Link("var/tmp"), "a/var/tmp/x": ""}, ""),
        ({"a/www": "a file", "b/www/x": ""}, ""),
        ({"a/www/y": "", "b/www": "a file"}, ""),
    ],
)
def test_a_layer_that_keeps_a_guest_from_starting_is_named(
    repository: Repository, files: dict[str, Any], problem: str
) -> None:
    found = problem_of(repository, LAYERS, files)
    assert found.startswith(problem) if problem else found == ""


@pytest.mark.parametrize(
    "files",
    [
        {"a/sbin/init": Program()},
        {"a/sbin": Link("usr/sbin"), "a/usr/sbin/init": Program()},
        {"a/etc/x": "", "b/sbin/init": Program()},
        {"a/sbin/init": Link("../lib/systemd/systemd"), "b/lib/systemd/systemd": Program()},
    ],
)
def test_layers_with_an_init_are_well(repository: Repository, files: dict[str, Any]) -> None:
    assert problem_of(repository, "[tree: ./a, tree: ./b]", files) == ""


def test_the_inits_that_are_looked_for_are_those_of_the_initrd() -> None:
    script = (Path(reconciler.__file__).parent / "image/guest/initrd/init").read_text()
    listed = script.split("for init in ")[1].split("; do")[0].replace("\\\n", " ").split()
    known = ["/.reconciler/init", *(f"/{path}" for path in (INIT, *OTHER_INITS))]
    assert listed == known


@pytest.mark.shows(fault=122)
def test_layers_that_no_guest_can_begin_from_are_refused(repository: Repository) -> None:
    files = {"a.yaml": vm("a", layers="[tree: ./root]"), "root/bin/init": "", "root/sbin/x": ""}
    with pytest.raises(ManifestErrors) as caught:
        InProcess(repository).read(files)
    (problem,) = caught.value.problems
    assert str(problem) == (
        "a.yaml:5:19: spec.store.layers: no layer has /sbin/init, or it leads nowhere"
        " (let `{busybox: {}}` be the first layer, or add one to a tree)"
    )


def test_where_another_order_works_the_hint_has_it(repository: Repository) -> None:
    files = {"a/bin": Link("usr/bin"), "a/usr/bin/tool": Program()}
    found = problem_of(repository, "[busybox: {}, tree: ./a]", files)
    assert found.endswith("(move it below layers[0] (busybox))")
    assert problem_of(repository, "[tree: ./a, busybox: {}]", files) == ""


def test_where_none_does_it_says_what_to_remove(repository: Repository) -> None:
    files = {"a/proc": "a file", "b/proc": "another"}
    assert problem_of(repository, "[tree: ./a, busybox: {}, tree: ./b]", files).endswith(
        "(move it below layers[1] (busybox))"
    )
    assert problem_of(repository, LAYERS, {"b/sbin/init/x": ""}).endswith(
        "(move it below layers[0] (busybox))"
    )


def test_a_base_above_a_tree_may_not_hide_the_trees_files(repository: Repository) -> None:
    layers = "[tree: ./a, busybox: {}]"
    assert problem_of(repository, layers, {"a/etc/rc.local": Program(), "a/www/x": ""}) == ""
    assert problem_of(repository, layers, {"a/etc/passwd": "root:x:0:0::/:/bin/sh\n"}) == (
        "layers[1]: it hides etc/passwd of layers[0] (tree ./a) (let `{busybox: {}}` be the first layer)"
    )


def test_a_folder_may_not_replace_a_link_of_debian_to_usr(repository: Repository) -> None:
    layers = "[debian: {suite: bookworm}, tree: ./a]"
    assert problem_of(repository, layers, {"a/usr/bin/tool": Program(), "a/etc/x": ""}) == ""
    assert problem_of(repository, layers, {"a/bin": Link("usr/bin")}) == ""
    assert problem_of(repository, layers, {"a/bin/tool": Program()}) == (
        "layers[1]: bin is no link, and hides the /bin of layers[0] (debian bookworm)"
        " (put its files into usr/bin)"
    )
    assert problem_of(repository, layers, {"a/sbin/init": Program()}).startswith("layers[1]: sbin")
    base = problem_of(repository, "[debian: {suite: bookworm}, busybox: {}]", {})
    assert base.endswith("(remove it: layers[0] has an init of its own)")


def test_a_mode_that_the_manifest_gives_may_make_a_file_the_init(repository: Repository) -> None:
    layers = '[busybox: {}, tree: {path: ./a, owners: {/sbin/init: "0:0 0755"}}]'
    assert problem_of(repository, layers, {"a/x": "", "a/sbin/init": "#!/bin/sh\n"}) == ""


def test_a_circle_of_links_leads_nowhere(repository: Repository) -> None:
    files = {"a/sbin": Link("b"), "a/b": Link("sbin")}
    assert "leads nowhere" in problem_of(repository, "[tree: ./a]", files)


def test_a_folder_on_disk_is_judged_as_a_commit_is(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(vm(layers="[busybox: {}, tree: ./a]"))
    (tmp_path / "a").mkdir()
    (tmp_path / "a/sbin").symlink_to("usr/sbin")
    with pytest.raises(ManifestErrors, match="it hides what a guest starts from"):
        load_folder(tmp_path)
    (tmp_path / "a/usr/sbin").mkdir(parents=True)
    init = tmp_path / "a/usr/sbin/init"
    init.write_text("#!/bin/sh\n")
    with pytest.raises(ManifestErrors, match="not executable"):
        load_folder(tmp_path)
    init.chmod(0o755)
    assert list(load_folder(tmp_path)[0].vms) == ["web"]


def test_the_base_that_is_judged_is_the_base_that_is_made(tmp_path: Path) -> None:
    (tmp_path / "busybox").write_bytes(b"")
    root = tmp_path / "root"
    write_base(root, tmp_path / "busybox", ["sbin/init", "bin/sh"])
    for path, entry in BASE.entries.items():
        made = root / path
        match entry.kind:
            case "link":
                assert str(made.readlink()) == entry.target
            case "folder":
                assert made.is_dir()
            case kind:
                assert made.is_file()
                assert bool(made.stat().st_mode & 0o100) == (kind == "program")
