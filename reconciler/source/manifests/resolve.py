"""Resolves the documents of one revision into its desired state, or collects all their problems."""

from __future__ import annotations

import itertools
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from reconciler.config import KernelsConfig, PolicyConfig
from reconciler.errors import ManifestErrors, SourceError
from reconciler.hypervisors import CAPABILITIES
from reconciler.model.desired import DesiredState, GroupSpec, VMSpec
from reconciler.model.fields import FieldConflict
from reconciler.model.image import DebianKernel, DiskImage, KernelSpec
from reconciler.model.layers import LayerSource, LayerSpec, ProgramSource
from reconciler.model.names import GroupName, VMName
from reconciler.model.quantity import Share
from reconciler.model.record import MOST_PROBLEMS
from reconciler.source.manifests import (
    crosscheck,
    group_crosscheck,
    network_crosscheck,
)
from reconciler.source.manifests.convert import LAYERS, NO_KERNEL, GroupDraft, VMDraft, runner_spec
from reconciler.source.manifests.crosscheck import within_caps
from reconciler.source.manifests.declarations import Declared, Report
from reconciler.source.manifests.error_messages import dotted
from reconciler.source.manifests.host_kernels import HostKernels
from reconciler.source.manifests.host_programs import HostPrograms
from reconciler.source.manifests.parse import MOST_FAULTS, ParsedFile, faults_of, parse_quickly
from reconciler.source.manifests.places import Fault
from reconciler.source.manifests.policy_bounds import (
    capability_faults,
    disk_faults,
    layer_faults,
    policy_faults,
    runner_faults,
)
from reconciler.source.manifests.revision_files import FileRefused, ManifestFile, RevisionFiles
from reconciler.source.manifests.stack_check import stack_faults

MOST_BYTES = 64 * 1024 * 1024
"""Total size of a revision's manifests."""
HIDDEN = Fault(
    1, 1, "a manifest in a file or folder whose name begins with a dot; such files are not read",
    "rename it",
)  # fmt: skip
IN_A_LAYER = Fault(1, 1, "a manifest inside the folder of a layer", "move it out of that folder")
SPARE_ENTRIES = 1_000
"""The cache may hold twice the files of a revision, and so many more."""


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A parsed file, with the layer folders that it names."""

    file: ManifestFile
    parsed: ParsedFile
    folders: frozenset[str]
    """Folders of its layers, relative to the repository's root."""
    likely: frozenset[str] = frozenset()
    """Possible folders of layers, for a file that cannot be parsed to its end."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A resolved VM with its inputs. While they are equal, the same object is returned again."""

    folders: tuple[str, ...]
    """Folders that its layers or its runner name, relative to the repository's root."""
    trees: tuple[str, ...]
    """The ids of their contents."""
    kernel: KernelSpec
    programs: tuple[str, ...]
    """The digests of the host's programs that make its layers."""
    declared: Declared[VMSpec]


