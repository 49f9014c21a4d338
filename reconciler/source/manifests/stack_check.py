"""Finds the stacks of layers that no guest starts from, and the order that works, before anything is built.

The rules are those of `image/guest/initrd/init` and of the base's own init; integration tests try them on guests.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from reconciler.model.fields import FieldConflict
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSource
from reconciler.source.manifests.convert import LAYERS
from reconciler.source.manifests.layer_stack import (
    LayerEntry,
    LayerFiles,
    ListedFiles,
    Stack,
    TreeFiles,
)
from reconciler.source.manifests.revision_files import RevisionFiles

INIT = "sbin/init"
OTHER_INITS = (
    "usr/sbin/init", "lib/systemd/systemd", "usr/lib/systemd/systemd",
    "sbin/openrc-init", "usr/sbin/openrc-init", "init",
)  # fmt: skip
"""What an initrd of contract 2 starts where there is none, or no link, at INIT."""
WITH_INIT = "let `{busybox: {}}` be the first layer, or add one to a tree"
BASE_FIRST = "let `{busybox: {}}` be the first layer"
KERNELS = ("dev", "proc", "sys", "run")
"""Folders on which the initrd mounts file systems; an absolute link would lead into itself."""
FOLDERS = (*KERNELS, "tmp", "etc")
BUSYBOX = "bin/busybox"
BASE = ListedFiles(
    {
        **dict.fromkeys(
            ("bin", "sbin", "usr", "usr/bin", "usr/sbin", "var", "home", "root", "mnt", *FOLDERS),
            LayerEntry("folder"),
        ),
        "etc/init.d": LayerEntry("folder"),
        BUSYBOX: LayerEntry("program"),
        "bin/sh": LayerEntry("link", "/bin/busybox"),
        INIT: LayerEntry("link", "/bin/busybox"),
        "etc/inittab": LayerEntry("file"),
        "etc/init.d/rcS": LayerEntry("program"),
        "etc/init.d/rc.application": LayerEntry("program"),
        **dict.fromkeys(
            ("etc/passwd", "etc/group", "etc/shadow", "etc/shells", "etc/hosts"), LayerEntry("file")
        ),
    },
    complete=True,
)
"""The base, as far as a start depends on it; a test compares it with what `image/inputs/busybox.py` makes."""
MERGED = {name: LayerEntry("link", f"usr/{name}") for name in ("bin", "sbin", "lib", "lib64")}
DEBIAN = ListedFiles(MERGED, complete=False)
LISTED: Mapping[str, ListedFiles] = {"busybox": BASE, "debian": DEBIAN}
"""By the kind of a layer."""
BASE_STARTS_BY = ("bin/sh", "etc/inittab", "etc/init.d/rcS", "etc/init.d/rc.application")
"""What the base's init needs to start an application."""


class StackFault(NamedTuple):
    """What keeps a guest from starting, and the layer that has it; -1: no layer in particular."""

    layer: int
    message: str


def stack_faults(
    layers: Sequence[LayerSource], folders: Sequence[str], files: RevisionFiles
) -> Iterator[FieldConflict]:
    """Faults of a stack, by place in the manifest. `folders` are those of all layers, from the root."""
    known = list(_known(layers, folders, files))
    if any(source.needs_contract > 1 for source in layers) and _another_init(Stack(known)):
        yield from _splits_usr(layers, known)
        return
    fault = _fault(Stack(known))
    if fault is None:
        yield from _hidden_by_base(layers, known)
        yield from _splits_usr(layers, known)
        return
    if fault.layer < 0 and (culprit := _culprit(known)) is not None:
        fault = StackFault(culprit, f"it hides what a guest starts from: {fault.message}")
    if fault.layer < 0:
        yield FieldConflict(LAYERS, fault.message, WITH_INIT)
        return
    yield FieldConflict((*LAYERS, fault.layer), fault.message, _remedy(layers, known, fault))


def _known(
    layers: Sequence[LayerSource], folders: Sequence[str], files: RevisionFiles
) -> Iterator[LayerFiles]:
    left = iter(folders)
    for source in layers:
        own = tuple(itertools.islice(left, len(source.folders)))
        if isinstance(source, TreeSource):
            yield TreeFiles(own[0], files, modes_known=not source.owners)
        else:
            # Of other kinds nothing is known before they are built, but whether they bring an init.
            unknown = ListedFiles({}, complete=not source.brings_init)
            yield LISTED.get(source.kind, unknown)


