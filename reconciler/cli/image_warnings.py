"""What `validate` knows of images in the repository: their ports and health checks, against what the manifests say."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path

from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.explain.image_advice import host_ports, image_advice
from reconciler.image.oci.local_config import contents_of_archive, contents_of_layout
from reconciler.model.desired import DesiredState
from reconciler.model.image_contents import LayerContents
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.names import VMName
from reconciler.safe_text import clean
from reconciler.source.manifests.convert import LAYERS
from reconciler.source.manifests.error_messages import dotted
from reconciler.source.manifests.lost_in_git import LayerFolder
from reconciler.source.manifests.warnings import ManifestWarning

Found = LayerContents | str
"""Of an image; or why it cannot be read."""


def image_warnings(
    desired: DesiredState, root: Path, layers: Sequence[LayerFolder]
) -> Iterator[ManifestWarning]:
    """Warnings of all VMs with images of which all are in the repository. Blocks; raises nothing."""
    read: dict[tuple[str, OciSource], Found] = {}
    by_vm: dict[VMName, list[LayerContents]] = {}
    for vm, index, source, folder in layers:
        if not isinstance(source, OciSource) or vm not in desired.vms:
            continue
        if (folder, source) not in read:
            read[folder, source] = _contents(source, root / folder)
        found = read[folder, source]
        if isinstance(found, str):
            yield ManifestWarning(vm, dotted((*LAYERS, index, "oci")), found)
        else:
            by_vm.setdefault(vm, []).append(found)
    taken = host_ports(desired.vms.values())
    for vm, known in by_vm.items():
        spec = desired.vms[vm]
        if len(known) == sum(isinstance(layer.source, OciSource) for layer in spec.layers):
            for advice in image_advice(spec, known, taken):
                yield ManifestWarning(vm, advice.field, advice.message)


def _contents(source: OciSource, folder: Path) -> Found:
    try:
        if source.archive:
            return contents_of_archive(folder / posixpath.basename(source.archive), source.platform)
        return contents_of_layout(folder, source.digest, source.platform)
    except (BuildFailed, BuildUnavailable) as error:
        hint = f" ({error.hint})" if error.hint else ""
        return f"{clean(source.layout or source.archive)}: {clean(str(error))}{clean(hint)}"