class Resolver:
    """Resolves revisions, with caches by content so that a commit costs what it changed."""

    def __init__(
        self, policy: PolicyConfig, kernels: KernelsConfig, most_problems: int = MOST_PROBLEMS
    ) -> None:
        self._policy = policy
        self._most = most_problems
        self._debian = DebianKernel(kernels.debian.package, kernels.debian.version)
        self._host_kernels = HostKernels(policy.host_paths)
        self._host_programs = HostPrograms(policy.scripts)
        self._placed: dict[ManifestFile, PlacedFile] = {}
        self._resolved: dict[tuple[ManifestFile, int], Resolved] = {}
        self.parsed_files = 0
        """Number of files parsed since the start; files with cached content are not parsed again."""

    def resolve(self, snapshot: RevisionFiles, *, alone: bool = False) -> DesiredState:
        """The desired state of a revision. Raises ManifestErrors or SourceError.

        `alone`: a single file is checked, so names that it lacks may be declared elsewhere.
        """
        report = Report(snapshot, self._most)
        report.legible = not alone
        placed = [self._placed.get(file) or self._place(file, snapshot) for file in snapshot.files]
        hidden = [self._placed.get(file) or self._place(file, snapshot) for file in snapshot.hidden]
        if sum(one.parsed.size for one in placed) > MOST_BYTES:
            raise SourceError(
                f"the manifests have more than {MOST_BYTES >> 20} MiB together",
                kind="limit",
                hint="narrow source.path",
            )
        report_hidden(hidden, placed, report)
        manifests = list(self._outside_layers(placed, snapshot, report))
        vms, groups = self._declared(manifests, snapshot, report)
        state = _assemble(snapshot, vms, groups, report)
        self._forget([*placed, *hidden])
        if report.problems:
            raise ManifestErrors(
                list(report.problems), revision=snapshot.revision, more=report.more
            )
        return state

    def ineffective(self) -> Iterator[tuple[VMName, FieldConflict]]:
        """What manifests of the revisions that were read say without effect, by VM."""
        for one in self._placed.values():
            for draft in one.parsed.drafts:
                if isinstance(draft, VMDraft):
                    yield from ((draft.spec.name, found) for found in draft.ineffective)

    def layer_folders(self) -> Iterator[tuple[VMName, int, LayerSource, str]]:
        """Each folder that a layer of a resolved VM is made of.

        The VM, the layer's index and source, and the folder relative to the repository's root.
        """
        for one in self._resolved.values():
            folders = iter(one.folders)
            for index, layer in enumerate(one.declared.what.layers):
                for folder in itertools.islice(folders, len(layer.source.folders)):
                    yield one.declared.what.name, index, layer.source, folder

    def _place(self, file: ManifestFile, snapshot: RevisionFiles) -> PlacedFile:
        try:
            content = snapshot.read(file)
            self.parsed_files += 1
            parsed = parse_quickly(content)
        except FileRefused as error:
            fault = Fault(1, 1, str(error), error.hint)
            parsed = ParsedFile(0, faulty=True, faults=(fault,), legible=False)
        placed = PlacedFile(
            file, parsed, folders_at(file, parsed.trees), folders_at(file, parsed.likely_trees)
        )
        self._placed[file] = placed
        return placed

    def _outside_layers(
        self, placed: list[PlacedFile], snapshot: RevisionFiles, report: Report
    ) -> Iterator[PlacedFile]:
        """The files outside of layers. Files in a layer belong to the guest; a manifest there is an error.

        Files in a folder that an unparsable manifest may name as a layer are not judged until that
        manifest is corrected.
        """
        layers = set[str]().union(*(one.folders for one in placed))
        likely = set[str]().union(*(one.likely for one in placed))
        inside: dict[str, tuple[bool, bool]] = {}
        for one in placed:
            folder = posixpath.dirname(one.file.path)
            if folder not in inside:
                inside[folder] = is_inside(folder, layers), is_inside(folder, likely)
            within, perhaps = inside[folder]
            if within and one.parsed.is_manifest:
                report.put(one.file.path, IN_A_LAYER)
            elif not within and (not perhaps or one.likely or one.parsed.is_manifest):
                yield one
        for odd in snapshot.oddities:
            if not is_inside(posixpath.dirname(odd.path), layers | likely):
                report.put(odd.path, Fault(odd.line, 1, odd.message, odd.hint))

    def _declared(
        self, manifests: list[PlacedFile], snapshot: RevisionFiles, report: Report
    ) -> tuple[list[Declared[VMSpec]], list[Declared[GroupDraft]]]:
        vms: list[Declared[VMSpec]] = []
        groups: list[Declared[GroupDraft]] = []
        for one in manifests:
            report.claimed |= one.parsed.claimed
            report.legible &= one.parsed.legible
            if one.parsed.faulty:
                self._report_faults(one, snapshot, report)
            for draft in one.parsed.drafts:
                if isinstance(draft, VMDraft):
                    known = self._resolved.get((one.file, draft.document))
                    if known is None or not self._holds(known, draft, snapshot):
                        vms.append(self._vm(one.file, draft, snapshot, report))
                    else:
                        vms.append(known.declared)
                else:
                    groups.append(Declared(one.file, draft.document, draft))
        return vms, groups

    def _report_faults(self, one: PlacedFile, snapshot: RevisionFiles, report: Report) -> None:
        """Add a file's faults to the report, unless it is full."""
        if report.room <= 0:
            report.more += 1
            return
        faults = one.parsed.faults or faults_of(snapshot.read(one.file), MOST_FAULTS)
        for fault in faults:
            report.put(one.file.path, fault)

    def _holds(self, known: Resolved, draft: VMDraft, snapshot: RevisionFiles) -> bool:
        """Whether the inputs of a resolved VM in repository and host are unchanged."""
        try:
            for folder, tree in zip(known.folders, known.trees, strict=True):
                if snapshot.tree(folder) != tree:
                    return False
            programs = self._host_programs.digests(draft.layers)
            if programs != known.programs:
                return False
            return draft.kernel is None or self._host_kernels.spec(draft.kernel) == known.kernel
        except FileRefused:
            return False

    def _vm(
        self, file: ManifestFile, draft: VMDraft, snapshot: RevisionFiles, report: Report
    ) -> Declared[VMSpec]:
        """The resolved VM. With problems it is the draft, so that cross checks still see the VM."""
        before = report.count
        unfinished = Declared(file, draft.document, draft.spec)
        folders = tuple(folder_at(file, folder) or "" for folder in draft.folders)
        trees = self._trees(unfinished, draft, snapshot, report)
        kernel = self._kernel(unfinished, draft, report)
        # Our own initrd, which starts the init of a layer.
        booted = draft.spec.kernel.source
        ours = draft.runner is None and draft.kernel is None and not isinstance(booted, DiskImage)
        can = CAPABILITIES[draft.spec.driver]
        faults = [*policy_faults(draft.spec, self._policy), *capability_faults(draft.spec, can)]
        faults += layer_faults(draft.layers, self._policy)
        if ours and report.count == before:
            faults += stack_faults(draft.layers, folders, snapshot)
        if draft.runner is not None:
            faults += runner_faults(draft.runner, self._policy)
        if isinstance(booted, DiskImage):
            faults += disk_faults(booted, self._policy)
        for fault in faults:
            report.add(unfinished, fault.at, f"{dotted(fault.at)}: {fault.message}", fault.hint)
        programs = self._programs(unfinished, draft, report) if report.count == before else ()
        if report.count > before:
            return unfinished
        done = Declared(file, draft.document, finished(draft, trees, programs, kernel))
        self._resolved[file, draft.document] = Resolved(folders, trees, kernel, programs, done)
        return done

    def _trees(
        self, vm: Declared[VMSpec], draft: VMDraft, snapshot: RevisionFiles, report: Report
    ) -> tuple[str, ...]:
        """The id of the content of each folder that the VM names."""
        ids = []
        for at, folder in zip(draft.folder_places, draft.folders, strict=True):
            try:
                ids.append(tree_id(vm.file, folder, snapshot))
            except FileRefused as error:
                report.add(vm, at, f"{dotted(at)}: {error}", error.hint)
        return tuple(ids)

    def _programs(self, vm: Declared[VMSpec], draft: VMDraft, report: Report) -> tuple[str, ...]:
        """The digest of the program of each layer that one makes; the policy has them all."""
        try:
            return self._host_programs.digests(draft.layers)
        except FileRefused as error:
            report.add(vm, LAYERS, f"{dotted(LAYERS)}: {error}", error.hint)
        return ()

    def _kernel(self, vm: Declared[VMSpec], draft: VMDraft, report: Report) -> KernelSpec:
        if draft.kernel is None:
            return KernelSpec.of(
                "debian", replace(self._debian, contract=draft.contract, verity=draft.verity)
            )
        try:
            return self._host_kernels.spec(draft.kernel)
        except FileRefused as error:
            report.add(vm, ("spec", "kernel"), f"spec.kernel: {error}", error.hint)
        return NO_KERNEL

    def _forget(self, placed: list[PlacedFile]) -> None:
        """Drop what only older revisions had, once the cache is large."""
        if len(self._placed) > 2 * len(placed) + SPARE_ENTRIES:
            self._placed = {one.file: one for one in placed}
            self._resolved = {k: v for k, v in self._resolved.items() if k[0] in self._placed}


