"""Tags of OCI images: what each meant when it was looked up, and a desired state in which they mean that.

A manifest may name an image by a tag. What it means is recorded, and a layer with a tag has the digest of
the record: from there on it is as any layer that is named by digest. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from reconciler.model.desired import DesiredState, VMSpec
from reconciler.model.layer_kinds.oci_layer import OciSource, Resolve
from reconciler.model.layers import LayerSpec
from reconciler.model.names import Digest, Revision, VMName

SHOWN_DIGEST = 19
"""Characters of a digest that people are shown: `sha256:` and 12 digits."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag as manifests name it. Those that look it up at other times may mean another image by it."""

    repository: str
    tag: str
    resolve: Resolve

    @property
    def reference(self) -> str:
        """`registry.example.org/acme/app:1`."""
        return f"{self.repository}:{self.tag}"

    def __str__(self) -> str:
        """Its key in the record, and as a subject: `registry.example.org/acme/app:1 daily`."""
        return f"{self.reference} {self.resolve}"


@dataclass(frozen=True, slots=True)
class TagMeaning:
    """What a tag meant when a registry last said so."""

    key: str
    """Of a `Tag`."""
    digest: str
    """`sha256:...` of a manifest, or of an index."""
    since_wall: float
    """When it was first found to mean this."""
    looked_wall: float
    """When it was last looked up with success."""
    revision: Revision
    """The revision that was desired when that lookup began."""
    asked: bool = False
    """A person wants it looked up again."""


def tag_of(layer: LayerSpec) -> Tag | None:
    """The tag by which a manifest names this layer's image, whether it is known what it means or not."""
    source = layer.source
    if not isinstance(source, OciSource) or not source.tag or source.resolve is None:
        return None
    return Tag(source.repository, source.tag, source.resolve)


def tags_of(spec: VMSpec) -> Iterator[Tag]:
    """The tags that a VM's layers name."""
    return filter(None, map(tag_of, spec.layers))


def digests_of(spec: VMSpec) -> Iterator[tuple[Tag, str]]:
    """Each tag that a VM's layers name, with the digest that it has in this spec."""
    for layer in spec.layers:
        if (tag := tag_of(layer)) is not None and isinstance(layer.source, OciSource):
            yield tag, layer.source.digest


def tags_in(desired: DesiredState | None) -> dict[Tag, list[VMName]]:
    """All tags of a desired state, each with the VMs that name it."""
    found: dict[Tag, list[VMName]] = {}
    for name, spec in desired.vms.items() if desired is not None else ():
        # Asked in every pass of every VM, of which few name a tag.
        if any(isinstance(layer.source, OciSource) for layer in spec.layers):
            for tag in dict.fromkeys(tags_of(spec)):
                found.setdefault(tag, []).append(name)
    return found


def by_key(meanings: Iterable[TagMeaning]) -> dict[str, TagMeaning]:
    return {one.key: one for one in meanings}


def as_meant(desired: DesiredState, meanings: Iterable[TagMeaning]) -> DesiredState:
    """The state with the digest of the record for each tag; the same object where nothing differs."""
    digests = {one.key: one.digest for one in meanings}
    changed = {
        name: _as_meant(spec, digests)
        for name, spec in desired.vms.items()
        if any(True for _ in tags_of(spec))
    }
    if all(desired.vms[name] == spec for name, spec in changed.items()):
        return desired
    return replace(desired, vms={**desired.vms, **changed})


def _as_meant(spec: VMSpec, digests: Mapping[str, str]) -> VMSpec:
    layers = tuple(_with_digest(layer, digests) for layer in spec.layers)
    meant = replace(spec, layers=layers)
    return replace(meant, digest=Digest(meant.compute_digest()))


def _with_digest(layer: LayerSpec, digests: Mapping[str, str]) -> LayerSpec:
    tag, source = tag_of(layer), layer.source
    if tag is None or not isinstance(source, OciSource):
        return layer
    meant = replace(source, digest=digests.get(str(tag), ""))
    return LayerSpec.of(meant, layer.format, verity=layer.verity)
