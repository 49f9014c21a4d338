"""The names below the state directory stand in one file, and what they were stays readable."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from reconciler.host import layout

ROOT = Path(__file__).resolve().parents[3]
LAYOUT = ROOT / "reconciler/host/layout.py"
ALSO_WORDS = {"front", "git", "image"}
"""A constant with such a value need not be a name of a file."""
OF_THE_SOURCE = re.compile("GUEST|ROOT")
"""How folders of this repository's own files begin."""


def names() -> set[str]:
    """What the layout calls files and folders: each string that its functions join."""
    tree = ast.parse(LAYOUT.read_text())
    joined = {
        node.right.value
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Div)
        and isinstance(node.right, ast.Constant)
    }
    constants = {
        layout.IMAGE,
        layout.PARTS,
        layout.KERNEL,
        layout.INITRD,
        *layout.LOGS,
        layout.LOCK,
    }
    return {name for name in joined if isinstance(name, str)} | constants | {*layout.IMAGE_KINDS}


def joins(tree: ast.AST, known: set[str]) -> Iterator[tuple[int, str]]:
    """Where a known name is the right side of `/`, follows a slash in an f-string, or becomes a constant."""
    begins = re.compile(rf"/(?:{'|'.join(map(re.escape, sorted(known)))})(?:/|$)")
    for node in ast.walk(tree):
        match node:
            case ast.BinOp(left, ast.Div(), ast.Constant(str(text))):
                if text.split("/")[0] in known and not OF_THE_SOURCE.match(ast.unparse(left)):
                    yield node.lineno, text
            case ast.JoinedStr(values=parts):
                for part in parts:
                    if isinstance(part, ast.Constant) and begins.match(str(part.value)):
                        yield node.lineno, str(part.value)
            case ast.Assign([ast.Name(id=name)], ast.Constant(str(text))) if (
                name.isupper() and text in known - ALSO_WORDS
            ):
                yield node.lineno, text
            case ast.Call(
                func=ast.Attribute(attr="glob" | "joinpath"), args=[ast.Constant() as one]
            ):
                if str(one.value).split("/")[0] in known:
                    yield node.lineno, str(one.value)
            case _:
                pass


def test_no_other_file_joins_a_name_of_the_state_directory() -> None:
    known = names()
    assert {"vms", "ledger.db", "guest.json", "volumes", "vmlinuz", "lock"} <= known
    written_again = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for folder in ("reconciler", "demo")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != LAYOUT
        for line, text in joins(ast.parse(path.read_text()), known)
    ]
    assert written_again == []


def test_the_names_are_those_that_earlier_versions_wrote() -> None:
    state = PurePath("/var/lib/reconciler")
    home = layout.vm(state, "web")
    second = layout.guest_folder(home, 2)
    below = {
        layout.daemon_lock(state): "daemon.lock",
        layout.ledger(state): "ledger.db",
        layout.http_key(state): "http.key",
        layout.accel(state): "accel.json",
        layout.mirror(state): "git",
        layout.layer_image(state, "ab"): "layers/ab/image",
        layout.kernel_files(state, "ab")[0]: "kernels/ab/vmlinuz",
        layout.kernel_files(state, "ab")[1]: "kernels/ab/initrd",
        layout.runner(state, "ab"): "runners/ab",
        layout.proxy_socket(layout.proxy_folder(state)): "front/front.sock",
        layout.proxy_lock(layout.proxy_folder(state)): "front/lock",
        layout.proxy_log(layout.proxy_folder(state)): "front/front.log",
        layout.generation(home, 7): "vms/web/generations/7",
        layout.current(home): "vms/web/current",
        layout.booted(home): "vms/web/booted",
        layout.started_runner(home): "vms/web/runner",
        layout.volume(home, "data"): "vms/web/volumes/data.raw",
        layout.snapshot(home, "data"): "vms/web/snapshots/data.raw",
        layout.lock(layout.guest_folder(home, 1)): "vms/web/lock",
        layout.guest_file(second): "vms/web.2/run/guest.json",
        layout.console(second): "vms/web.2/console.log",
        layout.vmm_log(second): "vms/web.2/vmm.log",
    }
    assert {str(path.relative_to(state)): name for path, name in below.items()} == {
        name: name for name in below.values()
    }


def test_a_volume_leads_back_to_the_folder_of_its_vm() -> None:
    home = layout.vm(PurePath("/s"), "web")
    assert layout.home_of_volume(layout.volume(home, "data")) == home
