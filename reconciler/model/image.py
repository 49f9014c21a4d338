"""What is booted: kernel bundles, runners and disks, named by their inputs; and any image that was built.

A key is a hash of what the manifest or the config requests, and of nothing else. The version of our own
build recipes is left out on purpose: an upgrade of the controller must not give every VM a new digest
(law 9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

from reconciler.model.image_contents import LayerContents
from reconciler.model.layer_kinds.image_layer import ImageSource
from reconciler.model.machine import Firmware
from reconciler.model.names import KernelKey, digest_of

DiskFormat = Literal["raw", "qcow2"]


@dataclass(frozen=True, slots=True)
class DebianKernel:
    """A kernel package of the distribution and a small initrd of our own making.

    `version` is the package's exact version, or empty: the newest when the bundle is first made.
    """

    package: str = "linux-image-cloud-amd64"
    version: str = ""
    contract: int = 1
    """What its initrd must be able to do at least, by number: `docs/decisions/0044-*.md` has them."""
    verity: bool = False
    """Whether its initrd can compare blocks of layers with trees of hashes, which takes 4 MB."""


@dataclass(frozen=True, slots=True)
class PathKernel:
    """Files of the host, identified by content; allowed only if the host's policy permits them."""

    kernel: str
    initrd: str
    kernel_sha256: str
    initrd_sha256: str


@dataclass(frozen=True, slots=True)
class NixRunner:
    """A runner that Nix builds from a flake, which is run instead of booting a kernel."""

    flake: str
    """A locked reference, or a folder of the repository as the manifest writes it."""
    attribute: str
    tree: str = ""
    """The id of that folder's git tree."""


@dataclass(frozen=True, slots=True)
class DiskImage:
    """A disk with a kernel and a boot loader of its own, which firmware boots."""

    file: ImageSource
    """Of the host, or of a server."""
    format: DiskFormat
    firmware: Firmware = "bios"
    kind: Literal["disk"] = "disk"


KernelSource = DebianKernel | PathKernel | NixRunner | DiskImage


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """What a guest boots, built or not: kernel and initrd, a runner of Nix, or a disk."""

    key: KernelKey
    name: str
    source: KernelSource

    @staticmethod
    def of(name: str, source: KernelSource) -> KernelSpec:
        """The spec for a source, with its key computed."""
        inputs: dict[str, str]
        match source:
            case DebianKernel():
                inputs = {"kind": "debian", "package": source.package, "version": source.version}
                # The first contract is not in the key: bundles made before there was a second stay in use.
                if source.contract > 1:
                    inputs["contract"] = str(source.contract)
                if source.verity:
                    inputs["verity"] = "yes"
            case PathKernel():
                inputs = {
                    "kind": "path",
                    "kernel": source.kernel_sha256,
                    "initrd": source.initrd_sha256,
                }
            case NixRunner():
                asked = {"tree": source.tree} if source.tree else {"flake": source.flake}
                inputs = {"kind": "nix", **asked, "attribute": source.attribute}
            case DiskImage():
                inputs = {
                    "kind": source.kind,
                    "image": source.file.sha256,
                    "format": source.format,
                    "firmware": source.firmware,
                }
            case _:
                assert_never(source)
        return KernelSpec(KernelKey(digest_of(inputs)), name, source)

    @property
    def title(self) -> str:
        """For display: `kernel debian`, `runner ./web#default`, `disk /srv/images/app.qcow2`."""
        return f"{self.stored_kind} {self.name}"

    @property
    def stored_kind(self) -> Literal["kernel", "disk", "runner"]:
        """As what it is in the store."""
        match self.source:
            case NixRunner():
                return "runner"
            case DiskImage():
                return "disk"
            case _:
                return "kernel"


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """A layer or kernel bundle that is in the store, synced and verified."""

    key: str
    size_bytes: int
    sha256: str
    seconds: float
    """How long it took to make."""
    differs: str = ""
    """A text if the same inputs gave different bytes before; else empty."""
    title: str = ""
    """For display: `tree ./web`."""
    made_wall: float = 0.0
    """When it was made, in Unix seconds; 0: unknown."""
    broken: str = ""
    """What is wrong with its bytes; empty: nothing is known."""
    versions: str = ""
    """What it has other versions of than the one that it was refreshed from; else empty."""


StoredKind = Literal["layer", "composed", "kernel", "disk", "runner"]
"""A composed layer names its parts, which are layers themselves."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """What is known of one image in the store."""

    key: str
    kind: StoredKind
    title: str
    size_bytes: int
    """Its own; of a composed layer without its parts, of a runner 0, because Nix counts those."""
    made_wall: float = 0.0
    used_wall: float = 0.0
    """When something last named it, in Unix seconds; 0: it is named now, or was never."""
    checked_wall: float = 0.0
    """When all of its bytes were last read and found as they were made; 0: not since."""
    broken: str = ""
    """What is wrong with its bytes; it is made again before its next use. Empty: nothing is known."""
    contents: LayerContents | None = None
    """Of a composed layer, what its build noted of it; never changed."""