def _another_init(stack: Stack) -> bool:
    """Whether a guest starts, or may start, from another init than the usual."""
    states = {path: stack.entry(path).state for path in (INIT, *OTHER_INITS)}
    return states[INIT] == "missing" and set(states.values()) != {"missing"}


def _fault(stack: Stack) -> StackFault | None:
    """What keeps a guest from starting from these layers, as far as they are known."""
    for name in FOLDERS:
        shown = stack.entry(name)
        if shown.state != "there" or shown.entry.kind == "folder":
            continue
        if shown.entry.kind != "link":
            return StackFault(shown.layer, f"{name} is a file, and must be a folder")
        if name in KERNELS and not _leads_inside(stack, name, shown.entry.target):
            return StackFault(shown.layer, f"{name} is a link, and must be a folder")
    init = stack.leads_to(INIT)
    if init.state == "missing":
        return StackFault(-1, f"no layer has /{INIT}, or it leads nowhere")
    if init.state == "there" and init.entry.kind != "program":
        kind = "a folder" if init.entry.kind == "folder" else "not executable"
        return StackFault(init.layer, f"{init.path} is {kind}, and every guest starts it")
    if init.path != BUSYBOX:
        return None
    for path in BASE_STARTS_BY:
        if stack.leads_to(path).state == "missing":
            return StackFault(-1, f"/{path} is missing")
    return None


def _leads_inside(stack: Stack, name: str, target: str) -> bool:
    """Whether a link leads to a folder of the guest while its root is not yet `/`."""
    shown = stack.leads_to(name)
    found = shown.state == "unknown" or (shown.state == "there" and shown.entry.kind == "folder")
    return found and not target.startswith("/")


def _culprit(known: Sequence[LayerFiles]) -> int | None:
    """The layer with which a stack that was sound below it is not so any more."""
    sound = [_fault(Stack(known[: number + 1])) is None for number in range(len(known))]
    for number in range(len(known) - 1, 0, -1):
        if sound[number - 1] and not sound[number]:
            return number
    return None


def _remedy(layers: Sequence[LayerSource], known: Sequence[LayerFiles], fault: StackFault) -> str:
    """The order that works, or else what to do with the layer at fault."""
    for place in range(fault.layer - 1, -1, -1):
        order = [*known[:place], known[fault.layer], *known[place : fault.layer]]
        order += known[fault.layer + 1 :]
        if _fault(Stack(order)) is None:
            return f"move it below layers[{place}] ({layers[place].title})"
    return "remove that from the layer"


def _hidden_by_base(
    layers: Sequence[LayerSource], known: Sequence[LayerFiles]
) -> Iterator[FieldConflict]:
    """Files of trees that a base above them replaces without a word."""
    for number, source in enumerate(layers):
        if not isinstance(source, BusyboxSource):
            continue
        for below in range(number):
            hidden = _first_hidden(known[below])
            if hidden and isinstance(layers[below], TreeSource):
                yield FieldConflict(
                    (*LAYERS, number),
                    f"it hides {hidden} of layers[{below}] ({layers[below].title})",
                    BASE_FIRST,
                )
                return


def _splits_usr(
    layers: Sequence[LayerSource], known: Sequence[LayerFiles]
) -> Iterator[FieldConflict]:
    """Folders that replace a link of Debian to `usr`, and so hide its programs or libraries."""
    if DEBIAN not in known:
        return
    system = known.index(DEBIAN)
    for number in range(system + 1, len(layers)):
        for name, link in MERGED.items():
            entry = known[number].at(name)
            if entry is not None and entry.kind != "link":
                yield FieldConflict(
                    (*LAYERS, number),
                    f"{name} is no link, and hides the /{name} of layers[{system}] ({layers[system].title})",
                    f"put its files into {link.target}"
                    if isinstance(layers[number], TreeSource)
                    else f"remove it: layers[{system}] has an init of its own",
                )
                break


def _first_hidden(layer: LayerFiles) -> str:
    for path, ours in BASE.entries.items():
        if ours.kind != "folder" and (found := layer.at(path)) and found.kind != "folder":
            return path
    return ""