def report_hidden(hidden: list[PlacedFile], placed: list[PlacedFile], report: Report) -> None:
    """Report manifests in hidden files: ignoring one would remove its VM from the desired state."""
    layers = set[str]().union(*(one.folders for one in placed))
    for one in hidden:
        ours = one.parsed.is_manifest and not one.parsed.faults
        if ours and not is_inside(posixpath.dirname(one.file.path), layers):
            report.put(one.file.path, HIDDEN)


def _assemble(
    snapshot: RevisionFiles,
    vms: list[Declared[VMSpec]],
    groups: list[Declared[GroupDraft]],
    report: Report,
) -> DesiredState:
    vms, groups = within_caps(vms, groups, report)
    named = {VMName(n): vm for n, vm in crosscheck.unique("VM", vms, report).items()}
    policies = {GroupName(n): g for n, g in crosscheck.unique("group", groups, report).items()}
    network_crosscheck.check_ports(named, report)
    network_crosscheck.check_networks(named, report)
    crosscheck.check_order(named, policies, report)
    crosscheck.check_moves(named, report)
    group_crosscheck.check_canaries(named, policies, report)
    group_crosscheck.check_membership(named, policies, report)
    group_crosscheck.check_deadlines(named, policies, report)
    group_crosscheck.check_time_zones(policies, report)
    members = Counter(vm.what.group for vm in named.values())
    return DesiredState(
        snapshot.revision,
        {name: vm.what for name, vm in named.items()},
        {name: _group_spec(group.what, members[name]) for name, group in policies.items()},
    )


