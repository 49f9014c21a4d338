"""What changes inside of a layer: packages with their versions, the digest and the program of a container's image.

A layer's contents are an observed fact. The planner needs none of it, so it is looked up for those who ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from reconciler.model.image import StoredImage
from reconciler.model.image_contents import LayerContents, package_changes
from reconciler.model.names import VMName
from reconciler.model.plan import FieldChange, LayerPair

MOST_LINES = 1000
"""Of one layer, between two generations."""
MOST_PLANNED = 20
"""Of one layer in a plan, which is of all VMs."""
MOST_CHARACTERS = 80
"""Of a program."""
DIGEST = 19
"""What of a digest is shown: its algorithm and twelve digits."""
LATER = "known after the build"
GONE = "not known any more, that layer left the store"
NOT_NOTED = "not noted when that layer was built"

Changes = tuple[FieldChange, ...]
Stored = Mapping[str, StoredImage]


def with_contents(changes: Changes, stored: Stored, most: int = MOST_LINES) -> Changes:
    """These changes, with at most so many lines for each layer that say what changes inside."""
    return tuple(
        replace(one, inside=_lines(one.layers, stored, most)) if one.layers else one
        for one in changes
    )


def all_with_contents(
    differences: Mapping[VMName, Changes], stored: Stored
) -> dict[VMName, Changes]:
    """Those of many VMs, each with few lines. VMs that change from one layer to another share them."""
    known: dict[LayerPair, tuple[str, ...]] = {}

    def inside(pair: LayerPair) -> tuple[str, ...]:
        if pair not in known:
            known[pair] = _lines(pair, stored, MOST_PLANNED)
        return known[pair]

    return {
        vm: tuple(replace(one, inside=inside(one.layers)) if one.layers else one for one in changes)
        for vm, changes in differences.items()
    }


def _lines(pair: LayerPair, stored: Stored, most: int) -> tuple[str, ...]:
    of_kind = BY_KIND.get(pair.kind)
    if of_kind is None:
        return ()
    lines = of_kind(pair, stored)
    found = list(islice(lines, most))
    more = sum(1 for _ in lines)
    return (*found, f"and {more} more") if more else tuple(found)


def _packages(pair: LayerPair, stored: Stored) -> Iterator[str]:
    before, after = _contents(pair.before, stored), _contents(pair.after, stored)
    if after is None:
        yield f"packages: {LATER}"
    elif not after.packages:
        yield f"packages: {NOT_NOTED}"
    elif before is None:
        yield f"packages before: {GONE}"
    elif not before.packages:
        yield f"packages before: {NOT_NOTED}"
    elif before.packages == after.packages:
        yield "packages: the same versions"
    else:
        yield from package_changes(before.packages, after.packages)


def _image(pair: LayerPair, stored: Stored) -> Iterator[str]:
    before, after = _contents(pair.before, stored), _contents(pair.after, stored)
    if before is not None and after is not None and before.digest and after.digest:
        digests = before.digest, after.digest
    else:
        named_before, named_after = pair.digests
        digests = (
            named_before or (before.digest if before else GONE),
            named_after or (after.digest if after else LATER),
        )
    yield from _changed("digest", *(_short(one) for one in digests))
    if before is not None and after is not None:
        yield from _changed("program", _cut(before.program), _cut(after.program))
        yield from _changed("exposed ports", _ports(before), _ports(after))


def _changed(what: str, old: str, new: str) -> Iterator[str]:
    if old != new:
        yield f"{what}: {old or 'none'} -> {new or 'none'}"


def _contents(key: str, stored: Stored) -> LayerContents | None:
    image = stored.get(key)
    return image.contents if image is not None else None


def _short(digest: str) -> str:
    return digest[:DIGEST] if digest.startswith("sha256:") else digest


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 3]}..."


def _ports(contents: LayerContents) -> str:
    return " ".join(map(str, contents.exposed))


BY_KIND: Mapping[str, Callable[[LayerPair, Stored], Iterator[str]]] = {
    "debian": _packages,
    "oci": _image,
}