def _group_spec(draft: GroupDraft, members: int) -> GroupSpec:
    most = draft.max_unavailable
    count = most.of(members) if isinstance(most, Share) else most
    return replace(draft.spec, max_unavailable=count)


def finished(
    draft: VMDraft, trees: tuple[str, ...], programs: tuple[str, ...], kernel: KernelSpec
) -> VMSpec:
    """The spec with kernel, layers and digest filled in."""
    if (runner := draft.runner) is not None:
        made = replace(runner, tree=trees[0] if trees else "")
        spec = replace(draft.spec, kernel=runner_spec(made))
        return replace(spec, digest=spec.compute_digest())
    if isinstance(draft.spec.kernel.source, DiskImage):
        return replace(draft.spec, digest=draft.spec.compute_digest())
    ids, digests = iter(trees), iter(programs)

    def resolved(source: LayerSource) -> LayerSource:
        found = source.resolved(tuple(itertools.islice(ids, len(source.folders))))
        return found.by_program(next(digests)) if isinstance(found, ProgramSource) else found

    layers = tuple(
        LayerSpec.of(resolved(source), draft.store_format, verity=draft.verity)
        for source in draft.layers
    )
    spec = replace(draft.spec, layers=layers, kernel=kernel)
    return replace(spec, digest=spec.compute_digest())


def folder_at(file: ManifestFile, tree: str) -> str | None:
    """A layer's folder relative to the repository's root; None if it is outside."""
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(file.path), tree))
    outside = joined.startswith(("../", "/")) or joined == ".."
    return None if outside else "" if joined == "." else joined


def folders_at(file: ManifestFile, trees: Iterable[str]) -> frozenset[str]:
    """Folders of layers relative to the repository's root, without those outside."""
    inside = (folder_at(file, tree) for tree in trees)
    return frozenset(folder for folder in inside if folder is not None)


def tree_id(file: ManifestFile, tree: str, snapshot: RevisionFiles) -> str:
    """The tree id of a layer's folder. Raises FileRefused."""
    folder = folder_at(file, tree)
    if folder is None:
        raise FileRefused(f"{tree} is outside of the repository", "name a folder inside")
    return snapshot.tree(folder)


def is_inside(folder: str, layers: set[str]) -> bool:
    """Whether a folder or one of its parents is a layer."""
    if not layers:
        return False
    if "" in layers:
        return True
    while folder:
        if folder in layers:
            return True
        folder = posixpath.dirname(folder)
    return False
